//! `cargo xtask crash-test`: the server is killed (SIGKILL) at random moments under load, again and
//! again, and what it promised is compared with what it kept.
//!
//! One run of the load generator spans all rounds. Its sessions come back, resume by cursor and
//! send again what was not answered; its oracle compares everything across the kills. At the end
//! the data directory is read and checked as a whole.

mod rounds;
mod server;
mod verdict;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::environment::{self, Environment};
use crate::{clock, console, prerequisites};
use rounds::{Random, Rounds};
use server::{Lines, Server};
use verdict::Verdict;

/// Sessions: 200 in pairs, 80 in groups, so that both ways of fanning out are under way.
const PEOPLE: [&str; 6] = ["--pairs", "100", "--groups", "4", "--group-size", "20"];

/// The load generator must say that it has started, and at the end that it has ended, within this.
const LOADGEN_MAX: Duration = Duration::from_secs(180);

/// Below the ports that the kernel gives to outgoing connections (32768 and up): a session that
/// comes back would otherwise take the port of the server that is down, or connect to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How often a process that is to end is looked at.
const END_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What `crash-test` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often the server is killed, not counting kills during recovery.
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Repeats the moments of the kills. Default: others each time.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Reactor threads of the server.
    #[arg(long, value_name = "N", default_value_t = 2)]
    cores: u16,
    /// Messages a second, each to one or nineteen others.
    #[arg(long, value_name = "MESSAGES_PER_S", default_value_t = 5000)]
    rate: u32,
    /// Keep the data directory, the logs and the report.
    #[arg(long)]
    keep: bool,
}

impl Arguments {
    /// The short form, for the tests.
    pub(crate) fn short() -> Self {
        Self { rounds: 4, seed: None, cores: 2, rate: 2000, keep: false }
    }
}

/// Builds, kills, compares; exit code 1 if a promise was broken.
pub(crate) fn crash_test(arguments: &Arguments) -> Result<ExitCode> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    console::step("Building the server and the load generator");
    let build = ["build", "--release", "--package", "mooring", "--package", "loadgen"];
    environment::run(&mut environment.cargo(build))?;
    let verdict = run(&environment, arguments)?;
    Ok(if verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same with the binaries that are there.
pub(crate) fn run(environment: &Environment, arguments: &Arguments) -> Result<Verdict> {
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let command = format!(
        "cargo xtask crash-test --rounds {} --seed {seed} --cores {} --rate {}",
        arguments.rounds, arguments.cores, arguments.rate
    );
    console::step(&format!("Killing the server {} times: {command}", arguments.rounds));
    let folder = tempfile::Builder::new().prefix("mooring-crash-").tempdir();
    let folder = folder.context("cannot make a temporary folder")?;
    let bench = Bench::new(environment, arguments, folder.path(), seed)?;
    let result = bench.run();
    let is_clean = result.as_ref().is_ok_and(Verdict::is_clean);
    keep_or_remove(folder, arguments.keep || !is_clean);
    let verdict = result.with_context(|| format!("repeat it with `{command}`"))?;
    verdict.show(&command);
    Ok(verdict)
}

/// What is broken is kept: it is the evidence.
fn keep_or_remove(folder: TempDir, keeps: bool) {
    if keeps {
        let path = folder.keep();
        console::note(&format!("data, logs and report are kept in {}", path.display()));
    }
}

#[allow(clippy::disallowed_methods, reason = "a seed that differs from run to run")]
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}

/// Everything that a run needs.
struct Bench<'a> {
    arguments: &'a Arguments,
    mooring: PathBuf,
    loadgen: PathBuf,
    data: PathBuf,
    report: PathBuf,
    /// Of the server's ports.
    addresses: [String; 2],
    folder: &'a Path,
    random: Random,
}

impl<'a> Bench<'a> {
    fn new(
        environment: &Environment,
        arguments: &'a Arguments,
        folder: &'a Path,
        seed: u64,
    ) -> Result<Self> {
        let mut random = Random::new(seed);
        Ok(Self {
            arguments,
            mooring: environment.release_binary("mooring"),
            loadgen: environment.release_binary("loadgen"),
            data: folder.join("data"),
            report: folder.join("report.json"),
            addresses: [free_address(&mut random)?, free_address(&mut random)?],
            folder,
            random,
        })
    }

    fn run(mut self) -> Result<Verdict> {
        let mut server = self.start()?;
        server.wait_until_ready()?;
        let (mut load, lines) = self.start_loadgen()?;
        let rounds = self.kill_repeatedly(server, &lines);
        // Whatever happened, the load generator is not left behind.
        let status = end(&mut load, if rounds.is_ok() { Signal::INT } else { Signal::KILL })?;
        let (rounds, mut server) = rounds?;
        server.kill()?;
        let report = fs::read_to_string(&self.report).with_context(|| {
            format!("the load generator wrote no report ({status}); see {}", self.log("loadgen"))
        })?;
        let check = self.check()?;
        Verdict::new(rounds, &report, status, check)
    }

    fn start(&self) -> Result<Server> {
        let [gateway, admin] = &self.addresses;
        let mut command = Command::new(&self.mooring);
        command.args(["serve", "--data"]).arg(&self.data);
        command.args(["--listen", gateway, "--admin", admin]);
        command.args(["--cores", &self.arguments.cores.to_string()]);
        Server::start(command, &self.folder.join("server.log"))
    }

    fn log(&self, name: &str) -> String {
        self.folder.join(format!("{name}.log")).display().to_string()
    }

    /// Starts the load and waits until messages are sent.
    fn start_loadgen(&self) -> Result<(Child, Lines)> {
        let log = fs::File::create(self.folder.join("loadgen.log")).context("cannot make a log")?;
        let mut command = Command::new(&self.loadgen);
        command.args(["run", "chat"]).args(PEOPLE).arg("--reconnect");
        command.args(["--rate", &self.arguments.rate.to_string()]);
        command.args(["--warmup", "0s", "--duration", "24h"]);
        command.args(["--url", &format!("ws://{}", self.addresses[0]), "--data"]).arg(&self.data);
        command.arg("--json").arg(&self.report);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().context("cannot start the load generator")?;
        let lines = Lines::of(&mut child)?;
        if lines.wait_for(|line| line == "started", LOADGEN_MAX).is_none() {
            end(&mut child, Signal::KILL)?;
            bail!("the load generator does not start; see {}", self.log("loadgen"));
        }
        Ok((child, lines))
    }

    fn kill_repeatedly(&mut self, server: Server, lines: &Lines) -> Result<(Rounds, Server)> {
        let mut rounds = Rounds::default();
        let mut server = server;
        for round in 1..=self.arguments.rounds {
            let pause = self.random.pause();
            if lines.has_ended_within(pause) {
                bail!("the load generator has ended early; see {}", self.log("loadgen"));
            }
            server.kill()?;
            let mut interrupted = 0;
            server = loop {
                let mut next = self.start()?;
                let Some(within) = self.random.recovery_pause(rounds.typical_recovery()) else {
                    break next;
                };
                // It may be ready before: then it is as good a kill as any.
                let was_ready = next.is_ready_within(within)?;
                next.kill()?;
                interrupted += u32::from(!was_ready);
            };
            let recovery = server.wait_until_ready()?;
            rounds.add(pause, interrupted, recovery);
            console::note(&rounds.line(round, self.arguments.rounds));
        }
        // The last start is under load as well.
        lines.has_ended_within(self.random.pause());
        Ok((rounds, server))
    }

    /// What `mooring check` finds; `Err` holds its words.
    fn check(&self) -> Result<Result<String, String>> {
        let mut command = Command::new(&self.mooring);
        command.arg("check").arg("--data").arg(&self.data);
        let output = command.output().context("cannot start `mooring check`")?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let text = said(&output.stdout);
        Ok(if output.status.success() {
            Ok(text)
        } else {
            Err(format!("{text}\n{}", said(&output.stderr)))
        })
    }
}

/// Signals a child and waits for its end.
fn end(child: &mut Child, signal: Signal) -> Result<ExitStatus> {
    // It has not been waited for yet, so its process id is still its own.
    kill_process(Pid::from_child(child), signal).context("cannot signal the load generator")?;
    let asked_at = clock::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the load generator")? {
            return Ok(status);
        }
        if asked_at.elapsed() > LOADGEN_MAX {
            child.kill().context("cannot kill the load generator")?;
            bail!("the load generator did not end within {}", console::duration(LOADGEN_MAX));
        }
        std::thread::park_timeout(END_POLL_INTERVAL);
    }
}

/// An address that nobody listens on, and that no outgoing connection is given.
fn free_address(random: &mut Random) -> Result<String> {
    for _ in 0..100 {
        let port = random.within(PORTS.start.into(), PORTS.end.into());
        let port = u16::try_from(port).context("a port")?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(format!("{}:{port}", Ipv4Addr::LOCALHOST));
        }
    }
    bail!("no free port from {} to {}", PORTS.start, PORTS.end)
}
