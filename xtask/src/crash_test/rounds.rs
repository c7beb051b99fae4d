//! When the server is killed, and how long it took to come back.

use std::time::Duration;

use crate::console;

/// Between the ready line and the kill.
const PAUSE_MS: (u64, u64) = (50, 1500);

/// Every so many recoveries is killed, on average.
const RECOVERIES_PER_KILL: u64 = 4;

/// Random numbers of a seed: splitmix64 (Steele, Lea and Flood 2014).
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// From `least` to below `end`.
    pub(crate) fn within(&mut self, least: u64, end: u64) -> u64 {
        least + self.next() % (end - least)
    }

    /// How long a server may live.
    pub(super) fn pause(&mut self) -> Duration {
        Duration::from_millis(self.within(PAUSE_MS.0, PAUSE_MS.1))
    }

    /// How long a server may recover, if it is to be killed while it does.
    pub(super) fn recovery_pause(&mut self, typical: Duration) -> Option<Duration> {
        let is_killed = self.within(0, RECOVERIES_PER_KILL) == 0;
        let most = u64::try_from(typical.as_micros()).unwrap_or(u64::MAX).max(1);
        let pause = Duration::from_micros(self.within(0, most));
        is_killed.then_some(pause)
    }
}

/// The rounds so far.
#[derive(Default)]
pub(crate) struct Rounds {
    /// Kills of a server that was recovering.
    pub(super) interrupted: u32,
    /// From start to ready line, in the order of the rounds.
    recoveries: Vec<Duration>,
    last: (Duration, u32),
}

impl Rounds {
    pub(super) fn add(&mut self, pause: Duration, interrupted: u32, recovery: Duration) {
        self.interrupted += interrupted;
        self.recoveries.push(recovery);
        self.last = (pause, interrupted);
    }

    pub(super) fn count(&self) -> usize {
        self.recoveries.len()
    }

    /// The median of what was measured; a guess before that.
    pub(super) fn typical_recovery(&self) -> Duration {
        self.spread().map_or(Duration::from_millis(100), |(_, median, _)| median)
    }

    /// Shortest, median and longest recovery.
    pub(super) fn spread(&self) -> Option<(Duration, Duration, Duration)> {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        Some((*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?))
    }

    /// What happened in the last round.
    pub(super) fn line(&self, round: u32, of: u32) -> String {
        let (pause, interrupted) = self.last;
        let recovery = self.recoveries.last().copied().unwrap_or_default();
        let again = match interrupted {
            0 => String::new(),
            1 => ", and once while it recovered".to_owned(),
            times => format!(", and {times} times while it recovered"),
        };
        let (pause, recovery) = (milliseconds(pause), milliseconds(recovery));
        format!("round {round:>3}/{of}: killed after {pause}{again}; ready in {recovery}")
    }
}

/// `523 ms`, or as [`console::duration`] says it from ten seconds on.
pub(super) fn milliseconds(duration: Duration) -> String {
    match duration.as_millis() {
        short @ ..10_000 => format!("{short} ms"),
        _ => console::duration(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_kills_at_the_same_moments_within_the_bounds() {
        let moments = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.pause()).collect::<Vec<_>>()
        };
        assert_eq!(moments(7), moments(7));
        assert_ne!(moments(7), moments(8));
        let (least, end) = (Duration::from_millis(PAUSE_MS.0), Duration::from_millis(PAUSE_MS.1));
        assert!(moments(7).iter().all(|pause| (least..end).contains(pause)));
    }

    #[test]
    fn some_recoveries_are_killed_and_others_are_not_whatever_is_typical() {
        let mut random = Random::new(1);
        for typical in [Duration::ZERO, Duration::from_millis(80)] {
            let pauses: Vec<_> = (0..100).map(|_| random.recovery_pause(typical)).collect();
            assert!(pauses.contains(&None));
            assert!(pauses.iter().flatten().all(|pause| *pause <= typical));
            assert!(pauses.iter().any(Option::is_some));
        }
    }

    #[test]
    fn a_line_tells_the_round_and_the_spread_all_of_them() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.spread(), None);
        let ms = Duration::from_millis;
        rounds.add(ms(300), 0, ms(90));
        assert_eq!(rounds.line(1, 9), "round   1/9: killed after 300 ms; ready in 90 ms");
        rounds.add(ms(1200), 2, ms(12_000));
        let expected = "round   2/9: killed after 1200 ms, and 2 times while it recovered; \
                        ready in 12.0 s";
        assert_eq!(rounds.line(2, 9), expected);
        rounds.add(ms(50), 1, ms(70));
        assert_eq!(rounds.spread(), Some((ms(70), ms(90), ms(12_000))));
        assert_eq!((rounds.interrupted, rounds.count()), (3, 3));
    }
}
