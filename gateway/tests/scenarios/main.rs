//! What a session may rely on, as transcripts: see `sim::script` for how they are written.

#[path = "../sim/mod.rs"]
mod sim;

mod ending;
mod folding;
mod groups;
mod memory;
mod posting;
mod pressure;
mod reading;
mod resuming;
mod services;
mod services_lives;
mod storms;

/// A script that begins when user 1 has posted to user 2, and has her own copy.
fn after_first_post(rest: &str) -> String {
    const FIRST_POST: &str = r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > post u2 n1 "1"
        u1 < posted n1 #1
        tick 1
        u1 < @1 u1:u2#1 u1 own
    "#;
    [FIRST_POST, rest].concat()
}
