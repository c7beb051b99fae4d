//! Timeouts and the drain.

use wire::client::Post;
use wire::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, UserId};

use crate::sim::client::{Client, From};
use crate::sim::heard::Heard;
use crate::sim::host::Host;
use crate::sim::pace::Pace;
use crate::sim::script::play;
use crate::sim::setup::Setup;

const FRESH: From = From { epoch: Epoch::NONE, cursor: InboxSeq::ZERO, ticket: None };

fn user(number: u64) -> UserId {
    UserId::new(number).expect("users are numbered from 1")
}

fn quick() -> Setup {
    Setup::cores(2).with(|limits| {
        limits.hello_ticks = 10;
        limits.silence_ticks = 20;
        limits.close_ticks = 5;
    })
}

#[test]
fn silence_ends_a_session_and_a_heartbeat_of_any_kind_keeps_it() {
    play(
        &quick(),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u3 > hello
        u3 < welcome @0 Fresh
        tick 15
        u1 > ping 1
        u1 < pong 1
        u2 > wsping ""
        u2 < wspong ""
        tick 15
        u3 < closed 4408
        u3 < lost
        u1 < nothing
        tick 15
        u1 < closed 4408
        u1 < lost
        u2 < closed 4408
        u2 < lost
        "#,
    );
}

#[test]
fn who_does_not_say_hello_in_time_is_closed_or_cut_off() {
    // Nothing, half a handshake, a handshake, and half a Hello behind it.
    let hello = Client::new(user(1), DeviceId(1), 0).hello(&FRESH);
    let handshake = Client::handshake();
    let rows = [
        (Vec::new(), None),
        (handshake[..20].to_vec(), None),
        (handshake.clone(), Some(4410)),
        ([&handshake[..], &hello[..hello.len() / 2]].concat(), Some(4410)),
    ];
    for (bytes, code) in rows {
        let mut host = Host::new(quick(), Pace::Even);
        let client = host.open(0, user(1), DeviceId(1));
        host.send(client, &bytes);
        host.tick(9);
        assert!(host.clients[client].heard.is_empty(), "{code:?}: there is time");
        host.tick(1 + 5); // A close that follows half a frame cannot be answered.
        let heard: Vec<Heard> = host.clients[client].heard.drain(..).collect();
        let codes = heard.iter().filter_map(|heard| match heard {
            Heard::Closed { code, .. } => Some(*code),
            _ => None,
        });
        assert_eq!(codes.collect::<Vec<_>>(), Vec::from_iter(code), "{heard:?}");
        assert_eq!(heard.last(), Some(&Heard::Lost));
        assert_eq!(host.kernel.open_places(), 0);
    }
}

#[test]
fn a_peer_that_does_not_answer_a_close_is_cut_off() {
    let mut host = Host::new(quick(), Pace::Even);
    let client = host.connect(0, user(1), DeviceId(1), &FRESH);
    host.settle();
    host.clients[client].reads = false;
    host.tick(20);
    assert_eq!(host.kernel.open_places(), 1, "its close frame waits for an answer");
    host.tick(5);
    assert_eq!(host.kernel.open_places(), 0);
}

#[test]
fn a_drain_ends_also_if_the_disk_does_not_answer() {
    let mut host = Host::new(quick(), Pace::Even);
    let client = host.connect(0, user(1), DeviceId(1), &FRESH);
    host.settle();
    host.holds_commits = true;
    let channel = ChannelId::direct(user(1), user(2));
    host.say(client, Post { channel, nonce: Nonce(1), kind: 0, body: b"x", retry: false });
    host.settle();
    host.drain();
    host.tick(60);
    assert!(host.clients[client].heard.contains(&Heard::Lost), "nobody is kept for ever");
    assert!((0..2).any(|core| !host.has_exited(core)), "what was accepted is waited for");
    host.holds_commits = false;
    host.tick(4);
    assert!((0..2).all(|core| host.has_exited(core)));
}

#[test]
fn a_drain_says_when_to_come_back_answers_what_is_owed_and_ends() {
    let setup = Setup::cores(2).with(|limits| limits.drain = std::time::Duration::from_secs(10));
    play(
        &setup,
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1.2 > hello
        u1.2 < welcome @0 Fresh
        hold
        u1 > post u2 n1 "1"
        drain
        u1 < reconnect 0
        u1.2 < reconnect 5000
        u1.2 < closed 1001
        u1.2 < lost
        u1 < nothing
        running
        u3 > hello at 0               // Nobody is let in.
        u3 < lost
        release
        tick 2
        u1 < posted n1 #1
        u1 < @1 u1:u2#1 u1 own
        u1 < closed 1001
        u1 < lost
        tick 2
        exited
        "#,
    );
}
