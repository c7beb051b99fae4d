//! Stages 2 to 11 together: a post through the real shards, from the bytes of its frame to the
//! bytes of `Posted` and of every `Deliver`. `cargo bench -p benches --bench message`.
//!
//! One thread does the work of all cores in turn, so a figure is processor time, of all cores
//! together. *Alone* is one message at a time through idle cores, with all turns that takes; *in a
//! stream* each turn takes new posts while those of earlier turns are on their way, as under load.
//! Each device receives its own copy as well, without the body.
//!
//! Left out: the ring and the kernel (`uring`), the writer and the disk (`store`; a batch is
//! durable at once, and its journal record is not written), waking cores, acknowledgements of the
//! clients, and what it costs that another processor had a cache line last. Bodies have 64 bytes;
//! channels and users are few, so their state is in the cache (see `sequence`, `inbox` and
//! `sessions` for what it costs when it is not). The allocator is the product's.

#![forbid(unsafe_code)]

mod host;

use std::time::Duration;

use benches::stopwatch::processor_time;
use benches::subjects::{body, user};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use host::{Client, Host};
use wire::client::{ChannelCreate, Post};
use wire::{ChannelId, ChannelKind, Nonce, ServerBody, UserId, decode_server};
use ws::{Role, Session};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pairs that talk, and so posts of a turn in a stream.
const PAIRS: usize = 32;

/// Members of the group.
const MEMBERS: u64 = 100;

/// Turns whose frames are made beforehand, outside of the measured time.
const TURNS: u64 = 16;

/// Who posts where.
struct Talk {
    host: Host,
    /// Each posts to this channel.
    posters: Vec<(Client, ChannelId)>,
    /// Devices that get an entry of each message, the sender's among them.
    recipients: u64,
    body: Bytes,
    nonce: u64,
    /// Posted since the counts were `before`.
    posted: u64,
    before: (u64, u64),
}

impl Talk {
    fn new(host: Host, posters: Vec<(Client, ChannelId)>, recipients: u64) -> Self {
        let (body, before) = (body(), totals(&host));
        let mut talk = Self { host, posters, recipients, body, nonce: 1, posted: 0, before };
        // Channels and inboxes are loaded, windows and pools grow to their size.
        talk.stream(2048);
        talk
    }

    /// Pairs whose second user lives on the same core, or on the other one.
    fn pairs(cores: u16) -> Self {
        let mut host = Host::new(cores);
        let mut posters = Vec::new();
        let mut numbers = 1..;
        let mut next = |host: &Host, core| -> UserId {
            numbers.by_ref().map(user).find(|user| host.core_of(*user) == core).expect("many")
        };
        for _ in 0..PAIRS {
            let users = [next(&host, 0), next(&host, cores - 1)];
            let [client, _] = users.map(|user| host.connect(user));
            posters.push((client, ChannelId::direct(users[0], users[1])));
        }
        Self::new(host, posters, 2)
    }

    /// A group of a hundred, over all cores; its owner posts.
    fn group(cores: u16) -> Self {
        let mut host = Host::new(cores);
        let clients: Vec<Client> = (1..=MEMBERS).map(|number| host.connect(user(number))).collect();
        let owner = clients[0];
        let members: Vec<UserId> = clients[1..].iter().map(|client| client.user).collect();
        owner.listen(&mut host);
        let (nonce, kind) = (Nonce(1), ChannelKind::Group);
        let members = members.as_slice().into();
        let mut bytes = host.frame(ChannelCreate { nonce, kind, title: "a hundred", members });
        host.hear(owner, &mut bytes);
        host.settle();
        let (_, mut tape) = host.tape.take().expect("it was begun");
        let channel = channel_made(&mut tape);
        Self::new(host, vec![(owner, channel)], MEMBERS)
    }

    /// The frames of one turn: a post from each poster.
    fn frames(&mut self) -> Vec<Vec<u8>> {
        let Self { host, body, nonce, posted, .. } = self;
        let mut frame = |&(_, channel): &(Client, ChannelId)| {
            *nonce += 1;
            *posted += 1;
            host.frame(Post { channel, nonce: Nonce(*nonce), kind: 0, body, retry: false })
        };
        self.posters.iter().map(&mut frame).collect()
    }

    /// Turns in each of which everybody posts; how long they took, without making the frames.
    fn stream(&mut self, turns: u64) -> Duration {
        self.in_parts(turns, |talk, frames| {
            for (frame, (client, _)) in frames.iter_mut().zip(&talk.posters) {
                talk.host.hear(*client, frame);
            }
            talk.host.turn();
        })
    }

    /// Messages one at a time, each of which is delivered and all is quiet again before the next.
    fn alone(&mut self, messages: u64) -> Duration {
        let turns = messages.div_ceil(self.posters.len() as u64);
        let elapsed = self.in_parts(turns, |talk, frames| {
            for (frame, (client, _)) in frames.iter_mut().zip(&talk.posters) {
                talk.host.hear(*client, frame);
                talk.host.settle();
            }
        });
        let done = turns * self.posters.len() as u64;
        elapsed.mul_f64(messages as f64 / done as f64)
    }

    /// Makes the frames of some turns, then has them heard, which is what is timed; and so on.
    fn in_parts(&mut self, turns: u64, hear: impl Fn(&mut Self, &mut [Vec<u8>])) -> Duration {
        let (mut elapsed, mut left) = (Duration::ZERO, turns);
        while left > 0 {
            let count = left.min(TURNS);
            let mut turns: Vec<_> = (0..count).map(|_| self.frames()).collect();
            elapsed += processor_time(|| turns.iter_mut().for_each(|frames| hear(self, frames)));
            left -= count;
        }
        elapsed
    }

    /// Everything was posted and everybody got all of it, or the figures are worth nothing.
    fn check(&mut self) {
        self.host.settle();
        let (posted, delivered) = totals(&self.host);
        let expected = (self.before.0 + self.posted, self.before.1 + self.posted * self.recipients);
        assert_eq!((posted, delivered), expected, "sequenced and delivered");
    }
}

/// What all cores together have given a place, and delivered.
fn totals(host: &Host) -> (u64, u64) {
    host.counts().fold((0, 0), |(sequenced, delivered), counts| {
        (sequenced + counts.sequenced, delivered + counts.delivered)
    })
}

/// The channel that the answer on this tape speaks of.
fn channel_made(tape: &mut [u8]) -> ChannelId {
    let mut session = Session::new(Role::Client, 1 << 20);
    let mut input = tape;
    while let Some(event) = session.next_event(&mut input).expect("a gateway keeps RFC 6455") {
        let ws::Event::Binary(frame) = event else { continue };
        let frame = decode_server(frame).expect("a gateway sends valid frames");
        if let ServerBody::ChannelReady(ready) = frame.body {
            return ready.channel;
        }
    }
    panic!("no channel was made");
}

fn pairs(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("message/pair");
    for (name, cores) in [("on one core", 1), ("over two cores", 2)] {
        let mut talk = Talk::pairs(cores);
        bench.throughput(Throughput::Elements(1));
        bench.bench_function(BenchmarkId::new("alone", name), |bencher| {
            bencher.iter_custom(|messages| talk.alone(messages));
        });
        bench.throughput(Throughput::Elements(PAIRS as u64));
        bench.bench_function(BenchmarkId::new("in a stream, 32 a turn", name), |bencher| {
            bencher.iter_custom(|turns| talk.stream(turns));
        });
        talk.check();
    }
    bench.finish();
}

/// An element is a delivery; the sender's own copy is one of the hundred.
fn groups(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("message/group of 100");
    bench.throughput(Throughput::Elements(MEMBERS));
    for (name, cores) in [("on one core", 1), ("over two cores", 2)] {
        let mut talk = Talk::group(cores);
        bench.bench_function(BenchmarkId::new("alone", name), |bencher| {
            bencher.iter_custom(|messages| talk.alone(messages));
        });
        bench.bench_function(BenchmarkId::new("in a stream, 1 a turn", name), |bencher| {
            bencher.iter_custom(|turns| talk.stream(turns));
        });
        talk.check();
    }
    bench.finish();
}

criterion_group!(benches, pairs, groups);
criterion_main!(benches);
