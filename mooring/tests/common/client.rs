//! A small blocking client: what a test says and hears, in owned values.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use wire::client::{Credential, CursorAck, Hello, Post};
use wire::server::{Durability, Resume};
use wire::{
    ChannelId, ClientBody, DeviceId, Encoder, Epoch, Event, InboxSeq, Nonce, ServerBody, UserId,
};
use ws::handshake::{ClientRequest, Progress, read_response};
use ws::{MaskKey, Role, Session};

use super::STEP_TIMEOUT;

/// What the gateway said, as far as these tests look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    Welcome {
        epoch: Epoch,
        inbox_head: u64,
        resume: Resume,
        ticket: Vec<u8>,
    },
    Posted {
        nonce: u64,
        seq: u64,
        durability: Durability,
    },
    /// An entry of the inbox: its place, and the message's place, nonce and text.
    Entry(Entry),
    /// A page of the inbox, or of history (then the places in the inbox are 0).
    Page {
        entries: Vec<Entry>,
        end: bool,
    },
    Rejected(String),
    Reconnect {
        after_ms: u32,
        url: Option<String>,
    },
    Closed {
        code: u16,
        reason: String,
    },
    /// The connection is over.
    Gone,
    Other(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) inbox_seq: u64,
    pub(crate) seq: u64,
    pub(crate) nonce: u64,
    pub(crate) text: String,
}

/// One connection of a device.
pub(crate) struct Client {
    stream: TcpStream,
    session: Session,
    encoder: Encoder,
    heard: VecDeque<Heard>,
}

/// Any key will do: masks protect proxies (RFC 6455 10.3), and there is none here.
const MASK: MaskKey = MaskKey([1, 2, 3, 4]);
const FRAME_BYTES_MAX: u32 = 1 << 20;

impl Client {
    /// A WebSocket; nobody has said anything.
    pub(crate) fn connect(gateway: SocketAddr) -> Self {
        let stream = TcpStream::connect(gateway).expect("the gateway listens");
        stream.set_read_timeout(Some(STEP_TIMEOUT)).expect("not zero");
        let session = Session::new(Role::Client, FRAME_BYTES_MAX);
        let encoder = Encoder::new(4096);
        let mut client = Self { stream, session, encoder, heard: VecDeque::new() };
        client.shake_hands(&gateway.to_string());
        client
    }

    /// A device with a token, that has kept its inbox up to `cursor`.
    pub(crate) fn hello(
        gateway: SocketAddr,
        token: &str,
        device: u32,
        (epoch, cursor): (Epoch, u64),
    ) -> (Self, Heard) {
        let mut client = Self::connect(gateway);
        client.send(Hello {
            protocol_version: wire::limits::PROTOCOL_VERSION,
            credential: Credential::Token(token),
            device: DeviceId(device),
            epoch,
            cursor: InboxSeq::new(cursor),
            client: "tests",
        });
        let heard = client.next();
        (client, heard)
    }

    pub(crate) fn send<'a>(&mut self, body: impl Into<ClientBody<'a>>) {
        let mut out = Vec::new();
        ws::encoder::append_binary(&mut out, self.encoder.client(1, body), Some(MASK));
        self.stream.write_all(&out).expect("the gateway reads");
    }

    /// Posts a text without waiting for the answer.
    pub(crate) fn post(&mut self, channel: ChannelId, nonce: u64, text: &str, retry: bool) {
        let nonce = Nonce(nonce);
        self.send(Post { channel, nonce, kind: 0, body: text.as_bytes(), retry });
    }

    pub(crate) fn acknowledge(&mut self, cursor: u64) {
        self.send(CursorAck { inbox_seq: InboxSeq::new(cursor) });
    }

    /// The next thing heard.
    pub(crate) fn next(&mut self) -> Heard {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Heard::Gone,
                Ok(count) => self.take(&mut buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Heard::Gone;
                }
                Err(error) => panic!("nothing heard: {error}"),
            }
        }
    }

    /// The next thing heard but for entries of the inbox, which are left out.
    pub(crate) fn next_answer(&mut self) -> Heard {
        loop {
            match self.next() {
                Heard::Entry(_) => {}
                heard => return heard,
            }
        }
    }

    /// The entries of the inbox, live or by page, until there are `count`.
    pub(crate) fn entries(&mut self, count: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        while entries.len() < count {
            match self.next() {
                Heard::Entry(entry) => entries.push(entry),
                Heard::Page { entries: page, end } => {
                    entries.extend(page);
                    if !end {
                        let after = InboxSeq::new(entries.last().map_or(0, |it| it.inbox_seq));
                        self.send(wire::client::Sync { after, limit: 0 });
                    }
                }
                Heard::Posted { .. } => {}
                other => {
                    panic!("{count} entries expected, {} found, then {other:?}", entries.len())
                }
            }
        }
        entries
    }

    /// Answers the gateway's close.
    pub(crate) fn close(&mut self) {
        let mut out = Vec::new();
        self.session.close(Some(ws::CloseCode::NORMAL), "", Some(MASK), &mut out);
        // A gateway that has closed already does not mind.
        let _ = self.stream.write_all(&out);
    }

    fn shake_hands(&mut self, host: &str) {
        let subprotocol = Some(wire::limits::SUBPROTOCOL);
        let request = ClientRequest { host, target: "/", key: [7; 16], subprotocol, fields: &[] };
        let mut out = Vec::new();
        request.append(&mut out).expect("host and target are printable");
        self.stream.write_all(&out).expect("the gateway reads");
        let mut head = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let count = self.stream.read(&mut buffer).expect("the gateway answers");
            assert_ne!(count, 0, "the gateway hung up");
            head.extend_from_slice(&buffer[..count]);
            match read_response(&head, &request).expect("a WebSocket") {
                Progress::Incomplete => {}
                Progress::Complete(response) => {
                    return self.take(&mut head[response.head_bytes..]);
                }
            }
        }
    }

    fn take(&mut self, mut input: &mut [u8]) {
        while let Some(event) = self.session.next_event(&mut input).expect("RFC 6455") {
            match event {
                ws::Event::Binary(frame) => {
                    let frame = wire::decode_server(frame).expect("a valid frame");
                    self.heard.push_back(owned(&frame.body));
                }
                ws::Event::Close(frame) => {
                    let code = frame.code.map_or(0, ws::CloseCode::get);
                    self.heard.push_back(Heard::Closed { code, reason: frame.reason.to_owned() });
                }
                ws::Event::Ping(_) | ws::Event::Pong(_) | ws::Event::Text(_) => {}
            }
        }
    }
}

fn owned(body: &ServerBody<'_>) -> Heard {
    match body {
        ServerBody::Welcome(it) => Heard::Welcome {
            epoch: it.epoch,
            inbox_head: it.inbox_head.get(),
            resume: it.resume,
            ticket: it.ticket.to_vec(),
        },
        ServerBody::Posted(it) => {
            Heard::Posted { nonce: it.nonce.0, seq: it.seq.get(), durability: it.durability }
        }
        ServerBody::Deliver(it) => Heard::Entry(entry(it.inbox_seq.get(), &it.event)),
        ServerBody::SyncPage(it) => {
            let entry = |it: wire::Deliver<'_>| entry(it.inbox_seq.get(), &it.event);
            Heard::Page { entries: it.entries.iter().map(entry).collect(), end: it.end }
        }
        ServerBody::HistoryPage(it) => {
            let entries = it.entries.iter().map(|event| entry(0, &event)).collect();
            Heard::Page { entries, end: !it.more }
        }
        ServerBody::Rejected(it) => Heard::Rejected(format!("{:?}: {}", it.code, it.text)),
        ServerBody::Reconnect(it) => {
            Heard::Reconnect { after_ms: it.after_ms, url: it.url.map(str::to_owned) }
        }
        other => Heard::Other(format!("{other:?}")),
    }
}

fn entry(inbox_seq: u64, event: &Event<'_>) -> Entry {
    let Event::Message(message) = event else { panic!("only messages are sent: {event:?}") };
    Entry {
        inbox_seq,
        seq: message.seq.get(),
        nonce: message.nonce.0,
        text: String::from_utf8_lossy(message.body.unwrap_or_default()).into_owned(),
    }
}

/// The channel of two users.
pub(crate) fn direct(one: u64, other: u64) -> ChannelId {
    let user = |number| UserId::new(number).expect("not 0");
    ChannelId::direct(user(one), user(other))
}
