//! The way of a message does not allocate in a core once its memory has grown to the load: from the
//! received bytes to the sent ones, with sequencing, batches, fan-out, inboxes, folding and
//! trimming. The counting allocator stands for this test binary alone.
//!
//! Counted is `Shard::handle`; the virtual kernel, disk and clients around it allocate at will.

mod sim;

use std::cell::Cell;

use allocation_counter::measure;
use router::shard_map::ShardMap;
use wire::client::{ChannelCreate, Ping, Post};
use wire::{ChannelId, ChannelKind, DeviceId, Epoch, InboxSeq, Nonce, UserId};

use sim::client::From;
use sim::heard::Heard;
use sim::host::Host;
use sim::pace::Pace;
use sim::setup::{SHARDS, Setup};

const FRESH: From = From { epoch: Epoch::NONE, cursor: InboxSeq::ZERO, ticket: None };

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn counting(handle: &mut dyn FnMut()) {
    let counted = measure(handle);
    COUNT.set(COUNT.get() + counted.count_total);
}

/// Sessions, and the channel that all of them are in.
struct Crowd {
    host: Host,
    clients: Vec<usize>,
    channel: ChannelId,
    body: Vec<u8>,
    nonce: u64,
}

impl Crowd {
    /// One session for each of the users, on the cores where they live.
    fn new(users: &[UserId], body_bytes: usize) -> Self {
        let setup = Setup::cores(2).with(|limits| {
            limits.told.frames_per_second_max = 1 << 30;
            // A message longer than a receive buffer is put together in memory of its own.
            limits.ring.buffer_bytes = 16 * 1024;
        });
        let mut host = Host::new(setup, Pace::Even);
        let clients = users.iter().map(|user| {
            let core = host.core_of(*user);
            host.connect(core, *user, DeviceId(1), &FRESH)
        });
        let clients: Vec<usize> = clients.collect();
        host.settle();
        let channel = ChannelId::direct(users[0], users[1]);
        Self { host, clients, channel, body: vec![7; body_bytes], nonce: 0 }
    }

    /// As [`Self::new`], in a group.
    fn group(users: &[UserId], body_bytes: usize) -> Self {
        let mut crowd = Self::new(users, body_bytes);
        let (nonce, kind) = (Nonce(1), ChannelKind::Group);
        let members = users.into();
        crowd.host.say(crowd.clients[0], ChannelCreate { nonce, kind, title: "", members });
        crowd.host.settle();
        let mut heard = crowd.host.clients[crowd.clients[0]].heard.iter();
        let ready = heard.find_map(|heard| match heard {
            Heard::Ready { channel, .. } => Some(*channel),
            _ => None,
        });
        crowd.channel = ready.expect("the group is made");
        crowd
    }

    /// Two sessions post at once, `rounds` times, with everything that follows of it.
    fn talk(&mut self, rounds: u64) {
        for _ in 0..rounds {
            self.nonce += 1;
            for sender in 0..2 {
                let (channel, nonce, body) = (self.channel, Nonce(self.nonce), &self.body[..]);
                let post = Post { channel, nonce, kind: 0, body, retry: false };
                self.host.say(self.clients[sender], post);
            }
            self.host.settle();
            if self.nonce.is_multiple_of(100) {
                // Nobody is silent for long.
                for client in &self.clients {
                    self.host.say(*client, Ping { opaque: 1 });
                }
                self.host.tick(1);
            }
        }
    }

    /// Deliveries heard since the last call.
    fn heard(&mut self) -> usize {
        let mut count = 0;
        for client in &self.clients {
            let client = &mut self.host.clients[*client];
            let heard = client.heard.drain(..).chain(client.own.drain(..));
            count += heard.filter(|heard| matches!(heard, Heard::Entry(_))).count();
        }
        count
    }

    /// After `warm` rounds, `rounds` rounds allocate nothing.
    fn check(mut self, warm: u64, rounds: u64) {
        self.talk(warm);
        self.heard();
        self.host.around = counting;
        COUNT.set(0);
        self.talk(rounds);
        let members = self.clients.len();
        assert_eq!(self.heard() as u64, 2 * rounds * members as u64, "all of it arrived");
        assert_eq!(COUNT.get(), 0, "allocations in {rounds} rounds of {members} members");
    }
}

/// `count` users of each core.
fn users(count: usize) -> Vec<UserId> {
    let map = ShardMap::new(SHARDS, 2);
    let of = |core| {
        let users = (1..).filter_map(UserId::new);
        users.filter(move |user| map.core_of_user(*user).0 == core).take(count)
    };
    of(0).zip(of(1)).flat_map(|(one, other)| [one, other]).collect()
}

/// Folding begins when a core's journal spans 2,048 batches, and the pools, windows and queues have
/// grown by then: the rounds before and after it are warm.
const WARM: u64 = 4_000;

#[test]
fn a_pair_across_two_cores_does_not_allocate() {
    Crowd::new(&users(1), 100).check(WARM, 1_000);
}

#[test]
fn a_group_of_a_hundred_does_not_allocate() {
    Crowd::group(&users(50), 100).check(WARM, 500);
}

/// A core's only recipient of a long body gets it in memory of its own: one send instead of two.
#[test]
fn bodies_that_are_shared_do_not_allocate() {
    Crowd::group(&users(5), 5_000).check(2 * WARM, 500);
}
