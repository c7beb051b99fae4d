//! `cargo xtask fault-test`: the real server, and what goes wrong with its host: it is killed,
//! stopped, its disk fills up or fails, its clock jumps, its files are damaged.
//!
//! While it runs, a load generator talks through it, and its oracle compares what was promised with
//! what came. At rest, copies of one data directory are damaged, and each is started. What an
//! operator sees of each fault is put into a table.

mod at_rest;
mod host;
mod mounts;
mod running;
mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::environment::{self, Environment};
use crate::prerequisites::{self, LIBFAKETIME, MKFS};
use crate::{console, crash_test};
use host::Host;
use table::{Row, Table};

/// Where the tables stand.
const REPORT: &str = "docs/reliability.md";

/// What `fault-test` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only faults whose name has this in it.
    #[arg(value_name = "NAME")]
    filter: Option<String>,
    /// Only what takes no rights and little time.
    #[arg(long)]
    short: bool,
    /// Write the tables into docs/reliability.md.
    #[arg(long, conflicts_with_all = ["filter", "short"])]
    write: bool,
}

impl Arguments {
    /// The short form, for the tests.
    pub(crate) fn short() -> Self {
        Self { filter: None, short: true, write: false }
    }

    fn wants(&self, name: &str, is_short: bool) -> bool {
        (is_short || !self.short) && self.filter.as_ref().is_none_or(|part| name.contains(part))
    }
}

/// Builds, breaks, compares; exit code 1 if something was lost or nobody was told.
pub(crate) fn fault_test(arguments: &Arguments) -> Result<ExitCode> {
    prerequisites::ensure()?;
    // Without them the faults that need them are passed over, and the table says so.
    if !arguments.short {
        LIBFAKETIME.provide();
        MKFS.provide();
    }
    let environment = Environment::prepare()?;
    console::step("Building the server and the load generator");
    let build = ["build", "--release", "--package", "mooring", "--package", "loadgen"];
    environment::run(&mut environment.cargo(build))?;
    let found = run(&environment, arguments)?;
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same with the binaries that are there; what is not as it should be.
pub(crate) fn run(environment: &Environment, arguments: &Arguments) -> Result<Vec<String>> {
    console::step("Faults on the real process");
    let folder = tempfile::Builder::new().prefix("mooring-fault-").tempdir();
    let folder = folder.context("cannot make a temporary folder")?;
    let result = break_all(environment, arguments, folder.path());
    let is_clean = result.as_ref().is_ok_and(|(_, found)| found.is_empty());
    crash_test::keep_or_remove(folder, !is_clean);
    let (tables, found) = result?;
    for line in &found {
        console::answer(&console::judged(line, false));
    }
    if arguments.write {
        table::write(&environment.root().join(REPORT), &tables)?;
    }
    Ok(found)
}

fn break_all(
    environment: &Environment,
    arguments: &Arguments,
    folder: &Path,
) -> Result<(Vec<Table>, Vec<String>)> {
    let host = Host::new(environment, folder)?;
    let mut tables = vec![
        Table::new(
            "running",
            ["while it runs", "what the operator sees", "how the process answers", "the oracle"],
        ),
        Table::new(
            "at-rest",
            ["file", "damage", "what the operator sees", "how the process answers", "messages"],
        ),
    ];
    let mut found = Vec::new();
    let mut add = |table: &mut Table, row: Row| {
        console::note(&row.line());
        found.extend(row.complaint());
        table.rows.push(row);
    };
    for fault in running::FAULTS {
        if arguments.wants(fault.name, fault.is_short) {
            add(&mut tables[0], running::row(&host, fault)?);
        }
    }
    at_rest::rows(
        &host,
        |name, is_short| arguments.wants(name, is_short),
        |row| {
            add(&mut tables[1], row);
        },
    )?;
    anyhow::ensure!(
        tables.iter().any(|table| !table.rows.is_empty()),
        "no fault has that in its name"
    );
    Ok((tables, found))
}
