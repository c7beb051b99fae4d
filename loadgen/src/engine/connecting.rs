//! How sessions begin and end: a bounded number at a time, tried again a bounded number of times.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, bail};
use rand::RngExt;
use uring::{Descriptor, Start, Token};

use super::slot::Life;
use super::{Engine, Stage};
use crate::clock::Nanos;
use crate::ending::Ending;
use crate::scenario::Script;
use crate::target::CONNECTIONS_PER_SOURCE;

/// Attempts of one session.
const ATTEMPTS_MAX: u32 = 6;

/// Connections that one turn of the loop asks for: on loopback the kernel does both sides of each
/// at once, and lets no other thread have the processor before all are done.
const CONNECTS_PER_TURN: u32 = 64;

/// Before the second attempt; it doubles from one to the next: about six seconds in all.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Before the second attempt of a session that comes back; it doubles from one to the next, and
/// the time waited is any up to it (full jitter), so that they come back apart.
const RETURN_BACK_OFF: Duration = Duration::from_millis(20);

/// It doubles no further than this.
const RETURN_BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// A session that is not live again after so long is given up.
const RETURN_MAX: Duration = Duration::from_secs(60);

/// So long where many come back at once on purpose.
const STORM_MAX: Duration = Duration::from_secs(300);

/// From TCP to Welcome.
const OPENING_MAX: Duration = Duration::from_secs(15);

/// While sessions are still to be opened, one becomes live at least this often; otherwise the
/// server has no room for more, and the rest is given up.
const OPENING_SILENCE_MAX: Duration = Duration::from_secs(20);

/// Sources that a further attempt is away from the one before: ports may have run out there.
const SOURCES_APART: u32 = 97;

/// Who is to connect.
pub(super) struct Connects {
    queue: VecDeque<u32>,
    in_flight: u32,
    in_flight_max: u32,
}

impl Connects {
    /// All of them, so many at a time.
    pub(super) fn new(sessions: u32, in_flight_max: u32) -> Self {
        Self { queue: (0..sessions).collect(), in_flight: 0, in_flight_max }
    }

    /// Whether another one may start now.
    pub(super) fn has_room(&self) -> bool {
        !self.queue.is_empty() && self.in_flight < self.in_flight_max
    }

    /// Any number at a time, from here on.
    pub(super) const fn unbound(&mut self) {
        self.in_flight_max = u32::MAX;
    }

    /// Again.
    pub(super) fn push(&mut self, session: u32) {
        self.queue.push_back(session);
    }
}

impl<S: Script> Engine<S> {
    /// While sessions are opened for the first time: fails if they cannot be.
    pub(super) fn check_opening(&mut self, now: Nanos) -> Result<()> {
        let last_live = self.tally.last_live.max(self.stage_since);
        if now.since(last_live) > OPENING_SILENCE_MAX {
            self.give_up_opening(now);
        }
        if self.tally.given_up > 0 && (self.script.needs_all() || self.tally.live == 0) {
            bail!(
                "{} of {} sessions cannot be opened: {}",
                self.tally.given_up,
                self.tally.wanted,
                reasons(&self.tally.failures)
            );
        }
        Ok(())
    }

    /// Starts as many connections as may be on their way.
    pub(super) fn start_connects(&mut self, now: Nanos) -> Result<()> {
        for _ in 0..CONNECTS_PER_TURN {
            if !self.connects.has_room() {
                break;
            }
            let Some(session) = self.connects.queue.pop_front() else { break };
            let slot = &mut self.slots[session as usize];
            let count = u32::try_from(self.work.targets.len())?;
            let global = self.work.first + session;
            let target = &self.work.targets[(global % count) as usize];
            let skipped = slot.attempt % ATTEMPTS_MAX * SOURCES_APART * CONNECTIONS_PER_SOURCE;
            let source = target.source((global / count).wrapping_add(skipped));
            if self.ring.connect(Token::new(session, 0), target.address, source).is_err() {
                self.connects.queue.push_front(session);
                break;
            }
            self.tally.retries += u64::from(slot.attempt > 0 && !slot.is_returning());
            slot.life = Life::Connecting;
            slot.deadline = now.plus(OPENING_MAX);
            slot.operations += 1;
            self.connects.in_flight += 1;
        }
        Ok(())
    }

    /// Nothing becomes live any more.
    fn give_up_opening(&mut self, now: Nanos) {
        self.connects.queue.clear();
        for session in 0..self.tally.wanted {
            let slot = &mut self.slots[session as usize];
            match slot.life {
                Life::Connecting | Life::Opening => {
                    slot.attempt = ATTEMPTS_MAX;
                    self.handle_ending(session, now, &Ending::Timeout);
                }
                Life::Ending { retry: true } | Life::Waiting => {
                    slot.life = Life::Ending { retry: false };
                    self.tally.given_up += 1;
                    self.settle(session, now);
                }
                Life::Live | Life::Ending { retry: false } | Life::Gone => {}
            }
        }
    }

    pub(super) fn handle_connected(&mut self, session: u32, descriptor: Descriptor) {
        if self.slots[session as usize].life != Life::Connecting {
            // Given up meanwhile.
            self.slots[session as usize].operations += 1;
            self.ring.close(descriptor, Token::new(session, 0));
            return;
        }
        let global = (self.work.first + session) as usize;
        let target = &self.work.targets[global % self.work.targets.len()];
        let slot = &mut self.slots[session as usize];
        slot.descriptor = Some(descriptor);
        slot.life = Life::Opening;
        slot.take_block(&mut self.blocks);
        slot.client.handle_connected(&mut self.kit, target, &mut slot.out);
        slot.mark(session, &mut self.dirty);
        let deadline = slot.deadline;
        self.listen(session, Start::PollFirst);
        self.timers.arm(session, deadline);
    }

    /// The session was welcomed.
    pub(super) fn handle_live(&mut self, session: u32, now: Nanos) {
        let slot = &mut self.slots[session as usize];
        slot.life = Life::Live;
        if slot.is_returning() {
            slot.down_since = Nanos::NEVER;
            self.tally.down -= 1;
            self.tally.reconnects += 1;
            self.tally.resumed += u64::from(slot.client.has_resumed());
        } else {
            self.tally.last_live = now;
        }
        self.connects.in_flight -= 1;
        self.tally.live += 1;
    }

    /// The session is over, whatever it was. Its connection is closed, and if it was not live yet
    /// it may be tried again; if it was, it may come back.
    pub(super) fn handle_ending(&mut self, session: u32, now: Nanos, ending: &Ending) {
        let slot = &mut self.slots[session as usize];
        let retry = match slot.life {
            Life::Live => {
                self.tally.live -= 1;
                if self.stage < Stage::Leaving {
                    self.comes_back(session, now, ending)
                } else {
                    self.handle_left(now);
                    false
                }
            }
            Life::Connecting | Life::Opening if slot.is_returning() => {
                self.connects.in_flight -= 1;
                *self.tally.failures.entry(ending.label()).or_default() += 1;
                let may_pass = ending.may_pass() || slot.client.falls_back(ending);
                let retry = may_pass && now.since(slot.down_since) < self.return_max();
                if !retry {
                    self.tally.down -= 1;
                    self.give_up_live(session, ending);
                    if self.script.is_away(session) {
                        self.handle_back_again(now);
                    }
                }
                retry
            }
            Life::Connecting | Life::Opening => {
                self.connects.in_flight -= 1;
                *self.tally.failures.entry(ending.label()).or_default() += 1;
                let retry = ending.may_pass() && slot.attempt + 1 < ATTEMPTS_MAX;
                self.tally.given_up += u32::from(!retry);
                retry
            }
            Life::Waiting | Life::Ending { .. } | Life::Gone => return,
        };
        let slot = &mut self.slots[session as usize];
        slot.life = Life::Ending { retry };
        slot.out.clear();
        slot.return_block(&mut self.blocks);
        slot.close(session, &mut self.ring);
        // Or its next connection would be received from twice.
        self.starved.retain(|starved| *starved != session);
        self.settle(session, now);
    }

    /// Whether a live session that has ended is to be live again.
    fn comes_back(&mut self, session: u32, now: Nanos, ending: &Ending) -> bool {
        if !(self.work.reconnects && ending.may_pass()) {
            self.give_up_live(session, ending);
            return false;
        }
        *self.tally.broken.entry(ending.label()).or_default() += 1;
        self.tally.down += 1;
        let slot = &mut self.slots[session as usize];
        (slot.attempt, slot.down_since) = (0, now);
        self.script.handle_broken(session);
        true
    }

    /// For how long a session tries to be live again.
    fn return_max(&self) -> Duration {
        if self.work.absence.is_some() { STORM_MAX } else { RETURN_MAX }
    }

    /// A session that was live will not be again.
    fn give_up_live(&mut self, session: u32, ending: &Ending) {
        *self.tally.dropped.entry(ending.label()).or_default() += 1;
        self.script.handle_ended(session);
    }

    /// Goes on once nothing of the connection is left in the ring.
    pub(super) fn settle(&mut self, session: u32, now: Nanos) {
        let slot = &mut self.slots[session as usize];
        let Life::Ending { retry } = slot.life else { return };
        if slot.operations > 0 {
            return;
        }
        slot.client.reset();
        (slot.is_sending, slot.is_dirty) = (false, false);
        if !retry {
            slot.life = Life::Gone;
            return;
        }
        let random = self.kit.rng.random::<f64>();
        let wait = if slot.is_returning() {
            let most = RETURN_BACK_OFF * (1 << slot.attempt.min(16));
            // Clients that take their time to come back take it again.
            let jitter = self.work.absence.map_or(Duration::ZERO, |absence| absence.jitter);
            let most = most.min(RETURN_BACK_OFF_MAX.max(jitter));
            most.mul_f64(random).max(slot.client.take_delay())
        } else {
            // From half to one and a half: sessions that failed together come back apart.
            (BACK_OFF * (1 << slot.attempt)).mul_f64(0.5 + random)
        };
        slot.deadline = now.plus(wait);
        slot.attempt += 1;
        slot.life = Life::Waiting;
        self.timers.arm(session, slot.deadline);
    }
}

/// `12 x connect: Connection refused; 1 x ...`, the most frequent first.
pub(crate) fn reasons(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let parts: Vec<String> =
        counts.iter().map(|(label, count)| format!("{count} x {label}")).collect();
    parts.join("; ")
}
