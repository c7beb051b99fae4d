//! From a connection's first byte to a session on its user's core, and its end.

use bytes::Bytes;
use router::sessions::ConnId;
use variants::Variant;
use wire::client::{Credential, Hello};
use wire::server::{Resume, Welcome};
use wire::{
    ClientBody, CloseCode, DeviceId, InboxSeq, SessionId, Timestamp, UserId, decode_client,
};
use ws::handshake::Progress;
use ws::handshake::server::read_request;

use super::Shard;
use super::admitting::CatchUp;
use super::frames::credit_of;
use crate::auth::{Caller, Identity, TICKET_BYTES};
use crate::connection::{Joining, Live, Login, Passenger, Phase, Said, server_session};
use crate::event::{Effect, Effects};
use crate::messages::Delivery;
use crate::outgoing::close_code;

/// More than any answer to a handshake.
const HTTP_ANSWER_BYTES_MAX: usize = 1024;

impl Shard {
    pub(super) fn accepted(&mut self, slot: u32, effects: &mut Effects) {
        let (conn, connection) = self.outgoing.connections.open(slot, Phase::Waiting);
        // All that are accepted in one turn have its time: each comes after the one before it.
        self.accepted = self.now.micros.max(self.accepted + 1);
        connection.accepted = self.accepted;
        self.counts.accepted += 1;
        if self.admission.admit(conn) {
            return self.let_speak(conn, effects);
        }
        self.counts.admissions_deferred += 1;
        connection.deadline = self.now.tick.plus(self.common.limits.waiting_ticks);
        let deadline = connection.deadline;
        self.outgoing.wheel.set(slot, deadline);
    }

    pub(super) fn received(
        &mut self,
        conn: ConnId,
        bytes: &mut [u8],
        armed: bool,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        connection.receiving = armed;
        match &connection.phase {
            Phase::Vacant | Phase::Waiting | Phase::LoggingIn(_) | Phase::Passing(_) => {
                unreachable!("nothing is received for these")
            }
            Phase::Handshake(_) => self.shake_hands(conn, bytes, effects),
            Phase::Greeting => self.greet(conn, bytes, effects),
            Phase::Joining(_) => unreachable!("received from when it has joined"),
            Phase::Live(_) => self.hear(conn, bytes, effects),
            Phase::Closing => self.await_close(conn, bytes, effects),
            Phase::Refused => {}
        }
        self.check_room(conn, effects);
        // Of a receive that has ended by itself (its buffers were exhausted, or it was for once).
        if let Some(connection) = self.outgoing.connections.get(conn)
            && !connection.receiving
        {
            match connection.phase {
                Phase::Handshake(_) | Phase::Greeting | Phase::Closing => {
                    connection.receiving = true;
                    effects.push(Effect::ReceiveOnce(conn));
                }
                Phase::Live(Live { stall: None, .. }) => {
                    connection.receiving = true;
                    effects.push(Effect::ReceiveMany(conn));
                }
                _ => {}
            }
        }
    }

    fn shake_hands(&mut self, conn: ConnId, bytes: &mut [u8], effects: &mut Effects) {
        let connection = self.outgoing.connections.get(conn).expect("it received");
        let Phase::Handshake(head) = &mut connection.phase else { unreachable!("its phase") };
        // A head nearly always arrives whole, and is read where it lies.
        let mut head = std::mem::take(head);
        let before = head.len();
        let whole: &[u8] = if before == 0 {
            bytes
        } else {
            head.extend_from_slice(bytes);
            &head
        };
        match read_request(whole, &self.common.limits.handshake) {
            Ok(Progress::Incomplete) => {
                if before == 0 {
                    head.extend_from_slice(bytes);
                }
                connection.phase = Phase::Handshake(head);
            }
            Ok(Progress::Complete(request)) => {
                let consumed = request.head_bytes - before;
                connection.phase = Phase::Greeting;
                self.outgoing.send_raw(conn, HTTP_ANSWER_BYTES_MAX, |out| {
                    request.append_response(out);
                });
                if self.end_unanswered(conn, effects) {
                    return;
                }
                self.counts.handshakes += 1;
                if consumed < bytes.len() {
                    self.greet(conn, &mut bytes[consumed..], effects);
                }
            }
            Err(refusal) => {
                self.counts.handshakes_refused += 1;
                self.outgoing.send_raw(conn, HTTP_ANSWER_BYTES_MAX, |out| {
                    refusal.append_response(wire::limits::SUBPROTOCOL, out);
                });
                if self.end_unanswered(conn, effects) {
                    return;
                }
                let connection = self.outgoing.connections.get(conn).expect("it received");
                connection.phase = Phase::Refused;
            }
        }
    }

    /// Waits for Hello, and takes nothing else.
    fn greet(&mut self, conn: ConnId, bytes: &mut [u8], effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        // Taken out, since it goes with the connection to the user's core.
        let mut ws = std::mem::replace(&mut connection.ws, server_session());
        let mut input = bytes;
        let said = match ws.next_event(&mut input) {
            Ok(None) => Ok(None),
            Ok(Some(ws::Event::Binary(message))) => self.read_hello(conn, message).map(Some),
            Ok(Some(_)) => Err(Failure::Refused(CloseCode::HelloExpected, String::new())),
            Err(error) => Err(Failure::Protocol(error)),
        };
        let leftover = Bytes::copy_from_slice(input);
        let said = match said {
            // Refused here, since what is on its way to another core cannot be given up.
            Ok(Some(Heard::Caller(..))) if leftover.len() > self.outgoing.budget.left() => {
                self.counts.new_sessions_shed += 1;
                Err(Failure::Refused(CloseCode::Unavailable, String::new()))
            }
            said => said,
        };
        if let Ok(Some(Heard::Caller(caller, hello))) = said {
            return self.let_in(conn, ws, caller, (hello, leftover), effects);
        }
        let connection = self.outgoing.connections.get(conn).expect("it is still here");
        connection.ws = ws;
        match said {
            Ok(Some(Heard::Token(token, device, hello))) => {
                let login = Login { token, device, hello, leftover };
                connection.phase = Phase::LoggingIn(Box::new(login));
            }
            Ok(_) => {}
            Err(Failure::Refused(code, text)) => self.fail_with(conn, code, &text),
            Err(Failure::Protocol(error)) => self.fail_protocol(conn, &error),
        }
    }

    /// The first message must be a Hello of this version, with a credential of ours.
    fn read_hello(&mut self, conn: ConnId, message: &[u8]) -> Result<Heard, Failure> {
        let refused = |code| Failure::Refused(code, String::new());
        let frame = decode_client(message)
            .map_err(|error| Failure::Refused(error.close_code(), error.to_string()))?;
        let ClientBody::Hello(hello) = frame.body else {
            return Err(refused(CloseCode::HelloExpected));
        };
        if hello.protocol_version != wire::limits::PROTOCOL_VERSION {
            return Err(refused(CloseCode::UnsupportedVersion));
        }
        let Hello { epoch, cursor, device, .. } = hello;
        let said = Said { request: frame.request, epoch, cursor };
        if let Credential::Token(token) = hello.credential
            && !self.admission.log_in(conn)
        {
            self.counts.logins_deferred += 1;
            return Ok(Heard::Token(token.into(), device, said));
        }
        let caller = self.verify(&hello.credential, device).map_err(refused)?;
        Ok(Heard::Caller(caller, said))
    }

    /// A device goes on to its user's core, a service stays here.
    pub(super) fn let_in(
        &mut self,
        conn: ConnId,
        ws: ws::Session,
        caller: Caller,
        (hello, leftover): (Said, Bytes),
        effects: &mut Effects,
    ) {
        match caller {
            Caller::Device { identity, issued_at } => {
                let joining = hello.of((identity, issued_at), leftover);
                self.depart(conn, ws, joining, effects);
            }
            Caller::Service => self.begin_service(conn, ws, hello.request, &leftover, effects),
        }
    }

    /// Whose the credential is, or with which code it is refused.
    pub(super) fn verify(
        &mut self,
        credential: &Credential<'_>,
        device: DeviceId,
    ) -> Result<Caller, CloseCode> {
        self.common.keys.verify(credential, device, self.now.wall).map_err(|error| {
            self.counts.logins_refused += 1;
            tracing::debug!(%device, %error, "login refused");
            CloseCode::Unauthorised
        })
    }

    /// On to the user's core, which may be this one.
    pub(super) fn depart(
        &mut self,
        conn: ConnId,
        ws: ws::Session,
        joining: Joining,
        effects: &mut Effects,
    ) {
        let target = self.common.map.core_of_user(joining.identity.user);
        let connection = self.outgoing.connections.get(conn).expect("it said Hello");
        let passenger = Passenger { slot: conn.slot, accepted: connection.accepted, ws, joining };
        if target == self.core {
            return self.seat(conn, passenger, effects);
        }
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        if connection.queue.is_empty() {
            connection.phase = Phase::Passing(Box::new(passenger));
            self.outgoing.wheel.remove(conn.slot);
            effects.push(Effect::Pass(conn, target));
        } else {
            // The answer to the handshake is still on its way: it goes when that is sent.
            connection.phase = Phase::Passing(Box::new(passenger));
        }
        self.outgoing.recount(conn);
    }

    /// A connection was put into the other core's table, or could not be.
    pub(super) fn passed(&mut self, conn: ConnId, slot: Option<u32>, effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        let Phase::Passing(mut passenger) = phase else { unreachable!("only these are passed") };
        if let Some(slot) = slot {
            passenger.slot = slot;
            let target = self.common.map.core_of_user(passenger.joining.identity.user);
            self.mesh.deliver(target, Delivery::Adopt(passenger));
        } else {
            // Its table is full. The device tries again later, perhaps elsewhere.
            self.counts.passes_failed += 1;
        }
        self.outgoing.end(conn, effects);
    }

    /// A connection of one of this core's users arrives from another core.
    pub(super) fn adopt(&mut self, passenger: Passenger, effects: &mut Effects) {
        let (conn, connection) = self.outgoing.connections.open(passenger.slot, Phase::Closing);
        connection.accepted = passenger.accepted;
        self.seat(conn, passenger, effects);
    }

    /// Its user's head is read, unless it is known.
    fn seat(&mut self, conn: ConnId, passenger: Passenger, effects: &mut Effects) {
        let Passenger { ws, joining, .. } = passenger;
        let (user, held) = (joining.identity.user, ws.held_bytes() + joining.leftover.len());
        let connection = self.outgoing.connections.get(conn).expect("it was just placed");
        connection.ws = ws;
        connection.deadline = self.now.tick.plus(self.common.limits.hello_ticks);
        let deadline = connection.deadline;
        connection.phase = Phase::Joining(Box::new(joining));
        self.outgoing.wheel.set(conn.slot, deadline);
        if self.is_closed_to(held) {
            self.fail_with(conn, CloseCode::Unavailable, "");
            return self.receive_again(conn, effects);
        }
        self.outgoing.recount(conn);
        if let Some(head) = self.inboxes.committed(user) {
            self.welcome(conn, head, effects);
            return;
        }
        self.joining.entry(user).or_default().push(conn);
        self.catch_up(CatchUp::Head(user), effects);
    }

    /// Whether no session begins here now that holds so much.
    pub(super) fn is_closed_to(&mut self, held: usize) -> bool {
        self.draining.is_some() || self.evacuating.is_some() || self.refuses_session(held)
    }

    /// The head of a user is known: her connections that waited for it become sessions.
    pub(super) fn welcome_joining(&mut self, user: UserId, effects: &mut Effects) {
        let Some(waiting) = self.joining.remove(&user) else { return };
        let head = self.inboxes.committed(user).expect("it was just read");
        for conn in waiting {
            self.welcome(conn, head, effects);
        }
    }

    fn welcome(&mut self, conn: ConnId, head: InboxSeq, effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        if !matches!(connection.phase, Phase::Joining(_)) {
            return; // It failed while the head was read.
        }
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        let Phase::Joining(joining) = phase else { unreachable!("just looked at") };
        let identity = joining.identity;
        if self.is_outdated(conn, identity) {
            self.fail_with(conn, CloseCode::Unavailable, "");
            return self.receive_again(conn, effects);
        }
        if !self.inboxes.permits(identity.user, identity.device, joining.issued_at) {
            self.counts.logins_refused += 1;
            self.fail_with(conn, CloseCode::Ended, "");
            return self.receive_again(conn, effects);
        }
        match self.sessions.attach(identity.user, identity.device, conn) {
            Ok(None) => {}
            Ok(Some(displaced)) => {
                self.counts.displaced += 1;
                self.close_session(displaced, CloseCode::Displaced, effects);
            }
            Err(error) => {
                self.fail_with(conn, CloseCode::Forbidden, &error.to_string());
                return self.receive_again(conn, effects);
            }
        }
        let (resume, cursor) = resume_at(&joining, self.common.epoch, head);
        let early_bytes = joining.leftover.len();
        let session = self.begin_session(conn, Some(&joining), early_bytes, (cursor, head));
        let live = cursor == head;
        let keys = &self.common.keys;
        let (ticket, expires_at) = keys.ticket(identity, joining.issued_at, self.now.wall);
        self.send_welcome(conn, &joining, session, resume, head, (&ticket, expires_at));
        self.counts.logins += 1;
        if !live {
            self.ask_sync(conn, 0, cursor, 0, effects);
        }
        if !joining.leftover.is_empty() && !variants::is(Variant::LeftoverDropped) {
            self.hear(conn, &mut Vec::from(&joining.leftover[..]), effects);
        }
        self.outgoing.recount(conn);
        self.receive_again(conn, effects);
    }

    /// Whether the device has a session on a connection that was accepted after this one: this one
    /// has waited for its turn, and its client has given it up meanwhile. What it carries would
    /// come after what the other has repeated. If somebody is there still, she comes again.
    fn is_outdated(&mut self, conn: ConnId, identity: Identity) -> bool {
        let Some(accepted) = self.outgoing.connections.get(conn).map(|it| it.accepted) else {
            return false;
        };
        let of_device = self.sessions.of(identity.user).find(|(of, _)| *of == identity.device);
        let other = of_device.and_then(|(_, other)| self.outgoing.connections.get(other));
        other.is_some_and(|other| other.accepted > accepted)
    }

    /// A session of a device, or of a service.
    pub(super) fn begin_session(
        &mut self,
        conn: ConnId,
        joining: Option<&Joining>,
        early_bytes: usize,
        (cursor, head): (InboxSeq, InboxSeq),
    ) -> SessionId {
        let session = SessionId((u64::from(self.core.0) << 48) | self.next_session);
        self.next_session += 1;
        let limits = &self.common.limits;
        let connection = self.outgoing.connections.get(conn).expect("it is being welcomed");
        connection.deadline = self.now.tick.plus(limits.silence_ticks);
        connection.phase = Phase::Live(Live {
            session,
            user: joining.map(|joining| joining.identity.user),
            device: joining.map_or(DeviceId(0), |joining| joining.identity.device),
            issued_at: joining.map_or(Timestamp(0), |joining| joining.issued_at),
            delivered: cursor,
            caught_up: cursor == head,
            posts_in_flight: 0,
            reads_in_flight: 0,
            credit: credit_of(limits.told.frames_per_second_max),
            credit_at: self.now.tick,
            stall: None,
            early_bytes: u32::try_from(early_bytes).expect("at most a receive buffer"),
        });
        let deadline = connection.deadline;
        self.outgoing.wheel.set(conn.slot, deadline);
        session
    }

    fn send_welcome(
        &mut self,
        conn: ConnId,
        joining: &Joining,
        session: SessionId,
        resume: Resume,
        inbox_head: InboxSeq,
        (ticket, ticket_expires_at): (&[u8; TICKET_BYTES], Timestamp),
    ) {
        let limits = &self.common.limits;
        let heartbeat = limits.heartbeat.as_millis();
        let welcome = Welcome {
            session,
            user: joining.identity.user,
            device: joining.identity.device,
            server_time: self.now.wall,
            heartbeat_interval_ms: u32::try_from(heartbeat).expect("at most an hour"),
            epoch: self.common.epoch,
            inbox_head,
            resume,
            ticket,
            ticket_expires_at,
            limits: limits.told,
        };
        self.outgoing.send(conn, joining.request, welcome);
    }

    /// The peer has ended, and with it what was received from it.
    pub(super) fn received_end(&mut self, conn: ConnId, effects: &mut Effects) {
        if let Some(connection) = self.outgoing.connections.get(conn) {
            connection.receiving = false;
        }
        self.disconnected(conn, effects);
    }

    /// The peer is gone, or says nothing more. When very many go at once, those beyond a turn's
    /// part wait for the next turns.
    pub(super) fn disconnected(&mut self, conn: ConnId, effects: &mut Effects) {
        if self.ends_left == 0 || self.ends_this_tick == 0 {
            self.counts.ends_deferred += 1;
            return self.gone.push(conn);
        }
        self.ends_left -= 1;
        self.ends_this_tick -= 1;
        self.leave(conn);
        self.outgoing.end(conn, effects);
    }

    /// Takes the session out of a connection, if it is one: its user may be offline now.
    pub(super) fn leave(&mut self, conn: ConnId) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        if !matches!(connection.phase, Phase::Live(_)) {
            return;
        }
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        let Phase::Live(live) = phase else { unreachable!("just looked at") };
        let Some(user) = live.user else { return };
        self.sessions.detach(user, conn);
        self.store_cursor(user, live.device);
        if !self.sessions.is_online(user) {
            self.inboxes.forget_if_idle(user);
        }
    }

    /// Ends a session with a code; what it was owed it gets when it resumes.
    pub(super) fn close_session(&mut self, conn: ConnId, code: CloseCode, effects: &mut Effects) {
        self.leave(conn);
        self.fail_with(conn, code, "");
        self.receive_close(conn, effects);
    }

    /// Closes a connection that has no session (any more). An empty text stands for the code's own.
    pub(super) fn fail_with(&mut self, conn: ConnId, code: CloseCode, text: &str) {
        self.counts.count_close(code);
        let reason = if text.is_empty() { code.reason() } else { text };
        self.outgoing.begin_close(conn, close_code(code), reason, self.now.tick);
    }

    /// The peer broke RFC 6455.
    pub(super) fn fail_protocol(&mut self, conn: ConnId, error: &ws::ProtocolError) {
        self.leave(conn);
        self.counts.protocol_errors += 1;
        let reason = error.to_string();
        self.outgoing.begin_close(conn, error.close_code(), &reason, self.now.tick);
    }

    /// Reads on, for the peer's close.
    pub(super) fn receive_close(&mut self, conn: ConnId, effects: &mut Effects) {
        if let Some(connection) = self.outgoing.connections.get(conn)
            && !connection.receiving
        {
            connection.receiving = true;
            effects.push(Effect::ReceiveOnce(conn));
        }
    }

    /// A connection that is being closed: only the peer's close frame matters.
    fn await_close(&mut self, conn: ConnId, bytes: &mut [u8], effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        let mut input = bytes;
        while let Ok(Some(_)) = connection.ws.next_event(&mut input) {}
        if connection.queue.is_empty() && !connection.ws.close_state().reads() {
            self.outgoing.end(conn, effects);
        }
    }

    /// A send has ended.
    pub(super) fn sent(
        &mut self,
        conn: ConnId,
        bytes: Bytes,
        complete: bool,
        effects: &mut Effects,
    ) {
        let empty = self.outgoing.handle_sent(conn, bytes, effects);
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        if !complete {
            return self.disconnected(conn, effects);
        }
        if !empty {
            return;
        }
        let target = match &connection.phase {
            Phase::Refused => None,
            Phase::Closing if !connection.ws.close_state().reads() => None,
            Phase::Passing(passenger) => Some(passenger.joining.identity.user),
            _ => return,
        };
        match target {
            Some(user) => {
                self.outgoing.wheel.remove(conn.slot);
                effects.push(Effect::Pass(conn, self.common.map.core_of_user(user)));
            }
            None => self.outgoing.end(conn, effects),
        }
    }
}

/// Where a session begins: at its cursor if that can be trusted, else at the head.
fn resume_at(joining: &Joining, epoch: wire::Epoch, head: InboxSeq) -> (Resume, InboxSeq) {
    if joining.epoch == wire::Epoch(0) {
        (Resume::Fresh, head)
    } else if joining.epoch != epoch
        || joining.cursor > head && !variants::is(Variant::CursorTrusted)
    {
        (Resume::Reset, head)
    } else {
        (Resume::Resumed, joining.cursor)
    }
}

/// What came of a Hello.
enum Heard {
    /// A credential that is good.
    Caller(Caller, Said),
    /// A token of this device, in line to be looked at.
    Token(Box<str>, DeviceId, Said),
}

/// Why a greeting ended.
enum Failure {
    /// With a code, and a text that says more than the code's own unless it is empty.
    Refused(CloseCode, String),
    /// The peer broke RFC 6455.
    Protocol(ws::ProtocolError),
}
