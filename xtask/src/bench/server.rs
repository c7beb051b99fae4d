//! A server to be measured, on a data directory of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::environment::Environment;

/// How long the admin port may take to answer.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What can be chosen of a server.
pub(crate) struct Launch<'l> {
    /// 0 for one a processor.
    pub(crate) cores: u16,
    /// The text of its configuration file.
    pub(crate) config: Option<&'l str>,
}

/// A running server; dropped, it is killed and its data is removed.
pub(crate) struct Server {
    process: Child,
    data: TempDir,
    gateway: String,
    admin: String,
}

impl Server {
    /// Starts one on free ports and waits until it accepts.
    pub(crate) fn start(environment: &Environment, cores: u16) -> Result<Self> {
        Self::start_binary(&environment.shipped_binary("mooring"), cores)
    }

    /// As [`Self::start`], of another build.
    pub(crate) fn start_binary(binary: &Path, cores: u16) -> Result<Self> {
        Self::launch(binary, &Launch { cores, config: None })
    }

    /// As [`Self::start_binary`], with all that can be chosen.
    pub(crate) fn launch(binary: &Path, launch: &Launch<'_>) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("mooring-bench-").tempdir_in("/var/tmp")?;
        let log = File::create(data.path().join("server.log"))?;
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command
            .args(["--cores", &launch.cores.to_string(), "--data"])
            .arg(data.path().join("data"));
        if let Some(text) = launch.config {
            let config = data.path().join("mooring.toml");
            std::fs::write(&config, text)?;
            command.arg("--config").arg(config);
        }
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start the server")?;
        let output = process.stdout.take().context("its output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = |name: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.map(ToOwned::to_owned).with_context(|| format!("not a ready line: {line:?}"))
        };
        let (gateway, admin) = (address("gateway=")?, address("admin=")?);
        Ok(Self { process, data, gateway, admin })
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.data.path().join("data")
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.gateway)
    }

    /// What it has used of the processors, in user and kernel mode.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        processor_time(self.id())
    }

    /// How many messages its commit groups had: (upper bound, groups).
    pub(crate) fn commit_groups(&self) -> Result<Vec<(f64, u64)>> {
        Ok(buckets(&self.metrics()?, "mooring_store_group_messages_bucket"))
    }

    /// Its metrics, as it tells them.
    pub(crate) fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(&self.admin)?;
        stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Ends it, and its data.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.process), Signal::KILL)?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`; then both do nothing.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a process has used of the processors, in user and kernel mode.
pub(crate) fn processor_time(process: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("process {process} has ended"))?;
    // After the name, which may hold anything: utime and stime are the 12th and 13th.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

/// The buckets of a histogram of the exposition, each with its own count.
fn buckets(text: &str, name: &str) -> Vec<(f64, u64)> {
    let mut below = 0;
    let mut found = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix(name)) {
        let bound = line.split('"').nth(1).and_then(|bound| bound.parse::<f64>().ok());
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
        if let (Some(bound), Some(count)) = (bound, count) {
            found.push((bound, count - std::mem::replace(&mut below, count)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_counted_apart() {
        let text =
            "# HELP x\nx_bucket{le=\"1.0\"} 3\nx_bucket{le=\"2.0\"} 3\nx_bucket{le=\"4.0\"} 9\n";
        assert_eq!(buckets(text, "x_bucket"), [(1.0, 3), (2.0, 0), (4.0, 6)]);
    }
}
