//! One core's thread where there is no io_uring: the same contract as [`crate::reactor`] on
//! monoio's driver for epoll, in the same turns, and as little policy.
//!
//! What differs is below the events. A socket is an ordinary descriptor of the process, its place
//! in the core's table a number that [`Slots`] gives out. Nothing is armed: a socket that becomes
//! ready knocks, and is then read from into one buffer that all sockets of the core share, or
//! written to. So a quiet connection costs no buffer here either. A connection goes to another core
//! through a bounded queue, ahead of the word about it in the mesh. Sends own their bytes, and are
//! tried at once.

mod bits;
mod doors;
mod glance;
mod sockets;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use router::sessions::ConnId;

use crate::clock::Now;
use crate::event::{Effect, Effects, Event};
use crate::memory::Part;
use crate::policy::Policy;
use crate::reactor::{FLUSH_EVERY, OWED_RETRY, Parts};
use crate::wheel::Tick;
use bits::{Knocks, Slots};
use doors::{Came, Door, is_watched};
use glance::Glance;
use sockets::{Done, Heard, Sockets};

/// Times that one socket is read from in a turn, so that one that never falls silent does not hold
/// up the others.
const READS_PER_TURN: u32 = 4;

/// Connections accepted from one listening socket in a turn, for the same reason.
const ACCEPTS_PER_TURN: u32 = 64;

/// Connections on their way to one core. Beyond it the next one is refused as by a full table.
const PASSING_MAX: usize = 4096;

/// Events that the kernel tells at once; it keeps the others.
const EVENTS_MAX: u32 = 1024;

/// Ticks between two words in the log about a paused accept.
const PAUSED_TOLD_TICKS: u32 = 200;

/// What the other cores know of a core's table: where there is room, and the way to it.
#[derive(Debug)]
pub(crate) struct Entrance {
    slots: Slots,
    passing: ArrayQueue<(u32, TcpStream)>,
}

impl Entrance {
    /// To a table of `places` places.
    pub(crate) fn new(places: u32) -> Arc<Self> {
        let passing = ArrayQueue::new(PASSING_MAX.min(places as usize));
        Arc::new(Self { slots: Slots::new(places), passing })
    }

    /// Puts a connection into the table; its place there, or `None` if there is no room.
    fn pass(&self, stream: TcpStream) -> Option<u32> {
        let slot = self.slots.claim()?;
        let refused = self.passing.push((slot, stream)).is_err();
        if refused {
            self.slots.release(slot);
        }
        (!refused).then_some(slot)
    }
}

/// What only this kind of core is made of.
pub(crate) struct Io {
    /// Its listening sockets.
    pub(crate) listeners: Vec<TcpListener>,
    /// All cores' entrances.
    pub(crate) entrances: Vec<Arc<Entrance>>,
    /// Bytes of the buffer that its sockets share.
    pub(crate) buffer_bytes: usize,
}

/// Runs one core on this thread until the process ends; `started` is called when it accepts.
///
/// # Errors
/// What the kernel could not give: an epoll instance, or a descriptor to watch a listening socket
/// with.
pub(crate) fn run<P: Policy>(parts: Parts<P>, io: Io, started: impl FnOnce()) -> io::Result<()> {
    let builder = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().with_entries(EVENTS_MAX);
    builder.enable_timer().build()?.block_on(async {
        let core = Core::new(parts, io)?;
        started();
        core.run().await
    })
}

/// One core.
struct Core<P> {
    parts: Parts<P>,
    effects: Effects,
    now: Now,
    flush_by: Duration,
    knocks: Arc<Knocks>,
    /// Memory for those who knocked.
    knocked: Vec<u32>,
    sockets: Sockets,
    buffer: Box<[u8]>,
    doors: Vec<Door>,
    entrance: Arc<Entrance>,
    entrances: Vec<Arc<Entrance>>,
    /// What other threads wake this one with, as monoio watches it.
    bell: monoio::net::UnixStream,
    bell_waker: Waker,
    glance: Glance,
    /// When to look whether there is room again for those at the doors.
    retry_at: Tick,
    /// Enough stand in line: nobody is let in.
    is_held: bool,
    /// When it was said last that there is none.
    paused_told: Option<Tick>,
    /// Questions that found the store's queue full.
    unasked: VecDeque<(u64, store::Read)>,
    is_quiet: bool,
    evacuation_seen: u32,
}

impl<P: Policy> Core<P> {
    fn new(parts: Parts<P>, io: Io) -> io::Result<Self> {
        let Io { listeners, entrances, buffer_bytes } = io;
        let index = usize::from(parts.core.0);
        let entrance = Arc::clone(&entrances[index]);
        // Numbers of sockets are their places; behind them are the doors', then the bell's.
        let places = entrance.slots.count();
        let door_count = u32::try_from(listeners.len()).expect("few");
        let knocks = Knocks::new(places + door_count + 1);
        let doors: io::Result<Vec<_>> = (places..)
            .zip(listeners)
            .map(|(number, listener)| Door::new(listener, knocks.waker(number)))
            .collect();
        // It is an eventfd, for which monoio has no type: what it watches is any descriptor.
        let bell = UnixStream::from(parts.wakers[index].as_fd().try_clone_to_owned()?);
        let core = Self {
            effects: Effects::new(),
            now: parts.clock.now(),
            flush_by: FLUSH_EVERY,
            knocked: Vec::new(),
            sockets: Sockets::new(Arc::clone(&knocks)),
            buffer: vec![0; buffer_bytes].into(),
            doors: doors?,
            entrance,
            entrances,
            bell: monoio::net::UnixStream::from_std(bell)?,
            bell_waker: knocks.waker(places + door_count),
            glance: Glance::start(),
            retry_at: Tick(u32::MAX),
            is_held: false,
            paused_told: None,
            unasked: VecDeque::new(),
            is_quiet: false,
            evacuation_seen: 0,
            knocks,
            parts,
        };
        // All are looked at once: that leaves their wakers behind.
        (places..=places + door_count).for_each(|number| core.knocks.note(number));
        Ok(core)
    }

    async fn run(mut self) -> io::Result<()> {
        poll_fn(|context| {
            self.knocks.listen(context.waker());
            Poll::Ready(())
        })
        .await;
        loop {
            self.now = self.parts.clock.now();
            self.take_knocks();
            self.take_done();
            self.take_stored();
            let (pressure, full) = (self.parts.store.pressure(), self.parts.store.is_full());
            self.tell(Event::TurnBegins { pressure, full });
            let ends = self.parts.ending.requested.load(Ordering::Relaxed);
            if ends && !self.parts.shard.is_draining() {
                self.tell(Event::Drain);
            }
            let evacuation = &self.parts.ending.evacuation;
            if let Some(order) = evacuation.changed(&mut self.evacuation_seen) {
                self.tell(Event::Evacuate(order));
            }
            if self.parts.clock.elapsed() < self.flush_by {
                self.tell(Event::TurnGoesOn);
                self.wake_others();
                self.glance.look().await;
                if self.has_more() {
                    continue;
                }
            }
            self.tell(Event::TurnEnds);
            // Most sends have ended already, and the next of their connections can begin.
            self.take_done();
            self.wake_others();
            self.publish();
            if self.is_over() {
                return Ok(());
            }
            self.wait().await;
            self.flush_by = self.parts.clock.elapsed() + FLUSH_EVERY;
        }
    }

    /// Whether there is something to handle already.
    fn has_more(&mut self) -> bool {
        self.knocks.any()
            || self.sockets.has_done()
            || self.parts.shard.has_work()
            || self.parts.store.has_completions(self.parts.core)
    }

    /// Tells the shard, and does what it wants.
    fn tell(&mut self, event: Event<'_>) {
        self.parts.shard.handle(event, self.now, &mut self.effects);
        self.apply();
    }

    fn take_knocks(&mut self) {
        let mut knocked = std::mem::take(&mut self.knocked);
        self.knocks.take(&mut knocked);
        let places = self.entrance.slots.count();
        for number in knocked.drain(..) {
            match number.checked_sub(places).map(|index| index as usize) {
                None => self.look_at(number),
                Some(index) if index < self.doors.len() => self.open(index),
                // Or that of a door that is closed by now, to no effect.
                Some(_) => self.answer_bell(),
            }
        }
        self.knocked = knocked;
        self.open_again();
    }

    /// Sends and receives what the socket takes and has.
    fn look_at(&mut self, slot: u32) {
        self.sockets.send_on(slot);
        for _ in 0..READS_PER_TURN {
            match self.sockets.receive(slot, &mut self.buffer) {
                Heard::Nothing => return,
                Heard::End(conn) => return self.tell(Event::Disconnected { conn }),
                Heard::Bytes(conn, count, armed) => {
                    let bytes = &mut self.buffer[..count];
                    let event = Event::Received { conn, bytes, armed };
                    self.parts.shard.handle(event, self.now, &mut self.effects);
                    self.apply();
                }
            }
        }
        self.knocks.note(slot);
    }

    fn answer_bell(&mut self) {
        loop {
            // Emptied, or it would not ring again; it is empty if somebody was faster.
            let _ =
                rustix::io::read(&self.parts.wakers[usize::from(self.parts.core.0)], &mut [0; 8]);
            if is_watched(self.bell.readable(false), &self.bell_waker) {
                return;
            }
        }
    }

    /// Lets in who is at a door.
    fn open(&mut self, index: usize) {
        if self.is_held {
            return; // Opened again when it is not.
        }
        let with_second = self.parts.cores > 1;
        for _ in 0..ACCEPTS_PER_TURN {
            // A drain has closed it.
            let Some(door) = self.doors.get_mut(index) else { return };
            let Some(slot) = self.entrance.slots.claim() else {
                return self.pause(index, "every place of this core is taken");
            };
            match door.accept(with_second) {
                Came::In(stream, second) => {
                    door.is_paused = false;
                    if let Err(error) = self.sockets.put(slot, stream, second) {
                        tracing::warn!(%error, "a connection was lost: the kernel cannot watch it");
                        self.entrance.slots.release(slot);
                        continue;
                    }
                    self.tell(Event::Accepted { slot });
                }
                Came::Nobody => {
                    door.is_paused = false;
                    return self.entrance.slots.release(slot);
                }
                Came::NoRoom(error) => {
                    self.entrance.slots.release(slot);
                    return self.pause(index, &error.to_string());
                }
            }
        }
        self.knock_at(index);
    }

    /// Who is at the door waits there until there is room.
    fn pause(&mut self, index: usize, why: &str) {
        self.retry_at = self.now.tick.plus(1);
        let Some(door) = self.doors.get_mut(index) else { return };
        if std::mem::replace(&mut door.is_paused, true) {
            return;
        }
        self.parts.shard.counts().accepts_paused += 1;
        if self.paused_told.is_none_or(|told| told.plus(PAUSED_TOLD_TICKS) <= self.now.tick) {
            self.paused_told = Some(self.now.tick);
            tracing::warn!(core = self.parts.core.0, why, "accepting paused until some have left");
        }
    }

    /// Looks whether there is room again: a descriptor that any core has closed will do.
    fn open_again(&mut self) {
        if self.retry_at > self.now.tick {
            return;
        }
        self.retry_at = Tick(u32::MAX);
        for index in 0..self.doors.len() {
            if self.doors[index].is_paused {
                self.knock_at(index);
            }
        }
    }

    fn knock_at(&self, door: usize) {
        let door = u32::try_from(door).expect("few");
        self.knocks.note(self.entrance.slots.count() + door);
    }

    /// Tells of all that has ended, and of what ends by that.
    fn take_done(&mut self) {
        while let Some(done) = self.sockets.next_done() {
            self.tell(match done {
                Done::Sent { conn, bytes, complete } => Event::Sent { conn, bytes, complete },
                Done::Stopped(conn) => Event::ReceiveStopped { conn },
                Done::Broken(conn) => Event::Disconnected { conn },
                Done::Passed { conn, slot } => Event::Passed { conn, slot },
            });
        }
    }

    fn take_stored(&mut self) {
        let core = self.parts.core;
        while let Some(through) = self.parts.store.poll_through(core) {
            self.tell(Event::Stored(through));
        }
        while let Some(answer) = self.parts.store.poll_answer(core) {
            self.tell(Event::Answered(answer));
        }
        while let Some((ticket, read)) = self.unasked.pop_front() {
            if let Err(read) = self.parts.store.try_read(core, ticket, read) {
                self.unasked.push_front((ticket, read));
                return;
            }
        }
    }

    fn apply(&mut self) {
        self.admit();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.apply_one(effect);
        }
        self.effects = effects;
    }

    /// Takes in what other cores have passed here. Each was there before the word about it, which
    /// the shard may just have read.
    fn admit(&mut self) {
        while let Some((slot, stream)) = self.entrance.passing.pop() {
            if let Err(error) = self.sockets.put(slot, stream, None) {
                // The shard finds that it is broken when it wants something of it.
                tracing::warn!(%error, "a connection was lost: the kernel cannot watch it");
            }
        }
    }

    fn apply_one(&mut self, effect: Effect) {
        match effect {
            Effect::Send(conn, bytes) => self.sockets.send(conn, bytes),
            Effect::ReceiveOnce(conn) => self.sockets.receive_once(conn),
            Effect::ReceiveMany(conn) => self.sockets.receive_many(conn),
            Effect::StopReceiving(conn) => self.sockets.stop_receiving(conn),
            Effect::Pass(conn, target) => {
                let entrance = &self.entrances[usize::from(target.0)];
                let stream = self.sockets.take_out(conn);
                let slot = stream.and_then(|stream| entrance.pass(stream));
                self.sockets.passed(conn, slot);
            }
            Effect::Close { conn, .. } => self.close(conn),
            Effect::Submit(batch) => {
                let submitted = self.parts.store.try_submit(batch);
                assert!(submitted.is_ok(), "the shard has no more batches than the store takes");
            }
            Effect::Read(ticket, read) => {
                if let Err(read) = self.parts.store.try_read(self.parts.core, ticket, read) {
                    self.unasked.push_back((ticket, read));
                }
            }
            Effect::PauseAccepting => self.is_held = true,
            Effect::ResumeAccepting => {
                self.is_held = false;
                (0..self.doors.len()).for_each(|door| self.knock_at(door));
            }
            Effect::StopAccepting => self.doors.clear(),
            Effect::Exit => {
                self.is_quiet = true;
                self.parts.ending.quiet.fetch_add(1, Ordering::Relaxed);
                // The others may be waiting for the last one.
                self.parts.wakers.iter().for_each(uring::Waker::wake);
            }
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.sockets.close(conn);
        self.entrance.slots.release(conn.slot);
        self.retry_at = self.retry_at.min(self.now.tick);
    }

    fn wake_others(&mut self) {
        let Parts { shard, wakers, .. } = &mut self.parts;
        for core in shard.mesh().drain_wakes() {
            wakers[usize::from(core.0)].wake();
        }
    }

    fn publish(&mut self) {
        let counts = self.parts.shard.counts();
        counts.memory.set(Part::ReceiveBuffers, self.buffer.len());
        self.parts.metrics.cores[usize::from(self.parts.core.0)].publish(counts);
    }

    fn is_over(&self) -> bool {
        self.is_quiet && self.parts.ending.quiet.load(Ordering::Relaxed) == self.parts.cores
    }

    /// Sleeps until somebody knocks, or a tick is due.
    async fn wait(&mut self) {
        let bell = Arc::clone(&self.parts.bells[usize::from(self.parts.core.0)]);
        bell.announce_sleep();
        if self.has_more() {
            // Not at all; but the kernel is asked in each turn, however long it takes.
            self.glance.look().await;
        } else {
            let timeout = if self.parts.shard.mesh().owed() > 0 {
                OWED_RETRY // Nobody wakes us when a peer's lane has room again.
            } else {
                self.parts.clock.until_after(self.now.tick)
            };
            let mut timer = pin!(monoio::time::sleep(timeout));
            poll_fn(
                |context| {
                    if self.knocks.any() { Poll::Ready(()) } else { timer.as_mut().poll(context) }
                },
            )
            .await;
        }
        bell.awake();
    }
}
