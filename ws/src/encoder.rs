//! Values to bytes. A frame's head is built in an array and its payload appended once; a server's
//! frame depends on nothing of the connection, so one encoding serves every recipient.
//!
//! `mask` is a fresh random key for each frame of a client, and `None` for a server.
//!
//! All functions panic if `out` cannot grow and has less room than [`frame_bytes`] says, as
//! [`BufMut::put_slice`] does.

use bytes::BufMut;

use crate::close::{CLOSE_REASON_BYTES_MAX, CloseCode};
use crate::head::{CONTROL_PAYLOAD_BYTES_MAX, ControlPayload, FrameHead, Opcode};
use crate::mask::MaskKey;

/// Bytes that are masked at a time on their way into a buffer that cannot be written in place;
/// a multiple of the key's length.
const MASK_BLOCK_BYTES: usize = 256;
const _: () = assert!(MASK_BLOCK_BYTES.is_multiple_of(4));

/// Bytes of a frame with this payload.
#[must_use]
pub const fn frame_bytes(payload_bytes: usize, masked: bool) -> usize {
    let length_bytes = match payload_bytes {
        0..=125 => 0,
        126..=65_535 => 2,
        _ => 8,
    };
    2 + length_bytes + if masked { 4 } else { 0 } + payload_bytes
}

/// Appends a whole binary message.
pub fn append_binary(out: &mut impl BufMut, payload: &[u8], mask: Option<MaskKey>) {
    append_frame(out, Opcode::Binary, true, payload, mask);
}

/// Appends a whole text message.
pub fn append_text(out: &mut impl BufMut, text: &str, mask: Option<MaskKey>) {
    append_frame(out, Opcode::Text, true, text.as_bytes(), mask);
}

/// Appends a ping.
pub fn append_ping(out: &mut impl BufMut, payload: ControlPayload<'_>, mask: Option<MaskKey>) {
    append_frame(out, Opcode::Ping, true, payload.get(), mask);
}

/// Appends a pong: with the payload of the ping that it answers (RFC 6455 5.5.3).
pub fn append_pong(out: &mut impl BufMut, payload: ControlPayload<'_>, mask: Option<MaskKey>) {
    append_frame(out, Opcode::Pong, true, payload.get(), mask);
}

/// Appends a close frame. The reason is cut to [`CLOSE_REASON_BYTES_MAX`] bytes, between two
/// characters; without a code there can be none and it is left out (RFC 6455 5.5.1).
///
/// [`crate::Session::close`] also keeps the session's state.
pub fn append_close(
    out: &mut impl BufMut,
    code: Option<CloseCode>,
    reason: &str,
    mask: Option<MaskKey>,
) {
    let mut payload = [0; CONTROL_PAYLOAD_BYTES_MAX];
    let mut length = 0;
    if let Some(code) = code {
        let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
        length = 2 + reason.len();
        payload[..2].copy_from_slice(&code.get().to_be_bytes());
        payload[2..length].copy_from_slice(reason.as_bytes());
    }
    append_frame(out, Opcode::Close, true, &payload[..length], mask);
}

/// Appends one frame, of a fragmented message too. The caller keeps to RFC 6455 5.4: the first
/// fragment has the message's opcode, the others [`Opcode::Continuation`], the last `fin`.
///
/// # Panics
/// If a control frame is fragmented or longer than [`CONTROL_PAYLOAD_BYTES_MAX`].
pub fn append_frame(
    out: &mut impl BufMut,
    opcode: Opcode,
    fin: bool,
    payload: &[u8],
    mask: Option<MaskKey>,
) {
    if opcode.is_control() {
        assert!(fin, "a control frame is never fragmented");
        assert!(payload.len() <= CONTROL_PAYLOAD_BYTES_MAX, "a control frame is short");
    }
    let head = FrameHead { fin, opcode, payload_bytes: payload.len() as u64, mask }.to_bytes();
    debug_assert_eq!(head.len() + payload.len(), frame_bytes(payload.len(), mask.is_some()));
    out.put_slice(&head);
    match mask {
        None => out.put_slice(payload),
        Some(key) => append_masked(out, payload, key),
    }
}

fn append_masked(out: &mut impl BufMut, payload: &[u8], key: MaskKey) {
    let mut block = [0; MASK_BLOCK_BYTES];
    for part in payload.chunks(MASK_BLOCK_BYTES) {
        let masked = &mut block[..part.len()];
        masked.copy_from_slice(part);
        key.apply(masked);
        out.put_slice(masked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(append: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        append(&mut out);
        out
    }

    #[test]
    fn a_close_reason_is_cut_between_characters_to_what_fits() {
        // Name, reason, bytes of it that are sent.
        let rows = [
            ("empty", String::new(), 0),
            ("fits", "x".repeat(123), 123),
            ("one too many", "x".repeat(124), 123),
            ("two-byte characters", "é".repeat(62), 122),
            ("four-byte characters", "😀".repeat(40), 120),
        ];
        for (name, reason, sent) in rows {
            let frame = encoded(|out| append_close(out, Some(CloseCode::NORMAL), &reason, None));
            assert_eq!(frame[..4], [0x88, u8::try_from(2 + sent).unwrap(), 0x03, 0xe8], "{name}");
            assert_eq!(&frame[4..], &reason.as_bytes()[..sent], "{name}");
        }
    }

    #[test]
    fn a_close_without_a_code_has_no_payload() {
        assert_eq!(encoded(|out| append_close(out, None, "lost", None)), [0x88, 0]);
    }

    #[test]
    fn masked_and_plain_frames_differ_by_the_mask_alone_at_every_length() {
        let key = MaskKey([0xde, 0xad, 0xbe, 0xef]);
        let lengths = [0, 1, 125, 126, 255, 256, 257, 1000, 65_535, 65_536];
        // Under Miri a byte takes microseconds.
        for &length in &lengths[..if cfg!(miri) { 7 } else { lengths.len() }] {
            let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
            let plain = encoded(|out| append_binary(out, &payload, None));
            let mut masked = encoded(|out| append_binary(out, &payload, Some(key)));
            assert_eq!(plain.len(), frame_bytes(length, false), "{length}");
            assert_eq!(masked.len(), frame_bytes(length, true), "{length}");
            let head_bytes = masked.len() - length;
            assert_eq!(masked[head_bytes - 4..head_bytes], key.0, "{length}");
            key.apply(&mut masked[head_bytes..]);
            assert_eq!(masked[head_bytes..], payload, "{length}");
            assert_eq!(plain[plain.len() - length..], payload, "{length}");
        }
    }
}
