//! The bare ring as a fan-out: for each trigger that comes in, the same bytes go out to every
//! subscriber. No WebSocket, no frames, no inboxes: what a group's delivery costs when nothing but
//! the sends is left. The product's figures are ratios of this one.
//!
//! Two threads, each with a ring and a CPU. The client has one connection for triggers and the
//! subscribers; it counts what arrives, and keeps a number of triggers under way.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use benches::options::RunOptions;
use benches::report::{Environment, Report};
use benches::rounds::{Round, Rounds};
use benches::sides::{self, Announce, Server};
use benches::threads::own_id;
use bytes::Bytes;
use clap::Parser;
use uring::{
    Completion, Descriptor, ListenOptions, Ring, RingOptions, Shots, Start, Token, listen,
};

const LISTENER: Token = Token::new(Token::SLOT_MAX, 0);
const TRIGGER_BYTES: usize = 64;
/// A server that has delivered nothing for so long has ended.
const SILENCE_MAX: Duration = Duration::from_secs(10);

#[derive(Parser, Clone, Copy)]
#[command(about = "TCP fan-out on the bare ring, one core each side")]
struct Options {
    /// Connections that get the bytes.
    #[arg(long, default_value_t = 100)]
    subscribers: u32,
    /// Bytes of a delivery.
    #[arg(long, default_value_t = 180)]
    bytes: usize,
    /// Triggers under way.
    #[arg(long, default_value_t = 8)]
    in_flight: u64,
    #[command(flatten)]
    run: RunOptions,
}

/// A connection as the server sees it: the first one is the trigger's.
#[derive(Clone, Copy)]
struct Subscriber {
    descriptor: Descriptor,
    /// Deliveries that wait for the one being sent.
    pending: u64,
    is_sending: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let driver = uring::probe()?.to_string();
    let serve = move |announce| serve(options, announce);
    let done = sides::run(&options.run, serve, move |server| drive(options, server))?;
    let Options { subscribers, bytes, in_flight, run } = options;
    let name = format!("bare-fanout, {in_flight} triggers to {subscribers} x {bytes} bytes");
    Report::new(name, "deliveries", &done, Environment::of(driver)).print(run.json)?;
    Ok(())
}

fn ring_options(subscribers: u32) -> RingOptions {
    RingOptions {
        sq_entries: 1024,
        cq_entries: 16384,
        descriptors_max: subscribers + 8,
        flights_max: subscribers + 8,
        buffers: 4096,
        buffer_bytes: 4096,
    }
}

fn serve(options: Options, announce: Announce) -> anyhow::Result<()> {
    let mut ring = Ring::new(&ring_options(options.subscribers))?;
    let listener = listen("127.0.0.1:0".parse()?, ListenOptions::default())?;
    let address = listener.local_address()?;
    ring.accept(listener, LISTENER);
    announce.listening_at(address);
    let message = Bytes::from(vec![b'm'; options.bytes]);
    let mut connections: Vec<Subscriber> = Vec::new();
    let mut trigger_bytes = 0;
    loop {
        ring.submit_and_wait(1, None)?;
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Accepted { descriptor, .. } => {
                    let slot = u32::try_from(connections.len())?;
                    connections.push(Subscriber { descriptor, pending: 0, is_sending: false });
                    if slot == 0 {
                        ring.receive(descriptor, Token::new(0, 0), Shots::Many, Start::PollFirst);
                    }
                }
                Completion::Received { token, buffer, armed, .. } => {
                    trigger_bytes += ring.buffer(&buffer).len();
                    ring.recycle(buffer);
                    let triggers = (trigger_bytes / TRIGGER_BYTES) as u64;
                    trigger_bytes %= TRIGGER_BYTES;
                    for (subscriber, slot) in connections[1..].iter_mut().zip(1..) {
                        subscriber.pending += triggers;
                        deliver(&mut ring, subscriber, slot, &message)?;
                    }
                    if !armed {
                        let trigger = connections[0].descriptor;
                        ring.receive(trigger, token, Shots::Many, Start::PollFirst);
                    }
                }
                Completion::Sent { token, .. } => {
                    let subscriber = &mut connections[token.slot() as usize];
                    subscriber.is_sending = false;
                    deliver(&mut ring, subscriber, token.slot(), &message)?;
                }
                Completion::EndOfStream { .. } | Completion::ReceiveFailed { .. } => {}
                other => bail!("the server did not expect {other:?}"),
            }
        }
    }
}

/// Sends what is pending unless a send is under way: two at once might mix their bytes.
fn deliver(
    ring: &mut Ring,
    subscriber: &mut Subscriber,
    slot: u32,
    message: &Bytes,
) -> anyhow::Result<()> {
    if subscriber.pending == 0 || subscriber.is_sending {
        return Ok(());
    }
    subscriber.pending -= 1;
    subscriber.is_sending = true;
    ring.send(subscriber.descriptor, Token::new(slot, 0), message.clone())?;
    Ok(())
}

fn drive(options: Options, server: Server) -> anyhow::Result<Vec<Round>> {
    let mut ring = Ring::new(&ring_options(options.subscribers))?;
    // One after the other, so that the server takes the first for the trigger's.
    let trigger = connect(&mut ring, 0, server.address)?;
    let mut subscribers = Vec::new();
    for slot in 1..=options.subscribers {
        let descriptor = connect(&mut ring, slot, server.address)?;
        ring.receive(descriptor, Token::new(slot, 0), Shots::Many, Start::PollFirst);
        subscribers.push(descriptor);
    }
    let bytes_of_trigger = options.bytes as u64 * u64::from(options.subscribers);
    let one = [b't'; TRIGGER_BYTES];
    let (mut sent, mut is_sending, mut received) = (0, false, 0_u64);
    let run = &options.run;
    let mut rounds = Rounds::start(run.rounds, run.round(), [server.thread, own_id()]);
    let mut counted = 0;
    loop {
        let delivered = received / options.bytes as u64;
        if !rounds.add(delivered - counted) {
            return Ok(rounds.into_done());
        }
        counted = delivered;
        let due = received / bytes_of_trigger + options.in_flight - sent;
        if due > 0 && !is_sending {
            let triggers = one.repeat(usize::try_from(due)?);
            ring.send(trigger, Token::new(0, 0), Bytes::from(triggers))?;
            (sent, is_sending) = (sent + due, true);
        }
        let seen = ring.stats().completions;
        ring.submit_and_wait(1, Some(SILENCE_MAX))?;
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Received { token, buffer, armed, .. } => {
                    received += ring.buffer(&buffer).len() as u64;
                    ring.recycle(buffer);
                    if !armed {
                        rearm(&mut ring, &subscribers, token)?;
                    }
                }
                Completion::BuffersExhausted { token } => rearm(&mut ring, &subscribers, token)?,
                Completion::Sent { .. } => is_sending = false,
                Completion::Woken => {}
                other => bail!("the client did not expect {other:?}"),
            }
        }
        ensure!(ring.stats().completions > seen, "no delivery for {SILENCE_MAX:?}");
    }
}

fn rearm(ring: &mut Ring, subscribers: &[Descriptor], token: Token) -> anyhow::Result<()> {
    let index = (token.slot() as usize).checked_sub(1).context("the trigger gets nothing")?;
    ring.receive(subscribers[index], token, Shots::Many, Start::PollFirst);
    Ok(())
}

fn connect(ring: &mut Ring, slot: u32, address: SocketAddr) -> anyhow::Result<Descriptor> {
    ring.connect(Token::new(slot, 0), address, None)?;
    loop {
        ring.submit_and_wait(1, None)?;
        match ring.next_completion() {
            Some(Completion::Connected { descriptor, .. }) => return Ok(descriptor),
            Some(other) => bail!("connecting: {other:?}"),
            None => {}
        }
    }
}
