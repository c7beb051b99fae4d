//! The protocol as seen from outside: tables of byte streams and what must come of them.

mod common;
mod handshake;
mod properties;
mod session;
