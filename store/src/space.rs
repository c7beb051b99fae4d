//! The watch on free space: says "full" while there is still room to flush and compact.

use std::fmt;
use std::io;
use std::time::Duration;

/// Asks for the free bytes of the store's file system.
pub type Probe = Box<dyn FnMut() -> io::Result<u64> + Send>;

/// Whether there is space, looked at no more often than `PROBE_INTERVAL`.
pub struct Space {
    probe: Probe,
    free_bytes_min: u64,
    checked_at: Option<Duration>,
    full: bool,
}

impl Space {
    /// `statvfs` costs a microsecond; at full speed a quarter of a second is below 100 MB.
    pub const PROBE_INTERVAL: Duration = Duration::from_millis(250);

    /// Full below `free_bytes_min`.
    #[must_use]
    pub fn new(probe: Probe, free_bytes_min: u64) -> Self {
        Self { probe, free_bytes_min, checked_at: None, full: false }
    }

    /// Looks if it is due; whether it is full. Once full it stays so until there is a quarter more
    /// than the least, so that one deleted file does not let it flicker. A probe that fails says
    /// nothing, so nothing changes.
    pub fn check(&mut self, now: Duration) -> bool {
        if self.checked_at.is_none_or(|at| now >= at + Self::PROBE_INTERVAL) {
            self.checked_at = Some(now);
            let enough = if self.full {
                self.free_bytes_min.saturating_add(self.free_bytes_min / 4)
            } else {
                self.free_bytes_min
            };
            match (self.probe)() {
                Ok(free) => self.full = free < enough,
                Err(error) => tracing::warn!(%error, "cannot ask for the free space of the disk"),
            }
        }
        self.full
    }

    /// Looks before there is anything to write; the first write looks again.
    pub(crate) fn look(&mut self, now: Duration) {
        if !self.check(now) {
            self.checked_at = None;
        }
    }

    /// As of the last look.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// When to look again, while it is full.
    pub(crate) fn due(&self) -> Option<Duration> {
        if self.full { self.checked_at.map(|at| at + Self::PROBE_INTERVAL) } else { None }
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("free_bytes_min", &self.free_bytes_min)
            .field("full", &self.full)
            .finish_non_exhaustive()
    }
}
