//! Stages 4 (the one copy of a body), 11 and 12: frames gather for a connection, go out and their
//! memory comes back. `cargo bench -p benches --bench send_queue`.
//!
//! The kernel takes everything at once. Left out: encoding a frame (`wire`), the ring (`uring`).
//! The allocator is the product's.

use std::collections::VecDeque;
use std::hint::black_box;

use benches::subjects::{BODY_BYTES, DEVICE, NOW, group, user};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gateway::pools::{BlockPool, BodyPool};
use gateway::send_queue::{Room, SHARE_BYTES_MIN, SendQueue, SharedFrame};
use wire::{Encoder, Event, InboxSeq, Message, Nonce, Seq};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As the gateway is configured by default.
const BLOCK_BYTES: usize = 2048;
const ROOM: Room = Room { bytes_max: 1 << 20, held_max: 1 << 22 };
const RECIPIENTS: usize = 100;

/// Sends whatever waits, as a kernel that takes everything at once.
fn flush(queue: &mut SendQueue, pool: &mut BlockPool) -> usize {
    let mut sent = 0;
    while let Some(bytes) = queue.poll_send() {
        sent += bytes.len();
        queue.handle_sent(bytes.len());
        pool.give_back(bytes);
    }
    sent
}

fn own(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("send_queue/own frames of 120 bytes");
    let (mut pool, mut queue) = (BlockPool::new(16, BLOCK_BYTES), SendQueue::default());
    for count in [1, 16] {
        bench.throughput(Throughput::Elements(count));
        bench.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                for _ in 0..count {
                    queue.push(&mut pool, ROOM, &[7; 120]).expect("room");
                }
                flush(&mut queue, &mut pool)
            });
        });
    }
    bench.finish();
}

/// One event to a hundred connections, each with its own `inbox_seq`.
fn shared(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("send_queue/shared by 100, body");
    bench.throughput(Throughput::Elements(RECIPIENTS as u64));
    let mut pool = BlockPool::new(2 * RECIPIENTS, BLOCK_BYTES);
    let mut queues: Vec<SendQueue> = (0..RECIPIENTS).map(|_| SendQueue::default()).collect();
    for body_bytes in [BODY_BYTES, 4 * SHARE_BYTES_MIN] {
        let body = vec![b'x'; body_bytes];
        let event = Event::Message(Message {
            channel: group(1),
            seq: Seq::new(1),
            sender: user(1),
            device: DEVICE,
            created_at: NOW,
            nonce: Nonce(1),
            kind: 0,
            body: Some(&body),
        });
        let mut encoder = Encoder::default();
        bench.bench_function(BenchmarkId::from_parameter(body_bytes), |bencher| {
            bencher.iter(|| {
                let template = encoder.deliver_template(&event);
                let (bytes, inbox_seq_offset) = (template.bytes(), template.inbox_seq_offset());
                let tail = (bytes.len() >= SHARE_BYTES_MIN)
                    .then(|| Bytes::copy_from_slice(&bytes[template.head_bytes()..]));
                let frame = SharedFrame { bytes, inbox_seq_offset, tail };
                let mut sent = 0;
                for queue in &mut queues {
                    let place = InboxSeq::new(9);
                    queue.push_shared(&mut pool, ROOM, &frame, place).expect("room");
                }
                for queue in &mut queues {
                    sent += flush(queue, &mut pool);
                }
                sent
            });
        });
    }
    bench.finish();
}

/// The copy out of the receive buffer, in slots that come back, and what an allocation of its own
/// would cost instead. Each is shared once, as a fan-out does; `held` messages are on their way at
/// any time.
fn bodies(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("send_queue/body, held meanwhile");
    let body = [7; BODY_BYTES];
    for held in [1, 1000] {
        let mut on_their_way = VecDeque::from(vec![Bytes::new(); held]);
        let mut replace = move |body: &Bytes| {
            on_their_way.pop_front();
            on_their_way.push_back(body.clone());
        };
        let mut pool = BodyPool::default();
        bench.bench_function(BenchmarkId::new("pooled", held), |bencher| {
            bencher.iter(|| replace(&pool.copy(black_box(&body))));
        });
        bench.bench_function(BenchmarkId::new("allocated", held), |bencher| {
            bencher.iter(|| replace(&Bytes::copy_from_slice(black_box(&body))));
        });
    }
    bench.finish();
}

criterion_group!(benches, own, shared, bodies);
criterion_main!(benches);
