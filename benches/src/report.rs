//! What was measured, on what, and how it spread.

use std::io::{self, Write};

use serde::Serialize;

use crate::rounds::Round;

/// One row of a table of runtimes.
#[derive(Serialize, Debug)]
pub struct Report {
    name: String,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    rounds: Vec<f64>,
    /// CPU time of the thread under test for one operation, median of the rounds. What a faster
    /// driver would change least.
    server_nanos_per_operation: f64,
    /// The share of time in which the two threads used their CPU. Only a server near 1 was measured
    /// at its limit; with a client at 1 and a server below it, the client was.
    server_busy: f64,
    client_busy: f64,
    environment: Environment,
}

/// What it ran on.
#[derive(Serialize, Debug)]
pub struct Environment {
    kernel: String,
    cpu: String,
    cpus: usize,
    driver: String,
}

impl Environment {
    /// This host, and the driver's own description of itself.
    #[must_use]
    pub fn of(driver: String) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(": "))
            .map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned());
        let kernel = read("/proc/sys/kernel/osrelease").trim_end().to_owned();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        Self { kernel, cpu, cpus, driver }
    }
}

impl Report {
    /// The rounds of `name`, whose operations are `unit`s.
    #[must_use]
    pub fn new(name: String, unit: &'static str, done: &[Round], environment: Environment) -> Self {
        let seconds = |round: &Round| round.elapsed.as_secs_f64();
        let busy = |thread: usize| {
            let share = |round: &Round| nanos(round, thread) / 1e9 / seconds(round);
            median(done.iter().map(share).collect())
        };
        let rounds: Vec<f64> = done.iter().map(|round| count(round) / seconds(round)).collect();
        Self {
            name,
            unit,
            median: median(rounds.clone()),
            min: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            max: rounds.iter().copied().fold(0.0, f64::max),
            rounds,
            server_nanos_per_operation: median(
                done.iter().map(|round| nanos(round, 0) / count(round)).collect(),
            ),
            server_busy: busy(0),
            client_busy: busy(1),
            environment,
        }
    }

    /// To standard output: lines for people, or one JSON object.
    ///
    /// # Errors
    ///
    /// What the output says.
    pub fn print(&self, as_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if as_json {
            serde_json::to_writer(&mut out, self)?;
            return writeln!(out);
        }
        let Environment { kernel, cpu, cpus, driver } = &self.environment;
        writeln!(out, "# Linux {kernel}, {cpu}, {cpus} CPUs; {driver}")?;
        for (index, rate) in self.rounds.iter().enumerate() {
            writeln!(out, "round {}: {rate:.0} {}/s", index + 1, self.unit)?;
        }
        let Self { name, unit, median, min, max, .. } = self;
        writeln!(out, "{name}: median {median:.0} {unit}/s (min {min:.0}, max {max:.0})")?;
        writeln!(
            out,
            "server: {:.0} ns of CPU each, busy {:.0} %; client: busy {:.0} %",
            self.server_nanos_per_operation,
            self.server_busy * 100.0,
            self.client_busy * 100.0
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a round are far below 2^52")]
fn count(round: &Round) -> f64 {
    round.operations as f64
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a round are far below 2^52")]
fn nanos(round: &Round, thread: usize) -> f64 {
    round.cpu_nanos[thread] as f64
}

/// The middle of the values; the mean of the two middle ones; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (length, half) if length % 2 == 0 => f64::midpoint(values[half - 1], values[half]),
        (_, half) => values[half],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two() {
        for (values, expected) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0], 5.0), (vec![5.0, 1.0, 9.0], 5.0)]
        {
            assert!((median(values) - expected).abs() < f64::EPSILON);
        }
    }
}
