//! Starts servers and load on a place of the disk.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::crash_test::{self, Load, Random, Rounds, Server, Verdict};
use crate::environment::Environment;
use crate::{clock, console};

/// Few enough to leave the processor to what is being tested: pairs and groups.
const PEOPLE: [&str; 8] =
    ["--pairs", "40", "--groups", "2", "--group-size", "10", "--rate", "1000"];

/// What must happen happens within this.
const AWAIT_MAX: Duration = Duration::from_secs(60);

const AWAIT_INTERVAL: Duration = Duration::from_millis(50);

/// Binaries, and a folder of its own for each trial.
pub(super) struct Host<'a> {
    pub(super) mooring: PathBuf,
    loadgen: PathBuf,
    folder: &'a Path,
    count: Cell<u32>,
}

impl<'a> Host<'a> {
    pub(super) fn new(environment: &Environment, folder: &'a Path) -> Result<Self> {
        Ok(Self {
            mooring: environment.release_binary("mooring"),
            loadgen: environment.release_binary("loadgen"),
            folder,
            count: Cell::new(0),
        })
    }

    /// A new folder.
    pub(super) fn folder(&self) -> Result<PathBuf> {
        self.count.set(self.count.get() + 1);
        let path = self.folder.join(self.count.get().to_string());
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// A place for a server: notes in a new folder, data in `data` or there, too.
    pub(super) fn place(&self, data: Option<PathBuf>, config: &str) -> Result<Place<'_>> {
        let folder = self.folder()?;
        let data = data.unwrap_or_else(|| folder.join("data"));
        fs::write(folder.join("mooring.toml"), config).context("cannot write a configuration")?;
        let mut random = Random::new(crash_test::fresh_seed());
        let addresses =
            [crash_test::free_address(&mut random)?, crash_test::free_address(&mut random)?];
        Ok(Place { host: self, data, folder, addresses, environment: Vec::new() })
    }
}

/// Where one server runs, again and again.
pub(super) struct Place<'a> {
    host: &'a Host<'a>,
    pub(super) data: PathBuf,
    pub(super) folder: PathBuf,
    addresses: [String; 2],
    /// Variables of the server.
    pub(super) environment: Vec<(&'static str, OsString)>,
}

impl Place<'_> {
    pub(super) fn start(&self) -> Result<Server> {
        let [gateway, admin] = &self.addresses;
        let mut command = Command::new(&self.host.mooring);
        command.args(["serve", "--data"]).arg(&self.data);
        command.arg("--config").arg(self.folder.join("mooring.toml"));
        command.args(["--listen", gateway, "--admin", admin, "--cores", "2"]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Server::start(command, &self.log())
    }

    pub(super) fn start_ready(&self) -> Result<Server> {
        let mut server = self.start()?;
        server.wait_until_ready()?;
        Ok(server)
    }

    pub(super) fn load(&self) -> Result<Load> {
        Load::start(&self.host.loadgen, &PEOPLE, &self.addresses[0], &self.data, &self.folder)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// The last line of the server's log that has `part` in it.
    pub(super) fn logged(&self, part: &str) -> Result<String> {
        let log = fs::read(self.log()).context("the server has no log")?;
        let log = String::from_utf8_lossy(&log);
        let line = log.lines().rev().find(|line| line.contains(part) && !line.trim().is_empty());
        line.map(str::to_owned).with_context(|| format!("nothing of {part:?} is logged"))
    }

    /// Waits until the log has such a line.
    pub(super) fn await_logged(&self, part: &str) -> Result<String> {
        self.await_that(part, || Ok(self.logged(part).ok()))
    }

    /// Waits until `/readyz` answers with this.
    pub(super) fn await_readyz(&self, expected: &str) -> Result<()> {
        self.await_that(expected, || {
            let answer = get(&self.addresses[1], "/readyz").unwrap_or_default();
            Ok((answer == expected).then_some(()))
        })
    }

    fn await_that<T>(&self, what: &str, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
        let since = clock::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if since.elapsed() > AWAIT_MAX {
                let max = console::duration(AWAIT_MAX);
                bail!("no {what:?} within {max}; see {}", self.log().display());
            }
            std::thread::park_timeout(AWAIT_INTERVAL);
        }
    }

    /// What `mooring check` says; `Err` holds its words if it is not sound.
    pub(super) fn check(&self) -> Result<Result<String, String>> {
        crash_test::check(&self.host.mooring, &self.data)
    }

    /// Ends the load and the server; what the oracle and the check say.
    pub(super) fn judge(&self, load: Load, server: &mut Server) -> Result<Judged> {
        let (report, status) = load.stop()?;
        server.kill()?;
        let verdict = Verdict::new(Rounds::default(), &report, status, self.check()?)?;
        let report: serde_json::Value =
            serde_json::from_str(&report).context("the report is not JSON")?;
        let count = |path| report.pointer(path).and_then(serde_json::Value::as_u64);
        let posted = count("/posted/count").context("no count of posts")?;
        let back = count("/sessions/reconnects").context("no count of reconnects")?;
        let text = format!("{posted} posted, 0 lost; {back} sessions came back");
        anyhow::ensure!(posted > 0, "nothing was posted: {text}");
        Ok(Judged { text, wrong: (!verdict.is_clean()).then(|| verdict.summary()), back })
    }
}

/// What came of a trial under load.
pub(super) struct Judged {
    pub(super) text: String,
    pub(super) wrong: Option<String>,
    /// Sessions that ended and came back.
    pub(super) back: u64,
}

/// `exit 1`, or `signal 6 (134)`.
pub(super) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("exit status {}", 128 + signal),
        (None, None) => status.to_string(),
    }
}

/// Status and body of an answer of the admin port: `503 disk full`.
fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an answer of HTTP")?;
    let status = head.split(' ').nth(1).context("no status")?;
    Ok(format!("{status} {}", body.trim()))
}
