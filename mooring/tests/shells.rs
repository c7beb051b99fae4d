//! What a server runs on: what it falls back to where there is no io_uring, what it says about it,
//! and what happens at the limit of open files.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use common::STEP_TIMEOUT;
use common::client::{Client, Heard};
use common::http;
use common::process::{Running, Server, mooring, token};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use wire::Epoch;

/// Runs `test` on a thread that may not make rings, and whose processes may not: as in a container
/// with the usual profile.
fn without_rings(test: impl FnOnce() + Send + 'static) {
    const IO_URING_SETUP: i64 = 425;
    const EPERM: u32 = 1;
    let forbid = move || {
        let rules = BTreeMap::from([(IO_URING_SETUP, Vec::new())]);
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let (others, these) = (SeccompAction::Allow, SeccompAction::Errno(EPERM));
        let filter = SeccompFilter::new(rules, others, these, arch).unwrap();
        seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
        test();
    };
    thread::spawn(forbid).join().unwrap();
}

fn shell_of(server: &Server) -> String {
    let (_, metrics) = http::get(server.admin, "/metrics");
    metrics.lines().filter(|line| line.starts_with("mooring_io{")).collect()
}

#[test]
fn where_rings_are_forbidden_a_server_runs_on_the_portable_shell_and_warns_once() {
    without_rings(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let server = Server::start_by(Server::command(&data).args(["--io", "auto"]));
        assert_eq!(shell_of(&server), r#"mooring_io{shell="portable"} 1"#);
        let (alice, heard) =
            Client::hello(server.gateway, &token(&data, 1, 1), 1, (Epoch::NONE, 0));
        assert!(matches!(heard, Heard::Welcome { .. }), "{heard:?}");
        drop(alice);
        let log = server.stop();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        for words in ["io_uring is forbidden here", "seccomp", "costs", "--io uring"] {
            assert!(warnings[0].contains(words), "{words:?} is not in {}", warnings[0]);
        }
    });
}

#[test]
fn where_rings_are_forbidden_who_wants_them_gets_no_server_but_the_reason() {
    without_rings(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let ended = Running::start(Server::command(&data).args(["--io", "uring"])).end();
        assert_eq!((ended.status, &*ended.stdout), (1, ""), "{}", ended.stderr);
        for words in ["io_uring is forbidden here", "seccomp", "--io portable"] {
            assert!(ended.stderr.contains(words), "{words:?} is not in {}", ended.stderr);
        }
    });
}

#[test]
fn a_server_that_is_told_to_be_portable_is_so_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_by(Server::command(&data).args(["--io", "portable"]));
    assert_eq!(shell_of(&server), r#"mooring_io{shell="portable"} 1"#);
    let log = server.stop();
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_shell_that_does_not_exist_is_refused_by_name() {
    let ended = Running::start(&mut mooring(&["serve", "--io", "kqueue"])).end();
    assert_eq!(ended.status, 2);
    for words in ["'kqueue'", "--io", "auto, uring, portable"] {
        assert!(ended.stderr.contains(words), "{words:?} is not in {}", ended.stderr);
    }
}

fn connect(gateway: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(gateway).unwrap();
    stream.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    stream
}

/// Asks for a WebSocket, and leaves when the answer has come: how it begins.
fn shake_hands(mut stream: TcpStream, gateway: SocketAddr) -> String {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {gateway}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: mooring.v1\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    String::from_utf8_lossy(&head).into_owned()
}

fn open_files(server: &Server) -> u64 {
    let folder = format!("/proc/{}/fd", server.pid().as_raw_nonzero());
    std::fs::read_dir(folder).unwrap().count() as u64
}

#[test]
fn at_the_limit_of_open_files_the_portable_shell_lets_the_next_ones_wait_and_loses_none() {
    const CLIENTS: usize = 64;
    const ROOM: u64 = 16;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_by(Server::command(&data).args(["--io", "portable"]));
    let (gateway, pid) = (server.gateway, Some(server.pid()));
    let limit = open_files(&server) + ROOM;
    let limited = Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) };
    let before = prlimit(pid, Resource::Nofile, limited).unwrap();
    // The kernel lets all of them in; the server has room for the first ones.
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(gateway)).collect();
    while open_files(&server) < limit {
        thread::yield_now();
    }
    let shake = |client| thread::spawn(move || shake_hands(client, gateway));
    let answers: Vec<_> = clients.into_iter().map(shake).collect();
    for answer in answers {
        assert_eq!(answer.join().unwrap(), "HTTP/1.1 101");
    }
    prlimit(pid, Resource::Nofile, before).unwrap();
    let (_, metrics) = http::get(server.admin, "/metrics");
    let paused =
        metrics.lines().find_map(|line| line.strip_prefix("mooring_accepts_paused_total "));
    assert!(paused.is_some_and(|paused| paused != "0"), "it was never at its limit\n{metrics}");
    server.stop();
}
