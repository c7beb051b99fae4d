//! What goes out to the connections of one core: their table, their send queues, and who is to be
//! flushed when.

use bytes::Bytes;
use router::sessions::ConnId;
use variants::Variant;
use wire::server::Rejected;
use wire::{
    ChannelId, CloseCode, Deliver, Encoder, Event, InboxSeq, Nonce, RejectCode, ServerBody,
};
use ws::encoder;

use crate::budget::Budget;
use crate::connection::{Connection, Connections, Phase};
use crate::event::{Effect, Effects};
use crate::limits::Limits;
use crate::memory::{Account, Part};
use crate::pools::{BlockPool, BodyPool};
use crate::send_queue::{QueueFull, Room, SharedFrame};
use crate::wheel::{Tick, Wheel};

/// Bytes of a close frame with the longest reason.
const CLOSE_FRAME_BYTES_MAX: usize = 2 + 125;

/// See the module's documentation.
#[derive(Debug)]
pub struct Outgoing {
    /// The table.
    pub connections: Connections,
    /// Turns frames into bytes.
    pub encoder: Encoder,
    /// Their deadlines.
    pub wheel: Wheel,
    blocks: BlockPool,
    /// What the recipients of a long delivery share.
    tails: BodyPool,
    /// What the sessions hold together.
    pub budget: Budget,
    most: Most,
    close_ticks: u32,
    /// To be flushed at the end of this turn.
    dirty: Vec<ConnId>,
    /// To be flushed at the next tick, if nothing flushes them before.
    lazy: Vec<ConnId>,
    /// Those whose queue was full in this turn.
    slow: Vec<ConnId>,
    /// Frames queued, for the metrics.
    pub frames: u64,
}

/// What one session may have, in bytes.
#[derive(Clone, Copy, Debug)]
struct Most {
    /// Waiting to be sent.
    queue: usize,
    /// Of memory in all.
    session: usize,
    /// A page on its way to it.
    page: usize,
}

/// When a frame is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// At the end of the turn.
    Now,
    /// With the next frame that is sent now, or at the next tick.
    WithNext,
}

impl Outgoing {
    /// No connection.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let slots = limits.ring.descriptors_max as usize;
        let (blocks_max, block_bytes) = limits.send_blocks;
        let most = Most {
            queue: limits.send_queue_bytes_max,
            session: limits.session_bytes_max,
            page: limits.page_held_bytes_max(),
        };
        Self {
            connections: Connections::with_capacity(slots),
            encoder: Encoder::new(64 * 1024),
            wheel: Wheel::with_capacity(slots),
            blocks: BlockPool::new(blocks_max, block_bytes),
            tails: BodyPool::default(),
            budget: Budget::new(limits.core_bytes_max, limits.bounds.room_bytes_max),
            most,
            close_ticks: limits.close_ticks,
            dirty: Vec::new(),
            lazy: Vec::new(),
            slow: Vec::new(),
            frames: 0,
        }
    }

    /// Queues a frame. A connection whose queue is full takes nothing any more, and is to be closed
    /// as a slow consumer: see [`Self::next_slow`].
    pub fn send<'a>(&mut self, conn: ConnId, request: u32, body: impl Into<ServerBody<'a>>) {
        self.send_when(conn, Urgency::Now, request, body);
    }

    /// As [`Self::send`], with a choice of when.
    pub fn send_when<'a>(
        &mut self,
        conn: ConnId,
        urgency: Urgency,
        request: u32,
        body: impl Into<ServerBody<'a>>,
    ) {
        let Some(connection) = self.connections.get(conn) else { return };
        let bytes = self.encoder.server(request, body);
        let room = room_of(connection, &self.most, &self.budget);
        let queued = connection.queue.push(&mut self.blocks, room, bytes);
        self.frames += 1;
        self.note(conn, urgency, queued);
    }

    /// Queues an event for each of the recipients, with her place: encoded once, and a large body
    /// shared between them.
    pub fn deliver(&mut self, event: &Event<'_>, recipients: &[(ConnId, InboxSeq)]) {
        if let &[(conn, inbox_seq)] = recipients {
            return self.send(conn, 0, Deliver { inbox_seq, event: *event });
        }
        if recipients.is_empty() {
            return;
        }
        let template = self.encoder.deliver_template(event);
        let bytes = template.bytes();
        let tail = SharedFrame::wants_tail(bytes.len(), self.blocks.block_bytes())
            .then(|| self.tails.copy(&bytes[template.head_bytes()..]));
        let frame = SharedFrame { bytes, inbox_seq_offset: template.inbox_seq_offset(), tail };
        for &(conn, inbox_seq) in recipients {
            let Some(connection) = self.connections.get(conn) else { continue };
            let room = room_of(connection, &self.most, &self.budget);
            let queue = &mut connection.queue;
            let queued = queue.push_shared(&mut self.blocks, room, &frame, inbox_seq);
            self.frames += 1;
            recount(&mut self.budget, connection);
            match queued {
                Err(QueueFull) => self.slow.push(conn),
                Ok(()) if !std::mem::replace(&mut connection.dirty, true) => self.dirty.push(conn),
                Ok(()) => {}
            }
        }
    }

    /// Queues a refusal.
    pub fn reject(
        &mut self,
        conn: ConnId,
        request: u32,
        (channel, nonce): (Option<ChannelId>, Nonce),
        (code, text, retry_after_ms): (RejectCode, &str, u32),
    ) {
        self.send(conn, request, Rejected { code, nonce, channel, text, retry_after_ms });
    }

    /// Queues bytes that are no message: an HTTP answer, a control frame.
    pub fn send_raw(
        &mut self,
        conn: ConnId,
        bytes: usize,
        write: impl FnOnce(&mut bytes::BytesMut),
    ) {
        let Some(connection) = self.connections.get(conn) else { return };
        let room = room_of(connection, &self.most, &self.budget);
        let queued = connection.queue.push_with(&mut self.blocks, room, bytes, write);
        self.note(conn, Urgency::Now, queued);
    }

    /// Begins to close a connection: a close frame is queued, what the peer sends is ignored, and
    /// it has a while to answer. Without a block for the frame there is nothing to answer, and it
    /// ends at the next tick. The caller has taken the session out of it.
    pub fn begin_close(&mut self, conn: ConnId, code: ws::CloseCode, reason: &str, now: Tick) {
        let Some(connection) = self.connections.get(conn) else { return };
        connection.phase = Phase::Closing;
        connection.deadline = now.plus(self.close_ticks);
        self.wheel.set(conn.slot, connection.deadline);
        let Connection { ws, queue, .. } = connection;
        if ws.close_state().may_send_close() {
            let mut frame = bytes::BytesMut::with_capacity(CLOSE_FRAME_BYTES_MAX);
            ws.close(Some(code), reason, None, &mut frame);
            if queue.overflowed() {
                // It will not be sent what it could not take; the close frame says to resume.
                queue.clear(&mut self.blocks);
            }
            let write = |out: &mut bytes::BytesMut| out.extend_from_slice(&frame);
            let queued = queue.push_with(&mut self.blocks, Room::UNBOUNDED, frame.len(), write);
            if queued.is_err() {
                connection.deadline = now.plus(1);
                self.wheel.set(conn.slot, connection.deadline);
            }
        }
        self.note(conn, Urgency::Now, Ok(()));
    }

    /// Ends a connection at once.
    pub fn end(&mut self, conn: ConnId, effects: &mut Effects) {
        if let Some(mut ended) = self.connections.close(conn) {
            if !variants::is(Variant::BlockLost) {
                ended.queue.clear(&mut self.blocks);
            }
            if !variants::is(Variant::HeldForEver) {
                self.budget.recount(ended.counted as usize, 0);
            }
            self.wheel.remove(conn.slot);
            // What is left in a cleared queue is in flight.
            let (sending, receiving) = (!ended.queue.is_empty(), ended.receiving);
            effects.push(Effect::Close { conn, sending, receiving });
        }
    }

    /// A send has ended; the next one of that connection begins, if something waits. Tells whether
    /// the connection is now empty.
    pub fn handle_sent(&mut self, conn: ConnId, bytes: Bytes, effects: &mut Effects) -> bool {
        let length = bytes.len();
        self.blocks.give_back(bytes);
        let Some(connection) = self.connections.get(conn) else { return false };
        connection.queue.handle_sent(length);
        recount(&mut self.budget, connection);
        if let Some(next) = connection.queue.poll_send() {
            effects.push(Effect::Send(conn, next));
        }
        connection.queue.is_empty()
    }

    /// At the end of a turn: sends what has gathered.
    pub fn flush(&mut self, effects: &mut Effects) {
        for conn in self.dirty.drain(..) {
            let Some(connection) = self.connections.get(conn) else { continue };
            connection.dirty = false;
            if let Some(bytes) = connection.queue.poll_send() {
                effects.push(Effect::Send(conn, bytes));
            }
        }
    }

    /// At a tick: what waited for company waits no longer.
    pub fn flush_lazy(&mut self) {
        if variants::is(Variant::OwnCopyForgotten) {
            return;
        }
        for conn in self.lazy.drain(..) {
            let Some(connection) = self.connections.get(conn) else { continue };
            connection.lazy = false;
            if !std::mem::replace(&mut connection.dirty, true) {
                self.dirty.push(conn);
            }
        }
    }

    /// Now and then: lets go of memory that a rush has left.
    pub fn trim(&mut self) {
        self.blocks.trim();
    }

    /// A connection whose queue was full; it is to be closed as a slow consumer.
    pub fn next_slow(&mut self) -> Option<ConnId> {
        self.slow.pop()
    }

    /// Counts again what a connection holds: after anything that it holds has changed, but for what
    /// is done here.
    pub fn recount(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get(conn) {
            recount(&mut self.budget, connection);
        }
    }

    /// Whether a connection holds more than one session may.
    pub fn is_over(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.connections.get(conn) else { return false };
        connection.session_bytes(self.most.page) > self.most.session
            && !variants::is(Variant::SessionUnbounded)
    }

    /// Whether a page more may be on its way to a session.
    pub fn has_room_for_page(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.connections.get(conn) else { return false };
        let with_it = connection.session_bytes(self.most.page) + self.most.page;
        with_it <= self.most.session || variants::is(Variant::SessionUnbounded)
    }

    /// A session has not read what it was sent, and what more it would be sent has no room: it is
    /// to be closed as a slow consumer.
    pub fn give_up(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get(conn) {
            connection.queue.give_up();
            self.slow.push(conn);
        }
    }

    /// Sessions whose send queues hold `bytes` together, or all that hold more than the block that
    /// may be in flight: the largest first. Looks at every connection.
    pub fn largest_queues(&mut self, bytes: usize) -> Vec<ConnId> {
        let ids: Vec<ConnId> = self.connections.ids().collect();
        let held = |conn: ConnId| {
            let connection = self.connections.get(conn)?;
            let held = connection.queue.held_bytes();
            (connection.live().is_some() && held > self.blocks.block_bytes())
                .then_some((held, conn))
        };
        let mut queues: Vec<(usize, ConnId)> = ids.into_iter().filter_map(held).collect();
        queues.sort_unstable_by_key(|(held, conn)| (std::cmp::Reverse(*held), conn.slot));
        let mut found = 0;
        queues.retain(|(held, _)| {
            let is_needed = found < bytes;
            found += held;
            is_needed
        });
        queues.into_iter().map(|(_, conn)| conn).collect()
    }

    /// Notes what its parts hold.
    pub fn account(&self, account: &mut Account) {
        account.set(Part::Connections, self.connections.memory_bytes() + self.wheel.memory_bytes());
        account.set(Part::SendBlocks, self.blocks.memory_bytes());
        account.set(Part::Bodies, self.tails.memory_bytes());
    }

    /// Bytes of blocks that wait for use: what no session holds.
    #[must_use]
    pub const fn idle_block_bytes(&self) -> usize {
        self.blocks.memory_bytes() - self.blocks.out() * self.blocks.block_bytes()
    }

    /// Blocks that are out, for the metrics.
    #[must_use]
    pub const fn blocks_out(&self) -> usize {
        self.blocks.out()
    }

    fn note(&mut self, conn: ConnId, urgency: Urgency, queued: Result<(), QueueFull>) {
        let Some(connection) = self.connections.get(conn) else { return };
        recount(&mut self.budget, connection);
        if queued.is_err() {
            self.slow.push(conn);
            return;
        }
        match urgency {
            Urgency::Now if !std::mem::replace(&mut connection.dirty, true) => {
                self.dirty.push(conn);
            }
            Urgency::WithNext if !std::mem::replace(&mut connection.lazy, true) => {
                self.lazy.push(conn);
            }
            Urgency::Now | Urgency::WithNext => {}
        }
    }
}

/// What a connection's queue may take: no more than one session may have, and than its core has
/// left.
fn room_of(connection: &Connection, most: &Most, budget: &Budget) -> Room {
    let own = connection.queue.held_bytes();
    let beside = connection.session_bytes(most.page) - own;
    let of_session = most.session.saturating_sub(beside);
    let of_core = own.saturating_add(budget.left());
    let of_session = if variants::is(Variant::SessionUnbounded) { usize::MAX } else { of_session };
    let of_core = if variants::is(Variant::ShareUnbounded) { usize::MAX } else { of_core };
    Room { bytes_max: most.queue, held_max: of_session.min(of_core) }
}

fn recount(budget: &mut Budget, connection: &mut Connection) {
    let held = connection.held_bytes();
    budget.recount(connection.counted as usize, held);
    connection.counted = u32::try_from(held).expect("what a session may hold has 32 bits");
}

/// A close frame's payload is at most 125 bytes.
const _: () = assert!(CLOSE_FRAME_BYTES_MAX >= encoder::frame_bytes(125, false));

/// The code of a close by this protocol.
#[must_use]
pub fn close_code(code: CloseCode) -> ws::CloseCode {
    ws::CloseCode::new(code.number()).expect("the table has valid codes alone")
}
