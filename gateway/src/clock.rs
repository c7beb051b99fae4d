//! The single place that reads a clock; everything else is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wire::Timestamp;

use crate::wheel::Tick;

/// How long a tick of a core is: timeouts are kept to this precision, and what may wait for
/// company (a device's copy of its own message) waits no longer.
pub const TICK: Duration = Duration::from_millis(50);

/// What time it is, as a core is told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Ticks since the core started: monotonic, for timeouts.
    pub tick: Tick,
    /// Microseconds since then: tells which of two came first, where a tick does not.
    pub micros: u64,
    /// The wall clock, for what clients are told.
    pub wall: Timestamp,
}

/// The clock of a run: copies agree, so that cores can compare ticks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts at tick 0.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let elapsed = self.started.elapsed();
        let ticks = elapsed.as_millis() / TICK.as_millis();
        Now {
            tick: Tick(u32::try_from(ticks).unwrap_or(u32::MAX)),
            micros: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            wall: wall(),
        }
    }

    /// How long it has run: monotonic, for intervals below a tick.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How long until the tick after `tick` begins.
    #[must_use]
    pub fn until_after(&self, tick: Tick) -> Duration {
        (TICK * tick.plus(1).0).saturating_sub(self.started.elapsed())
    }
}

/// The wall clock; a clock before 1970 reads as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
