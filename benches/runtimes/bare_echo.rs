//! The bare ring as a TCP echo: what one core can do when nothing but bytes has to be moved. No
//! WebSocket, no frames, no routing. The product's figures are ratios of this one.
//!
//! Two threads, each with a ring and a CPU: the server returns what it receives; the client keeps
//! one message in flight on each connection and checks that the same bytes come back.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use anyhow::{Context, bail};
use benches::options::RunOptions;
use benches::report::{Environment, Report};
use benches::rounds::{Round, Rounds};
use benches::threads::{ThreadId, own_id, pinned};
use bytes::{Bytes, BytesMut};
use clap::Parser;
use uring::{
    Completion, Descriptor, ListenOptions, Ring, RingOptions, Shots, Start, Token, Waker, listen,
};

const LISTENER: Token = Token::new(Token::SLOT_MAX, 0);

#[derive(Parser)]
#[command(about = "TCP echo on the bare ring, one core each side")]
struct Options {
    /// Connections, each with one message in flight.
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    #[command(flatten)]
    run: RunOptions,
}

/// What the client must know of the server.
struct Ready {
    address: SocketAddr,
    waker: Waker,
    thread: ThreadId,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let driver = uring::probe()?.to_string();
    let stop = Arc::new(AtomicBool::new(false));
    let (send_ready, ready) = mpsc::channel();
    let ring_options = ring_options(options.connections);
    let server = pinned("server", options.run.server_cpu, {
        let stop = Arc::clone(&stop);
        move || serve(&ring_options, &send_ready, &stop)
    })?;
    // A server that fails to start drops its end; its error is the one to tell.
    let Ok(ready) = ready.recv() else {
        return server.join().map_err(|_| anyhow::anyhow!("the server panicked"))?;
    };
    let name = format!("bare-echo, {} x {} bytes", options.connections, options.bytes);
    let (as_json, waker) = (options.run.json, ready.waker.clone());
    let client = pinned("client", options.run.client_cpu, move || drive(&options, &ready))?;
    let done = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
    stop.store(true, Ordering::Relaxed);
    waker.wake();
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Report::new(name, "round trips", &done, Environment::of(driver)).print(as_json)?;
    Ok(())
}

fn ring_options(connections: u32) -> RingOptions {
    // One message in flight a connection, so that neither buffers nor the queues can run out.
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

fn serve(
    options: &RingOptions,
    ready: &mpsc::Sender<Ready>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let mut ring = Ring::new(options)?;
    let listener = listen("127.0.0.1:0".parse()?, ListenOptions::default())?;
    let address = listener.local_address()?;
    ring.accept(listener, LISTENER);
    let _ = ready.send(Ready { address, waker: ring.waker(), thread: own_id() });
    let mut connections = vec![None; options.descriptors_max as usize];
    let mut pool: Vec<BytesMut> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        ring.submit_and_wait(1, None)?;
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Accepted { descriptor, .. } => {
                    connections[descriptor.index() as usize] = Some(descriptor);
                    let token = Token::new(descriptor.index(), 0);
                    ring.receive(descriptor, token, Shots::Many, Start::PollFirst);
                }
                Completion::Received { token, buffer, armed, .. } => {
                    let connection = connections[token.slot() as usize];
                    let descriptor: Descriptor = connection.context("data of no connection")?;
                    let mut bytes = pool.pop().unwrap_or_default();
                    bytes.extend_from_slice(ring.buffer(&buffer));
                    ring.recycle(buffer);
                    ring.send(descriptor, token, bytes.freeze())?;
                    if !armed {
                        ring.receive(descriptor, token, Shots::Many, Start::PollFirst);
                    }
                }
                Completion::Sent { bytes, .. } => {
                    if let Ok(mut bytes) = bytes.try_into_mut() {
                        bytes.clear();
                        pool.push(bytes);
                    }
                }
                Completion::Woken
                | Completion::EndOfStream { .. }
                | Completion::ReceiveFailed { .. } => {}
                other => bail!("the server did not expect {other:?}"),
            }
        }
    }
    Ok(())
}

fn drive(options: &Options, server: &Ready) -> anyhow::Result<Vec<Round>> {
    let mut ring = Ring::new(&ring_options(options.connections))?;
    let message: Bytes =
        (0..options.bytes).map(|index| b"mooring "[index % 8]).collect::<Vec<u8>>().into();
    let connections = connect(&mut ring, options.connections, server.address)?;
    // Of the message in flight on each connection: how many bytes have come back.
    let mut returned = vec![0_usize; connections.len()];
    for (token, descriptor) in connections.iter().enumerate() {
        let token = Token::new(u32::try_from(token)?, 0);
        ring.receive(*descriptor, token, Shots::Many, Start::PollFirst);
        ring.send(*descriptor, token, message.clone())?;
    }
    let run = &options.run;
    let mut rounds = Rounds::start(run.rounds, run.round(), [server.thread, own_id()]);
    let mut operations = 0;
    while rounds.add(std::mem::take(&mut operations)) {
        ring.submit_and_wait(1, None)?;
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
                    returned[slot] = end;
                    if end == message.len() {
                        returned[slot] = 0;
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
