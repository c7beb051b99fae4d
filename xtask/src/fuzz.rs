//! `cargo xtask fuzz`: the targets of `fuzz/`, each for a while, under AddressSanitizer.
//!
//! cargo-fuzz builds them. The sanitizer and the coverage instrumentation are unstable options of
//! a stable compiler, which `RUSTC_BOOTSTRAP=1` opens: what is fuzzed is compiled by the compiler
//! of the product. A target that must fail comes first; if it does not, the fuzzer finds
//! nothing, and nothing that it says about the others counts.

mod coverage;
mod totals;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::environment::{self, Environment, cache_dir};
use crate::prerequisites::{self, SYMBOLIZER};
use crate::{cache, clock, console, workspace};
use coverage::Coverage;
use totals::{Total, Totals};

/// What builds the targets.
const CARGO_FUZZ: &str = "0.13.2";

/// The target that must fail, within this many seconds, and what it then says.
const CANARY: &str = "canary";
const CANARY_SECONDS: u32 = 30;
const CANARY_WORD: &str = "the canary is dead";

/// For each target in `ci`.
const SHORT_SECONDS: u32 = 6;

/// Bytes of an input, and seconds that one may take: far more than any needs, as the clock goes on
/// while other work has the processors.
const LIMITS: [&str; 2] = ["-max_len=1024", "-timeout=60"];

/// What `fuzz` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this target. Default: all, and the canary first.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Run the target on this file alone, as it was found.
    #[arg(long, value_name = "FILE", requires = "target")]
    replay: Option<PathBuf>,
    /// Run nothing: write what all runs on this machine came to, and what their corpora reach, into
    /// docs/reliability.md.
    #[arg(long, conflicts_with_all = ["target", "seconds"])]
    report: bool,
}

/// Builds the targets and runs them.
pub(crate) fn fuzz(arguments: &Arguments) -> Result<ExitCode> {
    prerequisites::ensure()?;
    // Without it the coverage stays unknown, and the runs go on.
    SYMBOLIZER.provide();
    let environment = Environment::prepare()?;
    let found = cache_dir()?.join("fuzz");
    let fuzzer = Fuzzer::build(&environment, found)?;
    if let (Some(target), Some(file)) = (&arguments.target, &arguments.replay) {
        let file = std::path::absolute(file)?;
        environment::run(fuzzer.command(target)?.arg(file))?;
        console::note("it passes");
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.report {
        fuzzer.report()?;
        return Ok(ExitCode::SUCCESS);
    }
    fuzzer.check_canary()?;
    let targets = match &arguments.target {
        Some(target) => vec![target.clone()],
        None => fuzzer.targets()?,
    };
    fuzzer.run_all(&targets, arguments.seconds)?;
    Ok(ExitCode::SUCCESS)
}

/// The short form, for `ci`: begins with the corpora of the checkout alone.
pub(crate) fn quick(environment: &Environment) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("mooring-fuzz-").tempdir()?;
    let fuzzer = Fuzzer::build(environment, folder.path().to_owned())?;
    let result = fuzzer.check_canary().and_then(|()| {
        let targets = fuzzer.targets()?;
        fuzzer.run_all(&targets, SHORT_SECONDS)
    });
    if result.is_err() {
        console::note(&format!("what was found is kept in {}", folder.keep().display()));
    }
    result
}

/// The targets, built.
struct Fuzzer<'a> {
    root: &'a Path,
    binaries: PathBuf,
    /// Where inputs are kept that were found: new ones of each corpus, and those that fail.
    found: PathBuf,
}

/// What one run came to.
struct Run {
    /// How long it took, and how many inputs it tried.
    total: Total,
    /// The file that makes it fail, and the last lines that it said.
    failure: Option<(PathBuf, String)>,
}

impl<'a> Fuzzer<'a> {
    fn build(environment: &'a Environment, found: PathBuf) -> Result<Self> {
        let tool = cargo_fuzz(environment)?;
        console::step("Building the fuzz targets (AddressSanitizer; some minutes at first)");
        let target_dir = environment.target_dir().join("fuzz");
        let mut command = Command::new(tool);
        command.args(["fuzz", "build", "--fuzz-dir", "fuzz", "--features", "libfuzzer"]);
        command.arg("--target-dir").arg(&target_dir).current_dir(environment.root());
        command.envs(environment.variables()).env("RUSTC_BOOTSTRAP", "1");
        environment::run(&mut command)?;
        let host = environment::host()?;
        let binaries = target_dir.join(host).join("release");
        Ok(Self { root: environment.root(), binaries, found })
    }

    /// All targets but the canary: each has a corpus.
    fn targets(&self) -> Result<Vec<String>> {
        let manifest = workspace::read_toml(self.root, "fuzz/Cargo.toml")?;
        let binaries = manifest.get("bin").and_then(toml::Value::as_array);
        let names = binaries.into_iter().flatten().filter_map(|bin| bin.get("name")?.as_str());
        let names: Vec<String> = names.filter(|&name| name != CANARY).map(str::to_owned).collect();
        anyhow::ensure!(!names.is_empty(), "fuzz/Cargo.toml names no target");
        Ok(names)
    }

    fn command(&self, target: &str) -> Result<Command> {
        let binary = self.binaries.join(target);
        anyhow::ensure!(binary.is_file(), "there is no target {target}; see fuzz/Cargo.toml");
        Ok(Command::new(binary))
    }

    /// # Errors
    /// The canary has survived.
    fn check_canary(&self) -> Result<()> {
        let run = self.run(CANARY, CANARY_SECONDS)?;
        let Some((_, said)) = run.failure else {
            bail!("{} inputs did not kill the canary: this fuzzer finds nothing", run.total.inputs);
        };
        anyhow::ensure!(said.contains(CANARY_WORD), "the canary died of something else:\n{said}");
        console::note(&format!("{CANARY:<18} found dead, as it must be"));
        Ok(())
    }

    /// Runs each target, also after one that has failed.
    fn run_all(&self, targets: &[String], seconds: u32) -> Result<()> {
        let mut failed = Vec::new();
        for target in targets {
            let run = self.run(target, seconds)?;
            Totals::read(&self.found)?.add(target, run.total)?;
            let coverage = Coverage::of(&mut self.corpus_command(target)?)?;
            console::note(&format!("{target:<18} {:>9} inputs, {coverage}", run.total.inputs));
            if let Some((file, said)) = run.failure {
                console::line(&said);
                let file = file.display();
                console::line(&format!("    cargo xtask fuzz --target {target} --replay {file}"));
                failed.push(target.as_str());
            }
        }
        anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        Ok(())
    }

    fn report(&self) -> Result<()> {
        let totals = Totals::read(&self.found)?;
        let mut rows = Vec::new();
        for target in self.targets()? {
            let coverage = Coverage::of(&mut self.corpus_command(&target)?)?;
            rows.push((target.clone(), totals.of(&target), coverage.to_string()));
        }
        totals::write(self.root, &rows)
    }

    /// The target with the folders of its corpora: what it finds, and the checkout's.
    fn corpus_command(&self, target: &str) -> Result<Command> {
        let (new, own) = (self.found.join(target), self.root.join("fuzz/corpus").join(target));
        std::fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
        let mut command = self.command(target)?;
        command.args(LIMITS).arg(new);
        if own.is_dir() {
            command.arg(own);
        }
        Ok(command)
    }

    fn run(&self, target: &str, seconds: u32) -> Result<Run> {
        console::step(&format!("Fuzzing {target} for {seconds} s"));
        let mut command = self.corpus_command(target)?;
        let failures = self.found.join("failed").join(target);
        std::fs::create_dir_all(&failures)
            .with_context(|| format!("cannot make {}", failures.display()))?;
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/", failures.display()));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {target}"))?;
        let output = child.stderr.take().context("its output is piped")?;
        let mut log = Log::new(seconds);
        for line in BufReader::new(output).split(b'\n') {
            log.read(&String::from_utf8_lossy(&line.context("cannot read its output")?));
        }
        let status = child.wait().context("cannot wait for it")?;
        let (total, file, said) = log.finish();
        let failure = match (status.success(), file) {
            (true, _) => None,
            (false, Some(file)) => Some((file, said)),
            (false, None) => bail!("{target} could not run ({status}):\n{said}"),
        };
        Ok(Run { total, failure })
    }
}

/// The binary of cargo-fuzz, installed in the cache if it is missing.
fn cargo_fuzz(environment: &Environment) -> Result<PathBuf> {
    let folder = cache_dir()?.join("tools").join(format!("cargo-fuzz-{CARGO_FUZZ}"));
    let binary = folder.join("bin").join("cargo-fuzz");
    let _lock = cache::lock(&folder.with_extension("lock"), "cargo-fuzz")?;
    if !binary.is_file() {
        console::step("Installing cargo-fuzz in the cache");
        let install = ["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"];
        environment::run(environment.cargo(install).arg(&folder))?;
    }
    Ok(binary)
}

/// What libFuzzer says, line by line.
struct Log {
    meter: Option<console::Meter>,
    started: std::time::Instant,
    inputs: u64,
    file: Option<PathBuf>,
    /// From the panic, or the sanitizer's report, on.
    said: Vec<String>,
}

/// Lines of a report that are shown.
const SAID_LINES_MAX: usize = 12;

/// A shorter run shows no progress.
const METER_SECONDS_MIN: u32 = 30;

impl Log {
    fn new(seconds: u32) -> Self {
        let meter =
            (seconds >= METER_SECONDS_MIN).then(|| console::Meter::new("seconds", seconds.into()));
        Self { meter, started: clock::now(), inputs: 0, file: None, said: Vec::new() }
    }

    fn read(&mut self, line: &str) {
        if let Some(meter) = &mut self.meter {
            meter.set(Duration::as_secs(&self.started.elapsed()));
        }
        if let Some(rest) = line.strip_prefix('#') {
            // `#1234 NEW cov: ...`, but a frame of a stack as `#0 0x...` is indented.
            let number = rest.split_whitespace().next().and_then(|word| word.parse().ok());
            self.inputs = number.unwrap_or(self.inputs).max(self.inputs);
        } else if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.file = Some(file.trim().into());
        } else if !self.said.is_empty() || line.contains("panicked at") || line.contains("ERROR: ")
        {
            self.said.push(line.to_owned());
        }
    }

    fn finish(mut self) -> (Total, Option<PathBuf>, String) {
        if let Some(meter) = self.meter.take() {
            meter.finish();
        }
        self.said.truncate(SAID_LINES_MAX);
        let total = Total { seconds: self.started.elapsed().as_secs(), inputs: self.inputs };
        (total, self.file, self.said.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_how_many_inputs_there_were_and_what_failed() {
        let mut log = Log::new(1);
        for line in [
            "INFO: Seed: 1",
            "#2\tINITED cov: 3 ft: 3 corp: 1/1b exec/s: 0 rss: 40Mb",
            "#4096\tpulse  cov: 3 ft: 4 corp: 1/1b lim: 43 exec/s: 2048 rss: 40Mb",
            "thread '<unnamed>' panicked at fuzz/src/canary.rs:17:5:",
            "the canary is dead, as it must be",
            "    #0 0x5560 in __sanitizer_print_stack_trace",
            "artifact_prefix='/x/'; Test unit written to /x/crash-60fc",
        ] {
            log.read(line);
        }
        let (total, file, said) = log.finish();
        assert_eq!((total.inputs, file), (4096, Some("/x/crash-60fc".into())));
        assert!(said.contains(CANARY_WORD), "{said}");
    }
}
