//! The servers that are compared: how each is started on one processor, and what a session does
//! there.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::clock;

/// How long a server may take until it accepts.
const START_MAX: Duration = Duration::from_secs(10);

/// Between two tries to connect to one that starts.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// One of those that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Mooring,
    Nchan,
    Nats,
}

/// A running server; dropped, it is ended and its folder is removed.
pub(super) struct Peer {
    process: Child,
    folder: TempDir,
    /// What the load generator is told: its scenario, and where and how to connect.
    pub(super) arguments: Vec<String>,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Mooring, Self::Nchan, Self::Nats];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Mooring => "Mooring",
            Self::Nchan => "nginx with nchan",
            Self::Nats => "nats-server",
        }
    }

    /// What makes a connection a session there.
    pub(super) const fn session(self) -> &'static str {
        match self {
            Self::Mooring => {
                "a Hello with a signed token, a Welcome, a heartbeat each 10 s; an inbox that is \
                 on the disk"
            }
            Self::Nchan => {
                "a WebSocket handshake that subscribes to a channel of its own, kept in memory; a \
                 ping each 10 s; nobody is asked who she is"
            }
            Self::Nats => {
                "a CONNECT, a SUB to a subject of its own and a PING that is answered, without \
                 JetStream: nothing is kept; a PING of the server each 2 min; nobody is asked who \
                 she is"
            }
        }
    }

    /// Its version, as it tells it.
    pub(super) fn version(self, mooring: &Path) -> Result<String> {
        let (program, argument) = match self {
            Self::Mooring => (mooring, "--version"),
            Self::Nchan => (Path::new("nginx"), "-v"),
            Self::Nats => (Path::new("nats-server"), "--version"),
        };
        let output = Command::new(program).arg(argument).output()?;
        // nginx tells it on standard error.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        Ok(text.trim().rsplit([' ', '/']).next().unwrap_or_default().to_owned())
    }

    /// Starts one and waits until it accepts.
    pub(super) fn start(self, mooring: &Path) -> Result<Peer> {
        let folder = tempfile::Builder::new().prefix("mooring-compare-").tempdir_in("/var/tmp")?;
        let port = free_port()?;
        let (mut command, arguments) = match self {
            Self::Mooring => start_mooring(mooring, folder.path(), port),
            Self::Nchan => start_nchan(folder.path(), port)?,
            Self::Nats => start_nats(folder.path(), port)?,
        };
        let log = File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("cannot start {}", self.name()))?;
        let mut peer = Peer { process, folder, arguments };
        peer.wait(port).with_context(|| format!("{} does not accept", self.name()))?;
        Ok(peer)
    }
}

impl Peer {
    fn wait(&mut self, port: u16) -> Result<()> {
        let started = clock::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log"));
            ensure!(self.process.try_wait()?.is_none(), "it has ended: {}", log()?);
            ensure!(started.elapsed() < START_MAX, "not within {START_MAX:?}: {}", log()?);
            // They have no common way to say that they accept: each is asked again.
            std::thread::park_timeout(ASK_EVERY);
        }
        Ok(())
    }

    /// A file of its own.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Resident bytes of it and its children.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        let id = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let children = children.split_whitespace().map(str::parse::<u32>);
        let mut sum = resident_bytes(id)?;
        for child in children {
            sum += resident_bytes(child?)?;
        }
        Ok(sum)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its children must hear of it, so it is not killed; it has nothing that it could lose.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

fn start_mooring(mooring: &Path, folder: &Path, port: u16) -> (Command, Vec<String>) {
    let data = folder.join("data");
    let mut command = Command::new(mooring);
    command.args(["serve", "--cores", "1", "--admin", "127.0.0.1:0"]);
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--data"]).arg(&data);
    let url = format!("ws://127.0.0.1:{port}");
    let arguments = ["idle", "--url", &url, "--data", &data.display().to_string()];
    (command, arguments.map(ToOwned::to_owned).to_vec())
}

fn start_nchan(folder: &Path, port: u16) -> Result<(Command, Vec<String>)> {
    let at = folder.display();
    let text = format!(
        "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;\n\
         daemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\npid {at}/pid;\n\
         error_log {at}/log;\nevents {{ worker_connections 19000; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {at}/body;\n\
         \x20 proxy_temp_path {at}/proxy;\n  fastcgi_temp_path {at}/fastcgi;\n\
         \x20 uwsgi_temp_path {at}/uwsgi;\n  scgi_temp_path {at}/scgi;\n\
         \x20 nchan_shared_memory_size 1g;\n\
         \x20 server {{\n    listen 127.0.0.1:{port} backlog=4096;\n\
         \x20   location ~ ^/sub/([0-9]+)$ {{\n      nchan_subscriber websocket;\n\
         \x20     nchan_channel_id $1;\n      nchan_websocket_ping_interval 10;\n    }}\n  }}\n}}\n"
    );
    let config = folder.join("nginx.conf");
    std::fs::write(&config, text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-e").arg(folder.join("log")).arg("-c").arg(&config);
    let url = format!("ws://127.0.0.1:{port}/sub/{{n}}");
    Ok((command, ["foreign", "--url", &url].map(ToOwned::to_owned).to_vec()))
}

fn start_nats(folder: &Path, port: u16) -> Result<(Command, Vec<String>)> {
    let clients = free_port()?;
    let text = format!(
        "listen: \"127.0.0.1:{clients}\"\nmax_connections: 65536\n\
         websocket {{\n  listen: \"127.0.0.1:{port}\"\n  no_tls: true\n}}\n"
    );
    let config = folder.join("nats.conf");
    std::fs::write(&config, text)?;
    let mut command = Command::new("nats-server");
    command.arg("-c").arg(&config).env("GOMAXPROCS", "1");
    let url = format!("ws://127.0.0.1:{port}/");
    let opening = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB inbox.{n} 1\r\nPING\r\n";
    let arguments = ["foreign", "--url", &url, "--opening", opening, "--answer", "PONG"];
    Ok((command, arguments.map(ToOwned::to_owned).to_vec()))
}

/// A port of the loopback that nobody has just now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The second number is resident pages: proc_pid_statm(5).
fn resident_bytes(id: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/statm"))?;
    let pages: u64 = text.split_whitespace().nth(1).context("statm has fields")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}
