//! One connection's state, as plain data: no closure, no future, no borrowed buffer between two
//! events, so that it can be written down and handed to another process.
//!
//! ```text
//!  Waiting (for its turn)            LoggingIn (a token, for its turn)
//!      |        head            Hello   ^ v     on its user's core        inbox head known
//!  Handshake ---------> Greeting -----> Passing ~~~~~~~~~~~~~~~~> Joining ----------------> Live
//!      |                   |               |                         |                        |
//!      +-------------------+---------------+----- error, close ------+------------------------+
//!                                                     v
//!                            Closing, Refused --(seen, sent, or time out)--> Vacant
//! ```

use bytes::Bytes;
use router::sessions::ConnId;
use variants::Variant;
use wire::{DeviceId, Epoch, InboxSeq, SessionId, Timestamp, UserId};

use crate::auth::Identity;
use crate::messages::Request;
use crate::send_queue::SendQueue;
use crate::wheel::Tick;

/// A longer message is refused before it is buffered.
#[expect(clippy::cast_possible_truncation, reason = "asserted below")]
const FRAME_BYTES_MAX: u32 = wire::limits::CLIENT_FRAME_BYTES_MAX as u32;
const _: () = assert!(FRAME_BYTES_MAX as usize == wire::limits::CLIENT_FRAME_BYTES_MAX);

/// The WebSocket layer of a connection that has just opened.
#[must_use]
pub const fn server_session() -> ws::Session {
    ws::Session::new(ws::Role::Server, FRAME_BYTES_MAX)
}

/// A place in the core's table.
#[derive(Debug)]
pub struct Connection {
    /// Which of the connections that had this place.
    pub generation: u32,
    /// Where it is in its life.
    pub phase: Phase,
    /// The WebSocket layer.
    pub ws: ws::Session,
    /// What waits to be sent.
    pub queue: SendQueue,
    /// When it was accepted, in microseconds of the clock that all cores share.
    pub accepted: u64,
    /// What of it the core has counted: see [`crate::outgoing::Outgoing::recount`].
    pub counted: u32,
    /// When something must have happened: in `Live`, the last tick at which it may be silent.
    pub deadline: Tick,
    /// A receive is armed.
    pub receiving: bool,
    /// It is in this turn's list of connections to send to.
    pub dirty: bool,
    /// It is in the list of those whose frames wait for company.
    pub lazy: bool,
}

// A million idle connections: this is the largest part of what they cost us.
const _: () = assert!(size_of::<Connection>() <= 256);

/// See the module's drawing.
#[derive(Debug)]
pub enum Phase {
    /// Nobody is here.
    Vacant,
    /// Accepted, and in line to be received from: see [`crate::admission`].
    Waiting,
    /// The HTTP head is being received; what has come of it, if not all.
    Handshake(Vec<u8>),
    /// The next message must be Hello.
    Greeting,
    /// It said Hello with a token, and is in line to have it looked at.
    LoggingIn(Box<Login>),
    /// On its way to the user's core.
    Passing(Box<Passenger>),
    /// On its user's core, whose head is being read.
    Joining(Box<Joining>),
    /// A session.
    Live(Live),
    /// A close frame was queued: the peer's is waited for, and nothing else is looked at.
    Closing,
    /// The handshake was refused: ends when the answer is sent.
    Refused,
}

/// What goes with a connection to its user's core.
#[derive(Debug)]
pub struct Passenger {
    /// Its place in the table there; known when it has been passed.
    pub slot: u32,
    /// When it was accepted.
    pub accepted: u64,
    /// The WebSocket layer.
    pub ws: ws::Session,
    /// What it asked for.
    pub joining: Joining,
}

/// A Hello whose token is still to be looked at.
#[derive(Debug)]
pub struct Login {
    /// The token.
    pub token: Box<str>,
    /// The device that it must be made for.
    pub device: DeviceId,
    /// The rest of Hello.
    pub hello: Said,
    /// Bytes that came after it.
    pub leftover: Bytes,
}

/// What a Hello says beside who it is.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// The number of the request.
    pub request: u32,
    /// Where its cursor belongs.
    pub epoch: Epoch,
    /// What it has kept.
    pub cursor: InboxSeq,
}

impl Said {
    /// By whom, as it turned out, and what followed it.
    #[must_use]
    pub const fn of(
        self,
        (identity, issued_at): (Identity, Timestamp),
        leftover: Bytes,
    ) -> Joining {
        let Self { request, epoch, cursor } = self;
        Joining { identity, issued_at, request, epoch, cursor, leftover }
    }
}

/// A device that said Hello.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Who.
    pub identity: Identity,
    /// When the login was that its credential descends from.
    pub issued_at: Timestamp,
    /// The number of its request.
    pub request: u32,
    /// Where its cursor belongs.
    pub epoch: Epoch,
    /// What it has kept.
    pub cursor: InboxSeq,
    /// Bytes that came after its Hello, looked at when it is a session.
    pub leftover: Bytes,
}

/// A session.
#[derive(Debug)]
pub struct Live {
    /// Its number, for logs.
    pub session: SessionId,
    /// Whose; `None`: a service's.
    pub user: Option<UserId>,
    /// On which device; 0 for a service.
    pub device: DeviceId,
    /// When the login was that it descends from.
    pub issued_at: Timestamp,
    /// The last place of the inbox it was sent.
    pub delivered: InboxSeq,
    /// It has been sent everything: deliveries go to it as they come.
    pub caught_up: bool,
    /// Posts that wait for their answer.
    pub posts_in_flight: u16,
    /// Reads that wait for their answer.
    pub reads_in_flight: u8,
    /// Thousandths of frames it may send before it is over its rate; below zero it is refused.
    pub credit: i64,
    /// When the credit was last refilled.
    pub credit_at: Tick,
    /// Set while it is not read.
    pub stall: Option<Box<Stall>>,
    /// Bytes received before its Welcome was sent, as far as they are not handled: a post that
    /// begins in them is taken for a retry, since its device may have given up this connection and
    /// sent the same on another.
    pub early_bytes: u32,
}

/// What a connection sent that could not be taken yet.
#[derive(Debug, Default)]
pub struct Stall {
    /// The request that found its core full.
    pub request: Option<Request>,
    /// What was received after it, as it came.
    pub bytes: Vec<u8>,
}

impl Stall {
    fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.request.as_ref().map_or(0, Request::bytes)
    }
}

/// The connections of one core: the place in the table is the direct descriptor.
#[derive(Debug, Default)]
pub struct Connections {
    places: Vec<Connection>,
    count: usize,
}

impl Connections {
    /// An empty table with room for `count` connections: pages that no connection reaches are
    /// never touched, and a table that grew by moving would leave as much behind.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self { places: Vec::with_capacity(count), count: 0 }
    }

    /// Takes a place for a new connection.
    ///
    /// # Panics
    /// If it is taken: the kernel gave out one descriptor twice.
    pub fn open(&mut self, slot: u32, phase: Phase) -> (ConnId, &mut Connection) {
        let index = slot as usize;
        while self.places.len() <= index {
            self.places.push(Connection::vacant());
        }
        let place = &mut self.places[index];
        assert!(matches!(place.phase, Phase::Vacant), "descriptor {slot} was given out twice");
        let generation = place.generation.wrapping_add(1);
        *place = Connection { generation, phase, ..Connection::vacant() };
        self.count += 1;
        (ConnId { slot, generation }, place)
    }

    /// The connection of that name, if it has not ended.
    pub fn get(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let place = self.places.get_mut(conn.slot as usize)?;
        let is_it = place.generation == conn.generation || variants::is(Variant::StaleCompletion);
        let found = is_it && !matches!(place.phase, Phase::Vacant);
        found.then_some(place)
    }

    /// Frees the place of a connection.
    pub fn close(&mut self, conn: ConnId) -> Option<Connection> {
        let place = self.get(conn)?;
        let vacant = Connection { generation: place.generation, ..Connection::vacant() };
        let ended = std::mem::replace(place, vacant);
        self.count -= 1;
        Some(ended)
    }

    /// The name of whoever is at a place now.
    #[must_use]
    pub fn at(&self, slot: u32) -> Option<ConnId> {
        let place = self.places.get(slot as usize)?;
        let taken = !matches!(place.phase, Phase::Vacant);
        taken.then_some(ConnId { slot, generation: place.generation })
    }

    /// Bytes of the part of the table that was ever in use.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.places.len() * size_of::<Connection>()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The names of all.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> + '_ {
        let slots = 0..u32::try_from(self.places.len()).expect("slots are 24 bits");
        slots.filter_map(|slot| self.at(slot))
    }
}

impl Connection {
    fn vacant() -> Self {
        Self {
            generation: 0,
            phase: Phase::Vacant,
            ws: server_session(),
            queue: SendQueue::default(),
            accepted: 0,
            counted: 0,
            deadline: Tick(0),
            receiving: false,
            dirty: false,
            lazy: false,
        }
    }

    /// Bytes of memory that it holds beside its place in the table: what waits to be sent, and what
    /// was received and not handled.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.queue.held_bytes() + self.received_bytes()
    }

    /// What was received and not handled.
    #[must_use]
    pub fn received_bytes(&self) -> usize {
        let of_phase = match &self.phase {
            Phase::Handshake(head) => head.capacity(),
            Phase::LoggingIn(login) => login.token.len() + login.leftover.len(),
            Phase::Passing(passenger) => {
                passenger.ws.held_bytes() + passenger.joining.leftover.len()
            }
            Phase::Joining(joining) => joining.leftover.len(),
            Phase::Live(Live { stall: Some(stall), .. }) => stall.held_bytes(),
            Phase::Live(_)
            | Phase::Vacant
            | Phase::Waiting
            | Phase::Greeting
            | Phase::Closing
            | Phase::Refused => 0,
        };
        self.ws.held_bytes() + of_phase
    }

    /// What `limits.session_bytes_max` bounds: what it holds, and each page on its way to it at
    /// its most, which is `page_bytes`.
    #[must_use]
    pub fn session_bytes(&self, page_bytes: usize) -> usize {
        let pages = match &self.phase {
            Phase::Live(live) => usize::from(live.reads_in_flight),
            _ => 0,
        };
        self.held_bytes() + pages * page_bytes
    }

    /// The session, if it is one.
    pub const fn live(&mut self) -> Option<&mut Live> {
        match &mut self.phase {
            Phase::Live(live) => Some(live),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_finds_nothing_after_its_place_was_given_on() {
        let mut connections = Connections::default();
        let (old, _) = connections.open(3, Phase::Greeting);
        assert!(connections.get(old).is_some());
        assert!(connections.close(old).is_some());
        assert!(connections.get(old).is_none());
        assert!(connections.close(old).is_none(), "once");
        let (new, _) = connections.open(3, Phase::Greeting);
        assert_ne!(old, new);
        assert!(connections.get(old).is_none());
        assert_eq!(connections.ids().collect::<Vec<_>>(), [new]);
        assert_eq!(connections.len(), 1);
    }

    #[test]
    #[should_panic(expected = "given out twice")]
    fn a_place_has_one_connection() {
        let mut connections = Connections::default();
        connections.open(3, Phase::Greeting);
        connections.open(3, Phase::Greeting);
    }
}
