//! The core broken on purpose: each variant must be found within so many lives.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use variants::Variant;

use crate::plan::Plan;
use crate::run::{Failure, run};

/// Lives in which a variant must be found, from each of the first seeds.
pub(crate) const LIVES_MAX: u64 = 300;

/// Where the searches begin: that one is found at once by luck shows at another.
pub(crate) const STARTS: [u64; 3] = [0, 1_000_000, 2_000_000];

/// How a variant is found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) variant: Variant,
    /// Lives up to the first that fails, from each start; none: not within the limit.
    pub(crate) lives: Vec<Option<u64>>,
    pub(crate) failure: Option<Failure>,
}

/// Looks for each variant from each of these seeds.
pub(crate) fn find_all(starts: &[u64]) -> Vec<Found> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        while let Some(variant) = Variant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let one = find(*variant, starts);
            found.lock().expect("no holder of the lock panics").push(one);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut found = found.into_inner().expect("no holder of the lock panics");
    found.sort_by_key(|found| Variant::ALL.iter().position(|variant| *variant == found.variant));
    found
}

fn find(variant: Variant, starts: &[u64]) -> Found {
    let mut found = Found { variant, lives: Vec::new(), failure: None };
    variants::choose(Some(variant));
    for start in starts {
        let failing = (0..LIVES_MAX).find_map(|index| {
            let plan = Plan::new(start + index);
            let all: Vec<usize> = (0..plan.acts.len()).collect();
            run(&plan, &all, false).failure.map(|failure| (index + 1, failure))
        });
        found.lives.push(failing.as_ref().map(|(lives, _)| *lives));
        found.failure = found.failure.or(failing.map(|(_, failure)| failure));
    }
    variants::choose(None);
    found
}

impl Found {
    pub(crate) fn is_everywhere(&self) -> bool {
        self.lives.iter().all(Option::is_some)
    }

    /// A row of the table in docs/reliability.md.
    pub(crate) fn row(&self) -> String {
        let by = self.failure.as_ref().map_or_else(|| "nothing".to_owned(), found_by);
        let lives = self.lives.iter().map(|lives| {
            lives.map_or_else(|| format!("more than {LIVES_MAX}"), |lives| lives.to_string())
        });
        let lives = lives.collect::<Vec<_>>().join(", ");
        format!("| `{:?}` | {} | {by} | {lives} |", self.variant, self.variant.what())
    }
}

/// The checker's invariant, or the place of the core's own assertion.
fn found_by(failure: &Failure) -> String {
    let Failure { place, message } = failure;
    if !place.contains("tests/") {
        let file = place.rsplit_once(':').map_or(place.as_str(), |(file, _)| file);
        return format!("an assertion in `{file}`");
    }
    let message = message.rsplit_once("failed: ").map_or(message.as_str(), |(_, rest)| rest);
    match message.split_once(':') {
        Some((invariant, _)) if !invariant.contains(' ') => format!("checker: {invariant}"),
        _ => "checker: the client's view".to_owned(),
    }
}
