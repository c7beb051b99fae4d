//! Steps that are timed and summed up at the end.

use std::time::Duration;

use anyhow::Result;

use crate::{clock, console};

/// The steps taken so far.
#[derive(Default)]
pub(crate) struct Steps {
    taken: Vec<Taken>,
}

struct Taken {
    title: &'static str,
    duration: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Failed,
    Skipped(&'static str),
}

impl Steps {
    /// Takes a step. A failure is shown here and remembered; the steps after it are still taken, so
    /// that one run tells everything that is wrong.
    pub(crate) fn take<T>(
        &mut self,
        title: &'static str,
        step: impl FnOnce() -> Result<T>,
    ) -> Option<T> {
        console::step(title);
        let started = clock::now();
        let result = step();
        let duration = started.elapsed();
        let (outcome, value) = match result {
            Ok(value) => (Outcome::Passed, Some(value)),
            Err(error) => {
                console::line(&format!("{title} failed: {error:#}"));
                (Outcome::Failed, None)
            }
        };
        self.taken.push(Taken { title, duration, outcome });
        value
    }

    /// Notes a step that is not taken, and why.
    pub(crate) fn skip(&mut self, title: &'static str, why: &'static str) {
        console::step(&format!("{title}: skipped, {why}"));
        let outcome = Outcome::Skipped(why);
        self.taken.push(Taken { title, duration: Duration::ZERO, outcome });
    }

    /// Prints every step with its time.
    pub(crate) fn summary(&self) {
        console::step("Summary");
        for taken in &self.taken {
            let outcome = match taken.outcome {
                Outcome::Passed => "passed".to_owned(),
                Outcome::Failed => "FAILED".to_owned(),
                Outcome::Skipped(why) => format!("skipped: {why}"),
            };
            let duration = console::duration(taken.duration);
            console::note(&format!("{:<24} {duration:>12}  {outcome}", taken.title));
        }
    }

    /// An error that names the failed steps, if there are any.
    pub(crate) fn verdict(&self) -> Result<()> {
        let failed: Vec<&str> = self
            .taken
            .iter()
            .filter(|taken| matches!(taken.outcome, Outcome::Failed))
            .map(|taken| taken.title)
            .collect();
        anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_verdict_by_name_and_stops_no_other() {
        let mut steps = Steps::default();
        assert_eq!(steps.take("first", || Ok(1)), Some(1));
        assert!(steps.verdict().is_ok());
        assert_eq!(steps.take("second", || -> Result<()> { anyhow::bail!("broken") }), None);
        assert_eq!(steps.take("third", || Ok(3)), Some(3));
        steps.skip("fourth", "not installed");
        let verdict = steps.verdict().expect_err("one step has failed").to_string();
        assert_eq!(verdict, "failed: second");
    }
}
