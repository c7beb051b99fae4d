//! Gives every message its place in its channel.
//!
//! An [`Offer`] becomes a [`Sequenced`] entry, a repeat of one, or a refusal. Channels are loaded
//! when they are first spoken of and forgotten when they have been quiet; offers to a channel
//! that is being loaded (or searched for an old retry) wait in it, in order.
//!
//! Methods: `offer` and `handle_*` say what happened; their [`Verdict`] says what to do.
//! Watermarks of a channel: `committed <= last`.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use variants::Variant;
use wire::{
    ChannelId, ChannelKind, Content, CoreId, LogEntry, Member, MembershipOp, RejectCode, Role, Seq,
    Timestamp, UserId,
};

use crate::Map;
use crate::fan_out::Recipients;
use crate::membership::{Change, Membership, Refusal};
use crate::nonces::{NonceWindow, Receipt, SendKey};
use crate::sessions::ConnId;
use crate::shard_map::ShardMap;

/// Offers that may wait for one channel to be loaded. Beyond it they are refused as `Overloaded`.
pub const PARKED_MAX: usize = 256;

/// Larger groups do not see who has read what: a marker from each of n members to each of the
/// others is n² entries a message.
pub const READ_MARKER_MEMBERS_MAX: usize = 32;

/// Channels from which is estimated what all of them hold.
const SAMPLE: usize = 128;

/// How long a client should wait before it repeats an offer that found the channel crowded.
const CROWDED_RETRY_MS: u32 = 500;

/// The session that asked, for the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Its core.
    pub core: CoreId,
    /// Its connection there.
    pub conn: ConnId,
    /// The request number to repeat in the answer.
    pub request: u32,
}

/// What a session asks of a channel.
#[derive(Clone, Debug)]
pub struct Offer {
    /// For the answer.
    pub origin: Origin,
    /// The channel, and who asks under which nonce.
    pub channel: ChannelId,
    /// Names the send.
    pub key: SendKey,
    /// The device says that it has sent this before.
    pub retry: bool,
    /// A hash of what is asked, to tell a repeat from another send under the same nonce.
    pub fingerprint: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked of a channel's log.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Put a message into it.
    Post {
        /// As in the frame.
        kind: u8,
        /// The one copy out of the receive buffer, shared from here on.
        body: Bytes,
    },
    /// Make it.
    Create {
        /// What kind of channel.
        kind: ChannelKind,
        /// For humans.
        title: Arc<str>,
        /// Besides the creator.
        members: Arc<[UserId]>,
    },
    /// Change its members.
    Change {
        /// How.
        op: MembershipOp,
        /// Of those added.
        role: Role,
        /// Who.
        members: Arc<[UserId]>,
        /// A service has decided it: the rights of the actor are not looked at.
        decided: bool,
    },
    /// Tell the others that the sender has read up to a place. Leaves no entry in the log.
    Read {
        /// Up to where.
        seq: Seq,
        /// Whoever asks is told that it is on its way.
        answered: bool,
    },
}

impl Ask {
    /// Whether the session that asks waits for an answer.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        !matches!(self, Self::Read { answered: false, .. })
    }

    /// Bytes of memory that it holds beside its own.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Post { body, .. } => body.len(),
            Self::Create { title, members, .. } => title.len() + size_of_val(&**members),
            Self::Change { members, .. } => size_of_val(&**members),
            Self::Read { .. } => 0,
        }
    }
}

/// An entry that has its place but may not be on disk.
#[derive(Debug)]
pub struct Sequenced {
    /// The entry.
    pub entry: LogEntry,
    /// Who asked for it.
    pub origin: Origin,
    /// Who gets it.
    pub recipients: Recipients,
    /// Member records that change with it.
    pub members: Box<[Member]>,
}

/// What is to be done about an offer.
#[derive(Debug)]
pub enum Verdict {
    /// Write it; acknowledge and fan out when it is durable.
    Sequenced(Sequenced),
    /// Sent before: answer with the first receipt (the first one may not be durable yet, so the
    /// answer goes through the commit window like everything else).
    Repeat(Offer, Receipt),
    /// The sender has read up to `seq`: put a marker into her inbox, and if it is news there into
    /// those of the others.
    Read(Offer, Seq, Recipients),
    /// Refused; the number is after how many milliseconds to try again, 0 for never.
    Refused(Offer, Refusal, u32),
    /// It waits in the channel; load the channel, if this is the first to wait for it.
    Parked(Option<Wanted>),
}

/// What the sequencer needs from the store before it can go on with a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// The channel's state; answer with [`Sequencer::handle_loaded`].
    Channel(ChannelId),
    /// Which of these sends the log below `below` holds; answer with
    /// [`Sequencer::handle_searched`]. After a crash all devices repeat what was not answered: one
    /// search for each would read the log thousands of times.
    Sends {
        /// The channel.
        channel: ChannelId,
        /// The sends: every retry that waits.
        keys: Arc<[SendKey]>,
        /// The window covers the log from here on.
        below: Seq,
    },
}

/// A channel as the store has it.
#[derive(Debug)]
pub struct Loaded {
    /// The last place that is taken.
    pub last: Seq,
    /// When that was.
    pub last_created_at: Timestamp,
    /// Present and former members (none for a `Direct` channel).
    pub members: Vec<Member>,
    /// The newest sends in ascending order.
    pub recent: Vec<(SendKey, Receipt)>,
}

/// What the store found of old sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Searched {
    /// Those that are in the log.
    pub found: Vec<(SendKey, Receipt)>,
    /// The others are not; otherwise the log is longer than what is searched.
    pub is_whole: bool,
}

/// A search of the log. Its results are good until the offers that waited for it have been looked
/// at: what is placed meanwhile is in the window.
#[derive(Debug)]
struct Search {
    /// What became of the sends that are searched for; of all none until the answer is here.
    sends: Map<SendKey, Option<Receipt>>,
    is_whole: bool,
}

#[derive(Debug)]
struct Channel {
    last: Seq,
    committed: Seq,
    last_created_at: Timestamp,
    membership: Membership,
    nonces: NonceWindow,
    phase: Phase,
    /// The present search, or the last one as long as offers wait that it was for.
    search: Option<Search>,
    parked: VecDeque<Offer>,
    /// Spoken of since the last look for quiet channels.
    recent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Loading,
    /// Retries among `parked`, its front is one, wait for a search of the log.
    Searching,
    Ready,
}

/// Limits of the channels of one core.
#[derive(Clone, Copy, Debug)]
pub struct SequencerLimits {
    /// Members of a group.
    pub group_members_max: usize,
    /// Sends a channel remembers: see [`crate::nonces`].
    pub nonce_window: usize,
    /// Channels in memory; beyond it quiet ones are forgotten.
    pub channels_max: usize,
}

/// The channels of one core.
#[derive(Debug)]
pub struct Sequencer {
    channels: Map<ChannelId, Channel>,
    /// All channels in memory, in the order in which they are looked at for quiet ones (the clock
    /// of a second-chance cache).
    clock: VecDeque<ChannelId>,
    map: ShardMap,
    limits: SequencerLimits,
}

impl Sequencer {
    /// No channel in memory.
    #[must_use]
    pub fn new(map: ShardMap, limits: SequencerLimits) -> Self {
        Self { channels: Map::default(), clock: VecDeque::new(), map, limits }
    }

    /// How many channels are in memory.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Bytes that the channels hold: an estimate from some that will be looked at next,
    /// since going through all of them would hold up the core.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let sample = self.clock.iter().take(SAMPLE).filter_map(|id| self.channels.get(id));
        let (count, bytes) = sample.fold((0, 0), |(count, bytes), channel| {
            (count + 1, bytes + channel.nonces.memory_bytes() + channel.membership.memory_bytes())
        });
        let each = bytes / count.max(1);
        let clock = self.clock.capacity() * size_of::<ChannelId>();
        self.channels.allocation_size() + clock + each * self.channels.len()
    }

    /// Takes an offer.
    pub fn offer(&mut self, offer: Offer, now: Timestamp) -> Verdict {
        let id = offer.channel;
        let Some(channel) = self.channels.get_mut(&id) else {
            self.make_room();
            self.clock.push_back(id);
            self.channels.insert(id, Channel::loading(offer, self.limits.nonce_window));
            return Verdict::Parked(Some(Wanted::Channel(id)));
        };
        channel.recent = true;
        if channel.phase == Phase::Ready {
            return channel.sequence(offer, now, self.map, self.limits.group_members_max);
        }
        if channel.parked.len() >= PARKED_MAX {
            let text = "too many messages wait for this channel; send it again";
            let refusal = Refusal { code: RejectCode::Overloaded, text };
            return Verdict::Refused(offer, refusal, CROWDED_RETRY_MS);
        }
        channel.parked.push_back(offer);
        Verdict::Parked(None)
    }

    /// The store has read a channel. Call [`Self::next_parked`] until it has nothing more.
    pub fn handle_loaded(&mut self, id: ChannelId, loaded: Loaded) {
        let map = self.map;
        let channel = self.channels.get_mut(&id).expect("a channel is kept while it is loaded");
        assert_eq!(channel.phase, Phase::Loading, "a channel is loaded once");
        channel.last = loaded.last;
        if variants::is(Variant::SeqReused) {
            channel.last = Seq::new(loaded.last.get().saturating_sub(1));
        }
        channel.committed = channel.last;
        channel.last_created_at = loaded.last_created_at;
        channel.membership = Membership::new(id, &loaded.members, map);
        let recent = loaded.recent.into_iter().filter(|_| !variants::is(Variant::NoncesLost));
        for (key, receipt) in recent {
            channel.nonces.remember(key, receipt, loaded.last);
        }
        channel.phase = Phase::Ready;
    }

    /// The store has searched a channel's log for retries among those parked. Call
    /// [`Self::next_parked`] until it has nothing more.
    pub fn handle_searched(&mut self, id: ChannelId, searched: Searched) {
        let channel = self.channels.get_mut(&id).expect("a channel is kept while it is searched");
        assert_eq!(channel.phase, Phase::Searching, "a search was asked for");
        channel.phase = Phase::Ready;
        let search = channel.search.as_mut().expect("a search is kept until it is answered");
        search.is_whole = searched.is_whole;
        for (key, receipt) in searched.found {
            search.sends.insert(key, Some(receipt));
        }
    }

    /// The next verdict on the offers that waited in a channel, once it can give one.
    pub fn next_parked(&mut self, id: ChannelId, now: Timestamp) -> Option<Verdict> {
        let channel = self.channels.get_mut(&id)?;
        if channel.phase != Phase::Ready {
            return None;
        }
        let Some(offer) = channel.parked.pop_front() else {
            channel.search = None;
            return None;
        };
        Some(channel.sequence(offer, now, self.map, self.limits.group_members_max))
    }

    /// An entry is durable. Asserts on the second road that places are dense.
    pub fn handle_committed(&mut self, id: ChannelId, seq: Seq) {
        let channel = self.channels.get_mut(&id).expect("a channel is kept until it is committed");
        assert_eq!(channel.committed.next(), seq, "{id} commits without a gap");
        channel.committed = seq;
        channel.check();
    }

    /// The members to tell that `user` is typing. None if she is not a member, if the group is
    /// too large for such news, or if the channel is not in memory: then nobody is looking at it.
    #[must_use]
    pub fn bystanders(&self, id: ChannelId, user: UserId) -> Option<Recipients> {
        let channel = self.channels.get(&id).filter(|channel| channel.phase != Phase::Loading)?;
        channel.membership.require_member(user).ok()?;
        let recipients = channel.membership.recipients();
        (recipients.len() <= READ_MARKER_MEMBERS_MAX).then_some(recipients)
    }

    /// The last durable place of a channel in memory.
    #[must_use]
    pub fn committed(&self, id: ChannelId) -> Option<Seq> {
        let channel = self.channels.get(&id)?;
        (channel.phase != Phase::Loading).then_some(channel.committed)
    }

    /// At the bound, forgets a quiet channel: one that nothing waits for and that was not spoken
    /// of since the clock's hand last passed it. If all are busy the bound gives way for now; each
    /// busy one is bounded by the commit window or by the reads in flight.
    fn make_room(&mut self) {
        if self.channels.len() < self.limits.channels_max {
            return;
        }
        for _ in 0..8 {
            let Some(id) = self.clock.pop_front() else { return };
            let channel = self.channels.get_mut(&id).expect("the clock lists those in memory");
            if channel.is_quiet() && !channel.recent {
                self.channels.remove(&id);
                if self.channels.len() < self.limits.channels_max {
                    return;
                }
                continue; // The bound gave way before: it comes back.
            }
            channel.recent = false;
            self.clock.push_back(id);
        }
    }
}

impl Channel {
    fn loading(first: Offer, nonce_window: usize) -> Self {
        Self {
            last: Seq::ZERO,
            committed: Seq::ZERO,
            last_created_at: Timestamp(0),
            // Stands in until the store has answered; no offer is looked at before that.
            membership: Membership::Pair(first.key.sender, first.key.sender),
            nonces: NonceWindow::new(nonce_window),
            phase: Phase::Loading,
            search: None,
            parked: VecDeque::from([first]),
            recent: true,
        }
    }

    fn is_quiet(&self) -> bool {
        self.phase == Phase::Ready && self.parked.is_empty() && self.committed == self.last
    }

    fn check(&self) {
        assert!(self.committed <= self.last, "committed <= last");
    }

    /// Repeats are answered before anything else is looked at: what was accepted once stays
    /// accepted, even if the sender has left the channel since.
    fn sequence(&mut self, offer: Offer, now: Timestamp, map: ShardMap, max: usize) -> Verdict {
        if let Ask::Read { seq, .. } = offer.ask {
            return self.read(offer, seq);
        }
        if let Some(receipt) = self.nonces.find(&offer.key) {
            return repeat(offer, receipt);
        }
        let oldest_known = self.last.get() - self.nonces.len() as u64;
        let searches = offer.retry && !variants::is(Variant::RetryNotSearched);
        if searches && oldest_known > 0 {
            let search = self.search.as_ref();
            let known = search.and_then(|search| Some((search, *search.sends.get(&offer.key)?)));
            match known {
                Some((_, Some(receipt))) => return repeat(offer, receipt),
                Some((search, None)) if search.is_whole => {}
                // One that has taken place is refused as that; and a log must not become so long
                // that its members can no more be changed.
                Some((_, None)) if matches!(offer.ask, Ask::Change { .. }) => {}
                Some((_, None)) => {
                    let text = "the first transmission may lie further back than is searched; if \
                                you want it sent, send it as new";
                    let refusal = Refusal { code: RejectCode::RetryTooOld, text };
                    return Verdict::Refused(offer, refusal, 0);
                }
                None => return self.search_for(offer, Seq::new(oldest_known + 1)),
            }
        }
        self.admit(offer, now, map, max)
    }

    /// Begins a search for `offer` and every other retry that waits.
    fn search_for(&mut self, offer: Offer, below: Seq) -> Verdict {
        let channel = offer.channel;
        self.parked.push_front(offer);
        let retries = self.parked.iter().filter(|offer| offer.retry);
        let unknown = retries.filter(|offer| self.nonces.find(&offer.key).is_none());
        let keys: Arc<[SendKey]> = unknown.map(|offer| offer.key).collect();
        let sends = keys.iter().map(|key| (*key, None)).collect();
        self.search = Some(Search { sends, is_whole: false });
        self.phase = Phase::Searching;
        Verdict::Parked(Some(Wanted::Sends { channel, keys, below }))
    }

    fn read(&self, offer: Offer, seq: Seq) -> Verdict {
        if let Err(refusal) = self.membership.require_member(offer.key.sender) {
            return Verdict::Refused(offer, refusal, 0);
        }
        let mut others = self.membership.recipients();
        if others.len() > READ_MARKER_MEMBERS_MAX {
            others = Recipients::Listed(Arc::default());
        }
        let beyond = variants::is(Variant::MarkerBeyond);
        Verdict::Read(offer, if beyond { seq } else { seq.min(self.committed) }, others)
    }

    fn admit(&mut self, offer: Offer, now: Timestamp, map: ShardMap, max: usize) -> Verdict {
        match self.examine(&offer, map, max) {
            Err(refusal) => Verdict::Refused(offer, refusal, 0),
            Ok(None) => self.place(offer, now, |membership, _, ask| {
                let Ask::Post { kind, body } = ask else {
                    unreachable!("only a post changes no membership")
                };
                (Content::Message { kind, body }, Box::default(), membership.recipients())
            }),
            Ok(Some(change)) => self.place(offer, now, |membership, seq, _| {
                let recipients = change.recipients.clone();
                let (content, members) = membership.apply(change, seq, map);
                (content, members, recipients)
            }),
        }
    }

    /// Whether the offer is permitted, and what it changes of the membership.
    fn examine(&self, offer: &Offer, map: ShardMap, max: usize) -> Result<Option<Change>, Refusal> {
        let actor = offer.key.sender;
        match &offer.ask {
            Ask::Post { .. } => {
                let is_member = self.membership.require_member(actor);
                if variants::is(Variant::MembershipUnchecked) {
                    Ok(None)
                } else {
                    is_member.map(|()| None)
                }
            }
            Ask::Create { kind, title, members } if self.last == Seq::ZERO => {
                Membership::create(actor, *kind, Arc::clone(title), members, max, map).map(Some)
            }
            Ask::Create { .. } => Err(Refusal {
                code: RejectCode::NonceReused,
                text: "nonce: a channel was made under it already; take another",
            }),
            Ask::Read { .. } => unreachable!("a read marker takes no place"),
            Ask::Change { op, role, members, decided } => {
                let actor = (!decided).then_some(actor);
                self.membership.change(actor, *op, *role, members, max, map).map(Some)
            }
        }
    }

    /// Gives the next place.
    fn place(
        &mut self,
        offer: Offer,
        now: Timestamp,
        make: impl FnOnce(&mut Membership, Seq, Ask) -> (Content, Box<[Member]>, Recipients),
    ) -> Verdict {
        let seq = self.last.next();
        // A clock that steps back must not make a log that seems to.
        let created_at = now.max(self.last_created_at);
        let (content, members, recipients) = make(&mut self.membership, seq, offer.ask);
        let SendKey { sender, device, nonce } = offer.key;
        let entry =
            LogEntry { channel: offer.channel, seq, sender, device, nonce, created_at, content };
        let receipt = Receipt { seq, created_at, fingerprint: offer.fingerprint };
        self.nonces.remember(offer.key, receipt, self.committed);
        (self.last, self.last_created_at) = (seq, created_at);
        self.check();
        Verdict::Sequenced(Sequenced { entry, origin: offer.origin, recipients, members })
    }
}

fn repeat(offer: Offer, first: Receipt) -> Verdict {
    if offer.fingerprint == first.fingerprint {
        return Verdict::Repeat(offer, first);
    }
    let text = "nonce: used before for another message; take a new one for a new message";
    Verdict::Refused(offer, Refusal { code: RejectCode::NonceReused, text }, 0)
}
