//! What the kernel carries for us from a submission to its completions: 64 bits of `user_data`.
//!
//! ```text
//!  63        56 55                       32 31                                0
//! +------------+---------------------------+----------------------------------+
//! |  kind (8)  |         slot (24)         |         generation (32)          |
//! +------------+---------------------------+----------------------------------+
//! ```
//!
//! For most kinds slot and generation are the caller's [`Token`]. For sends and connects, whose
//! memory the ring keeps until they end, they are an index and a serial number of the ring's own
//! table of flights; the caller's token stands in that table.

use std::fmt;

const KIND_BITS: u32 = 8;
const SLOT_BITS: u32 = 24;
const GENERATION_BITS: u32 = 32;
const _: () = assert!(KIND_BITS + SLOT_BITS + GENERATION_BITS == u64::BITS);
const _: () = assert!(GENERATION_BITS == u32::BITS, "a generation uses all bits of its type");

/// Names what an operation was submitted for: a slot of the caller, and which use of the slot.
///
/// A completion may arrive after the caller gave the slot to something else. It still carries the
/// old generation; the caller compares, and drops what is not for the present holder.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    /// The highest slot: 24 bits, sixteen times the largest descriptor table the kernel permits.
    pub const SLOT_MAX: u32 = (1 << SLOT_BITS) - 1;

    /// The token of a slot's use.
    ///
    /// # Panics
    ///
    /// If `slot` exceeds [`Token::SLOT_MAX`]: the caller sized its table wrongly.
    #[must_use]
    pub const fn new(slot: u32, generation: u32) -> Self {
        assert!(slot <= Self::SLOT_MAX, "a slot must fit into 24 bits");
        Self { slot, generation }
    }

    /// The caller's slot.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Which use of the slot.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The token of the slot's next use. Generations wrap: a completion would have to outlive
    /// four billion uses of its slot to be taken for a later one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { slot: self.slot, generation: self.generation.wrapping_add(1) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// What kind of operation a completion belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Accept = 1,
    Receive,
    Poll,
    Send,
    Connect,
    Close,
    Shutdown,
    Cancel,
    Pass,
    /// Our own eventfd became readable.
    Wake,
    /// Another ring's message, which it posted here. Not an operation of ours.
    PeerWake,
    /// Our message to another ring failed. Submitted so that success posts nothing.
    WakeFailed,
    /// Closing a descriptor the caller never saw failed. Success posts nothing.
    DiscardFailed,
    /// The cancellation of everything, at teardown.
    Teardown,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Accept,
        Self::Receive,
        Self::Poll,
        Self::Send,
        Self::Connect,
        Self::Close,
        Self::Shutdown,
        Self::Cancel,
        Self::Pass,
        Self::Wake,
        Self::PeerWake,
        Self::WakeFailed,
        Self::DiscardFailed,
        Self::Teardown,
    ];

    /// Whether each submission of this kind is answered by exactly one final completion, so that
    /// the ring counts it as in flight.
    pub(crate) const fn is_counted(self) -> bool {
        !matches!(self, Self::PeerWake | Self::WakeFailed | Self::DiscardFailed)
    }
}

/// The packed form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UserData(pub(crate) u64);

impl UserData {
    pub(crate) const fn new(kind: Kind, token: Token) -> Self {
        let kind = (kind as u64) << (SLOT_BITS + GENERATION_BITS);
        let slot = (token.slot as u64) << GENERATION_BITS;
        Self(kind | slot | token.generation as u64)
    }

    /// For kinds of which a ring has only one, or that belong to no slot.
    pub(crate) const fn of_ring(kind: Kind) -> Self {
        Self::new(kind, Token::new(0, 0))
    }

    /// `None` if no operation of this crate has that number: someone else posted it.
    pub(crate) fn kind(self) -> Option<Kind> {
        let number = (self.0 >> (SLOT_BITS + GENERATION_BITS)) as usize;
        number.checked_sub(1).and_then(|index| Kind::ALL.get(index)).copied()
    }

    #[expect(clippy::cast_possible_truncation, reason = "taking the fields apart is the point")]
    pub(crate) const fn token(self) -> Token {
        let slot = (self.0 >> GENERATION_BITS) as u32 & Token::SLOT_MAX;
        Token { slot, generation: self.0 as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_token_comes_back_from_its_packed_form() {
        let tokens =
            [(0, 0), (1, 2), (Token::SLOT_MAX, u32::MAX), (0, u32::MAX), (Token::SLOT_MAX, 0)];
        for kind in Kind::ALL {
            for (slot, generation) in tokens {
                let token = Token::new(slot, generation);
                let packed = UserData::new(kind, token);
                assert_eq!((packed.kind(), packed.token()), (Some(kind), token), "{packed:?}");
            }
        }
    }

    #[test]
    fn the_table_of_kinds_is_in_order_of_their_numbers() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index + 1, "{kind:?}");
        }
    }

    #[test]
    fn a_number_that_no_operation_has_is_no_kind() {
        let last = Kind::ALL.len() as u64;
        for number in [0, last + 1, 0xff] {
            assert_eq!(UserData(number << 56).kind(), None, "{number}");
        }
    }

    #[test]
    fn the_next_use_of_a_slot_differs_in_generation_alone_and_wraps() {
        let token = Token::new(7, u32::MAX);
        assert_eq!(token.next(), Token::new(7, 0));
        assert_ne!(token.next(), token);
    }

    #[test]
    #[should_panic(expected = "24 bits")]
    fn a_slot_that_does_not_fit_is_refused() {
        let _ = Token::new(Token::SLOT_MAX + 1, 0);
    }
}
