//! Outcomes of batches: durable, accepted, full; and what a term is for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{direct, last_of, text};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::{
    Batch, Committer, Fault, Load, Memory, Outcome, Pressure, Space, SyncMode, Term, Through,
};
use wire::{BatchNumber, CoreId, Seq};

const QUARTER: Duration = Duration::from_millis(250);

struct Bench {
    engine: Arc<Memory>,
    committer: Committer<Memory>,
    free: Arc<AtomicU64>,
    probes: Arc<AtomicU64>,
    now: Duration,
}

impl Bench {
    fn new(sync: SyncMode) -> Self {
        let engine = Arc::new(Memory::new());
        let (free, probes) = (Arc::new(AtomicU64::new(1000)), Arc::new(AtomicU64::new(0)));
        let (told, asked) = (Arc::clone(&free), Arc::clone(&probes));
        let probe = move || -> io::Result<u64> {
            asked.fetch_add(1, Ordering::Relaxed);
            Ok(told.load(Ordering::Relaxed))
        };
        let space = Space::new(Box::new(probe), 100);
        let committer = Committer::new(Arc::clone(&engine), sync, 2, space);
        Self { engine, committer, free, probes, now: Duration::ZERO }
    }

    fn set_free(&mut self, bytes: u64) {
        self.free.store(bytes, Ordering::Relaxed);
        self.now += QUARTER;
    }

    fn commit(&mut self, batches: Vec<Batch>) -> Vec<(u16, u64, Outcome)> {
        let (mut group, mut out) = (batches, Vec::new());
        self.committer.commit(self.now, &mut group, &mut out).unwrap();
        assert!(group.is_empty());
        told(&out)
    }

    fn poll(&mut self) -> Vec<(u16, u64, Outcome)> {
        let mut out = Vec::new();
        self.committer.poll(self.now, &mut out).unwrap();
        told(&out)
    }
}

fn told(out: &[Through]) -> Vec<(u16, u64, Outcome)> {
    out.iter().map(|through| (through.core.0, through.number.get(), through.outcome)).collect()
}

/// Batch `number` of a core, with message `seq` of the core's channel.
fn batch(core: u16, number: u64, term: Term, seq: u64) -> Batch {
    let mut batch = Batch::new(CoreId(core), 1 << 12);
    batch.begin(BatchNumber::new(number), term);
    batch.append_entry(&text(direct(1, u64::from(core) + 2), seq, 1, "m"));
    batch
}

const FIRST: Term = Term::FIRST;

#[test]
fn a_group_of_all_cores_is_one_write() {
    let mut bench = Bench::new(SyncMode::Always);
    let group = vec![batch(0, 1, FIRST, 1), batch(1, 1, FIRST, 1), batch(0, 2, FIRST, 2)];
    let durable = [(0, 1, Outcome::Durable), (1, 1, Outcome::Durable), (0, 2, Outcome::Durable)];
    assert_eq!(bench.commit(group), durable);
    assert_eq!(bench.engine.write_count(), 1);
    assert_eq!(last_of(&bench.engine.crash(0), direct(1, 2)), Seq::new(2));
}

#[test]
fn a_refused_term_stays_refused_until_the_core_takes_the_next() {
    let mut bench = Bench::new(SyncMode::Always);
    assert_eq!(bench.commit(vec![batch(0, 1, FIRST, 1)]), [(0, 1, Outcome::Durable)]);
    bench.set_free(99);
    assert_eq!(bench.commit(vec![batch(0, 2, FIRST, 2)]), [(0, 2, Outcome::Full)]);
    assert!(bench.committer.is_full());
    bench.set_free(1000);
    // Space is back, but batch 3 was filled on top of batch 2; the other core is free to go on.
    let group = vec![batch(0, 3, FIRST, 3), batch(1, 1, FIRST, 1)];
    assert_eq!(bench.commit(group), [(0, 3, Outcome::Full), (1, 1, Outcome::Durable)]);
    let group = vec![batch(0, 4, FIRST, 4), batch(0, 5, FIRST.next(), 2)];
    assert_eq!(bench.commit(group), [(0, 4, Outcome::Full), (0, 5, Outcome::Durable)]);
    assert_eq!(last_of(&*bench.engine, direct(1, 2)), Seq::new(2));
    assert_eq!(last_of(&bench.engine.crash(7), direct(1, 2)), Seq::new(2));
}

#[test]
fn the_disk_is_asked_four_times_a_second_and_recovers_with_a_margin() {
    let mut bench = Bench::new(SyncMode::Always);
    for number in 1..=100 {
        bench.now += Duration::from_millis(10);
        bench.commit(vec![batch(0, number, FIRST, number)]);
    }
    assert_eq!(bench.probes.load(Ordering::Relaxed), 4);
    bench.set_free(99);
    bench.commit(vec![batch(0, 101, FIRST, 101)]);
    for (free, full) in [(99, true), (110, true), (124, true), (125, false), (100, false)] {
        bench.set_free(free);
        bench.poll();
        assert_eq!(bench.committer.is_full(), full, "{free} free");
    }
}

#[test]
fn a_write_in_doubt_is_held_and_written_again() {
    let mut bench = Bench::new(SyncMode::Always);
    bench.engine.set_fault(Fault::Full);
    assert_eq!(bench.commit(vec![batch(0, 1, FIRST, 1)]), []);
    assert!(bench.committer.is_holding() && bench.committer.is_full());
    assert_eq!(bench.committer.due(), Some(QUARTER));
    bench.now += QUARTER;
    assert_eq!(bench.poll(), []);
    bench.engine.set_fault(Fault::None);
    assert_eq!(bench.poll(), [], "not before it is due");
    bench.now += QUARTER;
    assert_eq!(bench.poll(), [(0, 1, Outcome::Durable)]);
    assert!(!bench.committer.is_holding());
    assert_eq!(bench.commit(vec![batch(0, 2, FIRST, 2)]), [(0, 2, Outcome::Durable)]);
    assert_eq!(last_of(&bench.engine.crash(0), direct(1, 2)), Seq::new(2));
}

#[test]
fn a_held_write_that_never_succeeds_is_fatal() {
    let mut bench = Bench::new(SyncMode::Always);
    bench.engine.set_fault(Fault::Full);
    bench.commit(vec![batch(0, 1, FIRST, 1)]);
    let fatal = (0..200).find_map(|_| {
        bench.now += QUARTER;
        bench.committer.poll(bench.now, &mut Vec::new()).err()
    });
    assert!(fatal.unwrap().to_string().contains("simulated disk is full"));
}

#[test]
fn any_other_failure_is_fatal_and_acknowledges_nothing() {
    let mut bench = Bench::new(SyncMode::Always);
    bench.engine.set_fault(Fault::Fail);
    let (mut group, mut out) = (vec![batch(0, 1, FIRST, 1)], Vec::new());
    let fatal = bench.committer.commit(bench.now, &mut group, &mut out).unwrap_err();
    assert_eq!(fatal.action, "a write");
    assert!(out.is_empty());
}

#[test]
fn in_interval_mode_accepted_batches_are_synced_when_the_interval_is_over() {
    let mut bench = Bench::new(SyncMode::Interval(Duration::from_millis(20)));
    assert_eq!(bench.committer.due(), None);
    assert_eq!(bench.commit(vec![batch(0, 1, FIRST, 1)]), [(0, 1, Outcome::Accepted)]);
    assert_eq!(bench.committer.due(), Some(Duration::from_millis(20)));
    let lost = |bench: &Bench| {
        (0..8).any(|seed| last_of(&bench.engine.crash(seed), direct(1, 2)) == Seq::ZERO)
    };
    bench.now = Duration::from_millis(19);
    bench.poll();
    assert!(lost(&bench));
    bench.now = Duration::from_millis(20);
    bench.poll();
    assert!(!lost(&bench));
    bench.commit(vec![batch(0, 2, FIRST, 2)]);
    bench.engine.set_fault(Fault::Fail);
    bench.now += Duration::from_secs(1);
    let fatal = bench.committer.poll(bench.now, &mut Vec::new()).unwrap_err();
    assert_eq!(fatal.action, "the sync of the log");
}

#[test]
#[should_panic(expected = "ascending order")]
fn a_number_used_twice_is_our_bug() {
    let mut bench = Bench::new(SyncMode::Always);
    bench.commit(vec![batch(0, 1, FIRST, 1), batch(0, 1, FIRST, 2)]);
}

#[test]
fn pressure_rises_before_the_engine_slows() {
    let none = Load::default();
    let rows = [
        (none, Pressure::None),
        (Load { level_0_files: 9, ..none }, Pressure::None),
        (Load { level_0_files: 10, ..none }, Pressure::Slow),
        (Load { level_0_files: 15, ..none }, Pressure::Stop),
        (Load { immutable_memtables: 1, ..none }, Pressure::None),
        (Load { immutable_memtables: 2, ..none }, Pressure::Slow),
        (Load { immutable_memtables: 3, ..none }, Pressure::Stop),
        (Load { pending_compaction_bytes: 8 << 30, ..none }, Pressure::Slow),
        (Load { pending_compaction_bytes: 12 << 30, ..none }, Pressure::Stop),
        (Load { write_stalled: true, ..none }, Pressure::Stop),
    ];
    for (load, expected) in rows {
        assert_eq!(Pressure::of(&load), expected, "{load:?}");
    }
}

#[test]
fn a_batch_keeps_its_memory_and_tells_when_it_is_full() {
    let mut batch = Batch::new(CoreId(0), 1000);
    for round in 1..=3 {
        batch.begin(BatchNumber::new(round), FIRST);
        assert!(batch.is_empty() && !batch.is_full());
        let filled = (1..).find(|seq| {
            batch.append_entry(&text(direct(1, 2), *seq, 1, "m"));
            batch.is_full()
        });
        assert_eq!(filled, Some(13), "a message of one byte costs 80 bytes");
        assert_eq!(batch.message_count(), 13);
    }
}
