//! `loadgen`: parse, run, exit code. See docs/loadgen.md.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    loadgen::run(&args)
}
