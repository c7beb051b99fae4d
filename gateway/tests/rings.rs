//! The whole gateway on real sockets and disk, on rings and on the portable shell. What it decides
//! is tested elsewhere, on the virtual host; here is that the parts fit together.

mod sim;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use gateway::auth::Identity;
use gateway::config::{Config, ShellConfig};
use gateway::limits::Limits;
use gateway::server::Gateway;
use wire::client::{ClientBody, Post};
use wire::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, UserId};

use sim::client::{Client, From};
use sim::heard::{Heard, Names, line};

const FRESH: From = From { epoch: Epoch::NONE, cursor: InboxSeq::ZERO, ticket: None };

const USERS: u64 = 8;

/// On which shells to test. Without rings the first one is what a server falls back to.
fn shells() -> [ShellConfig; 2] {
    let permitted = std::env::var_os("MOORING_ALLOW_NO_URING").is_some_and(|value| value == "1");
    [if permitted { ShellConfig::Auto } else { ShellConfig::Uring }, ShellConfig::Portable]
}

fn start(data: &Path, shell: ShellConfig, cores: u16) -> Gateway {
    let mut config = Config::default();
    config.io.shell = shell;
    config.server.listen = vec!["127.0.0.1:0".into()];
    config.server.data = data.to_owned();
    config.server.cores = cores;
    config.server.drain_seconds = 0;
    config.limits.connections_per_core_max = 64;
    config.store.shards = 64;
    config.store.memtable_bytes = 1 << 20;
    config.store.disk_free_bytes_min = 1 << 20;
    Gateway::start(Limits::new(&config).expect("valid")).expect("a gateway starts")
}

/// A client on a real socket.
struct Wired {
    stream: TcpStream,
    client: Client,
}

impl Wired {
    fn connect(gateway: &Gateway, user: UserId, from: &From) -> Self {
        let mut stream = TcpStream::connect(gateway.addresses()[0]).expect("it listens");
        // Only so that a failure is one, and not a test that never ends.
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
        let device = DeviceId(1);
        let mut client = Client::new(user, device, 0);
        let identity = Identity { user, device };
        let now = gateway::clock::wall();
        let token = gateway.keys().sign(identity, now, Duration::from_secs(60));
        let hello = [Client::handshake(), client.hello_with(from, &token)].concat();
        stream.write_all(&hello).expect("the socket takes it");
        Self { stream, client }
    }

    fn say<'a>(&mut self, body: impl Into<ClientBody<'a>>) {
        let bytes = self.client.say(body);
        self.stream.write_all(&bytes).expect("the socket takes it");
    }

    fn post(&mut self, to: UserId, nonce: u64, body: &[u8]) {
        let channel = ChannelId::direct(self.client.user, to);
        self.say(Post { channel, nonce: Nonce(nonce), kind: 0, body, retry: false });
    }

    /// The next thing it hears but copies of its own.
    fn hear(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.client.heard.pop_front() {
                return heard;
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => self.client.end(),
                Ok(count) => {
                    let answer = self.client.hear(&bytes[..count]);
                    // The answer to a close, which the gateway need not wait for.
                    let _ = self.stream.write_all(&answer);
                }
                // The kernel's work for the rings of this process may end any wait of its threads.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{}: nothing more is heard: {error}", self.client.user),
            }
        }
    }

    fn hear_line(&mut self) -> String {
        line(&self.hear(), &Names::new())
    }
}

fn user(number: u64) -> UserId {
    UserId::new(number).expect("users are numbered from 1")
}

/// The user after `number`, round.
fn next(number: u64) -> u64 {
    number % USERS + 1
}

/// Runs sessions of all users, of whom each posts to the next, and ends by a drain.
fn run(data: &Path, shell: ShellConfig, cores: u16, round: u64) {
    let gateway = start(data, shell, cores);
    // Each round leaves two entries in everyone's inbox: what she posted and what she got.
    let cursor = InboxSeq::new(2 * round);
    let mut sessions: Vec<Wired> =
        (1..=USERS).map(|number| Wired::connect(&gateway, user(number), &FRESH)).collect();
    for session in &mut sessions {
        let heard = session.hear_line();
        let expected = format!("welcome {cursor} Fresh");
        assert_eq!(heard, expected, "round {round}, {cores} cores, {shell:?}");
    }
    for (number, session) in (1..).zip(&mut sessions) {
        session.post(user(next(number)), round + 1, &[b'x'; 3000]);
    }
    for (number, session) in (1..=USERS).zip(&mut sessions) {
        let mut heard = [session.hear_line(), session.hear_line()];
        heard.sort();
        assert!(heard[0].starts_with('@'), "{number}: {heard:?}");
        assert!(heard[1].starts_with(&format!("posted n{}", round + 1)), "{number}: {heard:?}");
    }
    let mut newer = Wired::connect(&gateway, user(1), &FRESH);
    assert!(matches!(newer.hear(), Heard::Welcome { .. }));
    let mut older = std::mem::replace(&mut sessions[0], newer);
    assert_eq!((older.hear_line(), older.hear_line()), ("closed 4409".into(), "lost".into()));
    gateway.drainer().drain();
    for session in &mut sessions {
        let heard = [session.hear_line(), session.hear_line(), session.hear_line()];
        assert_eq!(heard, ["reconnect 0", "closed 1001", "lost"]);
    }
    gateway.wait().expect("the rings end well");
}

#[test]
fn sessions_post_are_displaced_and_drained_on_two_cores_then_three_then_one() {
    for shell in shells() {
        let data = tempfile::tempdir().unwrap();
        for (round, cores) in [(0, 2), (1, 3), (2, 1)] {
            run(data.path(), shell, cores, round);
        }
    }
}

#[test]
fn a_device_resumes_where_it_was_after_a_restart_on_the_other_shell() {
    let [first, second] = shells();
    for (before, after) in [(first, second), (second, first)] {
        let data = tempfile::tempdir().unwrap();
        let gateway = start(data.path(), before, 2);
        let mut one = Wired::connect(&gateway, user(1), &FRESH);
        let Heard::Welcome { epoch, .. } = one.hear() else { panic!("a welcome is first") };
        for nonce in 1..=5 {
            one.post(user(2), nonce, b"hi");
            assert_eq!(one.hear_line(), format!("posted n{nonce} #{nonce}"));
        }
        drop(one);
        gateway.drainer().drain();
        gateway.wait().unwrap();
        let gateway = start(data.path(), after, 3);
        let from = From { epoch, cursor: InboxSeq::new(3), ticket: None };
        let mut two = Wired::connect(&gateway, user(2), &from);
        assert_eq!(two.hear_line(), "welcome @5 Resumed");
        let page = r#"page to @5 end: [@4 u1:u2#4 u1 "hi"] [@5 u1:u2#5 u1 "hi"]"#;
        assert_eq!(two.hear_line(), page);
        two.post(user(1), 1, b"ho");
        assert_eq!(two.hear_line(), "posted n1 #6");
        drop(two);
        gateway.drainer().drain();
        gateway.wait().unwrap();
    }
}
