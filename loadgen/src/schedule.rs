//! When which session is to send: fixed before the first message, whatever the server does.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::clock::Nanos;

/// How intended times are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Arrivals {
    /// Each session at its fixed interval, with a random phase for each channel, whose members
    /// take turns.
    Uniform,
    /// Independent of each other, as many users are: a Poisson process.
    Poisson,
}

/// A message that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Due {
    /// When it should be sent.
    pub(crate) at: Nanos,
    /// By which session.
    pub(crate) session: u32,
}

/// The intended times of one thread, ascending.
///
/// Verbs: [`Self::peek`] tells the next, [`Self::advance`] goes on.
#[derive(Debug)]
pub(crate) struct Schedule {
    kind: Kind,
    begin: Nanos,
    end: Nanos,
    next: Due,
}

#[derive(Debug)]
enum Kind {
    /// A round in which every session sends once: offsets ascend and are below `interval`, in
    /// nanoseconds. Multiplying, not adding, keeps rounding from adding up.
    Uniform { round: Vec<(f64, u32)>, interval: f64, turn: u64 },
    /// The superposition of all sessions' processes is one of their common rate, in which each
    /// message is any session's with the same probability.
    Poisson { rng: SmallRng, mean: f64, sessions: u32, at: f64 },
}

impl Schedule {
    /// `rate` messages a second from `begin` until before `end`, by sessions that stand in groups
    /// of these sizes: the first group has the sessions from 0 on, the next those that follow.
    pub(crate) fn new(
        arrivals: Arrivals,
        groups: &[u32],
        rate: f64,
        begin: Nanos,
        end: Nanos,
        seed: u64,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let sessions: u32 = groups.iter().sum();
        let kind = match arrivals {
            Arrivals::Uniform => {
                let interval = 1e9 * f64::from(sessions) / rate;
                let round = round(groups, interval, &mut rng);
                Kind::Uniform { round, interval, turn: 0 }
            }
            Arrivals::Poisson => Kind::Poisson { rng, mean: 1e9 / rate, sessions, at: 0.0 },
        };
        let never = Due { at: Nanos::NEVER, session: 0 };
        let mut schedule = Self { kind, begin, end, next: never };
        if sessions > 0 {
            schedule.advance();
        }
        schedule
    }

    /// The next message; `None` after the last.
    pub(crate) fn peek(&self) -> Option<Due> {
        (self.next.at < self.end).then_some(self.next)
    }

    /// Nothing is due from `end` on.
    pub(crate) fn cut(&mut self, end: Nanos) {
        self.end = self.end.min(end);
    }

    /// Goes on to the message after it.
    pub(crate) fn advance(&mut self) {
        let (offset, session) = match &mut self.kind {
            Kind::Uniform { round, interval, turn } => {
                let sessions = round.len() as u64;
                let (phase, session) =
                    round[usize::try_from(*turn % sessions).expect("an index of a Vec")];
                let rounds = *turn / sessions;
                *turn += 1;
                (rounds as f64 * *interval + phase, session)
            }
            Kind::Poisson { rng, mean, sessions, at } => {
                // The logarithm of a number in (0, 1], so finite.
                *at -= (1.0 - rng.random::<f64>()).ln() * *mean;
                (*at, rng.random_range(0..*sessions))
            }
        };
        self.next = Due { at: self.begin.plus(nanoseconds(offset)), session };
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "offsets are positive, and a fraction of a nanosecond is nothing"
)]
fn nanoseconds(offset: f64) -> Duration {
    Duration::from_nanos(offset as u64)
}

/// One round: a random phase for each group, its members evenly spread behind it.
fn round(groups: &[u32], interval: f64, rng: &mut SmallRng) -> Vec<(f64, u32)> {
    let mut round = Vec::new();
    let mut session = 0;
    for &size in groups {
        let step = interval / f64::from(size);
        // Within one step: the group's messages are then evenly spread over the round.
        let phase = rng.random::<f64>() * step;
        for member in 0..size {
            round.push((phase + f64::from(member) * step, session));
            session += 1;
        }
    }
    round.sort_by(|one, other| one.0.total_cmp(&other.0));
    round
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn all(arrivals: Arrivals, groups: &[u32], rate: f64, seconds: u64, seed: u64) -> Vec<Due> {
        let (begin, end) = (Nanos(5 * SECOND), Nanos((5 + seconds) * SECOND));
        let mut schedule = Schedule::new(arrivals, groups, rate, begin, end, seed);
        std::iter::from_fn(|| {
            let due = schedule.peek()?;
            schedule.advance();
            Some(due)
        })
        .collect()
    }

    #[test]
    fn a_uniform_schedule_has_exactly_its_rate_and_every_session_its_share() {
        // Groups, messages a second, seconds.
        let rows: [(&[u32], f64, u64); 5] = [
            (&[2, 2, 2, 2], 8.0, 10),
            (&[2; 500], 10_000.0, 3),
            (&[2, 100, 3], 1_050.0, 4),
            (&[2; 3], 1.0, 600),
            (&[1], 60_000.0, 2),
        ];
        for (groups, rate, seconds) in rows {
            let sent = all(Arrivals::Uniform, groups, rate, seconds, 7);
            let expected = rate * seconds as f64;
            assert_eq!(sent.len() as f64, expected, "{groups:?}");
            assert!(sent.is_sorted_by_key(|due| due.at), "{groups:?}");
            assert!(sent.iter().all(|due| due.at >= Nanos(5 * SECOND)));
            let sessions: u32 = groups.iter().sum();
            let share = expected / f64::from(sessions);
            for session in 0..sessions {
                let own = sent.iter().filter(|due| due.session == session).count() as f64;
                assert!((own - share).abs() <= 1.0, "{groups:?}: {session} sent {own} of {share}");
            }
        }
    }

    #[test]
    fn members_of_a_channel_take_turns_at_even_distances() {
        let sent = all(Arrivals::Uniform, &[2], 4.0, 2, 3);
        let sessions: Vec<u32> = sent.iter().map(|due| due.session).collect();
        assert_eq!(sessions, [0, 1, 0, 1, 0, 1, 0, 1]);
        for pair in sent.windows(2) {
            let distance = pair[1].at.0 - pair[0].at.0;
            assert!(distance.abs_diff(SECOND / 4) <= 1, "{distance}");
        }
    }

    #[test]
    fn channels_have_phases_of_their_own() {
        let sent = all(Arrivals::Uniform, &[2; 100], 200.0, 1, 3);
        let mut phases: Vec<u64> = sent.iter().map(|due| due.at.0 % SECOND).collect();
        phases.dedup();
        assert!(phases.len() > 150, "{} different times", phases.len());
    }

    #[test]
    fn a_poisson_schedule_has_about_its_rate_and_gaps_of_every_length() {
        let sent = all(Arrivals::Poisson, &[2; 50], 10_000.0, 4, 11);
        // Five standard deviations; the seed is fixed.
        assert!(sent.len().abs_diff(40_000) < 1_000, "{}", sent.len());
        assert!(sent.is_sorted_by_key(|due| due.at));
        let gaps: Vec<u64> = sent.windows(2).map(|pair| pair[1].at.0 - pair[0].at.0).collect();
        let short = gaps.iter().filter(|gap| **gap < 10_000).count() as f64 / gaps.len() as f64;
        let long = gaps.iter().filter(|gap| **gap > 200_000).count() as f64 / gaps.len() as f64;
        // 1 - exp(-0.1) and exp(-2).
        assert!((short - 0.095).abs() < 0.01 && (long - 0.135).abs() < 0.01, "{short} {long}");
        assert!((0..100).all(|session| sent.iter().any(|due| due.session == session)));
    }

    #[test]
    fn nobody_sends_nothing() {
        for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
            assert_eq!(all(arrivals, &[], 1000.0, 1, 1), []);
        }
    }
}
