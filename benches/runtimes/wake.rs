//! Two ways of waking another core: an eventfd that its ring polls, and a message from ring to
//! ring. Two threads, each with a ring and a CPU, wake each other in turn; both sleep in the kernel
//! in between, as cores do when they are idle.

#![forbid(unsafe_code)]

use std::sync::mpsc;

use anyhow::bail;
use benches::options::RunOptions;
use benches::report::{Environment, Report};
use benches::rounds::{Round, Rounds};
use benches::threads::{ThreadId, own_id, pinned};
use clap::{Parser, ValueEnum};
use uring::{Completion, PeerId, Ring, RingHandle, RingOptions, Waker};

#[derive(Parser, Clone, Copy)]
#[command(about = "Waking another core, there and back")]
struct Options {
    /// How.
    #[arg(long, value_enum)]
    by: By,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq, Debug)]
enum By {
    Eventfd,
    MsgRing,
}

/// How one side reaches the other.
struct Other {
    waker: Waker,
    handle: RingHandle,
    thread: ThreadId,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let driver = uring::probe()?.to_string();
    let (to_first, first_inbox) = mpsc::channel();
    let (to_second, second_inbox) = mpsc::channel();
    let second = pinned("second", options.run.server_cpu, move || {
        let (mut ring, other) = meet(&to_first, &second_inbox)?;
        let peer = ring.add_peer(other.handle.clone());
        while wait(&mut ring)? {
            wake(&mut ring, options.by, peer, &other);
        }
        Ok(())
    })?;
    let first = pinned("first", options.run.client_cpu, move || {
        let (mut ring, other) = meet(&to_second, &first_inbox)?;
        drive(options, &mut ring, &other)
    })?;
    let done = first.join().map_err(|_| anyhow::anyhow!("the first thread panicked"))??;
    drop(second); // Asleep for good; the process ends it.
    let name = format!("wake by {:?}", options.by);
    let environment = Environment::of(driver);
    Report::new(name, "round trips of two wakes", &done, environment).print(options.run.json)?;
    Ok(())
}

fn meet(
    other: &mpsc::Sender<Other>,
    inbox: &mpsc::Receiver<Other>,
) -> anyhow::Result<(Ring, Other)> {
    let ring = Ring::new(&RingOptions::default())?;
    let me = Other { waker: ring.waker(), handle: ring.handle(), thread: own_id() };
    other.send(me).map_err(|_| anyhow::anyhow!("the other thread ended"))?;
    Ok((ring, inbox.recv()?))
}

fn drive(options: Options, ring: &mut Ring, other: &Other) -> anyhow::Result<Vec<Round>> {
    let peer = ring.add_peer(other.handle.clone());
    let run = &options.run;
    let mut rounds = Rounds::start(run.rounds, run.round(), [other.thread, own_id()]);
    while rounds.add(1) {
        wake(ring, options.by, peer, other);
        if !wait(ring)? {
            bail!("woken by nothing");
        }
    }
    Ok(rounds.into_done())
}

fn wake(ring: &mut Ring, by: By, peer: PeerId, other: &Other) {
    match by {
        By::Eventfd => other.waker.wake(),
        // Leaves with the enter that the next wait makes anyway.
        By::MsgRing => ring.wake_peer(peer),
    }
}

fn wait(ring: &mut Ring) -> anyhow::Result<bool> {
    loop {
        match ring.next_completion() {
            Some(Completion::Woken) => return Ok(true),
            Some(other) => bail!("nobody asked for {other:?}"),
            None => ring.submit_and_wait(1, None)?,
        }
    }
}
