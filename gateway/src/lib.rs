//! Joins the ring, the codecs, the router and the store into cores.
//!
//! ```text
//!            completions                     events
//!  kernel ----------------> reactor.rs ------------------> shard.rs  (policy: no system call)
//!         <---------------- (no policy) <----------------  wire, ws, router, batches
//!            submissions                     effects
//! ```
//!
//! The only crate that knows all five. Time, randomness and the ring's operations are at the edge:
//! [`shard::Shard`] is told the time with each event, so a simulator replaces [`reactor`] alone.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod admission;
pub mod auth;
pub mod bearer;
pub mod budget;
pub mod check;
pub mod clock;
pub mod committing;
pub mod config;
pub mod connection;
pub mod evacuation;
pub mod event;
pub mod host_memory;
pub mod limits;
mod listening;
pub mod memory;
pub mod messages;
pub mod metrics;
pub mod outgoing;
pub mod policy;
pub mod pools;
mod portable;
pub mod reactor;
pub mod send_queue;
pub mod server;
pub mod shard;
pub mod shell;
pub mod wheel;

/// Whether this build can break itself on purpose: never what is shipped.
pub const BREAKS_ITSELF: bool = variants::ON;

/// The ids that a command line names.
pub mod ids {
    pub use wire::{DeviceId, UserId};
}

/// What a host must offer to the rings: for a look at it before a start.
pub mod host {
    pub use uring::{KERNEL_MINIMUM, ListenOptions, RingError, Support, probe};
}
