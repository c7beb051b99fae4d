//! `cargo xtask compare`: what an idle WebSocket session takes, and how fast sessions begin, here
//! and on other servers that hold WebSockets, under the same load generator on the same machine, in
//! turns.

mod servers;

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::figures::{self, median};
use crate::bench::plot;
use crate::environment::{self, Environment};
use crate::{console, prerequisites};
use servers::{Kind, Peer};

/// What `compare` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; the report gives medians over them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Sessions on each server. Each has one process with one limit of open files.
    #[arg(long, default_value_t = 15_000)]
    sessions: u32,
    /// Seconds that they are held.
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Where the report and its plot go.
    #[arg(long, value_name = "DIR", default_value = "docs/reports/compare")]
    out: PathBuf,
}

/// Between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One look while sessions are there.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// TCP sockets of the machine.
    sockets: u64,
    resident: f64,
    slab: f64,
}

/// What the rounds have told of one server.
#[derive(Default)]
struct Measured {
    /// Bytes a session, in the server's processes.
    resident: Vec<f64>,
    /// Bytes a session, of the kernel for one of the two ends.
    kernel: Vec<f64>,
    /// Sessions begun in a second.
    rate: Vec<f64>,
}

pub(crate) fn compare(arguments: &Arguments) -> Result<()> {
    prerequisites::ensure()?;
    for tool in [&prerequisites::NCHAN, &prerequisites::NATS] {
        ensure!(tool.provide(), "without it there is nothing to compare with");
    }
    let environment = Environment::prepare()?;
    console::step("Building the server and the load generator");
    let build = ["build", "--release", "-p", "mooring", "-p", "loadgen"];
    environment::run(&mut environment.cargo(build))?;
    let mut measured = Kind::ALL.map(|_| Measured::default());
    let mut machine = Value::Null;
    for round in 1..=arguments.rounds {
        console::step(&format!("Round {round} of {}", arguments.rounds));
        for (kind, measured) in Kind::ALL.into_iter().zip(&mut measured) {
            let report = measure(&environment, arguments, kind, measured)
                .with_context(|| format!("{} with {} sessions", kind.name(), arguments.sessions))?;
            machine = report["machine"].clone();
        }
    }
    let mooring = environment.release_binary("mooring");
    write_report(arguments, &measured, &machine, &mooring)
}

fn measure(
    environment: &Environment,
    arguments: &Arguments,
    kind: Kind,
    measured: &mut Measured,
) -> Result<Value> {
    let peer = kind.start(&environment.release_binary("mooring"))?;
    let (json, errors) = (peer.file("report.json"), peer.file("loadgen.log"));
    let before = look(&peer)?;
    let mut command = Command::new(environment.release_binary("loadgen"));
    command.arg("run").args(&peer.arguments).args(["--threads", "1", "--warmup", "1s"]);
    command.args(["--sessions", &arguments.sessions.to_string()]);
    command.args(["--duration", &format!("{}s", arguments.seconds), "--json"]).arg(&json);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&errors)?);
    let mut loadgen = command.spawn().context("cannot start the load generator")?;
    let looks = watch(&peer, &mut loadgen);
    let status = loadgen.wait()?;
    let looks = looks?;
    let told = || std::fs::read_to_string(&errors).unwrap_or_default();
    ensure!(status.success(), "the load generator ended with {status}: {}", told().trim());
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let held = report["sessions"]["held"].as_u64().unwrap_or(0);
    ensure!(held == u64::from(arguments.sessions), "{held} sessions were held");
    let growth = growth(before, &looks).context("nobody looked while they were held")?;
    let sessions = f64::from(arguments.sessions);
    measured.resident.push(growth.resident / sessions);
    measured.kernel.push(growth.slab / sessions / 2.0);
    let rate = report["sessions"]["opened_rate"].as_f64();
    measured.rate.push(rate.context("the report has the rate")?);
    let last = |values: &[f64]| values.last().copied().unwrap_or_default();
    console::note(&format!(
        "{}: {:.0} bytes resident and {:.0} of the kernel a session, {:.0} sessions a second",
        kind.name(),
        last(&measured.resident),
        last(&measured.kernel),
        last(&measured.rate)
    ));
    Ok(report)
}

/// Looks at the memory until the load generator has ended.
fn watch(peer: &Peer, loadgen: &mut Child) -> Result<Vec<Look>> {
    let mut output = loadgen.stdout.take().context("its output is piped")?;
    let (sender, ended) = mpsc::channel();
    // Its output ends when it does.
    std::thread::spawn(move || sender.send(output.read_to_end(&mut Vec::new())));
    let mut looks = Vec::new();
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_EVERY) {
        looks.push(look(peer)?);
    }
    Ok(looks)
}

fn look(peer: &Peer) -> Result<Look> {
    let number = |path: &str, name: &str| -> Result<u64> {
        let text = std::fs::read_to_string(path)?;
        let rest = text.lines().find_map(|line| line.strip_prefix(name));
        let word = rest.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).with_context(|| format!("{path}: no {name}"))
    };
    #[expect(clippy::cast_precision_loss, reason = "bytes of one machine, for a mean")]
    Ok(Look {
        sockets: number("/proc/net/sockstat", "TCP: inuse ")?,
        resident: peer.resident_bytes()? as f64,
        slab: (number("/proc/meminfo", "Slab:")? * 1024) as f64,
    })
}

/// The median growth while all sessions were there: both ends of all of them are on this machine.
fn growth(before: Look, looks: &[Look]) -> Option<Look> {
    let most = looks.iter().map(|look| look.sockets).max()?;
    let all_there = |look: &&Look| look.sockets + look.sockets / 200 >= most;
    let held: Vec<&Look> = looks.iter().filter(all_there).collect();
    let median_of =
        |of: fn(&Look) -> f64| median(&held.iter().map(|look| of(look)).collect::<Vec<_>>());
    Some(Look {
        sockets: most - before.sockets,
        resident: median_of(|look| look.resident) - before.resident,
        slab: median_of(|look| look.slab) - before.slab,
    })
}

fn write_report(
    arguments: &Arguments,
    measured: &[Measured],
    machine: &Value,
    mooring: &Path,
) -> Result<()> {
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let named = Kind::ALL.into_iter().zip(measured);
    let bars: Vec<(String, f64)> = named
        .map(|(kind, measured)| (kind.name().to_owned(), median(&measured.resident)))
        .collect();
    let title = format!("Resident bytes of an idle session, {} sessions", arguments.sessions);
    plot::bars(&plot::Bars {
        path: &arguments.out.join("resident.svg"),
        title: &title,
        x_name: "",
        y_name: "bytes",
        bars: &bars,
    })?;
    let page = page(arguments, measured, machine, mooring)?;
    let path = arguments.out.join("README.md");
    std::fs::write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    console::answer(&page);
    Ok(())
}

fn page(
    arguments: &Arguments,
    measured: &[Measured],
    machine: &Value,
    mooring: &Path,
) -> Result<String> {
    let Arguments { rounds, sessions, seconds, .. } = arguments;
    let mut page = String::new();
    writeln!(page, "# Idle sessions, here and elsewhere\n")?;
    writeln!(
        page,
        "`cargo xtask compare --rounds {rounds} --sessions {sessions} --seconds {seconds}` on {}, \
         shared and noisy: medians (least–most) over the rounds, in which the servers take turns. \
         Each server has one process that works (one core, one worker, one processor of Go), the \
         load generator one thread beside it. The number of sessions is what \
         the limit of open files of that machine leaves to one process; it is no server's own.\n",
        figures::machine(machine)
    )?;
    writeln!(
        page,
        "| server | resident bytes a session | of the kernel, one end | sessions begun a second |\n\
         | --- | ---: | ---: | ---: |"
    )?;
    for (kind, measured) in Kind::ALL.into_iter().zip(measured) {
        let version = kind.version(mooring)?;
        let (resident, kernel) = (figures(&measured.resident), figures(&measured.kernel));
        let rate = figures(&measured.rate);
        writeln!(page, "| {} {version} | {resident} | {kernel} | {rate} |", kind.name())?;
    }
    writeln!(page, "\n![resident bytes](resident.svg)\n")?;
    writeln!(page, "What a session is:\n")?;
    for kind in Kind::ALL {
        writeln!(page, "- {}: {}.", kind.name(), kind.session())?;
    }
    writeln!(
        page,
        "\nResident: how much the server's processes have grown while all sessions were held, \
         divided by their number. Of the kernel: half of how much `Slab` of /proc/meminfo has \
         grown, as both ends are on the machine. The load generator asks for up to 512 connections \
         at once, and both ends share two processors: the rate is to be compared, not to be \
         expected. A session of Mooring costs it a signature to verify, a read of the store and a \
         Welcome; the others have less to do."
    )?;
    Ok(page)
}

/// `median (least–most)`
fn figures(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    format!("{:.0} ({least:.0}–{most:.0})", median(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_looks_at_all_sessions_count() {
        let look = |sockets, resident: f64| Look { sockets, resident, slab: 2.0 * resident };
        let looks = [look(50, 9.0), look(2000, 30.0), look(1995, 50.0), look(2000, 40.0)];
        let found = growth(look(10, 10.0), &looks).unwrap();
        assert_eq!((found.sockets, found.resident, found.slab), (1990, 30.0, 60.0));
        assert!(growth(look(10, 10.0), &[]).is_none());
    }

    #[test]
    fn figures_are_the_middle_and_the_ends() {
        assert_eq!(figures(&[3.0, 1.4, 2.0]), "2 (1–3)");
    }
}
