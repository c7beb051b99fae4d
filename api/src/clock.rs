//! The single place of this crate that reads a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wire::Timestamp;

/// The time, in milliseconds since 1970. A test may hold it and move it.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Milliseconds that the wall clock is moved by; shared by all copies.
    ahead: Arc<AtomicU64>,
}

impl Clock {
    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the place")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Timestamp(wall.saturating_add(self.ahead.load(Ordering::Relaxed)))
    }

    /// Moves it forward: what expires does so without a wait.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.ahead.fetch_add(millis, Ordering::Relaxed);
    }
}

/// As the database has it. Times beyond the year 292 million read as that.
pub(crate) fn stored(time: Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// A duration in milliseconds, as the database has it.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
