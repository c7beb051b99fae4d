//! `cargo xtask ci`: what a change must pass, cheapest first, the tests last.

use anyhow::Result;

use crate::environment::{self, Environment};
use crate::steps::Steps;
use crate::{codegen, conformance, fuzz, prerequisites, sim, test, tidy};

/// Takes every step, also after a failed one, and fails if any has failed.
pub(crate) fn ci() -> Result<()> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    let cargo =
        |arguments: &[&str]| environment::run(&mut environment.cargo(arguments.iter().copied()));
    let mut steps = Steps::default();
    steps.take("format", || cargo(&["fmt", "--all", "--check"]));
    steps.take("tidy", || tidy::tidy(environment.root()));
    steps.take("generated code", || codegen::codegen(true));
    if prerequisites::answers("cargo", &["deny", "--version"]) {
        steps.take("dependencies", || cargo(&["deny", "check"]));
    } else {
        steps.skip("dependencies", "cargo-deny is not installed");
    }
    steps.take("lints", || {
        let clippy = ["clippy", "--workspace", "--all-targets", "--release"];
        cargo(&[&clippy[..], &["--", "--deny", "warnings"]].concat())
    });
    steps.take("documentation", || {
        let mut command = environment.cargo(["doc", "--workspace", "--no-deps", "--release"]);
        environment::run(command.env("RUSTDOCFLAGS", "--deny warnings"))
    });
    let counts = test::run_tests(&environment, &mut steps, None);
    match conformance::missing() {
        Some(why) => steps.skip("conformance", why),
        None => drop(steps.take("conformance", || conformance::quick(&environment))),
    }
    steps.take("fuzzing", || fuzz::quick(&environment));
    steps.take("simulation", || sim::quick(&environment));
    test::close(&steps, counts)
}
