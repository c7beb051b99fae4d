//! The cores of a run without kernel and disk: what they send is taken at once, what they submit is
//! durable at once, and both come back with the core's next turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use benches::subjects::{DEVICE, NOW};
use bytes::Bytes;
use gateway::auth::{Identity, KeyRing};
use gateway::clock::Now;
use gateway::config::Config;
use gateway::event::{Effect, Effects, Event};
use gateway::limits::Limits;
use gateway::metrics::CoreCounts;
use gateway::shard::{Common, Shard, fingerprint};
use gateway::wheel::Tick;
use router::mesh::mesh;
use router::sessions::ConnId;
use router::shard_map::ShardMap;
use store::{Answer, Batch, Memory, Outcome, Pressure, Through};
use wire::client::{ClientBody, Credential, Hello};
use wire::{Encoder, Epoch, InboxSeq, UserId};
use ws::handshake::ClientRequest;
use ws::{MaskKey, encoder};

const SHARDS: u16 = 4096;
const EPOCH: Epoch = Epoch(1);
const BATCH_BYTES: usize = 1 << 20;

/// Turns of a core in a tick of its clock: about as many as it makes under load.
const TURNS_PER_TICK: u32 = 4096;

/// A week: nobody is sent away for silence.
const SILENCE_TICKS: u32 = 12_096_000;

/// What has completed and waits for a core's next turn.
enum Done {
    Stored(Through),
    Answered(Answer),
    Sent(ConnId, Bytes),
}

struct Core {
    shard: Shard,
    done: VecDeque<Done>,
    slots: u32,
}

/// A session, as its client knows it.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) user: UserId,
    core: usize,
    conn: ConnId,
}

/// See the module's documentation.
pub(crate) struct Host {
    cores: Vec<Core>,
    map: ShardMap,
    keys: Arc<KeyRing>,
    /// Empty: nobody and nothing was there before this run.
    memory: Memory,
    effects: Effects,
    now: Now,
    turns: u32,
    encoder: Encoder,
    requests: u32,
    /// The connection that answered a receive last, while a client comes in.
    arriving: Option<ConnId>,
    /// What was sent to one connection, while somebody wants to know.
    pub(crate) tape: Option<(ConnId, Vec<u8>)>,
}

impl Host {
    pub(crate) fn new(cores: u16) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let keys = Arc::new(KeyRing::open(data.path(), Duration::ZERO).expect("it makes its keys"));
        let mut limits = Limits::new(&Config::default()).expect("the defaults are valid");
        limits.cores = cores;
        limits.silence_ticks = SILENCE_TICKS;
        limits.told.frames_per_second_max = u32::MAX;
        let map = ShardMap::new(SHARDS, cores);
        let common = Common { limits: Arc::new(limits), keys: keys.clone(), epoch: EPOCH, map };
        let now = Now { tick: Tick(0), micros: 0, wall: NOW };
        let core = |port: router::mesh::MeshPort<_, _>| {
            let core = port.core();
            let shard = Shard::new(common.clone(), port, now, || Batch::new(core, BATCH_BYTES));
            Core { shard, done: VecDeque::new(), slots: 0 }
        };
        Self {
            cores: mesh(cores).into_iter().map(core).collect(),
            map,
            keys,
            memory: Memory::new(),
            effects: Effects::new(),
            now,
            turns: 0,
            encoder: Encoder::default(),
            requests: 0,
            arriving: None,
            tape: None,
        }
    }

    /// A session of this user, accepted by her own core.
    pub(crate) fn connect(&mut self, user: UserId) -> Client {
        let core = usize::from(self.map.core_of_user(user).0);
        let slot = self.cores[core].slots;
        self.cores[core].slots += 1;
        self.tell(core, Event::Accepted { slot });
        let conn = self.arriving.take().expect("it receives from whom it accepted");
        let client = Client { user, core, conn };
        let request = ClientRequest {
            host: "localhost",
            target: "/",
            key: *b"the sample nonce",
            subprotocol: Some(wire::limits::SUBPROTOCOL),
            fields: &[],
        };
        let mut bytes = Vec::new();
        request.append(&mut bytes).expect("a valid request");
        self.receive(client, &mut bytes, false);
        self.settle();
        let identity = Identity { user, device: DEVICE };
        let token = self.keys.sign(identity, NOW, Duration::from_secs(1 << 30));
        let mut bytes = self.frame(Hello {
            protocol_version: wire::limits::PROTOCOL_VERSION,
            credential: Credential::Token(&token),
            device: DEVICE,
            epoch: EPOCH,
            cursor: InboxSeq::ZERO,
            client: "bench",
        });
        self.receive(client, &mut bytes, false);
        self.settle();
        client
    }

    /// The bytes of a client's frame.
    pub(crate) fn frame<'a>(&mut self, body: impl Into<ClientBody<'a>>) -> Vec<u8> {
        self.requests = self.requests.wrapping_add(1);
        let mut out = Vec::new();
        let mask = Some(MaskKey(self.requests.to_le_bytes()));
        encoder::append_binary(&mut out, self.encoder.client(self.requests, body), mask);
        out
    }

    /// Bytes arrive.
    pub(crate) fn hear(&mut self, client: Client, bytes: &mut [u8]) {
        self.receive(client, bytes, true);
    }

    fn receive(&mut self, client: Client, bytes: &mut [u8], armed: bool) {
        self.tell(client.core, Event::Received { conn: client.conn, bytes, armed });
    }

    /// A turn of each core.
    pub(crate) fn turn(&mut self) {
        self.turns += 1;
        if self.turns == TURNS_PER_TICK {
            self.turns = 0;
            self.now.tick = self.now.tick.plus(1);
        }
        for core in 0..self.cores.len() {
            // What completes from here on is for the next turn.
            for _ in 0..self.cores[core].done.len() {
                let event = match self.cores[core].done.pop_front().expect("counted") {
                    Done::Stored(through) => Event::Stored(through),
                    Done::Answered(answer) => Event::Answered(answer),
                    Done::Sent(conn, bytes) => Event::Sent { conn, bytes, complete: true },
                };
                self.tell(core, event);
            }
            self.tell(core, Event::TurnBegins { pressure: Pressure::None, full: false });
            self.tell(core, Event::TurnEnds);
        }
    }

    /// Turns until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        loop {
            self.turn();
            let is_idle = |core: &mut Core| {
                core.done.is_empty() && core.shard.mesh().is_idle() && !core.shard.has_work()
            };
            if self.cores.iter_mut().all(is_idle) {
                return;
            }
        }
    }

    /// What each core has counted.
    pub(crate) fn counts(&self) -> impl Iterator<Item = CoreCounts> {
        self.cores.iter().map(|core| core.shard.counts)
    }

    /// The core of a user.
    pub(crate) fn core_of(&self, user: UserId) -> u16 {
        self.map.core_of_user(user).0
    }

    fn tell(&mut self, core: usize, event: Event<'_>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.cores[core].shard.handle(event, self.now, &mut effects);
        for effect in effects.drain(..) {
            self.apply(core, effect);
        }
        self.effects = effects;
    }

    fn apply(&mut self, core: usize, effect: Effect) {
        let done = &mut self.cores[core].done;
        match effect {
            Effect::Send(conn, bytes) => {
                if let Some((wanted, tape)) = &mut self.tape
                    && *wanted == conn
                {
                    tape.extend_from_slice(&bytes);
                }
                done.push_back(Done::Sent(conn, bytes));
            }
            Effect::Submit(batch) => {
                let (core, number, outcome) = (batch.core(), batch.number(), Outcome::Durable);
                done.push_back(Done::Stored(Through { core, number, outcome, batch }));
            }
            Effect::Read(ticket, read) => {
                let answer = store::answer(&self.memory, &read, fingerprint);
                done.push_back(Done::Answered(Answer { ticket, answer }));
            }
            Effect::ReceiveOnce(conn) => self.arriving = Some(conn),
            Effect::ReceiveMany(_) => {}
            other => panic!("nothing asks for {other:?}"),
        }
    }
}

impl Client {
    /// Begins to keep what is sent to this client.
    pub(crate) fn listen(self, host: &mut Host) {
        host.tape = Some((self.conn, Vec::new()));
    }
}
