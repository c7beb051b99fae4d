//! The answers, as functions of the engine. No thread, no queue: the readers and the simulator call
//! the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use wire::{
    ChannelId, ChannelKind, Content, Conversation, DeviceId, InboxEntry, InboxItem, InboxSeq,
    LogEntry, Member, Nonce, Seq, Timestamp, UserId,
};

use crate::engine::{Direction, Engine, Table};
use crate::error::{CorruptRecord, DataError, Torn};
use crate::keys::{
    ChunkKey, ConversationKey, CursorKey, EndingKey, Key, KeyBuf, KeyRange, MemberKey, MessageKey,
};
use crate::read::{Ending, Fingerprint, Read, ReadAnswer, Recent};
use crate::record;

/// Member records of one channel that are read at most; more than any channel may ever have had.
pub(crate) const MEMBERS_MAX: usize = 1 << 17;

/// Conversations of one user that are looked at for the list. Whoever has more sees the most
/// recent of those with the lowest channel ids.
const CONVERSATIONS_SCAN_MAX: usize = 1 << 16;

/// Log entries resolved by one engine call while a page of an inbox is built.
const RESOLVE_COUNT: usize = 64;

/// Answers a question. A failure becomes an answer too: somebody waits for it.
pub fn answer<E: Engine>(engine: &E, read: &Read, fingerprint: Fingerprint) -> ReadAnswer {
    let result = match read {
        Read::Channel { channel, nonce_window } => {
            channel_state(engine, *channel, *nonce_window, fingerprint)
        }
        Read::FindSends { channel, sends, below, scan_max } => {
            find_sends(engine, *channel, sends, (*below, *scan_max), fingerprint)
        }
        Read::Inbox { user, channels } => inbox_state(engine, *user, channels),
        Read::Sync { user, after, limit, bytes_max, tail, head } => {
            Page { user: *user, after: *after, limit: *limit, bytes_max: *bytes_max, head: *head }
                .read(engine, tail)
        }
        Read::History { channel, .. } => LogPage::of(engine, read).and_then(|page| match page {
            Some(page) => page.read(engine),
            None => Ok(ReadAnswer::NotMember { channel: *channel }),
        }),
        Read::Conversations { user, before, limit, overlay, last_bytes_max } => {
            conversations(engine, *user, *before, *limit, overlay)
                .and_then(|answer| with_last(engine, answer, *last_bytes_max))
        }
    };
    result.unwrap_or_else(ReadAnswer::Failed)
}

/// Scans, ending at the first record that cannot be read.
pub(crate) fn scan<E: Engine>(
    engine: &E,
    table: Table,
    range: KeyRange,
    direction: Direction,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, DataError>,
) -> Result<(), DataError> {
    let mut failed = None;
    engine.scan(table, range, direction, &mut |key, record| {
        visit(key, record).unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map_or(Ok(()), Err)
}

/// The members of a channel, former ones included, ascending by user.
pub(crate) fn members<E: Engine>(engine: &E, channel: ChannelId) -> Result<Vec<Member>, DataError> {
    let mut members = Vec::new();
    if channel.pair().is_some() {
        return Ok(members);
    }
    scan(engine, Table::Meta, KeyRange::members(channel), Direction::Forward, |key, record| {
        if members.len() == MEMBERS_MAX {
            return Err(Torn::TooManyMembers { channel, max: MEMBERS_MAX }.into());
        }
        members.push(record::member(key, record)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(members)
}

/// What a channel is; `None` for a numbered one that has no entry.
pub(crate) fn kind<E: Engine>(
    engine: &E,
    channel: ChannelId,
) -> Result<Option<ChannelKind>, DataError> {
    if channel.pair().is_some() {
        return Ok(Some(ChannelKind::Direct));
    }
    let key = MessageKey { channel, seq: Seq::ZERO.next() }.key();
    let Some(record) = engine.get(Table::Messages, key.as_ref())? else { return Ok(None) };
    match record::entry(key.as_ref(), &record)?.content {
        Content::Created { kind, .. } => Ok(Some(kind)),
        Content::Message { .. } | Content::Membership { .. } => {
            Err(Torn::NoCreation { channel }.into())
        }
    }
}

fn channel_state<E: Engine>(
    engine: &E,
    channel: ChannelId,
    nonce_window: u32,
    fingerprint: Fingerprint,
) -> Result<ReadAnswer, DataError> {
    let mut recent = Vec::new();
    // One even for an empty window: the newest tells the last place.
    let window = nonce_window.max(1) as usize;
    log_backward(engine, channel, Seq::new(u64::MAX), |entry| {
        recent.push(described(&entry, fingerprint));
        recent.len() == window
    })?;
    let last = recent.first().map_or(Seq::ZERO, |newest| newest.seq);
    recent.truncate(nonce_window as usize);
    recent.reverse();
    Ok(ReadAnswer::Channel {
        channel,
        last,
        kind: if last == Seq::ZERO && channel.pair().is_none() {
            None
        } else {
            Some(kind(engine, channel)?.ok_or(Torn::NoCreation { channel })?)
        },
        members: members(engine, channel)?,
        recent,
    })
}

/// Visits a log from below `below` downwards until `done`, checking that no place is missing.
fn log_backward<E: Engine>(
    engine: &E,
    channel: ChannelId,
    below: Seq,
    mut done: impl FnMut(LogEntry) -> bool,
) -> Result<(), DataError> {
    let range = KeyRange::messages(channel, Seq::ZERO, below);
    let mut above: Option<Seq> = None;
    scan(engine, Table::Messages, range, Direction::Backward, |key, record| {
        let entry = record::entry(key, record)?;
        if let Some(above) = above
            && entry.seq.next() != above
        {
            let expected = Seq::new(above.get() - 1);
            return Err(Torn::LogGap { channel, expected, found: entry.seq }.into());
        }
        above = Some(entry.seq);
        Ok(if done(entry) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
}

fn find_sends<E: Engine>(
    engine: &E,
    channel: ChannelId,
    sends: &[(UserId, DeviceId, Nonce)],
    (below, scan_max): (Seq, u32),
    fingerprint: Fingerprint,
) -> Result<ReadAnswer, DataError> {
    let mut wanted: HashSet<_> = sends.iter().copied().collect();
    let (mut found, mut whole) = (Vec::new(), true);
    let mut left = scan_max;
    log_backward(engine, channel, below, |entry| {
        if left == 0 {
            whole = false;
            return true;
        }
        left -= 1;
        if wanted.remove(&(entry.sender, entry.device, entry.nonce)) {
            found.push(described(&entry, fingerprint));
        }
        wanted.is_empty()
    })?;
    Ok(ReadAnswer::FindSends { found, whole })
}

fn described(entry: &LogEntry, fingerprint: Fingerprint) -> Recent {
    Recent {
        seq: entry.seq,
        sender: entry.sender,
        device: entry.device,
        nonce: entry.nonce,
        created_at: entry.created_at,
        fingerprint: fingerprint(&entry.content),
    }
}

/// The last chunk of an inbox; empty if there is none.
pub(crate) fn last_chunk<E: Engine>(
    engine: &E,
    user: UserId,
) -> Result<Vec<InboxEntry>, DataError> {
    let mut last = Vec::new();
    let range = KeyRange::chunks(user);
    scan(engine, Table::Inbox, range, Direction::Backward, |key, record| {
        last = record::chunk(key, record)?;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(last)
}

/// A stored conversation; the default if there is none.
pub(crate) fn conversation<E: Engine>(
    engine: &E,
    user: UserId,
    channel: ChannelId,
) -> Result<Conversation, DataError> {
    let key = ConversationKey { user, channel }.key();
    let record = engine.get(Table::Inbox, key.as_ref())?;
    Ok(match record {
        Some(record) => record::conversation(key.as_ref(), &record)?,
        None => Conversation::default(),
    })
}

fn inbox_state<E: Engine>(
    engine: &E,
    user: UserId,
    channels: &[ChannelId],
) -> Result<ReadAnswer, DataError> {
    let head = last_chunk(engine, user)?.last().map_or(InboxSeq::ZERO, |last| last.inbox_seq);
    let mut cursors = Vec::new();
    scan(engine, Table::Inbox, KeyRange::cursors(user), Direction::Forward, |key, record| {
        cursors.push((CursorKey::parse(key)?.device, record::cursor(key, record)?));
        Ok(ControlFlow::Continue(()))
    })?;
    let endings = endings(engine, user)?;
    let conversations = channels
        .iter()
        .map(|channel| Ok((*channel, conversation(engine, user, *channel)?)))
        .collect::<Result<_, DataError>>()?;
    Ok(ReadAnswer::Inbox { user, head, cursors, endings, conversations })
}

/// Up to when the credentials of a user's devices are refused.
fn endings<E: Engine>(engine: &E, user: UserId) -> Result<Vec<Ending>, DataError> {
    let mut endings = Vec::new();
    scan(engine, Table::Inbox, KeyRange::endings(user), Direction::Forward, |key, record| {
        endings.push((EndingKey::parse(key)?.device, record::ending(key, record)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(endings)
}

/// Whether a user was erased: nothing is placed in her inbox any more.
pub(crate) fn is_erased<E: Engine>(engine: &E, user: UserId) -> Result<bool, DataError> {
    let key = EndingKey { user, device: None }.key();
    let Some(record) = engine.get(Table::Inbox, key.as_ref())? else { return Ok(false) };
    Ok(record::ending(key.as_ref(), &record)? == Timestamp::FOREVER)
}

/// A page of an inbox.
struct Page {
    user: UserId,
    after: InboxSeq,
    limit: u32,
    bytes_max: usize,
    head: InboxSeq,
}

impl Page {
    fn read<E: Engine>(&self, engine: &E, tail: &[InboxEntry]) -> Result<ReadAnswer, DataError> {
        let entries = self.entries(engine, tail)?;
        let mut resolved: Vec<(InboxEntry, Option<LogEntry>)> = Vec::with_capacity(entries.len());
        let mut bytes = 0_usize;
        'page: for part in entries.chunks(RESOLVE_COUNT) {
            for (entry, log) in part.iter().zip(self.resolve(engine, part)?) {
                bytes = bytes.saturating_add(log.as_ref().map_or(0, body_bytes));
                if bytes > self.bytes_max && !resolved.is_empty() {
                    break 'page;
                }
                resolved.push((*entry, log));
            }
        }
        let next = resolved.last().map_or(self.after, |(last, _)| last.inbox_seq);
        let end = next >= self.head;
        Ok(ReadAnswer::Sync { user: self.user, entries: resolved, next, end })
    }

    /// The entries behind `after`, from chunks and then from the tail, without gap or repeat.
    fn entries<E: Engine>(
        &self,
        engine: &E,
        tail: &[InboxEntry],
    ) -> Result<Vec<InboxEntry>, DataError> {
        let wanted = self.head.since(self.after).min(u64::from(self.limit));
        let wanted = usize::try_from(wanted).expect("at most the limit");
        let mut entries: Vec<InboxEntry> = Vec::with_capacity(wanted);
        if wanted == 0 {
            return Ok(entries);
        }
        let start = self.after.next();
        // If memory has it from the start, the disk has nothing to add.
        if tail.first().is_none_or(|first| first.inbox_seq > start) {
            self.folded(engine, wanted, &mut entries)?;
        }
        for entry in tail {
            let expected = entries.last().map_or(start, |last| last.inbox_seq.next());
            if entries.len() < wanted && entry.inbox_seq >= expected {
                self.push(entry, &mut entries)?;
            }
        }
        if entries.len() < wanted {
            let expected = entries.last().map_or(start, |last| last.inbox_seq.next());
            let gap = Torn::InboxGap { user: self.user, expected, found: InboxSeq::ZERO };
            return Err(gap.into());
        }
        Ok(entries)
    }

    /// From chunks: the last one that starts at or before the page, and those behind it.
    fn folded<E: Engine>(
        &self,
        engine: &E,
        wanted: usize,
        entries: &mut Vec<InboxEntry>,
    ) -> Result<(), DataError> {
        let start = self.after.next();
        let (before, behind) = KeyRange::chunks_split(self.user, start);
        scan(engine, Table::Inbox, before, Direction::Backward, |key, record| {
            for entry in record::chunk(key, record)? {
                if entry.inbox_seq >= start && entries.len() < wanted {
                    self.push(&entry, entries)?;
                }
            }
            Ok(ControlFlow::Break(()))
        })?;
        if entries.len() == wanted {
            return Ok(());
        }
        scan(engine, Table::Inbox, behind, Direction::Forward, |key, record| {
            for entry in record::chunk(key, record)? {
                if entries.len() == wanted {
                    return Ok(ControlFlow::Break(()));
                }
                self.push(&entry, entries)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn push(&self, entry: &InboxEntry, entries: &mut Vec<InboxEntry>) -> Result<(), Torn> {
        let expected = entries.last().map_or(self.after, |last| last.inbox_seq).next();
        if entry.inbox_seq != expected {
            return Err(Torn::InboxGap { user: self.user, expected, found: entry.inbox_seq });
        }
        entries.push(*entry);
        Ok(())
    }

    /// The log's entries that inbox entries point to, in their order.
    fn resolve<E: Engine>(
        &self,
        engine: &E,
        entries: &[InboxEntry],
    ) -> Result<Vec<Option<LogEntry>>, DataError> {
        let key = |entry: &InboxEntry| match entry.item {
            InboxItem::Logged { channel, seq } => Some(MessageKey { channel, seq }.key()),
            InboxItem::ReadMarker { .. } => None,
        };
        let keys: Vec<KeyBuf> = entries.iter().filter_map(key).collect();
        let mut records = keys.iter().zip(engine.get_many(Table::Messages, &keys)?);
        let mut resolved = Vec::with_capacity(entries.len());
        for entry in entries {
            let InboxItem::Logged { channel, seq } = entry.item else {
                resolved.push(None);
                continue;
            };
            let (key, record) = records.next().expect("one record for each logged entry");
            let Some(record) = record else {
                let (user, inbox_seq) = (self.user, entry.inbox_seq);
                return Err(Torn::MissingMessage { user, inbox_seq, channel, seq }.into());
            };
            resolved.push(Some(record::entry(key.as_ref(), &record)?));
        }
        Ok(resolved)
    }
}

/// What an entry weighs in a page.
fn body_bytes(entry: &LogEntry) -> usize {
    match &entry.content {
        Content::Message { body, .. } => body.len(),
        Content::Membership { members, .. } => members.len() * 8,
        Content::Created { title, members, .. } => title.len() + members.len() * 8,
    }
}

/// The places of a channel that `reader` may read end before this one; `None`: she was never a
/// member.
pub(crate) fn readable_below<E: Engine>(
    engine: &E,
    channel: ChannelId,
    reader: UserId,
) -> Result<Option<Seq>, DataError> {
    let everything = Seq::new(u64::MAX);
    if let Some((one, other)) = channel.pair() {
        return Ok((reader == one || reader == other).then_some(everything));
    }
    let key = MemberKey { channel, user: reader }.key();
    let Some(record) = engine.get(Table::Meta, key.as_ref())? else { return Ok(None) };
    let member = record::member(key.as_ref(), &record)?;
    Ok(Some(member.left.map_or(everything, Seq::next)))
}

/// A page of a log, after the reader's right to it is settled: equal ones have equal answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LogPage {
    channel: ChannelId,
    from: Seq,
    direction: Direction,
    limit: u32,
    bytes_max: usize,
    readable_below: Seq,
}

impl LogPage {
    /// The page that a `Read::History` asks for; `None`: the reader was never a member.
    pub(crate) fn of<E: Engine>(engine: &E, read: &Read) -> Result<Option<Self>, DataError> {
        let Read::History { channel, reader, from, direction, limit, bytes_max } = *read else {
            return Ok(None);
        };
        let readable_below = readable_below(engine, channel, reader)?;
        Ok(readable_below.map(|readable_below| Self {
            channel,
            from,
            direction,
            limit,
            bytes_max,
            readable_below,
        }))
    }

    fn range(&self) -> KeyRange {
        let below = self.readable_below;
        match self.direction {
            Direction::Forward => KeyRange::messages(self.channel, self.from, below),
            Direction::Backward if self.from == Seq::ZERO => {
                KeyRange::messages(self.channel, Seq::ZERO, below)
            }
            Direction::Backward => {
                KeyRange::messages(self.channel, Seq::ZERO, self.from.min(below))
            }
        }
    }

    pub(crate) fn read<E: Engine>(&self, engine: &E) -> Result<ReadAnswer, DataError> {
        let channel = self.channel;
        let mut entries: Vec<LogEntry> = Vec::new();
        let (mut more, mut bytes) = (false, 0_usize);
        scan(engine, Table::Messages, self.range(), self.direction, |key, record| {
            let entry = record::entry(key, record)?;
            bytes = bytes.saturating_add(body_bytes(&entry));
            let full = bytes > self.bytes_max && !entries.is_empty();
            if full || entries.len() >= self.limit as usize {
                more = true;
                return Ok(ControlFlow::Break(()));
            }
            if let Some(last) = entries.last() {
                check_neighbours(channel, self.direction, last.seq, entry.seq)?;
            }
            entries.push(entry);
            Ok(ControlFlow::Continue(()))
        })?;
        if self.direction == Direction::Backward {
            entries.reverse();
        }
        Ok(ReadAnswer::History { channel, entries, more })
    }
}

fn check_neighbours(
    channel: ChannelId,
    direction: Direction,
    last: Seq,
    found: Seq,
) -> Result<(), Torn> {
    let expected = match direction {
        Direction::Forward => last.next(),
        Direction::Backward => Seq::new(last.get() - 1),
    };
    if found == expected { Ok(()) } else { Err(Torn::LogGap { channel, expected, found }) }
}

fn conversations<E: Engine>(
    engine: &E,
    user: UserId,
    before: InboxSeq,
    limit: u32,
    overlay: &[(ChannelId, Conversation)],
) -> Result<ReadAnswer, DataError> {
    let mut newer: HashMap<ChannelId, Conversation, RandomState> =
        overlay.iter().copied().collect();
    let before = if before == InboxSeq::ZERO { InboxSeq::new(u64::MAX) } else { before };
    // The most recent so far, the oldest of them on top; one more than asked, to know of `more`.
    let mut newest: BinaryHeap<Reverse<(InboxSeq, ChannelId)>> = BinaryHeap::new();
    let mut found: HashMap<ChannelId, Conversation, RandomState> = HashMap::default();
    let mut offer = |channel: ChannelId, conversation: Conversation| {
        if conversation.inbox_seq > InboxSeq::ZERO && conversation.inbox_seq < before {
            newest.push(Reverse((conversation.inbox_seq, channel)));
            found.insert(channel, conversation);
            if newest.len() > limit as usize + 1 {
                let Reverse((_, oldest)) = newest.pop().expect("just pushed");
                found.remove(&oldest);
            }
        }
    };
    let mut scanned = 0;
    let range = KeyRange::conversations(user);
    scan(engine, Table::Inbox, range, Direction::Forward, |key, record| {
        let ConversationKey { channel, .. } = ConversationKey::parse(key)?;
        let stored = record::conversation(key, record)?;
        offer(channel, newer.remove(&channel).map_or(stored, |newer| joined(stored, newer)));
        scanned += 1;
        Ok(if scanned < CONVERSATIONS_SCAN_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    for (channel, newer) in newer {
        // Only of one beyond those looked at can anything be stored.
        let is_whole = scanned < CONVERSATIONS_SCAN_MAX;
        let stored = if is_whole { None } else { Some(conversation(engine, user, channel)?) };
        offer(channel, stored.map_or(newer, |stored| joined(stored, newer)));
    }
    let mut conversations: Vec<_> = found.into_iter().collect();
    conversations.sort_unstable_by_key(|(_, conversation)| Reverse(conversation.inbox_seq));
    let more = conversations.len() > limit as usize;
    conversations.truncate(limit as usize);
    Ok(ReadAnswer::Conversations { user, conversations, last: Vec::new(), more })
}

/// Adds the latest entries, from the most recent conversation on as long as there is room.
fn with_last<E: Engine>(
    engine: &E,
    mut answer: ReadAnswer,
    bytes_max: Option<usize>,
) -> Result<ReadAnswer, DataError> {
    let ReadAnswer::Conversations { conversations, last, .. } = &mut answer else {
        unreachable!("the answer to a question for conversations")
    };
    let mut bytes_left = bytes_max.unwrap_or(0);
    for part in conversations.chunks(RESOLVE_COUNT) {
        if bytes_left == 0 {
            break;
        }
        let key = |(channel, conversation): &(ChannelId, Conversation)| {
            MessageKey { channel: *channel, seq: conversation.last_seq }.key()
        };
        let keys: Vec<KeyBuf> = part.iter().map(key).collect();
        for (key, record) in keys.iter().zip(engine.get_many(Table::Messages, &keys)?) {
            let record = record.filter(|record| record.len() <= bytes_left);
            let entry = record.map(|record| {
                bytes_left -= record.len();
                record::entry(key.as_ref(), &record)
            });
            last.push(entry.transpose()?);
        }
    }
    last.resize(conversations.len(), None);
    Ok(answer)
}

/// A conversation of which some entries are folded (maybe the same ones as elsewhere).
fn joined(stored: Conversation, newer: Conversation) -> Conversation {
    Conversation {
        last_seq: stored.last_seq.max(newer.last_seq),
        read_seq: stored.read_seq.max(newer.read_seq),
        inbox_seq: stored.inbox_seq.max(newer.inbox_seq),
    }
}

/// The chunk at `key`, and whose it is.
pub(crate) fn parsed_chunk(
    key: &[u8],
    record: &[u8],
) -> Result<(UserId, Vec<InboxEntry>), CorruptRecord> {
    Ok((ChunkKey::parse(key)?.user, record::chunk(key, record)?))
}
