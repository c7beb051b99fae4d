//! What the store asks of an engine: ordered tables, atomic writes, bounded scans.
//!
//! Two implementations: `Rocks`, and `Memory`, its twin with faults for simulation. Everything else
//! in this crate is written against this trait, so that both are tested by the same rows.

use std::fmt;
use std::ops::ControlFlow;

use crate::error::EngineError;
use crate::keys::{KeyBuf, KeyRange};

/// A table. Few, because memtables and their stalls are counted per table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Table {
    /// Logs: (channel, seq) to entry. Written once, never changed.
    Messages = 0,
    /// Inboxes: chunks of entries, conversations, device cursors.
    Inbox = 1,
    /// Members of channels.
    Meta = 2,
    /// What batches sequenced and appended and nobody has folded yet. Its own table because it is
    /// deleted by range, and a range tombstone slows every read of its table; this one is read at
    /// start only.
    Journal = 3,
}

impl Table {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Messages, Self::Inbox, Self::Meta, Self::Journal];

    /// Its name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Inbox => "inbox",
            Self::Meta => "meta",
            Self::Journal => "journal",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The order of a scan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Descending keys, from the end of the range.
    Backward,
    /// Ascending keys, from its start.
    Forward,
}

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// Sets a key.
    Put {
        /// Where.
        table: Table,
        /// The key.
        key: &'a [u8],
        /// The record.
        value: &'a [u8],
    },
    /// Deletes the keys of `from..to`.
    DeleteRange {
        /// Where.
        table: Table,
        /// The first to go.
        from: &'a [u8],
        /// The first to stay.
        to: &'a [u8],
    },
}

/// How near the engine is to stalling its writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Files in level 0, of the table that has most.
    pub level_0_files: u64,
    /// Full memtables waiting to be flushed, of the table that has most.
    pub immutable_memtables: u64,
    /// Bytes that compaction is behind, of the table that has most.
    pub pending_compaction_bytes: u64,
    /// The engine delays or blocks writes now.
    pub write_stalled: bool,
}

/// What `scan` calls for each key and record; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered key-value engine. All methods may block on the disk: only the writer's and the
/// readers' threads call them.
pub trait Engine: Send + Sync + 'static {
    /// The record at `key`.
    ///
    /// # Errors
    /// The engine failed.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// The records at `keys`, in their order; cheaper than one `get` each.
    ///
    /// # Errors
    /// The engine failed for one of them.
    fn get_many(&self, table: Table, keys: &[KeyBuf]) -> Result<Vec<Option<Vec<u8>>>, EngineError>;

    /// Visits the keys of `range` as of one moment, until `visit` breaks. The engine never looks
    /// beyond the range, so a scan costs what it visits, whatever lies next to it.
    ///
    /// # Errors
    /// The engine failed; what was visited until then was sound.
    fn scan(
        &self,
        table: Table,
        range: KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError>;

    /// Applies all changes in their order, or none of them, also across a crash; with `sync` on
    /// the disk before it returns.
    ///
    /// # Errors
    /// The engine failed: whether the write will appear after a restart is unknown.
    fn write(&self, groups: &mut dyn Iterator<Item = &Ops>, sync: bool) -> Result<(), EngineError>;

    /// Puts all earlier writes on the disk.
    ///
    /// # Errors
    /// The engine failed: which of the unsynced writes will appear after a restart is unknown.
    fn sync(&self) -> Result<(), EngineError>;

    /// Bytes that it keeps in memory: what was written and not flushed, and what was read.
    fn memory_bytes(&self) -> u64;

    /// How near it is to stalling.
    fn load(&self) -> Load;
}

/// Changes in the order they were asked for, in one arena that is cleared and reused for ever.
#[derive(Debug, Default)]
pub struct Ops {
    /// Keys and records, one after the other.
    bytes: Vec<u8>,
    /// The most that there were: the rest of the capacity was never touched.
    bytes_most: usize,
    index: Vec<OpAt>,
}

#[derive(Clone, Copy, Debug)]
struct OpAt {
    table: Table,
    delete: bool,
    /// Offset of the key in the arena; its second half (record, or end of range) follows it.
    at: usize,
    first_bytes: usize,
    second_bytes: usize,
}

impl Ops {
    /// With room for so many bytes of keys and records.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), bytes_most: 0, index: Vec::new() }
    }

    /// Sets `key` to what `record` appends.
    pub(crate) fn put(&mut self, table: Table, key: &KeyBuf, record: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(key.as_ref());
        let first_bytes = self.bytes.len() - at;
        record(&mut self.bytes);
        let second_bytes = self.bytes.len() - at - first_bytes;
        self.index.push(OpAt { table, delete: false, at, first_bytes, second_bytes });
    }

    /// Deletes the keys of `range`.
    pub(crate) fn delete_range(&mut self, table: Table, range: &KeyRange) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(range.from.as_ref());
        let first_bytes = self.bytes.len() - at;
        self.bytes.extend_from_slice(range.to.as_ref());
        let second_bytes = self.bytes.len() - at - first_bytes;
        self.index.push(OpAt { table, delete: true, at, first_bytes, second_bytes });
    }

    /// The changes, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Op<'_>> {
        self.index.iter().map(|op| {
            let (first, rest) = self.bytes[op.at..].split_at(op.first_bytes);
            let second = &rest[..op.second_bytes];
            if op.delete {
                Op::DeleteRange { table: op.table, from: first, to: second }
            } else {
                Op::Put { table: op.table, key: first, value: second }
            }
        })
    }

    /// Bytes of the memory that was ever filled.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.bytes_most + self.index.capacity() * size_of::<OpAt>()
    }

    /// Bytes of keys and records.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many changes.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.index.len()
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Forgets the changes and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes_most = self.bytes_most.max(self.bytes.len());
        self.bytes.clear();
        self.index.clear();
    }
}
