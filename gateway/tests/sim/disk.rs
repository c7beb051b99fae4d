//! The store without its threads: submitted batches and asked questions wait until a step commits
//! or answers them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::shard::fingerprint;
use store::{
    Answer, Batch, Committer, ConversationKey, DataError, Engine, EngineError, Fatal, Fault, Key,
    Memory, MessageKey, Op, Pressure, Read, ReadAnswer, Space, SyncMode, Table, Through, recover,
};
use wire::{
    ChannelId, Conversation, CoreId, DeviceId, InboxEntry, InboxItem, InboxSeq, LogEntry, Seq,
    UserId,
};

use super::platter::{Platter, Written};

/// Free bytes that the disk must have.
const FREE_BYTES_MIN: u64 = 1000;

/// As large as a store's batches are.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Of the owner of a page of log entries that nobody's inbox has; see [`entry_of`].
const NOBODY: u64 = u64::MAX;

pub(crate) struct Disk {
    platter: Arc<Platter>,
    committer: Committer<Platter>,
    sync: SyncMode,
    submitted: VecDeque<Batch>,
    through: Vec<VecDeque<Through>>,
    asked: VecDeque<(usize, u64, Read)>,
    answers: Vec<VecDeque<Answer>>,
    free_bytes: Arc<AtomicU64>,
    /// Cores that have to be told that something is back.
    notified: Vec<bool>,
    /// Questions cannot be answered.
    pub(crate) fails_reads: bool,
    /// What the cores are told of the engine's load.
    pub(crate) pressure: Pressure,
}

/// What a recovery went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovered {
    /// The process died again before these writes, by what they were to change.
    pub(crate) died_before: Vec<&'static str>,
    /// The writes of the attempts.
    pub(crate) written: Vec<Written>,
}

impl Disk {
    /// An empty one for `cores` cores.
    pub(crate) fn new(cores: u16, sync: SyncMode) -> Self {
        Self::of(Memory::new(), cores, sync)
    }

    fn of(memory: Memory, cores: u16, sync: SyncMode) -> Self {
        let platter = Platter::of(memory);
        let free_bytes = Arc::new(AtomicU64::new(u64::MAX));
        let free = Arc::clone(&free_bytes);
        let probe = Box::new(move || Ok(free.load(Ordering::Relaxed)));
        let space = Space::new(probe, FREE_BYTES_MIN);
        Self {
            committer: Committer::new(Arc::clone(&platter), sync, cores, space),
            platter,
            sync,
            submitted: VecDeque::new(),
            through: (0..cores).map(|_| VecDeque::new()).collect(),
            asked: VecDeque::new(),
            answers: (0..cores).map(|_| VecDeque::new()).collect(),
            free_bytes,
            notified: vec![false; cores.into()],
            fails_reads: false,
            pressure: Pressure::None,
        }
    }

    /// What a restart with `cores` cores finds after a crash now: recovered.
    pub(crate) fn crash(&self, seed: u64, cores: u16) -> Self {
        self.crash_often(seed, cores, &[]).0
    }

    /// As [`Self::crash`], where the process dies again in recovery, before the writes of these
    /// numbers.
    pub(crate) fn crash_often(&self, seed: u64, cores: u16, deaths: &[u64]) -> (Self, Recovered) {
        let mut memory = match self.sync {
            SyncMode::Always => self.platter.memory.crash(seed),
            SyncMode::Interval(_) => self.killed(),
        };
        let mut recovered = Recovered::default();
        for death in deaths {
            let platter = Platter::of(memory);
            platter.dies_before(Some(*death));
            let died = recover(&*platter).is_err();
            let written = platter.take_written();
            if died {
                recovered.died_before.push(phase(&written, platter.died_at_a_deletion()));
            }
            recovered.written.extend(written);
            memory = platter.memory.crash(seed);
        }
        let platter = Platter::of(memory);
        recover(&*platter).expect("what a crash leaves can be recovered");
        recovered.written.extend(platter.take_written());
        let memory = platter.memory.crash(seed);
        (Self::of(memory, cores, self.sync), recovered)
    }

    /// What is there when the process dies but not the machine: all that it has written.
    fn killed(&self) -> Memory {
        self.platter.memory.crash_keeping(usize::MAX)
    }

    /// What a restart would find if the process died now; if writes are synced, nothing in doubt is
    /// kept.
    pub(crate) fn what_if(&self) -> Memory {
        let memory = match self.sync {
            SyncMode::Always => self.platter.memory.crash_keeping(0),
            SyncMode::Interval(_) => self.killed(),
        };
        recover(&memory).expect("what a crash leaves can be recovered");
        memory
    }

    pub(crate) fn new_batch(core: CoreId, bytes_max: usize) -> Batch {
        Batch::new(core, bytes_max.min(BATCH_BYTES_MAX))
    }

    pub(crate) fn submit(&mut self, batch: Batch) {
        self.submitted.push_back(batch);
    }

    pub(crate) fn ask(&mut self, core: usize, ticket: u64, read: Read) {
        self.asked.push_back((core, ticket, read));
    }

    /// Batches that wait to be committed.
    pub(crate) fn submitted(&self) -> usize {
        self.submitted.len()
    }

    /// Batches that can be committed now.
    pub(crate) fn committable(&self) -> usize {
        if self.committer.is_holding() { 0 } else { self.submitted.len() }
    }

    /// Questions that wait to be answered.
    pub(crate) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Commits the oldest `count` batches with one write.
    pub(crate) fn commit(&mut self, now: Duration, count: usize) -> Result<(), Fatal> {
        let mut group: Vec<Batch> = self.submitted.drain(..count).collect();
        let mut out = Vec::new();
        let result = self.committer.commit(now, &mut group, &mut out);
        self.hand_back(out);
        result
    }

    /// Does what is due.
    pub(crate) fn poll(&mut self, now: Duration) -> Result<(), Fatal> {
        let mut out = Vec::new();
        let result = self.committer.poll(now, &mut out);
        self.hand_back(out);
        result
    }

    fn hand_back(&mut self, out: Vec<Through>) {
        for through in out {
            let core = usize::from(through.core.0);
            self.notified[core] = true;
            self.through[core].push_back(through);
        }
    }

    /// Answers one of the questions that wait, from what is written now; its core hears of it
    /// later.
    pub(crate) fn answer(&mut self, index: usize) {
        let (core, ticket, read) = self.asked.remove(index).expect("one that waits");
        self.check_fresh(&read);
        let answer = if self.fails_reads {
            let error = EngineError::Failed("the simulated disk failed".to_owned());
            ReadAnswer::Failed(DataError::from(error))
        } else {
            store::answer(&*self.platter, &read, fingerprint)
        };
        self.notified[core] = true;
        self.answers[core].push_back(Answer { ticket, answer });
    }

    /// A core asks only for conversations of which it has given everything to the disk: what waits
    /// here it must still know.
    fn check_fresh(&self, read: &Read) {
        let Read::Inbox { user, channels } = read else { return };
        for channel in channels {
            let wanted = ConversationKey { user: *user, channel: *channel }.key();
            let is_it = |op: Op<'_>| matches!(op, Op::Put { key, .. } if key == wanted.as_ref());
            let waits = self.submitted.iter().any(|batch| batch.ops().iter().any(is_it));
            assert!(
                !waits,
                "durable: {user}'s {channel} is asked for while a batch that has it waits"
            );
        }
    }

    /// Whether something is back for a core.
    pub(crate) fn has_completions(&self, core: usize) -> bool {
        !self.through[core].is_empty() || !self.answers[core].is_empty()
    }

    /// Whether something has come back for a core since the last call.
    pub(crate) fn take_notified(&mut self, core: usize) -> bool {
        std::mem::take(&mut self.notified[core])
    }

    pub(crate) fn next_through(&mut self, core: usize) -> Option<Through> {
        self.through[core].pop_front()
    }

    pub(crate) fn next_answer(&mut self, core: usize) -> Option<Answer> {
        self.answers[core].pop_front()
    }

    /// Batches that are durable and whose core does not know it.
    pub(crate) fn unreleased(&self) -> usize {
        self.through.iter().map(VecDeque::len).sum()
    }

    /// Fills the disk, or frees it; a look at the free space tells.
    pub(crate) fn set_full(&self, full: bool) {
        let free = if full { 0 } else { u64::MAX };
        self.free_bytes.store(free, Ordering::Relaxed);
    }

    /// What becomes of writes from now on.
    pub(crate) fn set_fault(&self, fault: Fault) {
        self.platter.memory.set_fault(fault);
    }

    /// The process dies in the next write, before or after the disk has it.
    pub(crate) fn dies_in_next_write(&self, is_kept: bool) {
        if is_kept {
            self.platter.memory.set_fault(Fault::Fail);
        } else {
            self.platter.dies_before(Some(0));
        }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.committer.is_full()
    }

    /// A group is held until there is space.
    pub(crate) const fn is_holding(&self) -> bool {
        self.committer.is_holding()
    }

    pub(crate) const fn sync_mode(&self) -> SyncMode {
        self.sync
    }

    /// The writes since the last call.
    pub(crate) fn take_written(&self) -> Vec<Written> {
        self.platter.take_written()
    }

    /// What the log has at a place.
    pub(crate) fn entry(&self, channel: ChannelId, seq: Seq) -> Option<LogEntry> {
        entry_of(&*self.platter, channel, seq)
    }

    /// A user's state as it is stored.
    pub(crate) fn inbox_state(&self, user: UserId) -> (InboxSeq, Vec<(DeviceId, InboxSeq)>) {
        inbox_state(&*self.platter, user)
    }

    /// A conversation as it is stored.
    pub(crate) fn conversation(&self, user: UserId, channel: ChannelId) -> Conversation {
        let read = Read::Inbox { user, channels: vec![channel] };
        match store::answer(&*self.platter, &read, fingerprint) {
            ReadAnswer::Inbox { conversations, .. } => conversations[0].1,
            answer => panic!("the state of {user} is {answer:?}"),
        }
    }

    /// Whether the log on the disk has this entry.
    pub(crate) fn has_entry(&self, channel: ChannelId, seq: Seq) -> bool {
        let key = MessageKey { channel, seq }.key();
        // Every write is synced, so what can be read is durable.
        self.platter.get(Table::Messages, key.as_ref()).expect("no fault is set").is_some()
    }

    /// Compares everything with everything, after a clean recovery.
    pub(crate) fn check(&self) {
        let engine = self.what_if();
        let report = store::check(&engine).expect("every record can be read");
        assert!(report.is_sound(), "{report:?}");
    }

    /// Journal records that no trim has removed.
    pub(crate) fn journal_batches(&self) -> u64 {
        store::check(&*self.platter).expect("every record can be read").journal_batches
    }
}

/// What a recovery was about to do when it died.
const fn phase(written: &[Written], deletes: bool) -> &'static str {
    match (written, deletes) {
        (_, true) => "recovery, before it empties the journal",
        ([], false) => "recovery, before its first write",
        (_, false) => "recovery, before a later write",
    }
}

/// Reads a log entry as a page of an inbox would: with a tail that points to it.
pub(crate) fn entry_of<E: Engine>(engine: &E, channel: ChannelId, seq: Seq) -> Option<LogEntry> {
    let user = UserId::new(NOBODY).expect("not 0");
    let inbox_seq = InboxSeq::ZERO.next();
    let tail = vec![InboxEntry { inbox_seq, item: InboxItem::Logged { channel, seq } }];
    let (after, head, limit, bytes_max) = (InboxSeq::ZERO, inbox_seq, 1, usize::MAX);
    let read = Read::Sync { user, after, limit, bytes_max, tail, head };
    match store::answer(engine, &read, fingerprint) {
        ReadAnswer::Sync { mut entries, .. } => entries.pop().and_then(|(_, logged)| logged),
        _ => None,
    }
}

/// A user's head and cursors as they are stored.
pub(crate) fn inbox_state<E: Engine>(
    engine: &E,
    user: UserId,
) -> (InboxSeq, Vec<(DeviceId, InboxSeq)>) {
    match store::answer(engine, &Read::Inbox { user, channels: Vec::new() }, fingerprint) {
        ReadAnswer::Inbox { head, cursors, .. } => (head, cursors),
        answer => panic!("the state of {user} is {answer:?}"),
    }
}

/// All of a user's inbox, of an engine that is recovered.
pub(crate) fn inbox_of<E: Engine>(engine: &E, user: UserId) -> Vec<InboxEntry> {
    let (head, _) = inbox_state(engine, user);
    let limit = u32::try_from(head.get()).expect("runs are short");
    let (after, bytes_max, tail) = (InboxSeq::ZERO, usize::MAX, Vec::new());
    let read = Read::Sync { user, after, limit, bytes_max, tail, head };
    match store::answer(engine, &read, fingerprint) {
        ReadAnswer::Sync { entries, .. } => entries.into_iter().map(|(entry, _)| entry).collect(),
        answer => panic!("the inbox of {user} is {answer:?}"),
    }
}
