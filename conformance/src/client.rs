//! The client's role, as the load generator has it: `ws` over a ring of its own, one connection at
//! a time, one send in flight, what gathers meanwhile in the next.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uring::{BufferId, Completion, Descriptor, Ring, RingOptions, Shots, Start, Token};
use ws::handshake::{ClientRequest, Progress, read_response};
use ws::{CloseCode, Event, MaskKey, Role, Session, TextPolicy, encoder};

use crate::MESSAGE_BYTES_MAX;

/// A peer that has said nothing for so long will say nothing more.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A whole message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// Bytes.
    Binary(&'a [u8]),
    /// Text.
    Text(&'a str),
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It goes back.
    Echo,
    /// Nothing.
    Nothing,
}

/// How a connection ended that had been a WebSocket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By the peer's close frame, which was answered.
    Closed(Option<CloseCode>),
    /// By ours: the peer broke the protocol.
    Violation(ws::ProtocolError),
    /// By the end of the stream, without a close frame.
    Cut,
}

/// A client and its ring.
pub struct Client {
    ring: Ring,
    rng: SmallRng,
    generation: u32,
}

/// A connection.
struct Link<'a> {
    request: ClientRequest<'a>,
    descriptor: Descriptor,
    token: Token,
    /// Before the handshake is over: what has come of the answer.
    head: Vec<u8>,
    session: Option<Session>,
    out: BytesMut,
    is_sending: bool,
    /// Operations of the ring that have not ended.
    operations: u32,
    ended: Option<Ended>,
    /// Nothing more can come, or go.
    is_over: bool,
}

impl Client {
    /// A client with receive buffers of so many bytes. `seed` is for its keys and masks: no secret
    /// is kept by them here.
    ///
    /// # Errors
    /// There are no rings here, or none that connect.
    pub fn new(buffer_bytes: u32, seed: u64) -> Result<Self> {
        let options = RingOptions {
            sq_entries: 64,
            cq_entries: 256,
            descriptors_max: 8,
            flights_max: 8,
            buffers: 16,
            buffer_bytes,
        };
        let ring = Ring::new(&options)?;
        if !ring.support().connect {
            bail!("connecting by ring needs Linux {}", uring::KERNEL_FOR_CONNECT);
        }
        Ok(Self { ring, rng: SmallRng::seed_from_u64(seed), generation: 0 })
    }

    /// Opens a connection, asks for `target`, and tells `handle` of each message until it ends.
    ///
    /// # Errors
    /// It could not be opened, or the peer has fallen silent.
    pub fn converse(
        &mut self,
        address: SocketAddr,
        target: &str,
        mut handle: impl FnMut(Message<'_>) -> Answer,
    ) -> Result<Ended> {
        let mut key = [0; 16];
        self.rng.fill_bytes(&mut key);
        let host = address.to_string();
        let request = ClientRequest { host: &host, target, key, subprotocol: None, fields: &[] };
        let mut link = self.connect(address, request)?;
        let result = self.run(&mut link, &mut handle);
        self.end(&mut link)?;
        result?;
        Ok(link.ended.unwrap_or(Ended::Cut))
    }

    fn connect<'a>(&mut self, address: SocketAddr, request: ClientRequest<'a>) -> Result<Link<'a>> {
        self.generation += 1;
        let token = Token::new(0, self.generation);
        self.ring.connect(token, address, None)?;
        let descriptor = match self.next()? {
            Completion::Connected { descriptor, .. } => descriptor,
            other => bail!("cannot connect to {address}: {other:?}"),
        };
        let mut out = BytesMut::new();
        request.append(&mut out)?;
        self.ring.receive(descriptor, token, Shots::Many, Start::PollFirst);
        Ok(Link {
            request,
            descriptor,
            token,
            head: Vec::new(),
            session: None,
            out,
            is_sending: false,
            operations: 1,
            ended: None,
            is_over: false,
        })
    }

    /// The next completion that is not a wake.
    fn next(&mut self) -> Result<Completion> {
        loop {
            let mut waits = 0;
            let completion = loop {
                if let Some(completion) = self.ring.next_completion() {
                    break completion;
                }
                // A wait may end early; one that ends in time is not silence.
                if waits == 3 {
                    bail!("the peer has said nothing for {SILENCE_MAX:?}");
                }
                self.ring.submit_and_wait(1, Some(SILENCE_MAX / 3))?;
                waits += 1;
            };
            if !matches!(completion, Completion::Woken) {
                return Ok(completion);
            }
        }
    }

    fn run(
        &mut self,
        link: &mut Link<'_>,
        handle: &mut impl FnMut(Message<'_>) -> Answer,
    ) -> Result<()> {
        while !link.is_over {
            if !link.is_sending && !link.out.is_empty() {
                let bytes = link.out.split().freeze();
                self.ring.send(link.descriptor, link.token, bytes)?;
                (link.is_sending, link.operations) = (true, link.operations + 1);
            }
            let completion = self.next()?;
            link.operations -= u32::from(completion.ended() == Some(link.token));
            match completion {
                Completion::Received { buffer, armed, .. } => {
                    self.receive(link, buffer, handle)?;
                    if !armed {
                        self.receive_again(link, Start::TryFirst);
                    }
                }
                Completion::BuffersExhausted { .. } => self.receive_again(link, Start::PollFirst),
                Completion::Sent { bytes, result, .. } => {
                    link.is_sending = false;
                    link.is_over = !result.is_ok_and(|sent| sent as usize == bytes.len());
                }
                Completion::EndOfStream { .. } | Completion::ReceiveFailed { .. } => {
                    link.is_over = true;
                }
                other => bail!("the client did not expect {other:?}"),
            }
        }
        if link.session.is_none() {
            bail!("{}: the connection ended within the handshake", link.request.target);
        }
        Ok(())
    }

    fn receive_again(&mut self, link: &mut Link<'_>, start: Start) {
        self.ring.receive(link.descriptor, link.token, Shots::Many, start);
        link.operations += 1;
    }

    fn receive(
        &mut self,
        link: &mut Link<'_>,
        buffer: BufferId,
        handle: &mut impl FnMut(Message<'_>) -> Answer,
    ) -> Result<()> {
        let result = match &mut link.session {
            Some(session) => {
                let bytes = self.ring.buffer(&buffer);
                hear(session, &mut self.rng, bytes, &mut link.out, &mut link.ended, handle);
                Ok(())
            }
            None => {
                link.head.extend_from_slice(self.ring.buffer(&buffer));
                self.shake_hands(link, handle)
            }
        };
        self.ring.recycle(buffer);
        result
    }

    fn shake_hands(
        &mut self,
        link: &mut Link<'_>,
        handle: &mut impl FnMut(Message<'_>) -> Answer,
    ) -> Result<()> {
        match read_response(&link.head, &link.request).context("the handshake")? {
            Progress::Incomplete => Ok(()),
            Progress::Complete(response) => {
                let mut rest = link.head.split_off(response.head_bytes);
                let session = Session::with_text(Role::Client, MESSAGE_BYTES_MAX, TextPolicy::Utf8);
                let session = link.session.insert(session);
                hear(session, &mut self.rng, &mut rest, &mut link.out, &mut link.ended, handle);
                Ok(())
            }
        }
    }

    /// Closes the socket, and waits until the ring has let go of everything.
    fn end(&mut self, link: &mut Link<'_>) -> Result<()> {
        self.ring.cancel_all(link.descriptor, link.token);
        self.ring.close(link.descriptor, link.token);
        link.operations += 2;
        while link.operations > 0 {
            let completion = self.next()?;
            link.operations -= u32::from(completion.ended() == Some(link.token));
            if let Completion::Received { buffer, .. } = completion {
                self.ring.recycle(buffer);
            }
        }
        Ok(())
    }
}

/// Takes received bytes; answers go to `out`.
fn hear(
    session: &mut Session,
    rng: &mut SmallRng,
    bytes: &mut [u8],
    out: &mut BytesMut,
    ended: &mut Option<Ended>,
    handle: &mut impl FnMut(Message<'_>) -> Answer,
) {
    let mut input = bytes;
    loop {
        let mask = Some(mask(rng));
        match session.next_event(&mut input) {
            Ok(None) => return,
            Ok(Some(Event::Binary(bytes))) => {
                if handle(Message::Binary(bytes)) == Answer::Echo {
                    encoder::append_binary(out, bytes, mask);
                }
            }
            Ok(Some(Event::Text(text))) => {
                if handle(Message::Text(text)) == Answer::Echo {
                    encoder::append_text(out, text, mask);
                }
            }
            Ok(Some(Event::Ping(payload))) => encoder::append_pong(out, payload, mask),
            Ok(Some(Event::Pong(_))) => {}
            Ok(Some(Event::Close(frame))) => {
                let code = frame.code;
                session.close(code, "", mask, out);
                *ended = Some(Ended::Closed(code));
            }
            Err(error) => {
                session.close(Some(error.close_code()), &error.to_string(), mask, out);
                *ended = Some(Ended::Violation(error));
            }
        }
    }
}

/// A fresh key (RFC 6455 5.3).
fn mask(rng: &mut SmallRng) -> MaskKey {
    let mut key = [0; 4];
    rng.fill_bytes(&mut key);
    MaskKey(key)
}
