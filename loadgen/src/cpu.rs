//! What a thread of the generator used of its processor.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::clock::Nanos;

/// Time of one thread, since it began or over a span.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    /// When, or how long.
    pub(crate) wall: Duration,
    /// On a processor.
    pub(crate) cpu: Duration,
    /// Ready to run, with no processor free for it (from the scheduler's statistics; zero where
    /// the kernel keeps none).
    pub(crate) starved: Duration,
}

impl Usage {
    /// Whether nothing was read yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.wall.is_zero()
    }

    /// What was used between `earlier` and this reading.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            wall: self.wall.saturating_sub(earlier.wall),
            cpu: self.cpu.saturating_sub(earlier.cpu),
            starved: self.starved.saturating_sub(earlier.starved),
        }
    }

    /// The part of the span on a processor: 0 to 1.
    pub(crate) fn busy(&self) -> f64 {
        share(self.cpu, self.wall)
    }

    /// The part of the span spent waiting for a processor: 0 to 1.
    pub(crate) fn waiting(&self) -> f64 {
        share(self.starved, self.wall)
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// The calling thread's usage so far.
pub(crate) fn thread_usage(now: Nanos) -> Usage {
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    let starved = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Usage {
        wall: Duration::from_nanos(now.0),
        cpu: Duration::try_from(cpu).unwrap_or_default(),
        starved: Duration::from_nanos(run_delay(&starved)),
    }
}

/// The second of three numbers: nanoseconds on a run queue.
fn run_delay(schedstat: &str) -> u64 {
    schedstat.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_statistics_are_read_and_their_absence_is_zero() {
        for (text, expected) in [("123 456 7\n", 456), ("", 0), ("1 x 2", 0)] {
            assert_eq!(run_delay(text), expected, "{text}");
        }
    }

    #[test]
    fn a_busy_thread_uses_its_processor() {
        let clock = crate::clock::Clock::start();
        let before = thread_usage(clock.now());
        let mut sum = 0_u64;
        while thread_usage(Nanos(1)).cpu < before.cpu + Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        let used = thread_usage(clock.now()).since(&before);
        assert!(used.cpu >= Duration::from_millis(5) && used.busy() > 0.0, "{used:?}");
        assert_eq!(Usage::default().busy(), 0.0);
    }
}
