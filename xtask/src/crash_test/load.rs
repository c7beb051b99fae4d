//! The load generator, whose oracle goes on while the server fails and comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::server::{Lines, wait_for_end};

/// It must say that it has started, and at the end that it has ended, within this.
const LOADGEN_MAX: Duration = Duration::from_secs(180);

/// A load generator that sends; killed if it is dropped.
pub(crate) struct Load {
    child: Child,
    lines: Lines,
    report: PathBuf,
    log: PathBuf,
}

impl Load {
    /// Starts `people` talking, whose sessions come back, and waits until messages are sent.
    pub(crate) fn start(
        loadgen: &Path,
        people: &[&str],
        gateway: &str,
        data: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let (report, log) = (folder.join("report.json"), folder.join("loadgen.log"));
        let file = fs::File::create(&log).context("cannot make a log")?;
        let mut command = Command::new(loadgen);
        command.args(["run", "chat"]).args(people).arg("--reconnect");
        command.args(["--warmup", "0s", "--duration", "24h"]);
        command.args(["--url", &format!("ws://{gateway}"), "--data"]).arg(data);
        command.arg("--json").arg(&report);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().context("cannot start the load generator")?;
        let lines = Lines::of(&mut child)?;
        let load = Self { child, lines, report, log };
        let started = load.lines.wait_for(|line| line == "started", LOADGEN_MAX);
        ensure!(started.is_some(), "the load generator does not start; see {}", load.log.display());
        Ok(load)
    }

    /// Lets it send for `pause`.
    ///
    /// # Errors
    /// It has ended by itself.
    pub(crate) fn run_for(&self, pause: Duration) -> Result<()> {
        if self.lines.has_ended_within(pause) {
            bail!("the load generator has ended early; see {}", self.log.display());
        }
        Ok(())
    }

    /// Asks it to end, which takes until what was sent has arrived; its report.
    pub(crate) fn stop(mut self) -> Result<(String, ExitStatus)> {
        // It has not been waited for yet, so its process id is still its own.
        kill_process(Pid::from_child(&self.child), Signal::INT)
            .context("cannot signal the load generator")?;
        let Some(status) = wait_for_end(&mut self.child, LOADGEN_MAX)? else {
            bail!("the load generator does not end; see {}", self.log.display());
        };
        let report = fs::read_to_string(&self.report).with_context(|| {
            let log = self.log.display();
            format!("the load generator wrote no report ({status}); see {log}")
        })?;
        Ok((report, status))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Of a run that has failed half-way; one that was waited for is left alone.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
