//! Which gateway a client should connect to.
//!
//! ```text
//! gateway --Record--> announce --ephemeral node--> ZooKeeper --watch--> follow --+
//! gateway --Record------------------- in one process ---------------------------+--> Board
//!                                                                                     |
//! client  --GET /v1/gateways--> routes --> Board::answer --> choose (pure) <----------+
//! ```
//!
//! Gateways make themselves known with their load, in ZooKeeper or, where all is one process, on
//! the [`Board`] itself. [`choose()`] is a pure function of what is known. Nothing here knows the
//! core, and a record says nothing of channels or users: any gateway may serve any client.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod board;
mod choose;
mod record;
mod routes;
pub mod zookeeper;

pub use board::{Answer, Board, Recommended};
pub use choose::{Asker, CHOICES_MAX, Candidate, candidates, choose};
pub use record::{ID_BYTES_MAX, Record, RecordError, Rollout};
pub use routes::routes;
