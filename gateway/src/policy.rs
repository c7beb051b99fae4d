//! What the reactor and the server ask of a core's policy.
//!
//! [`Shard`] is the product's. The seam is here so that the machinery around it (rings, buffers,
//! the table of connections, start and end) can be put to the test with another one: an echo, for
//! the conformance of what goes over its sockets.

use router::mesh::MeshPort;
use router::sessions::ConnId;

use crate::clock::Now;
use crate::connection::{Live, Phase};
use crate::event::{Effects, Event};
use crate::messages::{Delivery, Request};
use crate::metrics::CoreCounts;
use crate::shard::Shard;

/// The policy of one core: events in, effects out, the time passed in; no system call, no clock.
pub trait Policy {
    /// Takes one event and appends what is to be done about it.
    fn handle(&mut self, event: Event<'_>, now: Now, effects: &mut Effects);

    /// The mesh, for the reactor: whom to wake, and whether anything waits.
    fn mesh(&mut self) -> &mut MeshPort<Request, Delivery>;

    /// Whether the next turn has work without anything happening first: then the reactor does not
    /// sleep.
    fn has_work(&self) -> bool;

    /// Whether [`Event::Drain`] has been handled.
    fn is_draining(&self) -> bool;

    /// What it counted; the reactor adds the ring's numbers and publishes all.
    fn counts(&mut self) -> &mut CoreCounts;

    /// How the receive of a connection goes on that had found no buffer.
    fn starved(&mut self, conn: ConnId) -> Starved;
}

/// What becomes of a receive that had found no buffer, now that there are some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Starved {
    /// Its connection has ended.
    Gone,
    /// It was to stop, and has: the policy is told so instead.
    Stopped,
    /// It is armed for one buffer.
    Once,
    /// It is armed until further notice.
    Many,
}

impl Policy for Shard {
    fn handle(&mut self, event: Event<'_>, now: Now, effects: &mut Effects) {
        Self::handle(self, event, now, effects);
    }

    fn mesh(&mut self) -> &mut MeshPort<Request, Delivery> {
        Self::mesh(self)
    }

    fn has_work(&self) -> bool {
        Self::has_work(self)
    }

    fn is_draining(&self) -> bool {
        Self::is_draining(self)
    }

    fn counts(&mut self) -> &mut CoreCounts {
        &mut self.counts
    }

    fn starved(&mut self, conn: ConnId) -> Starved {
        let Some(connection) = self.connection(conn) else { return Starved::Gone };
        match &connection.phase {
            // Nothing may be received that there is no room for.
            Phase::Live(Live { stall: Some(_), .. }) => Starved::Stopped,
            Phase::Live(_) => Starved::Many,
            _ => Starved::Once,
        }
    }
}
