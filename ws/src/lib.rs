//! RFC 6455 (the WebSocket protocol) in both roles, as a pure state machine.
//!
//! Bytes in, values out: no socket, clock, thread or source of randomness. What the protocol wants
//! random (mask keys, the client's handshake key) is passed in. No extension is ever negotiated.
//!
//! ```text
//!  received bytes --> handshake::server::read_request  --> Request --> append_response --> bytes
//!                     handshake::client::read_response --> Response
//!
//!  received bytes --> Decoder --> FrameHead, payload --> Session --> Event
//!                     (head, unmasking)        |          (RFC 5.4, 5.5, 7: what may follow what)
//!                                          Assembly  (only what is split or fragmented)
//!
//!  message, ping, pong, close --> encoder --> bytes
//! ```
//!
//! The three kinds of failure: a [`ProtocolError`] is the peer's and has a close code, a
//! [`handshake::Refusal`] is the peer's and has an HTTP answer, and misuse by our own caller
//! panics. No byte a peer can send panics.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod assembly;
mod close;
mod decoder;
pub mod encoder;
mod error;
pub mod handshake;
mod head;
mod mask;
mod session;

pub use close::{CLOSE_REASON_BYTES_MAX, CloseCode, CloseFrame, CloseState, Side};
pub use error::ProtocolError;
pub use head::{
    CONTROL_PAYLOAD_BYTES_MAX, ControlPayload, FrameHead, HEAD_BYTES_MAX, HeadBytes, Opcode,
};
pub use mask::MaskKey;
pub use session::{Event, Session, TextPolicy};

/// Which end of the connection we are. It decides who masks: a client every frame, a server none
/// (RFC 6455 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We accepted the connection: peer frames are masked, ours are not.
    Server,
    /// We opened the connection: our frames are masked, the peer's are not.
    Client,
}
