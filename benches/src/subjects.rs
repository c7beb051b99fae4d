//! Users, channels and messages for the benches of single stages.

use bytes::Bytes;
use wire::{ChannelId, Content, DeviceId, LogEntry, Nonce, Seq, Timestamp, UserId};

/// Bytes of a chat line.
pub const BODY_BYTES: usize = 64;

/// When everything happens.
pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// The only device of everybody.
pub const DEVICE: DeviceId = DeviceId(1);

/// A user by number, from 1.
///
/// # Panics
///
/// If the number is 0.
#[must_use]
pub const fn user(number: u64) -> UserId {
    UserId::new(number).expect("from 1")
}

/// A group by number, from 1.
///
/// # Panics
///
/// If the number is 0.
#[must_use]
pub const fn group(number: u64) -> ChannelId {
    ChannelId::numbered(number).expect("from 1")
}

/// The body of every message.
#[must_use]
pub fn body() -> Bytes {
    Bytes::from(vec![b'x'; BODY_BYTES])
}

/// A message at its place.
#[must_use]
pub fn entry(channel: ChannelId, seq: Seq, sender: UserId) -> LogEntry {
    LogEntry {
        channel,
        seq,
        sender,
        device: DEVICE,
        nonce: Nonce(seq.get()),
        created_at: NOW,
        content: Content::Message { kind: 0, body: body() },
    }
}
