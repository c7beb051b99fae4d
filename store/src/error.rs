//! What can be wrong: with the directory, with the engine, with what is stored.
//!
//! All of it is the world's fault, none a peer's. A record that cannot be read is named (table,
//! key, what is wrong) and never panics: one damaged block must not take a million sessions down.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use wire::{ChannelId, InboxSeq, Seq, UserId};

use crate::engine::Table;

/// Why `Store::open` or `Store::start` failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The engine failed, or what it holds is damaged.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The database's log has lost something.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An option is out of its range.
    #[error("store option {option}: {what}")]
    Option {
        /// Its name in `Options`.
        option: &'static str,
        /// What is wrong with it and what to set instead.
        what: &'static str,
    },
    /// A thread could not be started.
    #[error("cannot start the thread {name}: {source}; raise the limit on processes")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What is wrong with a data directory, and what to do about it.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// It cannot be made, listed or written.
    #[error(
        "cannot {action} {}: {source}; give the directory to the user that runs mooring",
        path.display()
    )]
    Access {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds it.
    #[error(
        "{} is in use by {}; stop that process, or give this one its own directory",
        path.display(), holder(*pid)
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The holder, if it wrote its number down.
        pid: Option<u32>,
    },
    /// It holds files that are not ours.
    #[error(
        "{} has no FORMAT file but holds {found:?}: not a data directory; choose an empty one, or \
         restore FORMAT from a backup",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The first foreign name found.
        found: String,
    },
    /// `FORMAT` is cut short or not what was written.
    #[error("{} is damaged ({what}); restore it from a backup", path.display())]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Written by another release.
    #[error(
        "{} says format {found}, this release knows {known}; run a release that knows it, or \
         export and import",
        path.display()
    )]
    Version {
        /// The identity file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The only version known.
        known: u32,
    },
    /// The identity is there, the database is not.
    #[error(
        "{} is missing though FORMAT says that it was made; restore the whole directory from a \
         backup",
        path.display()
    )]
    DatabaseMissing {
        /// The database's folder.
        path: PathBuf,
    },
    /// The note of how far the log was on the disk is gone or not what was written.
    #[error(
        "{} is missing or damaged, so nobody can tell whether the log lost anything; restore the \
         whole directory from a backup, or keep a copy and run `mooring check --data {} \
         --accept-loss`",
        path.display(), data.display()
    )]
    DurableUnreadable {
        /// The note.
        path: PathBuf,
        /// The data directory.
        data: PathBuf,
    },
}

/// What the walk over the database's log, and a look at its tables, have found. The directory was
/// left as it was.
#[derive(Debug, Error)]
pub enum LogError {
    /// Changes that were on the disk, and may have been acknowledged, are gone.
    #[error(
        "{} has lost data: changes {} to {durable} were on the disk and cannot be read{}. Nothing \
         was changed. Restore the directory from a backup, or keep a copy and run `mooring check \
         --data {} --accept-loss` to go on without them",
        data.display(), last + 1, ending(place.as_ref()), data.display()
    )]
    Lost {
        /// The data directory.
        data: PathBuf,
        /// The last change that can be read.
        last: u64,
        /// The last change that was on the disk for certain.
        durable: u64,
        /// The log file in which reading ends, and at which byte.
        place: Option<(PathBuf, u64)>,
    },
    /// Changes that the log needs no longer are in no table that the manifest names.
    #[error(
        "{} has lost data: by {} the tables end at change {last}, and the log begins at change \
         {since}; the end of that file is cut off or damaged. Nothing was changed. Restore the \
         whole directory from a backup; if there is none, keep this one as it is, as the tables \
         are still in it",
        data.display(),
        manifest.display()
    )]
    TablesLost {
        /// The data directory.
        data: PathBuf,
        /// The manifest.
        manifest: PathBuf,
        /// The last change that its tables have.
        last: u64,
        /// The first change that the log has, from where on nothing is missing.
        since: u64,
    },
    /// A log file cannot be read at all.
    #[error("cannot read the log of {}: {source}; if the disk is failing, copy what it still gives \
             and restore the rest from a backup", data.display())]
    Unreadable {
        /// The data directory.
        data: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn ending(place: Option<&(PathBuf, u64)>) -> String {
    place.map_or_else(String::new, |(file, offset)| {
        format!(" ({} is readable up to byte {offset})", file.display())
    })
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// A failure of the engine itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The disk is full. Of a write: whether it will appear after a restart is unknown.
    #[error("no space left: {0}")]
    NoSpace(String),
    /// The engine found its own files damaged.
    #[error("the database is damaged: {0}; restore it from a backup")]
    Corrupt(String),
    /// Anything else.
    #[error("the database failed: {0}")]
    Failed(String),
}

/// A record or key that is not what the store writes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("corrupt record in table {table}, key {key}: {what}; restore it from a backup")]
pub struct CorruptRecord {
    /// The table.
    pub table: Table,
    /// The key in hexadecimal.
    pub key: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl CorruptRecord {
    pub(crate) fn new(table: Table, key: &[u8], what: &'static str) -> Self {
        use std::fmt::Write;
        let hex = key.iter().fold(String::with_capacity(key.len() * 2), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self { table, key: hex, what }
    }
}

/// Records that are sound one by one and contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Torn {
    /// A channel's log has a hole.
    #[error("channel {channel}: message {expected} is missing, found {found}")]
    LogGap {
        /// The channel.
        channel: ChannelId,
        /// The place that should have come.
        expected: Seq,
        /// The place that came; `Seq::ZERO` if none did.
        found: Seq,
    },
    /// A user's inbox has a hole.
    #[error("inbox of {user}: entry {expected} is missing, found {found}")]
    InboxGap {
        /// The user.
        user: UserId,
        /// The place that should have come.
        expected: InboxSeq,
        /// The place that came; `InboxSeq::ZERO` if none did.
        found: InboxSeq,
    },
    /// An inbox points to a message that is not there.
    #[error("inbox of {user}: entry {inbox_seq} points to {channel} {seq}, which is not there")]
    MissingMessage {
        /// The user.
        user: UserId,
        /// The entry.
        inbox_seq: InboxSeq,
        /// Where it points.
        channel: ChannelId,
        /// Where it points.
        seq: Seq,
    },
    /// A message was for an inbox and is not in it.
    #[error("inbox of {user}: {channel} {seq} was for it and is not there")]
    MissingEntry {
        /// The user.
        user: UserId,
        /// Of which channel.
        channel: ChannelId,
        /// The first place that is missing.
        seq: Seq,
    },
    /// A message is in an inbox twice, or behind a later one of its channel.
    #[error("inbox of {user}: {channel} {seq} is there again")]
    RepeatedEntry {
        /// The user.
        user: UserId,
        /// Of which channel.
        channel: ChannelId,
        /// The place.
        seq: Seq,
    },
    /// A conversation is not what the inbox's entries make of it.
    #[error("inbox of {user}: the conversation {channel} does not agree with the entries")]
    Conversation {
        /// The user.
        user: UserId,
        /// The channel.
        channel: ChannelId,
    },
    /// A numbered channel whose first entry is not its creation.
    #[error("channel {channel}: the entry at 1 is not its creation")]
    NoCreation {
        /// The channel.
        channel: ChannelId,
    },
    /// More members than a channel may ever have had.
    #[error("channel {channel}: more than {max} member records")]
    TooManyMembers {
        /// The channel.
        channel: ChannelId,
        /// The bound.
        max: usize,
    },
}

/// Why something could not be read, recovered or checked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DataError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A record is damaged.
    #[error(transparent)]
    Corrupt(#[from] CorruptRecord),
    /// Records contradict each other.
    #[error(
        "torn state: {0}; restore it from a backup; `mooring check` tells whether there is more"
    )]
    Torn(#[from] Torn),
}
