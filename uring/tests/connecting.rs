//! The load generator's side: sockets made, bound and connected on the ring.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use common::{PEER, SMALL, next, receive_exactly, ring};
use uring::{Completion, Errno, RingOptions, Shots};

#[test]
fn a_connection_comes_from_the_source_asked_for_on_both_families() {
    let Some(mut ring) = ring(&SMALL) else { return };
    for (target, source) in [
        ("127.0.0.1:0", None),
        ("127.0.0.1:0", Some("127.0.0.77:0")),
        ("[::1]:0", None),
        ("[::1]:0", Some("[::1]:0")),
    ] {
        let source = source.map(|source| source.parse::<SocketAddr>().unwrap());
        let listener = TcpListener::bind(target).unwrap();
        ring.connect(PEER, listener.local_addr().unwrap(), source).unwrap();
        ring.submit_and_wait(0, None).unwrap();
        let descriptor = match next(&mut ring) {
            Completion::Connected { token: PEER, descriptor } => descriptor,
            other => panic!("{target} from {source:?}: {other:?}"),
        };
        let (mut server, address) = listener.accept().unwrap();
        if let Some(source) = source {
            assert_eq!(address.ip(), source.ip());
        }
        server.write_all(b"ping").unwrap();
        assert_eq!(receive_exactly(&mut ring, descriptor, Shots::One, 4), b"ping");
        ring.send(descriptor, PEER, Bytes::from_static(b"pong")).unwrap();
        assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(4), .. }));
        let mut answer = [0; 4];
        server.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong");
        ring.close(descriptor, PEER);
        assert!(matches!(next(&mut ring), Completion::Closed { .. }));
    }
}

#[test]
fn each_step_that_can_fail_ends_the_connect_once_and_leaves_no_descriptor() {
    // One descriptor: whatever a failure left open would make the next row fail with ENFILE.
    let Some(mut ring) = ring(&RingOptions { descriptors_max: 1, ..SMALL }) else { return };
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let elsewhere = Some("192.0.2.1:0".parse().unwrap());
    let here = Some("127.0.0.1:0".parse().unwrap());
    for (name, source, expected) in [
        ("nobody listens", None, Errno::CONNREFUSED),
        ("the source is not this host's", elsewhere, Errno::ADDRNOTAVAIL),
        ("nobody listens, with a source", here, Errno::CONNREFUSED),
        ("again", elsewhere, Errno::ADDRNOTAVAIL),
        ("and again", None, Errno::CONNREFUSED),
    ] {
        ring.connect(PEER, nobody, source).unwrap();
        match next(&mut ring) {
            Completion::ConnectFailed { token: PEER, errno } => {
                assert_eq!(errno, expected, "{name}")
            }
            other => panic!("{name}: {other:?}"),
        }
        ring.submit_and_wait(0, None).unwrap();
        assert!(ring.next_completion().is_none(), "{name}: one completion");
        assert_eq!(ring.in_flight(), 1, "{name}: only the waker's");
    }
    assert_eq!(ring.stats().failures, 0, "every discard found its descriptor");
}

#[test]
fn a_full_table_fails_the_connect_before_anything_is_opened() {
    let Some(mut ring) = ring(&RingOptions { descriptors_max: 1, ..SMALL }) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    ring.connect(PEER, target, None).unwrap();
    assert!(matches!(next(&mut ring), Completion::Connected { .. }));
    ring.connect(PEER, target, None).unwrap();
    assert!(matches!(next(&mut ring), Completion::ConnectFailed { errno: Errno::NFILE, .. }));
}

#[test]
fn many_connects_at_once_all_succeed_through_a_small_submission_queue() {
    let options = RingOptions { sq_entries: 8, cq_entries: 16, ..SMALL };
    let Some(mut ring) = ring(&options) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    for _ in 0..40 {
        ring.connect(PEER, target, Some("127.0.0.9:0".parse().unwrap())).unwrap();
    }
    for _ in 0..40 {
        let connected = next(&mut ring);
        assert!(matches!(connected, Completion::Connected { .. }), "{connected:?}");
    }
}
