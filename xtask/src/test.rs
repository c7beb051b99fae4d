//! `cargo xtask test`: everything that must pass.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::environment::{self, Environment, cache_dir};
use crate::prerequisites;
use crate::python::Venv;
use crate::steps::Steps;
use crate::typescript::{self, Prepared};
use crate::{codegen, console, crash_test, fault_test};

/// What `test` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
}

/// Runs the tests and sums up.
pub(crate) fn test(arguments: &Arguments) -> Result<()> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    let mut steps = Steps::default();
    if arguments.filter.is_none() {
        steps.take("generated code", || codegen::codegen(true));
    }
    let counts = run_tests(&environment, &mut steps, arguments.filter.as_deref());
    close(&steps, counts)
}

/// The tests of the workspace, `tidy` and the example clients among them.
pub(crate) fn run_tests(
    environment: &Environment,
    steps: &mut Steps,
    filter: Option<&str>,
) -> Counts {
    let mut counts = Counts::default();
    steps.take("tests", || cargo_test(environment, filter, &mut counts));
    if filter.is_none() {
        break_it(environment, steps, &mut counts);
    }
    counts
}

/// The short forms of `crash-test` and `fault-test`; each counts as one test. The binaries are
/// those that the tests of their packages have built: another `cargo build` would choose other
/// features, and build again.
fn break_it(environment: &Environment, steps: &mut Steps, counts: &mut Counts) {
    let crash = |io: &str| {
        let verdict = crash_test::run(environment, &crash_test::Arguments::short(io))?;
        anyhow::ensure!(verdict.is_clean(), "{}", verdict.summary());
        Ok(())
    };
    let fault = || {
        let found = fault_test::run(environment, &fault_test::Arguments::short())?;
        anyhow::ensure!(found.is_empty(), "{}", found.join("; "));
        Ok(())
    };
    let tests: [(&'static str, &dyn Fn() -> Result<()>); 3] = [
        ("crash test", &|| crash("uring")),
        ("crash test, portable", &|| crash("portable")),
        ("fault test", &fault),
    ];
    for (name, run) in tests {
        // What the tests of the ring go by as well: the load generator has no other way.
        if std::env::var_os("MOORING_ALLOW_NO_URING").is_some_and(|value| value == "1") {
            steps.skip(name, "MOORING_ALLOW_NO_URING=1");
            counts.ignored += 1;
            continue;
        }
        let passed = steps.take(name, run);
        counts.passed += u64::from(passed.is_some());
        counts.failed += u64::from(passed.is_none());
    }
}

/// Prints the summary and, as the last line of standard output, what the tests came to.
pub(crate) fn close(steps: &Steps, counts: Counts) -> Result<()> {
    steps.summary();
    let Counts { passed, failed, ignored } = counts;
    console::answer(&format!("tests: {passed} passed, {failed} failed, {ignored} skipped"));
    steps.verdict()
}

/// How many tests there were, over all test binaries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds what a closing line of libtest says: `test result: ok. 3 passed; 0 failed; ...`.
    fn add_line(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let Some((_, counts)) = rest.split_once(". ") else { return };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

fn cargo_test(environment: &Environment, filter: Option<&str>, counts: &mut Counts) -> Result<()> {
    let mut command = environment.cargo(["test", "--workspace", "--release", "--no-fail-fast"]);
    command.args(filter).envs(clients(environment)?);
    if !prerequisites::POSTGRESQL.provide() {
        console::warn("the API is tested on SQLite alone");
        command.env("MOORING_ALLOW_NO_POSTGRES", "1");
    }
    if !prerequisites::ZOOKEEPER.provide() {
        console::warn("gateways that make themselves known in ZooKeeper are not tested");
        command.env("MOORING_ALLOW_NO_ZOOKEEPER", "1");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = child.stdout.take().context("the tests' output is not piped")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        console::answer(&line);
        counts.add_line(&line);
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    anyhow::ensure!(status.success(), "`{}` failed ({status})", environment::shown(&command));
    anyhow::ensure!(counts.passed > 0, "no test was run; is the filter right?");
    Ok(())
}

/// Tells the tests of the example clients what to run them with: `MOORING_PYTHON` is an interpreter
/// with the example's packages, `MOORING_NODE` a command line. A variable that is missing means
/// that the client cannot run here, and the person has been told.
fn clients(environment: &Environment) -> Result<Vec<(&'static str, String)>> {
    let mut variables = Vec::new();
    if let Some(venv) = Venv::for_examples(environment.root(), &cache_dir()?)? {
        variables.push(("MOORING_PYTHON", venv.program("python").display().to_string()));
    }
    match typescript::prepare(environment.root())? {
        Prepared::Runs(node) => variables.push(("MOORING_NODE", node.to_owned())),
        Prepared::Cannot(why) => {
            console::warn(&format!("the TypeScript example is not tested: {why}"));
        }
        Prepared::Absent => {}
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_the_closing_lines_and_ignore_all_others() {
        let mut counts = Counts::default();
        for line in [
            "test codec::round_trip ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; in 1s",
            "note: test result: ok. 100 passed",
        ] {
            counts.add_line(line);
        }
        assert_eq!(counts, Counts { passed: 7, failed: 2, ignored: 1 });
    }
}
