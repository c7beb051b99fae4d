//! The readers' threads. Each takes what waits, answers equal questions with one disk read, and
//! parks when there is nothing.
//!
//! Only questions that *wait together* share a read. Joining a read that has begun would answer
//! from before the question was asked, and a device that has just seen message 10 could get a
//! history without it. Under load more wait together, so sharing grows with the need for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use wire::{ChannelId, CoreId};

use crate::answer::{LogPage, answer};
use crate::clock;
use crate::engine::Engine;
use crate::error::DataError;
use crate::queue::Answer;
use crate::read::{Fingerprint, Read, ReadAnswer};
use crate::service::Shared;
use crate::writer::{micros, wake};

/// Questions one thread takes at a time; bounds how long the last of them waits for the first.
const TAKE_MAX: usize = 32;

/// A question on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) core: CoreId,
    pub(crate) ticket: u64,
    pub(crate) read: Read,
}

pub(crate) struct Reader<E> {
    pub(crate) engine: Arc<E>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) idle: Arc<Idle>,
    pub(crate) readers: usize,
    pub(crate) fingerprint: Fingerprint,
}

/// Whether a reader is about to park.
#[derive(Debug, Default)]
pub(crate) struct Idle(AtomicBool);

impl Idle {
    /// Wakes the reader if it is idle; whether it was.
    ///
    /// The asker pushes, fences, looks at `idle`; the reader sets `idle`, fences, looks at the
    /// queue. One of the two sees the other, so no question is left to a sleeping reader.
    pub(crate) fn wake(&self, reader: &Thread) -> bool {
        fence(Ordering::SeqCst);
        let was_idle = self.0.swap(false, Ordering::AcqRel);
        if was_idle {
            wake(reader);
        }
        was_idle
    }
}

/// What may be shared by several askers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Same {
    Page(LogPage),
    Channel(ChannelId, u32),
}

impl<E: Engine> Reader<E> {
    /// Runs until it is asked to stop and nothing waits.
    pub(crate) fn run(self) {
        let mut jobs = Vec::with_capacity(TAKE_MAX);
        loop {
            let stopping = self.shared.is_stopping();
            self.take(&mut jobs);
            if !jobs.is_empty() {
                answer_together(&*self.engine, self.fingerprint, &mut jobs, &self.shared);
                continue;
            }
            if stopping {
                return;
            }
            self.idle.0.store(true, Ordering::Release);
            fence(Ordering::SeqCst);
            if self.shared.reads.is_empty() && !self.shared.is_stopping() {
                thread::park();
            }
            self.idle.0.store(false, Ordering::Release);
        }
    }

    /// This thread's share of what waits.
    fn take(&self, jobs: &mut Vec<Job>) {
        let share = self.shared.reads.len().div_ceil(self.readers).clamp(1, TAKE_MAX);
        while jobs.len() < share
            && let Some(job) = self.shared.reads.pop()
        {
            jobs.push(job);
        }
    }
}

/// Answers all jobs, equal ones with one read.
fn answer_together<E: Engine>(
    engine: &E,
    fingerprint: Fingerprint,
    jobs: &mut Vec<Job>,
    shared: &Shared,
) {
    let mut done: HashMap<Same, ReadAnswer, RandomState> = HashMap::default();
    for Job { core, ticket, read } in jobs.drain(..) {
        let started_at = clock::monotonic();
        let (found, coalesced) = match same(engine, &read) {
            Err(error) => (ReadAnswer::Failed(error), false),
            Ok(None) => (answer(engine, &read, fingerprint), false),
            Ok(Some(same)) => match done.get(&same) {
                Some(found) => (found.clone(), true),
                None => {
                    let found = match same {
                        Same::Page(page) => page.read(engine).unwrap_or_else(ReadAnswer::Failed),
                        Same::Channel(..) => answer(engine, &read, fingerprint),
                    };
                    (done.entry(same).insert(found).get().clone(), false)
                }
            },
        };
        shared.metrics.reads.add(1);
        shared.metrics.reads_coalesced.add(coalesced.into());
        shared.metrics.read_micros.record(micros(clock::monotonic() - started_at));
        if let ReadAnswer::Failed(error) = &found {
            shared.metrics.reads_failed.add(1);
            tracing::error!(%error, ?read, "a read failed");
        }
        let queue = &shared.completions(core).answers;
        queue
            .push(Answer { ticket, answer: found })
            .expect("the queue holds as many as may be in flight");
        shared.notify(core);
    }
}

/// What the question has in common with equal ones. For a history this asks for the reader's
/// membership, which is hers alone; the page behind it is not.
fn same<E: Engine>(engine: &E, read: &Read) -> Result<Option<Same>, DataError> {
    Ok(match read {
        Read::Channel { channel, nonce_window } => Some(Same::Channel(*channel, *nonce_window)),
        Read::History { .. } => LogPage::of(engine, read)?.map(Same::Page),
        Read::FindSends { .. }
        | Read::Inbox { .. }
        | Read::Sync { .. }
        | Read::Conversations { .. } => None,
    })
}
