//! Which message has which place, for as long as a run lasts.
//!
//! A place is named by answers and by deliveries, before and after a crash; all must agree.

use std::collections::HashMap;

use wire::{Nonce, Seq, UserId};

use super::Named;

/// What a message's place is to those known before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// Neither was known, or both were, as this.
    Agrees,
    /// The message had another place.
    Moved,
    /// Another message had the place.
    Taken,
}

/// See the module's head. A contradiction is told once: the newer one is remembered.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    places: HashMap<(u32, Seq), (UserId, Nonce)>,
    messages: HashMap<(u32, UserId, Nonce), Seq>,
}

impl Ledger {
    /// Takes note that a message of a channel has this place.
    pub(super) fn claim(&mut self, channel: u32, named: Named) -> Claim {
        let Named { seq, sender, nonce } = named;
        let had_place = self.messages.insert((channel, sender, nonce), seq);
        let had_message = self.places.insert((channel, seq), (sender, nonce));
        if had_message.is_some_and(|message| message != (sender, nonce)) {
            Claim::Taken
        } else if had_place.is_some_and(|place| place != seq) {
            Claim::Moved
        } else {
            Claim::Agrees
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Claim::{Agrees, Moved, Taken};
    use super::*;

    #[test]
    fn a_place_is_one_messages_and_a_message_has_one_place() {
        let mut ledger = Ledger::default();
        let rows = [
            (0, 5, 1, 7, Agrees),
            (0, 5, 1, 7, Agrees),
            (0, 6, 1, 8, Agrees),
            // Other channels and senders have places and nonces of their own.
            (1, 5, 2, 7, Agrees),
            (0, 7, 2, 7, Agrees),
            (0, 8, 1, 7, Moved),
            (0, 6, 1, 9, Taken),
            (0, 6, 2, 9, Taken),
        ];
        for (channel, seq, sender, nonce, expected) in rows {
            let sender = UserId::new(sender).unwrap();
            let named = Named { seq: Seq::new(seq), sender, nonce: Nonce(nonce) };
            assert_eq!(ledger.claim(channel, named), expected, "{channel} {named:?}");
        }
    }
}
