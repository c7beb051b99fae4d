//! The ring itself: how it is made, entered and ended. Its operations are in `submit.rs`, what
//! comes out of it in `translate.rs`.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring};
use rustix::io::Errno;

use crate::buffers::Buffers;
use crate::error::RingError;
use crate::flights::Flights;
use crate::listen::Listener;
use crate::ops::{self, BUFFER_GROUP};
use crate::options::RingOptions;
use crate::probe::{self, KERNEL_MINIMUM, Support};
use crate::token::{Kind, Token, UserData};
use crate::wake::{RingHandle, Waker};

/// What a ring counted since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// System calls.
    pub enters: u64,
    /// Completions taken from the kernel, including those the ring handled itself.
    pub completions: u64,
    /// Receives that found no free buffer.
    pub buffers_exhausted: u64,
    /// Times the completion queue was found full, with completions waiting in kernel memory. None
    /// is lost, but each costs an allocation: make `cq_entries` larger.
    pub overflows: u64,
    /// Times the kernel took no submissions for want of memory. They are kept and tried again.
    pub refusals: u64,
    /// Wakes or discards that failed; a wake fails when its target has ended.
    pub failures: u64,
}

/// The kernel's side of a ring: what is registered, and its orderly end.
struct Registered {
    uring: IoUring,
    buffers: Buffers,
}

/// A ring that does nothing yet. It may be made on one thread and enabled on another.
pub struct PreparedRing {
    registered: Registered,
    flights: Flights,
    waker: Waker,
    handle: RingHandle,
    support: Support,
}

/// The ring of one thread. See the crate's documentation for who owns what.
pub struct Ring {
    pub(crate) flights: Flights,
    pub(crate) listeners: Vec<(Token, Listener)>,
    pub(crate) peers: Vec<RingHandle>,
    /// Submissions that found no room even after the kernel was asked to take some.
    spill: VecDeque<Entry>,
    /// Submissions that owe a final completion.
    pub(crate) in_flight: u32,
    pub(crate) closing: bool,
    pub(crate) stats: Stats,
    support: Support,
    waker: Waker,
    handle: RingHandle,
    registered: Registered,
    /// The kernel accepts submissions from the enabling thread alone.
    _of_one_thread: PhantomData<*const ()>,
}

/// Whether an enter asks for completions.
#[derive(Clone, Copy)]
enum Wait {
    /// Only hand over submissions.
    No,
    /// Run deferred work, and wait for this many completions or this long.
    For(u32, Option<Duration>),
}

impl PreparedRing {
    /// For [`Ring::add_peer`] of other rings. Messages sent before [`PreparedRing::enable`] fail.
    #[must_use]
    pub fn handle(&self) -> RingHandle {
        self.handle.clone()
    }

    /// Wakes this ring from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Makes it the ring of the calling thread, for good.
    ///
    /// # Errors
    ///
    /// [`RingError::Kernel`], which no known cause leads to.
    pub fn enable(self) -> Result<Ring, RingError> {
        self.registered
            .uring
            .submitter()
            .register_enable_rings()
            .map_err(|error| RingError::of("io_uring_register(ENABLE_RINGS)", &error))?;
        let mut ring = Ring {
            flights: self.flights,
            listeners: Vec::new(),
            peers: Vec::new(),
            spill: VecDeque::new(),
            in_flight: 0,
            closing: false,
            stats: Stats::default(),
            support: self.support,
            waker: self.waker,
            handle: self.handle,
            registered: self.registered,
            _of_one_thread: PhantomData,
        };
        ring.arm_waker();
        Ok(ring)
    }
}

impl Ring {
    /// A ring for the calling thread.
    ///
    /// # Errors
    ///
    /// As [`Ring::prepare`] and [`PreparedRing::enable`].
    pub fn new(options: &RingOptions) -> Result<Self, RingError> {
        Self::prepare(options)?.enable()
    }

    /// A ring for whichever thread enables it.
    ///
    /// # Errors
    ///
    /// Any [`RingError`]; [`RingError::is_unavailable`] tells whether rings are impossible here.
    pub fn prepare(options: &RingOptions) -> Result<PreparedRing, RingError> {
        options.check()?;
        let uring = setup(options.sq_entries, options.cq_entries)?;
        let support = probe::examine(&uring)?;
        let buffers = Buffers::new(options.buffers, options.buffer_bytes)
            .ok_or(RingError::Memory { call: "receive buffers" })?;
        uring
            .submitter()
            .register_files_sparse(options.descriptors_max)
            .map_err(|error| RingError::of("io_uring_register(FILES2)", &error))?;
        let (address, count) = (buffers.ring_address(), buffers.count());
        // SAFETY: the entries at `address` live as long as `Registered`, which unregisters them
        // before they are freed, and leaves them allocated should that fail.
        unsafe { uring.submitter().register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0) }
            .map_err(|error| RingError::of("io_uring_register(PBUF_RING)", &error))?;
        let registered = Registered { uring, buffers };
        Ok(PreparedRing {
            flights: Flights::new(options.flights_max),
            waker: Waker::new().map_err(|source| RingError::Kernel { call: "eventfd", source })?,
            handle: registered.handle()?,
            registered,
            support,
        })
    }

    /// What the kernel offers beyond the minimum.
    #[must_use]
    pub const fn support(&self) -> &Support {
        &self.support
    }

    /// For [`Ring::add_peer`] of other rings.
    #[must_use]
    pub fn handle(&self) -> RingHandle {
        self.handle.clone()
    }

    /// Wakes this ring from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Submissions that owe a final completion. One of them is the ring's own, for its waker.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Bytes of the buffers and their ring, all of which the kernel goes through in turn.
    #[must_use]
    pub const fn buffer_memory_bytes(&self) -> usize {
        self.registered.buffers.memory_bytes()
    }

    /// Buffers that are not lent to the caller. Some of them may hold data of completions that were
    /// not taken yet.
    #[must_use]
    pub const fn buffers_free(&self) -> u16 {
        self.registered.buffers.count() - self.registered.buffers.lent_count()
    }

    /// Hands over everything submitted and recycled so far, runs what the kernel deferred, and
    /// waits until `want` completions are there or `timeout` has passed (`None`: without end).
    /// With `want` 0 it does not wait. It may return early, with fewer.
    ///
    /// # Errors
    ///
    /// [`RingError::Kernel`] if the ring cannot be used any more; interruption, timeout and want of
    /// memory are not errors.
    pub fn submit_and_wait(
        &mut self,
        want: u32,
        timeout: Option<Duration>,
    ) -> Result<(), RingError> {
        self.unspill()?;
        // Submissions that are still held back must not wait for completions that depend on them.
        let want = if self.spill.is_empty() { want } else { 0 };
        self.enter(Wait::For(want, timeout))
    }

    /// Queues `entry`. Its kind, if counted, owes one final completion.
    pub(crate) fn push(&mut self, kind: Kind, entry: Entry) {
        self.in_flight += u32::from(kind.is_counted());
        if !self.make_room(1) || !self.push_now(&entry) {
            self.spill.push_back(entry);
        }
    }

    /// Queues a chain of linked entries that owes one completion, into one submission. `false` if
    /// the kernel will not make room.
    pub(crate) fn push_chain(&mut self, entries: &[Entry]) -> bool {
        if !self.make_room(entries.len()) {
            return false;
        }
        self.in_flight += 1;
        for entry in entries {
            assert!(self.push_now(entry), "room was made for the whole chain");
        }
        true
    }

    pub(crate) fn arm_waker(&mut self) {
        let entry = ops::poll_waker(&self.waker);
        self.push(Kind::Wake, entry);
    }

    pub(crate) const fn buffers_mut(&mut self) -> &mut Buffers {
        &mut self.registered.buffers
    }

    pub(crate) const fn uring_mut(&mut self) -> &mut IoUring {
        &mut self.registered.uring
    }

    fn make_room(&mut self, entries: usize) -> bool {
        let has_room = |uring: &mut IoUring| {
            let queue = uring.submission();
            queue.capacity() - queue.len() >= entries
        };
        if !self.spill.is_empty() {
            return false;
        }
        if has_room(&mut self.registered.uring) {
            return true;
        }
        // An error shows again, and is told, at the next wait.
        self.enter(Wait::No).is_ok() && has_room(&mut self.registered.uring)
    }

    fn push_now(&mut self, entry: &Entry) -> bool {
        let mut queue = self.registered.uring.submission();
        // SAFETY: `entry` was made by `ops`. The memory it points to, if any, is a `Bytes` or a
        // boxed `Route` in `flights`, kept until the operation's completion, or a static. Receives
        // point to nothing: they take provided buffers, which live until the kernel let go of them.
        unsafe { queue.push(entry) }.is_ok()
    }

    fn unspill(&mut self) -> Result<(), RingError> {
        while let Some(entry) = self.spill.pop_front() {
            if self.push_now(&entry) {
                continue;
            }
            let refusals = self.stats.refusals;
            self.enter(Wait::No)?;
            if !self.push_now(&entry) {
                self.spill.push_front(entry);
                debug_assert!(self.stats.refusals > refusals, "no room, and no refusal");
                return Ok(());
            }
        }
        Ok(())
    }

    fn enter(&mut self, wait: Wait) -> Result<(), RingError> {
        self.registered.buffers.publish();
        self.stats.enters += 1;
        let (submitter, mut queue, _) = self.registered.uring.split();
        self.stats.overflows += u64::from(queue.cq_overflow());
        queue.sync();
        let queued = u32::try_from(queue.len()).expect("at most 32768 entries");
        drop(queue);

        let mut flags = EnterFlags::EXT_ARG;
        if self.support.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let (mut want, mut timespec) = (0, None);
        if let Wait::For(count, timeout) = wait {
            // Even without waiting: only an enter with it runs deferred work.
            flags |= EnterFlags::GETEVENTS;
            want = count;
            timespec = timeout.map(Timespec::from);
        }
        let args = match &timespec {
            Some(timespec) => SubmitArgs::new().timespec(timespec),
            None => SubmitArgs::new(),
        };
        // SAFETY: EXT_ARG announces `args`, which has the layout the kernel expects and lives, with
        // the timespec it points to, until the call returns. What the entries point to is kept: see
        // `push_now`.
        let result = unsafe { submitter.enter(queued, want, flags.bits(), Some(&args)) };
        match result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
            Ok(_) | Err(Errno::INTR | Errno::TIME) => Ok(()),
            Err(Errno::AGAIN | Errno::BUSY) => {
                self.stats.refusals += 1;
                Ok(())
            }
            Err(source) => Err(RingError::Kernel { call: "io_uring_enter", source }),
        }
    }

    /// Cancels everything and waits until the kernel has let go of all of it.
    fn quiesce(&mut self) -> Result<(), RingError> {
        self.closing = true;
        while self.in_flight > 0 {
            // Again in each turn: an operation that was just being carried out is missed by one
            // cancellation and found by the next.
            let id = UserData::of_ring(Kind::Teardown);
            self.push(Kind::Teardown, ops::cancel(&ops::Aim::Everything, id));
            self.submit_and_wait(1, None)?;
            while let Some(completion) = self.next_completion() {
                if let crate::Completion::Received { buffer, .. } = completion {
                    self.recycle(buffer);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.quiesce().is_err() {
            // The kernel may still read what is in flight and write to buffers: better to lose the
            // memory than to have it changed under its next owner.
            std::mem::forget(std::mem::take(&mut self.flights));
            self.registered.buffers.abandon();
        }
    }
}

impl Registered {
    /// A handle of its own, so that a peer can still name this ring (in vain) after it ended.
    fn handle(&self) -> Result<RingHandle, RingError> {
        // SAFETY: `uring` keeps the descriptor open for longer than this borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) };
        rustix::io::fcntl_dupfd_cloexec(descriptor, 0)
            .map(|duplicate| RingHandle(Arc::new(duplicate)))
            .map_err(|source| RingError::Kernel { call: "fcntl(F_DUPFD_CLOEXEC)", source })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Handles may keep the kernel's ring alive, so closing is not enough: connections that a
        // peer passes on would be kept in a table nobody looks at. An error means that there is no
        // table, which is what is wanted.
        let _ = self.uring.submitter().unregister_files();
        if self.uring.submitter().unregister_buf_ring(BUFFER_GROUP).is_err() {
            self.buffers.abandon();
        }
    }
}

/// `io_uring_setup`, with the flags of a ring that belongs to one thread.
pub(crate) fn setup(sq_entries: u32, cq_entries: u32) -> Result<IoUring, RingError> {
    let result = IoUring::builder()
        // Disabled until its thread enables it: that thread becomes the single issuer.
        .setup_r_disabled()
        // Promises that one thread submits, so the kernel need not lock. DEFER_TASKRUN needs it.
        .setup_single_issuer()
        // Completion work runs when we ask for completions, in one go, instead of interrupting.
        .setup_defer_taskrun()
        // A submission that fails at once posts its error, and the rest of the batch still goes.
        .setup_submit_all()
        .setup_cqsize(cq_entries)
        .dontfork()
        .build(sq_entries);
    result.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
            probe::forbidden(sysctl.as_deref())
        }
        Some(Errno::NOSYS) => RingError::Missing,
        // The sizes were checked, so it is a flag.
        Some(Errno::INVAL) => RingError::TooOld {
            kernel: probe::kernel_release(),
            missing: "rings with deferred task work".to_owned(),
            minimum: KERNEL_MINIMUM,
        },
        _ => RingError::of("io_uring_setup", &error),
    })
}
