//! Getting a core out of the kernel from another thread.
//!
//! Two ways, because which is cheaper depends on who wakes: a [`Waker`] writes to an eventfd (one
//! system call, from any thread); [`crate::Ring::wake_peer`] queues a message that leaves with the
//! next submission (no system call of its own, from threads that have a ring). Both come out as
//! [`crate::Completion::Woken`].
//!
//! Neither is needed while the target is awake; telling that is the caller's matter.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Wakes one ring from any thread. Clones wake the same ring; one that outlives it does nothing.
///
/// It is an eventfd, and so of use to a thread that waits in another way as well.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// One that wakes no ring: whoever waits for its descriptor to become readable.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE or ENOMEM: there is no descriptor or memory left.
    pub fn new() -> Result<Self, Errno> {
        // Non-blocking: a waker must never wait. It could only, had it woken 2^64 times.
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        eventfd(0, flags).map(|descriptor| Self(Arc::new(descriptor)))
    }

    /// Makes the ring's present or next wait return. Wakes that the target has not seen yet may
    /// be seen as one.
    pub fn wake(&self) {
        // The counter is never read: the ring polls for writes, and each one triggers. So the only
        // error a valid eventfd knows, EAGAIN at a full counter, cannot be reached.
        let written = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        debug_assert_eq!(written, Ok(8));
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Names a ring to other rings, as the target of [`crate::Ring::add_peer`].
#[derive(Clone, Debug)]
pub struct RingHandle(pub(crate) Arc<OwnedFd>);

impl AsFd for RingHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A peer ring as its number within the ring that added it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerId(pub(crate) u32);
