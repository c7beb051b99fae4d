//! Sessions that hang up all at once and come back: a storm, or the second half of measuring how
//! fast sessions begin.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;

use super::slot::Life;
use super::{Engine, Stage};
use crate::clock::Nanos;
use crate::ending::Ending;
use crate::scenario::Script;

/// When who goes, and how they come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AbsencePlan {
    /// Sessions that go, of all threads.
    pub(crate) sessions: u32,
    /// So long after measuring has begun they hang up, and so long after all are back it ends.
    pub(crate) calm: Duration,
    /// They hang up evenly over this time; zero: as fast as they can.
    pub(crate) over: Duration,
    /// They come back at a random time within this.
    pub(crate) jitter: Duration,
    /// All may be on their way at once, as clients are that know nothing of each other; otherwise
    /// as many as when sessions are opened.
    pub(crate) is_storm: bool,
}

/// What all threads know of it.
#[derive(Debug, Default)]
pub(crate) struct Absence {
    /// Who is not back: from the start, all who will go.
    away: AtomicU32,
    /// When the last one came back, in nanoseconds.
    back_at: AtomicU64,
}

impl Absence {
    /// So many will go.
    pub(crate) const fn new(sessions: u32) -> Self {
        Self { away: AtomicU32::new(sessions), back_at: AtomicU64::new(0) }
    }

    fn handle_back(&self, now: Nanos) {
        self.back_at.fetch_max(now.0, Ordering::Relaxed);
        // After the time: who sees nobody away sees when that was.
        self.away.fetch_sub(1, Ordering::Release);
    }

    /// When everybody was back; `None` while somebody is away.
    pub(crate) fn over_at(&self) -> Option<Nanos> {
        let is_over = self.away.load(Ordering::Acquire) == 0;
        is_over.then(|| Nanos(self.back_at.load(Ordering::Relaxed)))
    }
}

impl<S: Script> Engine<S> {
    /// While the window is open: hangs up when it is time, and brings the end nearer when all are
    /// back. Tells when to look again.
    pub(super) fn attend_absence(&mut self, now: Nanos) -> Nanos {
        let Some(plan) = self.work.absence else { return Nanos::NEVER };
        let leaves_at = self.window.begin.plus(plan.calm);
        if now < leaves_at {
            return leaves_at;
        }
        if !self.has_hung_up {
            return self.hang_up_some(now, plan, now.since(leaves_at));
        }
        if let Some(over_at) = self.work.signals.absence.over_at() {
            let end = over_at.plus(plan.calm).max(now);
            if end < self.window.end {
                self.window.end = end;
                self.script.cut(end);
            }
        }
        // The other threads do not tell.
        now.plus(LOOK_EVERY)
    }

    /// A session is where it was before it went, or will never be.
    pub(super) fn handle_back_again(&mut self, now: Nanos) {
        self.tally.back_at = now;
        self.work.signals.absence.handle_back(now);
    }

    /// A bounded number at a time, and then the next turn of the loop: the kernel closes all that
    /// one system call asks for before it lets another thread have the processor.
    fn hang_up_some(&mut self, now: Nanos, plan: AbsencePlan, passed: Duration) -> Nanos {
        assert!(self.stage == Stage::Running, "asked for while the window is open");
        if self.hung_up == 0 && self.work.leaves {
            self.tally.left_at = now;
            if plan.is_storm {
                self.connects.unbound();
            }
        }
        let all = if self.work.leaves { self.tally.wanted } else { 0 };
        let due = if plan.over.is_zero() { 1.0 } else { passed.div_duration_f64(plan.over) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "up to `all`")]
        let due = (f64::from(all) * due.min(1.0)).ceil() as u32;
        let until = due.min(self.hung_up + HANG_UPS_PER_TURN);
        for session in self.hung_up..until {
            // Who could not be opened does not come back either.
            if self.slots[session as usize].life != Life::Live {
                self.work.signals.absence.handle_back(now);
                continue;
            }
            let Some(cursor) = self.script.hang_up(session) else { continue };
            let jitter = plan.jitter.mul_f64(self.kit.rng.random::<f64>());
            self.slots[session as usize].client.rewind(cursor, jitter);
            self.handle_ending(session, now, &Ending::HungUp);
        }
        self.hung_up = until;
        self.has_hung_up = until == all;
        if until < due { now } else { now.plus(HANG_UP_EVERY) }
    }
}

/// Sessions of a thread that hang up in one turn of its loop.
const HANG_UPS_PER_TURN: u32 = 64;

/// Between two looks at who is to hang up.
const HANG_UP_EVERY: Duration = Duration::from_millis(5);

/// How exact the end is, after the last one is back.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_the_last_one_is_back() {
        let absence = Absence::new(2);
        absence.handle_back(Nanos(70));
        assert_eq!(absence.over_at(), None);
        absence.handle_back(Nanos(50));
        assert_eq!(absence.over_at(), Some(Nanos(70)));
    }
}
