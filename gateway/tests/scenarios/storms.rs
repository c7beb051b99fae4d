//! Many who come at once: in whose order they come in, and that those who are here do not wait.

use wire::client::Post;
use wire::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, UserId};

use crate::after_first_post;
use crate::sim::client::From;
use crate::sim::heard::Heard;
use crate::sim::host::Host;
use crate::sim::pace::Pace;
use crate::sim::script::play;
use crate::sim::setup::Setup;

fn user(number: u64) -> UserId {
    UserId::new(number).expect("users are numbered from 1")
}

const FRESH: From = From { epoch: Epoch::NONE, cursor: InboxSeq::ZERO, ticket: None };

/// A host of one core, on which user 1 has talked to herself and lets one more in at each tick.
fn with_talk() -> (Host, usize) {
    let setup = Setup::cores(1).with(|limits| {
        (limits.admissions_per_second_max, limits.waiting_ticks) = (20, 10);
    });
    let mut host = Host::new(setup, Pace::Even);
    let talking = host.connect(0, user(1), DeviceId(1), &FRESH);
    host.tick(2);
    talk(&mut host, talking, 1);
    host.tick(2);
    (host, talking)
}

fn talk(host: &mut Host, client: usize, nonce: u64) {
    let own = host.clients[client].user;
    let channel = ChannelId::direct(own, own);
    host.say(client, Post { channel, nonce: Nonce(nonce), kind: 0, body: b"x", retry: false });
}

fn is_in(host: &Host, client: usize) -> bool {
    host.clients[client].heard.iter().any(|heard| matches!(heard, Heard::Welcome { .. }))
}

#[test]
fn while_there_is_talk_new_connections_come_in_newest_first_and_the_stale_are_ended() {
    let (mut host, talking) = with_talk();
    // More than what ten ticks of waiting let in.
    let crowd: Vec<usize> =
        (2..32).map(|number| host.connect(0, user(number), DeviceId(1), &FRESH)).collect();
    host.settle();
    let answered = host.clients[talking].heard.len();
    talk(&mut host, talking, 2);
    host.settle();
    assert!(host.clients[talking].heard.len() > answered, "who is here does not wait");
    host.tick(60);
    // The first one found credit when it came.
    assert!(is_in(&host, crowd[0]));
    let crowd = &crowd[1..];
    let ended = |client: &&usize| host.clients[**client].heard.contains(&Heard::Lost);
    let lost: Vec<usize> = crowd.iter().filter(ended).copied().collect();
    let inside: Vec<usize> = crowd.iter().copied().filter(|one| is_in(&host, *one)).collect();
    assert!(!lost.is_empty() && inside.len() + lost.len() == crowd.len(), "{inside:?} {lost:?}");
    assert!(lost.iter().max() < inside.iter().min(), "the newest: {inside:?}, not {lost:?}");
}

#[test]
fn who_comes_to_a_crowded_core_waits_in_the_kernels_queue_and_gets_in() {
    let (mut host, _) = with_talk();
    let crowd: Vec<usize> = (2..32)
        .map(|number| {
            let client = host.connect(0, user(number), DeviceId(1), &FRESH);
            host.settle();
            client
        })
        .collect();
    host.tick(70);
    let inside = crowd.iter().filter(|client| is_in(&host, **client)).count();
    let counts = host.counts(0);
    assert_eq!((inside, counts.admissions_dropped), (crowd.len(), 0), "nobody waited in vain");
    assert!(counts.crowds > 1, "accepting paused and went on: {}", counts.crowds);
}

#[test]
fn a_ticket_comes_in_before_a_token_that_was_there_first() {
    let (mut host, _) = with_talk();
    let two = user(2);
    let old = host.connect(0, two, DeviceId(1), &FRESH);
    host.tick(4);
    assert!(is_in(&host, old));
    let ticket = Some(host.clients[old].ticket.clone());
    let token = host.connect(0, user(3), DeviceId(1), &FRESH);
    let epoch = Host::epoch();
    let from = From { epoch, cursor: InboxSeq::ZERO, ticket };
    let resumed = host.connect(0, two, DeviceId(1), &from);
    let came = (0..20).map(|_| {
        host.tick(1);
        (is_in(&host, resumed), is_in(&host, token))
    });
    let came: Vec<(bool, bool)> = came.skip_while(|came| *came == (false, false)).collect();
    assert_eq!(came.first(), Some(&(true, false)));
    assert_eq!(came.last(), Some(&(true, true)));
}

#[test]
fn who_comes_in_late_does_not_displace_what_her_device_has_opened_since() {
    let (mut host, _) = with_talk();
    let two = user(2);
    assert!(is_in_after(&mut host, 3), "it takes the credit of this tick");
    let old = host.connect(0, two, DeviceId(1), &FRESH);
    host.begin_tick();
    let new = host.connect(0, two, DeviceId(1), &FRESH);
    host.tick(8);
    assert!(is_in(&host, new) && !is_in(&host, old));
    let closed = |client: usize, heard: &dyn Fn(&Heard) -> bool| {
        host.clients[client].heard.iter().any(heard)
    };
    assert!(closed(old, &|heard| matches!(heard, Heard::Closed { code: 4503, .. })));
    assert!(!closed(new, &|heard| matches!(heard, Heard::Closed { .. })));
}

/// Connects another user, at once.
fn is_in_after(host: &mut Host, number: u64) -> bool {
    let client = host.connect(0, user(number), DeviceId(1), &FRESH);
    host.tick(3);
    is_in(host, client)
}

#[test]
fn catch_up_reads_wait_for_each_other_and_all_are_answered() {
    let setup = Setup::cores(1).with(|limits| limits.bounds.catch_ups_max = 1);
    play(
        &setup,
        &after_first_post(
            r#"
        u2 > hello @0 &
        u3 > hello @0 &
        u2.2 > hello @0 &
        u4 > hello @0
        u2 < welcome @1 Resumed
        u2 < page to @1 end: [@1 u1:u2#1 u1 "1"]
        u2.2 < welcome @1 Resumed
        u2.2 < page to @1 end: [@1 u1:u2#1 u1 "1"]
        u3 < welcome @0 Resumed
        u4 < welcome @0 Resumed
        "#,
        ),
    );
}
