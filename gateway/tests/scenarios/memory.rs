//! The bounds on memory: of one session, and of the sessions of a core, which sheds in its order.

use wire::client::{Direction, History, Post, Typing};
use wire::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, Seq, UserId};

use crate::sim::client::From;
use crate::sim::heard::Heard;
use crate::sim::host::{Host, Step};
use crate::sim::pace::Pace;
use crate::sim::setup::Setup;

const FRESH: From = From { epoch: Epoch::NONE, cursor: InboxSeq::ZERO, ticket: None };

fn user(number: u64) -> UserId {
    UserId::new(number).expect("users are numbered from 1")
}

/// A host of one core with these users, each on one device; sockets take 1,000 bytes of who does
/// not read.
fn with_users(mut setup: Setup, count: u64) -> (Host, Vec<usize>) {
    setup.socket_bytes = 1_000;
    let mut host = Host::new(setup, Pace::Even);
    let connect = |number| {
        let client = host.connect(0, user(number), DeviceId(1), &FRESH);
        host.settle();
        client
    };
    let clients = (1..=count).map(connect).collect();
    (host, clients)
}

/// The first one posts `count` times `bytes` bytes to another, who has a channel with her.
fn post(host: &mut Host, to: usize, count: u64, bytes: usize) {
    let channel = ChannelId::direct(user(1), host.clients[to].user);
    for _ in 0..count {
        let (nonce, body) = (Nonce(1 + host.counts(0).posts), vec![7; bytes]);
        host.say(0, Post { channel, nonce, kind: 0, body: &body, retry: false });
        host.settle();
    }
}

fn has_heard(host: &Host, client: usize, is_it: impl Fn(&Heard) -> bool) -> bool {
    host.clients[client].heard.iter().any(is_it)
}

fn is_closed_with(host: &Host, client: usize, code: u16) -> bool {
    has_heard(
        host,
        client,
        |heard| matches!(heard, Heard::Closed { code: found, .. } if *found == code),
    )
}

/// Lets somebody read again who did not.
fn reads(host: &mut Host, client: usize) {
    host.clients[client].reads = true;
    host.settle();
}

// ---- One session -----------------------------------------------------------------------------

#[test]
fn a_send_queue_ends_at_what_its_memory_holds_and_not_only_at_what_waits() {
    // A body that is shared, and a block for each head.
    let setup = Setup::cores(1).with(|limits| {
        limits.send_blocks = (1_000, 16 * 1024);
        limits.session_bytes_max = 350_000;
    });
    let (mut host, clients) = with_users(setup, 2);
    let deaf = host.connect(0, user(2), DeviceId(2), &FRESH);
    host.settle();
    host.clients[deaf].reads = false;
    let mut most = (0, 0);
    while host.counts(0).slow_consumers == 0 {
        post(&mut host, clients[1], 1, 2_500);
        let holdings = host.holdings(0);
        most = (most.0.max(holdings.session_bytes), most.1.max(holdings.queue_bytes.0));
        assert!(most.0 <= 350_000, "{} bytes of memory", most.0);
    }
    assert!(most.1 < 60_000, "{} bytes wait: far from the queue's bound", most.1);
    reads(&mut host, deaf);
    assert!(is_closed_with(&host, deaf, 4413));
}

#[test]
fn what_a_session_sends_in_part_ends_at_its_bound() {
    let setup = Setup::cores(1).with(|limits| limits.session_bytes_max = 50_000);
    let (mut host, clients) = with_users(setup, 1);
    let channel = ChannelId::direct(user(1), user(1));
    let (nonce, body) = (Nonce(1), &[7; 60_000][..]);
    let post = Post { channel, nonce, kind: 0, body, retry: false };
    let bytes = host.clients[clients[0]].say(post);
    host.send(clients[0], &bytes[..20_000]);
    host.settle();
    assert!(host.holdings(0).session_bytes >= 20_000, "it is being put together");
    host.send(clients[0], &bytes[20_000..55_000]);
    host.settle();
    assert!(is_closed_with(&host, clients[0], 4413));
    assert_eq!((host.counts(0).session_bytes_exceeded, host.holdings(0).held), (1, (0, 0)));
}

#[test]
fn what_arrives_before_a_receive_has_stopped_ends_at_the_bound_of_the_session() {
    let setup = Setup::cores(1).with(|limits| {
        limits.session_bytes_max = 50_000;
        limits.told.posts_in_flight_max = 1;
    });
    let (mut host, clients) = with_users(setup, 1);
    host.holds_commits = true;
    let channel = ChannelId::direct(user(1), user(1));
    for nonce in 1..=100 {
        let (nonce, body) = (Nonce(nonce), &[7; 1_000][..]);
        host.say(clients[0], Post { channel, nonce, kind: 0, body, retry: false });
    }
    // The kernel is slow to stop.
    host.take_all(|step| !matches!(step, Step::Cancel(..)));
    assert_eq!(host.counts(0).session_bytes_exceeded, 1);
    assert_eq!(host.holdings(0).held.0, host.holdings(0).queue_bytes.0, "what it sent is gone");
    host.settle();
    assert!(is_closed_with(&host, clients[0], 4413));
}

/// So many pages asked for by one session, in one go.
fn ask(host: &mut Host, client: usize, count: usize) {
    let channel = ChannelId::direct(user(1), user(2));
    for _ in 0..count {
        let (direction, from) = (Direction::Backward, Seq::ZERO);
        host.say(client, History { channel, direction, from, limit: 0 });
    }
}

#[test]
fn pages_that_have_no_room_beside_each_other_come_one_after_the_other() {
    let setup = Setup::cores(1)
        .with(|limits| limits.session_bytes_max = 2 * limits.page_held_bytes_max() + 10_000);
    let (mut host, clients) = with_users(setup, 2);
    post(&mut host, clients[1], 1, 10);
    ask(&mut host, clients[0], 5);
    host.take_all(|step| !matches!(step, Step::Answer));
    assert_eq!(host.holdings(0).reads_in_flight.0, 2);
    host.settle();
    let heard = host.clients[clients[0]].heard.iter();
    assert_eq!(heard.filter(|heard| matches!(heard, Heard::History { .. })).count(), 5);
}

#[test]
fn who_asks_for_a_page_and_has_not_read_what_it_was_sent_is_closed() {
    let setup = Setup::cores(1)
        .with(|limits| limits.session_bytes_max = limits.page_held_bytes_max() + 100_000);
    let (mut host, clients) = with_users(setup, 2);
    host.clients[clients[1]].reads = false;
    post(&mut host, clients[1], 8, 10_000);
    ask(&mut host, clients[1], 1);
    host.settle();
    assert_eq!(host.counts(0).slow_consumers, 0, "there is room");
    post(&mut host, clients[1], 4, 10_000);
    ask(&mut host, clients[1], 1);
    host.settle();
    reads(&mut host, clients[1]);
    assert!(is_closed_with(&host, clients[1], 4413));
}

// ---- The sessions of a core ------------------------------------------------------------------

/// Sessions may hold 1,000,000 bytes, in blocks of so many.
fn room(block_bytes: usize) -> Setup {
    Setup::cores(1).with(|limits| {
        limits.bounds.room_bytes_max = 1_000_000;
        limits.send_blocks = (100_000, block_bytes);
    })
}

#[test]
fn typing_is_given_up_first_and_comes_back_with_a_distance() {
    let (mut host, clients) = with_users(room(1_000), 3);
    let [_, deaf, friend] = clients[..] else { unreachable!("three") };
    post(&mut host, deaf, 1, 10);
    post(&mut host, friend, 1, 10);
    host.clients[deaf].reads = false;
    // How many posts of 10,000 bytes more wait for the one who does not read; whether typing is
    // shown to the other.
    for (more, is_shown) in [(0, true), (68, true), (4, false)] {
        post(&mut host, deaf, more, 10_000);
        host.clients[friend].heard.clear();
        host.say(0, Typing { channel: ChannelId::direct(user(1), user(3)) });
        host.settle();
        let is_typing = |heard: &Heard| matches!(heard, Heard::Typing { .. });
        assert_eq!(has_heard(&host, friend, is_typing), is_shown, "after {more}");
    }
    assert_eq!((host.counts(0).typing_shed, host.counts(0).shedding), (1, 1));
    reads(&mut host, deaf);
    host.say(0, Typing { channel: ChannelId::direct(user(1), user(3)) });
    host.settle();
    assert!(has_heard(&host, friend, |heard| matches!(heard, Heard::Typing { .. })));
    assert_eq!((host.counts(0).typing_shed, host.counts(0).shedding), (1, 0));
    let counts = host.counts(0);
    assert_eq!((counts.slow_consumers_shed, counts.new_sessions_shed), (0, 0));
}

#[test]
fn then_the_largest_send_queue_is_closed_and_no_more_than_need_be() {
    let (mut host, clients) = with_users(room(1_000), 4);
    let [_, small, large, middle] = clients[..] else { unreachable!("four") };
    for (client, count) in [(small, 10), (large, 40), (middle, 30)] {
        host.clients[client].reads = false;
        post(&mut host, client, count, 10_000);
    }
    assert_eq!(host.counts(0).slow_consumers_shed, 0, "below the threshold");
    post(&mut host, small, 6, 10_000);
    assert_eq!(host.counts(0).slow_consumers_shed, 1);
    for client in [small, large, middle] {
        reads(&mut host, client);
        assert_eq!(is_closed_with(&host, client, 4413), client == large);
    }
    assert_eq!(host.counts(0).shedding, 0);
    // Nothing is lost: it resumes.
    let Some(cursor) = host.clients[large].heard.iter().rev().find_map(|heard| match heard {
        Heard::Entry(entry) => Some(entry.place),
        _ => None,
    }) else {
        unreachable!("it has read some")
    };
    let from = From { epoch: Host::epoch(), cursor, ticket: None };
    let again = host.connect(0, user(3), DeviceId(1), &from);
    host.settle();
    let is_page =
        |heard: &Heard| matches!(heard, Heard::Page { entries, .. } if !entries.is_empty());
    assert!(has_heard(&host, again, is_page));
}

#[test]
fn then_new_sessions_are_refused_and_those_who_are_here_stay() {
    // Each of 19 has one block in flight, which closing it would not free.
    let (mut host, clients) = with_users(room(50_000), 20);
    for client in &clients[1..] {
        host.clients[*client].reads = false;
        post(&mut host, *client, 1, 2_000);
    }
    host.tick(1); // Her own copies have waited for company.
    let refused = host.connect(0, user(30), DeviceId(1), &FRESH);
    host.settle();
    assert!(is_closed_with(&host, refused, 4503), "{:?}", host.clients[refused].heard);
    assert_eq!((host.counts(0).new_sessions_shed, host.counts(0).shedding), (1, 3));
    assert_eq!((host.counts(0).sessions, host.counts(0).slow_consumers_shed), (20, 0));
    for client in &clients[1..=3] {
        reads(&mut host, *client);
    }
    let welcome = host.connect(0, user(30), DeviceId(1), &FRESH);
    host.settle();
    assert!(has_heard(&host, welcome, |heard| matches!(heard, Heard::Welcome { .. })));
}

#[test]
fn at_the_end_of_the_room_nobody_is_sent_more() {
    let (mut host, clients) = with_users(room(60_000), 20);
    for client in &clients[1..] {
        host.clients[*client].reads = false;
        post(&mut host, *client, 1, 2_000);
        let holdings = host.holdings(0);
        assert!(holdings.held.0 <= 1_000_000, "{} held", holdings.held.0);
    }
    assert!(host.counts(0).slow_consumers > 0);
}

#[test]
fn at_the_end_of_the_room_nothing_more_is_put_together() {
    let setup = room(1_000).with(|limits| limits.bounds.room_bytes_max = 100_000);
    let (mut host, clients) = with_users(setup, 3);
    let channel = ChannelId::direct(user(1), user(1));
    let (nonce, body) = (Nonce(1), &[7; 60_000][..]);
    for client in &clients {
        let bytes = host.clients[*client].say(Post { channel, nonce, kind: 0, body, retry: false });
        host.send(*client, &bytes[..40_000]);
        host.settle();
        assert!(host.holdings(0).held.0 <= 100_000);
    }
    // Each takes 65,536 bytes, as memory grows by doubling.
    assert_eq!(host.counts(0).received_shed, 2);
}

#[test]
fn a_handshake_that_cannot_be_answered_ends_without_a_word() {
    let setup = room(60_000).with(|limits| limits.bounds.room_bytes_max = 50_000);
    let mut host = Host::new(setup, Pace::Even);
    let client = host.connect(0, user(1), DeviceId(1), &FRESH);
    host.settle();
    assert_eq!(host.clients[client].heard, [Heard::Lost]);
    assert_eq!((host.counts(0).received_shed, host.holdings(0).held), (1, (0, 0)));
}
