//! A virtual host: several cores of one run on a virtual kernel, disk and clock.
//!
//! ```text
//!  Client (ws, wire) <--bytes--> Kernel --Event--> Shard --Effect--> Kernel, Disk
//!        |                                           |  mesh between the cores
//!     Heard, checked                              Disk: Memory, Committer, answer()
//! ```
//!
//! Nothing here has a thread, a clock or randomness of its own: whatever may happen next is a
//! [`host::Step`], and the [`pace::Pace`] (even, or seeded) chooses the step and how far it goes.
//! So a run is its seed. [`script`] writes scenarios down as text.
//!
//! Two things are checked of every frame that a client hears, in every test: what is acknowledged
//! or delivered is in the log on the disk, and live entries follow each other without a gap.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod client;
mod cores;
pub(crate) mod disk;
pub(crate) mod heard;
pub(crate) mod host;
pub(crate) mod kernel;
pub(crate) mod pace;
pub(crate) mod platter;
pub(crate) mod script;
pub(crate) mod setup;
