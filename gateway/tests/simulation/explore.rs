//! Many lives, on as many threads as there are processors.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::clock::Clock;

use crate::plan::Plan;
use crate::run::{Failure, run};
use crate::shrink::shrink;
use crate::trace::Stats;

/// How often the progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Which lives are lived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// The first seed.
    pub(crate) first: u64,
    /// So many seeds at most.
    pub(crate) count: u64,
    /// No life begins after this.
    pub(crate) within: Duration,
    /// The progress is told on standard error.
    pub(crate) is_told: bool,
}

/// What they came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) seeds: u64,
    pub(crate) failed: u64,
    pub(crate) stats: Stats,
    /// One report for each place at which any failed.
    pub(crate) reports: BTreeMap<String, String>,
}

impl Tally {
    /// In words and numbers.
    pub(crate) fn summary(&self) -> String {
        let Stats { steps, acts, entries, told, recoveries, calms, crash_points, bounds } =
            &self.stats;
        let mut text = format!(
            "seeds {}, failed {}\nsteps {steps}, acts {acts}\nentries {entries}, told {told}\n\
             recoveries checked {recoveries}, calms {calms}\ncrash points visited {}:\n",
            self.seeds,
            self.failed,
            crash_points.values().sum::<u64>()
        );
        for (name, count) in crash_points {
            let _ = writeln!(text, "  {name}: {count}");
        }
        let _ = writeln!(text, "looks at a bound that was reached:");
        for (name, count) in bounds {
            let _ = writeln!(text, "  {name}: {count}");
        }
        text
    }
}

/// Lives seed after seed. A place at which several fail is reported once, made short.
pub(crate) fn explore(scope: Scope) -> Tally {
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    let told = AtomicU64::new(0);
    let clock = Clock::start();
    let work = || {
        while clock.elapsed() < scope.within {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= scope.count {
                return;
            }
            live_into(&tally, scope.first.wrapping_add(index));
            let elapsed = clock.elapsed();
            let due = PROGRESS_EVERY * u32::try_from(told.load(Ordering::Relaxed) + 1).unwrap_or(1);
            if scope.is_told && elapsed >= due {
                told.fetch_add(1, Ordering::Relaxed);
                tell(&tally, elapsed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|threads_of| {
        (0..threads).for_each(|_| drop(threads_of.spawn(work)));
    });
    if scope.is_told {
        tell(&tally, clock.elapsed());
    }
    tally.into_inner().expect("no holder of the lock panics")
}

fn live_into(tally: &Mutex<Tally>, seed: u64) {
    let plan = Plan::new(seed);
    let all: Vec<usize> = (0..plan.acts.len()).collect();
    let outcome = run(&plan, &all, false);
    let mut known = tally.lock().expect("no holder of the lock panics");
    known.seeds += 1;
    known.stats.add(&outcome.stats);
    let Some(failure) = outcome.failure else { return };
    known.failed += 1;
    if known.reports.contains_key(&failure.place) {
        return;
    }
    known.reports.insert(failure.place.clone(), String::new());
    drop(known);
    let report = report(&plan, all, &failure);
    let mut known = tally.lock().expect("no holder of the lock panics");
    known.reports.insert(failure.place, report);
}

fn tell(tally: &Mutex<Tally>, elapsed: Duration) {
    let tally = tally.lock().expect("no holder of the lock panics");
    let Stats { steps, entries, told, recoveries, .. } = tally.stats;
    let per_second = steps / elapsed.as_secs().max(1);
    let _ = writeln!(
        std::io::stderr(),
        "{:>4} s: {} seeds, {} failed; {steps} steps ({per_second}/s), {entries} entries, \
         {told} told, {recoveries} recoveries checked",
        elapsed.as_secs(),
        tally.seeds,
        tally.failed
    );
}

/// A failing life, made shorter and told, with the command that repeats it.
fn report(plan: &Plan, all: Vec<usize>, failure: &Failure) -> String {
    let kept = shrink(plan, all, failure);
    let (_, text) = replay(plan, &kept);
    text
}

/// Lives some acts of a plan; whether it fails, and a text about it.
pub(crate) fn replay(plan: &Plan, kept: &[usize]) -> (bool, String) {
    let shown = run(plan, kept, true);
    let mut text = String::new();
    for line in &shown.lines {
        let _ = writeln!(text, "{line}");
    }
    let verdict = match &shown.failure {
        Some(Failure { place, message }) => format!("{message}\n at {place}"),
        None => "nothing is wrong".to_owned(),
    };
    let seed = plan.seed;
    let (left, all, steps) = (kept.len(), plan.acts.len(), shown.stats.steps);
    let _ = write!(text, "\nseed {seed}: {verdict}\n{left} of {all} acts, {steps} steps; again:");
    let _ = write!(text, " cargo xtask sim --seed {seed} --acts {}", ranges(kept));
    (shown.failure.is_some(), text)
}

/// `3,5-7` for 3, 5, 6, 7.
fn ranges(kept: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for index in kept {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let part = |(first, last): (usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

/// The indices that `ranges` stands for.
pub(crate) fn indices(ranges: &str) -> Vec<usize> {
    let number = |text: &str| text.parse::<usize>().expect("acts are numbers and ranges");
    let part = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first)..number(last) + 1,
        None => number(part)..number(part) + 1,
    };
    ranges.split(',').flat_map(part).collect()
}

#[test]
fn acts_are_named_by_ranges() {
    for (list, text) in [(vec![3, 5, 6, 7], "3,5-7"), (vec![0], "0"), (vec![1, 2], "1-2")] {
        assert_eq!((ranges(&list), indices(text)), (text.to_owned(), list));
    }
}
