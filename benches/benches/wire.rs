//! Stages 3 and 12 of a message's way: frame to value, value to frame.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wire::client::Post;
use wire::limits::PAGE_ENTRIES_MAX;
use wire::server::{Durability, Posted};
use wire::{
    ChannelId, Deliver, DeviceId, Encoder, Event, InboxSeq, Message, Nonce, Seq, Timestamp, UserId,
    decode_client, decode_server, patch_inbox_seq,
};

/// A chat line, and a long one.
const BODY_BYTES: [usize; 2] = [64, 4096];

fn channel() -> ChannelId {
    ChannelId::numbered(42).expect("not 0")
}

fn message(body: &[u8]) -> Event<'_> {
    Event::Message(Message {
        channel: channel(),
        seq: Seq::new(1_000_000),
        sender: UserId::new(7).expect("not 0"),
        device: DeviceId(1),
        created_at: Timestamp(1_800_000_000_000),
        nonce: Nonce(99),
        kind: 0,
        body: Some(body),
    })
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire/decode");
    for bytes in BODY_BYTES {
        let body = vec![0x61; bytes];
        let post =
            Post { channel: channel(), nonce: Nonce(99), kind: 0, body: &body, retry: false };
        let frame = Encoder::default().client(1, post).to_vec();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("post", bytes), |bencher| {
            bencher.iter(|| decode_client(black_box(&frame)));
        });
        let entry = Deliver { inbox_seq: InboxSeq::new(5), event: message(&body) };
        let frame = Encoder::default().server(0, entry).to_vec();
        group.bench_function(BenchmarkId::new("deliver", bytes), |bencher| {
            bencher.iter(|| decode_server(black_box(&frame)));
        });
    }
    let entry = Deliver { inbox_seq: InboxSeq::new(5), event: message(b"tea") };
    let entries = std::iter::repeat_n(entry, PAGE_ENTRIES_MAX);
    let page = Encoder::default().sync_page(1, entries, InboxSeq::new(5), true).to_vec();
    group.bench_function("full_page", |bencher| {
        bencher.iter(|| decode_server(black_box(&page)));
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut encoder = Encoder::default();
    let mut group = criterion.benchmark_group("wire/encode");
    let posted = Posted {
        channel: channel(),
        nonce: Nonce(99),
        seq: Seq::new(1_000_000),
        created_at: Timestamp(1_800_000_000_000),
        durability: Durability::Durable,
    };
    group.bench_function("posted", |bencher| {
        bencher.iter(|| encoder.server(black_box(1), posted).len());
    });
    for bytes in BODY_BYTES {
        let body = vec![0x61; bytes];
        let entry = Deliver { inbox_seq: InboxSeq::new(5), event: message(&body) };
        group.bench_function(BenchmarkId::new("deliver", bytes), |bencher| {
            bencher.iter(|| encoder.server(black_box(0), entry).len());
        });
        let template = encoder.deliver_template(&entry.event);
        let (offset, frame) = (template.inbox_seq_offset(), template.bytes().to_vec());
        let mut copy = Vec::with_capacity(frame.len());
        group.bench_function(BenchmarkId::new("copy_and_patch", bytes), |bencher| {
            bencher.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(&frame));
                patch_inbox_seq(&mut copy, offset, InboxSeq::new(6));
                copy.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
