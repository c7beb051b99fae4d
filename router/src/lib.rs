//! Where a message goes and in which order: sharding, sequencing, fan-out, inboxes.
//!
//! Pure: no socket, disk, clock or thread in it (but for the queues of [`mesh`]); what happens is
//! passed in with the time, what is to be done is returned. The way of a message through it:
//! [`sequencer`] gives it its place, [`commit_window`] holds it until it is durable, [`fan_out`]
//! takes it to its members' cores, [`inbox`] gives it its place in each inbox, and [`sessions`]
//! knows who is there to get it.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod commit_window;
pub mod fan_out;
pub mod inbox;
pub mod membership;
pub mod mesh;
pub mod nonces;
pub mod sequencer;
pub mod sessions;
pub mod shard_map;

/// The atomics of the mesh; under `--cfg loom` those that a model checker steers (`tests/loom.rs`).
mod atomic {
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
    #[cfg(not(loom))]
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
}

/// A hash table over ids that the project assigns. The hash need not withstand an adversary: user
/// and channel numbers are given out by the API and the gateway, not chosen by clients.
pub type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;
