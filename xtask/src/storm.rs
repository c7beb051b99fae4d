//! `cargo xtask storm`: very many sessions hang up at once and come back, without and with jitter,
//! while others talk; what those feel, over time, as a page with a plot.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bench::figures;
use crate::bench::plot::{Line, lines};
use crate::bench::server::Server;
use crate::environment::{self, Environment};
use crate::{console, prerequisites};

/// What `storm` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Sessions that hang up and come back.
    #[arg(long, default_value_t = 200_000)]
    sessions: u32,
    /// Sessions that stay, and talk in pairs.
    #[arg(long, default_value_t = 20_000)]
    established: u32,
    /// Messages a second of those who stay, together.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Seconds over which they hang up: both ends are on this machine, and to close and open so
    /// many sockets at once would take all of it.
    #[arg(long, default_value_t = 10)]
    over: u32,
    /// Seconds within which clients with jitter come back.
    #[arg(long, default_value_t = 30)]
    jitter: u32,
    /// Seconds measured before, and again after.
    #[arg(long, default_value_t = 10)]
    calm: u32,
    /// Where the report and its plot go.
    #[arg(long, value_name = "DIR", default_value = "docs/reports/storm")]
    out: PathBuf,
}

/// Sessions for which a core has room, with some to spare for those on their way to another core:
/// its table is bounded by the limit of open files, 20,000 on the machines of the reports.
const SESSIONS_PER_CORE: u32 = 14_000;

/// The bound that is asked for: p99 during over p99 before.
const RATIO_MAX: f64 = 3.0;

/// One storm.
struct Storm {
    name: String,
    report: Value,
    deferred: u64,
    dropped: u64,
}

pub(crate) fn storm(arguments: &Arguments) -> Result<()> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    console::step("Building the server and the load generator");
    let build = ["build", "--release", "-p", "mooring", "-p", "loadgen"];
    environment::run(&mut environment.cargo(build))?;
    let mut storms = Vec::new();
    for jitter in [0, arguments.jitter] {
        let name =
            if jitter == 0 { "without jitter".to_owned() } else { format!("within {jitter} s") };
        console::step(&format!("{} sessions come back {name}", arguments.sessions));
        storms.push(run(&environment, arguments, jitter, name)?);
    }
    write_report(arguments, &storms)
}

fn run(
    environment: &Environment,
    arguments: &Arguments,
    jitter: u32,
    name: String,
) -> Result<Storm> {
    let server = Server::start_binary(&environment.release_binary("mooring"), cores(arguments))?;
    let json = server.data().join("report.json");
    let mut command = Command::new(environment.release_binary("loadgen"));
    command.args(["run", "storm", "--sessions", &arguments.sessions.to_string()]);
    command.args(["--established", &arguments.established.to_string()]);
    command.args(["--rate", &arguments.rate.to_string(), "--jitter", &format!("{jitter}s")]);
    command.args(["--calm", &format!("{}s", arguments.calm), "--url", &server.url()]);
    command.args(["--over", &format!("{}s", arguments.over)]);
    command.arg("--data").arg(server.data()).arg("--json").arg(&json);
    let output = command.output().context("cannot start loadgen")?;
    // 1: the oracle found something, 3: not all came back. Both are in the report.
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(json.is_file(), "loadgen wrote no report: {}", errors.trim());
    let metrics = server.metrics()?;
    let storm = Storm {
        name,
        report: serde_json::from_slice(&std::fs::read(&json)?)?,
        deferred: counter(&metrics, "mooring_admissions_deferred_total"),
        dropped: counter(&metrics, "mooring_admissions_dropped_total"),
    };
    server.stop()?;
    console::note(&row(&storm));
    Ok(storm)
}

fn cores(arguments: &Arguments) -> u16 {
    let cores = (arguments.sessions + arguments.established).div_ceil(SESSIONS_PER_CORE);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

fn write_report(arguments: &Arguments, storms: &[Storm]) -> Result<()> {
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let points: Vec<Vec<(f64, f64)>> = storms.iter().map(|storm| timeline(&storm.report)).collect();
    let named = storms.iter().zip(&points);
    let plotted: Vec<Line<'_>> =
        named.map(|(storm, points)| Line { name: &storm.name, points }).collect();
    let before = storms.first().map_or(1.0, |storm| phase(&storm.report, "before", "p99"));
    lines(
        &arguments.out.join("p99.svg"),
        &format!("p99 of the established, {} sessions come back", arguments.sessions),
        ("s; at the first mark everyone else hangs up", "ms"),
        RATIO_MAX * before,
        &plotted,
    )?;
    let page = page(arguments, storms)?;
    let path = arguments.out.join("README.md");
    std::fs::write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    console::answer(&page);
    Ok(())
}

fn page(arguments: &Arguments, storms: &[Storm]) -> Result<String> {
    let Arguments { sessions, established, rate, over, jitter, calm, .. } = arguments;
    let mut page = String::new();
    writeln!(page, "# A storm of returning sessions\n")?;
    let machine = storms.first().map_or(&Value::Null, |storm| &storm.report["machine"]);
    writeln!(
        page,
        "`cargo xtask storm --sessions {sessions} --established {established} --rate {rate} \
         --over {over} --jitter {jitter} --calm {calm}` on {}, shared and \
         noisy, with both ends on it.\n",
        figures::machine(machine)
    )?;
    writeln!(
        page,
        "{established} sessions talk in pairs, {rate} messages a second together, every message \
         durable.\n{sessions} others hang up within {over} s and come back with tickets, from \
         an old cursor\nbehind which two messages are read for each.\n"
    )?;
    writeln!(
        page,
        "| they come back | everyone is back after s | p99 before ms | during | after | during / \
         before | p50 before / during ms | waited in line | ended in line | failed tries | lost, \
         doubled, … |"
    )?;
    writeln!(page, "|{}", " ---: |".repeat(11).replacen(" ---: |", " --- |", 1))?;
    for storm in storms {
        writeln!(page, "{}", row(storm))?;
    }
    writeln!(page, "\n![p99 over time](p99.svg)\n")?;
    writeln!(page, "The line is {RATIO_MAX} times the p99 before. What bounds a storm is in")?;
    writeln!(page, "[operations.md](../../operations.md#a-storm-of-returning-clients).")?;
    Ok(page)
}

fn row(storm: &Storm) -> String {
    let report = &storm.report;
    let p99 = |of: &str| phase(report, of, "p99");
    let back = report["storm"]["return_s"].as_f64();
    let sum = |counts: &Value| -> u64 {
        counts.as_object().map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum())
    };
    format!(
        "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} / {:.1} | {} | {} | {} | {} |",
        storm.name,
        back.map_or_else(|| "not all".to_owned(), |back| format!("{back:.1}")),
        p99("before"),
        p99("during"),
        p99("after"),
        p99("during") / p99("before"),
        phase(report, "before", "p50"),
        phase(report, "during", "p50"),
        storm.deferred,
        storm.dropped,
        sum(&report["sessions"]["failures"]),
        sum(&report["oracle"]),
    )
}

fn phase(report: &Value, of: &str, figure: &str) -> f64 {
    report["storm"]["deliver_ms"][of][figure].as_f64().unwrap_or(f64::NAN)
}

fn timeline(report: &Value) -> Vec<(f64, f64)> {
    let slots = report["storm"]["timeline"].as_array().map_or(&[][..], Vec::as_slice);
    let point = |slot: &Value| Some((slot["at_s"].as_f64()?, slot["p99_ms"].as_f64()?));
    slots.iter().filter_map(point).filter(|(_, p99)| *p99 > 0.0).collect()
}

fn counter(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_happened_and_a_counter_is_found_by_its_whole_name() {
        let metrics = "mooring_x_total 3\nmooring_x_totals 4\n";
        assert_eq!((counter(metrics, "mooring_x_total"), counter(metrics, "mooring_y")), (3, 0));
        let figures = |p99: f64| serde_json::json!({ "p50": 1.0, "p99": p99 });
        let report = serde_json::json!({
            "storm": {
                "return_s": null,
                "deliver_ms": {
                    "before": figures(2.0),
                    "during": figures(5.0),
                    "after": figures(2.0),
                },
                "timeline": [{ "at_s": 0.0, "p99_ms": 2.0 }, { "at_s": 0.5, "p99_ms": 0.0 }],
            },
            "sessions": { "failures": { "connect": 3, "closed": 4 } },
            "oracle": { "lost": 0 },
        });
        assert_eq!(timeline(&report), [(0.0, 2.0)], "slots without a message are left out");
        let storm = Storm { name: "at once".into(), report, deferred: 5, dropped: 6 };
        let expected = "| at once | not all | 2.0 | 5.0 | 2.0 | 2.5 | 1.0 / 1.0 | 5 | 6 | 7 | 0 |";
        assert_eq!(row(&storm), expected);
    }
}
