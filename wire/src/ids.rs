//! The newtypes every crate speaks in. No bare integer crosses a crate.
//!
//! Zero is "none" in each of them, as in the schema; `new` of an id returns `None` for it.

use std::fmt;
use std::num::NonZeroU64;

/// An account. Assigned by the API; never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(NonZeroU64);

/// One installation of a user's client, numbered within the user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u32);

/// A channel. See `ChannelId` in `schema/frame.fbs` for what the two halves mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    high: u64,
    low: u64,
}

/// A message's place in its channel: gapless from 1. `Seq::ZERO` is the place before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

/// An entry's place in its user's inbox: gapless from 1. `InboxSeq::ZERO` is before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InboxSeq(u64);

/// A device's own id for one send, unique within (device, channel).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub u64);

/// The place of a batch among those of its core: gapless from 1 within a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BatchNumber(u64);

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

/// A partition of the data directory: a channel and a user each live in one. Below `SHARDS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// One reactor thread. Below the number of cores of this run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// One live connection of a device, numbered by the gateway that holds it; 0 is never given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Names one history of an inbox: a cursor means nothing in another epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl Timestamp {
    /// Later than every time that comes.
    pub const FOREVER: Self = Self(u64::MAX);
}

impl Epoch {
    /// What a device says that has never been connected.
    pub const NONE: Self = Self(0);
}

impl UserId {
    /// The user with this number; `None` for 0.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number as it stands in frames and keys.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl ChannelId {
    /// The `Direct` channel of two users, in either order; of one user with herself if equal.
    #[must_use]
    pub const fn direct(one: UserId, other: UserId) -> Self {
        let (one, other) = (one.get(), other.get());
        if one <= other { Self { high: one, low: other } } else { Self { high: other, low: one } }
    }

    /// A `Group` or `Broadcast` channel by its number; `None` for 0.
    #[must_use]
    pub const fn numbered(number: u64) -> Option<Self> {
        if number == 0 { None } else { Some(Self { high: 0, low: number }) }
    }

    /// From the two halves as they stand in frames and keys; `None` if no channel has that form
    /// (the lower half is 0, or a pair is not in ascending order).
    #[must_use]
    pub const fn from_halves(high: u64, low: u64) -> Option<Self> {
        if low == 0 || high > low { None } else { Some(Self { high, low }) }
    }

    /// The two halves as they stand in frames and keys.
    #[must_use]
    pub const fn halves(self) -> (u64, u64) {
        (self.high, self.low)
    }

    /// The two users of a `Direct` channel, ascending and equal for a channel with oneself; `None`
    /// for every other kind.
    #[must_use]
    pub const fn pair(self) -> Option<(UserId, UserId)> {
        match (UserId::new(self.high), UserId::new(self.low)) {
            (Some(one), Some(other)) => Some((one, other)),
            _ => None,
        }
    }
}

macro_rules! sequence {
    ($name:ident) => {
        impl $name {
            /// The place before the first.
            pub const ZERO: Self = Self(0);

            /// From the number as it stands in frames and keys.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number as it stands in frames and keys.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The place after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// How many places lie after `earlier` up to and including this one; 0 if none.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }
    };
}
sequence!(Seq);
sequence!(InboxSeq);
sequence!(BatchNumber);

macro_rules! debug_as {
    ($($name:ident => $format:literal, $value:expr;)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value: fn(&Self) -> _ = $value;
                write!(f, $format, value(self))
            }
        }
    )*};
}
debug_as! {
    UserId => "u{}", |id| id.0;
    DeviceId => "d{}", |id| id.0;
    Seq => "#{}", |seq| seq.0;
    InboxSeq => "@{}", |seq| seq.0;
    BatchNumber => "b{}", |number| number.0;
    Nonce => "n{}", |nonce| nonce.0;
    Timestamp => "{}ms", |at| at.0;
    ShardId => "shard{}", |id| id.0;
    CoreId => "core{}", |id| id.0;
    SessionId => "s{}", |id| id.0;
    Epoch => "e{}", |epoch| epoch.0;
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.high == 0 {
            write!(f, "c{}", self.low)
        } else {
            write!(f, "c{}:{}", self.high, self.low)
        }
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_channel_is_its_pair_in_either_order() {
        let (a, b) = (UserId::new(7).unwrap(), UserId::new(3).unwrap());
        assert_eq!(ChannelId::direct(a, b), ChannelId::direct(b, a));
        assert_eq!(ChannelId::direct(a, b).pair(), Some((b, a)));
        assert_eq!(ChannelId::direct(a, a).pair(), Some((a, a)));
    }

    #[test]
    fn halves_that_no_channel_has_are_refused() {
        for (high, low) in [(0, 0), (1, 0), (5, 4)] {
            assert_eq!(ChannelId::from_halves(high, low), None, "({high}, {low})");
        }
        assert_eq!(ChannelId::from_halves(0, 9).unwrap().pair(), None);
    }
}
