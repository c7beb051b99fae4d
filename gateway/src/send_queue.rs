//! What waits to be sent to one connection, bounded in bytes, and in bytes of memory: a block is
//! held whole whatever is in it, and a shared body by each of its recipients, since the last one to
//! be sent it keeps it for all.
//!
//! ```text
//!  frames --> open block --(full, or a shared body follows)--> sealed --> in flight --> socket
//! ```
//!
//! One send is in flight at a time; whatever gathers meanwhile goes into the next one, so a busy
//! connection pays one send for several frames. Small frames are copied into a block from the
//! core's pool; a large body is shared between its recipients and only its head is copied.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use variants::Variant;
use wire::InboxSeq;
use ws::{FrameHead, Opcode, encoder};

use crate::pools::BlockPool;

/// From this size on a frame's tail is shared between its recipients instead of copied to each:
/// below it the copy is cheaper than a second send.
pub const SHARE_BYTES_MIN: usize = 2048;

/// A frame could not be queued: the connection must be closed as a slow consumer, and resumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the connection's send queue is full")]
pub struct QueueFull;

/// Entries of an empty list that are kept: whoever is sent long bodies needs it each time.
const LIST_KEPT: usize = 4;

/// The queue of one connection. Empty, it holds no heap memory, but for a list of 4
/// entries if it ever needed one.
#[derive(Debug, Default)]
pub struct SendQueue {
    open: BytesMut,
    sealed: VecDeque<Sealed>,
    /// Everything that waits or is in flight.
    all: Count,
    in_flight: Count,
    /// The last bytes in flight end within a frame, whose shared tail is next.
    in_flight_is_cut: bool,
    /// A frame did not fit: nothing may follow it, or the peer would see a gap.
    overflowed: bool,
}

/// Bytes to be sent, and of the memory in which they are. (32 bits each: a million queues have
/// them, and a session may not hold as much.)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Count {
    bytes: u32,
    held: u32,
}

/// How much a queue may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes that may wait or be in flight.
    pub bytes_max: usize,
    /// Bytes of memory that they may hold.
    pub held_max: usize,
}

impl Room {
    /// For a close frame, which is always sent.
    pub const UNBOUNDED: Self = Self { bytes_max: usize::MAX, held_max: usize::MAX };
}

/// Bytes that wait, whole: a block's, a long frame's, or a shared tail's.
#[derive(Debug)]
struct Sealed {
    bytes: Bytes,
    /// Bytes of the memory in which they are.
    held: u32,
    /// They end within a frame: the next ones are its tail.
    is_cut: bool,
}

/// An encoded `Deliver` for many recipients: the same bytes but for each one's `inbox_seq`.
#[derive(Debug)]
pub struct SharedFrame<'t> {
    /// The encoded frame.
    pub bytes: &'t [u8],
    /// Where its `inbox_seq` stands.
    pub inbox_seq_offset: usize,
    /// A shared copy of the bytes from [`SharedFrame::split`] on, for frames that
    /// [`SharedFrame::wants_tail`].
    pub tail: Option<Bytes>,
}

impl SharedFrame<'_> {
    /// Whether a frame of so many bytes must have a shared tail: from [`SHARE_BYTES_MIN`] on, and
    /// if it would not fit into a block.
    #[must_use]
    pub const fn wants_tail(bytes: usize, block_bytes: usize) -> bool {
        bytes >= SHARE_BYTES_MIN || encoder::frame_bytes(bytes, false) > block_bytes
    }

    /// Where the shared tail begins.
    #[must_use]
    pub fn split(&self) -> usize {
        self.bytes.len() - self.tail.as_ref().map_or(0, Bytes::len)
    }
}

impl Count {
    fn add(&mut self, bytes: usize, held: usize) {
        self.bytes += short(bytes);
        self.held += short(held);
    }

    const fn subtract(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.held -= other.held;
    }
}

fn short(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("what a session may hold has 32 bits")
}

impl SendQueue {
    /// Queues one binary message.
    ///
    /// # Errors
    /// [`QueueFull`] if there is no such room, or the pool is exhausted.
    pub fn push(
        &mut self,
        pool: &mut BlockPool,
        room: Room,
        payload: &[u8],
    ) -> Result<(), QueueFull> {
        self.push_with(pool, room, encoder::frame_bytes(payload.len(), false), |out| {
            encoder::append_binary(out, payload, None);
        })
    }

    /// Queues what `write` appends, at most `bytes` bytes: a control frame, or what is no frame.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_with(
        &mut self,
        pool: &mut BlockPool,
        room: Room,
        bytes: usize,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), QueueFull> {
        let is_long = bytes > pool.block_bytes();
        let held = if is_long { bytes } else { self.held_by_block(pool, bytes) };
        self.check_room(bytes, held, room)?;
        let written = if is_long {
            self.seal();
            let mut own = BytesMut::with_capacity(bytes);
            write(&mut own);
            let written = own.len();
            self.all.add(0, bytes);
            let sealed = Sealed { bytes: own.freeze(), held: short(bytes), is_cut: false };
            self.sealed.push_back(sealed);
            written
        } else {
            let block = self.block_for(pool, bytes)?;
            let before = block.len();
            write(block);
            block.len() - before
        };
        debug_assert!(written <= bytes, "no more than was announced");
        self.all.add(written, 0);
        Ok(())
    }

    /// Queues a delivery with this recipient's `inbox_seq`.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_shared(
        &mut self,
        pool: &mut BlockPool,
        room: Room,
        frame: &SharedFrame<'_>,
        inbox_seq: InboxSeq,
    ) -> Result<(), QueueFull> {
        let bytes = encoder::frame_bytes(frame.bytes.len(), false);
        let own_bytes = bytes - frame.bytes.len() + frame.split();
        assert!(own_bytes <= pool.block_bytes(), "what is longer has a shared tail");
        let shared = frame.bytes.len() - frame.split();
        self.check_room(bytes, self.held_by_block(pool, own_bytes) + shared, room)?;
        let head = FrameHead {
            fin: true,
            opcode: Opcode::Binary,
            mask: None,
            payload_bytes: frame.bytes.len() as u64,
        };
        let block = self.block_for(pool, own_bytes)?;
        block.put_slice(head.to_bytes().as_ref());
        let start = block.len();
        block.put_slice(&frame.bytes[..frame.split()]);
        wire::patch_inbox_seq(&mut block[start..], frame.inbox_seq_offset, inbox_seq);
        if let Some(tail) = &frame.tail {
            self.seal();
            self.sealed.back_mut().expect("the head was sealed").is_cut = true;
            let sealed = Sealed { bytes: tail.clone(), held: short(shared), is_cut: false };
            self.sealed.push_back(sealed);
        }
        self.all.add(bytes, shared);
        Ok(())
    }

    /// The next bytes to send, if none are in flight.
    pub fn poll_send(&mut self) -> Option<Bytes> {
        if self.in_flight.bytes > 0 {
            return None;
        }
        let next = self.sealed.pop_front().or_else(|| self.take_open())?;
        self.in_flight = Count { bytes: short(next.bytes.len()), held: next.held };
        self.in_flight_is_cut = next.is_cut;
        Some(next.bytes)
    }

    /// A send has ended; its bytes are given back to the pool by the caller.
    pub fn handle_sent(&mut self, bytes: usize) {
        assert_eq!(bytes, self.in_flight.bytes as usize, "one send is in flight at a time");
        self.all.subtract(std::mem::take(&mut self.in_flight));
        if self.is_empty() && self.sealed.capacity() > LIST_KEPT {
            self.sealed = VecDeque::new();
        }
    }

    /// Bytes that wait or are in flight.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.all.bytes as usize
    }

    /// Bytes of the memory that they hold.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.all.held as usize
    }

    /// Whether everything has been sent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.all.bytes == 0
    }

    /// Drops what waits; what is in flight belongs to the ring. The rest of a frame that was begun
    /// stays: whatever follows would be taken for it.
    pub fn clear(&mut self, pool: &mut BlockPool) {
        pool.give_back_unsent(std::mem::take(&mut self.open));
        let rest = if self.in_flight_is_cut { self.sealed.pop_front() } else { None };
        for sealed in self.sealed.drain(..) {
            pool.give_back(sealed.bytes);
        }
        self.sealed = VecDeque::new(); // As when all was sent.
        self.all = self.in_flight;
        if let Some(rest) = rest {
            self.all.add(rest.bytes.len(), rest.held as usize);
            self.sealed.push_back(rest);
        }
        self.overflowed = false;
    }

    /// Whether a frame did not fit; no further one is taken then.
    #[must_use]
    pub const fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// What waits is not to be sent: as if a frame had not fitted.
    pub const fn give_up(&mut self) {
        self.overflowed = true;
    }

    /// For `bytes` more to send, in `held` bytes more of memory.
    fn check_room(&mut self, bytes: usize, held: usize, room: Room) -> Result<(), QueueFull> {
        let is_full = self.bytes() + bytes > room.bytes_max;
        self.overflowed |= is_full && !variants::is(Variant::QueueUnbounded);
        // What is written into memory that is held already makes nothing worse.
        self.overflowed |= held > 0 && self.held_bytes() + held > room.held_max;
        if self.overflowed { Err(QueueFull) } else { Ok(()) }
    }

    /// Memory that `bytes` more in a block take.
    fn held_by_block(&self, pool: &BlockPool, bytes: usize) -> usize {
        let fits = self.open.capacity() - self.open.len() >= bytes;
        if fits { 0 } else { pool.block_bytes() }
    }

    /// The open block, with room for `bytes`.
    fn block_for(
        &mut self,
        pool: &mut BlockPool,
        bytes: usize,
    ) -> Result<&mut BytesMut, QueueFull> {
        if self.open.capacity() - self.open.len() < bytes {
            self.seal();
            let Some(block) = pool.take() else {
                self.overflowed = true;
                return Err(QueueFull);
            };
            self.all.add(0, block.capacity());
            self.open = block;
        }
        Ok(&mut self.open)
    }

    fn seal(&mut self) {
        let open = self.take_open();
        self.sealed.extend(open);
    }

    /// What has gathered. Nearly always it is all there is, and never enters the list.
    fn take_open(&mut self) -> Option<Sealed> {
        let whole = |open: BytesMut| {
            let held = short(open.capacity());
            Sealed { bytes: open.freeze(), held, is_cut: false }
        };
        (!self.open.is_empty()).then(|| whole(std::mem::take(&mut self.open)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Room = room(4096);

    const fn room(bytes_max: usize) -> Room {
        Room { bytes_max, ..Room::UNBOUNDED }
    }

    fn drain(queue: &mut SendQueue, pool: &mut BlockPool) -> Vec<usize> {
        let mut sent = Vec::new();
        while let Some(bytes) = queue.poll_send() {
            assert_eq!(queue.poll_send(), None, "one at a time");
            sent.push(bytes.len());
            queue.handle_sent(bytes.len());
            pool.give_back(bytes);
        }
        sent
    }

    #[test]
    fn frames_that_gather_go_out_together() {
        let (mut pool, mut queue) = (BlockPool::new(4, 128), SendQueue::default());
        for _ in 0..3 {
            queue.push(&mut pool, MAX, &[7; 50]).unwrap();
        }
        assert_eq!(queue.bytes(), 3 * 52);
        assert_eq!(drain(&mut queue, &mut pool), [104, 52], "two fit into a block");
        assert!(queue.is_empty());
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn an_empty_queue_holds_no_memory() {
        let (mut pool, mut queue) = (BlockPool::new(9, 128), SendQueue::default());
        for frames in [1, 2, 16] {
            for _ in 0..frames {
                queue.push(&mut pool, MAX, &[7; 50]).unwrap();
            }
            drain(&mut queue, &mut pool);
            let held = (queue.sealed.capacity(), queue.open.capacity(), pool.out());
            assert_eq!(held, (0, 0, 0), "{frames} frames");
        }
    }

    #[test]
    fn the_bound_is_in_bytes_and_counts_what_is_in_flight() {
        let (mut pool, mut queue) = (BlockPool::new(4, 128), SendQueue::default());
        queue.push(&mut pool, room(110), &[7; 50]).unwrap();
        let in_flight = queue.poll_send().unwrap();
        queue.push(&mut pool, room(110), &[7; 50]).unwrap();
        assert_eq!(queue.push(&mut pool, room(110), &[7; 50]), Err(QueueFull));
        queue.handle_sent(in_flight.len());
        assert_eq!(
            queue.push(&mut pool, room(110), &[7; 50]),
            Err(QueueFull),
            "a gap must not show"
        );
        queue.clear(&mut pool);
        assert_eq!(queue.push(&mut pool, room(110), &[7; 50]), Ok(()));
    }

    #[test]
    fn memory_counts_whole_blocks_and_each_recipients_shared_tail() {
        let mut pool = BlockPool::new(9, 128);
        let bytes = [5; 3000];
        // A frame of so many bytes (of 3,000: shared), and what the queue then holds.
        let rows = [(50, 128), (50, 128), (50, 256), (200, 460), (3000, 460 + 128 + 2950)];
        let mut queue = SendQueue::default();
        for (frame_bytes, held) in rows {
            let more = held - queue.held_bytes();
            for (held_max, expected) in [(held - 1, Err(QueueFull)), (held, Ok(()))] {
                if more == 0 && expected.is_err() {
                    continue; // It takes nothing more, so it always fits.
                }
                queue.overflowed = false;
                let room = Room { bytes_max: usize::MAX, held_max };
                let pushed = if frame_bytes == 3000 {
                    queue.push_shared(&mut pool, room, &shared(&bytes, 50), InboxSeq::new(1))
                } else {
                    queue.push(&mut pool, room, &bytes[..frame_bytes])
                };
                assert_eq!(pushed, expected, "{frame_bytes} bytes, {held_max} of memory");
            }
            assert_eq!(queue.held_bytes(), held, "{frame_bytes} bytes");
        }
        drain(&mut queue, &mut pool);
        assert_eq!((queue.held_bytes(), pool.out()), (0, 0));
    }

    #[test]
    fn an_exhausted_pool_is_a_full_queue() {
        let mut pool = BlockPool::new(1, 128);
        let (mut one, mut other) = (SendQueue::default(), SendQueue::default());
        one.push(&mut pool, MAX, b"x").unwrap();
        assert_eq!(other.push(&mut pool, MAX, b"x"), Err(QueueFull));
        assert_eq!(other.bytes(), 0);
        one.clear(&mut pool);
        other.clear(&mut pool);
        assert_eq!(other.push(&mut pool, MAX, b"x"), Ok(()));
    }

    fn shared<'t>(bytes: &'t [u8], head_bytes: usize) -> SharedFrame<'t> {
        let tail = Some(Bytes::copy_from_slice(&bytes[head_bytes..]));
        SharedFrame { bytes, inbox_seq_offset: 0, tail }
    }

    #[test]
    fn what_follows_a_cleared_queue_is_not_taken_for_the_tail_of_what_is_in_flight() {
        let (mut pool, mut queue) = (BlockPool::new(4, 128), SendQueue::default());
        let bytes = [5; 3000];
        for _ in 0..2 {
            queue
                .push_shared(&mut pool, Room::UNBOUNDED, &shared(&bytes, 50), InboxSeq::new(1))
                .unwrap();
        }
        let head = queue.poll_send().unwrap();
        queue.clear(&mut pool);
        queue.push(&mut pool, MAX, b"close").unwrap();
        assert_eq!(queue.bytes(), 4 + 3000 + 7);
        assert_eq!(queue.held_bytes(), 128 + 2950 + 128, "in flight, its rest, and the close");
        queue.handle_sent(head.len());
        assert_eq!(drain(&mut queue, &mut pool), [2950, 7], "the rest of the one that was begun");
        pool.give_back(head);
        assert_eq!((pool.out(), queue.is_empty()), (0, true));
    }

    #[test]
    fn a_frame_to_many_that_does_not_fit_into_a_block_has_a_tail() {
        let rows = [(1021, 1024, true), (1020, 1024, false), (2047, 2048, true)];
        let rows = rows.into_iter().chain([(2044, 2048, false), (2047, 4096, false)]);
        for (bytes, block_bytes, expected) in rows.chain([(2048, 4096, true)]) {
            let wants_tail = SharedFrame::wants_tail(bytes, block_bytes);
            assert_eq!(wants_tail, expected, "{bytes} bytes, blocks of {block_bytes}");
        }
    }

    #[test]
    fn a_frame_above_a_block_is_sent_by_itself_and_in_order() {
        let (mut pool, mut queue) = (BlockPool::new(4, 128), SendQueue::default());
        queue.push(&mut pool, MAX, &[1; 10]).unwrap();
        queue.push(&mut pool, MAX, &[2; 200]).unwrap();
        queue.push(&mut pool, MAX, &[3; 10]).unwrap();
        assert_eq!(drain(&mut queue, &mut pool), [12, 204, 12]);
    }

    #[test]
    fn a_shared_frame_has_each_recipients_own_number_and_the_same_tail() {
        let mut pool = BlockPool::new(4, 4096);
        let mut encoder = wire::Encoder::new(8192);
        for body_bytes in [10, 5000] {
            let body = vec![9; body_bytes];
            let event = wire::Event::Message(wire::Message {
                channel: wire::ChannelId::numbered(1).unwrap(),
                seq: wire::Seq::new(1),
                sender: wire::UserId::new(1).unwrap(),
                device: wire::DeviceId(1),
                created_at: wire::Timestamp(1),
                nonce: wire::Nonce(1),
                kind: 0,
                body: Some(&body),
            });
            let expected = |encoder: &mut wire::Encoder, inbox_seq| {
                let deliver = wire::Deliver { inbox_seq, event };
                encoder.server(0, wire::ServerBody::Deliver(deliver)).to_vec()
            };
            let numbers = [InboxSeq::new(5), InboxSeq::new(70_000)];
            let wanted = numbers.map(|number| expected(&mut encoder, number));
            let template = encoder.deliver_template(&event);
            let bytes = template.bytes();
            let tail =
                (bytes.len() >= SHARE_BYTES_MIN).then(|| Bytes::copy_from_slice(&bytes[256..]));
            let inbox_seq_offset = template.inbox_seq_offset();
            let frame = SharedFrame { bytes, inbox_seq_offset, tail };
            for (number, wanted) in numbers.into_iter().zip(wanted) {
                let mut queue = SendQueue::default();
                queue.push_shared(&mut pool, Room::UNBOUNDED, &frame, number).unwrap();
                let mut sent = Vec::new();
                while let Some(bytes) = queue.poll_send() {
                    sent.extend_from_slice(&bytes);
                    queue.handle_sent(bytes.len());
                    pool.give_back(bytes);
                }
                let mut plain = BytesMut::new();
                encoder::append_binary(&mut plain, &wanted, None);
                assert_eq!(sent, plain, "{body_bytes} bytes, {number}");
            }
        }
    }
}
