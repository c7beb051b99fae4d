//! The frames between a device and a gateway: FlatBuffers, verified once.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod ids;

pub use ids::{
    ChannelId, CoreId, DeviceId, InboxSeq, Nonce, Seq, ShardId, Timestamp, UserId,
};
