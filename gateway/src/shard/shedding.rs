//! Memory becomes short: what is given up, and what happens at the end of a session's or a core's
//! room. See [`crate::budget`] for the order.

use router::sessions::ConnId;
use variants::Variant;
use wire::CloseCode;

use super::Shard;
use crate::budget::Shed;
use crate::connection::Phase;
use crate::event::Effects;

impl Shard {
    /// Looks whether something is to be given up, or no longer: that is logged once.
    pub(super) fn watch_memory(&mut self) {
        let (core, budget) = (self.core, &mut self.outgoing.budget);
        while let Some((what, begins)) = budget.poll_edge() {
            let (what, held, room) = (what.name(), budget.held(), budget.room());
            if begins {
                tracing::warn!(%core, what, held, room, "memory is short: shedding begins");
            } else {
                tracing::info!(%core, what, held, room, "memory is no longer short: shedding ends");
            }
        }
    }

    /// Closes sessions that are sent more than they read, the largest send queue first, until
    /// enough is free. All connections are looked at for that, so it is done once a tick.
    pub(super) fn shed_slow_consumers(&mut self, effects: &mut Effects) {
        let is_time = self.shed_at != Some(self.now.tick);
        let sheds = self.outgoing.budget.sheds(Shed::SlowConsumers);
        if !is_time || !sheds || variants::is(Variant::ShareUnbounded) {
            return;
        }
        self.shed_at = Some(self.now.tick);
        let surplus = self.outgoing.budget.surplus();
        for conn in self.outgoing.largest_queues(surplus) {
            self.counts.slow_consumers_shed += 1;
            if let Some(connection) = self.outgoing.connections.get(conn) {
                connection.queue.give_up();
            }
            self.close_session(conn, CloseCode::SlowConsumer, effects);
        }
    }

    /// Whether a session may not begin for want of memory, with so many bytes that it has sent
    /// already.
    pub(super) fn refuses_session(&mut self, bytes: usize) -> bool {
        let budget = &self.outgoing.budget;
        let refuses = budget.sheds(Shed::NewSessions) || bytes > budget.left();
        self.counts.new_sessions_shed += u64::from(refuses);
        refuses
    }

    /// Ends a connection that could not be sent the answer to its handshake, since nothing else may
    /// come first; tells whether it was so.
    pub(super) fn end_unanswered(&mut self, conn: ConnId, effects: &mut Effects) -> bool {
        let connection = self.outgoing.connections.get(conn);
        let is_unanswered = connection.is_some_and(|connection| connection.queue.overflowed());
        if is_unanswered {
            self.counts.received_shed += 1;
            self.outgoing.end(conn, effects);
        }
        is_unanswered
    }

    /// What a connection has sent was looked at: if what is left of it has no room, the connection
    /// is closed.
    pub(super) fn check_room(&mut self, conn: ConnId, effects: &mut Effects) {
        self.outgoing.recount(conn);
        let is_session_over = self.outgoing.is_over(conn);
        let is_core_over = self.outgoing.budget.is_over() && !variants::is(Variant::ShareUnbounded);
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        let is_to_blame = is_core_over && connection.received_bytes() > 0;
        if !is_session_over && !is_to_blame {
            return;
        }
        let code = match connection.phase {
            Phase::Live(_) => CloseCode::SlowConsumer,
            Phase::Greeting | Phase::LoggingIn(_) => CloseCode::Unavailable,
            // No WebSocket (yet, or any more) to close.
            Phase::Handshake(_) | Phase::Closing | Phase::Refused => {
                self.counts.received_shed += 1;
                return self.outgoing.end(conn, effects);
            }
            // With a bound of its own: see `refuses_session`.
            Phase::Vacant | Phase::Waiting | Phase::Passing(_) | Phase::Joining(_) => return,
        };
        if is_session_over {
            self.counts.session_bytes_exceeded += 1;
        } else {
            self.counts.received_shed += 1;
        }
        connection.ws.give_up();
        connection.queue.give_up();
        self.close_session(conn, code, effects);
    }
}
