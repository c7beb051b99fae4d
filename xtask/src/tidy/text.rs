//! Text of every kind: lengths, words that tell of one machine, leftovers in comments.

use super::Findings;
use super::tree::{SourceFile, Tree};

/// A file that is longer is two files.
const FILE_LINES_MAX: usize = 600;

/// What fits beside a second file on one screen.
const LINE_CHARACTERS_MAX: usize = 100;

/// Endings of the files to which the lengths apply.
const CODE: [&str; 6] = ["rs", "py", "ts", "js", "fbs", "sh"];

/// Words that mean a place on somebody's machine. Written in halves, or this file would hold them.
const PLACES: [&str; 4] = [
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/wo", "rk/"),
    concat!("/tmp/ba", "sh_"),
];

/// A note that something is to be mended: mend it, or write it down where it is planned.
const MEND_ME: &str = concat!("FIX", "ME");

pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for file in tree.texts().filter(|file| !file.is_generated()) {
        if CODE.contains(&file.extension()) {
            check_lengths(file, findings);
        }
        check_words(file, findings);
        if file.extension() == "rs" {
            check_comments(file, findings);
        }
    }
}

fn check_lengths(file: &SourceFile, findings: &mut Findings) {
    let mut count = 0;
    for (number, line) in file.lines() {
        count = number;
        let characters = line.chars().count();
        if characters > LINE_CHARACTERS_MAX && !is_unbreakable(line) {
            let message = format!("{characters} characters; {LINE_CHARACTERS_MAX} are the limit");
            findings.add(&file.path, number, message);
        }
    }
    if count > FILE_LINES_MAX {
        let message = format!("{count} lines; {FILE_LINES_MAX} are the limit");
        findings.add(&file.path, count, message);
    }
}

/// An address, and a row of a table in documentation, must stay on one line.
fn is_unbreakable(line: &str) -> bool {
    let line = line.trim_start();
    line.contains("://") || line.starts_with("//! |") || line.starts_with("/// |")
}

fn check_words(file: &SourceFile, findings: &mut Findings) {
    for (number, line) in file.lines() {
        if let Some(place) = PLACES.iter().find(|place| line.contains(*place)) {
            findings.add(&file.path, number, format!("`{place}` is a place on one machine"));
        }
        if line.contains(MEND_ME) {
            findings.add(
                &file.path,
                number,
                format!("mend it now; `{MEND_ME}` is not for a commit"),
            );
        }
        if line.ends_with([' ', '\t']) && file.extension() != "md" {
            findings.add(&file.path, number, "white space at the end of the line");
        }
    }
}

/// Comments whose text is a Rust statement: what is not used is in the history.
fn check_comments(file: &SourceFile, findings: &mut Findings) {
    for (number, line) in file.lines() {
        let Some(comment) = line.trim_start().strip_prefix("// ") else { continue };
        if is_statement(comment.trim()) {
            findings.add(&file.path, number, "code in a comment; delete it");
        }
    }
}

/// Whether `text` reads as a statement and not as a sentence that happens to end with a semicolon.
fn is_statement(text: &str) -> bool {
    let looks_like_code = text.ends_with(';') && text.contains(['(', '=', '.', ':']);
    looks_like_code && syn::parse_str::<syn::Block>(&format!("{{ {text} }}")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    #[test]
    fn lines_and_files_over_their_limits_are_found() {
        let line = |characters: usize| format!("// {}\n", "ä".repeat(characters - 3));
        check("ws/src/a.rs", &line(LINE_CHARACTERS_MAX), &[]);
        check("ws/src/a.rs", &line(LINE_CHARACTERS_MAX + 1), &[(1, "101 characters")]);
        check("README.md", &line(LINE_CHARACTERS_MAX + 1), &[]);
        check("ws/src/a.rs", &format!("// https://{}\n", "a".repeat(120)), &[]);
        check("ws/src/a.rs", &format!("/// | {} |\nmod a;\n", "a".repeat(120)), &[]);
        check("a.py", &"x\n".repeat(FILE_LINES_MAX), &[]);
        check("a.py", &"x\n".repeat(FILE_LINES_MAX + 1), &[(601, "601 lines")]);
        check("wire/src/generated.rs", &"x\n".repeat(FILE_LINES_MAX + 1), &[]);
    }

    #[test]
    fn words_of_one_machine_and_leftovers_are_found() {
        for place in PLACES {
            check("docs/a.md", &format!("one\nsee {place}file\n"), &[(2, "place on one machine")]);
        }
        check("docs/a.md", &format!("{MEND_ME}: later\n"), &[(1, "mend it now")]);
        check("ws/src/a.rs", "const A: u8 = 1; \n", &[(1, "white space")]);
    }

    #[test]
    fn code_in_a_comment_is_found_and_prose_is_not() {
        let rows = [
            ("let a = b(1);", true),
            ("self.queue.push(x);", true),
            ("use std::fs;", true),
            ("return Err(e);", true),
            ("The ring owns the bytes; the caller gets them back.", false),
            ("the kernel (since 6.0) keeps it;", false),
            ("first;", false),
        ];
        for (comment, is_code) in rows {
            let expected: &[(usize, &str)] =
                if is_code { &[(2, "code in a comment")] } else { &[] };
            check("ws/src/a.rs", &format!("mod a;\n// {comment}\n"), expected);
        }
    }
}
