//! The router's parts, joined as a core joins them, beside their model.

use std::collections::{BTreeMap, VecDeque};

use router::commit_window::CommitWindow;
use router::fan_out::{FanLedger, FanNumber, FanTracker};
use router::inbox::{InboxLimits, Inboxes, Notice, Parked, Piece, Placement, Resumed};
use router::sequencer::{Offer, Searched, Sequenced, Sequencer, SequencerLimits, Verdict, Wanted};
use router::shard_map::ShardMap;
use wire::{BatchNumber, ChannelId, CoreId, InboxSeq, LogEntry, Timestamp, UserId};

use super::Step;
use super::inboxes::{Chunk, Model};
use super::model::{Channel, Logged, NONCE_WINDOW, channel, offer, user};

/// The only core.
const HERE: CoreId = CoreId(0);

/// Channels in memory: fewer than there are.
const CHANNELS_MAX: usize = 2;

/// Conversations in memory: fewer than there are.
const CONVERSATIONS_MAX: usize = 3;

/// Rounds after which nothing may be owed any more.
const ROUNDS_MAX: usize = 10_000;

/// What waits for its batch.
#[derive(Debug)]
enum Pending {
    Sequenced(Box<Sequenced>),
    Placed { places: Vec<(UserId, InboxSeq)>, piece: Piece },
    Folded(Chunk),
}

/// A fan-out on its way.
#[derive(Debug)]
struct Fan {
    number: FanNumber,
    logged: Logged,
}

/// See the module's documentation.
pub(super) struct World {
    sequencer: Sequencer,
    window: CommitWindow<Pending>,
    /// The open batch, and the last that is durable.
    open: BatchNumber,
    released: BatchNumber,
    inboxes: Inboxes,
    ledger: FanLedger,
    tracker: FanTracker,
    fans: VecDeque<Fan>,
    /// Questions about channels that the store has not answered.
    wanted: VecDeque<Wanted>,
    /// Up to where each user's entries were folded, durable or not.
    folded: BTreeMap<UserId, InboxSeq>,
    channels: BTreeMap<ChannelId, Channel>,
    /// By the number of the request: what it was summed up as, and whether as a retry.
    asked: Vec<(u64, bool)>,
    model: Model,
    map: ShardMap,
    now: Timestamp,
}

impl Default for World {
    fn default() -> Self {
        let limits = SequencerLimits {
            group_members_max: 3,
            nonce_window: NONCE_WINDOW,
            channels_max: CHANNELS_MAX,
        };
        let map = ShardMap::new(4, 1);
        Self {
            sequencer: Sequencer::new(map, limits),
            window: CommitWindow::default(),
            open: BatchNumber::ZERO.next(),
            released: BatchNumber::ZERO,
            inboxes: Inboxes::new(InboxLimits::new(CONVERSATIONS_MAX)),
            ledger: FanLedger::new(1),
            tracker: FanTracker::default(),
            fans: VecDeque::new(),
            wanted: VecDeque::new(),
            folded: BTreeMap::new(),
            channels: BTreeMap::new(),
            asked: Vec::new(),
            model: Model::default(),
            map,
            now: Timestamp(1),
        }
    }
}

impl World {
    pub(super) fn take(&mut self, step: Step) {
        self.now = Timestamp(self.now.0 ^ 3); // To and fro, as a clock that is set.
        match step {
            Step::Offer { channel: to, sender, nonce, retry, ask } => {
                self.offer(offer(channel(to), user(sender), nonce, retry, ask));
            }
            Step::Seal => self.seal(),
            Step::Release => self.release(),
            Step::AnswerChannel { whole } => self.answer_channel(whole),
            Step::Fan => self.fan(),
            Step::AnswerInbox => self.answer_inbox(),
            Step::Replay { channel: of, seq } => self.replay(channel(of), seq),
            Step::Fold => self.fold(),
            Step::Restart => self.restart(),
        }
        let next = self.released.next();
        assert!(self.ledger.fanned_out_below(next) <= next, "only what is durable is fanned out");
    }

    /// Works off what is owed, and looks whether it was done.
    pub(super) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.answer_channel(true);
            self.fan();
            self.answer_inbox();
            self.seal();
            while self.released.next() < self.open {
                self.release();
            }
            let waits = self.wanted.len() + self.fans.len() + self.model.wanted.len();
            if waits == 0 && self.window.is_empty() {
                return self.check_settled();
            }
        }
        panic!("still owed: {:?} {:?} {:?}", self.wanted, self.fans, self.model.wanted);
    }

    fn check_settled(&self) {
        assert!(self.ledger.is_idle(), "every fan-out is acknowledged");
        for (id, channel) in &self.channels {
            assert_eq!(channel.durable, channel.log.len(), "{id}: everything is durable");
            for logged in &channel.log {
                for user in &logged.recipients {
                    let item = logged.item();
                    assert!(self.model.has(*user, item), "{user} never got {item:?}");
                }
            }
        }
        for (user, inbox) in &self.model.users {
            assert_eq!(inbox.durable, inbox.entries.len(), "{user}: everything is durable");
        }
    }

    fn offer(&mut self, mut offer: Offer) {
        // A request is named by its number, so that what becomes of it is known later.
        offer.origin.request = u32::try_from(self.asked.len()).expect("few");
        self.asked.push((offer.fingerprint, offer.retry));
        let verdict = self.sequencer.offer(offer, self.now);
        self.heed(verdict);
    }

    fn heed(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Sequenced(sequenced) => {
                let (fingerprint, retry) = self.asked[sequenced.origin.request as usize];
                let mut recipients = Vec::new();
                sequenced.recipients.for_each_core(self.map, |_, users| {
                    recipients.extend(users.iter());
                });
                let entry = sequenced.entry.clone();
                let channel = self.channels.entry(entry.channel).or_default();
                channel.place(Logged { entry, fingerprint, recipients }, retry);
                self.window.push(Pending::Sequenced(Box::new(sequenced)));
            }
            Verdict::Repeat(offer, receipt) => {
                let channel = self.channels.get(&offer.channel).expect("it has an entry");
                channel.check_repeat(&offer, &receipt);
            }
            Verdict::Read(offer, seq, _) => {
                let channel = self.channels.get(&offer.channel);
                let durable = channel.map_or(0, |channel| channel.durable);
                assert!(seq.get() <= durable as u64, "nothing is read before it is durable");
            }
            Verdict::Refused(..) => {}
            Verdict::Parked(wanted) => self.wanted.extend(wanted),
        }
    }

    fn seal(&mut self) {
        self.window.seal(self.open);
        self.open = self.open.next();
    }

    fn release(&mut self) {
        let number = self.released.next();
        if number == self.open {
            return;
        }
        self.window.release(number);
        self.released = number;
        self.inboxes.handle_released(number);
        while let Some(pending) = self.window.next_released() {
            match pending.into_inner() {
                Pending::Sequenced(sequenced) => self.fan_out(*sequenced, number),
                Pending::Placed { places, piece } => {
                    for (user, inbox_seq) in places {
                        self.inboxes.handle_committed(user, inbox_seq);
                        self.model.commit(user, inbox_seq);
                    }
                    if let Some((_, number)) = piece {
                        self.tracker.piece_done(number);
                    }
                }
                Pending::Folded(chunk) => {
                    self.model.fold(&chunk);
                    self.inboxes.handle_folded(chunk.user, chunk.through, false);
                }
            }
        }
        if let Some(through) = self.tracker.poll_ack() {
            self.ledger.handle_ack(HERE, through);
        }
    }

    fn fan_out(&mut self, sequenced: Sequenced, batch: BatchNumber) {
        let LogEntry { channel: id, seq, .. } = sequenced.entry;
        self.sequencer.handle_committed(id, seq);
        let channel = self.channels.get_mut(&id).expect("it has an entry");
        channel.commit(seq, &sequenced.members);
        let logged = channel.log[channel.durable - 1].clone();
        let number = self.ledger.send(HERE, batch);
        self.fans.push_back(Fan { number, logged });
    }

    fn answer_channel(&mut self, whole: bool) {
        let id = match self.wanted.pop_front() {
            None => return,
            Some(Wanted::Channel(id)) => {
                let loaded = self.channels.entry(id).or_default().load();
                self.sequencer.handle_loaded(id, loaded);
                id
            }
            Some(Wanted::Sends { channel: id, keys, below }) => {
                let found = self.channels[&id].find(&keys, below);
                let found = if whole { found } else { Vec::new() };
                self.sequencer.handle_searched(id, Searched { found, is_whole: whole });
                id
            }
        };
        while let Some(verdict) = self.sequencer.next_parked(id, self.now) {
            self.heed(verdict);
        }
    }

    fn fan(&mut self) {
        let Some(Fan { number, logged }) = self.fans.pop_front() else { return };
        let (piece, item) = (Some((HERE, number)), logged.item());
        let notice = Notice::Logged(logged.entry);
        let (mut places, mut parked) = (Vec::new(), 0);
        for user in logged.recipients {
            match self.inboxes.place(user, &notice, self.open) {
                Placement::Placed(inbox_seq) => {
                    self.model.place(user, item, inbox_seq);
                    places.push((user, inbox_seq));
                }
                Placement::Known => assert!(self.model.has(user, item), "{user} lacks {item:?}"),
                Placement::Missing => {
                    parked += 1;
                    let parked = Parked { notice: notice.clone(), piece };
                    self.model.wanted.extend(self.inboxes.park(user, parked));
                }
            }
        }
        let here = u32::from(!places.is_empty() || parked == 0);
        self.tracker.arrived(number, here + parked);
        if here > 0 {
            self.window.push(Pending::Placed { places, piece });
        }
    }

    fn answer_inbox(&mut self) {
        let Some(wanted) = self.model.wanted.pop_front() else { return };
        let user = wanted.user;
        self.inboxes.handle_loaded(self.model.load(wanted));
        loop {
            let (parked, places) = match self.inboxes.place_next_parked(user, self.open) {
                Resumed::Placed(parked, inbox_seq) => {
                    self.model.place(user, parked.notice.item(), inbox_seq);
                    (parked, vec![(user, inbox_seq)])
                }
                Resumed::Known(parked) => {
                    assert!(self.model.has(user, parked.notice.item()), "{user} lacks it");
                    (parked, Vec::new())
                }
                Resumed::Wanted(wanted) => {
                    self.model.wanted.push_back(wanted);
                    return;
                }
                Resumed::Done => return,
            };
            self.window.push(Pending::Placed { places, piece: parked.piece });
        }
    }

    fn replay(&mut self, id: ChannelId, seq: u8) {
        let Some(channel) = self.channels.get(&id) else { return };
        let Some(logged) = channel.log.get(usize::from(seq)) else { return };
        let item = logged.item();
        let notice = Notice::Logged(logged.entry.clone());
        for user in &logged.recipients {
            if self.model.has(*user, item) {
                let placement = self.inboxes.place(*user, &notice, self.open);
                assert!(!matches!(placement, Placement::Placed(_)), "{user}: a replay is new");
            }
        }
    }

    fn fold(&mut self) {
        let Some(fold) = self.inboxes.fold_next(self.open) else { return };
        let before = self.folded.get(&fold.user).copied().unwrap_or_default();
        let chunk = self.model.check_fold(&fold, before);
        self.folded.insert(chunk.user, chunk.through);
        self.window.push(Pending::Folded(chunk));
    }

    /// The router's parts are made anew; the store recovers, and every fan-out that may not have
    /// been finished is made again.
    fn restart(&mut self) {
        self.model.restart();
        let mut channels = std::mem::take(&mut self.channels);
        channels.values_mut().for_each(|channel| channel.log.truncate(channel.durable));
        let inboxes = self.model.users.iter();
        let folded = inboxes.map(|(user, inbox)| (*user, InboxSeq::new(inbox.durable as u64)));
        let (folded, model) = (folded.collect(), std::mem::take(&mut self.model));
        let (asked, now) = (std::mem::take(&mut self.asked), self.now);
        *self = Self { channels, folded, model, asked, now, ..Self::default() };
        for channel in self.channels.values() {
            for logged in &channel.log {
                let number = self.ledger.send(HERE, BatchNumber::ZERO.next());
                self.fans.push_back(Fan { number, logged: logged.clone() });
            }
        }
    }
}
