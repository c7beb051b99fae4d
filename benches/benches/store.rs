//! Stages 6 and 7, batch to synced write, and recovery. Not criterion: what counts is a steady
//! rate with batches in flight, not the time of one call.
//!
//! `cargo bench -p benches --bench store`; the data goes to `TMPDIR`, whose disk decides the sync.
//! It has no options and no filter: those that are there for criterion are passed over.

use std::collections::VecDeque;
use std::io::Write;
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use store::{Batch, Hooks, Options, Outcome, Service, Store, SyncMode, Term};
use wire::{
    BatchNumber, ChannelId, Content, Conversation, CoreId, DeviceId, InboxEntry, InboxItem,
    InboxSeq, LogEntry, Nonce, Seq, Timestamp, UserId,
};

const CORE: CoreId = CoreId(0);
const CHANNELS: usize = 512;
const BODY_BYTES: usize = 64;
const IN_FLIGHT: usize = 4;
const MESSAGES: u64 = 1_000_000;

/// As a test: what only shows that it works.
const TEST_MESSAGES: u64 = 10_000;

/// One measurement.
struct Row {
    name: &'static str,
    messages_per_batch: u64,
    sync: SyncMode,
    /// Entries at which an inbox is folded; `None`: never.
    fold_at: Option<usize>,
}

const ROWS: [Row; 5] = [
    Row { name: "1,000 a batch", messages_per_batch: 1000, sync: SyncMode::Always, fold_at: None },
    Row {
        name: "1,000 a batch, folded",
        messages_per_batch: 1000,
        sync: SyncMode::Always,
        fold_at: Some(64),
    },
    Row {
        name: "1,000 a batch, interval",
        messages_per_batch: 1000,
        sync: SyncMode::Interval(Duration::from_millis(100)),
        fold_at: None,
    },
    Row { name: "100 a batch", messages_per_batch: 100, sync: SyncMode::Always, fold_at: None },
    Row { name: "10 a batch", messages_per_batch: 10, sync: SyncMode::Always, fold_at: None },
];

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    // As criterion tells: `cargo bench` passes this, `cargo test --benches` does not.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (messages, journals) =
        if is_bench { (MESSAGES, [64, 640]) } else { (TEST_MESSAGES, [1, 2]) };
    for row in &ROWS {
        writeln!(out, "{}", run(row, messages)?)?;
    }
    for batches in journals {
        writeln!(out, "{}", recovery(batches)?)?;
    }
    Ok(())
}

/// Fills and submits batches with `IN_FLIGHT` of them on their way, and says how fast it went.
/// Afterwards the store is opened again: every message and both inbox entries of each must be
/// there, or the figure is worth nothing.
fn run(row: &Row, messages: u64) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let options = Options { sync: row.sync, ..Options::default() };
    let (store, _) = Store::open(directory.path(), &options)?;
    let service = start(store)?;
    let batches = if row.messages_per_batch >= 100 { messages } else { messages / 10 };
    let batches = batches / row.messages_per_batch;
    let mut core = Core::new(row.messages_per_batch, row.fold_at);
    let (wall, cpu) = (clock(ClockId::Monotonic), clock(ClockId::ProcessCPUTime));
    let fill = core.pump(&service, batches)?;
    let wall = clock(ClockId::Monotonic) - wall;
    let cpu = clock(ClockId::ProcessCPUTime) - cpu;
    let messages = batches * row.messages_per_batch;
    let metrics = service.metrics();
    let (batches_per_write, write_ms) = (
        metrics.group_batches.sum() as f64 / metrics.group_batches.count() as f64,
        metrics.write_micros.sum() as f64 / metrics.write_micros.count() as f64 / 1000.0,
    );
    drop(service);
    let (store, _) = Store::open(directory.path(), &options)?;
    let found = store.check()?;
    ensure!(found.is_sound() && found.messages == messages, "{found:?}");
    ensure!(found.entries == 2 * messages, "{found:?}");
    let per = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
    Ok(format!(
        "{:24} {:>8.0} messages/s, CPU {:.2} us/message (filling {:.2}), {:.1} batches a write, \
         a write {:.2} ms",
        row.name,
        messages as f64 / wall.as_secs_f64(),
        per(cpu),
        per(fill),
        batches_per_write,
        write_ms,
    ))
}

/// Leaves a journal of so many batches of 1,000 messages and times the recovery from it.
fn recovery(batches: u64) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let (store, _) = Store::open(directory.path(), &Options::default())?;
    let service = start(store)?;
    let mut core = Core::new(1000, None);
    core.pump(&service, batches)?;
    drop(service);
    let (store, report) = Store::open(directory.path(), &Options::default())?;
    ensure!(report.messages == batches * 1000, "{report:?}");
    let started = clock(ClockId::Monotonic);
    let check = store.check()?;
    ensure!(check.is_sound(), "{:?}", check.torn);
    Ok(format!(
        "recovery: {} messages, {} entries folded, {} completed in {:?}; a full check in {:?}",
        report.messages,
        report.folded,
        report.completed,
        report.duration,
        clock(ClockId::Monotonic) - started,
    ))
}

fn start(store: Store) -> Result<Service> {
    let this: Thread = thread::current();
    let hooks = Hooks {
        notify: Box::new(move |_| this.unpark()),
        fingerprint: |_| 0,
        on_fatal: Box::new(|_| {}),
        free_bytes: None,
    };
    Ok(store.start(1, hooks)?)
}

/// What a core keeps: channels, the inboxes of their two members, fan-outs that wait for their
/// message's commit.
struct Core {
    messages_per_batch: u64,
    fold_at: Option<usize>,
    channels: Vec<(ChannelId, Seq)>,
    inboxes: Vec<Inbox>,
    waiting: VecDeque<(usize, Seq)>,
    number: BatchNumber,
    random: u64,
    body: Bytes,
}

struct Inbox {
    user: UserId,
    head: InboxSeq,
    tail: Vec<InboxEntry>,
}

impl Core {
    fn new(messages_per_batch: u64, fold_at: Option<usize>) -> Self {
        let user = |index: usize| UserId::new(index as u64 + 1).expect("from 1");
        let channel = |index| ChannelId::direct(user(2 * index), user(2 * index + 1));
        let inbox = |index| Inbox { user: user(index), head: InboxSeq::ZERO, tail: Vec::new() };
        Self {
            messages_per_batch,
            fold_at,
            channels: (0..CHANNELS).map(|index| (channel(index), Seq::ZERO)).collect(),
            inboxes: (0..2 * CHANNELS).map(inbox).collect(),
            waiting: VecDeque::new(),
            number: BatchNumber::ZERO,
            random: 1,
            body: Bytes::from(vec![b'x'; BODY_BYTES]),
        }
    }

    /// Puts `count` batches through; the CPU that filling them took.
    fn pump(&mut self, service: &Service, count: u64) -> Result<Duration> {
        let mut spare: Vec<Batch> = (0..IN_FLIGHT).map(|_| service.new_batch(CORE)).collect();
        let (mut submitted, mut through, mut fill) = (0, 0, Duration::ZERO);
        while through < count {
            while submitted < count
                && let Some(mut batch) = spare.pop()
            {
                let started = clock(ClockId::ThreadCPUTime);
                self.fill(&mut batch);
                fill += clock(ClockId::ThreadCPUTime) - started;
                service.try_submit(batch).ok().context("fewer in flight than permitted")?;
                submitted += 1;
            }
            match service.poll_through(CORE) {
                Some(done) => {
                    ensure!(done.outcome != Outcome::Full, "the disk is full");
                    through += 1;
                    spare.push(done.batch);
                }
                None => thread::park(),
            }
        }
        Ok(fill)
    }

    /// New messages in random channels, and the inbox entries of those of an earlier batch.
    fn fill(&mut self, batch: &mut Batch) {
        self.number = self.number.next();
        batch.begin(self.number, Term::FIRST);
        let per_batch = usize::try_from(self.messages_per_batch).expect("a few thousand");
        let due = self.waiting.len().saturating_sub(IN_FLIGHT * per_batch);
        for (index, seq) in self.waiting.drain(..due) {
            let item = InboxItem::Logged { channel: self.channels[index].0, seq };
            for inbox in &mut self.inboxes[2 * index..2 * index + 2] {
                inbox.append(item, batch, self.fold_at);
            }
        }
        for _ in 0..self.messages_per_batch {
            // xorshift64 (Marsaglia 2003).
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let index = usize::try_from(self.random % CHANNELS as u64).expect("an index");
            let (channel, last) = &mut self.channels[index];
            *last = last.next();
            batch.append_entry(&LogEntry {
                channel: *channel,
                seq: *last,
                sender: self.inboxes[2 * index].user,
                device: DeviceId(1),
                nonce: Nonce(self.random),
                created_at: Timestamp(1_700_000_000_000),
                content: Content::Message { kind: 0, body: self.body.clone() },
            });
            self.waiting.push_back((index, *last));
        }
        // An inbox gets two entries a batch: three times as long as it takes to be folded.
        let kept = self.fold_at.map(|entries| BatchNumber::new(entries as u64 / 2 * 3));
        if let Some(kept) = kept.filter(|kept| *kept < self.number) {
            batch.trim_journal(BatchNumber::new(self.number.since(kept)));
        }
    }
}

impl Inbox {
    fn append(&mut self, item: InboxItem, batch: &mut Batch, fold_at: Option<usize>) {
        self.head = self.head.next();
        let entry = InboxEntry { inbox_seq: self.head, item };
        batch.append_inbox(self.user, &entry);
        let Some(fold_at) = fold_at else { return };
        self.tail.push(entry);
        if self.tail.len() == fold_at {
            batch.put_chunk(self.user, &self.tail);
            self.tail.clear();
            let InboxItem::Logged { channel, seq } = item else { return };
            let (last_seq, inbox_seq) = (seq, self.head);
            let conversation = Conversation { last_seq, read_seq: Seq::ZERO, inbox_seq };
            batch.put_conversation(self.user, channel, &conversation);
        }
    }
}

fn clock(id: ClockId) -> Duration {
    let at = clock_gettime(id);
    Duration::new(
        u64::try_from(at.tv_sec).expect("past its start"),
        u32::try_from(at.tv_nsec).expect("below a second"),
    )
}
