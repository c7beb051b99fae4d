//! What allocates and what does not. The counting allocator stands for this test binary alone.

use allocation_counter::measure;
use ws::{ControlPayload, Event, MaskKey, Opcode, Role, Session, encoder};

/// Fewer under Miri, where a byte takes microseconds.
const FRAMES: usize = if cfg!(miri) { 10 } else { 100 };

const KEY: MaskKey = MaskKey([0x37, 0xfa, 0x21, 0x3d]);

fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder::append_frame(&mut out, opcode, true, payload, Some(KEY));
    out
}

/// Takes all events off `received` and echoes the messages into `out`, which has room.
fn echo(session: &mut Session, received: &mut [u8], out: &mut Vec<u8>) -> usize {
    out.clear();
    let mut input = received;
    let mut count = 0;
    while let Some(event) = session.next_event(&mut input).expect("valid frames") {
        count += 1;
        match event {
            Event::Binary(bytes) => encoder::append_binary(out, bytes, None),
            Event::Ping(payload) => encoder::append_pong(out, payload, None),
            Event::Text(_) | Event::Pong(_) | Event::Close(_) => panic!("{event:?}"),
        }
    }
    count
}

#[test]
fn whole_frames_do_not_allocate() {
    let mut session = Session::new(Role::Server, 16 * 1024);
    let frames = [masked(Opcode::Binary, &[1; 1000]), masked(Opcode::Ping, b"?")];
    let mut received = frames.concat().repeat(FRAMES);
    let mut out = Vec::with_capacity(received.len());
    let mut count = 0;
    let allocated = measure(|| count = echo(&mut session, &mut received, &mut out));
    assert_eq!(count, 2 * FRAMES);
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn frames_split_by_every_read_do_not_allocate_once_the_buffer_is_there() {
    let mut session = Session::new(Role::Server, 16 * 1024);
    let mut received = masked(Opcode::Binary, &[1; 1000]).repeat(FRAMES);
    let mut out = Vec::with_capacity(received.len());
    // Every read but the last ends within a frame, as 701 is prime and a frame has 1,008 bytes.
    let mut counts = Vec::with_capacity(received.len());
    for read in received.chunks_mut(701) {
        let allocated = measure(|| {
            echo(&mut session, read, &mut out);
        });
        counts.push(allocated.count_total);
    }
    let first = counts.iter().rposition(|count| *count > 0).unwrap();
    assert!(first < 4, "the last allocation is in read {first}: {counts:?}");
    assert_eq!(session.held_bytes(), 0, "the last read ended between two messages");
}

#[test]
fn a_connection_holds_no_heap_before_and_after_a_split_frame() {
    let mut received = masked(Opcode::Binary, &[1; 1000]);
    let mut out = Vec::with_capacity(2000);
    let allocated = measure(|| {
        let mut session = Session::new(Role::Server, 16 * 1024);
        let (front, back) = received.split_at_mut(500);
        assert_eq!(echo(&mut session, front, &mut out), 0);
        assert_eq!(echo(&mut session, back, &mut out), 1);
        // Kept beyond the measurement, so that its end is not what frees.
        std::mem::forget(session);
    });
    assert_eq!(allocated.bytes_current, 0);
    // One when the first part came, one when it grew; both are there while it is copied.
    assert_eq!((allocated.count_total, allocated.bytes_max), (2, 492 + 1000));
}

#[test]
fn encoding_into_a_buffer_with_room_does_not_allocate() {
    let mut out = Vec::with_capacity(4000);
    let payload = [7; 1000];
    let ping = ControlPayload::new(&payload[..125]).unwrap();
    let allocated = measure(|| {
        encoder::append_binary(&mut out, &payload, None);
        encoder::append_binary(&mut out, &payload, Some(KEY));
        encoder::append_ping(&mut out, ping, Some(KEY));
        encoder::append_close(&mut out, Some(ws::CloseCode::NORMAL), "bye", None);
    });
    assert_eq!(allocated.count_total, 0);
}
