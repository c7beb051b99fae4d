//! The cores of one run, driven step by step.

use std::sync::Arc;
use std::time::Duration;

use gateway::clock::{Now, TICK};
use gateway::event::{Effect, Effects, Event};
use gateway::shard::{Common, Shard};
use gateway::wheel::Tick;
use router::mesh::mesh;
use router::shard_map::ShardMap;
use wire::client::ClientBody;
use wire::{DeviceId, Epoch, Timestamp, UserId};

use super::client::{Client, From};
use super::disk::Disk;
use super::heard::{Entry, Heard};
use super::kernel::{Done, Kernel, Received};
use super::pace::Pace;
use super::setup::{BEGIN, EPOCH, SHARDS, Setup, keys};

/// Calls what it is given; a test of allocations puts its count around it.
pub(crate) type Around = fn(&mut dyn FnMut());

/// Something that can happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A core takes a completion.
    Done(usize),
    /// Bytes arrive at a descriptor of a core.
    Receive(usize, u32),
    /// The socket takes bytes of a send.
    Send(usize, u32),
    /// A client reads.
    Read(usize),
    /// A core's loop comes round.
    Turn(usize),
    /// The store answers a question.
    Answer,
    /// The store commits.
    Commit,
}

struct Core {
    shard: Shard,
    /// Something happened since its last turn.
    busy: bool,
    accepts: bool,
    exited: bool,
}

/// See the module's documentation.
pub(crate) struct Host {
    pub(crate) setup: Setup,
    pub(crate) kernel: Kernel,
    pub(crate) disk: Disk,
    pub(crate) clients: Vec<Client>,
    pub(crate) pace: Pace,
    pub(crate) around: Around,
    /// Batches wait until [`Host::commit`].
    pub(crate) holds_commits: bool,
    cores: Vec<Core>,
    effects: Effects,
    now: Duration,
    started: Duration,
    is_ending: bool,
}

impl Host {
    pub(crate) fn new(setup: Setup, pace: Pace) -> Self {
        let disk = Disk::new(setup.cores);
        let kernel = Kernel::new(setup.cores, setup.places_max);
        let mut host = Self {
            kernel,
            disk,
            clients: Vec::new(),
            pace,
            around: |handle| handle(),
            holds_commits: false,
            cores: Vec::new(),
            effects: Effects::new(),
            now: Duration::ZERO,
            started: Duration::ZERO,
            is_ending: false,
            setup,
        };
        host.start();
        host
    }

    fn start(&mut self) {
        let common = Common {
            limits: Arc::new(self.setup.limits.clone()),
            keys: keys(),
            epoch: Epoch(EPOCH),
            map: ShardMap::new(SHARDS, self.setup.cores),
        };
        self.started = self.now;
        self.is_ending = false;
        let now = self.clock();
        let start = |port: router::mesh::MeshPort<_, _>| {
            let core = port.core();
            let shard = Shard::new(common.clone(), port, now, || Disk::new_batch(core));
            Core { shard, busy: false, accepts: true, exited: false }
        };
        self.cores = mesh(self.setup.cores).into_iter().map(start).collect();
    }

    /// The process dies and starts again with `cores` cores and what the disk kept: every client
    /// is cut off.
    pub(crate) fn crash(&mut self, seed: u64, cores: u16) {
        self.setup.cores = cores;
        self.disk = self.disk.crash(seed, cores);
        for socket in &mut self.kernel.sockets {
            socket.core_ended = true;
        }
        let sockets = std::mem::take(&mut self.kernel.sockets);
        self.kernel = Kernel::new(cores, self.setup.places_max);
        self.kernel.sockets = sockets;
        self.start();
    }

    fn clock(&self) -> Now {
        let ticks = (self.now - self.started).as_millis() / TICK.as_millis();
        let elapsed = u64::try_from(self.now.as_millis()).expect("tests are short");
        Now {
            tick: Tick(u32::try_from(ticks).expect("tests are short")),
            wall: Timestamp(BEGIN.0 + elapsed),
        }
    }

    /// The epoch that clients are told.
    pub(crate) const fn epoch() -> Epoch {
        Epoch(EPOCH)
    }

    /// Where a user lives.
    pub(crate) fn core_of(&self, user: UserId) -> usize {
        usize::from(ShardMap::new(SHARDS, self.setup.cores).core_of_user(user).0)
    }

    /// What a core has counted.
    pub(crate) fn counts(&self, core: usize) -> gateway::metrics::CoreCounts {
        self.cores[core].shard.counts
    }

    /// Whether a core has said that it is done.
    pub(crate) fn has_exited(&self, core: usize) -> bool {
        self.cores[core].exited
    }

    // ---- What clients do -------------------------------------------------------------------

    /// A connection that was accepted by `core`, on which nothing was sent. Gives the client.
    pub(crate) fn open(&mut self, core: usize, user: UserId, device: DeviceId) -> usize {
        let socket = self.kernel.connect();
        self.clients.push(Client::new(user, device, socket));
        let slot = self.cores[core].accepts.then(|| self.kernel.place(core, socket)).flatten();
        match slot {
            Some(slot) => self.tell(core, Event::Accepted { slot }),
            None => self.kernel.sockets[socket].core_ended = true,
        }
        self.clients.len() - 1
    }

    /// A client that says hello.
    pub(crate) fn connect(
        &mut self,
        core: usize,
        user: UserId,
        device: DeviceId,
        from: &From,
    ) -> usize {
        let client = self.open(core, user, device);
        let mut bytes = Client::handshake();
        bytes.append(&mut self.clients[client].hello(from));
        self.send(client, &bytes);
        client
    }

    /// A client sends a frame.
    pub(crate) fn say<'a>(&mut self, client: usize, body: impl Into<ClientBody<'a>>) {
        let bytes = self.clients[client].say(body);
        self.send(client, &bytes);
    }

    /// A client sends bytes.
    pub(crate) fn send(&mut self, client: usize, bytes: &[u8]) {
        let socket = &mut self.kernel.sockets[self.clients[client].socket];
        if !socket.core_ended {
            socket.to_core.extend_from_slice(bytes);
        }
    }

    /// A client's socket breaks.
    pub(crate) fn cut(&mut self, client: usize) {
        self.kernel.sockets[self.clients[client].socket].client_ended = true;
        self.clients[client].reads = false;
    }

    // ---- What happens ----------------------------------------------------------------------

    /// Everything that can happen now.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, core) in self.cores.iter().enumerate() {
            if self.kernel.has_done(index) {
                steps.push(Step::Done(index));
            }
            steps.extend(self.kernel.receivable(index).map(|slot| Step::Receive(index, slot)));
            steps.extend(self.kernel.sendable(index).map(|slot| Step::Send(index, slot)));
            if core.busy || core.shard.has_work() || self.disk.has_completions(index) {
                steps.push(Step::Turn(index));
            }
        }
        let readers = self.clients.iter().enumerate().filter(|(_, client)| {
            let socket = &self.kernel.sockets[client.socket];
            let waits = !socket.to_client.is_empty() || socket.core_ended;
            client.reads && !client.is_over() && waits
        });
        steps.extend(readers.map(|(index, _)| Step::Read(index)));
        if self.disk.asked() > 0 {
            steps.push(Step::Answer);
        }
        if self.disk.submitted() > 0 && !self.holds_commits {
            steps.push(Step::Commit);
        }
        steps
    }

    /// Takes one step.
    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Done(core) => self.take_done(core),
            Step::Receive(core, slot) => self.receive(core, slot),
            Step::Send(core, slot) => {
                let bytes = self.pace.part(64 * 1024);
                self.kernel.send(core, slot, bytes);
            }
            Step::Read(client) => self.read(client),
            Step::Turn(core) => self.turn(core),
            Step::Answer => {
                let index = self.pace.pick(self.disk.asked());
                self.disk.answer(index);
            }
            Step::Commit => {
                let count = self.pace.part(self.disk.submitted());
                self.commit(count);
            }
        }
    }

    /// Takes steps until nothing can happen without a client, the clock or a held commit.
    pub(crate) fn settle(&mut self) {
        loop {
            let steps = self.steps();
            if steps.is_empty() {
                // A loop comes round at each tick anyway: what waits for another core's room is
                // looked at again.
                (0..self.cores.len()).for_each(|core| self.turn(core));
                if self.steps().is_empty() {
                    return;
                }
                continue;
            }
            let step = steps[self.pace.pick(steps.len())];
            self.take(step);
        }
    }

    /// Takes steps of one kind as long as there are any.
    pub(crate) fn take_all(&mut self, is_ours: impl Fn(&Step) -> bool) {
        while let Some(step) = self.steps().into_iter().find(&is_ours) {
            self.take(step);
        }
    }

    /// Commits the oldest batches.
    pub(crate) fn commit(&mut self, count: usize) {
        self.disk.commit(self.now, count);
    }

    /// Time passes, a tick at a time.
    pub(crate) fn tick(&mut self, count: u32) {
        for _ in 0..count {
            self.now += TICK;
            self.disk.poll(self.now);
            (0..self.cores.len()).for_each(|core| self.cores[core].busy = true);
            self.settle();
        }
    }

    /// Asks the process to end.
    pub(crate) fn drain(&mut self) {
        self.is_ending = true;
        (0..self.cores.len()).for_each(|core| self.cores[core].busy = true);
    }

    fn take_done(&mut self, core: usize) {
        let event = match self.kernel.next_done(core).expect("a completion waits") {
            Done::Sent { conn, bytes, complete } => Event::Sent { conn, bytes, complete },
            Done::Stopped { conn } => Event::ReceiveStopped { conn },
            Done::Passed { conn, slot } => Event::Passed { conn, slot },
        };
        self.tell(core, event);
    }

    fn receive(&mut self, core: usize, slot: u32) {
        let waiting = self.kernel.received_bytes(core, slot);
        let bytes = if waiting == 0 {
            0
        } else {
            self.pace.part(waiting.min(self.setup.limits.ring.buffer_bytes as usize))
        };
        match self.kernel.receive(core, slot, bytes) {
            Received::Bytes { conn, mut bytes, armed } => {
                self.tell(core, Event::Received { conn, bytes: &mut bytes, armed });
            }
            Received::End { conn } => self.tell(core, Event::Disconnected { conn }),
        }
    }

    /// The loop of a core comes round, as the reactor's does.
    fn turn(&mut self, core: usize) {
        while let Some(through) = self.disk.next_through(core) {
            self.tell(core, Event::Stored(through));
        }
        while let Some(answer) = self.disk.next_answer(core) {
            self.tell(core, Event::Answered(answer));
        }
        let (pressure, full) = (self.disk.pressure, self.disk.is_full());
        self.tell(core, Event::TurnBegins { pressure, full });
        if self.is_ending && !self.cores[core].shard.is_draining() {
            self.tell(core, Event::Drain);
        }
        self.tell(core, Event::TurnEnds);
        self.cores[core].busy = false;
    }

    /// Tells a core what happened, and does what it wants.
    pub(crate) fn tell(&mut self, core: usize, event: Event<'_>) {
        let now = self.clock();
        let mut effects = std::mem::take(&mut self.effects);
        let shard = &mut self.cores[core].shard;
        let mut event = Some(event);
        (self.around)(&mut || {
            let event = event.take().expect("called once");
            shard.handle(event, now, &mut effects);
        });
        for effect in effects.drain(..) {
            match effect {
                Effect::Submit(batch) => self.disk.submit(batch),
                Effect::Read(ticket, read) => self.disk.ask(core, ticket, read),
                Effect::StopAccepting => self.cores[core].accepts = false,
                Effect::Exit => {
                    assert!(!self.cores[core].exited, "a core exits once");
                    self.cores[core].exited = true;
                }
                effect => self.kernel.apply(core, effect),
            }
        }
        self.effects = effects;
        self.cores[core].busy = true;
    }

    fn read(&mut self, client: usize) {
        let socket = &mut self.kernel.sockets[self.clients[client].socket];
        if socket.to_client.is_empty() {
            return self.clients[client].end();
        }
        let bytes = self.pace.part(socket.to_client.len());
        let bytes: Vec<u8> = socket.to_client.drain(..bytes).collect();
        let Client { heard, own, .. } = &self.clients[client];
        let before = (heard.len(), own.len());
        let answer = self.clients[client].hear(&bytes);
        let Client { heard, own, .. } = &self.clients[client];
        let new = heard.range(before.0..).chain(own.range(before.1..));
        new.for_each(|heard| self.check_durable(heard));
        self.send(client, &answer);
    }

    /// What is acknowledged or delivered is on the disk.
    fn check_durable(&self, heard: &Heard) {
        let check = |(channel, seq)| {
            assert!(self.disk.has_entry(channel, seq), "{heard:?} is not in the log");
        };
        match heard {
            Heard::Posted { channel, seq, .. } => check((*channel, *seq)),
            Heard::Ready { channel, .. } => check((*channel, wire::Seq::ZERO.next())),
            Heard::Entry(Entry { what, .. }) => what.logged().into_iter().for_each(check),
            Heard::Page { entries, .. } => {
                entries.iter().filter_map(|entry| entry.what.logged()).for_each(check);
            }
            _ => {}
        }
    }

    /// The number of cores.
    pub(crate) fn cores(&self) -> usize {
        self.cores.len()
    }
}
