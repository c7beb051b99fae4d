//! The decoder and the session: no bytes panic, any splitting gives the same events, an encoded
//! event comes back, and tungstenite hears the same.
//!
//! Where the two differ we are the stricter ones. tungstenite takes a length that is not in its
//! shortest form (RFC 6455 5.2: "the minimal number of bytes MUST be used") and a 64-bit length
//! with its top bit set; it reports a close code that must not be sent as 1002 instead of failing;
//! and it sees some violations later than the byte that makes them.

use std::io::{self, Read, Write};

use arbitrary::{Arbitrary, Unstructured};
use tungstenite::protocol::{Role as TheirRole, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};
use ws::{Event, ProtocolError, Role, Session, TextPolicy, encoder};

/// The bound of a message; small, so that it is met.
const MESSAGE_BYTES_MAX: u32 = 4096;

/// What is received, and how.
#[derive(Arbitrary, Debug)]
struct Stream<'a> {
    is_client: bool,
    refuses_text: bool,
    /// Lengths of the first reads; the last one repeats. 0 stands for all that is left.
    reads: [u8; 4],
    bytes: &'a [u8],
}

/// An event that owns what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Heard {
    Binary(Vec<u8>),
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// Receives what `data` stands for in several ways.
///
/// # Panics
/// If they differ.
pub fn run(data: &[u8]) {
    let Ok(stream) = Stream::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let whole = receive(&stream, &[0]);
    assert_eq!(receive(&stream, &stream.reads), whole, "read as {:?}", stream.reads);
    for heard in &whole.0 {
        check_echo(heard);
    }
    if !stream.refuses_text {
        compare(&stream, &whole);
    }
}

/// All events, and the error that ended them, if one did.
fn receive(stream: &Stream<'_>, reads: &[u8]) -> (Vec<Heard>, Option<ProtocolError>) {
    let role = if stream.is_client { Role::Client } else { Role::Server };
    let text = if stream.refuses_text { TextPolicy::Refuse } else { TextPolicy::Utf8 };
    let mut session = Session::with_text(role, MESSAGE_BYTES_MAX, text);
    let (mut events, mut bytes, mut reads) = (Vec::new(), stream.bytes.to_vec(), reads.iter());
    let (mut rest, mut length) = (&mut bytes[..], 0);
    while !rest.is_empty() {
        length = reads.next().map_or(length, |length| usize::from(*length));
        let taken = if length == 0 { rest.len() } else { length.min(rest.len()) };
        let (mut input, behind) = rest.split_at_mut(taken);
        rest = behind;
        loop {
            match session.next_event(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => events.push(Heard::of(&event)),
                Err(error) => return (events, Some(error)),
            }
        }
        let bound = MESSAGE_BYTES_MAX as usize + ws::CONTROL_PAYLOAD_BYTES_MAX;
        assert!(session.held_bytes() <= bound, "{} bytes are held", session.held_bytes());
        assert!(!session.is_between_messages() || session.held_bytes() == 0);
    }
    (events, None)
}

/// What was heard can be said, and is heard again.
fn check_echo(heard: &Heard) {
    let mut bytes = Vec::new();
    match heard {
        Heard::Binary(payload) => encoder::append_binary(&mut bytes, payload, None),
        Heard::Text(text) => encoder::append_text(&mut bytes, text, None),
        Heard::Close(code, reason) => {
            let code = code.map(|code| ws::CloseCode::new(code).expect("it was accepted"));
            encoder::append_close(&mut bytes, code, reason, None);
        }
        Heard::Ping(_) | Heard::Pong(_) => return,
    }
    let echo = Stream { is_client: true, refuses_text: false, reads: [0; 4], bytes: &bytes };
    assert_eq!(receive(&echo, &[0]), (vec![heard.clone()], None));
}

impl Heard {
    fn of(event: &Event<'_>) -> Self {
        match event {
            Event::Binary(payload) => Self::Binary(payload.to_vec()),
            Event::Text(text) => Self::Text((*text).to_owned()),
            Event::Ping(payload) => Self::Ping(payload.get().to_vec()),
            Event::Pong(payload) => Self::Pong(payload.get().to_vec()),
            Event::Close(frame) => {
                Self::Close(frame.code.map(ws::CloseCode::get), frame.reason.to_owned())
            }
        }
    }

    /// They do not know 1014, which IANA has registered since, and report it as their own 1002.
    fn into_theirs(self) -> Self {
        match self {
            Self::Close(Some(1014), _) => Self::Close(Some(1002), "Protocol violation".into()),
            heard => heard,
        }
    }

    fn of_theirs(message: Message) -> Self {
        match message {
            Message::Binary(payload) => Self::Binary(payload.to_vec()),
            Message::Text(text) => Self::Text(text.to_string()),
            Message::Ping(payload) => Self::Ping(payload.to_vec()),
            Message::Pong(payload) => Self::Pong(payload.to_vec()),
            Message::Close(frame) => match frame {
                Some(frame) => Self::Close(Some(frame.code.into()), frame.reason.to_string()),
                None => Self::Close(None, String::new()),
            },
            Message::Frame(_) => unreachable!("never given out by read"),
        }
    }
}

/// Received bytes; what is written is dropped.
struct Peer<'a>(&'a [u8]);

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How tungstenite's hearing ended.
#[derive(PartialEq, Eq, Debug)]
enum TheirEnd {
    /// It wants more bytes.
    Waits,
    /// The closing handshake.
    Closed,
    /// The peer broke the protocol, or a bound.
    Failed(String),
}

fn receive_theirs(stream: &Stream<'_>) -> (Vec<Heard>, TheirEnd) {
    let role = if stream.is_client { TheirRole::Client } else { TheirRole::Server };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX as usize))
        .max_frame_size(Some(MESSAGE_BYTES_MAX as usize))
        // Its own default is cleared for each socket, which takes longer than everything else.
        .read_buffer_size(4096);
    let mut socket = WebSocket::from_raw_socket(Peer(stream.bytes), role, Some(config));
    let mut events = Vec::new();
    let end = loop {
        match socket.read() {
            Ok(message) => events.push(Heard::of_theirs(message)),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                break TheirEnd::Waits;
            }
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => break TheirEnd::Closed,
            Err(error) => break TheirEnd::Failed(error.to_string()),
        }
        if matches!(events.last(), Some(Heard::Close(..))) {
            break TheirEnd::Closed;
        }
    };
    (events, end)
}

fn compare(stream: &Stream<'_>, (ours, error): &(Vec<Heard>, Option<ProtocolError>)) {
    let (theirs, end) = receive_theirs(stream);
    let ours: Vec<Heard> = ours.iter().cloned().map(Heard::into_theirs).collect();
    match error {
        // Ours ends here. What came before is the same; theirs may go on.
        Some(error) => {
            assert!(theirs.starts_with(&ours), "{theirs:?}\nbut ours: {ours:?}, {error}");
            let next = theirs.get(ours.len());
            let is_stricter = match error {
                // The last: a control frame whose length takes more than seven bits, however short.
                ProtocolError::LengthNotMinimal { .. }
                | ProtocolError::LengthTopBit
                | ProtocolError::ControlTooLong => true,
                ProtocolError::CloseCodeInvalid { .. } => {
                    // Or they looked at the reason first, and that is wrong too.
                    matches!(next, Some(Heard::Close(Some(1002), _)))
                        || matches!(end, TheirEnd::Failed(_))
                }
                // Seen before the frame is whole, where they wait for the rest.
                _ => next.is_none(),
            };
            assert!(is_stricter, "ours: {error}; theirs: {next:?}, {end:?}");
        }
        None => {
            assert_eq!(theirs, ours, "{end:?}");
            assert!(!matches!(end, TheirEnd::Failed(_)), "ours accept what theirs do not: {end:?}");
        }
    }
}
