//! What a session says.

use std::sync::Arc;

use router::nonces::SendKey;
use router::sequencer::{Ask, Offer, Origin};
use router::sessions::ConnId;
use variants::Variant;
use wire::client::{ChannelCreate, Ping, Post};
use wire::server::{Pong, Rejected};
use wire::{
    ChannelId, ClientBody, CloseCode, Content, DeviceId, MembershipOp, Nonce, RejectCode, Role,
    Seq, UserId, Users, decode_client,
};
use ws::encoder;

use super::Shard;
use crate::budget::Shed;
use crate::config::Membership;
use crate::connection::{Connection, Live, Phase, Stall, server_session};
use crate::event::{Effect, Effects};
use crate::limits::READS_IN_FLIGHT_MAX;
use crate::messages::Request;

/// How long a client that is over its rate should wait.
const RATE_RETRY_MS: u32 = 1_000;

/// Who says it.
#[derive(Clone, Copy)]
pub(super) struct Speaker {
    pub(super) conn: ConnId,
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) request: u32,
    /// It was said before Welcome: see [`Live::early_bytes`].
    pub(super) is_early: bool,
    /// A service says it for her.
    pub(super) is_service: bool,
}

/// What a refusal repeats of the request: its channel and its nonce, if it has them.
type About = (Option<ChannelId>, Nonce);

pub(super) const NOTHING: About = (None, Nonce(0));

/// What was asked of a channel's log, before it is on its way.
struct Wish {
    channel: ChannelId,
    nonce: Nonce,
    retry: bool,
    fingerprint: u64,
    ask: Ask,
}

impl Shard {
    /// Bytes of a session: they are decoded frame by frame, until there is no room for what they
    /// ask; the rest waits with the connection, which is not read meanwhile.
    pub(super) fn hear(&mut self, conn: ConnId, bytes: &mut [u8], effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        connection.deadline = self.now.tick.plus(self.common.limits.silence_ticks);
        if let Phase::Live(Live { stall: Some(stall), .. }) = &mut connection.phase {
            stall.bytes.extend_from_slice(bytes); // Received before the receive had stopped.
            return self.check_room(conn, effects);
        }
        // Taken out while its messages are handled: they borrow from it, and handling them needs
        // the rest of the core.
        let mut ws = std::mem::replace(&mut connection.ws, server_session());
        let mut input = bytes;
        let mut failed = None;
        while failed.is_none() && self.may_hear(conn) {
            let before = input.len();
            match ws.next_event(&mut input) {
                Ok(None) => {
                    let begun = !ws.is_between_messages();
                    self.note_taken(conn, before, begun);
                    break;
                }
                Ok(Some(event)) => {
                    failed = self.hear_event(conn, &event, effects);
                    self.note_taken(conn, before - input.len(), false);
                }
                Err(error) => failed = Some(Failed::Protocol(error)),
            }
        }
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        connection.ws = ws;
        match failed {
            None => {
                let stalled = connection.live().is_some_and(|live| live.stall.is_some());
                if stalled || !input.is_empty() {
                    self.stall(conn, input, effects);
                }
            }
            Some(Failed::Protocol(error)) => self.fail_protocol(conn, &error),
            Some(Failed::Close(code, text)) => {
                self.leave(conn);
                self.fail_with(conn, code, &text);
            }
            Some(Failed::Closed) => {
                self.leave(conn);
                self.outgoing.begin_close(conn, ws::CloseCode::NORMAL, "", self.now.tick);
            }
        }
        self.check_room(conn, effects);
    }

    /// So many more bytes of a session are handled, and perhaps another frame has `begun` in them.
    fn note_taken(&mut self, conn: ConnId, bytes: usize, begun: bool) {
        let live = self.outgoing.connections.get(conn).and_then(Connection::live);
        if let Some(live) = live.filter(|live| live.early_bytes > 0) {
            let left = live.early_bytes.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
            live.early_bytes = left.max(begun.into());
        }
    }

    /// Whether the next frame of a session may be looked at.
    fn may_hear(&mut self, conn: ConnId) -> bool {
        let posts_max = self.common.limits.told.posts_in_flight_max;
        let Some(Connection { phase: Phase::Live(live), .. }) = self.outgoing.connections.get(conn)
        else {
            return false;
        };
        let (reads, is_free) = (live.reads_in_flight, live.stall.is_none());
        let may_post = live.posts_in_flight < posts_max;
        // What it has asked for comes, so this is never for long.
        let may_ask =
            reads == 0 || reads < READS_IN_FLIGHT_MAX && self.outgoing.has_room_for_page(conn);
        may_post && may_ask && is_free
    }

    /// Stops reading a connection, keeping what it sent.
    fn stall(&mut self, conn: ConnId, rest: &[u8], effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        let receiving = connection.receiving;
        let Some(live) = connection.live() else { return };
        let stall = live.stall.get_or_insert_default();
        let rest = if variants::is(Variant::StallDropped) { &[] } else { rest };
        stall.bytes.extend_from_slice(rest);
        self.counts.stalls += 1;
        self.stalled.push(conn);
        if receiving {
            effects.push(Effect::StopReceiving(conn));
        }
    }

    /// A receive that was to stop has stopped.
    pub(super) fn receive_stopped(&mut self, conn: ConnId, effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        connection.receiving = false;
        self.receive_again(conn, effects);
    }

    pub(super) fn receive_again(&mut self, conn: ConnId, effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        if connection.receiving {
            return;
        }
        let effect = match &connection.phase {
            Phase::Live(Live { stall: None, .. }) => Effect::ReceiveMany(conn),
            Phase::Closing => Effect::ReceiveOnce(conn),
            _ => return,
        };
        connection.receiving = true;
        effects.push(effect);
    }

    /// Looks whether there is room for what stalled connections sent.
    pub(super) fn resume_stalled(&mut self, effects: &mut Effects) {
        // Who still finds no room keeps its place; who goes on and stalls again comes behind those,
        // so that nobody who sends much takes all the room there ever is.
        let mut waiting = std::mem::take(&mut self.stalled);
        waiting.retain(|conn| !self.resume(*conn, effects));
        waiting.append(&mut self.stalled);
        self.stalled = waiting;
    }

    /// Goes on with a stalled connection; tells whether it could (or has ended).
    fn resume(&mut self, conn: ConnId, effects: &mut Effects) -> bool {
        let Some(live) = self.outgoing.connections.get(conn).and_then(Connection::live) else {
            return true;
        };
        let Some(mut stall) = live.stall.take() else { return true };
        if let Some(request) = stall.request.take()
            && let Err(request) = self.push_request(request)
        {
            self.put_back(conn, Stall { request: Some(request), bytes: stall.bytes });
            return false;
        }
        if !self.may_hear(conn) {
            self.put_back(conn, *stall);
            return false;
        }
        self.hear(conn, &mut stall.bytes, effects);
        if !variants::is(Variant::NotReceivedAgain) {
            self.receive_again(conn, effects);
        }
        true
    }

    fn put_back(&mut self, conn: ConnId, stall: Stall) {
        let live = self.outgoing.connections.get(conn).and_then(Connection::live);
        live.expect("it was just resumed").stall = Some(Box::new(stall));
        self.outgoing.recount(conn);
    }

    fn hear_event(
        &mut self,
        conn: ConnId,
        event: &ws::Event<'_>,
        effects: &mut Effects,
    ) -> Option<Failed> {
        match event {
            ws::Event::Binary(message) => self.hear_message(conn, message, effects),
            ws::Event::Ping(payload) => {
                let bytes = encoder::frame_bytes(payload.get().len(), false);
                self.outgoing
                    .send_raw(conn, bytes, |out| encoder::append_pong(out, *payload, None));
                None
            }
            ws::Event::Pong(_) => None,
            ws::Event::Close(_) => Some(Failed::Closed),
            ws::Event::Text(_) => unreachable!("refused by the WebSocket layer"),
        }
    }

    fn hear_message(
        &mut self,
        conn: ConnId,
        message: &[u8],
        effects: &mut Effects,
    ) -> Option<Failed> {
        self.counts.frames_in += 1;
        let decoded = match decode_client(message) {
            Ok(frame) => Ok(frame),
            Err(error) => match error.rejected() {
                Some(rejected) => Err(rejected),
                None => return Some(Failed::Close(error.close_code(), error.to_string())),
            },
        };
        let per_second = self.common.limits.told.frames_per_second_max;
        let tick = self.tick();
        let live = self.outgoing.connections.get(conn).and_then(Connection::live)?;
        let (user, device, is_early) = (live.user, live.device, live.early_bytes > 0);
        // A refusal costs as much as an answer, so frames that break a rule count as well. What a
        // service has under way is bounded, and many people wait for it.
        let credit = user.map_or(Credit::Within, |_| live.spend(tick, per_second));
        let request = decoded.as_ref().map_or_else(|(request, _)| *request, |frame| frame.request);
        match (credit, decoded) {
            (Credit::Within, Ok(frame)) => match user {
                None => return self.hear_service(conn, is_early, &frame, effects),
                Some(_) if frame.as_user.is_some() => {
                    let text = "as_user: only a service may ask for somebody else";
                    let about = about(&frame.body);
                    self.reject(conn, request, about, (RejectCode::NotPermitted, text, 0));
                }
                Some(user) => {
                    let is_service = false;
                    let speaker = Speaker { conn, user, device, request, is_early, is_service };
                    return self.hear_frame(speaker, &frame.body, effects);
                }
            },
            (Credit::Within, Err((_, rejected))) => {
                self.counts.rejected += 1;
                self.outgoing.send(conn, request, rejected);
            }
            (Credit::Over, decoded) => {
                let about = decoded.map_or_else(
                    |(_, rejected)| (rejected.channel, rejected.nonce),
                    |frame| about(&frame.body),
                );
                let text = "more frames a second than Limits.frames_per_second_max; slow down";
                self.reject(conn, request, about, (RejectCode::RateLimited, text, RATE_RETRY_MS));
            }
            (Credit::FarOver, _) => {
                return Some(Failed::Close(CloseCode::RateLimited, String::new()));
            }
        }
        None
    }

    pub(super) fn hear_frame(
        &mut self,
        speaker: Speaker,
        body: &ClientBody<'_>,
        effects: &mut Effects,
    ) -> Option<Failed> {
        let Speaker { conn, user, device, request, .. } = speaker;
        match body {
            ClientBody::Hello(_) => {
                return Some(Failed::Close(CloseCode::HelloExpected, String::new()));
            }
            ClientBody::Post(post) => self.post(speaker, post),
            ClientBody::CursorAck(ack) => self.inboxes.ack(user, device, ack.inbox_seq),
            ClientBody::Sync(sync) => {
                self.ask_sync(conn, request, sync.after, sync.limit, effects);
            }
            ClientBody::History(history) => self.ask_history(conn, request, user, history, effects),
            ClientBody::ChannelCreate(create) => self.create(speaker, create),
            ClientBody::ChannelAddMembers(add) => {
                let (op, members) = (MembershipOp::Add, collect(add.members));
                self.change(speaker, (add.channel, add.nonce), op, add.role, members);
            }
            ClientBody::ChannelRemoveMembers(remove) => {
                let (op, members) = (MembershipOp::Remove, collect(remove.members));
                self.change(speaker, (remove.channel, remove.nonce), op, Role::Member, members);
            }
            ClientBody::ChannelLeave(leave) => {
                let (op, members) = (MembershipOp::Leave, [user].into());
                self.change(speaker, (leave.channel, leave.nonce), op, Role::Member, members);
            }
            ClientBody::ChannelList(list) => {
                self.ask_conversations(conn, request, user, list, effects);
            }
            ClientBody::MarkRead(mark) => self.mark_read(speaker, mark.channel, mark.seq),
            ClientBody::Typing(_) if self.outgoing.budget.sheds(Shed::Typing) => {
                self.counts.typing_shed += 1;
            }
            ClientBody::Typing(typing) => {
                let target = self.common.map.core_of_channel(typing.channel);
                let typing = Request::Typing { channel: typing.channel, user };
                let _ = self.mesh.offer(target, typing); // Dropped where it is in the way.
            }
            ClientBody::Ping(ping) => self.pong(conn, request, ping),
            ClientBody::SessionsEnd(_) | ClientBody::UserErase(_) => {
                let text = "only a service may end sessions and erase users";
                self.reject(conn, request, NOTHING, (RejectCode::NotPermitted, text, 0));
            }
            ClientBody::Unknown(_) => self.reject_unknown(conn, request),
        }
        None
    }

    pub(super) fn pong(&mut self, conn: ConnId, request: u32, ping: &Ping) {
        let pong = Pong { opaque: ping.opaque, server_time: self.now.wall };
        self.outgoing.send(conn, request, pong);
    }

    pub(super) fn reject_unknown(&mut self, conn: ConnId, request: u32) {
        let text = "this gateway does not know this frame; it may be of a later version";
        self.reject(conn, request, NOTHING, (RejectCode::Unsupported, text, 0));
    }

    fn post(&mut self, speaker: Speaker, post: &Post<'_>) {
        let Post { channel, nonce, kind, body, retry } = *post;
        // Before Welcome every post is one, whatever its device says of it.
        let retry = retry || speaker.is_early;
        if body.len() > self.common.limits.told.body_bytes_max as usize {
            let text = "body: longer than Limits.body_bytes_max";
            let why = (RejectCode::TooLarge, text, 0);
            return self.reject(speaker.conn, speaker.request, (Some(channel), nonce), why);
        }
        let fingerprint = message_fingerprint(kind, body);
        let ask = Ask::Post { kind, body: self.bodies.copy(body) };
        self.counts.posts += 1;
        self.offer(speaker, Wish { channel, nonce, retry, fingerprint, ask });
    }

    fn create(&mut self, speaker: Speaker, create: &ChannelCreate<'_>) {
        let ChannelCreate { nonce, kind, title, members } = *create;
        if !self.may_change_groups(speaker, (None, nonce)) {
            return;
        }
        // The same device and nonce give the same channel, also after a restart: that makes
        // creation idempotent without a record of its own.
        let channel = channel_for(self.common.epoch, speaker.user, speaker.device, nonce);
        let ask = Ask::Create { kind, title: title.into(), members: collect(members) };
        let fingerprint = ask_fingerprint(&ask);
        self.offer(speaker, Wish { channel, nonce, retry: true, fingerprint, ask });
    }

    fn change(
        &mut self,
        speaker: Speaker,
        (channel, nonce): (ChannelId, Nonce),
        op: MembershipOp,
        role: Role,
        members: Arc<[UserId]>,
    ) {
        if !self.may_change_groups(speaker, (Some(channel), nonce)) {
            return;
        }
        let decided = self.common.limits.membership == Membership::Service;
        let ask = Ask::Change { op, role, members, decided };
        let fingerprint = ask_fingerprint(&ask);
        self.offer(speaker, Wish { channel, nonce, retry: true, fingerprint, ask });
    }

    /// Where services keep the roles, only they may change who is in a group; others are refused.
    fn may_change_groups(&mut self, speaker: Speaker, about: About) -> bool {
        let may = speaker.is_service || self.common.limits.membership == Membership::Members;
        if !may {
            let text = "groups are made and changed through the API here";
            let why = (RejectCode::NotPermitted, text, 0);
            self.reject(speaker.conn, speaker.request, about, why);
        }
        may
    }

    /// The channel says whether the reader is a member and what there is to read, her inbox whether
    /// that is news, and only then the others hear of it.
    fn mark_read(&mut self, speaker: Speaker, channel: ChannelId, seq: Seq) {
        let ask = Ask::Read { seq, answered: speaker.is_service };
        let wish = Wish { channel, nonce: Nonce(0), retry: false, fingerprint: 0, ask };
        self.offer(speaker, wish);
    }

    /// On its way to the core that owns the channel; if that is full, the connection stalls.
    fn offer(&mut self, speaker: Speaker, wish: Wish) {
        let Speaker { conn, user, device, request, .. } = speaker;
        let Wish { channel, nonce, retry, fingerprint, ask } = wish;
        let offer = Offer {
            origin: Origin { core: self.core, conn, request },
            channel,
            key: SendKey { sender: user, device, nonce },
            retry,
            fingerprint,
            ask,
        };
        self.push_or_stall(conn, Request::Offer(offer));
    }

    pub(super) fn push_or_stall(&mut self, conn: ConnId, request: Request) {
        if let Err(request) = self.push_request(request)
            && let Some(live) = self.outgoing.connections.get(conn).and_then(Connection::live)
        {
            // `hear` ends at this, and stops reading.
            live.stall = Some(Box::new(Stall { request: Some(request), bytes: Vec::new() }));
        }
    }

    fn push_request(&mut self, request: Request) -> Result<(), Request> {
        let map = self.common.map;
        let (target, conn, is_answered) = match &request {
            Request::Offer(offer) => {
                let target = map.core_of_channel(offer.channel);
                (target, offer.origin.conn, offer.ask.is_answered())
            }
            Request::SessionsEnd(end) => (map.core_of_user(end.user), end.origin.conn, true),
            // The session counts it among its reads.
            Request::List(list) => (map.core_of_user(list.user), list.origin.conn, false),
            Request::UserErase(erase) => (map.core_of_user(erase.user), erase.origin.conn, true),
            Request::Typing { .. } => unreachable!("it is dropped where there is no room"),
        };
        self.mesh.offer(target, request)?;
        let live = self.outgoing.connections.get(conn).and_then(Connection::live);
        if let Some(live) = live.filter(|_| is_answered) {
            live.posts_in_flight += 1;
        }
        Ok(())
    }

    pub(super) fn reject(
        &mut self,
        conn: ConnId,
        request: u32,
        (channel, nonce): About,
        (code, text, retry_after_ms): (RejectCode, &str, u32),
    ) {
        self.counts.rejected += 1;
        let rejected = Rejected { code, nonce, channel, text, retry_after_ms };
        self.outgoing.send(conn, request, rejected);
    }
}

/// Why a session ends while its bytes are looked at.
pub(super) enum Failed {
    /// It broke RFC 6455.
    Protocol(ws::ProtocolError),
    /// It broke this protocol.
    Close(CloseCode, String),
    /// It said goodbye.
    Closed,
}

/// How a session stands to its frame rate.
enum Credit {
    Within,
    Over,
    FarOver,
}

impl Live {
    /// A token bucket of one second's frames, refilled by the tick. Who goes on for as much again
    /// after it is empty is told to go.
    fn spend(&mut self, now: crate::wheel::Tick, per_second: u32) -> Credit {
        let full = credit_of(per_second);
        let ticks = i64::from(now.0 - self.credit_at.0);
        if ticks > 0 {
            // A rate below a frame a tick must not be rounded away: hence thousandths.
            let tick = i64::try_from(crate::clock::TICK.as_millis()).expect("short");
            let refill = ticks.saturating_mul(i64::from(per_second)).saturating_mul(tick);
            self.credit = self.credit.saturating_add(refill).min(full);
            self.credit_at = now;
        }
        self.credit -= FRAME_CREDIT;
        match self.credit {
            0.. => Credit::Within,
            credit if credit >= -full => Credit::Over,
            _ => Credit::FarOver,
        }
    }
}

/// What one frame costs, so that a tick's part of any rate is a whole number.
const FRAME_CREDIT: i64 = 1000;

/// The credit of so many frames.
pub(super) fn credit_of(frames: u32) -> i64 {
    i64::from(frames) * FRAME_CREDIT
}

pub(super) const fn about(body: &ClientBody<'_>) -> About {
    match body {
        ClientBody::Post(post) => (Some(post.channel), post.nonce),
        ClientBody::ChannelCreate(create) => (None, create.nonce),
        ClientBody::ChannelAddMembers(add) => (Some(add.channel), add.nonce),
        ClientBody::ChannelRemoveMembers(remove) => (Some(remove.channel), remove.nonce),
        ClientBody::ChannelLeave(leave) => (Some(leave.channel), leave.nonce),
        ClientBody::History(history) => (Some(history.channel), Nonce(0)),
        ClientBody::MarkRead(mark) => (Some(mark.channel), Nonce(0)),
        ClientBody::Typing(typing) => (Some(typing.channel), Nonce(0)),
        ClientBody::Hello(_)
        | ClientBody::CursorAck(_)
        | ClientBody::Sync(_)
        | ClientBody::ChannelList(_)
        | ClientBody::Ping(_)
        | ClientBody::SessionsEnd(_)
        | ClientBody::UserErase(_)
        | ClientBody::Unknown(_) => NOTHING,
    }
}

fn collect(users: Users<'_>) -> Arc<[UserId]> {
    users.iter().collect()
}

/// The number of a channel that a device makes under a nonce.
fn channel_for(epoch: wire::Epoch, user: UserId, device: DeviceId, nonce: Nonce) -> ChannelId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&epoch.0.to_le_bytes());
    hasher.update(&user.get().to_le_bytes());
    hasher.update(&device.0.to_le_bytes());
    hasher.update(&nonce.0.to_le_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // 63 bits, so that it also fits where integers are signed.
    ChannelId::numbered((u64::from_le_bytes(number) >> 1).max(1)).expect("not 0")
}

/// Sums up a content, to tell a repeat from another request under the same nonce. For what is asked
/// and for the entry that came of it the sum is the same.
#[must_use]
pub fn fingerprint(content: &Content) -> u64 {
    match content {
        Content::Message { kind, body } => message_fingerprint(*kind, body),
        // Which members an entry names depends on who was one already; what tells two requests
        // apart is what was to be done.
        Content::Membership { op, role, .. } => hash_of(&(1_u8, *op as u8, *role as u8)),
        Content::Created { kind, title, .. } => hash_of(&(2_u8, *kind as u8, title)),
    }
}

fn message_fingerprint(kind: u8, body: &[u8]) -> u64 {
    hash_of(&(0_u8, kind, body))
}

fn hash_of(value: &impl std::hash::Hash) -> u64 {
    std::hash::BuildHasher::hash_one(&foldhash::fast::FixedState::default(), value)
}

pub(super) fn ask_fingerprint(ask: &Ask) -> u64 {
    let members: Arc<[UserId]> = Arc::default();
    fingerprint(&match ask {
        Ask::Create { kind, title, .. } => {
            Content::Created { kind: *kind, title: Arc::clone(title), members }
        }
        Ask::Change { op, role, .. } => Content::Membership { op: *op, role: *role, members },
        Ask::Post { .. } | Ask::Read { .. } => unreachable!("these have no members"),
    })
}
