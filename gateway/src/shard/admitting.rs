//! Connections that wait to come in, and catch-up reads that wait for others: see
//! [`crate::admission`] for who is next.

use std::collections::VecDeque;

use router::sessions::ConnId;
use wire::client::Credential;
use wire::{CloseCode, InboxSeq, UserId};

use super::Shard;
use super::reads::Asked;
use crate::admission::Next;
use crate::clock::TICK;
use crate::connection::{Connection, Login, Phase, server_session};
use crate::event::{Effect, Effects};

/// Reads of one core for sessions that catch up, under way at the store together: enough to keep
/// its readers busy, few enough that the read of an established session does not stand behind a
/// storm of them.
pub const CATCH_UPS_MAX: usize = 64;

/// Connections that end in one turn because their peers are gone. To close a socket takes the
/// kernel some 50 µs in which it lets nobody else have the processor, and it closes all that one
/// system call asks for.
pub const ENDS_PER_TURN: u32 = 32;

/// Of all cores together while there is talk: a good half of a processor. Who is gone does not
/// mind.
pub const ENDS_PER_SECOND: u32 = 20_000;

#[expect(clippy::cast_possible_truncation, reason = "a tick is short")]
const TICKS_PER_SECOND: u32 = 1000 / TICK.as_millis() as u32;

/// Messages went through a core at most so long ago: there is talk. Ten seconds, so that a pause
/// in a conversation does not open the door to everybody.
const TALK_TICKS: u32 = 200;

/// What a session that catches up asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum CatchUp {
    /// The head of a user whose connections wait for it.
    Head(UserId),
    /// A page of a session's inbox.
    Page {
        /// Whose.
        conn: ConnId,
        /// The request it answers.
        request: u32,
        /// Behind this place.
        after: InboxSeq,
        /// So many entries; 0 for as many as permitted.
        limit: u16,
    },
}

/// The catch-up reads of a core.
#[derive(Debug, Default)]
pub(super) struct CatchUps {
    under_way: usize,
    waiting: VecDeque<CatchUp>,
}

impl CatchUps {
    /// How many are under way, and how many wait for them.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.under_way, self.waiting.len())
    }
}

impl Shard {
    /// A turn begins: some more of those whose peers are gone end.
    pub(super) fn end_gone(&mut self, effects: &mut Effects) {
        self.ends_left = ENDS_PER_TURN;
        while self.ends_left > 0
            && self.ends_this_tick > 0
            && let Some(conn) = self.gone.pop()
        {
            self.disconnected(conn, effects);
        }
    }

    /// A turn begins: who has waited comes in, as far as the budget goes.
    pub(super) fn admit_waiting(&mut self, effects: &mut Effects) {
        self.admission.handle_turn();
        while let Some(next) = self.admission.next_admitted() {
            let (Next::Accepted(conn) | Next::Login(conn)) = next;
            let phase = self.outgoing.connections.get(conn).map(|connection| &connection.phase);
            match (next, phase) {
                (Next::Accepted(_), Some(Phase::Waiting)) => self.let_speak(conn, effects),
                (Next::Login(_), Some(Phase::LoggingIn(_))) => self.log_in(conn, effects),
                // It has ended, or was ended for waiting too long.
                _ => self.admission.give_back(),
            }
        }
    }

    /// Lets nobody in while as many wait as can be served in time.
    pub(super) fn mind_the_crowd(&mut self, effects: &mut Effects) {
        let is_crowded = self.admission.is_crowded();
        if is_crowded == self.is_crowded || self.is_draining() {
            return;
        }
        self.is_crowded = is_crowded;
        self.counts.crowds += u64::from(is_crowded);
        effects.push(if is_crowded { Effect::PauseAccepting } else { Effect::ResumeAccepting });
    }

    /// A tick begins.
    pub(super) fn look_for_talk(&mut self) {
        let seen = self.counts.posts + self.counts.sequenced + self.counts.delivered;
        if seen != std::mem::replace(&mut self.talk_seen, seen) {
            self.talk_until = self.now.tick.plus(TALK_TICKS);
        }
        let has_talk = self.now.tick < self.talk_until;
        self.admission.handle_tick(has_talk);
        let per_tick = ENDS_PER_SECOND / TICKS_PER_SECOND / u32::from(self.common.map.cores());
        self.ends_this_tick = if has_talk { per_tick.max(1) } else { u32::MAX };
    }

    /// An accepted connection may begin its handshake.
    pub(super) fn let_speak(&mut self, conn: ConnId, effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        connection.phase = Phase::Handshake(Vec::new());
        connection.deadline = self.now.tick.plus(self.common.limits.hello_ticks);
        connection.receiving = true;
        let deadline = connection.deadline;
        self.outgoing.wheel.set(conn.slot, deadline);
        effects.push(Effect::ReceiveOnce(conn));
    }

    /// The token of a connection is looked at.
    fn log_in(&mut self, conn: ConnId, effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        let phase = std::mem::replace(&mut connection.phase, Phase::Greeting);
        let Phase::LoggingIn(login) = phase else { unreachable!("the caller has looked") };
        let Login { token, device, hello, leftover } = *login;
        let ws = std::mem::replace(&mut connection.ws, server_session());
        match self.verify(&Credential::Token(&token), device) {
            Ok(caller) => self.let_in(conn, ws, caller, (hello, leftover), effects),
            Err(code) => {
                self.outgoing.connections.get(conn).expect("it is still here").ws = ws;
                self.fail_with(conn, code, "");
                self.receive_close(conn, effects);
            }
        }
    }

    /// Who has waited for too long, and is not worth what it still costs: its client has given
    /// up, or will try again.
    pub(super) fn expire_waiting(&mut self, conn: ConnId, effects: &mut Effects) {
        self.counts.admissions_dropped += 1;
        let phase = self.outgoing.connections.get(conn).map(|connection| &connection.phase);
        if matches!(phase, Some(Phase::LoggingIn(_))) {
            self.close_session(conn, CloseCode::Unavailable, effects);
        } else {
            // Many came together, so many have waited too long together.
            self.disconnected(conn, effects);
        }
    }

    /// The page of a session's inbox after `after`.
    pub(super) fn ask_sync(
        &mut self,
        conn: ConnId,
        request: u32,
        after: InboxSeq,
        limit: u16,
        effects: &mut Effects,
    ) {
        if !self.outgoing.has_room_for_page(conn) {
            // It has not read what it was sent, and asks for more.
            return self.outgoing.give_up(conn);
        }
        let Some(live) = self.outgoing.connections.get(conn).and_then(Connection::live) else {
            return;
        };
        live.reads_in_flight += 1;
        self.catch_up(CatchUp::Page { conn, request, after, limit }, effects);
    }

    /// Asks the store for a session that catches up, now or when fewer such reads are under way.
    pub(super) fn catch_up(&mut self, catch_up: CatchUp, effects: &mut Effects) {
        if self.catch_ups.under_way >= self.common.limits.bounds.catch_ups_max {
            self.counts.catch_ups_deferred += 1;
            self.catch_ups.waiting.push_back(catch_up);
        } else {
            self.begin_catch_up(catch_up, effects);
        }
    }

    /// A catch-up read begins again.
    pub(super) const fn note_catch_up(&mut self) {
        self.catch_ups.under_way += 1;
    }

    /// A catch-up read has ended: the next one begins.
    pub(super) fn caught_up(&mut self, effects: &mut Effects) {
        self.catch_ups.under_way -= 1;
        while self.catch_ups.under_way < self.common.limits.bounds.catch_ups_max
            && let Some(next) = self.catch_ups.waiting.pop_front()
        {
            self.begin_catch_up(next, effects);
        }
    }

    /// Nothing is asked for a session that has ended.
    fn begin_catch_up(&mut self, catch_up: CatchUp, effects: &mut Effects) {
        match catch_up {
            // Read for a delivery meanwhile, her connections have been welcomed.
            CatchUp::Head(user) if !self.is_awaited(user) => {}
            CatchUp::Head(user) if self.inboxes.committed(user).is_some() => {
                self.welcome_joining(user, effects);
                self.obey_services(user, effects);
            }
            CatchUp::Head(user) => {
                if self.inboxes.want_head(user).is_some() {
                    self.catch_ups.under_way += 1;
                    self.ask(Asked::Head(user), effects);
                }
            }
            CatchUp::Page { conn, request, after, limit } => {
                if self.push_sync(conn, request, after, limit, effects) {
                    self.catch_ups.under_way += 1;
                }
            }
        }
    }
}
