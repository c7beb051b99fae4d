//! What a WebSocket conformance suite is pointed at.
//!
//! [`echo`] is a policy for the gateway's own reactor: accepting, receive buffers, the table of
//! connections, send queues, blocks and closing are the product's, and only what is said in return
//! is not. [`client`] is the other role, on a ring of its own, as the load generator has it. Both
//! take text, which the product refuses with 1003: most of what a suite asks is asked in text.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod client;
pub mod echo;

/// Bytes of the longest message that either takes: the suite goes up to 16 MiB.
pub const MESSAGE_BYTES_MAX: u32 = 16 << 20;
