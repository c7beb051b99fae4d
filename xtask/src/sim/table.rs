//! The table of variants in docs/reliability.md, made of what the search printed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Where the table is.
const DOCUMENT: &str = "docs/reliability.md";

/// What stands before and behind it.
const BEGIN: &str = "<!-- variants: written by `cargo xtask sim --variants` -->\n";
const END: &str = "<!-- end of variants -->\n";

const HEAD: &str = "| variant | what is broken | what finds it | lives needed |\n\
                    | --- | --- | --- | --- |\n";

/// Writes the rows among `printed` into the document.
pub(super) fn write(root: &Path, printed: &str) -> Result<()> {
    let path = root.join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let new = with_table(&text, printed)?;
    fs::write(&path, new).with_context(|| format!("cannot write {DOCUMENT}"))
}

fn with_table(document: &str, printed: &str) -> Result<String> {
    let (before, rest) = document
        .split_once(BEGIN)
        .with_context(|| format!("{DOCUMENT} has no line {BEGIN:?} before its table"))?;
    let (_, behind) = rest
        .split_once(END)
        .with_context(|| format!("{DOCUMENT} has no line {END:?} behind its table"))?;
    // The first one stands behind the name of the test, in the same line.
    let row = |line: &'_ str| line.find("| `").map(|at| line[at..].to_owned());
    let rows: Vec<String> = printed.lines().filter_map(row).collect();
    anyhow::ensure!(!rows.is_empty(), "the search has printed no row");
    Ok(format!("{before}{BEGIN}{HEAD}{}\n{END}{behind}", rows.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_replace_those_that_were_there_and_nothing_else() {
        let document = format!("# Page\n{BEGIN}| old |\n{END}behind\n");
        let printed =
            "running 1 test\ntest x ... | `One` | a | b | 1 |\n| `Two` | c | d | 2 |\nok\n";
        let rows = "| `One` | a | b | 1 |\n| `Two` | c | d | 2 |\n";
        let expected = format!("# Page\n{BEGIN}{HEAD}{rows}{END}behind\n");
        assert_eq!(with_table(&document, printed).unwrap(), expected);
        assert!(with_table("# Page\n", printed).is_err(), "no place for it");
        assert!(with_table(&document, "nothing").is_err(), "no row");
    }
}
