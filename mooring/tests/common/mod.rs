//! What the tests of the process share: the binary under test, and a small client for it.
//!
//! Nothing here sleeps: every wait is for an event (a line, a frame, an end) and is bounded by
//! [`STEP_TIMEOUT`], which only a failing test reaches.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod process;

use std::time::Duration;

/// Bounds every single wait.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(60);
