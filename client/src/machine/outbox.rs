//! Requests on their way: each is kept until it is answered, over as many connections as it takes.
//!
//! ```text
//!             transmitted              answered
//!  Queued --------------------> Sent -----------> (gone)
//!     ^    connection lost: it     |
//!     +--- may have been kept -----+
//!     +--- refused for now --------+   not before the pause is over
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::UserId;

use crate::error::RequestError;
use crate::request::{Request, within};

/// A request of one session, in the order in which they were made. Not 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// How far back an answer's number is understood: the numbers in frames are 32 bits long, and the
/// oldest request must not be taken for a new one.
const IDS_APART_MAX: u64 = 1 << 31;

/// Requests that wait for an answer.
#[derive(Debug)]
pub(crate) struct Outbox {
    pending: BTreeMap<u64, Pending>,
    deadlines: BTreeSet<(Duration, u64)>,
    bytes: usize,
    requests_max: usize,
    bytes_max: usize,
    /// Of the next request.
    next_id: u64,
    /// What is before it was transmitted on this connection.
    next_to_send: u64,
    in_flight: usize,
    /// The gateway asked to wait.
    paused_until: Duration,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) request: Request,
    /// For whom a service asks.
    pub(crate) as_user: Option<UserId>,
    /// A gateway may have it from an earlier transmission.
    pub(crate) may_be_kept: bool,
    deadline: Option<Duration>,
    is_sent: bool,
}

impl Outbox {
    /// With these bounds; the first request has the id `first_id`.
    pub(crate) fn new(requests_max: usize, bytes_max: usize, first_id: u64) -> Self {
        Self {
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            bytes: 0,
            requests_max,
            bytes_max,
            next_id: first_id.max(1),
            next_to_send: 0,
            in_flight: 0,
            paused_until: Duration::ZERO,
        }
    }

    /// Whether a request would be taken.
    pub(crate) fn check(&self, request: &Request) -> Result<(), RequestError> {
        request.check()?;
        let oldest = self.pending.first_key_value().map_or(self.next_id, |(id, _)| *id);
        let is_full = self.pending.len() >= self.requests_max
            || self.bytes + request.bytes() > self.bytes_max
            || self.next_id - oldest >= IDS_APART_MAX;
        if is_full {
            let (requests, bytes) = (self.pending.len(), self.bytes);
            return Err(RequestError::QueueFull { requests, bytes });
        }
        Ok(())
    }

    /// Takes a request that [`Self::check`] has accepted.
    pub(crate) fn push(
        &mut self,
        request: Request,
        as_user: Option<UserId>,
        deadline: Option<Duration>,
    ) -> RequestId {
        // 0 in a frame means that nobody asked.
        self.next_id += u64::from(number(self.next_id) == 0);
        let id = self.next_id;
        self.next_id += 1;
        self.insert(id, Pending { request, as_user, may_be_kept: false, deadline, is_sent: false });
        RequestId(id)
    }

    /// Takes back a request of an earlier run, which may have been sent then.
    pub(crate) fn restore(&mut self, id: RequestId, request: Request) {
        let pending =
            Pending { request, as_user: None, may_be_kept: true, deadline: None, is_sent: false };
        self.insert(id.0, pending);
        self.next_id = self.next_id.max(id.0 + 1);
    }

    /// A gateway may have this one already.
    pub(crate) fn mark_retry(&mut self, id: RequestId) {
        if let Some(pending) = self.pending.get_mut(&id.0) {
            pending.may_be_kept = true;
        }
    }

    fn insert(&mut self, id: u64, pending: Pending) {
        self.bytes += pending.request.bytes();
        if let Some(deadline) = pending.deadline {
            self.deadlines.insert((deadline, id));
        }
        self.pending.insert(id, pending);
    }

    /// The id of the next request, as the store must know it before it is pushed.
    pub(crate) fn next_id(&self) -> RequestId {
        RequestId(self.next_id + u64::from(number(self.next_id) == 0))
    }

    /// The next request to transmit, and its number in the frame, if fewer than `in_flight_max` are
    /// under way. It counts as transmitted.
    pub(crate) fn next_to_send(
        &mut self,
        now: Duration,
        in_flight_max: usize,
    ) -> Option<(RequestId, u32, &Pending)> {
        if self.in_flight >= in_flight_max || now < self.paused_until {
            return None;
        }
        let (id, pending) =
            self.pending.range_mut(self.next_to_send..).find(|(_, pending)| !pending.is_sent)?;
        pending.is_sent = true;
        self.in_flight += 1;
        self.next_to_send = id + 1;
        Some((RequestId(*id), number(*id), pending))
    }

    /// Whether [`Self::next_to_send`] would give something when the pause is over.
    pub(crate) fn has_more(&self, in_flight_max: usize) -> bool {
        self.in_flight < in_flight_max
            && self.pending.range(self.next_to_send..).any(|(_, pending)| !pending.is_sent)
    }

    /// The request with this number in its frame, if it waits for an answer on this connection.
    pub(crate) fn sent(&self, answered: u32) -> Option<(RequestId, &Pending)> {
        let newest = self.next_id - 1;
        let back = number(newest).wrapping_sub(answered);
        let id = newest.checked_sub(back.into())?;
        let pending = self.pending.get(&id).filter(|pending| pending.is_sent)?;
        Some((RequestId(id), pending))
    }

    /// Takes out a request that is over.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&id.0)?;
        self.bytes -= pending.request.bytes();
        self.in_flight -= usize::from(pending.is_sent);
        if let Some(deadline) = pending.deadline {
            self.deadlines.remove(&(deadline, id.0));
        }
        Some(pending)
    }

    /// The gateway did not take a request, and wants it again after so long.
    pub(crate) fn send_again(&mut self, id: RequestId, at: Duration, may_be_kept: bool) {
        if let Some(pending) = self.pending.get_mut(&id.0) {
            self.in_flight -= usize::from(std::mem::replace(&mut pending.is_sent, false));
            pending.may_be_kept |= may_be_kept;
            self.next_to_send = self.next_to_send.min(id.0);
            self.paused_until = self.paused_until.max(at);
        }
    }

    /// The connection is gone: whatever was sent on it may have been kept, and is sent again on the
    /// next one, in its order.
    pub(crate) fn handle_lost(&mut self) {
        for pending in self.pending.values_mut().filter(|pending| pending.is_sent) {
            pending.is_sent = false;
            pending.may_be_kept = true;
        }
        (self.in_flight, self.next_to_send, self.paused_until) = (0, 0, Duration::ZERO);
    }

    /// A request whose time is over; to be taken out.
    pub(crate) fn next_timed_out(&self, now: Duration) -> Option<RequestId> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, id)| RequestId(*id))
    }

    /// When the first request's time is over.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Until when nothing is to be sent.
    pub(crate) const fn paused_until(&self) -> Duration {
        self.paused_until
    }

    /// Some request, while there are any: to be taken out when the session is over.
    pub(crate) fn first(&self) -> Option<RequestId> {
        self.pending.first_key_value().map(|(id, _)| RequestId(*id))
    }

    /// Whether the gateway allows this body; what it allows is known from its `Welcome` on.
    pub(crate) fn check_body(pending: &Pending, body_bytes_max: u32) -> Result<(), RequestError> {
        match &pending.request {
            Request::Post { body, .. } => {
                within("the body in bytes", body.len(), body_bytes_max as usize)
            }
            _ => Ok(()),
        }
    }
}

/// The number of a request in its frame.
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn number(id: u64) -> u32 {
    id as u32
}

#[cfg(test)]
mod tests {
    use wire::{ChannelId, InboxSeq};

    use super::*;

    fn question() -> Request {
        Request::Channels { before: InboxSeq::ZERO, limit: 0, with_last: false }
    }

    fn push(outbox: &mut Outbox) -> u64 {
        outbox.check(&question()).unwrap();
        outbox.push(question(), None, None).0
    }

    fn sent(outbox: &mut Outbox, now: u64, max: usize) -> Vec<(u64, bool)> {
        let now = Duration::from_secs(now);
        let mut sent = Vec::new();
        while let Some((id, number, pending)) = outbox.next_to_send(now, max) {
            assert_eq!(u64::from(number), id.0 & 0xffff_ffff);
            sent.push((id.0, pending.may_be_kept));
        }
        sent
    }

    #[test]
    fn requests_are_sent_in_order_so_many_at_a_time_and_again_after_a_loss() {
        let mut outbox = Outbox::new(10, 1 << 20, 1);
        for _ in 0..4 {
            push(&mut outbox);
        }
        assert_eq!(sent(&mut outbox, 0, 2), [(1, false), (2, false)]);
        assert!(!outbox.has_more(2) && outbox.has_more(3));
        assert!(outbox.remove(RequestId(1)).is_some());
        assert_eq!(sent(&mut outbox, 0, 2), [(3, false)]);
        outbox.handle_lost();
        assert_eq!(sent(&mut outbox, 0, 9), [(2, true), (3, true), (4, false)]);
        assert_eq!(outbox.sent(4).map(|(id, _)| id), Some(RequestId(4)));
        assert!(outbox.sent(1).is_none() && outbox.sent(5).is_none() && outbox.sent(0).is_none());
    }

    #[test]
    fn a_refusal_for_now_pauses_all_and_does_not_make_it_a_retry() {
        let mut outbox = Outbox::new(10, 1 << 20, 1);
        for _ in 0..3 {
            push(&mut outbox);
        }
        assert_eq!(sent(&mut outbox, 0, 2).len(), 2);
        outbox.send_again(RequestId(1), Duration::from_secs(5), false);
        assert_eq!(sent(&mut outbox, 4, 9), []);
        assert_eq!(sent(&mut outbox, 5, 9), [(1, false), (3, false)]);
    }

    #[test]
    fn both_bounds_refuse_and_what_is_taken_out_makes_room() {
        let mut outbox = Outbox::new(2, 600, 1);
        push(&mut outbox);
        let long = Request::Post {
            channel: ChannelId::numbered(1).unwrap(),
            nonce: wire::Nonce(1),
            kind: 0,
            body: vec![0; 100].into(),
        };
        let full = |requests, bytes| Err(RequestError::QueueFull { requests, bytes });
        assert_eq!(outbox.check(&long), full(1, 256));
        push(&mut outbox);
        assert_eq!(outbox.check(&question()), full(2, 512));
        outbox.remove(RequestId(1));
        assert_eq!(outbox.check(&question()), Ok(()));
    }

    #[test]
    fn a_number_in_a_frame_is_never_0_and_finds_its_request_across_the_wrap() {
        let mut outbox = Outbox::new(10, 1 << 20, u64::from(u32::MAX) - 1);
        let ids: Vec<u64> = (0..4).map(|_| push(&mut outbox)).collect();
        let wrap = 1 << 32;
        assert_eq!(ids, [wrap - 2, wrap - 1, wrap + 1, wrap + 2]);
        sent(&mut outbox, 0, 9);
        let found = |number| outbox.sent(number).map(|(id, _)| id.0);
        assert_eq!(
            [u32::MAX - 1, u32::MAX, 1, 2].map(found),
            ids[..].try_into().map(|ids: [u64; 4]| ids.map(Some)).unwrap()
        );
        assert_eq!(found(0), None);
    }

    #[test]
    fn the_first_deadline_comes_first() {
        let mut outbox = Outbox::new(10, 1 << 20, 1);
        let at = Duration::from_secs;
        outbox.push(question(), None, Some(at(9)));
        outbox.push(question(), None, Some(at(5)));
        assert_eq!(outbox.deadline(), Some(at(5)));
        assert_eq!(outbox.next_timed_out(at(4)), None);
        assert_eq!(outbox.next_timed_out(at(5)), Some(RequestId(2)));
        outbox.remove(RequestId(2));
        assert_eq!(outbox.next_timed_out(at(5)), None);
    }
}
