//! The operations whose memory the ring keeps until the kernel is done with it: sends (their bytes)
//! and connects (their addresses).
//!
//! Their `user_data` names a place in this table instead of the caller's slot. A serial number
//! guards the place against a completion for what stood there before: that would be our own
//! mistake, and memory would be freed early, so it ends the process.

use std::net::SocketAddr;

use bytes::Bytes;
use slab::Slab;

use crate::completion::Descriptor;
use crate::token::{Kind, Token, UserData};

/// What is in flight.
pub(crate) enum Work {
    /// The kernel reads `Bytes`, whose memory does not move with the handle.
    Send(Bytes),
    /// A socket is being made; nothing of ours is read yet.
    Open(Box<Route>),
    /// The kernel reads the route's addresses, which are boxed so that the table may move.
    Connect(Descriptor, #[expect(dead_code, reason = "it is the kernel that reads it")] Box<Route>),
}

/// From where to where.
pub(crate) struct Route {
    pub(crate) target: Address,
    pub(crate) source: Option<Address>,
}

/// A socket address as the kernel reads it.
pub(crate) enum Address {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

struct Flight {
    token: Token,
    serial: u32,
    work: Work,
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Flights {
    slab: Slab<Flight>,
    max: usize,
    serial: u32,
}

impl Flights {
    /// A table of at most `max` flights, all of its memory taken now.
    pub(crate) fn new(max: u32) -> Self {
        assert!(max <= Token::SLOT_MAX + 1, "places must fit into a slot's bits");
        let max = max as usize;
        Self { slab: Slab::with_capacity(max), max, serial: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slab.len() >= self.max
    }

    /// Takes off; the caller has checked that the table is not full.
    pub(crate) fn insert(&mut self, token: Token, work: Work) -> u32 {
        assert!(!self.is_full());
        self.serial = self.serial.wrapping_add(1);
        let index = self.slab.insert(Flight { token, serial: self.serial, work });
        u32::try_from(index).expect("below `max`, which is a u32")
    }

    /// The `user_data` that leads back to this flight.
    pub(crate) fn user_data(&self, kind: Kind, index: u32) -> UserData {
        UserData::new(kind, Token::new(index, self.slab[index as usize].serial))
    }

    pub(crate) fn work(&self, index: u32) -> &Work {
        &self.slab[index as usize].work
    }

    /// An opened socket goes on to connect, under the same place and serial; the route stays where
    /// it is. `false` if the flight is not one that opens a socket.
    pub(crate) fn connect(&mut self, index: u32, descriptor: Descriptor) -> bool {
        let work = &mut self.slab[index as usize].work;
        *work = match std::mem::replace(work, Work::Send(Bytes::new())) {
            Work::Open(route) => Work::Connect(descriptor, route),
            other => other,
        };
        matches!(work, Work::Connect(..))
    }

    /// Which flight this completion belongs to.
    pub(crate) fn find(&self, user_data: UserData) -> u32 {
        let place = user_data.token();
        let flight = self.slab.get(place.slot() as usize);
        let serial = flight.map(|flight| flight.serial);
        assert!(serial == Some(place.generation()), "a completion for no flight: {place:?}");
        place.slot()
    }

    pub(crate) fn token(&self, index: u32) -> Token {
        self.slab[index as usize].token
    }

    /// Lands: the kernel is done with the memory.
    pub(crate) fn remove(&mut self, index: u32) -> (Token, Work) {
        let flight = self.slab.remove(index as usize);
        (flight.token, flight.work)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::V4(libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => Self::V6(libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
        }
    }
}

impl Address {
    pub(crate) const fn family(&self) -> i32 {
        match self {
            Self::V4(_) => libc::AF_INET,
            Self::V6(_) => libc::AF_INET6,
        }
    }

    /// Pointer and length, for the kernel.
    pub(crate) fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        match self {
            Self::V4(v4) => (std::ptr::from_ref(v4).cast(), length_of(v4)),
            Self::V6(v6) => (std::ptr::from_ref(v6).cast(), length_of(v6)),
        }
    }
}

fn family(number: i32) -> libc::sa_family_t {
    number.try_into().expect("address families are small numbers")
}

/// The size of what the kernel reads, as it wants to be told.
pub(crate) fn length_of<T>(value: &T) -> u32 {
    size_of_val(value).try_into().expect("addresses and options are small")
}
