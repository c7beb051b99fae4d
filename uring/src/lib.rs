//! The io_uring of one reactor thread: operations in, completions out.
//!
//! It wraps the `io-uring` crate and knows nothing of WebSocket, frames or sessions. All of the
//! project's hand-written `unsafe` is in it, and all it asks of a caller is safe code.
//!
//! # A turn
//!
//! ```no_run
//! # use uring::{Completion, ListenOptions, Ring, RingOptions, Shots, Start, Token, listen};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ring = Ring::new(&RingOptions::default())?;
//! ring.accept(listen("127.0.0.1:8080".parse()?, ListenOptions::default())?, Token::new(0, 0));
//! loop {
//!     ring.submit_and_wait(1, None)?;
//!     while let Some(completion) = ring.next_completion() {
//!         match completion {
//!             Completion::Accepted { descriptor, .. } => {
//!                 let token = Token::new(descriptor.index() + 1, 0);
//!                 ring.receive(descriptor, token, Shots::Many, Start::TryFirst);
//!             }
//!             Completion::Received { buffer, .. } => {
//!                 let bytes = ring.buffer(&buffer);
//!                 bytes.reverse();
//!                 ring.recycle(buffer);
//!             }
//!             _ => {}
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! # Who owns what
//!
//! The kernel works with memory of ours after the call that named it has returned. So each piece of
//! memory is, at any time, in one of four states:
//!
//! - *ours*: with the caller. A receive buffer is lent: a [`BufferId`] names it, [`Ring::buffer`]
//!   reaches it.
//! - *the kernel's*: a send's bytes and a connect's addresses stand in the ring's table of flights
//!   from the submission to the completion. A receive buffer is on the buffer ring, from
//!   [`Ring::recycle`] to the completion that names it.
//! - *orphaned*: the caller's slot is gone, and the operation is not. Everything stays as it was
//!   until its completion, which carries the old generation; a buffer that it lends is recycled.
//! - *returned*: [`Completion::Sent`] hands the bytes back, addresses are freed, buffers are lent.
//!
//! - **Memory is the ring's matter.** No caller can make the kernel read freed bytes or write to
//!   them: sends own their bytes, buffers are reached only while lent, and dropping a ring cancels
//!   everything and waits until the kernel has let go of all of it.
//! - **Slots are the caller's matter.** Each operation ends with exactly one completion of which
//!   [`Completion::ended`] tells its token. The caller counts its operations up when it submits and
//!   down then; at zero nothing can come for the slot any more, and it may be used again. A caller
//!   who reuses slots earlier bumps the generation and drops completions with an old one, after
//!   recycling their buffer.
//! - **Descriptors are the caller's matter.** A [`Descriptor`] is a number, not an owner: whoever
//!   is told of one ([`Completion::Accepted`], [`Completion::Connected`], or another core that
//!   passed it) closes it once.
//!
//! # Bounds
//!
//! They are [`RingOptions`]' fields, each with what happens at it. Nothing waits inside but
//! [`Ring::submit_and_wait`] and the drop of a ring; [`Ring::stats`] counts the events that say a
//! bound was too low.

#![warn(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

mod buffers;
mod completion;
mod error;
mod flights;
mod listen;
mod ops;
mod options;
mod probe;
mod ring;
mod submit;
mod token;
mod translate;
mod wake;

pub use buffers::BufferId;
pub use completion::{Completion, Descriptor};
pub use error::{Full, RingError};
pub use listen::{ListenOptions, Listener, listen};
pub use ops::{Half, Shots, Start};
pub use options::RingOptions;
pub use probe::{KERNEL_FOR_CONNECT, KERNEL_MINIMUM, Support, probe};
pub use ring::{PreparedRing, Ring, Stats};
pub use rustix::io::Errno;
pub use submit::SEND_BYTES_MAX;
pub use token::Token;
pub use wake::{PeerId, RingHandle, Waker};
