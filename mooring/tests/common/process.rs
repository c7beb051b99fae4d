//! The binary under test.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::STEP_TIMEOUT;

/// On which shell this test binary runs its servers. `portable` is made of the tests of others.
/// Without rings, which the environment must permit, the others test what a server falls back to.
fn shell() -> &'static str {
    let permitted = std::env::var_os("MOORING_ALLOW_NO_URING").is_some_and(|value| value == "1");
    match env!("CARGO_CRATE_NAME") {
        "portable" => "portable",
        _ if permitted => "auto",
        _ => "uring",
    }
}

/// A command of the binary under test, without the environment's `MOORING_*`.
pub(crate) fn mooring(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mooring"));
    for name in ["CONFIG", "DATA", "LISTEN", "ADMIN", "CORES"] {
        command.env_remove(format!("MOORING_{name}"));
    }
    // By the environment, so that a test may say otherwise by a flag.
    command.env("MOORING_IO", shell());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A token of a device.
pub(crate) fn token(data: &Path, user: u64, device: u32) -> String {
    let (user, device) = (user.to_string(), device.to_string());
    let mut command = mooring(&["token", "--user", &user, "--device", &device, "--data"]);
    let ended = Running::start(command.arg(data)).end();
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    ended.stdout.trim().to_owned()
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status, or 128 and the signal that killed it.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A process that is killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("it is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("it is piped");
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).expect("a pipe can be read");
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, lines, seen: String::new(), stderr: Some(stderr) }
    }

    /// The next line of its standard output; none when that has ended.
    pub(crate) fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(STEP_TIMEOUT) {
            Ok(line) => {
                self.seen.push_str(&line);
                self.seen.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no word and no end of the process"),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it has not been waited for");
    }

    /// Waits for its end: of its output, which ends with it, and then of itself.
    pub(crate) fn end(mut self) -> Ended {
        while self.line().is_some() {}
        let status = self.child.wait().expect("it can be waited for");
        let status = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        let stderr = self.stderr.take().expect("taken here alone").join();
        Ended {
            status: status.expect("ended by itself or by a signal"),
            stdout: std::mem::take(&mut self.seen),
            stderr: stderr.expect("a reader of a pipe does not panic"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Has no effect on one that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that is ready.
pub(crate) struct Server {
    pub(crate) gateway: SocketAddr,
    pub(crate) admin: SocketAddr,
    process: Running,
}

impl Server {
    /// Two cores, so that users and channels live on different ones.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, "")
    }

    /// With a configuration besides.
    pub(crate) fn start_with(data: &Path, config: &str) -> Self {
        let file = data.with_extension("toml");
        std::fs::write(&file, config).expect("the folder of tests is writable");
        Self::start_by(Self::command(data).arg("--config").arg(file))
    }

    /// The command that starts one.
    pub(crate) fn command(data: &Path) -> Command {
        let mut command = mooring(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--cores", "2", "--data"]).arg(data);
        command
    }

    /// By this command, which says where it listens.
    pub(crate) fn start_by(command: &mut Command) -> Self {
        let mut process = Running::start(command);
        let Some(line) = process.line() else { panic!("no server: {}", process.end().stderr) };
        let addresses = line.strip_prefix("ready gateway=").and_then(|it| it.split_once(" admin="));
        let (gateway, admin) = addresses.unwrap_or_else(|| panic!("not the ready line: {line}"));
        let parse = |address: &str| address.parse().expect("one address each was asked for");
        Self { gateway: parse(gateway), admin: parse(admin), process }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process.child)
    }

    pub(crate) fn end(self) -> Ended {
        self.process.end()
    }

    /// Asks it to stop, and checks that it did so well; what it has logged.
    pub(crate) fn stop(self) -> String {
        self.signal(Signal::TERM);
        let ended = self.end();
        assert_eq!(ended.status, 0, "{}", ended.stderr);
        ended.stderr
    }

    /// As a power loss of the process would: no word, no flush.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
        assert_eq!(self.end().status, 128 + 9);
    }
}
