//! The frames between a device and a gateway: FlatBuffers, verified once.
//!
//! `schema/frame.fbs` is the specification. [`decode_client`] and [`decode_server`] turn bytes
//! into borrowed values whose types hold what the protocol promises; [`Encoder`] turns such values
//! into bytes. No socket, clock or thread, and no allocation on the way of a message.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod client;
mod codes;
mod decode;
mod decode_server;
mod encode;
mod encode_server;
mod error;
mod event;
/// The output of `flatc --rust -o <folder> wire/schema/frame.fbs`, as it is; `cargo xtask codegen`
/// writes and checks it.
#[allow(
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    clippy::nursery,
    warnings,
    reason = "generated: its unchecked accessors stay behind the verifier of `decode`"
)]
#[rustfmt::skip]
mod generated;
mod ids;
pub mod limits;
mod lists;
mod log;
mod number;
pub mod server;
mod template;
#[cfg(test)]
mod tests;

pub use client::{ClientBody, ClientFrame};
pub use codes::{CLOSE_REASON_BYTES_MAX, ClientAction, CloseCode, RejectCode};
pub use decode::{CLIENT_IDENTIFIER, SERVER_IDENTIFIER, decode_client};
pub use decode_server::decode_server;
pub use encode::Encoder;
pub use error::{Fault, FieldError, Rule, WireError};
pub use event::{ChannelCreated, Deliver, Event, MembershipChange, Message, ReadMarker};
pub use ids::{
    BatchNumber, ChannelId, CoreId, DeviceId, Epoch, InboxSeq, Nonce, Seq, SessionId, ShardId,
    Timestamp, UserId,
};
pub use lists::{Conversations, Deliveries, Events, Users};
pub use log::{
    ChannelKind, Content, Conversation, InboxEntry, InboxItem, LogEntry, Member, MembershipOp, Role,
};
pub use server::{ServerBody, ServerFrame};
pub use template::{MESSAGE_HEAD_BYTES_MAX, Template, patch_inbox_seq};
