//! Links between Markdown files lead somewhere.

use super::Findings;
use super::tree::{SourceFile, Tree};

pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for file in tree.written("md") {
        for (line, link) in links(file) {
            if let Err(message) = follow(tree, file, link) {
                findings.add(&file.path, line, message);
            }
        }
    }
}

/// The targets of `[text](target)` outside code, with their lines.
fn links(file: &SourceFile) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_fence = false;
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        // Every second piece between backticks is code.
        for (index, piece) in line.split('`').enumerate() {
            let is_code = index % 2 == 1;
            let mut rest = piece;
            while let Some(start) = rest.find("](").filter(|_| !is_code) {
                rest = &rest[start + 2..];
                let Some(end) = rest.find(')') else { break };
                found.push((number, &rest[..end]));
                rest = &rest[end..];
            }
        }
    }
    found
}

fn follow(tree: &Tree, file: &SourceFile, link: &str) -> Result<(), String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => file.path.clone(),
        _ => resolve(&file.path, path)?,
    };
    if !tree.exists(&target) && !target.is_empty() {
        return Err(format!("the link `{link}` leads to `{target}`, which does not exist"));
    }
    let Some(page) = tree.get(&target).filter(|page| page.extension() == "md") else {
        return Ok(());
    };
    if anchor.is_empty() || headings(page).any(|heading| heading == anchor) {
        return Ok(());
    }
    Err(format!("`{target}` has no heading for `#{anchor}`"))
}

/// `link` as a path from the root, seen from `file`.
fn resolve(file: &str, link: &str) -> Result<String, String> {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(|| format!("the link `{link}` leaves the checkout"))?;
            }
            name => parts.push(name),
        }
    }
    Ok(parts.join("/"))
}

/// The anchors of a page's headings, made as code hosts make them.
fn headings(page: &SourceFile) -> impl Iterator<Item = String> {
    page.lines().filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        line.trim_start_matches('#')
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_all;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let rows: [(&str, &[(usize, &str)]); 11] = [
            ("[a](other.md)", &[]),
            ("[a](../README.md) and [b](#title-one)", &[]),
            ("[a](other.md#part-2-all-of-it)", &[]),
            ("[`code`](other.md)", &[]),
            ("[a](https://example.org/none)", &[]),
            ("`[a](none.md)`", &[]),
            ("```\n[a](none.md)\n```", &[]),
            ("[a](none.md)", &[(2, "`docs/none.md`, which does not exist")]),
            ("[`code`](none.md)", &[(2, "does not exist")]),
            ("[a](other.md#none)", &[(2, "no heading for `#none`")]),
            ("[a](../../x.md)", &[(2, "leaves the checkout")]),
        ];
        for (text, expected) in rows {
            let page = format!("# Title one\n{text}\n");
            let files = [
                ("docs/page.md", page.as_str()),
                ("docs/other.md", "## Part 2: all of it\n"),
                ("README.md", ""),
            ];
            check_all(&files, expected);
        }
    }
}
