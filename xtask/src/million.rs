//! `cargo xtask million`: one server holds more and more sessions, a million at last, while one in
//! a hundred of them talks; what they cost in memory and what those who talk feel, as a page with
//! plots, and where the memory goes, as a table of docs/memory.md.

mod account;
mod report;
mod watch;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::server::{Launch, Server};
use crate::environment::{self, Environment};
use crate::{console, prerequisites};
use watch::{Watch, Watched};

/// What `million` is asked for.
#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// How many sessions are held, ascending; each on a server of its own.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000,1000000")]
    steps: Vec<u32>,
    /// Of them, so many percent talk in pairs.
    #[arg(long, default_value_t = 1.0)]
    chat_percent: f64,
    /// Messages a second of those who talk, together.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Seconds that are measured, once all sessions are open.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Seconds between two heartbeats of a session.
    #[arg(long, default_value_t = 120)]
    heartbeat: u32,
    /// Cores of the server, and threads of the generator: the same for each step. By default as
    /// many as hold the last step.
    #[arg(long, default_value_t = 0)]
    cores: u16,
    /// Where the report and its plots go.
    #[arg(long, value_name = "DIR", default_value = "docs/reports/million")]
    out: PathBuf,
}

/// Sessions for which a core has room, with some to spare: users are spread over the cores by a
/// hash, and a core's table is bounded by the limit of open files, 20,000 on the machine of the
/// report.
const SESSIONS_PER_CORE: u32 = 17_000;

/// Seconds at the set rate before measuring begins.
const WARM_UP_SECONDS: u32 = 10;

/// One number of sessions.
struct Step {
    sessions: u32,
    watched: Watched,
    report: Value,
}

pub(crate) fn million(mut arguments: Arguments) -> Result<()> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    ensure!(arguments.steps.is_sorted(), "--steps must ascend");
    let most = *arguments.steps.last().context("--steps names no number of sessions")?;
    if arguments.cores == 0 {
        arguments.cores = u16::try_from(most.div_ceil(SESSIONS_PER_CORE))?;
    }
    console::step("Building the server and the load generator");
    let build = ["build", "--profile", "shipped", "-p", "mooring", "-p", "loadgen"];
    environment::run(&mut environment.cargo(build))?;
    let mut steps = Vec::new();
    for sessions in arguments.steps.clone() {
        console::step(&format!("{sessions} sessions"));
        steps.push(hold(&environment, &arguments, sessions)?);
    }
    report::write(&arguments, &steps)?;
    account::write(&environment, &arguments, &steps)
}

/// Holds so many sessions, and watches both ends.
fn hold(environment: &Environment, arguments: &Arguments, sessions: u32) -> Result<Step> {
    let config = format!("[timeouts]\nheartbeat_seconds = {}\n", arguments.heartbeat);
    let launch = Launch { cores: arguments.cores, config: Some(&config) };
    let server = Server::launch(&environment.shipped_binary("mooring"), &launch)?;
    let json = server.data().join("report.json");
    let mut command = Command::new(environment.shipped_binary("loadgen"));
    command.args(["run", "idle", "--sessions", &sessions.to_string()]);
    command.args(["--threads", &arguments.cores.to_string()]);
    command.args(["--chat-percent", &arguments.chat_percent.to_string()]);
    command.args(["--rate", &arguments.rate.to_string()]);
    command.args(["--warmup", &format!("{WARM_UP_SECONDS}s")]);
    command.args(["--duration", &format!("{}s", arguments.seconds)]);
    command.args(["--url", &server.url(), "--data"]).arg(server.data()).arg("--json").arg(&json);
    let watched = Watch::begin(&server, sessions)?.until_it_ends(&mut command)?;
    // 1: the oracle found something, 3: not all sessions were held. Both are in the report.
    ensure!(json.is_file(), "loadgen wrote no report: {}", watched.errors.trim());
    let report = serde_json::from_slice(&std::fs::read(&json)?)?;
    server.stop()?;
    let step = Step { sessions, watched, report };
    console::note(&report::row(&step));
    Ok(step)
}
