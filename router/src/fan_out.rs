//! From a committed entry to its members' cores, and how far that has got.

use std::collections::VecDeque;
use std::sync::Arc;

use variants::Variant;
use wire::{BatchNumber, CoreId, LogEntry, UserId};

use crate::shard_map::ShardMap;

/// Fan-outs that one core may have sent and not seen acknowledged. At the bound it stops draining
/// offers. It bounds what the receiving cores hold for inboxes that are still being loaded.
pub const OUTSTANDING_MAX: u64 = 64 * 1024;

/// All who get an entry: the members at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// A `Direct` channel: its pair, equal for a channel with oneself.
    Pair(UserId, UserId),
    /// Listed members by the core that owns them, shared by every entry until membership changes.
    Listed(Arc<[(CoreId, Arc<[UserId]>)]>),
}

/// Those of an entry's recipients who live on one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// One.
    One(UserId),
    /// Both of a pair.
    Two(UserId, UserId),
    /// Of a list.
    Many(Arc<[UserId]>),
}

impl Users {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two(..) => 2,
            Self::Many(users) => users.len(),
        }
    }

    /// Whether there are none (an empty list).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The user at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<UserId> {
        match self {
            Self::One(user) => (index == 0).then_some(*user),
            Self::Two(one, other) => [*one, *other].get(index).copied(),
            Self::Many(users) => users.get(index).copied(),
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = UserId> + '_ {
        (0..self.len()).map_while(|index| self.get(index))
    }
}

impl Recipients {
    /// Listed members, grouped by core in the order of the cores.
    #[must_use]
    pub fn listed(members: impl Iterator<Item = UserId>, map: ShardMap) -> Self {
        let mut by_core: Vec<(CoreId, UserId)> =
            members.map(|user| (map.core_of_user(user), user)).collect();
        by_core.sort_unstable();
        let groups = by_core.chunk_by(|one, other| one.0 == other.0).map(|group| {
            (group[0].0, group.iter().map(|&(_, user)| user).collect::<Arc<[UserId]>>())
        });
        Self::Listed(groups.collect())
    }

    /// Calls `send` once for each core that owns a recipient, with its users.
    pub fn for_each_core(&self, map: ShardMap, mut send: impl FnMut(CoreId, Users)) {
        match self {
            Self::Pair(one, other) if one == other => {
                send(map.core_of_user(*one), Users::One(*one));
            }
            Self::Pair(one, other) => {
                let (first, second) = (map.core_of_user(*one), map.core_of_user(*other));
                if first == second {
                    send(first, Users::Two(*one, *other));
                } else {
                    send(first, Users::One(*one));
                    send(second, Users::One(*other));
                }
            }
            Self::Listed(groups) => {
                for (core, users) in groups.iter() {
                    send(*core, Users::Many(Arc::clone(users)));
                }
            }
        }
    }

    /// Those who live on `core`, if anybody does.
    #[must_use]
    pub fn on_core(&self, map: ShardMap, core: CoreId) -> Option<Users> {
        let mut found = None;
        self.for_each_core(map, |target, users| {
            if target == core {
                found = Some(users);
            }
        });
        found
    }

    /// How many recipients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Pair(one, other) => 1 + usize::from(one != other),
            Self::Listed(groups) => groups.iter().map(|(_, users)| users.len()).sum(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The number of a fan-out among those from one core to one other: dense from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct FanNumber(pub u64);

/// A committed entry on its way to the inboxes of the users of one core.
#[derive(Clone, Debug)]
pub struct Fan {
    /// The core that owns the channel.
    pub source: CoreId,
    /// Its number between the two cores.
    pub number: FanNumber,
    /// What goes into each inbox.
    pub entry: LogEntry,
    /// Whose.
    pub users: Users,
}

/// The fanned-out watermark of one core, as batches: all entries of batches below
/// [`Self::fanned_out_below`] are durable in the inbox of every recipient.
///
/// Per target core: `acked <= sent`.
#[derive(Debug)]
pub struct FanLedger {
    targets: Box<[Target]>,
    outstanding: u64,
    outstanding_max: u64,
}

#[derive(Debug, Default)]
struct Target {
    sent: u64,
    acked: u64,
    /// The last number sent for each batch that sent anything and is not acknowledged whole.
    marks: VecDeque<(BatchNumber, u64)>,
}

impl FanLedger {
    /// Nothing sent to any of `cores`; full at [`OUTSTANDING_MAX`].
    #[must_use]
    pub fn new(cores: u16) -> Self {
        Self::bounded(cores, OUTSTANDING_MAX)
    }

    /// As [`Self::new`], full at a number of fan-outs that a simulation can reach.
    #[must_use]
    pub fn bounded(cores: u16, outstanding_max: u64) -> Self {
        let targets = (0..cores).map(|_| Target::default()).collect();
        Self { targets, outstanding: 0, outstanding_max }
    }

    /// Numbers a fan-out of an entry of `batch` to `target`.
    pub fn send(&mut self, target: CoreId, batch: BatchNumber) -> FanNumber {
        let target = &mut self.targets[usize::from(target.0)];
        target.sent += 1;
        self.outstanding += 1;
        match target.marks.back_mut() {
            Some((last, sent)) if *last == batch => *sent = target.sent,
            _ => target.marks.push_back((batch, target.sent)),
        }
        FanNumber(target.sent)
    }

    /// `target` has every fan-out up to `through` durable in its inboxes.
    pub fn handle_ack(&mut self, target: CoreId, through: FanNumber) {
        let target = &mut self.targets[usize::from(target.0)];
        assert!(target.acked < through.0, "acknowledgements advance");
        assert!(through.0 <= target.sent, "only what was sent is acknowledged");
        self.outstanding -= through.0 - target.acked;
        target.acked = through.0;
        while target.marks.front().is_some_and(|(_, last)| *last <= through.0) {
            target.marks.pop_front();
        }
    }

    /// Every entry of a batch below this one, of those released so far (`next` is the first that
    /// was not), is in all its inboxes.
    #[must_use]
    pub fn fanned_out_below(&self, next: BatchNumber) -> BatchNumber {
        let unfinished = self.targets.iter().filter_map(|target| target.marks.front());
        let below =
            unfinished.map(|(batch, _)| *batch).min().map_or(next, |oldest| oldest.min(next));
        if variants::is(Variant::FannedOutTooFar) { below.next() } else { below }
    }

    /// Fan-outs that are not acknowledged.
    #[must_use]
    pub const fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Whether every fan-out is acknowledged.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    /// Whether no more entries may be sequenced: see [`OUTSTANDING_MAX`].
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.outstanding >= self.outstanding_max
    }
}

/// The receiving side: which fan-outs from one core are durable here, cumulatively.
///
/// A fan-out is in pieces (recipients whose inbox had to be loaded come later); it is done when
/// all of them are durable.
#[derive(Debug, Default)]
pub struct FanTracker {
    /// Undone pieces of the fan-outs after `done`, in order.
    pieces: VecDeque<u32>,
    done: u64,
    acked: u64,
}

impl FanTracker {
    /// A fan-out has arrived, in `pieces` pieces (at least one).
    pub fn arrived(&mut self, number: FanNumber, pieces: u32) {
        assert_eq!(number.0, self.done + self.pieces.len() as u64 + 1, "fan-outs arrive in order");
        assert!(pieces > 0, "a fan-out without pieces would never be done");
        self.pieces.push_back(pieces);
    }

    /// One piece is durable.
    pub fn piece_done(&mut self, number: FanNumber) {
        let index = usize::try_from(number.0 - self.done - 1).expect("bounded by OUTSTANDING_MAX");
        self.pieces[index] = self.pieces[index].checked_sub(1).expect("a piece is done once");
        while self.pieces.front() == Some(&0) {
            self.pieces.pop_front();
            self.done += 1;
        }
    }

    /// What to acknowledge, if anything is new since the last call.
    pub fn poll_ack(&mut self) -> Option<FanNumber> {
        let early = variants::is(Variant::FanAckEarly);
        let done = self.done + if early { self.pieces.len() as u64 } else { 0 };
        (done > self.acked).then(|| {
            self.acked = done;
            FanNumber(done)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64) -> BatchNumber {
        BatchNumber::new(number)
    }

    #[test]
    fn the_watermark_waits_for_the_slowest_core() {
        let mut ledger = FanLedger::new(2);
        let (here, there) = (CoreId(0), CoreId(1));
        ledger.send(here, batch(1));
        ledger.send(there, batch(1));
        ledger.send(here, batch(2));
        let rows = [(None, batch(1)), (Some((here, 2)), batch(1)), (Some((there, 1)), batch(4))];
        for (ack, below) in rows {
            if let Some((core, through)) = ack {
                ledger.handle_ack(core, FanNumber(through));
            }
            assert_eq!(ledger.fanned_out_below(batch(4)), below, "after {ack:?}");
        }
    }

    #[test]
    #[should_panic(expected = "only what was sent")]
    fn what_was_not_sent_cannot_be_acknowledged() {
        FanLedger::new(1).handle_ack(CoreId(0), FanNumber(1));
    }

    #[test]
    fn a_fan_out_is_acknowledged_when_all_before_it_are_done() {
        let mut tracker = FanTracker::default();
        tracker.arrived(FanNumber(1), 2);
        tracker.arrived(FanNumber(2), 1);
        tracker.piece_done(FanNumber(2));
        tracker.piece_done(FanNumber(1));
        assert_eq!(tracker.poll_ack(), None, "one piece of the first is missing");
        tracker.piece_done(FanNumber(1));
        assert_eq!(tracker.poll_ack(), Some(FanNumber(2)));
        assert_eq!(tracker.poll_ack(), None, "said once");
    }

    #[test]
    fn recipients_are_grouped_by_their_core() {
        let map = ShardMap::new(64, 2);
        let users: Vec<UserId> = (1..=20).map(|number| UserId::new(number).unwrap()).collect();
        let mut seen = Vec::new();
        Recipients::listed(users.iter().copied(), map).for_each_core(map, |core, users| {
            assert!(users.iter().all(|user| map.core_of_user(user) == core));
            seen.extend(users.iter());
        });
        seen.sort_unstable();
        assert_eq!(seen, users);
    }

    #[test]
    fn a_channel_with_oneself_has_one_recipient() {
        let map = ShardMap::new(64, 2);
        let user = UserId::new(5).unwrap();
        let mut sent = Vec::new();
        Recipients::Pair(user, user).for_each_core(map, |core, users| sent.push((core, users)));
        assert_eq!(sent, [(map.core_of_user(user), Users::One(user))]);
    }
}
