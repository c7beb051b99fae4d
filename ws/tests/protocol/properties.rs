//! Properties under any chunking, any fragmentation, and any bytes at all.

use crate::common::{Seen, cuts, feed, masked};
use proptest::collection::vec;
use proptest::prelude::*;
use ws::handshake::{HandshakePolicy, Progress, read_request};
use ws::{Opcode, Role, Session, TextPolicy};

const MESSAGE_BYTES_MAX: u32 = 400;

/// A message with the places where it is cut into frames, and a ping after its first frame.
#[derive(Clone, Debug)]
struct Sent {
    message: Seen,
    cuts: Vec<prop::sample::Index>,
    ping: Option<Vec<u8>>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let message = prop_oneof![
        vec(any::<u8>(), 0..=MESSAGE_BYTES_MAX as usize).prop_map(Seen::Binary),
        "\\PC{0,100}".prop_map(Seen::Text),
    ];
    let ping = prop::option::of(vec(any::<u8>(), 0..=125));
    (message, vec(any::<prop::sample::Index>(), 0..4), ping)
        .prop_map(|(message, cuts, ping)| Sent { message, cuts, ping })
}

fn encode(sent: &Sent, bytes: &mut Vec<u8>, seen: &mut Vec<Seen>) {
    let (mut opcode, payload) = match &sent.message {
        Seen::Binary(payload) => (Opcode::Binary, &payload[..]),
        Seen::Text(text) => (Opcode::Text, text.as_bytes()),
        other => panic!("{other:?} is no message"),
    };
    let mut cuts: Vec<usize> = sent.cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(payload.len());
    let mut start = 0;
    for (index, &end) in cuts.iter().enumerate() {
        let fin = index + 1 == cuts.len();
        bytes.extend(masked(opcode, fin, &payload[start..end]));
        opcode = Opcode::Continuation;
        start = end;
        if let (0, false, Some(ping)) = (index, fin, &sent.ping) {
            bytes.extend(masked(Opcode::Ping, true, ping));
            seen.push(Seen::Ping(ping.clone()));
        }
    }
    seen.push(sent.message.clone());
}

/// `bytes` in chunks of these sizes, and the rest in one.
fn chunked<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for &size in sizes {
        let (chunk, rest) = bytes.split_at(size.min(bytes.len()));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks.push(bytes);
    chunks
}

fn session() -> Session {
    Session::with_text(Role::Server, MESSAGE_BYTES_MAX, TextPolicy::Utf8)
}

proptest! {
    #[test]
    fn any_chunking_and_fragmentation_gives_the_messages_that_were_sent(
        messages in vec(sent(), 0..6),
        sizes in vec(0..200_usize, 0..40),
    ) {
        let (mut bytes, mut seen) = (Vec::new(), Vec::new());
        for message in &messages {
            encode(message, &mut bytes, &mut seen);
        }
        let outcome = feed(session(), chunked(&bytes, &sizes));
        prop_assert_eq!(outcome.error, None);
        prop_assert_eq!(outcome.seen, seen);
        prop_assert!(outcome.between_messages);
    }

    /// Starting from valid frames with a few bytes changed reaches further than noise.
    #[test]
    fn any_bytes_get_the_same_verdict_under_any_chunking(
        messages in vec(sent(), 0..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        noise in vec(any::<u8>(), 0..40),
        sizes in vec(0..60_usize, 0..40),
    ) {
        let mut bytes = Vec::new();
        for message in &messages {
            encode(message, &mut bytes, &mut Vec::new());
        }
        bytes.extend(noise);
        for (place, byte) in changes {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
        }
        let whole = feed(session(), [&bytes[..]]);
        prop_assert_eq!(feed(session(), chunked(&bytes, &sizes)), whole);
    }

    #[test]
    fn any_request_head_gets_the_same_verdict_from_any_longer_prefix(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        head_bytes_max in 100..300_usize,
    ) {
        let mut bytes = b"GET /ws?a=b HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
            Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Protocol: other, mooring.v1\r\n\r\n\x82\x80\0\0\0\0".to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let policy = HandshakePolicy { head_bytes_max, ..HandshakePolicy::default() };
        let mut verdict = Ok(Progress::Incomplete);
        for length in cuts(bytes.len()) {
            let found = read_request(&bytes[..length], &policy);
            if verdict != Ok(Progress::Incomplete) {
                prop_assert_eq!(found, verdict, "at {} bytes", length);
            }
            verdict = found;
        }
    }
}
