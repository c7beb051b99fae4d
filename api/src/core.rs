//! What the API asks of the core: one method for each request of a service session.
//!
//! The real one is a service session; tests that break things put another in its place. Every
//! change carries a nonce, and a repeat of it with the same nonce changes nothing: so an errand
//! may be told as often as it takes.

use async_trait::async_trait;
use wire::{ChannelId, DeviceId, InboxSeq, Nonce, Role, Seq, Timestamp, UserId};

/// Why the core did not do it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CoreError {
    /// It does not answer, or not now: the same request may be made again.
    #[error("the core does not answer: {0}")]
    Unavailable(String),
    /// It refuses: the same request would be refused again.
    #[error("the core refuses ({code:?}): {text}")]
    Refused {
        /// What kind of refusal.
        code: wire::RejectCode,
        /// For people.
        text: String,
    },
}

/// One conversation of a user.
#[derive(Clone, PartialEq, Debug)]
pub struct Conversation {
    /// Which.
    pub channel: ChannelId,
    /// The place of its last entry.
    pub last_seq: Seq,
    /// Up to where she has read.
    pub read_seq: Seq,
    /// Its latest entry's place in her inbox: the order of the list.
    pub inbox_seq: InboxSeq,
    /// Its last entry, where that is known.
    pub last: Option<Entry>,
}

/// One entry of a channel.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Its place.
    pub seq: Seq,
    /// Whose doing it is.
    pub user: UserId,
    /// On which of her devices.
    pub device: DeviceId,
    /// Milliseconds since 1970.
    pub created_at: u64,
    /// What it is.
    pub content: Content,
}

/// What an entry is.
#[derive(Clone, PartialEq, Debug)]
pub enum Content {
    /// A message.
    Message {
        /// `MessageKind`, or the application's own.
        kind: u8,
        /// As it was posted.
        body: Vec<u8>,
    },
    /// The channel was made.
    Created {
        /// Its title then.
        title: String,
        /// Its members then.
        members: Vec<UserId>,
    },
    /// Somebody came.
    Added(Vec<UserId>),
    /// Somebody was removed.
    Removed(Vec<UserId>),
    /// Somebody left.
    Left,
}

/// A page, and whether there is more in the direction that was asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<T> {
    /// Of at most as many as were asked for.
    pub items: Vec<T>,
    /// Whether there is more.
    pub more: bool,
}

/// Which page of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// The newest before this place; before the end for `Seq::ZERO`.
    Before(Seq),
    /// The oldest from this place on.
    From(Seq),
}

/// The core, as the API knows it.
#[async_trait]
pub trait Core: Send + Sync + 'static {
    /// Makes a group whose owner is `user`.
    async fn create_group(
        &self,
        user: UserId,
        nonce: Nonce,
        title: &str,
        members: &[UserId],
    ) -> Result<ChannelId, CoreError>;

    /// `user` adds members.
    async fn add_members(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
        members: &[UserId],
        role: Role,
    ) -> Result<(), CoreError>;

    /// `user` removes members.
    async fn remove_members(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
        members: &[UserId],
    ) -> Result<(), CoreError>;

    /// `user` leaves.
    async fn leave(&self, user: UserId, channel: ChannelId, nonce: Nonce) -> Result<(), CoreError>;

    /// `user`'s conversations, the latest first, each with its last entry as far as there is room.
    async fn conversations(
        &self,
        user: UserId,
        before: InboxSeq,
        limit: u16,
    ) -> Result<Page<Conversation>, CoreError>;

    /// Entries of a channel that `user` is in, in ascending order.
    async fn history(
        &self,
        user: UserId,
        channel: ChannelId,
        window: Window,
        limit: u16,
    ) -> Result<Page<Entry>, CoreError>;

    /// `user` posts a message; the place that it has.
    async fn post(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
        kind: u8,
        body: Vec<u8>,
    ) -> Result<Seq, CoreError>;

    /// `user` has read up to there.
    async fn mark_read(&self, user: UserId, channel: ChannelId, seq: Seq) -> Result<(), CoreError>;

    /// Every token and ticket of the device (of all for `DeviceId(0)`) that was issued up to then
    /// is refused from now on, and its sessions end.
    async fn end_sessions(
        &self,
        user: UserId,
        device: DeviceId,
        before: Timestamp,
    ) -> Result<(), CoreError>;

    /// What the core has of the user goes.
    async fn erase(&self, user: UserId) -> Result<(), CoreError>;

    /// Whether it answers.
    async fn is_well(&self) -> bool;
}
