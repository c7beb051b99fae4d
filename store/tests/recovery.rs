//! A crash at any moment loses nothing that was acknowledged and leaves every inbox gapless and
//! complete.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Step::{self, Add, Commit, Create, FanOut, Fold, Post, Remove, Trim};
use common::{World, direct, group, last_of, recover_and_verify, user, verify};
use proptest::prelude::*;
use std::time::Duration;
use store::{
    ChunkKey, Engine, Fault, JournalKey, Key, Memory, MessageKey, Options, Rocks, SyncMode, Table,
    check, recover,
};
use wire::{BatchNumber, ChannelId, CoreId, InboxSeq, Seq};

fn channels() -> Vec<ChannelId> {
    vec![group(10), group(11), direct(1, 2), direct(3, 3)]
}

/// Creation, messages, members coming, going and coming again, fan-outs cut at odd places, folds
/// and trims on both cores.
fn script() -> Vec<Step> {
    let (g, h, d, own) = (group(10), group(11), direct(1, 2), direct(3, 3));
    vec![
        Create(g),
        Post(g),
        Post(d),
        Commit(0),
        Commit(1),
        FanOut(1, 3),
        Commit(1),
        FanOut(0, 2),
        Post(g),
        Add(g, 4),
        Post(g),
        Commit(0),
        Fold(1),
        Commit(1),
        FanOut(0, 100),
        Commit(0),
        Create(h),
        Post(h),
        Post(own),
        Commit(1),
        Remove(g, 2),
        Post(g),
        Commit(0),
        Trim(0),
        Commit(0),
        FanOut(1, 100),
        Trim(1),
        Commit(1),
        Fold(0),
        Fold(1),
        Commit(0),
        Commit(1),
        Add(g, 2),
        Post(g),
        Commit(0),
        FanOut(0, 4),
        Commit(0),
        Remove(g, 3),
        Post(g),
        Post(d),
        Commit(0),
        Commit(1),
        Trim(0),
        Trim(1),
        Commit(0),
        Commit(1),
        FanOut(1, 1),
        Commit(1),
    ]
}

fn assert_acknowledged<E: Engine>(engine: &E, world: &World<Memory>) {
    for (channel, seq) in &world.acknowledged {
        assert!(last_of(engine, *channel) >= *seq, "{channel} lost {seq}");
    }
}

#[test]
fn every_prefix_of_a_history_recovers_to_complete_inboxes() {
    let script = script();
    for steps in 0..=script.len() {
        let mut world = World::new(Memory::new(), SyncMode::Always);
        for step in &script[..steps] {
            assert!(world.step(*step));
        }
        let after = world.engine.crash(0);
        recover_and_verify(&after, &channels());
        assert_acknowledged(&after, &world);
    }
}

#[test]
fn a_commit_that_fails_is_there_whole_or_not_at_all() {
    let script = script();
    for steps in 0..script.len() {
        let mut world = World::new(Memory::new(), SyncMode::Always);
        for step in &script[..steps] {
            assert!(world.step(*step));
        }
        world.engine.set_fault(Fault::Fail);
        for core in [0, 1] {
            assert!(!world.step(Commit(core)));
        }
        for seed in 0..4 {
            let after = world.engine.crash(seed);
            recover_and_verify(&after, &channels());
            assert_acknowledged(&after, &world);
        }
    }
}

#[test]
fn a_crash_at_every_write_of_a_recovery_is_recovered_from() {
    let script = script();
    let mut interrupted = 0;
    for steps in 0..=script.len() {
        let mut world = World::new(Memory::new(), SyncMode::Always);
        for step in &script[..steps] {
            assert!(world.step(*step));
        }
        for writes in 0.. {
            let after = world.engine.crash(0);
            after.set_fault(Fault::FailAfter(writes));
            if recover(&after).is_ok() {
                break;
            }
            interrupted += 1;
            for seed in 0..2 {
                recover_and_verify(&after.crash(seed), &channels());
            }
        }
    }
    assert!(interrupted > script.len());
}

#[test]
fn a_second_recovery_finds_nothing_to_do() {
    let mut world = World::new(Memory::new(), SyncMode::Always);
    script().into_iter().for_each(|step| assert!(world.step(step)));
    let after = world.engine.crash(0);
    let first = recover(&after).unwrap();
    assert!(first.batches > 0 && first.folded > 0 && first.completed > 0, "{first:?}");
    let second = recover(&after).unwrap();
    assert_eq!((second.batches, second.folded, second.completed), (0, 0, 0));
}

#[test]
fn rocksdb_recovers_the_same_after_every_commit() {
    let script = script();
    let options = Options { memtable_bytes: 1 << 20, ..Options::default() };
    let directory = tempfile::tempdir().unwrap();
    let open = |must_exist| Rocks::open(directory.path(), must_exist, &options).unwrap();
    let mut world = World::new(open(false), SyncMode::Always);
    for step in script {
        assert!(world.step(step));
        if let Commit(_) = step {
            let acknowledged = world.acknowledged.clone();
            drop(world);
            let engine = open(true);
            recover_and_verify(&engine, &channels());
            for (channel, seq) in &acknowledged {
                assert!(last_of(&engine, *channel) >= *seq);
            }
            world = World::new(engine, SyncMode::Always);
            world.acknowledged = acknowledged;
        }
    }
}

#[test]
fn holes_and_damage_that_recovery_meets_are_named() {
    let message = MessageKey { channel: group(10), seq: Seq::new(2) }.key();
    let journal = JournalKey { core: CoreId(0), number: BatchNumber::new(1) }.key();
    type Damage<'a> = Box<dyn Fn(&Memory) + 'a>;
    let rows: [(&str, Damage<'_>, &str); 5] = [
        (
            "a message lost",
            Box::new(|engine| engine.lose(Table::Messages, message.as_ref())),
            "channel c10: message #2 is missing, found #3",
        ),
        (
            "a message damaged",
            Box::new(|engine| engine.corrupt(Table::Messages, message.as_ref(), &[1, 2])),
            "key 0000000000000000000000000000000a0000000000000002: the record is cut short",
        ),
        (
            "a journal record of the future",
            Box::new(|engine| engine.corrupt(Table::Journal, journal.as_ref(), &[9])),
            "table journal, key 00000000000000000001: unknown record format",
        ),
        (
            "a journal record lost",
            Box::new(|engine| engine.lose(Table::Journal, journal.as_ref())),
            "inbox of u1: entry",
        ),
        (
            "a foreign journal key",
            Box::new(|engine| engine.corrupt(Table::Journal, b"x", &[1])),
            "table journal, key 78: the key is too short",
        ),
    ];
    for (name, damage, expected) in rows {
        let mut world = World::new(Memory::new(), SyncMode::Always);
        for step in [Create(group(10)), Post(group(10)), Post(group(10)), FanOut(0, 9), Commit(0)] {
            assert!(world.step(step));
        }
        for step in [FanOut(0, 1), FanOut(1, 1), Commit(0), Commit(1), FanOut(1, 9), Commit(1)] {
            assert!(world.step(step));
        }
        let after = world.engine.crash(0);
        damage(&after);
        if name == "a journal record lost" {
            // The first record of core 1 names inbox entry 1 of user 1 or 3.
            let first = JournalKey { core: CoreId(1), number: BatchNumber::new(1) }.key();
            after.lose(Table::Journal, first.as_ref());
        }
        let error = recover(&after).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

/// A place of 0 made recovery subtract below zero, and the last of all numbers had whoever read on
/// from it add beyond the end: a damaged block took the process down instead of being named.
#[test]
fn a_place_that_no_log_reaches_is_named_as_damage_and_panics_nowhere() {
    let place = |channel: u64, seq: u64| [0, channel, seq].map(u64::to_le_bytes).concat();
    let sequenced = |seq| [&[1][..], &1_u32.to_le_bytes(), &place(10, seq)].concat();
    let item = |seq| [&[1, 0][..], &place(10, seq)].concat();
    let journal = JournalKey { core: CoreId(0), number: BatchNumber::new(1) }.key();
    let chunk = |first| ChunkKey { user: user(1), first: InboxSeq::new(first) }.key();
    let message = MessageKey { channel: direct(1, 2), seq: Seq::new(u64::MAX) }.key();
    let (zero, beyond) = ("a sequence number is 0", "beyond all that are reached");
    let rows = [
        ("a journal's message 0", Table::Journal, journal, sequenced(0), zero),
        ("a journal's last message", Table::Journal, journal, sequenced(u64::MAX), beyond),
        ("an entry for message 0", Table::Inbox, chunk(1), item(0), zero),
        ("an entry for the last message", Table::Inbox, chunk(1), item(u64::MAX), beyond),
        ("the last chunk", Table::Inbox, chunk(u64::MAX), item(1), beyond),
        ("the last message", Table::Messages, message, vec![1], beyond),
    ];
    for (name, table, key, record, expected) in rows {
        let engine = Memory::new();
        engine.corrupt(table, key.as_ref(), &record);
        let found = match table {
            Table::Journal => recover(&engine).map(|_| ()),
            _ => check(&engine).map(|_| ()),
        };
        let error = found.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel =
        prop_oneof![Just(group(10)), Just(group(11)), Just(direct(1, 2)), Just(direct(3, 3))];
    let a_group = prop_oneof![Just(group(10)), Just(group(11))];
    let step = prop_oneof![
        4 => channel.prop_map(Post),
        1 => a_group.clone().prop_map(Create),
        1 => (a_group.clone(), 1..6_u64).prop_map(|(channel, who)| Add(channel, who)),
        1 => (a_group, 2..6_u64).prop_map(|(channel, who)| Remove(channel, who)),
        4 => (0..2_u16).prop_map(Commit),
        4 => (0..2_u16, 1..9_usize).prop_map(|(core, count)| FanOut(core, count)),
        2 => (0..2_u16).prop_map(Fold),
        2 => (0..2_u16).prop_map(Trim),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_with_crashes_keeps_inboxes_gapless_and_complete(
        runs in proptest::collection::vec((steps(), any::<u64>(), any::<bool>()), 1..4),
    ) {
        let mut engine = Memory::new();
        for (steps, seed, fails) in runs {
            let mut world = World::new(engine, SyncMode::Always);
            for step in steps {
                prop_assert!(world.step(step));
            }
            if fails {
                world.engine.set_fault(Fault::Fail);
                world.step(Commit(0));
            }
            engine = world.engine.crash(seed);
            recover_and_verify(&engine, &channels());
            assert_acknowledged(&engine, &world);
        }
    }

    #[test]
    fn in_interval_mode_a_crash_takes_only_the_end(steps in steps(), seed: u64) {
        let interval = SyncMode::Interval(Duration::from_millis(7));
        let mut world = World::new(Memory::new(), interval);
        for step in steps {
            prop_assert!(world.step(step));
        }
        let engine = world.engine.crash(seed);
        recover_and_verify(&engine, &channels());
        verify(&engine, &channels());
    }
}

#[test]
fn a_fan_out_that_never_came_is_found() {
    // The journal is lost with the fan-outs that it would have completed: (what was done before,
    // who is missing what).
    let (g, d) = (group(10), direct(1, 2));
    // A group of which everybody has heard, in chunks.
    let everywhere = [FanOut(0, 9), FanOut(1, 9), Commit(0), Commit(1)];
    let made =
        [&[Create(g), Commit(0)][..], &everywhere, &[Fold(0), Fold(1), Commit(0), Commit(1)]]
            .concat();
    let rows: [(&str, &[Step], &[&str]); 3] = [
        (
            "none of a channel's",
            &[Create(g), Post(d), Commit(0), Commit(1)],
            &[
                "inbox of u1: c10 #1",
                "inbox of u2: c10 #1",
                "inbox of u3: c10 #1",
                "inbox of u1: c1:2 #1",
                "inbox of u2: c1:2 #1",
            ],
        ),
        (
            "the last of a channel",
            &[&made[..], &[Post(g), Commit(0)]].concat(),
            &["inbox of u1: c10 #2", "inbox of u2: c10 #2", "inbox of u3: c10 #2"],
        ),
        (
            "the coming of one",
            &[&made[..], &[Add(g, 4), Commit(0), FanOut(1, 9), Commit(1), Fold(1), Commit(1)]]
                .concat(),
            &["inbox of u2: c10 #2", "inbox of u4: c10 #2"],
        ),
    ];
    for (name, steps, expected) in rows {
        let mut world = World::new(Memory::new(), SyncMode::Always);
        steps.iter().for_each(|step| assert!(world.step(*step)));
        let engine = world.engine.crash(0);
        for core in 0..common::CORES {
            for number in 1..20 {
                let key = JournalKey { core: CoreId(core), number: BatchNumber::new(number) };
                engine.lose(Table::Journal, key.key().as_ref());
            }
        }
        let report = check(&engine).unwrap();
        let told: Vec<String> = report.torn.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), expected.len(), "{name}: {told:?}");
        for expected in expected {
            assert!(
                told.iter().any(|told| told.contains(expected)),
                "{name}: {expected}: {told:?}"
            );
        }
    }
}
