//! `cargo xtask memory-checks`: what no ordinary test run sees. Every order of threads at the
//! hand-made atomics (loom), and memory that is used wrongly (Miri, AddressSanitizer).
//!
//! Each of them compiles into a target directory of its own. What a machine lacks is named and
//! passed over.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::{self, Environment};
use crate::prerequisites;
use crate::steps::Steps;

/// What `memory-checks` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the parts of this check.
    check: Option<Check>,
}

/// One of the checks.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    Loom,
    Miri,
    Asan,
}

/// The tests that one run of a check takes.
struct Part {
    check: Check,
    title: &'static str,
    tests: &'static [&'static str],
}

impl Part {
    const fn new(check: Check, title: &'static str, tests: &'static [&'static str]) -> Self {
        Self { check, title, tests }
    }
}

/// All of them, each with a time of its own. Miri has the crates without system calls; the tests of
/// `wire` beside its own code count allocations and read documents.
/// AddressSanitizer has the ring, and everything around it on real sockets: what Miri cannot run.
const PARTS: [Part; 7] = [
    Part::new(Check::Loom, "loom: router", &["--package=router", "--test=loom"]),
    Part::new(Check::Loom, "loom: store", &["--package=store", "--lib", "loom_tests"]),
    Part::new(Check::Miri, "Miri: ws", &["--package=ws", "--tests"]),
    Part::new(Check::Miri, "Miri: wire", &["--package=wire", "--lib"]),
    Part::new(Check::Miri, "Miri: router", &["--package=router", "--tests"]),
    Part::new(Check::Asan, "ASan: uring", &["--package=uring", "--tests"]),
    Part::new(Check::Asan, "ASan: conformance", &["--package=conformance", "--tests"]),
];

/// Properties are tried with this many inputs where each costs a thousand times as much.
const FEW_CASES: (&str, &str) = ("PROPTEST_CASES", "2");

impl Check {
    /// What this machine lacks for it, and cannot install by itself.
    fn missing(self) -> Result<Option<&'static str>> {
        let (is_there, what) = match self {
            Self::Loom => (true, ""),
            Self::Miri => (
                prerequisites::answers("cargo", &["+nightly", "miri", "--version"]),
                "it is not installed (rustup toolchain install nightly --component miri,rust-src)",
            ),
            Self::Asan => (has_asan()?, "the compiler comes without its runtime; rustup's has it"),
        };
        Ok((!is_there).then_some(what))
    }

    fn run(self, environment: &Environment, tests: &[&str]) -> Result<()> {
        let mut command = match self {
            Self::Loom => loom(environment),
            Self::Miri => miri(environment),
            Self::Asan => asan(environment)?,
        };
        environment::run(command.args(tests))
    }
}

/// Takes every part that this machine can, or those of the check that is asked for.
pub(crate) fn memory_checks(arguments: &Arguments) -> Result<()> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    let mut steps = Steps::default();
    for part in &PARTS {
        if arguments.check.is_some_and(|only| only != part.check) {
            continue;
        }
        match part.check.missing()? {
            Some(why) => steps.skip(part.title, why),
            None => drop(steps.take(part.title, || part.check.run(&environment, part.tests))),
        }
    }
    steps.summary();
    steps.verdict()
}

/// `cargo test` with a target directory of its own.
fn test(environment: &Environment, folder: &str) -> Command {
    let mut command = environment.cargo(["test", "--release"]);
    command.env("CARGO_TARGET_DIR", environment.target_dir().join(folder));
    command
}

fn loom(environment: &Environment) -> Command {
    let mut command = test(environment, "loom");
    command.env("RUSTFLAGS", "--cfg loom");
    command
}

/// Without isolation, as proptest asks for its environment.
fn miri(environment: &Environment) -> Command {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "miri", "test"]).current_dir(environment.root());
    command.env("CARGO_TARGET_DIR", environment.target_dir().join("miri"));
    command.env("MIRIFLAGS", "-Zmiri-disable-isolation").env(FEW_CASES.0, FEW_CASES.1);
    // A test that has to panic takes seconds to tell from where.
    command.env("RUST_BACKTRACE", "0");
    command
}

/// With the compiler of the product: `RUSTC_BOOTSTRAP` opens the option. What the prebuilt RocksDB
/// does is not looked at.
fn asan(environment: &Environment) -> Result<Command> {
    let mut command = test(environment, "asan");
    // So that only what is tested is instrumented, and no build script.
    command.arg("--target").arg(environment::host()?);
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    Ok(command)
}

/// Whether the compiler comes with the sanitizer's runtime.
fn has_asan() -> Result<bool> {
    let sysroot = environment::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let folder = PathBuf::from(sysroot.trim()).join("lib/rustlib");
    let folder = folder.join(environment::host()?).join("lib");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let is_runtime = |name: &str| name.starts_with("librustc") && name.ends_with("_rt.asan.a");
    Ok(entries.flatten().any(|entry| is_runtime(&entry.file_name().to_string_lossy())))
}
