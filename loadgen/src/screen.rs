//! What a person sees. Progress and notes go to standard error; what scripts read (`held N`, the
//! report) to standard output. Colours and a line that changes in place on terminals alone.

use std::io::Write;
use std::time::Duration;

use console::Term;

use crate::clock::{Clock, Nanos};

/// On a terminal the state may change so often.
const STATE_EVERY: Duration = Duration::from_millis(100);

/// In a log a line of state comes so often. A little less than the second in which threads report.
const STATE_LINE_EVERY: Duration = Duration::from_millis(900);

/// Standard output and error of a run.
pub(crate) struct Screen {
    clock: Clock,
    errors: Term,
    shown_at: Option<Nanos>,
    /// A state stands on the terminal's last line.
    is_open: bool,
}

impl Screen {
    /// Nothing has been shown.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, errors: Term::stderr(), shown_at: None, is_open: false }
    }

    /// How things are; the next state takes its place. Some are left out if they come too fast.
    pub(crate) fn state(&mut self, text: &str) {
        let now = self.clock.now();
        let every = if self.errors.is_term() { STATE_EVERY } else { STATE_LINE_EVERY };
        if self.shown_at.is_some_and(|shown_at| now.since(shown_at) < every) {
            return;
        }
        self.shown_at = Some(now);
        // A closed standard error is no reason to stop, here and below.
        if self.errors.is_term() {
            self.close();
            let columns = usize::from(self.errors.size().1);
            let _ = self.errors.write_str(&console::truncate_str(text, columns, ""));
            self.is_open = true;
        } else {
            let _ = self.errors.write_line(text);
        }
    }

    /// One line that stays.
    pub(crate) fn note(&mut self, text: &str) {
        self.close();
        let _ = self.errors.write_line(text);
    }

    /// What went wrong.
    pub(crate) fn error(&mut self, text: &str) {
        let head = console::style("error:").for_stderr().red().bold();
        self.note(&format!("{head} {text}"));
    }

    /// For the one who asked, or a script.
    pub(crate) fn answer(&mut self, text: &str) {
        self.close();
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        // A script waits for it.
        let _ = out.flush();
    }

    /// Takes the state off the terminal.
    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = self.errors.clear_line();
        }
    }
}
