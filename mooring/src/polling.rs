//! `mooring polling`: sessions for networks that refuse WebSocket, beside a gateway.

use std::future::ready;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use client::StaticGateways;
use gateway::auth::KeyRing;
use gateway::bearer::identity_of;
use polling::{Identity, Pool, Settings, Verify, Verifying};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Data directory with the keys that sign access tokens
    #[arg(long, env = "MOORING_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// A gateway; several may be named, the best first
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:7700")]
    gateway: Vec<String>,
    /// Address for HTTP clients
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7702")]
    listen: SocketAddr,
    /// Sessions at once
    #[arg(long, value_name = "N", default_value_t = Settings::default().sessions_max)]
    sessions_max: usize,
}

/// The data directory's keys say whose a token is; the gateway is asked again when a session
/// begins.
struct Keys(KeyRing);

impl Verify for Keys {
    fn verify<'a>(&'a self, token: &'a str) -> Verifying<'a> {
        let identity = identity_of(&self.0, token, gateway::clock::wall()).ok();
        Box::pin(ready(identity.map(|it| Identity { user: it.user, device: it.device })))
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    crate::require_data(&args.data)?;
    let keys = Keys(KeyRing::open(&args.data, Duration::ZERO)?);
    let gateways = StaticGateways::new(args.gateway.iter().map(String::as_str))?;
    // Before any thread exists, so that all of them leave the signals to the one that waits.
    let signals = Signals::new([SIGTERM, SIGINT]).context("cannot wait for signals")?;
    let listener = TcpListener::bind(args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let settings = Settings { sessions_max: args.sessions_max, ..Settings::default() };
    runtime.block_on(serve(listener, signals, (gateways, keys, settings)))
}

async fn serve(
    listener: TcpListener,
    mut signals: Signals,
    (gateways, keys, settings): (StaticGateways, Keys, Settings),
) -> Result<()> {
    let (ask, asked) = oneshot::channel();
    let wait = move || {
        if signals.forever().next().is_some() {
            let _ = ask.send(()); // Nobody hears it if serving has failed.
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    let pool = Pool::new(Arc::new(gateways), Arc::new(keys), settings);
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    announce(address)?;
    // Requests that wait hold nothing that is not held elsewhere: they end with the process.
    let ending = async {
        let _ = asked.await;
    };
    tokio::select! {
        served = axum::serve(listener, polling::router(pool)) => served.context("cannot serve"),
        () = ending => Ok(()),
    }
}

/// The one line on standard output: scripts wait for it.
fn announce(address: SocketAddr) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready polling={address}")?;
    out.flush().context("cannot say that it is ready")
}
