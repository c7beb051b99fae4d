//! The frames between a device and a gateway: FlatBuffers, verified once.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod ids;
mod log;

pub use ids::{BatchNumber, ChannelId, CoreId, DeviceId, InboxSeq, Nonce, Seq, ShardId, Timestamp, UserId};
pub use log::{
    ChannelKind, Content, Conversation, InboxEntry, InboxItem, LogEntry, Member, MembershipOp, Role,
};
