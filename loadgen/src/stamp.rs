//! What the body of each message says about itself.
//!
//! ```text
//!  0       4       8      12      16              24              32
//! +-------+-------+-------+-------+---------------+---------------+------------------- - -
//! | magic |  run  |sender |number |   intended    |    written    | filling up to --size
//! +-------+-------+-------+-------+---------------+---------------+------------------- - -
//! ```
//!
//! All little-endian. `number` counts the sender's messages in its channel from 0; the times are
//! nanoseconds of the run.

use crate::clock::Nanos;

/// A body has at least the stamp.
pub(crate) const STAMP_BYTES: usize = 32;

const MAGIC: u32 = u32::from_le_bytes(*b"MLG1");

/// What fills a body: letters, as text has few bits a byte and a compressing store sees as much.
const FILLING: &[u8] = b"the quick brown fox jumps over the lazy dog ";

/// A message's own account of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Which run sent it.
    pub(crate) run: u32,
    /// Which session of its channel.
    pub(crate) sender: u32,
    /// Which of that sender's messages.
    pub(crate) number: u32,
    /// When the schedule wanted it sent.
    pub(crate) intended: Nanos,
    /// When it was handed to the connection.
    pub(crate) written: Nanos,
}

impl Stamp {
    /// Writes it over the first bytes of `body`.
    ///
    /// # Panics
    /// If `body` is shorter than [`STAMP_BYTES`].
    pub(crate) fn write(&self, body: &mut [u8]) {
        for (at, word) in [MAGIC, self.run, self.sender, self.number].into_iter().enumerate() {
            body[4 * at..4 * at + 4].copy_from_slice(&word.to_le_bytes());
        }
        body[16..24].copy_from_slice(&self.intended.0.to_le_bytes());
        body[24..32].copy_from_slice(&self.written.0.to_le_bytes());
    }

    /// Reads it back; `None` if this is no body of a load generator.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let stamp = body.first_chunk::<STAMP_BYTES>()?;
        let word = |at: usize| {
            u32::from_le_bytes([stamp[at], stamp[at + 1], stamp[at + 2], stamp[at + 3]])
        };
        let long = |at: usize| Nanos(u64::from(word(at)) | u64::from(word(at + 4)) << 32);
        (word(0) == MAGIC).then(|| Self {
            run: word(4),
            sender: word(8),
            number: word(12),
            intended: long(16),
            written: long(24),
        })
    }
}

/// A body of `bytes` bytes without its stamp.
pub(crate) fn blank(bytes: usize) -> Vec<u8> {
    FILLING.iter().copied().cycle().take(bytes.max(STAMP_BYTES)).collect()
}

/// Whether what follows the stamp is as [`blank`] made it, `bytes` long.
pub(crate) fn is_intact(body: &[u8], bytes: usize) -> bool {
    let last = bytes - 1;
    body.len() == bytes && (bytes == STAMP_BYTES || body[last] == FILLING[last % FILLING.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back_from_its_body_and_from_no_other() {
        let stamp = Stamp {
            run: 0x0102_0304,
            sender: 5,
            number: u32::MAX,
            intended: Nanos(7 << 40),
            written: Nanos(u64::MAX),
        };
        for bytes in [STAMP_BYTES, STAMP_BYTES + 1, 4000] {
            let mut body = blank(bytes);
            assert_eq!(Stamp::read(&body), None);
            stamp.write(&mut body);
            assert_eq!(Stamp::read(&body), Some(stamp));
            assert_eq!((body.len(), is_intact(&body, bytes)), (bytes, true));
            assert!(!is_intact(&body[..bytes - 1], bytes), "cut off");
            assert_eq!(Stamp::read(&body[..STAMP_BYTES - 1]), None);
        }
    }
}
