//! `cargo xtask conformance`: the Autobahn test suite against both roles of `ws`.
//!
//! Its fuzzing client talks to an echo on the gateway's own reactor, its fuzzing server to a client
//! on a ring. The suite runs on Python 2.7 alone, in an environment of its own in the cache; where
//! there is no such Python nothing is tested, and that is said.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::environment::{self, Environment, cache_dir};
use crate::python::{self, Venv};
use crate::{console, prerequisites};

/// What is installed from the Python package index.
const SUITE: &str = "autobahntestsuite==25.10.1\n";

/// Under this name the suite reports on us.
const AGENT: &str = "mooring";

/// Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, and a large split message.
const QUICK: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];

/// Cases that [`QUICK`] selects; fewer, and the suite has changed or did not run.
const QUICK_COUNT: usize = 247;

/// With messages up to 16 MiB (9), and compression (12, 13).
const ALL: [&str; 1] = ["*"];

/// Cases that [`ALL`] selects.
const ALL_COUNT: usize = 517;

/// Cases that need not be `OK`, by the beginning of their number, with what they may be. Each is
/// explained in docs/reliability.md.
const EXPLAINED: [(&str, &str); 5] = [
    ("7.1.6", "INFORMATIONAL"),
    ("7.13.1", "INFORMATIONAL"),
    ("7.13.2", "INFORMATIONAL"),
    ("12.", "UNIMPLEMENTED"),
    ("13.", "UNIMPLEMENTED"),
];

/// Where to get a Python for it.
const NO_PYTHON: &str = "there is no Python 2.7, which the suite needs: install it with \
                         `pyenv install 2.7.18`, or name one in MOORING_PYTHON27";

/// What `conformance` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// All cases; some minutes. Default: those without large messages and compression.
    #[arg(long)]
    all: bool,
    /// The echo on the portable shell, not on rings; the client's role has no other.
    #[arg(long, value_name = "SHELL", default_value = "uring",
          value_parser = ["uring", "portable"])]
    io: String,
    /// Keep the suite's reports (HTML, one page a case).
    #[arg(long)]
    keep: bool,
}

/// Builds, runs, judges.
pub(crate) fn conformance(arguments: &Arguments) -> Result<ExitCode> {
    prerequisites::ensure()?;
    if let Some(why) = missing() {
        console::warn(&format!("not tested: {why}"));
        return Ok(ExitCode::SUCCESS);
    }
    let environment = Environment::prepare()?;
    console::step("Building both sides");
    environment::run(&mut environment.cargo(["build", "--release", "--package", "conformance"]))?;
    run(&environment, arguments)?;
    Ok(ExitCode::SUCCESS)
}

/// Why this machine cannot run the suite, if it cannot.
pub(crate) fn missing() -> Option<&'static str> {
    python::find_python27().is_none().then_some(NO_PYTHON)
}

/// The short form, for `ci`: with the binary that the tests of the package have built, as another
/// `cargo build` would choose other features, and build again.
pub(crate) fn quick(environment: &Environment) -> Result<()> {
    run(environment, &Arguments { all: false, io: "uring".to_owned(), keep: false })
}

fn run(environment: &Environment, arguments: &Arguments) -> Result<()> {
    let python = python::find_python27().context(NO_PYTHON)?;
    let venv = Venv::ensure_python27(&cache_dir()?, "autobahn", SUITE, &python)?;
    let folder = tempfile::Builder::new().prefix("mooring-conformance-").tempdir()?;
    let suite = Suite {
        wstest: venv.program("wstest"),
        sides: environment.release_binary("conformance"),
        folder: folder.path(),
        is_portable: arguments.io == "portable",
        cases: if arguments.all { &ALL } else { &QUICK },
        count: if arguments.all { ALL_COUNT } else { QUICK_COUNT },
    };
    let client = || if suite.is_portable { Ok(()) } else { suite.test_client() };
    let result = suite.test_server().and_then(|()| client());
    if arguments.keep || result.is_err() {
        console::note(&format!("the reports are kept in {}", folder.keep().display()));
    }
    result
}

/// The suite, and what it is pointed at.
struct Suite<'a> {
    wstest: PathBuf,
    sides: PathBuf,
    folder: &'a Path,
    is_portable: bool,
    cases: &'a [&'a str],
    count: usize,
}

/// A process that ends with this value.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It has ended already, or is ours alone to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Suite<'_> {
    /// The fuzzing client against the echo.
    fn test_server(&self) -> Result<()> {
        let shell = if self.is_portable { "portable shell" } else { "reactor" };
        console::step(&format!("The fuzzing client against the echo on the gateway's {shell}"));
        let mut command = Command::new(&self.sides);
        command.arg("serve").args(self.is_portable.then_some("--portable"));
        // Its data directory goes with the suite's folder, also when it has to be killed.
        command.env("TMPDIR", self.folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut echo = Ending(command.spawn().context("cannot start the echo")?);
        let line = first_line(&mut echo.0)?;
        let address = line.strip_prefix("ready ").context("the echo is not ready")?;
        let server = serde_json::json!([{ "agent": AGENT, "url": format!("ws://{address}") }]);
        let mut command = self.wstest("fuzzingclient", "server", "servers", server)?;
        environment::output(&mut command)?;
        drop(echo.0.stdin.take());
        let status = echo.0.wait().context("cannot wait for the echo")?;
        anyhow::ensure!(status.success(), "the echo did not end well ({status})");
        self.judge("server")
    }

    /// The fuzzing server against the client.
    fn test_client(&self) -> Result<()> {
        console::step("The fuzzing server against the client on a ring");
        // Free now; the suite cannot be told to choose one itself.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let url = serde_json::json!(format!("ws://127.0.0.1:{port}"));
        let mut command = self.wstest("fuzzingserver", "client", "url", url)?;
        let mut server = Ending(command.stdout(Stdio::piped()).spawn().context("cannot start it")?);
        let output = server.0.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(output).lines();
        // Said when it has its cases; it listens when that line has been written out.
        let begun = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("Cases = "));
        anyhow::ensure!(begun, "the fuzzing server has ended before it began");
        // Its pipe must not fill up.
        let drain = std::thread::spawn(move || lines.map_while(Result::ok).count());
        let mut command = Command::new(&self.sides);
        command.args(["connect", &format!("127.0.0.1:{port}"), "--agent", AGENT]);
        let connected = environment::output(&mut command);
        drop(server);
        let _ = drain.join();
        connected?;
        self.judge("client")
    }

    /// The suite's program in one of its modes, reporting on `side`.
    fn wstest(
        &self,
        mode: &str,
        side: &str,
        peer: &str,
        value: serde_json::Value,
    ) -> Result<Command> {
        let mut specification = serde_json::json!({
            "outdir": self.folder.join(side),
            "cases": self.cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        });
        specification[peer] = value;
        let path = self.folder.join(format!("{side}.json"));
        std::fs::write(&path, specification.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = Command::new(&self.wstest);
        // Python holds lines back that go to a pipe.
        command.env("PYTHONUNBUFFERED", "1").current_dir(self.folder);
        command.args(["--webport", "0", "--mode", mode, "--spec"]).arg(path);
        Ok(command)
    }

    fn judge(&self, side: &str) -> Result<()> {
        let path = self.folder.join(side).join("index.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("there is no report {}", path.display()))?;
        let verdict = Verdict::read(&text)?;
        console::note(&verdict.to_string());
        anyhow::ensure!(
            verdict.count() == self.count,
            "{} cases were run, not {}: is it another version of the suite?",
            verdict.count(),
            self.count
        );
        if let Some((case, behaviour)) = verdict.unexplained.first() {
            let more = verdict.unexplained.len() - 1;
            bail!("case {case} is {behaviour}, and so are or may be {more} others ({side})");
        }
        Ok(())
    }
}

/// The echo says one line and no more.
fn first_line(child: &mut Child) -> Result<String> {
    let output = child.stdout.as_mut().context("the output is piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).context("cannot read the output")?;
    Ok(line.trim_end().to_owned())
}

/// What a report says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// How many cases behaved how.
    behaviours: BTreeMap<String, usize>,
    /// Those that should have behaved otherwise.
    unexplained: Vec<(String, String)>,
}

impl Verdict {
    /// Reads an `index.json`: agent, case, then `behavior` and `behaviorClose`.
    fn read(text: &str) -> Result<Self> {
        let report: serde_json::Value = serde_json::from_str(text)?;
        let cases = report.get(AGENT).and_then(serde_json::Value::as_object);
        let mut verdict = Self::default();
        for (case, result) in cases.context("the report does not name us")? {
            let said = |key: &str| result.get(key).and_then(serde_json::Value::as_str);
            let behaviour = said("behavior").context("a case without a behaviour")?;
            let closing = said("behaviorClose").context("a case without a closing behaviour")?;
            *verdict.behaviours.entry(behaviour.to_owned()).or_default() += 1;
            let may_be = |what: &str| {
                let explained = |(prefix, allowed): &(&str, &str)| {
                    *allowed == what
                        && (case == prefix || prefix.ends_with('.'))
                        && case.starts_with(prefix)
                };
                what == "OK" || EXPLAINED.iter().any(explained)
            };
            let wrong = [behaviour, closing].into_iter().find(|what| !may_be(what));
            verdict.unexplained.extend(wrong.map(|what| (case.clone(), what.to_owned())));
        }
        Ok(verdict)
    }

    fn count(&self) -> usize {
        self.behaviours.values().sum()
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> =
            self.behaviours.iter().map(|(what, count)| format!("{count} {what}")).collect();
        write!(f, "{} cases: {}", self.count(), parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_explained_may_be_other_than_ok() -> Result<()> {
        // Case, behaviour, of the closing, whether that is as it should be.
        let rows = [
            ("1.1.1", "OK", "OK", true),
            ("7.1.6", "INFORMATIONAL", "INFORMATIONAL", true),
            ("7.1.60", "INFORMATIONAL", "OK", false),
            ("12.1.3", "UNIMPLEMENTED", "OK", true),
            ("12.1.3", "FAILED", "OK", false),
            ("6.4.1", "NON-STRICT", "OK", false),
            ("7.3.1", "OK", "WRONG CODE", false),
        ];
        for (case, behaviour, closing, expected) in rows {
            let result = serde_json::json!({ "behavior": behaviour, "behaviorClose": closing });
            let report = serde_json::json!({ AGENT: { case: result } });
            let verdict = Verdict::read(&report.to_string())?;
            assert_eq!(verdict.unexplained.is_empty(), expected, "{case} {behaviour} {closing}");
            assert_eq!(verdict.count(), 1);
        }
        assert!(Verdict::read("{}").is_err(), "a report on somebody else");
        Ok(())
    }
}
