//! From the ready line to the end, whichever way that comes.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod common;

use std::collections::HashSet;

use common::client::{Client, Entry, Heard, direct};
use common::http;
use common::process::{Ended, Running, Server, mooring, token};
use rustix::process::Signal;
use wire::Epoch;
use wire::client::{Direction, History};
use wire::server::{Durability, Resume};

const ALICE: u64 = 1;
const BOB: u64 = 2;

/// Each is a round trip, so these take seconds; a core publishes within milliseconds.
const SCRAPES_MAX: u32 = 20_000;

/// A client that answers no close keeps a drain from ending for so long.
const LONG_CLOSE: &str = "[timeouts]\nclose_seconds = 60\n";

fn log_in(server: &Server, data: &std::path::Path, user: u64) -> (Client, Epoch) {
    let (client, heard) = Client::hello(server.gateway, &token(data, user, 1), 1, (Epoch::NONE, 0));
    let Heard::Welcome { epoch, resume, .. } = heard else { panic!("no welcome: {heard:?}") };
    assert_eq!(resume, Resume::Fresh);
    (client, epoch)
}

/// A device that has kept nothing of this history of its inbox.
fn resume(server: &Server, data: &std::path::Path, user: u64, epoch: Epoch) -> (Client, u64) {
    let (client, heard) = Client::hello(server.gateway, &token(data, user, 1), 1, (epoch, 0));
    let Heard::Welcome { resume, inbox_head, .. } = heard else { panic!("no welcome: {heard:?}") };
    assert_eq!(resume, Resume::Resumed, "the epoch is that of the data directory");
    (client, inbox_head)
}

/// Posts the texts `0..` and waits for each answer.
fn post_all(client: &mut Client, nonces: std::ops::Range<u64>) -> Vec<u64> {
    let mut seqs = Vec::new();
    for nonce in nonces {
        client.post(direct(ALICE, BOB), nonce, &nonce.to_string(), false);
        match client.next_answer() {
            Heard::Posted { nonce: answered, seq, durability } => {
                assert_eq!((answered, durability), (nonce, Durability::Durable));
                seqs.push(seq);
            }
            other => panic!("post {nonce}: {other:?}"),
        }
    }
    seqs
}

/// Entries `1..=count` of an inbox and of a channel, with texts as `post_all` sends them.
fn expected_entries(first_nonce: u64, count: u64) -> Vec<Entry> {
    (1..=count)
        .map(|place| {
            let nonce = first_nonce + place - 1;
            Entry { inbox_seq: place, seq: place, nonce, text: nonce.to_string() }
        })
        .collect()
}

#[test]
fn a_drain_sends_clients_away_and_the_next_start_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = "[server]\nreconnect_url = \"ws://elsewhere:7700/\"\ndrain_seconds = 8\n";
    let server = Server::start_with(&data, config);
    let (mut alice, epoch) = log_in(&server, &data, ALICE);
    let (mut bob, _) = log_in(&server, &data, BOB);
    assert_eq!(post_all(&mut alice, 10..15), [1, 2, 3, 4, 5]);
    assert_eq!(bob.entries(5), expected_entries(10, 5));

    server.signal(Signal::TERM);
    for client in [&mut alice, &mut bob] {
        let Heard::Reconnect { after_ms, url } = client.next_answer() else { panic!("not told") };
        assert!(after_ms < 8000, "spread over drain_seconds: {after_ms}");
        assert_eq!(url.as_deref(), Some("ws://elsewhere:7700/"));
        let reason = "this gateway is going away".to_owned();
        assert_eq!(client.next_answer(), Heard::Closed { code: 1001, reason });
        client.close();
        assert_eq!(client.next_answer(), Heard::Gone);
    }
    let ended = server.end();
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 1, "the ready line alone");

    let server = Server::start(&data);
    let (mut bob, head) = resume(&server, &data, BOB, epoch);
    assert_eq!(head, 5);
    assert_eq!(bob.entries(5), expected_entries(10, 5));
    drop(bob);
    server.stop();
}

/// Runs `mooring admin` against a server.
fn administer(server: &Server, arguments: &[&str]) -> Ended {
    let mut command = mooring(&["admin"]);
    command.args(arguments).args(["--admin", &server.admin.to_string()]);
    Running::start(&mut command).end()
}

#[test]
fn an_evacuation_sends_everybody_away_lets_nobody_in_and_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let (mut alice, epoch) = log_in(&server, &data, ALICE);
    let (mut bob, _) = log_in(&server, &data, BOB);
    assert_eq!(post_all(&mut alice, 10..12), [1, 2]);
    assert_eq!(bob.entries(2), expected_entries(10, 2));

    let order = ["drain", "--over", "200ms", "--after", "3s", "--to", "ws://b:1/"];
    let told = administer(&server, &order);
    assert_eq!((told.status, &*told.stderr), (0, ""));
    assert_eq!(told.stdout, "2 sessions were sent away, none is here\n");
    for client in [&mut alice, &mut bob] {
        let url = Some("ws://b:1/".to_owned());
        assert_eq!(client.next_answer(), Heard::Reconnect { after_ms: 3000, url });
        let Heard::Closed { code, .. } = client.next_answer() else { panic!("not closed") };
        assert_eq!(code, 1001);
    }
    let state = http::get(server.admin, "/drain").1;
    assert_eq!(state, "{\"draining\":true,\"sessions\":0,\"sent_away\":2}\n");
    assert_eq!(http::get(server.admin, "/readyz"), (503, "draining\n".to_owned()));
    let refused = Client::hello(server.gateway, &token(&data, BOB, 1), 1, (epoch, 2)).1;
    assert!(matches!(refused, Heard::Closed { code: 4503, .. }), "{refused:?}");

    let told = administer(&server, &["undrain"]);
    assert_eq!((told.status, &*told.stdout), (0, "sessions may come again\n"));
    assert_eq!(http::get(server.admin, "/readyz").0, 200);
    let (bob, head) = resume(&server, &data, BOB, epoch);
    assert_eq!(head, 2);
    drop(bob);
    server.stop();
}

#[test]
fn an_order_that_cannot_be_carried_out_fails_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let too_long = administer(&server, &["drain", "--over", "25h"]);
    assert_eq!(too_long.status, 1);
    assert!(too_long.stderr.contains("over_ms is 90000000: it must be"), "{}", too_long.stderr);
    let no_time = administer(&server, &["drain"]);
    assert_eq!(no_time.status, 2, "{}", no_time.stderr);
    let admin = server.admin.to_string();
    server.stop();
    let nobody = Running::start(&mut mooring(&["admin", "undrain", "--admin", &admin])).end();
    assert_eq!(nobody.status, 1);
    assert!(nobody.stderr.contains("is the server running"), "{}", nobody.stderr);
}

#[test]
fn what_was_posted_outlives_a_kill_and_the_places_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let (mut alice, epoch) = log_in(&server, &data, ALICE);
    assert_eq!(post_all(&mut alice, 100..120), (1..=20).collect::<Vec<_>>());
    server.kill();

    let server = Server::start(&data);
    let (mut bob, head) = resume(&server, &data, BOB, epoch);
    assert_eq!(head, 20);
    assert_eq!(bob.entries(20), expected_entries(100, 20));
    let (mut alice, _) = log_in(&server, &data, ALICE);
    alice.post(direct(ALICE, BOB), 107, "107", true);
    let first_answer = Heard::Posted { nonce: 107, seq: 8, durability: Durability::Durable };
    assert_eq!(alice.next_answer(), first_answer);
    assert_eq!(post_all(&mut alice, 120..121), [21]);
    let text = "120".to_owned();
    assert_eq!(bob.entries(1), [Entry { inbox_seq: 21, seq: 21, nonce: 120, text }]);
    drop((alice, bob));
    server.stop();
}

#[test]
fn a_kill_in_the_midst_of_posts_loses_no_answered_one_and_doubles_none() {
    const POSTS: u64 = 60; // Fewer than posts_in_flight_max, so that all are under way at once.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let (mut alice, epoch) = log_in(&server, &data, ALICE);
    let channel = direct(ALICE, BOB);
    for nonce in 1..=POSTS {
        alice.post(channel, nonce, &nonce.to_string(), false);
    }
    let mut answered = Vec::new();
    while answered.is_empty() {
        if let Heard::Posted { nonce, seq, .. } = alice.next_answer() {
            answered.push((nonce, seq));
        }
    }
    server.kill();
    // What was on its way to her when the process ended counts as well.
    while let Heard::Posted { nonce, seq, .. } = alice.next_answer() {
        answered.push((nonce, seq));
    }

    let server = Server::start(&data);
    let (mut alice, _) = log_in(&server, &data, ALICE);
    let mut places = HashSet::new();
    for nonce in 1..=POSTS {
        alice.post(channel, nonce, &nonce.to_string(), true);
        let heard = alice.next_answer();
        let Heard::Posted { seq, .. } = heard else { panic!("retry of {nonce}: {heard:?}") };
        places.insert(seq);
        let first = answered.iter().find(|(answered, _)| *answered == nonce);
        assert_eq!(first.map_or(seq, |(_, seq)| *seq), seq, "the first answer to {nonce}");
    }
    assert_eq!(places, (1..=POSTS).collect(), "each has one place, and there are no holes");

    let (mut bob, _) = resume(&server, &data, BOB, epoch);
    let entries = bob.entries(usize::try_from(POSTS).unwrap());
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    let inbox_seqs: Vec<u64> = entries.iter().map(|entry| entry.inbox_seq).collect();
    assert_eq!(seqs, (1..=POSTS).collect::<Vec<_>>());
    assert_eq!(inbox_seqs, seqs);
    let (direction, from) = (Direction::Forward, wire::Seq::new(1));
    bob.send(History { channel, direction, from, limit: 0 });
    let Heard::Page { entries: history, end: true } = bob.next_answer() else { panic!("no page") };
    let texts = |entries: &[Entry]| entries.iter().map(|it| it.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&history), texts(&entries), "the log and the inbox agree");
    drop((alice, bob));
    server.stop();
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let rows = [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2)];
    for (signal, status) in rows {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let server = Server::start_with(&data, LONG_CLOSE);
        let (mut alice, _) = log_in(&server, &data, ALICE);
        server.signal(signal);
        assert!(matches!(alice.next(), Heard::Reconnect { .. }), "the drain has begun");
        server.signal(signal);
        assert_eq!(server.end().status, status, "{signal:?}");
    }
}

#[test]
fn health_is_told_apart_from_readiness() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_with(&data, LONG_CLOSE);
    let (mut alice, _) = log_in(&server, &data, ALICE);
    assert_eq!(http::get(server.admin, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(http::get(server.admin, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(http::get(server.admin, "/other").0, 404);
    server.signal(Signal::TERM);
    assert!(matches!(alice.next(), Heard::Reconnect { .. }), "the drain has begun");
    assert_eq!(http::get(server.admin, "/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(http::get(server.admin, "/healthz"), (200, "ok\n".to_owned()));
}

#[test]
fn metrics_tell_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let (mut alice, _) = log_in(&server, &data, ALICE);
    let (mut bob, _) = log_in(&server, &data, BOB);
    post_all(&mut alice, 1..4);
    bob.entries(3);
    alice.post(direct(ALICE, BOB), 2, "2", true);
    alice.next_answer();
    alice.post(direct(ALICE, BOB), 2, "other", true);
    assert!(matches!(alice.next_answer(), Heard::Rejected(_)));
    let expected = [
        "mooring_accepted_total 2",
        "mooring_handshakes_total 2",
        "mooring_logins_total 2",
        "mooring_sessions 2",
        "mooring_posts_total 5",
        "mooring_sequenced_total 3",
        "mooring_repeats_total 1",
        "mooring_rejected_total 1",
        "mooring_delivered_total 6", // Alice's own copies, too.
        "mooring_store_full 0",
        "mooring_closes_total{code=\"1001\",name=\"GoingAway\"} 0",
    ];
    // A core publishes its numbers at the end of a turn, perhaps after its answer was heard.
    for scrapes in 1.. {
        let (status, text) = http::get(server.admin, "/metrics");
        assert_eq!(status, 200);
        let missing: Vec<_> =
            expected.iter().filter(|row| !text.lines().any(|line| line == **row)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(scrapes < SCRAPES_MAX, "{missing:?} are not in\n{text}");
    }
    drop((alice, bob));
    server.stop();
}
