//! A device's session, for applications.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::task::JoinHandle;
use wire::client::Direction;
use wire::server::{ChannelReady, Posted};
use wire::{ChannelId, ChannelKind, InboxSeq, Nonce, Role, Seq, UserId};

use crate::config::{Config, ConfigError, device_of};
use crate::driver::{Ask, Shared, Sources, drive};
use crate::error::{End, RequestError};
use crate::event::Event;
use crate::machine::Kind;
use crate::request::{Answer, ChannelPage, HistoryPage, Request};

/// The kind of a message that is text.
const TEXT: u8 = 0;

/// One device's session, which outlives its connections. Clones are the same session; it is dropped
/// with the last one.
///
/// All methods await the gateway's answer for as long as it takes, over as many connections as it
/// takes. Dropping the future does not take the request back.
#[derive(Clone, Debug)]
pub struct Client {
    session: Arc<Session>,
}

/// What happens to a client, in order.
#[derive(Clone, Debug)]
pub struct Events {
    session: Arc<Session>,
}

/// A session and the task that drives it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    driver: JoinHandle<()>,
    next_nonce: AtomicU64,
}

impl Session {
    pub(crate) fn start(shared: Arc<Shared>, sources: Sources) -> Self {
        let driver = tokio::spawn(drive(Arc::clone(&shared), sources));
        // Random, so that a device that has lost its memory does not use an old nonce again; half
        // of all numbers are left to count through.
        let next_nonce = AtomicU64::new(rand::random::<u64>() >> 1 | 1);
        Self { shared, driver, next_nonce }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
        // The task ends when the runtime comes to it; the store may be opened again from now on.
        self.shared.close_store();
    }
}

impl Client {
    /// Begins a session. It connects by itself, now and whenever it must; [`Event::Online`] tells
    /// when it has.
    ///
    /// # Errors
    /// There is no token, or it is none, or the store cannot be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(mut config: Config) -> Result<Self, ConfigError> {
        let token = config.tokens.token().await.map_err(ConfigError::NoToken)?;
        let device = device_of(&token)?;
        let saved = config.store.load()?;
        let settings = config.settings(Kind::Device(device));
        let shared = Shared::new(settings, saved, config.store);
        let (gateways, tokens) = (config.gateways, config.tokens);
        let sources = Sources { gateways, tokens, token: Some(token) };
        Ok(Self { session: Arc::new(Session::start(shared, sources)) })
    }

    /// Sends a text. It is kept, as [`Posted::durability`] says, when this returns.
    ///
    /// # Errors
    /// It was refused, the queue is full, or the session is over.
    pub async fn send(
        &self,
        channel: ChannelId,
        text: impl Into<String>,
    ) -> Result<Posted, RequestError> {
        let body = Bytes::from(text.into());
        self.post(channel, self.new_nonce(), TEXT, body).await
    }

    /// Sends a message of any kind under a nonce of the application's: not 0, and of its own in
    /// this channel. The same one again gets the first answer, so an application that derives it
    /// from what it answers cannot answer twice.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn post(
        &self,
        channel: ChannelId,
        nonce: Nonce,
        kind: u8,
        body: impl Into<Bytes>,
    ) -> Result<Posted, RequestError> {
        let body = body.into();
        self.posted(Request::Post { channel, nonce, kind, body }).await
    }

    /// Makes a group with these members and ourselves as its owner.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn create_group(
        &self,
        title: impl Into<String>,
        members: impl IntoIterator<Item = UserId>,
    ) -> Result<ChannelReady, RequestError> {
        let nonce = self.new_nonce();
        let (title, members) = (title.into(), members.into_iter().collect());
        let request = Request::Create { nonce, kind: ChannelKind::Group, title, members };
        match self.request(request).await? {
            Answer::Ready(ready) => Ok(ready),
            _ => Err(RequestError::OtherAnswer),
        }
    }

    /// Adds members to a group.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn add_members(
        &self,
        channel: ChannelId,
        members: impl IntoIterator<Item = UserId>,
        role: Role,
    ) -> Result<Posted, RequestError> {
        let (nonce, members) = (self.new_nonce(), members.into_iter().collect());
        self.posted(Request::AddMembers { channel, nonce, members, role }).await
    }

    /// Removes members from a group.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn remove_members(
        &self,
        channel: ChannelId,
        members: impl IntoIterator<Item = UserId>,
    ) -> Result<Posted, RequestError> {
        let (nonce, members) = (self.new_nonce(), members.into_iter().collect());
        self.posted(Request::RemoveMembers { channel, nonce, members }).await
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn leave(&self, channel: ChannelId) -> Result<Posted, RequestError> {
        self.posted(Request::Leave { channel, nonce: self.new_nonce() }).await
    }

    /// Messages of a channel: the newest before `from`, or the oldest from there on. `Seq::ZERO`
    /// backwards is from the end; a `limit` of 0 is as many as the gateway gives.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn history(
        &self,
        channel: ChannelId,
        direction: Direction,
        from: Seq,
        limit: u16,
    ) -> Result<HistoryPage, RequestError> {
        match self.request(Request::History { channel, direction, from, limit }).await? {
            Answer::History(page) => Ok(page),
            _ => Err(RequestError::OtherAnswer),
        }
    }

    /// Conversations, the most recent first: those before `before`, or from the newest on
    /// (`InboxSeq::ZERO`).
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn channels(
        &self,
        before: InboxSeq,
        limit: u16,
    ) -> Result<ChannelPage, RequestError> {
        match self.request(Request::Channels { before, limit, with_last: false }).await? {
            Answer::Channels(page) => Ok(page),
            _ => Err(RequestError::OtherAnswer),
        }
    }

    /// Everything in the channel up to this place is read. Returns when that is on its way: the
    /// marker comes back through the inbox.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn mark_read(&self, channel: ChannelId, seq: Seq) -> Result<(), RequestError> {
        self.request(Request::MarkRead { channel, seq }).await.map(drop)
    }

    /// We are composing. Returns when that is on its way.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn typing(&self, channel: ChannelId) -> Result<(), RequestError> {
        self.request(Request::Typing { channel }).await.map(drop)
    }

    /// Any request.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn request(&self, request: Request) -> Result<Answer, RequestError> {
        self.session.shared.request(request, Ask::default()).await
    }

    /// Any request, for whoever has perhaps made it before: with `retry`, a gateway looks for the
    /// first one farther back than it does by itself.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn request_again(
        &self,
        request: Request,
        retry: bool,
    ) -> Result<Answer, RequestError> {
        let ask = Ask { may_be_kept: retry, ..Ask::default() };
        self.session.shared.request(request, ask).await
    }

    /// A nonce that this device has not used.
    #[must_use]
    pub fn new_nonce(&self) -> Nonce {
        Nonce(self.session.next_nonce.fetch_add(1, Ordering::Relaxed))
    }

    /// What happens from now on. All handles read the same events, each of which comes once.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::of(&self.session)
    }

    /// Everything up to this place is kept, as far as it was taken from the events; with
    /// [`crate::Keeping::Explicitly`].
    pub fn keep(&self, place: InboxSeq) {
        self.session.shared.keep(place);
    }

    /// Ends the session: what is kept is acknowledged. What has no answer fails here; with a store
    /// it goes on in the next run.
    pub async fn close(&self) {
        self.session.shared.leave().await;
    }

    /// Why the session is over, if it is.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.session.shared.end()
    }

    async fn posted(&self, request: Request) -> Result<Posted, RequestError> {
        match self.request(request).await? {
            Answer::Posted(posted) => Ok(posted),
            _ => Err(RequestError::OtherAnswer),
        }
    }
}

impl Events {
    pub(crate) fn of(session: &Arc<Session>) -> Self {
        Self { session: Arc::clone(session) }
    }

    /// The next event; `None` when the session is over and all were taken.
    pub async fn next(&mut self) -> Option<Event> {
        self.session.shared.next_event().await
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.session.shared.try_next_event()
    }

    /// Waits until there is an event, without taking it, or until the session is over.
    pub async fn ready(&self) {
        self.session.shared.ready().await;
    }
}
