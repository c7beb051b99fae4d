//! Keys, records and batches of the store. What was written comes back equal; what a damaged disk
//! may hold is an error with a name and never a panic, whoever reads it: recovery, the check, and
//! every question that a core may ask.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use store::{
    Batch, ChunkKey, Committer, ConversationKey, CursorKey, Direction, JournalKey, Key, MemberKey,
    Memory, MessageKey, Outcome, Read, ReadAnswer, Space, SyncMode, Table, Term, answer, check,
    recover,
};
use wire::{
    BatchNumber, ChannelId, ChannelKind, Content, Conversation, CoreId, DeviceId, InboxEntry,
    InboxItem, InboxSeq, LogEntry, MembershipOp, Nonce, Role, Seq, Timestamp, UserId,
};

/// A number, with a liking for both ends of the range.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Small(u8),
    Top(u8),
    Any(u64),
}

impl Number {
    fn get(self) -> u64 {
        match self {
            Self::Small(number) => number.into(),
            Self::Top(below) => u64::MAX - u64::from(below),
            Self::Any(number) => number,
        }
    }

    fn user(self) -> UserId {
        UserId::new(self.get().max(1)).expect("at least 1")
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.get().to_le_bytes());
    }
}

/// A channel: those that meet are few.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Where {
    Pair(bool),
    Numbered(Number),
}

impl Where {
    fn get(self) -> ChannelId {
        match self {
            Self::Pair(with_oneself) => {
                ChannelId::direct(user(1), user(if with_oneself { 1 } else { 2 }))
            }
            Self::Numbered(number) => ChannelId::numbered(number.get())
                .unwrap_or_else(|| ChannelId::direct(user(1), user(1))),
        }
    }
}

/// A record as a disk may hold it: of the right form with any numbers, or any bytes at all.
#[derive(Arbitrary, Debug)]
enum Record<'a> {
    /// A conversation, a cursor, or nothing that is known.
    Numbers(Vec<Number>),
    /// A member.
    Member {
        role: u8,
        joined: Number,
        left: Number,
    },
    /// A chunk.
    Items(Vec<Item>),
    /// A journal record: what was sequenced, and the runs.
    Journal(Vec<(Where, Number)>, Vec<(Item, Vec<(Number, Number)>)>),
    /// An entry of a log, with this as its content.
    Entry(Number, &'a [u8]),
    Other(&'a [u8]),
}

/// What stands in an inbox.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Item {
    channel: Where,
    seq: Number,
    reader: Option<Number>,
}

/// What a core asks.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Question {
    channel: Where,
    place: Number,
    other: Number,
    limit: u8,
    forward: bool,
}

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// Entries that are written and read back.
    Entries(Vec<Said<'a>>),
    /// Records on a damaged disk.
    Damaged { records: Vec<(At<'a>, Record<'a>)>, question: Question },
}

/// A place on the disk.
#[derive(Arbitrary, Debug)]
enum At<'a> {
    Message(Where, Number),
    Chunk(Number, Number),
    Conversation(Number, Where),
    Cursor(Number, u32),
    Member(Where, Number),
    Journal(u16, Number),
    /// A key that nobody makes.
    Other(u8, &'a [u8]),
}

/// An entry of a log, less its place.
#[derive(Arbitrary, Debug)]
struct Said<'a> {
    sender: Number,
    device: u32,
    nonce: u64,
    created_at: u64,
    content: What<'a>,
    /// The batch ends with it.
    seals: bool,
}

#[derive(Arbitrary, Debug)]
enum What<'a> {
    Message(u8, &'a [u8]),
    Membership(u8, u8, Vec<Number>),
    Created(bool, &'a str, Vec<Number>),
}

/// Does what `data` stands for.
///
/// # Panics
/// If something comes back changed, or a record that is damaged is met with a panic.
pub fn run(data: &[u8]) {
    check_keys(data);
    match Input::arbitrary_take_rest(Unstructured::new(data)) {
        Ok(Input::Entries(said)) => check_entries(&said),
        Ok(Input::Damaged { records, question }) => check_damaged(&records, question),
        Err(_) => {}
    }
}

fn user(number: u64) -> UserId {
    UserId::new(number).expect("not 0")
}

/// Bytes that are accepted as a key are that key's bytes, and no other's.
fn check_keys(data: &[u8]) {
    check_key::<MessageKey>(data);
    check_key::<ChunkKey>(data);
    check_key::<ConversationKey>(data);
    check_key::<CursorKey>(data);
    check_key::<MemberKey>(data);
    check_key::<JournalKey>(data);
}

fn check_key<K: Key>(data: &[u8]) {
    if let Ok(key) = K::parse(data) {
        assert_eq!(key.key().as_ref(), data);
    }
}

fn check_entries(said: &[Said<'_>]) {
    let channel = ChannelId::direct(user(1), user(2));
    let engine = Arc::new(Memory::new());
    let space = Space::new(Box::new(|| Ok(u64::MAX)), 1);
    let mut committer = Committer::new(Arc::clone(&engine), SyncMode::Always, 1, space);
    let (mut number, mut batch) = (BatchNumber::ZERO.next(), Batch::new(CoreId(0), 1 << 16));
    batch.begin(number, Term::FIRST);
    let (mut log, mut inbox) = (Vec::new(), Vec::new());
    for said in said {
        let seq = Seq::new(log.len() as u64 + 1);
        let entry = said.entry(channel, seq);
        batch.append_entry(&entry);
        log.push(entry);
        let inbox_seq = InboxSeq::new(seq.get());
        let entry = InboxEntry { inbox_seq, item: InboxItem::Logged { channel, seq } };
        batch.append_inbox(user(1), &entry);
        inbox.push(entry);
        if said.seals {
            batch = commit(&mut committer, batch);
            number = number.next();
            batch.begin(number, Term::FIRST);
        }
    }
    commit(&mut committer, batch);
    let restarted = engine.crash(0);
    let report = recover(&restarted).expect("nothing is damaged");
    assert_eq!(report.messages, log.len() as u64);
    assert!(check(&restarted).expect("nothing is damaged").is_sound());
    let limit = u32::try_from(log.len() + 1).expect("few");
    let history = Read::History {
        channel,
        reader: user(1),
        from: Seq::ZERO,
        direction: Direction::Forward,
        limit,
        bytes_max: usize::MAX,
    };
    let expected = ReadAnswer::History { channel, entries: log.clone(), more: false };
    assert_eq!(answer(&restarted, &history, fingerprint), expected);
    let (after, bytes_max, tail) = (InboxSeq::ZERO, usize::MAX, Vec::new());
    let head = inbox.last().map_or(after, |last: &InboxEntry| last.inbox_seq);
    let sync = Read::Sync { user: user(1), after, limit, bytes_max, tail, head };
    let entries = inbox.into_iter().zip(log.into_iter().map(Some)).collect();
    let expected = ReadAnswer::Sync { user: user(1), entries, next: head, end: true };
    assert_eq!(answer(&restarted, &sync, fingerprint), expected);
}

fn commit(committer: &mut Committer<Memory>, batch: Batch) -> Batch {
    let mut through = Vec::new();
    committer.commit(Duration::ZERO, &mut vec![batch], &mut through).expect("no fault is set");
    let through = through.pop().expect("it comes back");
    assert_eq!(through.outcome, Outcome::Durable);
    through.batch
}

impl Said<'_> {
    fn entry(&self, channel: ChannelId, seq: Seq) -> LogEntry {
        let users = |list: &[Number]| list.iter().map(|number| number.user()).collect();
        let content = match &self.content {
            What::Message(kind, body) => {
                Content::Message { kind: *kind, body: Bytes::copy_from_slice(body) }
            }
            What::Membership(op, role, members) => Content::Membership {
                op: MembershipOp::from_number(op % 3).expect("one of three"),
                role: Role::from_number(role % 3).expect("one of three"),
                members: users(members),
            },
            What::Created(is_group, title, members) => Content::Created {
                kind: if *is_group { ChannelKind::Group } else { ChannelKind::Broadcast },
                title: (*title).into(),
                members: users(members),
            },
        };
        LogEntry {
            channel,
            seq,
            sender: self.sender.user(),
            device: DeviceId(self.device),
            nonce: Nonce(self.nonce),
            created_at: Timestamp(self.created_at),
            content,
        }
    }
}

fn fingerprint(content: &Content) -> u64 {
    match content {
        Content::Message { body, .. } => body.len() as u64,
        Content::Membership { .. } => 1,
        Content::Created { .. } => 2,
    }
}

impl Record<'_> {
    /// Its bytes: see `store/src/record.rs` and `store/src/journal.rs`. All formats are 1.
    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![1];
        match self {
            Self::Numbers(numbers) => numbers.iter().for_each(|number| number.put(&mut out)),
            Self::Member { role, joined, left } => {
                out.push(*role);
                joined.put(&mut out);
                left.put(&mut out);
            }
            Self::Items(items) => items.iter().for_each(|item| item.put(&mut out)),
            Self::Journal(sequenced, runs) => {
                put_count(&mut out, sequenced.len());
                for (channel, seq) in sequenced {
                    put_place(&mut out, *channel, *seq);
                }
                for (item, users) in runs {
                    item.put(&mut out);
                    put_count(&mut out, users.len());
                    for (user, inbox_seq) in users {
                        user.put(&mut out);
                        inbox_seq.put(&mut out);
                    }
                }
            }
            Self::Entry(sender, content) => {
                sender.put(&mut out);
                out.extend([0; 20]);
                out.extend_from_slice(content);
            }
            Self::Other(bytes) => return bytes.to_vec(),
        }
        out
    }
}

impl Item {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.reader.is_some()));
        put_place(out, self.channel, self.seq);
        if let Some(reader) = self.reader {
            reader.put(out);
        }
    }
}

fn put_place(out: &mut Vec<u8>, channel: Where, seq: Number) {
    let (high, low) = channel.get().halves();
    for number in [high, low, seq.get()] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).expect("few").to_le_bytes());
}

fn check_damaged(records: &[(At<'_>, Record<'_>)], question: Question) {
    let Question { channel, place, other, limit, forward } = question;
    let memory = Memory::new();
    for (at, record) in records {
        at.corrupt(&memory, &record.bytes());
    }
    let (channel, reader, limit) = (channel.get(), other.user(), u32::from(limit));
    let direction = if forward { Direction::Forward } else { Direction::Backward };
    let (seq, before) = (Seq::new(place.get()), InboxSeq::new(place.get()));
    // What a core says of an inbox is so, and nobody is asked for what is behind its head.
    let head = InboxSeq::new(other.get() / 2);
    let after = before.min(head);
    let bytes_max = 1 << 16;
    let questions = [
        Read::Channel { channel, nonce_window: limit },
        Read::FindSends {
            channel,
            sends: vec![(reader, DeviceId(1), Nonce(1))],
            below: seq,
            scan_max: limit,
        },
        Read::Inbox { user: reader, channels: vec![channel] },
        Read::Sync { user: reader, after, limit, bytes_max, tail: Vec::new(), head },
        Read::History { channel, reader, from: seq, direction, limit, bytes_max },
        Read::Conversations {
            user: reader,
            before,
            limit,
            overlay: vec![(channel, Conversation::default())],
            last_bytes_max: Some(bytes_max),
        },
    ];
    for question in &questions {
        let _ = answer(&memory, question, fingerprint);
    }
    let _ = check(&memory);
    if recover(&memory).is_ok() {
        let again = recover(&memory).expect("what was recovered is sound as far as that goes");
        assert_eq!(again.batches, 0, "a recovery empties the journal");
    }
}

impl At<'_> {
    fn corrupt(&self, memory: &Memory, record: &[u8]) {
        let put = |table, key: &[u8]| memory.corrupt(table, key, record);
        let place = |number: &Number| number.get().max(1);
        match self {
            Self::Message(channel, seq) => {
                let key = MessageKey { channel: channel.get(), seq: Seq::new(place(seq)) };
                put(MessageKey::TABLE, key.key().as_ref());
            }
            Self::Chunk(user, first) => {
                let key = ChunkKey { user: user.user(), first: InboxSeq::new(place(first)) };
                put(ChunkKey::TABLE, key.key().as_ref());
            }
            Self::Conversation(user, channel) => {
                let key = ConversationKey { user: user.user(), channel: channel.get() };
                put(ConversationKey::TABLE, key.key().as_ref());
            }
            Self::Cursor(user, device) => {
                let key = CursorKey { user: user.user(), device: DeviceId(*device) };
                put(CursorKey::TABLE, key.key().as_ref());
            }
            Self::Member(channel, user) => {
                let key = MemberKey { channel: channel.get(), user: user.user() };
                put(MemberKey::TABLE, key.key().as_ref());
            }
            Self::Journal(core, number) => {
                let number = BatchNumber::new(place(number));
                let key = JournalKey { core: CoreId(*core), number };
                put(JournalKey::TABLE, key.key().as_ref());
            }
            Self::Other(table, key) => put(Table::ALL[usize::from(*table) % 4], key),
        }
    }
}
