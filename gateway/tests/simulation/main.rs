//! The real cores, router and store logic of a host under one seed, with devices that come and go,
//! a network, a disk and clocks that fail, and a checker that looks after every step. See
//! docs/reliability.md, section "Simulation".

#[path = "../sim/mod.rs"]
mod sim;

mod act;
mod bounds;
#[cfg(feature = "variants")]
mod breaking;
mod calm;
mod command;
mod device;
mod explore;
mod faults;
mod hear;
mod members;
mod model;
mod plan;
mod run;
mod shrink;
mod speak;
mod trace;
mod world;

use explore::{Scope, explore};

/// Seeds of every run of the tests: always the same, so that a change that fails here fails for
/// everybody. Fresh ones are for `cargo xtask sim`.
const SEEDS: u64 = 60;

#[test]
fn nothing_is_lost_in_lives_that_are_always_the_same() {
    let within = std::time::Duration::MAX;
    let tally = explore(Scope { first: 0, count: SEEDS, within, is_told: false });
    let reports: Vec<&str> = tally.reports.values().map(String::as_str).collect();
    assert_eq!(tally.failed, 0, "{}", reports.join("\n"));
    assert!(tally.stats.steps > 100_000, "{}", tally.summary());
}

#[test]
fn a_connection_that_is_served_late_does_not_send_again_what_a_newer_one_has_repeated() {
    for first in [536_818_155, 536_818_137] {
        let within = std::time::Duration::MAX;
        let tally = explore(Scope { first, count: 1, within, is_told: false });
        let reports: Vec<&str> = tally.reports.values().map(String::as_str).collect();
        assert_eq!(tally.failed, 0, "{}", reports.join("\n"));
    }
}
