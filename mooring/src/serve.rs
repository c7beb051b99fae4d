//! `mooring serve`: load, check, start, wait for a signal, drain.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use gateway::config::{Config, ConfigError, LogConfig, LogFormat, ShellConfig};
use gateway::limits::Limits;
use gateway::server::{Drainer, Gateway};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

use crate::{admin, announcing};

/// Flags go before the environment, that before the file, that before the defaults.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// TOML file with the configuration; every key is optional
    #[arg(long, env = "MOORING_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; made if it is absent or empty
    #[arg(long, env = "MOORING_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address for WebSocket clients; can be repeated
    #[arg(long, env = "MOORING_LISTEN", value_name = "HOST:PORT", value_delimiter = ',')]
    listen: Vec<String>,
    /// Address for metrics and health
    #[arg(long, env = "MOORING_ADMIN", value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Reactor threads; 0 for one a processor
    #[arg(long, env = "MOORING_CORES", value_name = "N")]
    cores: Option<u16>,
    /// What the cores run on; auto: io_uring if this host has it, else the portable shell
    #[arg(long, env = "MOORING_IO", value_name = "SHELL")]
    io: Option<Io>,
    /// Memory that one session may hold, in bytes
    #[arg(long, env = "MOORING_SESSION_BYTES_MAX", value_name = "BYTES")]
    session_bytes_max: Option<usize>,
    /// Memory that the process is to have, in bytes; 0 for half of what is permitted here
    #[arg(long, env = "MOORING_MEMORY_BYTES_MAX", value_name = "BYTES")]
    memory_bytes_max: Option<usize>,
}

/// [`ShellConfig`], as a command line has it. (Words on each value would make the help long.)
#[derive(Clone, Copy, clap::ValueEnum)]
enum Io {
    Auto,
    Uring,
    Portable,
}

impl From<Io> for ShellConfig {
    fn from(io: Io) -> Self {
        match io {
            Io::Auto => Self::Auto,
            Io::Uring => Self::Uring,
            Io::Portable => Self::Portable,
        }
    }
}

impl Args {
    /// The configuration with the flags laid over it.
    fn config(&self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        let server = &mut config.server;
        if let Some(data) = &self.data {
            server.data.clone_from(data);
        }
        if !self.listen.is_empty() {
            server.listen.clone_from(&self.listen);
        }
        if let Some(admin) = &self.admin {
            server.admin.clone_from(admin);
        }
        if let Some(cores) = self.cores {
            server.cores = cores;
        }
        if let Some(shell) = self.io {
            config.io.shell = shell.into();
        }
        let limits = &mut config.limits;
        limits.session_bytes_max = self.session_bytes_max.unwrap_or(limits.session_bytes_max);
        limits.memory_bytes_max = self.memory_bytes_max.unwrap_or(limits.memory_bytes_max);
        Ok(config)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let config = args.config()?;
    let limits = Limits::new(&config)?;
    start_logging(&config.log)?;
    let (memory_bytes_max, of_core) = (limits.memory_bytes_max, limits.core_bytes_max);
    raise_open_files();
    refuse_huge_pages();
    // Before any thread exists, so that all of them leave the signals to the one that waits.
    let signals = Signals::new([SIGTERM, SIGINT]).context("cannot wait for signals")?;
    let (admin, data) = (admin::listen(limits.admin)?, limits.data.clone());
    let sessions_max = u64::from(limits.cores) * u64::from(limits.connections_max);
    let gateway =
        Gateway::start(limits).with_context(|| format!("cannot start on {}", data.display()))?;
    tracing::info!(recovery = ?gateway.recovery(), "recovered");
    tracing::info!(memory_bytes_max, of_core, "memory");
    let drainer = gateway.drainer();
    let record = announcing::record(&config.discovery, gateway.addresses(), sessions_max)?;
    let (metrics, watched) = (gateway.metrics(), drainer.clone());
    let board = announcing::start(&config.discovery, record, metrics, watched)?;
    let admin = admin::start(admin, gateway.metrics(), drainer.clone(), board)?;
    announce(gateway.addresses(), admin)?;
    wait_for_signals(signals, drainer)?;
    gateway.wait().context("a core failed")?;
    tracing::info!("ended");
    Ok(())
}

/// The one line on standard output: scripts wait for it.
fn announce(addresses: &[SocketAddr], admin: SocketAddr) -> Result<()> {
    let gateways: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready gateway={} admin={admin}", gateways.join(","))?;
    out.flush().context("cannot say that it is ready")
}

/// The first signal drains, the second ends at once.
fn wait_for_signals(mut signals: Signals, drainer: Drainer) -> Result<()> {
    let wait = move || {
        let mut received = signals.forever();
        if let Some(signal) = received.next() {
            tracing::info!(signal, "draining; a second signal ends at once");
            drainer.drain();
        }
        if let Some(signal) = received.next() {
            std::process::exit(128 + signal);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// The soft limit of open files is made for programs that use `select`; the hard one is meant.
/// Where even that is too low for the rings' tables, they say so.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// What a core holds is sparse: a page of 2 MiB for each of its parts would be three times the
/// memory of 100,000 sessions (docs/decisions, 0011).
fn refuse_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "cannot refuse huge pages; it will take more memory");
    }
}

/// What is logged.
pub(crate) fn log_filter(config: &LogConfig) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(&config.level).map_err(|_| ConfigError::Range {
        key: "log.level",
        value: format!("{:?}", config.level),
        problem: "must be error, warn, info, debug or trace, or directives such as \
                  \"info,gateway=debug\"",
    })
}

fn start_logging(config: &LogConfig) -> Result<()> {
    let filter = log_filter(config)?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}
