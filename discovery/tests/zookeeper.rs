//! Gateways in a real ZooKeeper, of Debian's package: they come, tell their load, drain, die, and
//! the server itself goes and comes back.

#![allow(clippy::unwrap_used, reason = "a test says where it fails")]
#![allow(clippy::print_stdout, reason = "how long each step took is worth a look")]
#![allow(clippy::disallowed_methods, reason = "real processes in real time")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use discovery::zookeeper::{Settings, announce, follow};
use discovery::{Answer, Asker, Board, Record};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long anything may take that is awaited; far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    data: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// None where Debian's package `zookeeper` cannot be had, and that is said to be known.
    fn start() -> Option<Self> {
        let is_installed = std::path::Path::new("/usr/share/java/zookeeper.jar").exists();
        if !is_installed {
            let is_known = std::env::var_os("MOORING_ALLOW_NO_ZOOKEEPER").is_some();
            assert!(is_known, "there is no ZooKeeper: `apt-get install zookeeper`");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { data: tempfile::tempdir().unwrap(), port, process: None };
        server.run();
        Some(server)
    }

    fn run(&mut self) {
        let config = self.data.path().join("zoo.cfg");
        let text = format!(
            "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\ntickTime=500\n\
             minSessionTimeout=1000\nmaxSessionTimeout=10000\nadmin.enableServer=false\n",
            self.data.path().display(),
            self.port
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(self.data.path().join("log")).unwrap();
        let child = Command::new("java")
            .args(["-Xmx256m", "-cp", "/usr/share/java/zookeeper.jar"])
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(config)
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("java, which the package zookeeper needs");
        self.process = Some(child);
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            cluster: format!("127.0.0.1:{}", self.port),
            root: "/mooring".into(),
            session_timeout: Duration::from_secs(2),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn record(id: &str, sessions: u64) -> Record {
    Record {
        id: id.into(),
        url: format!("ws://{id}"),
        region: "eu".into(),
        release: 1,
        sessions,
        sessions_max: 100,
        draining: false,
    }
}

/// Asks until the answer is as it should be; says how long that took.
async fn until(board: &Board, what: &str, is_so: impl Fn(&Answer) -> bool) -> Duration {
    let begin = Instant::now();
    let mut interval = tokio::time::interval(Duration::from_millis(10));
    loop {
        let answer = board.answer(Asker::default(), Instant::now(), 7);
        if is_so(&answer) {
            println!("{what}: {:.2?}", begin.elapsed());
            return begin.elapsed();
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: {answer:?}");
        interval.tick().await;
    }
}

fn urls(answer: &Answer) -> Vec<&str> {
    let mut urls: Vec<&str> = answer.gateways.iter().map(|one| &*one.url).collect();
    urls.sort_unstable();
    urls
}

fn gateway(settings: &Settings, id: &str) -> (watch::Sender<Record>, JoinHandle<()>) {
    let (sender, records) = watch::channel(record(id, 0));
    (sender, tokio::spawn(announce(settings.clone(), records)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_gateways_and_of_zookeeper_is_in_the_answer() {
    let Some(mut server) = Server::start() else { return };
    let settings = server.settings();
    let board = Arc::new(Board::default());
    let follower = tokio::spawn(follow(settings.clone(), Arc::clone(&board)));
    let (one, _one_task) = gateway(&settings, "one");
    let (_two, two_task) = gateway(&settings, "two");
    let (three, three_task) = gateway(&settings, "three");
    let all = ["ws://one", "ws://three", "ws://two"];
    until(&board, "three have come", |answer| !answer.stale && urls(answer) == all).await;

    one.send_modify(|record| record.draining = true);
    until(&board, "one drains", |answer| urls(answer) == ["ws://three", "ws://two"]).await;
    one.send_modify(|record| record.draining = false);
    until(&board, "one drains no more", |answer| urls(answer) == all).await;

    // Its task is gone as a process that was killed is: nobody says goodbye.
    two_task.abort();
    let _ = two_task.await;
    until(&board, "two is dead", |answer| urls(answer) == ["ws://one", "ws://three"]).await;

    server.stop();
    until(&board, "an outage is said", |answer| answer.stale).await;
    let during = board.answer(Asker::default(), Instant::now(), 7);
    assert_eq!(urls(&during), ["ws://one", "ws://three"], "the last that was known");
    server.run();
    until(&board, "it is over", |answer| !answer.stale).await;
    three.send_modify(|record| record.sessions = 99);
    let is_told = |answer: &Answer| urls(answer) == ["ws://one", "ws://three"];
    until(&board, "both are there still", is_told).await;

    drop(three);
    three_task.await.unwrap();
    until(&board, "three has said goodbye", |answer| urls(answer) == ["ws://one"]).await;
    follower.abort();
}
