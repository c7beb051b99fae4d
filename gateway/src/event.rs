//! Everything that can wake a core, and everything a core can want: two closed lists.

use std::sync::Arc;

use bytes::Bytes;
use router::sessions::ConnId;
use store::{Answer, Batch, Pressure, Read, Through};
use wire::CoreId;

use crate::evacuation::Order;

/// What happened. `Shard::handle` takes one at a time.
#[derive(Debug)]
pub enum Event<'e> {
    /// A connection was accepted into this place of the table.
    Accepted {
        /// The place; its connection's slot.
        slot: u32,
    },
    /// Bytes arrived. They may be changed in place (unmasked).
    Received {
        /// On which connection.
        conn: ConnId,
        /// What arrived.
        bytes: &'e mut [u8],
        /// Whether the receive goes on.
        armed: bool,
    },
    /// The peer will send no more, or the connection broke.
    Disconnected {
        /// Which.
        conn: ConnId,
    },
    /// A send ended: all of it was taken, or the connection broke.
    Sent {
        /// On which connection.
        conn: ConnId,
        /// What was sent, handed back.
        bytes: Bytes,
        /// Whether all of it was.
        complete: bool,
    },
    /// A connection was passed on: its place in the other core's table, or not.
    Passed {
        /// Its name here.
        conn: ConnId,
        /// Its place there.
        slot: Option<u32>,
    },
    /// A receive that was to stop has stopped.
    ReceiveStopped {
        /// On which connection.
        conn: ConnId,
    },
    /// A batch is through the store.
    Stored(Through),
    /// The store has answered.
    Answered(Answer),
    /// The loop comes round: offers and deliveries may wait in the mesh.
    TurnBegins {
        /// How near the store is to stalling.
        pressure: Pressure,
        /// The disk is full.
        full: bool,
    },
    /// More waits to be handled: seal what is there, and keep what is to be sent, so that it goes
    /// out with what is still to come.
    TurnGoesOn,
    /// Everything of this turn has been handled: seal, and send.
    TurnEnds,
    /// The process is to end: send clients away.
    Drain,
    /// Send clients away at an even rate, and go on; `None`: stop it.
    Evacuate(Option<Arc<Order>>),
}

/// What is to be done. The reactor does it in order.
#[derive(Debug)]
pub enum Effect {
    /// Receive once: the connection has no session yet.
    ReceiveOnce(ConnId),
    /// Receive until further notice.
    ReceiveMany(ConnId),
    /// Stop receiving: the core cannot take what this connection sends.
    StopReceiving(ConnId),
    /// Send; `Event::Sent` hands the bytes back.
    Send(ConnId, Bytes),
    /// Pass the connection to another core; `Event::Passed` says how it went. Nothing is in
    /// flight on it.
    Pass(ConnId, CoreId),
    /// End the connection at once. Its name is free; what still completes is dropped.
    Close {
        /// Which.
        conn: ConnId,
        /// A send of it may be in flight. To find that, the kernel goes through all operations of
        /// the ring; a receive it finds by its name.
        sending: bool,
        /// It may be received from still. If not, as of one that was passed on, there is nothing
        /// to look for.
        receiving: bool,
    },
    /// Hand a batch to the writer. It has room: the shard counts.
    Submit(Batch),
    /// Ask the store; `Event::Answered` repeats the ticket.
    Read(u64, Read),
    /// Leave who comes in the kernel's queue until further notice: enough stand in line.
    PauseAccepting,
    /// Accept again.
    ResumeAccepting,
    /// Accept no more connections.
    StopAccepting,
    /// This core has sent everyone away and owes nothing: end its loop.
    Exit,
}

/// Effects in order. Its memory is used again each turn.
pub type Effects = Vec<Effect>;
