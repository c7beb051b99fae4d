//! The sessions of devices that poll, between their requests.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::machine::Saved;
use client::{
    Answer, Client, Config, End, Event, Events, Fetching, Gateways, Keeping, Request, RequestError,
    RequestId, Store, Tokens,
};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use wire::server::Resume;
use wire::{DeviceId, Epoch, InboxSeq, UserId};

use crate::window::{Page, Window};

/// The longest poll, in seconds: what proxies and phone networks keep a silent connection for.
pub(crate) const WAIT_SECONDS_MAX: u64 = 60;

/// How long a session has to be welcomed before the device is told to come again.
const ONLINE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a send may wait for its answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);

/// How often sessions are looked through for idle ones.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// What a session may hold of its device's: a page or two, and a few sends.
const SESSION_ENTRIES_MAX: usize = 256;
const SESSION_ENTRY_BYTES_MAX: usize = 1024 * 1024;
const SESSION_REQUESTS_MAX: usize = 64;
const SESSION_REQUEST_BYTES_MAX: usize = 256 * 1024;

/// Who a token says somebody is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Whose.
    pub user: UserId,
    /// Which of her devices.
    pub device: DeviceId,
}

/// What [`Verify::verify`] gives: `None` for a token that is not good.
pub type Verifying<'a> = Pin<Box<dyn Future<Output = Option<Identity>> + Send + 'a>>;

/// Whoever can tell whose a token is. It must check: a session of the pool is given to whoever is
/// said to be its device.
pub trait Verify: Send + Sync {
    /// Whose this access token is.
    fn verify<'a>(&'a self, token: &'a str) -> Verifying<'a>;
}

/// Bounds of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Sessions at once; each has a socket, and up to a mebibyte of what waits.
    /// Beyond: the longest idle one is given up, and if none is idle the device is told to come
    /// again.
    pub sessions_max: usize,
    /// A session that was not asked for so long is given up.
    pub idle_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        // Two of the longest polls: a device that comes back at once keeps its session.
        Self { sessions_max: 10_000, idle_max: Duration::from_secs(2 * WAIT_SECONDS_MAX) }
    }
}

/// Sessions of devices that poll. Clones are the same pool.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    gateways: Arc<dyn Gateways>,
    verify: Arc<dyn Verify>,
    settings: Settings,
    sessions: Mutex<HashMap<Identity, Arc<Session>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

/// Why a device is not served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PollError {
    #[error("the session is over: {0}")]
    Ended(End),
    #[error("no gateway welcomes this session just now; come again")]
    Unavailable,
    #[error("all {0} sessions of this process are in use; come again")]
    Full(usize),
}

/// One device's session.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    token: Arc<Bearer>,
    window: Mutex<Window>,
    /// Another request of the device has come: whoever waits gives way.
    taken_over: Notify,
    /// The device has more than before.
    kept: Notify,
    used: Mutex<Instant>,
}

/// The device's newest token.
#[derive(Debug)]
struct Bearer(Mutex<String>);

impl Tokens for Bearer {
    fn token(&self) -> Fetching<'_> {
        let token = locked(&self.0).clone();
        Box::pin(async { Ok(token) })
    }
}

struct SharedBearer(Arc<Bearer>);

impl Tokens for SharedBearer {
    fn token(&self) -> Fetching<'_> {
        self.0.token()
    }
}

/// Where a session begins; the device itself keeps what is to be kept.
struct From(Saved);

impl Store for From {
    fn load(&mut self) -> io::Result<Saved> {
        Ok(std::mem::take(&mut self.0))
    }

    fn add(&mut self, _: RequestId, _: &Request) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: RequestId) -> io::Result<()> {
        Ok(())
    }

    fn keep(&mut self, _: Epoch, _: InboxSeq) -> io::Result<()> {
        Ok(())
    }
}

/// Nothing that panics leaves these values half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// An empty pool.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(gateways: Arc<dyn Gateways>, verify: Arc<dyn Verify>, settings: Settings) -> Self {
        let sessions = Mutex::new(HashMap::new());
        let inner = Arc::new(Inner { gateways, verify, settings, sessions });
        let swept = Arc::downgrade(&inner);
        tokio::spawn(async move {
            let mut rounds = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                rounds.tick().await;
                let Some(inner) = swept.upgrade() else { return };
                inner.sweep(&mut locked(&inner.sessions));
            }
        });
        Self { inner }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        locked(&self.inner.sessions).len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) async fn verify(&self, token: &str) -> Option<Identity> {
        self.inner.verify.verify(token).await
    }

    /// The session of a device that says it has everything of `epoch` up to `after`.
    pub(crate) async fn session_from(
        &self,
        who: Identity,
        token: &str,
        epoch: Epoch,
        after: InboxSeq,
    ) -> Result<Arc<Session>, PollError> {
        let present = self.present(who, token);
        if let Some(session) = present {
            session.taken_over.notify_waiters();
            let serves = locked(&session.window).serves(epoch, after);
            if serves && session.client.end().is_none() {
                return Ok(session);
            }
        }
        self.open(who, token, Saved { epoch, cursor: after, requests: Vec::new() }, true).await
    }

    /// Any session of a device, to send with.
    pub(crate) async fn session(
        &self,
        who: Identity,
        token: &str,
    ) -> Result<Arc<Session>, PollError> {
        match self.present(who, token) {
            Some(session) if session.client.end().is_none() => Ok(session),
            _ => self.open(who, token, Saved::default(), false).await,
        }
    }

    /// A device has everything up to there; nothing if it has no session here.
    pub(crate) fn keep(&self, who: Identity, epoch: Epoch, place: InboxSeq) {
        let session = locked(&self.inner.sessions).get(&who).map(Arc::clone);
        if let Some(session) = session {
            session.touch();
            session.keep(epoch, place);
        }
    }

    /// Ends a device's session, if there is one.
    pub(crate) async fn end(&self, who: Identity) {
        let session = locked(&self.inner.sessions).remove(&who);
        if let Some(session) = session {
            session.client.close().await;
        }
    }

    fn present(&self, who: Identity, token: &str) -> Option<Arc<Session>> {
        let session = Arc::clone(locked(&self.inner.sessions).get(&who)?);
        session.touch();
        token.clone_into(&mut locked(&session.token.0));
        Some(session)
    }

    async fn open(
        &self,
        who: Identity,
        token: &str,
        from: Saved,
        replaces: bool,
    ) -> Result<Arc<Session>, PollError> {
        let floor = from.cursor;
        let token = Arc::new(Bearer(Mutex::new(token.to_owned())));
        let mut config = Config::new(Nowhere, SharedBearer(Arc::clone(&token)));
        config.gateways = Arc::clone(&self.inner.gateways);
        config.store = Box::new(From(from));
        config.name = "polling".to_owned();
        config.keeping = Keeping::Explicitly;
        config.entries_max = SESSION_ENTRIES_MAX;
        config.entry_bytes_max = SESSION_ENTRY_BYTES_MAX;
        config.requests_max = SESSION_REQUESTS_MAX;
        config.request_bytes_max = SESSION_REQUEST_BYTES_MAX;
        let client = Client::connect(config).await.map_err(|_| PollError::Unavailable)?;
        let window = Mutex::new(Window::new(floor));
        let used = Mutex::new(Instant::now());
        let (taken_over, kept) = (Notify::new(), Notify::new());
        let session = Arc::new(Session { client, token, window, taken_over, kept, used });
        let mut sessions = locked(&self.inner.sessions);
        self.inner.make_room(&mut sessions)?;
        match sessions.entry(who) {
            // Another request has opened one meanwhile.
            Place::Occupied(there) if !replaces && there.get().client.end().is_none() => {
                Ok(Arc::clone(there.get()))
            }
            Place::Occupied(mut there) => {
                there.insert(Arc::clone(&session));
                Ok(session)
            }
            Place::Vacant(empty) => Ok(Arc::clone(empty.insert(session))),
        }
    }
}

/// A place that the pool's own gateways take.
struct Nowhere;

impl Gateways for Nowhere {
    fn list(&self) -> client::Listing<'_> {
        Box::pin(async { Err(client::DiscoveryError::Empty) })
    }
}

impl Inner {
    fn sweep(&self, sessions: &mut HashMap<Identity, Arc<Session>>) {
        let idle_max = self.settings.idle_max;
        sessions.retain(|_, session| !(session.is_free() && session.idle() >= idle_max));
    }

    fn make_room(&self, sessions: &mut HashMap<Identity, Arc<Session>>) -> Result<(), PollError> {
        if sessions.len() < self.settings.sessions_max {
            return Ok(());
        }
        let free = sessions.iter().filter(|(_, session)| session.is_free());
        let longest = free.max_by_key(|(_, session)| session.idle()).map(|(who, _)| *who);
        match longest {
            Some(who) => drop(sessions.remove(&who)),
            None => return Err(PollError::Full(sessions.len())),
        }
        Ok(())
    }
}

impl Session {
    /// Sends a request as the device.
    pub(crate) async fn request(
        &self,
        request: Request,
        retry: bool,
    ) -> Result<Answer, RequestError> {
        let answer = self.client.request_again(request, retry);
        timeout(ANSWER_WAIT_MAX, answer).await.unwrap_or(Err(RequestError::TimedOut))
    }

    /// The device has everything up to `after`: what follows. Waits for it for at most `wait`, and
    /// until the device asks again.
    pub(crate) async fn poll(
        &self,
        epoch: Epoch,
        after: InboxSeq,
        (limit, wait): (usize, Duration),
    ) -> Result<Page, PollError> {
        let taken_over = self.taken_over.notified();
        self.await_online().await?;
        self.keep(epoch, after);
        let page = self.follow(epoch, after, limit);
        tokio::select! {
            biased;
            page = page => return page,
            () = taken_over => {}
            () = tokio::time::sleep(wait) => {}
        }
        self.touch();
        self.look(epoch, after, limit).map(|(page, _)| page)
    }

    /// What follows `after`, as soon as there is something, or the inbox begins anew.
    pub(crate) async fn follow(
        &self,
        epoch: Epoch,
        after: InboxSeq,
        limit: usize,
    ) -> Result<Page, PollError> {
        let events = self.client.events();
        loop {
            let kept = self.kept.notified();
            let (page, has_room) = self.look(epoch, after, limit)?;
            if !page.entries.is_empty() || page.resume != Resume::Resumed {
                self.touch();
                return Ok(page);
            }
            if has_room {
                events.ready().await;
            } else {
                kept.await;
            }
        }
    }

    /// Takes what there is, as far as there is room, and makes a page of it.
    fn look(&self, epoch: Epoch, after: InboxSeq, limit: usize) -> Result<(Page, bool), PollError> {
        let mut events = self.client.events();
        // Under the lock, so that two requests of a device do not change the order.
        let mut window = locked(&self.window);
        self.draw(&mut window, &mut events)?;
        let page = window.page(epoch, after, limit);
        Ok((page, window.has_room()))
    }

    fn draw(&self, window: &mut Window, events: &mut Events) -> Result<(), PollError> {
        while window.has_room()
            && let Some(event) = events.try_next()
        {
            take(window, event)?;
        }
        self.client.end().map_or(Ok(()), |end| Err(PollError::Ended(end)))
    }

    /// Everything up to there is kept by the device.
    pub(crate) fn keep(&self, epoch: Epoch, place: InboxSeq) {
        let mut window = locked(&self.window);
        if window.epoch() == Some(epoch) {
            self.client.keep(window.keep(place));
            self.kept.notify_waiters();
        }
    }

    fn is_online(&self, events: &mut Events) -> Result<bool, PollError> {
        let mut window = locked(&self.window);
        self.draw(&mut window, events)?;
        Ok(window.is_online())
    }

    /// Another request of the device has come.
    pub(crate) fn taken_over(&self) -> tokio::sync::futures::Notified<'_> {
        self.taken_over.notified()
    }

    /// Where a device stands that says this, without entries.
    pub(crate) fn begin(&self, epoch: Epoch, after: InboxSeq) -> Page {
        locked(&self.window).start(epoch, after)
    }

    /// Waits for the gateway's verdict about the cursor.
    pub(crate) async fn await_online(&self) -> Result<(), PollError> {
        let online = async {
            let mut events = self.client.events();
            while !self.is_online(&mut events)? {
                events.ready().await;
            }
            Ok(())
        };
        timeout(ONLINE_WAIT_MAX, online).await.unwrap_or(Err(PollError::Unavailable))
    }

    fn touch(&self) {
        *locked(&self.used) = Instant::now();
    }

    fn idle(&self) -> Duration {
        locked(&self.used).elapsed()
    }

    /// No request works with it.
    fn is_free(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }
}

fn take(window: &mut Window, event: Event) -> Result<(), PollError> {
    match event {
        Event::Online(online) => window.handle_online(&online),
        Event::Inbox(entry) => window.push(entry),
        Event::Ended(end) => return Err(PollError::Ended(end)),
        // Its connection comes back by itself; who composes is told to those who listen all along.
        Event::Offline { .. }
        | Event::Typing { .. }
        | Event::Settled { .. }
        | Event::StoreFailed(_) => {}
    }
    Ok(())
}
