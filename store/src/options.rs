//! What can be chosen about a store. Sizes are for a laptop; a large host raises the memtable, the
//! block cache and the readers.

use std::time::Duration;

use crate::error::StoreError;

/// When a batch counts as kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncMode {
    /// When it is on the disk: one sync for all batches that arrived during the last one.
    #[default]
    Always,
    /// When it is in the operating system's hands; the disk follows within this time. A power loss
    /// takes at most that much, from the end, never from the middle.
    Interval(Duration),
}

/// The options of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Partitions of a directory that is being made; an existing one keeps its own number.
    pub shards: u16,
    /// When a batch counts as kept.
    pub sync: SyncMode,
    /// Bytes at which a batch is full. Larger batches cost fewer syncs and more latency.
    pub batch_bytes_max: usize,
    /// Batches submitted and not yet taken back, of all cores; at the bound `try_submit` returns
    /// the batch, and the core stops sequencing until one comes back.
    pub batches_in_flight_max: usize,
    /// Their bytes; the same happens at this bound.
    pub bytes_in_flight_max: usize,
    /// Bytes of one synced write: bounds how long a group waits for itself.
    pub group_bytes_max: usize,
    /// Threads that answer reads.
    pub readers: usize,
    /// Reads asked and not yet taken back, of all cores; at the bound `try_read` returns the read.
    pub reads_in_flight_max: usize,
    /// Free bytes of the file system below which the store is `Full`: nothing more is written,
    /// reading goes on. Leaves room for what memtables still have to flush and for compaction; at
    /// least `memtable_bytes`, without which RocksDB does not resume after a full disk.
    pub disk_free_bytes_min: u64,
    /// Bytes of one memtable of messages or inboxes (up to four each, the other tables an eighth).
    pub memtable_bytes: usize,
    /// Bytes of the cache of uncompressed blocks, indexes and filters.
    pub block_cache_bytes: usize,
    /// Files that RocksDB keeps open; a part of the process's limit on descriptors, most of which
    /// belongs to connections.
    pub open_files_max: u16,
    /// Threads that flush and compact. Two, so that a flush never waits for a compaction.
    pub background_jobs: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: 64,
            sync: SyncMode::Always,
            batch_bytes_max: 1 << 20,
            batches_in_flight_max: 64,
            bytes_in_flight_max: 32 << 20,
            group_bytes_max: 4 << 20,
            readers: 2,
            reads_in_flight_max: 1024,
            disk_free_bytes_min: 256 << 20,
            memtable_bytes: 32 << 20,
            block_cache_bytes: 64 << 20,
            open_files_max: 512,
            background_jobs: 2,
        }
    }
}

impl Options {
    /// Names the first option that is out of its range.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let rows = [
            (self.shards > 0, "shards", "is 0; the default is 64"),
            (self.batch_bytes_max >= 4096, "batch_bytes_max", "is below 4096; try 1048576"),
            (self.batches_in_flight_max >= 2, "batches_in_flight_max", "is below 2; try 64"),
            (
                self.bytes_in_flight_max >= self.batch_bytes_max,
                "bytes_in_flight_max",
                "is below batch_bytes_max: no batch would ever pass; raise it",
            ),
            (self.group_bytes_max > 0, "group_bytes_max", "is 0; try 4194304"),
            (self.readers > 0, "readers", "is 0: nothing could be read; the default is 2"),
            (self.reads_in_flight_max > 0, "reads_in_flight_max", "is 0; try 1024"),
            (self.memtable_bytes >= 1 << 20, "memtable_bytes", "is below 1 MiB; try 32 MiB"),
            (
                self.disk_free_bytes_min >= self.memtable_bytes as u64,
                "disk_free_bytes_min",
                "is below memtable_bytes: a full memtable could not be flushed; raise it",
            ),
            (self.open_files_max >= 64, "open_files_max", "is below 64; try 512"),
            (self.background_jobs >= 2, "background_jobs", "is below 2; the default is 2"),
            (
                self.sync != SyncMode::Interval(Duration::ZERO),
                "sync",
                "has an interval of 0; use SyncMode::Always",
            ),
        ];
        match rows.into_iter().find(|(holds, ..)| !holds) {
            Some((_, option, what)) => Err(StoreError::Option { option, what }),
            None => Ok(()),
        }
    }
}
