//! What is said to the gateway and what it says.

use std::time::Duration;

use rand::RngExt;
use wire::client::{Credential, CursorAck, Hello, Ping, Sync};
use wire::limits::{CLIENT_NAME_BYTES_MAX, PROTOCOL_VERSION};
use wire::server::{Limits, Reconnect, Rejected, Resume, ServiceWelcome, Welcome};
use wire::{
    ClientBody, DeviceId, Epoch, InboxSeq, RejectCode, ServerBody, ServerFrame, decode_server,
};

use super::outbox::Outbox;
use super::pace::Pace;
use super::socket::mask;
use super::{Kind, Live, Phase, State};
use crate::address::Address;
use crate::error::{Lost, RequestError};
use crate::event::{Entry, Event, Online};
use crate::request::Answer;

/// Bytes that may wait for the socket. Beyond them requests wait where they are, and nothing is
/// read: the gateway does not read either.
pub(super) const OUTPUT_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(OUTPUT_BYTES_MAX > wire::limits::CLIENT_FRAME_BYTES_MAX);

/// The least time before a request that was refused for now is sent again.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The heartbeat of a gateway that names none, or one that no clock could keep.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

impl State {
    pub(super) fn say_hello(&mut self) {
        let name = &self.settings.name;
        let device = match self.settings.kind {
            Kind::Device(device) => device,
            Kind::Service => DeviceId(0),
        };
        let epoch = self.inbox.epoch;
        self.said_ticket = self.ticket.is_some();
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            credential: match &self.ticket {
                Some((ticket, _)) => Credential::Ticket(ticket),
                None => Credential::Token(&self.token),
            },
            device,
            epoch,
            cursor: if epoch == Epoch::NONE { InboxSeq::ZERO } else { self.inbox.cursor() },
            client: &name[..name.floor_char_boundary(CLIENT_NAME_BYTES_MAX)],
        };
        let frame = self.encoder.client(0, hello);
        ws::encoder::append_binary(&mut self.output, frame, Some(mask(&mut self.rng)));
    }

    /// Appends a frame, and notes that something was said.
    fn say<'a>(&mut self, now: Duration, body: impl Into<ClientBody<'a>>) {
        let frame = self.encoder.client(0, body);
        ws::encoder::append_binary(&mut self.output, frame, Some(mask(&mut self.rng)));
        self.note_said(now);
    }

    fn note_said(&mut self, now: Duration) {
        if let Phase::Live(live) = &mut self.phase {
            live.ping_at = now + live.heartbeat / 2;
            live.pace.spend(now);
        }
    }

    /// Sends what is due and what may be sent.
    pub(super) fn pump(&mut self, now: Duration) {
        if let Some(inbox_seq) = self.inbox.next_ack(now) {
            self.say(now, CursorAck { inbox_seq });
        }
        if let Some(after) = self.inbox.next_sync() {
            self.say(now, Sync { after, limit: 0 });
        }
        while self.output.len() < OUTPUT_BYTES_MAX && self.send_next(now) {}
        if let Phase::Live(live) = &self.phase
            && now >= live.ping_at
        {
            self.say(now, Ping { opaque: 0 });
        }
    }

    /// Sends the next request, if there is one that may be sent.
    fn send_next(&mut self, now: Duration) -> bool {
        let Phase::Live(live) = &self.phase else { return false };
        if live.pace.free_at() > now {
            return false;
        }
        let (in_flight_max, body_max) = (live.in_flight_max(), live.limits.body_bytes_max);
        let Some((id, number, pending)) = self.outbox.next_to_send(now, in_flight_max) else {
            return false;
        };
        if let Err(error) = Outbox::check_body(pending, body_max) {
            self.finish(id, Err(error));
            return true;
        }
        let body = pending.request.as_body(pending.may_be_kept);
        let has_answer = pending.request.has_answer(self.settings.kind == Kind::Service);
        let frame = self.encoder.client_as(number, pending.as_user, body);
        ws::encoder::append_binary(&mut self.output, frame, Some(mask(&mut self.rng)));
        self.note_said(now);
        if !has_answer {
            self.finish(id, Ok(Answer::Sent));
        }
        true
    }

    /// Acknowledges what is kept, before we leave.
    pub(super) fn push_last_ack(&mut self, now: Duration) {
        if let Some(inbox_seq) = self.inbox.last_ack() {
            self.say(now, CursorAck { inbox_seq });
        }
    }

    /// When something is due while we are welcome.
    pub(super) fn deadline_live(&self, live: &Live) -> Duration {
        let mut deadline = live.ping_at.min(live.silent_at);
        if let Some(at) = self.inbox.ack_at() {
            deadline = deadline.min(at);
        }
        if self.output.len() < OUTPUT_BYTES_MAX && self.outbox.has_more(live.in_flight_max()) {
            deadline = deadline.min(live.pace.free_at().max(self.outbox.paused_until()));
        }
        deadline
    }

    pub(super) fn handle_frame(&mut self, now: Duration, frame: &[u8]) -> Result<(), Lost> {
        let ServerFrame { request, body } = decode_server(frame).map_err(Lost::Frame)?;
        match (&mut self.phase, &body) {
            (Phase::Greeting { .. }, ServerBody::Welcome(welcome)) => {
                return self.handle_welcome(now, welcome);
            }
            (Phase::Greeting { .. }, ServerBody::ServiceWelcome(welcome)) => {
                return self.handle_service_welcome(now, welcome);
            }
            (Phase::Greeting { .. }, _) => return Err(Lost::Unexpected("a frame before Welcome")),
            (Phase::Live(live), _) => live.silent_at = now + live.silence(),
            // Deliveries and answers that were on their way when we left: the gateway has kept
            // what it owes us.
            _ => return Ok(()),
        }
        match body {
            ServerBody::Welcome(_) | ServerBody::ServiceWelcome(_) => {
                return Err(Lost::Unexpected("a second Welcome"));
            }
            ServerBody::Deliver(deliver) => {
                let entry = Entry::from(deliver);
                if self.inbox.receive(entry.inbox_seq, entry.bytes())? {
                    self.push_entry(entry);
                }
            }
            ServerBody::SyncPage(page) => {
                self.inbox.begin_page();
                for entry in page.entries.iter().map(Entry::from) {
                    if self.inbox.receive_of_page(entry.inbox_seq, entry.bytes()) {
                        self.push_entry(entry);
                    }
                }
                self.inbox.end_page(page.next, page.end);
            }
            ServerBody::Rejected(rejected) => self.handle_rejected(now, request, &rejected),
            ServerBody::TypingFrom(typing) => {
                self.tell(Event::Typing { channel: typing.channel, user: typing.user });
            }
            ServerBody::Reconnect(reconnect) => self.handle_reconnect(&reconnect),
            ServerBody::Pong(_) | ServerBody::Unknown(_) => {}
            ServerBody::Posted(_)
            | ServerBody::HistoryPage(_)
            | ServerBody::ChannelPage(_)
            | ServerBody::ChannelReady(_)
            | ServerBody::ServiceDone(_) => self.handle_answer(request, &body),
        }
        Ok(())
    }

    fn handle_welcome(&mut self, now: Duration, welcome: &Welcome<'_>) -> Result<(), Lost> {
        if self.settings.kind != Kind::Device(welcome.device) {
            return Err(Lost::Unexpected("a Welcome for another device"));
        }
        self.begin(now, welcome.heartbeat_interval_ms, welcome.limits);
        let lifetime = welcome.ticket_expires_at.0.saturating_sub(welcome.server_time.0);
        let expires_at = now + Duration::from_millis(lifetime);
        self.ticket = Some((welcome.ticket.into(), expires_at));
        let goes_on = self.inbox.handle_welcome(welcome.resume, welcome.epoch, welcome.inbox_head);
        if !goes_on {
            self.forget_entries();
        }
        let online = Event::Online(Online {
            session: welcome.session,
            user: Some(welcome.user),
            epoch: welcome.epoch,
            resume: welcome.resume,
            inbox_head: welcome.inbox_head,
        });
        // That the inbox begins anew must not be missed.
        match welcome.resume {
            Resume::Resumed => self.tell(online),
            Resume::Fresh | Resume::Reset => self.push_news(online),
        }
        Ok(())
    }

    fn handle_service_welcome(
        &mut self,
        now: Duration,
        welcome: &ServiceWelcome,
    ) -> Result<(), Lost> {
        if self.settings.kind != Kind::Service {
            return Err(Lost::Unexpected("a Welcome for a service"));
        }
        self.begin(now, welcome.heartbeat_interval_ms, welcome.limits);
        let (session, inbox_head) = (welcome.session, InboxSeq::ZERO);
        // Nothing is resumed, and nothing lost: what had no answer is sent again.
        self.tell(Event::Online(Online {
            session,
            user: None,
            epoch: welcome.epoch,
            resume: Resume::Resumed,
            inbox_head,
        }));
        Ok(())
    }

    fn begin(&mut self, now: Duration, heartbeat_interval_ms: u32, limits: Limits) {
        let heartbeat = Duration::from_millis(heartbeat_interval_ms.into()).max(HEARTBEAT_MIN);
        self.phase = Phase::Live(Live {
            limits,
            heartbeat,
            // Spread: sessions that came together must not all speak together.
            ping_at: now + (heartbeat / 2).mul_f64(self.rng.random()),
            silent_at: now + 3 * heartbeat,
            pace: Pace::new(limits.frames_per_second_max),
        });
        self.backoff.handle_success();
        (self.attempt, self.token_refused, self.come_back) = (0, false, None);
    }

    fn handle_answer(&mut self, request: u32, body: &ServerBody<'_>) {
        // One that is not known has timed out, or was of an earlier version of us.
        let Some((id, _)) = self.outbox.sent(request) else { return };
        let answer = Answer::from_body(body).expect("only answers come here");
        self.finish(id, Ok(answer));
    }

    fn handle_rejected(&mut self, now: Duration, request: u32, rejected: &Rejected<'_>) {
        let Some((id, _)) = self.outbox.sent(request) else { return };
        let pause = Duration::from_millis(rejected.retry_after_ms.into());
        let is_draining = rejected.code == RejectCode::Draining;
        if pause.is_zero() && !is_draining {
            let (code, text) = (rejected.code, rejected.text.to_owned());
            return self.finish(id, Err(RequestError::Rejected { code, text }));
        }
        // Nothing else is sent meanwhile: it would meet the same refusal, or overtake this one.
        self.outbox.send_again(id, now + pause.max(PAUSE_MIN), is_draining);
    }

    fn handle_reconnect(&mut self, reconnect: &Reconnect<'_>) {
        let after = Duration::from_millis(reconnect.after_ms.into());
        // One that we cannot reach (TLS, say) is as good as none: the list has others.
        let to = reconnect.url.and_then(|url| Address::parse(url).ok());
        self.come_back = Some((after, to));
    }
}
