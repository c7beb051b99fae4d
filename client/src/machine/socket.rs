//! One connection: the WebSocket around the frames.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use ws::handshake::{ClientRequest, Progress, read_response};
use ws::{Event, MaskKey, Role, Session, encoder};

use super::State;
use crate::address::Address;
use crate::error::Lost;

/// The longest message a gateway may send.
#[expect(clippy::cast_possible_truncation, reason = "a mebibyte")]
const MESSAGE_BYTES_MAX: u32 = wire::limits::SERVER_FRAME_BYTES_MAX as u32;

/// What stands in a close frame without a code (RFC 6455 7.1.5).
const NO_CODE: u16 = 1005;

/// How far it has come.
#[derive(Debug)]
pub(super) enum Socket {
    Closed,
    Handshake { key: [u8; 16], address: Address, head: Vec<u8> },
    Open(Box<Session>),
}

impl Socket {
    /// Asks for a WebSocket.
    pub(super) fn open(address: &Address, state: &mut State) -> Self {
        let mut key = [0; 16];
        state.rng.fill_bytes(&mut key);
        let asked = request(address, key).append(&mut state.output);
        asked.expect("the address was checked when it was read");
        Self::Handshake { key, address: address.clone(), head: Vec::new() }
    }

    /// Takes received bytes; answers go to the state's output.
    pub(super) fn handle_bytes(
        &mut self,
        state: &mut State,
        now: Duration,
        input: &mut [u8],
    ) -> Result<(), Lost> {
        let (key, address, head) = match self {
            Self::Closed => return Ok(()),
            Self::Open(session) => return hear(session, state, now, input),
            Self::Handshake { key, address, head } => (key, address, head),
        };
        head.extend_from_slice(input);
        let response = match read_response(head, &request(address, *key)) {
            Ok(Progress::Incomplete) => return Ok(()),
            Ok(Progress::Complete(response)) => response,
            Err(refusal) => return Err(Lost::Handshake(refusal)),
        };
        let mut rest = head.split_off(response.head_bytes);
        state.say_hello();
        let mut session = Box::new(Session::new(Role::Client, MESSAGE_BYTES_MAX));
        let result = hear(&mut session, state, now, &mut rest);
        *self = Self::Open(session);
        result
    }

    /// Sends a close frame, if there is a WebSocket.
    pub(super) fn close(&mut self, state: &mut State, code: Option<ws::CloseCode>) {
        if let Self::Open(session) = self {
            session.close(code, "", Some(mask(&mut state.rng)), &mut state.output);
        }
    }
}

fn request(address: &Address, key: [u8; 16]) -> ClientRequest<'_> {
    let (host, target) = (&*address.host, &*address.path);
    let subprotocol = Some(wire::limits::SUBPROTOCOL);
    ClientRequest { host, target, key, subprotocol, fields: &[] }
}

/// A fresh key: it must not be foreseen by whoever chooses the payload (RFC 6455 10.3).
pub(super) fn mask(rng: &mut StdRng) -> MaskKey {
    MaskKey(rng.next_u32().to_ne_bytes())
}

fn hear(
    session: &mut Session,
    state: &mut State,
    now: Duration,
    mut input: &mut [u8],
) -> Result<(), Lost> {
    loop {
        match session.next_event(&mut input) {
            Ok(None) => return Ok(()),
            Ok(Some(Event::Binary(frame))) => state.handle_frame(now, frame)?,
            Ok(Some(Event::Ping(payload))) => {
                encoder::append_pong(&mut state.output, payload, Some(mask(&mut state.rng)));
            }
            Ok(Some(Event::Pong(_))) => {}
            Ok(Some(Event::Text(_))) => unreachable!("refused by the WebSocket layer"),
            Ok(Some(Event::Close(frame))) => {
                let code = frame.code.map_or(NO_CODE, ws::CloseCode::get);
                return Err(Lost::Closed { code, reason: frame.reason.to_owned() });
            }
            Err(error) => return Err(Lost::Protocol(error)),
        }
    }
}
