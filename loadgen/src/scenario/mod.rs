//! What the sessions do. A scenario is a [`Script`] for each thread; the engine carries it out.
//!
//! To add one: a module with its script, a variant in `flags::ScenarioArgs` and
//! `plan::Scenario`, and an arm in `conductor`.

mod chat;
mod foreign;
mod idle;
mod members;
mod returning;

use std::collections::BTreeMap;

use anyhow::Result;
use wire::InboxSeq;

use crate::client::News;
use crate::clock::Nanos;
use crate::engine::Desk;
use crate::histogram::Latencies;
use crate::oracle::Findings;
pub(crate) use chat::{Chat, ChatOptions};
pub(crate) use foreign::{Foreign, ForeignArgs, NO_LIMITS, fill};
pub(crate) use idle::Idle;
pub(crate) use returning::{Returning, ReturningOptions};

/// The time of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Window {
    /// The warm-up begins: the first message.
    pub(crate) start: Nanos,
    /// Measuring begins: what is intended from here on counts.
    pub(crate) begin: Nanos,
    /// The last message was before this.
    pub(crate) end: Nanos,
}

impl Window {
    /// Whether it counts.
    pub(crate) fn holds(&self, time: Nanos) -> bool {
        self.begin <= time && time < self.end
    }
}

/// What a scenario does on one thread.
///
/// `handle_*`: the world told. `prepare`, `begin`, `send_due`: verbs. The others tell. What a
/// scenario does not say is that of sessions that say nothing and are owed nothing.
pub(crate) trait Script {
    /// Whether nothing can be done without every session.
    fn needs_all(&self) -> bool {
        false
    }

    /// How many sessions receive bursts, not now and then a heartbeat's answer.
    fn lively(&self) -> u32 {
        0
    }

    /// Whether this is one of them.
    fn is_lively(&self, _session: u32) -> bool {
        false
    }

    /// A session tells something. `true` if it is now where it was before it hung up on purpose.
    fn handle_news(&mut self, _session: u32, _news: &News<'_>, _now: Nanos) -> bool {
        false
    }

    /// A live session hangs up on purpose, and comes back with this cursor; `None`: it stays.
    fn hang_up(&mut self, _session: u32) -> Option<InboxSeq> {
        None
    }

    /// Whether a session has hung up and is not where it was before.
    fn is_away(&self, _session: u32) -> bool {
        false
    }

    /// A live session has ended for good.
    fn handle_ended(&mut self, _session: u32) {}

    /// A live session has ended and is to come back.
    fn handle_broken(&mut self, _session: u32) {}

    /// Makes what the run needs; called until it says that everything is there.
    ///
    /// # Errors
    /// It cannot be made.
    fn prepare(&mut self, _now: Nanos, _desk: &mut Desk<'_>) -> Result<bool> {
        Ok(true)
    }

    /// What [`Self::prepare`] waits for.
    fn preparing(&self) -> String {
        String::new()
    }

    /// When it will be.
    fn begin(&mut self, _window: Window) {}

    /// Sends what is due, and tells when something is due next.
    fn send_due(&mut self, _now: Nanos, _desk: &mut Desk<'_>) -> Nanos {
        Nanos::NEVER
    }

    /// Sends again what is to be sent again by now, also after the window; tells when something is
    /// next.
    fn send_again(&mut self, _now: Nanos, _desk: &mut Desk<'_>) -> Nanos {
        Nanos::NEVER
    }

    /// The window ends earlier than it was said to, now.
    fn cut(&mut self, _end: Nanos) {}

    /// Whether something should still come.
    fn is_owed(&self) -> bool {
        false
    }

    /// What happened since the last call.
    fn progress(&mut self, _now: Nanos) -> Progress {
        Progress::default()
    }

    /// What happened in all.
    fn finish(self) -> Option<Traffic>
    where
        Self: Sized,
    {
        None
    }
}

/// A thread's last second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) sent: u64,
    pub(crate) posted: u64,
    pub(crate) delivered: u64,
    /// Sent and not answered, now.
    pub(crate) in_flight: u64,
    /// How far the schedule is ahead of the generator, now.
    pub(crate) lag: std::time::Duration,
    /// From intended to delivered; `None` if the scenario has no messages.
    pub(crate) deliver: Option<Latencies>,
}

/// What a thread's messages came to. Only what was intended within the window counts, but for the
/// oracle's findings, which are about everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    /// Given to a connection.
    pub(crate) sent: u64,
    /// Given to a connection before the window's end.
    pub(crate) sent_within: u64,
    /// Given to a connection more than [`LATE_AFTER`] after it was intended.
    pub(crate) late: u64,
    /// Not sent: the session had too many unanswered, or was gone.
    pub(crate) dropped: u64,
    /// Answered by `Posted`, whenever that was.
    pub(crate) posted: u64,
    /// Answered by `Posted` before the window's end.
    pub(crate) posted_within: u64,
    /// Deliveries to other sessions.
    pub(crate) delivered: u64,
    /// Deliveries to other sessions before the window's end.
    pub(crate) delivered_within: u64,
    /// Never answered.
    pub(crate) unanswered: u64,
    /// Transmissions of a message after its first, whenever it was intended.
    pub(crate) retried: u64,
    /// Answers by `Rejected`, by code.
    pub(crate) rejected: BTreeMap<&'static str, u64>,
    /// Messages of other runs that arrived.
    pub(crate) foreign: u64,
    /// Answers by what they promise.
    pub(crate) durability: BTreeMap<&'static str, u64>,
    pub(crate) ack: Latencies,
    pub(crate) deliver: Latencies,
    pub(crate) ack_service: Latencies,
    pub(crate) deliver_service: Latencies,
    pub(crate) lag: Latencies,
    pub(crate) findings: Findings,
    /// `deliver` in slots of [`SLOT`] by the intended time, from the window's begin on; empty
    /// where nobody wants it.
    pub(crate) timeline: Vec<Latencies>,
}

/// A slot of a timeline.
pub(crate) const SLOT: std::time::Duration = std::time::Duration::from_millis(500);

/// From here on a message counts as sent late.
pub(crate) const LATE_AFTER: std::time::Duration = std::time::Duration::from_millis(5);

impl Traffic {
    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.sent_within += other.sent_within;
        self.late += other.late;
        self.dropped += other.dropped;
        self.posted += other.posted;
        self.posted_within += other.posted_within;
        self.delivered += other.delivered;
        self.delivered_within += other.delivered_within;
        self.unanswered += other.unanswered;
        self.retried += other.retried;
        self.foreign += other.foreign;
        for (code, count) in &other.rejected {
            *self.rejected.entry(code).or_default() += count;
        }
        for (durability, count) in &other.durability {
            *self.durability.entry(durability).or_default() += count;
        }
        self.ack.add(&other.ack);
        self.deliver.add(&other.deliver);
        self.ack_service.add(&other.ack_service);
        self.deliver_service.add(&other.deliver_service);
        self.lag.add(&other.lag);
        self.findings.add(&other.findings);
        let slots = self.timeline.len().max(other.timeline.len());
        self.timeline.resize_with(slots, Latencies::default);
        for (slot, others) in self.timeline.iter_mut().zip(&other.timeline) {
            slot.add(others);
        }
    }
}
