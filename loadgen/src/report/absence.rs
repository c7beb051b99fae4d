//! What the scenarios `connect` and `storm` came to.

use serde::Serialize;

use super::{per_second, rounded};
use crate::clock::Nanos;
use crate::conductor::Ended;
use crate::engine::Tally;
use crate::histogram::{Figures, Latencies};
use crate::plan::{Plan, Scenario};
use crate::scenario::{SLOT, Traffic};

/// How fast sessions began.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Connect {
    /// With a token, from the first connection to the last Welcome.
    pub(super) fresh: Rate,
    /// With a ticket, after all had hung up.
    pub(super) resume: Option<Rate>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Rate {
    pub(super) sessions: u64,
    pub(super) seconds: f64,
    pub(super) rate: f64,
}

/// What those who stayed felt of those who went and came back.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Storm {
    sessions: u32,
    established: u32,
    waiting: u32,
    over_s: f64,
    jitter_s: f64,
    /// When they hung up, after measuring had begun.
    left_s: f64,
    /// From then until the last one had received what waited for it; null if not all were back.
    pub(super) return_s: Option<f64>,
    pub(super) deliver_ms: Phases,
    /// p99 while they were away, over that of before.
    pub(super) p99_ratio: f64,
    pub(super) timeline: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Phases {
    pub(super) before: Figures,
    pub(super) during: Figures,
    pub(super) after: Figures,
}

/// The messages that were intended within half a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Slot {
    /// Its begin, after measuring had begun.
    at_s: f64,
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// How fast sessions began, if that was asked.
pub(super) fn connect(plan: &Plan, ended: &Ended, tally: &Tally) -> Option<Connect> {
    let Scenario::Connect(connect) = &plan.scenario else { return None };
    let rate = |sessions: u64, span: std::time::Duration| Rate {
        sessions,
        seconds: rounded(span.as_secs_f64()),
        rate: per_second(sessions, span),
    };
    let fresh = rate(u64::from(tally.wanted - tally.given_up), ended.opening);
    let (left, back) = absent(ended);
    let resume = connect.resumes.then(|| rate(tally.reconnects, back.since(left)));
    Some(Connect { fresh, resume })
}

/// What came of a storm, if there was one.
pub(super) fn storm(plan: &Plan, ended: &Ended, traffic: Option<&Traffic>) -> Option<Storm> {
    let Scenario::Storm(storm) = &plan.scenario else { return None };
    let timeline = &traffic?.timeline;
    let (left, back) = absent(ended);
    let begin = ended.window_begin;
    let slot_of = |time: Nanos| {
        usize::try_from(time.since(begin).as_nanos() / SLOT.as_nanos()).unwrap_or(usize::MAX)
    };
    let (first, last) = (slot_of(left), slot_of(back));
    let sum = |from: usize, to: usize| {
        let (from, to) = (from.min(timeline.len()), to.min(timeline.len()));
        let mut sum = Latencies::default();
        timeline[from..to.max(from)].iter().for_each(|slot| sum.add(slot));
        sum.figures()
    };
    let deliver_ms = Phases {
        before: sum(0, first),
        during: sum(first, last.saturating_add(1)),
        after: sum(last.saturating_add(1), timeline.len()),
    };
    Some(Storm {
        sessions: storm.sessions,
        established: 2 * storm.chat.pairs,
        waiting: storm.waiting,
        over_s: storm.over.as_secs_f64(),
        jitter_s: storm.jitter.as_secs_f64(),
        left_s: rounded(left.since(begin).as_secs_f64()),
        return_s: ended.all_back.then(|| rounded(back.since(left).as_secs_f64())),
        deliver_ms,
        p99_ratio: rounded(deliver_ms.during.p99 / deliver_ms.before.p99.max(f64::MIN_POSITIVE)),
        timeline: timeline.iter().enumerate().map(slot).collect(),
    })
}

/// When the first one hung up, and when the last one was back.
fn absent(ended: &Ended) -> (Nanos, Nanos) {
    let tallies = || ended.outcomes.iter().map(|outcome| &outcome.tally);
    let left = tallies().map(|tally| tally.left_at).filter(|left| *left > Nanos(0)).min();
    let back = tallies().map(|tally| tally.back_at).max();
    (left.unwrap_or_default(), back.unwrap_or_default())
}

fn slot((index, latencies): (usize, &Latencies)) -> Slot {
    let Figures { count, p50, p99, max, .. } = latencies.figures();
    let at_s = rounded(SLOT.as_secs_f64() * index as f64);
    Slot { at_s, count, p50_ms: p50, p99_ms: p99, max_ms: max }
}
