//! Entries that a device was given and has not said to have: given again if it asks again.

use std::collections::VecDeque;

use client::{Entry, Online};
use wire::server::Resume;
use wire::{Epoch, InboxSeq};

/// Entries that a device may be owed an answer for. Beyond them none are taken from its session.
pub(crate) const WINDOW_ENTRIES_MAX: usize = 512;
const _: () = assert!(WINDOW_ENTRIES_MAX >= 2 * wire::limits::PAGE_ENTRIES_MAX);

/// About how many bytes of JSON or FlatBuffers a page has at most; the first entry is in it in any
/// case.
const PAGE_BYTES_MAX: usize = wire::limits::SERVER_FRAME_BYTES_MAX / 2;

/// What a page's entry has besides its body.
const ENTRY_BYTES: usize = 256;

/// Where a device stands: everything up to `floor` it has, what follows is in `entries`.
#[derive(Debug)]
pub(crate) struct Window {
    /// Which history of the inbox; `None` until the gateway has said.
    epoch: Option<Epoch>,
    floor: InboxSeq,
    entries: VecDeque<Entry>,
    /// The last place that stood in an answer.
    given: InboxSeq,
}

/// What is given to a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    pub(crate) epoch: Epoch,
    pub(crate) resume: Resume,
    pub(crate) entries: Vec<Entry>,
    /// What to say as `after` in the next request.
    pub(crate) next: InboxSeq,
    /// There is more already.
    pub(crate) more: bool,
}

impl Window {
    /// Of a device that has everything up to `floor`.
    pub(crate) const fn new(floor: InboxSeq) -> Self {
        Self { epoch: None, floor, entries: VecDeque::new(), given: floor }
    }

    /// The gateway's verdict is known.
    pub(crate) const fn is_online(&self) -> bool {
        self.epoch.is_some()
    }

    pub(crate) const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The session was welcomed, for the first time or again.
    pub(crate) fn handle_online(&mut self, online: &Online) {
        if online.resume != Resume::Resumed {
            self.entries.clear();
            (self.floor, self.given) = (online.inbox_head, online.inbox_head);
        }
        self.epoch = Some(online.epoch);
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.entries.len() < WINDOW_ENTRIES_MAX
    }

    /// Whether a device that says this can be served from here.
    pub(crate) fn serves(&self, epoch: Epoch, after: InboxSeq) -> bool {
        self.epoch == Some(epoch) && self.floor <= after && after <= self.given
    }

    /// The device has everything up to there, as far as it was given; how far that is.
    pub(crate) fn keep(&mut self, after: InboxSeq) -> InboxSeq {
        let after = after.min(self.given);
        while self.entries.front().is_some_and(|entry| entry.inbox_seq <= after) {
            self.entries.pop_front();
        }
        self.floor = self.floor.max(after);
        self.floor
    }

    /// Where a device begins that says this.
    pub(crate) fn start(&self, epoch: Epoch, after: InboxSeq) -> Page {
        let (ours, resume, next) = self.verdict(epoch, after);
        Page { epoch: ours, resume, entries: Vec::new(), next, more: false }
    }

    fn verdict(&self, epoch: Epoch, after: InboxSeq) -> (Epoch, Resume, InboxSeq) {
        let ours = self.epoch.expect("only a session that was welcomed is looked at");
        match epoch {
            Epoch::NONE => (ours, Resume::Fresh, self.floor),
            _ if epoch != ours => (ours, Resume::Reset, self.floor),
            _ => (ours, Resume::Resumed, after.max(self.floor)),
        }
    }

    /// The entries behind `after`, for a device that has said `epoch`; those behind the floor for
    /// one that began anew.
    pub(crate) fn page(&mut self, epoch: Epoch, after: InboxSeq, limit: usize) -> Page {
        let (ours, resume, after) = self.verdict(epoch, after);
        let behind = self.entries.iter().skip_while(|entry| entry.inbox_seq <= after);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let body = entry.message().and_then(|message| message.body.as_ref());
            bytes += ENTRY_BYTES + body.map_or(0, bytes::Bytes::len);
            bytes <= PAGE_BYTES_MAX
        };
        let limit = limit.clamp(1, wire::limits::PAGE_ENTRIES_MAX);
        let mut entries: Vec<Entry> =
            behind.clone().take(limit).take_while(fits).cloned().collect();
        if entries.is_empty() {
            entries.extend(behind.clone().next().cloned());
        }
        let next = entries.last().map_or(after, |last| last.inbox_seq);
        let more = entries.len() < behind.count();
        self.given = self.given.max(next);
        Page { epoch: ours, resume, entries, next, more }
    }
}

#[cfg(test)]
mod tests {
    use client::What;
    use wire::SessionId;

    use super::*;

    fn at(number: u64) -> InboxSeq {
        InboxSeq::new(number)
    }

    fn online(resume: Resume, epoch: u64, head: u64) -> Online {
        Online {
            session: SessionId(1),
            user: None,
            epoch: Epoch(epoch),
            resume,
            inbox_head: at(head),
        }
    }

    fn window(floor: u64, places: std::ops::RangeInclusive<u64>) -> Window {
        let mut window = Window::new(at(floor));
        window.handle_online(&online(Resume::Resumed, 1, 100));
        for place in places {
            window.push(Entry { inbox_seq: at(place), what: What::Unknown });
        }
        window
    }

    fn places(page: &Page) -> Vec<u64> {
        page.entries.iter().map(|entry| entry.inbox_seq.get()).collect()
    }

    #[test]
    fn entries_are_given_again_until_the_device_has_them() {
        let mut window = window(7, 8..=12);
        let first = window.page(Epoch(1), at(7), 2);
        assert_eq!((places(&first), first.next, first.more), (vec![8, 9], at(9), true));
        assert_eq!(window.page(Epoch(1), at(7), 2), first, "the answer may have been lost");
        window.keep(at(9));
        let second = window.page(Epoch(1), at(9), 10);
        assert_eq!((places(&second), second.more), (vec![10, 11, 12], false));
        window.keep(at(12));
        let none = window.page(Epoch(1), at(12), 10);
        assert_eq!((places(&none), none.next), (vec![], at(12)));
    }

    #[test]
    fn a_device_is_served_from_where_it_may_be() {
        let mut window = window(7, 8..=12);
        window.page(Epoch(1), at(7), 2);
        let rows = [(1, 6, false), (1, 7, true), (1, 9, true), (1, 10, false), (2, 8, false)];
        for (epoch, after, serves) in rows {
            assert_eq!(window.serves(Epoch(epoch), at(after)), serves, "{epoch} {after}");
        }
        window.keep(at(8));
        assert!(!window.serves(Epoch(1), at(7)), "it has said more");
    }

    #[test]
    fn what_the_gateway_says_of_the_cursor_is_passed_on() {
        let mut window = window(7, 8..=9);
        window.handle_online(&online(Resume::Reset, 2, 50));
        let page = window.page(Epoch(1), at(8), 10);
        assert_eq!((page.epoch, page.resume, page.next), (Epoch(2), Resume::Reset, at(50)));
        assert_eq!(window.page(Epoch::NONE, at(0), 10).resume, Resume::Fresh);
        assert_eq!(window.page(Epoch(2), at(50), 10).resume, Resume::Resumed);
    }
}
