//! Folding: inbox entries into chunks and conversations, for recovery.
//!
//! At run time the cores fold by themselves, with `Batch::put_chunk` and `put_conversation`; what
//! they make and what recovery makes must be the same, hence `observe`.

use std::collections::BTreeMap;

use variants::Variant;
use wire::{ChannelId, Conversation, InboxEntry, InboxItem, InboxSeq, Seq, UserId};

use crate::answer::{conversation, is_erased, last_chunk};
use crate::engine::{Engine, Ops, Table};
use crate::error::{DataError, Torn};
use crate::keys::{ChunkKey, ConversationKey, Key};
use crate::record;

/// Entries of one chunk as recovery makes them; a chunk with fewer is extended in place. Some
/// 6 KiB before compression, and a page of sync reads one or two.
pub(crate) const CHUNK_ENTRIES_MAX: usize = 256;

/// Entries (or users) held in memory before they are written; some tens of megabytes.
const FOLD_COUNT_MAX: usize = 1 << 16;

/// Bytes of one synced write.
const WRITE_BYTES_MAX: usize = 4 << 20;

/// What an entry of the inbox of `owner` makes of the conversation it belongs to: a log entry moves
/// it to the top of the list; a marker of her own moves what she has read; others' change nothing.
pub fn observe(conversation: &mut Conversation, owner: UserId, entry: &InboxEntry) {
    match entry.item {
        InboxItem::Logged { seq, .. } => {
            conversation.last_seq = conversation.last_seq.max(seq);
            conversation.inbox_seq = conversation.inbox_seq.max(entry.inbox_seq);
        }
        InboxItem::ReadMarker { user, seq, .. } if user == owner => {
            conversation.read_seq = conversation.read_seq.max(seq);
        }
        InboxItem::ReadMarker { .. } => {}
    }
}

/// Folds entries of many users, writing now and then. The writes of one user's chunks and
/// conversations are one: an inbox is never seen with only half of them.
pub(crate) struct Folder<'a, E> {
    engine: &'a E,
    users: BTreeMap<UserId, Inbox>,
    unwritten: usize,
    ops: Ops,
    pub(crate) folded: u64,
}

/// One user's inbox, as far as it is being extended.
#[derive(Default)]
struct Inbox {
    /// The last chunk if it has room, and what is new.
    entries: Vec<InboxEntry>,
    /// How many of them are on the disk already.
    stored: usize,
    head: InboxSeq,
    conversations: BTreeMap<ChannelId, Conversation>,
    /// What the journal has for her is not folded: it was placed before she was erased.
    is_erased: bool,
}

impl<'a, E: Engine> Folder<'a, E> {
    pub(crate) fn new(engine: &'a E) -> Self {
        Self { engine, users: BTreeMap::new(), unwritten: 0, ops: Ops::with_capacity(0), folded: 0 }
    }

    /// Folds an entry that has its place. One that is folded already is skipped.
    pub(crate) fn fold(&mut self, user: UserId, entry: &InboxEntry) -> Result<(), DataError> {
        let engine = self.engine;
        let inbox = self.inbox(user)?;
        if inbox.is_erased || entry.inbox_seq <= inbox.head {
            return Ok(());
        }
        let expected = inbox.head.next();
        if entry.inbox_seq != expected {
            return Err(Torn::InboxGap { user, expected, found: entry.inbox_seq }.into());
        }
        inbox.append(engine, user, *entry)?;
        self.appended()
    }

    /// Gives a place to `channel`'s log entries of `first..=last` that the inbox does not have.
    /// They come in the order of the log, so the highest `Seq` tells which it has.
    pub(crate) fn complete(
        &mut self,
        user: UserId,
        channel: ChannelId,
        first: Seq,
        last: Seq,
    ) -> Result<u64, DataError> {
        let engine = self.engine;
        let inbox = self.inbox(user)?;
        if inbox.is_erased {
            return Ok(0);
        }
        let has = inbox.conversation(engine, user, channel)?.last_seq;
        let has = if variants::is(Variant::ReplayNotRecognised) { Seq::ZERO } else { has };
        let mut seq = first.max(has.next());
        let mut count = 0;
        while seq <= last {
            let inbox = self.inbox(user)?;
            let item = InboxItem::Logged { channel, seq };
            inbox.append(engine, user, InboxEntry { inbox_seq: inbox.head.next(), item })?;
            self.appended()?;
            count += 1;
            seq = seq.next();
        }
        Ok(count)
    }

    /// Writes what is not written, synced, and forgets it.
    pub(crate) fn flush(&mut self) -> Result<(), DataError> {
        for (user, inbox) in std::mem::take(&mut self.users) {
            inbox.put(user, &mut self.ops);
            if self.ops.bytes() >= WRITE_BYTES_MAX {
                self.write()?;
            }
        }
        self.unwritten = 0;
        self.write()
    }

    fn write(&mut self) -> Result<(), DataError> {
        if !self.ops.is_empty() {
            self.engine.write(&mut std::iter::once(&self.ops), true)?;
            self.ops.clear();
        }
        Ok(())
    }

    fn appended(&mut self) -> Result<(), DataError> {
        self.folded += 1;
        self.unwritten += 1;
        if self.unwritten >= FOLD_COUNT_MAX { self.flush() } else { Ok(()) }
    }

    fn inbox(&mut self, user: UserId) -> Result<&mut Inbox, DataError> {
        if self.users.len() >= FOLD_COUNT_MAX && !self.users.contains_key(&user) {
            self.flush()?;
        }
        match self.users.entry(user) {
            std::collections::btree_map::Entry::Occupied(inbox) => Ok(inbox.into_mut()),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                Ok(vacant.insert(Inbox::load(self.engine, user)?))
            }
        }
    }
}

impl Inbox {
    fn load<E: Engine>(engine: &E, user: UserId) -> Result<Self, DataError> {
        let mut entries = last_chunk(engine, user)?;
        let head = entries.last().map_or(InboxSeq::ZERO, |last| last.inbox_seq);
        if entries.len() >= CHUNK_ENTRIES_MAX {
            entries.clear();
        }
        let stored = entries.len();
        let is_erased = is_erased(engine, user)?;
        Ok(Self { entries, stored, head, conversations: BTreeMap::new(), is_erased })
    }

    fn conversation<E: Engine>(
        &mut self,
        engine: &E,
        user: UserId,
        channel: ChannelId,
    ) -> Result<&mut Conversation, DataError> {
        match self.conversations.entry(channel) {
            std::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                Ok(vacant.insert(conversation(engine, user, channel)?))
            }
        }
    }

    fn append<E: Engine>(
        &mut self,
        engine: &E,
        user: UserId,
        entry: InboxEntry,
    ) -> Result<(), DataError> {
        observe(self.conversation(engine, user, entry.item.channel())?, user, &entry);
        self.head = entry.inbox_seq;
        self.entries.push(entry);
        Ok(())
    }

    fn put(&self, user: UserId, ops: &mut Ops) {
        if self.entries.len() == self.stored {
            return;
        }
        for entries in self.entries.chunks(CHUNK_ENTRIES_MAX) {
            let first = entries[0].inbox_seq;
            let key = ChunkKey { user, first }.key();
            ops.put(Table::Inbox, &key, |out| record::put_chunk(out, first, entries));
        }
        for (channel, conversation) in &self.conversations {
            let key = ConversationKey { user, channel: *channel }.key();
            ops.put(Table::Inbox, &key, |out| record::put_conversation(out, conversation));
        }
    }
}
