//! Stage 2: bytes to messages and back. `cargo bench -p benches --bench ws`.
//!
//! A frame is unmasked in place, so each round finds the payload as the last one left it: masked or
//! not by turns. The work does not depend on it, and nothing needs to be copied back.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ws::handshake::{HandshakePolicy, read_request};
use ws::{MaskKey, Role, Session, encoder};

const KEY: MaskKey = MaskKey([0x37, 0xfa, 0x21, 0x3d]);
const PAYLOAD_BYTES: [usize; 3] = [64, 1024, 16 * 1024];

fn frame(payload_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    encoder::append_binary(&mut out, &vec![7; payload_bytes], Some(KEY));
    out
}

/// Takes all messages off `received`.
fn drain(session: &mut Session, received: &mut [u8]) {
    let mut input = received;
    while let Some(event) = session.next_event(&mut input).expect("valid frames") {
        black_box(event);
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ws/decode");
    for payload_bytes in PAYLOAD_BYTES {
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        let mut received = frame(payload_bytes);
        let mut session = Session::new(Role::Server, 64 * 1024);
        group.bench_function(BenchmarkId::new("whole", payload_bytes), |bencher| {
            bencher.iter(|| drain(&mut session, &mut received));
        });
        // One allocation a frame: the second read ends between two messages.
        group.bench_function(BenchmarkId::new("split", payload_bytes), |bencher| {
            bencher.iter(|| {
                let (front, back) = received.split_at_mut(payload_bytes / 2);
                drain(&mut session, front);
                drain(&mut session, back);
            });
        });
    }
    // Many small frames in one read, as a busy device sends them.
    let mut received = frame(64).repeat(32);
    let mut session = Session::new(Role::Server, 64 * 1024);
    group.throughput(Throughput::Elements(32));
    group.bench_function("32 frames of 64 in one read", |bencher| {
        bencher.iter(|| drain(&mut session, &mut received));
    });
    group.finish();
}

fn mask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ws/mask");
    for payload_bytes in PAYLOAD_BYTES {
        let mut payload = vec![7; payload_bytes];
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(payload_bytes), |bencher| {
            bencher.iter(|| KEY.apply(black_box(&mut payload)));
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ws/encode");
    for payload_bytes in PAYLOAD_BYTES {
        let payload = vec![7; payload_bytes];
        let mut out = Vec::with_capacity(encoder::frame_bytes(payload_bytes, true));
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        for (name, mask) in [("plain", None), ("masked", Some(KEY))] {
            group.bench_function(BenchmarkId::new(name, payload_bytes), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    encoder::append_binary(&mut out, black_box(&payload), mask);
                });
            });
        }
    }
    group.finish();
}

fn handshake(criterion: &mut Criterion) {
    let request = b"GET /ws HTTP/1.1\r\nHost: chat.example.org\r\nUser-Agent: Mozilla/5.0 (X11; \
        Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\nAccept-Language: \
        en\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nUpgrade: websocket\r\nConnection: \
        keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: \
        permessage-deflate\r\nSec-WebSocket-Protocol: mooring.v1\r\nOrigin: \
        https://chat.example.org\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let policy = HandshakePolicy::default();
    read_request(request, &policy).expect("a request that is accepted");
    criterion.bench_function("ws/handshake", |bencher| {
        bencher.iter(|| read_request(black_box(request), &policy));
    });
}

criterion_group!(benches, decode, mask, encode, handshake);
criterion_main!(benches);
