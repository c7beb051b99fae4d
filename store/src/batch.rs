//! A batch: what one core wants made durable together.
//!
//! Self-contained (every put carries its whole record, nonces included), ordered and replayable:
//! applying it twice is applying it once. One core fills one batch at a time; sealed, it goes to
//! the writer and comes back with its outcome to be filled again, so its memory is taken once.
//!
//! A message costs one put. Inbox entries and the list of sequenced messages go into one journal
//! record of the batch; folding them into chunks and conversations is for later batches.

use wire::{
    BatchNumber, ChannelId, Conversation, CoreId, DeviceId, InboxEntry, InboxSeq, LogEntry, Member,
    UserId,
};

use crate::engine::{Ops, Table};
use crate::journal::Sections;
use crate::keys::{
    ChunkKey, ConversationKey, CursorKey, EndingKey, JournalKey, Key, KeyRange, MemberKey,
    MessageKey,
};
use crate::read::Ending;
use crate::record;

/// Which life of its uncommitted batches a core is in. It starts with `Term::FIRST` and takes the
/// next term each time it submits refused batches again; see `Outcome::Full`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Term(u32);

impl Term {
    /// The term of a core that was never refused.
    pub const FIRST: Self = Self(1);

    /// The term in which refused batches go again.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Changes of one core, made durable together or not at all.
#[derive(Debug)]
pub struct Batch {
    core: CoreId,
    number: BatchNumber,
    term: Term,
    ops: Ops,
    journal: Sections,
    bytes_max: usize,
    message_count: u32,
    /// What it weighed when it was submitted: sealing adds the head of the journal record.
    submitted_bytes: usize,
    sealed: bool,
}

impl Batch {
    /// An empty batch of `core`, full at `bytes_max` bytes. Begin it before filling it.
    #[must_use]
    pub fn new(core: CoreId, bytes_max: usize) -> Self {
        Self {
            core,
            number: BatchNumber::ZERO,
            term: Term::FIRST,
            ops: Ops::with_capacity(bytes_max),
            journal: Sections::default(),
            bytes_max,
            message_count: 0,
            submitted_bytes: 0,
            sealed: true,
        }
    }

    /// Empties it, keeping its memory, and opens it as `number` of `term`. Numbers ascend within a
    /// run, also across terms; a refused number is not used again.
    pub fn begin(&mut self, number: BatchNumber, term: Term) {
        assert!(number > BatchNumber::ZERO, "batches are numbered from 1");
        self.number = number;
        self.term = term;
        self.ops.clear();
        self.journal.clear();
        self.message_count = 0;
        self.sealed = false;
    }

    /// Moves it into another term, as it is: a batch that came back `Full` is submitted again so,
    /// and the one that was being filled meanwhile follows it.
    pub const fn renew(&mut self, term: Term) {
        self.term = term;
    }

    /// Puts an entry into its channel's log, and names it as one to be fanned out.
    pub fn append_entry(&mut self, entry: &LogEntry) {
        self.assert_open();
        let key = MessageKey { channel: entry.channel, seq: entry.seq }.key();
        self.ops.put(Table::Messages, &key, |out| record::put_entry(out, entry));
        self.journal.push_sequenced(entry.channel, entry.seq);
        self.message_count += 1;
    }

    /// Sets a member of a channel, in the batch of the entry that makes the change.
    pub fn put_member(&mut self, channel: ChannelId, member: &Member) {
        self.assert_open();
        let key = MemberKey { channel, user: member.user }.key();
        self.ops.put(Table::Meta, &key, |out| record::put_member(out, member));
    }

    /// Appends an entry to a user's inbox; it stays the core's to answer from memory until it is
    /// folded. Entries with the same item one after the other (a fan-out) name it once.
    pub fn append_inbox(&mut self, user: UserId, entry: &InboxEntry) {
        self.assert_open();
        self.journal.push_inbox(user, entry);
    }

    /// Folds: writes entries of an inbox (ascending, gapless, not empty) as one chunk. Put the
    /// conversations that they change into the same batch: together they are the inbox's state.
    pub fn put_chunk(&mut self, user: UserId, entries: &[InboxEntry]) {
        self.assert_open();
        let first = entries.first().expect("a chunk has entries").inbox_seq;
        let key = ChunkKey { user, first }.key();
        self.ops.put(Table::Inbox, &key, |out| record::put_chunk(out, first, entries));
    }

    /// Folds: sets a conversation to what the entries up to and including the last chunk say.
    pub fn put_conversation(
        &mut self,
        user: UserId,
        channel: ChannelId,
        conversation: &Conversation,
    ) {
        self.assert_open();
        let key = ConversationKey { user, channel }.key();
        self.ops.put(Table::Inbox, &key, |out| record::put_conversation(out, conversation));
    }

    /// Sets a device's cursor.
    pub fn put_cursor(&mut self, user: UserId, device: DeviceId, cursor: InboxSeq) {
        self.assert_open();
        let key = CursorKey { user, device }.key();
        self.ops.put(Table::Inbox, &key, |out| record::put_cursor(out, cursor));
    }

    /// Refuses a device's credentials up to a time.
    pub fn put_ending(&mut self, user: UserId, ending: Ending) {
        self.assert_open();
        let (device, before) = ending;
        let key = EndingKey { user, device }.key();
        self.ops.put(Table::Inbox, &key, |out| record::put_ending(out, before));
    }

    /// As [`Self::put_ending`], in place of all that the user had.
    pub fn set_endings(&mut self, user: UserId, endings: &[Ending]) {
        self.assert_open();
        self.ops.delete_range(Table::Inbox, &KeyRange::endings(user));
        for ending in endings {
            self.put_ending(user, *ending);
        }
    }

    /// Removes a user's chunks, conversations and cursors. Nothing may be placed in her inbox
    /// before or after it that is not to be removed: an ending for ever is durable.
    pub fn erase_inbox(&mut self, user: UserId) {
        self.assert_open();
        for range in
            [KeyRange::chunks(user), KeyRange::conversations(user), KeyRange::cursors(user)]
        {
            self.ops.delete_range(Table::Inbox, &range);
        }
    }

    /// Forgets this core's journal records below `below`. Permitted once all their inbox entries
    /// are folded (in this batch or before it) and all their messages are fanned out: every
    /// recipient's entry is in a batch that came back `Durable` or `Accepted`.
    pub fn trim_journal(&mut self, below: BatchNumber) {
        self.assert_open();
        assert!(below <= self.number, "a batch cannot trim its own record");
        self.ops.delete_range(Table::Journal, &KeyRange::journal_below(self.core, below));
    }

    /// Whose it is.
    #[must_use]
    pub const fn core(&self) -> CoreId {
        self.core
    }

    /// Its place among the batches of its core.
    #[must_use]
    pub const fn number(&self) -> BatchNumber {
        self.number
    }

    /// The term in which it was filled.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Log entries in it.
    #[must_use]
    pub const fn message_count(&self) -> u32 {
        self.message_count
    }

    /// Bytes of its memory, as far as it can have been filled.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.ops.memory_bytes() + self.journal.memory_bytes()
    }

    /// Bytes of keys and records in it.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.ops.bytes() + self.journal.bytes()
    }

    /// It has reached its bound: seal and submit it. Looked at between changes, so one batch may
    /// be over by one change.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max
    }

    /// Nothing was put into it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.journal.is_empty()
    }

    /// Closes it: its journal record joins its changes.
    pub(crate) fn seal(&mut self) {
        if self.sealed {
            return;
        }
        self.submitted_bytes = self.bytes();
        if !self.journal.is_empty() {
            let key = JournalKey { core: self.core, number: self.number }.key();
            let journal = &self.journal;
            self.ops.put(Table::Journal, &key, |out| journal.write(out));
            self.journal.clear();
        }
        self.sealed = true;
    }

    /// What `bytes` was when it was sealed.
    pub(crate) const fn submitted_bytes(&self) -> usize {
        self.submitted_bytes
    }

    /// Its changes, for the writer and for those who look on. Complete only when sealed.
    #[must_use]
    pub const fn ops(&self) -> &Ops {
        &self.ops
    }

    fn assert_open(&self) {
        assert!(!self.sealed, "a batch is begun before it is filled, and not changed when sealed");
    }
}
