//! What is true: the logs as the disk has them, what was sent, and what anybody was ever told.
//!
//! Each check names its invariant first: `gapless`, `unique` (one place a send, one entry a place,
//! once an inbox), `altered`, `durable`, `permitted`, `monotone`.

use std::collections::{BTreeMap, BTreeSet};

use store::Engine;
use wire::{
    ChannelId, Content, Conversation, DeviceId, InboxEntry, InboxItem, InboxSeq, LogEntry,
    MembershipOp, Nonce, Role, Seq, Timestamp, UserId,
};

use crate::members::Members;
use crate::sim::disk::{entry_of, inbox_of};
use crate::sim::heard::What;

/// A send as its device names it.
pub(crate) type SendKey = (UserId, DeviceId, ChannelId, Nonce);

/// What was transmitted under one nonce.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// Every content that was.
    pub(crate) contents: Vec<Asked>,
    /// It was sent again without the mark of a retry: protected by the window of nonces alone.
    pub(crate) is_unmarked: bool,
    /// Where the logs have it. More than one only beyond what the protocol protects.
    pub(crate) places: Vec<Seq>,
    /// The first answer.
    pub(crate) answer: Option<(Seq, Timestamp)>,
}

/// What was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Post { body: Vec<u8> },
    Create { title: String, members: BTreeSet<UserId> },
    Change { op: MembershipOp, role: Role, members: BTreeSet<UserId> },
}

/// A channel.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) members: Members,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) logs: BTreeMap<ChannelId, Log>,
    pub(crate) sends: BTreeMap<SendKey, Sent>,
    /// The places of a channel that a user's inbox must have, in this order.
    expected: BTreeMap<(UserId, ChannelId), Vec<Seq>>,
    /// What somebody was told of a place of an inbox.
    told: BTreeMap<UserId, BTreeMap<InboxSeq, InboxItem>>,
    /// Cursors as they are stored.
    cursors: BTreeMap<(UserId, DeviceId), InboxSeq>,
    /// Conversations as they are stored, since the last restart.
    conversations: BTreeMap<(UserId, ChannelId), Conversation>,
    /// How far users have read, as their lists of conversations said.
    read: BTreeMap<(UserId, ChannelId), Seq>,
    users: u64,
    nonce_window: u64,
}

impl Model {
    pub(crate) fn new(users: u64, nonce_window: usize) -> Self {
        Self {
            logs: BTreeMap::new(),
            sends: BTreeMap::new(),
            expected: BTreeMap::new(),
            told: BTreeMap::new(),
            cursors: BTreeMap::new(),
            conversations: BTreeMap::new(),
            read: BTreeMap::new(),
            users,
            nonce_window: nonce_window as u64,
        }
    }

    pub(crate) fn users(&self) -> impl Iterator<Item = UserId> + use<> {
        (1..=self.users).map(|number| UserId::new(number).expect("from 1"))
    }

    /// The last place of a channel.
    pub(crate) fn last(&self, channel: ChannelId) -> Seq {
        let count = self.logs.get(&channel).map_or(0, |log| log.entries.len());
        Seq::new(count as u64)
    }

    pub(crate) fn entry(&self, channel: ChannelId, seq: Seq) -> Option<&LogEntry> {
        let index = usize::try_from(seq.get().checked_sub(1)?).ok()?;
        self.logs.get(&channel)?.entries.get(index)
    }

    /// Something is transmitted.
    pub(crate) fn sends(&mut self, key: SendKey, asked: Asked, marked: bool) {
        let sent = self.sends.entry(key).or_default();
        sent.is_unmarked |= !marked && !sent.contents.is_empty();
        if !sent.contents.contains(&asked) {
            sent.contents.push(asked);
        }
    }

    /// The disk has an entry.
    pub(crate) fn written(&mut self, entry: LogEntry) {
        let LogEntry { channel, seq, .. } = entry;
        if let Some(known) = self.entry(channel, seq) {
            assert_eq!(*known, entry, "unique: {channel}{seq} was written over");
            return;
        }
        assert_eq!(seq, self.last(channel).next(), "gapless: {channel} is written");
        self.check_send(&entry);
        let new = || Log { entries: Vec::new(), members: Members::new(channel) };
        let log = self.logs.entry(channel).or_insert_with(new);
        if let Some(last) = log.entries.last() {
            assert!(last.created_at <= entry.created_at, "monotone: the time of {channel}{seq}");
        }
        for user in log.members.follow(&entry) {
            self.expected.entry((user, channel)).or_default().push(seq);
        }
        log.entries.push(entry);
    }

    fn check_send(&mut self, entry: &LogEntry) {
        let LogEntry { channel, seq, sender, device, nonce, .. } = *entry;
        let key = (sender, device, channel, nonce);
        let sent = match &entry.content {
            // A group has no number before it is made.
            Content::Created { .. } => self.sends.entry(key).or_default(),
            _ => self.sends.get_mut(&key).unwrap_or_else(|| panic!("altered: nobody sent {key:?}")),
        };
        let is_asked = |asked: &Asked| match (&entry.content, asked) {
            (Content::Message { body, .. }, Asked::Post { body: asked }) => body[..] == asked[..],
            (
                Content::Membership { op, members, .. },
                Asked::Change { op: asked, members: all, .. },
            ) => op == asked && members.iter().all(|user| all.contains(user)),
            _ => false,
        };
        let is_creation = matches!(entry.content, Content::Created { .. });
        assert!(is_creation || sent.contents.iter().any(is_asked), "altered: {key:?} at {seq}");
        if let Some(first) = sent.places.first() {
            let is_protected = !sent.is_unmarked || seq.since(*first) <= self.nonce_window;
            assert!(!is_protected, "unique: {key:?} has {first} and {seq}");
        }
        sent.places.push(seq);
    }

    /// Somebody is told that a send is kept.
    pub(crate) fn acknowledged(&mut self, key: SendKey, seq: Seq, created_at: Timestamp) {
        let (sender, device, channel, nonce) = key;
        let entry = self.entry(channel, seq);
        let entry = entry.unwrap_or_else(|| panic!("durable: {key:?} was answered with {seq}"));
        let of = (entry.sender, entry.device, entry.nonce);
        assert_eq!(of, (sender, device, nonce), "altered: {channel}{seq} is another send");
        assert_eq!(entry.created_at, created_at, "altered: the time of {channel}{seq}");
        let sent = self.sends.get_mut(&key).expect("somebody asked");
        let first = *sent.answer.get_or_insert((seq, created_at));
        assert!(first.0 == seq || sent.places.len() > 1, "unique: {key:?}: {first:?}, then {seq}");
    }

    /// Somebody is told of an entry of a log.
    pub(crate) fn shown(&self, what: &What) {
        let Some((channel, seq)) = what.logged() else { return };
        let entry = self.entry(channel, seq);
        let entry = entry.unwrap_or_else(|| panic!("durable: {channel}{seq} was shown"));
        let mut expected = What::from(entry.as_event());
        if let (What::Message { body: shown, .. }, What::Message { body, .. }) =
            (what, &mut expected)
            && shown.is_none()
        {
            *body = None; // A device's own.
        }
        assert_eq!(*what, expected, "altered: {channel}{seq}");
    }

    /// Somebody is told of a place of an inbox.
    pub(crate) fn told(&mut self, user: UserId, place: InboxSeq, what: &What) {
        self.shown(what);
        let item = match *what {
            What::Read { channel, user: reader, seq } => {
                self.check_read(user, channel, reader, seq);
                InboxItem::ReadMarker { channel, user: reader, seq }
            }
            _ => {
                let (channel, seq) = what.logged().expect("all others are logged");
                let expected = self.expected.get(&(user, channel));
                let is_hers = expected.is_some_and(|seqs| seqs.binary_search(&seq).is_ok());
                assert!(is_hers, "permitted: {user} is told of {channel}{seq}");
                InboxItem::Logged { channel, seq }
            }
        };
        let known = *self.told.entry(user).or_default().entry(place).or_insert(item);
        assert_eq!(known, item, "unique: {user}'s inbox at {place}");
    }

    fn check_read(&self, owner: UserId, channel: ChannelId, reader: UserId, seq: Seq) {
        assert!(seq <= self.last(channel), "durable: {reader} has read {channel}{seq}");
        let members = self.logs.get(&channel).map(|log| &log.members);
        let is_hers = members.is_some_and(|m| m.may_read(owner, Seq::new(1)));
        assert!(is_hers, "permitted: {owner} is told who has read {channel}");
    }

    /// A list of conversations says how far its owner has read.
    pub(crate) fn listed(
        &mut self,
        owner: UserId,
        (channel, known): (ChannelId, Seq),
        (read, last): (Seq, Seq),
    ) {
        let most = self.last(channel);
        assert!(last <= most && read <= most, "durable: {owner}'s list has {channel}{last}");
        assert!(known <= read, "monotone: {owner} had read {channel}{known} and now {read}");
        let known = self.read.entry((owner, channel)).or_default();
        *known = read.max(*known);
    }

    /// How far a user is known to have read.
    pub(crate) fn known_read(&self, owner: UserId) -> BTreeMap<ChannelId, Seq> {
        let hers = self.read.iter().filter(|((of, _), _)| *of == owner);
        hers.map(|((_, channel), seq)| (*channel, *seq)).collect()
    }

    /// The highest place of an inbox that anybody was told.
    pub(crate) fn told_up_to(&self, user: UserId) -> InboxSeq {
        let last = self.told.get(&user).and_then(|told| told.last_key_value());
        last.map_or(InboxSeq::ZERO, |(place, _)| *place)
    }

    /// A device's cursor is stored, of those that `acknowledged` says at most.
    pub(crate) fn stores_cursor(
        &mut self,
        device: (UserId, DeviceId),
        cursor: InboxSeq,
        acknowledged: InboxSeq,
    ) {
        assert!(cursor <= acknowledged, "altered: {device:?} never acknowledged {cursor}");
        let known = self.cursors.entry(device).or_default();
        assert!(*known <= cursor, "monotone: the cursor of {device:?} was {known}, is {cursor}");
        *known = cursor;
    }

    /// A conversation is stored.
    pub(crate) fn stores_conversation(
        &mut self,
        whose: (UserId, ChannelId),
        conversation: Conversation,
    ) {
        let known = self.conversations.entry(whose).or_insert(conversation);
        let goes_on = known.last_seq <= conversation.last_seq
            && known.read_seq <= conversation.read_seq
            && known.inbox_seq <= conversation.inbox_seq;
        assert!(goes_on, "monotone: {whose:?} was {known:?}, is {conversation:?}");
        *known = conversation;
    }

    /// A crash may have taken conversations back: their entries are in the journal.
    pub(crate) fn forget_conversations(&mut self) {
        self.conversations.clear();
    }

    /// The engine, recovered after a crash, has every log as it was, and maybe more at its end;
    /// `in_doubt` are the channels of writes that did not come back.
    pub(crate) fn check_logs<E: Engine>(&mut self, engine: &E, in_doubt: &BTreeSet<ChannelId>) {
        for (channel, log) in &self.logs {
            for entry in &log.entries {
                let kept = entry_of(engine, *channel, entry.seq);
                assert_eq!(kept.as_ref(), Some(entry), "durable: {channel}{}", entry.seq);
            }
        }
        for channel in in_doubt {
            while let Some(entry) = entry_of(engine, *channel, self.last(*channel).next()) {
                self.written(entry);
            }
        }
    }

    /// The engine, recovered, has every inbox exactly as the logs make it, and all that was told.
    pub(crate) fn check_inboxes<E: Engine>(&self, engine: &E) {
        for user in self.users() {
            let inbox = inbox_of(engine, user);
            let mut found: BTreeMap<ChannelId, Vec<Seq>> = BTreeMap::new();
            for InboxEntry { item, .. } in &inbox {
                if let InboxItem::Logged { channel, seq } = item {
                    found.entry(*channel).or_default().push(*seq);
                }
            }
            for (channel, seqs) in &found {
                let expected = self.expected.get(&(user, *channel));
                let expected = expected.map_or(&[][..], Vec::as_slice);
                assert_eq!(seqs, expected, "unique: {channel} in {user}'s inbox");
            }
            for ((_, channel), seqs) in self.expected_of(user) {
                assert!(found.contains_key(channel), "durable: {user} lacks {channel} {seqs:?}");
            }
            for (place, item) in self.told.get(&user).into_iter().flatten() {
                let index = usize::try_from(place.get() - 1).expect("small");
                let kept = inbox.get(index).map(|entry| entry.item);
                assert_eq!(kept, Some(*item), "durable: {user}'s inbox at {place}");
            }
        }
    }

    fn expected_of(&self, user: UserId) -> impl Iterator<Item = (&(UserId, ChannelId), &Vec<Seq>)> {
        self.expected.iter().filter(move |((of, _), _)| *of == user)
    }
}
