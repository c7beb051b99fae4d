//! What happens at the bounds.

use crate::sim::script::play;
use crate::sim::setup::Setup;

#[test]
fn posts_in_flight_have_a_bound_at_which_reading_stops_and_goes_on() {
    let setup = Setup::cores(2).with(|limits| limits.told.posts_in_flight_max = 2);
    play(
        &setup,
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        hold
        u1 > post u2 n1 "1" &
        u1 > post u2 n2 "2" &
        u1 > post u2 n3 "3" &
        u1 > ping 1
        u1 < nothing                  // The ping stands behind the third post.
        release
        tick 1
        u1 < posted n1 #1
        u1 < posted n2 #2
        u1 < pong 1
        u1 < posted n3 #3
        tick 1
        u1 < @1 u1:u2#1 u1 own
        u1 < @2 u1:u2#2 u1 own
        u1 < @3 u1:u2#3 u1 own
        "#,
    );
}

#[test]
fn a_full_disk_refuses_and_acknowledges_what_was_in_flight_when_it_is_free() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        hold
        u1 > post u2 n1 "1"
        disk full
        commit
        u1 < nothing
        u1 > post u2 n2 "2"
        u1 < rejected n2 StorageFull after 5000
        u1 > post u2 n1 "1" retry     // Not acknowledged either.
        u1 < rejected n1 StorageFull after 5000
        u1 > history u2 back #0       // Reading goes on.
        u1 < history u1:u2:
        release
        disk free
        tick 6
        u1 < posted n1 #1
        u2 < @1 u1:u2#1 u1 "1"
        u1 < @1 u1:u2#1 u1 own
        u1 > post u2 n2 "2" retry
        u1 < posted n2 #2
        u2 < @2 u1:u2#2 u1 "2"
        tick 1
        u1 < @2 u1:u2#2 u1 own
        "#,
    );
}

#[test]
fn a_store_about_to_stall_is_waited_for() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        pressure stop
        u1 > post u2 n1 "1"
        u1 > ping 1
        u1 < pong 1
        tick 5
        u1 < nothing
        pressure none
        tick 1
        u1 < posted n1 #1
        tick 1
        u1 < @1 u1:u2#1 u1 own
        "#,
    );
}

#[test]
fn a_rate_above_the_limit_is_refused_by_request_and_then_ended() {
    let setup = Setup::cores(2).with(|limits| limits.told.frames_per_second_max = 20);
    let mut text = String::from("u1 > hello\nu1 < welcome @0 Fresh\n");
    for number in 0..20 {
        text.push_str(&format!("u1 > ping {number} &\n"));
    }
    text.push_str("u1 > post u2 n7 \"x\" &\nu1 > create g1 n8 \"\" u2 &\nu1 > ping 99\n");
    for number in 0..20 {
        text.push_str(&format!("u1 < pong {number}\n"));
    }
    text.push_str(
        "u1 < rejected n7 RateLimited after 1000\n\
         u1 < rejected n8 RateLimited after 1000\n\
         u1 < rejected n0 RateLimited after 1000\n\
         tick 4\nu1 > ping 100\nu1 < pong 100\n",
    );
    for _ in 0..20 {
        text.push_str("u1 > ping 1 &\n");
    }
    text.push_str("u1 > ping 2\n");
    for _ in 0..20 {
        text.push_str("u1 < rejected n0 RateLimited after 1000\n");
    }
    text.push_str("u1 < closed 4429\nu1 < lost\n");
    play(&setup, &text);
}

#[test]
fn a_slow_reader_is_told_and_resumes_without_loss() {
    let setup = Setup::cores(2).with(|limits| {
        limits.send_queue_bytes_max = 100_000;
        limits.told.sync_page_max = 4;
    });
    let mut text = String::from(
        "u1 > hello\nu1 < welcome @0 Fresh\nu2 > hello\nu2 < welcome @0 Fresh\nu2 > pause\n",
    );
    for number in 1..=13 {
        text.push_str(&format!("u1 > post u2 n{number} x*16000\ntick 1\n"));
        text.push_str(&format!("u1 < posted n{number} #{number}\n"));
        text.push_str(&format!("u1 < @{number} u1:u2#{number} u1 own\n"));
    }
    text.push_str("u2 > go\n");
    // 64 KiB in the socket and 100,000 bytes in the queue, of which what is in flight is sent.
    for number in 1..=5 {
        text.push_str(&format!("u2 < @{number} u1:u2#{number} u1 x*16000\n"));
    }
    text.push_str("u2 < closed 4413\nu2 < lost\nu2 > hello @5\nu2 < welcome @13 Resumed\n");
    let entries = |range: std::ops::RangeInclusive<u32>| -> String {
        range.map(|number| format!(" [@{number} u1:u2#{number} u1 x*16000]")).collect()
    };
    text.push_str(&format!("u2 < page to @9:{}\nu2 > sync @9\n", entries(6..=9)));
    text.push_str(&format!("u2 < page to @13 end:{}\n", entries(10..=13)));
    play(&setup, &text);
}
