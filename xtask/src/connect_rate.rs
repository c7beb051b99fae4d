//! `cargo xtask connect-rate`: sessions a second with a token and with a ticket, beside the
//! connections a second that a bare ring accepts, interleaved in the same run.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::figures::median;
use crate::bench::server::Server;
use crate::environment::{self, Environment};
use crate::{console, prerequisites};

/// What `connect-rate` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; the report gives medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections of each measurement: of one core, and of one ring of the other side.
    #[arg(long, default_value_t = 15_000)]
    sessions: u32,
    /// Where the report goes.
    #[arg(long, value_name = "DIR", default_value = "docs/reports/connect")]
    out: PathBuf,
}

#[derive(Default)]
struct Measured {
    accept: Vec<f64>,
    token: Vec<f64>,
    ticket: Vec<f64>,
    machine: String,
}

pub(crate) fn connect_rate(arguments: &Arguments) -> Result<()> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    console::step("Building the server, the load generator and the baseline");
    let packages = ["-p", "mooring", "-p", "loadgen", "-p", "benches"];
    let build = ["build", "--release"].into_iter().chain(packages);
    environment::run(&mut environment.cargo(build))?;
    let mut measured = Measured::default();
    for round in 1..=arguments.rounds {
        console::step(&format!("Round {round} of {}", arguments.rounds));
        measure_round(&environment, arguments, &mut measured)?;
    }
    write_report(arguments, &measured)
}

fn measure_round(
    environment: &Environment,
    arguments: &Arguments,
    measured: &mut Measured,
) -> Result<()> {
    let sessions = arguments.sessions.to_string();
    let mut bare = Command::new(environment.release_binary("bare-accept"));
    let bare: Value =
        serde_json::from_str(&environment::output(bare.args(["--connections", &sessions]))?)?;
    measured.accept.push(number(&bare, "/rate")?);
    let host = &bare["environment"];
    let (cpu, kernel) = (host["cpu"].as_str(), host["kernel"].as_str());
    measured.machine = format!(
        "{}, {} processors, Linux {}",
        cpu.unwrap_or("unknown"),
        host["cpus"],
        kernel.unwrap_or("unknown")
    );
    let server = Server::start_binary(&environment.release_binary("mooring"), 1)?;
    let json = server.data().join("report.json");
    let mut command = Command::new(environment.release_binary("loadgen"));
    command.args(["run", "connect", "--resume", "--sessions", &sessions, "--threads", "1"]);
    command.args(["--url", &server.url(), "--data"]).arg(server.data()).arg("--json").arg(&json);
    environment::output(&mut command)?;
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    measured.token.push(number(&report, "/connect/fresh/rate")?);
    measured.ticket.push(number(&report, "/connect/resume/rate")?);
    server.stop()?;
    let last = |rates: &[f64]| rates.last().copied().unwrap_or_default();
    console::note(&format!(
        "accepted {:.0}, tokens {:.0}, tickets {:.0} a second",
        last(&measured.accept),
        last(&measured.token),
        last(&measured.ticket)
    ));
    Ok(())
}

fn write_report(arguments: &Arguments, measured: &Measured) -> Result<()> {
    let accept = median(&measured.accept);
    let mut page = String::new();
    writeln!(page, "# How fast sessions begin\n")?;
    writeln!(
        page,
        "`cargo xtask connect-rate --rounds {} --sessions {}` on {}, shared and noisy:",
        arguments.rounds, arguments.sessions, measured.machine
    )?;
    writeln!(
        page,
        "one core of the server and one thread of the load generator, on two processors"
    )?;
    writeln!(
        page,
        "with everything else; medians over the rounds, in which the three take turns."
    )?;
    writeln!(
        page,
        "The bare ring accepts as many connections, and says and hears nothing on them.\n"
    )?;
    writeln!(page, "| | a second | min–max | of bare |\n| --- | ---: | ---: | ---: |")?;
    let rows = [
        ("bare ring, connections accepted", &measured.accept),
        ("sessions begun with a token", &measured.token),
        ("sessions begun with a ticket", &measured.ticket),
    ];
    for (name, rates) in rows {
        let (least, most) = range(rates);
        let rate = median(rates);
        let ratio = rate / accept;
        writeln!(page, "| {name} | {rate:.0} | {least:.0}–{most:.0} | {ratio:.2} |")?;
    }
    writeln!(
        page,
        "\nA session is a TCP connection, a WebSocket handshake, a Hello that is verified"
    )?;
    writeln!(page, "(an Ed25519 signature, or a keyed hash), a read of the inbox, and a Welcome.")?;
    std::fs::create_dir_all(&arguments.out)?;
    let path = arguments.out.join("README.md");
    std::fs::write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    console::answer(&page);
    Ok(())
}

fn number(value: &Value, pointer: &str) -> Result<f64> {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    let number = found.with_context(|| format!("no {pointer} in {value}"))?;
    ensure!(number > 0.0, "{pointer} is {number}");
    Ok(number)
}

fn range(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    (least, values.iter().copied().fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_the_middle_and_the_ends() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), range(&[3.0, 1.0, 2.0])), (2.0, (1.0, 3.0)));
    }

    #[test]
    fn a_figure_that_is_not_there_is_told() {
        let value = serde_json::json!({ "connect": { "fresh": { "rate": 0.0 } } });
        assert!(number(&value, "/connect/fresh/rate").is_err());
        assert!(number(&value, "/connect/resume/rate").is_err());
    }
}
