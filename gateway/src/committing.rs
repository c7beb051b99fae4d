//! One core's batches on their way to the disk and back, and what waits for them.
//!
//! One batch is open; whatever is decided in a turn goes into it. At the end of the turn it is
//! sealed if the writer has room for another, so the batches of a busy core grow while the disk
//! syncs and no timer adds latency.

use std::collections::VecDeque;

use router::commit_window::{CommitWindow, Committed};
use store::{Batch, Outcome, Term, Through};
use variants::Variant;
use wire::server::Durability;
use wire::{BatchNumber, CoreId, InboxSeq, UserId};

use crate::event::{Effect, Effects};
use crate::limits::{BATCHES_PER_CORE, Bounds};

/// Batches between two trims of the journal: each trim is a range deletion that later reads of the
/// journal pass over, and what it would free meanwhile is small.
pub const TRIM_EVERY: u64 = 256;

/// What becomes of things once they are durable.
#[derive(Debug)]
pub enum Pending {
    /// An entry of a channel: acknowledge it, fan it out.
    Entry(router::sequencer::Sequenced),
    /// A repeat: answer with the first receipt.
    Again(router::sequencer::Offer, router::nonces::Receipt),
    /// A notice in `count` inboxes, the next ones in [`Committing::placements`]: deliver it.
    Placed {
        /// What.
        notice: router::inbox::Notice,
        /// The fan-out it belongs to.
        piece: router::inbox::Piece,
        /// In how many inboxes.
        count: usize,
    },
    /// A part of an inbox is in a chunk.
    Folded(UserId, InboxSeq),
    /// What a service asked is done.
    Service(router::sequencer::Origin),
    /// A user is refused for ever: what is hers may be removed.
    Erasing(usize),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Committing {
    core: CoreId,
    open: Batch,
    spare: Vec<Batch>,
    term: Term,
    /// Batches that came back because the disk is full, in order: they go again when it is not.
    refused: VecDeque<Batch>,
    in_flight: usize,
    released: BatchNumber,
    trimmed_below: BatchNumber,
    trim_every: u64,
    window: CommitWindow<Pending>,
    /// Inboxes of the `Placed` in the window, in their order.
    pub placements: VecDeque<(UserId, InboxSeq)>,
}

impl Committing {
    /// `make` makes an empty batch of this core.
    pub fn new(core: CoreId, bounds: &Bounds, make: impl Fn() -> Batch) -> Self {
        let mut open = make();
        open.begin(BatchNumber::ZERO.next(), Term::FIRST);
        Self {
            core,
            open,
            spare: (0..BATCHES_PER_CORE).map(|_| make()).collect(),
            term: Term::FIRST,
            refused: VecDeque::with_capacity(BATCHES_PER_CORE),
            in_flight: 0,
            released: BatchNumber::ZERO,
            trimmed_below: BatchNumber::ZERO,
            trim_every: bounds.trim_every,
            window: CommitWindow::new(bounds.window_max),
            placements: VecDeque::new(),
        }
    }

    /// The open batch.
    pub const fn batch(&mut self) -> &mut Batch {
        &mut self.open
    }

    /// Its number.
    #[must_use]
    pub const fn open_number(&self) -> BatchNumber {
        self.open.number()
    }

    /// What to do once the open batch is durable.
    pub fn push(&mut self, pending: Pending) {
        self.window.push(pending);
    }

    /// Whether more may be sequenced: see `WINDOW_MAX`. A full batch ends a turn's sequencing too,
    /// so that one batch never grows beyond its bound by more than one entry.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.window.is_full() && !self.open.is_full()
    }

    /// Whether the disk is full: nothing new is sequenced.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Things that wait for the disk.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.window.len()
    }

    /// Bytes of the batches, as far as they were ever filled, and of what waits for them.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let batches = self.open.memory_bytes()
            + self.spare.iter().chain(&self.refused).map(Batch::memory_bytes).sum::<usize>();
        let placements = self.placements.capacity() * size_of::<(UserId, InboxSeq)>();
        batches + placements + self.window.memory_bytes()
    }

    /// Batches on their way to the disk, and those that came back because it is full.
    #[must_use]
    pub fn batches(&self) -> (usize, usize) {
        (self.in_flight, self.refused.len())
    }

    /// Whether nothing waits for the disk and nothing is in the open batch.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.window.is_empty() && self.open.is_empty() && self.in_flight == 0
    }

    /// Trims the journal up to `below`, if that is worth a record.
    pub fn trim(&mut self, below: BatchNumber) {
        let below = below.min(self.open.number());
        if below.since(self.trimmed_below) >= self.trim_every {
            self.open.trim_journal(below);
            self.trimmed_below = below;
        }
    }

    /// The first batch that has not been released.
    #[must_use]
    pub const fn next_to_release(&self) -> BatchNumber {
        self.released.next()
    }

    /// At the end of a turn: seals the open batch and submits it, if there is something in it (or
    /// in the window, which waits for its number) and a batch to go on with.
    pub fn seal(&mut self, effects: &mut Effects) {
        let nothing = self.open.is_empty() && !self.window.has_open();
        if nothing || self.is_refused() {
            return;
        }
        let Some(mut next) = self.spare.pop() else { return };
        let number = self.open.number();
        self.window.seal(number);
        next.begin(number.next(), self.term);
        self.in_flight += 1;
        effects.push(Effect::Submit(std::mem::replace(&mut self.open, next)));
    }

    /// A batch is through. If it is kept, tells what "kept" means; [`Self::next_released`] gives
    /// what waited for it.
    pub fn handle_stored(&mut self, through: Through) -> Option<Durability> {
        assert_eq!(through.core, self.core, "a batch comes back to its core");
        self.in_flight -= 1;
        let durability = match through.outcome {
            Outcome::Durable => Durability::Durable,
            Outcome::Accepted => Durability::Accepted,
            Outcome::Full => {
                if variants::is(Variant::RefusedOutOfOrder) {
                    self.refused.push_front(through.batch);
                } else {
                    self.refused.push_back(through.batch);
                }
                return None;
            }
        };
        self.spare.push(through.batch);
        self.released = through.number;
        self.window.release(through.number);
        Some(durability)
    }

    /// The next thing that is durable now.
    pub fn next_released(&mut self) -> Option<Committed<Pending>> {
        self.window.next_released()
    }

    /// The disk has room again: submits what was refused, as it was and in its order. Places that
    /// were given out stay given out, so nothing has to be taken back.
    pub fn resubmit(&mut self, effects: &mut Effects) {
        if self.refused.is_empty() || self.in_flight > 0 {
            return; // What is on its way will be refused too, and must be behind these.
        }
        self.term = self.term.next();
        self.in_flight = self.refused.len();
        for mut batch in self.refused.drain(..) {
            batch.renew(self.term);
            effects.push(Effect::Submit(batch));
        }
        self.open.renew(self.term);
    }
}
