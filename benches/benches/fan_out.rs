//! Stage 9: a durable entry to its members' cores, and back how far that got. `cargo bench -p
//! benches --bench fan_out`.
//!
//! Per message: its recipients by core, a number of the ledger and a copy of the entry (which
//! shares its body) for each core; there the tracker notes arrival and end, and the ledger hears of
//! it. Left out: the mesh between the cores (`route`) and the inboxes (`inbox`).

use benches::subjects::{entry, group, user};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use router::fan_out::{Fan, FanLedger, FanTracker, Recipients};
use router::shard_map::ShardMap;
use wire::{BatchNumber, CoreId, Seq};

const CORES: u16 = 2;
const HERE: CoreId = CoreId(0);

/// The two sides of what one core sends.
struct Fans {
    map: ShardMap,
    ledger: FanLedger,
    trackers: Vec<FanTracker>,
    batch: BatchNumber,
    arriving: Vec<(CoreId, Fan)>,
}

impl Fans {
    fn new() -> Self {
        Self {
            map: ShardMap::new(4096, CORES),
            ledger: FanLedger::new(CORES),
            trackers: (0..CORES).map(|_| FanTracker::default()).collect(),
            batch: BatchNumber::ZERO,
            arriving: Vec::new(),
        }
    }

    /// Entries of one batch go out, arrive, are durable there, and are acknowledged.
    fn pass(&mut self, entry: &wire::LogEntry, recipients: &Recipients, count: usize) {
        self.batch = self.batch.next();
        let (batch, ledger, arriving) = (self.batch, &mut self.ledger, &mut self.arriving);
        for _ in 0..count {
            recipients.for_each_core(self.map, |core, users| {
                let number = ledger.send(core, batch);
                arriving.push((core, Fan { source: HERE, number, entry: entry.clone(), users }));
            });
        }
        for (core, fan) in arriving.drain(..) {
            let tracker = &mut self.trackers[usize::from(core.0)];
            tracker.arrived(fan.number, 1);
            tracker.piece_done(fan.number);
        }
        for (core, tracker) in (0..CORES).zip(&mut self.trackers) {
            if let Some(through) = tracker.poll_ack() {
                self.ledger.handle_ack(CoreId(core), through);
            }
        }
        let next = batch.next();
        assert_eq!(self.ledger.fanned_out_below(next), next, "all are acknowledged");
    }
}

fn fan_out(criterion: &mut Criterion) {
    let map = ShardMap::new(4096, CORES);
    let on = |core, from: u64| {
        (from..).map(user).find(|user| map.core_of_user(*user) == CoreId(core)).expect("many")
    };
    let rows = [
        ("a pair on one core", Recipients::Pair(on(0, 1), on(0, 1000))),
        ("a pair on two cores", Recipients::Pair(on(0, 1), on(1, 1))),
        ("100 members on two cores", Recipients::listed((1..=100).map(user), map)),
    ];
    let entry = entry(group(1), Seq::new(1), user(1));
    let mut bench = criterion.benchmark_group("fan_out");
    for (name, recipients) in rows {
        let mut fans = Fans::new();
        for count in [1, 32] {
            bench.throughput(Throughput::Elements(count as u64));
            bench.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| fans.pass(&entry, &recipients, count));
            });
        }
    }
    bench.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
