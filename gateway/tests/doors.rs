//! Bad input at the four doors, and exactly what is answered: the HTTP handshake, WebSocket frames,
//! FlatBuffers, and what a well-formed frame asks. Each stream is sent whole, cut in two at every
//! byte, and byte by byte: the answers are the same.

mod sim;

use wire::client::{
    ChannelAddMembers, ChannelCreate, ChannelLeave, ChannelRemoveMembers, ClientBody, Credential,
    Hello, History, Post,
};
use wire::{
    ChannelId, ChannelKind, CloseCode, DeviceId, Encoder, Epoch, InboxSeq, Nonce, RejectCode, Role,
    Seq, UserId,
};
use ws::{Opcode, encoder};

use sim::client::{Client, MASK};
use sim::heard::Heard;
use sim::host::Host;
use sim::pace::Pace;
use sim::setup::{Setup, token};

const DEVICE: DeviceId = DeviceId(1);

fn user(number: u64) -> UserId {
    UserId::new(number).expect("users are numbered from 1")
}

/// What a client hears that sends `bytes` in these pieces and then nothing.
fn answers<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Heard> {
    let mut host = Host::new(Setup::cores(1), Pace::Even);
    let client = host.open(0, user(1), DEVICE);
    for piece in pieces {
        host.send(client, piece);
        host.settle();
    }
    host.clients[client].heard.drain(..).filter(|heard| !is_welcome(heard)).collect()
}

/// It has a ticket and times in it, and is no answer to what is bad.
const fn is_welcome(heard: &Heard) -> bool {
    matches!(heard, Heard::Welcome { .. })
}

/// The answers to `bytes` behind `before`, which must be the same however they are cut.
fn answers_every_way(name: &str, before: &[u8], bytes: &[u8]) -> Vec<Heard> {
    every_way(name, before, bytes, |heard| heard)
}

/// As [`answers_every_way`], of what `look` makes of the answers.
fn every_way(
    name: &str,
    before: &[u8],
    bytes: &[u8],
    look: impl Fn(Vec<Heard>) -> Vec<Heard>,
) -> Vec<Heard> {
    let whole = look(answers([before, bytes]));
    let step = 1 + bytes.len() / 150; // Every byte of all but the longest.
    for cut in (0..=bytes.len()).step_by(step) {
        let (front, back) = bytes.split_at(cut);
        let heard = look(answers([before, front, back]));
        assert_eq!(heard, whole, "{name}: cut at {cut}");
    }
    if step == 1 {
        let heard = look(answers(std::iter::once(before).chain(bytes.chunks(1))));
        assert_eq!(heard, whole, "{name}: byte by byte");
    }
    whole
}

/// The pong last: it does not wait for what is asked of a channel.
fn pong_last(mut heard: Vec<Heard>) -> Vec<Heard> {
    heard.sort_by_key(|heard| matches!(heard, Heard::WsPong(_)));
    heard
}

fn closed(code: u16, reason: &str) -> Vec<Heard> {
    vec![Heard::Closed { code, reason: reason.to_owned() }, Heard::Lost]
}

/// The bytes of a handshake and a Hello.
fn session() -> Vec<u8> {
    let mut bytes = Client::handshake();
    let token = token(user(1), DEVICE);
    bytes.extend(message(&frame(hello(Credential::Token(&token)))));
    bytes
}

const fn hello(credential: Credential<'_>) -> Hello<'_> {
    let (epoch, cursor) = (Epoch::NONE, InboxSeq::ZERO);
    Hello { protocol_version: 1, credential, device: DEVICE, epoch, cursor, client: "doors" }
}

fn frame<'a>(body: impl Into<ClientBody<'a>>) -> Vec<u8> {
    Encoder::new(1024).client(5, body).to_vec()
}

fn message(payload: &[u8]) -> Vec<u8> {
    ws_frame(Opcode::Binary, true, payload)
}

fn ws_frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder::append_frame(&mut out, opcode, fin, payload, Some(MASK));
    out
}

/// A handshake of these lines.
fn request(lines: &[&str]) -> Vec<u8> {
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}

#[test]
fn a_bad_handshake_is_answered_in_http() {
    const GET: &str = "GET / HTTP/1.1";
    const HOST: &str = "Host: localhost";
    const UPGRADE: &str = "Upgrade: websocket";
    const CONNECTION: &str = "Connection: Upgrade";
    const VERSION: &str = "Sec-WebSocket-Version: 13";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const PROTOCOL: &str = "Sec-WebSocket-Protocol: mooring.v1";
    let long = format!("Cookie: {}", "x".repeat(9000));
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<&str>, u16, &str)> = vec![
        ("not HTTP", vec!["HELLO"], 400, "The request line is not HTTP/1.1."),
        ("TLS", vec!["\x16\x03\x01\x02"], 400, "The request line is not HTTP/1.1."),
        ("HTTP/1.0", vec!["GET / HTTP/1.0", HOST], 505, "The request is not HTTP/1.1."),
        ("POST", vec!["POST / HTTP/1.1", HOST], 405, "The method is not GET."),
        ("no host", vec![GET, UPGRADE], 400, "`Host` is missing or empty."),
        ("a browser's page load", vec![GET, HOST], 426, "This is a WebSocket endpoint"),
        ("h2c", vec![GET, HOST, "Upgrade: h2c"], 426, "`Upgrade` does not name `websocket`."),
        ("a proxy", vec![GET, HOST, UPGRADE], 400, "`Connection` does not name `Upgrade`"),
        ("no version", vec![GET, HOST, UPGRADE, CONNECTION], 426, "`Sec-WebSocket-Version` is m"),
        (
            "no key",
            vec![GET, HOST, UPGRADE, CONNECTION, VERSION],
            400,
            "`Sec-WebSocket-Key` is missing.",
        ),
        (
            "a short key",
            vec![GET, HOST, UPGRADE, CONNECTION, VERSION, "Sec-WebSocket-Key: YWJj"],
            400,
            "`Sec-WebSocket-Key` is not 16 bytes in base64.",
        ),
        (
            "no subprotocol",
            vec![GET, HOST, UPGRADE, CONNECTION, VERSION, KEY],
            400,
            "No subprotocol is offered.\nSend `Sec-WebSocket-Protocol: mooring.v1`.",
        ),
        (
            "a later subprotocol",
            vec![
                GET, HOST, UPGRADE, CONNECTION, VERSION, KEY, "Sec-WebSocket-Protocol: mooring.v9",
            ],
            400,
            "None of the offered subprotocols is spoken here.",
        ),
        (
            "a body",
            vec![GET, HOST, "Content-Length: 5", UPGRADE, CONNECTION, VERSION, KEY, PROTOCOL],
            400,
            "The request announces a body.",
        ),
        ("a bad name", vec![GET, HOST, "a b: c"], 400, "The name of a header field is malformed."),
        ("too long", vec![GET, HOST, &long], 431, "The request head is too large."),
    ];
    for (name, lines, status, text) in rows {
        let heard = answers_every_way(name, b"", &request(&lines));
        let [Heard::Refused { status: found, text: said }, Heard::Lost] = &heard[..] else {
            panic!("{name}: {heard:?}");
        };
        assert_eq!(*found, status, "{name}: {said}");
        assert!(said.starts_with(text), "{name}: {said}");
    }
}

#[test]
fn a_bad_websocket_frame_ends_the_session_with_its_reason() {
    let ping = |payload: &[u8]| ws_frame(Opcode::Ping, true, payload);
    let close = |payload: &[u8]| ws_frame(Opcode::Close, true, payload);
    let mut long = vec![0x82, 0xff];
    long.extend(66_561_u64.to_be_bytes());
    long.extend(MASK.0);
    let fragments = |last: Vec<u8>| [ws_frame(Opcode::Binary, false, b"ab"), last].concat();
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("text", ws_frame(Opcode::Text, true, b"hi"), 1003,
            "text messages are not accepted; send binary ones"),
        ("not masked", vec![0x82, 0x01, 0x00], 1002,
            "a client's frame is not masked; mask every frame with a fresh key"),
        ("compressed", vec![0xc2, 0x80, 1, 2, 3, 4], 1002,
            "reserved bits 0b100 are set in a frame head; no extension was negotiated"),
        ("opcode 3", vec![0x83, 0x80, 1, 2, 3, 4], 1002,
            "opcode 0x3 is reserved; use 0x0-0x2 or 0x8-0xA"),
        ("half a ping", vec![0x09, 0x80, 1, 2, 3, 4], 1002,
            "a control frame is fragmented; send it in one frame with FIN"),
        ("a long ping", vec![0x89, 0xfe, 0, 126, 1, 2, 3, 4], 1002,
            "a control frame announces more than 125 payload bytes; shorten it"),
        ("5 in 16 bits", vec![0x82, 0xfe, 0, 5, 1, 2, 3, 4], 1002,
            "payload length 5 is not in its shortest form; use the shortest"),
        ("the top bit", [&[0x82, 0xff, 0x80][..], &[0; 11]].concat(), 1002,
            "the highest bit of a 64-bit payload length is set; it must be 0"),
        ("too long", long, 1009,
            "a message of at least 66561 bytes exceeds the limit of 66560; send less"),
        ("nothing to continue", ws_frame(Opcode::Continuation, true, b"x"), 1002,
            "a continuation frame without a message to continue; start one with opcode 1 or 2"),
        ("interrupted", fragments(message(b"cd")), 1002,
            "a new message began within a fragmented one; finish that with continuation frames"),
        ("half a code", close(&[3]), 1002,
            "a close frame has one payload byte; send none, or a code of two bytes and a reason"),
        ("code 1005", close(&[3, 0xed]), 1002,
            "close code 1005 must not be sent; use 1000-1003, 1007-1014 or 3000-4999"),
        ("a reason in Latin-1", close(&[3, 0xe8, 0xff]), 1007,
            "the reason of a close frame is not UTF-8; encode it as UTF-8"),
        ("a goodbye", close(&[3, 0xe8]), 1000, ""),
    ];
    for (name, bytes, code, reason) in rows {
        let heard = answers_every_way(name, &session(), &bytes);
        assert_eq!(heard, closed(code, reason), "{name}");
        // What stands before it is answered, what stands behind it is not looked at.
        let around = [ping(b"1"), bytes, ping(b"2")].concat();
        let heard = answers([&session()[..], &around]);
        let expected = [vec![Heard::WsPong(b"1".to_vec())], closed(code, reason)].concat();
        assert_eq!(heard, expected, "{name}: between two pings");
    }
}

#[test]
fn a_bad_flatbuffer_ends_the_session_with_what_is_wrong() {
    let good = frame(wire::client::Ping { opaque: 1 });
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let identified = |rest: &[u8]| [&[8, 0, 0, 0][..], b"MRC1", rest].concat();
    let server = Encoder::new(64)
        .server(0, wire::server::Pong { opaque: 1, server_time: wire::Timestamp(1) })
        .to_vec();
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("empty", vec![], 4400, "0 bytes are no frame: at least 8 are needed"),
        ("seven bytes", vec![0; 7], 4400, "7 bytes are no frame: at least 8 are needed"),
        ("zeroes", vec![0; 16], 4400,
            "file identifier [00, 00, 00, 00] in bytes 4..8, expected [4d, 52, 43, 31]"),
        ("JSON", br#"{"type":"post"}"#.to_vec(), 4400,
            "file identifier [70, 65, 22, 3a] in bytes 4..8, expected [4d, 52, 43, 31]"),
        ("a gateway's frame", server, 4400,
            "file identifier [4d, 52, 53, 31] in bytes 4..8, expected [4d, 52, 43, 31]"),
        ("nothing behind the head", identified(&[]), 4400,
            "not a valid FlatBuffer of the schema: the value at byte 8 reaches beyond the end"),
        ("a root beyond the end", changed(0, 0xf0), 4400, ""),
        ("a root at an odd byte", changed(0, 9), 4400, ""),
        ("cut off", good[..good.len() - 4].to_vec(), 4400, ""),
        ("a second frame behind it", [&good[..12], &[0xff; 40]].concat(), 4400, ""),
        ("the longest that is looked at", [identified(&[]), vec![0xff; 66_552]].concat(), 4400, ""),
    ];
    for (name, bytes, code, reason) in rows {
        let heard = answers_every_way(name, &session(), &message(&bytes));
        let [Heard::Closed { code: found, reason: said }, Heard::Lost] = &heard[..] else {
            panic!("{name}: {heard:?}");
        };
        assert_eq!(*found, code, "{name}: {said}");
        let schema = "not a valid FlatBuffer of the schema: ";
        let expected = if reason.is_empty() { schema } else { reason };
        assert!(said.starts_with(expected), "{name}: {said}");
    }
}

#[test]
fn a_bad_hello_is_closed_with_what_a_client_can_do_about_it() {
    let ours = token(user(1), DEVICE);
    let other = token(user(1), DeviceId(2));
    let token = |token: &'static str| hello(Credential::Token(token));
    let leak = |token: String| -> &'static str { token.leak() };
    let ticket = hello(Credential::Ticket(&[1; 53]));
    let versioned = Hello { protocol_version: 2, ..token(leak(ours.clone())) };
    let named = "x".repeat(65);
    let long_name = Hello { client: &named, ..token(leak(ours.clone())) };
    let no_device = Hello { device: DeviceId(0), ..token(leak(ours.clone())) };
    let post = Post {
        channel: ChannelId::direct(user(1), user(2)),
        nonce: Nonce(1),
        kind: 0,
        body: b"x",
        retry: false,
    };
    let field = "request 5: ";
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<u8>, CloseCode, String)> = vec![
        ("not a token", message(&frame(token("abc"))), CloseCode::Unauthorised, String::new()),
        ("another device's", message(&frame(token(leak(other)))), CloseCode::Unauthorised,
            String::new()),
        ("not a ticket", message(&frame(ticket)), CloseCode::Unauthorised, String::new()),
        ("version 2", message(&frame(versioned)), CloseCode::UnsupportedVersion, String::new()),
        ("an empty token", message(&frame(token(""))), CloseCode::BadFrame,
            format!("{field}token: 1 to 2048 bytes")),
        ("a long name", message(&frame(long_name)), CloseCode::BadFrame,
            format!("{field}client: at most 64 bytes")),
        ("device 0, which is a service's", message(&frame(no_device)), CloseCode::Unauthorised,
            String::new()),
        ("a post first", message(&frame(post)), CloseCode::HelloExpected, String::new()),
        ("a ping first", ws_frame(Opcode::Ping, true, b""), CloseCode::HelloExpected,
            String::new()),
        ("not a frame", message(b"hello"), CloseCode::BadFrame,
            "5 bytes are no frame: at least 8 are needed".to_owned()),
        ("an unknown frame", message(&frame(ClientBody::Unknown(200))), CloseCode::HelloExpected,
            String::new()),
    ];
    for (name, bytes, code, reason) in rows {
        let reason = if reason.is_empty() { code.reason().to_owned() } else { reason };
        let heard = answers_every_way(name, &Client::handshake(), &bytes);
        assert_eq!(heard, closed(code.number(), &reason), "{name}");
    }
    let twice = message(&frame(token(leak(ours))));
    let heard = answers_every_way("hello twice", &session(), &twice);
    assert_eq!(heard, closed(4410, CloseCode::HelloExpected.reason()), "hello twice");
}

#[test]
fn a_frame_that_cannot_be_granted_is_rejected_and_the_session_goes_on() {
    use RejectCode::{ChannelFull, Malformed, NotMember, NotPermitted, TooLarge, Unsupported};
    const NOT_MEMBER: &str = "no such channel, or you are not a member";
    let pair = ChannelId::direct(user(1), user(2));
    let group = ChannelId::numbered(77).expect("not 0");
    let post = |channel, nonce, body: &'static [u8]| {
        frame(Post { channel, nonce: Nonce(nonce), kind: 0, body, retry: false })
    };
    let some = [user(3)];
    let many: Vec<UserId> = (1..=501).map(user).collect();
    let crowd: Vec<UserId> = (2..=101).map(user).collect();
    let create = |kind, title: &str, members: &[UserId]| {
        frame(ChannelCreate { nonce: Nonce(9), kind, title, members: members.into() })
    };
    let add = |channel, members: &[UserId]| {
        let role = Role::Member;
        frame(ChannelAddMembers { channel, nonce: Nonce(9), members: members.into(), role })
    };
    let remove = |channel| {
        frame(ChannelRemoveMembers { channel, nonce: Nonce(9), members: (&some[..]).into() })
    };
    let history = |channel| {
        let (direction, from) = (wire::client::Direction::Backward, Seq::ZERO);
        frame(History { channel, direction, from, limit: 0 })
    };
    let leave = |channel| frame(ChannelLeave { channel, nonce: Nonce(9) });
    static LONG: [u8; 16_385] = [b'x'; 16_385];
    let title = "x".repeat(129);
    let pair_text = "the members of a Direct channel are its pair; create a Group";
    let group_kind = ChannelKind::Group;
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<u8>, u64, RejectCode, &str)> = vec![
        ("nonce 0", post(pair, 0, b"x"), 0, Malformed,
            "nonce: must not be 0; give each send its own"),
        ("a stranger's pair", post(ChannelId::direct(user(2), user(3)), 9, b"x"), 9, NotMember,
            NOT_MEMBER),
        ("no such group", post(group, 9, b"x"), 9, NotMember, NOT_MEMBER),
        ("a long body", post(pair, 9, &LONG), 9, TooLarge,
            "body: longer than Limits.body_bytes_max"),
        ("a long title", create(group_kind, &title, &some), 9, TooLarge,
            "title: at most 128 bytes"),
        ("501 members", create(group_kind, "", &many), 9, TooLarge,
            "members: at most 500 in one request; send several"),
        ("101 members", create(group_kind, "", &crowd), 9, ChannelFull,
            "more members than a group may have"),
        ("a Direct channel", create(ChannelKind::Direct, "", &some), 9, Malformed,
            "kind: a Direct channel exists from its first message on; post to it instead"),
        ("a Broadcast channel", create(ChannelKind::Broadcast, "", &some), 9, Unsupported,
            "only Group channels are created here; a Direct channel exists for every pair"),
        ("a third in a pair", add(pair, &some), 9, NotPermitted, pair_text),
        ("nobody", add(group, &[]), 9, Malformed, "members: must name at least one user"),
        ("to no such group", add(group, &some), 9, NotMember, NOT_MEMBER),
        ("from no such group", remove(group), 9, NotMember, NOT_MEMBER),
        ("leaving a pair", leave(pair), 9, NotPermitted, pair_text),
        ("leaving no such group", leave(group), 9, NotMember, NOT_MEMBER),
        ("history of no such group", history(group), 0, NotMember, NOT_MEMBER),
        ("an unknown frame", frame(ClientBody::Unknown(99)), 0, Unsupported,
            "this gateway does not know this frame; it may be of a later version"),
    ];
    for (name, bytes, nonce, code, text) in rows {
        let bytes = [message(&bytes), ws_frame(Opcode::Ping, true, b"on")].concat();
        let mut heard = every_way(name, &session(), &bytes, pong_last);
        assert_eq!(heard.pop(), Some(Heard::WsPong(b"on".to_vec())), "{name}: it goes on");
        let (text, retry_after_ms) = (text.to_owned(), 0);
        let nonce = Nonce(nonce);
        assert_eq!(heard, [Heard::Rejected { nonce, code, text, retry_after_ms }], "{name}");
    }
}
