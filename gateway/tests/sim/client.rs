//! A client: bytes in, bytes out, and a list of what it heard.

use std::collections::VecDeque;

use wire::client::{ClientBody, Credential, Hello};
use wire::server::Resume;
use wire::{DeviceId, Encoder, Epoch, InboxSeq, UserId, decode_server};
use ws::handshake::{ClientRequest, Progress, ResponseRefusal, read_response};
use ws::{ControlPayload, MaskKey, Role, encoder};

use super::heard::Heard;

/// What a server may send at most.
#[expect(clippy::cast_possible_truncation, reason = "one mebibyte")]
const SERVER_FRAME_BYTES_MAX: u32 = wire::limits::SERVER_FRAME_BYTES_MAX as u32;

/// One key for all: the peer cannot tell, and a run stays its seed.
pub(crate) const MASK: MaskKey = MaskKey([0x11, 0x22, 0x44, 0x88]);

const REQUEST: ClientRequest<'static> = ClientRequest {
    host: "localhost",
    target: "/",
    key: *b"the sample nonce",
    subprotocol: Some(wire::limits::SUBPROTOCOL),
    fields: &[],
};

/// Where a session is to begin.
#[derive(Clone, Debug)]
pub(crate) struct From {
    pub(crate) epoch: Epoch,
    pub(crate) cursor: InboxSeq,
    /// Instead of a token.
    pub(crate) ticket: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Stage {
    /// The answer to the handshake, as far as it came.
    Shaking(Vec<u8>),
    Open,
    Over,
}

/// See the module's documentation.
pub(crate) struct Client {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) socket: usize,
    /// It takes what arrives.
    pub(crate) reads: bool,
    /// What it heard and nobody has looked at.
    pub(crate) heard: VecDeque<Heard>,
    /// Live copies of what it did itself, which come with the next frame or tick: apart from the
    /// rest, as their order to that is not promised.
    pub(crate) own: VecDeque<Heard>,
    /// If set, everything it hears goes here instead, in order and with the request it answers.
    pub(crate) transcript: Option<Vec<(u32, Heard)>>,
    /// Its last ticket.
    pub(crate) ticket: Vec<u8>,
    ws: ws::Session,
    stage: Stage,
    encoder: Encoder,
    /// For whom it asks, if it is a service.
    pub(crate) as_user: Option<UserId>,
    requests: u32,
    cursor: InboxSeq,
    /// Its last place while it is caught up.
    live: Option<InboxSeq>,
}

impl Client {
    pub(crate) fn new(user: UserId, device: DeviceId, socket: usize) -> Self {
        Self {
            user,
            device,
            socket,
            reads: true,
            heard: VecDeque::new(),
            own: VecDeque::new(),
            transcript: None,
            ticket: Vec::new(),
            ws: ws::Session::new(Role::Client, SERVER_FRAME_BYTES_MAX),
            stage: Stage::Shaking(Vec::new()),
            encoder: Encoder::new(1024),
            as_user: None,
            requests: 0,
            cursor: InboxSeq::ZERO,
            live: None,
        }
    }

    /// The bytes that open the WebSocket.
    pub(crate) fn handshake() -> Vec<u8> {
        let mut out = Vec::new();
        REQUEST.append(&mut out).expect("a valid request");
        out
    }

    /// The bytes of Hello.
    pub(crate) fn hello(&mut self, from: &From) -> Vec<u8> {
        self.hello_with(from, &super::setup::token(self.user, self.device))
    }

    /// As [`Self::hello`], with another token.
    pub(crate) fn hello_with(&mut self, from: &From, token: &str) -> Vec<u8> {
        self.cursor = from.cursor;
        let credential = match &from.ticket {
            Some(ticket) => Credential::Ticket(ticket),
            None => Credential::Token(token),
        };
        let (device, epoch, cursor) = (self.device, from.epoch, from.cursor);
        let protocol_version = wire::limits::PROTOCOL_VERSION;
        let client = "sim";
        let hello = Hello { protocol_version, credential, device, epoch, cursor, client };
        self.say(hello)
    }

    /// The bytes of a frame.
    pub(crate) fn say<'a>(&mut self, body: impl Into<ClientBody<'a>>) -> Vec<u8> {
        self.requests += 1;
        let frame = self.encoder.client_as(self.requests, self.as_user, body);
        let mut out = Vec::new();
        encoder::append_binary(&mut out, frame, Some(MASK));
        out
    }

    /// The bytes of a WebSocket ping.
    pub(crate) fn ws_ping(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let payload = ControlPayload::new(payload).expect("short");
        encoder::append_ping(&mut out, payload, Some(MASK));
        out
    }

    /// The bytes of a close frame.
    pub(crate) fn goodbye(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.ws.close(Some(ws::CloseCode::NORMAL), "", Some(MASK), &mut out);
        out
    }

    /// Takes bytes from the gateway; answers with bytes (of a close, if it got one).
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if let Stage::Shaking(head) = &mut self.stage {
            head.append(&mut bytes);
            match read_response(head, &REQUEST) {
                Ok(Progress::Incomplete) => return Vec::new(),
                Ok(Progress::Complete(response)) => bytes = head.split_off(response.head_bytes),
                Err(ResponseRefusal::Status { .. }) => return Vec::new(), // Told at its end.
                Err(error) => panic!("{error}: {}", head.escape_ascii()),
            }
            self.stage = Stage::Open;
        }
        self.hear_frames(&mut bytes)
    }

    fn hear_frames(&mut self, bytes: &mut [u8]) -> Vec<u8> {
        let mut input = bytes;
        let mut heard = Vec::new();
        let mut out = Vec::new();
        while let Some(event) = self.ws.next_event(&mut input).expect("a gateway keeps RFC 6455") {
            heard.push(match event {
                ws::Event::Binary(frame) => {
                    let frame = decode_server(frame).expect("a gateway sends valid frames");
                    (frame.request, Heard::from(frame))
                }
                ws::Event::Pong(payload) => (0, Heard::WsPong(payload.get().to_vec())),
                ws::Event::Close(frame) => {
                    let code = frame.code.map_or(0, ws::CloseCode::get);
                    (0, Heard::Closed { code, reason: frame.reason.to_owned() })
                }
                other => panic!("a gateway sends no {other:?}"),
            });
        }
        if heard.iter().any(|(_, heard)| matches!(heard, Heard::Closed { .. })) {
            self.ws.close(Some(ws::CloseCode::NORMAL), "", Some(MASK), &mut out);
        }
        heard.iter().for_each(|(_, heard)| self.follow(heard));
        if let Some(transcript) = &mut self.transcript {
            transcript.append(&mut heard);
            return out;
        }
        let heard = heard.into_iter().map(|(_, heard)| heard);
        let device = (self.user, self.device);
        let is_own =
            |heard: &Heard| matches!(heard, Heard::Entry(entry) if entry.what.is_by(device));
        let (own, others): (Vec<_>, Vec<_>) = heard.partition(is_own);
        self.own.extend(own);
        self.heard.extend(others);
        out
    }

    /// The gateway has closed the socket and everything was read.
    pub(crate) fn end(&mut self) {
        if let Stage::Shaking(head) = std::mem::replace(&mut self.stage, Stage::Over) {
            let refused = read_response(&head, &REQUEST);
            if let Err(ResponseRefusal::Status { status, head_bytes }) = refused {
                let text = String::from_utf8_lossy(&head[head_bytes..]).into_owned();
                self.push(Heard::Refused { status, text });
            }
        }
        self.push(Heard::Lost);
    }

    fn push(&mut self, heard: Heard) {
        match &mut self.transcript {
            Some(transcript) => transcript.push((0, heard)),
            None => self.heard.push_back(heard),
        }
    }

    /// The number of its last request.
    pub(crate) const fn last_request(&self) -> u32 {
        self.requests
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Checks that nothing is missing and nothing comes twice.
    fn follow(&mut self, heard: &Heard) {
        let (user, device) = (self.user, self.device);
        match heard {
            Heard::Welcome { head, resume, ticket, .. } => {
                self.ticket.clone_from(ticket);
                let start = if *resume == Resume::Resumed { self.cursor } else { *head };
                self.live = (start == *head).then_some(*head);
            }
            Heard::Entry(entry) => {
                let last = self.live.expect("live entries come when the device has caught up");
                assert_eq!(entry.place, last.next(), "{user} {device}: a gap or a repeat");
                self.live = Some(entry.place);
            }
            Heard::Page { entries, next, end } => {
                for pair in entries.windows(2) {
                    assert_eq!(pair[1].place, pair[0].place.next(), "{user}: a gap in a page");
                }
                if let Some(last) = entries.last() {
                    assert_eq!(last.place, *next, "{user}: `next` is the last of the page");
                }
                if *end && self.live.is_none() {
                    self.live = Some(*next);
                }
            }
            _ => {}
        }
    }
}
