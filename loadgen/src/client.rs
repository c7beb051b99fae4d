//! One session from its first byte to its last, without a socket or a clock: bytes and the time
//! in; bytes, news and the next deadline out.
//!
//! ```text
//!   Closed --handle_connected--> Handshake --101--> Hello --Welcome--> Live --> (an Ending)
//!      ^                                                                           |
//!      +---------------------------------- reset ----------------------------------+
//! ```
//!
//! A session that *resumes* keeps its ticket, epoch and cursor over a reset, and goes on from them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt};
use wire::client::{Credential, CursorAck, Hello, Ping, Sync};
use wire::server::{ChannelReady, Limits, Posted, Rejected, Resume, Welcome};
use wire::{ClientBody, Deliver, DeviceId, Epoch, InboxSeq, ServerBody, UserId};
use ws::handshake::{ClientRequest, Progress, read_response};
use ws::{Event, MaskKey, Role, Session, TextPolicy, encoder};

use crate::clock::Nanos;
use crate::ending::Ending;
use crate::scenario::{Foreign, NO_LIMITS, fill};
use crate::target::Target;

/// Deliveries after which the cursor is acknowledged.
const ACK_DELIVERIES: u32 = 32;

/// How long the first unacknowledged delivery waits at most.
const ACK_DELAY: Duration = Duration::from_secs(1);

/// What `Hello.client` says.
const NAME: &str = concat!("loadgen/", env!("CARGO_PKG_VERSION"));

/// The longest message a gateway may send.
#[expect(clippy::cast_possible_truncation, reason = "a mebibyte")]
const MESSAGE_BYTES_MAX: u32 = wire::limits::SERVER_FRAME_BYTES_MAX as u32;

/// What the sessions of one thread share.
pub(crate) struct Kit {
    /// Frames are made in it.
    pub(crate) encoder: wire::Encoder,
    /// Mask and handshake keys: cheap, as nobody attacks a load generator.
    pub(crate) rng: SmallRng,
}

/// What a session tells its scenario.
#[derive(Debug)]
pub(crate) enum News<'a> {
    /// It is live; its inbox is at this place.
    Live(InboxSeq, Limits),
    /// It is live again, and everything behind its cursor follows.
    Resumed,
    /// It is live again, but the server does not know its cursor: its inbox begins anew at this
    /// place.
    Reset(InboxSeq),
    /// A message has its place.
    Posted(Posted),
    /// A channel is made.
    Ready(ChannelReady),
    /// A request was refused.
    Rejected(Rejected<'a>),
    /// An entry of the inbox.
    Delivered(Deliver<'a>),
}

/// One session.
///
/// `handle_*`: what the world said. [`Self::send`] and [`Self::leave`]: what we are asked.
/// [`Self::deadline`] tells when [`Self::handle_deadline`] wants to be called.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    state: State,
}

#[derive(Debug)]
enum Socket {
    Closed,
    Handshake { key: [u8; 16], head: Vec<u8> },
    Open(Session),
}

#[derive(Debug)]
struct State {
    user: UserId,
    device: DeviceId,
    token: Box<str>,
    /// Set if the server is not Mooring.
    foreign: Option<Arc<Foreign>>,
    resumes: bool,
    /// Of the last Welcome, if the session resumes; until it is refused.
    ticket: Option<Box<[u8]>>,
    /// Of the last Welcome, if the session resumes.
    epoch: Epoch,
    is_live: bool,
    has_resumed: bool,
    /// The last place received: what is received is kept, so this is the cursor.
    inbox: InboxSeq,
    /// The server's wish for the next connection.
    come_back_after: Duration,
    unacknowledged: u32,
    ack_at: Nanos,
    heartbeat: Duration,
    heartbeat_at: Nanos,
}

impl Client {
    /// A session that has not begun; whether it goes on from where it was after a [`Self::reset`].
    pub(crate) fn new(user: UserId, device: DeviceId, token: Box<str>, resumes: bool) -> Self {
        let state = State {
            user,
            device,
            token,
            foreign: None,
            resumes,
            ticket: None,
            epoch: Epoch::NONE,
            is_live: false,
            has_resumed: false,
            inbox: InboxSeq::ZERO,
            come_back_after: Duration::ZERO,
            unacknowledged: 0,
            ack_at: Nanos::NEVER,
            heartbeat: Duration::ZERO,
            heartbeat_at: Nanos::NEVER,
        };
        Self { socket: Socket::Closed, state }
    }

    /// The connection is there: asks for a WebSocket.
    pub(crate) fn handle_connected(&mut self, kit: &mut Kit, target: &Target, out: &mut BytesMut) {
        let mut key = [0; 16];
        kit.rng.fill_bytes(&mut key);
        self.state.foreign.clone_from(&target.foreign);
        let path = self.state.path(target);
        let request = request(target, &path, key);
        request.append(out).expect("host and path were checked with the URL");
        self.socket = Socket::Handshake { key, head: Vec::new() };
    }

    /// Takes received bytes; answers go to `out`, the rest to `news`.
    ///
    /// # Errors
    /// The session is over, and why.
    pub(crate) fn handle_bytes(
        &mut self,
        kit: &mut Kit,
        target: &Target,
        now: Nanos,
        input: &mut [u8],
        out: &mut BytesMut,
        news: &mut impl FnMut(&News<'_>),
    ) -> Result<(), Ending> {
        match &mut self.socket {
            Socket::Closed => Ok(()),
            Socket::Open(session) => self.state.handle_input(session, kit, now, input, out, news),
            Socket::Handshake { key, head } => {
                head.extend_from_slice(input);
                let path = self.state.path(target);
                let response = match read_response(head, &request(target, &path, *key)) {
                    Ok(Progress::Incomplete) => return Ok(()),
                    Ok(Progress::Complete(response)) => response,
                    Err(refusal) => return Err(Ending::Refused(refusal)),
                };
                let mut rest = head.split_off(response.head_bytes);
                let mut session = match self.state.foreign.clone() {
                    None => {
                        self.state.say_hello(kit, out);
                        Session::new(Role::Client, MESSAGE_BYTES_MAX)
                    }
                    Some(foreign) => {
                        self.state.open_foreign(&foreign, kit, out, news);
                        let (role, text) = (Role::Client, TextPolicy::Utf8);
                        Session::with_text(role, MESSAGE_BYTES_MAX, text)
                    }
                };
                let result = self.state.handle_input(&mut session, kit, now, &mut rest, out, news);
                self.socket = Socket::Open(session);
                result
            }
        }
    }

    /// Sends what is due by now: a heartbeat, an acknowledgement.
    pub(crate) fn handle_deadline(&mut self, kit: &mut Kit, now: Nanos, out: &mut BytesMut) {
        if now >= self.state.ack_at {
            self.state.acknowledge(kit, now, out);
        }
        if now >= self.state.heartbeat_at {
            self.state.send(kit, now, Ping { opaque: now.0 }, out);
        }
    }

    /// The time of the next [`Self::handle_deadline`]. Sending anything moves it further away.
    pub(crate) fn deadline(&self) -> Nanos {
        self.state.ack_at.min(self.state.heartbeat_at)
    }

    /// Sends a frame; `false` if the session is not live.
    pub(crate) fn send<'a>(
        &mut self,
        kit: &mut Kit,
        now: Nanos,
        body: impl Into<ClientBody<'a>>,
        out: &mut BytesMut,
    ) -> bool {
        if self.state.is_live {
            self.state.send(kit, now, body, out);
        }
        self.state.is_live
    }

    /// Says good-bye; the gateway then closes the connection. `false` if there is nobody to say it
    /// to.
    pub(crate) fn leave(&mut self, kit: &mut Kit, out: &mut BytesMut) -> bool {
        let Socket::Open(session) = &mut self.socket else { return false };
        self.state.heartbeat_at = Nanos::NEVER;
        self.state.ack_at = Nanos::NEVER;
        session.close(Some(ws::CloseCode::NORMAL), "", Some(mask(kit)), out)
    }

    /// The connection is gone; the session can begin again.
    pub(crate) fn reset(&mut self) {
        self.socket = Socket::Closed;
        let state = &mut self.state;
        (state.is_live, state.has_resumed, state.unacknowledged) = (false, false, 0);
        (state.ack_at, state.heartbeat_at) = (Nanos::NEVER, Nanos::NEVER);
    }

    /// Whether `ending` came of the ticket, so that the token may do. The next Hello says it.
    pub(crate) fn falls_back(&mut self, ending: &Ending) -> bool {
        let unauthorised = wire::CloseCode::Unauthorised.number();
        let is_refused = matches!(ending, Ending::Closed(Some(code), _) if *code == unauthorised);
        is_refused && self.state.ticket.take().is_some()
    }

    /// The next Hello says this cursor, as of a device that has kept nothing behind it, and is not
    /// said before so long.
    pub(crate) fn rewind(&mut self, cursor: InboxSeq, after: Duration) {
        self.state.inbox = cursor;
        self.state.come_back_after = after;
    }

    /// How long the server asked to wait before the next connection; zero if it did not.
    pub(crate) fn take_delay(&mut self) -> Duration {
        std::mem::take(&mut self.state.come_back_after)
    }

    /// Whether it has been welcomed.
    pub(crate) const fn is_live(&self) -> bool {
        self.state.is_live
    }

    /// Whether it goes on from its cursor.
    pub(crate) const fn has_resumed(&self) -> bool {
        self.state.has_resumed
    }
}

impl State {
    /// What is asked for: to another server, with the session's number in it.
    fn path<'t>(&self, target: &'t Target) -> Cow<'t, str> {
        match &target.foreign {
            None => Cow::Borrowed(&target.path),
            Some(_) => Cow::Owned(fill(&target.path, self.user.get())),
        }
    }

    fn open_foreign(
        &mut self,
        foreign: &Foreign,
        kit: &mut Kit,
        out: &mut BytesMut,
        news: &mut impl FnMut(&News<'_>),
    ) {
        if let Some(opening) = foreign.opening(self.user.get()) {
            let key = mask(kit);
            encoder::append_binary(out, opening.as_bytes(), Some(key));
        }
        if foreign.begins_at_once() {
            self.begin_foreign(news);
        }
    }

    /// Has an empty inbox and no limits, which are Mooring's.
    fn begin_foreign(&mut self, news: &mut impl FnMut(&News<'_>)) {
        if !std::mem::replace(&mut self.is_live, true) {
            news(&News::Live(InboxSeq::ZERO, NO_LIMITS));
        }
    }

    fn say_hello(&mut self, kit: &mut Kit, out: &mut BytesMut) {
        let token = Credential::Token(&self.token);
        let hello = Hello {
            protocol_version: wire::limits::PROTOCOL_VERSION,
            credential: self.ticket.as_deref().map_or(token, Credential::Ticket),
            device: self.device,
            epoch: self.epoch,
            cursor: if self.epoch == Epoch::NONE { InboxSeq::ZERO } else { self.inbox },
            client: NAME,
        };
        append(kit, hello, out);
    }

    fn send<'a>(
        &mut self,
        kit: &mut Kit,
        now: Nanos,
        body: impl Into<ClientBody<'a>>,
        out: &mut BytesMut,
    ) {
        append(kit, body, out);
        self.heartbeat_at = now.plus(self.heartbeat);
    }

    fn acknowledge(&mut self, kit: &mut Kit, now: Nanos, out: &mut BytesMut) {
        self.unacknowledged = 0;
        self.ack_at = Nanos::NEVER;
        self.send(kit, now, CursorAck { inbox_seq: self.inbox }, out);
    }

    fn handle_input(
        &mut self,
        session: &mut Session,
        kit: &mut Kit,
        now: Nanos,
        mut input: &mut [u8],
        out: &mut BytesMut,
        news: &mut impl FnMut(&News<'_>),
    ) -> Result<(), Ending> {
        loop {
            let ending = match session.next_event(&mut input) {
                Ok(None) => return Ok(()),
                Ok(Some(Event::Binary(frame))) => {
                    match self.handle_frame(kit, now, frame, out, news) {
                        Ok(()) => continue,
                        Err(ending) => ending,
                    }
                }
                Ok(Some(Event::Ping(payload))) => {
                    encoder::append_pong(out, payload, Some(mask(kit)));
                    continue;
                }
                Ok(Some(Event::Pong(_))) => continue,
                Ok(Some(Event::Text(text))) => {
                    match self.handle_frame(kit, now, text.as_bytes(), out, news) {
                        Ok(()) => continue,
                        Err(ending) => ending,
                    }
                }
                Ok(Some(Event::Close(frame))) => {
                    let ending = Ending::closed(frame.code.map(ws::CloseCode::get), frame.reason);
                    let code = frame.code;
                    session.close(code, "", Some(mask(kit)), out);
                    ending
                }
                Err(error) => {
                    session.close(Some(error.close_code()), "", Some(mask(kit)), out);
                    Ending::Protocol(error)
                }
            };
            self.is_live = false;
            return Err(ending);
        }
    }

    fn handle_frame(
        &mut self,
        kit: &mut Kit,
        now: Nanos,
        frame: &[u8],
        out: &mut BytesMut,
        news: &mut impl FnMut(&News<'_>),
    ) -> Result<(), Ending> {
        if let Some(foreign) = &self.foreign {
            if foreign.begins_with(frame) {
                self.begin_foreign(news);
            }
            return Ok(());
        }
        let body = wire::decode_server(frame).map_err(Ending::Frame)?.body;
        if let ServerBody::Welcome(welcome) = body {
            return self.handle_welcome(kit, now, &welcome, news);
        }
        if !self.is_live {
            return Err(Ending::Unexpected("a frame before Welcome"));
        }
        match body {
            ServerBody::Posted(posted) => news(&News::Posted(posted)),
            ServerBody::ChannelReady(ready) => news(&News::Ready(ready)),
            ServerBody::Rejected(rejected) => news(&News::Rejected(rejected)),
            ServerBody::Deliver(deliver) => self.handle_deliver(kit, now, deliver, out, news),
            ServerBody::SyncPage(page) => {
                for deliver in page.entries.iter() {
                    self.handle_deliver(kit, now, deliver, out, news);
                }
                if !page.end {
                    self.send(kit, now, Sync { after: page.next, limit: 0 }, out);
                }
            }
            // It is followed by a close, which ends the session.
            ServerBody::Reconnect(reconnect) => {
                self.come_back_after = Duration::from_millis(reconnect.after_ms.into());
            }
            ServerBody::Welcome(_)
            | ServerBody::HistoryPage(_)
            | ServerBody::ChannelPage(_)
            | ServerBody::TypingFrom(_)
            | ServerBody::Pong(_)
            | ServerBody::ServiceWelcome(_)
            | ServerBody::ServiceDone(_)
            | ServerBody::Unknown(_) => {}
        }
        Ok(())
    }

    fn handle_welcome(
        &mut self,
        kit: &mut Kit,
        now: Nanos,
        welcome: &Welcome<'_>,
        news: &mut impl FnMut(&News<'_>),
    ) -> Result<(), Ending> {
        if self.is_live {
            return Err(Ending::Unexpected("a second Welcome"));
        }
        if (welcome.user, welcome.device) != (self.user, self.device) {
            return Err(Ending::Unexpected("a Welcome for somebody else"));
        }
        self.is_live = true;
        let before = self.epoch;
        if self.resumes {
            self.ticket = Some(welcome.ticket.into());
            self.epoch = welcome.epoch;
        } else {
            // It is not needed again: a session that breaks is counted, not resumed.
            self.token = Box::default();
        }
        self.heartbeat = Duration::from_millis(welcome.heartbeat_interval_ms.max(1).into());
        // Spread: sessions that were opened together must not all speak together.
        self.heartbeat_at = now.plus(self.heartbeat.mul_f64(kit.rng.random::<f64>()));
        let head = welcome.inbox_head;
        let is_known = before == welcome.epoch && self.inbox <= head;
        self.has_resumed = welcome.resume == Resume::Resumed && is_known;
        if self.has_resumed {
            news(&News::Resumed);
            return Ok(());
        }
        self.inbox = head;
        news(&if before == Epoch::NONE {
            News::Live(head, welcome.limits)
        } else {
            News::Reset(head)
        });
        Ok(())
    }

    fn handle_deliver(
        &mut self,
        kit: &mut Kit,
        now: Nanos,
        deliver: Deliver<'_>,
        out: &mut BytesMut,
        news: &mut impl FnMut(&News<'_>),
    ) {
        self.inbox = self.inbox.max(deliver.inbox_seq);
        self.unacknowledged += 1;
        news(&News::Delivered(deliver));
        if self.unacknowledged >= ACK_DELIVERIES {
            self.acknowledge(kit, now, out);
        } else if self.ack_at == Nanos::NEVER {
            self.ack_at = now.plus(ACK_DELAY);
        }
    }
}

fn request<'t>(target: &'t Target, path: &'t str, key: [u8; 16]) -> ClientRequest<'t> {
    let subprotocol = match &target.foreign {
        None => Some(wire::limits::SUBPROTOCOL),
        Some(foreign) => foreign.subprotocol.as_deref(),
    };
    ClientRequest { host: &target.host, target: path, key, subprotocol, fields: &[] }
}

fn mask(kit: &mut Kit) -> MaskKey {
    MaskKey(kit.rng.next_u32().to_ne_bytes())
}

fn append<'a>(kit: &mut Kit, body: impl Into<ClientBody<'a>>, out: &mut BytesMut) {
    let key = mask(kit);
    let frame = kit.encoder.client(0, body);
    encoder::append_binary(out, frame, Some(key));
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
