//! The provided buffers: one allocation that holds the kernel's ring of free buffers and the
//! buffers themselves. A connection that waits for data holds none of them; the kernel takes one
//! when data is there.
//!
//! ```text
//!            entries of 16 bytes             pad        buffer 0          buffer 1
//! +-------+-------+-----------------------+-------+-----------------+-----------------+---
//! | addr, | addr, |                       | to a  |   bytes, on a   |   bytes, on a   |
//! | len,  | len,  |          ...          | page  |   cache line    |   cache line    | ...
//! | bid   | bid   |                       |       |                 |                 |
//! +-------+-------+-----------------------+-------+-----------------+-----------------+---
//!    ^ the last two bytes of entry 0 are the tail, which we write and the kernel reads
//! ```
//!
//! Each buffer is, at any time, in one of two hands:
//!
//! - *the kernel's*: its entry lies between head and tail (or was written and waits for
//!   [`Buffers::publish`]). Nothing here forms a reference into it.
//! - *lent*: a completion named it; `lent[index]` is how many bytes were received. Only
//!   [`Buffers::filled`] reaches it, and only while it is lent.

use std::alloc::{self, Layout};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// The kernel demands that the ring of entries starts on a page.
const PAGE_BYTES: usize = 4096;
const CACHE_LINE_BYTES: usize = 64;
/// `IORING_MAX_PBUF_ENTRIES`: ids have 16 bits and one is lost to telling full from empty.
pub(crate) const BUFFERS_MAX: u16 = 1 << 15;
/// One receive takes one buffer; larger ones would only hold memory that frames do not fill.
pub(crate) const BUFFER_BYTES_MAX: u32 = 1 << 20;
const _: () = assert!(size_of::<BufRingEntry>() == 16);

/// A received buffer, lent to the caller until [`crate::Ring::recycle`].
///
/// Dropping it instead loses the buffer until the ring ends: debug builds panic, and
/// [`crate::Ring::buffers_free`] of an idle ring tells.
#[must_use = "give it back with Ring::recycle, or the ring runs out of buffers"]
#[derive(Debug)]
pub struct BufferId {
    index: u16,
}

impl Drop for BufferId {
    fn drop(&mut self) {
        let lost = !std::thread::panicking();
        debug_assert!(!lost, "buffer {} was dropped, not recycled", self.index);
    }
}

/// See the module's head.
pub(crate) struct Buffers {
    memory: NonNull<u8>,
    layout: Layout,
    data_offset: usize,
    stride: usize,
    count: u16,
    bytes: u32,
    /// Entries written so far, wrapping. What the kernel has been told is `published`.
    tail: u16,
    published: u16,
    /// Bytes received into each buffer that is lent; 0 for those in the kernel's hand.
    lent: Box<[u32]>,
    lent_count: u16,
    abandoned: bool,
}

// SAFETY: `memory` is owned by this value alone, and the kernel does not care which thread of the
// process writes to it.
unsafe impl Send for Buffers {}

impl Buffers {
    /// `count` is a power of two up to [`BUFFERS_MAX`], `bytes` from 1 to [`BUFFER_BYTES_MAX`];
    /// `None` if there is no memory.
    pub(crate) fn new(count: u16, bytes: u32) -> Option<Self> {
        assert!(count.is_power_of_two() && count <= BUFFERS_MAX);
        assert!((1..=BUFFER_BYTES_MAX).contains(&bytes));
        let entries = usize::from(count) * size_of::<BufRingEntry>();
        let data_offset = entries.next_multiple_of(PAGE_BYTES);
        let stride = (bytes as usize).next_multiple_of(CACHE_LINE_BYTES);
        let size = data_offset + stride * usize::from(count);
        let layout = Layout::from_size_align(size, PAGE_BYTES).ok()?;
        // SAFETY: the layout's size is at least one page, so it is not zero.
        let memory = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
        let lent = vec![0; usize::from(count)].into_boxed_slice();
        let mut buffers = Self {
            memory,
            layout,
            data_offset,
            stride,
            count,
            bytes,
            tail: 0,
            published: 0,
            lent,
            lent_count: 0,
            abandoned: false,
        };
        for index in 0..count {
            buffers.enqueue(index);
        }
        buffers.publish();
        Some(buffers)
    }

    /// Where the ring of entries starts, for its registration.
    pub(crate) fn ring_address(&self) -> u64 {
        self.memory.as_ptr().expose_provenance() as u64
    }

    pub(crate) const fn count(&self) -> u16 {
        self.count
    }

    pub(crate) const fn memory_bytes(&self) -> usize {
        self.layout.size()
    }

    pub(crate) const fn lent_count(&self) -> u16 {
        self.lent_count
    }

    /// A completion says that the kernel took this buffer and received `length` bytes into it.
    pub(crate) fn lend(&mut self, index: u16, length: u32) -> BufferId {
        let lent = &mut self.lent[usize::from(index)];
        assert!(*lent == 0, "the kernel handed out buffer {index} twice");
        assert!(length > 0 && length <= self.bytes, "buffer {index} cannot hold {length} bytes");
        *lent = length;
        self.lent_count += 1;
        BufferId { index }
    }

    /// The received bytes of a lent buffer.
    pub(crate) fn filled(&mut self, buffer: &BufferId) -> &mut [u8] {
        let length = self.lent[usize::from(buffer.index)];
        assert!(length > 0, "buffer {} is not lent by this ring", buffer.index);
        let start = self.data(buffer.index);
        // SAFETY: the range lies within buffer `index` (`length <= bytes`), was zeroed when it was
        // allocated, and is lent: the kernel took it off its ring and will not write to it before
        // it is enqueued again, and `&mut self` keeps every other reference away.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), length as usize) }
    }

    /// Takes a lent buffer back. The kernel sees it after [`Buffers::publish`].
    pub(crate) fn recycle(&mut self, buffer: BufferId) {
        let lent = &mut self.lent[usize::from(buffer.index)];
        assert!(*lent > 0, "buffer {} is not lent by this ring", buffer.index);
        *lent = 0;
        self.lent_count -= 1;
        self.enqueue(buffer.index);
        std::mem::forget(buffer);
    }

    /// The kernel took a buffer but received nothing into it (it does so at the end of a stream).
    pub(crate) fn return_unused(&mut self, index: u16) {
        assert!(self.lent[usize::from(index)] == 0, "buffer {index} is lent");
        self.enqueue(index);
    }

    /// Lets the kernel see what was recycled: one store for all of them.
    pub(crate) fn publish(&mut self) {
        if self.published == self.tail {
            return;
        }
        self.published = self.tail;
        // SAFETY: `memory` starts with `count >= 1` entries, page-aligned, so entry 0 is valid.
        let tail = unsafe { BufRingEntry::tail(self.memory.as_ptr().cast::<BufRingEntry>()) };
        // SAFETY: it points to the two aligned bytes of entry 0 that are the tail, which live as
        // long as `self`. Other than through atomics nobody accesses them: the setters of an
        // entry leave them alone.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the entries written before must be visible to the kernel's acquiring load.
        tail.store(self.published, Ordering::Release);
    }

    /// Leaves the memory allocated for good: the kernel may still use it.
    pub(crate) const fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Writes the entry of `index` behind the last one.
    fn enqueue(&mut self, index: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        let entries = self.memory.cast::<BufRingEntry>();
        // SAFETY: `place < count`, the number of entries at the start of `memory`.
        let entry = unsafe { entries.add(place) };
        let address = self.data(index).as_ptr().expose_provenance() as u64;
        // SAFETY: the entry is within the allocation and zeroed, which is a valid value. There are
        // as many entries as buffers and each buffer is enqueued at most once, so the place at the
        // tail is free: the kernel reads no entry beyond the published tail.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(address);
        entry.set_len(self.bytes);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    fn data(&self, index: u16) -> NonNull<u8> {
        assert!(index < self.count);
        let offset = self.data_offset + self.stride * usize::from(index);
        // SAFETY: `offset + bytes` is within the allocation, because `index < count`.
        unsafe { self.memory.add(offset) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.abandoned {
            return;
        }
        // SAFETY: allocated with this layout in `new`, and freed once. The kernel has let go
        // of it: the ring drops its buffers after that, and abandons them where it has not.
        unsafe { alloc::dealloc(self.memory.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lent_buffer_shows_what_was_received_and_returns_to_the_ring() {
        let mut buffers = Buffers::new(4, 100).unwrap();
        assert_eq!((buffers.tail, buffers.published), (4, 4));
        let buffer = buffers.lend(2, 7);
        assert_eq!(buffers.filled(&buffer), &[0; 7]);
        buffers.filled(&buffer).copy_from_slice(b"mooring");
        assert_eq!(buffers.filled(&buffer), b"mooring");
        assert_eq!(buffers.lent_count(), 1);
        buffers.recycle(buffer);
        assert_eq!((buffers.lent_count(), buffers.tail, buffers.published), (0, 5, 4));
        buffers.publish();
        assert_eq!(buffers.published, 5);
    }

    #[test]
    fn no_two_buffers_overlap_and_all_lie_within_the_allocation() {
        for (count, bytes) in [(1, 1), (2, 63), (8, 64), (8, 65), (64, 4096)] {
            let buffers = Buffers::new(count, bytes).unwrap();
            let start = buffers.memory.as_ptr() as usize;
            let mut end = start + usize::from(count) * 16;
            for index in 0..count {
                let data = buffers.data(index).as_ptr() as usize;
                assert!(data >= end, "{count} of {bytes}: {index}");
                end = data + bytes as usize;
            }
            assert!(end <= start + buffers.layout.size(), "{count} of {bytes}");
        }
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn the_kernel_cannot_hand_out_a_lent_buffer() {
        let mut buffers = Buffers::new(2, 8).unwrap();
        std::mem::forget(buffers.lend(1, 8));
        std::mem::forget(buffers.lend(1, 8));
    }

    #[test]
    #[should_panic(expected = "not lent by this ring")]
    fn a_buffer_of_another_ring_is_refused() {
        let (mut one, mut other) = (Buffers::new(2, 8).unwrap(), Buffers::new(2, 8).unwrap());
        let buffer = std::mem::ManuallyDrop::new(one.lend(0, 3));
        let _ = other.filled(&buffer);
    }
}
