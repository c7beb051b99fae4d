//! Between the cores and the store's threads: what is done waits here until its core takes it.
//!
//! Each queue holds as many as may be in flight, so giving back never waits: what is counted when
//! it is submitted is counted off when it is taken.

use crossbeam_queue::ArrayQueue;
use wire::CoreId;

use crate::atomic::{AtomicUsize, Ordering};
use crate::commit::Through;
use crate::read::ReadAnswer;

/// An answer and the ticket of its question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Chosen by who asked.
    pub ticket: u64,
    /// What was found.
    pub answer: ReadAnswer,
}

/// Called when something waits for a core; from the store's threads.
pub type Notify = dyn Fn(CoreId) + Send + Sync;

/// What waits for one core.
#[derive(Debug)]
pub(crate) struct Completions {
    pub(crate) through: ArrayQueue<Through>,
    pub(crate) answers: ArrayQueue<Answer>,
}

/// A count with a bound.
#[derive(Debug)]
pub(crate) struct Gauge {
    now: AtomicUsize,
    max: usize,
}

impl Gauge {
    pub(crate) fn new(max: usize) -> Self {
        Self { now: AtomicUsize::new(0), max }
    }

    /// Adds `count` unless that would exceed the bound; on an empty one anything fits, so that
    /// nothing is too large for ever.
    pub(crate) fn try_add(&self, count: usize) -> bool {
        self.now
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| {
                now.checked_add(count).filter(|sum| now == 0 || *sum <= self.max)
            })
            .is_ok()
    }

    pub(crate) fn subtract(&self, count: usize) {
        let before = self.now.fetch_sub(count, Ordering::AcqRel);
        assert!(before >= count, "nothing is counted off that was not counted");
    }

    pub(crate) fn get(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn a_gauge_is_never_above_its_bound_and_ends_at_zero() {
        loom::model(|| {
            let gauge = Arc::new(Gauge::new(3));
            let add = |gauge: &Gauge| {
                let added = gauge.try_add(2);
                assert!(gauge.get() <= 3, "two at once do not fit");
                if added {
                    gauge.subtract(2);
                }
                added
            };
            let other = {
                let gauge = Arc::clone(&gauge);
                thread::spawn(move || add(&gauge))
            };
            let added = add(&gauge);
            assert!(other.join().unwrap() || added, "one of the two always fits");
            assert_eq!(gauge.get(), 0);
        });
    }
}
