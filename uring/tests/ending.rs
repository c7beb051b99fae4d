//! Operations that are ended early, and the end of the ring itself: no memory is freed before the
//! kernel has let go of it, and none is kept after.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use common::{LISTENER, PEER, SMALL, listening, next, pair, ring};
use uring::{Completion, Errno, Shots, Start, Token};

const BY: Token = Token::new(3, 3);

/// Bytes that tell when they are freed.
struct Watched(Vec<u8>, Arc<AtomicBool>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
    }
}

fn watched(length: usize) -> (Bytes, Arc<AtomicBool>) {
    let freed = Arc::new(AtomicBool::new(false));
    (Bytes::from_owner(Watched(vec![7; length], Arc::clone(&freed))), freed)
}

#[test]
fn a_cancelled_operation_ends_with_its_own_completion() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (_client, descriptor) = pair(&mut ring);
    let (bytes, _) = watched(64 << 20);
    type Case<'a> = (&'a str, &'a dyn Fn(&mut uring::Ring), &'a dyn Fn(&mut uring::Ring), &'a str);
    let receive =
        |ring: &mut uring::Ring| ring.receive(descriptor, PEER, Shots::Many, Start::PollFirst);
    let poll = |ring: &mut uring::Ring| ring.poll(descriptor, PEER, Shots::Many);
    let rows: [Case<'_>; 4] = [
        ("receive", &receive, &|ring| ring.cancel_receive(PEER, BY), "ReceiveFailed"),
        ("poll", &poll, &|ring| ring.cancel_poll(PEER, BY), "PollFailed"),
        (
            "receive, by descriptor",
            &receive,
            &|ring| ring.cancel_all(descriptor, BY),
            "ReceiveFailed",
        ),
        (
            "send, by descriptor",
            &|ring| ring.send(descriptor, PEER, bytes.clone()).unwrap(),
            &|ring| ring.cancel_all(descriptor, BY),
            "Sent",
        ),
    ];
    for (name, start, cancel, expected) in rows {
        start(&mut ring);
        ring.submit_and_wait(0, None).unwrap();
        assert!(ring.next_completion().is_none(), "{name}: it waits");
        cancel(&mut ring);
        let mut ends = [next(&mut ring), next(&mut ring)];
        ends.sort_by_key(|completion| completion.ended() == Some(BY));
        assert_eq!(ends[0].ended(), Some(PEER), "{name}");
        assert!(format!("{:?}", ends[0]).starts_with(expected), "{name}: {ends:?}");
        assert!(
            matches!(ends[1], Completion::Cancelled { token: BY, count: 1 }),
            "{name}: {ends:?}"
        );
    }
    ring.cancel_receive(PEER, BY);
    assert!(matches!(next(&mut ring), Completion::Cancelled { token: BY, count: 0 }));
}

#[test]
fn a_late_completion_carries_the_generation_it_was_submitted_with() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    let (old, new) = (PEER, PEER.next());
    ring.receive(descriptor, old, Shots::One, Start::TryFirst);
    client.write_all(b"late").unwrap();
    ring.submit_and_wait(1, None).unwrap();
    // The caller has given the slot to another use before it looks. Cancelling for the new holder
    // does not touch what the old one left.
    ring.cancel_receive(new, BY);
    let Completion::Received { token, buffer, .. } = next(&mut ring) else { panic!() };
    assert_eq!(token, old);
    assert_ne!(token, new);
    ring.recycle(buffer);
    assert!(matches!(next(&mut ring), Completion::Cancelled { count: 0, .. }));
}

#[test]
fn a_cancelled_listener_is_closed() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let address = listening(&mut ring);
    ring.cancel_accept(LISTENER, BY);
    let mut ends = [next(&mut ring), next(&mut ring)];
    ends.sort_by_key(|completion| completion.ended() == Some(BY));
    assert!(
        matches!(ends[0], Completion::AcceptFailed { token: LISTENER, errno: Errno::CANCELED }),
        "{ends:?}"
    );
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_ring_that_ends_frees_the_bytes_of_sends_in_flight_and_no_earlier() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    let (bytes, freed) = watched(64 << 20);
    ring.send(descriptor, PEER, bytes).unwrap();
    ring.receive(descriptor, PEER, Shots::Many, Start::PollFirst);
    ring.poll(descriptor, BY, Shots::Many);
    ring.submit_and_wait(0, None).unwrap();
    assert!(ring.next_completion().is_none(), "the socket's buffer is full, so the send waits");
    assert!(!freed.load(Ordering::SeqCst));
    drop(ring);
    assert!(freed.load(Ordering::SeqCst));
    // What had been taken by the socket arrives; then the connection ends.
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received);
    assert!(!received.is_empty() && received.len() < 64 << 20);
    assert!(received.iter().all(|byte| *byte == 7));
}

#[test]
fn a_ring_may_end_before_it_submitted_anything_and_before_it_was_enabled() {
    let Some(mut unsubmitted) = ring(&SMALL) else { return };
    let target = "127.0.0.1:9".parse().unwrap();
    unsubmitted.connect(PEER, target, None).unwrap();
    drop(unsubmitted);
    drop(uring::Ring::prepare(&SMALL).unwrap());
}
