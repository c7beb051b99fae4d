//! Stages 1 and 12 on the ring alone: `cargo bench -p benches --bench uring`.
//!
//! Both ends of every connection are on one ring and one thread, so each figure holds a send *and*
//! a receive through the kernel's loopback, and no wake-up of another thread. Left out: accepting
//! and closing (no part of a message's way), a network device, and what two processors win by
//! working at the same time (see `runtimes/`).

use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uring::{
    Completion, Descriptor, ListenOptions, Ring, RingOptions, Shots, Start, Token, listen,
};

const LISTENER: Token = Token::new(0, 0);
/// A frame of a chat line with its heads.
const FRAME_BYTES: usize = 180;
const BUFFER_BYTES: u32 = 2048;
/// Nothing takes so long unless a completion was lost.
const LOST: Duration = Duration::from_secs(20);

/// Connections with both ends on one ring: `ends[2 * n]` and `ends[2 * n + 1]` are a pair. An end's
/// slot is its index.
struct Loop {
    ring: Ring,
    ends: Vec<Descriptor>,
    sent: usize,
    received_bytes: usize,
}

fn end(index: usize) -> Token {
    Token::new(u32::try_from(index).expect("few ends"), 1)
}

impl Loop {
    fn new(pairs: usize) -> Self {
        let options = RingOptions { buffer_bytes: BUFFER_BYTES, ..RingOptions::default() };
        let mut ring = Ring::new(&options).expect("a kernel with io_uring");
        let listener = listen("127.0.0.1:0".parse().expect("loopback"), ListenOptions::default())
            .expect("a free port");
        let address = listener.local_address().expect("it listens");
        ring.accept(listener, LISTENER);
        let mut this = Self { ring, ends: Vec::new(), sent: 0, received_bytes: 0 };
        for _ in 0..pairs {
            this.ring.connect(LISTENER, address, None).expect("room for flights");
            // The two ends complete in either order; which is which does not matter here.
            let before = this.ends.len();
            while this.ends.len() < before + 2 {
                this.turn();
            }
        }
        for index in 0..this.ends.len() {
            this.ring.receive(this.ends[index], end(index), Shots::Many, Start::PollFirst);
        }
        this.ring.submit_and_wait(0, None).expect("a ring that works");
        this
    }

    /// Submits, waits for something, and takes everything there is.
    fn turn(&mut self) {
        self.ring.submit_and_wait(1, Some(LOST)).expect("a ring that works");
        while let Some(completion) = self.ring.next_completion() {
            match completion {
                Completion::Received { buffer, armed, .. } => {
                    assert!(armed, "there are more buffers than can be lent");
                    self.received_bytes += self.ring.buffer(&buffer).len();
                    self.ring.recycle(buffer);
                }
                Completion::Sent { bytes, result, .. } => {
                    assert_eq!(result.ok(), u32::try_from(bytes.len()).ok(), "all of it is sent");
                    self.sent += 1;
                }
                Completion::Accepted { descriptor, .. }
                | Completion::Connected { descriptor, .. } => self.ends.push(descriptor),
                Completion::Woken => {}
                other => panic!("not expected: {other:?}"),
            }
        }
    }

    /// Sends on each of these ends, and waits until the other ends have everything.
    fn send(&mut self, from: impl Iterator<Item = usize>, bytes: &Bytes) {
        let (sent, received_bytes) = (self.sent, self.received_bytes);
        let mut count = 0;
        for index in from {
            self.ring.send(self.ends[index], end(index), bytes.clone()).expect("room");
            count += 1;
        }
        while self.sent < sent + count || self.received_bytes < received_bytes + count * bytes.len()
        {
            self.turn();
        }
    }
}

fn turns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("uring");
    let mut pair = Loop::new(1);
    group.bench_function("an enter with nothing to do", |bencher| {
        bencher.iter(|| pair.ring.submit_and_wait(0, Some(Duration::ZERO)));
    });
    let frame = Bytes::from(vec![7; FRAME_BYTES]);
    group.bench_function("round trip of a frame", |bencher| {
        bencher.iter(|| {
            pair.send(std::iter::once(0), &frame);
            pair.send(std::iter::once(1), &frame);
        });
    });
    for count in [1, 32] {
        let mut many = Loop::new(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("send and receive, {count} in a turn"), |bencher| {
            bencher.iter(|| many.send((0..count).map(|pair| 2 * pair), &frame));
        });
    }
    // One send that fills 32 buffers: what a buffer costs that is lent and recycled, with the
    // kernel's two copies of its 2,048 bytes.
    let stream = Bytes::from(vec![7; 32 * BUFFER_BYTES as usize]);
    group.throughput(Throughput::Elements(32));
    group.bench_function("32 full buffers of a stream", |bencher| {
        bencher.iter(|| pair.send(std::iter::once(0), &stream));
    });
    group.finish();
}

criterion_group!(benches, turns);
criterion_main!(benches);
