//! A server that is started to be killed, and what a child says on its standard output.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock;

/// A server that takes longer to recover has hung. Long, as the machine may have other work: what
/// is found is never that something was slow.
const RECOVERY_MAX: Duration = Duration::from_secs(180);

/// How often a process that is to end is looked at.
const END_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The lines of a child's standard output, as they come.
pub(crate) struct Lines {
    lines: Receiver<String>,
}

impl Lines {
    pub(super) fn of(child: &mut Child) -> Result<Self> {
        let output = child.stdout.take().context("a child's output is not piped")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let read = BufReader::new(output).lines().map_while(|line| line.ok());
            // Read to its end, or the child would block; nobody may listen any more.
            read.for_each(|line| drop(sender.send(line)));
        });
        Ok(Self { lines })
    }

    /// The first line that is meant, if it comes within `max`.
    pub(super) fn wait_for(
        &self,
        is_meant: impl Fn(&str) -> bool,
        max: Duration,
    ) -> Option<String> {
        let since = clock::now();
        loop {
            let left = max.saturating_sub(since.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if is_meant(&line) => return Some(line),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Waits for `pause`, or until the child's output ends; whether it has.
    pub(super) fn has_ended_within(&self, pause: Duration) -> bool {
        let since = clock::now();
        loop {
            match self.lines.recv_timeout(pause.saturating_sub(since.elapsed())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }
}

/// A server, from its start to its kill.
pub(crate) struct Server {
    child: Child,
    lines: Lines,
    started_at: Instant,
    log: PathBuf,
}

impl Server {
    /// Its log is appended to `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let started_at = clock::now();
        let mut child = command.spawn().context("cannot start the server")?;
        let lines = Lines::of(&mut child)?;
        Ok(Self { child, lines, started_at, log: log.to_owned() })
    }

    /// Waits for the ready line; how long after the start it came.
    pub(crate) fn wait_until_ready(&mut self) -> Result<Duration> {
        if self.is_ready_within(RECOVERY_MAX)? {
            return Ok(self.started_at.elapsed());
        }
        self.kill()?;
        bail!("the server does not become ready; see {}", self.log.display())
    }

    /// Whether the ready line comes within `max`.
    ///
    /// # Errors
    /// The server has ended by itself.
    pub(super) fn is_ready_within(&mut self, max: Duration) -> Result<bool> {
        if self.lines.wait_for(|line| line.starts_with("ready "), max).is_some() {
            return Ok(true);
        }
        if let Some(status) = self.child.try_wait().context("cannot wait for the server")? {
            bail!("the server ended by itself ({status}); see {}", self.log.display());
        }
        Ok(false)
    }

    /// Signals it.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        // It has not been waited for yet, so its process id is still its own.
        kill_process(Pid::from_child(&self.child), signal).context("cannot signal the server")
    }

    /// Waits for its ready line or its end, whichever comes; `None`: it is ready.
    pub(crate) fn ready_or_ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.lines.wait_for(|line| line.starts_with("ready "), RECOVERY_MAX).is_some() {
            return Ok(None);
        }
        self.end().map(Some)
    }

    /// Waits for an end that it comes to by itself.
    pub(crate) fn end(&mut self) -> Result<ExitStatus> {
        match wait_for_end(&mut self.child, RECOVERY_MAX)? {
            Some(status) => Ok(status),
            None => bail!("the server does not end; see {}", self.log.display()),
        }
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// It had ended before, by itself: a crash that is not of this test's making.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().context("cannot wait for the server")? {
            bail!("the server ended by itself ({status}); see {}", self.log.display());
        }
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the server")?;
        Ok(())
    }
}

/// Waits until a child has ended, at most for `max`; `None`: it has not.
pub(crate) fn wait_for_end(child: &mut Child, max: Duration) -> Result<Option<ExitStatus>> {
    let asked_at = clock::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child")? {
            return Ok(Some(status));
        }
        if asked_at.elapsed() > max {
            return Ok(None);
        }
        std::thread::park_timeout(END_POLL_INTERVAL);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Of a run that has failed half-way; one that was waited for is left alone.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
