//! Sessions that are open and say nothing but heartbeats.

use anyhow::Result;

use super::{Progress, Script, Traffic, Window};
use crate::client::News;
use crate::clock::Nanos;
use crate::engine::Desk;

/// The script of `idle`: the engine does it all.
#[derive(Debug, Default)]
pub(crate) struct Idle;

impl Script for Idle {
    fn needs_all(&self) -> bool {
        false
    }

    fn lively(&self) -> u32 {
        0
    }

    fn is_lively(&self, _session: u32) -> bool {
        false
    }

    fn handle_news(&mut self, _session: u32, _news: &News<'_>, _now: Nanos) -> bool {
        false
    }

    fn handle_ended(&mut self, _session: u32) {}

    fn handle_broken(&mut self, _session: u32) {}

    fn prepare(&mut self, _now: Nanos, _desk: &mut Desk<'_>) -> Result<bool> {
        Ok(true)
    }

    fn preparing(&self) -> String {
        String::new()
    }

    fn begin(&mut self, _window: Window) {}

    fn send_due(&mut self, _now: Nanos, _desk: &mut Desk<'_>) -> Nanos {
        Nanos::NEVER
    }

    fn send_again(&mut self, _now: Nanos, _desk: &mut Desk<'_>) -> Nanos {
        Nanos::NEVER
    }

    fn cut(&mut self, _end: Nanos) {}

    fn is_owed(&self) -> bool {
        false
    }

    fn progress(&mut self, _now: Nanos) -> Progress {
        Progress::default()
    }

    fn finish(self) -> Option<Traffic> {
        None
    }
}
