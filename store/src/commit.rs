//! Group commit: what becomes of the batches of all cores. Pure: no thread, no clock.
//!
//! # Outcomes, and why no gap can be committed
//!
//! A batch comes back exactly once, in the order of its core's submissions:
//!
//! * `Durable` / `Accepted`: all of it is kept.
//! * `Full`: **none of it was written, and nothing of it will ever appear.**
//!
//! A core gives out `Seq`s when it fills a batch, before it knows the outcome. If batch 5 came back
//! `Full` and batch 6, already queued, were written, its `Seq`s would stand behind a hole. So a
//! refusal holds for a whole *term*: once a batch of term `t` of a core is refused, every later
//! batch of that core whose term is `t` or older is refused too, also when space is back. The core,
//! when it sees `Full`, gives out no more places and keeps the refused batches in their order. When
//! all have come back and there is space it moves to `term.next()` and submits them again as they
//! are, then those after them. So the places that were given out stay given out, and nothing has
//! to be taken back; nobody was told of them meanwhile. Its queue is in order, so no batch of an
//! old term can follow one of the new.
//!
//! # The two ways to be full
//!
//! The free space is looked at (at most every `PROBE_INTERVAL`) *before* RocksDB runs out: then
//! nothing of a batch is written, and `Full` is the truth. If RocksDB nevertheless reports "no
//! space" for a write, whether that write appears after a restart is unknown, so neither answer
//! would be true. The group is *held*: nothing is answered, nothing else is taken, until there is
//! space again; then the same group is written again (batches are replayable) and is `Durable`.
//! If the process is stopped before, nothing of it was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use wire::{BatchNumber, CoreId};

use variants::Variant;

use crate::batch::{Batch, Term};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::options::SyncMode;
use crate::space::Space;

/// Attempts to write a held group again after its space came back. RocksDB resumes by itself,
/// looking every five seconds; thirty seconds without success mean that it will not.
const HELD_ATTEMPTS_MAX: u32 = 120;

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It is on this host's disk.
    Durable,
    /// It is in the operating system's hands, and on the disk within the interval.
    Accepted,
    /// There is no space: nothing of it was written and nothing of it will appear. So it is with
    /// every later batch of this core and term; submit them again, in order, in the next term.
    Full,
}

/// A batch that is through, handed back to be begun again.
#[derive(Debug)]
pub struct Through {
    /// Whose it was.
    pub core: CoreId,
    /// Which one.
    pub number: BatchNumber,
    /// What became of it.
    pub outcome: Outcome,
    /// Its memory.
    pub batch: Batch,
}

/// The disk failed. The page cache cannot be trusted after a failed sync, so nothing may be
/// acknowledged any more: end the process, and let recovery find out what was kept.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{action} failed, ending the process so that recovery decides what was kept: {source}")]
pub struct Fatal {
    /// What was tried.
    pub action: &'static str,
    /// What the engine said.
    pub source: EngineError,
}

#[derive(Clone, Copy, Debug)]
struct CoreState {
    last: BatchNumber,
    refused: Option<Term>,
}

#[derive(Debug)]
struct Held {
    group: Vec<Batch>,
    attempts: u32,
    next_at: Duration,
}

/// The writer without its thread. `commit` and `poll` are called with the time and append what is
/// through.
#[derive(Debug)]
pub struct Committer<E> {
    engine: Arc<E>,
    sync: SyncMode,
    cores: Vec<CoreState>,
    space: Space,
    held: Option<Held>,
    /// When the oldest unsynced write was made.
    unsynced_since: Option<Duration>,
}

impl<E: Engine> Committer<E> {
    /// For `cores` cores, none of which has submitted anything.
    #[must_use]
    pub fn new(engine: Arc<E>, sync: SyncMode, cores: u16, space: Space) -> Self {
        let core = CoreState { last: BatchNumber::ZERO, refused: None };
        Self {
            engine,
            sync,
            cores: vec![core; usize::from(cores)],
            space,
            held: None,
            unsynced_since: None,
        }
    }

    /// Writes what may be written of `group` (sealed, each core's in order) as one change, and
    /// empties it. Not to be called while `is_holding`.
    ///
    /// # Errors
    /// The disk failed; nothing may be acknowledged any more.
    pub fn commit(
        &mut self,
        now: Duration,
        group: &mut Vec<Batch>,
        out: &mut Vec<Through>,
    ) -> Result<(), Fatal> {
        assert!(self.held.is_none(), "a held group goes first");
        let full = self.space.check(now);
        let mut kept = Vec::with_capacity(group.len());
        for mut batch in group.drain(..) {
            batch.seal();
            let core = &mut self.cores[usize::from(batch.core().0)];
            assert!(
                core.last < batch.number(),
                "the batches of a core are kept in ascending order"
            );
            let is_refused = core.refused.is_some_and(|refused| batch.term() <= refused);
            if full || is_refused && !variants::is(Variant::RefusalForgotten) {
                core.refused = core.refused.max(Some(batch.term()));
                out.push(Through::new(batch, Outcome::Full));
            } else {
                core.last = batch.number();
                kept.push(batch);
            }
        }
        self.write(now, kept, 0, out)
    }

    /// Looks at the free space before anything is committed, so that a store that starts on a full
    /// disk says so.
    pub(crate) fn look(&mut self, now: Duration) {
        self.space.look(now);
    }

    /// Does what is due: a sync in interval mode, another attempt at a held group, a look at the
    /// free space while it is full.
    ///
    /// # Errors
    /// The disk failed; nothing may be acknowledged any more.
    pub fn poll(&mut self, now: Duration, out: &mut Vec<Through>) -> Result<(), Fatal> {
        if self.space.is_full() {
            self.space.check(now);
        }
        if let Some(held) = self.held.take_if(|held| held.next_at <= now) {
            if self.space.is_full() {
                self.held = Some(Held { next_at: now + Space::PROBE_INTERVAL, ..held });
            } else {
                self.write(now, held.group, held.attempts + 1, out)?;
            }
        }
        if let (SyncMode::Interval(interval), Some(since)) = (self.sync, self.unsynced_since)
            && now >= since + interval
        {
            self.sync_now()?;
        }
        Ok(())
    }

    /// Makes durable what was accepted; before a clean end.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync_now(&mut self) -> Result<(), Fatal> {
        if self.unsynced_since.take().is_some() {
            self.engine.sync().map_err(|source| Fatal { action: "the sync of the log", source })?;
        }
        Ok(())
    }

    /// When `poll` is due next; `None` if only a batch can change anything.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let sync = match (self.sync, self.unsynced_since) {
            (SyncMode::Interval(interval), Some(since)) => Some(since + interval),
            _ => None,
        };
        let held = self.held.as_ref().map(|held| held.next_at);
        [sync, held, self.space.due()].into_iter().flatten().min()
    }

    /// A group waits for space: commit nothing else.
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// There is no space: batches come back `Full`, or wait behind a held group.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.space.is_full() || self.held.is_some()
    }

    fn write(
        &mut self,
        now: Duration,
        group: Vec<Batch>,
        attempts: u32,
        out: &mut Vec<Through>,
    ) -> Result<(), Fatal> {
        if group.is_empty() {
            return Ok(());
        }
        let sync = self.sync == SyncMode::Always;
        let syncs = sync && !variants::is(Variant::AckBeforeSync);
        let written = self.engine.write(&mut group.iter().map(Batch::ops), syncs);
        match written {
            Err(EngineError::NoSpace(_)) if variants::is(Variant::NoSpaceIsDone) => {
                out.extend(group.into_iter().map(|batch| Through::new(batch, Outcome::Durable)));
                Ok(())
            }
            Ok(()) => {
                let outcome = if sync { Outcome::Durable } else { Outcome::Accepted };
                if !sync {
                    self.unsynced_since.get_or_insert(now);
                }
                out.extend(group.into_iter().map(|batch| Through::new(batch, outcome)));
                Ok(())
            }
            Err(EngineError::NoSpace(_)) if attempts < HELD_ATTEMPTS_MAX => {
                self.held = Some(Held { group, attempts, next_at: now + Space::PROBE_INTERVAL });
                Ok(())
            }
            Err(source) => Err(Fatal { action: "a write", source }),
        }
    }
}

impl Through {
    const fn new(batch: Batch, outcome: Outcome) -> Self {
        Self { core: batch.core(), number: batch.number(), outcome, batch }
    }
}
