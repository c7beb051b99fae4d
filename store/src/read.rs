//! What a core may ask of the disk, and what comes back.
//!
//! The store answers what is committed and *folded*. What a core has appended to inboxes and not
//! folded yet it hands in (`tail`, `overlay`), and the answer joins both.

use wire::{
    ChannelId, ChannelKind, Conversation, DeviceId, InboxEntry, InboxSeq, LogEntry, Member, Nonce,
    Seq, Timestamp, UserId,
};

use crate::engine::Direction;
use crate::error::DataError;

/// Up to which time of issue a device's credentials are refused; `None`: those of all devices.
pub type Ending = (Option<DeviceId>, Timestamp);

/// A question. Every one is bounded: by a limit, by bytes, or by a bound of this crate.
#[derive(Clone, Debug)]
pub enum Read {
    /// A channel's state, to sequence for it.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// How many of its newest entries to describe.
        nonce_window: u32,
    },
    /// Which of these sends a log holds. Several at once, as the log is read but once for them.
    FindSends {
        /// In which channel.
        channel: ChannelId,
        /// By whom, on which of her devices, under which nonce.
        sends: Vec<(UserId, DeviceId, Nonce)>,
        /// Only below this place.
        below: Seq,
        /// How many places to look at.
        scan_max: u32,
    },
    /// An inbox's state, to append to it.
    Inbox {
        /// Whose.
        user: UserId,
        /// The conversations wanted; few.
        channels: Vec<ChannelId>,
    },
    /// A page of an inbox.
    Sync {
        /// Whose.
        user: UserId,
        /// The page begins behind this place.
        after: InboxSeq,
        /// At most so many entries.
        limit: u32,
        /// At most so many bytes of bodies, but always one entry.
        bytes_max: usize,
        /// The entries that are not folded yet, ascending and gapless up to `head`.
        tail: Vec<InboxEntry>,
        /// The last place of the inbox.
        head: InboxSeq,
    },
    /// A page of a channel's log.
    History {
        /// The channel.
        channel: ChannelId,
        /// For whom.
        reader: UserId,
        /// Backward: below this place, `Seq::ZERO` from the end. Forward: from this place on.
        from: Seq,
        /// Which way to go.
        direction: Direction,
        /// At most so many entries.
        limit: u32,
        /// At most so many bytes of bodies, but always one entry.
        bytes_max: usize,
    },
    /// The conversations of a user, most recent first.
    Conversations {
        /// Bring the latest entry of each, as long as all of them have at most so many bytes;
        /// `None`: of none.
        last_bytes_max: Option<usize>,
        /// Whose.
        user: UserId,
        /// Only those whose latest entry is below this place; `InboxSeq::ZERO`: all.
        before: InboxSeq,
        /// At most so many.
        limit: u32,
        /// What durable entries that are not folded yet say of some of them; it is joined with
        /// what is stored.
        overlay: Vec<(ChannelId, Conversation)>,
    },
}

/// An entry of a log, as far as telling a repeated send from a new one needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recent {
    /// Its place.
    pub seq: Seq,
    /// Who sent it.
    pub sender: UserId,
    /// From which device.
    pub device: DeviceId,
    /// Under which nonce.
    pub nonce: Nonce,
    /// When.
    pub created_at: Timestamp,
    /// Of its content; see `Fingerprint`.
    pub fingerprint: u64,
}

/// Sums up a content, so that a repeat under the same nonce with another content is noticed. Not
/// stored, so it may change between releases; given to `Store::start` by whoever compares them.
pub type Fingerprint = fn(&wire::Content) -> u64;

/// The answer to a question of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadAnswer {
    /// A channel's state.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// Its last place; `Seq::ZERO` if it was never seen.
        last: Seq,
        /// What it is; `None` if it was never seen and is not a pair.
        kind: Option<ChannelKind>,
        /// All who ever were members; empty for a pair.
        members: Vec<Member>,
        /// The newest entries, ascending.
        recent: Vec<Recent>,
    },
    /// What was found of the sends.
    FindSends {
        /// Those that the log holds, the newest first.
        found: Vec<Recent>,
        /// Nothing was left unread that could hold one of the others.
        whole: bool,
    },
    /// An inbox's state.
    Inbox {
        /// Whose.
        user: UserId,
        /// The last place that is folded.
        head: InboxSeq,
        /// What each device has acknowledged.
        cursors: Vec<(DeviceId, InboxSeq)>,
        /// Up to when credentials are refused.
        endings: Vec<Ending>,
        /// The conversations asked for; the default where there is none.
        conversations: Vec<(ChannelId, Conversation)>,
    },
    /// A page of an inbox.
    Sync {
        /// Whose.
        user: UserId,
        /// Ascending, gapless; with the log's entry where the item points to one.
        entries: Vec<(InboxEntry, Option<LogEntry>)>,
        /// Where the next page begins.
        next: InboxSeq,
        /// It reaches the head that was told.
        end: bool,
    },
    /// A page of a channel's log.
    History {
        /// The channel.
        channel: ChannelId,
        /// Ascending.
        entries: Vec<LogEntry>,
        /// There is more in the direction asked.
        more: bool,
    },
    /// The channel does not exist for this reader.
    NotMember {
        /// The channel.
        channel: ChannelId,
    },
    /// Conversations, most recent first.
    Conversations {
        /// Whose.
        user: UserId,
        /// Descending by `inbox_seq`.
        conversations: Vec<(ChannelId, Conversation)>,
        /// The entry at the `last_seq` of each, where it was asked for and had room.
        last: Vec<Option<LogEntry>>,
        /// There are older ones.
        more: bool,
    },
    /// The disk failed, or what it holds is damaged. Logged where it happened.
    Failed(DataError),
}
