//! What waits for the disk, and the only place where anything becomes [`Committed`].

use std::collections::VecDeque;
use std::ops::Deref;

use variants::Variant;
use wire::BatchNumber;

/// What one core may have sequenced but not yet on disk. At the bound the core stops draining
/// offers; at 50,000 messages a second and a sync of 5 ms a window holds 250.
pub const WINDOW_MAX: usize = 16 * 1024;

/// Something that is on disk. Only a [`CommitWindow`] makes one, so what demands a `Committed`
/// (acknowledgement, fan-out, delivery) cannot be called too early.
#[derive(Debug)]
pub struct Committed<T>(T);

impl<T> Committed<T> {
    /// The value, for those who go on with it.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Committed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Values in the order in which they went into batches, released in that order when their batch
/// is on disk.
///
/// Watermarks, as batch numbers: `released <= sealed < open`.
#[derive(Debug)]
pub struct CommitWindow<T> {
    waiting: VecDeque<T>,
    /// Sealed batches with how many of the values each holds, oldest first.
    sealed: VecDeque<(BatchNumber, usize)>,
    /// Values of the released batch that were not taken yet.
    releasing: usize,
    /// Values that went into the open batch.
    open_count: usize,
    last_sealed: BatchNumber,
    waiting_max: usize,
}

impl<T> Default for CommitWindow<T> {
    fn default() -> Self {
        Self::new(WINDOW_MAX)
    }
}

impl<T> CommitWindow<T> {
    /// An empty one that is full at `waiting_max` values: [`WINDOW_MAX`], or what a simulation can
    /// fill.
    #[must_use]
    pub fn new(waiting_max: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            sealed: VecDeque::new(),
            releasing: 0,
            open_count: 0,
            last_sealed: BatchNumber::ZERO,
            waiting_max,
        }
    }

    /// Bytes of what waits.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<T>()
    }

    /// Adds a value whose bytes have just gone into the open batch.
    pub fn push(&mut self, value: T) {
        self.waiting.push_back(value);
        self.open_count += 1;
    }

    /// The open batch was sealed as `number`; what is pushed from now on is in the next one.
    pub fn seal(&mut self, number: BatchNumber) {
        assert!(number > self.last_sealed, "batches are sealed in order");
        self.last_sealed = number;
        self.sealed.push_back((number, self.open_count));
        self.open_count = 0;
        self.check();
    }

    /// Batch `number` is on disk: [`Self::next_released`] gives the values it holds. A batch may be
    /// released only after all before it, and after all of theirs were taken.
    pub fn release(&mut self, number: BatchNumber) {
        assert_eq!(self.releasing, 0, "all of an earlier batch was taken");
        let (oldest, count) = self.sealed.pop_front().expect("a batch that was sealed");
        assert_eq!(oldest, number, "batches become durable in order");
        self.releasing = count;
    }

    /// The next value of the batch that was released, in the order of the pushes.
    pub fn next_released(&mut self) -> Option<Committed<T>> {
        self.releasing = self.releasing.checked_sub(1)?;
        if variants::is(Variant::ReleasedBackwards) {
            self.waiting.swap(0, self.releasing);
        }
        Some(Committed(self.waiting.pop_front().expect("counted when it was sealed")))
    }

    /// Whether a value waits for the open batch to be sealed.
    #[must_use]
    pub const fn has_open(&self) -> bool {
        self.open_count > 0
    }

    /// Values that wait, sealed or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no more may be pushed: see [`WINDOW_MAX`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= self.waiting_max
    }

    fn check(&self) {
        debug_assert_eq!(
            self.waiting.len(),
            self.releasing
                + self.open_count
                + self.sealed.iter().map(|(_, count)| count).sum::<usize>(),
            "each waiting value is in exactly one batch"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64) -> BatchNumber {
        BatchNumber::new(number)
    }

    fn release(window: &mut CommitWindow<char>, number: u64) -> String {
        window.release(batch(number));
        std::iter::from_fn(|| window.next_released()).map(Committed::into_inner).collect()
    }

    #[test]
    fn values_are_released_with_their_batch_and_in_order() {
        let mut window = CommitWindow::default();
        "ab".chars().for_each(|value| window.push(value));
        window.seal(batch(1));
        window.seal(batch(2));
        "cd".chars().for_each(|value| window.push(value));
        assert_eq!(release(&mut window, 1), "ab");
        assert_eq!(release(&mut window, 2), "", "a batch may hold other things alone");
        window.push('e');
        window.seal(batch(5));
        assert_eq!(release(&mut window, 5), "cde");
        assert!(window.is_empty());
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn a_batch_cannot_be_released_before_an_older_one() {
        let mut window = CommitWindow::<char>::default();
        window.seal(batch(1));
        window.seal(batch(2));
        let _ = release(&mut window, 2);
    }

    #[test]
    #[should_panic(expected = "was sealed")]
    fn an_open_batch_cannot_be_released() {
        let mut window = CommitWindow::default();
        window.push('a');
        let _ = release(&mut window, 1);
    }
}
