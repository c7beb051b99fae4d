//! What a run came to: as values, which JSON repeats and people read in `text`.

mod absence;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::conductor::Ended;
use crate::cpu::Usage;
use crate::engine::Tally;
use crate::histogram::{Band, Figures};
use crate::machine::Machine;
use crate::oracle::Findings;
use crate::plan::Plan;
use crate::scenario::Traffic;
pub(crate) use text::render;

/// A thread that is on a processor for more of the time has no reserve: its own work delays what
/// it measures.
const BUSY_MAX: f64 = 0.9;

/// Messages must be sent on time: with a longer lag at p99 the generator is part of the latency.
const LAG_P99_MAX_MS: f64 = 5.0;

/// A thread that waits for a processor this much shares it with the server.
const WAITING_MAX: f64 = 0.2;

/// How a run ended, for the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// 0.
    Fine,
    /// 1: the oracle found something.
    Broken,
    /// 3: sessions were lost, or nothing came back.
    Failed,
}

/// The report. Field names are the JSON's, documented in docs/loadgen.md.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    loadgen: &'static str,
    scenario: &'static str,
    command: String,
    verdict: Verdict,
    warnings: Vec<String>,
    machine: Machine,
    ring: String,
    options: Options,
    measured_s: f64,
    sessions: Sessions,
    #[serde(flatten)]
    messages: Option<Messages>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<absence::Connect>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storm: Option<absence::Storm>,
    #[serde(skip)]
    all_back: bool,
    generator: Generator,
    #[serde(skip)]
    bands: Vec<Band>,
}

#[derive(Clone, Debug, Serialize)]
struct Options {
    urls: Vec<String>,
    threads: u32,
    warmup_s: f64,
    duration_s: f64,
    first_user: u64,
    reconnect: bool,
    #[serde(flatten)]
    chat: Option<ChatOptions>,
}

#[derive(Clone, Debug, Serialize)]
struct ChatOptions {
    pairs: u32,
    groups: u32,
    group_size: u32,
    rate: f64,
    size: usize,
    arrivals: String,
    unanswered_max: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Sessions {
    wanted: u32,
    held: u32,
    given_up: u32,
    retries: u64,
    opening_s: f64,
    opened_rate: f64,
    failures: BTreeMap<String, u64>,
    dropped: BTreeMap<String, u64>,
    broken: BTreeMap<String, u64>,
    reconnects: u64,
    resumed: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Messages {
    sent: Sent,
    posted: Posted,
    delivered: Delivered,
    ack_ms: Figures,
    deliver_ms: Figures,
    ack_service_ms: Figures,
    deliver_service_ms: Figures,
    oracle: Findings,
    #[serde(skip_serializing_if = "Option::is_none")]
    hdr: Option<Hdr>,
}

#[derive(Clone, Debug, Serialize)]
struct Sent {
    count: u64,
    rate: f64,
    late: u64,
    dropped: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Posted {
    count: u64,
    rate: f64,
    unanswered: u64,
    retried: u64,
    rejected: BTreeMap<&'static str, u64>,
    durability: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug, Serialize)]
struct Delivered {
    count: u64,
    rate: f64,
    foreign: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Hdr {
    ack: String,
    deliver: String,
}

#[derive(Clone, Debug, Serialize)]
struct Generator {
    cpu_saturated: bool,
    /// Of the busiest thread.
    cpu: f64,
    cpu_threads: Vec<f64>,
    /// Of the thread that waited most for a processor.
    cpu_waiting: f64,
    lag_ms: Option<Figures>,
    resident_bytes: u64,
    ring_enters: u64,
    ring_completions: u64,
    ring_buffers_exhausted: u64,
    ring_overflows: u64,
}

impl Report {
    /// Adds up what the threads did.
    pub(crate) fn new(plan: &Plan, ended: &Ended, machine: Machine) -> Self {
        let tally = add_tallies(ended);
        let traffics: Vec<&Traffic> =
            ended.outcomes.iter().filter_map(|outcome| outcome.traffic.as_ref()).collect();
        let traffic = traffics.split_first().map(|(first, rest)| {
            let mut sum = (*first).clone();
            rest.iter().for_each(|other| sum.add(other));
            sum
        });
        let mut report = Self {
            loadgen: env!("CARGO_PKG_VERSION"),
            scenario: plan.scenario.name(),
            command: plan.command.clone(),
            verdict: Verdict::Fine,
            warnings: Vec::new(),
            machine,
            ring: ended.ring.clone(),
            options: options(plan),
            measured_s: rounded(ended.measured.as_secs_f64()),
            sessions: sessions(&tally, ended.opening),
            connect: absence::connect(plan, ended, &tally),
            storm: absence::storm(plan, ended, traffic.as_ref()),
            all_back: ended.all_back,
            generator: generator(ended, traffic.as_ref()),
            bands: traffic.as_ref().map(|traffic| traffic.deliver.bands()).unwrap_or_default(),
            messages: traffic.map(|traffic| messages(&traffic, plan, ended.measured)),
        };
        report.verdict = report.judge();
        report.warnings = report.warn();
        report
    }

    /// How the run ended.
    pub(crate) const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// As JSON.
    pub(crate) fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        let mut text = text.expect("a report has string keys and finite numbers");
        text.push('\n');
        text
    }

    fn judge(&self) -> Verdict {
        let broken = self.messages.as_ref().is_some_and(|messages| !messages.oracle.is_clean());
        let silent = self
            .messages
            .as_ref()
            .is_some_and(|messages| messages.posted.unanswered > 0 || messages.posted.count == 0);
        let is_missing = self.sessions.given_up > 0 || !self.sessions.dropped.is_empty();
        let incomplete = is_missing || !self.all_back;
        match (broken, silent || incomplete) {
            (true, _) => Verdict::Broken,
            (false, true) => Verdict::Failed,
            (false, false) => Verdict::Fine,
        }
    }

    /// What a reader must know before she believes the figures.
    fn warn(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let generator = &self.generator;
        if generator.cpu_saturated {
            let lag = generator.lag_ms.map_or(0.0, |lag| lag.p99);
            warnings.push(format!(
                "the generator is saturated (busiest thread {:.0} % of a processor, lag p99 \
                 {lag:.1} ms): the latencies say as much about it as about the server; use more \
                 --threads on free processors, or a lower --rate",
                100.0 * generator.cpu
            ));
        }
        if generator.cpu_waiting > WAITING_MAX {
            warnings.push(format!(
                "a thread waited {:.0} % of the time for a processor: the generator shares them \
                 with the server",
                100.0 * generator.cpu_waiting
            ));
        }
        if generator.ring_buffers_exhausted > 0 {
            let count = generator.ring_buffers_exhausted;
            warnings.push(format!("receives found no free buffer {count} times"));
        }
        let sessions = &self.sessions;
        if sessions.given_up > 0 {
            let count = sessions.given_up;
            warnings.push(format!("{count} of {} sessions could not be opened", sessions.wanted));
        }
        let lost: u64 = sessions.dropped.values().sum();
        if lost > 0 {
            warnings.push(format!("{lost} live sessions ended during the run"));
        }
        if !self.all_back {
            warnings.push("not all who hung up were back at the end".to_owned());
        }
        if let Some(messages) = &self.messages {
            warn_of_messages(messages, &mut warnings);
        }
        warnings
    }
}

fn warn_of_messages(messages: &Messages, warnings: &mut Vec<String>) {
    let Messages { sent, posted, delivered, .. } = messages;
    let rejected: u64 = posted.rejected.values().sum();
    let rows = [
        (
            sent.dropped,
            "messages were not sent, because their session had too many unanswered ones or the \
             generator did not come to them: the percentiles leave them out and look better than \
             the server is",
        ),
        (posted.unanswered, "messages were never answered"),
        (rejected, "messages were rejected"),
        (
            delivered.foreign,
            "messages of other runs arrived: is another generator using the users?",
        ),
    ];
    for (count, what) in rows {
        if count > 0 {
            warnings.push(format!("{count} {what}"));
        }
    }
    if posted.durability.contains_key("accepted") {
        warnings.push("answers promise no durability (store.sync is not `always`)".to_owned());
    }
}

fn add_tallies(ended: &Ended) -> Tally {
    let mut sum = Tally::default();
    for tally in ended.outcomes.iter().map(|outcome| &outcome.tally) {
        sum.wanted += tally.wanted;
        sum.held += tally.held;
        sum.given_up += tally.given_up;
        sum.retries += tally.retries;
        sum.reconnects += tally.reconnects;
        sum.resumed += tally.resumed;
        let counts = [
            (&tally.failures, &mut sum.failures),
            (&tally.dropped, &mut sum.dropped),
            (&tally.broken, &mut sum.broken),
        ];
        for (from, to) in counts {
            for (label, count) in from {
                *to.entry(label.clone()).or_default() += count;
            }
        }
    }
    sum
}

fn sessions(tally: &Tally, opening: Duration) -> Sessions {
    Sessions {
        wanted: tally.wanted,
        held: tally.held,
        given_up: tally.given_up,
        retries: tally.retries,
        opening_s: rounded(opening.as_secs_f64()),
        opened_rate: per_second(u64::from(tally.wanted - tally.given_up), opening),
        failures: tally.failures.clone(),
        dropped: tally.dropped.clone(),
        broken: tally.broken.clone(),
        reconnects: tally.reconnects,
        resumed: tally.resumed,
    }
}

fn options(plan: &Plan) -> Options {
    let chat = plan.scenario.chat().map(|chat| ChatOptions {
        pairs: chat.pairs,
        groups: chat.groups,
        group_size: chat.group_size,
        rate: chat.rate,
        size: chat.bytes,
        arrivals: format!("{:?}", chat.arrivals).to_lowercase(),
        unanswered_max: chat.unanswered_max,
    });
    Options {
        urls: plan.targets.iter().map(|target| target.url.clone()).collect(),
        threads: plan.threads,
        warmup_s: plan.warmup.as_secs_f64(),
        duration_s: plan.duration.as_secs_f64(),
        first_user: plan.first_user,
        reconnect: plan.reconnects,
        chat,
    }
}

fn messages(traffic: &Traffic, plan: &Plan, measured: Duration) -> Messages {
    let rate = |count| per_second(count, measured);
    Messages {
        sent: Sent {
            count: traffic.sent,
            rate: rate(traffic.sent_within),
            late: traffic.late,
            dropped: traffic.dropped,
        },
        posted: Posted {
            count: traffic.posted,
            rate: rate(traffic.posted_within),
            unanswered: traffic.unanswered,
            retried: traffic.retried,
            rejected: traffic.rejected.clone(),
            durability: traffic.durability.clone(),
        },
        delivered: Delivered {
            count: traffic.delivered,
            rate: rate(traffic.delivered_within),
            foreign: traffic.foreign,
        },
        ack_ms: traffic.ack.figures(),
        deliver_ms: traffic.deliver.figures(),
        ack_service_ms: traffic.ack_service.figures(),
        deliver_service_ms: traffic.deliver_service.figures(),
        oracle: traffic.findings,
        hdr: plan
            .hdr
            .then(|| Hdr { ack: traffic.ack.encoded(), deliver: traffic.deliver.encoded() }),
    }
}

fn generator(ended: &Ended, traffic: Option<&Traffic>) -> Generator {
    let threads = || ended.outcomes.iter();
    let busy: Vec<f64> = threads().map(|outcome| rounded(outcome.usage.busy())).collect();
    let cpu = busy.iter().copied().fold(0.0, f64::max);
    let waiting = threads().map(|outcome| Usage::waiting(&outcome.usage)).fold(0.0, f64::max);
    let lag_ms = traffic.map(|traffic| traffic.lag.figures());
    let is_late = lag_ms.is_some_and(|lag| lag.p99 > LAG_P99_MAX_MS);
    let total = |count: fn(&uring::Stats) -> u64| threads().map(|done| count(&done.ring)).sum();
    Generator {
        cpu_saturated: cpu > BUSY_MAX || is_late,
        cpu,
        cpu_threads: busy,
        cpu_waiting: rounded(waiting),
        lag_ms,
        resident_bytes: ended.resident_bytes,
        ring_enters: total(|stats| stats.enters),
        ring_completions: total(|stats| stats.completions),
        ring_buffers_exhausted: total(|stats| stats.buffers_exhausted),
        ring_overflows: total(|stats| stats.overflows),
    }
}

fn per_second(count: u64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { rounded(count as f64 / span.as_secs_f64()) }
}

/// To a thousandth: more digits are noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests;
