//! What is fuzzed: functions of bytes that panic if something does not hold.
//!
//! The targets in `fuzz_targets` hand them what libFuzzer makes up; the tests replay what it has
//! found worth keeping (`corpus`), so that every machine runs that much. A function takes any
//! bytes, keeps nothing between two calls, and does the same for the same bytes.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod auth;
pub mod canary;
pub mod config;
pub mod frames;
pub mod handshake;
pub mod shard;
pub mod store_records;
pub mod websocket;

/// A function of bytes under its target's name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets whose functions must hold; the canary's must not.
pub const TARGETS: [Target; 8] = [
    ("auth", auth::run),
    ("config", config::run),
    ("frames", frames::run),
    ("handshake_client", handshake::client),
    ("handshake_server", handshake::server),
    ("shard", shard::run),
    ("store", store_records::run),
    ("websocket", websocket::run),
];
