//! Memory for what is sent: a block is with a session while frames gather in it, with the ring
//! while they are sent, and then free for the next.

use bytes::{Bytes, BytesMut};

/// Bytes of a block: a dozen messages of usual size. A session that writes more gets memory of
/// its own for once.
const BLOCK_BYTES: usize = 4096;

/// Blocks that are kept: more are in use only while nearly all sessions send at once.
const FREE_MAX: usize = 4096;

/// The free blocks of one thread.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    free: Vec<BytesMut>,
}

impl Blocks {
    /// An empty block.
    pub(crate) fn take(&mut self) -> BytesMut {
        self.free.pop().unwrap_or_else(|| {
            let mut block = BytesMut::with_capacity(BLOCK_BYTES);
            // Splitting, even at the end, puts the memory behind a reference count here and now
            // instead of at each freeze.
            drop(block.split_off(BLOCK_BYTES));
            block
        })
    }

    /// Takes back a block that was not sent.
    pub(crate) fn give_back(&mut self, mut block: BytesMut) {
        if block.capacity() == BLOCK_BYTES && self.free.len() < FREE_MAX {
            block.clear();
            self.free.push(block);
        }
    }

    /// Takes back a block that was sent.
    pub(crate) fn give_back_sent(&mut self, sent: Bytes) {
        if let Ok(block) = sent.try_into_mut() {
            self.give_back(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_was_sent_is_used_again() {
        let mut blocks = Blocks::default();
        let mut block = blocks.take();
        let address = block.as_ptr();
        block.extend_from_slice(b"frame");
        blocks.give_back_sent(block.freeze());
        let again = blocks.take();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (address, 0, BLOCK_BYTES));
    }

    #[test]
    fn grown_and_foreign_memory_is_not_kept() {
        let mut blocks = Blocks::default();
        let mut block = blocks.take();
        block.extend_from_slice(&[7; BLOCK_BYTES + 1]);
        blocks.give_back_sent(block.freeze());
        blocks.give_back_sent(Bytes::from_static(b"static"));
        blocks.give_back(BytesMut::new());
        assert!(blocks.free.is_empty());
    }
}
