//! Stage 8: what waits for the disk is released. `cargo bench -p benches --bench commit_window`.
//!
//! A round puts the values of one batch into the window while an earlier one is on its way, seals
//! it, releases the earlier one and takes its values out. The values are as large as those of a
//! core. Left out: what becomes of a value then (see `fan_out` and `message`).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gateway::committing::Pending;
use router::commit_window::{CommitWindow, Committed};
use wire::BatchNumber;

/// As large as what a core lets wait.
type Load = [u64; size_of::<Pending>() / size_of::<u64>()];

fn release(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("commit_window/values in a batch");
    for count in [1, 32, 1000] {
        let mut window = CommitWindow::<Load>::default();
        let mut number = BatchNumber::ZERO.next();
        let fill = |window: &mut CommitWindow<Load>, number| {
            for value in 0..count {
                window.push([value; _]);
            }
            window.seal(number);
        };
        fill(&mut window, number);
        bench.throughput(Throughput::Elements(count));
        bench.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                let before = number;
                number = number.next();
                fill(&mut window, number);
                window.release(before);
                std::iter::from_fn(|| window.next_released())
                    .map(Committed::into_inner)
                    .fold(0, |sum, value| sum ^ value[0])
            });
        });
    }
    bench.finish();
}

criterion_group!(benches, release);
criterion_main!(benches);
