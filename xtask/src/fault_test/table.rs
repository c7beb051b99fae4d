//! The tables: what an operator sees of each fault.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A line of a log that is longer says nothing more.
const TEXT_CHARS_MAX: usize = 420;

/// One fault and what came of it.
pub(super) struct Row {
    /// Which fault; one or two cells.
    pub(super) fault: Vec<String>,
    /// The exact line that is printed or logged.
    pub(super) seen: String,
    /// Exit status, readiness.
    pub(super) answer: String,
    /// What was lost: nothing, it should say.
    pub(super) verdict: String,
    /// What is not as it should be.
    pub(super) wrong: Option<String>,
}

impl Row {
    /// Could not be tried here.
    pub(super) fn skipped(fault: &str, why: &str) -> Self {
        Self {
            fault: vec![fault.to_owned()],
            seen: format!("skipped: {why}"),
            answer: "–".to_owned(),
            verdict: "–".to_owned(),
            wrong: None,
        }
    }

    pub(super) fn line(&self) -> String {
        format!("{}: {}; {}; {}", self.fault.join(", "), self.seen, self.answer, self.verdict)
    }

    pub(super) fn complaint(&self) -> Option<String> {
        self.wrong.as_ref().map(|wrong| format!("{}: {wrong}", self.fault.join(", ")))
    }

    fn cells(&self) -> impl Iterator<Item = &str> {
        let rest = [&*self.seen, &*self.answer, &*self.verdict];
        self.fault.iter().map(|cell| &**cell).chain(rest)
    }
}

/// A table of the report.
pub(super) struct Table {
    /// Between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
    name: &'static str,
    titles: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
}

impl Table {
    pub(super) fn new<const N: usize>(name: &'static str, titles: [&'static str; N]) -> Self {
        Self { name, titles: titles.to_vec(), rows: Vec::new() }
    }

    fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<String> = cells.map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(&mut self.titles.iter().copied());
        text += &line(&mut self.titles.iter().map(|_| "---"));
        for row in &self.rows {
            text += &line(&mut row.cells());
        }
        text
    }
}

/// Puts the tables where they stand in the report.
pub(super) fn write(report: &Path, tables: &[Table]) -> Result<()> {
    let mut text =
        fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    for table in tables {
        text = placed(&text, table.name, &table.markdown())?;
    }
    fs::write(report, text).with_context(|| format!("cannot write {}", report.display()))
}

fn placed(text: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->\n"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("no place for the table {name}"))?;
    ensure!(!after.contains(&begin), "two places for the table {name}");
    Ok(format!("{before}{begin}\n{table}\n{end}{after}"))
}

/// A line of a log as it stands in the table: without its time, and with `DATA` for the directory.
pub(super) fn shown(line: &str, data: &Path) -> String {
    let line = line.replace(&data.display().to_string(), "DATA");
    let is_time = |word: &str| word.starts_with("20") && word.ends_with('Z');
    let line = match line.split_once(' ') {
        Some((word, rest)) if is_time(word) => rest.trim_start(),
        _ => &line,
    };
    let mut text: String = line.chars().take(TEXT_CHARS_MAX).collect();
    if text.len() < line.len() {
        text.push('…');
    }
    format!("`{}`", text.replace('`', "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_without_what_differs_from_run_to_run() {
        let data = Path::new("/tmp/x/data");
        let line = "2026-11-24T11:51:51.726608Z ERROR store: cannot read /tmp/x/data/db";
        assert_eq!(shown(line, data), "`ERROR store: cannot read DATA/db`");
        assert_eq!(shown("mooring: no", data), "`mooring: no`");
        assert!(shown(&"x".repeat(1000), data).ends_with("…`"));
    }

    #[test]
    fn a_table_replaces_the_one_that_stands_there() -> Result<()> {
        let mut table = Table::new("at-rest", ["file", "seen", "answer", "verdict"]);
        let row = |wrong: Option<&str>| Row {
            fault: vec!["a|b".to_owned()],
            seen: "s".to_owned(),
            answer: "1".to_owned(),
            verdict: "v".to_owned(),
            wrong: wrong.map(str::to_owned),
        };
        table.rows.push(row(None));
        let text = "before\n<!-- at-rest:begin -->\nold\n<!-- at-rest:end -->\nafter\n";
        let expected = "before\n<!-- at-rest:begin -->\n\n| file | seen | answer | verdict |\n\
                        | --- | --- | --- | --- |\n| a\\|b | s | 1 | v |\n\n\
                        <!-- at-rest:end -->\nafter\n";
        let placed_once = placed(text, "at-rest", &table.markdown())?;
        assert_eq!(placed_once, expected);
        assert_eq!(placed(&placed_once, "at-rest", &table.markdown())?, expected);
        assert!(placed("nowhere", "at-rest", "").is_err());
        assert_eq!(row(Some("lost")).complaint().as_deref(), Some("a|b: lost"));
        assert_eq!(row(None).complaint(), None);
        Ok(())
    }
}
