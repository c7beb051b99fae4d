//! What a core does besides answering: turns, ticks, folding, trimming, and going away.

use router::inbox::Fold;
use router::sessions::ConnId;
use variants::Variant;
use wire::server::Reconnect;
use wire::{CloseCode, DeviceId, InboxSeq, UserId};

use super::Shard;
use super::reads::Asked;
use crate::budget::Shed;
use crate::committing::{Committing, Pending};
use crate::connection::{Connection, Live, Phase};
use crate::event::{Effect, Effects};
use crate::memory::Part;
use crate::wheel::Tick;

/// Users folded in one turn: each is a put or a few. With folding begun at half of what may be
/// unfolded, this keeps up with any rate at which entries can come.
const FOLDS_PER_TURN: usize = 64;

/// How long a drain waits for answers that sessions are owed, then for their close frames.
const DRAIN_ANSWERS: u32 = 40;

/// Ticks between two looks at what could be let go of: a second.
const TRIM_TICKS: u32 = 20;

/// The core is going away.
#[derive(Debug)]
pub(super) struct Draining {
    since: Tick,
    told_exit: bool,
}

impl Shard {
    pub(super) fn turn_begins(&mut self, effects: &mut Effects) {
        self.mesh.flush_backlog();
        if !self.storage_full {
            self.committing.resubmit(effects);
        }
        let waits = variants::is(Variant::DeliveriesBehindOffers) && self.mesh.has_offers();
        if !waits || self.may_sequence() {
            self.drain_deliveries(effects);
        }
        self.watch_memory();
        self.drain_offers(effects);
        self.resume_stalled(effects);
        if self.now.tick > self.outgoing.wheel.now() {
            self.ticked(effects);
        }
        // After everything that is owed to sessions.
        self.end_gone(effects);
        self.admit_waiting(effects);
        self.mind_the_crowd(effects);
    }

    /// Closes who cannot keep up, folds, trims, and hands the open batch to the writer.
    pub(super) fn seal(&mut self, effects: &mut Effects) {
        while let Some(conn) = self.outgoing.next_slow() {
            // Named once for each frame that found it full.
            let connection = self.outgoing.connections.get(conn);
            if connection.is_none_or(|connection| matches!(connection.phase, Phase::Closing)) {
                continue;
            }
            self.counts.slow_consumers += 1;
            self.close_session(conn, CloseCode::SlowConsumer, effects);
        }
        self.watch_memory();
        self.shed_slow_consumers(effects);
        self.fold();
        let fanned_out = self.ledger.fanned_out_below(self.committing.next_to_release());
        let folded = self.inboxes.folded_below(self.committing.open_number());
        self.committing.trim(fanned_out.min(folded));
        self.committing.seal(effects);
        self.measure();
    }

    /// Folds some of the oldest inbox entries into chunks, if it is time.
    fn fold(&mut self) {
        for _ in 0..FOLDS_PER_TURN {
            let open = self.committing.open_number();
            if !self.inboxes.wants_fold(open) || !self.committing.has_room() {
                return;
            }
            let Some(fold) = self.inboxes.fold_next(open) else {
                return;
            };
            put_fold(&mut self.committing, &fold);
            self.counts.folds += 1;
        }
    }

    /// Folds all of one user, due or not.
    pub(super) fn fold_user(&mut self, user: UserId) {
        if let Some(fold) = self.inboxes.fold_user(user, self.committing.open_number()) {
            put_fold(&mut self.committing, &fold);
            self.counts.folds += 1;
        }
    }

    /// Writes a device's cursor down, if it has moved.
    pub(super) fn store_cursor(&mut self, user: UserId, device: DeviceId) {
        if let Some(cursor) = self.inboxes.take_moved_cursor(user, device) {
            self.committing.batch().put_cursor(user, device, cursor);
            self.inboxes.note_cursor_write(user, self.committing.open_number());
            self.committing.push(Pending::Folded(user, InboxSeq::ZERO));
        }
    }

    fn ticked(&mut self, effects: &mut Effects) {
        self.look_for_talk();
        self.outgoing.flush_lazy();
        self.ask_again(effects);
        self.go_on_erasing(effects);
        let mut due = std::mem::take(&mut self.due);
        self.outgoing.wheel.advance(self.now.tick, &mut due);
        for slot in due.drain(..) {
            let Some(conn) = self.outgoing.connections.at(slot) else { continue };
            let connection = self.outgoing.connections.get(conn).expect("just looked up");
            let deadline = connection.deadline;
            if deadline > self.now.tick {
                self.outgoing.wheel.set(slot, deadline);
            } else {
                self.expired(conn, effects);
            }
        }
        self.due = due;
        self.go_on_evacuating(effects);
        if self.now.tick >= self.trimmed_at.plus(TRIM_TICKS) {
            self.trimmed_at = self.now.tick;
            self.outgoing.trim();
            self.account();
        }
        if self.draining.is_some() {
            self.go_on_draining(effects);
        }
    }

    /// What should have happened by now has not.
    fn expired(&mut self, conn: ConnId, effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        match connection.phase {
            // It may be speaking: nobody listens while there is no room for what it says.
            Phase::Live(Live { stall: Some(_), .. }) => {
                connection.deadline = self.now.tick.plus(self.common.limits.silence_ticks);
                let deadline = connection.deadline;
                self.outgoing.wheel.set(conn.slot, deadline);
            }
            Phase::Live(_) => self.close_session(conn, CloseCode::HeartbeatTimeout, effects),
            Phase::Waiting | Phase::LoggingIn(_) => self.expire_waiting(conn, effects),
            Phase::Greeting => self.close_session(conn, CloseCode::HelloExpected, effects),
            Phase::Joining(_) => self.close_session(conn, CloseCode::Internal, effects),
            // No WebSocket (yet, or any more) to close.
            Phase::Handshake(_) | Phase::Closing | Phase::Refused => {
                self.outgoing.end(conn, effects);
            }
            Phase::Vacant | Phase::Passing(_) => {}
        }
    }

    /// The process is to end: nobody new comes in, and who is here is told where to go.
    pub(super) fn drain(&mut self, effects: &mut Effects) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(Draining { since: self.now.tick, told_exit: false });
        effects.push(Effect::StopAccepting);
        let ids: Vec<ConnId> = self.outgoing.connections.ids().collect();
        let spread = u64::try_from(self.common.limits.drain.as_millis()).expect("bounded");
        let url = self.common.limits.reconnect_url.clone();
        for (index, conn) in (0_u64..).zip(&ids) {
            let connection = self.outgoing.connections.get(*conn);
            if connection.is_some_and(|connection| connection.live().is_some()) {
                // Evenly over the time, so that they do not come back all at once.
                let after = spread * index / ids.len() as u64;
                let after_ms = u32::try_from(after).expect("bounded by the configuration");
                self.outgoing.send(*conn, 0, Reconnect { after_ms, url: url.as_deref() });
            }
        }
        self.go_on_draining(effects);
    }

    /// Closes whoever is owed nothing; after a while everyone.
    fn go_on_draining(&mut self, effects: &mut Effects) {
        let Some(draining) = &self.draining else { return };
        let (since, told_exit) = (draining.since, draining.told_exit);
        let late = self.now.tick >= since.plus(DRAIN_ANSWERS);
        let closes = self.common.limits.close_ticks;
        let overdue = self.now.tick >= since.plus(DRAIN_ANSWERS + closes);
        let ids: Vec<ConnId> = self.outgoing.connections.ids().collect();
        for conn in ids {
            let Some(connection) = self.outgoing.connections.get(conn) else { continue };
            match &connection.phase {
                Phase::Live(live) if live.posts_in_flight == 0 || late => {
                    self.close_session(conn, CloseCode::GoingAway, effects);
                }
                Phase::Waiting | Phase::Handshake(_) | Phase::Greeting | Phase::LoggingIn(_) => {
                    self.outgoing.end(conn, effects)
                }
                _ if overdue => self.outgoing.end(conn, effects),
                _ => {}
            }
        }
        let settled = self.committing.is_idle() && self.ledger.is_idle() && self.mesh.is_idle();
        // What a full disk keeps waiting was not acknowledged, and the fan-outs of what was are in
        // the journal: the next start completes them.
        let waits_for_space = self.storage_full || self.committing.is_refused();
        let idle = self.outgoing.connections.is_empty() && (settled || overdue && waits_for_space);
        if idle && !told_exit {
            effects.push(Effect::Exit);
            if let Some(draining) = &mut self.draining {
                draining.told_exit = true;
            }
        }
    }

    /// Whether the core has begun to go away.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Takes down what is not counted as it happens.
    fn measure(&mut self) {
        let counts = &mut self.counts;
        counts.connections = self.outgoing.connections.len() as u64;
        counts.sessions = self.sessions.len() as u64;
        counts.frames_out = self.outgoing.frames;
        counts.channels_in_memory = self.sequencer.channels() as u64;
        counts.users_in_memory = self.inboxes.users() as u64;
        counts.unfolded_entries = self.inboxes.unfolded() as u64;
        counts.waiting_for_disk = self.committing.waiting() as u64;
        counts.send_blocks_out = self.outgoing.blocks_out() as u64;
        let budget = &self.outgoing.budget;
        counts.session_memory_bytes = budget.held() as u64;
        counts.session_memory_bytes_max = budget.room() as u64;
        counts.shedding = Shed::ALL.iter().filter(|shed| budget.sheds(**shed)).count() as u64;
        let (doorway, desk) = self.admission.waiting();
        counts.admissions_waiting = (doorway + desk) as u64;
        counts.catch_ups_waiting = self.catch_ups.count().1 as u64;
    }

    /// Adds up what the parts hold.
    fn account(&mut self) {
        let account = &mut self.counts.memory;
        self.outgoing.account(account);
        let bodies = account.get(Part::Bodies);
        let bodies = usize::try_from(bodies).expect("it was a usize") + self.bodies.memory_bytes();
        account.set(Part::Bodies, bodies);
        account.set(Part::Sessions, self.sessions.memory_bytes());
        let (users, conversations) = self.inboxes.memory_bytes();
        account.set(Part::Users, users);
        account.set(Part::Conversations, conversations);
        account.set(Part::Channels, self.sequencer.memory_bytes());
        let asked = self.asked.capacity() * size_of::<Asked>();
        let queues = self.mesh.memory_bytes() + self.committing.memory_bytes() + asked;
        account.set(Part::Queues, queues);
        // What sessions hold is counted as it changes.
        let parts = Part::ALL.iter().filter(|part| **part != Part::SendBlocks);
        let tables: u64 = parts.map(|part| account.get(*part)).sum();
        let tables = usize::try_from(tables).unwrap_or(usize::MAX);
        let idle = self.outgoing.idle_block_bytes();
        self.outgoing.budget.set_base(tables.saturating_add(idle));
    }

    /// The connection's state (for tests and tools).
    #[must_use]
    pub fn connection(&mut self, conn: ConnId) -> Option<&Connection> {
        self.outgoing.connections.get(conn).map(|connection| &*connection)
    }
}

/// Puts a part of an inbox into the open batch.
fn put_fold(committing: &mut Committing, fold: &Fold<'_>) {
    let Fold { user, entries, conversations } = *fold;
    let batch = committing.batch();
    batch.put_chunk(user, entries);
    for (channel, conversation) in conversations {
        batch.put_conversation(user, *channel, conversation);
    }
    let through = entries.last().expect("a fold has entries").inbox_seq;
    committing.push(Pending::Folded(user, through));
}
