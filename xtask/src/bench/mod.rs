//! `cargo xtask bench`: what the core carries on this machine, beside a bare ring in the same run.
//!
//! Each round measures the bare echo and the bare fan-out, then every rate, so that what a shared
//! machine does to one it does to the others; the report gives medians over the rounds.

pub(crate) mod figures;
pub(crate) mod plot;
mod profile;
mod report;
pub(crate) mod server;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::environment::{self, Environment};
use crate::{console, prerequisites};
use server::Server;

/// What `bench` is asked for.
#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; the report gives medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Seconds before each measurement: by then log files are written over old ones.
    #[arg(long, default_value_t = 10)]
    warmup: u64,
    /// Messages a second between 500 pairs, ascending. By default from 0.10 to 0.40 of what the
    /// bare echo makes in the first round.
    #[arg(long, value_delimiter = ',')]
    rates: Vec<u64>,
    /// Messages a second into 10 groups of 100, ascending.
    #[arg(long, value_delimiter = ',', default_value = "1000,2000,3000,4000")]
    group_rates: Vec<u64>,
    /// Cores of the server; 0 for one a processor.
    #[arg(long, default_value_t = 0)]
    cores: u16,
    /// Where the report and its plots go.
    #[arg(long, value_name = "DIR", default_value = "docs/reports/core")]
    out: PathBuf,
}

/// What the load generator is asked for: 500 conversations.
const PAIRS: [&str; 4] = ["--pairs", "500", "--size", "64"];

/// Rates that are asked of the pairs, in percent of the bare echo's.
const RATE_PERCENTS: [u64; 6] = [10, 20, 25, 30, 35, 40];

/// One run of the load generator.
pub(super) struct Sample {
    pub(super) rate: u64,
    pub(super) delivered_rate: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) found: u64,
    pub(super) generator_waited: f64,
    /// Microseconds of the server's processors for each message posted.
    pub(super) server_micros: f64,
    /// Messages of a commit group: (upper bound, groups).
    pub(super) groups: Vec<(f64, u64)>,
}

/// Everything that was measured.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) echo: Vec<f64>,
    pub(super) fan_out: Vec<f64>,
    pub(super) pairs: Vec<Sample>,
    pub(super) groups: Vec<Sample>,
    pub(super) driver: String,
    pub(super) machine: String,
    pub(super) profile: Option<profile::Profile>,
}

pub(crate) fn bench(mut arguments: Arguments) -> Result<()> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    console::step("Building the server, the load generator and the baselines");
    let packages = ["-p", "mooring", "-p", "loadgen", "-p", "benches"];
    let build = ["build", "--profile", "shipped"].into_iter().chain(packages);
    environment::run(&mut environment.cargo(build))?;
    let mut measured = Measured::default();
    for round in 1..=arguments.rounds {
        console::step(&format!("Round {round} of {}", arguments.rounds));
        measure_round(&environment, &mut arguments, &mut measured)?;
    }
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let graph = arguments.out.join("profile.svg");
    profile::forget(&graph)?;
    if let Some(rate) = report::profiled_rate(&measured) {
        console::step(&format!("Profile at {rate} messages/s"));
        measured.profile = profile::profile(&environment, &arguments, rate, &PAIRS, &graph)?;
    }
    report::write(&arguments.out, &arguments, &measured)
}

fn measure_round(
    environment: &Environment,
    arguments: &mut Arguments,
    measured: &mut Measured,
) -> Result<()> {
    let echo = baseline(environment, "bare-echo")?;
    measured.driver = text(&echo, "/environment/driver");
    let (cpu, kernel) = (text(&echo, "/environment/cpu"), text(&echo, "/environment/kernel"));
    measured.machine = format!("{cpu}, {} processors, Linux {kernel}", echo["environment"]["cpus"]);
    let echo = number(&echo, "/median");
    measured.echo.push(echo);
    if arguments.rates.is_empty() {
        arguments.rates = RATE_PERCENTS.map(|percent| rate_of(echo, percent)).into();
    }
    for rate in &arguments.rates {
        measured.pairs.push(chat(environment, arguments, *rate, &PAIRS)?);
    }
    measured.fan_out.push(number(&baseline(environment, "bare-fanout")?, "/median"));
    let groups = ["--groups", "10", "--group-size", "100", "--size", "64"];
    for rate in &arguments.group_rates {
        measured.groups.push(chat(environment, arguments, *rate, &groups)?);
    }
    Ok(())
}

/// So many percent of the bare echo's rate, in whole thousands.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a measured rate")]
fn rate_of(echo: f64, percent: u64) -> u64 {
    (echo as u64 * percent).div_ceil(100_000) * 1000
}

fn baseline(environment: &Environment, name: &str) -> Result<Value> {
    let mut command = Command::new(environment.shipped_binary(name));
    command.args(["--rounds", "3", "--seconds", "1", "--json"]);
    let value: Value = serde_json::from_str(&environment::output(&mut command)?)
        .with_context(|| format!("{name} printed something else than JSON"))?;
    console::note(&format!("{name}: {:.0} a second", number(&value, "/median")));
    Ok(value)
}

/// One run against a server of its own, on an empty data directory.
fn chat(
    environment: &Environment,
    arguments: &Arguments,
    rate: u64,
    load: &[&str],
) -> Result<Sample> {
    let server = Server::start(environment, arguments.cores)?;
    let json = server.data().join("report.json");
    let before = server.processor_time()?;
    let mut command = load_command(environment, arguments, &server, rate, load);
    let output = command.arg("--json").arg(&json).output().context("cannot start loadgen")?;
    // 1: the oracle found something, 3: sessions were lost. Both are in the report.
    anyhow::ensure!(
        json.is_file(),
        "loadgen wrote no report: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let spent = server.processor_time()? - before;
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let sample = sample(&report, rate, spent, server.commit_groups()?);
    console::note(&format!(
        "{rate} a second: delivered {:.0}, p50 {:.1} ms, p99 {:.1} ms, found {}",
        sample.delivered_rate, sample.p50_ms, sample.p99_ms, sample.found
    ));
    server.stop()?;
    Ok(sample)
}

fn load_command(
    environment: &Environment,
    arguments: &Arguments,
    server: &Server,
    rate: u64,
    load: &[&str],
) -> Command {
    let mut command = Command::new(environment.shipped_binary("loadgen"));
    command.args(["run", "chat", "--url", &server.url(), "--data"]).arg(server.data());
    command.args(["--rate", &rate.to_string(), "--warmup", &format!("{}s", arguments.warmup)]);
    command.args(["--duration", &format!("{}s", arguments.seconds)]).args(load);
    command
}

fn sample(report: &Value, rate: u64, spent: Duration, groups: Vec<(f64, u64)>) -> Sample {
    let found = ["lost", "duplicated", "reordered", "gaps", "altered"]
        .iter()
        .map(|what| report["oracle"][what].as_u64().unwrap_or(u64::MAX / 8))
        .sum();
    // Those of the warm-up count too: their cost is in `spent`.
    let posted: u64 = report["posted"]["durability"]
        .as_object()
        .map_or(0, |kinds| kinds.values().filter_map(Value::as_u64).sum());
    #[expect(clippy::cast_precision_loss, reason = "for a report")]
    let server_micros = spent.as_secs_f64() * 1e6 / (posted.max(1) as f64);
    Sample {
        rate,
        delivered_rate: number(report, "/delivered/rate"),
        p50_ms: number(report, "/deliver_ms/p50"),
        p99_ms: number(report, "/deliver_ms/p99"),
        found,
        generator_waited: number(report, "/generator/cpu_waiting"),
        server_micros,
        groups,
    }
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown").to_owned()
}
