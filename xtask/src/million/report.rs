//! The page: what sessions cost, and what those who talk feel, with plots.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use super::watch::Sample;
use super::{Arguments, Step};
use crate::bench::figures::{self, median, thousands};
use crate::bench::plot::{Bars, Line, bars, linear};
use crate::console;

/// What is aimed at: resident bytes of a session, and those with half of the slab memory.
const RESIDENT_MAX: f64 = 700.0;
const BYTES_MAX: f64 = 5000.0;

/// Writes the page and its plots.
pub(super) fn write(arguments: &Arguments, steps: &[Step]) -> Result<()> {
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let last = steps.last().context("no step was taken")?;
    plot_over_time(arguments, last)?;
    let p99 = |step: &Step| (thousands(step.sessions.into()), figure(&step.report, "p99"));
    bars(&Bars {
        path: &arguments.out.join("latency.svg"),
        title: "post to delivered, p99",
        x_name: "sessions held",
        y_name: "ms",
        bars: &steps.iter().map(p99).collect::<Vec<_>>(),
    })?;
    let page = page(arguments, steps)?;
    let path = arguments.out.join("README.md");
    std::fs::write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    console::answer(&page);
    Ok(())
}

fn plot_over_time(arguments: &Arguments, step: &Step) -> Result<()> {
    let before = step.watched.before;
    let of = |value: &dyn Fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        step.watched.samples.iter().map(|sample| (sample.at, value(sample))).collect()
    };
    let title = |what: &str| format!("{what}, {} sessions", thousands(step.sessions.into()));
    let sessions = of(&|sample| real(sample.sessions) / 1000.0);
    linear(
        &arguments.out.join("sessions.svg"),
        &title("Sessions"),
        ("s", "thousands"),
        &[Line { name: "held by the server", points: &sessions }],
    )?;
    let grown = |now: u64, before: u64| real(now.saturating_sub(before)) / 1e6;
    let resident = of(&|sample| grown(sample.resident, before.resident));
    let slab = of(&|sample| grown(sample.slab, before.slab));
    linear(
        &arguments.out.join("memory.svg"),
        &title("Growth of memory"),
        ("s", "MB"),
        &[
            Line { name: "resident in the server", points: &resident },
            Line { name: "slab of the machine, both ends", points: &slab },
        ],
    )?;
    linear(
        &arguments.out.join("processors.svg"),
        &title("Processors in use"),
        ("s", "processors"),
        &[
            Line { name: "server", points: &of(&|sample| sample.server) },
            Line { name: "generator", points: &of(&|sample| sample.generator) },
        ],
    )
}

fn page(arguments: &Arguments, steps: &[Step]) -> Result<String> {
    let Arguments { chat_percent, rate, seconds, heartbeat, cores, .. } = arguments;
    let machine = steps.last().map_or(&Value::Null, |step| &step.report["machine"]);
    let counts: Vec<String> = steps.iter().map(|step| step.sessions.to_string()).collect();
    let mut page = String::new();
    writeln!(page, "# A million sessions on one host\n")?;
    writeln!(
        page,
        "`cargo xtask million --steps {} --chat-percent {chat_percent} --rate {rate} --seconds \
         {seconds} --heartbeat {heartbeat}` on {}, shared and noisy, with \
         both ends on it.\n",
        counts.join(","),
        figures::machine(machine)
    )?;
    writeln!(
        page,
        "Each step has a server of its own with {cores} cores, each with a ring of its own: a \
         ring's table is bounded by the\nlimit of open files, 20,000 here. Every session has said \
         Hello with an access token and sends a heartbeat\nevery {heartbeat} s; {chat_percent} % \
         of them talk in pairs, {rate} messages a second together, each durable before it is \
         told.\n"
    )?;
    writeln!(
        page,
        "| sessions | held | opened in s | a second | resident growth, bytes a session | \
         slab growth, bytes a pair | resident and half of the slab | post to delivered p50 ms | \
         p99 ms | processors while held: server, generator | lost, doubled, … |"
    )?;
    writeln!(page, "|{}", " ---: |".repeat(11))?;
    for step in steps {
        writeln!(page, "{}", row(step))?;
    }
    writeln!(
        page,
        "\nAimed at: {RESIDENT_MAX} bytes resident, and {BYTES_MAX} with half of the slab memory. \
         The growth of few sessions is\nmostly what is there once.\n"
    )?;
    for name in ["sessions", "memory", "processors", "latency"] {
        writeln!(page, "![{name}]({name}.svg)\n")?;
    }
    writeln!(page, "Where the memory is: [memory.md](../../memory.md).")?;
    Ok(page)
}

/// One step as a row of the table.
pub(super) fn row(step: &Step) -> String {
    let report = &step.report;
    let (before, held) = (step.watched.before, step.watched.held);
    let count = real(held.sessions.max(1));
    let resident = real(held.resident.saturating_sub(before.resident)) / count;
    let slab = real(held.slab.saturating_sub(before.slab)) / count;
    let (server, generator) = while_held(step);
    format!(
        "| {} | {} | {:.1} | {} | {resident:.0} | {slab:.0} | {:.0} | {:.1} | {:.1} | {server:.2}, \
         {generator:.2} | {} |",
        thousands(step.sessions.into()),
        thousands(held.sessions),
        report["sessions"]["opening_s"].as_f64().unwrap_or(f64::NAN),
        report["sessions"]["opened_rate"]
            .as_f64()
            .map_or_else(String::new, |rate| format!("{rate:.0}")),
        resident + slab / 2.0,
        figure(report, "p50"),
        figure(report, "p99"),
        found(report),
    )
}

/// The processors that both ends use, as the median of the looks at which all sessions were there.
fn while_held(step: &Step) -> (f64, f64) {
    let all = step.watched.held.sessions;
    let held = || step.watched.samples.iter().filter(|sample| sample.sessions == all);
    (
        median(&held().map(|sample| sample.server).collect::<Vec<_>>()),
        median(&held().map(|sample| sample.generator).collect::<Vec<_>>()),
    )
}

fn figure(report: &Value, name: &str) -> f64 {
    report["deliver_ms"][name].as_f64().unwrap_or(f64::NAN)
}

fn found(report: &Value) -> u64 {
    let findings = report["oracle"].as_object();
    findings.map_or(u64::MAX, |all| all.values().filter_map(Value::as_u64).sum())
}

#[expect(clippy::cast_precision_loss, reason = "for a report")]
pub(super) fn real(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::super::watch::Watched;
    use super::*;

    #[test]
    fn a_row_counts_growth_over_what_is_held() {
        let before = Sample { resident: 5_000, slab: 100, ..Sample::default() };
        let sample = |sessions, server| Sample { sessions, server, generator: 1.0, ..before };
        let held = Sample { sessions: 10, resident: 11_000, slab: 80_100, ..sample(10, 0.5) };
        let watched = Watched {
            before,
            samples: vec![sample(5, 2.0), sample(10, 0.25), held, held],
            held,
            metrics: String::new(),
            metrics_before: String::new(),
            errors: String::new(),
        };
        let report = serde_json::json!({
            "sessions": { "opening_s": 2.0, "opened_rate": 5.0 },
            "deliver_ms": { "p50": 1.0, "p99": 2.0 },
            "oracle": { "lost": 0, "gaps": 0 },
        });
        let step = Step { sessions: 12, watched, report };
        let expected = "| 12 | 10 | 2.0 | 5 | 600 | 8000 | 4600 | 1.0 | 2.0 | 0.50, 1.00 | 0 |";
        assert_eq!(row(&step), expected);
    }
}
