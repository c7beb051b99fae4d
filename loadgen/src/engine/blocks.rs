//! Memory for what is sent: a block is with a session while frames gather in it, with the ring
//! while they are sent, and then free for the next.

use bytes::{Bytes, BytesMut};

/// Bytes of a block where sessions talk: a dozen messages of usual size. A session that writes
/// more gets memory of its own for once.
pub(crate) const TALK_BYTES: usize = 4096;

/// Bytes of a block where they hardly do: the longest is a Hello with its token.
pub(crate) const HEARTBEAT_BYTES: usize = 768;

/// Blocks that are kept: more are in use only while nearly all sessions send at once.
const FREE_MAX: usize = 4096;

/// The free blocks of one thread.
#[derive(Debug)]
pub(crate) struct Blocks {
    free: Vec<BytesMut>,
    block_bytes: usize,
}

impl Blocks {
    /// None yet; each will have so many bytes.
    pub(crate) const fn new(block_bytes: usize) -> Self {
        Self { free: Vec::new(), block_bytes }
    }

    /// An empty block.
    pub(crate) fn take(&mut self) -> BytesMut {
        let bytes = self.block_bytes;
        self.free.pop().unwrap_or_else(|| {
            let mut block = BytesMut::with_capacity(bytes);
            // Splitting, even at the end, puts the memory behind a reference count here and now
            // instead of at each freeze.
            drop(block.split_off(bytes));
            block
        })
    }

    /// Takes back a block that was not sent.
    pub(crate) fn give_back(&mut self, mut block: BytesMut) {
        if block.capacity() == self.block_bytes && self.free.len() < FREE_MAX {
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
        let mut blocks = Blocks::new(64);
        let mut block = blocks.take();
        let address = block.as_ptr();
        block.extend_from_slice(b"frame");
        blocks.give_back_sent(block.freeze());
        let again = blocks.take();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (address, 0, 64));
    }

    #[test]
    fn grown_and_foreign_memory_is_not_kept() {
        let mut blocks = Blocks::new(64);
        let mut block = blocks.take();
        block.extend_from_slice(&[7; 65]);
        blocks.give_back_sent(block.freeze());
        blocks.give_back_sent(Bytes::from_static(b"static"));
        blocks.give_back(BytesMut::new());
        assert!(blocks.free.is_empty());
    }
}
