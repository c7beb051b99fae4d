//! The one place that copies payloads: messages whose bytes do not lie together in one input.
//!
//! ```text
//!   bytes:  | message, as far as received        | control frame, as far as received |
//!           0             utf8_checked      message                        bytes.len()
//! ```
//!
//! A control frame may stand between two fragments, never within one (RFC 6455 5.4), so while it is
//! incomplete the message does not grow, and the two share one buffer.
//!
//! Memory. Nothing is allocated before bytes are there that must be kept, and growth is by doubling
//! of what has arrived, not by what a head announces: a peer that announces much and sends little
//! holds little. The capacity is at most the bound on a message plus one control payload. The
//! buffer is reused for as long as inputs end within a message; at the first input that ends
//! between two messages it is given back, so an idle connection holds none.

use crate::error::ProtocolError;

/// See the module's head. `utf8_checked <= message <= bytes.len()`.
#[derive(Clone, Debug)]
pub(crate) struct Assembly {
    bytes: Vec<u8>,
    /// Bytes of the message.
    message: u32,
    /// Bytes of the message that are known to be UTF-8; only moved for text.
    utf8_checked: u32,
}

impl Assembly {
    pub(crate) const fn new() -> Self {
        Self { bytes: Vec::new(), message: 0, utf8_checked: 0 }
    }

    /// Bytes of the message so far.
    pub(crate) const fn message_bytes(&self) -> u32 {
        self.message
    }

    /// Bytes of heap.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn message(&self) -> &[u8] {
        &self.bytes[..self.message as usize]
    }

    pub(crate) fn control(&self) -> &[u8] {
        &self.bytes[self.message as usize..]
    }

    /// Adds to the message, which will not become longer than `message_bytes_max`.
    pub(crate) fn append_message(&mut self, chunk: &[u8], message_bytes_max: u32) {
        assert!(self.control().is_empty(), "a message grew within a control frame");
        self.append(chunk, message_bytes_max as usize);
        self.message = u32::try_from(self.bytes.len()).expect("bounded by message_bytes_max");
        self.check();
    }

    /// Adds to the control frame, which will not become longer than `control_bytes`.
    pub(crate) fn append_control(&mut self, chunk: &[u8], control_bytes_max: usize) {
        self.append(chunk, self.message as usize + control_bytes_max);
        self.check();
    }

    /// Doubles, but never beyond `bytes_max`, which the caller has checked to be enough.
    fn append(&mut self, chunk: &[u8], bytes_max: usize) {
        let needed = self.bytes.len() + chunk.len();
        assert!(needed <= bytes_max, "a frame was admitted beyond the bound");
        if needed > self.bytes.capacity() {
            let target = needed.max(bytes_max.min(self.bytes.capacity() * 2));
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
    }

    /// Checks what has been added to a text message; with `complete`, that it does not end within
    /// a character.
    ///
    /// # Errors
    /// [`ProtocolError::TextNotUtf8`], as early as the bytes allow.
    pub(crate) fn check_utf8(&mut self, complete: bool) -> Result<(), ProtocolError> {
        let checked = self.utf8_checked as usize;
        let valid = match std::str::from_utf8(&self.message()[checked..]) {
            Ok(text) => checked + text.len(),
            Err(error) => {
                let offset = checked + error.valid_up_to();
                // Without a length the bytes end within a character that may yet become valid.
                if complete || error.error_len().is_some() {
                    return Err(ProtocolError::TextNotUtf8 { offset });
                }
                offset
            }
        };
        self.utf8_checked = u32::try_from(valid).expect("at most `message`, a u32");
        self.check();
        Ok(())
    }

    pub(crate) fn forget_message(&mut self) {
        self.bytes.clear();
        self.message = 0;
        self.utf8_checked = 0;
    }

    pub(crate) fn forget_control(&mut self) {
        self.bytes.truncate(self.message as usize);
    }

    /// Forgets everything and gives the buffer back.
    pub(crate) fn release(&mut self) {
        *self = Self::new();
    }

    fn check(&self) {
        assert!(self.utf8_checked <= self.message);
        assert!(self.message as usize <= self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_follows_what_has_arrived_and_ends_at_the_bound() {
        let mut assembly = Assembly::new();
        assert_eq!(assembly.held_bytes(), 0);
        for arrived in 1..=1000 {
            assembly.append_message(b"x", 1000);
            let held = assembly.held_bytes();
            assert!(held <= 2 * arrived && held <= 1000, "{held} held, {arrived} arrived");
        }
    }

    #[test]
    fn a_control_frame_between_fragments_leaves_the_message_alone() {
        let mut assembly = Assembly::new();
        assembly.append_message(b"Hel", 100);
        assembly.append_control(b"pi", 4);
        assembly.append_control(b"ng", 4);
        assert_eq!((assembly.message(), assembly.control()), (&b"Hel"[..], &b"ping"[..]));
        assembly.forget_control();
        assembly.append_message(b"lo", 100);
        assert_eq!(assembly.message(), b"Hello");
    }

    #[test]
    fn text_is_refused_at_the_first_byte_that_cannot_be_utf8() {
        // Name, chunks, and the (index of the chunk, offset) at which it must fail.
        type Row = (&'static str, &'static [&'static [u8]], Option<(usize, usize)>);
        let rows: [Row; 6] = [
            ("ascii", &[b"a", b"b"], None),
            ("split character", &[b"\xce", b"\xba"], None),
            ("split emoji", &[b"\xf0", b"\x9f\x98", b"\x80"], None),
            ("surrogate", &[b"ok", b"\xed", b"\xa0"], Some((2, 2))),
            ("beyond U+10FFFF", &[b"\xf4", b"\x90", b"\x80"], Some((1, 0))),
            ("ends within a character", &[b"x", b"\xce"], Some((1, 1))),
        ];
        for (name, chunks, expected) in rows {
            let mut assembly = Assembly::new();
            let found = chunks.iter().enumerate().find_map(|(index, chunk)| {
                assembly.append_message(chunk, 100);
                match assembly.check_utf8(index + 1 == chunks.len()) {
                    Ok(()) => None,
                    Err(ProtocolError::TextNotUtf8 { offset }) => Some((index, offset)),
                    Err(error) => panic!("{name}: {error}"),
                }
            });
            assert_eq!(found, expected, "{name}");
        }
    }
}
