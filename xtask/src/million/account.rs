//! The table of docs/memory.md: where the resident memory is, part by part, as the server accounts
//! for it, against what the operating system says.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::report::real;
use super::watch::value;
use super::{Arguments, Step};
use crate::bench::figures::thousands;
use crate::document;
use crate::environment::Environment;

/// Where the table is.
const DOCUMENT: &str = "docs/memory.md";

/// What stands before and behind it.
const BEGIN: &str = "<!-- account: written by `cargo xtask million` -->\n";
const END: &str = "<!-- end of the account -->\n";

/// The series of a part, up to its name.
const PART: &str = "mooring_memory_bytes{part=\"";

/// Sessions from which on the account is of interest: below, it is what is there once.
const SESSIONS_MIN: u32 = 50_000;

/// What one step held, by part.
struct Account {
    sessions: u64,
    /// Bytes before the first session, and with all of them.
    parts: Vec<(String, u64, u64)>,
    resident: (u64, u64),
}

/// Writes the account of each large step.
pub(super) fn write(
    environment: &Environment,
    arguments: &Arguments,
    steps: &[Step],
) -> Result<()> {
    let large: Vec<&Step> = steps.iter().filter(|step| step.sessions >= SESSIONS_MIN).collect();
    if large.is_empty() {
        return Ok(());
    }
    let accounts = large.iter().map(|step| Account::of(step)).collect::<Result<Vec<_>>>()?;
    let table = table(arguments, &accounts)?;
    document::replace(&environment.root().join(DOCUMENT), BEGIN, END, &table)
}

impl Account {
    fn of(step: &Step) -> Result<Self> {
        let (before, held) = (&step.watched.metrics_before, &step.watched.metrics);
        let resident = |metrics| {
            value(metrics, "mooring_resident_bytes").context("the metrics tell no resident memory")
        };
        let of_part = |(name, bytes): (String, u64)| {
            let first = parts(before).into_iter().find(|(other, _)| *other == name);
            (name, first.map_or(0, |(_, bytes)| bytes), bytes)
        };
        Ok(Self {
            sessions: step.watched.held.sessions,
            parts: parts(held).into_iter().map(of_part).collect(),
            resident: (resident(before)?, resident(held)?),
        })
    }
}

/// All parts that the metrics tell.
fn parts(metrics: &str) -> Vec<(String, u64)> {
    let part = |line: &str| {
        let (name, bytes) = line.strip_prefix(PART)?.split_once("\"}")?;
        Some((name.to_owned(), bytes.trim().parse().ok()?))
    };
    metrics.lines().filter_map(part).collect()
}

fn table(arguments: &Arguments, accounts: &[Account]) -> Result<String> {
    let mut table = String::new();
    for account in accounts {
        let sessions = thousands(account.sessions);
        writeln!(table, "\n{sessions} sessions on {} cores:\n", arguments.cores)?;
        writeln!(
            table,
            "| part | at the start, kB | with all sessions, kB | growth, bytes a session |"
        )?;
        writeln!(table, "| --- | ---: | ---: | ---: |")?;
        let mut row = |name: &str, before: u64, held: u64| {
            let growth = (real(held) - real(before)) / real(account.sessions.max(1));
            let (before, held) = (thousands(before / 1000), thousands(held / 1000));
            writeln!(table, "| {name} | {before} | {held} | {growth:.0} |")
        };
        for (name, before, held) in &account.parts {
            row(name, *before, *held)?;
        }
        row("**resident, says the operating system**", account.resident.0, account.resident.1)?;
    }
    writeln!(table)?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_from_the_metrics() {
        let metrics = "# TYPE mooring_memory_bytes gauge\n\
                       mooring_memory_bytes{part=\"users\"} 12000\n\
                       mooring_memory_bytes{part=\"other\"} 7\n\
                       mooring_resident_bytes 12007\n";
        assert_eq!(parts(metrics), [("users".to_owned(), 12_000), ("other".to_owned(), 7)]);
    }
}
