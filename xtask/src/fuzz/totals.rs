//! What all runs of the targets came to on this machine, kept beside their corpora, and the table
//! that is made of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bench::figures::thousands;
use crate::document;

/// Where the table is, and what stands before and behind it.
const DOCUMENT: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- fuzz: written by `cargo xtask fuzz --report` -->\n";
const END: &str = "<!-- end of fuzz -->\n";

const HEAD: &str = "| target | minutes | inputs | reached |\n| --- | --- | --- | --- |\n";

/// The sums of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) seconds: u64,
    pub(super) inputs: u64,
}

/// The sums of all targets, in a file.
pub(super) struct Totals {
    path: PathBuf,
    sums: toml::Table,
}

impl Totals {
    /// Those in the folder of what was found; none if there is no file yet.
    ///
    /// # Errors
    /// The file is not what [`Self::add`] writes.
    pub(super) fn read(found: &Path) -> Result<Self> {
        let path = found.join("totals.toml");
        let text = if path.is_file() {
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?
        } else {
            String::new()
        };
        let sums = text.parse().with_context(|| format!("remove {}", path.display()))?;
        Ok(Self { path, sums })
    }

    /// What the runs of a target came to.
    pub(super) fn of(&self, target: &str) -> Total {
        let number = |field| {
            let value = self.sums.get(target)?.get(field)?.as_integer()?;
            u64::try_from(value).ok()
        };
        Total { seconds: number("seconds").unwrap_or(0), inputs: number("inputs").unwrap_or(0) }
    }

    /// Adds a run, and keeps it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, target: &str, run: Total) -> Result<()> {
        let before = self.of(target);
        let number = |one: u64, other: u64| i64::try_from(one + other).map(toml::Value::from);
        let mut sum = toml::Table::new();
        sum.insert("seconds".to_owned(), number(before.seconds, run.seconds)?);
        sum.insert("inputs".to_owned(), number(before.inputs, run.inputs)?);
        self.sums.insert(target.to_owned(), sum.into());
        fs::write(&self.path, self.sums.to_string())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Writes the rows, each a target with its sums and what its corpora reach, into the document.
pub(super) fn write(root: &Path, rows: &[(String, Total, String)]) -> Result<()> {
    document::replace(&root.join(DOCUMENT), BEGIN, END, &table(rows))
}

fn table(rows: &[(String, Total, String)]) -> String {
    let row = |target: &str, total: Total, reached: &str| {
        let minutes = thousands((total.seconds + 30) / 60);
        format!("| {target} | {minutes} | {} | {reached} |\n", thousands(total.inputs))
    };
    let mut all = Total::default();
    let mut text = HEAD.to_owned();
    for (target, total, reached) in rows {
        text += &row(&format!("`{target}`"), *total, reached);
        all.seconds += total.seconds;
        all.inputs += total.inputs;
    }
    text + &row("all", all, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_added_up_also_by_a_later_process() {
        let found = tempfile::tempdir().unwrap();
        let run = Total { seconds: 50, inputs: 1000 };
        for _ in 0..2 {
            Totals::read(found.path()).unwrap().add("one", run).unwrap();
        }
        let totals = Totals::read(found.path()).unwrap();
        assert_eq!(totals.of("one"), Total { seconds: 100, inputs: 2000 });
        assert_eq!(totals.of("other"), Total::default());
    }

    #[test]
    fn the_table_has_a_row_a_target_and_their_sum() {
        let rows = [
            ("one".to_owned(), Total { seconds: 3600, inputs: 1_234_567 }, "x".to_owned()),
            ("two".to_owned(), Total { seconds: 89, inputs: 1 }, "y".to_owned()),
        ];
        let expected = "| `one` | 60 | 1,234,567 | x |\n| `two` | 1 | 1 | y |\n\
                        | all | 61 | 1,234,568 |  |\n";
        assert_eq!(table(&rows), format!("{HEAD}{expected}"));
    }
}
