//! One lane a core, into which all others push, or one lane a pair of cores (docs/decisions, 0016).
//! `cargo bench -p benches --bench lanes`.
//!
//! Both hold 4,096 in all. Whoever finds no room, or nothing, gives way to the other threads, as
//! cores do that go on with something else.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use benches::stopwatch::elapsed;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::ArrayQueue;
use router::sequencer::Offer;

/// As large as an offer.
type Load = [u64; size_of::<Offer>() / size_of::<u64>()];

/// Places for one core, in one lane or in many.
const PLACES: usize = 4096;

/// What each producer pushes in one iteration.
const BURST: u64 = 64;

/// A core looks so many times at a lane before it looks at the next one.
const TAKE_MAX: usize = 64;

/// Pushes and takes `iterations` bursts of each producer through `lanes`; producer `n` uses lane
/// `n`, or the only one.
fn through(lanes: usize, producers: usize, iterations: u64) -> Duration {
    let places = PLACES / lanes;
    let lanes: Arc<[ArrayQueue<Load>]> = (0..lanes).map(|_| ArrayQueue::new(places)).collect();
    let barrier = Arc::new(Barrier::new(producers + 1));
    let each = iterations * BURST;
    let threads: Vec<_> = (0..producers)
        .map(|producer| {
            let (lanes, barrier) = (Arc::clone(&lanes), Arc::clone(&barrier));
            thread::spawn(move || {
                let lane = &lanes[producer % lanes.len()];
                barrier.wait();
                for number in 0..each {
                    let mut load = Load::default();
                    load[0] = number;
                    while lane.push(load).is_err() {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    barrier.wait();
    let taken = elapsed(|| {
        let mut left = each * producers as u64;
        while left > 0 {
            let before = left;
            for lane in lanes.iter() {
                left -= (0..TAKE_MAX).map_while(|_| lane.pop()).count() as u64;
            }
            if left == before {
                thread::yield_now();
            }
        }
    });
    threads.into_iter().for_each(|thread| thread.join().expect("a producer ends"));
    taken
}

fn lanes(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("lanes");
    for producers in [1, 3, 7, 15] {
        bench.throughput(Throughput::Elements(BURST * producers as u64));
        for (name, lanes) in [("one a core", 1), ("one a pair", producers)] {
            bench.bench_with_input(BenchmarkId::new(name, producers), &lanes, |bencher, &lanes| {
                bencher.iter_custom(|iterations| through(lanes, producers, iterations));
            });
        }
    }
    bench.finish();
}

criterion_group!(benches, lanes);
criterion_main!(benches);
