//! Connections come in, bytes go both ways, and the table fills and empties.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use bytes::Bytes;
use common::{
    LISTENER, PEER, SMALL, accepted, listening, next, pair, pattern, receive_exactly, ring,
};
use uring::{Completion, Errno, Full, Half, RingOptions, Shots, Start, Token};

#[test]
fn bytes_go_round_whatever_their_number_is_to_the_size_of_a_buffer() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    let total = usize::from(SMALL.buffers) * SMALL.buffer_bytes as usize;
    let sizes = [1, 2, 63, 64, 65, 127, 128, 129, 1000, total - 1, total, total + 1, 100_000];
    for shots in [Shots::One, Shots::Many] {
        for size in sizes {
            let sent = pattern(size);
            let writer = thread::spawn({
                let (mut client, sent) = (client.try_clone().unwrap(), sent.clone());
                move || client.write_all(&sent).unwrap()
            });
            let received = receive_exactly(&mut ring, descriptor, shots, size);
            writer.join().unwrap();
            assert!(received == sent, "{size} bytes, {shots:?}, arrived changed");
            let bytes = Bytes::from(received);
            ring.send(descriptor, PEER, bytes.clone()).unwrap();
            ring.submit_and_wait(0, None).unwrap();
            let mut echoed = vec![0; size];
            client.read_exact(&mut echoed).unwrap();
            assert!(echoed == sent, "{size} bytes, {shots:?}, came back changed");
            match next(&mut ring) {
                Completion::Sent { token: PEER, bytes: back, result } => {
                    assert_eq!(result, Ok(u32::try_from(size).unwrap()));
                    assert_eq!(back.as_ptr(), bytes.as_ptr(), "the same bytes come back");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(ring.buffers_free(), SMALL.buffers);
}

#[test]
fn received_bytes_can_be_changed_in_place() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    client.write_all(b"gniroom").unwrap();
    ring.receive(descriptor, PEER, Shots::One, Start::TryFirst);
    let Completion::Received { buffer, armed: false, .. } = next(&mut ring) else { panic!() };
    ring.buffer(&buffer).reverse();
    assert_eq!(ring.buffer(&buffer), b"mooring");
    assert_eq!(ring.buffers_free(), SMALL.buffers - 1);
    ring.recycle(buffer);
    assert_eq!(ring.buffers_free(), SMALL.buffers);
}

#[test]
fn a_send_larger_than_the_socket_buffer_is_finished_by_the_kernel() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    let sent = pattern(20_000_000);
    let reader = thread::spawn({
        let size = sent.len();
        move || {
            let mut received = vec![0; size];
            client.read_exact(&mut received).unwrap();
            received
        }
    });
    ring.send(descriptor, PEER, Bytes::from(sent.clone())).unwrap();
    let Completion::Sent { result, .. } = next(&mut ring) else { panic!() };
    assert_eq!(result, Ok(20_000_000));
    assert!(reader.join().unwrap() == sent);
}

#[test]
fn the_end_of_a_stream_ends_the_receive_and_costs_no_buffer() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let address = listening(&mut ring);
    // More connections than buffers: a kernel that takes one for the end of a stream shows it.
    for _ in 0..3 * SMALL.buffers {
        let client = TcpStream::connect(address).unwrap();
        let descriptor = accepted(&mut ring);
        ring.receive(descriptor, PEER, Shots::Many, Start::PollFirst);
        ring.submit_and_wait(0, None).unwrap();
        drop(client);
        assert!(matches!(next(&mut ring), Completion::EndOfStream { token: PEER }));
        ring.close(descriptor, PEER);
        assert!(matches!(next(&mut ring), Completion::Closed { token: PEER, result: Ok(()) }));
    }
    assert_eq!((ring.buffers_free(), ring.stats().buffers_exhausted), (SMALL.buffers, 0));
}

#[test]
fn a_half_is_shut_down_for_the_peer_to_see() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    ring.shutdown(descriptor, PEER, Half::Write);
    assert!(matches!(next(&mut ring), Completion::ShutDown { token: PEER, result: Ok(()) }));
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    client.write_all(b"still open").unwrap();
    assert_eq!(receive_exactly(&mut ring, descriptor, Shots::One, 10), b"still open");
    ring.send(descriptor, PEER, Bytes::from_static(b"too late")).unwrap();
    let Completion::Sent { result, .. } = next(&mut ring) else { panic!() };
    assert_eq!(result, Err(Errno::PIPE));
}

#[test]
fn a_poll_tells_of_data_and_of_the_end_without_a_buffer() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    ring.poll(descriptor, PEER, Shots::One);
    ring.submit_and_wait(0, None).unwrap();
    client.write_all(b"x").unwrap();
    let ready = next(&mut ring);
    assert!(matches!(ready, Completion::Ready { armed: false, hung_up: false, .. }), "{ready:?}");
    assert_eq!(ring.buffers_free(), SMALL.buffers);
    assert_eq!(receive_exactly(&mut ring, descriptor, Shots::One, 1), b"x");
    ring.poll(descriptor, PEER, Shots::One);
    client.shutdown(Shutdown::Write).unwrap();
    let ready = next(&mut ring);
    assert!(matches!(ready, Completion::Ready { hung_up: true, .. }), "{ready:?}");
}

#[test]
fn a_full_table_ends_accepting_and_a_close_lets_it_go_on() {
    let Some(mut ring) = ring(&RingOptions { descriptors_max: 1, ..SMALL }) else { return };
    let (first, descriptor) = pair(&mut ring);
    // The port is asked of the client: the listener belongs to the ring.
    let address = first.peer_addr().unwrap();
    let _lost = TcpStream::connect(address).unwrap();
    let failed = next(&mut ring);
    let expected = Completion::AcceptFailed { token: LISTENER, errno: Errno::NFILE };
    assert_eq!(format!("{failed:?}"), format!("{expected:?}"));
    ring.close(descriptor, PEER);
    assert!(matches!(next(&mut ring), Completion::Closed { .. }));
    ring.rearm_accept(LISTENER);
    ring.submit_and_wait(0, None).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let descriptor = accepted(&mut ring);
    client.write_all(b"in").unwrap();
    assert_eq!(receive_exactly(&mut ring, descriptor, Shots::Many, 2), b"in");
}

#[test]
fn a_send_beyond_the_table_of_flights_is_refused_with_its_bytes() {
    let Some(mut ring) = ring(&RingOptions { flights_max: 1, ..SMALL }) else { return };
    let (_client, descriptor) = pair(&mut ring);
    ring.send(descriptor, PEER, Bytes::from_static(b"one")).unwrap();
    let Err(Full(bytes)) = ring.send(descriptor, PEER, Bytes::from_static(b"two")) else {
        panic!()
    };
    assert_eq!(bytes, "two");
    let target = "127.0.0.1:9".parse().unwrap();
    assert!(ring.connect(PEER, target, None).is_err());
    assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(3), .. }));
    ring.send(descriptor, PEER, bytes).unwrap();
    assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(3), .. }));
}

#[test]
fn operations_on_a_closed_descriptor_fail_and_nothing_else_happens() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let (_client, descriptor) = pair(&mut ring);
    ring.close(descriptor, PEER);
    assert!(matches!(next(&mut ring), Completion::Closed { result: Ok(()), .. }));
    ring.receive(descriptor, PEER, Shots::Many, Start::TryFirst);
    let failed = next(&mut ring);
    assert!(matches!(failed, Completion::ReceiveFailed { errno: Errno::BADF, .. }), "{failed:?}");
    ring.send(descriptor, Token::new(9, 9), Bytes::from_static(b"x")).unwrap();
    let failed = next(&mut ring);
    assert!(matches!(failed, Completion::Sent { result: Err(Errno::BADF), .. }), "{failed:?}");
    assert_eq!(failed.ended(), Some(Token::new(9, 9)));
}
