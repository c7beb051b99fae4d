//! The driving side of an echo, the same for every runtime under test: one message in flight on
//! each connection, each checked to come back as it was sent.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{bail, ensure};
use bytes::Bytes;
use uring::{Completion, Descriptor, Ring, RingOptions, Shots, Start, Token};

use crate::options::RunOptions;
use crate::report::{Environment, Report};
use crate::rounds::{Round, Rounds};
use crate::sides::{self, Announce, Server};
use crate::threads::own_id;

/// A server that has not answered any of its connections for so long has ended.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What is echoed.
#[derive(clap::Parser, Clone, Copy, Debug)]
pub struct EchoOptions {
    /// Connections, each with one message in flight.
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    pub bytes: usize,
    /// How long, and where.
    #[command(flatten)]
    pub run: RunOptions,
}

/// Measures the echo server `serve` of the runtime `name`, and prints the report. `driver` says how
/// the server reaches the kernel.
///
/// # Errors
///
/// What either side says, or the output.
pub fn measure(
    name: &str,
    driver: String,
    options: EchoOptions,
    serve: impl FnOnce(Announce) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let done = sides::run(&options.run, serve, move |server| drive(&options, server))?;
    let name = format!("{name}, {} x {} bytes", options.connections, options.bytes);
    Report::new(name, "round trips", &done, Environment::of(driver)).print(options.run.json)?;
    Ok(())
}

/// A ring that cannot run out of anything with one message in flight on each connection.
#[must_use]
pub fn ring_options(connections: u32) -> RingOptions {
    let count = connections.clamp(64, 16384).next_power_of_two();
    RingOptions {
        sq_entries: count.min(4096),
        cq_entries: count * 4,
        descriptors_max: connections + 8,
        flights_max: connections + 8,
        buffers: u16::try_from(count).unwrap_or(1 << 14),
        buffer_bytes: 2048,
    }
}

fn drive(options: &EchoOptions, server: Server) -> anyhow::Result<Vec<Round>> {
    let mut ring = Ring::new(&ring_options(options.connections))?;
    let message: Bytes =
        (0..options.bytes).map(|index| b"mooring "[index % 8]).collect::<Vec<u8>>().into();
    let connections = connect(&mut ring, options.connections, server.address)?;
    // Of the message in flight on each connection: how many bytes have come back.
    let mut returned = vec![0_usize; connections.len()];
    for (descriptor, slot) in connections.iter().zip(0..) {
        let token = Token::new(slot, 0);
        ring.receive(*descriptor, token, Shots::Many, Start::PollFirst);
        ring.send(*descriptor, token, message.clone())?;
    }
    let run = &options.run;
    let mut rounds = Rounds::start(run.rounds, run.round(), [server.thread, own_id()]);
    let mut operations = 0;
    while rounds.add(std::mem::take(&mut operations)) {
        let seen = ring.stats().completions;
        ring.submit_and_wait(1, Some(SILENCE_MAX))?;
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Received { token, buffer, armed, .. } => {
                    let slot = token.slot() as usize;
                    let bytes = ring.buffer(&buffer);
                    let end = returned[slot] + bytes.len();
                    if message.get(returned[slot]..end) != Some(&*bytes) {
                        bail!("connection {slot} got other bytes back than it sent");
                    }
                    ring.recycle(buffer);
                    returned[slot] = end % message.len();
                    if returned[slot] == 0 {
                        operations += 1;
                        ring.send(connections[slot], token, message.clone())?;
                    }
                    if !armed {
                        ring.receive(connections[slot], token, Shots::Many, Start::PollFirst);
                    }
                }
                Completion::Sent { .. } | Completion::Woken => {}
                other => bail!("the client did not expect {other:?}"),
            }
        }
        ensure!(ring.stats().completions > seen, "no answer for {SILENCE_MAX:?}");
    }
    Ok(rounds.into_done())
}

fn connect(ring: &mut Ring, count: u32, address: SocketAddr) -> anyhow::Result<Vec<Descriptor>> {
    for slot in 0..count {
        ring.connect(Token::new(slot, 0), address, None)?;
    }
    let mut connections = Vec::new();
    while connections.len() < count as usize {
        match ring.next_completion() {
            Some(Completion::Connected { descriptor, .. }) => connections.push(descriptor),
            Some(other) => bail!("connecting: {other:?}"),
            None => ring.submit_and_wait(1, None)?,
        }
    }
    Ok(connections)
}
