//! Who is in which channel: pairs and groups over the sessions of a thread, and what the script
//! keeps of each.

use std::collections::VecDeque;
use std::ops::Range;

use wire::{ChannelId, Nonce, UserId};

use crate::clock::Nanos;

/// A message that has no answer yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pending {
    pub(super) nonce: Nonce,
    /// Which of its sender's.
    pub(super) number: u32,
    pub(super) intended: Nanos,
    /// At the first transmission; a repeat has the same body, and so the same time in it.
    pub(super) written: Nanos,
    pub(super) transmissions: u32,
    /// It was refused for a while, and is to be sent again.
    pub(super) is_refused: bool,
}

/// How a session and its connection stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// What is to be sent is sent.
    Up,
    /// To come back; what is to be sent waits.
    Down,
    /// Live again; what is not answered is sent again before anything else.
    Back,
    /// Ended for good.
    Gone,
}

/// A channel and its sessions on this thread.
#[derive(Debug)]
pub(super) struct Channel {
    /// `None`: a group that is not made yet.
    pub(super) id: Option<ChannelId>,
    pub(super) members: Range<u32>,
    /// Members that have learnt of the channel; a pair need not be told.
    pub(super) told: u32,
}

/// What the script keeps of a session.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) user: UserId,
    pub(super) channel: u32,
    /// The number of its next message.
    pub(super) number: u32,
    pub(super) link: Link,
    /// In the order sent, which is nearly always that of the answers: the outbox.
    pub(super) pending: VecDeque<Pending>,
}

impl Member {
    /// Takes out the message that `nonce` names.
    pub(super) fn answered(&mut self, nonce: Nonce) -> Option<Pending> {
        if self.pending.front().is_some_and(|pending| pending.nonce == nonce) {
            return self.pending.pop_front();
        }
        let index = self.pending.iter().position(|pending| pending.nonce == nonce)?;
        self.pending.remove(index)
    }
}

/// Channels and members of a thread: first the pairs, then the groups, whose sessions and users
/// are numbered through from `first_user` on.
pub(super) fn assign(
    pairs: u32,
    groups: u32,
    group_size: u32,
    first_user: u64,
) -> (Vec<Channel>, Vec<Member>) {
    let (mut channels, mut members) = (Vec::new(), Vec::new());
    let mut session = 0;
    for index in 0..pairs + groups {
        let is_pair = index < pairs;
        let size = if is_pair { 2 } else { group_size };
        let user = |member: u32| {
            let number = first_user + u64::from(session + member);
            UserId::new(number).expect("users are numbered from 1")
        };
        members.extend((0..size).map(|member| Member {
            user: user(member),
            channel: index,
            number: 0,
            link: Link::Up,
            pending: VecDeque::new(),
        }));
        let id = is_pair.then(|| ChannelId::direct(user(0), user(1)));
        let told = if is_pair { size } else { 0 };
        channels.push(Channel { id, members: session..session + size, told });
        session += size;
    }
    (channels, members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_first_and_everybody_is_in_one_channel() {
        let (channels, members) = assign(2, 2, 3, 1001);
        let ranges: Vec<_> = channels.iter().map(|channel| channel.members.clone()).collect();
        assert_eq!(ranges, [0..2, 2..4, 4..7, 7..10]);
        let users: Vec<u64> = members.iter().map(|member| member.user.get()).collect();
        assert_eq!(users, (1001..=1010).collect::<Vec<_>>());
        let of: Vec<u32> = members.iter().map(|member| member.channel).collect();
        assert_eq!(of, [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]);
        let second = ChannelId::from_halves(1003, 1004);
        assert_eq!((channels[1].id, channels[2].id), (second, None));
        assert_eq!((channels[1].told, channels[2].told), (2, 0));
    }

    #[test]
    fn an_answer_is_found_in_any_order_once() {
        let (_, mut members) = assign(1, 0, 0, 1);
        let pending = |nonce| Pending {
            nonce: Nonce(nonce),
            number: 0,
            intended: Nanos(nonce),
            written: Nanos(nonce),
            transmissions: 1,
            is_refused: false,
        };
        members[0].pending = [1, 2, 3].map(pending).into();
        for (nonce, expected) in [(2, true), (2, false), (1, true), (3, true), (3, false)] {
            let found = members[0].answered(Nonce(nonce));
            assert_eq!(found, expected.then(|| pending(nonce)), "{nonce}");
        }
    }
}
