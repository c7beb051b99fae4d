//! What a ring tells its caller: one closed enum.

use bytes::Bytes;
use rustix::io::Errno;

use crate::buffers::BufferId;
use crate::token::Token;

/// A direct descriptor: an index into one ring's table of open files. It means nothing to system
/// calls, nor to another ring (but see [`Completion::Passed`]).
///
/// The kernel hands it out and takes it back on close; after [`Completion::Closed`] the number may
/// name another connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Descriptor(pub(crate) u32);

impl Descriptor {
    /// The descriptor at this place: for those who were told of it as a number. Operations on one
    /// that is not open fail with EBADF.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Its place in the ring's table, below [`crate::RingOptions::descriptors_max`].
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// Something happened. Each operation ends with exactly one completion for which
/// [`Completion::ended`] is its token; those with `armed` may come many times before it.
#[derive(Debug)]
pub enum Completion {
    /// A connection came in. It has TCP_NODELAY, as the listener has.
    Accepted {
        /// The listener's.
        token: Token,
        /// The new connection. It is the caller's to close.
        descriptor: Descriptor,
        /// Whether more will come; otherwise [`crate::Ring::rearm_accept`].
        armed: bool,
    },
    /// Accepting ended. ECANCELED: as asked, and the listener is closed. Anything else (ENFILE: the
    /// table is full, and a connection was lost): [`crate::Ring::rearm_accept`] once a descriptor
    /// was closed.
    AcceptFailed {
        /// The listener's.
        token: Token,
        /// Why.
        errno: Errno,
    },
    /// Bytes arrived.
    Received {
        /// The receive's.
        token: Token,
        /// Where they are; give it back with [`crate::Ring::recycle`].
        buffer: BufferId,
        /// Whether the receive goes on; otherwise arm it again when more is wanted.
        armed: bool,
        /// The socket held more than fitted: re-arm without polling first.
        more_waiting: bool,
    },
    /// The peer has sent everything. The receive has ended.
    EndOfStream {
        /// The receive's.
        token: Token,
    },
    /// There was no free buffer. The receive has ended, and no byte is lost: they wait in the
    /// socket. Keep the token in a list; recycle at least one buffer; then re-arm at most
    /// [`crate::Ring::buffers_free`] of the list, with [`crate::Start::PollFirst`]. Re-arming at
    /// once would only fail again: a multishot receive without buffers fails even on an empty
    /// socket.
    BuffersExhausted {
        /// The receive's.
        token: Token,
    },
    /// The receive has ended. ECANCELED: as asked. Otherwise the connection is broken.
    ReceiveFailed {
        /// The receive's.
        token: Token,
        /// Why.
        errno: Errno,
    },
    /// A polled connection has something to receive (or an end, or an error to be received).
    Ready {
        /// The poll's.
        token: Token,
        /// Whether the poll goes on.
        armed: bool,
        /// The peer has sent everything, or is gone.
        hung_up: bool,
    },
    /// The poll has ended. ECANCELED: as asked.
    PollFailed {
        /// The poll's.
        token: Token,
        /// Why.
        errno: Errno,
    },
    /// A send ended; here are its bytes back.
    Sent {
        /// The send's.
        token: Token,
        /// What was to be sent.
        bytes: Bytes,
        /// How many were taken by the socket. Fewer than all: it broke, or the send was cancelled,
        /// in the middle, and nothing more may be sent.
        result: Result<u32, Errno>,
    },
    /// A connection was made. It has TCP_NODELAY.
    Connected {
        /// The connect's.
        token: Token,
        /// The caller's to close.
        descriptor: Descriptor,
    },
    /// No connection was made, and none is left to close.
    ConnectFailed {
        /// The connect's.
        token: Token,
        /// Why: that of the first step that failed (socket, option, bind, connect).
        errno: Errno,
    },
    /// A connection was put into another ring's table.
    Passed {
        /// The pass's.
        token: Token,
        /// Its descriptor *in the other ring*, which learns of it only from the caller. The one of
        /// this ring is still open and must be closed. On failure nothing changed. ENFILE: the
        /// other table is full, or its ring ended; EOWNERDEAD: so did its thread; EBADFD: the other
        /// ring is not enabled yet.
        result: Result<Descriptor, Errno>,
    },
    /// A descriptor is free again.
    Closed {
        /// The close's.
        token: Token,
        /// EBADF: it was not open.
        result: Result<(), Errno>,
    },
    /// A half of a connection, or both, was shut down.
    ShutDown {
        /// The shutdown's.
        token: Token,
        /// ENOTCONN: the peer was faster.
        result: Result<(), Errno>,
    },
    /// A cancellation was carried out. What it cancelled ends with completions of its own.
    Cancelled {
        /// The cancellation's.
        token: Token,
        /// How many operations it found.
        count: u32,
    },
    /// A [`crate::Waker`] or another ring woke this one.
    Woken,
}

impl Completion {
    /// The token of the operation that ended with this completion; `None` if it goes on. A caller
    /// who counts each submission up and each `Some` down knows when a slot has none in flight.
    #[must_use]
    pub const fn ended(&self) -> Option<Token> {
        match *self {
            Self::Accepted { armed: true, .. }
            | Self::Received { armed: true, .. }
            | Self::Ready { armed: true, .. }
            | Self::Woken => None,
            Self::Accepted { token, .. }
            | Self::AcceptFailed { token, .. }
            | Self::Received { token, .. }
            | Self::EndOfStream { token }
            | Self::BuffersExhausted { token }
            | Self::ReceiveFailed { token, .. }
            | Self::Ready { token, .. }
            | Self::PollFailed { token, .. }
            | Self::Sent { token, .. }
            | Self::Connected { token, .. }
            | Self::ConnectFailed { token, .. }
            | Self::Passed { token, .. }
            | Self::Closed { token, .. }
            | Self::ShutDown { token, .. }
            | Self::Cancelled { token, .. } => Some(token),
        }
    }
}
