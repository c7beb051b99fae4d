//! The single reading of the clock in xtask: progress and the times of steps.

use std::time::Instant;

/// The present moment.
#[allow(
    clippy::disallowed_methods,
    reason = "progress is about real time; this is the only call in xtask"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
