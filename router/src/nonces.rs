//! The recent sends of a channel, so that a repeated one gets its first answer again.
//!
//! There is no record of nonces on disk: each log entry carries its own, and the window is read
//! back from the end of the log when a channel is loaded. What lies beyond the window is found by
//! scanning the log, and only for a send that says it is a retry (`Post.retry`). A send that is not
//! durable is in no log that could be scanned, so the window holds it however many came after it.

use std::collections::VecDeque;

use variants::Variant;
use wire::{DeviceId, Nonce, Seq, Timestamp, UserId};

use crate::Map;

/// How many of a channel's newest entries the window covers by default. A device that does not
/// mark its retries is protected over as many messages of the channel.
pub const NONCE_WINDOW_DEFAULT: usize = 1024;

/// A send as its device names it within a channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SendKey {
    /// The sender.
    pub sender: UserId,
    /// Her device.
    pub device: DeviceId,
    /// The device's own id for the send.
    pub nonce: Nonce,
}

/// What became of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The place it got.
    pub seq: Seq,
    /// When it got it.
    pub created_at: Timestamp,
    /// A hash of kind and body: a repeat with another content is refused.
    pub fingerprint: u64,
}

/// A window over the newest sends of one channel. Bounded; the oldest is forgotten. Those that are
/// not durable do not count: [`crate::commit_window::WINDOW_MAX`] bounds them.
#[derive(Debug)]
pub struct NonceWindow {
    order: VecDeque<SendKey>,
    receipts: Map<SendKey, Receipt>,
    sends_max: usize,
}

impl NonceWindow {
    /// An empty window over at most `sends_max` sends; allocates as it fills.
    #[must_use]
    pub fn new(sends_max: usize) -> Self {
        Self { order: VecDeque::new(), receipts: Map::default(), sends_max }
    }

    /// What became of this send, if it is recent.
    #[must_use]
    pub fn find(&self, key: &SendKey) -> Option<Receipt> {
        self.receipts.get(key).copied()
    }

    /// Remembers a send; sends are remembered in the order of their `Seq`. Forgets, at the bound,
    /// what is durable: at or below `committed`.
    pub fn remember(&mut self, key: SendKey, receipt: Receipt, committed: Seq) {
        let is_durable = |receipt: &Receipt| {
            receipt.seq <= committed || variants::is(Variant::UndurableForgotten)
        };
        while self.order.len() >= self.sends_max
            && let Some(oldest) = self.order.front()
            && self.receipts.get(oldest).is_some_and(is_durable)
        {
            self.receipts.remove(oldest);
            self.order.pop_front();
        }
        // A log can hold one key twice only if a retry was let through beyond what is searched;
        // then the newer one answers, and forgetting the older must not forget it.
        if self.receipts.insert(key, receipt).is_some() {
            self.order.retain(|known| *known != key);
        }
        self.order.push_back(key);
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.order.capacity() * size_of::<SendKey>() + self.receipts.allocation_size()
    }

    /// How many sends it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(nonce: u64) -> SendKey {
        SendKey { sender: UserId::new(1).unwrap(), device: DeviceId(1), nonce: Nonce(nonce) }
    }

    fn receipt(seq: u64) -> Receipt {
        Receipt { seq: Seq::new(seq), created_at: Timestamp(9), fingerprint: seq }
    }

    #[test]
    fn the_oldest_send_is_forgotten_at_the_bound() {
        let mut window = NonceWindow::new(3);
        for seq in 1..=4 {
            window.remember(key(seq * 10), receipt(seq), Seq::new(seq));
        }
        assert_eq!(window.find(&key(10)), None);
        assert_eq!(window.find(&key(20)), Some(receipt(2)));
        assert_eq!(window.find(&key(40)), Some(receipt(4)));
        assert_eq!(window.len(), 3);
    }

    #[test]
    fn what_is_not_durable_is_remembered_beyond_the_bound() {
        let mut window = NonceWindow::new(3);
        for seq in 1..=9 {
            window.remember(key(seq), receipt(seq), Seq::new(2));
        }
        assert_eq!((window.find(&key(2)), window.find(&key(3))), (None, Some(receipt(3))));
        window.remember(key(10), receipt(10), Seq::new(9));
        assert_eq!((window.len(), window.find(&key(8))), (3, Some(receipt(8))));
    }

    #[test]
    fn a_key_that_the_log_holds_twice_answers_with_the_newer() {
        let mut window = NonceWindow::new(3);
        for (nonce, seq) in [(7, 1), (7, 2), (8, 3), (9, 4)] {
            window.remember(key(nonce), receipt(seq), Seq::new(seq));
        }
        assert_eq!(window.find(&key(7)), Some(receipt(2)));
        window.remember(key(10), receipt(5), Seq::new(5));
        assert_eq!(window.find(&key(7)), None);
    }
}
