//! What a run is to be: the command line, checked; and who does which part of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::schedule::Arrivals;
use crate::target::Target;

/// Where the signing key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeySource {
    /// In a server's data directory.
    Data(PathBuf),
    /// In this file.
    Key(PathBuf),
}

/// A checked command line.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) targets: Vec<Target>,
    pub(crate) key: KeySource,
    pub(crate) threads: u32,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) first_user: u64,
    /// Sessions that end come back and go on from their cursor.
    pub(crate) reconnects: bool,
    pub(crate) json: Option<PathBuf>,
    pub(crate) hdr: bool,
    pub(crate) seed: Option<u64>,
    /// As it was typed.
    pub(crate) command: String,
}

/// What the sessions do.
#[derive(Clone, Debug)]
pub(crate) enum Scenario {
    /// Pairs and groups talk.
    Chat(ChatPlan),
    /// So many sessions are open, of which some may talk.
    Idle(IdlePlan),
}

/// The `idle` scenario.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct IdlePlan {
    /// Sessions that say nothing but heartbeats.
    pub(crate) idle: u32,
    /// The others: pairs that talk.
    pub(crate) chat: Option<ChatPlan>,
}

impl IdlePlan {
    fn pairs(&self) -> u32 {
        self.chat.as_ref().map_or(0, |chat| chat.pairs)
    }
}

/// The `chat` scenario.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ChatPlan {
    pub(crate) pairs: u32,
    pub(crate) groups: u32,
    pub(crate) group_size: u32,
    pub(crate) rate: f64,
    pub(crate) bytes: usize,
    pub(crate) arrivals: Arrivals,
    pub(crate) unanswered_max: usize,
}

/// A thread's part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    /// Sessions of the threads before it.
    pub(crate) first: u32,
    pub(crate) sessions: u32,
    /// Pairs (0 in a scenario without).
    pub(crate) pairs: u32,
    /// Groups (0 in a scenario without).
    pub(crate) groups: u32,
}

impl Scenario {
    /// Its name on the command line.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Chat(_) => "chat",
            Self::Idle(_) => "idle",
        }
    }

    /// Sessions in all.
    pub(crate) fn sessions(&self) -> u64 {
        match self {
            Self::Chat(chat) => {
                2 * u64::from(chat.pairs) + u64::from(chat.groups) * u64::from(chat.group_size)
            }
            Self::Idle(idle) => u64::from(idle.idle) + 2 * u64::from(idle.pairs()),
        }
    }

    /// What its sessions say to each other, if they do.
    pub(crate) const fn chat(&self) -> Option<&ChatPlan> {
        match self {
            Self::Chat(chat) => Some(chat),
            Self::Idle(idle) => idle.chat.as_ref(),
        }
    }

    /// Sessions of the thread that has most of them.
    pub(crate) fn largest_share(&self, threads: u32) -> u64 {
        match self {
            Self::Chat(chat) => {
                let pairs = u64::from(chat.pairs.div_ceil(threads));
                let groups = u64::from(chat.groups.div_ceil(threads));
                2 * pairs + groups * u64::from(chat.group_size)
            }
            Self::Idle(idle) => {
                let pairs = u64::from(idle.pairs().div_ceil(threads));
                2 * pairs + u64::from(idle.idle.div_ceil(threads))
            }
        }
    }

    /// What each thread does. A channel's sessions stay together, so that one thread sees all
    /// that happens in it.
    pub(crate) fn shares(&self, threads: u32) -> Vec<Share> {
        let mut first = 0;
        let share = |index: u32| {
            let part = |count: u32| part(count, threads, index);
            let (sessions, pairs, groups) = match self {
                Self::Chat(chat) => {
                    let (pairs, groups) = (part(chat.pairs), part(chat.groups));
                    (2 * pairs + groups * chat.group_size, pairs, groups)
                }
                // Who talks comes first, and is opened first.
                Self::Idle(idle) => {
                    let pairs = part(idle.pairs());
                    (2 * pairs + part(idle.idle), pairs, 0)
                }
            };
            let share = Share { first, sessions, pairs, groups };
            first += sessions;
            share
        };
        (0..threads).map(share).collect()
    }
}

/// How many of `count` the `index`th of `threads` gets: the first ones get one more.
const fn part(count: u32, threads: u32, index: u32) -> u32 {
    count / threads + if index < count % threads { 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(pairs: u32, groups: u32, group_size: u32) -> Scenario {
        Scenario::Chat(ChatPlan {
            pairs,
            groups,
            group_size,
            rate: 1.0,
            bytes: 64,
            arrivals: Arrivals::Uniform,
            unanswered_max: 1,
        })
    }

    fn idle(sessions: u32, pairs: u32) -> Scenario {
        let Scenario::Chat(chat) = chat(pairs, 0, 2) else { unreachable!() };
        Scenario::Idle(IdlePlan { idle: sessions, chat: (pairs > 0).then_some(chat) })
    }

    #[test]
    fn shares_are_all_there_is_follow_each_other_and_are_bounded_by_the_largest() {
        let rows = [
            (idle(10, 0), 3),
            (idle(2, 0), 4),
            (idle(95, 5), 3),
            (chat(7, 0, 9), 2),
            (chat(7, 5, 9), 3),
            (chat(0, 1, 500), 2),
        ];
        for (scenario, threads) in rows {
            let shares = scenario.shares(threads);
            assert_eq!(shares.len(), threads as usize);
            let mut next = 0;
            for share in &shares {
                assert_eq!(share.first, next, "{scenario:?}");
                assert!(u64::from(share.sessions) <= scenario.largest_share(threads));
                next += share.sessions;
            }
            assert_eq!(u64::from(next), scenario.sessions(), "{scenario:?}");
        }
    }
}
