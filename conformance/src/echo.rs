//! The echo: every message comes back as it was, everything else is as the gateway does it.

use bytes::{Bytes, BytesMut};
use gateway::clock::Now;
use gateway::config::{Config, ShellConfig};
use gateway::connection::Phase;
use gateway::event::{Effect, Effects, Event};
use gateway::limits::Limits;
use gateway::messages::{Delivery, Request};
use gateway::metrics::CoreCounts;
use gateway::outgoing::Outgoing;
use gateway::policy::{Policy, Starved};
use gateway::server::{Gateway, StartError};
use router::mesh::MeshPort;
use router::sessions::ConnId;
use ws::handshake::server::{HandshakePolicy, read_request};
use ws::handshake::{HEAD_BYTES_MAX_DEFAULT, Progress};
use ws::{CloseCode, Role, Session, TextPolicy, encoder};

use crate::MESSAGE_BYTES_MAX;

/// More than any answer to a handshake.
const HTTP_ANSWER_BYTES_MAX: usize = 1024;

/// Bytes that may wait for one connection: the suite sends some messages of the largest size
/// before it reads the first one back.
const QUEUE_BYTES_MAX: usize = 8 * MESSAGE_BYTES_MAX as usize;

/// Ticks that a peer has to answer a close.
const CLOSE_TICKS: u32 = 100;

/// How large the echo's buffers are; the smaller, the more boundaries a message crosses.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Receive buffers of a core: a power of two from 16 on.
    pub receive_buffers: u16,
    /// Bytes of each, from 512 on.
    pub receive_buffer_bytes: u32,
    /// Bytes of a send block, from 1024 on.
    pub send_block_bytes: usize,
}

impl Default for Sizes {
    /// The product's own.
    fn default() -> Self {
        let io = Config::default().io;
        Self {
            receive_buffers: io.receive_buffers,
            receive_buffer_bytes: io.receive_buffer_bytes,
            send_block_bytes: io.send_block_bytes,
        }
    }
}

/// Starts a gateway of `cores` cores on `shell` that echoes, on a free port of the loopback
/// interface. `data` is for its store, in which nothing is kept.
///
/// # Errors
/// As [`Gateway::start`].
///
/// # Panics
/// If `sizes` are out of their ranges.
pub fn start(
    data: &std::path::Path,
    shell: ShellConfig,
    cores: u16,
    sizes: Sizes,
) -> Result<Gateway, StartError> {
    let mut config = Config::default();
    config.io.shell = shell;
    config.server.listen = vec!["127.0.0.1:0".into()];
    config.server.data = data.to_owned();
    config.server.cores = cores;
    config.limits.connections_per_core_max = 256;
    config.store.memtable_bytes = 1 << 20;
    config.store.disk_free_bytes_min = 1 << 20;
    config.io.receive_buffers = sizes.receive_buffers;
    config.io.receive_buffer_bytes = sizes.receive_buffer_bytes;
    config.io.send_block_bytes = sizes.send_block_bytes;
    let mut limits = Limits::new(&config).expect("sizes within their ranges");
    limits.send_queue_bytes_max = QUEUE_BYTES_MAX;
    (limits.session_bytes_max, limits.core_bytes_max) = (usize::MAX, usize::MAX);
    limits.close_ticks = CLOSE_TICKS;
    let of_echo = limits.clone();
    Gateway::start_with(limits, move |_, port, _, _| Echo::new(port, &of_echo))
}

/// One core's echo.
struct Echo {
    mesh: MeshPort<Request, Delivery>,
    outgoing: Outgoing,
    counts: CoreCounts,
    handshake: HandshakePolicy,
    is_draining: bool,
}

/// Why a connection is closed.
enum Ending {
    /// The peer has said so.
    Closed,
    Protocol(ws::ProtocolError),
}

impl Echo {
    fn new(mesh: MeshPort<Request, Delivery>, limits: &Limits) -> Self {
        let handshake = HandshakePolicy {
            head_bytes_max: HEAD_BYTES_MAX_DEFAULT,
            subprotocol_required: false,
            ..HandshakePolicy::default()
        };
        Self {
            mesh,
            outgoing: Outgoing::new(limits),
            counts: CoreCounts::default(),
            handshake,
            is_draining: false,
        }
    }

    fn accepted(&mut self, slot: u32, effects: &mut Effects) {
        let phase = Phase::Handshake(Vec::new());
        let (conn, connection) = self.outgoing.connections.open(slot, phase);
        connection.ws = Session::with_text(Role::Server, MESSAGE_BYTES_MAX, TextPolicy::Utf8);
        connection.receiving = true;
        effects.push(Effect::ReceiveOnce(conn));
    }

    fn received(&mut self, conn: ConnId, bytes: &mut [u8], armed: bool, effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        connection.receiving = armed;
        match &mut connection.phase {
            Phase::Handshake(head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                if let Some(consumed) = self.shake_hands(conn) {
                    self.hear(conn, &mut bytes[consumed - before..]);
                }
            }
            Phase::Greeting => self.hear(conn, bytes),
            Phase::Closing => {
                let mut input = bytes;
                while let Ok(Some(_)) = connection.ws.next_event(&mut input) {}
                if connection.queue.is_empty() && !connection.ws.close_state().reads() {
                    self.outgoing.end(conn, effects);
                }
            }
            _ => {}
        }
        self.receive_again(conn, effects);
    }

    /// Goes on receiving: once until the handshake is over, then until further notice.
    fn receive_again(&mut self, conn: ConnId, effects: &mut Effects) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        if connection.receiving {
            return;
        }
        connection.receiving = true;
        effects.push(match connection.phase {
            Phase::Greeting => Effect::ReceiveMany(conn),
            _ => Effect::ReceiveOnce(conn),
        });
    }

    /// The bytes of the head, once it is there and good.
    fn shake_hands(&mut self, conn: ConnId) -> Option<usize> {
        let connection = self.outgoing.connections.get(conn)?;
        let Phase::Handshake(head) = &mut connection.phase else { return None };
        let head = std::mem::take(head);
        match read_request(&head, &self.handshake) {
            Ok(Progress::Incomplete) => {
                connection.phase = Phase::Handshake(head);
                None
            }
            Ok(Progress::Complete(request)) => {
                connection.phase = Phase::Greeting;
                let write = |out: &mut BytesMut| request.append_response(out);
                self.outgoing.send_raw(conn, HTTP_ANSWER_BYTES_MAX, write);
                Some(request.head_bytes)
            }
            Err(refusal) => {
                connection.phase = Phase::Refused;
                let subprotocol = &self.handshake.subprotocol;
                self.outgoing.send_raw(conn, HTTP_ANSWER_BYTES_MAX, |out| {
                    refusal.append_response(subprotocol, out);
                });
                None
            }
        }
    }

    fn hear(&mut self, conn: ConnId, bytes: &mut [u8]) {
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        // Taken out, as the gateway does: its events borrow from it.
        let fresh = Session::new(Role::Server, 0);
        let mut session = std::mem::replace(&mut connection.ws, fresh);
        let ending = self.answer(conn, &mut session, bytes);
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        connection.ws = session;
        let (code, reason) = match ending {
            None => return,
            Some(Ending::Closed) => (CloseCode::NORMAL, String::new()),
            Some(Ending::Protocol(error)) => (error.close_code(), error.to_string()),
        };
        // Ticks are not counted here: whoever does not answer the close stays until the end.
        self.outgoing.begin_close(conn, code, &reason, gateway::wheel::Tick(0));
    }

    fn answer(&mut self, conn: ConnId, session: &mut Session, bytes: &mut [u8]) -> Option<Ending> {
        let mut input = bytes;
        loop {
            match session.next_event(&mut input) {
                Ok(None) => return None,
                Ok(Some(ws::Event::Binary(message))) => {
                    let bytes = encoder::frame_bytes(message.len(), false);
                    self.send(conn, bytes, |out| encoder::append_binary(out, message, None));
                }
                Ok(Some(ws::Event::Text(text))) => {
                    let bytes = encoder::frame_bytes(text.len(), false);
                    self.send(conn, bytes, |out| encoder::append_text(out, text, None));
                }
                Ok(Some(ws::Event::Ping(payload))) => {
                    let bytes = encoder::frame_bytes(payload.get().len(), false);
                    self.send(conn, bytes, |out| encoder::append_pong(out, payload, None));
                }
                Ok(Some(ws::Event::Pong(_))) => {}
                Ok(Some(ws::Event::Close(_))) => return Some(Ending::Closed),
                Err(error) => return Some(Ending::Protocol(error)),
            }
        }
    }

    fn send(&mut self, conn: ConnId, bytes: usize, write: impl FnOnce(&mut BytesMut)) {
        self.outgoing.send_raw(conn, bytes, write);
    }

    fn sent(&mut self, conn: ConnId, bytes: Bytes, complete: bool, effects: &mut Effects) {
        let is_empty = self.outgoing.handle_sent(conn, bytes, effects);
        let Some(connection) = self.outgoing.connections.get(conn) else { return };
        let is_over = match connection.phase {
            Phase::Refused => true,
            Phase::Closing => !connection.ws.close_state().reads(),
            _ => false,
        };
        if !complete || is_empty && is_over {
            self.outgoing.end(conn, effects);
        }
    }

    fn turn_ends(&mut self, effects: &mut Effects) {
        while let Some(conn) = self.outgoing.next_slow() {
            self.outgoing.end(conn, effects);
        }
        self.outgoing.flush(effects);
    }

    fn drain(&mut self, effects: &mut Effects) {
        self.is_draining = true;
        effects.push(Effect::StopAccepting);
        let all: Vec<ConnId> = self.outgoing.connections.ids().collect();
        for conn in all {
            self.outgoing.end(conn, effects);
        }
        effects.push(Effect::Exit);
    }
}

impl Policy for Echo {
    fn handle(&mut self, event: Event<'_>, _: Now, effects: &mut Effects) {
        match event {
            Event::Accepted { slot } => self.accepted(slot, effects),
            Event::Received { conn, bytes, armed } => self.received(conn, bytes, armed, effects),
            Event::Disconnected { conn } => self.outgoing.end(conn, effects),
            Event::Sent { conn, bytes, complete } => self.sent(conn, bytes, complete, effects),
            Event::TurnEnds => self.turn_ends(effects),
            Event::Drain => self.drain(effects),
            // A receive stops here only with its connection.
            Event::TurnBegins { .. } | Event::TurnGoesOn | Event::ReceiveStopped { .. } => {}
            Event::Passed { .. } | Event::Stored(_) | Event::Answered(_) | Event::Evacuate(_) => {
                unreachable!("an echo asks for none of these")
            }
        }
    }

    fn mesh(&mut self) -> &mut MeshPort<Request, Delivery> {
        &mut self.mesh
    }

    fn has_work(&self) -> bool {
        false
    }

    fn is_draining(&self) -> bool {
        self.is_draining
    }

    fn counts(&mut self) -> &mut CoreCounts {
        &mut self.counts
    }

    fn starved(&mut self, conn: ConnId) -> Starved {
        match self.outgoing.connections.get(conn) {
            None => Starved::Gone,
            Some(connection) if matches!(connection.phase, Phase::Greeting) => Starved::Many,
            Some(_) => Starved::Once,
        }
    }
}
