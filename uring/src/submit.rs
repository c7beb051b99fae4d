//! The operations a caller can ask for. None of them enters the kernel, unless the submission queue
//! is full; all leave with the next [`Ring::submit_and_wait`].

use std::net::SocketAddr;

use bytes::Bytes;

use crate::buffers::BufferId;
use crate::completion::Descriptor;
use crate::error::Full;
use crate::flights::{Route, Work};
use crate::listen::Listener;
use crate::ops::{self, Aim, Half, Shots, Start};
use crate::ring::Ring;
use crate::token::{Kind, Token, UserData};
use crate::wake::{PeerId, RingHandle};

/// The most bytes of one send: its result has 31 bits.
pub const SEND_BYTES_MAX: usize = i32::MAX as usize;

impl Ring {
    /// Accepts connections of `listener` into the descriptor table until [`Ring::cancel_accept`],
    /// as [`crate::Completion::Accepted`] with this token, which no other listener may have.
    pub fn accept(&mut self, listener: Listener, token: Token) {
        let taken = self.listeners.iter().any(|(other, _)| *other == token);
        assert!(!taken, "listener {token:?} exists already");
        self.listeners.push((token, listener));
        self.rearm_accept(token);
    }

    /// Goes on accepting after a completion of this listener said that it is not armed.
    ///
    /// # Panics
    ///
    /// If there is no such listener (any more).
    pub fn rearm_accept(&mut self, token: Token) {
        let entry = self.listeners.iter().find(|(other, _)| *other == token);
        let (_, listener) = entry.expect("the caller re-arms a listener it has");
        self.push(Kind::Accept, ops::accept(listener, token));
    }

    /// Receives into provided buffers: [`crate::Completion::Received`] and what ends it. A
    /// connection has at most one receive or poll at a time.
    pub fn receive(&mut self, descriptor: Descriptor, token: Token, shots: Shots, start: Start) {
        self.push(Kind::Receive, ops::receive(descriptor, token, shots, start));
    }

    /// Waits until there is something to receive, without taking a buffer or, in the kernel, much
    /// memory: [`crate::Completion::Ready`].
    pub fn poll(&mut self, descriptor: Descriptor, token: Token, shots: Shots) {
        self.push(Kind::Poll, ops::poll(descriptor, token, shots));
    }

    /// Sends all of `bytes`, however long the peer takes: [`crate::Completion::Sent`], which hands
    /// them back. With several sends in flight on one connection their bytes may mix.
    ///
    /// # Errors
    ///
    /// [`Full`] with the bytes, if `flights_max` sends and connects are in flight.
    ///
    /// # Panics
    ///
    /// If there are more than [`SEND_BYTES_MAX`] bytes.
    pub fn send(
        &mut self,
        descriptor: Descriptor,
        token: Token,
        bytes: Bytes,
    ) -> Result<(), Full<Bytes>> {
        assert!(bytes.len() <= SEND_BYTES_MAX, "{} bytes in one send", bytes.len());
        if self.flights.is_full() {
            return Err(Full(bytes));
        }
        let index = self.flights.insert(token, Work::Send(bytes));
        let id = self.flights.user_data(Kind::Send, index);
        let Work::Send(bytes) = self.flights.work(index) else { unreachable!("just inserted") };
        let length = u32::try_from(bytes.len()).expect("at most SEND_BYTES_MAX");
        let entry = ops::send(descriptor, bytes, length, id);
        self.push(Kind::Send, entry);
        Ok(())
    }

    /// Connects to `target`, from the local address `source` if given (port 0: the kernel chooses;
    /// several source addresses are how one host opens more than some 28,000 connections to one
    /// target): [`crate::Completion::Connected`] or [`crate::Completion::ConnectFailed`].
    ///
    /// Needs Linux 6.11 ([`crate::Support::connect`]); older kernels fail it with EINVAL.
    ///
    /// # Errors
    ///
    /// [`Full`] if `flights_max` sends and connects are in flight.
    pub fn connect(
        &mut self,
        token: Token,
        target: SocketAddr,
        source: Option<SocketAddr>,
    ) -> Result<(), Full<()>> {
        if self.flights.is_full() {
            return Err(Full(()));
        }
        let route = Box::new(Route { target: target.into(), source: source.map(Into::into) });
        let index = self.flights.insert(token, Work::Open(route));
        let id = self.flights.user_data(Kind::Connect, index);
        let Work::Open(route) = self.flights.work(index) else { unreachable!("just inserted") };
        let entry = ops::socket(&route.target, id);
        self.push(Kind::Connect, entry);
        Ok(())
    }

    /// Frees a descriptor: [`crate::Completion::Closed`]. Operations in flight on it keep the
    /// connection open behind it, so cancel them, or see them end, first.
    pub fn close(&mut self, descriptor: Descriptor, token: Token) {
        self.push(Kind::Close, ops::close(descriptor, token));
    }

    /// Shuts a half of a connection down: [`crate::Completion::ShutDown`]. The kernel does it on a
    /// worker thread, so it costs more than a close: for a graceful end, not for each one.
    pub fn shutdown(&mut self, descriptor: Descriptor, token: Token, half: Half) {
        self.push(Kind::Shutdown, ops::shutdown(descriptor, token, half));
    }

    /// Another ring as a target, kept until this ring ends.
    pub fn add_peer(&mut self, peer: RingHandle) -> PeerId {
        let id = u32::try_from(self.peers.len()).expect("fewer rings than open files");
        self.peers.push(peer);
        PeerId(id)
    }

    /// Puts a connection into the table of another ring: [`crate::Completion::Passed`] names its
    /// place there. No operation may be in flight on it here, and it is still to be closed here.
    ///
    /// The other ring must come by the kernel for this to complete, but it need not be woken: if it
    /// waits, the kernel does the work on its thread without ending the wait.
    pub fn pass(&mut self, descriptor: Descriptor, token: Token, peer: PeerId) {
        let entry = ops::pass(descriptor, token, &self.peers[peer.0 as usize]);
        self.push(Kind::Pass, entry);
    }

    /// Wakes another ring with the next submission: [`crate::Completion::Woken`] there. A target
    /// that has ended is counted in [`crate::Stats::failures`].
    pub fn wake_peer(&mut self, peer: PeerId) {
        let entry = ops::wake_peer(&self.peers[peer.0 as usize]);
        self.push(Kind::WakeFailed, entry);
    }

    /// Ends the accepting of a listener, and closes it: [`crate::Completion::AcceptFailed`] with
    /// ECANCELED, and [`crate::Completion::Cancelled`] with `by`.
    pub fn cancel_accept(&mut self, token: Token, by: Token) {
        self.cancel(&Aim::Operation(UserData::new(Kind::Accept, token)), by);
    }

    /// Ends the receive with this token: [`crate::Completion::ReceiveFailed`] with ECANCELED (or
    /// whatever was faster), and [`crate::Completion::Cancelled`] with `by`.
    pub fn cancel_receive(&mut self, token: Token, by: Token) {
        self.cancel(&Aim::Operation(UserData::new(Kind::Receive, token)), by);
    }

    /// Ends the poll with this token: [`crate::Completion::PollFailed`] with ECANCELED (or whatever
    /// was faster), and [`crate::Completion::Cancelled`] with `by`.
    pub fn cancel_poll(&mut self, token: Token, by: Token) {
        self.cancel(&Aim::Operation(UserData::new(Kind::Poll, token)), by);
    }

    /// Ends every operation on a connection, sends too, each with a completion of its own; and
    /// [`crate::Completion::Cancelled`] with `by`. The way to end a connection at once: this, and a
    /// close in the same submission.
    pub fn cancel_all(&mut self, descriptor: Descriptor, by: Token) {
        self.cancel(&Aim::Descriptor(descriptor), by);
    }

    /// The received bytes of a lent buffer, to be read or changed (unmasked) in place.
    ///
    /// # Panics
    ///
    /// If the buffer is another ring's.
    pub fn buffer(&mut self, buffer: &BufferId) -> &mut [u8] {
        self.buffers_mut().filled(buffer)
    }

    /// Takes a buffer back. The kernel can use it from the next submission on.
    ///
    /// # Panics
    ///
    /// If the buffer is another ring's.
    pub fn recycle(&mut self, buffer: BufferId) {
        self.buffers_mut().recycle(buffer);
    }

    fn cancel(&mut self, aim: &Aim, by: Token) {
        self.push(Kind::Cancel, ops::cancel(aim, UserData::new(Kind::Cancel, by)));
    }
}
