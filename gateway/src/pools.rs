//! Memory that comes back: blocks for what is sent, and bodies that are shared.
//!
//! Both rest on one property of `bytes`: a `Bytes` whose last other holder has let go can be
//! turned back into the `BytesMut` it was, without an allocation and with its capacity. So the
//! hot path allocates only until the pools have grown to what the load needs, and never beyond
//! their bound. What a rush has made and nothing has needed since is let go of again.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use variants::Variant;

/// Memory for `capacity` bytes that survives being frozen and taken back: splitting off the
/// (empty) end moves the buffer behind a reference count once, here, instead of at each freeze.
fn recyclable(capacity: usize) -> BytesMut {
    let mut memory = BytesMut::with_capacity(capacity);
    drop(memory.split_off(memory.capacity()));
    memory
}

/// Blocks for the frames of one connection's next send. A block is out while frames gather in it
/// and while the kernel has it.
#[derive(Debug)]
pub struct BlockPool {
    free: Vec<BytesMut>,
    /// The fewest that were free since the last [`Self::trim`].
    unneeded: usize,
    made: usize,
    blocks_max: usize,
    block_bytes: usize,
}

/// Free blocks that a pool keeps whatever was needed: a small turn's worth.
const BLOCKS_KEPT: usize = 64;

impl BlockPool {
    /// At most `blocks_max` blocks of `block_bytes` bytes, made as they are first needed.
    #[must_use]
    pub fn new(blocks_max: usize, block_bytes: usize) -> Self {
        Self { free: Vec::new(), unneeded: 0, made: 0, blocks_max, block_bytes }
    }

    /// An empty block; `None` if all are out, which the caller treats as it treats a full queue.
    pub fn take(&mut self) -> Option<BytesMut> {
        if let Some(block) = self.free.pop() {
            self.unneeded = self.unneeded.min(self.free.len());
            return Some(block);
        }
        if self.made == self.blocks_max {
            return None;
        }
        self.made += 1;
        Some(recyclable(self.block_bytes))
    }

    /// Takes back what [`Self::take`] gave, after it was sent. Other memory is dropped.
    pub fn give_back(&mut self, sent: Bytes) {
        let Ok(mut block) = sent.try_into_mut() else { return };
        if block.capacity() == self.block_bytes && self.free.len() < self.made {
            block.clear();
            self.free.push(block);
            if variants::is(Variant::BlockTwice) {
                self.free.push(recyclable(self.block_bytes));
            }
        }
    }

    /// Takes back a block that was not sent.
    pub fn give_back_unsent(&mut self, block: BytesMut) {
        self.give_back(block.freeze());
    }

    /// Lets go of half of the blocks that nothing has needed since the last call. Called at even
    /// times, it follows the load down and leaves alone what a steady one goes through.
    pub fn trim(&mut self) {
        let surplus = self.unneeded.saturating_sub(BLOCKS_KEPT).div_ceil(2);
        // Those at the bottom have lain there longest.
        self.free.drain(..surplus);
        self.made -= surplus;
        self.unneeded = self.free.len();
    }

    /// Bytes in a block.
    #[must_use]
    pub const fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Bytes of all blocks, out or free.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.made * self.block_bytes
    }

    /// Blocks that are out.
    #[must_use]
    pub const fn out(&self) -> usize {
        self.made - self.free.len()
    }
}

/// Sizes of the slots for bodies. A chat message is below 256 bytes; the next ones waste at most
/// three quarters of a slot.
const SLOT_BYTES: [usize; 5] = [256, 1024, 4096, 16 * 1024, 64 * 1024];

/// What the slots of one size may hold together.
const SLOTS_BYTES_MAX: usize = 1024 * 1024;

/// How many slots are looked at for one that nobody holds any more. They are let go of in about
/// the order in which they were taken, so the oldest is nearly always free.
const LOOKS_MAX: usize = 4;

/// Bodies of messages on their way: copied once out of the receive buffer, then shared by the
/// window, the batch, the fan-outs and the send queues. The pool keeps a handle of its own and
/// uses a slot again when that is the last one.
#[derive(Debug, Default)]
pub struct BodyPool {
    sizes: [VecDeque<Bytes>; SLOT_BYTES.len()],
}

impl BodyPool {
    /// A shared copy of `body`. Beyond the pool's bound (or above the largest slot) it is an
    /// allocation like any other.
    pub fn copy(&mut self, body: &[u8]) -> Bytes {
        let Some(size) = SLOT_BYTES.iter().position(|&bytes| body.len() <= bytes) else {
            return Bytes::copy_from_slice(body);
        };
        let slots = &mut self.sizes[size];
        let same = slots.back().filter(|slot| slot.len() == body.len());
        if let Some(held) = same.filter(|_| variants::is(Variant::BodyReused)) {
            return held.clone();
        }
        for _ in 0..LOOKS_MAX.min(slots.len()) {
            let Some(slot) = slots.pop_front() else { break };
            match slot.try_into_mut() {
                Ok(memory) => return Self::fill(slots, memory, body),
                Err(held) => slots.push_back(held),
            }
        }
        if (slots.len() + 1) * SLOT_BYTES[size] > SLOTS_BYTES_MAX {
            return Bytes::copy_from_slice(body);
        }
        Self::fill(slots, recyclable(SLOT_BYTES[size]), body)
    }

    /// Bytes of all slots.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.sizes.iter().zip(SLOT_BYTES).map(|(slots, bytes)| slots.len() * bytes).sum()
    }

    fn fill(slots: &mut VecDeque<Bytes>, mut memory: BytesMut, body: &[u8]) -> Bytes {
        memory.clear();
        memory.extend_from_slice(body);
        let shared = memory.freeze();
        slots.push_back(shared.clone());
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_with_its_memory() {
        let mut pool = BlockPool::new(1, 64);
        let mut block = pool.take().unwrap();
        let address = block.as_ptr();
        assert_eq!(pool.take(), None, "the bound");
        block.extend_from_slice(b"frame");
        pool.give_back(block.freeze());
        let again = pool.take().unwrap();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (address, 0, 64));
    }

    #[test]
    fn what_a_rush_has_made_is_let_go_of_and_what_is_used_is_kept() {
        let mut pool = BlockPool::new(1000, 64);
        let rush: Vec<BytesMut> = (0..1000).map(|_| pool.take().unwrap()).collect();
        pool.trim();
        assert_eq!((pool.made, pool.out()), (1000, 1000), "they are out");
        rush.into_iter().for_each(|block| pool.give_back_unsent(block));
        pool.trim();
        assert_eq!(pool.made, 1000, "all were needed since the last time");
        let steady = 300;
        for _ in 0..20 {
            let used: Vec<BytesMut> = (0..steady).map(|_| pool.take().unwrap()).collect();
            used.into_iter().for_each(|block| pool.give_back_unsent(block));
            pool.trim();
        }
        assert_eq!((pool.made, pool.free.len()), (steady + BLOCKS_KEPT, steady + BLOCKS_KEPT));
        (0..20).for_each(|_| pool.trim());
        assert_eq!(pool.made, BLOCKS_KEPT);
    }

    #[test]
    fn memory_of_another_size_does_not_enter_the_pool() {
        let mut pool = BlockPool::new(2, 64);
        let block = pool.take().unwrap();
        pool.give_back(Bytes::from(vec![0; 10]));
        assert_eq!(pool.out(), 1);
        pool.give_back_unsent(block);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn a_body_slot_is_used_again_once_nobody_holds_it() {
        let mut pool = BodyPool::default();
        let first = pool.copy(b"one");
        let address = first.as_ptr();
        let second = pool.copy(b"two");
        assert_ne!(second.as_ptr(), address, "the first is held");
        drop(first);
        let third = pool.copy(b"three");
        assert_eq!(
            (third.as_ptr(), &third[..], &second[..]),
            (address, &b"three"[..], &b"two"[..])
        );
    }

    #[test]
    fn beyond_its_bound_the_pool_still_copies() {
        let mut pool = BodyPool::default();
        let held: Vec<Bytes> = (0..5000_u32).map(|n| pool.copy(&n.to_le_bytes())).collect();
        for (number, body) in (0_u32..).zip(&held) {
            assert_eq!(body[..], number.to_le_bytes());
        }
        assert_eq!(pool.sizes[0].len(), SLOTS_BYTES_MAX / SLOT_BYTES[0]);
        assert_eq!(pool.copy(&[7; 100_000]).len(), 100_000, "above the largest slot");
    }
}
