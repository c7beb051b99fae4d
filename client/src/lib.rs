//! The Rust client of Mooring, for bots and services.
//!
//! ```text
//!  application --> Client, Service --> driver (tokio: socket, clock) --> gateway
//!                        |                |
//!                        +---- Machine ---+   pure: bytes, time and wishes in;
//!                                 |           bytes, events and outcomes out
//!                               Store         cursor and queue, over restarts
//! ```
//!
//! [`Client`] is a device's session, [`Service`] that of a service which asks for many people.
//! Both outlive their connections: what had no answer is sent again under its nonce, what was
//! missed is fetched from the cursor on. `docs/client.md` says what that promises.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod backoff;
mod client;
mod config;
mod driver;
mod error;
mod event;
mod gateways;
pub mod machine;
mod request;
mod service;
mod store;
mod store_file;

pub use address::{Address, AddressError};
pub use client::{Client, Events};
pub use config::{Config, ConfigError, Fetching, Tokens};
pub use error::{End, Lost, RequestError};
pub use event::{Created, Entry, Event, Membership, Message, Online, What};
pub use gateways::{
    DiscoveryError, GATEWAYS_MAX, Gateway, GatewayList, Gateways, Listing, StaticGateways,
};
pub use machine::{Keeping, RequestId};
pub use request::{Answer, ChannelPage, Conversation, HistoryPage, Request};
pub use service::Service;
pub use store::{InMemory, Store};
pub use store_file::FileStore;
