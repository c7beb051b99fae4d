//! What a gateway says: `ServerFrame` of the schema as plain borrowed values. The schema tells
//! when each frame is sent; here stands what holds of a decoded one.
//!
//! A client may be older than its gateway. A value of a closed enum that it does not know is read
//! as the one that promises least: `Durability::Accepted`, `Resume::Reset`, `RejectCode::Unknown`.

use crate::codes::RejectCode;
use crate::event::{Deliver, Event};
use crate::lists::{Conversations, Deliveries, Events};
use crate::number::numbered;
use crate::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, Seq, SessionId, Timestamp, UserId};

/// One frame from the gateway. Its encoding is [`crate::Encoder::server`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerFrame<'a> {
    /// The device's number of what this answers; 0 where the gateway speaks first.
    pub request: u32,
    /// What it says.
    pub body: ServerBody<'a>,
}

/// The union of what a gateway can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerBody<'a> {
    /// The session begins.
    Welcome(Welcome<'a>),
    /// The message is kept.
    Posted(Posted),
    /// The request is refused.
    Rejected(Rejected<'a>),
    /// A live inbox entry.
    Deliver(Deliver<'a>),
    /// A page of the inbox.
    SyncPage(SyncPage<'a>),
    /// Messages of a channel.
    HistoryPage(HistoryPage<'a>),
    /// Conversations.
    ChannelPage(ChannelPage<'a>),
    /// The channel is made.
    ChannelReady(ChannelReady),
    /// Somebody is composing.
    TypingFrom(TypingFrom),
    /// The answer to a heartbeat.
    Pong(Pong),
    /// Come back later, elsewhere.
    Reconnect(Reconnect<'a>),
    /// The session of a service begins.
    ServiceWelcome(ServiceWelcome),
    /// A service's request is done.
    ServiceDone(ServiceDone),
    /// A frame of a later version: its number in the union, above all known ones. Ignored.
    Unknown(u8),
}

/// What an acknowledgement means: `Durability` of the schema, in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Durability {
    /// In the log's write buffer.
    Accepted = 0,
    /// On this host's disk.
    Durable = 1,
    /// On a quorum of the cluster's disks.
    Replicated = 2,
}

/// What became of the cursor in `Hello`: `Resume` of the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Resume {
    /// Everything after the cursor follows.
    Resumed = 0,
    /// The device had no cursor.
    Fresh = 1,
    /// The cursor is of another epoch or beyond the head.
    Reset = 2,
}

numbered! {
    Durability: u8 { Accepted, Durable, Replicated }
    Resume: u8 { Resumed, Fresh, Reset }
}

/// What this gateway allows; see [`crate::limits`] for what it can at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Of one client frame.
    pub frame_bytes_max: u32,
    /// Of one `Post.body`.
    pub body_bytes_max: u32,
    /// Members of a `Group`.
    pub group_members_max: u32,
    /// Entries of a `SyncPage`.
    pub sync_page_max: u16,
    /// Entries of a `HistoryPage`.
    pub history_page_max: u16,
    /// Entries of a `ChannelPage`.
    pub channel_page_max: u16,
    /// Beyond it the gateway stops reading this connection.
    pub posts_in_flight_max: u16,
    /// Sustained; bursts of as many are allowed.
    pub frames_per_second_max: u32,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome<'a> {
    /// Names the session in operators' logs.
    pub session: SessionId,
    /// Who the credential says it is.
    pub user: UserId,
    /// As in `Hello`.
    pub device: DeviceId,
    /// Now.
    pub server_time: Timestamp,
    /// Send anything at least this often.
    pub heartbeat_interval_ms: u32,
    /// Names this history of the inbox.
    pub epoch: Epoch,
    /// The newest place.
    pub inbox_head: InboxSeq,
    /// What became of the cursor.
    pub resume: Resume,
    /// For the next `Hello`; at most `TICKET_BYTES_MAX` bytes, not empty.
    pub ticket: &'a [u8],
    /// Until when it serves.
    pub ticket_expires_at: Timestamp,
    /// What this gateway allows.
    pub limits: Limits,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Posted {
    /// With `seq`, the message id.
    pub channel: ChannelId,
    /// Of the request.
    pub nonce: Nonce,
    /// Its place; not 0.
    pub seq: Seq,
    /// When it was given its place.
    pub created_at: Timestamp,
    /// What this acknowledgement means.
    pub durability: Durability,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejected<'a> {
    /// Why.
    pub code: RejectCode,
    /// Of the refused request; `Nonce(0)` if it had none.
    pub nonce: Nonce,
    /// Of the refused request, if it had one.
    pub channel: Option<ChannelId>,
    /// For humans: what was wrong, and what to do.
    pub text: &'a str,
    /// 0 = do not retry unchanged.
    pub retry_after_ms: u32,
}

/// See the schema. The entries are in ascending order of their place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncPage<'a> {
    /// At most `PAGE_ENTRIES_MAX`.
    pub entries: Deliveries<'a>,
    /// The `after` of the next `Sync`.
    pub next: InboxSeq,
    /// The device has caught up.
    pub end: bool,
}

/// See the schema. The entries are in ascending order of their place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HistoryPage<'a> {
    /// Whose messages.
    pub channel: ChannelId,
    /// At most `PAGE_ENTRIES_MAX`.
    pub entries: Events<'a>,
    /// The channel goes on in the asked direction.
    pub more: bool,
}

/// One conversation of the list: `Conversation` of the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConversationEntry<'a> {
    /// Which channel.
    pub channel: ChannelId,
    /// Where its log, its reader and its latest inbox entry stand.
    pub conversation: crate::Conversation,
    /// The entry at `last_seq`, if it was asked for and there was room for it.
    pub last: Option<Event<'a>>,
}

/// See the schema. The conversations are most recent first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelPage<'a> {
    /// At most `PAGE_ENTRIES_MAX`.
    pub conversations: Conversations<'a>,
    /// There are older ones.
    pub more: bool,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelReady {
    /// The new channel.
    pub channel: ChannelId,
    /// Of the request.
    pub nonce: Nonce,
    /// When it was made.
    pub created_at: Timestamp,
    /// What this acknowledgement means.
    pub durability: Durability,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TypingFrom {
    /// Where.
    pub channel: ChannelId,
    /// Who.
    pub user: UserId,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pong {
    /// Of the `Ping`.
    pub opaque: u64,
    /// Now.
    pub server_time: Timestamp,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconnect<'a> {
    /// Already spread between clients.
    pub after_ms: u32,
    /// Where to; `None` = where the client came from.
    pub url: Option<&'a str>,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceWelcome {
    /// Names the session in operators' logs.
    pub session: SessionId,
    /// Now.
    pub server_time: Timestamp,
    /// Send anything at least this often.
    pub heartbeat_interval_ms: u32,
    /// Names this history of all inboxes.
    pub epoch: Epoch,
    /// What this gateway allows.
    pub limits: Limits,
}

/// See the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceDone {
    /// What "done" means.
    pub durability: Durability,
}

macro_rules! into_body {
    ($($name:ident $(<$lifetime:lifetime>)?),*) => {$(
        impl<'a> From<$name $(<$lifetime>)?> for ServerBody<'a> {
            fn from(body: $name $(<$lifetime>)?) -> Self {
                Self::$name(body)
            }
        }
    )*};
}
into_body!(
    Welcome<'a>,
    Posted,
    Rejected<'a>,
    Deliver<'a>,
    SyncPage<'a>,
    HistoryPage<'a>,
    ChannelPage<'a>,
    ChannelReady,
    TypingFrom,
    Pong,
    Reconnect<'a>,
    ServiceWelcome,
    ServiceDone
);
