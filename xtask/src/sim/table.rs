//! The table of variants in docs/reliability.md, made of what the search printed.

use std::path::Path;

use anyhow::Result;

use crate::document;

/// Where the table is.
const DOCUMENT: &str = "docs/reliability.md";

/// What stands before and behind it.
const BEGIN: &str = "<!-- variants: written by `cargo xtask sim --variants` -->\n";
const END: &str = "<!-- end of variants -->\n";

const HEAD: &str = "| variant | what is broken | what finds it | lives needed |\n\
                    | --- | --- | --- | --- |\n";

/// Writes the rows among `printed` into the document.
pub(super) fn write(root: &Path, printed: &str) -> Result<()> {
    document::replace(&root.join(DOCUMENT), BEGIN, END, &table(printed)?)
}

fn table(printed: &str) -> Result<String> {
    // The first one stands behind the name of the test, in the same line.
    let row = |line: &'_ str| line.find("| `").map(|at| line[at..].to_owned());
    let rows: Vec<String> = printed.lines().filter_map(row).collect();
    anyhow::ensure!(!rows.is_empty(), "the search has printed no row");
    Ok(format!("{HEAD}{}\n", rows.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_found_among_what_tests_print() {
        let printed =
            "running 1 test\ntest x ... | `One` | a | b | 1 |\n| `Two` | c | d | 2 |\nok\n";
        let rows = "| `One` | a | b | 1 |\n| `Two` | c | d | 2 |\n";
        assert_eq!(table(printed).unwrap(), format!("{HEAD}{rows}"));
        assert!(table("nothing").is_err(), "no row");
    }
}
