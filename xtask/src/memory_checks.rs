//! `cargo xtask memory-checks`: what no ordinary test run sees. Every order of threads at the
//! hand-made atomics (loom), and memory that is used wrongly (Miri, AddressSanitizer, valgrind).
//!
//! Each of them compiles into a target directory of its own. What a machine lacks is named and
//! passed over.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::{self, Environment};
use crate::prerequisites::{self, VALGRIND};
use crate::steps::Steps;

/// The crates without system calls.
const PURE: [&str; 6] = ["--package", "ws", "--package", "wire", "--package", "router"];

/// The ring's own tests, and those of everything around it on real sockets.
const RING: [&str; 4] = ["--package", "uring", "--package", "conformance"];

/// Properties are tried with this many inputs where each costs a hundred times as much.
const FEW_CASES: (&str, &str) = ("PROPTEST_CASES", "8");

/// What `memory-checks` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the check of this name.
    check: Option<Check>,
}

/// One of the checks.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    Loom,
    Miri,
    Asan,
    Valgrind,
}

impl Check {
    const ALL: [Self; 4] = [Self::Loom, Self::Miri, Self::Asan, Self::Valgrind];

    const fn title(self) -> &'static str {
        match self {
            Self::Loom => "loom",
            Self::Miri => "Miri",
            Self::Asan => "AddressSanitizer",
            Self::Valgrind => "valgrind",
        }
    }

    /// What this machine lacks for it, and cannot install by itself.
    fn missing(self) -> Result<Option<&'static str>> {
        let (is_there, what) = match self {
            Self::Loom => (true, ""),
            Self::Miri => (
                prerequisites::answers("cargo", &["+nightly", "miri", "--version"]),
                "it is not installed (rustup toolchain install nightly --component miri,rust-src)",
            ),
            Self::Asan => (has_asan()?, "the compiler comes without its runtime; rustup's has it"),
            Self::Valgrind => {
                (VALGRIND.provide(), "it is not installed (apt-get install valgrind)")
            }
        };
        Ok((!is_there).then_some(what))
    }

    fn run(self, environment: &Environment) -> Result<()> {
        match self {
            Self::Loom => loom(environment),
            Self::Miri => miri(environment),
            Self::Asan => asan(environment),
            Self::Valgrind => valgrind(environment),
        }
    }
}

/// Takes every check that this machine can, or the one that is asked for.
pub(crate) fn memory_checks(arguments: &Arguments) -> Result<()> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    let mut steps = Steps::default();
    for check in Check::ALL {
        if arguments.check.is_some_and(|only| only != check) {
            continue;
        }
        match check.missing()? {
            Some(why) => steps.skip(check.title(), why),
            None => drop(steps.take(check.title(), || check.run(&environment))),
        }
    }
    steps.summary();
    steps.verdict()
}

/// Cargo with a target directory of its own.
fn cargo(environment: &Environment, folder: &str, arguments: &[&str]) -> Command {
    let mut command = environment.cargo(arguments.iter().copied());
    command.env("CARGO_TARGET_DIR", environment.target_dir().join(folder));
    command
}

fn loom(environment: &Environment) -> Result<()> {
    let router: &[&str] = &["test", "--release", "--package", "router", "--test", "loom"];
    let store: &[&str] = &["test", "--release", "--package", "store", "--lib", "loom_tests"];
    for arguments in [router, store] {
        environment::run(cargo(environment, "loom", arguments).env("RUSTFLAGS", "--cfg loom"))?;
    }
    Ok(())
}

/// Its own random numbers and no others; the tests of the generated documents read files.
fn miri(environment: &Environment) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "miri", "test"]).args(PURE).current_dir(environment.root());
    command.env("CARGO_TARGET_DIR", environment.target_dir().join("miri"));
    command.env("MIRIFLAGS", "-Zmiri-disable-isolation").env(FEW_CASES.0, FEW_CASES.1);
    // A test that has to panic takes seconds to tell from where.
    command.env("RUST_BACKTRACE", "0");
    environment::run(&mut command)
}

/// With the compiler of the product: `RUSTC_BOOTSTRAP` opens the option. What the prebuilt RocksDB
/// does is not looked at.
fn asan(environment: &Environment) -> Result<()> {
    let host = environment::host()?;
    // Documentation is not linked with the runtime.
    let test = ["test", "--release", "--tests", "--target", &host];
    let arguments = [&test[..], &PURE, &RING].concat();
    let mut command = cargo(environment, "asan", &arguments);
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    environment::run(&mut command)
}

/// Values that were never written, which AddressSanitizer does not see. Not the ring's tests: a
/// thread that waits in `io_uring_enter` stops all others under valgrind.
fn valgrind(environment: &Environment) -> Result<()> {
    for binary in test_binaries(environment, &PURE)? {
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--error-exitcode=9", "--leak-check=no"]).arg(&binary);
        // Files are named relative to the crate, as cargo runs tests.
        command.args(["--test-threads=1", "--quiet"]).env(FEW_CASES.0, FEW_CASES.1);
        let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
        environment::output(&mut command).with_context(|| format!("valgrind: {name}"))?;
    }
    Ok(())
}

/// The test binaries of some packages, compiled.
fn test_binaries(environment: &Environment, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let test = ["test", "--release", "--tests", "--no-run", "--message-format=json"];
    let messages = environment::output(&mut environment.cargo([&test[..], packages].concat()))?;
    let executable = |line: &str| -> Option<PathBuf> {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_test = message.get("profile")?.get("test")?.as_bool()?;
        let path = message.get("executable")?.as_str()?;
        is_test.then(|| path.into())
    };
    let binaries: Vec<PathBuf> = messages.lines().filter_map(executable).collect();
    anyhow::ensure!(!binaries.is_empty(), "cargo has compiled no test");
    Ok(binaries)
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
