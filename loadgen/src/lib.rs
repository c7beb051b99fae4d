//! The load generator of Mooring: an open loop over io_uring, latency measured from the intended
//! time, and an oracle that follows every message to every receiver.
//!
//! ```text
//!  flags --> Plan --> conductor --> a thread each: engine { ring, clients, a scenario's script }
//!                         |                                    |
//!                         +<---- words: ready, progress, done -+
//!                         +--> report --> text, JSON, exit code
//! ```
//!
//! Pure: `client` (a session), `schedule` (when who sends), `oracle` (what was promised), `stamp`,
//! `histogram`, `report`. Only `engine` has a ring, only `conductor` threads, only `clock` a clock.
//! How to use it and how to read its report is in docs/loadgen.md.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client;
mod clock;
mod conductor;
mod cpu;
mod ending;
mod engine;
mod flags;
mod histogram;
mod machine;
mod oracle;
mod plan;
mod progress;
mod report;
mod scenario;
mod schedule;
mod screen;
mod stamp;
mod target;
mod tokens;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};

use clock::Clock;
use plan::Plan;
use report::{Report, Verdict};
use screen::Screen;

/// Exit code: the oracle found something.
const BROKEN: u8 = 1;
/// Exit code: cannot connect, sessions lost, or anything else. 2 (the command line is wrong) is
/// clap's own.
const FAILED: u8 = 3;

/// Carries out a command line and tells how it went: 0 fine, 1 the oracle found something, 2 the
/// command line is wrong, 3 anything else.
#[must_use]
pub fn run(args: &[OsString]) -> ExitCode {
    let plan = match flags::parse(args, machine::raise_files_limit()) {
        Ok(plan) => plan,
        Err(error) => {
            // A closed output is no reason for another exit code.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(FAILED));
        }
    };
    let mut screen = Screen::new(Clock::start());
    match carry_out(&plan, &mut screen) {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Broken) => ExitCode::from(BROKEN),
        Ok(Verdict::Failed) => ExitCode::from(FAILED),
        Err(error) => {
            screen.error(&format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn carry_out(plan: &Plan, screen: &mut Screen) -> Result<Verdict> {
    let ended = conductor::run(plan, screen)?;
    let report = Report::new(plan, &ended, machine::Machine::here());
    screen.answer(&report::render(&report, console::colors_enabled()));
    if let Some(path) = &plan.json {
        std::fs::write(path, report.json())
            .with_context(|| format!("--json {} cannot be written", path.display()))?;
    }
    Ok(report.verdict())
}
