//! A running gateway: its cores, and how they start and end together.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

use router::mesh::{MeshPort, mesh};
use router::shard_map::ShardMap;
use rustix::io::Errno;
use store::{Hooks, RecoveryReport, Service, Store, StoreError};
use uring::{PreparedRing, Ring, RingError, RingHandle};
use wire::{CoreId, Epoch};

use crate::auth::{KeyError, KeyRing};
use crate::clock::{Clock, Now};
use crate::evacuation::Order;
use crate::limits::Limits;
use crate::messages::{Delivery, Request};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::portable::{self, Entrance, Io};
use crate::reactor::{Ending, Parts, Reactor, listen};
use crate::shard::{Common, Shard, fingerprint};
use crate::shell::Shell;

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
    /// A core, which has logged why.
    #[error("a core could not start: the log says why")]
    Core,
    /// What wakes a core of the portable shell.
    #[error("cannot make an eventfd: {0}")]
    Waker(Errno),
}

/// A core ended before it was to.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// Its ring failed.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// On the portable shell: the kernel gave no epoll instance, or watches no listening socket.
    #[error("epoll cannot be used: {0}")]
    Epoll(std::io::Error),
}

/// How long a start waits for a port that is taken: two seconds, in which rings are taken apart.
const PORT_TRIES_MAX: u32 = 100;
const PORT_INTERVAL: Duration = Duration::from_millis(20);

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
        _ if error.is_unavailable() => "; or run without rings: `--io portable`",
        _ => "",
    }
}

/// A gateway that accepts.
#[derive(Debug)]
pub struct Gateway {
    cores: Vec<JoinHandle<Result<(), CoreError>>>,
    ending: Arc<Ending>,
    wakers: Vec<uring::Waker>,
    metrics: Arc<Metrics>,
    addresses: Vec<SocketAddr>,
    recovery: RecoveryReport,
    keys: Arc<KeyRing>,
}

/// A core before it has its thread.
struct Prepared {
    io: PreparedIo,
    listeners: Vec<uring::Listener>,
}

enum PreparedIo {
    Uring(Box<PreparedRing>),
    Portable(uring::Waker),
}

impl PreparedIo {
    fn waker(&self) -> uring::Waker {
        match self {
            Self::Uring(ring) => ring.waker(),
            Self::Portable(waker) => waker.clone(),
        }
    }
}

/// The ways from each core to every other, to pass connections on: by rings or by entrances.
#[derive(Clone)]
struct Ways {
    handles: Vec<RingHandle>,
    entrances: Vec<Arc<Entrance>>,
    /// A connection can be passed only to a ring that is enabled: nobody accepts before all are.
    enabled: Arc<Barrier>,
}

impl Ways {
    fn new(prepared: &[Prepared], limits: &Limits) -> Self {
        let (mut handles, mut entrances) = (Vec::new(), Vec::new());
        for core in prepared {
            match &core.io {
                PreparedIo::Uring(ring) => handles.push(ring.handle()),
                PreparedIo::Portable(_) => {
                    entrances.push(Entrance::new(limits.ring.descriptors_max));
                }
            }
        }
        Self { handles, entrances, enabled: Arc::new(Barrier::new(prepared.len())) }
    }
}

/// Runs a core on this thread; `started` is called when nothing can fail any more but what fails
/// while it runs.
fn run<P: Policy>(
    parts: Parts<P>,
    Prepared { io, listeners }: Prepared,
    ways: Ways,
    buffer_bytes: u32,
    started: impl FnOnce(),
) -> Result<(), CoreError> {
    match io {
        PreparedIo::Uring(ring) => {
            let ring = ring.enable();
            ways.enabled.wait();
            let reactor = Reactor::new(parts, ring?, ways.handles, listeners);
            started();
            Ok(reactor.run()?)
        }
        PreparedIo::Portable(_) => {
            let listeners =
                listeners.into_iter().map(|it| TcpListener::from(OwnedFd::from(it))).collect();
            let entrances = ways.entrances;
            let io = Io { listeners, entrances, buffer_bytes: buffer_bytes as usize };
            portable::run(parts, io, started).map_err(CoreError::Epoll)
        }
    }
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
        let shell = Shell::choose(common.limits.shell)?;
        let prepared = prepare(&common.limits, shell)?;
        let addresses = local_addresses(&prepared[0].listeners);
        let wakers: Vec<uring::Waker> = prepared.iter().map(|core| core.io.waker()).collect();
        let ways = Ways::new(&prepared, &common.limits);
        let ports = mesh(cores);
        let bells: Vec<_> = ports.iter().map(MeshPort::bell).collect();
        let hooks = Hooks {
            notify: notify(bells.clone(), wakers.clone()),
            fingerprint,
            on_fatal: Box::new(|fatal| tracing::error!(%fatal, "the process ends")),
            free_bytes: None,
        };
        let store = Arc::new(store.start(cores, hooks)?);
        let metrics = Arc::new(Metrics::new(cores, shell, Arc::clone(&store)));
        let ending = Arc::new(Ending::default());
        let (started, all_started) = channel();
        let mut threads = Vec::with_capacity(usize::from(cores));
        let clock = Clock::start();
        for (port, prepared) in ports.into_iter().zip(prepared) {
            let core = port.core();
            let (common, store, make) = (common.clone(), Arc::clone(&store), make.clone());
            let (metrics, ending) = (Arc::clone(&metrics), Arc::clone(&ending));
            let (wakers, bells, ways) = (wakers.clone(), bells.clone(), ways.clone());
            let started = started.clone();
            let body = move || {
                let buffer_bytes = common.limits.ring.buffer_bytes;
                let shard = make(common, port, clock.now(), &store);
                let parts =
                    Parts { core, cores, wakers, bells, shard, store, metrics, ending, clock };
                // Whoever started it waits for this, or has gone for want of another core.
                let started = move || {
                    let _ = started.send(());
                };
                let ended = run(parts, prepared, ways, buffer_bytes, started);
                if let Err(error) = &ended {
                    tracing::error!(core = core.0, %error, "a core ended before it was to");
                }
                ended
            };
            let thread = std::thread::Builder::new().name(format!("core-{}", core.0)).spawn(body);
            threads.push(thread.map_err(StartError::Thread)?);
        }
        drop(started);
        if all_started.iter().count() < usize::from(cores) {
            return Err(StartError::Core);
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
    /// A core ended before it was to.
    pub fn wait(self) -> Result<(), CoreError> {
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

/// A ring, or what stands for it, and listening sockets for each core. All listen before the first
/// one accepts, so that a busy port is found before anything has started.
fn prepare(limits: &Limits, shell: Shell) -> Result<Vec<Prepared>, StartError> {
    let failed = |(address, errno)| StartError::Listen { address, errno };
    let mut addresses = limits.listen.clone();
    let mut prepared = Vec::with_capacity(usize::from(limits.cores));
    let wait = || std::thread::park_timeout(PORT_INTERVAL);
    for address in &addresses {
        await_port(*address, wait).map_err(|errno| failed((*address, errno)))?;
    }
    for _ in 0..limits.cores {
        let listeners = listen(&addresses).map_err(failed)?;
        // Port 0: the others listen where the first one was put.
        addresses = local_addresses(&listeners);
        let io = match shell {
            Shell::Uring => PreparedIo::Uring(Box::new(Ring::prepare(&limits.ring)?)),
            Shell::Portable => {
                PreparedIo::Portable(uring::Waker::new().map_err(StartError::Waker)?)
            }
        };
        prepared.push(Prepared { io, listeners });
    }
    Ok(prepared)
}

/// Makes sure that nobody listens on `address`: with SO_REUSEPORT a second gateway of the same user
/// could share it unnoticed. A gateway that was killed may do so for a moment after its end, until
/// the kernel has taken its rings apart, which hold the sockets.
fn await_port(address: SocketAddr, mut wait: impl FnMut()) -> Result<(), Errno> {
    let exclusive = uring::ListenOptions { reuse_port: false, ..Default::default() };
    for _ in 0..PORT_TRIES_MAX {
        match uring::listen(address, exclusive) {
            Err(Errno::ADDRINUSE) => wait(),
            result => return result.map(drop),
        }
    }
    Err(Errno::ADDRINUSE)
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_start_waits_for_the_port_of_a_gateway_that_was_killed_but_not_for_ever() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let mut waits = 0;
        assert_eq!(await_port(address, || waits += 1), Err(Errno::ADDRINUSE));
        assert_eq!(waits, PORT_TRIES_MAX);
        let mut holder = Some(holder);
        assert_eq!(await_port(address, || drop(holder.take())), Ok(()));
    }
}
