//! How much of our own code the inputs of a target reach, in edges of the compiled code.
//!
//! libFuzzer prints it function by function, with the file that each is in. Most edges are never
//! reached: those to panics that must not happen, and what the compiler has copied into each place.
//! The functions tell more.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::prerequisites::SYMBOLIZER;

/// Crates of which fewer edges are linked are not what a target is about.
const EDGES_MIN: u32 = 200;

/// What is fuzzed.
const OURS: [&str; 5] = ["wire", "ws", "router", "store", "gateway"];

/// What of one crate is reached, and what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reached {
    functions: (u32, u32),
    edges: (u32, u32),
}

/// What the inputs of one target reach, by crate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Coverage {
    crates: BTreeMap<String, Reached>,
}

impl Coverage {
    /// Runs a target, given with its corpora, on what these hold.
    pub(super) fn of(command: &mut Command) -> Result<Self> {
        if !SYMBOLIZER.is_there() {
            return Ok(Self::default());
        }
        let output = command.args(["-runs=0", "-print_coverage=1"]).output();
        let output = output.context("cannot run the target on its corpora")?;
        Ok(Self::read(&String::from_utf8_lossy(&output.stderr)))
    }

    fn read(text: &str) -> Self {
        let mut coverage = Self::default();
        for (name, edges) in text.lines().filter_map(function) {
            let sum = coverage.crates.entry(name.to_owned()).or_default();
            sum.functions = (sum.functions.0 + u32::from(edges.0 > 0), sum.functions.1 + 1);
            sum.edges = (sum.edges.0 + edges.0, sum.edges.1 + edges.1);
        }
        coverage.crates.retain(|_, reached| reached.edges.1 >= EDGES_MIN);
        coverage
    }
}

/// The crate and the edges (reached, all) of one of our functions:
/// `COVERED_FUNC: hits: 44 edges: 12/31 ws::encoder::append_frame ROOT/ws/src/encoder.rs:77`.
///
/// The root is that of the checkout that compiled the crate, which may have been another one: a
/// target directory is shared.
fn function(line: &str) -> Option<(&str, (u32, u32))> {
    let (_, rest) = line.split_once("COVERED_FUNC: hits: ")?;
    let (_, rest) = rest.split_once(" edges: ")?;
    let (edges, function) = rest.split_once(' ')?;
    let (_, path) = function.rsplit_once(' ')?;
    let (folder, _) = path.split_once("/src/")?;
    let name = folder.rsplit('/').next()?;
    let (reached, all) = edges.split_once('/')?;
    OURS.contains(&name).then_some((name, (reached.parse().ok()?, all.parse().ok()?)))
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.crates.is_empty() {
            return f.write_str("coverage unknown without llvm-symbolizer (apt-get install llvm)");
        }
        let parts = self.crates.iter().map(|(name, Reached { functions, edges })| {
            let ((some, all), (edges, edges_all)) = (functions, edges);
            format!("{name} {some} of {all} functions, {edges} of {edges_all} edges")
        });
        f.write_str(&parts.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_edges_are_summed_up_by_crate() {
        let text = "INFO: Seed: 1\n\
            COVERED_FUNC: hits: 44 edges: 12/131 ws::a::<alloc::vec::Vec<u8>> /r/ws/src/a.rs:77\n\
            UNCOVERED_FUNC: hits: 0 edges: 0/90 <ws::B as core::fmt::Debug>::fmt /r/ws/src/b.rs:1\n\
            COVERED_FUNC: hits: 1 edges: 9/120 fuzz::websocket::run /r/fuzz/src/websocket.rs:3\n\
            COVERED_FUNC: hits: 1 edges: 9/120 bytes::new /x/registry/src/y/bytes/src/a.rs:3\n\
            COVERED_FUNC: hits: 1 edges: 9/9 core::a /rustc/0123/library/core/src/a.rs:3\n\
            \x20 UNCOVERED_PC: /r/ws/src/a.rs:80\n";
        let coverage = Coverage::read(text);
        assert_eq!(coverage.to_string(), "ws 1 of 2 functions, 12 of 221 edges");
    }
}
