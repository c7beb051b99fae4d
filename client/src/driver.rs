//! The shell around a session: a socket, a clock, and whoever waits for answers. It decides
//! nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Buf;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use wire::{InboxSeq, UserId};

use crate::address::Address;
use crate::config::Tokens;
use crate::error::{End, Lost, RequestError};
use crate::event::Event;
use crate::gateways::{GatewayList, Gateways};
use crate::machine::{Machine, RequestId, Saved, Settings, Step};
use crate::request::{Answer, Request};
use crate::store::{InMemory, Store};

/// From the question for a gateway to its socket.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Where the next deadline is when there is none.
const FAR: Duration = Duration::from_secs(3600);

thread_local! {
    /// One for all sessions of a thread: an idle session has none.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

type Outcome = Result<Answer, RequestError>;

/// A session, shared between its driver and its handles. The lock is held for the machine's work
/// and, in a session with a store, for the store's; never over an await.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    start: Instant,
    /// Something was asked: the driver looks again.
    asked: Notify,
    /// There is an event, or never will be one again.
    told: Notify,
    /// The session is over.
    over: Notify,
}

struct Inner {
    machine: Machine,
    store: Box<dyn Store>,
    waiting: HashMap<RequestId, oneshot::Sender<Outcome>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// How a request is made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ask {
    /// For whom a service asks.
    pub(crate) as_user: Option<UserId>,
    /// How long the answer may take.
    pub(crate) wait_max: Option<Duration>,
    /// It may have been made before.
    pub(crate) may_be_kept: bool,
}

/// Who the driver asks before it connects.
pub(crate) struct Sources {
    pub(crate) gateways: Arc<dyn Gateways>,
    pub(crate) tokens: Arc<dyn Tokens>,
    /// One that was had already.
    pub(crate) token: Option<String>,
}

impl Shared {
    /// A session that has not begun.
    pub(crate) fn new(settings: Settings, saved: Saved, store: Box<dyn Store>) -> Arc<Self> {
        let machine = Machine::new(settings, saved, StdRng::from_rng(&mut rand::rng()));
        Arc::new(Self {
            inner: Mutex::new(Inner { machine, store, waiting: HashMap::new() }),
            start: Instant::now(),
            asked: Notify::new(),
            told: Notify::new(),
            over: Notify::new(),
        })
    }

    /// Asks, and awaits the answer. A request that was taken goes on when the future is dropped.
    pub(crate) async fn request(&self, request: Request, ask: Ask) -> Outcome {
        let answer = self.submit(request, ask)?;
        self.asked.notify_one();
        // The driver was stopped with the last handle, or with the runtime.
        answer.await.unwrap_or(Err(RequestError::Ended(End::Left)))
    }

    fn submit(
        &self,
        request: Request,
        ask: Ask,
    ) -> Result<oneshot::Receiver<Outcome>, RequestError> {
        let deadline = ask.wait_max.map(|wait| self.now() + wait);
        let inner = &mut *self.lock();
        inner.machine.check(&request)?;
        if request.nonce().is_some() {
            let noted = inner.store.add(inner.machine.next_id(), &request);
            noted.map_err(|error| RequestError::Store(error.to_string()))?;
        }
        let id = inner.machine.submit(request, ask.as_user, deadline)?;
        if ask.may_be_kept {
            inner.machine.mark_retry(id);
        }
        let (sender, receiver) = oneshot::channel();
        inner.waiting.insert(id, sender);
        Ok(receiver)
    }

    pub(crate) fn keep(&self, place: InboxSeq) {
        let now = self.now();
        self.lock().machine.keep(now, place);
        self.asked.notify_one();
    }

    /// The next event; `None` when the session is over and all were taken.
    pub(crate) async fn next_event(&self) -> Option<Event> {
        loop {
            let told = self.told.notified();
            {
                let now = self.now();
                let mut inner = self.lock();
                let event = inner.machine.next_event(now);
                let is_over = inner.machine.end().is_some();
                if inner.machine.has_event() || is_over {
                    self.told.notify_one(); // Another reader may wait as well.
                }
                if event.is_some() || is_over {
                    self.asked.notify_one();
                    return event;
                }
            }
            // What was taken before is kept now.
            self.asked.notify_one();
            told.await;
        }
    }

    pub(crate) fn try_next_event(&self) -> Option<Event> {
        let now = self.now();
        let event = self.lock().machine.next_event(now);
        self.asked.notify_one();
        event
    }

    /// Waits until there is an event, or never will be one again.
    pub(crate) async fn ready(&self) {
        loop {
            let told = self.told.notified();
            {
                let inner = self.lock();
                if inner.machine.has_event() || inner.machine.end().is_some() {
                    return self.told.notify_one(); // Another reader may wait as well.
                }
            }
            told.await;
        }
    }

    /// Says good-bye, and waits until that is done.
    pub(crate) async fn leave(&self) {
        let now = self.now();
        self.lock().machine.leave(now);
        self.asked.notify_one();
        let mut over = std::pin::pin!(self.over.notified());
        over.as_mut().enable();
        if self.end().is_none() {
            over.await;
        }
    }

    /// Lets go of the store: nothing is stored from now on.
    pub(crate) fn close_store(&self) {
        self.lock().store = Box::new(InMemory);
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.lock().machine.end().cloned()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn at(&self, deadline: Option<Duration>) -> Instant {
        // A deadline beyond what the clock can say is none.
        let far = self.now() + FAR;
        self.start + deadline.map_or(far, |deadline| deadline.min(far))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("a thread that panicked under the lock has ended the process")
    }

    /// Does what is due, and passes on what came of it.
    fn turn<T>(&self, work: impl FnOnce(&mut Machine, Duration) -> T) -> T {
        let now = self.now();
        let mut inner = self.lock();
        let result = work(&mut inner.machine, now);
        inner.machine.handle_time(now);
        inner.pass_on();
        if inner.machine.has_event() {
            self.told.notify_one();
        }
        result
    }

    fn deadline(&self) -> Instant {
        let deadline = self.lock().machine.deadline();
        self.at(deadline)
    }
}

impl Inner {
    fn pass_on(&mut self) {
        while let Some((id, outcome)) = self.machine.next_outcome() {
            // What has no answer when the session ends is for the next run.
            if !matches!(outcome, Err(RequestError::Ended(_))) {
                let removed = self.store.remove(id);
                self.note(removed);
            }
            if let Some(waiting) = self.waiting.remove(&id) {
                let _ = waiting.send(outcome); // Whoever asked may have gone.
            }
        }
        if let Some((epoch, cursor)) = self.machine.next_save() {
            let kept = self.store.keep(epoch, cursor);
            self.note(kept);
        }
    }

    fn note(&mut self, stored: io::Result<()>) {
        if let Err(error) = stored {
            self.machine.handle_store_failed(&error);
        }
    }
}

/// Runs a session to its end.
pub(crate) async fn drive(shared: Arc<Shared>, mut sources: Sources) {
    let mut list = None;
    loop {
        match shared.turn(Machine::step) {
            Step::Over => {
                shared.told.notify_one();
                return shared.over.notify_waiters();
            }
            Step::Rest(_) => tokio::select! {
                () = shared.asked.notified() => {}
                () = sleep_until(shared.deadline()) => {}
            },
            Step::Connect { to, attempt, needs_token } => {
                let wish = (to, attempt, needs_token);
                let connected = connect(&shared, &mut sources, &mut list, wish);
                let Some(connected) = while_wanted(&shared, connected).await else { continue };
                match connected {
                    Ok((stream, address, token)) => {
                        shared.turn(|it, now| it.handle_connected(now, &address, token));
                        talk(&shared, &stream).await;
                    }
                    Err(lost) => shared.turn(|it, now| it.handle_connect_failed(now, lost)),
                }
            }
            Step::Talk => unreachable!("`talk` returns when this is not said any more"),
        }
    }
}

/// Awaits a connection, for as long as one is wanted.
async fn while_wanted<T>(shared: &Shared, connected: impl Future<Output = T>) -> Option<T> {
    let mut connected = std::pin::pin!(connected);
    loop {
        tokio::select! {
            connected = &mut connected => return Some(connected),
            () = shared.asked.notified() => {}
            () = sleep_until(shared.deadline()) => {}
        }
        if !shared.turn(|machine, _| machine.is_connecting()) {
            return None;
        }
    }
}

type Connected = (TcpStream, Address, String);

async fn connect(
    shared: &Shared,
    sources: &mut Sources,
    list: &mut Option<(GatewayList, Duration)>,
    (to, attempt, needs_token): (Option<Address>, u32, bool),
) -> Result<Connected, Lost> {
    let connecting = async {
        let address = match to {
            Some(address) => address,
            None => choose(shared, &*sources.gateways, list, attempt).await?,
        };
        let token = match sources.token.take() {
            Some(token) => token,
            None if !needs_token => String::new(),
            None => sources.tokens.token().await.map_err(Lost::Unprepared)?,
        };
        let stream = TcpStream::connect((&*address.name, address.port)).await;
        let unreachable =
            |error: io::Error| Lost::Unreachable(format!("{}: {error}", address.host));
        let stream = stream.map_err(unreachable)?;
        // Frames are small, and each is waited for.
        stream.set_nodelay(true).map_err(unreachable)?;
        Ok((stream, address, token))
    };
    let too_late = |_| Lost::Unreachable(format!("no connection within {CONNECT_WAIT_MAX:?}"));
    timeout(CONNECT_WAIT_MAX, connecting).await.map_err(too_late)?
}

/// A gateway of the list, which is asked for again when it is old or has been tried.
async fn choose(
    shared: &Shared,
    gateways: &dyn Gateways,
    list: &mut Option<(GatewayList, Duration)>,
    attempt: u32,
) -> Result<Address, Lost> {
    if list.as_ref().is_none_or(|(_, good_until)| shared.now() >= *good_until) {
        match gateways.list().await {
            Ok(new) => {
                let good_until = shared.now().saturating_add(new.ttl());
                *list = Some((new, good_until));
            }
            // An old list is better than none: gateways live longer than whoever tells of them
            // may be away.
            Err(error) if list.is_none() => return Err(Lost::Unprepared(error.to_string())),
            Err(_) => {}
        }
    }
    let (list, _) = list.as_ref().expect("there is an old one or a new one");
    Ok(list.choose(attempt).address.clone())
}

/// Brings bytes in both directions until the machine is done with the socket.
async fn talk(shared: &Shared, stream: &TcpStream) {
    loop {
        let interest = shared.turn(|machine, now| {
            exchange(machine, now, stream);
            machine.handle_time(now);
            if !machine.output().is_empty() {
                write(machine, now, stream);
            }
            let wants_write = !machine.output().is_empty();
            let talks = machine.step(now) == Step::Talk;
            talks.then(|| match (machine.may_read(), wants_write) {
                (true, false) => Interest::READABLE,
                (true, true) => Interest::READABLE | Interest::WRITABLE,
                (false, _) => Interest::WRITABLE,
            })
        });
        let Some(interest) = interest else { return };
        tokio::select! {
            // What is wrong with the socket, the next read or write tells.
            _ = stream.ready(interest) => {}
            () = shared.asked.notified() => {}
            () = sleep_until(shared.deadline()) => {}
        }
    }
}

/// Reads what is there, once, and writes what can be written.
fn exchange(machine: &mut Machine, now: Duration, stream: &TcpStream) {
    if machine.may_read() {
        let goes_on = BUFFER.with_borrow_mut(|buffer| {
            match stream.try_read(buffer) {
                Ok(0) => return false,
                Ok(count) => machine.handle_bytes(now, &mut buffer[..count]),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
            true
        });
        if !goes_on {
            return machine.handle_disconnected(now);
        }
    }
    write(machine, now, stream);
}

fn write(machine: &mut Machine, now: Duration, stream: &TcpStream) {
    while !machine.output().is_empty() {
        match stream.try_write(machine.output()) {
            Ok(count) => machine.output().advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return machine.handle_disconnected(now),
        }
    }
}
