//! What a person sees: steps, notes and progress, on standard error.
//!
//! Standard output is left to what another program may read: `xtask env`, the tests' own lines, the
//! server's. Colour and moving bars appear on terminals alone; elsewhere progress is one line for
//! each tenth, so that a log stays readable.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Announces a step.
pub(crate) fn step(title: &str) {
    line(&format!("{} {title}", console::style("==>").for_stderr().cyan().bold()));
}

/// Says something about the step under way.
pub(crate) fn note(text: &str) {
    line(&format!("    {text}"));
}

/// Says something that a person should act on.
pub(crate) fn warn(text: &str) {
    line(&format!("{} {text}", console::style("warning:").for_stderr().yellow().bold()));
}

/// Says what ended the work.
pub(crate) fn error(text: &str) {
    line(&format!("{} {text}", console::style("error:").for_stderr().red().bold()));
}

/// One line on standard error. A closed standard error is no reason to stop working.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One line on standard output, for another program or the one who asked.
pub(crate) fn answer(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Green or red on standard output, if that is a terminal.
pub(crate) fn judged(text: &str, is_good: bool) -> String {
    let style = console::style(text).bold();
    if is_good { style.green() } else { style.red() }.to_string()
}

/// `1 h 02 min`, `3 min 04 s` or `5.3 s`: as exact as a person can use.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Progress towards a known total.
pub(crate) struct Meter {
    bar: ProgressBar,
    what: &'static str,
    total: u64,
    tenths_said: u64,
}

impl Meter {
    /// A meter that counts `what` from 0 to `total`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let target = if console::user_attended_stderr() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template("    {bar:24} {msg}") {
            bar.set_style(style);
        }
        Self { bar, what, total: total.max(1), tenths_said: 0 }
    }

    /// Shows that `count` of the total are done.
    pub(crate) fn set(&mut self, count: u64) {
        let count = count.min(self.total);
        let text = state(self.what, count, self.total, self.bar.elapsed());
        if !self.bar.is_hidden() {
            self.bar.set_message(text);
            self.bar.set_position(count);
            return;
        }
        let tenths = count * 10 / self.total;
        if tenths > self.tenths_said {
            self.tenths_said = tenths;
            note(&text);
        }
    }

    /// Removes the meter.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// `35/343 object files, 2 min 18 s gone, about 20 min 14 s to go`. The estimate comes with the
/// first object: what is compiled before (the reader of the header) says nothing of the rest.
fn state(what: &str, count: u64, total: u64, elapsed: Duration) -> String {
    let gone = duration(elapsed);
    match count {
        0 => format!("0/{total} {what}, {gone} gone"),
        _ => {
            let left = duration(remaining(elapsed, count, total));
            format!("{count}/{total} {what}, {gone} gone, about {left} to go")
        }
    }
}

/// What is left, if the rest goes as fast as what is done.
fn remaining(elapsed: Duration, done: u64, total: u64) -> Duration {
    let left = u32::try_from(total.saturating_sub(done)).unwrap_or(u32::MAX);
    let done = u32::try_from(done.max(1)).unwrap_or(u32::MAX);
    elapsed.saturating_mul(left) / done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_a_person_would_say_them() {
        let rows = [(5_300, "5.3 s"), (184_000, "3 min 04 s"), (3_720_000, "1 h 02 min")];
        for (milliseconds, expected) in rows {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn the_state_tells_no_estimate_before_the_first_object() {
        let minute = Duration::from_secs(60);
        let rows = [
            (0, "0/4 files, 1 min 00 s gone"),
            (1, "1/4 files, 1 min 00 s gone, about 3 min 00 s to go"),
        ];
        for (count, expected) in rows {
            assert_eq!(state("files", count, 4, minute), expected);
        }
    }

    #[test]
    fn the_estimate_assumes_a_steady_pace_and_never_divides_by_zero() {
        let minute = Duration::from_secs(60);
        let rows = [(0, 2, 120), (1, 4, 180), (2, 4, 60), (4, 4, 0), (5, 4, 0)];
        for (done, total, seconds) in rows {
            assert_eq!(remaining(minute, done, total), Duration::from_secs(seconds), "{done}");
        }
    }
}
