//! What waits for the disk, and the only place where anything becomes [`Committed`].

use std::collections::VecDeque;
use std::ops::Deref;

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
    /// Values that went into the open batch.
    open_count: usize,
    last_sealed: BatchNumber,
}

impl<T> Default for CommitWindow<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            sealed: VecDeque::new(),
            open_count: 0,
            last_sealed: BatchNumber::ZERO,
        }
    }
}

impl<T> CommitWindow<T> {
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

    /// Batch `number` is on disk: the values it holds, in order. A batch may be released only
    /// after all before it.
    pub fn release(&mut self, number: BatchNumber) -> Release<'_, T> {
        let (oldest, count) = self.sealed.pop_front().expect("a batch that was sealed");
        assert_eq!(oldest, number, "batches become durable in order");
        Release { waiting: &mut self.waiting, left: count }
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
        self.waiting.len() >= WINDOW_MAX
    }

    fn check(&self) {
        debug_assert_eq!(
            self.waiting.len(),
            self.open_count + self.sealed.iter().map(|(_, count)| count).sum::<usize>(),
            "each waiting value is in exactly one batch"
        );
    }
}

/// The values of one durable batch, as [`Committed`]. Dropping it early releases the rest unseen,
/// which no caller may do.
#[derive(Debug)]
pub struct Release<'w, T> {
    waiting: &'w mut VecDeque<T>,
    left: usize,
}

impl<T> Iterator for Release<'_, T> {
    type Item = Committed<T>;

    fn next(&mut self) -> Option<Committed<T>> {
        self.left = self.left.checked_sub(1)?;
        Some(Committed(self.waiting.pop_front().expect("counted when it was sealed")))
    }
}

impl<T> Drop for Release<'_, T> {
    fn drop(&mut self) {
        // A panic of the consumer ends the process anyway; do not hide it behind this one.
        debug_assert!(self.left == 0 || std::thread::panicking(), "a commit was dropped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64) -> BatchNumber {
        BatchNumber::new(number)
    }

    fn release(window: &mut CommitWindow<char>, number: u64) -> String {
        window.release(batch(number)).map(Committed::into_inner).collect()
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
