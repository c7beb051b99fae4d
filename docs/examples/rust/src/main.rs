//! `echo-bot --url ws://127.0.0.1:7700 --token "$TOKEN" [--store bot.store]`
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Parser;
use client::{Client, Config, FileStore, StaticGateways};

#[derive(Parser)]
#[command(about = "Answers every message with the same words.")]
struct Arguments {
    /// A gateway; several may be named, the best first.
    #[arg(long, required = true, value_name = "URL")]
    url: Vec<String>,
    /// An access token of the bot's user, as `mooring token` prints it.
    #[arg(long, env = "MOORING_TOKEN", hide_env_values = true)]
    token: String,
    /// Where the cursor and what has no answer yet are kept over a restart.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let gateways = StaticGateways::new(arguments.url.iter().map(String::as_str))?;
    let mut config = Config::new(gateways, arguments.token);
    config.name = "echo-bot".to_owned();
    if let Some(file) = arguments.store {
        config.store = Box::new(FileStore::open(file)?);
    }
    let client = Client::connect(config).await?;
    #[expect(clippy::print_stderr, reason = "what a bot has instead of a log")]
    echo_bot::echo(&client, |event| eprintln!("{event:?}")).await?;
    match client.end() {
        Some(end) => Err(end.into()),
        None => Ok(()),
    }
}
