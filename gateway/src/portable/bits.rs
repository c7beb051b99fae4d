//! Sets of small numbers that need no lock: one bit each.
//!
//! Two uses: which places of a core's table are free ([`Slots`]), and which of its sockets have
//! something to be looked at ([`Knocks`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

const BITS: u32 = u64::BITS;

fn words(count: u32) -> Box<[AtomicU64]> {
    (0..count.div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect()
}

const fn place(index: u32) -> (usize, u64) {
    ((index / BITS) as usize, 1 << (index % BITS))
}

/// Which places of a core's table are taken. Its core takes them for what it accepts, and other
/// cores for the connections that they pass on to it.
#[derive(Debug)]
pub(crate) struct Slots {
    taken: Box<[AtomicU64]>,
    count: u32,
}

impl Slots {
    /// `count` places, all free.
    pub(crate) fn new(count: u32) -> Self {
        Self { taken: words(count), count }
    }

    /// How many places there are, free or not.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Takes the lowest free place, so that tables stay as short as they can be; `None` if there
    /// is none.
    pub(crate) fn claim(&self) -> Option<u32> {
        for (base, word) in (0..).step_by(BITS as usize).zip(&self.taken) {
            // Where others take it first, the next free one is tried: each try takes one bit of 64.
            while let free @ 0..BITS = word.load(Ordering::Relaxed).trailing_ones() {
                let slot = base + free;
                if slot >= self.count {
                    return None;
                }
                // Acquire: what its last holder did with the place is over.
                if word.fetch_or(1 << free, Ordering::Acquire) & (1 << free) == 0 {
                    return Some(slot);
                }
            }
        }
        None
    }

    /// Gives a place back.
    pub(crate) fn release(&self, slot: u32) {
        let (word, bit) = place(slot);
        let before = self.taken[word].fetch_and(!bit, Ordering::Release);
        assert!(before & bit != 0, "place {slot} was given back twice");
    }
}

/// Who has knocked since they were last looked at, by number. One thread uses it; that it could be
/// shared is what a waker must promise.
#[derive(Debug)]
pub(crate) struct Knocks {
    knocked: Box<[AtomicU64]>,
    any: AtomicBool,
    /// Whoever waits for a knock. It is the same for as long as the core runs.
    listener: OnceLock<Waker>,
}

impl Knocks {
    /// For numbers below `count`.
    pub(crate) fn new(count: u32) -> Arc<Self> {
        let (any, listener) = (AtomicBool::new(false), OnceLock::new());
        Arc::new(Self { knocked: words(count), any, listener })
    }

    /// Notes a knock.
    pub(crate) fn note(&self, number: u32) {
        let (word, bit) = place(number);
        self.knocked[word].fetch_or(bit, Ordering::Relaxed);
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether anybody has knocked.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Says who waits for knocks, from now on.
    pub(crate) fn listen(&self, listener: &Waker) {
        self.listener.get_or_init(|| listener.clone());
    }

    /// Moves all knocks to the end of `numbers`, each once.
    pub(crate) fn take(&self, numbers: &mut Vec<u32>) {
        if !self.any.swap(false, Ordering::Relaxed) {
            return;
        }
        for (base, word) in (0..).step_by(BITS as usize).zip(&self.knocked) {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut knocked = word.swap(0, Ordering::Relaxed);
            while knocked != 0 {
                numbers.push(base + knocked.trailing_zeros());
                knocked &= knocked - 1;
            }
        }
    }

    /// A waker that knocks for `number`.
    pub(crate) fn waker(self: &Arc<Self>, number: u32) -> Waker {
        Waker::from(Arc::new(Knock { knocks: Arc::clone(self), number }))
    }
}

struct Knock {
    knocks: Arc<Knocks>,
    number: u32,
}

impl Wake for Knock {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.knocks.note(self.number);
        if let Some(listener) = self.knocks.listener.get() {
            listener.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_place_is_taken_and_there_are_no_more_than_there_are() {
        let slots = Slots::new(70);
        let all: Vec<u32> = std::iter::from_fn(|| slots.claim()).collect();
        assert_eq!(all, (0..70).collect::<Vec<_>>());
        for slot in [69, 3, 64] {
            slots.release(slot);
        }
        let again: Vec<u32> = std::iter::from_fn(|| slots.claim()).collect();
        assert_eq!(again, [3, 64, 69]);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn a_free_place_cannot_be_given_back() {
        Slots::new(1).release(0);
    }

    #[test]
    fn no_place_is_taken_by_two_threads() {
        let slots = Arc::new(Slots::new(1000));
        let claim_all = || {
            let slots = Arc::clone(&slots);
            std::thread::spawn(move || std::iter::from_fn(|| slots.claim()).collect::<Vec<_>>())
        };
        let threads = [claim_all(), claim_all(), claim_all()];
        let mut all: Vec<u32> =
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_knock_is_taken_once_whoever_knocked_and_however_often() {
        let knocks = Knocks::new(200);
        let mut numbers = Vec::new();
        knocks.take(&mut numbers);
        assert_eq!((knocks.any(), numbers.len()), (false, 0));
        let waker = knocks.waker(199);
        waker.wake_by_ref();
        waker.wake();
        knocks.note(0);
        knocks.note(63);
        knocks.note(64);
        assert!(knocks.any());
        knocks.take(&mut numbers);
        assert_eq!((knocks.any(), &numbers[..]), (false, &[0, 63, 64, 199][..]));
        numbers.clear();
        knocks.take(&mut numbers);
        assert!(numbers.is_empty(), "{numbers:?}");
    }

    #[test]
    fn a_knock_wakes_who_listens() {
        struct Count(std::sync::atomic::AtomicU32);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(0.into()));
        let knocks = Knocks::new(2);
        let waker = knocks.waker(1);
        waker.wake_by_ref();
        knocks.listen(&Arc::clone(&count).into());
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
