//! The example clients keep their promises: their self-tests pass against a fresh server.
//!
//! They need an interpreter with packages: `cargo xtask test` installs them and says in
//! `MOORING_PYTHON` and `MOORING_NODE` what to run. Without these nothing is tried, and said so.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::process::{Running, Server, token};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples")
}

/// The interpreter's command line in a variable; if it is not set, a person is told.
fn interpreter(variable: &str) -> Option<Command> {
    let Ok(line) = std::env::var(variable) else {
        // Past the test's capture: a skipped test must not look like a passed one.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {variable} is not set, so this example client is not tried; \
             `cargo xtask test` sets it"
        );
        return None;
    };
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("the variable names a program"));
    command.args(words);
    Some(command)
}

/// Runs a client's self-test, then sends one message with its command line.
fn try_client(variable: &str, self_test: &str, chat: &str) {
    let Some(mut command) = interpreter(variable) else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let url = format!("ws://{}", server.gateway);
    let tokens = [(1, 1), (1, 2), (2, 1)].map(|(user, device)| token(&data, user, device));
    command.arg(examples().join(self_test)).args(["--url", &url]);
    command.args(tokens.iter().flat_map(|token| ["--token", token]));
    let ended = Running::start(&mut command).end();
    assert_eq!((ended.status, &*ended.stdout), (0, "self-test passed\n"), "{}", ended.stderr);

    let mut command = interpreter(variable).expect("it was set before");
    command.arg(examples().join(chat)).args(["--url", &url, "--to", "4", "hello", "there"]);
    command.args(["--token", &token(&data, 3, 1)]);
    let ended = Running::start(&mut command).end();
    let posted = "Posted #1 to 3+4 (durable)\n";
    assert_eq!((ended.status, &*ended.stdout), (0, posted), "{}", ended.stderr);
    server.stop();
}

#[test]
fn the_python_example_keeps_its_promises() {
    try_client("MOORING_PYTHON", "python/self_test.py", "python/chat.py");
}

#[test]
fn the_typescript_example_keeps_its_promises() {
    try_client("MOORING_NODE", "typescript/dist/self_test.js", "typescript/dist/chat.js");
}
