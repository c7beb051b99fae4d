//! The line that says once a second how a run goes.

use std::time::Duration;

use crate::histogram::Latencies;
use crate::scenario::Progress;

/// How far the run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Sessions are opened.
    Opening,
    /// Messages do not count yet.
    Warmup,
    /// For so long already.
    Measuring(Duration),
    /// Nothing is sent any more.
    Draining,
}

/// The last second of all threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    pub(crate) threads: u32,
    all: Progress,
}

impl Second {
    /// Adds a thread's.
    pub(crate) fn add(&mut self, progress: &Progress) {
        self.threads += 1;
        self.all.sent += progress.sent;
        self.all.posted += progress.posted;
        self.all.delivered += progress.delivered;
        self.all.in_flight += progress.in_flight;
        self.all.lag = self.all.lag.max(progress.lag);
        if let Some(deliver) = &progress.deliver {
            self.all.deliver.get_or_insert_with(Latencies::default).add(deliver);
        }
    }

    /// The line.
    pub(crate) fn line(&self, stage: Stage, live: u32, wanted: u64) -> String {
        let stage = match stage {
            Stage::Opening => return format!("opening   {live} of {wanted} sessions live"),
            Stage::Warmup => "warm-up ".to_owned(),
            Stage::Measuring(for_long) => format!("{:>6.0} s", for_long.as_secs_f64()),
            Stage::Draining => "draining".to_owned(),
        };
        let Some(deliver) = &self.all.deliver else {
            return format!("{stage}  {live} of {wanted} sessions live");
        };
        let all = &self.all;
        format!(
            "{stage}  sent {}/s  posted {}/s  delivered {}/s  p50 {:.2} ms  p99 {:.2} ms  \
             in flight {}  lag {:.1} ms",
            all.sent,
            all.posted,
            all.delivered,
            deliver.quantile_ms(0.5),
            deliver.quantile_ms(0.99),
            all.in_flight,
            all.lag.as_secs_f64() * 1e3,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_added_up_into_one_line() {
        let mut deliver = Latencies::default();
        deliver.record(Duration::from_millis(3));
        let progress = Progress {
            sent: 10,
            posted: 9,
            delivered: 8,
            in_flight: 1,
            lag: Duration::from_millis(2),
            deliver: Some(deliver),
        };
        let mut second = Second::default();
        second.add(&progress);
        second.add(&progress);
        let line = second.line(Stage::Measuring(Duration::from_secs(7)), 4, 4);
        for part in ["7 s", "sent 20/s", "posted 18/s", "delivered 16/s", "in flight 2", "2.0 ms"] {
            assert!(line.contains(part), "{line}");
        }
        let idle = Second::default();
        assert_eq!(idle.line(Stage::Opening, 3, 9), "opening   3 of 9 sessions live");
        assert!(idle.line(Stage::Warmup, 9, 9).ends_with("9 of 9 sessions live"));
    }
}
