//! One connection after its handshake: which frames may follow which, how they become messages, and
//! the closing handshake.
//!
//! ```
//! # use ws::{Event, ProtocolError, Role, Session, encoder};
//! /// Answers what `received` asks for; gives back whether the connection goes on.
//! fn echo(session: &mut Session, received: &mut [u8], out: &mut Vec<u8>) -> bool {
//!     let mut input = received;
//!     loop {
//!         match session.next_event(&mut input) {
//!             Ok(Some(Event::Binary(bytes))) => encoder::append_binary(out, bytes, None),
//!             Ok(Some(Event::Text(text))) => encoder::append_text(out, text, None),
//!             Ok(Some(Event::Ping(payload))) => encoder::append_pong(out, payload, None),
//!             Ok(Some(Event::Pong(_))) => {}
//!             Ok(Some(Event::Close(frame))) => {
//!                 let code = frame.code;
//!                 session.close(code, "", None, out);
//!             }
//!             Ok(None) => return session.close_state().may_send_messages(),
//!             Err(error) => {
//!                 session.close(Some(error.close_code()), &error.to_string(), None, out);
//!                 return false;
//!             }
//!         }
//!     }
//! }
//! # let mut out = Vec::new();
//! # let mut received = [0x82, 0x81, 0, 0, 0, 0, b'x', 0xff];
//! # assert!(!echo(&mut Session::new(Role::Server, 9), &mut received, &mut out));
//! # assert_eq!(out[..4], [0x82, 1, b'x', 0x88]);
//! ```
#![warn(clippy::wildcard_enum_match_arm)]

use bytes::BufMut;

use crate::Role;
use crate::assembly::Assembly;
use crate::close::{CloseCode, CloseFrame, CloseState};
use crate::decoder::{Chunk, Decoder};
use crate::encoder;
use crate::error::ProtocolError;
use crate::head::{CONTROL_PAYLOAD_BYTES_MAX, ControlPayload, FrameHead, Opcode};
use crate::mask::MaskKey;

/// What happens to text messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPolicy {
    /// Refused with 1003 as soon as the head is read.
    Refuse,
    /// Accepted; checked to be UTF-8 while it arrives, across reads and fragments (RFC 6455 8.1),
    /// and refused with 1007 at the first wrong byte.
    Utf8,
}

/// What the peer sent. Borrows the input (a frame that arrived whole) or the session (anything
/// else), until the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A whole text message; only with [`TextPolicy::Utf8`].
    Text(&'a str),
    /// Answer with [`encoder::append_pong`] and the same payload, while
    /// [`CloseState::may_send_messages`].
    Ping(ControlPayload<'a>),
    /// Nothing needs to be done.
    Pong(ControlPayload<'a>),
    /// The last event. Answer with [`Session::close`] and the same code if
    /// [`CloseState::may_send_close`]; what the peer sends from here on is ignored.
    Close(CloseFrame<'a>),
}

/// One connection's state: plain data without a borrow, a clock or a callback, so that it can be
/// written down and moved between two calls.
///
/// Methods: [`Session::next_event`] takes what the world said, [`Session::close`] does what we are
/// asked, and the others tell.
#[derive(Clone, Debug)]
pub struct Session {
    assembly: Assembly,
    decoder: Decoder,
    message_bytes_max: u32,
    role: Role,
    text: TextPolicy,
    close: CloseState,
    /// The frame whose payload is being received.
    frame: Option<Frame>,
    /// The fragmented message that has begun and lacks its last frame.
    fragmented: Option<Kind>,
    /// What the last event borrowed from the assembly, to be forgotten by the next call.
    lent: Option<Lent>,
}

// An idle connection has this and no heap; a million of them is 64 MB, and one cache line holds all
// that a frame needs.
const _: () = assert!(size_of::<Session>() <= 64);

/// A frame as the session sees it.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    fin: bool,
    /// A message by itself, which needs no assembly if its payload arrives in one piece.
    alone: bool,
}

/// What a frame or a message is, continuation resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Binary,
    Text,
    Ping,
    Pong,
    Close,
}

#[derive(Clone, Copy, Debug)]
enum Lent {
    Message,
    Control,
}

/// An event, before it borrows the session.
enum Ready<'b> {
    InInput(Event<'b>),
    InAssembly(Kind),
}

impl Session {
    /// A connection whose handshake has just ended, and that accepts binary messages of up to
    /// `message_bytes_max` bytes; a longer one fails it with 1009 before it is buffered.
    #[must_use]
    pub const fn new(role: Role, message_bytes_max: u32) -> Self {
        Self::with_text(role, message_bytes_max, TextPolicy::Refuse)
    }

    /// As [`Session::new`], with a choice about text messages.
    #[must_use]
    pub const fn with_text(role: Role, message_bytes_max: u32, text: TextPolicy) -> Self {
        Self {
            assembly: Assembly::new(),
            decoder: Decoder::new(),
            message_bytes_max,
            role,
            text,
            close: CloseState::Open,
            frame: None,
            fragmented: None,
            lent: None,
        }
    }

    /// Takes the next event off `input`, which is the bytes received since the last `None`.
    ///
    /// `None` means that all of `input` is consumed: call again with the next bytes. Otherwise
    /// `input` is left with what follows the event, untouched, and may be set aside and given
    /// later. A frame that lies in `input` with its whole payload is unmasked there and lent from
    /// there: no copy, no allocation. Others are copied once.
    ///
    /// # Errors
    /// The peer broke the protocol. The connection is failed: answer with [`Session::close`], the
    /// error's code and its text; further input is ignored.
    pub fn next_event<'s, 'b: 's>(
        &'s mut self,
        input: &mut &'b mut [u8],
    ) -> Result<Option<Event<'s>>, ProtocolError> {
        match self.lent.take() {
            Some(Lent::Message) => self.assembly.forget_message(),
            Some(Lent::Control) => self.assembly.forget_control(),
            None => {}
        }
        if !self.close.reads() {
            // After its close the peer sends nothing that matters (RFC 6455 1.4, 5.5.1), and after
            // a violation nothing of it may be looked at (7.1.7).
            *input = &mut [];
            self.stop();
            return Ok(None);
        }
        match self.advance(input) {
            Ok(Some(Ready::InInput(event))) => Ok(Some(event)),
            Ok(Some(Ready::InAssembly(kind))) => Ok(Some(self.lend(kind))),
            Ok(None) => {
                assert!(input.is_empty(), "`None` before the end of the input");
                if self.is_between_messages() {
                    self.assembly.release();
                }
                Ok(None)
            }
            Err(error) => {
                self.close = self.close.after_violation();
                *input = &mut [];
                self.stop();
                Err(error)
            }
        }
    }

    /// Appends a close frame and notes it, unless one has been sent before (at most one may be);
    /// `true` if it did. `code` is `None` for an empty frame, which answers an empty one.
    /// The reason is cut to what fits. `mask` is a fresh key for a client and `None` for a server.
    ///
    /// # Panics
    /// If `mask` does not fit the role.
    pub fn close(
        &mut self,
        code: Option<CloseCode>,
        reason: &str,
        mask: Option<MaskKey>,
        out: &mut impl BufMut,
    ) -> bool {
        assert_eq!(mask.is_some(), self.role == Role::Client, "only a client masks");
        if !self.close.may_send_close() {
            return false;
        }
        encoder::append_close(out, code, reason, mask);
        self.close = self.close.after_sending();
        true
    }

    /// How far the closing handshake has come, and so what may still be sent.
    #[must_use]
    pub const fn close_state(&self) -> CloseState {
        self.close
    }

    /// Which end we are.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Bytes of heap held for what has arrived in part: at most `message_bytes_max` + 125, and 0
    /// whenever the last input ended between two messages and [`Session::next_event`] has said
    /// `None`.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.assembly.held_bytes()
    }

    /// Whether the bytes that matter so far end between two messages: a peer that closes the
    /// socket elsewhere has cut something off.
    #[must_use]
    pub const fn is_between_messages(&self) -> bool {
        self.frame.is_none() && self.fragmented.is_none() && self.decoder.is_at_boundary()
    }

    /// Takes nothing more from the peer, and lets go of what has arrived in part: we have no room
    /// for it. A close frame may still be sent.
    pub fn give_up(&mut self) {
        self.close = self.close.after_violation();
        self.lent = None;
        self.stop();
    }

    /// Gives up what has arrived in part: nothing that follows matters.
    fn stop(&mut self) {
        self.assembly.release();
        self.decoder = Decoder::new();
        self.frame = None;
        self.fragmented = None;
    }

    fn advance<'b>(
        &mut self,
        input: &mut &'b mut [u8],
    ) -> Result<Option<Ready<'b>>, ProtocolError> {
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.decoder.next_head(self.role, input)? {
                    Some(head) => self.begin_frame(head)?,
                    None => return Ok(None),
                },
            };
            let Some(chunk) = self.decoder.next_payload(input) else { return Ok(None) };
            if let Some(ready) = self.handle_payload(frame, chunk)? {
                return Ok(Some(ready));
            }
        }
    }

    /// Whether this frame may stand here and is not too long, before a byte of it is kept.
    fn begin_frame(&mut self, head: FrameHead) -> Result<Frame, ProtocolError> {
        let kind = match (head.opcode, self.fragmented) {
            (Opcode::Text, _) if self.text == TextPolicy::Refuse => {
                return Err(ProtocolError::TextRefused);
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(ProtocolError::MessageInterrupted);
            }
            (Opcode::Continuation, None) => return Err(ProtocolError::ContinuationWithoutStart),
            (Opcode::Continuation, Some(kind)) => kind,
            (Opcode::Text, None) => Kind::Text,
            (Opcode::Binary, None) => Kind::Binary,
            (Opcode::Ping, _) => Kind::Ping,
            (Opcode::Pong, _) => Kind::Pong,
            (Opcode::Close, _) => Kind::Close,
        };
        if !kind.is_control() {
            // Cannot overflow: a head's length has its top bit clear.
            let bytes = u64::from(self.assembly.message_bytes()) + head.payload_bytes;
            let bytes_max = self.message_bytes_max;
            if bytes > u64::from(bytes_max) {
                return Err(ProtocolError::MessageTooBig { bytes, bytes_max });
            }
        }
        let payload_bytes = u32::try_from(head.payload_bytes)
            .expect("at most message_bytes_max, or what a control frame may have");
        self.decoder.begin_payload(payload_bytes, head.mask);
        let alone = head.fin && head.opcode != Opcode::Continuation;
        let frame = Frame { kind, fin: head.fin, alone };
        self.frame = Some(frame);
        Ok(frame)
    }

    /// Lends, keeps or drops a part of a payload; the event that it completes, if any.
    fn handle_payload<'b>(
        &mut self,
        frame: Frame,
        chunk: Chunk<'b>,
    ) -> Result<Option<Ready<'b>>, ProtocolError> {
        let Chunk { bytes, first, last } = chunk;
        if last {
            self.frame = None;
        }
        if frame.alone && first && last {
            let event = frame.kind.event(bytes)?;
            self.note(frame.kind);
            return Ok(Some(Ready::InInput(event)));
        }
        let complete = last && frame.fin;
        match frame.kind {
            Kind::Ping | Kind::Pong => {
                self.assembly.append_control(bytes, CONTROL_PAYLOAD_BYTES_MAX);
            }
            Kind::Close => {
                self.assembly.append_control(bytes, CONTROL_PAYLOAD_BYTES_MAX);
                if complete {
                    CloseFrame::parse(self.assembly.control())?;
                }
            }
            Kind::Binary => self.assembly.append_message(bytes, self.message_bytes_max),
            Kind::Text => {
                self.assembly.append_message(bytes, self.message_bytes_max);
                self.assembly.check_utf8(complete)?;
            }
        }
        if complete {
            self.note(frame.kind);
            return Ok(Some(Ready::InAssembly(frame.kind)));
        }
        if !frame.fin {
            self.fragmented = Some(frame.kind);
        }
        Ok(None)
    }

    /// What a complete message or control frame changes.
    const fn note(&mut self, kind: Kind) {
        match kind {
            Kind::Binary | Kind::Text => self.fragmented = None,
            Kind::Ping | Kind::Pong => {}
            Kind::Close => self.close = self.close.after_receiving(),
        }
    }

    /// The event that the assembly holds.
    fn lend(&mut self, kind: Kind) -> Event<'_> {
        let (lent, bytes) = if kind.is_control() {
            (Lent::Control, self.assembly.control())
        } else {
            (Lent::Message, self.assembly.message())
        };
        self.lent = Some(lent);
        kind.event(bytes).expect("checked by handle_payload when its last byte came")
    }
}

impl Kind {
    const fn is_control(self) -> bool {
        match self {
            Self::Ping | Self::Pong | Self::Close => true,
            Self::Binary | Self::Text => false,
        }
    }

    /// The event with this payload, which is complete.
    fn event(self, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
        let control =
            |bytes| ControlPayload::new(bytes).expect("begin_frame admits no longer control frame");
        Ok(match self {
            Self::Binary => Event::Binary(payload),
            Self::Text => match std::str::from_utf8(payload) {
                Ok(text) => Event::Text(text),
                Err(error) => {
                    return Err(ProtocolError::TextNotUtf8 { offset: error.valid_up_to() });
                }
            },
            Self::Ping => Event::Ping(control(payload)),
            Self::Pong => Event::Pong(control(payload)),
            Self::Close => Event::Close(CloseFrame::parse(payload)?),
        })
    }
}
