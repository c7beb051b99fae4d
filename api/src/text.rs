//! What people type: handles, names, and lines of text, with their bounds.

use crate::problem::{Problem, Result};

/// Bytes of a name of a person, a device or a group.
pub(crate) const NAME_BYTES: usize = 64;

/// A handle as it is kept: in lower case.
pub(crate) fn handle(field: &str, text: &str) -> Result<String> {
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic());
    let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if starts && rest && (3..=32).contains(&text.len()) {
        Ok(text.to_ascii_lowercase())
    } else {
        let problem = "must be 3 to 32 characters of a to z, 0 to 9 and _, a letter first";
        Err(Problem::field(field, problem))
    }
}

/// One line that is not empty, without white space around it.
pub(crate) fn line<'a>(field: &str, text: &'a str, bytes_max: usize) -> Result<&'a str> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Problem::field(field, "must not be empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Problem::field(field, "must be one line without control characters"));
    }
    bounded(field, text, bytes_max)
}

/// Text of several lines, which may be empty.
pub(crate) fn lines<'a>(field: &str, text: &'a str, bytes_max: usize) -> Result<&'a str> {
    if text.chars().any(|character| character.is_control() && character != '\n') {
        return Err(Problem::field(field, "must have no control characters but new lines"));
    }
    bounded(field, text, bytes_max)
}

fn bounded<'a>(field: &str, text: &'a str, bytes_max: usize) -> Result<&'a str> {
    if text.len() > bytes_max {
        return Err(Problem::field(field, format!("must have at most {bytes_max} bytes of UTF-8")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_folded_and_what_cannot_be_one_is_refused() {
        assert_eq!(handle("handle", "Ada_1").unwrap(), "ada_1");
        let long = "a".repeat(33);
        for text in ["", "ab", "1ada", "_ada", "ada lovelace", "adä", &long] {
            assert!(handle("handle", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_is_one_line_within_its_bound() {
        assert_eq!(line("name", "  Ada ", 8).unwrap(), "Ada");
        for text in ["", "  ", "a\nb", "a\0b", "123456789"] {
            assert!(line("name", text, 8).is_err(), "{text:?}");
        }
        assert!(lines("about", "a\nb", 8).is_ok());
        assert!(lines("about", "a\u{7}b", 8).is_err());
    }
}
