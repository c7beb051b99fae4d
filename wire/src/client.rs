//! What a device says: `ClientFrame` of the schema as plain borrowed values. The schema tells what
//! each frame does and how it is answered; here stands what holds of a decoded one.

use crate::log::{ChannelKind, Role};
use crate::number::numbered;
use crate::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, Seq, Timestamp, UserId, Users};

/// One frame from the device. Its encoding is [`crate::Encoder::client`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientFrame<'a> {
    /// Chosen by the device; comes back in the answer.
    pub request: u32,
    /// For whom a service asks; `None` on a person's session.
    pub as_user: Option<UserId>,
    /// What it says.
    pub body: ClientBody<'a>,
}

/// The union of what a device can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientBody<'a> {
    /// Who it is; the first frame.
    Hello(Hello<'a>),
    /// A message.
    Post(Post<'a>),
    /// What it has kept.
    CursorAck(CursorAck),
    /// Asks for a page of the inbox.
    Sync(Sync),
    /// Asks for messages of a channel.
    History(History),
    /// Makes a channel.
    ChannelCreate(ChannelCreate<'a>),
    /// Adds members.
    ChannelAddMembers(ChannelAddMembers<'a>),
    /// Removes members.
    ChannelRemoveMembers(ChannelRemoveMembers<'a>),
    /// Leaves a channel.
    ChannelLeave(ChannelLeave),
    /// Asks for conversations.
    ChannelList(ChannelList),
    /// What the user has read.
    MarkRead(MarkRead),
    /// The user is composing.
    Typing(Typing),
    /// A heartbeat.
    Ping(Ping),
    /// A service ends sessions and what they began with.
    SessionsEnd(SessionsEnd),
    /// A service removes what is a user's own.
    UserErase(UserErase),
    /// A frame of a later version: its number in the union, above all known ones. The answer is
    /// `Rejected { code: Unsupported }`.
    Unknown(u8),
}

/// How a device proves who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Credential<'a> {
    /// An access token; 1 to `TOKEN_BYTES_MAX` bytes.
    Token(&'a str),
    /// A ticket of an earlier `Welcome`; 1 to `TICKET_BYTES_MAX` bytes.
    Ticket(&'a [u8]),
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// As told; the gateway compares it with [`crate::limits::PROTOCOL_VERSION`].
    pub protocol_version: u16,
    /// Exactly one of the two was set.
    pub credential: Credential<'a>,
    /// Not 0, unless it is a service's, which says a token.
    pub device: DeviceId,
    /// Whose `cursor` it is.
    pub epoch: Epoch,
    /// The highest place this device has kept.
    pub cursor: InboxSeq,
    /// For operators' logs; at most `CLIENT_NAME_BYTES_MAX` bytes, may be empty.
    pub client: &'a str,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Post<'a> {
    /// Where to.
    pub channel: ChannelId,
    /// Not 0.
    pub nonce: Nonce,
    /// `MessageKind`, or the application's own.
    pub kind: u8,
    /// Opaque; bounded here by the frame alone, by `Limits.body_bytes_max` in the gateway.
    pub body: &'a [u8],
    /// Not the first transmission.
    pub retry: bool,
}

/// See the schema. `InboxSeq::ZERO` acknowledges nothing and is permitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CursorAck {
    /// Everything up to and including it is kept.
    pub inbox_seq: InboxSeq,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sync {
    /// The page begins behind it.
    pub after: InboxSeq,
    /// 0 = `Limits.sync_page_max`; the gateway cuts a larger one to that.
    pub limit: u16,
}

/// `Direction` of the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// The newest before `from`.
    Backward = 0,
    /// The oldest from `from` on.
    Forward = 1,
}

numbered! { Direction: u8 { Backward, Forward } }

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// Whose messages.
    pub channel: ChannelId,
    /// Which way.
    pub direction: Direction,
    /// From where; `Seq::ZERO` with `Backward` = from the end.
    pub from: Seq,
    /// 0 = `Limits.history_page_max`; the gateway cuts a larger one to that.
    pub limit: u16,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelCreate<'a> {
    /// Not 0.
    pub nonce: Nonce,
    /// Not `Direct`.
    pub kind: ChannelKind,
    /// At most `TITLE_BYTES_MAX` bytes, may be empty.
    pub title: &'a str,
    /// Besides the sender; at most `MEMBERS_PER_REQUEST_MAX`, may be empty, may name a user twice.
    pub members: Users<'a>,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelAddMembers<'a> {
    /// Which channel.
    pub channel: ChannelId,
    /// Not 0.
    pub nonce: Nonce,
    /// 1 to `MEMBERS_PER_REQUEST_MAX`; may name a user twice.
    pub members: Users<'a>,
    /// What they become.
    pub role: Role,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelRemoveMembers<'a> {
    /// Which channel.
    pub channel: ChannelId,
    /// Not 0.
    pub nonce: Nonce,
    /// 1 to `MEMBERS_PER_REQUEST_MAX`; may name a user twice.
    pub members: Users<'a>,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelLeave {
    /// Which channel.
    pub channel: ChannelId,
    /// Not 0.
    pub nonce: Nonce,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelList {
    /// Older than this; `InboxSeq::ZERO` = from the newest.
    pub before: InboxSeq,
    /// 0 = `Limits.channel_page_max`; the gateway cuts a larger one to that.
    pub limit: u16,
    /// Each conversation is to bring its latest entry.
    pub with_last: bool,
}

/// See the schema. `Seq::ZERO` marks nothing and is permitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MarkRead {
    /// Which channel.
    pub channel: ChannelId,
    /// Everything up to and including it is read.
    pub seq: Seq,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Typing {
    /// Where.
    pub channel: ChannelId,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ping {
    /// Comes back in `Pong`.
    pub opaque: u64,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionsEnd {
    /// Whose.
    pub user: UserId,
    /// On which device; `None` = on all.
    pub device: Option<DeviceId>,
    /// What was issued until then ends; `None` = until now.
    pub before: Option<Timestamp>,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserErase {
    /// Whom.
    pub user: UserId,
}

macro_rules! into_body {
    ($($name:ident $(<$lifetime:lifetime>)?),*) => {$(
        impl<'a> From<$name $(<$lifetime>)?> for ClientBody<'a> {
            fn from(body: $name $(<$lifetime>)?) -> Self {
                Self::$name(body)
            }
        }
    )*};
}
into_body!(
    Hello<'a>,
    Post<'a>,
    CursorAck,
    Sync,
    History,
    ChannelCreate<'a>,
    ChannelAddMembers<'a>,
    ChannelRemoveMembers<'a>,
    ChannelLeave,
    ChannelList,
    MarkRead,
    Typing,
    Ping,
    SessionsEnd,
    UserErase
);
