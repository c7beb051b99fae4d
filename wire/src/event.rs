//! The events of an inbox: `Event` and `Deliver` of the schema as plain borrowed values.

use crate::log::{ChannelKind, Content, LogEntry, MembershipOp, Role};
use crate::{ChannelId, DeviceId, InboxSeq, Nonce, Seq, Timestamp, UserId, Users};

/// What an inbox entry or a place of a channel's log tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A message.
    Message(Message<'a>),
    /// Somebody has read.
    ReadMarker(ReadMarker),
    /// Members came or went.
    MembershipChange(MembershipChange<'a>),
    /// A channel was made.
    ChannelCreated(ChannelCreated<'a>),
    /// An event of a later version: its number in the union, or [`Event::UNKNOWN`] for a known one
    /// with an operation or kind that this version does not know. It counts and is not shown.
    Unknown(u8),
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// With `seq`, the message id.
    pub channel: ChannelId,
    /// Its place; not 0.
    pub seq: Seq,
    /// Who sent it.
    pub sender: UserId,
    /// From which of her devices.
    pub device: DeviceId,
    /// When it was given its place.
    pub created_at: Timestamp,
    /// The device's own id for the send.
    pub nonce: Nonce,
    /// `MessageKind`, or the application's own.
    pub kind: u8,
    /// `None` in the sending device's own copy.
    pub body: Option<&'a [u8]>,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadMarker {
    /// Which channel.
    pub channel: ChannelId,
    /// Who has read.
    pub user: UserId,
    /// Up to which place.
    pub seq: Seq,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MembershipChange<'a> {
    /// Which channel.
    pub channel: ChannelId,
    /// Its place; not 0.
    pub seq: Seq,
    /// When it was given its place.
    pub created_at: Timestamp,
    /// Who did it.
    pub actor: UserId,
    /// From which of her devices.
    pub device: DeviceId,
    /// The device's own id for the request.
    pub nonce: Nonce,
    /// What was done.
    pub op: MembershipOp,
    /// The role of those added. One that this version does not know is read as `Member`.
    pub role: Role,
    /// Those who came or went; not empty.
    pub members: Users<'a>,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelCreated<'a> {
    /// The new channel.
    pub channel: ChannelId,
    /// Its place; not 0.
    pub seq: Seq,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub creator: UserId,
    /// From which of her devices.
    pub device: DeviceId,
    /// The device's own id for the request.
    pub nonce: Nonce,
    /// What it is.
    pub kind: ChannelKind,
    /// For humans, may be empty.
    pub title: &'a str,
    /// All first members, the creator among them; not empty.
    pub members: Users<'a>,
}

/// One entry of the user's inbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deliver<'a> {
    /// Its place; not 0.
    pub inbox_seq: InboxSeq,
    /// What it tells.
    pub event: Event<'a>,
}

impl Event<'_> {
    /// Stands for a known event that carries a value of a later version.
    pub const UNKNOWN: u8 = u8::MAX;

    /// `Deliver`, the event's table, both vtables and all padding, without body, list and title:
    /// the largest is `ChannelCreated` (a test measures it).
    const FIXED_BYTES_MAX: usize = 160;

    /// At most so many bytes does this event take in a page or in a `Deliver`. A page is full
    /// before the sum of its entries passes `SERVER_FRAME_BYTES_MAX` − 256.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let variable = match self {
            Self::Message(message) => message.body.map_or(0, <[u8]>::len),
            Self::MembershipChange(change) => size_of::<u64>() * change.members.len(),
            Self::ChannelCreated(created) => {
                size_of::<u64>() * created.members.len() + created.title.len()
            }
            Self::ReadMarker(_) | Self::Unknown(_) => 0,
        };
        Self::FIXED_BYTES_MAX + variable
    }

    /// The same event as the sending device gets it: it has the body already.
    #[must_use]
    pub const fn without_body(self) -> Self {
        match self {
            Self::Message(message) => Self::Message(Message { body: None, ..message }),
            other => other,
        }
    }
}

impl LogEntry {
    /// The entry as the inboxes and the history tell it.
    #[must_use]
    pub fn as_event(&self) -> Event<'_> {
        let Self { channel, seq, sender, device, nonce, created_at, .. } = *self;
        match &self.content {
            Content::Message { kind, body } => Event::Message(Message {
                channel,
                seq,
                sender,
                device,
                created_at,
                nonce,
                kind: *kind,
                body: Some(body),
            }),
            Content::Membership { op, role, members } => {
                Event::MembershipChange(MembershipChange {
                    channel,
                    seq,
                    created_at,
                    actor: sender,
                    device,
                    nonce,
                    op: *op,
                    role: *role,
                    members: Users::from(&**members),
                })
            }
            Content::Created { kind, title, members } => Event::ChannelCreated(ChannelCreated {
                channel,
                seq,
                created_at,
                creator: sender,
                device,
                nonce,
                kind: *kind,
                title,
                members: Users::from(&**members),
            }),
        }
    }
}

impl<'a> From<&'a LogEntry> for Event<'a> {
    fn from(entry: &'a LogEntry) -> Self {
        entry.as_event()
    }
}
