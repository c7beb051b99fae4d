//! Getting a core out of the kernel from another thread.
//!
//! Two ways, because which is cheaper depends on who wakes: a [`Waker`] writes to an eventfd (one
//! system call, from any thread); [`crate::Ring::wake_peer`] queues a message that leaves with the
//! next submission (no system call of its own, from threads that have a ring). Both come out as
//! [`crate::Completion::Woken`].
//!
//! Neither is needed while the target is awake: [`Sleeper`] is the rule for that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Wakes one ring from any thread. Clones wake the same ring; one that outlives it does nothing.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(crate) fn new() -> Result<Self, Errno> {
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

/// Whether a core sleeps: at most one wake for each sleep, and none while it is awake.
///
/// The core, before it waits:
///
/// 1. [`Sleeper::announce`];
/// 2. looks at its queues once more; if there is work, [`Sleeper::cancel`], and does it;
/// 3. waits in the kernel, then [`Sleeper::cancel`].
///
/// A producer: pushes to the queue, then wakes if [`Sleeper::claim`] says so.
///
/// No wake is lost: the core stores, fences and reads the queue; the producer writes the queue,
/// fences and reads the flag. In the order of the two fences whoever comes second sees what the
/// other one wrote.
#[derive(Debug, Default)]
pub struct Sleeper(AtomicBool);

impl Sleeper {
    /// The core is about to sleep. It must look at its queues after this.
    pub fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The core is awake again, or will not sleep after all.
    pub fn cancel(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the caller, who has just pushed to a queue, is the one who must wake the core.
    #[must_use = "the core sleeps until it is woken"]
    pub fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        // The load comes first so that producers of a busy core share its line instead of
        // passing it around.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_producer_wakes_a_sleeping_core_and_none_a_waking_one() {
        let sleeper = Sleeper::default();
        assert!(!sleeper.claim());
        sleeper.announce();
        assert!(sleeper.claim());
        assert!(!sleeper.claim(), "the second producer need not wake it again");
        sleeper.announce();
        sleeper.cancel();
        assert!(!sleeper.claim());
    }
}
