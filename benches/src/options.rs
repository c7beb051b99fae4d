//! The command line that all baselines have in common.

use std::time::Duration;

/// How long to measure, and where.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct RunOptions {
    /// Rounds; the report gives their median.
    #[arg(long, default_value_t = 7)]
    pub rounds: u32,
    /// Seconds of a round.
    #[arg(long, default_value_t = 2)]
    pub seconds: u32,
    /// The CPU of the thread under test.
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// The CPU of the thread that drives it.
    #[arg(long, default_value_t = 1)]
    pub client_cpu: usize,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
}

impl RunOptions {
    /// Of one round.
    #[must_use]
    pub fn round(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }
}
