//! What a session makes of a byte stream: every row is run whole, cut in two at every position, and
//! one byte at a time.

use crate::common::{Outcome, Seen, feed, feed_every_way, masked, payload, plain};
use ws::Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
use ws::{
    CloseCode, CloseState, Event, MaskKey, ProtocolError, Role, Session, Side, TextPolicy, encoder,
};

const MESSAGE_BYTES_MAX: u32 = 1000;

fn text_session(role: Role) -> Session {
    Session::with_text(role, MESSAGE_BYTES_MAX, TextPolicy::Utf8)
}

/// Name, frames, and what is seen of them.
type GoodRow = (&'static str, Vec<Vec<u8>>, Vec<Seen>);

fn binary(bytes: &[u8]) -> Seen {
    Seen::Binary(bytes.to_vec())
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

#[test]
fn the_examples_of_rfc_6455_section_5_7() {
    // Client frames are masked and so for a server; the others are a server's.
    let rows: [(&str, Role, &[u8], Vec<Seen>); 6] = [
        (
            "a single-frame unmasked text message",
            Role::Client,
            &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
            vec![text("Hello")],
        ),
        (
            "a single-frame masked text message",
            Role::Server,
            &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
            vec![text("Hello")],
        ),
        (
            "a fragmented unmasked text message",
            Role::Client,
            &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f],
            vec![text("Hello")],
        ),
        (
            "unmasked ping",
            Role::Client,
            &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
            vec![Seen::Ping(b"Hello".to_vec())],
        ),
        (
            "masked pong",
            Role::Server,
            &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
            vec![Seen::Pong(b"Hello".to_vec())],
        ),
        (
            "256 bytes unmasked binary",
            Role::Client,
            &[&[0x82, 0x7e, 0x01, 0x00][..], &[7; 256]].concat(),
            vec![binary(&[7; 256])],
        ),
    ];
    for (name, role, bytes, seen) in rows {
        assert_eq!(feed_every_way(&text_session(role), bytes, name).seen, seen, "{name}");
    }
    // The sixth example is too long for every cut: its head and a few cuts around it.
    let bytes = [&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0][..], &[9; 65_536]].concat();
    let session = Session::new(Role::Client, 65_536);
    for cut in [0, 1, 2, 3, 9, 10, 11, 40_000, bytes.len() - 1] {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(feed(session.clone(), [front, back]).seen, [binary(&[9; 65_536])], "{cut}");
    }
}

#[test]
fn streams_that_keep_to_the_protocol() {
    let max = vec![b'm'; MESSAGE_BYTES_MAX as usize];
    let rows: [GoodRow; 12] = [
        ("nothing", vec![], vec![]),
        ("an empty message", vec![masked(Binary, true, b"")], vec![binary(b"")]),
        (
            "two messages",
            vec![masked(Binary, true, b"one"), masked(Binary, true, b"two")],
            vec![binary(b"one"), binary(b"two")],
        ),
        (
            "the longest message",
            vec![masked(Binary, true, &max), masked(Binary, true, b"next")],
            vec![binary(&max), binary(b"next")],
        ),
        (
            "the longest message in fragments",
            vec![masked(Binary, false, &max[..999]), masked(Continuation, true, &max[999..])],
            vec![binary(&max)],
        ),
        (
            "fragments with control frames between them",
            vec![
                masked(Binary, false, b"He"),
                masked(Ping, true, b"are you there"),
                masked(Continuation, false, b"ll"),
                masked(Pong, true, b""),
                masked(Continuation, true, b"o"),
                masked(Ping, true, b"p"),
            ],
            vec![
                Seen::Ping(b"are you there".to_vec()),
                Seen::Pong(vec![]),
                binary(b"Hello"),
                Seen::Ping(b"p".to_vec()),
            ],
        ),
        (
            "empty fragments",
            vec![
                masked(Binary, false, b""),
                masked(Continuation, false, b""),
                masked(Continuation, true, b""),
            ],
            vec![binary(b"")],
        ),
        ("the longest ping", vec![masked(Ping, true, &[1; 125])], vec![Seen::Ping(vec![1; 125])]),
        ("text", vec![masked(Text, true, "κόσμε 😀".as_bytes())], vec![text("κόσμε 😀")]),
        (
            "text, cut within a character",
            vec![
                masked(Text, false, b"\xf0\x9f"),
                masked(Ping, true, b"x"),
                masked(Continuation, true, b"\x98\x80"),
            ],
            vec![Seen::Ping(b"x".to_vec()), text("😀")],
        ),
        (
            "a close, and what follows it is ignored, whatever it is",
            vec![
                masked(Close, true, b"\x03\xe8bye"),
                masked(Binary, true, b"late"),
                b"\xff\xff garbage".to_vec(),
            ],
            vec![Seen::Close(Some(1000), "bye".to_owned())],
        ),
        (
            "a close within a fragmented message",
            vec![masked(Binary, false, b"half"), masked(Close, true, b"")],
            vec![Seen::Close(None, String::new())],
        ),
    ];
    for (name, frames, seen) in rows {
        let outcome = feed_every_way(&text_session(Role::Server), &frames.concat(), name);
        assert_eq!(outcome.seen, seen, "{name}");
        assert_eq!(outcome.error, None, "{name}");
        let closed = matches!(seen.last(), Some(Seen::Close(..)));
        let close = if closed { CloseState::Received } else { CloseState::Open };
        assert_eq!(outcome.close, close, "{name}");
    }
}

/// Name, bytes, what is still seen, the error, and the whole answer as (code, reason).
type BadRow = (&'static str, Vec<u8>, Vec<Seen>, ProtocolError, (u16, &'static str));

#[rustfmt::skip]
fn what_breaks_the_protocol() -> Vec<BadRow> {
    use ProtocolError as E;
    let ok = || masked(Binary, true, b"ok");
    vec![
        ("reserved bit", [ok(), vec![0xa2]].concat(), vec![binary(b"ok")],
            E::ReservedBits { bits: 0b010 },
            (1002, "reserved bits 0b010 are set in a frame head; no extension was negotiated")),
        ("reserved data opcode", vec![0x83], vec![], E::ReservedOpcode { opcode: 3 },
            (1002, "opcode 0x3 is reserved; use 0x0-0x2 or 0x8-0xA")),
        ("reserved control opcode", vec![0x8f, 0x80], vec![], E::ReservedOpcode { opcode: 15 },
            (1002, "opcode 0xf is reserved; use 0x0-0x2 or 0x8-0xA")),
        ("fragmented ping", vec![0x09], vec![], E::ControlFragmented,
            (1002, "a control frame is fragmented; send it in one frame with FIN")),
        ("long close", vec![0x88, 0xfe, 0, 126], vec![], E::ControlTooLong,
            (1002, "a control frame announces more than 125 payload bytes; shorten it")),
        ("no mask", plain(Binary, true, b"x"), vec![], E::MaskMissing,
            (1002, "a client's frame is not masked; mask every frame with a fresh key")),
        ("top bit of the length", vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1], vec![],
            E::LengthTopBit,
            (1002, "the highest bit of a 64-bit payload length is set; it must be 0")),
        ("length in a longer form", vec![0x82, 0xfe, 0, 5], vec![],
            E::LengthNotMinimal { bytes: 5 },
            (1002, "payload length 5 is not in its shortest form; use the shortest")),
        ("continuation of nothing", masked(Continuation, true, b"x"), vec![],
            E::ContinuationWithoutStart,
            (1002, "a continuation frame without a message to continue; \
                start one with opcode 1 or 2")),
        ("continuation after the last fragment",
            [masked(Binary, false, b"a"), masked(Continuation, true, b"b"),
                masked(Continuation, true, b"c")].concat(),
            vec![binary(b"ab")], E::ContinuationWithoutStart,
            (1002, "a continuation frame without a message to continue; \
                start one with opcode 1 or 2")),
        ("message within a message",
            [masked(Binary, false, b"a"), masked(Binary, true, b"b")].concat(),
            vec![], E::MessageInterrupted,
            (1002, "a new message began within a fragmented one; \
                finish that with continuation frames")),
        ("too long, known from the head", vec![0x82, 0xfe, 0x03, 0xe9, 0, 0, 0, 0], vec![],
            E::MessageTooBig { bytes: 1001, bytes_max: 1000 },
            (1009, "a message of at least 1001 bytes exceeds the limit of 1000; send less")),
        ("too long by the largest length",
            vec![0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0], vec![],
            E::MessageTooBig { bytes: u64::MAX >> 1, bytes_max: 1000 },
            (1009, "a message of at least 9223372036854775807 bytes exceeds the limit of 1000; \
                send less")),
        ("too long in fragments",
            [masked(Binary, false, &[0; 600]), masked(Continuation, false, &[0; 401])].concat(),
            vec![], E::MessageTooBig { bytes: 1001, bytes_max: 1000 },
            (1009, "a message of at least 1001 bytes exceeds the limit of 1000; send less")),
        ("text that is not UTF-8", masked(Text, true, b"ab\xff"), vec![],
            E::TextNotUtf8 { offset: 2 },
            (1007, "a text message is not UTF-8 at byte 2; encode text as UTF-8")),
        ("text that is not UTF-8, before it is complete",
            masked(Text, false, b"\xce\xba\xed\xa0\x80"), vec![], E::TextNotUtf8 { offset: 2 },
            (1007, "a text message is not UTF-8 at byte 2; encode text as UTF-8")),
        ("text that ends within a character",
            [masked(Text, false, b"a\xf0\x9f"), masked(Continuation, true, b"\x98")].concat(),
            vec![], E::TextNotUtf8 { offset: 1 },
            (1007, "a text message is not UTF-8 at byte 1; encode text as UTF-8")),
        ("half a close code", masked(Close, true, b"\x03"), vec![], E::CloseTruncated,
            (1002, "a close frame has one payload byte; \
                send none, or a code of two bytes and a reason")),
        ("forbidden close code", masked(Close, true, b"\x03\xee"), vec![],
            E::CloseCodeInvalid { code: 1006 },
            (1002, "close code 1006 must not be sent; use 1000-1003, 1007-1014 or 3000-4999")),
        ("close reason that is not UTF-8", masked(Close, true, b"\x03\xe8\xc3"), vec![],
            E::CloseReasonNotUtf8,
            (1007, "the reason of a close frame is not UTF-8; encode it as UTF-8")),
    ]
}

#[test]
fn what_breaks_the_protocol_gets_its_code_and_reason() {
    for (name, bytes, seen, error, (code, reason)) in what_breaks_the_protocol() {
        let session = text_session(Role::Server);
        let outcome = feed_every_way(&session, &bytes, name);
        let expected =
            Outcome { seen, error: Some(error), close: CloseState::Failed, between_messages: true };
        assert_eq!(outcome, expected, "{name}");
        // And nothing after it is looked at.
        let more = [&bytes[..], &masked(Binary, true, b"more")].concat();
        assert_eq!(feed(session, [&more[..]]).error, Some(error), "{name}");

        let answer = (error.close_code().get(), error.to_string());
        assert_eq!(answer, (code, reason.to_owned()), "{name}");
    }
}

#[test]
fn a_client_refuses_masked_frames() {
    let outcome = feed_every_way(&text_session(Role::Client), &masked(Text, true, b"x"), "masked");
    assert_eq!(outcome.error, Some(ProtocolError::MaskUnexpected));
    assert_eq!(ProtocolError::MaskUnexpected.close_code(), CloseCode::PROTOCOL_ERROR);
}

#[test]
fn text_is_refused_from_its_head_on_unless_asked_for() {
    let session = Session::new(Role::Server, MESSAGE_BYTES_MAX);
    let frame = masked(Text, true, b"hello");
    // The head alone, without a byte of the text.
    for bytes in [&frame[..6], &frame] {
        let outcome = feed_every_way(&session, bytes, "text");
        assert_eq!(outcome.error, Some(ProtocolError::TextRefused));
    }
    assert_eq!(ProtocolError::TextRefused.close_code(), CloseCode::UNSUPPORTED_DATA);
}

#[test]
fn the_closing_handshake_from_either_side() {
    // Name, do we close first, what the peer sends, do we close then, may the peer's frames still
    // be seen, the state at the end.
    let close = masked(Close, true, b"\x03\xe9");
    let broken = vec![0xff];
    let done = |started_by| CloseState::Done { started_by };
    let rows = [
        ("nobody", false, vec![], false, CloseState::Open),
        ("we, unanswered", true, masked(Binary, true, b"x"), false, CloseState::Sent),
        ("we, answered", true, close.clone(), false, done(Side::Us)),
        ("we, then the peer breaks the protocol", true, broken.clone(), false, done(Side::Us)),
        ("the peer", false, close.clone(), false, CloseState::Received),
        ("the peer, answered", false, close, true, done(Side::Peer)),
        ("the peer breaks the protocol", false, broken.clone(), false, CloseState::Failed),
        ("the peer breaks the protocol and is told", false, broken, true, done(Side::Us)),
    ];
    for (name, close_before, mut bytes, close_after, expected) in rows {
        let mut session = Session::new(Role::Server, MESSAGE_BYTES_MAX);
        let mut out = Vec::new();
        if close_before {
            assert!(session.close(Some(CloseCode::GOING_AWAY), "", None, &mut out), "{name}");
            // A message that was on its way is still delivered.
            let mut crossing = masked(Binary, true, b"crossing");
            let mut input = &mut crossing[..];
            let event = session.next_event(&mut input);
            assert_eq!(event, Ok(Some(Event::Binary(b"crossing"))), "{name}");
        }
        let mut input = &mut bytes[..];
        while let Ok(Some(_)) = session.next_event(&mut input) {}
        if close_after {
            assert!(session.close(Some(CloseCode::GOING_AWAY), "", None, &mut out), "{name}");
        }
        assert_eq!(session.close_state(), expected, "{name}");
        let sent = close_before || close_after;
        assert_eq!(out, if sent { vec![0x88, 2, 0x03, 0xe9] } else { vec![] }, "{name}");
        assert_eq!(session.close_state().may_send_messages(), name == "nobody", "{name}");
        if sent {
            assert!(!session.close(None, "", None, &mut out), "{name}: one close frame at most");
        }
    }
}

#[test]
fn a_whole_frame_is_lent_from_the_input_and_what_follows_it_is_untouched() {
    let mut received = [masked(Binary, true, b"first"), masked(Ping, true, b"second")].concat();
    let range = received.as_ptr_range();
    let next = masked(Ping, true, b"second");
    let mut session = Session::new(Role::Server, MESSAGE_BYTES_MAX);
    let mut input = &mut received[..];
    let Ok(Some(Event::Binary(bytes))) = session.next_event(&mut input) else {
        panic!("the first frame is a message")
    };
    assert!(range.contains(&bytes.as_ptr()), "lent from the input");
    assert_eq!(*input, next[..], "still masked: it may be set aside");
    assert_eq!(session.next_event(&mut input), Ok(Some(Event::Ping(payload(b"second")))));
    assert_eq!(session.held_bytes(), 0);
}

#[test]
fn memory_held_for_a_part_is_bounded_by_what_came_and_given_back() {
    let frame = masked(Binary, true, &[5; 1000]);
    let mut session = Session::new(Role::Server, MESSAGE_BYTES_MAX);
    let mut give = |bytes: &[u8]| {
        let mut received = bytes.to_vec();
        let mut input = &mut received[..];
        let mut count = 0;
        while session.next_event(&mut input).unwrap().is_some() {
            count += 1;
        }
        (count, session.held_bytes())
    };
    // 1,000 bytes are announced, none has come.
    assert_eq!(give(&frame[..8]), (0, 0));
    assert_eq!(give(&frame[8..108]), (0, 100));
    let (count, held) = give(&frame[108..208]);
    assert_eq!(count, 0);
    assert!((200..=400).contains(&held), "{held}");
    // The input ends within the next message, so the buffer stays for it.
    let (count, held) = give(&[&frame[208..], &frame[..50]].concat());
    assert_eq!(count, 1);
    assert!((42..=1000).contains(&held), "{held}");
    assert_eq!(give(&frame[50..]), (1, 0));
}

#[test]
fn both_ends_understand_each_other() {
    let mut wire = Vec::new();
    let mut client = Session::new(Role::Client, MESSAGE_BYTES_MAX);
    encoder::append_binary(&mut wire, b"hello", Some(MaskKey([1, 2, 3, 4])));
    encoder::append_ping(&mut wire, payload(b"?"), Some(MaskKey([5, 6, 7, 8])));
    assert!(client.close(Some(CloseCode::NORMAL), "bye", Some(MaskKey([9; 4])), &mut wire));

    let mut server = Session::new(Role::Server, MESSAGE_BYTES_MAX);
    let mut answer = Vec::new();
    let mut input = &mut wire[..];
    while let Some(event) = server.next_event(&mut input).unwrap() {
        match event {
            Event::Binary(bytes) => encoder::append_binary(&mut answer, bytes, None),
            Event::Ping(payload) => encoder::append_pong(&mut answer, payload, None),
            Event::Close(frame) => {
                let code = frame.code;
                assert!(server.close(code, "", None, &mut answer));
            }
            Event::Text(_) | Event::Pong(_) => panic!("{event:?} was not sent"),
        }
    }
    let outcome = feed_every_way(&client, &answer, "the server's answers");
    let seen =
        [binary(b"hello"), Seen::Pong(b"?".to_vec()), Seen::Close(Some(1000), String::new())];
    assert_eq!(outcome.seen, seen);
    assert_eq!(outcome.close, CloseState::Done { started_by: Side::Us });
    assert_eq!(server.close_state(), CloseState::Done { started_by: Side::Peer });
}
