//! Random lives of a few users, with crashes: whatever happens, what was acknowledged is in every
//! recipient's inbox once and in order.

use wire::client::{CursorAck, MarkRead, Post, Sync};
use wire::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, Seq, UserId};

use crate::sim::client::From;
use crate::sim::heard::{Entry, Heard, What};
use crate::sim::host::Host;
use crate::sim::pace::{Pace, Rng};
use crate::sim::setup::Setup;

const USERS: u64 = 5;
const ACTS: usize = 400;
const SEEDS: u64 = 30;

/// What a device keeps across its connections.
struct Device {
    user: UserId,
    client: Option<usize>,
    epoch: Epoch,
    cursor: InboxSeq,
    nonce: u64,
    /// Its posts, by nonce: where to, and the place that was acknowledged.
    posts: Vec<(ChannelId, Option<Seq>)>,
    /// What it was sent, by place.
    kept: Vec<Option<(ChannelId, Seq)>>,
}

struct Life {
    host: Host,
    rng: Rng,
    devices: Vec<Device>,
}

fn body(nonce: u64) -> Vec<u8> {
    vec![b'x'; usize::try_from(nonce * 97 % 3000).expect("small")]
}

impl Life {
    fn new(seed: u64) -> Self {
        let setup = Setup::cores(2).with(|limits| {
            limits.told.sync_page_max = 3;
            limits.told.posts_in_flight_max = 3;
            limits.conversations_max = 4;
            limits.sequencer.channels_max = 4;
            limits.sequencer.nonce_window = 8;
            limits.silence_ticks = u32::MAX;
        });
        let device = |number| Device {
            user: UserId::new(number).expect("from 1"),
            client: None,
            epoch: Host::epoch(),
            cursor: InboxSeq::ZERO,
            nonce: 0,
            posts: Vec::new(),
            kept: Vec::new(),
        };
        let devices = (1..=USERS).map(device).collect();
        Self { host: Host::new(setup, Pace::seeded(seed)), rng: Rng::new(!seed), devices }
    }

    fn act(&mut self) {
        let index = self.rng.below(self.devices.len());
        match self.rng.below(100) {
            0..45 => self.post(index),
            45..55 => self.connect(index),
            55..58 => self.cut(index),
            58..62 => self.repeat(index),
            62..66 => self.read(index),
            66..70 => self.host.holds_commits ^= true,
            70..72 => self.host.disk.set_full(self.rng.below(2) == 0),
            72..74 => {
                let cores = u16::try_from(1 + self.rng.below(3)).expect("few");
                self.host.crash(self.rng.next(), cores);
                self.devices.iter_mut().for_each(|device| device.client = None);
            }
            74..80 => self.host.tick(1),
            80..85 => self.host.settle(),
            _ => {}
        }
        for _ in 0..self.rng.below(30) {
            let steps = self.host.steps();
            if steps.is_empty() {
                break;
            }
            self.host.take(steps[self.rng.below(steps.len())]);
        }
        (0..self.devices.len()).for_each(|index| self.hear(index));
    }

    fn connect(&mut self, index: usize) {
        let device = &mut self.devices[index];
        let from = From { epoch: device.epoch, cursor: device.cursor, ticket: None };
        let core = self.rng.below(self.host.cores());
        device.client = Some(self.host.connect(core, device.user, DeviceId(1), &from));
    }

    fn cut(&mut self, index: usize) {
        if let Some(client) = self.devices[index].client.take() {
            self.host.cut(client);
        }
    }

    fn post(&mut self, index: usize) {
        let other = UserId::new(1 + self.rng.next() % USERS).expect("from 1");
        let device = &mut self.devices[index];
        let Some(client) = device.client else { return };
        let channel = ChannelId::direct(device.user, other);
        device.nonce += 1;
        device.posts.push((channel, None));
        let (nonce, body) = (Nonce(device.nonce), body(device.nonce));
        self.host.say(client, Post { channel, nonce, kind: 0, body: &body, retry: false });
    }

    fn repeat(&mut self, index: usize) {
        let device = &self.devices[index];
        let Some(client) = device.client.filter(|_| device.nonce > 0) else { return };
        let number = 1 + self.rng.next() % device.nonce;
        let channel = device.posts[usize::try_from(number - 1).expect("small")].0;
        let body = body(number);
        let nonce = Nonce(number);
        self.host.say(client, Post { channel, nonce, kind: 0, body: &body, retry: true });
    }

    fn read(&mut self, index: usize) {
        let device = &self.devices[index];
        let Some(client) = device.client else { return };
        self.host.say(client, CursorAck { inbox_seq: device.cursor });
        if let Some(Some((channel, seq))) = device.kept.last().copied() {
            self.host.say(client, MarkRead { channel, seq });
        }
    }

    fn keep(&mut self, index: usize, entry: &Entry) {
        let device = &mut self.devices[index];
        let place = usize::try_from(entry.place.get()).expect("small");
        let what = entry.what.logged();
        if place <= device.kept.len() {
            assert_eq!(device.kept[place - 1], what, "{}: a place has one entry", device.user);
            return;
        }
        assert_eq!(place, device.kept.len() + 1, "{}: a gap", device.user);
        if let What::Message { body: Some(found), .. } = &entry.what {
            assert!(found.iter().all(|byte| *byte == b'x'));
        }
        device.kept.push(what);
        device.cursor = entry.place;
    }

    fn hear(&mut self, index: usize) {
        let Some(client) = self.devices[index].client else { return };
        let client_state = &mut self.host.clients[client];
        let mut heard: Vec<Heard> = client_state.heard.drain(..).collect();
        heard.extend(client_state.own.drain(..));
        let place = |heard: &Heard| match heard {
            Heard::Entry(entry) => entry.place.get(),
            Heard::Page { next, .. } => next.get(),
            _ => 0,
        };
        heard.sort_by_key(place); // Own copies are apart; between them order is by place.
        for heard in heard {
            match heard {
                Heard::Entry(entry) => self.keep(index, &entry),
                Heard::Page { entries, next, end } => {
                    entries.iter().for_each(|entry| self.keep(index, entry));
                    if !end {
                        self.host.say(client, Sync { after: next, limit: 0 });
                    }
                }
                Heard::Posted { nonce, seq, .. } => {
                    let number = usize::try_from(nonce.0).expect("small");
                    let first = *self.devices[index].posts[number - 1].1.get_or_insert(seq);
                    assert_eq!(seq, first, "{nonce}: a repeat gets the first answer");
                }
                Heard::Lost => self.devices[index].client = None,
                _ => {}
            }
        }
    }

    /// Everything works again, everyone comes back and gets what she missed.
    fn end(mut self, seed: u64) {
        self.host.holds_commits = false;
        self.host.disk.set_full(false);
        self.host.tick(10);
        for index in 0..self.devices.len() {
            self.hear(index);
            self.connect(index);
            for _ in 0..ACTS {
                self.host.tick(1);
                let before = self.devices[index].kept.len();
                self.hear(index);
                self.host.settle();
                if self.devices[index].kept.len() == before {
                    break;
                }
            }
            self.host.tick(1);
            self.hear(index);
        }
        for sender in &self.devices {
            for (channel, acknowledged) in &sender.posts {
                let (one, other) = channel.pair().expect("only pairs");
                for user in [one, other] {
                    let inbox = &self.devices[usize::try_from(user.get()).expect("small") - 1];
                    let seqs: Vec<u64> = inbox.of(*channel).collect();
                    let dense: Vec<u64> = (1..=seqs.len() as u64).collect();
                    assert_eq!(seqs, dense, "seed {seed}: {channel} in {user}'s inbox");
                    let has = acknowledged.is_none_or(|seq| seqs.contains(&seq.get()));
                    assert!(has, "seed {seed}: {channel}{acknowledged:?} is not in {user}'s inbox");
                }
            }
        }
        self.host.disk.check();
    }
}

impl Device {
    /// The places of a channel in its inbox, in order.
    fn of(&self, channel: ChannelId) -> impl Iterator<Item = u64> + '_ {
        let kept = self.kept.iter().flatten();
        kept.filter(move |(of, _)| *of == channel).map(|(_, seq)| seq.get())
    }
}

#[test]
fn what_was_acknowledged_is_in_every_inbox_once_and_in_order() {
    for seed in 0..SEEDS {
        let mut life = Life::new(seed);
        for _ in 0..ACTS {
            life.act();
        }
        life.end(seed);
    }
}
