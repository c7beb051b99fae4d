//! What child processes run in: the cache, the target directory, RocksDB's library.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};

use crate::rocksdb::Prebuilt;
use crate::workspace;

/// Where things are kept that outlive a checkout and a `cargo clean`.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(
            std::env::var_os("HOME")
                .context("neither XDG_CACHE_HOME nor HOME is set; set one to a writable folder")?,
        )
        .join(".cache"),
    };
    Ok(base.join("mooring"))
}

/// The environment of child processes.
pub(crate) struct Environment {
    root: PathBuf,
    target_dir: PathBuf,
    rocksdb: Prebuilt,
}

impl Environment {
    /// Finds the folders and, if this is the first time on this machine, builds RocksDB.
    pub(crate) fn prepare() -> Result<Self> {
        let root = workspace::root();
        let cache = cache_dir()?;
        let rocksdb = Prebuilt::ensure(&root, &cache)?;
        let target_dir = std::env::var_os("CARGO_TARGET_DIR")
            .filter(|value| !value.is_empty())
            .map_or_else(|| cache.join("target"), PathBuf::from);
        Ok(Self { root, target_dir, rocksdb })
    }

    /// The variables, in the order in which `xtask env` prints them.
    pub(crate) fn variables(&self) -> [(&'static str, OsString); 4] {
        [
            ("CARGO_TARGET_DIR", self.target_dir.clone().into()),
            ("ROCKSDB_LIB_DIR", self.rocksdb.lib_dir().into()),
            ("ROCKSDB_INCLUDE_DIR", self.rocksdb.include_dir().into()),
            ("ROCKSDB_STATIC", "1".into()),
        ]
    }

    /// The same as lines that a POSIX shell evaluates.
    pub(crate) fn exports(&self) -> String {
        self.variables()
            .map(|(name, value)| format!("export {name}={}", quoted(&value.to_string_lossy())))
            .join("\n")
    }

    /// Where builds go.
    pub(crate) fn target_dir(&self) -> PathBuf {
        self.root.join(&self.target_dir)
    }

    /// The checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A binary that a release build has put into the target directory.
    pub(crate) fn release_binary(&self, name: &str) -> PathBuf {
        self.target_dir().join("release").join(name)
    }

    /// The same of a build with the profile that is shipped.
    pub(crate) fn shipped_binary(&self, name: &str) -> PathBuf {
        self.root.join(&self.target_dir).join("shipped").join(name)
    }

    /// Cargo with these arguments, in the checkout.
    pub(crate) fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = cargo(&self.root);
        command.args(arguments).envs(self.variables());
        command
    }
}

/// The platform that the compiler compiles for: `x86_64-unknown-linux-gnu`.
pub(crate) fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Cargo in `root`, without the variables that `cargo run` added for xtask itself.
///
/// Build scripts watch some of those (`CARGO_PKG_*`), so passing them on would rebuild crates that
/// a plain `cargo build` has just built, and the other way round.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root);
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs `command` to its end and fails, naming it, unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    anyhow::ensure!(status.success(), "`{}` failed ({status})", shown(command));
    Ok(())
}

/// Runs `command` to its end.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot start `{}`", shown(command)))
}

/// What `command` writes to standard output, or an error with what it wrote to standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    anyhow::ensure!(
        output.status.success(),
        "`{}` failed ({}): {}",
        shown(command),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// `text` as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_stays_one_word_whatever_is_in_it() {
        let rows = [("a b", "'a b'"), ("it's", r"'it'\''s'"), ("$HOME", "'$HOME'")];
        for (text, expected) in rows {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn a_command_is_shown_without_its_folder() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--release"]);
        assert_eq!(shown(&command), "cargo test --release");
    }
}
