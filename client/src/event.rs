//! What happens to a session, in owned values.

use std::time::Duration;

use bytes::Bytes;
use wire::server::Resume;
use wire::{
    ChannelId, ChannelKind, DeviceId, Epoch, InboxSeq, MembershipOp, Nonce, Role, Seq, SessionId,
    Timestamp, UserId,
};

use crate::error::{End, Lost, RequestError};
use crate::request::Answer;

/// What a session tells its application, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The gateway has welcomed us.
    Online(Online),
    /// There is no connection; the next one is tried by itself.
    Offline {
        /// What happened.
        lost: Lost,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// An entry of the inbox.
    Inbox(Entry),
    /// Somebody is composing.
    Typing {
        /// Where.
        channel: ChannelId,
        /// Who.
        user: UserId,
    },
    /// What became of a request that an earlier run had left in the store.
    Settled {
        /// Of the request.
        nonce: Nonce,
        /// Of it.
        outcome: Result<Answer, RequestError>,
    },
    /// The store failed: the cursor, or that a request is over, is not in it. After a restart some
    /// entries come again, and some requests are asked again, to the same effect.
    StoreFailed(String),
    /// The session is over. The last event.
    Ended(End),
}

/// What `Welcome` said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Online {
    /// Names the session in the gateway's logs.
    pub session: SessionId,
    /// Whose it is; `None` for a service.
    pub user: Option<UserId>,
    /// Names this history of the inbox.
    pub epoch: Epoch,
    /// What became of the cursor. `Reset` voids what was kept of the inbox.
    pub resume: Resume,
    /// The newest place of the inbox.
    pub inbox_head: InboxSeq,
}

/// One entry of the inbox: its place, and what it tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place; [`crate::Client::keep`] takes it.
    pub inbox_seq: InboxSeq,
    /// What it tells.
    pub what: What,
}

/// What an entry of an inbox, or a place of a channel's log, tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A message.
    Message(Message),
    /// Members came or went.
    Membership(Membership),
    /// A channel was made.
    Created(Created),
    /// Somebody has read up to a place.
    Read {
        /// Which channel.
        channel: ChannelId,
        /// Who.
        user: UserId,
        /// Up to which place.
        seq: Seq,
    },
    /// Something of a later version. It counts and is not shown.
    Unknown,
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// With `seq`, the message id.
    pub channel: ChannelId,
    /// Its place in the channel.
    pub seq: Seq,
    /// Who sent it.
    pub sender: UserId,
    /// From which of her devices.
    pub device: DeviceId,
    /// When it was given its place.
    pub created_at: Timestamp,
    /// The device's own id for the send.
    pub nonce: Nonce,
    /// 0 is text.
    pub kind: u8,
    /// Absent in this device's own copy, unless it comes by a page.
    pub body: Option<Bytes>,
}

/// Members came or went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Which channel.
    pub channel: ChannelId,
    /// Its place in the channel.
    pub seq: Seq,
    /// When.
    pub created_at: Timestamp,
    /// Who did it.
    pub actor: UserId,
    /// From which of her devices.
    pub device: DeviceId,
    /// The device's own id for the request.
    pub nonce: Nonce,
    /// What was done.
    pub op: MembershipOp,
    /// The role of those added.
    pub role: Role,
    /// Those who came or went.
    pub members: Vec<UserId>,
}

/// A channel was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Created {
    /// The new channel.
    pub channel: ChannelId,
    /// Its place, which is the first.
    pub seq: Seq,
    /// When.
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
    pub title: String,
    /// All first members, the creator among them.
    pub members: Vec<UserId>,
}

/// What an entry takes in a queue besides what it points to.
const ENTRY_BYTES: usize = size_of::<Event>();

impl Message {
    /// The body as text, if it is there and UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.body.as_deref().and_then(|body| std::str::from_utf8(body).ok())
    }
}

impl Entry {
    /// The message, if it is one.
    #[must_use]
    pub const fn message(&self) -> Option<&Message> {
        match &self.what {
            What::Message(message) => Some(message),
            _ => None,
        }
    }

    /// The entry as the protocol has it.
    #[must_use]
    pub fn as_wire(&self) -> wire::Deliver<'_> {
        wire::Deliver { inbox_seq: self.inbox_seq, event: self.what.as_wire() }
    }

    /// About how many bytes of memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        let held = match &self.what {
            What::Message(message) => message.body.as_ref().map_or(0, Bytes::len),
            What::Membership(change) => size_of_val(&*change.members),
            What::Created(created) => size_of_val(&*created.members) + created.title.len(),
            What::Read { .. } | What::Unknown => 0,
        };
        ENTRY_BYTES + held
    }
}

impl What {
    /// The event as the protocol has it.
    #[must_use]
    pub fn as_wire(&self) -> wire::Event<'_> {
        match self {
            Self::Message(it) => wire::Event::Message(wire::Message {
                channel: it.channel,
                seq: it.seq,
                sender: it.sender,
                device: it.device,
                created_at: it.created_at,
                nonce: it.nonce,
                kind: it.kind,
                body: it.body.as_deref(),
            }),
            Self::Membership(it) => wire::Event::MembershipChange(wire::MembershipChange {
                channel: it.channel,
                seq: it.seq,
                created_at: it.created_at,
                actor: it.actor,
                device: it.device,
                nonce: it.nonce,
                op: it.op,
                role: it.role,
                members: it.members[..].into(),
            }),
            Self::Created(it) => wire::Event::ChannelCreated(wire::ChannelCreated {
                channel: it.channel,
                seq: it.seq,
                created_at: it.created_at,
                creator: it.creator,
                device: it.device,
                nonce: it.nonce,
                kind: it.kind,
                title: &it.title,
                members: it.members[..].into(),
            }),
            Self::Read { channel, user, seq } => wire::Event::ReadMarker(wire::ReadMarker {
                channel: *channel,
                user: *user,
                seq: *seq,
            }),
            Self::Unknown => wire::Event::Unknown(wire::Event::UNKNOWN),
        }
    }
}

impl From<wire::Deliver<'_>> for Entry {
    fn from(deliver: wire::Deliver<'_>) -> Self {
        Self { inbox_seq: deliver.inbox_seq, what: deliver.event.into() }
    }
}

impl From<wire::Event<'_>> for What {
    fn from(event: wire::Event<'_>) -> Self {
        match event {
            wire::Event::Message(it) => Self::Message(Message {
                channel: it.channel,
                seq: it.seq,
                sender: it.sender,
                device: it.device,
                created_at: it.created_at,
                nonce: it.nonce,
                kind: it.kind,
                body: it.body.map(Bytes::copy_from_slice),
            }),
            wire::Event::MembershipChange(it) => Self::Membership(Membership {
                channel: it.channel,
                seq: it.seq,
                created_at: it.created_at,
                actor: it.actor,
                device: it.device,
                nonce: it.nonce,
                op: it.op,
                role: it.role,
                members: it.members.iter().collect(),
            }),
            wire::Event::ChannelCreated(it) => Self::Created(Created {
                channel: it.channel,
                seq: it.seq,
                created_at: it.created_at,
                creator: it.creator,
                device: it.device,
                nonce: it.nonce,
                kind: it.kind,
                title: it.title.to_owned(),
                members: it.members.iter().collect(),
            }),
            wire::Event::ReadMarker(it) => {
                Self::Read { channel: it.channel, user: it.user, seq: it.seq }
            }
            wire::Event::Unknown(_) => Self::Unknown,
        }
    }
}
