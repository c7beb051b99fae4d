//! The processes of the drill, and what is said to them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::SESSION_TIMEOUT_SECONDS;
use crate::environment;
use crate::prerequisites::ZOOKEEPER_JAR;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A process that ends with its value.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }

    fn end_by(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone where the drill has ended it; then both do nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A ZooKeeper of one server, of Debian's package.
pub(super) struct ZooKeeper {
    data: TempDir,
    pub(super) address: String,
    process: Option<Process>,
}

impl ZooKeeper {
    pub(super) fn start() -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut zookeeper = Self { data: tempfile::tempdir()?, address, process: None };
        zookeeper.run()?;
        Ok(zookeeper)
    }

    pub(super) fn run(&mut self) -> Result<()> {
        let config = self.data.path().join("zoo.cfg");
        let port = self.address.rsplit(':').next().unwrap_or_default();
        let text = format!(
            "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={port}\ntickTime=500\n\
             admin.enableServer=false\n",
            self.data.path().display(),
        );
        std::fs::write(&config, text)?;
        let log = File::create(self.data.path().join("log"))?;
        let process = java("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(config)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start ZooKeeper")?;
        self.process = Some(Process(process));
        Ok(())
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.take().context("it runs")?.end_by(Signal::KILL)
    }

    pub(super) fn create(&self, node: &str, text: &str) -> Result<()> {
        self.command(&["create", node, text])
    }

    pub(super) fn delete(&self, node: &str) -> Result<()> {
        self.command(&["delete", node])
    }

    fn command(&self, words: &[&str]) -> Result<()> {
        let mut command = java("org.apache.zookeeper.ZooKeeperMain");
        environment::output(command.args(["-server", &self.address]).args(words)).map(drop)
    }
}

fn java(class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-cp", ZOOKEEPER_JAR, class]).stdin(Stdio::null());
    command
}

/// A gateway; its region is its name, so that answers tell it. One of release 0 only looks on.
pub(super) struct Gateway {
    process: Process,
    _data: TempDir,
    pub(super) admin: String,
}

impl Gateway {
    pub(super) fn start(
        binary: &Path,
        zookeeper: &ZooKeeper,
        id: &str,
        release: u64,
    ) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("mooring-drill-").tempdir_in("/var/tmp")?;
        let config = data.path().join("mooring.toml");
        let text = format!(
            "[server]\ndrain_seconds = 0\n[discovery]\nzookeeper = \"{}\"\nannounce = {}\n\
             session_timeout_seconds = {SESSION_TIMEOUT_SECONDS}\nid = \"{id}\"\n\
             region = \"{id}\"\nrelease = {release}\n",
            zookeeper.address,
            release > 0,
        );
        std::fs::write(&config, text)?;
        let log = File::create(data.path().join("log"))?;
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--cores", "1", "--data"]).arg(data.path().join("data"));
        command.arg("--config").arg(config).stdin(Stdio::null());
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn()?;
        let output = process.stdout.take().context("its output is piped")?;
        let process = Process(process);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let admin = line.split_whitespace().find_map(|word| word.strip_prefix("admin="));
        let admin = admin.with_context(|| format!("{id}: not a ready line: {line:?}"))?.to_owned();
        Ok(Self { process, _data: data, admin })
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.end_by(Signal::KILL)
    }

    pub(super) fn terminate(&mut self) -> Result<()> {
        self.process.end_by(Signal::TERM)
    }

    pub(super) fn pause(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    pub(super) fn go_on(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }
}

/// The body of a page.
pub(super) fn get(address: &str, path: &str) -> Result<String> {
    ask(address, &format!("GET {path} HTTP/1.1\r\n"), "")
}

pub(super) fn post(address: &str, path: &str, body: &str) -> Result<()> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    ask(address, &head, body).map(drop)
}

fn ask(address: &str, head: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(stream, "{head}Host: drill\r\nConnection: close\r\n\r\n{body}")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer has a head")?;
    ensure!(head.starts_with("HTTP/1.1 2"), "{}: {body}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}
