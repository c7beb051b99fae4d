//! The whole policy of a core: events in, effects out, the time passed in.
//!
//! No system call, no clock, no thread: the reactor turns completions into events and effects into
//! submissions, and a simulator does the same with virtual ones. This file joins the parts and
//! hands each event to the one it concerns:
//!
//! - `admitting`: who comes in next, and who catches up next,
//! - `greeting`: from the first byte to a session on its user's core,
//! - `frames`: what a session says,
//! - `services`: sessions of services, and the sessions that they end,
//! - `erasing`: how all that is a user's own is removed,
//! - `channels`: the core as owner of channels (offers, sequencing, release, fan-out),
//! - `inboxes`: the core as owner of users (fan-outs in, inbox entries, deliveries),
//! - `reads`: what is asked of the store, and its answers,
//! - `upkeep`: ticks, folding, trimming, drain,
//! - `shedding`: what is given up when memory becomes short,
//! - `evacuating`: sending everybody away while the process goes on,
//! - `holdings`: what all of them hold, for those who look on.

mod admitting;
mod channels;
mod erasing;
mod evacuating;
mod frames;
mod greeting;
mod holdings;
mod inboxes;
mod reads;
mod services;
mod shedding;
mod upkeep;

use std::sync::Arc;

use router::Map;
use router::fan_out::{FanLedger, FanTracker};
use router::inbox::Inboxes;
use router::mesh::MeshPort;
use router::sequencer::Sequencer;
use router::sessions::{ConnId, Sessions};
use router::shard_map::ShardMap;
use slab::Slab;
use store::{Batch, Pressure};
use wire::{CoreId, Epoch, InboxSeq, UserId};

use crate::admission::Admission;
use crate::auth::KeyRing;
use crate::clock::Now;
use crate::committing::Committing;
use crate::event::{Effects, Event};
use crate::limits::Limits;
use crate::messages::{Delivery, Request};
use crate::metrics::CoreCounts;
use crate::outgoing::Outgoing;
use crate::pools::BodyPool;
use crate::wheel::Tick;

use admitting::CatchUps;
pub use admitting::{CATCH_UPS_MAX, ENDS_PER_SECOND, ENDS_PER_TURN};
use erasing::Erasure;
use evacuating::Evacuating;
pub use frames::fingerprint;
pub use holdings::Holdings;
use reads::Asked;
use services::ServiceAsk;
use upkeep::Draining;

/// What every core of a run has in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// The checked configuration.
    pub limits: Arc<Limits>,
    /// Who may come in.
    pub keys: Arc<KeyRing>,
    /// Names the inbox history of this data directory.
    pub epoch: Epoch,
    /// Where users and channels live.
    pub map: ShardMap,
}

/// One core. Methods: `handle` is told what happened; everything it wants done goes into the
/// effects.
#[derive(Debug)]
pub struct Shard {
    core: CoreId,
    common: Common,
    now: Now,
    /// What it counted; the reactor publishes it.
    pub counts: CoreCounts,
    mesh: MeshPort<Request, Delivery>,
    outgoing: Outgoing,
    bodies: BodyPool,
    committing: Committing,
    sequencer: Sequencer,
    ledger: FanLedger,
    inboxes: Inboxes,
    sessions: Sessions,
    /// By source core.
    trackers: Box<[FanTracker]>,
    /// Questions to the store that wait for their answer, by ticket.
    asked: Slab<Asked>,
    /// What the store could not answer and is asked again at the next tick.
    unanswered: Vec<Asked>,
    /// Connections whose peers are gone, and which have not ended.
    gone: Vec<ConnId>,
    /// How many of them may still end in this turn.
    ends_left: u32,
    /// And in this tick.
    ends_this_tick: u32,
    /// Who comes in next.
    admission: Admission,
    /// So many stand in line that accepting is paused.
    is_crowded: bool,
    catch_ups: CatchUps,
    /// Posts, entries and deliveries counted by the last tick.
    talk_seen: u64,
    /// Until when there is talk.
    talk_until: Tick,
    /// Connections whose user's head is being read.
    joining: Map<UserId, Vec<ConnId>>,
    /// What services asked for users whose heads are being read.
    awaiting: Map<UserId, Vec<ServiceAsk>>,
    /// Users who are being erased.
    erasures: Slab<Erasure>,
    /// Connections that are not read until there is room for what they sent.
    stalled: Vec<ConnId>,
    /// Memory for the recipients of one notice.
    recipients: Vec<(ConnId, InboxSeq)>,
    /// Memory for the slots that a tick finds.
    due: Vec<u32>,
    pressure: Pressure,
    storage_full: bool,
    /// When sessions were last closed for want of memory.
    shed_at: Option<Tick>,
    draining: Option<Draining>,
    evacuating: Option<Evacuating>,
    /// When the pools were last trimmed.
    trimmed_at: Tick,
    /// When the last connection was accepted, in microseconds.
    accepted: u64,
    next_session: u64,
}

impl Shard {
    /// A core without connections. `make_batch` makes an empty batch of it.
    #[must_use]
    pub fn new(
        common: Common,
        mesh: MeshPort<Request, Delivery>,
        now: Now,
        make_batch: impl Fn() -> Batch,
    ) -> Self {
        let core = mesh.core();
        let limits = &common.limits;
        let cores = common.map.cores();
        Self {
            core,
            now,
            counts: CoreCounts::default(),
            outgoing: Outgoing::new(limits),
            bodies: BodyPool::default(),
            committing: Committing::new(core, &limits.bounds, make_batch),
            sequencer: Sequencer::new(common.map, limits.sequencer),
            ledger: FanLedger::bounded(cores, limits.bounds.outstanding_max),
            inboxes: Inboxes::new(limits.inboxes()),
            sessions: Sessions::default(),
            trackers: (0..cores).map(|_| FanTracker::default()).collect(),
            asked: Slab::new(),
            unanswered: Vec::new(),
            gone: Vec::new(),
            ends_left: ENDS_PER_TURN,
            ends_this_tick: u32::MAX,
            admission: Admission::new(
                limits.admissions_per_second_max,
                cores,
                limits.waiting_ticks,
                limits.bounds.crowd_max,
            ),
            is_crowded: false,
            catch_ups: CatchUps::default(),
            talk_seen: 0,
            talk_until: Tick(0),
            joining: Map::default(),
            awaiting: Map::default(),
            erasures: Slab::new(),
            stalled: Vec::new(),
            recipients: Vec::new(),
            due: Vec::new(),
            pressure: Pressure::None,
            storage_full: false,
            shed_at: None,
            draining: None,
            evacuating: None,
            trimmed_at: now.tick,
            accepted: 0,
            next_session: 1,
            mesh,
            common,
        }
    }

    /// Takes one event and appends what is to be done about it.
    pub fn handle(&mut self, event: Event<'_>, now: Now, effects: &mut Effects) {
        self.now = now;
        match event {
            Event::Accepted { slot } => self.accepted(slot, effects),
            Event::Received { conn, bytes, armed } => self.received(conn, bytes, armed, effects),
            Event::Disconnected { conn } => self.received_end(conn, effects),
            Event::Sent { conn, bytes, complete } => self.sent(conn, bytes, complete, effects),
            Event::Passed { conn, slot } => self.passed(conn, slot, effects),
            Event::ReceiveStopped { conn } => self.receive_stopped(conn, effects),
            Event::Stored(through) => self.stored(through, effects),
            Event::Answered(answer) => self.answered(answer, effects),
            Event::TurnBegins { pressure, full } => {
                (self.pressure, self.storage_full) = (pressure, full);
                self.turn_begins(effects);
            }
            Event::TurnGoesOn => self.seal(effects),
            Event::TurnEnds => {
                self.seal(effects);
                self.outgoing.flush(effects);
            }
            Event::Drain => self.drain(effects),
            Event::Evacuate(order) => self.evacuate(order),
        }
    }

    /// The mesh, for the reactor: whom to wake, and whether anything waits.
    pub const fn mesh(&mut self) -> &mut MeshPort<Request, Delivery> {
        &mut self.mesh
    }

    /// Whether the next turn has work without anything happening first: then the reactor does not
    /// sleep.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.mesh.has_deliveries()
            || (self.mesh.has_offers() && self.may_sequence())
            || self.admission.has_work()
            || (!self.gone.is_empty() && self.ends_this_tick > 0)
    }

    fn tick(&self) -> Tick {
        self.now.tick
    }
}
