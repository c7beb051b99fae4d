//! Every bound is reached, counted and left again without loss.

mod common;

use std::io::Write;

use common::{PEER, SMALL, next, pair, pattern, ring};
use uring::{BufferId, Completion, RingOptions, Shots, Start, Token};

#[test]
fn running_out_of_buffers_loses_no_byte_and_is_counted() {
    for shots in [Shots::One, Shots::Many] {
        let options = RingOptions { buffers: 2, buffer_bytes: 16, ..SMALL };
        let Some(mut ring) = ring(&options) else { return };
        let (mut client, descriptor) = pair(&mut ring);
        let sent = pattern(1000);
        client.write_all(&sent).unwrap();
        let mut received = Vec::new();
        let mut held: Vec<BufferId> = Vec::new();
        let mut shortages = 0;
        let mut armed = false;
        while received.len() < sent.len() {
            if !armed {
                ring.receive(descriptor, PEER, shots, Start::PollFirst);
            }
            match next(&mut ring) {
                Completion::Received { buffer, armed: goes_on, .. } => {
                    received.extend_from_slice(ring.buffer(&buffer));
                    held.push(buffer);
                    armed = goes_on;
                }
                Completion::BuffersExhausted { token } => {
                    assert_eq!((token, ring.buffers_free()), (PEER, 0));
                    shortages += 1;
                    held.drain(..).for_each(|buffer| ring.recycle(buffer));
                    armed = false;
                }
                other => panic!("{other:?}"),
            }
        }
        held.drain(..).for_each(|buffer| ring.recycle(buffer));
        assert!(received == sent, "{shots:?}");
        assert!(shortages >= 1000 / 32 - 1, "{shortages} shortages, {shots:?}");
        assert_eq!(ring.stats().buffers_exhausted, shortages);
    }
}

#[test]
fn a_receive_armed_without_buffers_waits_for_data_only_after_recycling() {
    let options = RingOptions { buffers: 1, ..SMALL };
    let Some(mut ring) = ring(&options) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    client.write_all(b"first").unwrap();
    ring.receive(descriptor, PEER, Shots::One, Start::TryFirst);
    let Completion::Received { buffer, .. } = next(&mut ring) else { panic!() };
    ring.recycle(buffer);
    ring.receive(descriptor, PEER, Shots::Many, Start::PollFirst);
    ring.submit_and_wait(0, None).unwrap();
    assert!(ring.next_completion().is_none(), "an empty socket with a free buffer: it waits");
    client.write_all(b"second").unwrap();
    let Completion::Received { buffer, .. } = next(&mut ring) else { panic!() };
    assert_eq!(ring.buffer(&buffer), b"second");
    ring.recycle(buffer);
}

#[test]
fn a_full_completion_queue_is_counted_and_loses_nothing() {
    let options = RingOptions { sq_entries: 8, cq_entries: 16, ..SMALL };
    let Some(mut ring) = ring(&options) else { return };
    let (_client, descriptor) = pair(&mut ring);
    // Each of them completes at its submission, and none is taken until the last is submitted.
    for slot in 0..200 {
        ring.cancel_all(descriptor, Token::new(slot, 1));
    }
    let mut seen = [false; 200];
    for _ in 0..200 {
        let Completion::Cancelled { token, count: 0 } = next(&mut ring) else { panic!() };
        assert!(!std::mem::replace(&mut seen[token.slot() as usize], true), "{token:?} came twice");
    }
    let stats = ring.stats();
    assert!(stats.overflows > 0, "{stats:?}");
}

#[test]
fn a_multishot_receive_outlives_a_full_completion_queue() {
    let options = RingOptions { sq_entries: 8, cq_entries: 16, buffer_bytes: 1, ..SMALL };
    let Some(mut ring) = ring(&RingOptions { buffers: 64, ..options }) else { return };
    let (mut client, descriptor) = pair(&mut ring);
    let sent = pattern(500);
    client.write_all(&sent).unwrap();
    let mut received = Vec::new();
    ring.receive(descriptor, PEER, Shots::Many, Start::TryFirst);
    while received.len() < sent.len() {
        let armed = match next(&mut ring) {
            Completion::Received { buffer, armed, .. } => {
                received.extend_from_slice(ring.buffer(&buffer));
                ring.recycle(buffer);
                armed
            }
            Completion::BuffersExhausted { .. } => false,
            other => panic!("{other:?}"),
        };
        if !armed {
            ring.receive(descriptor, PEER, Shots::Many, Start::PollFirst);
        }
    }
    assert!(received == sent);
}
