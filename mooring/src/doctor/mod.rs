//! `mooring doctor`: what stands between this machine and so many sessions.
//!
//! Three steps: read the machine ([`reading`], [`disk`], a ring), judge it ([`judge`], pure), and
//! tell ([`mod@print`], or JSON).

mod disk;
mod judge;
#[cfg(test)]
mod judge_tests;
mod machine;
mod plan;
mod print;
mod reading;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit};

use judge::{Disk, Looked};
use machine::Process;
use report::Answer;

/// How it ends; 0 is "fit". Scripts go by them: docs/operations.md.
mod exit {
    pub(super) const UNFIT: u8 = 1;
    /// As for wrong flags: there is no answer.
    pub(super) const UNKNOWN: u8 = 2;
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Sessions that the machine is to hold
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000),
    )]
    sessions: u64,
    /// Data directory, whose disk is measured for up to 2 s; without it no disk is
    #[arg(long, env = "MOORING_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Looks, judges and tells. It has exit statuses of its own.
pub(crate) fn run(args: &Args) -> ExitCode {
    let looked = Looked {
        machine: reading::Reader::new("/").machine(process()),
        ring: gateway::host::probe(),
        disk: args.data.as_deref().map_or(Disk::NotAsked, |data| {
            disk::measure(data).map_or_else(Disk::Failed, Disk::Measured)
        }),
    };
    let report = judge::judge(&looked, args.sessions);
    let printed = if args.json { print::json(&report) } else { print::text(&report) };
    if let Err(error) = printed {
        crate::report(&error.into());
        return ExitCode::from(exit::UNKNOWN);
    }
    match report.answer {
        Answer::Fit => ExitCode::SUCCESS,
        Answer::Unfit => ExitCode::from(exit::UNFIT),
        Answer::Unknown => ExitCode::from(exit::UNKNOWN),
    }
}

fn process() -> Process {
    let limit = getrlimit(Resource::Nofile);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Process {
        nofile_soft: limit.current,
        nofile_hard: limit.maximum,
        memlock_bytes: getrlimit(Resource::Memlock).current,
        processors: u64::try_from(processors).unwrap_or(u64::MAX),
    }
}
