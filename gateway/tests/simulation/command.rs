//! What `cargo xtask sim` asks for, in the environment; see xtask/src/sim.rs.

use std::time::Duration;

use crate::explore::{Scope, explore, indices, replay};
use crate::plan::Plan;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name}: a number")))
}

#[test]
#[ignore = "for `cargo xtask sim`"]
fn explores_what_the_environment_asks_for() {
    let first = number("MOORING_SIM_SEED").unwrap_or(0);
    if let Some(acts) = variable("MOORING_SIM_ACTS") {
        let (fails, text) = replay(&Plan::new(first), &indices(&acts));
        println!("{text}");
        assert!(!fails, "the life fails");
        return;
    }
    let within = number("MOORING_SIM_SECONDS").map_or(Duration::MAX, Duration::from_secs);
    let count = number("MOORING_SIM_SEEDS").unwrap_or(u64::MAX);
    let tally = explore(Scope { first, count, within, is_told: true });
    for report in tally.reports.values() {
        println!("{report}\n");
    }
    println!("{}", tally.summary());
    assert_eq!(tally.failed, 0, "lives fail");
    assert!(tally.stats.steps > 0, "nothing was done");
}

/// Looks for every variant: from all starts, or quickly from one.
#[cfg(feature = "variants")]
#[test]
#[ignore = "for `cargo xtask sim --variants`"]
fn finds_every_variant() {
    use crate::breaking::{STARTS, find_all};

    let starts = if variable("MOORING_SIM_QUICK").is_some() { &STARTS[..1] } else { &STARTS[..] };
    let found = find_all(starts);
    for found in &found {
        println!("{}", found.row());
    }
    let missed: Vec<_> = found.iter().filter(|found| !found.is_everywhere()).collect();
    assert!(missed.is_empty(), "{} are not found: {missed:?}", missed.len());
    assert!(found.len() >= 15, "there are variants");
}
