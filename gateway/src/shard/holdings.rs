//! What a core holds at one moment. Nobody needs it to serve; a simulation compares it with the
//! bounds after its steps, and finds in it what a crash at that moment cuts off.

use super::Shard;
use crate::connection::Phase;

/// See the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holdings {
    /// Entries, answers and deliveries that wait for the disk.
    pub window: usize,
    /// Bytes of the open batch.
    pub open_bytes: usize,
    /// Batches on their way to the disk.
    pub batches_in_flight: usize,
    /// Batches that came back because the disk is full.
    pub batches_refused: usize,
    /// Fan-outs that are not durable in every inbox.
    pub fans_outstanding: u64,
    /// What other cores are owed beyond their lanes.
    pub owed: usize,
    /// Inbox entries that only the journal holds.
    pub unfolded: usize,
    /// Bytes of the longest send queue, and of all.
    pub queue_bytes: (usize, usize),
    /// Bytes of memory of the session that holds most, its pages on their way included.
    pub session_bytes: usize,
    /// Bytes of memory of all connections: as the connections say, and as they are counted.
    pub held: (usize, usize),
    /// Bytes of memory that they may hold.
    pub room: usize,
    /// Blocks that are out of the pool.
    pub blocks_out: usize,
    /// Posts that wait for their answer: the most of one session, and all.
    pub posts_in_flight: (usize, usize),
    /// Reads that wait for their answer: the most of one session, and all.
    pub reads_in_flight: (usize, usize),
    /// Connections that are not read, as the connections say and as the list of them does.
    pub stalled: (usize, usize),
    /// Connections that wait for their turn to come in.
    pub in_line: usize,
    /// Catch-up reads under way, and those that wait for them.
    pub catch_ups: (usize, usize),
    /// Questions to the store, and those that are asked again.
    pub asked: (usize, usize),
    /// Connections.
    pub connections: usize,
    /// Sessions, as the connections say and as the table of sessions does.
    pub sessions: (usize, usize),
}

impl Shard {
    /// What this core holds now; looks at every connection.
    #[must_use]
    pub fn holdings(&mut self) -> Holdings {
        let (batches_in_flight, batches_refused) = self.committing.batches();
        let mut holdings = Holdings {
            window: self.committing.waiting(),
            open_bytes: self.committing.batch().bytes(),
            batches_in_flight,
            batches_refused,
            fans_outstanding: self.ledger.outstanding(),
            owed: self.mesh.owed(),
            unfolded: self.inboxes.unfolded(),
            blocks_out: self.outgoing.blocks_out(),
            held: (0, self.outgoing.budget.held()),
            room: self.outgoing.budget.room(),
            stalled: (0, self.stalled.len()),
            catch_ups: self.catch_ups.count(),
            asked: (self.asked.len(), self.unanswered.len()),
            connections: self.outgoing.connections.len(),
            sessions: (0, self.sessions.len()),
            ..Holdings::default()
        };
        let page_bytes = self.common.limits.page_held_bytes_max();
        let ids: Vec<_> = self.outgoing.connections.ids().collect();
        for conn in ids {
            let Some(connection) = self.outgoing.connections.get(conn) else { continue };
            let of_one_and_all = |(most, all): &mut (usize, usize), count: usize| {
                *most = (*most).max(count);
                *all += count;
            };
            of_one_and_all(&mut holdings.queue_bytes, connection.queue.bytes());
            holdings.held.0 += connection.held_bytes();
            let session_bytes = connection.session_bytes(page_bytes);
            holdings.session_bytes = holdings.session_bytes.max(session_bytes);
            let waits = matches!(connection.phase, Phase::Waiting | Phase::LoggingIn(_));
            holdings.in_line += usize::from(waits);
            let Phase::Live(live) = &connection.phase else { continue };
            holdings.sessions.0 += 1;
            holdings.stalled.0 += usize::from(live.stall.is_some());
            of_one_and_all(&mut holdings.posts_in_flight, live.posts_in_flight.into());
            of_one_and_all(&mut holdings.reads_in_flight, live.reads_in_flight.into());
        }
        holdings
    }
}
