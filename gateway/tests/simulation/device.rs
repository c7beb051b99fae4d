//! A device: what it keeps across its connections, and what it expects of each of them.

use std::collections::BTreeMap;

use wire::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, Seq, UserId};

use crate::model::Asked;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) id: DeviceId,
    /// 0 while it was never connected.
    pub(crate) epoch: Epoch,
    /// Everything up to it is kept.
    pub(crate) cursor: InboxSeq,
    /// The highest that it ever acknowledged.
    pub(crate) acknowledged: InboxSeq,
    pub(crate) ticket: Option<Vec<u8>>,
    pub(crate) nonces: u64,
    pub(crate) outbox: Vec<Mail>,
    /// Ticks for which it sends nothing, as it was told that it sends too much.
    pub(crate) quiet_ticks: u32,
    /// Its newest connection, while it has not ended.
    pub(crate) client: Option<usize>,
}

/// Something that a device has to send.
#[derive(Debug)]
pub(crate) struct Mail {
    /// None for a group that is to be made: its number is in the answer.
    pub(crate) channel: Option<ChannelId>,
    pub(crate) nonce: Nonce,
    pub(crate) asked: Asked,
    /// The connection on which an answer is waited for.
    pub(crate) waits_on: Option<usize>,
    pub(crate) was_sent: bool,
    pub(crate) fate: Fate,
}

/// What became of a mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// To be sent, until there is an answer.
    Open,
    /// It has its place.
    Kept(Seq),
    /// It is not to be sent again as it is.
    Refused,
}

impl Device {
    pub(crate) const fn new(user: UserId, id: DeviceId) -> Self {
        Self {
            user,
            id,
            epoch: Epoch::NONE,
            cursor: InboxSeq::ZERO,
            acknowledged: InboxSeq::ZERO,
            ticket: None,
            nonces: 0,
            outbox: Vec::new(),
            quiet_ticks: 0,
            client: None,
        }
    }

    /// No answer on a connection is waited for any more.
    pub(crate) fn gives_up(&mut self, client: usize) {
        for mail in &mut self.outbox {
            if mail.waits_on == Some(client) {
                mail.waits_on = None;
            }
        }
    }

    /// A connection has ended.
    pub(crate) fn loses(&mut self, client: usize) {
        self.gives_up(client);
        if self.client == Some(client) {
            self.client = None;
        }
    }
}

/// What a connection has asked.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// The mail of this index, transmitted for the first time or not; with another content than
    /// the mail's, which is to be refused.
    Mail {
        index: usize,
        is_first: bool,
        is_altered: bool,
    },
    /// A page of the inbox behind this place.
    Sync(InboxSeq),
    History {
        channel: ChannelId,
        from: Seq,
        forward: bool,
    },
    /// The conversations, with how far each was known to be read when they were asked for.
    List(BTreeMap<ChannelId, Seq>),
    Ping,
}

/// One connection of a device.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) device: usize,
    /// What it said in Hello.
    pub(crate) said: (Epoch, InboxSeq),
    /// The inbox reached so far when it said so, by what anybody was told.
    pub(crate) told_before: InboxSeq,
    pub(crate) welcomed: Option<Welcomed>,
    /// The device had another connection while it had this one.
    pub(crate) has_rival: bool,
    /// Asked and not answered.
    pub(crate) requests: BTreeMap<u32, Request>,
    /// First transmissions on this connection that were kept: request and place, by channel.
    pub(crate) kept: BTreeMap<ChannelId, BTreeMap<u32, Seq>>,
    pub(crate) said_bye: bool,
    /// It was closed with this code.
    pub(crate) closed: Option<u16>,
}

/// A session that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Welcomed {
    /// The head of the inbox at that moment.
    pub(crate) head: InboxSeq,
    /// The next place it must hear of.
    pub(crate) next: InboxSeq,
    pub(crate) is_caught_up: bool,
    /// The highest place that came live.
    pub(crate) live: InboxSeq,
}

impl Session {
    /// Checks that what one connection sent to one channel keeps its order.
    pub(crate) fn keeps(&mut self, channel: ChannelId, request: u32, seq: Seq) {
        let kept = self.kept.entry(channel).or_default();
        let before = kept.range(..request).next_back();
        let after = kept.range(request + 1..).next();
        assert!(before.is_none_or(|(_, before)| *before < seq), "order: {channel}{seq} {before:?}");
        assert!(after.is_none_or(|(_, after)| *after > seq), "order: {channel}{seq} {after:?}");
        kept.insert(request, seq);
    }
}
