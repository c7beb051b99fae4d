//! Sending all sessions away at an even rate while the process goes on: for maintenance, or to
//! empty one host into another.
//!
//! Nobody new comes in meanwhile: whoever says Hello is closed with `Unavailable`, which says to
//! try again later.

use std::sync::Arc;

use router::sessions::ConnId;
use wire::CloseCode;
use wire::server::Reconnect;

use super::Shard;
use crate::clock::TICK;
use crate::connection::Phase;
use crate::evacuation::Order;
use crate::event::Effects;
use crate::wheel::Tick;

/// A session with unanswered posts is kept for so many ticks beyond the end: two seconds.
const ANSWERS_TICKS: u32 = 40;

/// An order that is being carried out.
#[derive(Debug)]
pub(super) struct Evacuating {
    order: Arc<Order>,
    until: Tick,
    /// Who was here when it began and has not been looked at. Nobody comes after them but those
    /// who were on their way in.
    left: Vec<ConnId>,
    /// Who was owed something when its turn came.
    owed: Vec<ConnId>,
}

impl Shard {
    /// An order came, or was taken back.
    pub(super) fn evacuate(&mut self, order: Option<Arc<Order>>) {
        self.evacuating = order.map(|order| {
            let ticks = order.over.as_millis().div_ceil(TICK.as_millis());
            let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
            let until = self.now.tick.plus(ticks.max(1));
            let left = self.outgoing.connections.ids().collect();
            Evacuating { order, until, left, owed: Vec::new() }
        });
    }

    /// At each tick: as many go as must, for the rest to be gone in time.
    pub(super) fn go_on_evacuating(&mut self, effects: &mut Effects) {
        let Some(mut evacuating) = self.evacuating.take() else { return };
        let now = self.now.tick;
        let ticks_left = (evacuating.until.0 + 1).saturating_sub(now.0).max(1) as usize;
        let count = evacuating.left.len().div_ceil(ticks_left);
        let is_late = now >= evacuating.until.plus(ANSWERS_TICKS);
        let mut turn = std::mem::take(&mut evacuating.owed);
        turn.extend(evacuating.left.drain(evacuating.left.len() - count..));
        turn.retain(|conn| !self.send_away(*conn, is_late, &evacuating.order, effects));
        evacuating.owed = turn;
        self.evacuating = Some(evacuating);
    }

    /// Tells a session where to go, and closes it. `false` if it is to be looked at again.
    fn send_away(
        &mut self,
        conn: ConnId,
        is_late: bool,
        order: &Order,
        effects: &mut Effects,
    ) -> bool {
        let Some(connection) = self.outgoing.connections.get(conn) else { return true };
        match &connection.phase {
            Phase::Live(live) if live.posts_in_flight == 0 || is_late => {}
            // It becomes a session within a moment, here or on its user's core.
            Phase::Live(_) | Phase::Joining(_) => return false,
            // Turned away when it says Hello, or over already.
            _ => return true,
        }
        let after_ms = u32::try_from(order.after.as_millis()).unwrap_or(u32::MAX);
        let url = order.url.as_deref().or(self.common.limits.reconnect_url.as_deref());
        self.outgoing.send(conn, 0, Reconnect { after_ms, url });
        self.close_session(conn, CloseCode::GoingAway, effects);
        self.counts.evacuated += 1;
        true
    }
}
