//! The project's own tasks. One module a subcommand; this file is the table of contents.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bench;
mod cache;
mod ci;
mod clock;
mod codegen;
mod compare;
mod conformance;
mod connect_rate;
mod console;
mod crash_test;
mod discovery_drill;
mod document;
mod environment;
mod fault_test;
mod fuzz;
mod memory_checks;
mod million;
mod prerequisites;
mod python;
mod rocksdb;
mod run;
mod sim;
mod steps;
mod storm;
mod test;
mod tidy;
mod typescript;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// The tasks of the Mooring project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Task {
    /// Build the server, run it, and show how to send a first message.
    Run(run::Arguments),
    /// Run everything that must pass.
    Test(test::Arguments),
    /// Kill the server at random moments under load, and compare what it promised and kept.
    CrashTest(crash_test::Arguments),
    /// Break the server's host in many ways, and tell what an operator sees.
    FaultTest(fault_test::Arguments),
    /// Run the Autobahn test suite against both roles of the WebSocket layer.
    Conformance(conformance::Arguments),
    /// Run the fuzz targets, each for a while.
    Fuzz(fuzz::Arguments),
    /// Check atomics and memory with loom, Miri and AddressSanitizer.
    MemoryChecks(memory_checks::Arguments),
    /// Live simulated lives of the core, under faults, and look after every step.
    Sim(sim::Arguments),
    /// Run what a change must pass: format, tidy, lints, documentation, tests.
    Ci,
    /// Write the code generated from the schema.
    Codegen {
        /// Write nothing; fail if something would change.
        #[arg(long)]
        check: bool,
    },
    /// Check the rules of the house that no compiler checks.
    Tidy,
    /// Measure what the core carries, beside a bare ring in the same run.
    Bench(bench::Arguments),
    /// Measure how fast sessions begin, beside a ring that only accepts, in the same run.
    ConnectRate(connect_rate::Arguments),
    /// Measure what an idle session takes, here and on other servers that hold WebSockets.
    Compare(compare::Arguments),
    /// Let very many sessions come back at once, and measure what established ones feel.
    Storm(storm::Arguments),
    /// Hold more and more sessions, a million at last, and measure what they cost and feel.
    Million(million::Arguments),
    /// Let gateways come, die, drain and roll in a real ZooKeeper, and time what clients are told.
    DiscoveryDrill(discovery_drill::Arguments),
    /// Print the environment of builds as shell exports.
    Env,
}

fn main() -> ExitCode {
    match perform(&Task::parse()) {
        Ok(code) => code,
        Err(error) => {
            console::error(&format!("{error:#}"));
            // 2 says "something is missing here", 1 "something is wrong".
            match error.downcast_ref::<prerequisites::Missing>() {
                Some(_) => ExitCode::from(2),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn perform(task: &Task) -> Result<ExitCode> {
    match task {
        Task::Run(arguments) => return run::run(arguments),
        Task::Test(arguments) => test::test(arguments)?,
        Task::CrashTest(arguments) => return crash_test::crash_test(arguments),
        Task::FaultTest(arguments) => return fault_test::fault_test(arguments),
        Task::Conformance(arguments) => return conformance::conformance(arguments),
        Task::Fuzz(arguments) => return fuzz::fuzz(arguments),
        Task::MemoryChecks(arguments) => memory_checks::memory_checks(arguments)?,
        Task::Sim(arguments) => return sim::sim(arguments),
        Task::Ci => ci::ci()?,
        Task::Bench(arguments) => bench::bench(arguments.clone())?,
        Task::ConnectRate(arguments) => connect_rate::connect_rate(arguments)?,
        Task::Compare(arguments) => compare::compare(arguments)?,
        Task::Storm(arguments) => storm::storm(arguments)?,
        Task::Million(arguments) => million::million(arguments.clone())?,
        Task::DiscoveryDrill(arguments) => discovery_drill::discovery_drill(arguments)?,
        Task::Codegen { check } => {
            prerequisites::ensure()?;
            codegen::codegen(*check)?;
        }
        Task::Tidy => tidy::tidy(&workspace::root())?,
        Task::Env => {
            prerequisites::ensure()?;
            console::answer(&environment::Environment::prepare()?.exports());
        }
    }
    Ok(ExitCode::SUCCESS)
}
