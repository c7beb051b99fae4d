//! `cargo xtask sim`: simulated lives of the core (gateway/tests/simulation), with seeds that no
//! run had before, one that failed, or the core broken on purpose.

mod table;

use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::environment::{self, Environment};
use crate::{console, prerequisites};

/// How long the step of `cargo xtask ci` lives.
const CI_SECONDS: u64 = 120;

/// What `sim` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// So many seeds. Default: as many as the time permits.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// So many minutes. Default: 2, unless it is told how many seeds.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// The first seed. Default: another each time.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Of that seed, these acts alone, with a trace: what a failure prints.
    #[arg(long, value_name = "RANGES", requires = "seed")]
    acts: Option<String>,
    /// Look for every variant of the core that is broken on purpose, and write the table of
    /// docs/reliability.md.
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "seed", "acts"])]
    variants: bool,
    /// With `--variants`: from one seed instead of three, and without writing the table.
    #[arg(long, requires = "variants")]
    quick: bool,
}

/// Lives what was asked for; exit code 1 if a life fails or a variant is not found.
pub(crate) fn sim(arguments: &Arguments) -> Result<ExitCode> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    if arguments.variants {
        return variants(&environment, arguments.quick);
    }
    let mut command = test(&environment, &[], "explores_what_the_environment_asks_for");
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    command.env("MOORING_SIM_SEED", seed.to_string());
    match (&arguments.acts, arguments.seeds, arguments.minutes) {
        (Some(acts), ..) => {
            command.env("MOORING_SIM_ACTS", acts);
        }
        (None, seeds, minutes) => {
            // A seed that is named alone is one life.
            let named = arguments.seed.filter(|_| minutes.is_none()).map(|_| 1);
            if let Some(seeds) = seeds.or(named) {
                command.env("MOORING_SIM_SEEDS", seeds.to_string());
            } else {
                let seconds = minutes.unwrap_or(2.0) * 60.0;
                command.env("MOORING_SIM_SECONDS", format!("{seconds:.0}"));
            }
        }
    }
    console::step(&format!("Simulated lives from seed {seed} on"));
    let status = environment::status(&mut command)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lives with fresh seeds, and a quick look for every variant: the step of `cargo xtask ci`.
pub(crate) fn quick(environment: &Environment) -> Result<()> {
    let mut command = test(environment, &[], "explores_what_the_environment_asks_for");
    command.env("MOORING_SIM_SEED", fresh_seed().to_string());
    command.env("MOORING_SIM_SECONDS", CI_SECONDS.to_string());
    environment::run(&mut command)?;
    let mut command = test(environment, &["--features", "gateway/variants"], "finds_every_variant");
    environment::run(command.env("MOORING_SIM_QUICK", "1"))
}

fn variants(environment: &Environment, is_quick: bool) -> Result<ExitCode> {
    console::step("Looking for every variant that is broken on purpose");
    let mut command = test(environment, &["--features", "gateway/variants"], "finds_every_variant");
    if is_quick {
        command.env("MOORING_SIM_QUICK", "1");
    }
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {}", environment::shown(&command)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    console::answer(&text);
    anyhow::ensure!(output.status.success(), "a variant is not found: mend the checker");
    if !is_quick {
        table::write(environment.root(), &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One of the tests that are there for this task alone.
fn test(environment: &Environment, features: &[&str], name: &str) -> Command {
    // Of the whole workspace, though it is the gateway's: chosen alone it would have other features
    // of its dependencies, and all of them would be compiled again.
    let build = ["test", "--release", "--workspace", "--test", "simulation"];
    let run = ["--", "--ignored", "--nocapture", name];
    environment.cargo([&build[..], features, &run].concat())
}

#[allow(clippy::disallowed_methods, reason = "a seed that differs from run to run")]
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Whole seconds and a part of one: short enough to be typed.
    now.as_secs() % 1_000_000 * 1000 + u64::from(now.subsec_millis())
}
