//! Masking (RFC 6455 5.3): XOR with a repeated four-byte key, its own inverse.

/// The unit of work: wide enough for the compiler to use the widest vectors of the target, and a
/// multiple of the key's length, so that every block starts at the key's first byte.
const BLOCK_BYTES: usize = 32;
const _: () = assert!(BLOCK_BYTES.is_multiple_of(4));

/// The key of one frame. A client must take each from a strong source of randomness, so that a
/// page cannot choose the bytes on the wire (RFC 6455 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskKey(pub [u8; 4]);

impl MaskKey {
    /// Masks or unmasks `bytes` in place, the first with the key's first byte.
    pub fn apply(self, bytes: &mut [u8]) {
        let mut wide = [0; BLOCK_BYTES];
        for (index, byte) in wide.iter_mut().enumerate() {
            *byte = self.0[index % 4];
        }
        let (blocks, rest) = bytes.as_chunks_mut::<BLOCK_BYTES>();
        for block in blocks {
            for (byte, key) in block.iter_mut().zip(wide) {
                *byte ^= key;
            }
        }
        for (byte, key) in rest.iter_mut().zip(wide) {
            *byte ^= key;
        }
    }

    /// The key for what follows after `bytes` bytes of the payload: the place in the key is all
    /// that a frame split over reads has to remember.
    #[must_use]
    pub const fn after(self, bytes: usize) -> Self {
        let [a, b, c, d] = self.0;
        match bytes % 4 {
            0 => self,
            1 => Self([b, c, d, a]),
            2 => Self([c, d, a, b]),
            _ => Self([d, a, b, c]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: MaskKey = MaskKey([0x37, 0xfa, 0x21, 0x3d]);

    /// Under Miri a byte takes microseconds; each kind of part is still there.
    const BYTES_MAX: u8 = if cfg!(miri) { 40 } else { 200 };

    fn by_definition(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().enumerate().map(|(index, byte)| byte ^ KEY.0[index % 4]).collect()
    }

    #[test]
    fn every_length_agrees_with_the_definition() {
        for length in 0..BYTES_MAX {
            let plain: Vec<u8> = (0..length).collect();
            let mut masked = plain.clone();
            KEY.apply(&mut masked);
            assert_eq!(masked, by_definition(&plain), "{length} bytes");
            KEY.apply(&mut masked);
            assert_eq!(masked, plain, "{length} bytes, twice");
        }
    }

    #[test]
    fn a_payload_in_two_parts_agrees_with_one_at_every_cut() {
        let plain: Vec<u8> = (0..BYTES_MAX / 2).collect();
        for cut in 0..=plain.len() {
            let mut masked = plain.clone();
            let (front, back) = masked.split_at_mut(cut);
            KEY.apply(front);
            KEY.after(cut).apply(back);
            assert_eq!(masked, by_definition(&plain), "cut at {cut}");
        }
    }
}
