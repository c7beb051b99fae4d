//! What is asked of a gateway, and its answers, in owned values: a request outlives connections.

use bytes::Bytes;
use wire::client::{
    ChannelAddMembers, ChannelCreate, ChannelLeave, ChannelList, ChannelRemoveMembers, Direction,
    History, MarkRead, Post, SessionsEnd, Typing, UserErase,
};
use wire::limits::{BODY_BYTES_MAX, MEMBERS_PER_REQUEST_MAX, TITLE_BYTES_MAX};
use wire::server::{ChannelReady, Durability, Posted};
use wire::{
    ChannelId, ChannelKind, ClientBody, DeviceId, InboxSeq, Nonce, Role, Seq, Timestamp, UserId,
};

use crate::error::RequestError;
use crate::event::What;

/// Something asked. The frames of the same names in `wire/schema/frame.fbs` tell what each does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Puts a message into a channel; answered by [`Answer::Posted`].
    Post {
        /// Where to.
        channel: ChannelId,
        /// Not 0; of its own in this channel.
        nonce: Nonce,
        /// 0 is text.
        kind: u8,
        /// At most `BODY_BYTES_MAX` bytes, or what the gateway allows.
        body: Bytes,
    },
    /// Makes a channel; answered by [`Answer::Ready`].
    Create {
        /// Not 0.
        nonce: Nonce,
        /// Not `Direct`.
        kind: ChannelKind,
        /// At most `TITLE_BYTES_MAX` bytes, may be empty.
        title: String,
        /// Besides the maker; at most `MEMBERS_PER_REQUEST_MAX`.
        members: Vec<UserId>,
    },
    /// Adds members; answered by [`Answer::Posted`].
    AddMembers {
        /// Where to.
        channel: ChannelId,
        /// Not 0; of its own in this channel.
        nonce: Nonce,
        /// 1 to `MEMBERS_PER_REQUEST_MAX`.
        members: Vec<UserId>,
        /// What they become.
        role: Role,
    },
    /// Removes members; answered by [`Answer::Posted`].
    RemoveMembers {
        /// From where.
        channel: ChannelId,
        /// Not 0; of its own in this channel.
        nonce: Nonce,
        /// 1 to `MEMBERS_PER_REQUEST_MAX`.
        members: Vec<UserId>,
    },
    /// Leaves a channel; answered by [`Answer::Posted`].
    Leave {
        /// Which.
        channel: ChannelId,
        /// Not 0; of its own in this channel.
        nonce: Nonce,
    },
    /// Asks for messages of a channel; answered by [`Answer::History`].
    History {
        /// Of which.
        channel: ChannelId,
        /// Which way.
        direction: Direction,
        /// From where; `Seq::ZERO` with `Backward` = from the end.
        from: Seq,
        /// 0 = as many as the gateway gives.
        limit: u16,
    },
    /// Asks for conversations; answered by [`Answer::Channels`].
    Channels {
        /// Older than this; `InboxSeq::ZERO` = from the newest.
        before: InboxSeq,
        /// 0 = as many as the gateway gives.
        limit: u16,
        /// Each is to bring its latest entry.
        with_last: bool,
    },
    /// Everything up to `seq` is read; answered by [`Answer::Sent`], or [`Answer::Done`] to a
    /// service, when it is on its way.
    MarkRead {
        /// Of which channel.
        channel: ChannelId,
        /// Up to which place.
        seq: Seq,
    },
    /// The user is composing; [`Answer::Sent`], even where nobody could be told.
    Typing {
        /// Where.
        channel: ChannelId,
    },
    /// Ends sessions, and what they began with; of services alone. Answered by [`Answer::Done`].
    SessionsEnd {
        /// Whose.
        user: UserId,
        /// On which device; `None` = on all.
        device: Option<DeviceId>,
        /// What was issued until then ends.
        before: Timestamp,
    },
    /// Removes what is a user's own; of services alone. Answered by [`Answer::Done`].
    UserErase {
        /// Whom.
        user: UserId,
    },
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The message, or the change of members, has its place and is kept.
    Posted(Posted),
    /// The channel is made.
    Ready(ChannelReady),
    /// Messages of a channel.
    History(HistoryPage),
    /// Conversations.
    Channels(ChannelPage),
    /// It is done, and kept so.
    Done(Durability),
    /// It is on its way; no answer comes.
    Sent,
}

/// Messages of a channel, in ascending order of their place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryPage {
    /// Of which.
    pub channel: ChannelId,
    /// What stands there.
    pub entries: Vec<What>,
    /// The channel goes on in the asked direction.
    pub more: bool,
}

/// Conversations, the most recent first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelPage {
    /// At most `PAGE_ENTRIES_MAX`.
    pub conversations: Vec<Conversation>,
    /// There are older ones.
    pub more: bool,
}

/// One conversation of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversation {
    /// Which channel.
    pub channel: ChannelId,
    /// The highest place. Unread = `last_seq` − `read_seq`.
    pub last_seq: Seq,
    /// Up to which place she has read.
    pub read_seq: Seq,
    /// Of its latest entry in her inbox: the order of the list.
    pub inbox_seq: InboxSeq,
    /// What stands at `last_seq`, if it was asked for and the page had room.
    pub last: Option<What>,
}

/// What a request takes in a queue besides its body, title or list.
const REQUEST_BYTES: usize = 256;

impl Request {
    /// Its frame; `retry`: it may have reached a gateway before.
    pub(crate) fn as_body(&self, retry: bool) -> ClientBody<'_> {
        match *self {
            Self::Post { channel, nonce, kind, ref body } => {
                Post { channel, nonce, kind, body, retry }.into()
            }
            Self::Create { nonce, kind, ref title, ref members } => {
                ChannelCreate { nonce, kind, title, members: members[..].into() }.into()
            }
            Self::AddMembers { channel, nonce, ref members, role } => {
                ChannelAddMembers { channel, nonce, members: members[..].into(), role }.into()
            }
            Self::RemoveMembers { channel, nonce, ref members } => {
                ChannelRemoveMembers { channel, nonce, members: members[..].into() }.into()
            }
            Self::Leave { channel, nonce } => ChannelLeave { channel, nonce }.into(),
            Self::History { channel, direction, from, limit } => {
                History { channel, direction, from, limit }.into()
            }
            Self::Channels { before, limit, with_last } => {
                ChannelList { before, limit, with_last }.into()
            }
            Self::MarkRead { channel, seq } => MarkRead { channel, seq }.into(),
            Self::Typing { channel } => Typing { channel }.into(),
            Self::SessionsEnd { user, device, before } => {
                SessionsEnd { user, device, before: Some(before) }.into()
            }
            Self::UserErase { user } => UserErase { user }.into(),
        }
    }

    /// The request of a device's frame, and whether it is a retry; `None` for a frame of the
    /// session's own (`Hello`, `CursorAck`, `Sync`, `Ping`), of services, or of a later version.
    #[must_use]
    pub fn from_frame(body: &ClientBody<'_>) -> Option<(Self, bool)> {
        let retry = matches!(body, ClientBody::Post(Post { retry: true, .. }));
        let request = match *body {
            ClientBody::History(History { channel, direction, from, limit }) => {
                Self::History { channel, direction, from, limit }
            }
            ClientBody::ChannelList(ChannelList { before, limit, with_last }) => {
                Self::Channels { before, limit, with_last }
            }
            ClientBody::MarkRead(MarkRead { channel, seq }) => Self::MarkRead { channel, seq },
            ClientBody::Typing(Typing { channel }) => Self::Typing { channel },
            ref body => Self::from_body(body)?,
        };
        Some((request, retry))
    }

    /// The request of a stored frame; `None` for one that is never stored.
    pub(crate) fn from_body(body: &ClientBody<'_>) -> Option<Self> {
        Some(match *body {
            ClientBody::Post(Post { channel, nonce, kind, body, .. }) => {
                Self::Post { channel, nonce, kind, body: Bytes::copy_from_slice(body) }
            }
            ClientBody::ChannelCreate(ChannelCreate { nonce, kind, title, members }) => {
                let (title, members) = (title.to_owned(), members.iter().collect());
                Self::Create { nonce, kind, title, members }
            }
            ClientBody::ChannelAddMembers(ChannelAddMembers { channel, nonce, members, role }) => {
                Self::AddMembers { channel, nonce, members: members.iter().collect(), role }
            }
            ClientBody::ChannelRemoveMembers(ChannelRemoveMembers { channel, nonce, members }) => {
                Self::RemoveMembers { channel, nonce, members: members.iter().collect() }
            }
            ClientBody::ChannelLeave(ChannelLeave { channel, nonce }) => {
                Self::Leave { channel, nonce }
            }
            _ => return None,
        })
    }

    /// The nonce, which makes a repeat harmless; `None` for a question and for what has no answer.
    #[must_use]
    pub const fn nonce(&self) -> Option<Nonce> {
        match *self {
            Self::Post { nonce, .. }
            | Self::Create { nonce, .. }
            | Self::AddMembers { nonce, .. }
            | Self::RemoveMembers { nonce, .. }
            | Self::Leave { nonce, .. } => Some(nonce),
            Self::History { .. }
            | Self::Channels { .. }
            | Self::MarkRead { .. }
            | Self::Typing { .. }
            | Self::SessionsEnd { .. }
            | Self::UserErase { .. } => None,
        }
    }

    /// Whether a gateway answers it.
    pub(crate) const fn has_answer(&self, to_service: bool) -> bool {
        match self {
            Self::MarkRead { .. } => to_service,
            Self::Typing { .. } => false,
            _ => true,
        }
    }

    /// About how many bytes of memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        let held = match self {
            Self::Post { body, .. } => body.len(),
            Self::Create { title, members, .. } => title.len() + size_of_val(&members[..]),
            Self::AddMembers { members, .. } | Self::RemoveMembers { members, .. } => {
                size_of_val(&members[..])
            }
            _ => 0,
        };
        REQUEST_BYTES + held
    }

    /// Whether the protocol has room for it.
    pub(crate) fn check(&self) -> Result<(), RequestError> {
        if self.nonce() == Some(Nonce(0)) {
            return Err(RequestError::NoNonce);
        }
        match self {
            Self::Post { body, .. } => within("the body in bytes", body.len(), BODY_BYTES_MAX),
            Self::Create { title, members, .. } => {
                within("the title in bytes", title.len(), TITLE_BYTES_MAX)?;
                within("the number of members", members.len(), MEMBERS_PER_REQUEST_MAX)
            }
            Self::AddMembers { members, .. } | Self::RemoveMembers { members, .. } => {
                within("the number of members", members.len(), MEMBERS_PER_REQUEST_MAX)
            }
            _ => Ok(()),
        }
    }
}

/// Whether an amount is within a limit.
pub(crate) const fn within(
    what: &'static str,
    amount: usize,
    limit: usize,
) -> Result<(), RequestError> {
    if amount <= limit { Ok(()) } else { Err(RequestError::TooLarge { what, amount, limit }) }
}

impl Answer {
    /// The answer in a frame; `None` if the frame is none.
    pub(crate) fn from_body(body: &wire::ServerBody<'_>) -> Option<Self> {
        Some(match body {
            wire::ServerBody::Posted(posted) => Self::Posted(*posted),
            wire::ServerBody::ChannelReady(ready) => Self::Ready(*ready),
            wire::ServerBody::HistoryPage(page) => Self::History(HistoryPage {
                channel: page.channel,
                entries: page.entries.iter().map(What::from).collect(),
                more: page.more,
            }),
            wire::ServerBody::ChannelPage(page) => Self::Channels(ChannelPage {
                conversations: page.conversations.iter().map(Conversation::from).collect(),
                more: page.more,
            }),
            wire::ServerBody::ServiceDone(done) => Self::Done(done.durability),
            _ => return None,
        })
    }
}

impl From<wire::server::ConversationEntry<'_>> for Conversation {
    fn from(entry: wire::server::ConversationEntry<'_>) -> Self {
        let wire::Conversation { last_seq, read_seq, inbox_seq } = entry.conversation;
        let last = entry.last.map(What::from);
        Self { channel: entry.channel, last_seq, read_seq, inbox_seq, last }
    }
}

impl Conversation {
    /// The conversation as the protocol has it.
    #[must_use]
    pub fn as_wire(&self) -> wire::server::ConversationEntry<'_> {
        let Self { channel, last_seq, read_seq, inbox_seq, .. } = *self;
        let conversation = wire::Conversation { last_seq, read_seq, inbox_seq };
        let last = self.last.as_ref().map(What::as_wire);
        wire::server::ConversationEntry { channel, conversation, last }
    }
}
