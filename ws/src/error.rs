//! What a peer can do wrong once the connection is a WebSocket, and the close code of each.

use crate::close::CloseCode;

/// The peer broke the protocol or one of our limits. The connection is failed (RFC 6455 7.1.7):
/// send a close frame with [`ProtocolError::close_code`] and the text of this error, then close.
///
/// Each text fits into a close frame's reason, and says what was wrong and what the peer must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A bit that only an extension gives meaning (RFC 6455 5.2).
    #[error("reserved bits {bits:#05b} are set in a frame head; no extension was negotiated")]
    ReservedBits {
        /// RSV1 to RSV3 as the three lowest bits, RSV1 the highest of them.
        bits: u8,
    },
    /// An opcode that RFC 6455 5.2 reserves.
    #[error("opcode {opcode:#x} is reserved; use 0x0-0x2 or 0x8-0xA")]
    ReservedOpcode {
        /// The four bits of the opcode.
        opcode: u8,
    },
    /// A control frame without FIN (RFC 6455 5.5).
    #[error("a control frame is fragmented; send it in one frame with FIN")]
    ControlFragmented,
    /// A control frame whose length needs more than seven bits (RFC 6455 5.5).
    #[error("a control frame announces more than 125 payload bytes; shorten it")]
    ControlTooLong,
    /// A client's frame without a mask (RFC 6455 5.1).
    #[error("a client's frame is not masked; mask every frame with a fresh key")]
    MaskMissing,
    /// A server's frame with a mask (RFC 6455 5.1).
    #[error("a server's frame is masked; a server masks none")]
    MaskUnexpected,
    /// A 16- or 64-bit length for a value that a shorter form holds (RFC 6455 5.2).
    #[error("payload length {bytes} is not in its shortest form; use the shortest")]
    LengthNotMinimal {
        /// The announced length.
        bytes: u64,
    },
    /// A 64-bit length with the highest bit set (RFC 6455 5.2).
    #[error("the highest bit of a 64-bit payload length is set; it must be 0")]
    LengthTopBit,
    /// A continuation frame while no message is open (RFC 6455 5.4).
    #[error("a continuation frame without a message to continue; start one with opcode 1 or 2")]
    ContinuationWithoutStart,
    /// A text or binary frame while a fragmented message is open (RFC 6455 5.4).
    #[error("a new message began within a fragmented one; finish that with continuation frames")]
    MessageInterrupted,
    /// A text frame where only binary messages are spoken.
    #[error("text messages are not accepted; send binary ones")]
    TextRefused,
    /// A message longer than this connection's bound; known from the frame's head.
    #[error("a message of at least {bytes} bytes exceeds the limit of {bytes_max}; send less")]
    MessageTooBig {
        /// Bytes of the message as far as announced.
        bytes: u64,
        /// The bound it exceeds.
        bytes_max: u32,
    },
    /// Text that is not UTF-8 (RFC 6455 8.1).
    #[error("a text message is not UTF-8 at byte {offset}; encode text as UTF-8")]
    TextNotUtf8 {
        /// Bytes of the message before the first wrong sequence.
        offset: usize,
    },
    /// A close frame with one byte of payload: half a code (RFC 6455 5.5.1).
    #[error("a close frame has one payload byte; send none, or a code of two bytes and a reason")]
    CloseTruncated,
    /// A close code that must not be sent (RFC 6455 7.4).
    #[error("close code {code} must not be sent; use 1000-1003, 1007-1014 or 3000-4999")]
    CloseCodeInvalid {
        /// The code as received.
        code: u16,
    },
    /// A close reason that is not UTF-8 (RFC 6455 5.5.1).
    #[error("the reason of a close frame is not UTF-8; encode it as UTF-8")]
    CloseReasonNotUtf8,
}

impl ProtocolError {
    /// The code for the close frame that answers this error: the one table of them.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits { .. }
            | Self::ReservedOpcode { .. }
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::MaskMissing
            | Self::MaskUnexpected
            | Self::LengthNotMinimal { .. }
            | Self::LengthTopBit
            | Self::ContinuationWithoutStart
            | Self::MessageInterrupted
            | Self::CloseTruncated
            | Self::CloseCodeInvalid { .. } => CloseCode::PROTOCOL_ERROR,
            Self::TextRefused => CloseCode::UNSUPPORTED_DATA,
            Self::TextNotUtf8 { .. } | Self::CloseReasonNotUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig { .. } => CloseCode::MESSAGE_TOO_BIG,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CLOSE_REASON_BYTES_MAX;

    #[test]
    fn every_text_fits_into_a_close_frame_even_with_the_longest_numbers() {
        use ProtocolError::*;
        let longest = [
            ReservedBits { bits: 7 },
            ReservedOpcode { opcode: 15 },
            ControlFragmented,
            ControlTooLong,
            MaskMissing,
            MaskUnexpected,
            LengthNotMinimal { bytes: 65_535 },
            LengthTopBit,
            ContinuationWithoutStart,
            MessageInterrupted,
            TextRefused,
            MessageTooBig { bytes: u64::MAX, bytes_max: u32::MAX },
            TextNotUtf8 { offset: usize::MAX },
            CloseTruncated,
            CloseCodeInvalid { code: u16::MAX },
            CloseReasonNotUtf8,
        ];
        for error in longest {
            let text = error.to_string();
            assert!(text.len() <= CLOSE_REASON_BYTES_MAX, "{} bytes: {text}", text.len());
        }
    }
}
