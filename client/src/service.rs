//! The session of a service: one connection, over which it asks for many people at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wire::client::Direction;
use wire::server::{ChannelReady, Durability, Posted};
use wire::{ChannelId, ChannelKind, DeviceId, InboxSeq, Nonce, Role, Seq, Timestamp, UserId};

use crate::client::{Events, Session};
use crate::config::Config;
use crate::driver::{Ask, Shared, Sources};
use crate::error::{End, RequestError};
use crate::machine::{Kind, Saved};
use crate::request::{Answer, ChannelPage, HistoryPage, Request};
use crate::store::InMemory;

/// How long a request waits for its answer unless it is told: less than a person waits for a page.
const WAIT_MAX_DEFAULT: Duration = Duration::from_secs(10);

/// A service's session with the core, for whoever holds a service token. Clones are the same
/// session; it is dropped with the last one.
///
/// Any number of requests may be under way at once, up to `Config::requests_max`. When the
/// connection breaks another one is made, and what had no answer is sent again, with its nonce.
/// What has no answer within the longest wait fails with [`RequestError::TimedOut`]: then it is not
/// known whether it was done, and the same request with the same nonce tells.
///
/// `user` is the person for whom a request is made, with her rights. Nonces are the caller's: not
/// 0, and unique for the person and channel among all services.
#[derive(Clone, Debug)]
pub struct Service {
    session: Arc<Session>,
    wait_max: Duration,
}

impl Service {
    /// Begins a session. It connects by itself, now and whenever it must. The store and the bounds
    /// on entries of `config` are of no use: a service has no inbox.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn connect(config: Config) -> Self {
        let settings = config.settings(Kind::Service);
        let shared = Shared::new(settings, Saved::default(), Box::new(InMemory));
        let (gateways, tokens) = (config.gateways, config.tokens);
        let sources = Sources { gateways, tokens, token: None };
        let session = Arc::new(Session::start(shared, sources));
        Self { session, wait_max: WAIT_MAX_DEFAULT }
    }

    /// The same session with another longest wait for answers.
    #[must_use]
    pub fn with_wait_max(mut self, wait_max: Duration) -> Self {
        self.wait_max = wait_max;
        self
    }

    /// Any request, for a person or (`SessionsEnd`, `UserErase`) for nobody.
    ///
    /// # Errors
    /// It was refused, there was no answer in time, the queue is full, or the session is over.
    pub async fn request(
        &self,
        user: Option<UserId>,
        request: Request,
    ) -> Result<Answer, RequestError> {
        let ask = Ask { as_user: user, wait_max: Some(self.wait_max), ..Ask::default() };
        self.session.shared.request(request, ask).await
    }

    /// Sends a message; `kind` 0 is text.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn post(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
        kind: u8,
        body: impl Into<Bytes>,
    ) -> Result<Posted, RequestError> {
        let body = body.into();
        self.posted(user, Request::Post { channel, nonce, kind, body }).await
    }

    /// Makes a group with these members and the person as its owner.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn create_group(
        &self,
        user: UserId,
        nonce: Nonce,
        title: impl Into<String>,
        members: Vec<UserId>,
    ) -> Result<ChannelReady, RequestError> {
        let (kind, title) = (ChannelKind::Group, title.into());
        match self.request(Some(user), Request::Create { nonce, kind, title, members }).await? {
            Answer::Ready(ready) => Ok(ready),
            _ => Err(RequestError::OtherAnswer),
        }
    }

    /// Adds members to a group.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn add_members(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
        members: Vec<UserId>,
        role: Role,
    ) -> Result<Posted, RequestError> {
        self.posted(user, Request::AddMembers { channel, nonce, members, role }).await
    }

    /// Removes members from a group.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn remove_members(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
        members: Vec<UserId>,
    ) -> Result<Posted, RequestError> {
        self.posted(user, Request::RemoveMembers { channel, nonce, members }).await
    }

    /// The person leaves a group.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn leave(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
    ) -> Result<Posted, RequestError> {
        self.posted(user, Request::Leave { channel, nonce }).await
    }

    /// Messages of a channel; as [`crate::Client::history`].
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn history(
        &self,
        user: UserId,
        channel: ChannelId,
        direction: Direction,
        from: Seq,
        limit: u16,
    ) -> Result<HistoryPage, RequestError> {
        let request = Request::History { channel, direction, from, limit };
        match self.request(Some(user), request).await? {
            Answer::History(page) => Ok(page),
            _ => Err(RequestError::OtherAnswer),
        }
    }

    /// The person's conversations, each with its latest entry as far as the page has room; as
    /// [`crate::Client::channels`].
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn channels(
        &self,
        user: UserId,
        before: InboxSeq,
        limit: u16,
    ) -> Result<ChannelPage, RequestError> {
        let request = Request::Channels { before, limit, with_last: true };
        match self.request(Some(user), request).await? {
            Answer::Channels(page) => Ok(page),
            _ => Err(RequestError::OtherAnswer),
        }
    }

    /// The person has read everything in the channel up to this place.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn mark_read(
        &self,
        user: UserId,
        channel: ChannelId,
        seq: Seq,
    ) -> Result<Durability, RequestError> {
        self.done(Some(user), Request::MarkRead { channel, seq }).await
    }

    /// Ends what was issued until `before` on a device, or on all (`None`): tokens and tickets are
    /// refused from now on, and the sessions that began with them end.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn end_sessions(
        &self,
        user: UserId,
        device: Option<DeviceId>,
        before: Timestamp,
    ) -> Result<Durability, RequestError> {
        self.done(None, Request::SessionsEnd { user, device, before }).await
    }

    /// Removes what is a user's own. Her number must not be given to anybody else.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn erase_user(&self, user: UserId) -> Result<Durability, RequestError> {
        self.done(None, Request::UserErase { user }).await
    }

    /// What happens to the connection, for logs.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::of(&self.session)
    }

    /// Ends the session. What has no answer fails.
    pub async fn close(&self) {
        self.session.shared.leave().await;
    }

    /// Why the session is over, if it is.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.session.shared.end()
    }

    async fn posted(&self, user: UserId, request: Request) -> Result<Posted, RequestError> {
        match self.request(Some(user), request).await? {
            Answer::Posted(posted) => Ok(posted),
            _ => Err(RequestError::OtherAnswer),
        }
    }

    async fn done(
        &self,
        user: Option<UserId>,
        request: Request,
    ) -> Result<Durability, RequestError> {
        match self.request(user, request).await? {
            Answer::Done(durability) => Ok(durability),
            _ => Err(RequestError::OtherAnswer),
        }
    }
}
