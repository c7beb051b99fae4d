//! The two sides that a conformance suite judges: `serve` is an echo for its fuzzing client,
//! `connect` goes through the cases of its fuzzing server. `cargo xtask conformance` runs both.

#![forbid(unsafe_code)]

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use clap::Parser;
use conformance::client::{Answer, Client, Message};
use conformance::echo::{self, Sizes};
use gateway::config::ShellConfig;

/// What to be.
#[derive(Parser)]
enum Side {
    /// Echoes until its standard input ends; prints `ready ADDRESS`.
    Serve {
        /// On the portable shell, not on rings.
        #[arg(long)]
        portable: bool,
    },
    /// Goes through all cases of a fuzzing server, and has it write its report.
    Connect {
        /// Where it is.
        address: SocketAddr,
        /// Under which name it reports.
        #[arg(long)]
        agent: String,
    },
}

fn main() -> Result<()> {
    match Side::parse() {
        Side::Serve { portable } => serve(portable),
        Side::Connect { address, agent } => connect(address, &agent),
    }
}

fn serve(portable: bool) -> Result<()> {
    let data = tempfile::tempdir()?;
    let shell = if portable { ShellConfig::Portable } else { ShellConfig::Uring };
    let gateway = echo::start(data.path(), shell, 1, Sizes::default())?;
    writeln!(std::io::stdout(), "ready {}", gateway.addresses()[0])?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    gateway.drainer().drain();
    gateway.wait()?;
    Ok(())
}

fn connect(address: SocketAddr, agent: &str) -> Result<()> {
    // The load generator's size, and a seed: masks that repeat are as good as others here.
    let mut client = Client::new(2048, 1)?;
    let mut count = None;
    client.converse(address, "/getCaseCount", |message| {
        if let Message::Text(text) = message {
            count = text.parse::<u32>().ok();
        }
        Answer::Nothing
    })?;
    let count = count.context("the fuzzing server does not tell how many cases it has")?;
    if count == 0 {
        bail!("the fuzzing server has no cases");
    }
    for case in 1..=count {
        let target = format!("/runCase?case={case}&agent={agent}");
        client
            .converse(address, &target, |_| Answer::Echo)
            .with_context(|| format!("case {case} of {count}"))?;
    }
    client.converse(address, &format!("/updateReports?agent={agent}"), |_| Answer::Nothing)?;
    writeln!(std::io::stdout(), "{count} cases")?;
    Ok(())
}
