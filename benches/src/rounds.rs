//! Time, cut into rounds of equal length. The first one warms up and does not count.

use std::time::{Duration, Instant};

use crate::threads::{ThreadId, cpu_nanos};

/// One measured round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Operations completed in it.
    pub operations: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// CPU time of each watched thread in it, in nanoseconds.
    pub cpu_nanos: [u64; 2],
}

/// Counts operations into rounds.
#[derive(Debug)]
pub struct Rounds {
    length: Duration,
    wanted: usize,
    watched: [ThreadId; 2],
    started: Instant,
    cpu_at_start: [u64; 2],
    operations: u64,
    is_warm: bool,
    done: Vec<Round>,
}

impl Rounds {
    /// `wanted` rounds after the one that warms up, starting now. The watched threads are the one
    /// under test and the one that drives it.
    #[must_use]
    pub fn start(wanted: u32, length: Duration, watched: [ThreadId; 2]) -> Self {
        Self {
            length,
            wanted: wanted as usize,
            watched,
            started: now(),
            cpu_at_start: watched.map(cpu_nanos),
            operations: 0,
            is_warm: false,
            done: Vec::new(),
        }
    }

    /// More operations are complete. Called once a turn; `false` when all rounds are done.
    pub fn add(&mut self, operations: u64) -> bool {
        self.operations += operations;
        let elapsed = self.started.elapsed();
        if elapsed >= self.length {
            self.finish_round(elapsed);
        }
        self.done.len() < self.wanted
    }

    /// The measured rounds.
    #[must_use]
    pub fn into_done(self) -> Vec<Round> {
        self.done
    }

    fn finish_round(&mut self, elapsed: Duration) {
        let cpu = self.watched.map(cpu_nanos);
        if self.is_warm {
            let used = [0, 1].map(|index| cpu[index] - self.cpu_at_start[index]);
            let operations = self.operations;
            self.done.push(Round { operations, elapsed, cpu_nanos: used });
        }
        self.is_warm = true;
        self.operations = 0;
        self.cpu_at_start = cpu;
        self.started = now();
    }
}

#[expect(clippy::disallowed_methods, reason = "this crate measures time; nothing decides by it")]
fn now() -> Instant {
    Instant::now()
}
