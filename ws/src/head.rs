//! A frame's head (RFC 6455 5.2): up to 14 bytes before the payload.
//!
//! ```text
//!  byte 0            byte 1            then
//! +-+-+-+-+-------+ +-+-------------+ +-------------------+ +---------------+
//! |F|R|R|R|opcode | |M| length (7)  | | length (0, 16, 64)| | key (0 or 32) |
//! +-+-+-+-+-------+ +-+-------------+ +-------------------+ +---------------+
//!  FIN, RSV1-3       MASK              if length is 126, 127  if MASK
//! ```

use crate::Role;
use crate::error::ProtocolError;
use crate::mask::MaskKey;

/// Bytes of the longest head: two, a 64-bit length and a key.
pub const HEAD_BYTES_MAX: usize = 2 + 8 + 4;

/// Bytes of payload that a control frame may carry: what a seven-bit length holds (RFC 6455 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// Marks in the seven-bit length that a longer one follows.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// What a frame is (RFC 6455 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further part of the fragmented message.
    Continuation = 0x0,
    /// A text message, or its first part.
    Text = 0x1,
    /// A binary message, or its first part.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping, or stands alone as a sign of life.
    Pong = 0xa,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Close, ping and pong: short, never fragmented, allowed between fragments.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The frame is its message's last.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// Bytes of payload that follow.
    pub payload_bytes: u64,
    /// The key of the payload; present in every frame of a client and in none of a server.
    pub mask: Option<MaskKey>,
}

impl FrameHead {
    /// Reads a head from the front of `bytes`, received in `role`: it and its length, or `None`
    /// while more bytes are needed. The verdict does not depend on how many bytes follow: what is
    /// wrong with the first byte is said when only that has come.
    ///
    /// # Errors
    /// Reserved bits and opcodes, a control frame that is fragmented or long, a mask where none may
    /// be or none where one must be, and a length with its top bit set or in a form longer than
    /// needed. RFC 6455 5.2 says "MUST" for the last as well, so it is refused, though many
    /// implementations let it pass: two spellings of one frame serve only those who look for
    /// differences between parsers.
    pub fn parse(bytes: &[u8], role: Role) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let (fin, opcode) = parse_first(first)?;
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        let masked = second & MASK != 0;
        match (role, masked) {
            (Role::Server, false) => return Err(ProtocolError::MaskMissing),
            (Role::Client, true) => return Err(ProtocolError::MaskUnexpected),
            (Role::Server, true) | (Role::Client, false) => {}
        }
        if opcode.is_control() && usize::from(second & LENGTH) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(ProtocolError::ControlTooLong);
        }
        let Some((payload_bytes, rest)) = parse_length(second & LENGTH, rest)? else {
            return Ok(None);
        };
        let (mask, rest) = if masked {
            let Some((key, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (Some(MaskKey(*key)), rest)
        } else {
            (None, rest)
        };
        Ok(Some((Self { fin, opcode, payload_bytes, mask }, bytes.len() - rest.len())))
    }

    /// The head as it is sent, with its length in the shortest form.
    #[must_use]
    pub fn to_bytes(self) -> HeadBytes {
        let mut head = HeadBytes { bytes: [0; HEAD_BYTES_MAX], length: 0 };
        head.push(&[if self.fin { FIN } else { 0 } | self.opcode as u8]);
        let mask = if self.mask.is_some() { MASK } else { 0 };
        if let Ok(short @ 0..LENGTH_16) = u8::try_from(self.payload_bytes) {
            head.push(&[mask | short]);
        } else if let Ok(medium) = u16::try_from(self.payload_bytes) {
            head.push(&[mask | LENGTH_16]);
            head.push(&medium.to_be_bytes());
        } else {
            head.push(&[mask | LENGTH_64]);
            head.push(&self.payload_bytes.to_be_bytes());
        }
        if let Some(key) = self.mask {
            head.push(&key.0);
        }
        head
    }
}

fn parse_first(byte: u8) -> Result<(bool, Opcode), ProtocolError> {
    if byte & RESERVED != 0 {
        return Err(ProtocolError::ReservedBits { bits: (byte & RESERVED) >> 4 });
    }
    let Some(opcode) = Opcode::from_bits(byte & OPCODE) else {
        return Err(ProtocolError::ReservedOpcode { opcode: byte & OPCODE });
    };
    let fin = byte & FIN != 0;
    if opcode.is_control() && !fin {
        return Err(ProtocolError::ControlFragmented);
    }
    Ok((fin, opcode))
}

/// The payload's length and what follows it; `None` while its bytes are incomplete.
fn parse_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, ProtocolError> {
    let (bytes, least, rest) = match short {
        LENGTH_16 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*length)), u64::from(LENGTH_16), rest)
        }
        LENGTH_64 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*length), u64::from(u16::MAX) + 1, rest)
        }
        _ => (u64::from(short), 0, rest),
    };
    if bytes >> 63 != 0 {
        return Err(ProtocolError::LengthTopBit);
    }
    if bytes < least {
        return Err(ProtocolError::LengthNotMinimal { bytes });
    }
    Ok(Some((bytes, rest)))
}

/// A head as it is sent: up to [`HEAD_BYTES_MAX`] bytes, without an allocation. Dereferences to
/// its bytes.
#[derive(Clone, Copy, Debug)]
pub struct HeadBytes {
    bytes: [u8; HEAD_BYTES_MAX],
    length: u8,
}

impl HeadBytes {
    fn push(&mut self, part: &[u8]) {
        let start = usize::from(self.length);
        self.bytes[start..start + part.len()].copy_from_slice(part);
        self.length += u8::try_from(part.len()).expect("a part of a head has at most 8 bytes");
    }
}

impl std::ops::Deref for HeadBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What a ping or pong carries: at most [`CONTROL_PAYLOAD_BYTES_MAX`] bytes, so that answering a
/// ping cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPayload<'a>(&'a [u8]);

impl<'a> ControlPayload<'a> {
    /// No bytes.
    pub const EMPTY: Self = Self(&[]);

    /// These bytes; `None` if they are more than a control frame may carry.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() <= CONTROL_PAYLOAD_BYTES_MAX { Some(Self(bytes)) } else { None }
    }

    /// The bytes.
    #[must_use]
    pub const fn get(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed = Result<Option<(FrameHead, usize)>, ProtocolError>;

    fn head(opcode: Opcode, payload_bytes: u64) -> FrameHead {
        FrameHead { fin: true, opcode, payload_bytes, mask: None }
    }

    fn whole(head: FrameHead, length: usize) -> Parsed {
        Ok(Some((head, length)))
    }

    #[test]
    fn heads_are_read_as_rfc_6455_section_5_2_says() {
        use Opcode::{Binary, Continuation, Ping, Text};
        let rows: [(&str, &[u8], Parsed); 17] = [
            ("nothing", &[], Ok(None)),
            ("half", &[0x82], Ok(None)),
            ("empty", &[0x82, 0], whole(head(Binary, 0), 2)),
            ("125", &[0x81, 125], whole(head(Text, 125), 2)),
            ("126", &[0x82, 126, 0, 126], whole(head(Binary, 126), 4)),
            ("126, cut", &[0x82, 126, 0], Ok(None)),
            ("65535", &[0x82, 126, 255, 255], whole(head(Binary, 65_535), 4)),
            ("65536", &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], whole(head(Binary, 65_536), 10)),
            ("first fragment", &[0x02, 1], whole(FrameHead { fin: false, ..head(Binary, 1) }, 2)),
            ("last fragment", &[0x80, 1], whole(head(Continuation, 1), 2)),
            ("ping", &[0x89, 125], whole(head(Ping, 125), 2)),
            ("reserved bits", &[0xc2], Err(ProtocolError::ReservedBits { bits: 0b100 })),
            ("reserved opcode", &[0x8b], Err(ProtocolError::ReservedOpcode { opcode: 0xb })),
            ("fragmented ping", &[0x09], Err(ProtocolError::ControlFragmented)),
            ("long ping", &[0x89, 126], Err(ProtocolError::ControlTooLong)),
            (
                "125 in 16 bits",
                &[0x82, 126, 0, 125],
                Err(ProtocolError::LengthNotMinimal { bytes: 125 }),
            ),
            (
                "65535 in 64 bits",
                &[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255],
                Err(ProtocolError::LengthNotMinimal { bytes: 65_535 }),
            ),
        ];
        for (name, bytes, expected) in rows {
            assert_eq!(FrameHead::parse(bytes, Role::Client), expected, "{name}");
        }
        let top_bit = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(FrameHead::parse(&top_bit, Role::Client), Err(ProtocolError::LengthTopBit));
    }

    #[test]
    fn every_reserved_opcode_is_refused_and_no_other() {
        for bits in 0..16 {
            let expected = matches!(bits, 0..=2 | 8..=10);
            assert_eq!(parse_first(FIN | bits).is_ok(), expected, "{bits:#x}");
        }
    }

    #[test]
    fn who_must_mask_and_who_must_not() {
        let rows = [
            (Role::Server, 0x80, None),
            (Role::Server, 0x00, Some(ProtocolError::MaskMissing)),
            (Role::Client, 0x00, None),
            (Role::Client, 0x80, Some(ProtocolError::MaskUnexpected)),
        ];
        for (role, mask, expected) in rows {
            assert_eq!(FrameHead::parse(&[0x82, mask], role).err(), expected, "{role:?} {mask}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_at_every_length_of_interest() {
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, u64::from(u32::MAX), (1 << 63) - 1];
        for payload_bytes in lengths {
            for (role, mask) in [(Role::Client, None), (Role::Server, Some(MaskKey([1, 2, 3, 4])))]
            {
                for fin in [false, true] {
                    let head = FrameHead { fin, opcode: Opcode::Binary, payload_bytes, mask };
                    let bytes = head.to_bytes();
                    for cut in 0..bytes.len() {
                        assert_eq!(FrameHead::parse(&bytes[..cut], role), Ok(None));
                    }
                    assert_eq!(FrameHead::parse(&bytes, role), whole(head, bytes.len()));
                }
            }
        }
    }
}
