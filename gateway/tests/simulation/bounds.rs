//! Every bound, compared with what the cores hold.

use gateway::limits::{BATCHES_PER_CORE, READS_IN_FLIGHT_MAX};
use gateway::shard::Holdings;
use router::mesh::BACKLOG_MAX;
use router::sequencer::PARKED_MAX;

use crate::world::World;

/// What a window may hold beyond its bound: offers are sequenced up to the bound, and what waited
/// in a channel (or for a user) and the fan-outs of what was committed come on top.
const WINDOW_SLACK: usize = 4 * PARKED_MAX;

/// What a batch may be over its bound by: the offers that waited in one channel, each with a body.
const BATCH_SLACK_BYTES: usize = 1 << 20;

/// Catch-ups beyond their bound: heads that could not be read are asked for again all at once.
const CATCH_UP_SLACK: usize = 64;

/// What a queue may be over its bound by: a close frame.
const QUEUE_SLACK_BYTES: usize = 128;

impl World {
    /// Compares each core's holdings with their bounds.
    pub(crate) fn check_bounds(&mut self) {
        for core in 0..self.host.cores() {
            let holdings = self.host.holdings(core);
            self.check_holdings(core, &holdings);
        }
    }

    fn check_holdings(&mut self, core: usize, holdings: &Holdings) {
        let limits = &self.host.setup.limits;
        let batch_bytes = self.host.setup.batch_bytes_max.min(1 << 20);
        let rows = [
            ("commit window", holdings.window, limits.bounds.window_max, WINDOW_SLACK),
            ("open batch", holdings.open_bytes, batch_bytes, BATCH_SLACK_BYTES),
            ("batches", holdings.batches_in_flight + holdings.batches_refused, BATCHES_PER_CORE, 0),
            ("backlog", holdings.owed, 0, BACKLOG_MAX),
            ("send queue", holdings.queue_bytes.0, limits.send_queue_bytes_max, QUEUE_SLACK_BYTES),
            (
                "memory of a session",
                holdings.session_bytes,
                limits.session_bytes_max,
                limits.send_blocks.1,
            ),
            (
                "memory of a core",
                holdings.held.0,
                limits.bounds.room_bytes_max,
                // Of those who are being closed, who get that frame whatever there is.
                (holdings.connections - holdings.sessions.0) * limits.send_blocks.1,
            ),
            ("send blocks", holdings.blocks_out, limits.send_blocks.0, 0),
            (
                "posts in flight",
                holdings.posts_in_flight.0,
                limits.told.posts_in_flight_max.into(),
                0,
            ),
            ("catch-ups", holdings.catch_ups.0, limits.bounds.catch_ups_max, CATCH_UP_SLACK),
            ("reads in flight", holdings.reads_in_flight.0, READS_IN_FLIGHT_MAX.into(), 0),
        ];
        for (name, found, most, slack) in rows {
            let bound = most.saturating_add(slack);
            assert!(found <= bound, "bounds: {name} of core {core}: {found}, at most {bound}");
            if found >= most && found > 0 {
                self.trace.count(|stats| *stats.bounds.entry(name).or_default() += 1);
            }
        }
        let (held, counted) = holdings.held;
        assert_eq!(held, counted, "bounds: memory of core {core}, as it is and as it is counted");
        let (stalled, listed) = holdings.stalled;
        assert!(
            stalled <= listed,
            "bounds: {stalled} stalled, {listed} in the list of core {core}"
        );
        let (sessions, in_table) = holdings.sessions;
        assert_eq!(sessions, in_table, "bounds: sessions of core {core}");
    }
}
