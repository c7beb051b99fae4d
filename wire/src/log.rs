//! What the logs hold: the values that travel from the sequencer through the store to the
//! inboxes. Plain data, cheap to clone (bodies and member lists are shared).

use std::sync::Arc;

use bytes::Bytes;

use crate::number::numbered;
use crate::{ChannelId, DeviceId, InboxSeq, Nonce, Seq, Timestamp, UserId};

/// `ChannelKind` of the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ChannelKind {
    /// Two users, or one user with herself.
    Direct = 0,
    /// Up to `group_members_max` members, fan-out on write.
    Group = 1,
    /// Larger; fan-out on read.
    Broadcast = 2,
}

/// `Role` of the schema, in ascending order of rights.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Role {
    /// May post, and leave.
    Member = 0,
    /// May add and remove members.
    Admin = 1,
    /// May everything; the creator.
    Owner = 2,
}

/// `MembershipOp` of the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MembershipOp {
    /// The actor added the members.
    Add = 0,
    /// The actor removed the members.
    Remove = 1,
    /// The actor, the only one in the list, left.
    Leave = 2,
}

numbered! {
    ChannelKind: u8 { Direct, Group, Broadcast }
    Role: u8 { Member, Admin, Owner }
    MembershipOp: u8 { Add, Remove, Leave }
}

/// What stands at one place of a channel's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A message; the gateway does not look into it.
    Message {
        /// `MessageKind` of the schema, or the application's own.
        kind: u8,
        /// Opaque.
        body: Bytes,
    },
    /// Members came or went.
    Membership {
        /// Which of the three.
        op: MembershipOp,
        /// The role of those added.
        role: Role,
        /// Those who came or went; never empty.
        members: Arc<[UserId]>,
    },
    /// The channel was made; always at `Seq` 1.
    Created {
        /// `Group` or `Broadcast`: a `Direct` channel is not created.
        kind: ChannelKind,
        /// For humans, may be empty.
        title: Arc<str>,
        /// All first members, the creator among them as `Owner`.
        members: Arc<[UserId]>,
    },
}

/// One place of a channel's log: who put what there, when, under which nonce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// With `seq`, the message id.
    pub channel: ChannelId,
    /// Its place.
    pub seq: Seq,
    /// Who sent it (or made the change).
    pub sender: UserId,
    /// From which of her devices.
    pub device: DeviceId,
    /// The device's own id for the send.
    pub nonce: Nonce,
    /// When it was given its place.
    pub created_at: Timestamp,
    /// What it is.
    pub content: Content,
}

/// A member of a `Group` or `Broadcast` channel, also after she left: a former member may read
/// up to the place where she went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Her rights while she is a member.
    pub role: Role,
    /// The place at which she (last) came.
    pub joined: Seq,
    /// The place at which she went, if she did.
    pub left: Option<Seq>,
}

/// What one entry of an inbox points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InboxItem {
    /// A place of a channel's log.
    Logged {
        /// The channel.
        channel: ChannelId,
        /// The place.
        seq: Seq,
    },
    /// `user` has read `channel` up to `seq`.
    ReadMarker {
        /// The channel.
        channel: ChannelId,
        /// Who has read.
        user: UserId,
        /// Up to which place.
        seq: Seq,
    },
}

/// One entry of a user's inbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboxEntry {
    /// Its place in the inbox.
    pub inbox_seq: InboxSeq,
    /// What it points to.
    pub item: InboxItem,
}

/// What a user's inbox knows of one channel: the conversation list, and the mark by which a
/// replayed fan-out is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Conversation {
    /// The highest `Seq` of the channel in this inbox. Unread = `last_seq` − `read_seq`.
    pub last_seq: Seq,
    /// The highest `Seq` that this user has read.
    pub read_seq: Seq,
    /// The place of the channel's latest entry in the inbox: the order of the list.
    pub inbox_seq: InboxSeq,
}

impl InboxItem {
    /// The channel it belongs to.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        match *self {
            Self::Logged { channel, .. } | Self::ReadMarker { channel, .. } => channel,
        }
    }
}
