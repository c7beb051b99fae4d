//! Operations that are ended early, and the end of the ring itself: no memory is freed before the
//! kernel has let go of it, and none is kept after.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use common::{LISTENER, LOST, PEER, SMALL, listening, next, pair, ring};
use uring::{Completion, Errno, Ring, Shots, Start, Token};

const BY: Token = Token::new(3, 3);

/// Bytes that tell when they are freed, and are changed by it for whoever still reads them.
struct Watched(Vec<u8>, Arc<AtomicBool>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.fill(0);
        self.1.store(true, Ordering::SeqCst);
    }
}

fn watched(length: usize) -> (Bytes, Arc<AtomicBool>) {
    let freed = Arc::new(AtomicBool::new(false));
    (Bytes::from_owner(Watched(vec![7; length], Arc::clone(&freed))), freed)
}

/// What starts, what cancels it, and how it ends.
type Case<'a> = (&'a dyn Fn(&mut Ring), &'a dyn Fn(&mut Ring), &'a str);

#[test]
fn a_cancelled_operation_ends_with_its_own_completion() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (_client, descriptor) = pair(&mut ring);
    let (bytes, _) = watched(64 << 20);
    let receive = |ring: &mut Ring| ring.receive(descriptor, PEER, Shots::Many, Start::PollFirst);
    let poll = |ring: &mut Ring| ring.poll(descriptor, PEER, Shots::Many);
    let send = |ring: &mut Ring| ring.send(descriptor, PEER, bytes.clone()).unwrap();
    let cancel_all = |ring: &mut Ring| ring.cancel_all(descriptor, BY);
    let rows: [Case<'_>; 4] = [
        (&receive, &|ring| ring.cancel_receive(PEER, BY), "receive cancelled"),
        (&poll, &|ring| ring.cancel_poll(PEER, BY), "poll cancelled"),
        (&receive, &cancel_all, "receive cancelled"),
        (&send, &cancel_all, "send cut off"),
    ];
    for (start, cancel, expected) in rows {
        start(&mut ring);
        ring.submit_and_wait(0, None).unwrap();
        assert!(ring.next_completion().is_none(), "{expected}: it waits before");
        cancel(&mut ring);
        let mut ends = [next(&mut ring), next(&mut ring)].map(|completion| match completion {
            Completion::ReceiveFailed { token: PEER, errno: Errno::CANCELED } => {
                "receive cancelled"
            }
            Completion::PollFailed { token: PEER, errno: Errno::CANCELED } => "poll cancelled",
            Completion::Sent { token: PEER, result: Ok(sent), bytes } => {
                assert!((1..bytes.len()).contains(&(sent as usize)), "{sent}");
                "send cut off"
            }
            Completion::Cancelled { token: BY, count: 1 } => "cancelled",
            other => panic!("{expected}: {other:?}"),
        });
        ends.sort_by_key(|end| *end == "cancelled");
        assert_eq!(ends, [expected, "cancelled"]);
    }
    ring.cancel_receive(PEER, BY);
    assert!(matches!(next(&mut ring), Completion::Cancelled { token: BY, count: 0 }));
}

#[test]
fn cancelling_and_closing_in_one_submission_ends_a_connection_at_once() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    let (bytes, freed) = watched(64 << 20);
    ring.send(descriptor, PEER, bytes).unwrap();
    ring.receive(descriptor, PEER, Shots::Many, Start::PollFirst);
    ring.submit_and_wait(0, None).unwrap();
    ring.cancel_all(descriptor, BY);
    ring.close(descriptor, BY);
    let ends = [(); 4].map(|()| next(&mut ring).ended());
    assert_eq!(ends.iter().filter(|end| **end == Some(PEER)).count(), 2, "{ends:?}");
    assert_eq!(ends.iter().filter(|end| **end == Some(BY)).count(), 2, "{ends:?}");
    assert!(freed.load(Ordering::SeqCst));
    // What the socket had taken still arrives, then the end.
    let received = client.read_to_end(&mut Vec::new()).unwrap();
    assert!(received < 64 << 20, "{received}");
    assert_eq!(ring.in_flight(), 2, "only the listener's and the waker's");
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
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
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
    // With it the kernel's ring lives on, so only the teardown can end what is in flight.
    let _handle = ring.handle();
    drop(ring);
    assert!(freed.load(Ordering::SeqCst));
    // What had been taken by the socket arrives; then the connection ends.
    client.set_read_timeout(Some(LOST)).unwrap();
    let mut received = Vec::new();
    let end = client.read_to_end(&mut received).map_err(|error| error.kind());
    assert_ne!(end, Err(ErrorKind::WouldBlock), "an operation still holds the connection open");
    assert!(!received.is_empty() && received.len() < 64 << 20);
    assert!(received.iter().all(|byte| *byte == 7));
}

#[test]
fn a_ring_may_end_before_it_submitted_anything_and_before_it_was_enabled() {
    let Some(mut unsubmitted) = ring(&SMALL) else { return };
    let target = "127.0.0.1:9".parse().unwrap();
    unsubmitted.connect(PEER, target, None).unwrap();
    drop(unsubmitted);
    drop(Ring::prepare(&SMALL).unwrap());
}
