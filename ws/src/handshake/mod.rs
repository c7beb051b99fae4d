//! The opening handshake (RFC 6455 4): one HTTP/1.1 exchange, then the connection is a WebSocket.
//!
//! Both readers are pure functions over all bytes received so far: while they say
//! [`Progress::Incomplete`], call again with more. That parses a head again for each read it is
//! split into, which is bounded by the head's limit and happens to one connection once.

pub mod client;
mod fields;
pub mod refusal;
pub mod server;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

pub use client::{ClientRequest, RequestError, Response, ResponseRefusal, read_response};
pub use refusal::{Refusal, Unparsable};
pub use server::{HandshakePolicy, Origins, Request, read_request};

/// Header fields that a head may have. Browsers send about fifteen and proxies add some; the table
/// of them lies on the stack.
pub const FIELDS_MAX: usize = 64;

/// The default bound on a head in bytes: what common servers allow for all header fields.
pub const HEAD_BYTES_MAX_DEFAULT: usize = 8 * 1024;

/// The one version of the protocol (RFC 6455 4.1).
const VERSION: &str = "13";

/// How far a head has been received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// Call again with more bytes.
    Incomplete,
    /// The head is complete and acceptable.
    Complete(T),
}

/// What `Sec-WebSocket-Accept` must be: proof that the server read the client's key (RFC 6455
/// 4.2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct AcceptKey([u8; 28]);

impl AcceptKey {
    /// For the key as it stands in the request: 24 bytes of base64.
    pub(crate) fn for_key(key: &[u8]) -> Self {
        const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        let mut accept = [0; 28];
        let written = STANDARD.encode_slice(digest, &mut accept);
        assert_eq!(written, Ok(accept.len()), "20 bytes are 28 in base64");
        Self(accept)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

/// A client's key as it stands in the request.
fn encode_key(key: [u8; 16]) -> [u8; 24] {
    let mut text = [0; 24];
    let written = STANDARD.encode_slice(key, &mut text);
    assert_eq!(written, Ok(text.len()), "16 bytes are 24 in base64");
    text
}

/// Whether this is a client's key: 16 bytes in base64.
fn is_key(text: &[u8]) -> bool {
    // Room for 24 characters' worth: a longer text fails for lack of it.
    let mut key = [0; 18];
    STANDARD.decode_slice(text, &mut key) == Ok(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455_section_1_3() {
        let key = b"dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(AcceptKey::for_key(key).as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(&encode_key(*b"the sample nonce"), key);
    }

    #[test]
    fn a_key_is_sixteen_bytes_of_base64_and_nothing_else() {
        let rows: [(&[u8], bool); 8] = [
            (b"dGhlIHNhbXBsZSBub25jZQ==", true),
            (b"", false),
            (b"dGhlIHNhbXBsZSBub25jZQ", false),   // no padding
            (b"dGhlIHNhbXBsZSBub25j", false),     // 15 bytes
            (b"dGhlIHNhbXBsZSBub25jZSE=", false), // 17 bytes
            (b"dGhlIHNhbXBsZSBub25jZSEhISEhISEh", false), // 24 bytes
            (b"dGhlIHNhbXBsZSBub25jZ*==", false), // not the alphabet
            (b"dGhlIHNhbXBsZSBub25jZR==", false), // bits beyond the last byte
        ];
        for (text, expected) in rows {
            assert_eq!(is_key(text), expected, "{}", text.escape_ascii());
        }
    }
}
