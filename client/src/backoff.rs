//! How long to wait before the next connection.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// A connection that lived is made again within this: long enough to spread those who lost the same
/// gateway, short enough that nobody notices.
const SOON: Duration = Duration::from_secs(1);

/// The delay of failures in a row doubles, from this
const LATER_MIN: Duration = Duration::from_secs(1);

/// up to this: a gateway that was away for an hour has everybody back a minute after its return.
const LATER_MAX: Duration = Duration::from_secs(60);

/// Doublings after which the longest delay is reached.
const DOUBLINGS_MAX: u32 = 6;
const _: () = assert!(LATER_MIN.as_secs() << DOUBLINGS_MAX >= LATER_MAX.as_secs());

/// Full jitter: each delay is drawn from all between nothing and its bound, so that clients that
/// lost one gateway together do not come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The gateway has welcomed us.
    pub(crate) fn handle_success(&mut self) {
        self.failures = 0;
    }

    /// The delay after a connection that lived.
    pub(crate) fn soon(rng: &mut StdRng) -> Duration {
        SOON.mul_f64(rng.random())
    }

    /// The delay after one more failure in a row.
    pub(crate) fn later(&mut self, rng: &mut StdRng) -> Duration {
        let bound = (LATER_MIN * (1 << self.failures)).min(LATER_MAX);
        self.failures = (self.failures + 1).min(DOUBLINGS_MAX);
        bound.mul_f64(rng.random())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// The longest and the mean of many delays after so many failures in a row.
    fn delays(failures: u32) -> (Duration, Duration) {
        const DRAWS: u32 = 2_000;
        let mut rng = StdRng::seed_from_u64(7);
        let draws = (0..DRAWS).map(|_| Backoff { failures }.later(&mut rng));
        let (longest, sum) = draws
            .fold((Duration::ZERO, Duration::ZERO), |(longest, sum), delay| {
                (longest.max(delay), sum + delay)
            });
        (longest, sum / DRAWS)
    }

    #[test]
    fn the_bound_doubles_to_a_minute_and_delays_are_drawn_from_all_below() {
        for (failures, bound) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60)] {
            let bound = Duration::from_secs(bound);
            let (longest, mean) = delays(failures);
            assert!(longest <= bound && longest > bound.mul_f64(0.95), "{failures}: {longest:?}");
            assert!(mean > bound.mul_f64(0.45) && mean < bound.mul_f64(0.55), "{mean:?}");
        }
    }

    #[test]
    fn failures_are_counted_until_a_success() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert!(backoff.later(&mut rng) <= LATER_MAX);
        }
        backoff.handle_success();
        assert!(backoff.later(&mut rng) <= LATER_MIN);
        assert!(Backoff::soon(&mut rng) <= SOON);
    }
}
