//! The server's side of the opening handshake (RFC 6455 4.2).

use bytes::BufMut;
use httparse::Status;

use super::fields::{Fields, Single};
use super::refusal::{Refusal, Unparsable};
use super::{AcceptKey, FIELDS_MAX, HEAD_BYTES_MAX_DEFAULT, Progress, VERSION, is_key};

/// What this server asks of a handshake beyond RFC 6455.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakePolicy {
    /// Bound on the request head in bytes; beyond it the request is refused with 431.
    pub head_bytes_max: usize,
    /// Which pages may connect.
    pub origins: Origins,
    /// The subprotocol spoken here, compared with case (RFC 6455 4.2.2).
    pub subprotocol: String,
    /// Whether a client that offers no subprotocol at all is refused. One that offers only others
    /// always is.
    pub subprotocol_required: bool,
}

/// Which pages may connect. A browser says in `Origin` which page opens the socket, and sends the
/// user's cookies whoever that is; nothing else protects against a stranger's page (RFC 6455 10.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Any page: right where the first frame carries the credentials, and cookies count nothing.
    Any,
    /// These alone, as browsers write them (`https://chat.example.org`, with a port if it is not
    /// the scheme's own), compared without case. A request without `Origin` is no browser's and is
    /// let through; `null` must be listed to be allowed.
    Only(Vec<String>),
}

impl Default for HandshakePolicy {
    fn default() -> Self {
        Self {
            head_bytes_max: HEAD_BYTES_MAX_DEFAULT,
            origins: Origins::Any,
            subprotocol: String::from("mooring.v1"),
            subprotocol_required: true,
        }
    }
}

/// A request that may become a WebSocket. Borrows the received bytes and the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Bytes of the head. What was received beyond them are the first frames.
    pub head_bytes: usize,
    /// The path, from its `/` on, as it was sent: not decoded.
    pub path: &'a str,
    /// What follows the first `?`, not decoded; `None` without one.
    pub query: Option<&'a str>,
    /// The server's name as the client knows it; not checked for being a name.
    pub host: &'a str,
    /// The page that connects, if a browser says so.
    pub origin: Option<&'a str>,
    /// The subprotocol that the answer will name: the policy's, if it was offered.
    pub subprotocol: Option<&'a str>,
    accept: AcceptKey,
}

/// Reads a request head from all bytes `received` on a new connection. The verdict does not depend
/// on how the bytes were split into reads. Extensions that are offered are ignored, which declines
/// them (RFC 6455 9.1).
///
/// # Errors
/// The first thing that is wrong, in the order: size and syntax, what makes it HTTP/1.1 at all,
/// what makes it a WebSocket handshake, the policy. Send the refusal's response and close.
pub fn read_request<'a>(
    received: &'a [u8],
    policy: &'a HandshakePolicy,
) -> Result<Progress<Request<'a>>, Refusal> {
    let within_bound = &received[..received.len().min(policy.head_bytes_max)];
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let head_bytes = match request.parse(within_bound) {
        Ok(Status::Complete(head_bytes)) => head_bytes,
        Ok(Status::Partial) if within_bound.len() < received.len() => {
            return Err(Refusal::HeadTooLarge);
        }
        Ok(Status::Partial) => return Ok(Progress::Incomplete),
        Err(error) => return Err(refusal_of(error)),
    };
    if request.version != Some(1) {
        return Err(Refusal::HttpVersion);
    }
    if request.method != Some("GET") {
        return Err(Refusal::Method);
    }
    let (path, query) = request.path.and_then(split_target).ok_or(Refusal::Target)?;
    let fields = Fields(request.headers);
    check_no_body(fields)?;
    let host = read_host(fields)?;
    check_upgrade(fields)?;
    let key = read_key(fields)?;
    let origin = read_origin(fields, &policy.origins)?;
    let subprotocol = choose_subprotocol(fields, policy)?;
    let accept = AcceptKey::for_key(key);
    Ok(Progress::Complete(Request { head_bytes, path, query, host, origin, subprotocol, accept }))
}

impl Request<'_> {
    /// Appends the answer that makes the connection a WebSocket.
    ///
    /// # Panics
    /// If `out` cannot grow and is full; 128 bytes and the subprotocol's name are enough.
    pub fn append_response(&self, out: &mut impl BufMut) {
        out.put_slice(
            b"HTTP/1.1 101 Switching Protocols\r\n\
              Upgrade: websocket\r\n\
              Connection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.put_slice(self.accept.as_bytes());
        if let Some(subprotocol) = self.subprotocol {
            out.put_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.put_slice(subprotocol.as_bytes());
        }
        out.put_slice(b"\r\n\r\n");
    }
}

const fn refusal_of(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version => Refusal::HttpVersion,
        httparse::Error::HeaderName => Refusal::Unparsable(Unparsable::FieldName),
        httparse::Error::HeaderValue => Refusal::Unparsable(Unparsable::FieldValue),
        httparse::Error::NewLine => Refusal::Unparsable(Unparsable::LineEnd),
        httparse::Error::Token | httparse::Error::Status => {
            Refusal::Unparsable(Unparsable::RequestLine)
        }
    }
}

/// Path and query of a request target: a path, or a whole URL, which a server must accept too (RFC
/// 9112 3.2.2). `None` for `*`, a bare authority, and anything with a fragment (RFC 6455 3).
fn split_target(target: &str) -> Option<(&str, Option<&str>)> {
    if target.contains('#') {
        return None;
    }
    let from_path = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        match rest.find(['/', '?']) {
            Some(start) => &rest[start..],
            None => "/",
        }
    };
    Some(match from_path.split_once('?') {
        // `ws://host?query` has an empty path, which is `/`.
        Some(("", query)) => ("/", Some(query)),
        Some((path, query)) => (path, Some(query)),
        None => (from_path, None),
    })
}

/// A body would be read as frames: refused, as no handshake has one.
fn check_no_body(fields: Fields<'_, '_>) -> Result<(), Refusal> {
    let empty = match fields.single("Content-Length") {
        Single::Missing | Single::Once(b"0") => !fields.has("Transfer-Encoding"),
        Single::Once(_) | Single::Repeated => false,
    };
    if empty { Ok(()) } else { Err(Refusal::Body) }
}

fn read_host<'b>(fields: Fields<'_, 'b>) -> Result<&'b str, Refusal> {
    match fields.single("Host") {
        Single::Missing | Single::Once(b"") => Err(Refusal::HostMissing),
        Single::Once(host) => {
            std::str::from_utf8(host).map_err(|_| Refusal::Unparsable(Unparsable::FieldValue))
        }
        Single::Repeated => Err(Refusal::HostRepeated),
    }
}

/// `Upgrade`, `Connection` and the version (RFC 6455 4.2.1, points 3, 4 and 6).
fn check_upgrade(fields: Fields<'_, '_>) -> Result<(), Refusal> {
    match fields.single("Upgrade") {
        Single::Missing => return Err(Refusal::UpgradeMissing),
        Single::Repeated => return Err(Refusal::UpgradeRepeated),
        Single::Once(_) if !fields.has_member("Upgrade", "websocket") => {
            return Err(Refusal::UpgradeOther);
        }
        Single::Once(_) => {}
    }
    if !fields.has_member("Connection", "Upgrade") {
        return Err(Refusal::ConnectionWithoutUpgrade);
    }
    match fields.single("Sec-WebSocket-Version") {
        Single::Missing => Err(Refusal::VersionMissing),
        Single::Repeated => Err(Refusal::VersionRepeated),
        Single::Once(version) if version == VERSION.as_bytes() => Ok(()),
        Single::Once(_) => Err(Refusal::VersionOther),
    }
}

fn read_key<'b>(fields: Fields<'_, 'b>) -> Result<&'b [u8], Refusal> {
    match fields.single("Sec-WebSocket-Key") {
        Single::Missing => Err(Refusal::KeyMissing),
        Single::Repeated => Err(Refusal::KeyRepeated),
        Single::Once(key) if is_key(key) => Ok(key),
        Single::Once(_) => Err(Refusal::KeyInvalid),
    }
}

fn read_origin<'b>(fields: Fields<'_, 'b>, origins: &Origins) -> Result<Option<&'b str>, Refusal> {
    let origin = match fields.single("Origin") {
        Single::Missing => return Ok(None),
        Single::Repeated => return Err(Refusal::OriginRepeated),
        Single::Once(origin) => {
            std::str::from_utf8(origin).map_err(|_| Refusal::OriginNotAllowed)?
        }
    };
    match origins {
        Origins::Any => Ok(Some(origin)),
        Origins::Only(list) if list.iter().any(|known| known.eq_ignore_ascii_case(origin)) => {
            Ok(Some(origin))
        }
        Origins::Only(_) => Err(Refusal::OriginNotAllowed),
    }
}

fn choose_subprotocol<'a>(
    fields: Fields<'_, '_>,
    policy: &'a HandshakePolicy,
) -> Result<Option<&'a str>, Refusal> {
    let mut offered = fields.members("Sec-WebSocket-Protocol").peekable();
    if offered.peek().is_none() {
        return if policy.subprotocol_required {
            Err(Refusal::SubprotocolMissing)
        } else {
            Ok(None)
        };
    }
    if offered.any(|name| name == policy.subprotocol.as_bytes()) {
        Ok(Some(&policy.subprotocol))
    } else {
        Err(Refusal::SubprotocolOther)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_paths_or_urls_with_one() {
        let rows = [
            ("/", Some(("/", None))),
            ("/ws?a=1?b", Some(("/ws", Some("a=1?b")))),
            ("/ws?", Some(("/ws", Some("")))),
            ("//double", Some(("//double", None))),
            ("http://host/ws?x", Some(("/ws", Some("x")))),
            ("WSS://host", Some(("/", None))),
            ("ws://host?x=/", Some(("/", Some("x=/")))),
            ("*", None),
            ("host:80", None),
            ("ftp://host/", None),
            ("/page#part", None),
        ];
        for (target, expected) in rows {
            assert_eq!(split_target(target), expected, "{target}");
        }
    }
}
