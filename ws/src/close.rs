//! The closing handshake (RFC 6455 5.5.1 and 7): codes, the close frame's payload, and who has
//! sent what.

use std::fmt;

use crate::error::ProtocolError;
use crate::head::CONTROL_PAYLOAD_BYTES_MAX;

/// Bytes of UTF-8 that fit into a close frame beside its code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// The codes that may stand in a close frame, as inclusive ranges: RFC 6455 7.4.1 without 1004
/// (reserved), 1005 and 1006 (mean "no code" and "no close frame", never sent); then 1012-1014 as
/// registered with IANA later; 1015 (TLS failure) is never sent; 3000-3999 are registered by
/// libraries and 4000-4999 are private (7.4.2).
const SENDABLE: [(u16, u16); 3] = [(1000, 1003), (1007, 1014), (3000, 4999)];

/// A close code that may be sent: one of 1000-1003, 1007-1014 and 3000-4999.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The server goes down, or the page was left.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A kind of message that is not accepted here.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// A payload that contradicts its kind: text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// The peer broke a rule of ours for which there is no better code.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A message above our bound.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// The server did not negotiate an extension that the client needs.
    pub const EXTENSION_MISSING: Self = Self(1010);
    /// We failed for a reason of our own.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The server restarts: reconnect after a random delay (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// The server is overloaded: reconnect later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// The code with this number; `None` if RFC 6455 7.4 forbids to send it.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        let mut row = 0;
        while row < SENDABLE.len() {
            if SENDABLE[row].0 <= number && number <= SENDABLE[row].1 {
                return Some(Self(number));
            }
            row += 1;
        }
        None
    }

    /// The number as it stands in the frame.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

/// What a close frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// `None` if the frame is empty, which RFC 6455 7.1.5 reports as 1005.
    pub code: Option<CloseCode>,
    /// For logs, never for a user's eyes; empty if there is none. At most
    /// [`CLOSE_REASON_BYTES_MAX`] bytes.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads a close frame's unmasked payload.
    ///
    /// # Errors
    /// One byte alone, a code that must not be sent, or a reason that is not UTF-8.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, ProtocolError> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return match payload {
                [] => Ok(Self { code: None, reason: "" }),
                _ => Err(ProtocolError::CloseTruncated),
            };
        };
        let code = u16::from_be_bytes(*code);
        let Some(code) = CloseCode::new(code) else {
            return Err(ProtocolError::CloseCodeInvalid { code });
        };
        match std::str::from_utf8(reason) {
            Ok(reason) => Ok(Self { code: Some(code), reason }),
            Err(_) => Err(ProtocolError::CloseReasonNotUtf8),
        }
    }
}

/// One end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This end.
    Us,
    /// The other end.
    Peer,
}

/// How far the closing handshake has come.
///
/// ```text
///          we send close              peer's close, or its violation
///   Open -----------------> Sent ---------------------------------------> Done { Us }
///    | peer's close
///    +-------------------> Received ----- we send close -----------------> Done { Peer }
///    | peer's violation
///    +-------------------> Failed ------- we send close -----------------> Done { Us }
/// ```
///
/// | state | we may send | what the peer sends |
/// | --- | --- | --- |
/// | `Open` | anything | is read |
/// | `Sent` | nothing | is read: what it sent before it saw our close is still valid |
/// | `Received`, `Failed` | one close frame | is ignored |
/// | `Done` | nothing; the server now closes the socket | is ignored |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseState {
    /// Neither end has closed.
    Open,
    /// We have sent a close frame and wait for the peer's.
    Sent,
    /// The peer has sent a close frame and waits for ours.
    Received,
    /// The peer broke the protocol and has not been told yet.
    Failed,
    /// Nothing more is to be said.
    Done {
        /// Who closed first.
        started_by: Side,
    },
}

impl CloseState {
    /// Whether messages, pings and pongs may still be sent.
    #[must_use]
    pub const fn may_send_messages(self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether a close frame may still be sent, as there is at most one (RFC 6455 5.5.1).
    #[must_use]
    pub const fn may_send_close(self) -> bool {
        matches!(self, Self::Open | Self::Received | Self::Failed)
    }

    /// Whether what the peer sends still matters.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Open | Self::Sent)
    }

    pub(crate) const fn after_sending(self) -> Self {
        match self {
            Self::Open | Self::Sent => Self::Sent,
            Self::Received => Self::Done { started_by: Side::Peer },
            Self::Failed => Self::Done { started_by: Side::Us },
            Self::Done { .. } => self,
        }
    }

    pub(crate) const fn after_receiving(self) -> Self {
        match self {
            Self::Open => Self::Received,
            Self::Sent => Self::Done { started_by: Side::Us },
            Self::Received | Self::Failed | Self::Done { .. } => self,
        }
    }

    pub(crate) const fn after_violation(self) -> Self {
        match self {
            Self::Open => Self::Failed,
            Self::Sent => Self::Done { started_by: Side::Us },
            Self::Received | Self::Failed | Self::Done { .. } => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_codes_of_the_table_may_be_sent() {
        let rows = [
            (0, false),
            (999, false),
            (1000, true),
            (1003, true),
            (1004, false),
            (1005, false),
            (1006, false),
            (1007, true),
            (1014, true),
            (1015, false),
            (1016, false),
            (1100, false),
            (2000, false),
            (2999, false),
            (3000, true),
            (3999, true),
            (4000, true),
            (4999, true),
            (5000, false),
            (65_535, false),
        ];
        for (number, sendable) in rows {
            assert_eq!(CloseCode::new(number).is_some(), sendable, "{number}");
        }
    }

    #[test]
    fn a_close_payload_is_nothing_or_a_code_and_a_reason() {
        let code = CloseCode::new;
        let rows: [(&[u8], Result<CloseFrame<'_>, ProtocolError>); 7] = [
            (b"", Ok(CloseFrame { code: None, reason: "" })),
            (b"\x03", Err(ProtocolError::CloseTruncated)),
            (b"\x03\xe8", Ok(CloseFrame { code: code(1000), reason: "" })),
            (b"\x0f\xa0bye", Ok(CloseFrame { code: code(4000), reason: "bye" })),
            (b"\x03\xed", Err(ProtocolError::CloseCodeInvalid { code: 1005 })),
            (b"\x00\x00x", Err(ProtocolError::CloseCodeInvalid { code: 0 })),
            (b"\x03\xe8\xff", Err(ProtocolError::CloseReasonNotUtf8)),
        ];
        for (payload, expected) in rows {
            assert_eq!(CloseFrame::parse(payload), expected, "{payload:?}");
        }
    }
}
