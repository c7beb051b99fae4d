//! The single place that reads a clock; everything else is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the run began, on the machine's monotonic clock. All threads share the
/// beginning, so that a time written by one is compared with a time read by another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    /// A time that never comes.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// `duration` later; [`Self::NEVER`] beyond the end of time.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole(duration)))
    }

    /// The time that has passed since `earlier`; zero if it lies ahead.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole nanoseconds; 584 years stand for anything longer.
pub(crate) fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of a run. Copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    /// The run begins now.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// How long ago it began.
    pub(crate) fn now(&self) -> Nanos {
        Nanos(whole(self.started.elapsed()))
    }
}

/// Seconds since the Unix epoch, for the claims of tokens; a clock before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
