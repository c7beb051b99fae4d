//! What a session may rely on, as transcripts: see `sim::script` for how they are written.

#[path = "../sim/mod.rs"]
mod sim;

mod ending;
mod folding;
mod groups;
mod posting;
mod pressure;
mod reading;
mod resuming;
mod storms;
