//! Several threads: waking a ring, and passing connections from one to another.

mod common;

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use common::{PEER, SMALL, next, next_or_woken, pair, receive_exactly, ring};
use uring::{Completion, Descriptor, Errno, Ring, RingOptions, Shots};

#[test]
fn a_waker_ends_a_wait_from_another_thread_every_time() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let waker = ring.waker();
    let (turns, woken) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        for () in woken {
            waker.wake();
        }
    });
    for _ in 0..1000 {
        turns.send(()).unwrap();
        assert!(matches!(next_or_woken(&mut ring), Completion::Woken));
    }
    drop(turns);
    other.join().unwrap();
    assert_eq!(ring.in_flight(), 1, "the waker's poll was never lost");
}

#[test]
fn wakes_before_a_wait_end_it_and_may_come_as_one() {
    let Some(mut ring) = ring(&SMALL) else { return };
    let waker = ring.waker();
    for _ in 0..50 {
        waker.wake();
        waker.wake();
        assert!(matches!(next_or_woken(&mut ring), Completion::Woken));
        ring.submit_and_wait(0, None).unwrap();
        while let Some(completion) = ring.next_completion() {
            assert!(matches!(completion, Completion::Woken));
        }
    }
}

#[test]
fn a_waker_may_outlive_its_ring() {
    let Some(ring) = ring(&SMALL) else { return };
    let waker = ring.waker();
    drop(ring);
    waker.wake();
}

#[test]
fn a_ring_wakes_another_that_waits_in_the_kernel() {
    let Some(mut source) = ring(&SMALL) else { return };
    let prepared = Ring::prepare(&SMALL).unwrap();
    let peer = source.add_peer(prepared.handle());
    let (enabled, is_enabled) = mpsc::channel();
    let target = thread::spawn(move || {
        let mut ring = prepared.enable().unwrap();
        enabled.send(()).unwrap();
        for _ in 0..100 {
            assert!(matches!(next_or_woken(&mut ring), Completion::Woken));
            enabled.send(()).unwrap();
        }
    });
    for _ in 0..100 {
        is_enabled.recv().unwrap();
        source.wake_peer(peer);
        source.submit_and_wait(0, None).unwrap();
    }
    target.join().unwrap();
    assert_eq!(source.stats().failures, 0);
}

#[test]
fn waking_a_ring_that_does_not_run_is_counted_as_a_failure() {
    let Some(mut source) = ring(&SMALL) else { return };
    let prepared = Ring::prepare(&SMALL).unwrap();
    let peer = source.add_peer(prepared.handle());
    source.wake_peer(peer);
    source.submit_and_wait(1, None).unwrap();
    assert!(source.next_completion().is_none());
    assert_eq!(source.stats().failures, 1);
}

#[test]
fn a_connection_is_passed_to_a_ring_that_waits_in_the_kernel() {
    let Some(mut source) = ring(&SMALL) else { return };
    let prepared = Ring::prepare(&SMALL).unwrap();
    let (peer, waker) = (source.add_peer(prepared.handle()), prepared.waker());
    let (mail, inbox) = mpsc::channel::<Descriptor>();
    let (waiting, is_waiting) = mpsc::channel();
    let target = thread::spawn(move || {
        let mut ring = prepared.enable().unwrap();
        waiting.send(()).unwrap();
        // Only the waker ends this wait; the pass happens during it.
        assert!(matches!(next_or_woken(&mut ring), Completion::Woken));
        let enters = ring.stats().enters;
        let descriptor = inbox.recv().unwrap();
        assert_eq!(receive_exactly(&mut ring, descriptor, Shots::Many, 5), b"hello");
        ring.send(descriptor, PEER, Bytes::from_static(b"there")).unwrap();
        assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(5), .. }));
        enters
    });
    let (mut client, descriptor) = pair(&mut source);
    is_waiting.recv().unwrap();
    source.pass(descriptor, PEER, peer);
    let Completion::Passed { token: PEER, result: Ok(there) } = next(&mut source) else { panic!() };
    source.close(descriptor, PEER);
    assert!(matches!(next(&mut source), Completion::Closed { result: Ok(()), .. }));
    mail.send(there).unwrap();
    waker.wake();
    client.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"there");
    assert_eq!(target.join().unwrap(), 1, "the target entered the kernel once until it was woken");
}

#[test]
fn a_connection_that_cannot_be_passed_stays_where_it_is() {
    let Some(mut source) = ring(&SMALL) else { return };
    let (mut client, descriptor) = pair(&mut source);
    let mut pass_fails = |source: &mut Ring, peer, expected| {
        source.pass(descriptor, PEER, peer);
        let Completion::Passed { result: Err(errno), .. } = next(source) else { panic!() };
        assert_eq!(errno, expected);
        client.write_all(b"here").unwrap();
        assert_eq!(receive_exactly(source, descriptor, Shots::One, 4), b"here");
    };

    let sleeping = Ring::prepare(&SMALL).unwrap();
    let peer = source.add_peer(sleeping.handle());
    pass_fails(&mut source, peer, Errno::BADFD);

    let mut full = Ring::new(&RingOptions { descriptors_max: 1, ..SMALL }).unwrap();
    let (_other, _taken) = pair(&mut full);
    let peer = source.add_peer(full.handle());
    pass_fails(&mut source, peer, Errno::NFILE);

    let ended = Ring::new(&SMALL).unwrap();
    let peer = source.add_peer(ended.handle());
    drop(ended);
    pass_fails(&mut source, peer, Errno::NFILE);

    let gone = thread::spawn(|| Ring::new(&SMALL).unwrap().handle()).join().unwrap();
    let peer = source.add_peer(gone);
    pass_fails(&mut source, peer, Errno::OWNERDEAD);
}
