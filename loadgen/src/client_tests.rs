//! A whole session from the server's side, cut at every byte: whatever the reads, the same news
//! and the same answers come out.

use rand::SeedableRng;
use wire::server::{Durability, Pong, Resume, SyncPage};
use wire::{ChannelId, CloseCode, Deliveries, Message, Nonce, Seq, SessionId, Timestamp};
use ws::handshake::{HandshakePolicy, read_request};

use super::*;

const NOW: Nanos = Nanos(5_000_000_000);
const HEAD: u64 = 40;

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

fn kit() -> Kit {
    Kit { encoder: wire::Encoder::default(), rng: SmallRng::seed_from_u64(1) }
}

fn target() -> Target {
    Target::parse("ws://127.0.0.1:4400").unwrap()
}

fn client() -> Client {
    Client::new(user(7), DeviceId(1), "token".into(), false)
}

fn limits() -> Limits {
    Limits {
        frame_bytes_max: 70_000,
        body_bytes_max: 16_384,
        group_members_max: 100,
        sync_page_max: 100,
        history_page_max: 100,
        channel_page_max: 100,
        posts_in_flight_max: 64,
        frames_per_second_max: 1000,
    }
}

fn welcome() -> Welcome<'static> {
    Welcome {
        session: SessionId(3),
        user: user(7),
        device: DeviceId(1),
        server_time: Timestamp(1),
        heartbeat_interval_ms: 30_000,
        epoch: Epoch(9),
        inbox_head: InboxSeq::new(HEAD),
        resume: Resume::Fresh,
        ticket: b"ticket",
        ticket_expires_at: Timestamp(2),
        limits: limits(),
    }
}

fn posted(seq: u64) -> Posted {
    Posted {
        channel: ChannelId::direct(user(7), user(8)),
        nonce: Nonce(seq),
        seq: Seq::new(seq),
        created_at: Timestamp(1),
        durability: Durability::Durable,
    }
}

fn deliver(place: u64) -> Deliver<'static> {
    let message = Message {
        channel: ChannelId::direct(user(7), user(8)),
        seq: Seq::new(place),
        sender: user(8),
        device: DeviceId(1),
        created_at: Timestamp(1),
        nonce: Nonce(place),
        kind: 0,
        body: Some(b"hello"),
    };
    Deliver { inbox_seq: InboxSeq::new(place), event: wire::Event::Message(message) }
}

/// Frames as the server puts them on the wire.
struct Server(Vec<u8>);

impl Server {
    /// The answer to what the client has asked.
    fn answering(request: &[u8]) -> Self {
        let policy = HandshakePolicy::default();
        let Ok(Progress::Complete(request)) = read_request(request, &policy) else { panic!() };
        let mut out = Vec::new();
        request.append_response(&mut out);
        Self(out)
    }

    fn frame<'a>(mut self, body: impl Into<ServerBody<'a>>) -> Self {
        encoder::append_binary(&mut self.0, wire::Encoder::default().server(0, body), None);
        self
    }

    fn close(mut self, code: u16) -> Self {
        encoder::append_close(&mut self.0, ws::CloseCode::new(code), "because", None);
        self
    }
}

/// What a client has written after its handshake, in words.
fn frames(written: &[u8]) -> Vec<String> {
    let mut bytes = written.to_vec();
    let mut input = &mut bytes[..];
    let mut session = Session::new(Role::Server, MESSAGE_BYTES_MAX);
    let mut frames = Vec::new();
    while let Some(event) = session.next_event(&mut input).unwrap() {
        frames.push(match event {
            Event::Binary(frame) => match wire::decode_client(frame).unwrap().body {
                ClientBody::Hello(Hello { credential, epoch: Epoch::NONE, cursor, .. }) => {
                    assert_eq!(cursor, InboxSeq::ZERO);
                    format!("hello {credential:?}")
                }
                ClientBody::Hello(Hello { credential, epoch, cursor, .. }) => {
                    format!("hello {credential:?} epoch {} cursor {cursor}", epoch.0)
                }
                ClientBody::CursorAck(ack) => format!("ack {}", ack.inbox_seq),
                ClientBody::Sync(sync) => format!("sync {}", sync.after),
                ClientBody::Ping(_) => "ping".to_owned(),
                other => format!("{other:?}"),
            },
            Event::Pong(payload) => format!("pong {:?}", payload.get()),
            Event::Close(frame) => format!("close {:?}", frame.code.map(ws::CloseCode::get)),
            other => format!("{other:?}"),
        });
    }
    frames
}

/// A client that has sent its request, and that request.
fn connected(kit: &mut Kit) -> (Client, Vec<u8>) {
    let (mut client, mut out) = (client(), BytesMut::new());
    client.handle_connected(kit, &target(), &mut out);
    (client, out.to_vec())
}

/// Gives a client `parts`, and tells its news, its answers, and how it ended.
fn give(
    client: &mut Client,
    kit: &mut Kit,
    parts: &[&[u8]],
) -> (Vec<String>, Vec<String>, Option<Ending>) {
    let (mut news, mut out, mut ending) = (Vec::new(), BytesMut::new(), None);
    for part in parts {
        let mut bytes = part.to_vec();
        let result = client.handle_bytes(kit, &target(), NOW, &mut bytes, &mut out, &mut |item| {
            news.push(format!("{item:?}"));
        });
        ending = ending.or_else(|| result.err());
    }
    (news, frames(&out), ending)
}

/// A whole session: everything a server may say, and a close.
fn everything(request: &[u8]) -> Vec<u8> {
    let entries = [deliver(HEAD + 2), deliver(HEAD + 3)];
    let page = |entries, end| SyncPage {
        entries: Deliveries::from(entries),
        next: InboxSeq::new(HEAD + 3),
        end,
    };
    let mut server = Server::answering(request)
        .frame(welcome())
        .frame(page(&[][..], true))
        .frame(posted(1))
        .frame(deliver(HEAD + 1))
        .frame(page(&entries[..], false))
        .frame(Pong { opaque: 1, server_time: Timestamp(1) })
        .frame(ServerBody::Unknown(99));
    let ping = ws::ControlPayload::new(b"?").unwrap();
    encoder::append_ping(&mut server.0, ping, None);
    server.close(CloseCode::SlowConsumer.number()).0
}

#[test]
fn a_session_is_the_same_however_its_bytes_are_split() {
    let (mut client, request) = connected(&mut kit());
    let bytes = everything(&request);
    let whole = give(&mut client, &mut kit(), &[&bytes]);
    let (news, answers, ending) = &whole;
    let expected =
        ["Live(@40", "Posted", "Deliver { inbox_seq: @41", "inbox_seq: @42", "inbox_seq: @43"];
    assert_eq!(news.len(), expected.len(), "{news:?}");
    for (item, expected) in news.iter().zip(expected) {
        assert!(item.contains(expected), "{item}");
    }
    assert_eq!(
        answers[..],
        ["hello Token(\"token\")", "sync @43", "pong [63]", "close Some(4413)"]
    );
    assert_eq!(*ending, Some(Ending::closed(Some(4413), "because")));
    for cut in 0..=bytes.len() {
        let (mut client, again) = connected(&mut kit());
        assert_eq!(again, request);
        let (front, back) = bytes.split_at(cut);
        assert_eq!(give(&mut client, &mut kit(), &[front, back]), whole, "cut at {cut}");
    }
    let (mut client, _) = connected(&mut kit());
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(give(&mut client, &mut kit(), &single), whole, "byte by byte");
}

#[test]
fn what_a_server_may_not_do_ends_the_session_with_its_reason() {
    let (_, request) = connected(&mut kit());
    let answer = || Server::answering(&request);
    let other = Welcome { user: user(8), ..welcome() };
    let not_found = b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec();
    let mut garbage = answer();
    encoder::append_binary(&mut garbage.0, b"garbage!", None);
    let mut masked = answer();
    encoder::append_binary(&mut masked.0, b"x", Some(MaskKey([1; 4])));
    let rows = [
        ("not a WebSocket", not_found, "handshake: the server answered 404"),
        ("garbage", garbage.0, "frame: "),
        ("masked", masked.0, "WebSocket: a server's frame is masked"),
        ("a frame before Welcome", answer().frame(posted(1)).0, "a frame before Welcome"),
        ("two of them", answer().frame(welcome()).frame(welcome()).0, "a second Welcome"),
        ("another's", answer().frame(other).0, "a Welcome for somebody else"),
        ("refused", answer().close(4401).0, "closed 4401 (Unauthorised): because"),
    ];
    for (name, bytes, expected) in rows {
        let (mut client, _) = connected(&mut kit());
        let (_, _, ending) = give(&mut client, &mut kit(), &[&bytes]);
        let label = ending.expect(name).label();
        assert!(label.contains(expected), "{name}: {label}");
        assert!(!client.is_live(), "{name}");
    }
}

/// A live client.
fn live(kit: &mut Kit) -> Client {
    let (mut client, request) = connected(kit);
    let bytes = Server::answering(&request).frame(welcome()).0;
    give(&mut client, kit, &[&bytes]);
    assert!(client.is_live());
    client
}

#[test]
fn deliveries_are_acknowledged_in_batches_or_after_a_second() {
    let mut kit = kit();
    let mut client = live(&mut kit);
    let many = |range: std::ops::RangeInclusive<u64>| {
        range.fold(Server(Vec::new()), |server, place| server.frame(deliver(HEAD + place))).0
    };
    let (_, answers, _) = give(&mut client, &mut kit, &[&many(1..=31)]);
    assert!(answers.is_empty(), "{answers:?}");
    let (_, answers, _) = give(&mut client, &mut kit, &[&many(32..=33)]);
    assert_eq!(answers, ["ack @72"]);
    assert_eq!(client.deadline(), NOW.plus(ACK_DELAY), "one is not acknowledged");
    let mut out = BytesMut::new();
    client.handle_deadline(&mut kit, NOW.plus(ACK_DELAY / 2), &mut out);
    assert!(out.is_empty());
    client.handle_deadline(&mut kit, NOW.plus(ACK_DELAY), &mut out);
    assert_eq!(frames(&out), ["ack @73"]);
}

#[test]
fn a_silent_session_pings_within_each_interval_and_a_speaking_one_need_not() {
    let mut kit = kit();
    let mut client = live(&mut kit);
    let interval = Duration::from_secs(30);
    let first = client.deadline();
    assert!(NOW <= first && first <= NOW.plus(interval), "spread over the first interval");
    let mut out = BytesMut::new();
    client.handle_deadline(&mut kit, first, &mut out);
    assert_eq!(frames(&out), ["ping"]);
    assert_eq!(client.deadline(), first.plus(interval));
    let later = first.plus(interval / 2);
    assert!(client.send(&mut kit, later, CursorAck { inbox_seq: InboxSeq::ZERO }, &mut out));
    assert_eq!(client.deadline(), later.plus(interval));
}

#[test]
fn a_client_that_is_not_live_sends_nothing_and_one_that_was_reset_begins_again() {
    let mut kit = kit();
    let mut out = BytesMut::new();
    let ack = CursorAck { inbox_seq: InboxSeq::ZERO };
    let (mut client, _) = connected(&mut kit);
    assert!(!client.send(&mut kit, NOW, ack, &mut out) && !client.leave(&mut kit, &mut out));
    client.reset();
    client.handle_connected(&mut kit, &target(), &mut out);
    let bytes = Server::answering(&out).frame(welcome()).0;
    let (_, answers, _) = give(&mut client, &mut kit, &[&bytes]);
    assert_eq!(answers, ["hello Token(\"token\")"], "the token is still there");
    out.clear();
    assert!(client.leave(&mut kit, &mut out) && !client.leave(&mut kit, &mut out));
    assert_eq!((frames(&out), client.deadline()), (vec!["close Some(1000)".into()], Nanos::NEVER));
}

#[test]
fn a_session_that_resumes_says_its_ticket_and_cursor_and_falls_back_to_its_token() {
    let page = |place, end| {
        let entries = [deliver(place)];
        let entries = Deliveries::from(&entries[..]);
        let next = InboxSeq::new(place);
        Server(Vec::new()).frame(SyncPage { entries, next, end }).0
    };
    let resumed = Welcome { resume: Resume::Resumed, inbox_head: InboxSeq::new(43), ..welcome() };
    let rows = [
        // What the server says to the second Hello, what the session's news begin with, and
        // whether it has resumed.
        ("resumed", resumed, "Resumed", true),
        ("reset", Welcome { resume: Resume::Reset, ..resumed }, "Reset(@43)", false),
        ("another epoch", Welcome { epoch: Epoch(8), ..resumed }, "Reset(@43)", false),
        ("fresh", Welcome { resume: Resume::Fresh, ..resumed }, "Reset(@43)", false),
        (
            "a head below the cursor",
            Welcome { inbox_head: InboxSeq::new(40), ..resumed },
            "Reset(@40)",
            false,
        ),
    ];
    for (name, second, expected, has_resumed) in rows {
        let (mut kit, mut out) = (kit(), BytesMut::new());
        let mut client = Client::new(user(7), DeviceId(1), "token".into(), true);
        client.handle_connected(&mut kit, &target(), &mut out);
        let bytes = Server::answering(&out).frame(welcome()).frame(deliver(HEAD + 1)).0;
        give(&mut client, &mut kit, &[&bytes]);
        client.reset();
        assert!(!client.is_live(), "{name}");
        out.clear();
        client.handle_connected(&mut kit, &target(), &mut out);
        let bytes = Server::answering(&out).frame(second).0;
        let pages = [page(42, false), page(43, true)];
        let (news, answers, _) = give(&mut client, &mut kit, &[&bytes, &pages[0], &pages[1]]);
        assert_eq!(news[0], expected, "{name}");
        let ticket = Credential::Ticket(b"ticket");
        let hello = format!("hello {ticket:?} epoch 9 cursor @41");
        assert_eq!(answers, [hello.as_str(), "sync @42"], "{name}");
        assert_eq!(client.has_resumed(), has_resumed, "{name}");

        client.reset();
        let refused = Ending::closed(Some(CloseCode::Unauthorised.number()), "");
        assert!(client.falls_back(&refused) && !client.falls_back(&refused), "{name}: once");
        out.clear();
        client.handle_connected(&mut kit, &target(), &mut out);
        let bytes = Server::answering(&out).0;
        let (_, answers, _) = give(&mut client, &mut kit, &[&bytes]);
        assert!(answers[0].starts_with("hello Token(\"token\") epoch"), "{name}: {answers:?}");
    }
}

#[test]
fn the_servers_wish_for_the_next_connection_is_told_once() {
    let mut kit = kit();
    let mut client = live(&mut kit);
    let reconnect = wire::server::Reconnect { after_ms: 250, url: None };
    let bytes = Server(Vec::new()).frame(reconnect).close(1001).0;
    give(&mut client, &mut kit, &[&bytes]);
    client.reset();
    assert_eq!(client.take_delay(), Duration::from_millis(250));
    assert_eq!(client.take_delay(), Duration::ZERO);
}
