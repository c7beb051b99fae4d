//! What cores say to each other, one enum a lane of the mesh.

use router::fan_out::{Fan, FanNumber, Recipients, Users};
use router::sequencer::{Offer, Origin};
use router::sessions::ConnId;
use store::Read;
use wire::client::ChannelList;
use wire::server::Durability;
use wire::{ChannelId, CoreId, DeviceId, Nonce, RejectCode, Seq, Timestamp, UserId};

use crate::connection::Passenger;

/// The lane of what sessions ask of channels.
#[derive(Debug)]
pub enum Request {
    /// Something for the channel's sequencer.
    Offer(Offer),
    /// A user is typing; dropped wherever it is in the way.
    Typing {
        /// In which channel.
        channel: ChannelId,
        /// Who.
        user: UserId,
    },
    /// A service asks for a user's conversations: what of them only her core knows.
    List(List),
    /// A service ends sessions, and what they began with.
    SessionsEnd(SessionsEnd),
    /// A service erases a user.
    UserErase(UserErase),
}

impl Request {
    /// Bytes of memory that it holds beside its own.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Offer(offer) => offer.ask.bytes(),
            Self::Typing { .. } | Self::List(_) | Self::SessionsEnd(_) | Self::UserErase(_) => 0,
        }
    }
}

/// For the core of the user.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// The session that asked.
    pub origin: Origin,
    /// Whose conversations.
    pub user: UserId,
    /// Which of them.
    pub list: ChannelList,
}

/// For the core of the user.
#[derive(Clone, Copy, Debug)]
pub struct SessionsEnd {
    /// The session that asked.
    pub origin: Origin,
    /// Whose sessions.
    pub user: UserId,
    /// On which device; `None`: on all.
    pub device: Option<DeviceId>,
    /// What was issued until then; `None`: until now.
    pub before: Option<Timestamp>,
}

/// For the core of the user.
#[derive(Clone, Copy, Debug)]
pub struct UserErase {
    /// The session that asked.
    pub origin: Origin,
    /// Whom.
    pub user: UserId,
}

/// The lane of what is owed.
#[derive(Debug)]
pub enum Delivery {
    /// To the session that asked.
    Answer(Answer),
    /// A committed entry, for the inboxes of this core's users.
    Fan(Fan),
    /// All fan-outs of this core to `from`, up to `through`, are durable there.
    FanAck {
        /// Which core says so.
        from: CoreId,
        /// Up to which fan-out.
        through: FanNumber,
    },
    /// `reader`, who lives on this core, has read `channel` up to `seq`: once that is durable news
    /// to her inbox, the others are told.
    Marked {
        /// Who has read.
        reader: UserId,
        /// The channel.
        channel: ChannelId,
        /// Up to where: no further than the channel goes.
        seq: Seq,
        /// Who is to be told; she may be among them.
        others: Recipients,
    },
    /// `user` has read `channel` up to `seq`, for the inboxes of others.
    Read {
        /// Whose inboxes; the reader may be among them and is passed over.
        users: Users,
        /// The channel.
        channel: ChannelId,
        /// Who has read.
        user: UserId,
        /// Up to where.
        seq: Seq,
    },
    /// `user` is typing in `channel`.
    Typing {
        /// Who may see it.
        users: Users,
        /// The channel.
        channel: ChannelId,
        /// Who types.
        user: UserId,
    },
    /// A question for the store, with what the user's core knows; it is asked for a session.
    Ask {
        /// Whose it is.
        conn: ConnId,
        /// Which request of it.
        request: u32,
        /// The question.
        read: Box<Read>,
    },
    /// A connection whose user lives here; it is in this core's table already.
    Adopt(Box<Passenger>),
}

/// An answer on its way to the connection that asked.
#[derive(Debug)]
pub struct Answer {
    /// Where to.
    pub conn: ConnId,
    /// Which request it answers.
    pub request: u32,
    /// The channel that was asked, if it was one.
    pub channel: Option<ChannelId>,
    /// Under which nonce.
    pub nonce: Nonce,
    /// What it says.
    pub verdict: Answered,
}

/// What a channel answers.
#[derive(Debug)]
pub enum Answered {
    /// The entry is kept.
    Posted {
        /// Its place.
        seq: Seq,
        /// When.
        created_at: Timestamp,
        /// What "kept" means.
        durability: Durability,
    },
    /// The channel was made.
    Ready {
        /// When.
        created_at: Timestamp,
        /// What "made" means.
        durability: Durability,
    },
    /// A service's request is done.
    Done(Durability),
    /// Nothing was kept.
    Rejected {
        /// Why.
        code: RejectCode,
        /// In words.
        text: &'static str,
        /// When to try again; 0 for never.
        retry_after_ms: u32,
    },
}
