//! The two processes that are measured.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A gateway, and the HTTP side beside it.
pub(crate) struct Site {
    mooring: PathBuf,
    data: PathBuf,
    processes: Vec<Child>,
    /// Its URL.
    pub(crate) gateway: String,
    /// Its address.
    pub(crate) http: String,
}

impl Site {
    pub(crate) fn start(mooring: &Path, data: &Path) -> Self {
        let mut serve = Command::new(mooring);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]);
        let (gateway, line) = start(serve.arg(data).env("RUST_LOG", "warn"));
        let address = line.strip_prefix("ready gateway=").and_then(|it| it.split(' ').next());
        let url = format!("ws://{}", address.expect("the ready line"));
        let mut polling = Command::new(mooring);
        polling.args(["polling", "--listen", "127.0.0.1:0", "--gateway", &url, "--data"]);
        let (polling, line) = start(polling.arg(data));
        let http = line.strip_prefix("ready polling=").expect("the ready line").to_owned();
        let (mooring, data) = (mooring.to_owned(), data.to_owned());
        Self { mooring, data, processes: vec![gateway, polling], gateway: url, http }
    }

    /// An access token of a user's first device.
    pub(crate) fn token(&self, user: u64) -> String {
        let mut command = Command::new(&self.mooring);
        let command =
            command.args(["token", "--user", &user.to_string(), "--device", "1", "--data"]);
        let output = command.arg(&self.data).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Processor time of both so far, to the nanosecond: the first number of each thread's
    /// `schedstat`.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = self
            .processes
            .iter()
            .flat_map(|process| std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap());
        let nanos = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn start(command: &mut Command) -> (Child, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim_end().to_owned())
}
