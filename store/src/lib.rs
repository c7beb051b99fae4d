//! The sequencing store: batches, group commit and recovery on RocksDB.
//!
//! ```text
//! core: Batch --try_submit--> queue --> writer: Committer --one synced write--> Engine
//!       <--poll_through-- queue <-- Through { outcome, batch }
//! core: Read  --try_read----> queue --> readers: answer() ---------------------> Engine
//!       <--poll_answer--- queue <-- Answer { ticket, answer }
//! ```
//!
//! `Store::open` locks the data directory and recovers; `Store::start` starts the threads. A store
//! knows no connection, no socket and no router. What decides (`Committer`, `answer`, `recover`)
//! has no thread and no clock, and runs on `Memory` in a simulator as it does on `Rocks`.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod answer;
mod batch;
mod check;
mod clock;
mod commit;
mod directory;
mod engine;
mod error;
mod fanned;
mod fold;
mod journal;
mod keys;
mod manifest;
mod mark;
mod memory;
mod metrics;
mod options;
mod pressure;
mod queue;
mod read;
mod reader;
mod record;
mod recover;
mod rocks;
mod rocks_options;
mod service;
mod space;
mod store;
mod walk;
mod writer;

/// The atomics that threads wait by; under `--cfg loom` those that a model checker steers.
mod atomic {
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    #[cfg(not(loom))]
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
}

pub use answer::answer;
pub use batch::{Batch, Term};
pub use check::{CheckReport, check};
pub use commit::{Committer, Fatal, Outcome, Through};
pub use directory::Identity;
pub use engine::{Direction, Engine, Load, Op, Ops, Table, Visit};
pub use error::{
    CorruptRecord, DataError, DirectoryError, EngineError, LogError, StoreError, Torn,
};
pub use fold::observe;
pub use keys::{
    ChunkKey, ConversationKey, CursorKey, EndingKey, JournalKey, Key, KeyBuf, KeyRange, MemberKey,
    MessageKey,
};
pub use memory::{Fault, Memory};
pub use metrics::{BUCKETS, Counter, Histogram, Metrics};
pub use options::{Options, SyncMode};
pub use pressure::Pressure;
pub use queue::{Answer, Notify};
pub use read::{Ending, Fingerprint, Read, ReadAnswer, Recent};
pub use recover::{RecoveryReport, recover};
pub use rocks::Rocks;
pub use service::{Hooks, Service};
pub use space::{Probe, Space};
pub use store::Store;
pub use writer::OnFatal;
