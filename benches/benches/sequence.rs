//! Stage 5: a post gets its place. `cargo bench -p benches --bench sequence`.
//!
//! Each round makes the offer (its body is shared, not copied), lets the channel judge it and tells
//! the channel that the entry is durable. The window of nonces is full in all rows, as it is in any
//! channel that has been in use: each send also forgets one. Left out: loading a channel, and the
//! search of the log for an old retry; both wait for a disk.

use benches::subjects::{DEVICE, NOW, body, group, user};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use router::nonces::{NONCE_WINDOW_DEFAULT, SendKey};
use router::sequencer::{
    Ask, Loaded, Offer, Origin, Sequenced, Sequencer, SequencerLimits, Verdict,
};
use router::sessions::ConnId;
use router::shard_map::ShardMap;
use wire::{ChannelId, CoreId, Member, Nonce, Role, Seq, UserId};

/// Enough channels that their state is not in the processor's cache.
const CHANNELS_COLD: u64 = 16 * 1024;

/// A window for each of so many channels that they fit into a small machine's memory.
const NONCE_WINDOW_COLD: usize = 16;

const MEMBERS: u64 = 100;

/// Offers posts under nonces that ascend.
struct Poster {
    sequencer: Sequencer,
    body: Bytes,
    nonce: u64,
}

impl Poster {
    fn new(nonce_window: usize) -> Self {
        let limits =
            SequencerLimits { group_members_max: 500, nonce_window, channels_max: 1 << 20 };
        let sequencer = Sequencer::new(ShardMap::new(4096, 2), limits);
        Self { sequencer, body: body(), nonce: 0 }
    }

    /// Brings a channel into memory and fills its window.
    fn warm(&mut self, channel: ChannelId, sender: UserId, members: &[Member], sends: usize) {
        let first = self.post(channel, sender, 0);
        assert!(matches!(self.sequencer.offer(first, NOW), Verdict::Parked(Some(_))));
        let (last, members) = (Seq::ZERO, members.to_vec());
        let loaded = Loaded { last, last_created_at: NOW, members, recent: Vec::new() };
        self.sequencer.handle_loaded(channel, loaded);
        let verdict = self.sequencer.next_parked(channel, NOW).expect("it waited");
        let Verdict::Sequenced(sequenced) = verdict else { panic!("refused: {verdict:?}") };
        self.sequencer.handle_committed(channel, sequenced.entry.seq);
        for _ in 0..sends {
            self.send(channel, sender);
        }
    }

    fn post(&self, channel: ChannelId, sender: UserId, nonce: u64) -> Offer {
        let conn = ConnId { slot: 1, generation: 1 };
        Offer {
            origin: Origin { core: CoreId(0), conn, request: 1 },
            channel,
            key: SendKey { sender, device: DEVICE, nonce: Nonce(nonce) },
            retry: false,
            fingerprint: nonce,
            ask: Ask::Post { kind: 0, body: self.body.clone() },
        }
    }

    /// What is measured.
    fn send(&mut self, channel: ChannelId, sender: UserId) -> Sequenced {
        self.nonce += 1;
        let offer = self.post(channel, sender, self.nonce);
        let verdict = self.sequencer.offer(offer, NOW);
        let Verdict::Sequenced(sequenced) = verdict else { panic!("not placed: {verdict:?}") };
        self.sequencer.handle_committed(channel, sequenced.entry.seq);
        sequenced
    }
}

fn posts(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("sequence/post");
    let pair = ChannelId::direct(user(1), user(2));
    let mut poster = Poster::new(NONCE_WINDOW_DEFAULT);
    poster.warm(pair, user(1), &[], NONCE_WINDOW_DEFAULT);
    bench.bench_function("to a pair", |bencher| {
        bencher.iter(|| poster.send(pair, user(1)));
    });
    let member = |number| Member {
        user: user(number),
        role: if number == 1 { Role::Owner } else { Role::Member },
        joined: Seq::ZERO.next(),
        left: None,
    };
    let members: Vec<Member> = (1..=MEMBERS).map(member).collect();
    poster.warm(group(9), user(1), &members, NONCE_WINDOW_DEFAULT);
    bench.bench_function("to a group of 100", |bencher| {
        bencher.iter(|| poster.send(group(9), user(1)));
    });
    let mut cold = Poster::new(NONCE_WINDOW_COLD);
    let pair_of = |number| ChannelId::direct(user(2 * number + 1), user(2 * number + 2));
    for number in 0..CHANNELS_COLD {
        cold.warm(pair_of(number), user(2 * number + 1), &[], NONCE_WINDOW_COLD);
    }
    let mut at = 0;
    bench.bench_function("to one of 16,384 pairs", |bencher| {
        bencher.iter(|| {
            // An odd stride visits all of them, in an order that no prefetcher follows.
            at = (at + 6_311) % CHANNELS_COLD;
            cold.send(pair_of(at), user(2 * at + 1))
        });
    });
    bench.finish();
}

fn repeats(criterion: &mut Criterion) {
    let pair = ChannelId::direct(user(1), user(2));
    let mut poster = Poster::new(NONCE_WINDOW_DEFAULT);
    poster.warm(pair, user(1), &[], NONCE_WINDOW_DEFAULT);
    criterion.bench_function("sequence/repeat", |bencher| {
        bencher.iter(|| {
            let offer = poster.post(pair, user(1), poster.nonce);
            let verdict = poster.sequencer.offer(offer, NOW);
            assert!(matches!(verdict, Verdict::Repeat(..)), "{verdict:?}");
            verdict
        });
    });
}

criterion_group!(benches, posts, repeats);
criterion_main!(benches);
