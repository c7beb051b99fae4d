//! How near the engine is to stalling, told before it does.
//!
//! RocksDB, left alone, delays writes by computed sleeps inside its write call, where they hit
//! every session at once. The store tells its load early instead, and the gateway stops reading
//! from those who send.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::engine::Load;
use crate::rocks_options::{LEVEL_0_SLOWDOWN, MEMTABLES_MAX, PENDING_COMPACTION_SLOWDOWN};

/// What to do about the load.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Pressure {
    /// Nothing.
    None = 0,
    /// Take less: half-way to where RocksDB slows writes.
    Slow = 1,
    /// Take nothing: RocksDB is about to slow writes, or does.
    Stop = 2,
}

/// (what, slow from, stop from): half and three quarters of RocksDB's own slowdown.
const SLOWDOWN: [u64; 2] = [LEVEL_0_SLOWDOWN as u64, PENDING_COMPACTION_SLOWDOWN as u64];

impl Pressure {
    /// What to do about a load.
    #[must_use]
    pub fn of(load: &Load) -> Self {
        let rows = [
            (load.level_0_files, SLOWDOWN[0] / 2, SLOWDOWN[0] * 3 / 4),
            (load.pending_compaction_bytes, SLOWDOWN[1] / 2, SLOWDOWN[1] * 3 / 4),
            // One waiting is the ordinary flush; all but the active one waiting stops RocksDB.
            (load.immutable_memtables, 2, MEMTABLES_MAX.unsigned_abs() as u64 - 1),
            (load.write_stalled.into(), 1, 1),
        ];
        let of = |(value, slow, stop)| match value {
            value if value >= stop => Self::Stop,
            value if value >= slow => Self::Slow,
            _ => Self::None,
        };
        rows.into_iter().map(of).max().unwrap_or(Self::None)
    }
}

/// What the writer publishes and every core reads, without waiting for either.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pressure: AtomicU8,
    full: AtomicBool,
}

impl Signals {
    pub(crate) fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Slow,
            _ => Pressure::Stop,
        }
    }

    pub(crate) fn set_pressure(&self, pressure: Pressure) {
        self.pressure.store(pressure as u8, Ordering::Relaxed);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }
}
