//! What the writer and the readers count. Plain atomics, read whenever the gateway is scraped; a
//! scrape may see a group half counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of a histogram: values up to 2^0, 2^1, ... 2^(BUCKETS-2), and all others.
pub const BUCKETS: usize = 33;

/// A histogram whose bucket bounds are powers of two: an eighth of a decade is enough to see a
/// disk change its mind, and recording is one addition.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(crate) fn record(&self, value: u64) {
        let bits = u64::BITS - value.saturating_sub(1).leading_zeros();
        let bucket = if value <= 1 { 0 } else { (bits as usize).min(BUCKETS - 1) };
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// (upper bound, values at or below it), ascending, as Prometheus wants them; the last bound,
    /// infinity, is `None`.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let mut below = 0;
        self.buckets.iter().enumerate().map(move |(index, bucket)| {
            below += bucket.load(Ordering::Relaxed);
            ((index < BUCKETS - 1).then(|| 1_u64 << index), below)
        })
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a started store counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Batches of one synced write.
    pub group_batches: Histogram,
    /// Messages of one synced write.
    pub group_messages: Histogram,
    /// Bytes of one synced write.
    pub group_bytes: Histogram,
    /// Microseconds of one write, its sync included.
    pub write_micros: Histogram,
    /// Microseconds of one sync on its own (`SyncMode::Interval`).
    pub sync_micros: Histogram,
    /// Batches that came back `Full`.
    pub refused_batches: Counter,
    /// Writes that failed for want of space and were held.
    pub held_groups: Counter,
    /// Reads answered.
    pub reads: Counter,
    /// Of those, answered with another's disk read.
    pub reads_coalesced: Counter,
    /// Reads that failed: the disk, a damaged record, a torn state.
    pub reads_failed: Counter,
    /// Microseconds of one disk read.
    pub read_micros: Histogram,
}
