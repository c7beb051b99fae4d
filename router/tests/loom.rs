//! Every order in which a pusher and a core that goes to sleep may meet at a bell.
//!
//! `cargo xtask memory-checks` runs it, with `RUSTFLAGS="--cfg loom"`; otherwise it is empty. The
//! queues between are crossbeam's, which are checked there; here relaxed counters stand for them,
//! so that nothing orders the two threads but the bell's own fences.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use router::mesh::Bell;

/// A push from another thread while a core goes to sleep by `announce`.
fn meets_a_push(announce: impl Fn(&Bell) + Sync + Send + 'static) {
    loom::model(move || {
        let (lane, bell) = (Arc::new(AtomicUsize::new(0)), Arc::new(Bell::default()));
        let pusher = {
            let (lane, bell) = (Arc::clone(&lane), Arc::clone(&bell));
            thread::spawn(move || {
                lane.store(1, Ordering::Relaxed);
                bell.ring()
            })
        };
        announce(&bell);
        let sleeps = lane.load(Ordering::Relaxed) == 0;
        let is_woken = pusher.join().unwrap();
        assert!(!sleeps || is_woken, "it sleeps, and nobody wakes it");
    });
}

#[test]
fn no_push_is_slept_through() {
    meets_a_push(Bell::announce_sleep);
}

#[test]
fn of_two_pushers_at_once_one_wakes_and_only_one() {
    loom::model(|| {
        let bell = Arc::new(Bell::default());
        bell.announce_sleep();
        let ring = |bell: &Arc<Bell>| {
            let bell = Arc::clone(bell);
            thread::spawn(move || bell.ring())
        };
        let (one, other) = (ring(&bell), ring(&bell));
        let wakes = [one.join().unwrap(), other.join().unwrap()];
        assert_eq!(wakes.iter().filter(|wakes| **wakes).count(), 1, "{wakes:?}");
    });
}

#[test]
fn a_core_that_found_something_and_means_to_sleep_again_is_woken() {
    meets_a_push(|bell| {
        bell.announce_sleep();
        bell.awake();
        bell.announce_sleep();
    });
}
