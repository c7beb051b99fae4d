//! A running gateway: its cores, and how they start and end together.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use router::mesh::{MeshPort, mesh};
use router::shard_map::ShardMap;
use rustix::io::Errno;
use store::{Hooks, RecoveryReport, Service, Store, StoreError};
use uring::{PreparedRing, Ring, RingError};
use wire::{CoreId, Epoch};

use crate::auth::{KeyError, KeyRing};
use crate::clock::{Clock, Now};
use crate::evacuation::Order;
use crate::limits::Limits;
use crate::messages::{Delivery, Request};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::reactor::{Ending, Parts, Reactor, listen};
use crate::shard::{Common, Shard, fingerprint};

/// The gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The rings.
    #[error("{ring}{advice}", ring = .0, advice = ring_advice(.0))]
    Ring(#[from] RingError),
    /// An address.
    #[error("cannot listen on {address}: {errno}{}", advice(*.errno))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        errno: Errno,
    },
    /// The data directory was made with fewer shards than cores are asked for.
    #[error("server.cores = {cores}: the data directory has only {shards} shards; use fewer cores")]
    TooManyCores {
        /// Asked for.
        cores: u16,
        /// There are.
        shards: u16,
    },
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

const fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ADDRINUSE => "; another process listens there: stop it or choose another port",
        Errno::ACCESS => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        Errno::ADDRNOTAVAIL => "; this host has no such address",
        _ => "",
    }
}

/// Which keys of the configuration make a ring as large as it is.
const fn ring_advice(error: &RingError) -> &'static str {
    match error {
        RingError::FilesLimit { .. } => "; the table is limits.connections_per_core_max and 256",
        RingError::Memory { .. } => "; see io.receive_buffers and limits.connections_per_core_max",
        _ => "",
    }
}

/// A gateway that accepts.
#[derive(Debug)]
pub struct Gateway {
    cores: Vec<JoinHandle<Result<(), RingError>>>,
    ending: Arc<Ending>,
    wakers: Vec<uring::Waker>,
    metrics: Arc<Metrics>,
    addresses: Vec<SocketAddr>,
    recovery: RecoveryReport,
    keys: Arc<KeyRing>,
}

/// A core before it has its thread.
struct Prepared {
    ring: PreparedRing,
    listeners: Vec<uring::Listener>,
}

impl Gateway {
    /// Opens the data directory, recovers it, and starts a thread for each core.
    ///
    /// The order matters: the directory is locked before anything else is touched, recovery is over
    /// before a core can ask, and every core has its ring before any can be woken.
    ///
    /// # Errors
    /// What could not be had, by name, with what to do.
    pub fn start(limits: Limits) -> Result<Self, StartError> {
        Self::start_with(limits, |common, port, now, store| {
            let core = port.core();
            Shard::new(common, port, now, || store.new_batch(core))
        })
    }

    /// As [`Self::start`], with another policy; `make` makes that of one core, on its thread.
    ///
    /// # Errors
    /// What could not be had, by name, with what to do.
    pub fn start_with<P, M>(limits: Limits, make: M) -> Result<Self, StartError>
    where
        P: Policy,
        M: Fn(Common, MeshPort<Request, Delivery>, Now, &Service) -> P + Clone + Send + 'static,
    {
        let (store, recovery) = Store::open(&limits.data, &limits.store)?;
        let keys = Arc::new(KeyRing::open(&limits.data, limits.clock_skew)?);
        let identity = store.identity();
        let (shards, cores) = (identity.shards, limits.cores);
        if shards < cores {
            return Err(StartError::TooManyCores { cores, shards });
        }
        let common = Common {
            keys: Arc::clone(&keys),
            epoch: Epoch(identity.epoch),
            map: ShardMap::new(shards, cores),
            limits: Arc::new(limits),
        };
        let mut prepared = prepare(&common.limits)?;
        let addresses = local_addresses(&prepared[0].listeners);
        let wakers: Vec<uring::Waker> = prepared.iter().map(|core| core.ring.waker()).collect();
        let handles: Vec<_> = prepared.iter().map(|core| core.ring.handle()).collect();
        let ports = mesh(cores);
        let bells: Vec<_> = ports.iter().map(MeshPort::bell).collect();
        let hooks = Hooks {
            notify: notify(bells.clone(), wakers.clone()),
            fingerprint,
            on_fatal: Box::new(|fatal| tracing::error!(%fatal, "the process ends")),
            free_bytes: None,
        };
        let store = Arc::new(store.start(cores, hooks)?);
        let metrics = Arc::new(Metrics::new(cores, Arc::clone(&store)));
        let ending = Arc::new(Ending::default());
        // A connection can be passed only to a ring that is enabled: nobody accepts before all are.
        let enabled = Arc::new(Barrier::new(usize::from(cores)));
        let mut threads = Vec::with_capacity(usize::from(cores));
        let clock = Clock::start();
        for (port, Prepared { ring, listeners }) in ports.into_iter().zip(prepared.drain(..)) {
            let core = port.core();
            let (common, store) = (common.clone(), Arc::clone(&store));
            let (metrics, ending) = (Arc::clone(&metrics), Arc::clone(&ending));
            let (wakers, handles, bells) = (wakers.clone(), handles.clone(), bells.clone());
            let (enabled, make) = (Arc::clone(&enabled), make.clone());
            let run = move || -> Result<(), RingError> {
                let shard = make(common, port, clock.now(), &store);
                let ring = ring.enable();
                enabled.wait();
                let ring: Ring = ring?;
                let parts = Parts {
                    core,
                    cores,
                    ring,
                    handles,
                    wakers,
                    bells,
                    shard,
                    store: Arc::clone(&store),
                    metrics,
                    ending,
                    clock,
                };
                Reactor::new(parts, listeners).run()
            };
            let thread = std::thread::Builder::new().name(format!("core-{}", core.0)).spawn(run);
            threads.push(thread.map_err(StartError::Thread)?);
        }
        Ok(Self { cores: threads, ending, wakers, metrics, addresses, recovery, keys })
    }

    /// Where it listens, with the ports that the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What recovery found.
    #[must_use]
    pub const fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Its numbers.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Asks it to end: see [`Drainer`].
    #[must_use]
    pub fn drainer(&self) -> Drainer {
        Drainer { ending: Arc::clone(&self.ending), wakers: self.wakers.clone() }
    }

    /// Waits until every core has ended, then stops the store: all that was accepted is synced.
    ///
    /// # Errors
    /// A ring failed.
    pub fn wait(self) -> Result<(), RingError> {
        let mut result = Ok(());
        for core in self.cores {
            let ended = core.join().expect("a core that panics ends the process");
            result = result.and(ended);
        }
        self.metrics.store.stop();
        result
    }
}

/// Ends a gateway from another thread: sessions are told to reconnect and closed, what was accepted
/// is committed, then the cores end.
#[derive(Clone, Debug)]
pub struct Drainer {
    ending: Arc<Ending>,
    wakers: Vec<uring::Waker>,
}

impl Drainer {
    /// Begins the drain. A second call does nothing.
    pub fn drain(&self) {
        self.ending.requested.store(true, Ordering::Relaxed);
        self.wakers.iter().for_each(uring::Waker::wake);
    }

    /// Sends all sessions away at an even rate; the process goes on, and lets nobody in.
    pub fn evacuate(&self, order: Order) {
        self.ending.evacuation.set(Some(order));
        self.wakers.iter().for_each(uring::Waker::wake);
    }

    /// Ends an evacuation: who is here stays, and others may come again.
    pub fn stay(&self) {
        self.ending.evacuation.set(None);
        self.wakers.iter().for_each(uring::Waker::wake);
    }

    /// The evacuation in force.
    #[must_use]
    pub fn evacuation(&self) -> Option<Arc<Order>> {
        self.ending.evacuation.order()
    }

    /// Whether a drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.ending.requested.load(Ordering::Relaxed)
    }
}

/// A ring and listening sockets for each core. All listen before the first one accepts, so that a
/// busy port is found before anything has started.
fn prepare(limits: &Limits) -> Result<Vec<Prepared>, StartError> {
    let failed = |(address, errno)| StartError::Listen { address, errno };
    let mut addresses = limits.listen.clone();
    let mut prepared = Vec::with_capacity(usize::from(limits.cores));
    for address in &addresses {
        // With SO_REUSEPORT a second gateway of the same user could share the port unnoticed.
        let exclusive = uring::ListenOptions { reuse_port: false, ..Default::default() };
        uring::listen(*address, exclusive).map_err(|errno| failed((*address, errno)))?;
    }
    for _ in 0..limits.cores {
        let listeners = listen(&addresses).map_err(failed)?;
        // Port 0: the others listen where the first one was put.
        addresses = local_addresses(&listeners);
        prepared.push(Prepared { ring: Ring::prepare(&limits.ring)?, listeners });
    }
    Ok(prepared)
}

fn local_addresses(listeners: &[uring::Listener]) -> Vec<SocketAddr> {
    let address = |listener: &uring::Listener| listener.local_address();
    listeners.iter().map(address).collect::<Result<_, _>>().expect("a listening socket has one")
}

/// Wakes a core that sleeps, for the store's threads.
fn notify(bells: Vec<Arc<router::mesh::Bell>>, wakers: Vec<uring::Waker>) -> Box<store::Notify> {
    Box::new(move |CoreId(core)| {
        if bells[usize::from(core)].ring() {
            wakers[usize::from(core)].wake();
        }
    })
}
