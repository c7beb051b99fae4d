//! The writer's thread: the shell around `Committer`. Takes whatever is queued, has it committed,
//! gives it back, wakes the cores, and parks when there is nothing to do. No timer adds latency: a
//! group is whatever arrived during the last write.

use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

use wire::CoreId;

use crate::batch::Batch;
use crate::clock;
use crate::commit::{Committer, Fatal, Outcome, Through};
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::pressure::Pressure;
use crate::service::Shared;

/// How old a published pressure may be. RocksDB's own limits lie far enough behind `Stop` that a
/// tenth of a second of full speed (some 20 MB) does not reach them.
const PRESSURE_INTERVAL: Duration = Duration::from_millis(100);

/// Called with what was fatal, once, before the process ends.
pub type OnFatal = Box<dyn FnOnce(&Fatal) + Send>;

pub(crate) struct Writer<E> {
    pub(crate) engine: Arc<E>,
    pub(crate) committer: Committer<E>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) group_bytes_max: usize,
    pub(crate) on_fatal: OnFatal,
}

/// What the thread keeps between two turns.
#[derive(Default)]
struct Turn {
    group: Vec<Batch>,
    out: Vec<Through>,
    pressure_at: Option<Duration>,
    was_holding: bool,
}

impl<E: Engine> Writer<E> {
    /// Runs until it is asked to stop and everything submitted is through, or the disk fails.
    pub(crate) fn run(mut self) {
        let mut turn = Turn::default();
        loop {
            match self.turn(&mut turn) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fatal) => self.end_process(&fatal),
            }
        }
    }

    /// One turn; whether there will be another.
    fn turn(&mut self, turn: &mut Turn) -> Result<bool, Fatal> {
        let now = clock::monotonic();
        let stopping = self.shared.is_stopping();
        self.committer.poll(now, &mut turn.out)?;
        if !self.committer.is_holding() {
            self.take_group(&mut turn.group);
        }
        let idle = turn.group.is_empty() && turn.out.is_empty();
        if !turn.group.is_empty() {
            self.commit(now, turn)?;
        }
        self.publish(now, turn);
        self.give_back(turn);
        if !idle {
            return Ok(true);
        }
        if stopping {
            // The flag was read before the queue was found empty: nothing can follow. A held group
            // has not been acknowledged; what was kept of it is for recovery to find.
            self.committer.sync_now()?;
            return Ok(false);
        }
        self.park(now);
        Ok(true)
    }

    fn take_group(&self, group: &mut Vec<Batch>) {
        let mut bytes = 0;
        while bytes < self.group_bytes_max
            && let Some(batch) = self.shared.batches.pop()
        {
            bytes += batch.bytes();
            group.push(batch);
        }
    }

    fn commit(&mut self, now: Duration, turn: &mut Turn) -> Result<(), Fatal> {
        let Metrics { group_batches, group_messages, group_bytes, write_micros, .. } =
            &self.shared.metrics;
        group_batches.record(turn.group.len() as u64);
        group_messages
            .record(turn.group.iter().map(|batch| u64::from(batch.message_count())).sum());
        group_bytes.record(turn.group.iter().map(|batch| batch.bytes() as u64).sum());
        let result = self.committer.commit(now, &mut turn.group, &mut turn.out);
        write_micros.record(micros(clock::monotonic() - now));
        result
    }

    /// Tells the cores how it stands, before they are woken.
    fn publish(&self, now: Duration, turn: &mut Turn) {
        let holding = self.committer.is_holding();
        if holding && !turn.was_holding {
            self.shared.metrics.held_groups.add(1);
        }
        turn.was_holding = holding;
        let full = self.committer.is_full();
        if full != self.shared.signals.is_full() {
            if full {
                tracing::error!("the disk is full: nothing is accepted until there is space");
            } else {
                tracing::info!("there is space on the disk again");
            }
            self.shared.signals.set_full(full);
        }
        if turn.pressure_at.is_none_or(|at| now >= at + PRESSURE_INTERVAL) {
            turn.pressure_at = Some(now);
            self.shared.signals.set_pressure(Pressure::of(&self.engine.load()));
        }
    }

    fn give_back(&self, turn: &mut Turn) {
        let mut last: Option<CoreId> = None;
        for through in turn.out.drain(..) {
            if through.outcome == Outcome::Full {
                self.shared.metrics.refused_batches.add(1);
            }
            let core = through.core;
            // Neighbours of one core share a wake-up; a further one is only superfluous.
            if let Some(last) = last
                && last != core
            {
                self.shared.notify(last);
            }
            last = Some(core);
            let queue = &self.shared.completions(core).through;
            queue.push(through).expect("the queue holds as many as may be in flight");
        }
        if let Some(last) = last {
            self.shared.notify(last);
        }
    }

    /// Until a batch comes or something is due.
    fn park(&self, now: Duration) {
        let pressed = self.shared.signals.pressure() != Pressure::None;
        let pressure = pressed.then(|| now + PRESSURE_INTERVAL);
        match [self.committer.due(), pressure].into_iter().flatten().min() {
            Some(due) => thread::park_timeout(due.saturating_sub(now)),
            None => thread::park(),
        }
    }

    fn end_process(self, fatal: &Fatal) -> ! {
        tracing::error!(%fatal, "the store failed");
        (self.on_fatal)(fatal);
        std::process::abort();
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Wakes a parked thread; costs one exchange if it is not parked.
pub(crate) fn wake(thread: &Thread) {
    thread.unpark();
}
