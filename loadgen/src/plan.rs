//! What a run is to be: the command line, checked; and who does which part of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::engine::{AbsencePlan, SESSIONS_PER_THREAD_MAX};
use crate::schedule::Arrivals;
use crate::target::Target;

/// Where the signing key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeySource {
    /// In a server's data directory.
    Data(PathBuf),
    /// In this file.
    Key(PathBuf),
    /// Nowhere: the server is not Mooring, and wants no token.
    None,
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
    /// So many sessions begin, and may hang up and begin again with their tickets.
    Connect(ConnectPlan),
    /// So many sessions hang up at once and come back, while others talk.
    Storm(StormPlan),
}

/// The `connect` scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConnectPlan {
    pub(crate) sessions: u32,
    /// They hang up, and resume with their tickets.
    pub(crate) resumes: bool,
}

/// The `storm` scenario.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct StormPlan {
    /// Who stays, and talks.
    pub(crate) chat: ChatPlan,
    /// Who hangs up; an even number.
    pub(crate) sessions: u32,
    /// Messages from the other of its pair that wait for each.
    pub(crate) waiting: u32,
    /// They hang up evenly over this time.
    pub(crate) over: Duration,
    pub(crate) jitter: Duration,
    /// Before they hang up, and after all are back.
    pub(crate) calm: Duration,
}

impl StormPlan {
    /// Threads, of so many, on which nobody hangs up: as few as hold those who talk.
    pub(crate) const fn chat_threads(&self, threads: u32) -> u32 {
        let wanted = (2 * self.chat.pairs).div_ceil(SESSIONS_PER_THREAD_MAX);
        if wanted < threads { wanted } else { threads - 1 }
    }
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
            Self::Connect(_) => "connect",
            Self::Storm(_) => "storm",
        }
    }

    /// Sessions in all.
    pub(crate) fn sessions(&self) -> u64 {
        match self {
            Self::Chat(chat) => {
                2 * u64::from(chat.pairs) + u64::from(chat.groups) * u64::from(chat.group_size)
            }
            Self::Idle(idle) => u64::from(idle.idle) + 2 * u64::from(idle.pairs()),
            Self::Connect(connect) => connect.sessions.into(),
            Self::Storm(storm) => 2 * u64::from(storm.chat.pairs) + u64::from(storm.sessions),
        }
    }

    /// What its sessions say to each other, if they do.
    pub(crate) const fn chat(&self) -> Option<&ChatPlan> {
        match self {
            Self::Chat(chat) => Some(chat),
            Self::Idle(idle) => idle.chat.as_ref(),
            Self::Connect(_) => None,
            Self::Storm(storm) => Some(&storm.chat),
        }
    }

    /// Who hangs up on purpose and comes back, if anybody does.
    pub(crate) fn absence(&self) -> Option<AbsencePlan> {
        match self {
            Self::Connect(connect) if connect.resumes => Some(AbsencePlan {
                sessions: connect.sessions,
                calm: Duration::ZERO,
                over: Duration::ZERO,
                jitter: Duration::ZERO,
                is_storm: false,
            }),
            Self::Storm(storm) => Some(AbsencePlan {
                sessions: storm.sessions,
                calm: storm.calm,
                over: storm.over,
                jitter: storm.jitter,
                is_storm: true,
            }),
            Self::Chat(_) | Self::Idle(_) | Self::Connect(_) => None,
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
            Self::Connect(connect) => connect.sessions.div_ceil(threads).into(),
            Self::Storm(storm) => {
                let talking = storm.chat_threads(threads);
                if talking == 0 {
                    return u64::MAX;
                }
                let pairs = storm.chat.pairs.div_ceil(talking);
                let others = (storm.sessions / 2).div_ceil(threads - talking);
                2 * u64::from(pairs.max(others))
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
                Self::Connect(connect) => (part(connect.sessions), 0, 0),
                Self::Storm(storm) => {
                    let talking = storm.chat_threads(threads);
                    match index.checked_sub(talking) {
                        None => {
                            let pairs = self::part(storm.chat.pairs, talking, index);
                            (2 * pairs, pairs, 0)
                        }
                        Some(index) => {
                            let others = self::part(storm.sessions / 2, threads - talking, index);
                            (2 * others, 0, 0)
                        }
                    }
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

    fn storm(sessions: u32, pairs: u32) -> Scenario {
        let Scenario::Chat(chat) = chat(pairs, 0, 2) else { unreachable!() };
        let (over, jitter, calm) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Scenario::Storm(StormPlan { chat, sessions, waiting: 1, over, jitter, calm })
    }

    #[test]
    fn who_talks_and_who_hangs_up_are_on_threads_of_their_own() {
        for share in storm(40_000, 20_000).shares(5) {
            assert!(share.pairs == 0 || share.sessions == 2 * share.pairs);
            assert!(share.sessions.is_multiple_of(2), "pairs are not divided");
        }
        assert_eq!(storm(2, 1).largest_share(1), u64::MAX, "one thread is too few");
    }

    #[test]
    fn shares_are_all_there_is_follow_each_other_and_are_bounded_by_the_largest() {
        let rows = [
            (idle(10, 0), 3),
            (idle(2, 0), 4),
            (idle(95, 5), 3),
            (storm(100, 7), 4),
            (storm(2, 1), 2),
            (storm(40_000, 20_000), 5),
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
