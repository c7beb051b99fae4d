//! Coming back: by cursor, with a ticket, on another core, while others go on.

use router::shard_map::ShardMap;
use wire::{CoreId, UserId};

use crate::after_first_post;
use crate::sim::script::play;
use crate::sim::setup::{SHARDS, Setup};

#[test]
fn the_verdict_on_a_cursor_is_fresh_resumed_or_reset() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > post u2 n1 "a" &
        u1 > post u2 n2 "b"
        u1 < posted n1 #1
        u1 < posted n2 #2
        u2 > hello                    // Never connected: begins at the head.
        u2 < welcome @2 Fresh
        u2.2 > hello @2
        u2.2 < welcome @2 Resumed
        u2.3 > hello @1
        u2.3 < welcome @2 Resumed
        u2.3 < page to @2 end: [@2 u1:u2#2 u1 "b"]
        u2.4 > hello @3               // Beyond the head.
        u2.4 < welcome @2 Reset
        u2.5 > hello epoch 99 @1      // Of another history.
        u2.5 < welcome @2 Reset
        u2.6 > hello epoch 0 @1
        u2.6 < welcome @2 Fresh
        tick 1
        u1 < @1 u1:u2#1 u1 own
        u1 < @2 u1:u2#2 u1 own
        "#,
    );
}

#[test]
fn a_ticket_serves_instead_of_a_token_also_after_a_restart() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > bye
        u1 < closed 1000
        u1 < lost
        u1 > hello ticket @0
        u1 < welcome @0 Resumed
        crash
        u1 < lost
        u1 > hello ticket @0
        u1 < welcome @0 Resumed
        "#,
    );
}

#[test]
fn the_newest_session_of_a_device_displaces_the_older() {
    play(
        &Setup::cores(3),
        r#"
        u1/a > hello at 0
        u1/a < welcome @0 Fresh
        u1.2 > hello at 1
        u1.2 < welcome @0 Fresh
        u1/b > hello at 1
        u1/b < welcome @0 Fresh
        u1/a < closed 4409
        u1/a < lost
        u1/c > hello at 2
        u1/c < welcome @0 Fresh
        u1/b < closed 4409
        u1/b < lost
        u2 > hello
        u2 < welcome @0 Fresh
        u2 > post u1 n1 "hi"
        u2 < posted n1 #1
        u1/c < @1 u1:u2#1 u2 "hi"
        u1.2 < @1 u1:u2#1 u2 "hi"
        tick 1
        u2 < @1 u1:u2#1 u2 own
        "#,
    );
}

#[test]
fn sixteen_devices_are_online_at_once_and_no_more() {
    let mut text = String::new();
    for device in 1..=16 {
        text.push_str(&format!("u1.{device} > hello\nu1.{device} < welcome @0 Fresh\n"));
    }
    // Accepted by her own core or by another: her close is heard at once.
    text.push_str(
        "u1.17 > hello at 0\nu1.17 < closed 4403\nu1.17 < lost\n\
         u1.17 > hello at 1\nu1.17 < closed 4403\nu1.17 < lost\n\
         u1.3 > cut\nu1.17 > hello\nu1.17 < welcome @0 Fresh\n",
    );
    play(&Setup::cores(2), &text);
}

#[test]
fn what_was_missed_comes_in_order_and_then_live_without_a_gap() {
    let setup = Setup::cores(3).with(|limits| limits.told.sync_page_max = 2);
    play(
        &setup,
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > post u2 n1 "1" &
        u1 > post u2 n2 "2" &
        u1 > post u2 n3 "3"
        u1 < posted n1 #1
        u1 < posted n2 #2
        u1 < posted n3 #3
        u2 > hello @0
        u2 < welcome @3 Resumed
        u2 < page to @2: [@1 u1:u2#1 u1 "1"] [@2 u1:u2#2 u1 "2"]
        u1 > post u2 n4 "4"           // Not shown: it comes with the pages.
        u2 < nothing
        u2 > sync @2
        u2 < page to @4 end: [@3 u1:u2#3 u1 "3"] [@4 u1:u2#4 u1 "4"]
        u1 > post u2 n5 "5"
        u2 < @5 u1:u2#5 u1 "5"
        u2 > sync @1                  // Once more, from the middle.
        u2 < page to @3: [@2 u1:u2#2 u1 "2"] [@3 u1:u2#3 u1 "3"]
        u2 > sync @4 9
        u2 < page to @5 end: [@5 u1:u2#5 u1 "5"]
        u2 > sync @9
        u2 < page to @5 end:
        tick 1
        u1 < posted n4 #4
        u1 < posted n5 #5
        u1 < @1 u1:u2#1 u1 own
        u1 < @2 u1:u2#2 u1 own
        u1 < @3 u1:u2#3 u1 own
        u1 < @4 u1:u2#4 u1 own
        u1 < @5 u1:u2#5 u1 own
        "#,
    );
}

#[test]
fn a_message_between_hello_and_its_page_comes_once() {
    play(
        &Setup::cores(2),
        &after_first_post(
            r#"
        hold
        u1 > post u2 n2 "2"
        commit
        u1 < posted n2 #2
        u2 > hello @0                 // The second is placed and not durable.
        u2 < welcome @1 Resumed
        u2 < page to @1 end: [@1 u1:u2#1 u1 "1"]
        commit
        u2 < @2 u1:u2#2 u1 "2"
        release
        tick 1
        u1 < @2 u1:u2#2 u1 own
        "#,
        ),
    );
}

#[test]
fn a_cursor_works_on_any_number_of_cores() {
    play(
        &Setup::cores(1),
        &after_first_post(
            r#"
        crash 4
        u1 < lost
        u1 > hello @0
        u1 < welcome @1 Resumed
        u1 < page to @1 end: [@1 u1:u2#1 u1 "1"]
        u2 > hello
        u2 < welcome @1 Fresh
        u1 > post u2 n2 "2"
        u1 < posted n2 #2
        u2 < @2 u1:u2#2 u1 "2"
        tick 1
        u1 < @2 u1:u2#2 u1 own
        crash 3
        u1 < lost
        u2 < lost
        u2 > hello @1
        u2 < welcome @2 Resumed
        u2 < page to @2 end: [@2 u1:u2#2 u1 "2"]
        "#,
        ),
    );
}

#[test]
fn a_connection_that_does_not_fit_into_its_users_core_is_ended() {
    let map = ShardMap::new(SHARDS, 2);
    let home = |number: &u64| map.core_of_user(UserId::new(*number).unwrap()) == CoreId(0);
    let mut users = (1..).filter(home);
    let (one, other) = (users.next().unwrap(), users.next().unwrap());
    let text = format!(
        "table 1
        u{one} > hello at 0
        u{one} < welcome @0 Fresh
        u{other} > hello at 1
        u{other} < lost
        u{one} > ping 1
        u{one} < pong 1
        table 2
        u{other} > hello at 1
        u{other} < welcome @0 Fresh"
    );
    play(&Setup::cores(2), &text);
}
