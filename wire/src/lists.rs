//! Lists inside frames: either a slice that is to be encoded, or a vector of a frame that was
//! decoded. Whoever reads one need not know which, and nothing is copied.
//!
//! The elements of a vector are checked when its frame is decoded; reading one later repeats the
//! conversion and relies on that check.

use std::fmt;

use flatbuffers::{ForwardsUOffset, Vector};

use crate::decode_server::{read_conversation, read_deliver, read_history_entry};
use crate::error::{At, WireError};
use crate::event::{Deliver, Event};
use crate::generated::mooring::wire as fb;
use crate::server::ConversationEntry;
use crate::{Rule, UserId};

const CHECKED: &str = "elements are checked when the frame is decoded";

macro_rules! list {
    ($(#[$doc:meta])* $name:ident of $item:ty, in $wire:ty, by $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(Repr<'a, $item, $wire>);

        impl<'a> $name<'a> {
            /// A list over a vector of a verified frame.
            ///
            /// # Errors
            ///
            /// The first element's that breaks a rule.
            pub(crate) fn checked(at: &At, vector: Vector<'a, $wire>) -> Result<Self, WireError> {
                let read: fn(&At, _) -> Result<$item, WireError> = $read;
                vector.iter().try_for_each(|element| read(at, element).map(drop))?;
                Ok(Self(Repr::Vector(vector)))
            }

            /// How many elements it has.
            #[must_use]
            pub fn len(&self) -> usize {
                match self.0 {
                    Repr::Slice(slice) => slice.len(),
                    Repr::Vector(vector) => vector.len(),
                }
            }

            /// Whether it has none.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The element at `index`; `None` beyond the end.
            #[must_use]
            pub fn get(&self, index: usize) -> Option<$item> {
                let read: fn(&At, _) -> Result<$item, WireError> = $read;
                match self.0 {
                    Repr::Slice(slice) => slice.get(index).copied(),
                    Repr::Vector(vector) => (index < vector.len())
                        .then(|| read(&At::NOWHERE, vector.get(index)).expect(CHECKED)),
                }
            }

            /// The elements in their order.
            pub fn iter(
                self,
            ) -> impl ExactSizeIterator<Item = $item> + DoubleEndedIterator + use<'a> {
                (0..self.len()).map(move |index| self.get(index).expect("below len"))
            }
        }

        impl<'a> From<&'a [$item]> for $name<'a> {
            fn from(slice: &'a [$item]) -> Self {
                Self(Repr::Slice(slice))
            }
        }

        impl PartialEq for $name<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.iter().eq(other.iter())
            }
        }

        impl Eq for $name<'_> {}

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }
    };
}

#[derive(Clone, Copy)]
enum Repr<'a, T, V> {
    Slice(&'a [T]),
    Vector(Vector<'a, V>),
}

list! {
    /// Users by their ids, none of them 0; a user may stand in it twice.
    Users of UserId, in u64, by |at, id| UserId::new(id).ok_or_else(|| at.breaks(Rule::MemberZero))
}

list! {
    /// Inbox entries of a page.
    Deliveries of Deliver<'a>, in ForwardsUOffset<fb::Deliver<'a>>, by read_deliver
}

list! {
    /// Events of a page of history.
    Events of Event<'a>, in ForwardsUOffset<fb::HistoryEntry<'a>>, by read_history_entry
}

list! {
    /// Conversations of a page.
    Conversations of ConversationEntry<'a>, in ForwardsUOffset<fb::Conversation<'a>>,
    by read_conversation
}
