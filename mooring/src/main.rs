//! The one binary. Parses, does what was asked, and says how it ended; everything else is in the
//! libraries.

#![forbid(unsafe_code)]

mod admin;
mod administer;
mod announcing;
mod check;
mod check_config;
mod doctor;
mod polling;
mod serve;
mod token;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measured against the system's allocator: docs/decisions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "mooring", version, about = "A chat backend: gateway, sequencer and store in one")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve devices whose networks refuse WebSocket, beside a gateway
    Polling(polling::Args),
    /// Run the gateway with its store
    Serve(serve::Args),
    /// Ask a running server to send its sessions away, or to let them come again
    Admin(administer::Args),
    /// Read a data directory that no server uses, and compare everything in it
    Check(check::Args),
    /// Check a configuration file, and print what it comes to
    CheckConfig(check_config::Args),
    /// Look at this machine: what stands between it and so many sessions
    Doctor(doctor::Args),
    /// Print an access token for a device, signed with the data directory's newest key
    Token(token::Args),
}

/// How the process ends: docs/operations.md lists them.
mod exit {
    /// A subcommand failed: could not start, or the ring or the disk failed.
    pub(crate) const FAILED: u8 = 1;
    /// The configuration cannot be used (`EX_CONFIG` of sysexits.h).
    pub(crate) const CONFIG: u8 = 78;
}

const _: () = assert!(!gateway::BREAKS_ITSELF, "a server with broken variants is not built");

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Admin(args) => administer::run(&args),
        Command::Check(args) => check::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Polling(args) => polling::run(&args),
        Command::Doctor(args) => return doctor::run(&args),
        Command::Token(args) => token::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            let is_config = error.downcast_ref::<gateway::config::ConfigError>().is_some();
            ExitCode::from(if is_config { exit::CONFIG } else { exit::FAILED })
        }
    }
}

/// What every data directory holds. Without a look at it, a mistyped name would become a new
/// directory, or a new key that no gateway knows.
const IDENTITY: &str = "FORMAT";

/// That `data` is a data directory already.
fn require_data(data: &Path) -> anyhow::Result<()> {
    let name = data.display();
    anyhow::ensure!(
        data.join(IDENTITY).is_file(),
        "{name} is not a data directory (it has no {IDENTITY}); start `mooring serve --data \
         {name}` once, or name the right one"
    );
    Ok(())
}

/// Red on a terminal, plain in a pipe.
#[expect(clippy::print_stderr, reason = "the last word of a command")]
fn report(error: &anyhow::Error) {
    use std::io::IsTerminal;
    let is_terminal = std::io::stderr().is_terminal();
    let (red, plain) = if is_terminal { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    eprintln!("{red}mooring:{plain} {}", told(error));
}

/// The error with its causes, without those that the text before them has told already.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        let cause = cause.trim_end();
        if !text.contains(cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(cause);
        }
    }
    text
}
