//! Whether the server kept its promises: every message that was `Posted` is delivered exactly once
//! to every session of its channel, in the order of its `seq`, without gaps, as it was posted; and
//! each inbox goes on without gaps.
//!
//! All sessions of a channel are on one thread, so the oracle of a thread sees everything about
//! its channels. Memory: a few words a channel and a session, whatever the number of messages. What
//! was delivered is compared with what was posted through a fingerprint: the sum of a hash of
//! (place, sender, nonce) over all messages, which does not depend on the order of arrival.
//!
//! Where sessions come back and send again, that is not enough to name what went wrong: then a
//! [`Ledger`] remembers which message has which place, for some 100 bytes a message.

mod ledger;
mod places;

use std::ops::Range;

use serde::Serialize;
use wire::{InboxSeq, Nonce, Seq, UserId};

use ledger::{Claim, Ledger};
use places::Places;
pub(crate) use places::Verdict;

/// What the oracle found. All zero is what must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// Posted, and not delivered to a session of the channel.
    pub(crate) lost: u64,
    /// Delivered, answered or placed more than once.
    pub(crate) duplicated: u64,
    /// Came after one that has a higher place.
    pub(crate) reordered: u64,
    /// Places of a channel or an inbox that were passed over and never filled.
    pub(crate) gaps: u64,
    /// Delivered otherwise than it was posted: another body, sender, nonce or place.
    pub(crate) altered: u64,
    /// Places of a channel that were given to a second message. Found while sessions reconnect.
    pub(crate) reused: u64,
}

impl Findings {
    /// Whether there is nothing to complain about.
    pub(crate) fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.gaps += other.gaps;
        self.altered += other.altered;
        self.reused += other.reused;
    }
}

/// The message that was placed or delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) seq: Seq,
    pub(crate) sender: UserId,
    pub(crate) nonce: Nonce,
}

#[derive(Debug)]
struct Channel {
    members: Range<u32>,
    posted: u64,
    /// Lowest and highest place that an answer named.
    range: Option<(u64, u64)>,
    print: u64,
    /// Posts whose fate is not known, as no answer came.
    unknown: u64,
}

#[derive(Debug, Default)]
struct Member {
    channel: u32,
    places: Places,
    inbox: Places,
    print: u64,
    /// The last place that was given to a message of its own.
    own: u64,
    /// Messages of other runs among the places.
    foreign: u64,
    has_ended: bool,
}

/// The oracle of one thread.
///
/// `handle_*`: what happened. [`Self::finish`]: the verdict.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    channels: Vec<Channel>,
    members: Vec<Member>,
    /// `None` while no session reconnects.
    ledger: Option<Ledger>,
    findings: Findings,
}

impl Oracle {
    /// For channels of these sizes, whose sessions are numbered through; whether they reconnect.
    pub(crate) fn new(sizes: &[u32], reconnects: bool) -> Self {
        let mut oracle = Self { ledger: reconnects.then(Ledger::default), ..Self::default() };
        for (channel, size) in (0..).zip(sizes) {
            let first = u32::try_from(oracle.members.len()).expect("sessions are few");
            let members = first..first + size;
            oracle.members.extend(members.clone().map(|_| Member { channel, ..Member::default() }));
            let fresh = Channel { members, posted: 0, range: None, print: 0, unknown: 0 };
            oracle.channels.push(fresh);
        }
        oracle
    }

    /// A session is live: its inbox goes on behind `head`.
    pub(crate) fn handle_live(&mut self, session: u32, head: InboxSeq) {
        self.member(session).inbox = Places::expect_from(head.get() + 1);
    }

    /// A session is live again, and the server does not know its cursor: what was still owed to it
    /// will not come, which is at least one loss.
    pub(crate) fn handle_reset(&mut self, session: u32, head: InboxSeq) {
        self.findings.lost += 1;
        self.handle_live(session, head);
    }

    /// A session is over: nothing more is owed to it.
    pub(crate) fn handle_ended(&mut self, session: u32) {
        self.member(session).has_ended = true;
    }

    /// So many posts to a channel will get no answer: they may have a place in it or not.
    pub(crate) fn handle_unanswered(&mut self, channel: u32, count: u64) {
        self.channels[channel as usize].unknown += count;
    }

    /// The channel was told to be made at this place: messages follow it.
    pub(crate) fn handle_created(&mut self, session: u32, inbox_seq: InboxSeq, seq: Seq) {
        self.handle_entry(session, inbox_seq);
        self.member(session).places = Places::expect_from(seq.next().get());
    }

    /// An answer gave a message of `session` its place. `is_first`: it answers the first
    /// transmission.
    pub(crate) fn handle_posted(&mut self, session: u32, named: Named, is_first: bool) {
        self.claim(session, named);
        let place = named.seq.get();
        let member = &mut self.members[session as usize];
        let channel = member.channel;
        // One device's messages are placed in the order in which it sent them; but one that was
        // refused for a while, or whose refusal was lost, may come behind those sent after it.
        if place == member.own {
            self.findings.duplicated += 1;
        } else if place < member.own && is_first {
            self.findings.reordered += 1;
        }
        member.own = member.own.max(place);
        let channel = &mut self.channels[channel as usize];
        channel.posted += 1;
        channel.print = channel.print.wrapping_add(fingerprint(named));
        let (first, last) = channel.range.unwrap_or((place, place));
        channel.range = Some((first.min(place), last.max(place)));
    }

    /// An answer came to a question that had its answer, or was never asked.
    pub(crate) fn handle_answered_twice(&mut self) {
        self.findings.duplicated += 1;
    }

    /// A body, sender or channel is not what was posted.
    pub(crate) fn handle_altered(&mut self) {
        self.findings.altered += 1;
    }

    /// An entry of an inbox that is no message of a channel of this run.
    pub(crate) fn handle_entry(&mut self, session: u32, inbox_seq: InboxSeq) {
        let verdict = self.member(session).inbox.insert(inbox_seq.get());
        self.count(verdict);
    }

    /// A message was delivered. `is_ours`: it was sent by this run. The verdict is that of its
    /// place in the channel; a message that came before the run's first one has none.
    pub(crate) fn handle_message(
        &mut self,
        session: u32,
        inbox_seq: InboxSeq,
        named: Named,
        is_ours: bool,
    ) -> Option<Verdict> {
        if is_ours {
            self.claim(session, named);
        }
        let member = self.member(session);
        let in_inbox = member.inbox.insert(inbox_seq.get());
        if !is_ours && member.places.range().is_none() {
            self.count(in_inbox);
            return None;
        }
        let verdict = member.places.insert(named.seq.get());
        if verdict != Verdict::Duplicate {
            if is_ours {
                member.print = member.print.wrapping_add(fingerprint(named));
            } else {
                member.foreign += 1;
            }
        }
        // One delivery is one finding, although it stands in two sequences.
        let worse =
            if matches!(verdict, Verdict::Late | Verdict::Duplicate) { verdict } else { in_inbox };
        self.count(worse);
        Some(verdict)
    }

    /// Everything has come that will come.
    pub(crate) fn finish(mut self) -> Findings {
        let mut findings = self.findings;
        for channel in self.channels.drain(..) {
            let members = &self.members[channel.members.start as usize..];
            let members = &members[..channel.members.len()];
            findings.add(&examine(&channel, members));
        }
        findings
    }

    /// Compares a message's place with what is known of both.
    fn claim(&mut self, session: u32, named: Named) {
        let channel = self.members[session as usize].channel;
        let Some(ledger) = &mut self.ledger else { return };
        match ledger.claim(channel, named) {
            Claim::Agrees => {}
            Claim::Moved => self.findings.duplicated += 1,
            Claim::Taken => self.findings.reused += 1,
        }
    }

    fn member(&mut self, session: u32) -> &mut Member {
        &mut self.members[session as usize]
    }

    const fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Next | Verdict::Ahead => {}
            Verdict::Late => self.findings.reordered += 1,
            Verdict::Duplicate => self.findings.duplicated += 1,
        }
    }
}

/// One channel at the end.
fn examine(channel: &Channel, members: &[Member]) -> Findings {
    let mut found = Findings::default();
    let live = || members.iter().filter(|member| !member.has_ended);
    for member in live() {
        found.gaps += member.places.missing() + member.inbox.missing();
    }
    let ranges = members.iter().filter_map(|member| member.places.range());
    let range =
        ranges.chain(channel.range).reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    let Some((first, last)) = range else { return found };
    let places = last - first + 1;
    let foreign = members.iter().map(|member| member.foreign).max().unwrap_or(0);
    // Answers and places must be as many: two messages in one place, or a place that is nobody's.
    let accounted = channel.posted + foreign;
    found.duplicated += accounted.saturating_sub(places);
    let nobodys = places.saturating_sub(accounted + channel.unknown);
    found.gaps += nobodys;
    let owed = places - nobodys;
    let is_plain = accounted == places && channel.unknown == 0 && foreign == 0;
    for member in live() {
        let seen = member.places.seen();
        found.lost += owed.saturating_sub(seen);
        found.altered += u64::from(is_plain && seen == places && member.print != channel.print);
    }
    found
}

/// A hash of what names a message, to be summed up.
fn fingerprint(named: Named) -> u64 {
    let mut hash = named.seq.get();
    for part in [named.sender.get(), named.nonce.0] {
        // The finalizer of splitmix64 (Steele, Lea and Flood 2014), a mixing of good quality.
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash = (hash ^ (hash >> 31)).wrapping_add(part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests;
