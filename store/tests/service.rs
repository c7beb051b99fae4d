//! The threads: batches and reads go round, bounds give back, a stop loses nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{direct, fingerprint, text, user};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use store::{
    Answer, Batch, Direction, Engine, EngineError, Fault, Hooks, Identity, KeyBuf, KeyRange, Load,
    Memory, Ops, Options, Outcome, Read, ReadAnswer, Service, Store, StoreError, SyncMode, Table,
    Term, Through, Visit,
};
use wire::{BatchNumber, CoreId, Seq, Timestamp};

const IDENTITY: Identity = Identity { shards: 4, epoch: 1, created_at: Timestamp(0) };

/// Counts wake-ups; `wait_until` sleeps until one comes.
#[derive(Default)]
struct Bell {
    count: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.count.lock().unwrap() += 1;
        self.rung.notify_all();
    }

    fn wait_until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let mut count = self.count.lock().unwrap();
        loop {
            if let Some(found) = look() {
                return found;
            }
            count = self.rung.wait(count).unwrap();
        }
    }
}

/// An engine that waits at a gate, to hold the store's threads where a test wants them.
struct Gated {
    memory: Memory,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<(bool, u64)>,
    changed: Condvar,
}

impl Gate {
    fn close(&self) {
        self.state.lock().unwrap().0 = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Until so many calls have come to the gate.
    fn wait_for(&self, calls: u64) {
        let mut state = self.state.lock().unwrap();
        while state.1 < calls {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn calls(&self) -> u64 {
        self.state.lock().unwrap().1
    }
}

impl Engine for Gated {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.memory.get(table, key)
    }

    fn get_many(&self, table: Table, keys: &[KeyBuf]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        self.memory.get_many(table, keys)
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        self.gate.pass();
        self.memory.scan(table, range, direction, visit)
    }

    fn write(&self, groups: &mut dyn Iterator<Item = &Ops>, sync: bool) -> Result<(), EngineError> {
        self.gate.pass();
        self.memory.write(groups, sync)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.memory.sync()
    }

    fn memory_bytes(&self) -> u64 {
        self.memory.memory_bytes()
    }

    fn load(&self) -> Load {
        self.memory.load()
    }
}

struct Rig {
    service: Service,
    bell: Arc<Bell>,
    gate: Arc<Gate>,
    free: Arc<AtomicU64>,
}

fn rig(options: &Options) -> Rig {
    let (bell, gate) = (Arc::new(Bell::default()), Arc::new(Gate::default()));
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let engine = Gated { memory: Memory::new(), gate: Arc::clone(&gate) };
    let (store, _) = Store::with_engine(engine, IDENTITY, options).unwrap();
    let (ring, told) = (Arc::clone(&bell), Arc::clone(&free));
    let hooks = Hooks {
        notify: Box::new(move |_| ring.ring()),
        fingerprint,
        on_fatal: Box::new(|_| {}),
        free_bytes: Some(Box::new(move || Ok(told.load(Ordering::Relaxed)))),
    };
    Rig { service: store.start(2, hooks).unwrap(), bell, gate, free }
}

impl Rig {
    fn batch(&self, core: u16, number: u64, seq: u64) -> Batch {
        let mut batch = self.service.new_batch(CoreId(core));
        batch.begin(BatchNumber::new(number), Term::FIRST);
        batch.append_entry(&text(direct(1, u64::from(core) + 2), seq, 1, "m"));
        batch
    }

    fn through(&self, core: u16) -> Through {
        self.bell.wait_until(|| self.service.poll_through(CoreId(core)))
    }

    fn answer(&self, core: u16) -> Answer {
        self.bell.wait_until(|| self.service.poll_answer(CoreId(core)))
    }
}

fn newest(core: u16, from: u64) -> Read {
    Read::History {
        channel: direct(1, u64::from(core) + 2),
        reader: user(1),
        from: Seq::new(from),
        direction: Direction::Backward,
        limit: 1,
        bytes_max: 100,
    }
}

#[test]
fn batches_of_all_cores_come_back_durable_in_order_and_are_read() {
    let rig = rig(&Options::default());
    for number in 1..=50 {
        for core in 0..2 {
            let mut batch = rig.batch(core, number, number);
            while let Err(back) = rig.service.try_submit(batch) {
                batch = back;
                drop(rig.through(core));
            }
        }
    }
    for core in 0..2 {
        let mut last = 0;
        while last < 50 {
            let through = rig.through(core);
            assert_eq!((through.outcome, through.core.0), (Outcome::Durable, core));
            assert!(through.number.get() > last);
            last = through.number.get();
        }
        rig.service.try_read(CoreId(core), 77, newest(core, 0)).unwrap();
        let Answer { ticket: 77, answer: ReadAnswer::History { entries, more: true, .. } } =
            rig.answer(core)
        else {
            panic!()
        };
        assert_eq!(entries[0].seq, Seq::new(50));
    }
    assert_eq!(rig.service.batches_in_flight(), 0);
    assert_eq!(rig.service.metrics().group_messages.sum(), 100);
}

#[test]
fn what_arrives_during_a_write_goes_into_the_next_one() {
    let rig = rig(&Options::default());
    let before = rig.gate.calls();
    rig.gate.close();
    rig.service.try_submit(rig.batch(0, 1, 1)).unwrap();
    rig.gate.wait_for(before + 1);
    for number in 2..=9 {
        rig.service.try_submit(rig.batch(0, number, number)).unwrap();
        rig.service.try_submit(rig.batch(1, number, number)).unwrap();
    }
    rig.gate.open();
    (1..=9).for_each(|number| assert_eq!(rig.through(0).number.get(), number));
    (2..=9).for_each(|number| assert_eq!(rig.through(1).number.get(), number));
    assert_eq!(rig.gate.calls(), before + 2, "seventeen batches are two writes");
}

#[test]
fn at_its_bounds_the_store_gives_back() {
    let options =
        Options { batches_in_flight_max: 2, reads_in_flight_max: 3, ..Options::default() };
    let rig = rig(&options);
    rig.gate.close();
    rig.service.try_submit(rig.batch(0, 1, 1)).unwrap();
    rig.service.try_submit(rig.batch(0, 2, 2)).unwrap();
    let back = rig.service.try_submit(rig.batch(0, 3, 3)).unwrap_err();
    assert_eq!(back.number(), BatchNumber::new(3));
    for ticket in 0..3 {
        rig.service.try_read(CoreId(0), ticket, newest(0, 0)).unwrap();
    }
    assert!(rig.service.try_read(CoreId(0), 9, newest(0, 0)).is_err());
    rig.gate.open();
    assert_eq!(rig.through(0).number.get(), 1);
    rig.service.try_submit(back).unwrap();
    drop(rig.answer(0));
    rig.service.try_read(CoreId(0), 9, newest(0, 0)).unwrap();
}

#[test]
fn bytes_in_flight_are_bounded_and_an_oversized_batch_still_passes_alone() {
    let options =
        Options { bytes_in_flight_max: 4096, batch_bytes_max: 4096, ..Options::default() };
    let rig = rig(&options);
    rig.gate.close();
    let mut large = rig.batch(0, 1, 1);
    large.append_entry(&text(direct(1, 2), 2, 1, &"x".repeat(9000)));
    rig.service.try_submit(large).unwrap();
    let back = rig.service.try_submit(rig.batch(0, 2, 3)).unwrap_err();
    rig.gate.open();
    assert_eq!(rig.through(0).number.get(), 1);
    rig.service.try_submit(back).unwrap();
    assert_eq!(rig.through(0).outcome, Outcome::Durable);
}

#[test]
fn equal_questions_that_wait_together_are_one_disk_read() {
    let rig = rig(&Options { readers: 1, ..Options::default() });
    rig.service.try_submit(rig.batch(0, 1, 1)).unwrap();
    drop(rig.through(0));
    let before = rig.gate.calls();
    rig.gate.close();
    // The reader takes this one and stops at the gate; the others wait together.
    rig.service.try_read(CoreId(0), 100, newest(0, 9)).unwrap();
    rig.gate.wait_for(before + 1);
    for ticket in 0..20 {
        rig.service.try_read(CoreId(0), ticket, newest(0, 0)).unwrap();
    }
    rig.service.try_read(CoreId(1), 101, newest(1, 0)).unwrap();
    rig.gate.open();
    let mut tickets: Vec<u64> = (0..21)
        .map(|_| {
            let Answer { ticket, answer } = rig.answer(0);
            let ReadAnswer::History { entries, .. } = answer else { panic!() };
            assert_eq!(entries.len(), 1);
            ticket
        })
        .collect();
    tickets.sort_unstable();
    assert_eq!(tickets, (0..20).chain([100]).collect::<Vec<_>>());
    assert_eq!(rig.answer(1).ticket, 101);
    assert_eq!(rig.gate.calls(), before + 3);
    assert_eq!(rig.service.metrics().reads_coalesced.get(), 19);
    assert_eq!(rig.service.metrics().reads.get(), 22);
}

#[test]
fn a_full_disk_is_told_and_ends_by_itself() {
    let rig = rig(&Options::default());
    rig.free.store(0, Ordering::Relaxed);
    rig.service.try_submit(rig.batch(0, 1, 1)).unwrap();
    let through = rig.through(0);
    assert_eq!(through.outcome, Outcome::Full);
    assert!(rig.service.is_full());
    rig.free.store(u64::MAX, Ordering::Relaxed);
    // The writer looks again without being asked to.
    while rig.service.is_full() {
        std::thread::yield_now();
    }
    let mut batch = through.batch;
    batch.begin(BatchNumber::new(2), Term::FIRST.next());
    batch.append_entry(&text(direct(1, 2), 1, 1, "m"));
    rig.service.try_submit(batch).unwrap();
    assert_eq!(rig.through(0).outcome, Outcome::Durable);
    assert_eq!(rig.service.metrics().refused_batches.get(), 1);
}

#[test]
fn a_store_that_starts_on_a_full_disk_says_so_before_the_first_write() {
    let (store, _) = Store::with_engine(Memory::new(), IDENTITY, &Options::default()).unwrap();
    let hooks = Hooks {
        notify: Box::new(|_| {}),
        fingerprint,
        on_fatal: Box::new(|_| {}),
        free_bytes: Some(Box::new(|| Ok(0))),
    };
    assert!(store.start(1, hooks).unwrap().is_full());
}

#[test]
fn a_stop_finishes_what_was_submitted_and_takes_no_more() {
    let interval = SyncMode::Interval(std::time::Duration::from_secs(3600));
    let rig = rig(&Options { sync: interval, ..Options::default() });
    rig.gate.close();
    for number in 1..=9 {
        rig.service.try_submit(rig.batch(0, number, number)).unwrap();
    }
    rig.service.try_read(CoreId(1), 5, newest(1, 0)).unwrap();
    rig.gate.open();
    rig.service.stop();
    for number in 1..=9 {
        let through = rig.service.poll_through(CoreId(0)).unwrap();
        assert_eq!((through.number.get(), through.outcome), (number, Outcome::Accepted));
    }
    assert_eq!(rig.service.poll_answer(CoreId(1)).unwrap().ticket, 5);
    assert!(rig.service.try_submit(rig.batch(0, 10, 10)).is_err());
    assert!(rig.service.try_read(CoreId(0), 1, newest(0, 0)).is_err());
    rig.service.stop();
}

#[test]
fn options_out_of_range_are_named() {
    let rows = [
        (Options { readers: 0, ..Options::default() }, "readers"),
        (Options { shards: 0, ..Options::default() }, "shards"),
        (Options { bytes_in_flight_max: 1, ..Options::default() }, "bytes_in_flight_max"),
    ];
    for (options, name) in rows {
        let error = Store::with_engine(Memory::new(), IDENTITY, &options).unwrap_err();
        assert!(matches!(error, StoreError::Option { option, .. } if option == name), "{error}");
    }
}

/// Set in the child that is to die.
const CHILD: &str = "STORE_TEST_FATAL_CHILD";

#[test]
fn a_failed_disk_ends_the_process_after_the_hook() {
    use std::os::unix::process::ExitStatusExt;
    const NAME: &str = "a_failed_disk_ends_the_process_after_the_hook";
    if std::env::var_os(CHILD).is_some() {
        die();
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains("hook: a write failed"), "{said}");
    assert_eq!(child.status.signal(), Some(6), "SIGABRT: {said}");
}

fn die() -> ! {
    let engine = Memory::new();
    engine.set_fault(Fault::Fail);
    let (store, _) = Store::with_engine(engine, IDENTITY, &Options::default()).unwrap();
    let hooks = Hooks {
        notify: Box::new(|_| {}),
        fingerprint,
        on_fatal: Box::new(|fatal| {
            let _ = writeln!(std::io::stdout(), "hook: {fatal}");
        }),
        free_bytes: None,
    };
    let service = store.start(1, hooks).unwrap();
    let mut batch = service.new_batch(CoreId(0));
    batch.begin(BatchNumber::new(1), Term::FIRST);
    batch.append_entry(&text(direct(1, 2), 1, 1, "m"));
    service.try_submit(batch).unwrap();
    loop {
        std::thread::park();
    }
}
