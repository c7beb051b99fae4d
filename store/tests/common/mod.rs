//! A small world on a store: what a router does with batches, without a router. Two cores;
//! channels and users each live on one; fan-outs, folds and trims happen when a test says so.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub mod running;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{
    Batch, Committer, Direction, Engine, Outcome, Read, ReadAnswer, Space, SyncMode, Term, Through,
    answer, check, observe, recover,
};
use wire::{
    BatchNumber, ChannelId, ChannelKind, Content, Conversation, CoreId, DeviceId, InboxEntry,
    InboxItem, InboxSeq, LogEntry, Member, MembershipOp, Nonce, Role, Seq, Timestamp, UserId,
};

pub const CORES: u16 = 2;

pub fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

pub fn group(number: u64) -> ChannelId {
    ChannelId::numbered(number).unwrap()
}

pub fn direct(one: u64, other: u64) -> ChannelId {
    ChannelId::direct(user(one), user(other))
}

pub fn fingerprint(content: &Content) -> u64 {
    match content {
        Content::Message { body, .. } => {
            body.iter().fold(7, |sum, byte| sum * 31 + u64::from(*byte))
        }
        Content::Membership { .. } => 1,
        Content::Created { .. } => 2,
    }
}

pub fn text(channel: ChannelId, seq: u64, sender: u64, body: &str) -> LogEntry {
    LogEntry {
        channel,
        seq: Seq::new(seq),
        sender: user(sender),
        device: DeviceId(1),
        nonce: Nonce(seq + 1000),
        created_at: Timestamp(seq * 10),
        content: Content::Message { kind: 0, body: Bytes::copy_from_slice(body.as_bytes()) },
    }
}

pub fn logged(inbox_seq: u64, channel: ChannelId, seq: u64) -> InboxEntry {
    let item = InboxItem::Logged { channel, seq: Seq::new(seq) };
    InboxEntry { inbox_seq: InboxSeq::new(inbox_seq), item }
}

pub fn plenty() -> Space {
    Space::new(Box::new(|| Ok(u64::MAX)), 1)
}

/// A step of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Somebody writes into a channel.
    Post(ChannelId),
    /// The group is made, with users 1 to 3.
    Create(ChannelId),
    Add(ChannelId, u64),
    Remove(ChannelId, u64),
    /// The open batch of a core is committed.
    Commit(u16),
    /// A core appends so many waiting fan-out entries.
    FanOut(u16, usize),
    /// A core folds all committed entries of its users.
    Fold(u16),
    /// A core trims its journal as far as it may.
    Trim(u16),
}

#[derive(Default)]
struct Inbox {
    head: InboxSeq,
    /// (batch that carries it, entry), not yet folded.
    tail: Vec<(BatchNumber, InboxEntry)>,
    folded: BTreeMap<ChannelId, Conversation>,
}

struct Core {
    number: BatchNumber,
    batch: Batch,
    /// Messages in the open batch.
    sequenced: Vec<(ChannelId, Seq, Vec<UserId>)>,
    lane: VecDeque<(UserId, ChannelId, Seq, BatchNumber)>,
    /// Messages of committed batches whose fan-out is not committed: (batch, entries missing).
    unfinished: BTreeMap<BatchNumber, usize>,
    /// Entries in the open batch: (core and batch of the message).
    appended: Vec<(CoreId, BatchNumber)>,
    committed: BatchNumber,
}

pub struct World<E: Engine> {
    pub engine: Arc<E>,
    committer: Committer<E>,
    cores: Vec<Core>,
    logs: BTreeMap<ChannelId, Seq>,
    members: BTreeMap<ChannelId, BTreeSet<UserId>>,
    joined: BTreeMap<(ChannelId, UserId), Seq>,
    inboxes: BTreeMap<UserId, Inbox>,
    /// The highest acknowledged place of each channel.
    pub acknowledged: BTreeMap<ChannelId, Seq>,
    now: Duration,
}

impl<E: Engine> World<E> {
    /// On what a recovery left.
    pub fn new(engine: E, sync: SyncMode) -> Self {
        let engine = Arc::new(engine);
        let committer = Committer::new(Arc::clone(&engine), sync, CORES, plenty());
        let cores = (0..CORES)
            .map(|core| {
                let mut batch = Batch::new(CoreId(core), 1 << 16);
                batch.begin(BatchNumber::new(1), Term::FIRST);
                Core {
                    number: BatchNumber::new(1),
                    batch,
                    sequenced: Vec::new(),
                    lane: VecDeque::new(),
                    unfinished: BTreeMap::new(),
                    appended: Vec::new(),
                    committed: BatchNumber::ZERO,
                }
            })
            .collect();
        Self {
            engine,
            committer,
            cores,
            logs: BTreeMap::new(),
            members: BTreeMap::new(),
            joined: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    /// `false`: the disk failed.
    pub fn step(&mut self, step: Step) -> bool {
        self.now += Duration::from_millis(1);
        match step {
            Step::Post(channel) => self.post(channel),
            Step::Create(channel) => {
                if self.last(channel) == Seq::ZERO {
                    let members: Arc<[UserId]> = [user(1), user(2), user(3)].into();
                    self.append(channel, created(members), &[1, 2, 3], true);
                }
            }
            Step::Add(channel, who) => self.change(channel, MembershipOp::Add, who),
            Step::Remove(channel, who) => self.change(channel, MembershipOp::Remove, who),
            Step::Commit(core) => return self.commit(core),
            Step::FanOut(core, count) => self.fan_out(core, count),
            Step::Fold(core) => self.fold(core),
            Step::Trim(core) => self.trim(core),
        }
        true
    }

    fn last(&mut self, channel: ChannelId) -> Seq {
        let engine = &*self.engine;
        *self.logs.entry(channel).or_insert_with(|| last_of(engine, channel))
    }

    fn present(&mut self, channel: ChannelId) -> &mut BTreeSet<UserId> {
        let engine = &*self.engine;
        self.members.entry(channel).or_insert_with(|| {
            if let Some((one, other)) = channel.pair() {
                return [one, other].into();
            }
            let members = members_of(engine, channel).into_iter();
            members.filter(|member| member.left.is_none()).map(|member| member.user).collect()
        })
    }

    fn post(&mut self, channel: ChannelId) {
        let last = self.last(channel);
        if channel.pair().is_none() && last == Seq::ZERO {
            return;
        }
        let body = Bytes::from(format!("{channel} {last}"));
        self.append(channel, Content::Message { kind: 0, body }, &[], true);
    }

    fn change(&mut self, channel: ChannelId, op: MembershipOp, who: u64) {
        let came = op == MembershipOp::Add;
        if self.last(channel) == Seq::ZERO || self.present(channel).contains(&user(who)) == came {
            return;
        }
        let content = Content::Membership { op, role: Role::Member, members: [user(who)].into() };
        self.append(channel, content, &[who], came);
    }

    fn append(&mut self, channel: ChannelId, content: Content, moved: &[u64], came: bool) {
        let seq = self.last(channel).next();
        let mut recipients = self.present(channel).clone();
        let core = usize::from(core_of_channel(channel).0);
        for who in moved.iter().map(|who| user(*who)) {
            let left = (!came).then_some(seq);
            let engine = &*self.engine;
            let joined = self.joined.entry((channel, who));
            let joined = joined.or_insert_with(|| joined_of(engine, channel, who));
            *joined = if came { seq } else { *joined };
            let joined = *joined;
            let member = Member { user: who, role: Role::Member, joined, left };
            self.cores[core].batch.put_member(channel, &member);
            recipients.insert(who);
            if came {
                self.present(channel).insert(who);
            } else {
                self.present(channel).remove(&who);
            }
        }
        let entry = LogEntry { content, ..text(channel, seq.get(), 1, "") };
        self.cores[core].batch.append_entry(&entry);
        self.cores[core].sequenced.push((channel, seq, recipients.into_iter().collect()));
        self.logs.insert(channel, seq);
    }

    fn commit(&mut self, core: u16) -> bool {
        let index = usize::from(core);
        let batch = std::mem::replace(&mut self.cores[index].batch, Batch::new(CoreId(core), 1));
        let (mut group, mut out) = (vec![batch], Vec::new());
        if self.committer.poll(self.now, &mut out).is_err() {
            return false;
        }
        if self.committer.commit(self.now, &mut group, &mut out).is_err() {
            return false;
        }
        let Through { number, outcome, mut batch, .. } = out.pop().unwrap();
        assert_ne!(outcome, Outcome::Full);
        batch.begin(number.next(), Term::FIRST);
        let this = &mut self.cores[index];
        this.batch = batch;
        this.committed = number;
        this.number = number.next();
        for (from, of) in std::mem::take(&mut this.appended) {
            let waiting = &mut self.cores[usize::from(from.0)].unfinished;
            *waiting.get_mut(&of).unwrap() -= 1;
        }
        for (channel, seq, recipients) in std::mem::take(&mut self.cores[index].sequenced) {
            self.acknowledged.insert(channel, seq);
            *self.cores[index].unfinished.entry(number).or_default() += recipients.len();
            for user in recipients {
                let lane = &mut self.cores[usize::from(core_of_user(user).0)].lane;
                lane.push_back((user, channel, seq, number));
            }
        }
        true
    }

    fn fan_out(&mut self, core: u16, count: usize) {
        for _ in 0..count {
            let this = &mut self.cores[usize::from(core)];
            let Some((user, channel, seq, of)) = this.lane.pop_front() else { return };
            let engine = &*self.engine;
            let inbox = self
                .inboxes
                .entry(user)
                .or_insert_with(|| Inbox { head: head_of(engine, user), ..Inbox::default() });
            inbox.head = inbox.head.next();
            let entry = logged(inbox.head.get(), channel, seq.get());
            inbox.tail.push((this.number, entry));
            this.batch.append_inbox(user, &entry);
            this.appended.push((core_of_channel(channel), of));
        }
    }

    fn fold(&mut self, core: u16) {
        let Self { engine, inboxes, cores, .. } = self;
        let this = &mut cores[usize::from(core)];
        for (user, inbox) in inboxes.iter_mut().filter(|(user, _)| core_of_user(**user).0 == core) {
            let done = inbox.tail.iter().take_while(|(batch, _)| *batch <= this.committed).count();
            let entries: Vec<_> = inbox.tail.drain(..done).map(|(_, entry)| entry).collect();
            if entries.is_empty() {
                continue;
            }
            this.batch.put_chunk(*user, &entries);
            let mut touched = BTreeSet::new();
            for entry in &entries {
                let channel = entry.item.channel();
                let conversation = inbox
                    .folded
                    .entry(channel)
                    .or_insert_with(|| conversation_of(&**engine, *user, channel));
                observe(conversation, *user, entry);
                touched.insert(channel);
            }
            for channel in touched {
                this.batch.put_conversation(*user, channel, &inbox.folded[&channel]);
            }
        }
    }

    fn trim(&mut self, core: u16) {
        let users = self.inboxes.iter().filter(|(user, _)| core_of_user(**user).0 == core);
        let unfolded = users.filter_map(|(_, inbox)| inbox.tail.first()).map(|(batch, _)| *batch);
        let this = &self.cores[usize::from(core)];
        let waiting = this.unfinished.iter().find(|(_, left)| **left > 0).map(|(batch, _)| *batch);
        let below = unfolded.chain(waiting).chain([this.number]).min().unwrap();
        self.cores[usize::from(core)].batch.trim_journal(below);
    }
}

pub fn core_of_channel(channel: ChannelId) -> CoreId {
    CoreId(u16::try_from(channel.halves().1 % u64::from(CORES)).unwrap())
}

pub fn core_of_user(user: UserId) -> CoreId {
    CoreId(u16::try_from(user.get() % u64::from(CORES)).unwrap())
}

fn created(members: Arc<[UserId]>) -> Content {
    Content::Created { kind: ChannelKind::Group, title: "g".into(), members }
}

fn channel_of<E: Engine>(engine: &E, channel: ChannelId) -> (Seq, Vec<Member>) {
    match answer(engine, &Read::Channel { channel, nonce_window: 0 }, fingerprint) {
        ReadAnswer::Channel { last, members, .. } => (last, members),
        other => panic!("{other:?}"),
    }
}

pub fn last_of<E: Engine>(engine: &E, channel: ChannelId) -> Seq {
    channel_of(engine, channel).0
}

fn members_of<E: Engine>(engine: &E, channel: ChannelId) -> Vec<Member> {
    channel_of(engine, channel).1
}

fn joined_of<E: Engine>(engine: &E, channel: ChannelId, who: UserId) -> Seq {
    let found = members_of(engine, channel).into_iter().find(|member| member.user == who);
    found.map_or(Seq::new(1), |member| member.joined)
}

pub fn head_of<E: Engine>(engine: &E, user: UserId) -> InboxSeq {
    match answer(engine, &Read::Inbox { user, channels: vec![] }, fingerprint) {
        ReadAnswer::Inbox { head, .. } => head,
        other => panic!("{other:?}"),
    }
}

pub fn conversation_of<E: Engine>(engine: &E, user: UserId, channel: ChannelId) -> Conversation {
    match answer(engine, &Read::Inbox { user, channels: vec![channel] }, fingerprint) {
        ReadAnswer::Inbox { conversations, .. } => conversations[0].1,
        other => panic!("{other:?}"),
    }
}

/// The whole log of a channel.
pub fn log_of<E: Engine>(engine: &E, channel: ChannelId) -> Vec<LogEntry> {
    let reader = match channel.pair() {
        Some((one, _)) => one,
        None => match members_of(engine, channel).iter().find(|member| member.left.is_none()) {
            Some(member) => member.user,
            None => return Vec::new(),
        },
    };
    let read = Read::History {
        channel,
        reader,
        from: Seq::ZERO,
        direction: Direction::Forward,
        limit: u32::MAX,
        bytes_max: usize::MAX,
    };
    match answer(engine, &read, fingerprint) {
        ReadAnswer::History { entries, more: false, .. } => entries,
        other => panic!("{other:?}"),
    }
}

/// What the inbox of a user holds of each channel, read in pages of two.
pub fn inbox_of<E: Engine>(engine: &E, user: UserId) -> BTreeMap<ChannelId, Vec<Seq>> {
    let head = head_of(engine, user);
    let mut found: BTreeMap<ChannelId, Vec<Seq>> = BTreeMap::new();
    let mut after = InboxSeq::ZERO;
    loop {
        let page = Read::Sync { user, after, limit: 2, bytes_max: 1 << 20, tail: vec![], head };
        match answer(engine, &page, fingerprint) {
            ReadAnswer::Sync { entries, next, end, .. } => {
                for (entry, log) in entries {
                    let InboxItem::Logged { channel, seq } = entry.item else { panic!() };
                    let log = log.expect("a logged entry comes with its message");
                    assert_eq!((log.channel, log.seq), (channel, seq));
                    found.entry(channel).or_default().push(seq);
                }
                if end {
                    return found;
                }
                after = next;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Who must have what, from the logs alone.
fn expected<E: Engine>(
    engine: &E,
    channels: &[ChannelId],
) -> BTreeMap<UserId, BTreeMap<ChannelId, Vec<Seq>>> {
    let mut expected: BTreeMap<UserId, BTreeMap<ChannelId, Vec<Seq>>> = BTreeMap::new();
    for channel in channels {
        let pair = channel.pair().map(|(one, other)| [one, other]);
        let mut present: BTreeSet<UserId> = pair.into_iter().flatten().collect();
        for entry in log_of(engine, *channel) {
            let mut reached = present.clone();
            match &entry.content {
                Content::Message { .. } => {}
                Content::Created { members, .. }
                | Content::Membership { op: MembershipOp::Add, members, .. } => {
                    present.extend(members.iter());
                    reached.extend(members.iter());
                }
                Content::Membership { members, .. } => {
                    present.retain(|user| !members.contains(user));
                }
            }
            for user in reached {
                expected.entry(user).or_default().entry(*channel).or_default().push(entry.seq);
            }
        }
    }
    expected
}

/// Recovers, and asserts that everything is sound and every inbox complete.
pub fn recover_and_verify<E: Engine>(engine: &E, channels: &[ChannelId]) {
    recover(engine).unwrap();
    verify(engine, channels);
}

pub fn verify<E: Engine>(engine: &E, channels: &[ChannelId]) {
    let report = check(engine).unwrap();
    assert!(report.is_sound(), "{:?}", report.torn);
    assert_eq!(report.journal_batches, 0);
    let expected = expected(engine, channels);
    for (user, expected) in &expected {
        assert_eq!(inbox_of(engine, *user), *expected, "inbox of {user}");
    }
    assert_eq!(report.users, expected.len() as u64);
}
