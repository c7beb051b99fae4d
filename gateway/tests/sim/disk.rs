//! The store without its threads: submitted batches and asked questions wait until a step commits
//! or answers them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::shard::fingerprint;
use store::{
    Answer, Batch, Committer, DataError, Engine, EngineError, Key, Memory, MessageKey, Pressure,
    Read, ReadAnswer, Space, SyncMode, Table, Through, recover,
};
use wire::{ChannelId, CoreId, Seq};

/// Free bytes that the disk must have.
const FREE_BYTES_MIN: u64 = 1000;

/// As large as a store's batches are.
const BATCH_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Disk {
    engine: Arc<Memory>,
    committer: Committer<Memory>,
    submitted: VecDeque<Batch>,
    through: Vec<VecDeque<Through>>,
    asked: VecDeque<(usize, u64, Read)>,
    answers: Vec<VecDeque<Answer>>,
    free_bytes: Arc<AtomicU64>,
    /// Questions cannot be answered.
    pub(crate) fails_reads: bool,
    /// What the cores are told of the engine's load.
    pub(crate) pressure: Pressure,
}

impl Disk {
    /// An empty one for `cores` cores.
    pub(crate) fn new(cores: u16) -> Self {
        Self::of(Memory::new(), cores)
    }

    fn of(engine: Memory, cores: u16) -> Self {
        let engine = Arc::new(engine);
        let free_bytes = Arc::new(AtomicU64::new(u64::MAX));
        let free = Arc::clone(&free_bytes);
        let probe = Box::new(move || Ok(free.load(Ordering::Relaxed)));
        let space = Space::new(probe, FREE_BYTES_MIN);
        Self {
            committer: Committer::new(Arc::clone(&engine), SyncMode::Always, cores, space),
            engine,
            submitted: VecDeque::new(),
            through: (0..cores).map(|_| VecDeque::new()).collect(),
            asked: VecDeque::new(),
            answers: (0..cores).map(|_| VecDeque::new()).collect(),
            free_bytes,
            fails_reads: false,
            pressure: Pressure::None,
        }
    }

    /// What a restart with `cores` cores finds after a crash now: recovered.
    pub(crate) fn crash(&self, seed: u64, cores: u16) -> Self {
        let engine = self.engine.crash(seed);
        recover(&engine).expect("what a crash leaves can be recovered");
        Self::of(engine, cores)
    }

    pub(crate) fn new_batch(core: CoreId) -> Batch {
        Batch::new(core, BATCH_BYTES_MAX)
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

    /// Questions that wait to be answered.
    pub(crate) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Commits the oldest `count` batches with one write.
    pub(crate) fn commit(&mut self, now: Duration, count: usize) {
        let mut group: Vec<Batch> = self.submitted.drain(..count).collect();
        let mut out = Vec::new();
        self.committer.commit(now, &mut group, &mut out).expect("no fault is set");
        self.hand_back(out);
    }

    /// Does what is due.
    pub(crate) fn poll(&mut self, now: Duration) {
        let mut out = Vec::new();
        self.committer.poll(now, &mut out).expect("no fault is set");
        self.hand_back(out);
    }

    fn hand_back(&mut self, out: Vec<Through>) {
        for through in out {
            self.through[usize::from(through.core.0)].push_back(through);
        }
    }

    /// Answers one of the questions that wait.
    pub(crate) fn answer(&mut self, index: usize) {
        let (core, ticket, read) = self.asked.remove(index).expect("one that waits");
        let answer = if self.fails_reads {
            let error = EngineError::Failed("the simulated disk failed".to_owned());
            ReadAnswer::Failed(DataError::from(error))
        } else {
            store::answer(&*self.engine, &read, fingerprint)
        };
        self.answers[core].push_back(Answer { ticket, answer });
    }

    /// Whether something is back for a core.
    pub(crate) fn has_completions(&self, core: usize) -> bool {
        !self.through[core].is_empty() || !self.answers[core].is_empty()
    }

    pub(crate) fn next_through(&mut self, core: usize) -> Option<Through> {
        self.through[core].pop_front()
    }

    pub(crate) fn next_answer(&mut self, core: usize) -> Option<Answer> {
        self.answers[core].pop_front()
    }

    /// Fills the disk, or frees it.
    pub(crate) fn set_full(&self, full: bool) {
        let free = if full { 0 } else { u64::MAX };
        self.free_bytes.store(free, Ordering::Relaxed);
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.committer.is_full()
    }

    /// Whether the log on the disk has this entry.
    pub(crate) fn has_entry(&self, channel: ChannelId, seq: Seq) -> bool {
        let key = MessageKey { channel, seq }.key();
        // Every write is synced, so what can be read is durable.
        self.engine.get(Table::Messages, key.as_ref()).expect("no fault is set").is_some()
    }

    /// Compares everything with everything, after a clean recovery.
    pub(crate) fn check(&self) {
        let engine = self.engine.crash(0);
        recover(&engine).expect("what a crash leaves can be recovered");
        let report = store::check(&engine).expect("every record can be read");
        assert!(report.is_sound(), "{report:?}");
    }

    /// Journal records that no trim has removed.
    pub(crate) fn journal_batches(&self) -> u64 {
        store::check(&*self.engine).expect("every record can be read").journal_batches
    }
}
