//! The cores of one run, driven step by step.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gateway::clock::{Now, TICK};
use gateway::event::Effects;
use gateway::shard::{Common, Holdings, Shard};
use gateway::wheel::Tick;
use router::mesh::mesh_of;
use router::shard_map::ShardMap;
use store::Fatal;
use wire::client::ClientBody;
use wire::{DeviceId, Epoch, Timestamp, UserId};

use super::client::{Client, From};
use super::cores::Core;
use super::disk::{Disk, Recovered};
use super::heard::{Entry, Heard};
use super::kernel::Kernel;
use super::pace::Pace;
use super::setup::{BEGIN, EPOCH, SHARDS, Setup, keys};

/// Calls what it is given; a test of allocations puts its count around it.
pub(crate) type Around = fn(&mut dyn FnMut());

/// Something that can happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A core takes a completion.
    Done(usize),
    /// A receive is cancelled.
    Cancel(usize, u32),
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
    pub(super) cores: Vec<Core>,
    pub(super) effects: Effects,
    now: Duration,
    /// How often a core has looked at its clock.
    looks: Cell<u64>,
    started: Duration,
    /// By how much the wall clock is wrong.
    wall_skew: i64,
    pub(super) is_ending: bool,
    /// The disk has failed, at which a process ends: see [`Host::crash`].
    pub(crate) fatal: Option<Fatal>,
    /// Clients whose connection has not ended.
    open: Vec<usize>,
    /// The clients that have heard something since [`Host::take_heard`].
    heard: Vec<usize>,
    steps: Vec<Step>,
}

impl Host {
    pub(crate) fn new(setup: Setup, pace: Pace) -> Self {
        let disk = Disk::new(setup.cores, setup.sync);
        let kernel = Kernel::new(&setup);
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
            looks: Cell::new(0),
            started: Duration::ZERO,
            wall_skew: 0,
            is_ending: false,
            fatal: None,
            open: Vec::new(),
            heard: Vec::new(),
            steps: Vec::new(),
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
        let batch_bytes_max = self.setup.batch_bytes_max;
        let start = |port: router::mesh::MeshPort<_, _>| {
            let core = port.core();
            let make_batch = || Disk::new_batch(core, batch_bytes_max);
            Core {
                shard: Shard::new(common.clone(), port, now, make_batch),
                busy: true,
                asleep: false,
                woken: false,
                rests: false,
                accepts: true,
                is_held: false,
                lobby: VecDeque::new(),
                exited: false,
                starved: Vec::new(),
            }
        };
        self.cores = mesh_of(self.setup.cores, self.setup.lanes).into_iter().map(start).collect();
    }

    /// The process dies and starts again with `cores` cores and what the disk kept: every client
    /// is cut off.
    pub(crate) fn crash(&mut self, seed: u64, cores: u16) {
        self.crash_often(seed, cores, &[]);
    }

    /// As [`Self::crash`], where the process dies again while it recovers, before the writes of
    /// these numbers.
    pub(crate) fn crash_often(&mut self, seed: u64, cores: u16, deaths: &[u64]) -> Recovered {
        self.setup.cores = cores;
        let (disk, recovered) = self.disk.crash_often(seed, cores, deaths);
        self.disk = disk;
        self.fatal = None;
        for client in &self.open {
            self.kernel.sockets[self.clients[*client].socket].core_ended = true;
        }
        let sockets = std::mem::take(&mut self.kernel.sockets);
        self.kernel = Kernel::new(&self.setup);
        self.kernel.sockets = sockets;
        self.start();
        recovered
    }

    pub(super) fn clock(&self) -> Now {
        self.looks.set(self.looks.get() + 1); // No two looks at a real clock see the same.
        let run = self.now - self.started;
        let ticks = run.as_millis() / TICK.as_millis();
        let elapsed = u64::try_from(self.now.as_millis()).expect("tests are short");
        Now {
            tick: Tick(u32::try_from(ticks).expect("tests are short")),
            micros: self.looks.get(),
            wall: Timestamp((BEGIN.0 + elapsed).saturating_add_signed(self.wall_skew)),
        }
    }

    /// Somebody sets the wall clock, by so many milliseconds.
    pub(crate) const fn step_wall_clock(&mut self, by: i64) {
        self.wall_skew = self.wall_skew.saturating_add(by);
    }

    /// The wall clock is right again.
    pub(crate) const fn set_wall_clock_right(&mut self) {
        self.wall_skew = 0;
    }

    /// Nothing runs for so many ticks: the process was stopped, or the machine suspended.
    pub(crate) fn sleep_ticks(&mut self, count: u32) {
        self.now += TICK * count;
        self.cores.iter_mut().for_each(|core| core.woken = true);
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

    /// What a core holds.
    pub(crate) fn holdings(&mut self, core: usize) -> Holdings {
        self.cores[core].shard.holdings()
    }

    /// What waits for a core in the mesh: offers, deliveries.
    pub(crate) fn mesh_of(&mut self, core: usize) -> (bool, bool) {
        let mesh = self.cores[core].shard.mesh();
        (mesh.has_offers(), mesh.has_deliveries())
    }

    /// A core gets no processor from now on, or gets it again.
    pub(crate) fn set_rests(&mut self, core: usize, rests: bool) {
        self.cores[core].rests = rests;
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
        self.open.push(self.clients.len() - 1);
        self.cores[core].lobby.push_back(socket);
        self.let_in(core);
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
        self.connect_with(core, user, device, from, &super::setup::token(user, device))
    }

    /// As [`Self::connect`], with another token.
    pub(crate) fn connect_with(
        &mut self,
        core: usize,
        user: UserId,
        device: DeviceId,
        from: &From,
        token: &str,
    ) -> usize {
        let client = self.open(core, user, device);
        let mut bytes = Client::handshake();
        bytes.append(&mut self.clients[client].hello_with(from, token));
        self.send(client, &bytes);
        client
    }

    /// Whether the gateway has a connection of this device, if only one that nobody uses any more.
    pub(crate) fn has_connection(&self, user: UserId, device: DeviceId) -> bool {
        self.clients.iter().any(|client| {
            let is_open = !self.kernel.sockets[client.socket].core_ended;
            (client.user, client.device) == (user, device) && is_open
        })
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
        self.open.retain(|open| *open != client);
    }

    /// As [`Self::cut`], where what was sent and not received is lost.
    pub(crate) fn reset(&mut self, client: usize) {
        self.cut(client);
        self.kernel.sockets[self.clients[client].socket].to_core.clear();
    }

    // ---- What happens ----------------------------------------------------------------------

    /// Everything that can happen now.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.list_steps(&mut steps);
        steps
    }

    fn list_steps(&self, steps: &mut Vec<Step>) {
        for (index, core) in self.cores.iter().enumerate() {
            steps.extend(self.kernel.cancellable(index).map(|slot| Step::Cancel(index, slot)));
            steps.extend(self.kernel.receivable(index).map(|slot| Step::Receive(index, slot)));
            steps.extend(self.kernel.sendable(index).map(|slot| Step::Send(index, slot)));
            if core.rests {
                continue;
            }
            if self.kernel.has_done(index) {
                steps.push(Step::Done(index));
            }
            if core.busy || core.woken {
                steps.push(Step::Turn(index));
            }
        }
        let readers = self.open.iter().filter(|index| {
            let client = &self.clients[**index];
            let socket = &self.kernel.sockets[client.socket];
            client.reads && (!socket.to_client.is_empty() || socket.core_ended)
        });
        steps.extend(readers.map(|index| Step::Read(*index)));
        if self.disk.asked() > 0 {
            steps.push(Step::Answer);
        }
        if self.disk.committable() > 0 && !self.holds_commits {
            steps.push(Step::Commit);
        }
    }

    /// Takes one of the steps that are possible, if any is.
    pub(crate) fn step(&mut self) -> Option<Step> {
        let mut steps = std::mem::take(&mut self.steps);
        steps.clear();
        self.list_steps(&mut steps);
        let step = (!steps.is_empty()).then(|| steps[self.pace.pick(steps.len())]);
        self.steps = steps;
        self.take(step?);
        step
    }

    /// Takes one step.
    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Done(core) => self.take_done(core),
            Step::Cancel(core, slot) => self.kernel.cancel(core, slot),
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
        self.ring();
    }

    /// Takes steps until nothing can happen without a client, the clock or a held commit.
    pub(crate) fn settle(&mut self) {
        loop {
            if self.step().is_none() {
                // A loop comes round at each tick anyway: what waits for another core's room is
                // looked at again.
                (0..self.cores.len()).for_each(|core| self.turn(core));
                if self.steps().is_empty() {
                    return;
                }
            }
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
        if let Err(fatal) = self.disk.commit(self.now, count) {
            self.fatal = Some(fatal);
        }
        self.ring();
    }

    /// Time passes, a tick at a time.
    pub(crate) fn tick(&mut self, count: u32) {
        for _ in 0..count {
            self.begin_tick();
            self.settle();
        }
    }

    /// A tick begins; nothing has happened in it.
    pub(crate) fn begin_tick(&mut self) {
        self.sleep_ticks(1);
        if let Err(fatal) = self.disk.poll(self.now) {
            self.fatal = Some(fatal);
        }
        self.ring();
    }

    /// Asks the process to end.
    pub(crate) fn drain(&mut self) {
        self.is_ending = true;
        self.cores.iter_mut().for_each(|core| core.woken = true);
    }

    fn read(&mut self, client: usize) {
        let socket = &mut self.kernel.sockets[self.clients[client].socket];
        self.heard.push(client);
        if socket.to_client.is_empty() {
            self.open.retain(|open| *open != client);
            return self.clients[client].end();
        }
        let bytes = self.pace.part(socket.to_client.len());
        let bytes: Vec<u8> = socket.to_client.drain(..bytes).collect();
        let Client { heard, own, transcript, .. } = &self.clients[client];
        let before = (heard.len(), own.len(), transcript.as_ref().map_or(0, Vec::len));
        let answer = self.clients[client].hear(&bytes);
        let Client { heard, own, transcript, .. } = &self.clients[client];
        let told = transcript.iter().flat_map(|told| &told[before.2..]).map(|(_, heard)| heard);
        let new = heard.range(before.0..).chain(own.range(before.1..)).chain(told);
        new.for_each(|heard| self.check_durable(heard));
        self.send(client, &answer);
    }

    /// The clients that have read something since the last call.
    pub(crate) fn take_heard(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.heard)
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
