//! The rules of the house that no compiler and no lint checks.
//!
//! A rule is a function from the tree of files to findings; a finding names its place, what is
//! wrong there and what to do. All rules also run as a test of this crate, so that `cargo test`
//! fails on what `cargo xtask tidy` finds.

mod arrows;
mod code;
mod links;
mod manifests;
mod text;
mod tree;

use std::fmt;
use std::path::Path;

use anyhow::Result;

use crate::console;
use tree::Tree;

/// Every rule, in the order in which findings are shown.
const RULES: [fn(&Tree, &mut Findings); 5] =
    [arrows::check, manifests::check, code::check, text::check, links::check];

/// Checks the checkout; prints what it finds and fails if that is anything.
pub(crate) fn tidy(root: &Path) -> Result<()> {
    let findings = findings(&Tree::read(root)?);
    for finding in &findings {
        console::line(&finding.to_string());
    }
    anyhow::ensure!(findings.is_empty(), "tidy has {} finding(s)", findings.len());
    Ok(())
}

fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = Findings::default();
    for rule in RULES {
        rule(tree, &mut findings);
    }
    findings.list
}

/// One thing to mend.
#[derive(Debug)]
struct Finding {
    path: String,
    /// From 1.
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// What the rules have found so far.
#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// Adds a finding at a line (from 1).
    fn add(&mut self, path: &str, line: usize, message: impl Into<String>) {
        self.list.push(Finding { path: path.to_owned(), line, message: message.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks one file against all rules: `expected` are the findings' lines and words that their
    /// messages hold, in order.
    #[track_caller]
    pub(super) fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
        check_all(&[(path, text)], expected);
    }

    /// The same for several files, of which the first is the one judged.
    #[track_caller]
    pub(super) fn check_all(files: &[(&str, &str)], expected: &[(usize, &str)]) {
        let tree = Tree::of(files);
        let found: Vec<_> =
            findings(&tree).into_iter().filter(|finding| finding.path == files[0].0).collect();
        let matches = found.len() == expected.len()
            && found.iter().zip(expected).all(|(finding, (line, words))| {
                finding.line == *line && finding.message.contains(words)
            });
        assert!(
            matches,
            "in {}:\n{}\nfound {found:#?}\nexpected {expected:?}",
            files[0].0, files[0].1
        );
    }

    #[test]
    fn the_checkout_is_tidy() -> Result<()> {
        let findings = findings(&Tree::read(&crate::workspace::root())?);
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "{} finding(s):\n{}", lines.len(), lines.join("\n"));
        Ok(())
    }
}
