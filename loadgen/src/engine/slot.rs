//! What the engine keeps for each session.

use bytes::BytesMut;
use uring::{Descriptor, Ring, RingOptions, Token};
use wire::ClientBody;

use super::DESCRIPTORS_SPARE;
use super::blocks::Blocks;
use crate::client::{Client, Kit};
use crate::clock::Nanos;

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    /// For its turn to connect, or for its next attempt.
    Waiting,
    /// TCP.
    Connecting,
    /// Handshake and Hello.
    Opening,
    /// Welcomed.
    Live,
    /// Over; operations of the ring are still to end. `retry`: then it begins again.
    Ending { retry: bool },
    /// Over.
    Gone,
}

/// One session with its connection.
pub(super) struct Slot {
    pub(super) client: Client,
    pub(super) life: Life,
    pub(super) descriptor: Option<Descriptor>,
    /// What is to be sent next; without memory while there is nothing.
    pub(super) out: BytesMut,
    pub(super) is_sending: bool,
    /// It is waited for by a poll, not by a receive.
    pub(super) is_polled: bool,
    pub(super) is_dirty: bool,
    /// Operations of the ring that have not ended.
    pub(super) operations: u32,
    pub(super) attempt: u32,
    /// Of the next attempt, or of becoming live.
    pub(super) deadline: Nanos,
    /// Since when a session that had been live is to come back; [`Nanos::NEVER`] for any other.
    pub(super) down_since: Nanos,
}

impl Slot {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            life: Life::Waiting,
            descriptor: None,
            out: BytesMut::new(),
            is_sending: false,
            is_polled: false,
            is_dirty: false,
            operations: 0,
            attempt: 0,
            deadline: Nanos(0),
            down_since: Nanos::NEVER,
        }
    }

    /// Memory to write into.
    pub(super) fn take_block(&mut self, blocks: &mut Blocks) {
        if self.out.capacity() == 0 {
            self.out = blocks.take();
        }
    }

    /// Gives memory back that was not written to.
    pub(super) fn return_block(&mut self, blocks: &mut Blocks) {
        if self.out.is_empty() {
            blocks.give_back(std::mem::take(&mut self.out));
        }
    }

    /// Closes its connection, if it has one, and cancels what is armed on it. Two more operations
    /// are to end then.
    pub(super) fn close(&mut self, session: u32, ring: &mut Ring) {
        let Some(descriptor) = self.descriptor.take() else { return };
        let token = Token::new(session, 0);
        // A receive is found by its name; for the rest the kernel goes through all operations.
        if self.is_sending {
            ring.cancel_all(descriptor, token);
        } else if self.is_polled {
            ring.cancel_poll(token, token);
        } else {
            ring.cancel_receive(token, token);
        }
        ring.close(descriptor, token);
        self.operations += 2;
    }

    /// Whether it has been live and is to be live again.
    pub(super) fn is_returning(&self) -> bool {
        self.down_since != Nanos::NEVER
    }

    /// There may be something to send.
    pub(super) fn mark(&mut self, session: u32, dirty: &mut Vec<u32>) {
        if !self.is_dirty {
            self.is_dirty = true;
            dirty.push(session);
        }
    }
}

/// What a script may do with the sessions.
pub(crate) struct Desk<'a> {
    pub(super) slots: &'a mut [Slot],
    pub(super) kit: &'a mut Kit,
    pub(super) blocks: &'a mut Blocks,
    pub(super) dirty: &'a mut Vec<u32>,
}

impl Desk<'_> {
    /// Sends a frame; `false` if the session is not live.
    pub(crate) fn send<'b>(
        &mut self,
        session: u32,
        now: Nanos,
        body: impl Into<ClientBody<'b>>,
    ) -> bool {
        let slot = &mut self.slots[session as usize];
        if slot.life != Life::Live {
            return false;
        }
        slot.take_block(self.blocks);
        let is_sent = slot.client.send(self.kit, now, body, &mut slot.out);
        slot.mark(session, self.dirty);
        is_sent
    }
}

/// So many talking sessions of a thread fill no more buffers between two turns than idle ones.
const LIVELY_FEW: u32 = 256;

/// The ring of a thread with this many sessions, of which some receive much.
pub(super) fn ring_options(sessions: u32, connects_max: u32, lively: u32) -> RingOptions {
    // Idle sessions receive a heartbeat's answer now and then; a chat is bursts of deliveries.
    let buffers = if lively > LIVELY_FEW { 4096 } else { 512 };
    let flights_max = sessions + connects_max;
    let cq_entries = (u32::from(buffers) + flights_max).next_power_of_two();
    RingOptions {
        sq_entries: 1024,
        cq_entries: cq_entries.clamp(4096, 1 << 16),
        descriptors_max: sessions + DESCRIPTORS_SPARE,
        flights_max,
        buffers,
        buffer_bytes: 2048,
    }
}
