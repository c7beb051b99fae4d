//! How fast frames are sent: below what the gateway allows, so that it has nothing to refuse.

use std::time::Duration;

/// The burst that is taken of what is allowed: half a second's worth. The other half is for the
/// network, which may bring frames closer together than they were sent.
const BURST: Duration = Duration::from_millis(500);

/// Frames at a steady rate with short bursts (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Of one frame.
    interval: Duration,
    /// When all that was sent would have been sent, one interval after the other.
    paid_until: Duration,
}

impl Pace {
    /// For so many frames a second; 0 stands for a gateway that does not say.
    pub(crate) fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self { interval, paid_until: Duration::ZERO }
    }

    /// When the next frame may be sent: not after now if it may be now.
    pub(crate) fn free_at(&self) -> Duration {
        self.paid_until.saturating_sub(BURST)
    }

    /// A frame is sent.
    pub(crate) fn spend(&mut self, now: Duration) {
        self.paid_until = self.paid_until.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_frames_than_half_again_the_rate() {
        let mut pace = Pace::new(100);
        let mut sent = Vec::new();
        for millisecond in 0..3_000 {
            let now = Duration::from_millis(millisecond);
            while pace.free_at() <= now {
                pace.spend(now);
                sent.push(millisecond);
            }
        }
        assert!((340..=352).contains(&sent.len()), "{}", sent.len());
        for from in 0..2_000 {
            let within = sent.iter().filter(|at| (from..from + 1000).contains(*at)).count();
            assert!(within <= 151, "{within} from {from}");
        }
    }

    #[test]
    fn a_gateway_that_names_no_rate_sets_none() {
        let mut pace = Pace::new(0);
        for _ in 0..1000 {
            pace.spend(Duration::ZERO);
        }
        assert_eq!(pace.free_at(), Duration::ZERO);
    }
}
