//! Sessions for networks that refuse WebSocket, over plain HTTP.
//!
//! ```text
//!  device                         here                                    gateway
//!    | GET inbox?after=7&wait=60    |                                        |
//!    |----------------------------->| the device's session, from the pool    |
//!    |                              |---- Hello, as the device, cursor 7 --->|
//!    |                              |<--- entries from 8 on -----------------|
//!    |<------ entries 8 to 12 ------| held until the device says 12          |
//!    | GET inbox?after=12&wait=60   |                                        |
//!    |----------------------------->|---- CursorAck 12 --------------------->|
//! ```
//!
//! A device that polls has a session of the core like any other, made with its own access token:
//! the same inbox, cursor, order, nonces and limits. It lives in a [`Pool`] between two requests.
//! Nothing else is kept here: a device that comes to another process, or after the session was
//! given up, says the place up to which it has everything, and gets what follows.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod json;
mod pool;
mod problem;
mod routes;
mod window;

pub use pool::{Identity, Pool, Settings, Verify, Verifying};
pub use routes::{FRAME_MEDIA_TYPE, router};
