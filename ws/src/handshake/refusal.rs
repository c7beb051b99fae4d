//! Why a request is refused, and the HTTP answer that says so.

use std::fmt::{self, Write};

use bytes::BufMut;

use super::{FIELDS_MAX, VERSION};

/// The request is refused: send [`Refusal::append_response`] and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The head is longer than the policy's bound.
    HeadTooLarge,
    /// The head has more than [`super::FIELDS_MAX`] fields.
    TooManyFields,
    /// The bytes are not an HTTP/1.1 request head.
    Unparsable(Unparsable),
    /// Another version of HTTP.
    HttpVersion,
    /// Not a GET.
    Method,
    /// The request target is not a path.
    Target,
    /// The request announces a body.
    Body,
    /// No `Host`, or an empty one.
    HostMissing,
    /// `Host` stands twice.
    HostRepeated,
    /// A request of ordinary HTTP: no `Upgrade`.
    UpgradeMissing,
    /// `Upgrade` stands twice.
    UpgradeRepeated,
    /// `Upgrade` to something else.
    UpgradeOther,
    /// `Connection` is missing or does not name `Upgrade`.
    ConnectionWithoutUpgrade,
    /// No `Sec-WebSocket-Version`.
    VersionMissing,
    /// `Sec-WebSocket-Version` stands twice.
    VersionRepeated,
    /// A version other than 13.
    VersionOther,
    /// No `Sec-WebSocket-Key`.
    KeyMissing,
    /// `Sec-WebSocket-Key` stands twice.
    KeyRepeated,
    /// `Sec-WebSocket-Key` is not 16 bytes in base64.
    KeyInvalid,
    /// `Origin` stands twice.
    OriginRepeated,
    /// The page's origin is not on the policy's list.
    OriginNotAllowed,
    /// No subprotocol is offered where the policy requires one.
    SubprotocolMissing,
    /// Subprotocols are offered, but not ours.
    SubprotocolOther,
}

/// Where a head stops being HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparsable {
    /// In the request line.
    RequestLine,
    /// In the name of a field; a folded line counts as one.
    FieldName,
    /// In the value of a field.
    FieldValue,
    /// At the end of a line.
    LineEnd,
}

/// A refusal's row in the table.
struct Row {
    status: &'static str,
    wrong: &'static str,
    remedy: &'static str,
}

const BAD_REQUEST: &str = "400 Bad Request";
const FORBIDDEN: &str = "403 Forbidden";
const METHOD_NOT_ALLOWED: &str = "405 Method Not Allowed";
const UPGRADE_REQUIRED: &str = "426 Upgrade Required";
const FIELDS_TOO_LARGE: &str = "431 Request Header Fields Too Large";
const VERSION_NOT_SUPPORTED: &str = "505 HTTP Version Not Supported";

const UPGRADE_REMEDY: &str = "Send `Upgrade: websocket` and `Connection: Upgrade` (RFC 6455, \
    section 4.1); a WebSocket client does so by itself.";
const VERSION_REMEDY: &str = "Send `Sec-WebSocket-Version: 13` once.";
const KEY_REMEDY: &str = "Send `Sec-WebSocket-Key` once, with 16 random bytes in base64.";
const FIELDS_REMEDY: &str = "Send at most 64.";
const _: () = assert!(FIELDS_MAX == 64, "FIELDS_REMEDY names the number");
const SYNTAX_REMEDY: &str = "Send a request head as RFC 9112 says. If the URL begins with wss: or \
    https:, it may be that this port speaks no TLS.";

impl Refusal {
    /// The one table of what is answered to what.
    #[rustfmt::skip]
    const fn row(self) -> Row {
        use Unparsable as At;
        let (status, wrong, remedy) = match self {
            Self::HeadTooLarge => (FIELDS_TOO_LARGE, "The request head is too large.",
                "Send fewer or shorter header fields, such as cookies."),
            Self::TooManyFields => (FIELDS_TOO_LARGE, "The request has too many header fields.",
                FIELDS_REMEDY),
            Self::Unparsable(At::RequestLine) => (BAD_REQUEST,
                "The request line is not HTTP/1.1.", SYNTAX_REMEDY),
            Self::Unparsable(At::FieldName) => (BAD_REQUEST,
                "The name of a header field is malformed.", SYNTAX_REMEDY),
            Self::Unparsable(At::FieldValue) => (BAD_REQUEST,
                "The value of a header field is malformed.", SYNTAX_REMEDY),
            Self::Unparsable(At::LineEnd) => (BAD_REQUEST,
                "A line of the request head does not end with CR LF.", SYNTAX_REMEDY),
            Self::HttpVersion => (VERSION_NOT_SUPPORTED, "The request is not HTTP/1.1.",
                "Send the WebSocket handshake as HTTP/1.1."),
            Self::Method => (METHOD_NOT_ALLOWED, "The method is not GET.",
                "Open the WebSocket with a GET request."),
            Self::Target => (BAD_REQUEST, "The request target is not a path.",
                "Request a path that begins with `/` and has no fragment (`#`)."),
            Self::Body => (BAD_REQUEST, "The request announces a body.",
                "Send no `Transfer-Encoding` and no `Content-Length` but 0."),
            Self::HostMissing => (BAD_REQUEST, "`Host` is missing or empty.",
                "Send `Host` once, with the server's name."),
            Self::HostRepeated => (BAD_REQUEST, "`Host` stands more than once.",
                "Send `Host` once, with the server's name."),
            Self::UpgradeMissing => (UPGRADE_REQUIRED,
                "This is a WebSocket endpoint, and the request does not ask for an upgrade.",
                UPGRADE_REMEDY),
            Self::UpgradeRepeated => (BAD_REQUEST, "`Upgrade` stands more than once.",
                UPGRADE_REMEDY),
            Self::UpgradeOther => (UPGRADE_REQUIRED, "`Upgrade` does not name `websocket`.",
                UPGRADE_REMEDY),
            Self::ConnectionWithoutUpgrade => (BAD_REQUEST,
                "`Connection` does not name `Upgrade`; a proxy on the way may have removed it.",
                UPGRADE_REMEDY),
            Self::VersionMissing => (UPGRADE_REQUIRED, "`Sec-WebSocket-Version` is missing.",
                VERSION_REMEDY),
            Self::VersionRepeated => (BAD_REQUEST,
                "`Sec-WebSocket-Version` stands more than once.", VERSION_REMEDY),
            Self::VersionOther => (UPGRADE_REQUIRED, "`Sec-WebSocket-Version` is not 13.",
                VERSION_REMEDY),
            Self::KeyMissing => (BAD_REQUEST, "`Sec-WebSocket-Key` is missing.", KEY_REMEDY),
            Self::KeyRepeated => (BAD_REQUEST, "`Sec-WebSocket-Key` stands more than once.",
                KEY_REMEDY),
            Self::KeyInvalid => (BAD_REQUEST,
                "`Sec-WebSocket-Key` is not 16 bytes in base64.", KEY_REMEDY),
            Self::OriginRepeated => (BAD_REQUEST, "`Origin` stands more than once.",
                "Send `Origin` once or not at all."),
            Self::OriginNotAllowed => (FORBIDDEN,
                "Pages of this origin may not connect here.",
                "Add the origin to the server's list of allowed origins."),
            Self::SubprotocolMissing => (BAD_REQUEST, "No subprotocol is offered.", ""),
            Self::SubprotocolOther => (BAD_REQUEST,
                "None of the offered subprotocols is spoken here.", ""),
        };
        Row { status, wrong, remedy }
    }

    /// The HTTP status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        let [a, b, c, ..] = *self.row().status.as_bytes() else {
            panic!("each status in the table begins with three digits")
        };
        (a - b'0') as u16 * 100 + (b - b'0') as u16 * 10 + (c - b'0') as u16
    }

    /// Appends the answer: an HTTP/1.1 response that closes the connection, whose body says what
    /// was wrong and what to do. `subprotocol` is the policy's.
    pub fn append_response(self, subprotocol: &str, out: &mut impl BufMut) {
        let Row { status, wrong, remedy } = self.row();
        let mut body = format!("{wrong}\n{remedy}");
        if matches!(self, Self::SubprotocolMissing | Self::SubprotocolOther) {
            write!(body, "Send `Sec-WebSocket-Protocol: {subprotocol}`.")
                .expect("writing to a String does not fail");
        }
        // RFC 9110 15.5.6 and 15.5.22 and RFC 6455 4.4 want these in the answer.
        let (connection, extra) = match self {
            Self::Method => ("close", "Allow: GET\r\n"),
            _ if status == UPGRADE_REQUIRED => ("close, Upgrade", "Upgrade: websocket\r\n"),
            _ => ("close", ""),
        };
        let version = if status == UPGRADE_REQUIRED {
            format!("Sec-WebSocket-Version: {VERSION}\r\n")
        } else {
            String::new()
        };
        let head = format!(
            "HTTP/1.1 {status}\r\n\
             Connection: {connection}\r\n\
             {extra}{version}\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\
             \r\n",
            body.len() + 1
        );
        out.put_slice(head.as_bytes());
        out.put_slice(body.as_bytes());
        out.put_slice(b"\n");
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().wrong)
    }
}

impl std::error::Error for Refusal {}
