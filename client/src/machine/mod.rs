//! One session from its first connection to its end, without a socket or a clock: bytes, the time
//! and what the application wants in; bytes, events and answers out.
//!
//! ```text
//!             +------------------------ the delay is over ----------------------+
//!             v                                                                 |
//!  Connecting --handle_connected--> Greeting --Welcome--> Live --> (lost) --> Resting
//!             |                        |                    |                   ^
//!             +--handle_connect_failed-+---- lost ----------+--- leave ---+     |
//!             |                                                           v     |
//!             +-------------------------------------------------> (a wait)|-----+
//!                                                                         v
//!                                    Ended <--- refused for good ---   Leaving
//! ```
//!
//! The shell around it does what [`Machine::step`] says, and nothing of its own mind.

mod frames;
mod inbox;
mod outbox;
mod pace;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use rand::rngs::StdRng;
use wire::server::Limits;
use wire::{ClientAction, DeviceId, Epoch, InboxSeq, UserId};

use crate::address::Address;
use crate::backoff::Backoff;
use crate::error::{End, Lost, RequestError};
use crate::event::{Entry, Event};
use crate::request::{Answer, Request};
use inbox::{Inbox, Load};
use outbox::Outbox;
pub use outbox::RequestId;
use pace::Pace;
use socket::Socket;

/// From a connection to its `Welcome`, and from our close to the gateway's.
const WELCOME_WAIT_MAX: Duration = Duration::from_secs(10);
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Events about the connection that wait for an application which asks for none: more of them say
/// nothing new, and are left out.
const NEWS_MAX: usize = 32;

/// A session that ends later than this in its ticket's life has had another ticket.
const TICKET_MARGIN: Duration = Duration::from_secs(30);

/// Whose session it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A device of a user, with an inbox.
    Device(DeviceId),
    /// A service: no user, no inbox; it asks for others.
    Service,
}

/// When an entry counts as kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keeping {
    /// When the application asks for the next event.
    #[default]
    OnNext,
    /// When it says so.
    Explicitly,
}

/// What a session is made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Whose it is.
    pub kind: Kind,
    /// For operators' logs; at most `CLIENT_NAME_BYTES_MAX` bytes, cut there.
    pub name: String,
    /// When an entry counts as kept.
    pub keeping: Keeping,
    /// Requests that may wait for an answer; beyond them `QueueFull`.
    pub requests_max: usize,
    /// Bytes of them.
    pub request_bytes_max: usize,
    /// Entries that may wait for the application; beyond them none are received, until half of it
    /// is free.
    pub entries_max: usize,
    /// Bytes of them; passed by one page at most.
    pub entry_bytes_max: usize,
}

/// What an earlier run has left.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Saved {
    /// Which history the cursor belongs to; `Epoch::NONE` if there was no earlier run.
    pub epoch: Epoch,
    /// Everything up to here was kept.
    pub cursor: InboxSeq,
    /// Requests that had no answer, in their order.
    pub requests: Vec<(RequestId, Request)>,
}

/// What the shell is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing before this time.
    Rest(Duration),
    /// Connect, and then [`Machine::handle_connected`] or [`Machine::handle_connect_failed`].
    Connect {
        /// Where to, if the last gateway said so.
        to: Option<Address>,
        /// Attempts since the last one that succeeded: which gateway of a list.
        attempt: u32,
        /// There is no ticket: get a token first.
        needs_token: bool,
    },
    /// Bring bytes in both directions; close the socket when this is not said any more.
    Talk,
    /// Nothing more.
    Over,
}

#[derive(Debug)]
enum Phase {
    Resting { until: Duration },
    Connecting,
    Greeting { until: Duration },
    Live(Live),
    Leaving { until: Duration },
    Ended(End),
}

/// What holds while we are welcome.
#[derive(Debug)]
struct Live {
    limits: Limits,
    heartbeat: Duration,
    /// Something is to be said by then.
    ping_at: Duration,
    /// Something is to be heard by then.
    silent_at: Duration,
    pace: Pace,
}

/// See the module's documentation.
///
/// `handle_*`: what the world said. [`Self::submit`], [`Self::keep`], [`Self::leave`]: what we are
/// asked. The others tell what we want. `now` is the time since some fixed moment; it never goes
/// back.
#[derive(Debug)]
pub struct Machine {
    socket: Socket,
    state: State,
}

/// Everything but the socket.
struct State {
    settings: Settings,
    rng: StdRng,
    encoder: wire::Encoder,
    output: BytesMut,
    phase: Phase,
    backoff: Backoff,
    attempt: u32,
    ticket: Option<(Box<[u8]>, Duration)>,
    token: Box<str>,
    /// The last Hello was made with the ticket.
    said_ticket: bool,
    /// A token was refused, and there was no Welcome since.
    token_refused: bool,
    come_back: Option<(Duration, Option<Address>)>,
    inbox: Inbox,
    outbox: Outbox,
    /// Requests of an earlier run are below.
    first_own: RequestId,
    events: VecDeque<Event>,
    news: usize,
    outcomes: VecDeque<(RequestId, Result<Answer, RequestError>)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Machine {
    /// A session that has not begun.
    #[must_use]
    pub fn new(settings: Settings, saved: Saved, rng: StdRng) -> Self {
        let waiting_max = Load { entries: settings.entries_max, bytes: settings.entry_bytes_max };
        let mut outbox = Outbox::new(settings.requests_max, settings.request_bytes_max, 1);
        for (id, request) in saved.requests {
            outbox.restore(id, request);
        }
        let state = State {
            inbox: Inbox::new(saved.epoch, saved.cursor, waiting_max),
            first_own: outbox.next_id(),
            outbox,
            settings,
            rng,
            encoder: wire::Encoder::new(4096),
            output: BytesMut::new(),
            phase: Phase::Resting { until: Duration::ZERO },
            backoff: Backoff::default(),
            attempt: 0,
            ticket: None,
            token: Box::default(),
            said_ticket: false,
            token_refused: false,
            come_back: None,
            events: VecDeque::new(),
            news: 0,
            outcomes: VecDeque::new(),
        };
        Self { socket: Socket::Closed, state }
    }

    /// What is to be done now.
    pub fn step(&mut self, now: Duration) -> Step {
        let state = &mut self.state;
        match state.phase {
            Phase::Ended(_) => Step::Over,
            Phase::Greeting { .. } | Phase::Live(_) | Phase::Leaving { .. } => Step::Talk,
            Phase::Resting { until } if now < until => Step::Rest(until),
            Phase::Resting { .. } | Phase::Connecting => {
                state.phase = Phase::Connecting;
                state.ticket.take_if(|(_, expires_at)| now + TICKET_MARGIN >= *expires_at);
                let to = state.come_back.take().and_then(|(_, to)| to);
                let needs_token = state.ticket.is_none();
                Step::Connect { to, attempt: state.attempt, needs_token }
            }
        }
    }

    /// The socket is there. `token` may be empty if there was no need for one.
    pub fn handle_connected(&mut self, now: Duration, address: &Address, token: String) {
        if !matches!(self.state.phase, Phase::Connecting) {
            return; // It was left meanwhile.
        }
        self.state.token = token.into();
        self.state.output.clear();
        self.state.phase = Phase::Greeting { until: now + WELCOME_WAIT_MAX };
        self.socket = Socket::open(address, &mut self.state);
    }

    /// There is no socket.
    pub fn handle_connect_failed(&mut self, now: Duration, lost: Lost) {
        if matches!(self.state.phase, Phase::Connecting) {
            self.state.lose(now, lost);
        }
    }

    /// Takes received bytes.
    pub fn handle_bytes(&mut self, now: Duration, input: &mut [u8]) {
        if let Err(lost) = self.socket.handle_bytes(&mut self.state, now, input) {
            self.state.lose(now, lost);
        }
        self.settle(now);
    }

    /// The socket has ended, or failed.
    pub fn handle_disconnected(&mut self, now: Duration) {
        self.state.lose(now, Lost::Broken);
        self.settle(now);
    }

    /// Does what is due by now. To be called at [`Self::deadline`], and after anything was asked.
    pub fn handle_time(&mut self, now: Duration) {
        self.state.time_out(now);
        let lost = match &self.state.phase {
            Phase::Greeting { until } if now >= *until => Lost::Unwelcomed(WELCOME_WAIT_MAX),
            Phase::Live(live) if now >= live.silent_at => Lost::Silent(live.silence()),
            Phase::Leaving { until } if now >= *until => Lost::Broken,
            _ => return self.settle(now),
        };
        self.state.lose(now, lost);
        self.settle(now);
    }

    /// The time of the next [`Self::handle_time`]; `None`: when something else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let of_phase = match &self.state.phase {
            Phase::Resting { until } | Phase::Greeting { until } | Phase::Leaving { until } => {
                Some(*until)
            }
            Phase::Live(live) => Some(self.state.deadline_live(live)),
            Phase::Connecting | Phase::Ended(_) => None,
        };
        [of_phase, self.state.outbox.deadline()].into_iter().flatten().min()
    }

    /// The id of the next request that is taken: for a store, which must have it first.
    #[must_use]
    pub fn next_id(&self) -> RequestId {
        self.state.outbox.next_id()
    }

    /// Whether [`Self::submit`] would take a request.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, request: &Request) -> Result<(), RequestError> {
        if let Phase::Ended(end) = &self.state.phase {
            return Err(end.clone().into());
        }
        self.state.outbox.check(request)
    }

    /// Takes a request. Its outcome comes by [`Self::next_outcome`], at the latest at `deadline`.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn submit(
        &mut self,
        request: Request,
        as_user: Option<UserId>,
        deadline: Option<Duration>,
    ) -> Result<RequestId, RequestError> {
        self.check(&request)?;
        Ok(self.state.outbox.push(request, as_user, deadline))
    }

    /// A request that was just taken may have reached a gateway before.
    pub fn mark_retry(&mut self, id: RequestId) {
        self.state.outbox.mark_retry(id);
    }

    /// Everything up to `place` is kept, as far as it was taken.
    pub fn keep(&mut self, now: Duration, place: InboxSeq) {
        self.state.inbox.keep(place, now);
    }

    /// Says good-bye: what is kept is acknowledged, and what has no answer fails with
    /// [`End::Left`].
    pub fn leave(&mut self, now: Duration) {
        match self.state.phase {
            Phase::Live(_) => {
                self.state.push_last_ack(now);
                self.state.phase = Phase::Leaving { until: now + LEAVE_WAIT_MAX };
                self.socket.close(&mut self.state, Some(ws::CloseCode::NORMAL));
            }
            Phase::Leaving { .. } | Phase::Ended(_) => {}
            _ => self.state.end(End::Left),
        }
        self.settle(now);
    }

    /// The next event. With [`Keeping::OnNext`], all before it are kept from now on.
    pub fn next_event(&mut self, now: Duration) -> Option<Event> {
        let state = &mut self.state;
        if state.settings.keeping == Keeping::OnNext {
            state.inbox.keep_taken(now);
        }
        let event = state.events.pop_front()?;
        match &event {
            Event::Inbox(entry) => state.inbox.handle_taken(entry.inbox_seq, entry.bytes()),
            _ => state.news -= 1,
        }
        Some(event)
    }

    /// What came of the next request that is over.
    pub fn next_outcome(&mut self) -> Option<(RequestId, Result<Answer, RequestError>)> {
        self.state.outcomes.pop_front()
    }

    /// The cursor, if it is to be stored now.
    pub fn next_save(&mut self) -> Option<(Epoch, InboxSeq)> {
        self.state.inbox.next_save()
    }

    /// Bytes for the socket; what was sent is to be taken from their beginning.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.state.output
    }

    /// Whether more may be read: not while the gateway reads nothing.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.state.output.len() < frames::OUTPUT_BYTES_MAX
    }

    /// Whether [`Step::Connect`] is still wanted.
    #[must_use]
    pub const fn is_connecting(&self) -> bool {
        matches!(self.state.phase, Phase::Connecting)
    }

    /// Tells the application of a store that failed.
    pub fn handle_store_failed(&mut self, error: &std::io::Error) {
        self.state.tell(Event::StoreFailed(error.to_string()));
    }

    /// Whether there is an event.
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.state.events.is_empty()
    }

    /// Why the session is over, if it is.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        match &self.state.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Sends what may be sent now; forgets the socket if it is of no use any more.
    fn settle(&mut self, now: Duration) {
        match self.state.phase {
            Phase::Live(_) => self.state.pump(now),
            Phase::Greeting { .. } | Phase::Leaving { .. } => {}
            _ => {
                self.socket = Socket::Closed;
                self.state.output.clear();
            }
        }
    }
}

impl Live {
    /// What silence of the gateway ends the connection.
    fn silence(&self) -> Duration {
        3 * self.heartbeat
    }

    /// Requests that may be under way: the gateway stops reading beyond as many posts.
    fn in_flight_max(&self) -> usize {
        usize::from(self.limits.posts_in_flight_max).max(1)
    }
}

impl State {
    /// The connection is of no use any more: what next is in the table of docs/protocol.md.
    fn lose(&mut self, now: Duration, lost: Lost) {
        let was_live = match self.phase {
            Phase::Ended(_) | Phase::Resting { .. } => return,
            Phase::Leaving { .. } => return self.end(End::Left),
            Phase::Live(_) => true,
            Phase::Connecting | Phase::Greeting { .. } => false,
        };
        self.outbox.handle_lost();
        self.inbox.handle_lost();
        self.attempt = if was_live { 0 } else { self.attempt + 1 };
        let (action, code, reason) = match &lost {
            Lost::Closed { code, reason } => {
                let known = wire::CloseCode::from_number(*code);
                let action = known.map_or(ClientAction::ResumeLater, wire::CloseCode::action);
                (action, *code, reason.clone())
            }
            _ => (ClientAction::ResumeLater, 0, String::new()),
        };
        let delay = match action {
            ClientAction::Stop | ClientAction::Fix => {
                return self.end(End::Refused { code, reason });
            }
            ClientAction::Login => {
                self.ticket = None;
                if !self.said_ticket && self.token_refused {
                    return self.end(End::Unauthorised(reason));
                }
                // After a ticket perhaps the token is good; after a token, a younger one.
                self.token_refused |= !self.said_ticket;
                self.backoff.later(&mut self.rng)
            }
            ClientAction::Resume => Backoff::soon(&mut self.rng),
            ClientAction::ResumeLater => self.backoff.later(&mut self.rng),
        };
        let told = self.come_back.as_ref().map(|(after, _)| *after);
        let retry_in = told.unwrap_or(delay);
        self.phase = Phase::Resting { until: now + retry_in };
        self.tell(Event::Offline { lost, retry_in });
    }

    /// The session is over, and so is whatever waits for an answer.
    fn end(&mut self, end: End) {
        while let Some(id) = self.outbox.first() {
            self.finish(id, Err(end.clone().into()));
        }
        self.phase = Phase::Ended(end.clone());
        self.push_news(Event::Ended(end));
    }

    fn time_out(&mut self, now: Duration) {
        while let Some(id) = self.outbox.next_timed_out(now) {
            self.finish(id, Err(RequestError::TimedOut));
        }
    }

    /// A request is over.
    fn finish(&mut self, id: RequestId, outcome: Result<Answer, RequestError>) {
        let Some(pending) = self.outbox.remove(id) else { return };
        if id < self.first_own {
            let nonce = pending.request.nonce().expect("only what has one is stored");
            self.push_news(Event::Settled { nonce, outcome: outcome.clone() });
        }
        self.outcomes.push_back((id, outcome));
    }

    /// An event that an application may miss if it asks for none.
    fn tell(&mut self, event: Event) {
        if self.news < NEWS_MAX {
            self.push_news(event);
        }
    }

    fn push_news(&mut self, event: Event) {
        self.news += 1;
        self.events.push_back(event);
    }

    fn push_entry(&mut self, entry: Entry) {
        self.events.push_back(Event::Inbox(entry));
    }

    /// What waits for the application is void.
    fn forget_entries(&mut self) {
        self.events.retain(|event| !matches!(event, Event::Inbox(_)));
    }
}
