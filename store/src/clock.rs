//! The one place of this crate that asks the system for the time. The committer, recovery and all
//! that decides get it passed in.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use wire::Timestamp;

/// Time since some fixed moment; never goes back.
pub(crate) fn monotonic() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// The time of day.
pub(crate) fn wall() -> Timestamp {
    let now = duration(clock_gettime(ClockId::Realtime)).as_millis();
    Timestamp(u64::try_from(now).expect("milliseconds since 1970 fit for 584 million years"))
}

fn duration(at: Timespec) -> Duration {
    let seconds = u64::try_from(at.tv_sec).expect("both clocks are past their start");
    let nanos = u32::try_from(at.tv_nsec).expect("below a second");
    Duration::new(seconds, nanos)
}
