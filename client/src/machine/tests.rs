//! The machine against a gateway that says what the test says: every event, action and byte, with
//! time and randomness in the test's hands.

use std::time::Duration;

use bytes::BytesMut;
use rand::SeedableRng;
use wire::client::{Credential, Direction};
use wire::server::{
    Durability, Posted, Rejected, Resume, ServerBody, ServiceDone, ServiceWelcome, SyncPage,
    Welcome,
};
use wire::{
    ChannelId, ClientBody, Deliver, Nonce, RejectCode, Seq, SessionId, Timestamp, decode_client,
};
use ws::handshake::{HandshakePolicy, Origins, Progress, server::read_request};
use ws::{Role, Session, encoder};

use super::*;

mod life;
mod requests;
mod services;

const START: Duration = Duration::from_secs(100);
const DEVICE: DeviceId = DeviceId(3);

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

fn channel() -> ChannelId {
    ChannelId::direct(user(1), user(2))
}

fn settings() -> Settings {
    Settings {
        kind: Kind::Device(DEVICE),
        name: "tests".into(),
        keeping: Keeping::OnNext,
        requests_max: 100,
        request_bytes_max: 1 << 20,
        entries_max: 8,
        entry_bytes_max: 1 << 20,
    }
}

fn limits() -> Limits {
    Limits {
        frame_bytes_max: 66_560,
        body_bytes_max: 1_000,
        group_members_max: 100,
        sync_page_max: 4,
        history_page_max: 4,
        channel_page_max: 4,
        posts_in_flight_max: 2,
        frames_per_second_max: 1_000,
    }
}

/// A machine and the gateway's end of its connection.
struct Pair {
    machine: Machine,
    now: Duration,
    session: Option<Session>,
    encoder: wire::Encoder,
    /// Bytes the machine gets at a time; 0 = all.
    chunk: usize,
}

impl Pair {
    fn new(settings: Settings, saved: Saved) -> Self {
        let machine = Machine::new(settings, saved, StdRng::seed_from_u64(1));
        let encoder = wire::Encoder::new(4096);
        Self { machine, now: START, session: None, encoder, chunk: 0 }
    }

    /// A connected pair after `Welcome`.
    fn live(resume: Resume) -> Self {
        let mut pair = Self::new(settings(), Saved::default());
        pair.connect();
        pair.welcome(resume, 1, 10);
        pair.events();
        pair
    }

    /// Brings the machine to a connection; what the step said of a token.
    fn connect(&mut self) -> (Option<Address>, bool) {
        self.session = None;
        let (to, needs_token) = loop {
            match self.machine.step(self.now) {
                Step::Rest(until) => self.now = until,
                Step::Connect { to, needs_token, .. } => break (to, needs_token),
                step => panic!("{step:?} instead of a connection"),
            }
        };
        let address = Address::parse("ws://a:1/x").unwrap();
        let token = if needs_token { "token" } else { "" };
        self.machine.handle_connected(self.now, &address, token.into());
        (to, needs_token)
    }

    /// Everything that the machine has said since the last time, in words.
    fn said(&mut self) -> Vec<String> {
        self.machine.handle_time(self.now);
        let mut input = self.machine.output().split().to_vec();
        let mut said = Vec::new();
        let mut rest = &mut input[..];
        if self.session.is_none() && !rest.is_empty() {
            let policy = HandshakePolicy {
                origins: Origins::Any,
                subprotocol: wire::limits::SUBPROTOCOL.into(),
                ..HandshakePolicy::default()
            };
            let mut answer = BytesMut::new();
            let head_bytes = match read_request(rest, &policy) {
                Ok(Progress::Complete(request)) => {
                    request.append_response(&mut answer);
                    request.head_bytes
                }
                other => panic!("{other:?}"),
            };
            rest = &mut rest[head_bytes..];
            assert!(rest.is_empty(), "nothing may follow before the answer");
            self.session = Some(Session::new(Role::Server, 1 << 20));
            self.give(&mut answer);
            return self.said();
        }
        let Some(session) = &mut self.session else { return said };
        while let Some(event) = session.next_event(&mut rest).unwrap() {
            said.push(match event {
                ws::Event::Binary(frame) => {
                    let frame = decode_client(frame).unwrap();
                    let user = frame.as_user.map_or_else(String::new, |user| format!("{user} "));
                    user + &words(frame.request, &frame.body)
                }
                ws::Event::Close(frame) => format!("close {}", frame.code.unwrap()),
                other => format!("{other:?}"),
            });
        }
        said
    }

    fn give(&mut self, bytes: &mut [u8]) {
        let chunk = if self.chunk == 0 { bytes.len().max(1) } else { self.chunk };
        for part in bytes.chunks_mut(chunk) {
            self.machine.handle_bytes(self.now, part);
        }
    }

    /// The gateway says a frame.
    fn say<'a>(&mut self, request: u32, body: impl Into<ServerBody<'a>>) {
        let mut out = BytesMut::new();
        encoder::append_binary(&mut out, self.encoder.server(request, body), None);
        self.give(&mut out);
    }

    fn say_close(&mut self, code: u16) {
        let mut out = BytesMut::new();
        encoder::append_close(&mut out, ws::CloseCode::new(code), "because", None);
        self.give(&mut out);
    }

    fn welcome(&mut self, resume: Resume, epoch: u64, head: u64) {
        self.said();
        self.say(
            0,
            Welcome {
                session: SessionId(9),
                user: user(1),
                device: DEVICE,
                server_time: Timestamp(1_000),
                heartbeat_interval_ms: 30_000,
                epoch: Epoch(epoch),
                inbox_head: InboxSeq::new(head),
                resume,
                ticket: b"ticket",
                ticket_expires_at: Timestamp(1_000 + 3_600_000),
                limits: limits(),
            },
        );
    }

    fn deliver(&mut self, place: u64) {
        let entry = deliver(place);
        self.say(0, entry);
    }

    fn page(&mut self, places: std::ops::RangeInclusive<u64>, end: bool) {
        let next = InboxSeq::new(*places.end());
        let entries: Vec<_> = places.map(deliver).collect();
        self.say(0, SyncPage { entries: entries[..].into(), next, end });
    }

    fn posted(&mut self, request: u32, nonce: u64) {
        let (seq, created_at) = (Seq::new(nonce), Timestamp(5));
        let (nonce, durability) = (Nonce(nonce), Durability::Durable);
        self.say(request, Posted { channel: channel(), nonce, seq, created_at, durability });
    }

    fn reject(&mut self, request: u32, code: RejectCode, retry_after_ms: u32) {
        let (nonce, channel, text) = (Nonce(0), None, "why");
        self.say(request, Rejected { code, nonce, channel, text, retry_after_ms });
    }

    fn post(&mut self, nonce: u64) -> RequestId {
        self.machine.submit(post(nonce), None, None).unwrap()
    }

    /// The places of the entries that the application takes, and words for other events.
    fn events(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.machine.next_event(self.now) {
            events.push(match event {
                Event::Inbox(entry) => entry.inbox_seq.get().to_string(),
                Event::Online(online) => format!("{:?}", online.resume),
                Event::Offline { lost, .. } => lost.to_string(),
                Event::Ended(end) => end.to_string(),
                other => format!("{other:?}"),
            });
        }
        events
    }

    fn outcomes(&mut self) -> Vec<(u64, Result<(), String>)> {
        let mut outcomes = Vec::new();
        while let Some((id, outcome)) = self.machine.next_outcome() {
            outcomes.push((id.0, outcome.map(drop).map_err(|error| error.to_string())));
        }
        outcomes
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.handle_time(self.now);
    }
}

fn deliver(place: u64) -> Deliver<'static> {
    let event = wire::Event::Message(wire::Message {
        channel: channel(),
        seq: Seq::new(place),
        sender: user(2),
        device: DeviceId(1),
        created_at: Timestamp(1),
        nonce: Nonce(place),
        kind: 0,
        body: Some(b"hello"),
    });
    Deliver { inbox_seq: InboxSeq::new(place), event }
}

fn post(nonce: u64) -> Request {
    Request::Post { channel: channel(), nonce: Nonce(nonce), kind: 0, body: "hello".into() }
}

fn words(request: u32, body: &ClientBody<'_>) -> String {
    match body {
        ClientBody::Hello(hello) => {
            let credential = match hello.credential {
                Credential::Token(token) => token,
                Credential::Ticket(_) => "ticket",
            };
            format!("hello {credential} {} {}", hello.epoch, hello.cursor)
        }
        ClientBody::Post(post) => {
            let retry = if post.retry { " retry" } else { "" };
            format!("{request}: post {}{retry}", post.nonce)
        }
        ClientBody::CursorAck(ack) => format!("ack {}", ack.inbox_seq),
        ClientBody::Sync(sync) => format!("sync {}", sync.after),
        ClientBody::History(_) => format!("{request}: history"),
        ClientBody::MarkRead(read) => format!("{request}: read {}", read.seq),
        ClientBody::SessionsEnd(end) => format!("{request}: end {}", end.user),
        ClientBody::Ping(_) => "ping".into(),
        other => format!("{other:?}"),
    }
}
