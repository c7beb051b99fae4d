//! Submission entries, one function an operation. Making one is harmless; the pointers in it are
//! followed only after it was pushed, which is the ring's business.

use std::os::fd::{AsFd, AsRawFd};

use bytes::Bytes;
use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed};

use crate::completion::Descriptor;
use crate::flights::{Address, Route, length_of};
use crate::token::{Kind, Token, UserData};

/// The ring's one group of provided buffers.
pub(crate) const BUFFER_GROUP: u16 = 0;

// From linux/io_uring.h; the io-uring crate sets them only in part.
const RECVSEND_POLL_FIRST: u16 = 1 << 0;
const RECV_MULTISHOT: u16 = 1 << 1;
const MSG_RING_CQE_SKIP: u32 = 1 << 0;

/// The longest chain of linked entries ([`connect`]): two options, bind, connect.
pub(crate) const CHAIN_MAX: u32 = 4;

/// How often an operation completes before it must be submitted again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shots {
    /// Once.
    One,
    /// Until an error, the end of the stream, a cancellation or a shortage.
    Many,
}

/// What a receive does first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Try to receive: for when data is likely there (just accepted, or `more_waiting`).
    TryFirst,
    /// Wait until there is data: saves an attempt on a socket that is likely empty.
    PollFirst,
}

/// Which half of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// Nothing more will be received.
    Read,
    /// Nothing more will be sent: the peer sees the end of the stream.
    Write,
    /// Both.
    Both,
}

/// What a cancellation is aimed at.
pub(crate) enum Aim {
    /// The operations with this `user_data`.
    Operation(UserData),
    /// Every operation on this descriptor.
    Descriptor(Descriptor),
    /// Every operation of the ring.
    Everything,
}

fn done(entry: Entry, user_data: UserData) -> Entry {
    entry.user_data(user_data.0)
}

pub(crate) fn accept(listener: &impl AsFd, token: Token) -> Entry {
    // No SOCK_NONBLOCK: on a non-blocking socket the kernel would return EAGAIN instead of waiting.
    let entry = opcode::AcceptMulti::new(Fd(listener.as_fd().as_raw_fd()))
        .allocate_file_index(true)
        .build();
    done(entry, UserData::new(Kind::Accept, token))
}

pub(crate) fn receive(descriptor: Descriptor, token: Token, shots: Shots, start: Start) -> Entry {
    let shots = if shots == Shots::Many { RECV_MULTISHOT } else { 0 };
    let start = if start == Start::PollFirst { RECVSEND_POLL_FIRST } else { 0 };
    // Length 0: as much as the chosen buffer holds. `RecvMulti` of the crate knows no POLL_FIRST.
    let entry = opcode::Recv::new(Fixed(descriptor.0), std::ptr::null_mut(), 0)
        .ioprio(shots | start)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(Flags::BUFFER_SELECT);
    done(entry, UserData::new(Kind::Receive, token))
}

pub(crate) fn poll(descriptor: Descriptor, token: Token, shots: Shots) -> Entry {
    let events = (libc::POLLIN | libc::POLLRDHUP).unsigned_abs();
    let entry = opcode::PollAdd::new(Fixed(descriptor.0), u32::from(events))
        .multi(shots == Shots::Many)
        .build();
    done(entry, UserData::new(Kind::Poll, token))
}

/// Polls our own eventfd. Many shots, and triggered by each write: the counter need not be read.
pub(crate) fn poll_waker(waker: &impl AsFd) -> Entry {
    let events = libc::POLLIN.unsigned_abs();
    let entry =
        opcode::PollAdd::new(Fd(waker.as_fd().as_raw_fd()), u32::from(events)).multi(true).build();
    done(entry, UserData::of_ring(Kind::Wake))
}

pub(crate) fn send(descriptor: Descriptor, bytes: &Bytes, length: u32, id: UserData) -> Entry {
    // MSG_WAITALL: the kernel finishes a short send itself. MSG_NOSIGNAL: EPIPE, not SIGPIPE.
    let entry = opcode::Send::new(Fixed(descriptor.0), bytes.as_ptr(), length)
        .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build();
    done(entry, id)
}

/// The first step of a connect: a socket in the ring's table.
pub(crate) fn socket(target: &Address, id: UserData) -> Entry {
    let entry = opcode::Socket::new(target.family(), libc::SOCK_STREAM, 0)
        .file_index(Some(DestinationSlot::auto_target()))
        .build();
    done(entry, id)
}

/// The rest of a connect, linked, so that it takes one submission. All steps but the last post
/// nothing when they succeed, and when such a step fails the kernel skips the completions of the
/// rest: whatever happens, the chain has exactly one completion.
pub(crate) fn connect(descriptor: Descriptor, route: &Route, id: UserData) -> Vec<Entry> {
    let file = Fixed(descriptor.0);
    let step = |entry: Entry| done(entry.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS), id);
    let (address, length) = route.target.as_raw();
    let last = done(opcode::Connect::new(file, address, length).build(), id);
    let no_delay = step(set_option(file, libc::IPPROTO_TCP, libc::TCP_NODELAY));
    let Some(source) = &route.source else {
        return vec![no_delay, last];
    };
    // The kernel then chooses the port at connect, where it may share one between targets.
    // Otherwise one source address would be good for some 28,000 connections over all targets.
    let late_port = step(set_option(file, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT));
    let (address, length) = source.as_raw();
    let bind = step(opcode::Bind::new(file, address, length).build());
    vec![no_delay, late_port, bind, last]
}

fn set_option(file: Fixed, level: i32, name: i32) -> Entry {
    static ON: i32 = 1;
    let value = std::ptr::from_ref(&ON).cast();
    opcode::SetSockOpt::new(file, level.unsigned_abs(), name.unsigned_abs(), value, length_of(&ON))
        .build()
}

pub(crate) fn close(descriptor: Descriptor, token: Token) -> Entry {
    let entry = opcode::Close::new(Fixed(descriptor.0)).build();
    done(entry, UserData::new(Kind::Close, token))
}

/// Closes what the caller never saw; only a failure is told.
pub(crate) fn discard(descriptor: Descriptor) -> Entry {
    let entry = opcode::Close::new(Fixed(descriptor.0)).build().flags(Flags::SKIP_SUCCESS);
    done(entry, UserData::of_ring(Kind::DiscardFailed))
}

pub(crate) fn shutdown(descriptor: Descriptor, token: Token, half: Half) -> Entry {
    let how = match half {
        Half::Read => libc::SHUT_RD,
        Half::Write => libc::SHUT_WR,
        Half::Both => libc::SHUT_RDWR,
    };
    let entry = opcode::Shutdown::new(Fixed(descriptor.0), how).build();
    done(entry, UserData::new(Kind::Shutdown, token))
}

pub(crate) fn cancel(aim: &Aim, id: UserData) -> Entry {
    // `all`: the result is then the number found, whatever the aim.
    let builder = match aim {
        Aim::Operation(user_data) => CancelBuilder::user_data(user_data.0).all(),
        Aim::Descriptor(descriptor) => CancelBuilder::fd(Fixed(descriptor.0)).all(),
        Aim::Everything => CancelBuilder::any(),
    };
    done(opcode::AsyncCancel2::new(builder).build(), id)
}

pub(crate) fn pass(descriptor: Descriptor, token: Token, peer: &impl AsFd) -> Entry {
    let peer = Fd(peer.as_fd().as_raw_fd());
    let slot = DestinationSlot::auto_target();
    // The target's completion would reach it before or after the caller's own message does, so it
    // could not be matched with it: it is skipped, and the caller's message carries the descriptor.
    let entry = opcode::MsgRingSendFd::new(peer, Fixed(descriptor.0), slot, 0)
        .opcode_flags(MSG_RING_CQE_SKIP)
        .build();
    done(entry, UserData::new(Kind::Pass, token))
}

pub(crate) fn wake_peer(peer: &impl AsFd) -> Entry {
    let peer = Fd(peer.as_fd().as_raw_fd());
    let message = UserData::of_ring(Kind::PeerWake);
    let entry =
        opcode::MsgRingData::new(peer, 0, message.0, None).build().flags(Flags::SKIP_SUCCESS);
    done(entry, UserData::of_ring(Kind::WakeFailed))
}
