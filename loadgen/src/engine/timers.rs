//! When sessions want to be looked at: a hashed timing wheel (Varghese and Lauck 1987).
//!
//! A session has one deadline. Moving it further away costs nothing: the wheel finds out when it
//! comes to the old one. Moving it nearer adds an entry, and the old one is recognised as stale.

use std::time::Duration;

use crate::clock::{Nanos, whole};

/// How exact deadlines are.
const TICK: Duration = Duration::from_millis(20);

/// Ticks of one turn of the wheel, a power of two: ten seconds.
const TICKS: u64 = 512;

/// A session that is in no list.
const IDLE: u64 = u64::MAX;

/// The wheel of one thread.
#[derive(Debug)]
pub(crate) struct Timers {
    lists: Vec<Vec<u32>>,
    /// The tick at which each session is to be looked at; [`IDLE`] for none.
    armed: Vec<u64>,
    /// Everything up to this tick has been given out.
    now: u64,
}

impl Timers {
    /// For this many sessions.
    pub(crate) fn new(sessions: usize) -> Self {
        let lists = (0..TICKS).map(|_| Vec::new()).collect();
        Self { lists, armed: vec![IDLE; sessions], now: 0 }
    }

    /// The session wants to be looked at by `deadline`, or earlier if it said so before.
    pub(crate) fn arm(&mut self, session: u32, deadline: Nanos) {
        if deadline == Nanos::NEVER {
            return;
        }
        // Up, so that a session is not looked at before its deadline.
        let tick = deadline.0.div_ceil(whole(TICK)).max(self.now + 1);
        let armed = &mut self.armed[session as usize];
        if tick < *armed {
            *armed = tick;
            self.lists[place(tick)].push(session);
        }
    }

    /// Takes out who is to be looked at by `now`. Who is not done arms itself again.
    pub(crate) fn advance(&mut self, now: Nanos, due: &mut Vec<u32>) {
        let now = now.0 / whole(TICK);
        while self.now < now {
            self.now += 1;
            let list = &mut self.lists[place(self.now)];
            let (armed, tick) = (&mut self.armed, self.now);
            list.retain(|&session| {
                let wanted = &mut armed[session as usize];
                if *wanted == tick {
                    *wanted = IDLE;
                    due.push(session);
                }
                // Later turns of the wheel stay; what is stale goes.
                *wanted != IDLE && *wanted > tick && place(*wanted) == place(tick)
            });
        }
    }

    /// When the next tick ends.
    pub(crate) fn next(&self) -> Nanos {
        Nanos((self.now + 1) * whole(TICK))
    }
}

fn place(tick: u64) -> usize {
    usize::try_from(tick % TICKS).expect("below TICKS")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: u64) -> Nanos {
        Nanos(ticks * whole(TICK))
    }

    fn due(timers: &mut Timers, ticks: u64) -> Vec<u32> {
        let mut due = Vec::new();
        timers.advance(at(ticks), &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn sessions_come_up_at_their_deadline_in_any_turn_of_the_wheel() {
        let mut timers = Timers::new(5);
        for (session, tick) in [(0, 3), (1, 3), (2, 4), (3, 3 + TICKS), (4, 4 + 7 * TICKS)] {
            timers.arm(session, at(tick));
        }
        assert!(due(&mut timers, 2).is_empty());
        assert_eq!(timers.next(), at(3));
        assert_eq!(due(&mut timers, 3), [0, 1]);
        assert_eq!(due(&mut timers, 100), [2]);
        assert!(due(&mut timers, 2 + TICKS).is_empty());
        assert_eq!(due(&mut timers, 3 + TICKS), [3]);
        assert!(due(&mut timers, 3 + 7 * TICKS).is_empty());
        assert_eq!(due(&mut timers, 9 * TICKS), [4]);
    }

    #[test]
    fn the_nearest_deadline_counts_and_brings_a_session_up_once() {
        let mut timers = Timers::new(1);
        timers.arm(0, at(50));
        timers.arm(0, at(10));
        timers.arm(0, at(90));
        timers.arm(0, Nanos::NEVER);
        assert_eq!(due(&mut timers, 10), [0]);
        assert!(due(&mut timers, 100).is_empty());
        timers.arm(0, at(50));
        assert_eq!(due(&mut timers, 101), [0], "what has passed is due at once");
    }

    #[test]
    fn a_fraction_of_a_tick_is_waited_for() {
        let mut timers = Timers::new(1);
        timers.arm(0, Nanos(at(2).0 + 1));
        assert_eq!((due(&mut timers, 2), due(&mut timers, 3)), (vec![], vec![0]));
    }
}
