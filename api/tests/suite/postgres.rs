//! A PostgreSQL server for the time of a test run: the real one of Debian's packages, on a socket
//! in a folder of its own, as a user without rights.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// Bounds the start; only a failing one reaches it.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Its owner where the tests run as root, under which it refuses to start. The package makes it.
const OWNER: &str = "postgres";

pub(crate) struct Postgres {
    server: Child,
    folder: tempfile::TempDir,
}

impl Postgres {
    /// Makes a cluster and starts it; or says what is missing.
    pub(crate) fn start() -> Result<Self, String> {
        let programs = programs().ok_or("there is no PostgreSQL: `apt-get install postgresql`")?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let place = folder.path().join("cluster");
        std::fs::create_dir(&place).map_err(|error| error.to_string())?;
        if geteuid().is_root() {
            let folder = folder.path();
            run(Command::new("chmod").arg("711").arg(folder))?;
            run(Command::new("chown").arg("-R").arg(OWNER).arg(&place))?;
        }
        let data = place.join("data");
        let mut make = unprivileged(&programs.join("initdb"));
        make.args(["--auth=trust", "--username=mooring", "--encoding=UTF8", "--no-sync"]);
        run(make.arg("--pgdata").arg(&data))?;
        let mut serve = unprivileged(&programs.join("postgres"));
        serve.arg("-D").arg(&data).arg("-k").arg(&place);
        // Its data need not outlive the run.
        serve.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"]);
        serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = serve.spawn().map_err(|error| error.to_string())?;
        let (sender, is_ready) = channel();
        let log = server.stderr.take().expect("it is piped");
        std::thread::spawn(move || {
            // To its end: a full pipe would stop the server.
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if line.contains("ready to accept connections") {
                    let _ = sender.send(());
                }
            }
        });
        let started = Self { server, folder };
        match is_ready.recv_timeout(START_TIMEOUT) {
            Ok(()) => Ok(started),
            Err(_) => Err("PostgreSQL did not start".to_owned()),
        }
    }

    /// The URL of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        let place = self.folder.path().join("cluster");
        let place = place.display().to_string().replace('/', "%2F");
        format!("postgres://mooring@{place}/{database}")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // INT ends it without waiting for its clients.
        let _ = kill_process(Pid::from_child(&self.server), Signal::INT);
        let _ = self.server.wait();
    }
}

/// Where the newest installed version has its programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let bins = versions.map(|version| version.path().join("bin"));
    bins.filter(|bin| bin.join("initdb").is_file()).max()
}

/// `program`, not as root; it ends with us even if we are killed.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=INT");
    if geteuid().is_root() {
        let (user, group) = (format!("--reuid={OWNER}"), format!("--regid={OWNER}"));
        command.args([&user, &group, "--clear-groups"]);
    }
    command.arg(program);
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
