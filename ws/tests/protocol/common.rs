//! The one place where the tests touch the session's interface: bytes in, what was seen out.

use ws::{
    CloseCode, CloseState, ControlPayload, Event, MaskKey, Opcode, ProtocolError, Session, encoder,
};

/// An event that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Binary(Vec<u8>),
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// All that can be observed of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) seen: Vec<Seen>,
    pub(crate) error: Option<ProtocolError>,
    pub(crate) close: CloseState,
    pub(crate) between_messages: bool,
}

pub(crate) const KEY: MaskKey = MaskKey([0x37, 0xfa, 0x21, 0x3d]);

/// The places at which `bytes` bytes are cut, ascending; the end is one. Under Miri, where a byte
/// takes microseconds, there are few.
pub(crate) fn cuts(bytes: usize) -> impl Iterator<Item = usize> {
    let step = if cfg!(miri) { bytes / 3 + 1 } else { 1 };
    (0..bytes).step_by(step).chain([bytes])
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Ping(payload) => Self::Ping(payload.get().to_vec()),
            Event::Pong(payload) => Self::Pong(payload.get().to_vec()),
            Event::Close(frame) => {
                Self::Close(frame.code.map(CloseCode::get), frame.reason.to_owned())
            }
        }
    }
}

/// Feeds the chunks one after another, as reads from a socket would.
pub(crate) fn feed<'a>(
    mut session: Session,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut seen = Vec::new();
    let mut error = None;
    for chunk in chunks {
        let mut received = chunk.to_vec();
        let mut input = &mut received[..];
        loop {
            match session.next_event(&mut input) {
                Ok(Some(event)) => seen.push(Seen::from(event)),
                Ok(None) => break,
                Err(found) => {
                    assert_eq!(error.replace(found), None, "a failed session fails once");
                    break;
                }
            }
        }
        assert!(input.is_empty(), "a session that wants more has taken what there was");
    }
    if session.is_between_messages() || error.is_some() {
        assert_eq!(session.held_bytes(), 0, "nothing is held between messages");
    }
    Outcome {
        seen,
        error,
        close: session.close_state(),
        between_messages: session.is_between_messages(),
    }
}

/// The outcome of `bytes`, which must be the same when they are cut in two anywhere and when they
/// come one at a time.
pub(crate) fn feed_every_way(session: &Session, bytes: &[u8], name: &str) -> Outcome {
    let whole = feed(session.clone(), [bytes]);
    for cut in cuts(bytes.len()) {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(feed(session.clone(), [front, back]), whole, "{name}: cut at {cut}");
    }
    assert_eq!(feed(session.clone(), bytes.chunks(1)), whole, "{name}: one byte at a time");
    whole
}

/// One frame as a client sends it.
pub(crate) fn masked(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder::append_frame(&mut out, opcode, fin, payload, Some(KEY));
    out
}

/// One frame as a server sends it.
pub(crate) fn plain(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder::append_frame(&mut out, opcode, fin, payload, None);
    out
}

/// A ping's payload.
pub(crate) fn payload(bytes: &[u8]) -> ControlPayload<'_> {
    ControlPayload::new(bytes).expect("the tests know what fits")
}
