//! The inboxes of the world: what was given a place in each, what of it is durable, and what the
//! store would tell of it.

use std::collections::{BTreeMap, VecDeque};

use router::inbox::{Fold, InboxLoaded, InboxWanted};
use wire::{ChannelId, Conversation, InboxEntry, InboxItem, InboxSeq, UserId};

/// One user's.
#[derive(Default, Debug)]
pub(super) struct Inbox {
    /// Everything that was given a place.
    pub(super) entries: Vec<InboxEntry>,
    /// So many of them are durable.
    pub(super) durable: usize,
    /// So many of them are in durable chunks.
    folded: usize,
    /// As durable chunks have them.
    conversations: BTreeMap<ChannelId, Conversation>,
}

/// All of them.
#[derive(Default, Debug)]
pub(super) struct Model {
    pub(super) users: BTreeMap<UserId, Inbox>,
    /// Questions that the store has not answered.
    pub(super) wanted: VecDeque<InboxWanted>,
}

/// A part of an inbox that is on its way into a chunk.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) user: UserId,
    pub(super) through: InboxSeq,
    conversations: Vec<(ChannelId, Conversation)>,
}

impl Model {
    pub(super) fn has(&self, user: UserId, item: InboxItem) -> bool {
        let inbox = self.users.get(&user);
        inbox.is_some_and(|inbox| inbox.entries.iter().any(|entry| entry.item == item))
    }

    /// An item was given a place.
    ///
    /// # Panics
    /// If that is not the next one, or it has one.
    pub(super) fn place(&mut self, user: UserId, item: InboxItem, inbox_seq: InboxSeq) {
        assert!(!self.has(user, item), "{user} has {item:?} twice");
        let inbox = self.users.entry(user).or_default();
        assert_eq!(inbox_seq.get(), inbox.entries.len() as u64 + 1, "places are dense");
        let InboxItem::Logged { channel, seq } = item else { panic!("no other is placed here") };
        let later = inbox.entries.iter().any(|entry| match entry.item {
            InboxItem::Logged { channel: other, seq: placed } => other == channel && placed > seq,
            InboxItem::ReadMarker { .. } => false,
        });
        assert!(!later, "{user} gets {item:?} behind a later one");
        inbox.entries.push(InboxEntry { inbox_seq, item });
    }

    /// The next entry of an inbox is durable.
    pub(super) fn commit(&mut self, user: UserId, inbox_seq: InboxSeq) {
        let inbox = self.users.get_mut(&user).expect("it was placed");
        inbox.durable += 1;
        assert_eq!(inbox_seq.get(), inbox.durable as u64, "commits are dense");
    }

    /// What is folded is what was placed and is in no chunk yet.
    pub(super) fn check_fold(&self, fold: &Fold<'_>, before: InboxSeq) -> Chunk {
        let inbox = &self.users[&fold.user];
        let from = usize::try_from(before.get()).expect("few");
        assert_eq!(fold.entries, &inbox.entries[from..], "all that is not folded, and only that");
        let through = fold.entries.last().expect("a fold has entries").inbox_seq;
        for (channel, conversation) in fold.conversations {
            assert_eq!(conversation.last_seq, inbox.conversation(*channel, through).last_seq);
        }
        Chunk { user: fold.user, through, conversations: fold.conversations.to_vec() }
    }

    /// A chunk is durable.
    pub(super) fn fold(&mut self, chunk: &Chunk) {
        let inbox = self.users.get_mut(&chunk.user).expect("it was placed");
        inbox.folded = usize::try_from(chunk.through.get()).expect("few");
        assert!(inbox.folded <= inbox.durable, "a chunk is no earlier than its entries");
        inbox.conversations.extend(chunk.conversations.iter().copied());
    }

    /// What the store answers.
    pub(super) fn load(&self, wanted: InboxWanted) -> InboxLoaded {
        let none = Inbox::default();
        let inbox = self.users.get(&wanted.user).unwrap_or(&none);
        let stored = |channel| inbox.conversations.get(&channel).copied().unwrap_or_default();
        InboxLoaded {
            user: wanted.user,
            head: InboxSeq::new(inbox.folded as u64),
            cursors: Vec::new(),
            endings: Vec::new(),
            conversation: wanted.channel.map(|channel| (channel, stored(channel))),
        }
    }

    /// What a recovery makes of it: everything durable is folded, and nothing else is left.
    pub(super) fn restart(&mut self) {
        self.wanted.clear();
        for inbox in self.users.values_mut() {
            inbox.entries.truncate(inbox.durable);
            inbox.folded = inbox.durable;
            let through = InboxSeq::new(inbox.durable as u64);
            let channels: Vec<ChannelId> =
                inbox.entries.iter().map(|entry| entry.item.channel()).collect();
            for channel in channels {
                let conversation = inbox.conversation(channel, through);
                inbox.conversations.insert(channel, conversation);
            }
        }
    }
}

impl Inbox {
    fn conversation(&self, of: ChannelId, through: InboxSeq) -> Conversation {
        let mut conversation = Conversation::default();
        for entry in self.entries.iter().filter(|entry| entry.inbox_seq <= through) {
            if let InboxItem::Logged { channel, seq } = entry.item
                && channel == of
            {
                conversation.last_seq = conversation.last_seq.max(seq);
                conversation.inbox_seq = entry.inbox_seq;
            }
        }
        conversation
    }
}
