//! The core as the owner of users: fan-outs in, inbox entries placed, delivered when durable.

use router::fan_out::{Fan, Users};
use router::inbox::{InboxWanted, Inboxes, Notice, Parked, Placement, Resumed};
use router::sessions::ConnId;
use wire::server::{Posted, ServiceDone, TypingFrom};
use wire::{ChannelId, Deliver, DeviceId, Event, InboxEntry, InboxSeq, ReadMarker, Seq, UserId};

use super::Shard;
use super::reads::Asked;
use crate::budget::Shed;
use crate::committing::{Committing, Pending};
use crate::event::Effects;
use crate::messages::{Answer, Answered, Delivery};
use crate::outgoing::Urgency;

/// Why a channel's answer has its channel.
const ASKED: &str = "a channel was asked";

impl Shard {
    /// Takes what other cores owe this one (and what it owes itself).
    pub(super) fn drain_deliveries(&mut self, effects: &mut Effects) {
        while let Some(delivery) = self.mesh.next_delivery() {
            match delivery {
                Delivery::Answer(answer) => self.pass_answer(&answer),
                Delivery::Fan(fan) => self.place_fan(fan, effects),
                Delivery::FanAck { from, through } => self.ledger.handle_ack(from, through),
                Delivery::Marked { reader, channel, seq, others } => {
                    let others = Some(others);
                    let notice = Notice::Read { channel, user: reader, seq, others };
                    self.place_notice(reader, notice, effects);
                }
                Delivery::Read { users, channel, user, seq } => {
                    self.place_read(&users, channel, user, seq, effects);
                }
                Delivery::Typing { users, channel, user } => {
                    self.show_typing(&users, channel, user);
                }
                Delivery::Ask { conn, request, read } => {
                    self.ask_for_service(conn, request, *read, effects);
                }
                Delivery::Adopt(passenger) => self.adopt(*passenger, effects),
            }
        }
    }

    /// An answer has come for a session of this core.
    fn pass_answer(&mut self, answer: &Answer) {
        let Answer { conn, request, channel, nonce, .. } = *answer;
        if conn == ConnId::NONE {
            return self.left_group(request, &answer.verdict);
        }
        let Some(live) = self.outgoing.connections.get(conn).and_then(|c| c.live()) else {
            return; // It has ended; its device will ask again and get the same answer.
        };
        live.posts_in_flight -= 1;
        match answer.verdict {
            Answered::Done(durability) => {
                self.outgoing.send(conn, request, ServiceDone { durability });
            }
            Answered::Posted { seq, created_at, durability } => {
                let channel = channel.expect(ASKED);
                let posted = Posted { channel, nonce, seq, created_at, durability };
                self.outgoing.send(conn, request, posted);
            }
            Answered::Ready { created_at, durability } => {
                let channel = channel.expect(ASKED);
                let ready = wire::server::ChannelReady { channel, nonce, created_at, durability };
                self.outgoing.send(conn, request, ready);
            }
            Answered::Rejected { code, text, retry_after_ms } => {
                let about = (channel, nonce);
                self.outgoing.reject(conn, request, about, (code, text, retry_after_ms));
            }
        }
    }

    /// Gives an entry its place in the inbox of each of its recipients here.
    pub(super) fn place_fan(&mut self, fan: Fan, effects: &mut Effects) {
        let Fan { source, number, entry, users } = fan;
        let piece = Some((source, number));
        let notice = Notice::Logged(entry);
        let (mut count, mut parked) = (0, 0);
        for user in users.iter() {
            match place(&mut self.inboxes, &mut self.committing, user, &notice) {
                Placement::Placed(_) => count += 1,
                Placement::Known => {}
                Placement::Missing => {
                    parked += 1;
                    self.park(user, Parked { notice: notice.clone(), piece }, effects);
                }
            }
        }
        // Even if nobody here lacked it, the fan-out is a piece that is done when it is durable
        // that nobody does.
        let here = u32::from(count > 0 || parked == 0);
        self.trackers[usize::from(source.0)].arrived(number, here + parked);
        if here > 0 {
            self.committing.push(Pending::Placed { notice, piece, count });
        }
    }

    fn place_read(
        &mut self,
        users: &Users,
        channel: ChannelId,
        reader: UserId,
        seq: Seq,
        effects: &mut Effects,
    ) {
        for user in users.iter().filter(|user| *user != reader) {
            let notice = Notice::Read { channel, user: reader, seq, others: None };
            self.place_notice(user, notice, effects);
        }
    }

    /// Gives a notice that belongs to no fan-out its place in one inbox.
    fn place_notice(&mut self, user: UserId, notice: Notice, effects: &mut Effects) {
        match place(&mut self.inboxes, &mut self.committing, user, &notice) {
            Placement::Placed(_) => {
                self.committing.push(Pending::Placed { notice, piece: None, count: 1 });
            }
            Placement::Known => {}
            Placement::Missing => self.park(user, Parked { notice, piece: None }, effects),
        }
    }

    fn park(&mut self, user: UserId, parked: Parked, effects: &mut Effects) {
        if let Some(InboxWanted { user, channel }) = self.inboxes.park(user, parked) {
            self.ask(Asked::Inbox { user, channel }, effects);
        }
    }

    /// A user's state was read: what waited for it is placed.
    pub(super) fn place_parked(&mut self, user: UserId, effects: &mut Effects) {
        loop {
            let batch = self.committing.open_number();
            let (parked, count) = match self.inboxes.place_next_parked(user, batch) {
                Resumed::Placed(parked, inbox_seq) => {
                    note_placed(&mut self.committing, user, inbox_seq, &parked.notice);
                    (parked, 1)
                }
                Resumed::Known(parked) => (parked, 0),
                Resumed::Wanted(InboxWanted { user, channel }) => {
                    return self.ask(Asked::Inbox { user, channel }, effects);
                }
                Resumed::Done => return,
            };
            let Parked { notice, piece } = parked;
            self.committing.push(Pending::Placed { notice, piece, count });
        }
    }

    /// The next `count` placements are durable: to the sessions of each user.
    pub(super) fn deliver_placed(&mut self, notice: &Notice, count: usize) {
        let event = event_of(notice);
        for _ in 0..count {
            let (user, inbox_seq) =
                self.committing.placements.pop_front().expect("one for each placed");
            self.inboxes.handle_committed(user, inbox_seq);
            for (device, conn) in self.sessions.of(user) {
                let Some(live) = self.outgoing.connections.get(conn).and_then(|c| c.live()) else {
                    continue;
                };
                if !live.caught_up {
                    continue; // It asks for its pages, and gets this in one of them.
                }
                assert_eq!(live.delivered.next(), inbox_seq, "{user} {device} is sent every entry");
                live.delivered = inbox_seq;
                self.counts.delivered += 1;
                if is_own(notice, user, device) {
                    let own = Deliver { inbox_seq, event: event.without_body() };
                    self.outgoing.send_when(conn, Urgency::WithNext, 0, own);
                } else {
                    self.recipients.push((conn, inbox_seq));
                }
            }
        }
        self.outgoing.deliver(&event, &self.recipients);
        self.recipients.clear();
    }

    fn show_typing(&mut self, users: &Users, channel: ChannelId, user: UserId) {
        if self.outgoing.budget.sheds(Shed::Typing) {
            self.counts.typing_shed += 1;
            return;
        }
        for other in users.iter().filter(|other| *other != user) {
            for (_, conn) in self.sessions.of(other) {
                self.outgoing.send(conn, 0, TypingFrom { channel, user });
            }
        }
    }
}

/// Gives a notice its place, and puts it into the open batch.
fn place(
    inboxes: &mut Inboxes,
    committing: &mut Committing,
    user: UserId,
    notice: &Notice,
) -> Placement {
    let placement = inboxes.place(user, notice, committing.open_number());
    if let Placement::Placed(inbox_seq) = placement {
        note_placed(committing, user, inbox_seq, notice);
    }
    placement
}

fn note_placed(committing: &mut Committing, user: UserId, inbox_seq: InboxSeq, notice: &Notice) {
    committing.batch().append_inbox(user, &InboxEntry { inbox_seq, item: notice.item() });
    committing.placements.push_back((user, inbox_seq));
}

fn event_of(notice: &Notice) -> Event<'_> {
    match notice {
        Notice::Logged(entry) => entry.as_event(),
        Notice::Read { channel, user, seq, .. } => {
            Event::ReadMarker(ReadMarker { channel: *channel, user: *user, seq: *seq })
        }
    }
}

/// Whether the device sent this itself: it has the body, and knows from `Posted` that it is kept;
/// its copy only keeps its inbox without gaps.
fn is_own(notice: &Notice, user: UserId, device: DeviceId) -> bool {
    match notice {
        Notice::Logged(entry) => entry.sender == user && entry.device == device,
        Notice::Read { .. } => false,
    }
}
