//! `loadgen`: parse, run, exit code. See docs/loadgen.md.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Tokens and blocks are freed on other threads than took them: with the system's allocator their
/// memory stays with the process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    loadgen::run(&args)
}
