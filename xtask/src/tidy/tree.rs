//! The files that are judged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Folders that hold nothing of ours, by name, wherever they are.
const FOREIGN: [&str; 7] =
    [".git", ".venv", "target", "data", "dist", "node_modules", "__pycache__"];

/// Files that hold nothing that a person has written.
const GENERATED: [&str; 6] = [
    "Cargo.lock",
    "wire/src/generated.rs",
    "web/sdk/src/generated/",
    "docs/examples/python/generated/",
    "docs/examples/typescript/package-lock.json",
    "docs/examples/typescript/src/generated/",
];

/// Endings of text files. Others (images, archives) are only known to exist.
const TEXTS: [&str; 16] = [
    "rs", "toml", "md", "fbs", "py", "ts", "js", "json", "html", "css", "sh", "txt", "yml", "conf",
    "service", "lock",
];

/// All files of the checkout, by path relative to its root, with `/` between folders.
pub(super) struct Tree {
    files: BTreeMap<String, Option<SourceFile>>,
}

/// A text file.
pub(super) struct SourceFile {
    pub(super) path: String,
    pub(super) text: String,
}

impl SourceFile {
    /// Whether a program wrote it.
    pub(super) fn is_generated(&self) -> bool {
        GENERATED.iter().any(|generated| {
            self.path == *generated || generated.ends_with('/') && self.path.starts_with(generated)
        })
    }

    /// The ending of its name, without the dot; empty if there is none.
    pub(super) fn extension(&self) -> &str {
        extension(&self.path)
    }

    /// Its lines with their numbers from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The folder at the root that it is in: for code, its crate.
    pub(super) fn crate_name(&self) -> &str {
        self.path.split_once('/').map_or("", |(first, _)| first)
    }

    /// Whether it is compiled for tests alone by where it lies.
    pub(super) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
}

impl Tree {
    /// Reads a checkout.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { files: BTreeMap::new() };
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    /// A tree of these files, for tests of the rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let own = |&(path, text): &(&str, &str)| {
            (path.to_owned(), Some(SourceFile { path: path.to_owned(), text: text.to_owned() }))
        };
        Self { files: files.iter().map(own).collect() }
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if entry.path().is_dir() {
                if !FOREIGN.contains(&name.as_str()) {
                    self.read_folder(&entry.path(), &format!("{path}/"))?;
                }
                continue;
            }
            let is_text = TEXTS.contains(&extension(&name)) || prefix == ".ci/";
            let file = match is_text {
                true => Some(SourceFile {
                    text: fs::read_to_string(entry.path())
                        .with_context(|| format!("cannot read {path} as text"))?,
                    path: path.clone(),
                }),
                false => None,
            };
            self.files.insert(path, file);
        }
        Ok(())
    }

    /// Every text file, generated ones too.
    pub(super) fn texts(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.values().flatten()
    }

    /// Every text file with this ending that people have written.
    pub(super) fn written<'a>(
        &'a self,
        extension: &'a str,
    ) -> impl Iterator<Item = &'a SourceFile> {
        self.texts().filter(move |file| file.extension() == extension && !file.is_generated())
    }

    /// A text file by its path.
    pub(super) fn get(&self, path: &str) -> Option<&SourceFile> {
        self.files.get(path)?.as_ref()
    }

    /// Whether there is a file or a folder of this path.
    pub(super) fn exists(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_know_their_crate_their_ending_and_who_wrote_them() {
        let rows = [
            ("wire/src/ids.rs", "wire", "rs", false, false),
            ("wire/src/generated.rs", "wire", "rs", true, false),
            ("web/sdk/src/generated/a/b.ts", "web", "ts", true, false),
            ("gateway/tests/sim/main.rs", "gateway", "rs", false, true),
            ("LICENSE", "", "", false, false),
        ];
        for (path, crate_name, extension, generated, test) in rows {
            let file = SourceFile { path: path.into(), text: String::new() };
            assert_eq!(file.crate_name(), crate_name, "{path}");
            assert_eq!(file.extension(), extension, "{path}");
            assert_eq!(file.is_generated(), generated, "{path}");
            assert_eq!(file.is_test(), test, "{path}");
        }
    }

    #[test]
    fn a_tree_is_read_with_its_folders_and_without_foreign_ones() -> Result<()> {
        let root = tempfile::tempdir()?;
        for path in ["a/src/lib.rs", "target/x.rs", "a/node_modules/y.js", "logo.png"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().context("every path has a folder")?)?;
            fs::write(path, "text")?;
        }
        let tree = Tree::read(root.path())?;
        let texts: Vec<_> = tree.texts().map(|file| file.path.as_str()).collect();
        assert_eq!(texts, ["a/src/lib.rs"]);
        let rows = [("a", true), ("a/src/", true), ("logo.png", true), ("target", false)];
        for (path, exists) in rows {
            assert_eq!(tree.exists(path), exists, "{path}");
        }
        Ok(())
    }
}
