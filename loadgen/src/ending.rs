//! Why a session ended, or did not begin.

use uring::Errno;
use wire::{CloseCode, WireError};
use ws::handshake::ResponseRefusal;

/// Why a session is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// No TCP connection.
    Connect(Errno),
    /// The answer to the handshake is not a WebSocket.
    Refused(ResponseRefusal),
    /// The server broke RFC 6455.
    Protocol(ws::ProtocolError),
    /// The server sent what is not a frame.
    Frame(WireError),
    /// The server sent a frame that may not stand here.
    Unexpected(&'static str),
    /// The server closed with this code and reason.
    Closed(Option<u16>, Box<str>),
    /// The connection ended without a close frame.
    EndOfStream,
    /// The connection broke.
    Broken(Errno),
    /// It took too long to become live.
    Timeout,
    /// The scenario wanted it.
    HungUp,
}

impl Ending {
    /// The server closed.
    pub(crate) fn closed(code: Option<u16>, reason: &str) -> Self {
        Self::Closed(code, reason.into())
    }

    /// In a few words: what the report counts by. Numbers that vary from session to session are
    /// left out.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Connect(errno) => format!("connect: {}", plain(*errno)),
            Self::Refused(refusal) => format!("handshake: {refusal}"),
            Self::Protocol(error) => format!("WebSocket: {error}"),
            Self::Frame(error) => format!("frame: {error}"),
            Self::Unexpected(what) => format!("protocol: {what}"),
            Self::Closed(None, _) => "closed without a code".to_owned(),
            Self::Closed(Some(code), reason) => match CloseCode::from_number(*code) {
                Some(known) if known.reason() == &**reason => format!("closed {code}: {reason}"),
                Some(known) => format!("closed {code} ({}): {reason}", known.name()),
                None => format!("closed {code}: {reason}"),
            },
            Self::EndOfStream => "connection ended without a close frame".to_owned(),
            Self::Broken(errno) => format!("connection broke: {}", plain(*errno)),
            Self::Timeout => "not live in time".to_owned(),
            Self::HungUp => "hung up on purpose".to_owned(),
        }
    }

    /// Whether trying again soon may help: the world was in the way, not a disagreement.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::EndOfStream
            | Self::Broken(_)
            | Self::Timeout
            | Self::HungUp => true,
            Self::Refused(ResponseRefusal::Status { status, .. }) => {
                matches!(status, 429 | 500..=599)
            }
            Self::Closed(code, _) => {
                use wire::ClientAction::{Fix, Login, Resume, ResumeLater, Stop};
                match code.and_then(CloseCode::from_number).map(CloseCode::action) {
                    Some(Resume | ResumeLater) | None => true,
                    Some(Login | Fix | Stop) => false,
                }
            }
            Self::Refused(_) | Self::Protocol(_) | Self::Frame(_) | Self::Unexpected(_) => false,
        }
    }
}

/// "Connection refused (os error 111)" without the number.
fn plain(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_happened_and_what_may_pass_is_tried_again() {
        let status = |status| Ending::Refused(ResponseRefusal::Status { status, head_bytes: 9 });
        let rows = [
            (Ending::Connect(Errno::CONNREFUSED), "connect: Connection refused", true),
            (Ending::Connect(Errno::ADDRNOTAVAIL), "connect: Cannot assign requested", true),
            (status(503), "handshake: the server answered 503", true),
            (status(404), "handshake: the server answered 404", false),
            (Ending::Refused(ResponseRefusal::SubprotocolMissing), "does not speak", false),
            (Ending::Protocol(ws::ProtocolError::MaskUnexpected), "WebSocket: a server's", false),
            (Ending::Frame(WireError::TooShort { bytes: 3 }), "frame: 3 bytes", false),
            (Ending::Unexpected("a second Welcome"), "protocol: a second Welcome", false),
            (Ending::closed(None, ""), "closed without a code", true),
            (Ending::closed(Some(4401), "no"), "closed 4401 (Unauthorised): no", false),
            (
                Ending::closed(Some(4413), CloseCode::SlowConsumer.reason()),
                "closed 4413: reading too slowly",
                true,
            ),
            (Ending::closed(Some(4999), "?"), "closed 4999: ?", true),
            (Ending::EndOfStream, "without a close frame", true),
            (Ending::Broken(Errno::CONNRESET), "connection broke: Connection reset", true),
            (Ending::Timeout, "not live in time", true),
            (Ending::HungUp, "on purpose", true),
        ];
        for (ending, expected, may_pass) in rows {
            let label = ending.label();
            assert!(label.contains(expected), "{label}");
            assert_eq!(ending.may_pass(), may_pass, "{label}");
        }
    }
}
