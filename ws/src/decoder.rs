//! Bytes to frames: finds heads, unmasks payloads, and remembers where in a frame the last read
//! stopped. What may follow what is the session's business.

use crate::Role;
use crate::error::ProtocolError;
use crate::head::{FrameHead, HEAD_BYTES_MAX};
use crate::mask::MaskKey;

/// The place in the byte stream. Every call consumes what it understood, so between two calls no
/// byte of an input is pending: a partial head is kept here, a partial payload was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    /// Within a head, of which `received` bytes have come. Fewer than the longest head has, as
    /// with that many it would be complete.
    Head { bytes: [u8; HEAD_BYTES_MAX - 1], received: u8 },
    /// Within a payload: `consumed <= length`. `mask` is the key for the next byte.
    Payload { mask: Option<MaskKey>, consumed: u32, length: u32 },
}

/// Between two frames.
const BOUNDARY: Place = Place::Head { bytes: [0; HEAD_BYTES_MAX - 1], received: 0 };

/// Unmasked bytes of a payload, in the input they came in.
pub(crate) struct Chunk<'b> {
    pub(crate) bytes: &'b mut [u8],
    /// The payload begins with these bytes.
    pub(crate) first: bool,
    /// The payload ends with these bytes.
    pub(crate) last: bool,
}

impl Decoder {
    pub(crate) const fn new() -> Self {
        Self { place: BOUNDARY }
    }

    /// Whether the last byte consumed was a frame's last.
    pub(crate) const fn is_at_boundary(&self) -> bool {
        matches!(self.place, Place::Head { received: 0, .. })
    }

    /// Consumes the next head, or all of `input` if that ends within the head (`None`).
    ///
    /// # Errors
    /// Those of [`FrameHead::parse`].
    ///
    /// # Panics
    /// Within a payload.
    pub(crate) fn next_head(
        &mut self,
        role: Role,
        input: &mut &mut [u8],
    ) -> Result<Option<FrameHead>, ProtocolError> {
        let Place::Head { bytes, received } = &mut self.place else {
            panic!("a head was asked for within a payload");
        };
        let kept = usize::from(*received);
        if kept == 0
            && let Some((head, length)) = FrameHead::parse(input, role)?
        {
            take(input, length);
            return Ok(Some(head));
        }
        let mut joined = [0; HEAD_BYTES_MAX];
        let joined_bytes = HEAD_BYTES_MAX.min(kept + input.len());
        joined[..kept].copy_from_slice(&bytes[..kept]);
        joined[kept..joined_bytes].copy_from_slice(&input[..joined_bytes - kept]);
        if let Some((head, length)) = FrameHead::parse(&joined[..joined_bytes], role)? {
            assert!(length > kept, "a head was complete before and not recognised");
            take(input, length - kept);
            *received = 0;
            return Ok(Some(head));
        }
        assert!(joined_bytes < HEAD_BYTES_MAX, "the longest head is complete at this length");
        take(input, joined_bytes - kept);
        bytes[..joined_bytes].copy_from_slice(&joined[..joined_bytes]);
        *received = u8::try_from(joined_bytes).expect("below HEAD_BYTES_MAX");
        Ok(None)
    }

    /// Goes on with the payload of the head that was just read, whose length the caller has
    /// found admissible.
    pub(crate) fn begin_payload(&mut self, length: u32, mask: Option<MaskKey>) {
        assert!(self.is_at_boundary(), "a payload within another frame");
        self.place = Place::Payload { mask, consumed: 0, length };
    }

    /// Consumes and unmasks what `input` has of the payload; `None` if it has nothing and something
    /// is missing. An empty payload gives one empty chunk.
    ///
    /// # Panics
    /// Outside of a payload.
    pub(crate) fn next_payload<'b>(&mut self, input: &mut &'b mut [u8]) -> Option<Chunk<'b>> {
        let Place::Payload { mask, consumed, length } = &mut self.place else {
            panic!("a payload was asked for within a head");
        };
        let missing = *length - *consumed;
        if missing > 0 && input.is_empty() {
            return None;
        }
        let count = input.len().min(missing as usize);
        let bytes = take(input, count);
        let first = *consumed == 0;
        if let Some(key) = mask {
            key.apply(bytes);
            *key = key.after(count);
        }
        *consumed += u32::try_from(count).expect("at most `missing`, a u32");
        let last = *consumed == *length;
        if last {
            self.place = BOUNDARY;
        }
        self.check();
        Some(Chunk { bytes, first, last })
    }

    /// The watermarks: what is consumed was received, and a complete part is not kept. It costs a
    /// compare, so it stands in release builds too.
    fn check(&self) {
        match &self.place {
            Place::Head { bytes, received } => {
                assert!(usize::from(*received) <= bytes.len());
            }
            Place::Payload { consumed, length, .. } => assert!(consumed < length),
        }
    }
}

/// Takes the first `count` bytes off `input`.
fn take<'b>(input: &mut &'b mut [u8], count: usize) -> &'b mut [u8] {
    input.split_off_mut(..count).expect("the caller has counted what the input holds")
}
