//! Tables that commands write into documents, between two comments.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Replaces what stands between the lines `begin` and `end` of a document.
///
/// # Errors
/// The document cannot be read or written, or lacks one of the lines.
pub(crate) fn replace(path: &Path, begin: &str, end: &str, body: &str) -> Result<()> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let new = replaced(&text, begin, end, body).with_context(|| format!("in {shown}"))?;
    fs::write(path, new).with_context(|| format!("cannot write {shown}"))
}

fn replaced(text: &str, begin: &str, end: &str, body: &str) -> Result<String> {
    let (before, rest) =
        text.split_once(begin).with_context(|| format!("no line {begin:?} before the table"))?;
    let (_, behind) =
        rest.split_once(end).with_context(|| format!("no line {end:?} behind the table"))?;
    Ok(format!("{before}{begin}{body}{end}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_is_replaced_and_nothing_else() {
        let text = "# Page\n<begin>\n| old |\n<end>\nbehind\n";
        let new = replaced(text, "<begin>\n", "<end>\n", "| new |\n").unwrap();
        assert_eq!(new, "# Page\n<begin>\n| new |\n<end>\nbehind\n");
        assert!(replaced("# Page\n<end>\n", "<begin>\n", "<end>\n", "").is_err());
        assert!(replaced("# Page\n<begin>\n", "<begin>\n", "<end>\n", "").is_err());
    }
}
