//! A started store: the writer's and the readers' threads, and the queues to and from them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle, Thread};

use crossbeam_queue::ArrayQueue;
use wire::CoreId;

use crate::batch::Batch;
use crate::clock;
use crate::commit::{Committer, Through};
use crate::directory::{Directory, free_bytes};
use crate::engine::Engine;
use crate::error::StoreError;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::pressure::{Pressure, Signals};
use crate::queue::{Answer, Completions, Gauge, Notify};
use crate::read::{Fingerprint, Read};
use crate::reader::{Idle, Job, Reader};
use crate::space::{Probe, Space};
use crate::writer::{OnFatal, Writer, wake};

/// What a store needs from who starts it.
pub struct Hooks {
    /// Something waits for a core: wake it. Called from the store's threads.
    pub notify: Box<Notify>,
    /// How contents are compared; see `Fingerprint`.
    pub fingerprint: Fingerprint,
    /// Called once if the disk fails, before the process aborts.
    pub on_fatal: OnFatal,
    /// Asks for the free bytes of the disk; `None`: the file system of the data directory.
    pub free_bytes: Option<Probe>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// What the threads and the cores share.
pub(crate) struct Shared {
    pub(crate) batches: ArrayQueue<Batch>,
    pub(crate) reads: ArrayQueue<Job>,
    completions: Box<[Completions]>,
    pub(crate) signals: Signals,
    pub(crate) metrics: Metrics,
    notify: Box<Notify>,
    stopping: AtomicBool,
}

impl Shared {
    pub(crate) fn completions(&self, core: CoreId) -> &Completions {
        &self.completions[usize::from(core.0)]
    }

    pub(crate) fn notify(&self, core: CoreId) {
        (self.notify)(core);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// A started store. Shared by all cores; no method waits, but `stop`.
pub struct Service {
    shared: Arc<Shared>,
    batches_in_flight: Gauge,
    bytes_in_flight: Gauge,
    reads_in_flight: Gauge,
    batch_bytes_max: usize,
    writer: Thread,
    readers: Vec<(Thread, Arc<Idle>)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    memory_bytes: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Locked as long as anything may write to it.
    _directory: Option<Directory>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("batches_in_flight", &self.batches_in_flight.get())
            .field("bytes_in_flight", &self.bytes_in_flight.get())
            .field("reads_in_flight", &self.reads_in_flight.get())
            .field("pressure", &self.pressure())
            .field("full", &self.is_full())
            .finish_non_exhaustive()
    }
}

impl Service {
    pub(crate) fn start<E: Engine>(
        engine: &Arc<E>,
        directory: Option<Directory>,
        options: &Options,
        cores: u16,
        hooks: Hooks,
    ) -> Result<Self, StoreError> {
        let Hooks { notify, fingerprint, on_fatal, free_bytes } = hooks;
        let completions = |_| Completions {
            through: ArrayQueue::new(options.batches_in_flight_max),
            answers: ArrayQueue::new(options.reads_in_flight_max),
        };
        let shared = Arc::new(Shared {
            batches: ArrayQueue::new(options.batches_in_flight_max),
            reads: ArrayQueue::new(options.reads_in_flight_max),
            completions: (0..cores).map(completions).collect(),
            signals: Signals::default(),
            metrics: Metrics::default(),
            notify,
            stopping: AtomicBool::new(false),
        });
        let probe = free_bytes.unwrap_or_else(|| default_probe(directory.as_ref()));
        let space = Space::new(probe, options.disk_free_bytes_min);
        let mut committer = Committer::new(Arc::clone(engine), options.sync, cores, space);
        committer.look(clock::monotonic());
        shared.signals.set_full(committer.is_full());
        let writer = Writer {
            engine: Arc::clone(engine),
            committer,
            shared: Arc::clone(&shared),
            group_bytes_max: options.group_bytes_max,
            on_fatal,
        };
        let writer = spawn("store-writer", || writer.run())?;
        let mut service = Self {
            shared,
            batches_in_flight: Gauge::new(options.batches_in_flight_max),
            bytes_in_flight: Gauge::new(options.bytes_in_flight_max),
            reads_in_flight: Gauge::new(options.reads_in_flight_max),
            batch_bytes_max: options.batch_bytes_max,
            writer: writer.thread().clone(),
            readers: Vec::with_capacity(options.readers),
            threads: Mutex::new(vec![writer]),
            memory_bytes: {
                let engine = Arc::clone(engine);
                Box::new(move || engine.memory_bytes())
            },
            _directory: directory,
        };
        for _ in 0..options.readers {
            service.start_reader(engine, options.readers, fingerprint)?;
        }
        Ok(service)
    }

    fn start_reader<E: Engine>(
        &mut self,
        engine: &Arc<E>,
        readers: usize,
        fingerprint: Fingerprint,
    ) -> Result<(), StoreError> {
        let idle = Arc::new(Idle::default());
        let reader = Reader {
            engine: Arc::clone(engine),
            shared: Arc::clone(&self.shared),
            idle: Arc::clone(&idle),
            readers,
            fingerprint,
        };
        let thread = spawn("store-reader", || reader.run())?;
        self.readers.push((thread.thread().clone(), idle));
        self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// An empty batch of a core, to be begun. A core makes as many as it wants in flight, once;
    /// afterwards they come back by `poll_through`.
    #[must_use]
    pub fn new_batch(&self, core: CoreId) -> Batch {
        Batch::new(core, self.batch_bytes_max)
    }

    /// Submits a batch. Its outcome comes by `poll_through`, in the order of the submissions.
    ///
    /// # Errors
    /// Gives the batch back, unchanged, if too many batches or bytes are in flight, or the store
    /// is stopping: keep filling it, or stop sequencing until a batch comes back.
    #[expect(clippy::result_large_err, reason = "the batch is moved either way")]
    pub fn try_submit(&self, batch: Batch) -> Result<(), Batch> {
        if self.shared.is_stopping() || !self.batches_in_flight.try_add(1) {
            return Err(batch);
        }
        let bytes = batch.bytes();
        if !self.bytes_in_flight.try_add(bytes) {
            self.batches_in_flight.subtract(1);
            return Err(batch);
        }
        let mut batch = batch;
        batch.seal();
        self.shared.batches.push(batch).expect("the queue holds as many as may be in flight");
        wake(&self.writer);
        Ok(())
    }

    /// The next batch of `core` that is through.
    #[must_use]
    pub fn poll_through(&self, core: CoreId) -> Option<Through> {
        let through = self.shared.completions(core).through.pop()?;
        self.batches_in_flight.subtract(1);
        self.bytes_in_flight.subtract(through.batch.submitted_bytes());
        Some(through)
    }

    /// Asks; the answer comes by `poll_answer` with the same ticket, in any order.
    ///
    /// # Errors
    /// Gives the question back if too many are in flight, or the store is stopping.
    pub fn try_read(&self, core: CoreId, ticket: u64, read: Read) -> Result<(), Read> {
        if self.shared.is_stopping() || !self.reads_in_flight.try_add(1) {
            return Err(read);
        }
        let job = Job { core, ticket, read };
        self.shared.reads.push(job).expect("the queue holds as many as may be in flight");
        // Any idle one will do; if none is idle, one of them finds it when it has answered.
        let _woken = self.readers.iter().any(|(reader, idle)| idle.wake(reader));
        Ok(())
    }

    /// The next answer for `core`.
    #[must_use]
    pub fn poll_answer(&self, core: CoreId) -> Option<Answer> {
        let answer = self.shared.completions(core).answers.pop()?;
        self.reads_in_flight.subtract(1);
        Some(answer)
    }

    /// Whether a batch or an answer waits for `core`: looked at before it sleeps.
    #[must_use]
    pub fn has_completions(&self, core: CoreId) -> bool {
        let completions = self.shared.completions(core);
        !completions.through.is_empty() || !completions.answers.is_empty()
    }

    /// Bytes that the engine keeps in memory. Asks it: for a scrape, not for a turn.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        (self.memory_bytes)()
    }

    /// How near the engine is to stalling; a tenth of a second old at most while batches come.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.shared.signals.pressure()
    }

    /// There is no space: new messages can be refused before they are sequenced.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.signals.is_full()
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Batches submitted and not yet taken back.
    #[must_use]
    pub fn batches_in_flight(&self) -> usize {
        self.batches_in_flight.get()
    }

    /// Stops: nothing more is taken, what was submitted is committed and synced, what was asked is
    /// answered; both can still be polled. Waits for that. A second call does nothing.
    /// To be called when no core submits or asks any more.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            thread.thread().unpark();
            thread.join().expect("a panic ends the process");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|source| StoreError::Thread { name, source })
}

/// The file system of the data directory; without a directory (in memory) there is always space.
fn default_probe(directory: Option<&Directory>) -> Probe {
    match directory.map(|directory| directory.path().to_owned()) {
        Some(path) => probe_of(path),
        None => Box::new(|| Ok(u64::MAX)),
    }
}

fn probe_of(path: PathBuf) -> Probe {
    Box::new(move || free_bytes(&path))
}
