//! One core's thread: completions in, events to the shard, its effects into the ring.
//!
//! No policy: what to do is the shard's, this only does it. A turn is: look at what has completed,
//! what the store has finished and what the mesh holds; submit; and go on as long as there is more.
//! When there is not, what has gathered for each connection is sent and the core sleeps. So an
//! idle core sends at once, and a busy one sends a connection's frames together, at least every
//! `FLUSH_EVERY`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use router::mesh::Bell;
use router::sessions::ConnId;
use uring::{Completion, Descriptor, Listener, PeerId, Ring, RingError, Shots, Start, Token};
use wire::CoreId;

use crate::clock::{Clock, Now};
use crate::evacuation::Evacuation;
use crate::event::{Effect, Effects, Event};
use crate::listening::{Ask, Listening, News};
use crate::memory::Part;
use crate::metrics::Metrics;
use crate::policy::{Policy, Starved};
use crate::shard::Shard;
use crate::wheel::Tick;

/// Completions taken before the turn ends, so that what they asked for is not held up by those
/// that keep coming.
const COMPLETIONS_PER_TURN: usize = 2048;

/// How long a busy core lets frames gather. It bounds what batching may add to a latency; what it
/// saves is in docs/decisions, 0004.
pub(crate) const FLUSH_EVERY: Duration = Duration::from_millis(5);

/// When to look again whether a peer's full lane has room.
pub(crate) const OWED_RETRY: Duration = Duration::from_millis(1);

/// Tokens that are not a connection's: above every slot of the table.
const LISTENER_SLOT: u32 = Token::SLOT_MAX;
const SPARE: Token = Token::new(Token::SLOT_MAX - 1, 0);

/// What the cores of a run share to end together.
#[derive(Debug, Default)]
pub struct Ending {
    /// The process is to end.
    pub requested: AtomicBool,
    /// Cores that owe nothing any more.
    pub quiet: AtomicU16,
    /// Sessions are to be sent away, and the process goes on.
    pub evacuation: Evacuation,
}

/// One core.
pub struct Reactor<P = Shard> {
    core: CoreId,
    cores: u16,
    listeners: usize,
    ring: Ring,
    peers: Vec<PeerId>,
    shard: P,
    store: Arc<store::Service>,
    metrics: Arc<Metrics>,
    clock: Clock,
    bell: Arc<Bell>,
    wakers: Vec<uring::Waker>,
    ending: Arc<Ending>,
    effects: Effects,
    /// The time of this turn: read once, since a turn is much shorter than a tick.
    now: Now,
    /// Until when what is to be sent may gather, on the clock.
    flush_by: Duration,
    /// How connections are received from until further notice.
    listening: Listening,
    /// Receives that found no buffer: re-armed when there are some.
    starved: Vec<Token>,
    /// Listeners whose accepting has ended: for want of room, or while the door is held.
    idle_listeners: Vec<Token>,
    door: Door,
    /// Questions that found the store's queue full.
    unasked: std::collections::VecDeque<(u64, store::Read)>,
    is_quiet: bool,
    evacuation_seen: u32,
    /// The tick of the last [`Self::calm`].
    calmed_at: Tick,
}

/// Whether a core accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    /// Not until further notice.
    Held,
    /// Not any more.
    Shut,
}

/// What a core is made of, whatever it runs on.
pub struct Parts<P = Shard> {
    /// Which core it is, of how many.
    pub core: CoreId,
    /// Of how many.
    pub cores: u16,
    /// All cores' wakers.
    pub wakers: Vec<uring::Waker>,
    /// All cores' bells.
    pub bells: Vec<Arc<Bell>>,
    /// Its policy.
    pub shard: P,
    /// The store.
    pub store: Arc<store::Service>,
    /// Where it publishes its counts.
    pub metrics: Arc<Metrics>,
    /// How all end together.
    pub ending: Arc<Ending>,
    /// Its clock.
    pub clock: Clock,
}

impl<P: Policy> Reactor<P> {
    /// Puts the parts together and begins to accept. The ring is enabled on this thread, and
    /// `handles` are all cores', in their order.
    #[must_use]
    pub fn new(
        parts: Parts<P>,
        mut ring: Ring,
        handles: Vec<uring::RingHandle>,
        listeners: Vec<Listener>,
    ) -> Self {
        let Parts { core, cores, wakers, bells, .. } = parts;
        let peers = handles.into_iter().map(|handle| ring.add_peer(handle)).collect();
        let listener_count = listeners.len();
        for (index, listener) in (0..).zip(listeners) {
            ring.accept(listener, Token::new(LISTENER_SLOT, index));
        }
        Self {
            core,
            cores,
            listeners: listener_count,
            ring,
            peers,
            shard: parts.shard,
            store: parts.store,
            metrics: parts.metrics,
            now: parts.clock.now(),
            flush_by: FLUSH_EVERY,
            clock: parts.clock,
            bell: Arc::clone(&bells[usize::from(core.0)]),
            wakers,
            ending: parts.ending,
            effects: Effects::new(),
            listening: Listening::default(),
            starved: Vec::new(),
            idle_listeners: Vec::new(),
            door: Door::Open,
            unasked: std::collections::VecDeque::new(),
            is_quiet: false,
            evacuation_seen: 0,
            calmed_at: Tick(0),
        }
    }

    /// Runs until the process ends.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    pub fn run(mut self) -> Result<(), RingError> {
        loop {
            self.now = self.clock.now();
            self.take_completions();
            self.take_stored();
            let (pressure, full) = (self.store.pressure(), self.store.is_full());
            self.tell(Event::TurnBegins { pressure, full });
            if self.ending.requested.load(Ordering::Relaxed) && !self.shard.is_draining() {
                self.tell(Event::Drain);
            }
            if let Some(order) = self.ending.evacuation.changed(&mut self.evacuation_seen) {
                self.tell(Event::Evacuate(order));
            }
            if self.clock.elapsed() < self.flush_by {
                self.tell(Event::TurnGoesOn);
                self.wake_others();
                self.ring.submit_and_wait(0, Some(Duration::ZERO))?;
                if self.has_more() {
                    continue;
                }
            }
            self.tell(Event::TurnEnds);
            self.wake_others();
            self.rearm();
            self.calm();
            self.publish();
            if self.is_over() {
                return Ok(());
            }
            self.wait()?;
            self.flush_by = self.clock.elapsed() + FLUSH_EVERY;
        }
    }

    /// Whether there is something to handle already.
    fn has_more(&mut self) -> bool {
        self.ring.is_ready() || self.shard.has_work() || self.store.has_completions(self.core)
    }

    /// Tells the shard, and does what it wants.
    fn tell(&mut self, event: Event<'_>) {
        self.shard.handle(event, self.now, &mut self.effects);
        self.apply();
    }

    fn take_completions(&mut self) {
        for _ in 0..COMPLETIONS_PER_TURN {
            let Some(completion) = self.ring.next_completion() else { return };
            self.complete(completion);
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, buffer, armed, .. } => {
                let (armed, ask) = self.listening.received(conn(token), armed, self.now.tick);
                self.listen(conn(token), ask);
                let bytes = self.ring.buffer(&buffer);
                let event = Event::Received { conn: conn(token), bytes, armed };
                self.shard.handle(event, self.now, &mut self.effects);
                self.ring.recycle(buffer);
                self.apply();
            }
            Completion::Sent { token, bytes, result } => {
                let complete = result.is_ok_and(|sent| sent as usize == bytes.len());
                self.tell(Event::Sent { conn: conn(token), bytes, complete });
            }
            Completion::Accepted { token, descriptor, armed } => {
                if !armed {
                    self.accept_ended(token);
                }
                self.tell(Event::Accepted { slot: descriptor.index() });
            }
            Completion::AcceptFailed { token, errno } => {
                if errno == rustix::io::Errno::CANCELED {
                    self.accept_ended(token);
                } else {
                    self.shard.counts().accepts_paused += 1;
                    tracing::warn!(core = self.core.0, %errno, "accepting paused");
                    self.idle_listeners.push(token);
                }
            }
            Completion::BuffersExhausted { token } => self.starved.push(token),
            Completion::Ready { token, .. } => {
                let news = self.listening.ready(conn(token), self.now.tick);
                self.heed(conn(token), news);
            }
            Completion::ReceiveFailed { token, errno: rustix::io::Errno::CANCELED }
            | Completion::PollFailed { token, errno: rustix::io::Errno::CANCELED } => {
                let news = self.listening.cancelled(conn(token));
                self.heed(conn(token), news);
            }
            Completion::EndOfStream { token }
            | Completion::ReceiveFailed { token, .. }
            | Completion::PollFailed { token, .. } => {
                self.tell(Event::Disconnected { conn: conn(token) });
            }
            Completion::Passed { token, result } => {
                let slot = result.ok().map(Descriptor::index);
                self.tell(Event::Passed { conn: conn(token), slot });
            }
            Completion::Closed { .. } => {
                if self.door == Door::Open
                    && let Some(listener) = self.idle_listeners.pop()
                {
                    self.ring.rearm_accept(listener);
                }
            }
            Completion::Woken
            | Completion::Cancelled { .. }
            | Completion::ShutDown { .. }
            | Completion::Connected { .. }
            | Completion::ConnectFailed { .. } => {}
        }
    }

    fn take_stored(&mut self) {
        while let Some(through) = self.store.poll_through(self.core) {
            self.tell(Event::Stored(through));
        }
        while let Some(answer) = self.store.poll_answer(self.core) {
            self.tell(Event::Answered(answer));
        }
        while let Some((ticket, read)) = self.unasked.pop_front() {
            if let Err(read) = self.store.try_read(self.core, ticket, read) {
                self.unasked.push_front((ticket, read));
                return;
            }
        }
    }

    fn apply(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.apply_one(effect);
        }
        self.effects = effects;
    }

    fn apply_one(&mut self, effect: Effect) {
        match effect {
            Effect::Send(conn, bytes) => {
                // One send a connection, and as many flights as connections: there is room.
                let sent = self.ring.send(descriptor(conn), token(conn), bytes);
                assert!(sent.is_ok(), "a flight for each connection");
            }
            Effect::ReceiveMany(conn) => {
                let ask = self.listening.begin(conn);
                self.listen(conn, Some(ask));
            }
            Effect::ReceiveOnce(conn) => {
                self.ring.receive(descriptor(conn), token(conn), Shots::One, Start::PollFirst);
            }
            Effect::StopReceiving(conn) => {
                let ask = self.listening.stop(conn);
                self.listen(conn, Some(ask));
            }
            Effect::Pass(conn, target) => {
                let peer = self.peers[usize::from(target.0)];
                self.ring.pass(descriptor(conn), token(conn), peer);
            }
            Effect::Close { conn, sending, receiving } => {
                let ask = self.listening.end(conn);
                if sending {
                    self.ring.cancel_all(descriptor(conn), SPARE);
                } else if receiving {
                    self.listen(conn, Some(ask));
                }
                self.ring.close(descriptor(conn), token(conn));
            }
            Effect::Submit(batch) => {
                let submitted = self.store.try_submit(batch);
                assert!(submitted.is_ok(), "the shard has no more batches than the store takes");
            }
            Effect::Read(ticket, read) => {
                if let Err(read) = self.store.try_read(self.core, ticket, read) {
                    self.unasked.push_back((ticket, read));
                }
            }
            Effect::PauseAccepting => self.close_door(Door::Held),
            Effect::ResumeAccepting => {
                self.door = Door::Open;
                // Those whose cancellation is still under way follow when it is through.
                while let Some(listener) = self.idle_listeners.pop() {
                    self.ring.rearm_accept(listener);
                }
            }
            Effect::StopAccepting => self.close_door(Door::Shut),
            Effect::Exit => {
                self.is_quiet = true;
                self.ending.quiet.fetch_add(1, Ordering::Relaxed);
                // The others may be waiting for the last one.
                self.wakers.iter().for_each(uring::Waker::wake);
            }
        }
    }

    fn close_door(&mut self, door: Door) {
        self.door = door;
        for index in 0..u32::try_from(self.listeners).expect("few") {
            self.ring.cancel_accept(Token::new(LISTENER_SLOT, index), SPARE);
        }
    }

    /// A listener is not armed any more.
    fn accept_ended(&mut self, listener: Token) {
        match self.door {
            Door::Open => self.ring.rearm_accept(listener),
            Door::Held => self.idle_listeners.push(listener),
            Door::Shut => {}
        }
    }

    fn listen(&mut self, conn: ConnId, ask: Option<Ask>) {
        let Some(ask) = ask else { return };
        let (descriptor, token) = (descriptor(conn), token(conn));
        match ask {
            Ask::Poll => self.ring.poll(descriptor, token, Shots::One),
            Ask::ReceiveOnce => {
                self.ring.receive(descriptor, token, Shots::One, Start::TryFirst);
            }
            Ask::ReceiveMany => {
                self.ring.receive(descriptor, token, Shots::Many, Start::TryFirst);
            }
            Ask::CancelPoll => self.ring.cancel_poll(token, SPARE),
            Ask::CancelReceive => self.ring.cancel_receive(token, SPARE),
        }
    }

    fn heed(&mut self, conn: ConnId, news: News) {
        match news {
            News::Goes(ask) => self.listen(conn, ask),
            News::Stopped => self.tell(Event::ReceiveStopped { conn }),
        }
    }

    /// Once a tick: who has become quiet is polled.
    fn calm(&mut self) {
        if self.calmed_at == self.now.tick {
            return;
        }
        self.calmed_at = self.now.tick;
        let ring = &mut self.ring;
        self.listening.sweep(self.now.tick, |conn| ring.cancel_receive(token(conn), SPARE));
    }

    fn wake_others(&mut self) {
        for core in self.shard.mesh().drain_wakes() {
            self.wakers[usize::from(core.0)].wake();
        }
    }

    /// Receives that were starved of buffers, as far as there are some again.
    fn rearm(&mut self) {
        let count = self.starved.len().min(usize::from(self.ring.buffers_free()));
        let mut starved = std::mem::take(&mut self.starved);
        for token in starved.drain(..count) {
            let id = conn(token);
            match self.shard.starved(id) {
                Starved::Gone => {}
                Starved::Stopped => {
                    self.tell(Event::ReceiveStopped { conn: id });
                }
                Starved::Once => {
                    self.ring.receive(descriptor(id), token, Shots::One, Start::PollFirst);
                }
                Starved::Many => {
                    let ask = self.listening.begin(id);
                    self.listen(id, Some(ask));
                }
            }
        }
        self.starved = starved;
    }

    fn publish(&mut self) {
        let stats = self.ring.stats();
        let counts = self.shard.counts();
        counts.ring_enters = stats.enters;
        counts.ring_buffers_exhausted = stats.buffers_exhausted;
        counts.ring_overflows = stats.overflows;
        counts.memory.set(Part::ReceiveBuffers, self.ring.buffer_memory_bytes());
        counts.memory.set(Part::Listening, self.listening.memory_bytes());
        self.metrics.cores[usize::from(self.core.0)].publish(counts);
    }

    fn is_over(&self) -> bool {
        self.is_quiet && self.ending.quiet.load(Ordering::Relaxed) == self.cores
    }

    /// Submits, and sleeps until something completes, is pushed, or a tick is due.
    fn wait(&mut self) -> Result<(), RingError> {
        self.bell.announce_sleep();
        let (want, timeout) = if self.has_more() {
            (0, Duration::ZERO)
        } else if self.shard.mesh().owed() > 0 {
            (1, OWED_RETRY) // Nobody wakes us when a peer's lane has room again.
        } else {
            (1, self.clock.until_after(self.now.tick))
        };
        let waited = self.ring.submit_and_wait(want, Some(timeout));
        self.bell.awake();
        waited
    }
}

const fn conn(token: Token) -> ConnId {
    ConnId { slot: token.slot(), generation: token.generation() }
}

const fn token(conn: ConnId) -> Token {
    Token::new(conn.slot, conn.generation)
}

const fn descriptor(conn: ConnId) -> Descriptor {
    Descriptor::new(conn.slot)
}

/// Opens the listening sockets of one core: on the same addresses as every other core's, the
/// kernel spreads connections over them.
///
/// # Errors
/// Which address, and why.
pub fn listen(addresses: &[SocketAddr]) -> Result<Vec<Listener>, (SocketAddr, rustix::io::Errno)> {
    let options = uring::ListenOptions::default();
    let open =
        |address: &SocketAddr| uring::listen(*address, options).map_err(|errno| (*address, errno));
    addresses.iter().map(open).collect()
}
