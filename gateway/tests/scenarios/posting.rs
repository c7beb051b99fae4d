//! Posting and delivering.

use router::shard_map::ShardMap;
use wire::{ChannelId, UserId};

use crate::sim::host::Host;
use crate::sim::pace::Pace;
use crate::sim::script::{Script, play, play_at};
use crate::sim::setup::{SHARDS, Setup};

#[test]
fn a_message_is_posted_and_delivered_once_it_is_durable() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        hold
        u1 > post u2 n7 "hi"
        u1 < nothing
        u2 < nothing
        commit
        u1 < posted n7 #1
        u2 < nothing                  // Its place in the inbox is not durable yet.
        commit
        u2 < @1 u1:u2#1 u1 "hi"
        tick 1
        u1 < @1 u1:u2#1 u1 own
        "#,
    );
}

#[test]
fn every_device_gets_it_and_the_sending_one_without_the_body() {
    play(
        &Setup::cores(3),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1.2 > hello
        u1.2 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u2.2 > hello
        u2.2 < welcome @0 Fresh
        u1 > post u2 n7 "hi"
        u1 < posted n7 #1
        u1.2 < @1 u1:u2#1 u1 "hi"
        u2 < @1 u1:u2#1 u1 "hi"
        u2.2 < @1 u1:u2#1 u1 "hi"
        u2.2 > post u1 n7 "ho"        // The same nonce of another device.
        u2.2 < posted n7 #2
        u1 < @1 u1:u2#1 u1 own
        u1 < @2 u1:u2#2 u2 "ho"
        u1.2 < @2 u1:u2#2 u2 "ho"
        u2 < @2 u1:u2#2 u2 "ho"
        tick 1
        u2.2 < @2 u1:u2#2 u2 own
        "#,
    );
}

#[test]
fn a_channel_with_oneself_is_one_inbox_entry() {
    play(
        &Setup::cores(2),
        r#"
        u5 > hello
        u5 < welcome @0 Fresh
        u5.2 > hello
        u5.2 < welcome @0 Fresh
        u5 > post u5 n1 "note"
        u5 < posted n1 #1
        u5.2 < @1 u5:u5#1 u5 "note"
        tick 1
        u5 < @1 u5:u5#1 u5 own
        "#,
    );
}

#[test]
fn a_repeat_gets_the_first_answer_also_before_that_is_durable() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        hold
        u1 > post u2 n7 "hi"
        u1 > post u2 n7 "hi"
        u1 > post u2 n8 "ho"
        u1 < nothing
        release
        u1 < posted n7 #1
        u1 < posted n7 #1
        u1 < posted n8 #2
        tick 1
        u1 < @1 u1:u2#1 u1 own
        u1 < @2 u1:u2#2 u1 own
        u1 > post u2 n7 "hi" retry
        u1 < posted n7 #1
        crash
        u1 < lost
        u1 > hello @2
        u1 < welcome @2 Resumed
        u1 > post u2 n7 "hi"
        u1 < posted n7 #1
        u1 > post u2 n8 "ho" retry
        u1 < posted n8 #2
        u1 > post u2 n8 "other"
        u1 < rejected n8 NonceReused
        u1 > post u2 n8 "other" retry
        u1 < rejected n8 NonceReused
        "#,
    );
}

#[test]
fn a_retry_beyond_the_window_is_found_in_the_log() {
    let setup = Setup::cores(2).with(|limits| {
        limits.sequencer.nonce_window = 2;
        limits.retry_scan_max = 3;
    });
    play(
        &setup,
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > post u1 n1 "a"
        u1 < posted n1 #1
        u1 > post u1 n2 "b"
        u1 < @1 u1:u1#1 u1 own
        u1 < posted n2 #2
        u1 > post u1 n3 "c"
        u1 < @2 u1:u1#2 u1 own
        u1 < posted n3 #3
        tick 1
        u1 < @3 u1:u1#3 u1 own
        u1 > post u1 n1 "a" retry
        u1 < posted n1 #1
        u1 > post u1 n1 "x" retry
        u1 < rejected n1 NonceReused
        u1 > post u1 n4 "d" retry     // Nowhere in the log: new after all.
        u1 < posted n4 #4
        tick 1
        u1 < @4 u1:u1#4 u1 own
        u1 > post u1 n5 "e"
        u1 < posted n5 #5
        tick 1
        u1 < @5 u1:u1#5 u1 own
        u1 > post u1 n6 "f"
        u1 < posted n6 #6
        tick 1
        u1 < @6 u1:u1#6 u1 own
        u1 > post u1 n1 "a" retry     // Further back than is searched.
        u1 < rejected n1 RetryTooOld
        "#,
    );
}

/// A connection that its device gave up may be served late: what is in line behind its Hello is no
/// first transmission then, whatever it says of itself.
#[test]
fn what_is_received_before_welcome_is_a_retry_also_where_its_device_does_not_say_so() {
    let setup = Setup::cores(2).with(|limits| {
        limits.sequencer.nonce_window = 1;
        limits.told.posts_in_flight_max = 1; // The second one stalls, and is still an early one.
    });
    let text = r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > post u1 n1 "a"
        u1 < posted n1 #1
        u1 > post u1 n2 "b"
        u1 < @1 u1:u1#1 u1 own
        u1 < posted n2 #2
        u1 > post u1 n3 "c"
        u1 < @2 u1:u1#2 u1 own
        u1 < posted n3 #3
        tick 1
        u1 < @3 u1:u1#3 u1 own
        u1 > cut
        u1/b > hello @3 &
        u1/b > post u1 n1 "a" &
        u1/b > post u1 n2 "b"
        u1/b < welcome @3 Resumed
        u1/b < posted n1 #1
        u1/b < posted n2 #2
        u1/b > post u1 n1 "a"         // After Welcome it is what it says: the window has forgotten.
        u1/b < posted n1 #4
        tick 1
        u1/b < @4 u1:u1#4 u1 own
        "#;
    // At another pace some of it is received after Welcome was sent.
    play_at(&setup, text, Pace::Even, "even pace");
}

#[test]
fn retries_in_a_row_are_answered_in_order() {
    let setup = Setup::cores(2).with(|limits| limits.sequencer.nonce_window = 1);
    play(
        &setup,
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > post u1 n1 "a" &
        u1 > post u1 n2 "b" &
        u1 > post u1 n3 "c"
        u1 < posted n1 #1
        u1 < posted n2 #2
        u1 < posted n3 #3
        tick 1
        u1 < @1 u1:u1#1 u1 own
        u1 < @2 u1:u1#2 u1 own
        u1 < @3 u1:u1#3 u1 own
        u1 > post u1 n1 "a" retry &
        u1 > post u1 n2 "b" retry &
        u1 > post u1 n4 "d" &
        u1 > post u1 n5 "e" retry
        u1 < posted n1 #1
        u1 < posted n2 #2
        u1 < posted n4 #4
        u1 < posted n5 #5
        tick 1
        u1 < @4 u1:u1#4 u1 own
        u1 < @5 u1:u1#5 u1 own
        "#,
    );
}

#[test]
fn a_crash_takes_only_what_was_not_acknowledged() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > post u2 n1 "kept"
        u1 < posted n1 #1
        tick 1
        u1 < @1 u1:u2#1 u1 own
        hold
        u1 > post u2 n2 "gone"
        crash
        u1 < lost
        release
        u1 > hello @0
        u1 < welcome @1 Resumed
        u1 < page to @1 end: [@1 u1:u2#1 u1 "kept"]
        u1 > post u2 n2 "gone" retry
        u1 < posted n2 #2
        tick 1
        u1 < @2 u1:u2#2 u1 own
        u2 > hello @0
        u2 < welcome @2 Resumed
        u2 < page to @2 end: [@1 u1:u2#1 u1 "kept"] [@2 u1:u2#2 u1 "gone"]
        "#,
    );
}

#[test]
fn a_crash_between_the_log_and_the_inboxes_loses_nothing() {
    let (one, other) = apart(3);
    let script = format!(
        r#"
        u{one} > hello
        u{one} < welcome @0 Fresh
        hold
        u{one} > post u{other} n1 "hi"
        commit                        // In the log; its fan-out is on its way.
        u{one} < posted n1 #1
        crash 2
        u{one} < lost
        release
        u{other} > hello @0
        u{other} < welcome @1 Resumed
        u{other} < page to @1 end: [@1 u{one}:u{other}#1 u{one} "hi"]
        u{one} > hello @0
        u{one} < welcome @1 Resumed
        u{one} < page to @1 end: [@1 u{one}:u{other}#1 u{one} "hi"]
        "#
    );
    play(&Setup::cores(3), &script);
}

#[test]
fn on_one_core_the_log_and_the_inboxes_are_durable_together() {
    play(
        &Setup::cores(1),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        hold
        u1 > post u2 n1 "hi"
        commit                        // One, for both.
        u1 < posted n1 #1
        u1 < @1 u1:u2#1 u1 own
        u2 < @1 u1:u2#1 u1 "hi"
        release
        "#,
    );
}

/// Two users neither of whom lives where their channel does, the lower number first.
fn apart(cores: u16) -> (u64, u64) {
    let map = ShardMap::new(SHARDS, cores);
    let user = |number| UserId::new(number).expect("users are numbered from 1");
    let is_apart = |other: &u64| {
        let home = map.core_of_channel(ChannelId::direct(user(1), user(*other)));
        home != map.core_of_user(user(1)) && home != map.core_of_user(user(*other))
    };
    (1, (2..).find(is_apart).expect("there are many users"))
}

#[test]
fn typing_is_shown_and_not_kept() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u2.2 > hello
        u2.2 < welcome @0 Fresh
        u1 > typing u2                // Nobody is looking at this channel yet.
        u1 > post u2 n1 "hi"
        u1 < posted n1 #1
        u2 < @1 u1:u2#1 u1 "hi"
        u2.2 < @1 u1:u2#1 u1 "hi"
        u1 > typing u2
        u2 < typing u1:u2 u1
        u2.2 < typing u1:u2 u1
        tick 1
        u1 < @1 u1:u2#1 u1 own
        u3 > hello
        u3 < welcome @0 Fresh
        u3 > typing u1:u2             // Not hers.
        crash
        u1 < lost
        u2 < lost
        u2.2 < lost
        u3 < lost
        u2 > hello @0
        u2 < welcome @1 Resumed
        u2 < page to @1 end: [@1 u1:u2#1 u1 "hi"]
        "#,
    );
}

#[test]
fn large_bodies_reach_one_and_many_whole() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u2.2 > hello
        u2.2 < welcome @0 Fresh
        u1 > post u2 n1 x*16000
        u1 < posted n1 #1
        u2 < @1 u1:u2#1 u1 x*16000
        u2.2 < @1 u1:u2#1 u1 x*16000
        u2.2 > cut
        u1 > post u2 n2 y*16384
        u1 < @1 u1:u2#1 u1 own
        u1 < posted n2 #2
        u2 < @2 u1:u2#2 u1 y*16384
        u1 > post u2 n3 z*16385
        u1 < @2 u1:u2#2 u1 own
        u1 < rejected n3 TooLarge
        "#,
    );
}

#[test]
fn pings_of_both_kinds_are_answered() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > ping 77
        u1 < pong 77
        u1 > wsping "abc"
        u1 < wspong "abc"
        "#,
    );
}

#[test]
fn the_own_copy_waits_for_the_next_frame_or_tick() {
    let (_, other) = apart(2);
    let post = format!(
        "u1 > hello\nu1 < welcome @0 Fresh\nu1 > post u{other} n1 \"a\"\nu1 < posted n1 #1\n"
    );
    // On one core it is there with the answer, and leaves with it.
    let rows = [(2, "", 0), (2, "u1 > ping 1\nu1 < pong 1", 1), (2, "tick 1", 1), (1, "", 1)];
    for (cores, more, own) in rows {
        let mut script = Script::new(Host::new(Setup::cores(cores), Pace::Even));
        script.run_all(&format!("{post}{more}"), "even pace");
        assert_eq!(script.host.clients[0].own.len(), own, "{cores} cores, after {more:?}");
    }
}
