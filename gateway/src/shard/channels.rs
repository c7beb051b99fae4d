//! The core as the owner of channels: offers in, entries sequenced, released and fanned out.

use router::commit_window::Committed;
use router::fan_out::{Fan, Recipients};
use router::inbox::Notice;
use router::membership::Refusal;
use router::nonces::Receipt;
use router::sequencer::{Ask, Offer, Origin, Sequenced, Verdict, Wanted};
use store::{Pressure, Through};
use variants::Variant;
use wire::server::Durability;
use wire::{BatchNumber, Content, LogEntry, RejectCode, UserId};

use super::Shard;
use super::reads::Asked;
use crate::committing::Pending;
use crate::event::Effects;
use crate::messages::{Answer, Answered, Delivery, Request};

/// A refusal that is the same for whatever was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) code: RejectCode,
    pub(super) text: &'static str,
    pub(super) retry_after_ms: u32,
}

/// What is answered while nothing can be kept.
pub(super) const DISK_FULL: Refused = Refused {
    code: RejectCode::StorageFull,
    text: "the host's disk is full: nothing can be accepted; reading goes on",
    retry_after_ms: 5_000,
};

/// Offers taken in one turn, so that completions are looked at in between. With a few microseconds
/// each, a turn stays below ten milliseconds.
const OFFERS_PER_TURN: usize = 1024;

impl Shard {
    /// Whether entries may be given places now: the disk keeps up, nothing is owed that could not
    /// be delivered, and every bound has room.
    pub(super) fn may_sequence(&self) -> bool {
        self.committing.has_room()
            && !self.ledger.is_full()
            && self.mesh.may_drain_offers()
            && self.pressure != Pressure::Stop
    }

    /// Takes what sessions of all cores offered.
    pub(super) fn drain_offers(&mut self, effects: &mut Effects) {
        for _ in 0..OFFERS_PER_TURN {
            if !self.may_sequence() {
                self.counts.sequencing_paused += 1;
                return;
            }
            match self.mesh.next_offer() {
                Some(Request::Offer(offer)) => {
                    let verdict = self.sequence(offer);
                    self.obey(verdict, effects);
                }
                Some(Request::Typing { channel, user }) => self.tell_typing(channel, user),
                Some(Request::List(list)) => self.tell_conversations(list),
                Some(Request::SessionsEnd(end)) => self.end_sessions(end, effects),
                Some(Request::UserErase(erase)) => self.erase(erase, effects),
                None => return,
            }
        }
    }

    fn sequence(&mut self, offer: Offer) -> Verdict {
        if self.is_full() {
            let Refused { code, text, retry_after_ms } = DISK_FULL;
            return Verdict::Refused(offer, Refusal { code, text }, retry_after_ms);
        }
        self.sequencer.offer(offer, self.now.wall)
    }

    /// Whether nothing can be kept now.
    pub(super) fn is_full(&self) -> bool {
        self.storage_full || self.committing.is_refused()
    }

    /// Does what the sequencer says.
    pub(super) fn obey(&mut self, verdict: Verdict, effects: &mut Effects) {
        match verdict {
            Verdict::Sequenced(sequenced) => {
                let batch = self.committing.batch();
                batch.append_entry(&sequenced.entry);
                for member in &sequenced.members {
                    batch.put_member(sequenced.entry.channel, member);
                }
                self.counts.sequenced += 1;
                let (entry, recipients) = (sequenced.entry.clone(), sequenced.recipients.clone());
                self.committing.push(Pending::Entry(sequenced));
                self.place_here(entry, &recipients, effects);
            }
            Verdict::Repeat(offer, receipt) => {
                self.counts.repeats += 1;
                if variants::is(Variant::RepeatAnsweredEarly) {
                    return self.answer_again(&offer, receipt, Durability::Durable);
                }
                self.committing.push(Pending::Again(offer, receipt));
            }
            Verdict::Read(offer, seq, others) => {
                // Behind the fan-outs of what she has read: her inbox has it when this arrives.
                let (channel, reader) = (offer.channel, offer.key.sender);
                let target = self.common.map.core_of_user(reader);
                let marked = Delivery::Marked { reader, channel, seq, others };
                self.mesh.deliver(target, marked);
                self.answer(&offer, Answered::Done(Durability::Accepted));
            }
            Verdict::Refused(offer, refusal, retry_after_ms) => {
                self.counts.rejected += 1;
                let (code, text) = (refusal.code, refusal.text);
                self.answer(&offer, Answered::Rejected { code, text, retry_after_ms });
            }
            Verdict::Parked(None) => {}
            Verdict::Parked(Some(Wanted::Channel(channel))) => {
                self.ask(Asked::Channel(channel), effects);
            }
            Verdict::Parked(Some(Wanted::Sends { channel, keys, below })) => {
                self.ask(Asked::Sends { channel, keys, below }, effects);
            }
        }
    }

    /// A batch came back: what waited for it goes on its way.
    pub(super) fn stored(&mut self, through: Through, effects: &mut Effects) {
        let number = through.number;
        let Some(durability) = self.committing.handle_stored(through) else { return };
        self.inboxes.handle_released(number);
        while let Some(pending) = self.committing.next_released() {
            self.release(pending, (number, durability), effects);
        }
        self.acknowledge_fans();
    }

    fn release(
        &mut self,
        pending: Committed<Pending>,
        (batch, durability): (BatchNumber, Durability),
        effects: &mut Effects,
    ) {
        match pending.into_inner() {
            Pending::Entry(sequenced) => self.release_entry(sequenced, batch, durability),
            Pending::Again(offer, receipt) => self.answer_again(&offer, receipt, durability),
            Pending::Placed { notice, piece, count } => self.release_placed(&notice, piece, count),
            Pending::Folded(user, through) => {
                let online = self.sessions.is_online(user);
                self.inboxes.handle_folded(user, through, online);
            }
            Pending::Service(origin) => self.answer_service(origin, Answered::Done(durability)),
            Pending::Erasing(key) => self.ask(Asked::Left(key), effects),
        }
    }

    fn release_entry(&mut self, sequenced: Sequenced, batch: BatchNumber, durability: Durability) {
        let Sequenced { entry, origin, recipients, .. } = sequenced;
        self.sequencer.handle_committed(entry.channel, entry.seq);
        let created_at = entry.created_at;
        let verdict = match entry.content {
            Content::Created { .. } => Answered::Ready { created_at, durability },
            _ => Answered::Posted { seq: entry.seq, created_at, durability },
        };
        let Origin { core, conn, request } = origin;
        let (channel, nonce) = (Some(entry.channel), entry.nonce);
        let answer = Answer { conn, request, channel, nonce, verdict };
        self.mesh.deliver(core, Delivery::Answer(answer));
        let (source, ledger, mesh) = (self.core, &mut self.ledger, &mut self.mesh);
        recipients.for_each_core(self.common.map, |target, users| {
            if target == source {
                return; // They have it: see `place_here`.
            }
            let number = ledger.send(target, batch);
            let entry = entry.clone();
            mesh.deliver(target, Delivery::Fan(Fan { source, number, entry, users }));
        });
    }

    /// Gives an entry its places in the inboxes of this core with the entry itself: one batch makes
    /// both durable, so its recipients here wait for one commit and not for two.
    fn place_here(&mut self, entry: LogEntry, recipients: &Recipients, effects: &mut Effects) {
        let (source, batch) = (self.core, self.committing.open_number());
        if let Some(users) = recipients.on_core(self.common.map, source) {
            let number = self.ledger.send(source, batch);
            self.place_fan(Fan { source, number, entry, users }, effects);
        }
    }

    fn answer_again(&mut self, offer: &Offer, receipt: Receipt, durability: Durability) {
        let Receipt { seq, created_at, .. } = receipt;
        let verdict = match offer.ask {
            Ask::Create { .. } => Answered::Ready { created_at, durability },
            _ => Answered::Posted { seq, created_at, durability },
        };
        self.answer(offer, verdict);
    }

    fn answer(&mut self, offer: &Offer, verdict: Answered) {
        if !offer.ask.is_answered() {
            return; // And not counted as in flight.
        }
        let Origin { core, conn, request } = offer.origin;
        let (channel, nonce) = (Some(offer.channel), offer.key.nonce);
        let answer = Answer { conn, request, channel, nonce, verdict };
        self.mesh.deliver(core, Delivery::Answer(answer));
    }

    fn tell_typing(&mut self, channel: wire::ChannelId, user: UserId) {
        if let Some(recipients) = self.sequencer.bystanders(channel, user) {
            self.for_each_core(&recipients, |users| Delivery::Typing { users, channel, user });
        }
    }

    fn for_each_core(
        &mut self,
        recipients: &Recipients,
        make: impl Fn(router::fan_out::Users) -> Delivery,
    ) {
        let mesh = &mut self.mesh;
        recipients.for_each_core(self.common.map, |core, users| mesh.deliver(core, make(users)));
    }

    /// Tells each source core how far its fan-outs are durable here.
    fn acknowledge_fans(&mut self) {
        let from = self.core;
        for (source, tracker) in (0_u16..).zip(&mut self.trackers) {
            if let Some(through) = tracker.poll_ack() {
                self.mesh.deliver(wire::CoreId(source), Delivery::FanAck { from, through });
            }
        }
    }

    /// What a notice is worth once it is durable; see `inboxes`.
    fn release_placed(&mut self, notice: &Notice, piece: router::inbox::Piece, count: usize) {
        if let Some((source, number)) = piece {
            self.trackers[usize::from(source.0)].piece_done(number);
        }
        self.deliver_placed(notice, count);
        if let Notice::Read { channel, user, seq, others: Some(others) } = notice
            && count > 0
        {
            let (channel, user, seq) = (*channel, *user, *seq);
            self.for_each_core(others, |users| Delivery::Read { users, channel, user, seq });
        }
    }
}
