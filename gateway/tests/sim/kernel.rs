//! The kernel as a core sees it: direct descriptors, receives once or many into a bounded number
//! of buffers, one send in flight, passing a descriptor to another core's table, cancelling and
//! closing. Each core has a table and a queue of completions; a socket may stand in two tables
//! while it is passed.
//!
//! What is cancelled or closed may have completed before: such completions stand in the queue and
//! come all the same, also when the place in the table belongs to another connection by then.

use std::collections::VecDeque;

use bytes::Bytes;
use gateway::event::Effect;
use router::sessions::ConnId;

use super::setup::Setup;

/// Both directions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    /// Sent by the client and not received.
    pub(crate) to_core: Vec<u8>,
    /// Sent by the core and not read.
    pub(crate) to_client: Vec<u8>,
    /// The client will send no more and reads no more.
    pub(crate) client_ended: bool,
    /// No descriptor is left on the gateway's side.
    pub(crate) core_ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receive {
    Idle,
    Once,
    Many,
}

/// A descriptor.
#[derive(Debug)]
struct Place {
    socket: usize,
    /// Known from the first effect on.
    conn: Option<ConnId>,
    receive: Receive,
    /// Its receive is to be cancelled.
    cancels: bool,
    /// In flight, and how much of it the socket has taken.
    sending: Option<(Bytes, usize)>,
}

/// A completion that waits to be taken.
#[derive(Debug)]
pub(crate) enum Done {
    Received {
        conn: ConnId,
        bytes: Vec<u8>,
        armed: bool,
    },
    End {
        conn: ConnId,
    },
    /// A receive has ended because there was no buffer.
    Starved {
        conn: ConnId,
    },
    Sent {
        conn: ConnId,
        bytes: Bytes,
        complete: bool,
    },
    Stopped {
        conn: ConnId,
    },
    Passed {
        conn: ConnId,
        slot: Option<u32>,
    },
}

#[derive(Debug, Default)]
struct Table {
    places: Vec<Option<Place>>,
    done: VecDeque<Done>,
    /// Buffers that hold what was received and not looked at.
    buffers_lent: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) sockets: Vec<Socket>,
    tables: Vec<Table>,
    places_max: usize,
    buffers: usize,
    socket_bytes: usize,
}

impl Kernel {
    /// For the cores of a setup, without a connection.
    pub(crate) fn new(setup: &Setup) -> Self {
        let Setup { cores, places_max, buffers, socket_bytes, .. } = *setup;
        let tables = (0..cores).map(|_| Table::default()).collect();
        Self { sockets: Vec::new(), tables, places_max, buffers, socket_bytes }
    }

    /// Bounds the tables from now on.
    pub(crate) const fn set_places_max(&mut self, places_max: usize) {
        self.places_max = places_max;
    }

    /// A new connection on which nothing was sent.
    pub(crate) fn connect(&mut self) -> usize {
        self.sockets.push(Socket::default());
        self.sockets.len() - 1
    }

    /// Puts a connection into a core's table; `None` if that is full.
    pub(crate) fn place(&mut self, core: usize, socket: usize) -> Option<u32> {
        let places = &mut self.tables[core].places;
        let free = places.iter().position(Option::is_none).unwrap_or(places.len());
        if free >= self.places_max {
            return None;
        }
        let (receive, cancels) = (Receive::Idle, false);
        let place = Place { socket, conn: None, receive, cancels, sending: None };
        if free == places.len() {
            places.push(Some(place));
        } else {
            places[free] = Some(place);
        }
        Some(u32::try_from(free).expect("tables are small"))
    }

    /// Does what a core wants of its connections.
    pub(crate) fn apply(&mut self, core: usize, effect: Effect) {
        match effect {
            Effect::ReceiveOnce(conn) => self.arm(core, conn, Receive::Once),
            Effect::ReceiveMany(conn) => self.arm(core, conn, Receive::Many),
            Effect::StopReceiving(conn) => {
                let place = self.of(core, conn);
                // Of one that has just ended by itself there is nothing to stop.
                place.cancels = place.receive != Receive::Idle;
            }
            Effect::Send(conn, bytes) => {
                assert!(!bytes.is_empty(), "nothing to send");
                let before = self.of(core, conn).sending.replace((bytes, 0));
                assert!(before.is_none(), "{conn:?}: one send is in flight at a time");
            }
            Effect::Pass(conn, target) => {
                let place = self.of(core, conn);
                let quiet = place.receive == Receive::Idle && place.sending.is_none();
                assert!(quiet, "{conn:?}: nothing is in flight on what is passed");
                let socket = place.socket;
                let slot = self.place(usize::from(target.0), socket);
                self.tables[core].done.push_back(Done::Passed { conn, slot });
            }
            Effect::Close { conn, sending, receiving } => {
                self.close(core, conn, (sending, receiving));
            }
            other => panic!("not the kernel's: {other:?}"),
        }
    }

    fn arm(&mut self, core: usize, conn: ConnId, receive: Receive) {
        let place = self.of(core, conn);
        assert_eq!(place.receive, Receive::Idle, "{conn:?}: one receive is armed at a time");
        place.receive = receive;
    }

    /// The descriptor that a connection has, which learns its name here.
    fn of(&mut self, core: usize, conn: ConnId) -> &mut Place {
        let place = self.tables[core].places.get_mut(conn.slot as usize);
        let place = place.and_then(Option::as_mut).expect("an effect on an open descriptor");
        assert_eq!(*place.conn.get_or_insert(conn), conn, "the descriptor is another's");
        place
    }

    fn close(&mut self, core: usize, conn: ConnId, told: (bool, bool)) {
        let Place { socket, receive, sending, .. } = {
            self.of(core, conn);
            self.tables[core].places[conn.slot as usize].take().expect("just looked at")
        };
        assert!(told.0 || sending.is_none(), "{conn:?}: its send would not be cancelled");
        let is_idle = receive == Receive::Idle;
        assert!(told.1 || is_idle, "{conn:?}: its receive would not be cancelled");
        let done = &mut self.tables[core].done;
        if !is_idle {
            done.push_back(Done::Stopped { conn });
        }
        if let Some((bytes, _)) = sending {
            done.push_back(Done::Sent { conn, bytes, complete: false });
        }
        let elsewhere = self.tables.iter().flat_map(|table| table.places.iter().flatten());
        if !elsewhere.into_iter().any(|place| place.socket == socket) {
            self.sockets[socket].core_ended = true;
        }
    }

    /// Whether a core has a completion to take.
    pub(crate) fn has_done(&self, core: usize) -> bool {
        !self.tables[core].done.is_empty()
    }

    /// The next completion of a core. The buffer of what was received is free again when the core
    /// has looked at it, before it can receive anything else.
    pub(crate) fn next_done(&mut self, core: usize) -> Option<Done> {
        let table = &mut self.tables[core];
        let done = table.done.pop_front();
        if matches!(done, Some(Done::Received { .. })) {
            table.buffers_lent -= 1;
        }
        done
    }

    /// Buffers that nothing was received into.
    pub(crate) fn buffers_free(&self, core: usize) -> usize {
        self.buffers - self.tables[core].buffers_lent
    }

    /// The descriptors of a core on which something can be received.
    pub(crate) fn receivable(&self, core: usize) -> impl Iterator<Item = u32> + '_ {
        self.slots(core, |place| {
            let socket = &self.sockets[place.socket];
            let waits = !socket.to_core.is_empty() || socket.client_ended;
            place.receive != Receive::Idle && waits
        })
    }

    /// The descriptors of a core whose receive is to be cancelled.
    pub(crate) fn cancellable(&self, core: usize) -> impl Iterator<Item = u32> + '_ {
        self.slots(core, |place| place.cancels)
    }

    /// The descriptors of a core on which a send can go on.
    pub(crate) fn sendable(&self, core: usize) -> impl Iterator<Item = u32> + '_ {
        self.slots(core, |place| {
            let socket = &self.sockets[place.socket];
            let moves = socket.to_client.len() < self.socket_bytes || socket.client_ended;
            place.sending.is_some() && moves
        })
    }

    fn slots(&self, core: usize, want: impl Fn(&Place) -> bool) -> impl Iterator<Item = u32> {
        let places = (0..).zip(&self.tables[core].places);
        places.filter_map(move |(slot, place)| place.as_ref().filter(|p| want(p)).map(|_| slot))
    }

    /// How many bytes wait to be received on a descriptor.
    pub(crate) fn received_bytes(&self, core: usize, slot: u32) -> usize {
        let place = self.tables[core].places[slot as usize].as_ref().expect("an open descriptor");
        self.sockets[place.socket].to_core.len()
    }

    /// Completes a receive with up to `bytes` bytes, the end, or for want of a buffer. One that
    /// was to go on may end `by_itself`, as the kernel ends it when its queue is full.
    pub(crate) fn receive(&mut self, core: usize, slot: u32, bytes: usize, by_itself: bool) {
        let buffers = self.buffers;
        let table = &mut self.tables[core];
        let place = table.places[slot as usize].as_mut().expect("an open descriptor");
        let conn = place.conn.expect("named when its receive was armed");
        let socket = &mut self.sockets[place.socket];
        let goes_on = place.receive == Receive::Many && !by_itself;
        let done = if socket.to_core.is_empty() {
            assert!(socket.client_ended, "something can be received");
            place.receive = Receive::Idle;
            Done::End { conn }
        } else if table.buffers_lent == buffers {
            place.receive = Receive::Idle;
            Done::Starved { conn }
        } else {
            table.buffers_lent += 1;
            let bytes = socket.to_core.drain(..bytes.min(socket.to_core.len())).collect();
            if !goes_on {
                place.receive = Receive::Idle;
            }
            Done::Received { conn, bytes, armed: goes_on }
        };
        place.cancels &= place.receive != Receive::Idle;
        table.done.push_back(done);
    }

    /// Cancels a receive.
    pub(crate) fn cancel(&mut self, core: usize, slot: u32) {
        let table = &mut self.tables[core];
        let place = table.places[slot as usize].as_mut().expect("an open descriptor");
        (place.receive, place.cancels) = (Receive::Idle, false);
        let conn = place.conn.expect("named when its receive was armed");
        table.done.push_back(Done::Stopped { conn });
    }

    /// Goes on with a send by up to `bytes` bytes.
    pub(crate) fn send(&mut self, core: usize, slot: u32, bytes: usize) {
        let table = &mut self.tables[core];
        let place = table.places[slot as usize].as_mut().expect("an open descriptor");
        let conn = place.conn.expect("named when it was sent to");
        let (sending, sent) = place.sending.as_mut().expect("a send is in flight");
        let socket = &mut self.sockets[place.socket];
        let complete = !socket.client_ended;
        if complete {
            let room = self.socket_bytes.saturating_sub(socket.to_client.len());
            let moved = bytes.min(room).min(sending.len() - *sent);
            socket.to_client.extend_from_slice(&sending[*sent..*sent + moved]);
            *sent += moved;
            if *sent < sending.len() {
                return;
            }
        }
        let (bytes, _) = place.sending.take().expect("just looked at");
        table.done.push_back(Done::Sent { conn, bytes, complete });
    }

    /// How many descriptors are open, of all cores.
    pub(crate) fn open_places(&self) -> usize {
        self.tables.iter().map(|table| table.places.iter().flatten().count()).sum()
    }
}
