//! `cargo xtask crash-test`: the server is killed (SIGKILL) at random moments under load, again and
//! again, and what it promised is compared with what it kept.
//!
//! One run of the load generator spans all rounds. Its sessions come back, resume by cursor and
//! send again what was not answered; its oracle compares everything across the kills. At the end
//! the data directory is read and checked as a whole.

mod load;
mod rounds;
mod server;
mod verdict;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::environment::{self, Environment};
use crate::{console, prerequisites};
pub(crate) use load::Load;
pub(crate) use rounds::{Random, Rounds};
pub(crate) use server::Server;
pub(crate) use verdict::Verdict;

/// Sessions: 200 in pairs, 80 in groups, so that both ways of fanning out are under way.
const PEOPLE: [&str; 6] = ["--pairs", "100", "--groups", "4", "--group-size", "20"];

/// Below the ports that the kernel gives to outgoing connections (32768 and up): a session that
/// comes back would otherwise take the port of the server that is down, or connect to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

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
    /// What the server runs on: auto, uring or portable.
    #[arg(long, value_name = "SHELL", default_value = "auto")]
    io: String,
    /// Messages a second, each to one or nineteen others.
    #[arg(long, value_name = "MESSAGES_PER_S", default_value_t = 5000)]
    rate: u32,
    /// Keep the data directory, the logs and the report.
    #[arg(long)]
    keep: bool,
}

impl Arguments {
    /// The short form, for the tests.
    pub(crate) fn short(io: &str) -> Self {
        Self { rounds: 4, seed: None, cores: 2, io: io.to_owned(), rate: 2000, keep: false }
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
        "cargo xtask crash-test --rounds {} --seed {seed} --cores {} --io {} --rate {}",
        arguments.rounds, arguments.cores, arguments.io, arguments.rate
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
pub(crate) fn keep_or_remove(folder: TempDir, keeps: bool) {
    if keeps {
        let path = folder.keep();
        console::note(&format!("data, logs and report are kept in {}", path.display()));
    }
}

#[allow(clippy::disallowed_methods, reason = "a seed that differs from run to run")]
pub(crate) fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}

/// Everything that a run needs.
struct Bench<'a> {
    arguments: &'a Arguments,
    mooring: PathBuf,
    loadgen: PathBuf,
    data: PathBuf,
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
            addresses: [free_address(&mut random)?, free_address(&mut random)?],
            folder,
            random,
        })
    }

    fn run(mut self) -> Result<Verdict> {
        let mut server = self.start()?;
        server.wait_until_ready()?;
        let load = self.start_load()?;
        let (rounds, mut server) = self.kill_repeatedly(server, &load)?;
        let (report, status) = load.stop()?;
        server.kill()?;
        Verdict::new(rounds, &report, status, check(&self.mooring, &self.data)?)
    }

    fn start(&self) -> Result<Server> {
        let [gateway, admin] = &self.addresses;
        let mut command = Command::new(&self.mooring);
        command.args(["serve", "--data"]).arg(&self.data);
        command.args(["--listen", gateway, "--admin", admin]);
        command.args(["--cores", &self.arguments.cores.to_string()]);
        command.args(["--io", &self.arguments.io]);
        Server::start(command, &self.folder.join("server.log"))
    }

    fn start_load(&self) -> Result<Load> {
        let rate = self.arguments.rate.to_string();
        let mut people = PEOPLE.to_vec();
        people.extend(["--rate", &rate]);
        Load::start(&self.loadgen, &people, &self.addresses[0], &self.data, self.folder)
    }

    fn kill_repeatedly(&mut self, server: Server, load: &Load) -> Result<(Rounds, Server)> {
        let mut rounds = Rounds::default();
        let mut server = server;
        for round in 1..=self.arguments.rounds {
            let pause = self.random.pause();
            load.run_for(pause)?;
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
        load.run_for(self.random.pause())?;
        Ok((rounds, server))
    }
}

/// What `mooring check` finds; `Err` holds its words.
pub(crate) fn check(mooring: &Path, data: &Path) -> Result<Result<String, String>> {
    let mut command = Command::new(mooring);
    command.arg("check").arg("--data").arg(data);
    let output = command.output().context("cannot start `mooring check`")?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let text = said(&output.stdout);
    Ok(if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{text}\n{}", said(&output.stderr)))
    })
}

/// An address that nobody listens on, and that no outgoing connection is given.
pub(crate) fn free_address(random: &mut Random) -> Result<String> {
    for _ in 0..100 {
        let port = random.within(PORTS.start.into(), PORTS.end.into());
        let port = u16::try_from(port).context("a port")?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(format!("{}:{port}", Ipv4Addr::LOCALHOST));
        }
    }
    bail!("no free port from {} to {}", PORTS.start, PORTS.end)
}
