//! Stage 4: to which core, and there. `cargo bench -p benches --bench route`.
//!
//! What goes through the mesh is as large as a real offer. Left out: the copy of the body (see
//! `send_queue`), and the system call that wakes a core that sleeps (`runtimes/wake.rs`).

use std::hint::{black_box, spin_loop};
use std::thread;

use benches::stopwatch::elapsed;
use benches::subjects::{group, user};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use router::mesh::{MeshPort, mesh};
use router::sequencer::Offer;
use router::shard_map::ShardMap;
use wire::{ChannelId, CoreId};

/// As large as an offer.
type Load = [u64; size_of::<Offer>() / size_of::<u64>()];
type Port = MeshPort<Load, Load>;

const HERE: CoreId = CoreId(0);
const THERE: CoreId = CoreId(1);

fn pair() -> (Port, Port) {
    let mut ports = mesh(2);
    let there = ports.pop().expect("two");
    (ports.pop().expect("two"), there)
}

fn shards(criterion: &mut Criterion) {
    let map = ShardMap::new(4096, 2);
    let direct = ChannelId::direct(user(7), user(8));
    let mut bench = criterion.benchmark_group("route/core of");
    bench.bench_function("a user", |b| b.iter(|| map.core_of_user(black_box(user(7)))));
    bench.bench_function("a pair", |b| b.iter(|| map.core_of_channel(black_box(direct))));
    bench.bench_function("a group", |b| b.iter(|| map.core_of_channel(black_box(group(7)))));
    bench.finish();
}

fn lanes(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("route/mesh");
    let (mut here, mut there) = pair();
    let load = Load::default();
    bench.bench_function("offer to itself", |bencher| {
        bencher.iter(|| {
            here.offer(HERE, black_box(load)).expect("room");
            here.next_offer()
        });
    });
    bench.bench_function("offer to another core, from one thread", |bencher| {
        bencher.iter(|| {
            here.offer(THERE, black_box(load)).expect("room");
            there.next_offer()
        });
    });
    bench.bench_function("deliver to another core, from one thread", |bencher| {
        bencher.iter(|| {
            here.deliver(THERE, black_box(load));
            there.next_delivery()
        });
    });
    bench.bench_function("look whether anything waits", |bencher| {
        bencher.iter(|| black_box(&here).is_idle());
    });
    bench.bench_function("offer to a core that sleeps", |bencher| {
        let bell = there.bell();
        bencher.iter(|| {
            bell.announce_sleep();
            here.offer(THERE, black_box(load)).expect("room");
            let woken = here.drain_wakes().count();
            bell.awake();
            (woken, there.next_offer())
        });
    });
    bench.finish();
}

/// A lane with a core at each end, both as fast as they can: what an offer costs while cache lines
/// move between two processors. Needs both of them for itself.
fn threads(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("route/mesh");
    bench.throughput(Throughput::Elements(1));
    bench.bench_function("offer to another core, on two threads", |bencher| {
        bencher.iter_custom(|count| {
            let (mut here, mut there) = pair();
            elapsed(|| {
                thread::scope(|scope| {
                    scope.spawn(move || {
                        for number in 0..count {
                            let mut load = Load::default();
                            load[0] = number;
                            while here.offer(THERE, load).is_err() {
                                spin_loop();
                            }
                        }
                    });
                    let mut expected = 0;
                    while expected < count {
                        match there.next_offer() {
                            Some(load) => {
                                assert_eq!(load[0], expected, "a lane keeps its order");
                                expected += 1;
                            }
                            None => spin_loop(),
                        }
                    }
                });
            })
        });
    });
    bench.finish();
}

criterion_group!(benches, shards, lanes, threads);
criterion_main!(benches);
