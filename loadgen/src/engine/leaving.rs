//! The end of a run: good-byes, a bounded number at a time, and then an end of whatever is left.

use std::time::Duration;

use uring::Completion;

use super::slot::Life;
use super::{Engine, Stage};
use crate::clock::Nanos;
use crate::scenario::Script;

/// Good-byes that are on their way, of one thread: what they are written into is used again for
/// the next ones, and a server that is slow to answer is not buried under them.
const LEAVING_AT_ONCE: u32 = 1024;

/// No connection was closed for so long by the server we said good-bye to: it will not.
const LEAVING_SILENCE_MAX: Duration = Duration::from_secs(3);

/// How long the kernel may take to let go of what was cancelled.
const HANGING_UP_MAX: Duration = Duration::from_secs(5);

impl<S: Script> Engine<S> {
    pub(super) fn leave(&mut self, now: Nanos) {
        self.tally.held = self.tally.live;
        self.enter(Stage::Leaving, now);
        self.last_news = now;
    }

    /// Says some more good-byes. Tells whether nobody is left, or nobody is answered.
    pub(super) fn has_left(&mut self, now: Nanos) -> bool {
        let sessions = self.tally.wanted;
        while self.leaves < sessions && self.farewells < LEAVING_AT_ONCE {
            let (session, slot) = (self.leaves, &mut self.slots[self.leaves as usize]);
            self.leaves += 1;
            if slot.life == Life::Live {
                slot.take_block(&mut self.blocks);
                if slot.client.leave(&mut self.kit, &mut slot.out) {
                    slot.mark(session, &mut self.dirty);
                    self.farewells += 1;
                }
            }
        }
        self.tally.live == 0 || now.since(self.last_news) > LEAVING_SILENCE_MAX
    }

    /// A session has ended after the run.
    pub(super) fn handle_left(&mut self, now: Nanos) {
        self.farewells = self.farewells.saturating_sub(1);
        self.last_news = now;
    }

    /// Ends the connections that are left. Each operation by its name: a ring that is dropped
    /// cancels everything, for which the kernel goes through all operations for each of them.
    pub(super) fn hang_up(&mut self) {
        for (session, slot) in (0..).zip(&mut self.slots) {
            slot.close(session, &mut self.ring);
        }
        let until = self.work.clock.now().plus(HANGING_UP_MAX);
        // One operation is the ring's own.
        while self.ring.in_flight() > 1 {
            let wait = until.since(self.work.clock.now());
            // A ring that fails, or takes too long, is left to its own end.
            if wait.is_zero() || self.ring.submit_and_wait(1, Some(wait)).is_err() {
                return;
            }
            while let Some(completion) = self.ring.next_completion() {
                if let Completion::Received { buffer, .. } = completion {
                    self.ring.recycle(buffer);
                }
            }
        }
    }
}
