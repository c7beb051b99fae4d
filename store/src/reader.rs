//! The readers' threads. Each takes what waits, answers equal questions with one disk read, and
//! parks when there is nothing.
//!
//! Only questions that *wait together* share a read. Joining a read that has begun would answer
//! from before the question was asked, and a device that has just seen message 10 could get a
//! history without it. Under load more wait together, so sharing grows with the need for it.

use std::sync::Arc;
use std::thread::{self, Thread};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use wire::{ChannelId, CoreId};

use crate::answer::{LogPage, answer};
use crate::atomic::{AtomicBool, Ordering, fence};
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
///
/// The asker pushes, fences, looks at `idle`; the reader sets `idle`, fences, looks at the queue.
/// One of the two sees the other, so no question is left to a sleeping reader.
#[derive(Debug, Default)]
pub(crate) struct Idle(AtomicBool);

impl Idle {
    /// The reader is about to park; it must look at the queue after this and before it does.
    fn announce(&self) {
        self.0.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The reader goes on.
    fn is_over(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// After a push: whether the reader must be woken.
    fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.swap(false, Ordering::AcqRel)
    }

    /// Wakes the reader if it is idle; whether it was.
    pub(crate) fn wake(&self, reader: &Thread) -> bool {
        let was_idle = self.take();
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
            self.idle.announce();
            if self.shared.reads.is_empty() && !self.shared.is_stopping() {
                thread::park();
            }
            self.idle.is_over();
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

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    #[test]
    fn no_question_is_left_to_a_reader_that_parks() {
        loom::model(|| {
            // Stands for the queue: relaxed, so that only the fences order it.
            let waiting = Arc::new(AtomicUsize::new(0));
            let idle = Arc::new(Idle::default());
            let asker = {
                let (waiting, idle) = (Arc::clone(&waiting), Arc::clone(&idle));
                thread::spawn(move || {
                    waiting.store(1, Ordering::Relaxed);
                    idle.take()
                })
            };
            idle.announce();
            let parks = waiting.load(Ordering::Relaxed) == 0;
            let is_woken = asker.join().unwrap();
            assert!(!parks || is_woken, "it parks, and nobody wakes it");
        });
    }
}
