//! The places of an inbox: what was received, taken by the application, kept, acknowledged.
//!
//! The queue of what waits for the application is bounded. Beyond the bound nothing is received any
//! more: what is delivered then is dropped, and fetched by `Sync` when there is room again. So an
//! application may take its time, and one that awaits an answer while its queue is full gets it.

use std::time::Duration;

use wire::server::Resume;
use wire::{Epoch, InboxSeq};

use crate::error::Lost;

/// Kept entries after which the cursor is acknowledged at once.
const ACK_ENTRIES: u64 = 64;

/// How long a kept entry waits for its acknowledgement at most: what a crash makes the gateway
/// send again is within it.
const ACK_DELAY: Duration = Duration::from_secs(1);

/// See the module's documentation. `acknowledged <= kept <= taken <= received`.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Which history the places belong to.
    pub(crate) epoch: Epoch,
    acknowledged: InboxSeq,
    kept: InboxSeq,
    taken: InboxSeq,
    received: InboxSeq,
    /// What waits for the application.
    waiting: Load,
    waiting_max: Load,
    /// There is more behind `received` at the gateway, and it comes when it is asked for.
    is_behind: bool,
    /// A page is on its way.
    page_in_flight: bool,
    ack_at: Option<Duration>,
    /// The cursor has moved since it was stored last.
    is_unsaved: bool,
}

/// How much waits in a queue, or may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

impl Inbox {
    /// With what an earlier run has kept; `waiting_max`: of what waits for the application.
    pub(crate) fn new(epoch: Epoch, cursor: InboxSeq, waiting_max: Load) -> Self {
        Self {
            epoch,
            acknowledged: cursor,
            kept: cursor,
            taken: cursor,
            received: cursor,
            waiting: Load { entries: 0, bytes: 0 },
            waiting_max,
            is_behind: false,
            page_in_flight: false,
            ack_at: None,
            is_unsaved: false,
        }
    }

    /// What Hello says is kept.
    pub(crate) const fn cursor(&self) -> InboxSeq {
        self.kept
    }

    /// The verdict about the cursor. `false`: everything that waits for the application is void.
    pub(crate) fn handle_welcome(&mut self, resume: Resume, epoch: Epoch, head: InboxSeq) -> bool {
        if resume == Resume::Resumed && self.received > head {
            // A gateway that only accepts (store.sync = interval) may lose its newest entries in a
            // power loss, and other ones will have their places.
            let unsaved = self.is_unsaved;
            *self = Self { is_unsaved: unsaved, ..Self::new(epoch, self.kept, self.waiting_max) };
            self.page_in_flight = self.kept < head;
            return false;
        }
        if resume == Resume::Resumed {
            // The first page comes by itself. It repeats what was received and is not kept.
            self.page_in_flight = self.kept < head;
            self.is_behind = false;
            return true;
        }
        let waiting_max = self.waiting_max;
        *self = Self { is_unsaved: true, ..Self::new(epoch, head, waiting_max) };
        false
    }

    /// The connection is gone, and what was asked for on it.
    pub(crate) fn handle_lost(&mut self) {
        self.page_in_flight = false;
    }

    /// An entry that came live. `Ok(true)`: it is the next one, and is to wait for the application.
    pub(crate) fn receive(&mut self, place: InboxSeq, bytes: usize) -> Result<bool, Lost> {
        if place <= self.received {
            return Ok(false);
        }
        if self.is_behind || self.page_in_flight || !self.has_room() {
            // It comes again by a page.
            self.is_behind = true;
            return Ok(false);
        }
        if place != self.received.next() {
            return Err(Lost::Gap { received: self.received, found: place });
        }
        self.push(place, bytes);
        Ok(true)
    }

    /// An entry of a page, which may leave places out. `true`: it is to wait for the application.
    pub(crate) fn receive_of_page(&mut self, place: InboxSeq, bytes: usize) -> bool {
        if place <= self.received || self.is_behind {
            return false;
        }
        if !self.has_room() {
            self.is_behind = true;
            return false;
        }
        self.push(place, bytes);
        true
    }

    /// A page is about to be looked at: what follows what was received is in it.
    pub(crate) fn begin_page(&mut self) {
        self.page_in_flight = false;
        self.is_behind = false;
    }

    /// The page was the last one, or there are more.
    pub(crate) fn end_page(&mut self, next: InboxSeq, end: bool) {
        if !self.is_behind {
            self.received = self.received.max(next);
            self.is_behind = !end;
        }
        self.check();
    }

    /// After which place a page is to be asked for now, if any.
    pub(crate) fn next_sync(&mut self) -> Option<InboxSeq> {
        let has_space = self.waiting.entries <= self.waiting_max.entries / 2
            && self.waiting.bytes <= self.waiting_max.bytes / 2;
        if !self.is_behind || self.page_in_flight || !has_space {
            return None;
        }
        self.page_in_flight = true;
        Some(self.received)
    }

    /// The application has taken an entry.
    pub(crate) fn handle_taken(&mut self, place: InboxSeq, bytes: usize) {
        self.waiting.entries -= 1;
        self.waiting.bytes -= bytes;
        self.taken = place;
        self.check();
    }

    /// Everything up to `place` is kept, as far as it was taken.
    pub(crate) fn keep(&mut self, place: InboxSeq, now: Duration) {
        let place = place.min(self.taken);
        if place <= self.kept {
            return;
        }
        self.kept = place;
        self.is_unsaved = true;
        let unacknowledged = self.kept.since(self.acknowledged);
        let due = if unacknowledged >= ACK_ENTRIES { now } else { now + ACK_DELAY };
        self.ack_at = Some(self.ack_at.map_or(due, |at| at.min(due)));
        self.check();
    }

    /// Everything that was taken is kept.
    pub(crate) fn keep_taken(&mut self, now: Duration) {
        self.keep(self.taken, now);
    }

    /// The acknowledgement that is due by now.
    pub(crate) fn next_ack(&mut self, now: Duration) -> Option<InboxSeq> {
        self.ack_at.filter(|at| *at <= now)?;
        self.last_ack()
    }

    /// What is kept and not acknowledged.
    pub(crate) fn last_ack(&mut self) -> Option<InboxSeq> {
        self.ack_at = None;
        let is_owed = self.acknowledged < self.kept;
        self.acknowledged = self.kept;
        is_owed.then_some(self.kept)
    }

    /// When the next acknowledgement is due.
    pub(crate) const fn ack_at(&self) -> Option<Duration> {
        self.ack_at
    }

    /// The cursor, if it is to be stored: it has moved, and its acknowledgement is not awaited any
    /// more, or it begins anew.
    pub(crate) fn next_save(&mut self) -> Option<(Epoch, InboxSeq)> {
        let is_due = self.is_unsaved && self.ack_at.is_none();
        self.is_unsaved &= !is_due;
        is_due.then_some((self.epoch, self.kept))
    }

    const fn has_room(&self) -> bool {
        self.waiting.entries < self.waiting_max.entries
            && self.waiting.bytes < self.waiting_max.bytes
    }

    fn push(&mut self, place: InboxSeq, bytes: usize) {
        self.received = place;
        self.waiting.entries += 1;
        self.waiting.bytes += bytes;
    }

    fn check(&self) {
        assert!(self.acknowledged <= self.kept, "acknowledged before it is kept");
        assert!(self.kept <= self.taken, "kept before it is taken");
        assert!(self.taken <= self.received, "taken before it is received");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Load = Load { entries: 4, bytes: 1000 };

    fn at(number: u64) -> InboxSeq {
        InboxSeq::new(number)
    }

    fn live(cursor: u64, head: u64) -> Inbox {
        let mut inbox = Inbox::new(Epoch(1), at(cursor), MAX);
        assert!(inbox.handle_welcome(Resume::Resumed, Epoch(1), at(head)));
        inbox
    }

    #[test]
    fn repeats_are_dropped_and_a_gap_ends_the_connection() {
        let mut inbox = live(3, 3);
        assert_eq!(inbox.receive(at(4), 10), Ok(true));
        assert_eq!(inbox.receive(at(4), 10), Ok(false));
        assert_eq!(inbox.receive(at(2), 10), Ok(false));
        let gap = Lost::Gap { received: at(4), found: at(6) };
        assert_eq!(inbox.receive(at(6), 10), Err(gap));
    }

    #[test]
    fn what_does_not_fit_is_fetched_when_there_is_room() {
        let mut inbox = live(0, 0);
        for place in 1..=6 {
            assert_eq!(inbox.receive(at(place), 10), Ok(place <= 4), "{place}");
        }
        assert_eq!(inbox.next_sync(), None, "there is no room");
        inbox.handle_taken(at(1), 10);
        assert_eq!(inbox.next_sync(), None, "there is room for one only");
        assert_eq!(inbox.receive(at(7), 10), Ok(false), "it would leave a hole");
        inbox.handle_taken(at(2), 10);
        assert_eq!(inbox.next_sync(), Some(at(4)));
        assert_eq!(inbox.next_sync(), None, "one page at a time");
        assert_eq!(inbox.receive(at(8), 10), Ok(false), "it comes by the page, or after it");
        inbox.begin_page();
        let taken: Vec<bool> = (5..=8).map(|it| inbox.receive_of_page(at(it), 10)).collect();
        assert_eq!(taken, [true, true, false, false]);
        inbox.end_page(at(8), true);
        for place in 3..=6 {
            inbox.handle_taken(at(place), 10);
        }
        assert_eq!(inbox.next_sync(), Some(at(6)), "the rest of the page");
        inbox.begin_page();
        assert!(inbox.receive_of_page(at(7), 10));
        inbox.end_page(at(8), true);
        assert_eq!(inbox.receive(at(9), 10), Ok(true), "live again, after a place left out");
    }

    #[test]
    fn bytes_are_a_bound_as_well() {
        let mut inbox = live(0, 0);
        assert_eq!(inbox.receive(at(1), 1000), Ok(true));
        assert_eq!(inbox.receive(at(2), 1), Ok(false));
    }

    #[test]
    fn the_cursor_is_acknowledged_soon_or_after_many_and_saved_with_it() {
        let mut inbox = Inbox::new(Epoch(1), at(0), Load { entries: 1000, bytes: 1 << 20 });
        assert!(inbox.handle_welcome(Resume::Resumed, Epoch(1), at(0)));
        for place in 1..=100 {
            assert_eq!(inbox.receive(at(place), 1), Ok(true));
            inbox.handle_taken(at(place), 1);
        }
        let now = Duration::from_secs(10);
        inbox.keep(at(3), now);
        assert_eq!((inbox.next_ack(now), inbox.next_save()), (None, None));
        let later = now + ACK_DELAY;
        assert_eq!(inbox.next_ack(later), Some(at(3)));
        assert_eq!(inbox.next_save(), Some((Epoch(1), at(3))));
        assert_eq!((inbox.next_ack(later), inbox.next_save()), (None, None));
        inbox.keep(at(2), later);
        assert_eq!(inbox.ack_at(), None, "it is kept already");
        inbox.keep(at(3 + ACK_ENTRIES), later);
        assert_eq!(inbox.next_ack(later), Some(at(3 + ACK_ENTRIES)));
        inbox.keep(at(1000), later);
        assert_eq!(inbox.last_ack(), Some(at(100)), "no more than was taken");
    }

    #[test]
    fn a_reset_begins_at_the_head() {
        let mut inbox = live(3, 3);
        assert_eq!(inbox.receive(at(4), 10), Ok(true));
        assert!(!inbox.handle_welcome(Resume::Reset, Epoch(2), at(50)));
        assert_eq!((inbox.epoch, inbox.cursor()), (Epoch(2), at(50)));
        assert_eq!(inbox.next_save(), Some((Epoch(2), at(50))));
        assert_eq!(inbox.receive(at(51), 10), Ok(true));
    }

    #[test]
    fn after_a_resume_the_page_repeats_what_is_not_kept() {
        let mut inbox = live(0, 0);
        assert_eq!(inbox.receive(at(1), 10), Ok(true));
        inbox.handle_lost();
        assert!(inbox.handle_welcome(Resume::Resumed, Epoch(1), at(3)));
        assert_eq!(inbox.receive(at(4), 10), Ok(false), "the page comes first");
        inbox.begin_page();
        let taken: Vec<bool> = (1..=3).map(|it| inbox.receive_of_page(at(it), 10)).collect();
        assert_eq!(taken, [false, true, true]);
        inbox.end_page(at(3), false);
        assert_eq!(inbox.next_sync(), None, "three of four wait");
        inbox.handle_taken(at(1), 10);
        assert_eq!(inbox.next_sync(), Some(at(3)));
    }
}
