//! Every user's ordered list of what is addressed to her.
//!
//! The inboxes of one core. An entry gets its [`InboxSeq`] here, goes into the open batch's journal
//! and is delivered when that batch is durable. In memory an inbox keeps only its head and the
//! entries that are not folded: those that stand in the journal and not yet in a chunk of the
//! user's own. Folding empties the oldest first, so that the journal can be trimmed; what was
//! folded stays in memory until its chunk is durable, so that a reader never finds it in neither.
//!
//! A user's state, and each conversation of hers, is loaded when something is first addressed to
//! it; what arrives meanwhile waits with the user, in order. A replayed fan-out is recognised by
//! the conversation's `last_seq`.

mod endings;

use std::collections::VecDeque;

use thin_vec::ThinVec;
use variants::Variant;
use wire::{
    BatchNumber, ChannelId, Conversation, DeviceId, InboxEntry, InboxItem, InboxSeq, LogEntry, Seq,
    UserId,
};

use crate::Map;
use crate::fan_out::{FanNumber, Recipients};
use endings::Endings;
pub use endings::{ENDED_DEVICES_MAX, Ending, TooManyEnded, Written};

/// Entries that one core may keep unfolded. Beyond half of it folding begins; it bounds memory
/// (40 bytes each), the journal, and how long recovery takes.
pub const UNFOLDED_MAX: usize = 64 * 1024;

/// Batches that one core's journal may span before its oldest entries are folded even though
/// there are few of them.
pub const JOURNAL_BATCHES_MAX: u64 = 4096;

/// What is addressed to users.
#[derive(Clone, Debug)]
pub enum Notice {
    /// An entry of a channel's log.
    Logged(LogEntry),
    /// Somebody has read a channel up to a place.
    Read {
        /// The channel.
        channel: ChannelId,
        /// Who.
        user: UserId,
        /// Up to where.
        seq: Seq,
        /// For the reader's own inbox: who else is to be told, once it is durable that this is
        /// news.
        others: Option<Recipients>,
    },
}

impl Notice {
    /// What stands for it in an inbox.
    #[must_use]
    pub const fn item(&self) -> InboxItem {
        match self {
            Self::Logged(entry) => InboxItem::Logged { channel: entry.channel, seq: entry.seq },
            Self::Read { channel, user, seq, .. } => {
                InboxItem::ReadMarker { channel: *channel, user: *user, seq: *seq }
            }
        }
    }
}

/// The fan-out that a notice belongs to, to be acknowledged when it is durable; none for those
/// that are not tracked.
pub type Piece = Option<(wire::CoreId, FanNumber)>;

/// What becomes of a notice to one user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// It has its place: write it, deliver it when it is durable.
    Placed(InboxSeq),
    /// The inbox has it already (a replay), or it says nothing new (an old read marker).
    Known,
    /// The user's state must be loaded first: hand the notice to [`Inboxes::park`].
    Missing,
}

/// What must be read before a user's notices can be placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboxWanted {
    /// Whose.
    pub user: UserId,
    /// The conversation that is spoken of; none when a session starts.
    pub channel: Option<ChannelId>,
}

/// A user's stored state, as the store answers [`InboxWanted`].
#[derive(Clone, Debug)]
pub struct InboxLoaded {
    /// Whose.
    pub user: UserId,
    /// The last place in chunks.
    pub head: InboxSeq,
    /// What each device acknowledged.
    pub cursors: Vec<(DeviceId, InboxSeq)>,
    /// Up to which time of issue credentials are refused: of one device, or of all.
    pub endings: Vec<Ending>,
    /// The conversation asked for, as it is stored (default if there is none).
    pub conversation: Option<(ChannelId, Conversation)>,
}

/// What became of a notice that waited.
#[derive(Debug)]
pub enum Resumed {
    /// It has its place, as [`Placement::Placed`].
    Placed(Parked, InboxSeq),
    /// As [`Placement::Known`].
    Known(Parked),
    /// Its conversation must be loaded as well.
    Wanted(InboxWanted),
    /// None waits, or the store has not answered.
    Done,
}

/// A notice that waits for its user's state.
#[derive(Debug)]
pub struct Parked {
    /// The notice.
    pub notice: Notice,
    /// For the acknowledgement.
    pub piece: Piece,
}

#[derive(Debug, Default)]
struct Inbox {
    head: InboxSeq,
    /// The last place that is durable: what a session may be told.
    committed: InboxSeq,
    /// The last place that was put into a chunk, durable or not. `folded <= head`.
    folded: InboxSeq,
    /// In ascending order up to `head`, without gaps; from the first that is in no durable chunk.
    /// Boxed: to most of those who are online nothing is addressed for hours.
    #[expect(clippy::box_collection, reason = "8 bytes where there is none, instead of 32")]
    recent: Option<Box<VecDeque<InboxEntry>>>,
    cursors: ThinVec<Cursor>,
    /// Boxed: most users are not being loaded.
    loading: Option<Box<Loading>>,
    /// Its head has been read.
    known: bool,
}

// Each user who is online has one.
const _: () = assert!(size_of::<Inbox>() <= 56);

#[derive(Clone, Copy, Debug)]
struct Cursor {
    device: DeviceId,
    acked: InboxSeq,
    stored: InboxSeq,
}

#[derive(Debug, Default)]
struct Loading {
    parked: VecDeque<Parked>,
    asked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    conversation: Conversation,
    /// Changed since it was last put into a batch.
    dirty: bool,
    /// Spoken of since the clock's hand last passed it.
    recent: bool,
    /// The batch that holds its last change; the store has it once that is released.
    written_in: BatchNumber,
}

/// A part of a user's inbox to be written as a chunk, with the conversations it changed.
#[derive(Debug)]
pub struct Fold<'f> {
    /// Whose.
    pub user: UserId,
    /// The entries, ascending and without gaps.
    pub entries: &'f [InboxEntry],
    /// The conversations as they are now.
    pub conversations: &'f [(ChannelId, Conversation)],
}

/// The inboxes of one core.
#[derive(Debug)]
pub struct Inboxes {
    users: Map<UserId, Inbox>,
    conversations: Map<(UserId, ChannelId), Known>,
    /// Users with unfolded entries, by the batch that holds the first of them.
    unfolded_since: VecDeque<(BatchNumber, UserId)>,
    unfolded: usize,
    scratch: Vec<(ChannelId, Conversation)>,
    folding: Vec<InboxEntry>,
    /// All conversations in memory, in the order in which they are looked at for quiet ones.
    clock: VecDeque<(UserId, ChannelId)>,
    endings: Endings,
    /// The batch in which a user's cursor was last written. Read again before that is durable, her
    /// state would have an older one, and a late acknowledgement would put the stored one back.
    cursor_writes: Map<UserId, BatchNumber>,
    limits: InboxLimits,
    released: BatchNumber,
}

/// Limits of the inboxes of one core.
#[derive(Clone, Copy, Debug)]
pub struct InboxLimits {
    /// Clean conversations that are kept.
    pub conversations_max: usize,
    /// [`UNFOLDED_MAX`], or what a simulation can reach.
    pub unfolded_max: usize,
    /// [`JOURNAL_BATCHES_MAX`], or what a simulation can reach.
    pub journal_batches_max: u64,
}

impl InboxLimits {
    /// The bounds of this module, and so many conversations.
    #[must_use]
    pub const fn new(conversations_max: usize) -> Self {
        let (unfolded_max, journal_batches_max) = (UNFOLDED_MAX, JOURNAL_BATCHES_MAX);
        Self { conversations_max, unfolded_max, journal_batches_max }
    }
}

impl Inboxes {
    /// No user in memory.
    #[must_use]
    pub fn new(limits: InboxLimits) -> Self {
        Self {
            users: Map::default(),
            conversations: Map::default(),
            unfolded_since: VecDeque::new(),
            unfolded: 0,
            scratch: Vec::new(),
            folding: Vec::new(),
            clock: VecDeque::new(),
            endings: Endings::default(),
            cursor_writes: Map::default(),
            limits,
            released: BatchNumber::ZERO,
        }
    }

    /// Gives a notice its place in a user's inbox. It must go into the journal of the open batch,
    /// `batch`.
    pub fn place(&mut self, user: UserId, notice: &Notice, batch: BatchNumber) -> Placement {
        match self.users.get(&user) {
            Some(inbox) if inbox.known && inbox.loading.is_none() => {
                self.place_known(user, notice.item(), batch)
            }
            _ => Placement::Missing,
        }
    }

    /// As [`Self::place`], for a user whose head is known.
    fn place_known(&mut self, user: UserId, item: InboxItem, batch: BatchNumber) -> Placement {
        if self.endings.is_erased(user) {
            return Placement::Known; // Nothing is for her any more.
        }
        let Some(known) = self.conversations.get_mut(&(user, item.channel())) else {
            return Placement::Missing;
        };
        let inbox = self.users.get_mut(&user).expect("its head is known");
        let next = inbox.head.next();
        let conversation = &mut known.conversation;
        known.recent = true;
        match item {
            InboxItem::Logged { seq, .. } if seq <= conversation.last_seq => {
                return Placement::Known;
            }
            InboxItem::Logged { seq, .. } => {
                conversation.last_seq = seq;
                conversation.inbox_seq = next;
            }
            InboxItem::ReadMarker { user: reader, seq, .. } if reader == user => {
                if seq <= conversation.read_seq {
                    return Placement::Known;
                }
                conversation.read_seq = seq;
            }
            InboxItem::ReadMarker { .. } => {}
        }
        known.dirty = true;
        if inbox.folded == inbox.head {
            self.unfolded_since.push_back((batch, user));
        }
        inbox.head = next;
        inbox.recent.get_or_insert_default().push_back(InboxEntry { inbox_seq: next, item });
        self.unfolded += 1;
        Placement::Placed(next)
    }

    /// Keeps a notice that could not be placed; says what to load if nothing is being loaded for
    /// this user.
    pub fn park(&mut self, user: UserId, parked: Parked) -> Option<InboxWanted> {
        let channel = parked.notice.item().channel();
        let inbox = self.users.entry(user).or_default();
        let loading = inbox.loading.get_or_insert_default();
        loading.parked.push_back(parked);
        let ask = !std::mem::replace(&mut loading.asked, true);
        ask.then_some(InboxWanted { user, channel: Some(channel) })
    }

    /// A session of this user begins: makes her head known. `None` if it is already.
    pub fn want_head(&mut self, user: UserId) -> Option<InboxWanted> {
        let inbox = self.users.entry(user).or_default();
        if inbox.known {
            return None;
        }
        let loading = inbox.loading.get_or_insert_default();
        let ask = !std::mem::replace(&mut loading.asked, true);
        ask.then_some(InboxWanted { user, channel: None })
    }

    /// The store has answered. Then call [`Self::place_next_parked`] until it is done.
    pub fn handle_loaded(&mut self, loaded: InboxLoaded) {
        let inbox = self.users.get_mut(&loaded.user).expect("a user is kept while she is loaded");
        if !inbox.known {
            inbox.known = true;
            (inbox.head, inbox.committed, inbox.folded) = (loaded.head, loaded.head, loaded.head);
            inbox.cursors = loaded.cursors.into_iter().map(Cursor::stored).collect();
            self.endings.handle_loaded(loaded.user, loaded.endings);
        }
        if let Some(loading) = &mut inbox.loading {
            loading.asked = false;
        }
        let Some((channel, conversation)) = loaded.conversation else { return };
        let key = (loaded.user, channel);
        if !self.conversations.contains_key(&key) {
            self.make_room();
            self.clock.push_back(key);
            let written_in = BatchNumber::ZERO;
            let known = Known { conversation, dirty: false, recent: true, written_in };
            self.conversations.insert(key, known);
        }
    }

    /// Places the notice that has waited longest for this user.
    pub fn place_next_parked(&mut self, user: UserId, batch: BatchNumber) -> Resumed {
        let Some(inbox) = self.users.get_mut(&user) else { return Resumed::Done };
        let Some(loading) = inbox.loading.as_mut().filter(|loading| !loading.asked) else {
            return Resumed::Done;
        };
        let Some(parked) = loading.parked.pop_front() else {
            inbox.loading = None;
            return Resumed::Done;
        };
        match self.place_known(user, parked.notice.item(), batch) {
            Placement::Placed(inbox_seq) => Resumed::Placed(parked, inbox_seq),
            Placement::Known => Resumed::Known(parked),
            Placement::Missing => {
                let channel = parked.notice.item().channel();
                let loading = self.users.get_mut(&user).and_then(|inbox| inbox.loading.as_mut());
                let loading = loading.expect("it gave the notice");
                loading.parked.push_front(parked);
                loading.asked = true;
                Resumed::Wanted(InboxWanted { user, channel: Some(channel) })
            }
        }
    }

    /// The entry at `inbox_seq` is durable.
    pub fn handle_committed(&mut self, user: UserId, inbox_seq: InboxSeq) {
        let inbox = self.users.get_mut(&user).expect("a user is kept until all is committed");
        assert_eq!(inbox.committed.next(), inbox_seq, "{user}'s inbox commits without a gap");
        inbox.committed = inbox_seq;
    }

    /// The last durable place, if the user's state is in memory.
    #[must_use]
    pub fn committed(&self, user: UserId) -> Option<InboxSeq> {
        let inbox = self.users.get(&user)?;
        let early = variants::is(Variant::HeadTooEarly);
        inbox.known.then_some(if early { inbox.head } else { inbox.committed })
    }

    /// The durable entries after `after` that only the journal holds, for a reader that merges
    /// them with the chunks.
    #[must_use]
    pub fn tail(&self, user: UserId, after: InboxSeq, limit: usize) -> Vec<InboxEntry> {
        let Some(inbox) = self.users.get(&user) else { return Vec::new() };
        let visible =
            |entry: &&InboxEntry| entry.inbox_seq > after && entry.inbox_seq <= inbox.committed;
        inbox.recent().filter(visible).take(limit).copied().collect()
    }

    /// What the durable entries that only the journal holds say of the user's conversations, for a
    /// reader that joins it with what is stored. The state in memory is ahead of that: a crash
    /// could take back what it says.
    #[must_use]
    pub fn changed_conversations(&self, user: UserId) -> Vec<(ChannelId, Conversation)> {
        let Some(inbox) = self.users.get(&user) else { return Vec::new() };
        let mut changed: Map<ChannelId, Conversation> = Map::default();
        let durable = inbox.recent().filter(|entry| entry.inbox_seq <= inbox.committed);
        for entry in durable {
            let conversation = changed.entry(entry.item.channel()).or_default();
            match entry.item {
                InboxItem::Logged { seq, .. } => {
                    (conversation.last_seq, conversation.inbox_seq) = (seq, entry.inbox_seq);
                }
                InboxItem::ReadMarker { user: reader, seq, .. } if reader == user => {
                    conversation.read_seq = seq;
                }
                InboxItem::ReadMarker { .. } => {}
            }
        }
        changed.into_iter().collect()
    }

    /// A device has kept everything up to `inbox_seq`; one that claims more than there is, or
    /// less than before, changes nothing.
    pub fn ack(&mut self, user: UserId, device: DeviceId, inbox_seq: InboxSeq) {
        let Some(inbox) = self.users.get_mut(&user) else { return };
        if !inbox.known || inbox_seq > inbox.committed {
            return;
        }
        let any = variants::is(Variant::CursorOfAnother);
        match inbox.cursors.iter_mut().find(|cursor| cursor.device == device || any) {
            Some(cursor) => cursor.acked = cursor.acked.max(inbox_seq),
            None => {
                let stored = InboxSeq::ZERO;
                inbox.cursors.push(Cursor { device, acked: inbox_seq, stored });
            }
        }
    }

    /// A device's cursor if it has moved since it was stored; counts as stored then.
    pub fn take_moved_cursor(&mut self, user: UserId, device: DeviceId) -> Option<InboxSeq> {
        let inbox = self.users.get_mut(&user)?;
        let cursor = inbox.cursors.iter_mut().find(|cursor| cursor.device == device)?;
        let moved = cursor.acked > cursor.stored && !variants::is(Variant::CursorForgotten);
        cursor.stored = cursor.acked;
        moved.then_some(cursor.acked)
    }

    /// Whether folding is due, the journal's next batch being `open`.
    #[must_use]
    pub fn wants_fold(&self, open: BatchNumber) -> bool {
        self.unfolded > self.limits.unfolded_max / 2
            || self
                .unfolded_since
                .front()
                .is_some_and(|(since, _)| open.since(*since) > self.limits.journal_batches_max / 2)
    }

    /// All entries of batches below this one are folded (`next` is the open batch).
    #[must_use]
    pub fn folded_below(&self, next: BatchNumber) -> BatchNumber {
        let below = self.unfolded_since.front().map_or(next, |(since, _)| *since);
        if variants::is(Variant::FoldedTooFar) { below.next().min(next) } else { below }
    }

    /// Folds the user whose entries are oldest. The caller writes what it gets into the open
    /// batch, `batch`, and calls [`Self::handle_folded`] when that is durable.
    pub fn fold_next(&mut self, batch: BatchNumber) -> Option<Fold<'_>> {
        let (_, user) = self.unfolded_since.pop_front()?;
        Some(self.fold_all_of(user, batch))
    }

    /// As [`Self::fold_next`], of one user. `None` if she has nothing that is not folded.
    pub fn fold_user(&mut self, user: UserId, batch: BatchNumber) -> Option<Fold<'_>> {
        let at = self.unfolded_since.iter().position(|(_, of)| *of == user)?;
        self.unfolded_since.remove(at);
        Some(self.fold_all_of(user, batch))
    }

    fn fold_all_of(&mut self, user: UserId, batch: BatchNumber) -> Fold<'_> {
        let inbox = self.users.get_mut(&user).expect("a user is kept while entries are unfolded");
        let folded = inbox.folded;
        self.folding.clear();
        self.folding.extend(inbox.recent().filter(|entry| entry.inbox_seq > folded));
        inbox.folded = inbox.head;
        self.unfolded -= self.folding.len();
        self.scratch.clear();
        for entry in &self.folding {
            let channel = entry.item.channel();
            let known = self.conversations.get_mut(&(user, channel)).expect("kept while dirty");
            if std::mem::replace(&mut known.dirty, false) {
                known.written_in = batch;
                self.scratch.push((channel, known.conversation));
            }
        }
        Fold { user, entries: &self.folding, conversations: &self.scratch }
    }

    /// The chunk that ends at `through` is durable: readers find it in the store. `online`: the
    /// user has a session, her state stays in memory.
    pub fn handle_folded(&mut self, user: UserId, through: InboxSeq, online: bool) {
        let Some(inbox) = self.users.get_mut(&user) else { return };
        if let Some(recent) = &mut inbox.recent {
            while recent.front().is_some_and(|entry| entry.inbox_seq <= through) {
                recent.pop_front();
            }
        }
        if !online {
            self.forget_if_idle(user);
        }
    }

    /// Batch `number` is durable: conversations written up to it may be forgotten.
    pub const fn handle_released(&mut self, number: BatchNumber) {
        self.released = number;
    }

    /// The user's last session has ended: her state is forgotten unless something of it is not
    /// stored yet (then [`Self::handle_folded`] forgets it).
    pub fn forget_if_idle(&mut self, user: UserId) {
        let idle = |inbox: &Inbox| inbox.recent().next().is_none() && inbox.loading.is_none();
        if self.cursor_writes.get(&user).is_some_and(|batch| *batch > self.released) {
            return;
        }
        if self.users.get(&user).is_some_and(idle)
            && self.endings.forget_if_stored(user, self.released)
        {
            self.users.remove(&user);
            self.cursor_writes.remove(&user);
        }
    }

    /// A cursor of this user's went into a batch: once that is durable, look again whether she can
    /// be forgotten.
    pub fn note_cursor_write(&mut self, user: UserId, batch: BatchNumber) {
        self.cursor_writes.insert(user, batch);
    }

    /// At the bound, forgets a quiet conversation that the store has. If those looked at are all
    /// busy the bound gives way for now; [`UNFOLDED_MAX`] bounds how many can be.
    fn make_room(&mut self) {
        if self.conversations.len() < self.limits.conversations_max {
            return;
        }
        for _ in 0..8 {
            let Some(key) = self.clock.pop_front() else { return };
            let known = self.conversations.get_mut(&key).expect("the clock lists those in memory");
            let is_stored =
                known.written_in <= self.released || variants::is(Variant::ConversationForgotten);
            if !known.recent && !known.dirty && is_stored {
                self.conversations.remove(&key);
                if self.conversations.len() < self.limits.conversations_max {
                    return;
                }
                continue; // The bound gave way before: it comes back.
            }
            known.recent = false;
            self.clock.push_back(key);
        }
    }

    /// How many users' states are in memory.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Bytes of the users' states, and of the conversations. What is unfolded is counted with the
    /// users.
    #[must_use]
    pub fn memory_bytes(&self) -> (usize, usize) {
        let unfolded = self.unfolded * size_of::<InboxEntry>()
            + self.unfolded_since.capacity() * size_of::<(BatchNumber, UserId)>();
        let users = self.users.allocation_size() + unfolded;
        let clock = self.clock.capacity() * size_of::<(UserId, ChannelId)>();
        (users, self.conversations.allocation_size() + clock)
    }

    /// How many entries are unfolded.
    #[must_use]
    pub const fn unfolded(&self) -> usize {
        self.unfolded
    }
}

impl Inbox {
    fn recent(&self) -> impl Iterator<Item = &InboxEntry> {
        self.recent.iter().flat_map(|recent| recent.iter())
    }
}

impl Cursor {
    fn stored((device, acked): (DeviceId, InboxSeq)) -> Self {
        Self { device, acked, stored: acked }
    }
}
