//! Sequences of what a shard does, without the shard: offers, loads, searches, commits, fan-outs,
//! folds and restarts in any order, on the router's parts and a model of the store. After each step
//! the model's invariants hold; when the steps are over and what is owed is worked off, every entry
//! that became durable is in every recipient's inbox once, in its channel's order.

mod inboxes;
mod model;
mod world;

use world::World;

/// Steps of one run.
const STEPS_MAX: usize = 256;

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A device offers something to a channel.
    Offer { channel: u8, sender: u8, nonce: u8, retry: bool, ask: Asked },
    /// The open batch is sealed.
    Seal,
    /// The oldest sealed batch is durable.
    Release,
    /// The store answers the oldest question about a channel; `whole`: a search saw everything.
    AnswerChannel { whole: bool },
    /// The oldest fan-out arrives.
    Fan,
    /// The store answers the oldest question about an inbox.
    AnswerInbox,
    /// A fan-out that has arrived arrives again.
    Replay { channel: u8, seq: u8 },
    /// The user whose entries are oldest is folded.
    Fold,
    /// Everything that is not durable is gone.
    Restart,
}

/// What is offered.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Post(u8),
    Create { members: u8 },
    Add { role: u8, member: u8 },
    Remove { member: u8 },
    Leave,
    Read { seq: u8 },
}

impl Step {
    /// Two bytes, whatever it is, so that a fuzzer that moves parts of its inputs about moves
    /// steps. Half of all steps are posts.
    const fn of([kind, parts]: [u8; 2]) -> Self {
        let (channel, sender, nonce) = (parts & 3, parts >> 2 & 3, parts >> 4 & 7);
        let ask = match kind {
            0..=127 => Asked::Post(kind & 3),
            _ => Asked::of(kind >> 4 & 7, parts >> 4),
        };
        match kind {
            0..=127 => Self::Offer { channel, sender, nonce, retry: parts >> 7 == 1, ask },
            _ => match kind & 15 {
                0 | 1 => Self::Seal,
                2 | 3 => Self::Release,
                4..=6 => Self::AnswerChannel { whole: parts != 0 },
                7 | 8 => Self::Fan,
                9 | 10 => Self::AnswerInbox,
                11 => Self::Replay { channel, seq: parts >> 2 },
                12 => Self::Fold,
                13 => Self::Restart,
                _ => Self::Offer { channel, sender, nonce, retry: false, ask },
            },
        }
    }
}

impl Asked {
    const fn of(kind: u8, part: u8) -> Self {
        match kind {
            0..=3 => Self::Create { members: part },
            4 => Self::Add { role: part, member: part },
            5 => Self::Remove { member: part },
            6 => Self::Leave,
            _ => Self::Read { seq: part },
        }
    }
}

/// Takes the steps that `data` stands for.
///
/// # Panics
/// If an invariant does not hold.
pub fn run(data: &[u8]) {
    let (steps, _) = data.as_chunks();
    let mut world = World::default();
    for step in steps.iter().take(STEPS_MAX) {
        world.take(Step::of(*step));
    }
    world.settle();
}
