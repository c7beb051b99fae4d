//! A ring and real loopback sockets for the tests. Where rings are impossible the tests fail, and
//! say why, unless `MOORING_ALLOW_NO_URING=1` permits them to pass without having tested anything.

#![allow(dead_code, reason = "each test file uses what it needs")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, which the lint does not see as such")]
#![allow(clippy::print_stderr, reason = "a skipped test must be seen")]

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use uring::{
    Completion, Descriptor, ListenOptions, Ring, RingOptions, Shots, Start, Token, listen,
};

pub(crate) const LISTENER: Token = Token::new(0, 0);
pub(crate) const PEER: Token = Token::new(1, 7);
/// Long enough that only a lost completion reaches it; nothing is measured by it.
pub(crate) const LOST: Duration = Duration::from_secs(20);

pub(crate) const SMALL: RingOptions = RingOptions {
    sq_entries: 64,
    cq_entries: 256,
    descriptors_max: 64,
    flights_max: 64,
    buffers: 16,
    buffer_bytes: 64,
};

/// `None` only where the environment permits to test nothing.
pub(crate) fn ring(options: &RingOptions) -> Option<Ring> {
    match Ring::new(options) {
        Ok(ring) => Some(ring),
        Err(error) if error.is_unavailable() => {
            let permitted = std::env::var_os("MOORING_ALLOW_NO_URING").is_some_and(|v| v == "1");
            assert!(permitted, "{error}\n(MOORING_ALLOW_NO_URING=1 skips the tests of the ring)");
            eprintln!("NOT TESTED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The next completion that is not a wake.
pub(crate) fn next(ring: &mut Ring) -> Completion {
    loop {
        match next_or_woken(ring) {
            Completion::Woken => {}
            completion => return completion,
        }
    }
}

pub(crate) fn next_or_woken(ring: &mut Ring) -> Completion {
    // An enter may return early, with nothing, but not often.
    for _ in 0..100 {
        if let Some(completion) = ring.next_completion() {
            return completion;
        }
        ring.submit_and_wait(1, Some(LOST)).unwrap();
    }
    panic!("a completion was lost; in flight: {}, {:?}", ring.in_flight(), ring.stats());
}

/// Listens on `ring`.
pub(crate) fn listening(ring: &mut Ring) -> SocketAddr {
    let listener = listen("127.0.0.1:0".parse().unwrap(), ListenOptions::default()).unwrap();
    let address = listener.local_address().unwrap();
    ring.accept(listener, LISTENER);
    ring.submit_and_wait(0, None).unwrap();
    address
}

pub(crate) fn accepted(ring: &mut Ring) -> Descriptor {
    match next(ring) {
        Completion::Accepted { token: LISTENER, descriptor, armed: true } => descriptor,
        other => panic!("{other:?}"),
    }
}

/// A blocking client and the ring's end of its connection.
pub(crate) fn pair(ring: &mut Ring) -> (TcpStream, Descriptor) {
    let address = listening(ring);
    let client = TcpStream::connect(address).unwrap();
    (client, accepted(ring))
}

/// Receives until `count` bytes are there, re-arming as needed.
pub(crate) fn receive_exactly(
    ring: &mut Ring,
    descriptor: Descriptor,
    shots: Shots,
    count: usize,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    ring.receive(descriptor, PEER, shots, Start::PollFirst);
    let mut is_armed = true;
    while bytes.len() < count {
        match next(ring) {
            Completion::Received { token: PEER, buffer, armed, .. } => {
                bytes.extend_from_slice(ring.buffer(&buffer));
                ring.recycle(buffer);
                is_armed = armed;
            }
            Completion::BuffersExhausted { token: PEER } => is_armed = false,
            other => panic!("{other:?} after {} bytes", bytes.len()),
        }
        if !is_armed && bytes.len() < count {
            ring.receive(descriptor, PEER, shots, Start::PollFirst);
            is_armed = true;
        }
    }
    if is_armed {
        ring.cancel_receive(PEER, PEER);
        let ends = [next(ring), next(ring)].map(|completion| completion.ended());
        assert_eq!(ends, [Some(PEER); 2]);
    }
    bytes
}

/// Bytes whose order shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}
