//! The connections of one core: their sockets, and what is under way on each.
//!
//! A socket is looked at when it knocks: monoio's readiness for it has a waker of its own, which
//! notes its place. A try that finds nothing leaves the waker behind; so every try goes on until
//! it finds nothing, or knocks again by itself.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use monoio::net::tcp::stream_poll::TcpStreamPoll;
use router::sessions::ConnId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bits::Knocks;

/// Something that was asked for has ended; the core is told in its next turn, as it would be by a
/// ring.
#[derive(Debug)]
pub(super) enum Done {
    Sent { conn: ConnId, bytes: Bytes, complete: bool },
    Stopped(ConnId),
    Broken(ConnId),
    Passed { conn: ConnId, slot: Option<u32> },
}

/// How a connection is received from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ear {
    Closed,
    Once(ConnId),
    Many(ConnId),
}

/// What was received.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// So many bytes, and whether the receive goes on.
    Bytes(ConnId, usize, bool),
    /// The peer has sent everything, or the connection broke.
    End(ConnId),
    /// Nothing more for now.
    Nothing,
}

/// A send that the socket did not take whole.
struct Flight {
    conn: ConnId,
    bytes: Bytes,
    sent: usize,
}

struct Socket {
    stream: TcpStreamPoll,
    /// The way to another core, until it is known that it stays here: monoio gives a socket back
    /// only as a number, which safe code cannot take. So until then it has two descriptors.
    second: Option<TcpStream>,
    waker: Waker,
    ear: Ear,
    /// On the heap: few have one at a time.
    flight: Option<Box<Flight>>,
}

/// See the module's documentation.
pub(super) struct Sockets {
    places: Vec<Option<Socket>>,
    knocks: Arc<Knocks>,
    done: VecDeque<Done>,
}

impl Sockets {
    pub(super) fn new(knocks: Arc<Knocks>) -> Self {
        Self { places: Vec::new(), knocks, done: VecDeque::new() }
    }

    /// Puts a socket into a place that is free. `second` is another descriptor of it, for as long
    /// as it may be passed on.
    ///
    /// # Errors
    /// The kernel cannot watch it: it is out of memory, or of watches.
    pub(super) fn put(
        &mut self,
        slot: u32,
        stream: TcpStream,
        second: Option<TcpStream>,
    ) -> io::Result<()> {
        let stream = monoio::net::TcpStream::from_std(stream)?;
        let stream = stream.try_into_poll_io().map_err(|(error, _)| error)?;
        let index = slot as usize;
        if index >= self.places.len() {
            self.places.resize_with(index + 1, || None);
        }
        let waker = self.knocks.waker(slot);
        let socket = Socket { stream, second, waker, ear: Ear::Closed, flight: None };
        assert!(self.places[index].replace(socket).is_none(), "place {slot} was given out twice");
        Ok(())
    }

    /// What has ended since it was last asked.
    pub(super) fn next_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// Whether anything has.
    pub(super) fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    pub(super) fn receive_once(&mut self, conn: ConnId) {
        self.open_ear(conn, Ear::Once(conn));
    }

    /// It is a session of this core: it stays.
    pub(super) fn receive_many(&mut self, conn: ConnId) {
        if let Some(socket) = self.open_ear(conn, Ear::Many(conn)) {
            socket.second = None;
        }
    }

    fn open_ear(&mut self, conn: ConnId, ear: Ear) -> Option<&mut Socket> {
        let Some(socket) = get(&mut self.places, conn.slot) else {
            self.done.push_back(Done::Broken(conn));
            return None;
        };
        socket.ear = ear;
        // Nothing has waited for it until now.
        self.knocks.note(conn.slot);
        Some(socket)
    }

    pub(super) fn stop_receiving(&mut self, conn: ConnId) {
        if let Some(socket) = get(&mut self.places, conn.slot) {
            socket.ear = Ear::Closed;
        }
        self.done.push_back(Done::Stopped(conn));
    }

    /// Sends, now as far as the socket takes it and the rest as it takes more.
    pub(super) fn send(&mut self, conn: ConnId, bytes: Bytes) {
        let Some(socket) = get(&mut self.places, conn.slot) else {
            self.done.push_back(Done::Sent { conn, bytes, complete: false });
            return;
        };
        assert!(socket.flight.is_none(), "one send is in flight at a time");
        self.done.extend(socket.fly(Flight { conn, bytes, sent: 0 }));
    }

    /// Goes on with a send that has waited for the socket.
    pub(super) fn send_on(&mut self, slot: u32) {
        let Some(socket) = get(&mut self.places, slot) else { return };
        if let Some(flight) = socket.flight.take() {
            self.done.extend(socket.fly(*flight));
        }
    }

    /// Receives into `buffer` what there is, at most once.
    pub(super) fn receive(&mut self, slot: u32, buffer: &mut [u8]) -> Heard {
        let Some(socket) = get(&mut self.places, slot) else { return Heard::Nothing };
        let (conn, goes_on) = match socket.ear {
            Ear::Closed => return Heard::Nothing,
            Ear::Once(conn) => (conn, false),
            Ear::Many(conn) => (conn, true),
        };
        let mut buffer = ReadBuf::new(buffer);
        let mut context = Context::from_waker(&socket.waker);
        let heard = match Pin::new(&mut socket.stream).poll_read(&mut context, &mut buffer) {
            Poll::Pending => return Heard::Nothing,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                Heard::Bytes(conn, buffer.filled().len(), goes_on)
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                self.knocks.note(slot);
                return Heard::Nothing;
            }
            Poll::Ready(_) => Heard::End(conn),
        };
        if !goes_on || matches!(heard, Heard::End(_)) {
            socket.ear = Ear::Closed;
        }
        heard
    }

    /// Takes a connection out that is to go to another core: its socket, which nothing here
    /// watches any more. `None` if there is none that could go.
    pub(super) fn take_out(&mut self, conn: ConnId) -> Option<TcpStream> {
        let socket = self.places.get_mut(conn.slot as usize).and_then(Option::take)?;
        assert!(socket.flight.is_none(), "nothing is in flight on a connection that is passed on");
        socket.second
    }

    /// A connection has been passed on, or has not.
    pub(super) fn passed(&mut self, conn: ConnId, slot: Option<u32>) {
        self.done.push_back(Done::Passed { conn, slot });
    }

    /// Ends a connection at once. What was in flight is given back.
    pub(super) fn close(&mut self, conn: ConnId) {
        let socket = self.places.get_mut(conn.slot as usize).and_then(Option::take);
        if let Some(flight) = socket.and_then(|socket| socket.flight) {
            let Flight { conn, bytes, .. } = *flight;
            self.done.push_back(Done::Sent { conn, bytes, complete: false });
        }
    }
}

fn get(places: &mut [Option<Socket>], slot: u32) -> Option<&mut Socket> {
    places.get_mut(slot as usize).and_then(Option::as_mut)
}

impl Socket {
    /// Sends on until all is sent, which is told, or the socket takes no more.
    fn fly(&mut self, mut flight: Flight) -> Option<Done> {
        let mut context = Context::from_waker(&self.waker);
        while flight.sent < flight.bytes.len() {
            let rest = &flight.bytes[flight.sent..];
            match Pin::new(&mut self.stream).poll_write(&mut context, rest) {
                Poll::Ready(Ok(count @ 1..)) => flight.sent += count,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(_) => break,
                Poll::Pending => {
                    self.flight = Some(Box::new(flight));
                    return None;
                }
            }
        }
        let Flight { conn, bytes, sent } = flight;
        let complete = sent == bytes.len();
        Some(Done::Sent { conn, bytes, complete })
    }
}
