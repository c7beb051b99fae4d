//! Looking at both ends once a second while sessions are opened and held.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::server::{Server, processor_time};
use crate::clock;
use crate::console::Meter;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// One look.
#[derive(Clone, Copy, Default)]
pub(super) struct Sample {
    /// Seconds since the generator was started.
    pub(super) at: f64,
    /// Sessions that the server has.
    pub(super) sessions: u64,
    /// What the server has in memory, in bytes.
    pub(super) resident: u64,
    /// What the kernel's slab allocator holds for the whole machine, in bytes: both ends.
    pub(super) slab: u64,
    /// Processors that the server used since the look before.
    pub(super) server: f64,
    /// Processors that the generator used since the look before.
    pub(super) generator: f64,
}

/// What was seen.
pub(super) struct Watched {
    /// Before the first session.
    pub(super) before: Sample,
    pub(super) samples: Vec<Sample>,
    /// The last look at most sessions.
    pub(super) held: Sample,
    /// The server's metrics at that look.
    pub(super) metrics: String,
    /// And before the first session.
    pub(super) metrics_before: String,
    /// What the generator said.
    pub(super) errors: String,
}

/// Looks at a server.
pub(super) struct Watch<'w> {
    server: &'w Server,
    sessions: u32,
    started: Instant,
    used: (Duration, Duration),
    watched: Watched,
}

impl<'w> Watch<'w> {
    /// Before the first session of so many.
    pub(super) fn begin(server: &'w Server, sessions: u32) -> Result<Self> {
        // What it does once a second, it has done then.
        std::thread::park_timeout(2 * EVERY);
        let metrics = server.metrics()?;
        let watched = Watched {
            before: Sample::default(),
            samples: Vec::new(),
            held: Sample::default(),
            metrics_before: metrics.clone(),
            metrics,
            errors: String::new(),
        };
        let used = (server.processor_time()?, Duration::ZERO);
        let mut watch = Self { server, sessions, started: clock::now(), used, watched };
        watch.watched.before = watch.look(None)?.0;
        Ok(watch)
    }

    /// Runs the generator, and looks on.
    pub(super) fn until_it_ends(mut self, command: &mut Command) -> Result<Watched> {
        let log = self.server.data().join("loadgen.log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut generator = command.spawn().context("cannot start loadgen")?;
        self.started = clock::now();
        let mut meter = Meter::new("sessions", self.sessions.into());
        let mut next = EVERY;
        while generator.try_wait()?.is_none() {
            std::thread::park_timeout(next.saturating_sub(self.started.elapsed()));
            next += EVERY;
            // It may have ended since.
            let Ok((sample, metrics)) = self.look(Some(&generator)) else { continue };
            meter.set(sample.sessions);
            if sample.sessions >= self.watched.held.sessions {
                (self.watched.held, self.watched.metrics) = (sample, metrics);
            }
            self.watched.samples.push(sample);
        }
        meter.finish();
        self.watched.errors = std::fs::read_to_string(&log)?;
        Ok(self.watched)
    }

    fn look(&mut self, generator: Option<&Child>) -> Result<(Sample, String)> {
        let metrics = self.server.metrics()?;
        let at = self.started.elapsed().as_secs_f64();
        let of_generator = generator.map_or(Ok(Duration::ZERO), |it| processor_time(it.id()))?;
        let used = (self.server.processor_time()?, of_generator);
        let before = std::mem::replace(&mut self.used, used);
        let since = at - self.watched.samples.last().map_or(0.0, |sample| sample.at);
        let share = |now: Duration, before: Duration| {
            now.saturating_sub(before).as_secs_f64() / since.max(0.001)
        };
        let sample = Sample {
            at,
            sessions: value(&metrics, "mooring_sessions").unwrap_or_default(),
            resident: kilobytes(&format!("/proc/{}/status", self.server.id()), "VmRSS:")?,
            slab: kilobytes("/proc/meminfo", "Slab:")?,
            server: share(used.0, before.0),
            generator: share(used.1, before.1),
        };
        Ok((sample, metrics))
    }
}

/// The value of a metric; `name` is all that stands before it.
pub(super) fn value(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// A line of a file of /proc, in bytes.
fn kilobytes(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let found = kilobytes_in(&text, name);
    found.with_context(|| format!("{path} has no line {name:?} in kB"))
}

fn kilobytes_in(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let metrics = "# HELP mooring_sessions x\nmooring_sessions 12\nmooring_sessions_total 5\n";
        assert_eq!(value(metrics, "mooring_sessions"), Some(12));
        assert_eq!(value(metrics, "mooring_session"), None);
    }

    #[test]
    fn lines_of_proc_are_in_kilobytes() {
        let text = "SlabX:   9 kB\nSlab:      7 kB\nHugePages: 3\n";
        assert_eq!(kilobytes_in(text, "Slab:"), Some(7 * 1024));
        assert_eq!((kilobytes_in(text, "HugePages:"), kilobytes_in(text, "None:")), (None, None));
    }
}
