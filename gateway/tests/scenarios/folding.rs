//! Folding and trimming, while people talk and come back: long runs, checked at their end.

use wire::client::{CursorAck, MarkRead, Ping, Post, Sync};
use wire::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, Seq, UserId};

use crate::sim::client::From;
use crate::sim::heard::Heard;
use crate::sim::host::Host;
use crate::sim::pace::Pace;
use crate::sim::setup::Setup;

const FRESH: From = From { epoch: Epoch::NONE, cursor: InboxSeq::ZERO, ticket: None };

/// Batches of a core after which its journal is folded; twice that is more than enough.
const ROUNDS: u64 = 2 * router::inbox::JOURNAL_BATCHES_MAX;

fn user(number: u64) -> UserId {
    UserId::new(number).expect("users are numbered from 1")
}

/// All places of an inbox that a device is sent which begins at `cursor`.
fn places_after(host: &mut Host, number: u64, cursor: u64) -> Vec<u64> {
    let from = From { epoch: Host::epoch(), cursor: InboxSeq::new(cursor), ticket: None };
    let client = host.connect(0, user(number), DeviceId(9), &from);
    let mut places = Vec::new();
    loop {
        host.settle();
        let heard = std::mem::take(&mut host.clients[client].heard);
        let mut wanted = None;
        for heard in heard {
            if let Heard::Page { entries, next, end } = heard {
                places.extend(entries.iter().map(|entry| entry.place.get()));
                wanted = (!end).then_some(next);
            }
        }
        let Some(after) = wanted else { break };
        host.say(client, Sync { after, limit: 0 });
    }
    host.cut(client);
    host.settle();
    places
}

#[test]
fn a_journal_that_is_folded_and_trimmed_loses_nothing_live_or_after_a_crash() {
    let setup = Setup::cores(2).with(|limits| limits.told.frames_per_second_max = 1 << 30);
    let mut host = Host::new(setup, Pace::Even);
    let clients = [1, 2].map(|number| host.connect(0, user(number), DeviceId(1), &FRESH));
    host.settle();
    let channel = ChannelId::direct(user(1), user(2));
    for nonce in 1..=ROUNDS {
        let post = Post { channel, nonce: Nonce(nonce), kind: 0, body: b"hi", retry: false };
        host.say(clients[0], post);
        host.settle();
        if nonce.is_multiple_of(100) {
            host.say(clients[1], MarkRead { channel, seq: Seq::new(nonce) });
            host.say(clients[1], CursorAck { inbox_seq: InboxSeq::new(nonce) });
            host.say(clients[0], Ping { opaque: 1 });
            host.tick(1);
        }
    }
    let folds = host.counts(0).folds + host.counts(1).folds;
    assert!(folds > 0, "the run is long enough");
    let journal = host.disk.journal_batches();
    assert!(journal < ROUNDS, "{journal} batches are left of the journal");
    let all: Vec<u64> = (1..=ROUNDS + ROUNDS / 100).collect();
    for number in [1, 2] {
        assert_eq!(places_after(&mut host, number, 0), all, "u{number}, live");
        assert_eq!(places_after(&mut host, number, 5000), all[5000..], "u{number}, live");
    }
    host.crash(3, 3);
    for number in [1, 2] {
        assert_eq!(places_after(&mut host, number, 0), all, "u{number}, after a crash");
    }
    host.disk.check();
}

#[test]
fn users_and_conversations_come_and_go_from_memory() {
    let setup = Setup::cores(2).with(|limits| {
        limits.told.frames_per_second_max = 1 << 30;
        limits.conversations_max = 8;
        limits.sequencer.channels_max = 8;
    });
    let mut host = Host::new(setup, Pace::seeded(5));
    let client = host.connect(0, user(1), DeviceId(1), &FRESH);
    host.settle();
    // Far more channels than are kept, spoken in by turns, of users who are not here.
    for nonce in 1..=ROUNDS {
        let channel = ChannelId::direct(user(1), user(2 + nonce % 40));
        host.say(client, Post { channel, nonce: Nonce(nonce), kind: 0, body: b"x", retry: false });
        host.settle();
        if nonce.is_multiple_of(100) {
            host.tick(1);
        }
    }
    for core in 0..2 {
        let counts = host.counts(core);
        assert!(counts.channels_in_memory < 20, "{counts:?}");
    }
    let count = usize::try_from(ROUNDS).expect("small");
    assert_eq!(places_after(&mut host, 1, 0).len(), count);
    let of_others: usize = (2..42).map(|number| places_after(&mut host, number, 0).len()).sum();
    assert_eq!(of_others, count);
    host.crash(1, 1);
    assert_eq!(places_after(&mut host, 1, 0).len(), count);
    host.disk.check();
}
