//! What happens at the bounds.

use router::mesh::OFFERS_MAX;
use router::shard_map::ShardMap;
use wire::client::{Ping, Post};
use wire::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, UserId};

use crate::sim::client::From;
use crate::sim::heard::Heard;
use crate::sim::host::{Host, Step};
use crate::sim::pace::Pace;
use crate::sim::script::play;
use crate::sim::setup::{SHARDS, Setup};

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
fn a_client_at_its_rate_is_not_refused_for_what_a_tick_rounds_away() {
    // One and a half frames a tick.
    let setup = Setup::cores(2).with(|limits| limits.told.frames_per_second_max = 30);
    let mut text = String::from("u1 > hello\nu1 < welcome @0 Fresh\n");
    for _ in 0..50 {
        text.push_str("tick 1\nu1 > ping 1\nu1 < pong 1\n");
        text.push_str("tick 1\nu1 > ping 1 &\nu1 > ping 2\nu1 < pong 1\nu1 < pong 2\n");
    }
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

#[test]
fn a_session_that_is_not_read_is_not_taken_for_silent() {
    let setup = Setup::cores(2).with(|limits| {
        limits.silence_ticks = 10;
        limits.told.posts_in_flight_max = 1;
    });
    play(
        &setup,
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        hold
        u1 > post u2 n1 "1" &
        u1 > ping 1
        tick 25
        u1 < nothing
        release
        tick 1
        u1 < posted n1 #1
        u1 < pong 1
        u1 < @1 u1:u2#1 u1 own
        tick 25
        u1 < closed 4408
        u1 < lost
        "#,
    );
}

#[test]
fn what_the_disk_could_not_read_is_asked_again() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        reads fail
        u2 > hello
        u1 > post u2 n1 "1"
        tick 3
        u1 < nothing
        u2 < nothing
        reads work
        tick 1
        u1 < posted n1 #1
        u2 < welcome @0 Fresh
        u2 < @1 u1:u2#1 u1 "1"
        tick 1
        u1 < @1 u1:u2#1 u1 own
        reads fail
        u1 > list                     // A session that asks for a page is told.
        u1 < closed 4500
        u1 < lost
        "#,
    );
}

/// Users of the first of two cores, and a channel of the second for each of them.
fn across(count: usize) -> Vec<(UserId, ChannelId)> {
    let map = ShardMap::new(SHARDS, 2);
    let users = (1..).filter_map(UserId::new).filter(|user| map.core_of_user(*user).0 == 0);
    let channel = |user: UserId| {
        let others = (1..).filter_map(UserId::new);
        let mut channels = others.map(|other| ChannelId::direct(user, other));
        channels.find(|channel| map.core_of_channel(*channel).0 == 1).expect("one of many")
    };
    users.map(|user| (user, channel(user))).take(count).collect()
}

const FRESH: From = From { epoch: Epoch::NONE, cursor: InboxSeq::ZERO, ticket: None };

/// Sessions on core 0 that post `count` times each to channels of core 1, which does nothing yet.
fn crowd(sessions: usize, count: u64) -> (Host, Vec<usize>) {
    let setup = Setup::cores(2).with(|limits| {
        limits.told.posts_in_flight_max = u16::MAX;
        limits.told.frames_per_second_max = 1_000_000;
    });
    let mut host = Host::new(setup, Pace::Even);
    let users = across(sessions);
    let connect = |(user, _): &(UserId, _)| host.connect(0, *user, DeviceId(1), &FRESH);
    let clients: Vec<usize> = users.iter().map(connect).collect();
    // The first post is settled: its channel is in memory then.
    for nonces in [1..=1, 2..=count] {
        host.settle();
        for (client, (_, channel)) in clients.iter().zip(&users) {
            for nonce in nonces.clone() {
                let (channel, nonce, body) = (*channel, Nonce(nonce), b"x".as_slice());
                host.say(*client, Post { channel, nonce, kind: 0, body, retry: false });
            }
        }
    }
    (host, clients)
}

/// Takes steps of core 0 alone.
fn settle_first(host: &mut Host) {
    host.take_all(|step| match step {
        Step::Done(core)
        | Step::Cancel(core, _)
        | Step::Receive(core, _)
        | Step::Send(core, _)
        | Step::Turn(core) => *core == 0,
        Step::Read(_) | Step::Answer | Step::Commit => false,
    });
}

#[test]
fn a_full_offer_lane_stops_reading_and_loses_and_reorders_nothing() {
    let count = 1 + OFFERS_MAX as u64;
    let (mut host, clients) = crowd(3, count);
    settle_first(&mut host);
    assert_eq!(host.counts(0).stalls, 2, "all but the first, who filled the lane");
    host.settle();
    for client in clients {
        let posted = host.clients[client].heard.iter().filter_map(|heard| match heard {
            Heard::Posted { nonce, seq, .. } => Some((nonce.0, seq.get())),
            _ => None,
        });
        assert!(posted.eq((1..=count).map(|number| (number, number))));
    }
}

#[test]
fn who_can_go_on_does_not_wait_for_those_who_cannot() {
    let setup = Setup::cores(2).with(|limits| limits.told.posts_in_flight_max = 1);
    let mut host = Host::new(setup, Pace::Even);
    let map = ShardMap::new(SHARDS, 2);
    let mut numbered = (1..).filter_map(ChannelId::numbered);
    let near = numbered.find(|channel| map.core_of_channel(*channel).0 == 0);
    // The second one's channel is on their core, and those of the others on the one that rests.
    let users = across(3);
    let channels = [users[0].1, near.expect("one of many"), users[2].1];
    let mut connect = |(user, _): &(UserId, _)| host.connect(0, *user, DeviceId(1), &FRESH);
    let clients: [usize; 3] = [0, 1, 2].map(|index| connect(&users[index]));
    host.settle();
    for (client, channel) in clients.iter().zip(channels) {
        let (nonce, body) = (Nonce(1), b"x".as_slice());
        host.say(*client, Post { channel, nonce, kind: 0, body, retry: false });
        host.say(*client, Ping { opaque: 7 });
    }
    for _ in 0..5 {
        settle_first(&mut host);
        host.take_all(|step| matches!(step, Step::Answer | Step::Commit));
    }
    host.take_all(|step| matches!(step, Step::Read(_)));
    let pongs = clients.map(|client| host.clients[client].heard.contains(&Heard::Pong(7)));
    assert_eq!(pongs, [false, true, false]);
}
