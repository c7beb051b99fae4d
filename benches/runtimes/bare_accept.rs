//! How fast a bare ring accepts: connections in, nothing said on them. No WebSocket, no Hello, no
//! session. The product's connect rates are ratios of this one.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use benches::report::Environment;
use benches::threads::pinned;
use clap::Parser;
use serde::Serialize;
use uring::{Completion, ListenOptions, Ring, RingOptions, Token, listen};

const LISTENER: Token = Token::new(Token::SLOT_MAX, 0);

/// Connections on their way: below the backlog of one listener.
const CONNECTS_MAX: u32 = 512;

/// From one source address; see `CONNECTIONS_PER_SOURCE` of the load generator.
const CONNECTIONS_PER_SOURCE: u32 = 8_000;

/// Nothing has happened for so long: the other side has ended.
const SILENCE_MAX: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Options {
    /// Connections, all open at the end; as many as the limit of open files permits.
    #[arg(long, default_value_t = 15_000)]
    connections: u32,
    /// The CPU of the accepting thread.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The CPU of the connecting thread.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
}

#[derive(Serialize)]
struct Measured {
    connections: u32,
    seconds: f64,
    rate: f64,
    environment: Environment,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let driver = uring::probe()?.to_string();
    let accepted = Arc::new(AtomicU32::new(0));
    let (address_to, address_of) = mpsc::channel();
    let (count, seen) = (options.connections, Arc::clone(&accepted));
    pinned("server", options.server_cpu, move || serve(count, &seen, &address_to))?;
    let address = address_of.recv().context("the server ended before it was ready")?;
    let client = pinned("client", options.client_cpu, move || drive(count, address, &accepted))?;
    let elapsed = client.join().map_err(|_| anyhow!("the client panicked"))??;
    let seconds = elapsed.as_secs_f64();
    let rate = f64::from(count) / seconds;
    let environment = Environment::of(driver);
    let measured = Measured { connections: count, seconds, rate, environment };
    serde_json::to_writer_pretty(std::io::stdout(), &measured)?;
    Ok(())
}

fn ring(connections: u32) -> anyhow::Result<Ring> {
    Ok(Ring::new(&RingOptions {
        sq_entries: 1024,
        cq_entries: 16_384,
        descriptors_max: connections + 64,
        flights_max: CONNECTS_MAX,
        buffers: 16,
        buffer_bytes: 512,
    })?)
}

fn serve(
    connections: u32,
    accepted: &AtomicU32,
    announce: &mpsc::Sender<SocketAddr>,
) -> anyhow::Result<()> {
    let mut ring = ring(connections)?;
    let listener = listen("127.0.0.1:0".parse()?, ListenOptions::default())?;
    announce.send(listener.local_address()?)?;
    ring.accept(listener, LISTENER);
    loop {
        ring.submit_and_wait(1, None)?;
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Accepted { token, armed, .. } => {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    if !armed {
                        ring.rearm_accept(token);
                    }
                }
                other => bail!("the server did not expect {other:?}"),
            }
        }
    }
}

/// Connects all, and waits until all were accepted; tells how long that took.
fn drive(count: u32, address: SocketAddr, accepted: &AtomicU32) -> anyhow::Result<Duration> {
    let mut ring = ring(count)?;
    let started = now();
    let (mut begun, mut connected) = (0, 0);
    while connected < count || accepted.load(Ordering::Relaxed) < count {
        while begun < count && begun - connected < CONNECTS_MAX {
            let part = u8::try_from(begun / CONNECTIONS_PER_SOURCE + 1).context("too many")?;
            let source = SocketAddr::from((Ipv4Addr::new(127, 0, 9, part), 0));
            ring.connect(Token::new(begun, 0), address, Some(source))?;
            begun += 1;
        }
        ring.submit_and_wait(u32::from(connected < count), Some(SILENCE_MAX))?;
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Connected { .. } => connected += 1,
                Completion::Woken => {}
                other => bail!("connecting: {other:?}"),
            }
        }
        if started.elapsed() > SILENCE_MAX * 6 {
            bail!("{connected} of {count} connections after {:?}", started.elapsed());
        }
    }
    Ok(started.elapsed())
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}
