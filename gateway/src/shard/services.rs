//! Sessions of services: what they may ask, and the sessions of others that they end. The pages
//! "Services" of docs/protocol.md say what holds.

use router::inbox::Written;
use router::sequencer::Origin;
use router::sessions::ConnId;
use wire::client::SessionsEnd as Frame;
use wire::server::ServiceWelcome;
use wire::{ClientBody, ClientFrame, CloseCode, DeviceId, InboxSeq, RejectCode, Timestamp, UserId};

use super::Shard;
use super::admitting::CatchUp;
use super::channels::{DISK_FULL, Refused};
use super::frames::{Failed, NOTHING, Speaker, about};
use crate::committing::Pending;
use crate::connection::Connection;
use crate::event::Effects;
use crate::messages::{Answer, Answered, Delivery, List, Request, SessionsEnd, UserErase};

/// What a service asked for a user of this core.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServiceAsk {
    End(SessionsEnd),
    Erase(UserErase),
}

impl Shard {
    /// A service has said Hello. It has no user whose core it would go to, so it stays.
    pub(super) fn begin_service(
        &mut self,
        conn: ConnId,
        ws: ws::Session,
        request: u32,
        leftover: &[u8],
        effects: &mut Effects,
    ) {
        let held = ws.held_bytes() + leftover.len();
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        connection.ws = ws;
        if self.is_closed_to(held) {
            self.fail_with(conn, CloseCode::Unavailable, "");
            return self.receive_again(conn, effects);
        }
        let nowhere = (InboxSeq::ZERO, InboxSeq::ZERO);
        let session = self.begin_session(conn, None, leftover.len(), nowhere);
        let limits = &self.common.limits;
        let heartbeat = limits.heartbeat.as_millis();
        let welcome = ServiceWelcome {
            session,
            server_time: self.now.wall,
            heartbeat_interval_ms: u32::try_from(heartbeat).expect("at most an hour"),
            epoch: self.common.epoch,
            limits: limits.told,
        };
        self.outgoing.send(conn, request, welcome);
        self.counts.logins += 1;
        if !leftover.is_empty() {
            self.hear(conn, &mut Vec::from(leftover), effects);
        }
        self.outgoing.recount(conn);
        self.receive_again(conn, effects);
    }

    /// A frame of a service.
    pub(super) fn hear_service(
        &mut self,
        conn: ConnId,
        is_early: bool,
        frame: &ClientFrame<'_>,
        effects: &mut Effects,
    ) -> Option<Failed> {
        let ClientFrame { request, as_user, ref body } = *frame;
        let origin = Origin { core: self.core, conn, request };
        match body {
            ClientBody::Hello(_) => {
                return Some(Failed::Close(CloseCode::HelloExpected, String::new()));
            }
            ClientBody::Ping(ping) => self.pong(conn, request, ping),
            ClientBody::Unknown(_) => self.reject_unknown(conn, request),
            ClientBody::SessionsEnd(end) => {
                let Frame { user, device, before } = *end;
                let end = SessionsEnd { origin, user, device, before };
                self.push_or_stall(conn, Request::SessionsEnd(end));
            }
            ClientBody::UserErase(erase) => {
                let erase = UserErase { origin, user: erase.user };
                self.push_or_stall(conn, Request::UserErase(erase));
            }
            ClientBody::CursorAck(_) | ClientBody::Sync(_) | ClientBody::Typing(_) => {
                let text = "a service has no inbox; this is for the sessions of persons";
                self.reject(conn, request, about(body), (RejectCode::NotPermitted, text, 0));
            }
            ClientBody::Post(_)
            | ClientBody::History(_)
            | ClientBody::ChannelCreate(_)
            | ClientBody::ChannelAddMembers(_)
            | ClientBody::ChannelRemoveMembers(_)
            | ClientBody::ChannelLeave(_)
            | ClientBody::ChannelList(_)
            | ClientBody::MarkRead(_) => {
                let Some(user) = as_user else {
                    let text = "as_user: must not be 0; name the user for whom you ask";
                    self.reject(conn, request, about(body), (RejectCode::Malformed, text, 0));
                    return None;
                };
                if let ClientBody::ChannelList(list) = body {
                    self.list_for_service(List { origin, user, list: *list });
                    return None;
                }
                let device = DeviceId(0);
                let is_service = true;
                let speaker = Speaker { conn, user, device, request, is_early, is_service };
                return self.hear_frame(speaker, body, effects);
            }
        }
        None
    }

    /// What was placed in an inbox and is not folded is known to its user's core alone.
    fn list_for_service(&mut self, list: List) {
        let conn = list.origin.conn;
        if !self.outgoing.has_room_for_page(conn) {
            // It has not read what it was sent, and asks for more.
            return self.outgoing.give_up(conn);
        }
        let live = self.outgoing.connections.get(conn).and_then(Connection::live);
        live.expect("a session asks").reads_in_flight += 1;
        self.push_or_stall(conn, Request::List(list));
    }

    /// A service asks for the conversations of a user of this core.
    pub(super) fn tell_conversations(&mut self, list: List) {
        let List { origin: Origin { core, conn, request }, user, list } = list;
        let read = Box::new(self.read_conversations(user, &list));
        self.mesh.deliver(core, Delivery::Ask { conn, request, read });
    }

    /// A user's sessions are to end, and what they began with.
    pub(super) fn end_sessions(&mut self, end: SessionsEnd, effects: &mut Effects) {
        self.obey_or_await(end.user, ServiceAsk::End(end), effects);
    }

    /// All that is a user's own is to be removed.
    pub(super) fn erase(&mut self, erase: UserErase, effects: &mut Effects) {
        self.obey_or_await(erase.user, ServiceAsk::Erase(erase), effects);
    }

    /// Now, or when the user's state is known. How many wait is bounded by what services may have
    /// under way.
    fn obey_or_await(&mut self, user: UserId, ask: ServiceAsk, effects: &mut Effects) {
        if self.inboxes.committed(user).is_some() {
            return self.obey_service(ask, effects);
        }
        self.awaiting.entry(user).or_default().push(ask);
        self.catch_up(CatchUp::Head(user), effects);
    }

    /// Whether a connection or a service waits for the head of a user.
    pub(super) fn is_awaited(&self, user: UserId) -> bool {
        self.joining.contains_key(&user) || self.awaiting.contains_key(&user)
    }

    /// The state of a user is known.
    pub(super) fn obey_services(&mut self, user: UserId, effects: &mut Effects) {
        for ask in self.awaiting.remove(&user).unwrap_or_default() {
            self.obey_service(ask, effects);
        }
    }

    fn obey_service(&mut self, ask: ServiceAsk, effects: &mut Effects) {
        let (ServiceAsk::End(SessionsEnd { origin, .. })
        | ServiceAsk::Erase(UserErase { origin, .. })) = ask;
        if self.is_full() {
            return self.refuse_service(origin, DISK_FULL);
        }
        match ask {
            ServiceAsk::Erase(erase) => self.begin_erasure(erase, effects),
            ServiceAsk::End(SessionsEnd { user, device, before, .. }) => {
                let before = before.unwrap_or(self.now.wall);
                match self.end_for(user, device, before, effects) {
                    // Also if it was so already: the first may not be durable yet.
                    Ok(()) => self.committing.push(Pending::Service(origin)),
                    Err(refused) => self.refuse_service(origin, refused),
                }
            }
        }
    }

    /// Refuses from now on what was issued up to a time, and ends the sessions that began with it.
    /// They end at once: to wait for the disk would only give them time.
    pub(super) fn end_for(
        &mut self,
        user: UserId,
        device: Option<DeviceId>,
        before: Timestamp,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let written = self.inboxes.end(user, (device, before), self.committing.open_number());
        let batch = self.committing.batch();
        match written {
            Ok(Written::Nothing) => {}
            Ok(Written::One(ending)) => batch.put_ending(user, ending),
            Ok(Written::All(endings)) => batch.set_endings(user, &endings),
            Err(_) => {
                let text = "too many of her devices were ended one by one; end all of them once";
                let code = RejectCode::TooLarge;
                return Err(Refused { code, text, retry_after_ms: 0 });
            }
        }
        let of_user: Vec<(DeviceId, ConnId)> = self.sessions.of(user).collect();
        for (of, conn) in of_user {
            let live = self.outgoing.connections.get(conn).and_then(Connection::live);
            let is_ended = live.is_some_and(|live| live.issued_at <= before);
            if is_ended && device.is_none_or(|device| device == of) {
                self.close_session(conn, CloseCode::Ended, effects);
            }
        }
        Ok(())
    }

    pub(super) fn answer_service(&mut self, origin: Origin, verdict: Answered) {
        let Origin { core, conn, request } = origin;
        let (channel, nonce) = NOTHING;
        let answer = Answer { conn, request, channel, nonce, verdict };
        self.mesh.deliver(core, Delivery::Answer(answer));
    }

    pub(super) fn refuse_service(&mut self, origin: Origin, refused: Refused) {
        self.counts.rejected += 1;
        let Refused { code, text, retry_after_ms } = refused;
        self.answer_service(origin, Answered::Rejected { code, text, retry_after_ms });
    }
}
