//! The client's side of the opening handshake (RFC 6455 4.1).

use bytes::BufMut;
use httparse::Status;

use super::fields::{Fields, Single};
use super::{AcceptKey, FIELDS_MAX, HEAD_BYTES_MAX_DEFAULT, Progress, VERSION, encode_key};

/// What is asked of a server. The same value reads the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRequest<'a> {
    /// The server's name, with its port if that is not the scheme's own.
    pub host: &'a str,
    /// Path and query; begins with `/`.
    pub target: &'a str,
    /// 16 random bytes, fresh for each connection.
    pub key: [u8; 16],
    /// The subprotocol to offer; then a server that does not choose it is refused.
    pub subprotocol: Option<&'a str>,
    /// Further fields, such as `Origin` or `Authorization`. None of those that the handshake itself
    /// sends.
    pub fields: &'a [(&'a str, &'a str)],
}

/// A part of the request cannot be sent: it would end its line or the head early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The host is empty, or not printable ASCII without spaces.
    #[error("the host must be a name or an address, of printable ASCII without spaces")]
    Host,
    /// The target does not begin with `/`, or is not printable ASCII without spaces.
    #[error("the target must begin with `/` and be printable ASCII; encode the rest with %")]
    Target,
    /// The subprotocol is not a token.
    #[error("the subprotocol must be a token: letters, digits and !#$%&'*+-.^_`|~")]
    Subprotocol,
    /// The name of a further field is not a token.
    #[error("the name of header field {index} must be a token: letters, digits, !#$%&'*+-.^_`|~")]
    FieldName {
        /// Its place in [`ClientRequest::fields`].
        index: usize,
    },
    /// The value of a further field has control characters.
    #[error("the value of header field {index} has control characters, such as a line's end")]
    FieldValue {
        /// Its place in [`ClientRequest::fields`].
        index: usize,
    },
}

/// The server's answer is not the WebSocket that was asked for: close the connection (RFC 6455
/// 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseRefusal {
    /// The bytes are not the head of an HTTP/1.1 response.
    #[error("the answer is not HTTP/1.1 ({0}); is this a WebSocket server's port?")]
    Unparsable(httparse::Error),
    /// HTTP/1.0.
    #[error("the answer is HTTP/1.0; a WebSocket needs HTTP/1.1 on the whole way")]
    HttpVersion,
    /// The head is longer than [`HEAD_BYTES_MAX_DEFAULT`].
    #[error("the head of the answer exceeds {HEAD_BYTES_MAX_DEFAULT} bytes")]
    HeadTooLarge,
    /// Not 101.
    #[error("the server answered {status} instead of 101; its text says why")]
    Status {
        /// The status code.
        status: u16,
        /// Where the text begins that says why.
        head_bytes: usize,
    },
    /// `Upgrade` is not `websocket`.
    #[error("`Upgrade` of the answer is not `websocket`")]
    Upgrade,
    /// `Connection` does not name `Upgrade`.
    #[error("`Connection` of the answer does not name `Upgrade`")]
    Connection,
    /// No `Sec-WebSocket-Accept`, or several.
    #[error("`Sec-WebSocket-Accept` of the answer does not stand exactly once")]
    AcceptMissing,
    /// `Sec-WebSocket-Accept` does not belong to our key.
    #[error("`Sec-WebSocket-Accept` does not belong to our key; is a cache on the way?")]
    AcceptMismatch,
    /// An extension, though none was asked for.
    #[error("the server uses an extension that was not offered")]
    ExtensionNotAsked,
    /// A subprotocol that was not offered, or several.
    #[error("the server chose a subprotocol that was not offered")]
    SubprotocolNotAsked,
    /// A subprotocol was offered, and the server chose none.
    #[error("the server does not speak the offered subprotocol")]
    SubprotocolMissing,
}

/// The connection is a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Bytes of the head. What was received beyond them are the first frames.
    pub head_bytes: usize,
}

impl ClientRequest<'_> {
    /// Appends the request.
    ///
    /// # Errors
    /// A part that cannot stand where it would; then nothing is appended.
    ///
    /// # Panics
    /// If `out` cannot grow and is full.
    pub fn append(&self, out: &mut impl BufMut) -> Result<(), RequestError> {
        self.check()?;
        let mut put = |parts: &[&str]| parts.iter().for_each(|part| out.put_slice(part.as_bytes()));
        let key = encode_key(self.key);
        let key = std::str::from_utf8(&key).expect("base64 is ASCII");
        put(&["GET ", self.target, " HTTP/1.1\r\nHost: ", self.host]);
        put(&["\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ", key]);
        put(&["\r\nSec-WebSocket-Version: ", VERSION, "\r\n"]);
        if let Some(subprotocol) = self.subprotocol {
            put(&["Sec-WebSocket-Protocol: ", subprotocol, "\r\n"]);
        }
        for (name, value) in self.fields {
            put(&[name, ": ", value, "\r\n"]);
        }
        put(&["\r\n"]);
        Ok(())
    }

    fn check(&self) -> Result<(), RequestError> {
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if self.host.is_empty() || !is_visible(self.host) {
            return Err(RequestError::Host);
        }
        if !self.target.starts_with('/') || !is_visible(self.target) || self.target.contains('#') {
            return Err(RequestError::Target);
        }
        if self.subprotocol.is_some_and(|name| !is_token(name)) {
            return Err(RequestError::Subprotocol);
        }
        for (index, (name, value)) in self.fields.iter().enumerate() {
            if !is_token(name) {
                return Err(RequestError::FieldName { index });
            }
            if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                return Err(RequestError::FieldValue { index });
            }
        }
        Ok(())
    }
}

/// Reads the response to `request` from all bytes `received` so far. The verdict does not depend on
/// how the bytes were split into reads.
///
/// # Errors
/// The first thing that is wrong. Close the connection.
pub fn read_response(
    received: &[u8],
    request: &ClientRequest<'_>,
) -> Result<Progress<Response>, ResponseRefusal> {
    let within_bound = &received[..received.len().min(HEAD_BYTES_MAX_DEFAULT)];
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let head_bytes = match response.parse(within_bound) {
        Ok(Status::Complete(head_bytes)) => head_bytes,
        Ok(Status::Partial) if within_bound.len() < received.len() => {
            return Err(ResponseRefusal::HeadTooLarge);
        }
        Ok(Status::Partial) => return Ok(Progress::Incomplete),
        Err(error) => return Err(ResponseRefusal::Unparsable(error)),
    };
    if response.version != Some(1) {
        return Err(ResponseRefusal::HttpVersion);
    }
    match response.code {
        Some(101) => {}
        status => {
            let status = status.expect("a complete head has a status");
            return Err(ResponseRefusal::Status { status, head_bytes });
        }
    }
    check_fields(Fields(response.headers), request)?;
    Ok(Progress::Complete(Response { head_bytes }))
}

/// RFC 6455 4.1, points 2 to 6 of what the client must validate.
fn check_fields(
    fields: Fields<'_, '_>,
    request: &ClientRequest<'_>,
) -> Result<(), ResponseRefusal> {
    match fields.single("Upgrade") {
        Single::Once(value) if value.eq_ignore_ascii_case(b"websocket") => {}
        Single::Missing | Single::Once(_) | Single::Repeated => {
            return Err(ResponseRefusal::Upgrade);
        }
    }
    if !fields.has_member("Connection", "Upgrade") {
        return Err(ResponseRefusal::Connection);
    }
    match fields.single("Sec-WebSocket-Accept") {
        Single::Once(value) if value == AcceptKey::for_key(&encode_key(request.key)).as_bytes() => {
        }
        Single::Once(_) => return Err(ResponseRefusal::AcceptMismatch),
        Single::Missing | Single::Repeated => return Err(ResponseRefusal::AcceptMissing),
    }
    if fields.members("Sec-WebSocket-Extensions").next().is_some() {
        return Err(ResponseRefusal::ExtensionNotAsked);
    }
    match (fields.single("Sec-WebSocket-Protocol"), request.subprotocol) {
        (Single::Missing, None) => Ok(()),
        (Single::Once(chosen), Some(asked)) if chosen == asked.as_bytes() => Ok(()),
        (Single::Missing, Some(_)) => Err(ResponseRefusal::SubprotocolMissing),
        (Single::Once(_) | Single::Repeated, _) => Err(ResponseRefusal::SubprotocolNotAsked),
    }
}

/// RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}
