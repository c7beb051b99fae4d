//! `mooring check`: what it says of a sound directory, and of one that is not.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::client::{Client, Heard, direct};
use common::http;
use common::process::{Ended, Running, Server, mooring, token};
use wire::Epoch;
use wire::server::Resume;

const ALICE: u64 = 1;
const BOB: u64 = 2;

fn check(data: &Path, more: &[&str]) -> Ended {
    let mut command = mooring(&["check", "--data"]);
    Running::start(command.arg(data).args(more)).end()
}

/// What a line of the report counts.
fn count(ended: &Ended, name: &str) -> u64 {
    let line = ended.stdout.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {name}: {ended:?}"))
}

/// Posts so many messages, each of which is answered; the epoch.
fn post(server: &Server, data: &Path, nonces: std::ops::Range<u64>) -> Epoch {
    let token = token(data, ALICE, 1);
    let (mut alice, heard) = Client::hello(server.gateway, &token, 1, (Epoch::NONE, 0));
    let Heard::Welcome { epoch, .. } = heard else { panic!("no welcome: {heard:?}") };
    for nonce in nonces {
        alice.post(direct(ALICE, BOB), nonce, "hello", false);
        let answer = alice.next_answer();
        assert!(matches!(answer, Heard::Posted { .. }), "{answer:?}");
    }
    epoch
}

/// The log file that was written last.
fn live_log(data: &Path) -> PathBuf {
    let logs = fs::read_dir(data.join("db")).unwrap().map(|entry| entry.unwrap().path());
    logs.filter(|path| path.extension().is_some_and(|it| it == "log")).max().unwrap()
}

/// Flips a bit of the first message in the log.
fn damage(data: &Path) {
    let log = live_log(data);
    let mut bytes = fs::read(&log).unwrap();
    let at = bytes.windows(5).position(|window| window == b"hello").unwrap();
    bytes[at] ^= 1;
    fs::write(log, bytes).unwrap();
}

#[test]
fn a_sound_directory_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    post(&server, &data, 1..11);
    let used = check(&data, &[]);
    assert_eq!(used.status, 1);
    assert!(used.stderr.contains("is in use by process"), "{}", used.stderr);
    server.kill();
    let sound = check(&data, &[]);
    assert_eq!(sound.status, 0, "{sound:?}");
    assert_eq!((count(&sound, "channels"), count(&sound, "messages")), (1, 10));
    assert_eq!((count(&sound, "users"), count(&sound, "entries")), (2, 20));
    assert_eq!(sound.stdout.lines().last(), Some("sound"));
    let none = check(folder.path(), &[]);
    assert_eq!(none.status, 1);
    assert!(none.stderr.contains("is not a data directory"), "{}", none.stderr);
}

#[test]
fn a_damaged_log_is_refused_by_all_until_its_loss_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let epoch = post(&server, &data, 1..11);
    server.kill();
    damage(&data);
    let told = check(&data, &[]);
    assert_eq!(told.status, 1, "{told:?}");
    let log = live_log(&data).display().to_string();
    for part in ["has lost data: changes ", "cannot be read", &log, "--accept-loss"] {
        assert!(told.stderr.contains(part), "{part}: {}", told.stderr);
    }
    let mut serve = mooring(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let serve = Running::start(serve.arg("--data").arg(&data)).end();
    assert_eq!((serve.status, &*serve.stdout), (1, ""), "{}", serve.stderr);
    assert!(serve.stderr.contains("has lost data"), "{}", serve.stderr);

    let accepted = check(&data, &["--accept-loss"]);
    assert_eq!(accepted.status, 0, "{accepted:?}");
    assert_eq!(count(&accepted, "messages"), 0, "the damage was in the first");
    let server = Server::start(&data);
    // Places are given out again, so a cursor of the old history means nothing.
    let token = token(&data, BOB, 1);
    let (_, heard) = Client::hello(server.gateway, &token, 1, (epoch, 1));
    let Heard::Welcome { epoch: renewed, resume, .. } = heard else { panic!("{heard:?}") };
    assert_eq!(resume, Resume::Reset);
    assert_ne!(renewed, epoch);
    post(&server, &data, 1..3);
    server.kill();
    assert_eq!(count(&check(&data, &[]), "messages"), 2);
}

#[test]
fn a_full_disk_is_told_and_refuses_posts_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // More than any disk has.
    let server = Server::start_with(&data, "[store]\ndisk_free_bytes_min = 4611686018427387904\n");
    let token = token(&data, ALICE, 1);
    let (mut alice, _) = Client::hello(server.gateway, &token, 1, (Epoch::NONE, 0));
    alice.post(direct(ALICE, BOB), 1, "hello", false);
    let Heard::Rejected(told) = alice.next_answer() else { panic!("not refused") };
    assert!(told.starts_with("StorageFull"), "{told}");
    let (status, body) = http::get(server.admin, "/readyz");
    assert_eq!((status, body.trim()), (503, "disk full"));
    assert_eq!(http::get(server.admin, "/healthz").0, 200);
    server.stop();
}

/// What could not be written was not acknowledged, so nothing is lost with it.
#[test]
fn a_drain_ends_though_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let epoch = post(&server, &data, 1..4);
    server.kill();
    let config = "[store]\ndisk_free_bytes_min = 4611686018427387904\n\
                  [timeouts]\nclose_seconds = 1\n";
    let server = Server::start_with(&data, config);
    let token = token(&data, ALICE, 1);
    let (mut alice, _) = Client::hello(server.gateway, &token, 1, (epoch, 0));
    assert_eq!(alice.entries(3).len(), 3);
    // It is written when her session ends, and has nowhere to go.
    alice.acknowledge(3);
    alice.post(direct(ALICE, BOB), 9, "hello", false);
    let Heard::Rejected(told) = alice.next_answer() else { panic!("not refused") };
    assert!(told.starts_with("StorageFull"), "{told}");
    server.stop();
}
