//! RocksDB's static library, built once and kept outside the checkout.
//!
//! Its C++ takes most of a clean build's time and changes only with the version, the compilers and
//! the flags. So those make a key; under that key the cache holds `lib/librocksdb.a` and
//! `include/`, and every build of the workspace links them instead of compiling them again.
//!
//! ```text
//! rocksdb/<key>/lib, include, key.txt    finished: it appears by one rename or not at all
//! rocksdb/<key>.partial/                 a build under way, removed when it ends
//! rocksdb/<key>.lock                     held while building; the system drops it with its holder
//! ```

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::console::{self, Meter};
use crate::environment::{self, cargo};
use crate::{cache, clock, workspace};

const PACKAGE: &str = "librocksdb-sys";

/// Object files that version 11.8.1 consists of. Another version may differ by a few: then the
/// meter ends a little early or late, and nothing else.
const OBJECT_COUNT: u64 = 343;

/// How often the object files are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(2);

/// Variables that change what the C++ compiler makes of the same sources.
const COMPILER_VARIABLES: [&str; 8] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "ROCKSDB_CXX_STD",
];

/// Variables that would make RocksDB's build script link something instead of building it.
const LINK_VARIABLES: [&str; 3] = ["ROCKSDB_LIB_DIR", "ROCKSDB_STATIC", "ROCKSDB_INCLUDE_DIR"];

/// A finished library in the cache.
pub(crate) struct Prebuilt {
    folder: PathBuf,
}

impl Prebuilt {
    /// The library for this checkout; builds it if the cache has none.
    pub(crate) fn ensure(root: &Path, cache_dir: &Path) -> Result<Self> {
        let key = Key::of(root)?;
        let place = Place::new(&cache_dir.join("rocksdb"), &key.name());
        if place.is_finished() {
            return Ok(place.finished());
        }
        let _lock = cache::lock(&place.lock, "RocksDB")?;
        // Whoever held the lock before may have built just this.
        if !place.is_finished() {
            build(root, &place, &key)?;
        }
        Ok(place.finished())
    }

    /// Holds `librocksdb.a`.
    pub(crate) fn lib_dir(&self) -> PathBuf {
        self.folder.join("lib")
    }

    /// Holds `rocksdb/c.h`.
    pub(crate) fn include_dir(&self) -> PathBuf {
        self.folder.join("include")
    }
}

/// Everything that decides what the library is.
struct Key {
    version: String,
    inputs: String,
}

impl Key {
    fn of(root: &Path) -> Result<Self> {
        let manifest = workspace::read_toml(root, "Cargo.toml")?;
        let config = workspace::read_toml(root, ".cargo/config.toml")?;
        let mut inputs = vec![
            environment::output(Command::new("rustc").arg("-vV"))?,
            format!("g++ {}", environment::output(Command::new("g++").arg("-dumpfullversion"))?),
            format!("target flags: {:?}", config.get("target")),
            format!("build flags: {:?}", config.get("build")),
            format!("features: {:?}", lookup(&manifest, &["workspace", "dependencies", "rocksdb"])),
            format!(
                "profile: {:?}",
                lookup(&manifest, &["profile", "release", "package", PACKAGE, "opt-level"])
            ),
        ];
        for name in COMPILER_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                inputs.push(format!("{name}={}", value.to_string_lossy()));
            }
        }
        Ok(Self { version: workspace::locked_version(root, PACKAGE)?, inputs: inputs.join("\n") })
    }

    /// The folder's name: the version for people, a hash of all inputs for us. The hash need not be
    /// the same under another rustc, since rustc's version is one of the inputs.
    fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.inputs.hash(&mut hasher);
        format!("{}-{:016x}", self.version, hasher.finish())
    }
}

fn lookup<'a>(table: &'a toml::Table, path: &[&str]) -> Option<&'a toml::Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, name| value.get(name))
}

/// Where one key's library lives and is made.
struct Place {
    folder: PathBuf,
    partial: PathBuf,
    lock: PathBuf,
}

impl Place {
    fn new(base: &Path, name: &str) -> Self {
        Self {
            folder: base.join(name),
            partial: base.join(format!("{name}.partial")),
            lock: base.join(format!("{name}.lock")),
        }
    }

    fn is_finished(&self) -> bool {
        self.folder.join("lib/librocksdb.a").is_file()
            && self.folder.join("include/rocksdb/c.h").is_file()
    }

    fn finished(&self) -> Prebuilt {
        Prebuilt { folder: self.folder.clone() }
    }
}

fn build(root: &Path, place: &Place, key: &Key) -> Result<()> {
    console::step(&format!("RocksDB ({PACKAGE} {})", key.version));
    console::note("Built once for this machine and kept in the cache; on two cores this takes");
    console::note("about 10 to 25 minutes. Later builds link what is there.");
    cache::remove_dir_if_there(&place.partial)?;
    let target_dir = place.partial.join("build");
    fs::create_dir_all(&target_dir)
        .with_context(|| format!("cannot make {}", target_dir.display()))?;
    let log = place.partial.join("build.log");
    let started = clock::now();
    let status = compile(root, &target_dir, &log)?;
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        anyhow::bail!(
            "RocksDB did not compile ({status}). The end of {}:\n{}",
            log.display(),
            last_lines(&text, 30)
        );
    }
    publish(place, &target_dir, key)?;
    console::note(&format!("done in {}", console::duration(started.elapsed())));
    cache::remove_dir_if_there(&place.partial)
}

/// Runs the build and shows how many object files there are until it ends.
fn compile(root: &Path, target_dir: &Path, log: &Path) -> Result<ExitStatus> {
    let out = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    let mut command = cargo(root);
    command
        .args(["build", "--release", "--package", PACKAGE, "--target-dir"])
        .arg(target_dir)
        .stdin(Stdio::null())
        .stdout(out.try_clone().context("cannot share the log between two streams")?)
        .stderr(out);
    for name in LINK_VARIABLES {
        command.env_remove(name);
    }
    let mut child: Child = command.spawn().context("cannot start cargo")?;
    let (ended, end) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        // The receiver outlives this send: it waits for it.
        let _ = ended.send(child.wait());
    });
    let mut meter = Meter::new("object files", OBJECT_COUNT);
    let status = loop {
        match end.recv_timeout(COUNT_INTERVAL) {
            Ok(status) => break status.context("cannot wait for cargo"),
            Err(RecvTimeoutError::Timeout) => meter.set(count_objects(target_dir)),
            Err(RecvTimeoutError::Disconnected) => {
                break Err(anyhow::anyhow!("the thread that waits for cargo has ended early"));
            }
        }
    };
    meter.finish();
    let _ = waiter.join();
    status
}

/// Object files that RocksDB's build script has made so far.
fn count_objects(target_dir: &Path) -> u64 {
    script_folders(target_dir)
        .iter()
        .filter_map(|folder| fs::read_dir(folder.join("out")).ok())
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "o"))
        .count() as u64
}

/// The folders that cargo keeps for RocksDB's build script.
fn script_folders(target_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(target_dir.join("release/build")) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PACKAGE))
        .map(|entry| entry.path())
        .collect()
}

/// Moves what a finished build has made to where `Prebuilt` looks, all of it or nothing.
fn publish(place: &Place, target_dir: &Path, key: &Key) -> Result<()> {
    let script_output = script_folders(target_dir)
        .iter()
        .find_map(|folder| fs::read_to_string(folder.join("output")).ok())
        .context("RocksDB's build script has left no output")?;
    let told = |name: &str| {
        let value = script_output.lines().find_map(|line| line.strip_prefix(name));
        value.map(PathBuf::from).with_context(|| format!("RocksDB's build script told no {name}"))
    };
    let library = told("cargo:out_dir=")?.join("librocksdb.a");
    let include = told("cargo:cargo_manifest_dir=")?.join("rocksdb/include");

    let stage = place.partial.join("stage");
    fs::create_dir_all(stage.join("lib"))?;
    fs::copy(&library, stage.join("lib/librocksdb.a"))
        .with_context(|| format!("cannot copy {}", library.display()))?;
    copy_dir(&include, &stage.join("include"))?;
    fs::write(stage.join("key.txt"), &key.inputs)?;
    cache::remove_dir_if_there(&place.folder)?;
    fs::rename(&stage, &place.folder)
        .with_context(|| format!("cannot move the library to {}", place.folder.display()))
}

fn copy_dir(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
    let entries =
        fs::read_dir(source).with_context(|| format!("cannot read {}", source.display()))?;
    for entry in entries {
        let entry = entry?;
        let copy = target.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &copy)?;
        } else {
            fs::copy(entry.path(), &copy)
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_changes_with_every_input_and_names_the_version() {
        let key = |version: &str, inputs: &str| {
            Key { version: version.into(), inputs: inputs.into() }.name()
        };
        assert!(key("0.19.0", "g++ 12").starts_with("0.19.0-"));
        assert_eq!(key("0.19.0", "g++ 12"), key("0.19.0", "g++ 12"));
        assert_ne!(key("0.19.0", "g++ 12"), key("0.19.0", "g++ 13"));
        assert_ne!(key("0.19.0", "g++ 12"), key("0.20.0", "g++ 12"));
    }

    #[test]
    fn a_library_is_finished_only_with_both_archive_and_headers() -> Result<()> {
        let base = tempfile::tempdir()?;
        let place = Place::new(base.path(), "key");
        assert!(!place.is_finished());
        fs::create_dir_all(place.folder.join("lib"))?;
        fs::write(place.folder.join("lib/librocksdb.a"), "archive")?;
        assert!(!place.is_finished());
        fs::create_dir_all(place.folder.join("include/rocksdb"))?;
        fs::write(place.folder.join("include/rocksdb/c.h"), "header")?;
        assert!(place.is_finished());
        Ok(())
    }

    #[test]
    fn publishing_moves_all_that_the_build_script_has_told_of() -> Result<()> {
        let base = tempfile::tempdir()?;
        let place = Place::new(base.path(), "key");
        let target_dir = place.partial.join("build");
        let script = target_dir.join("release/build/librocksdb-sys-0f");
        let source = base.path().join("source");
        fs::create_dir_all(script.join("out"))?;
        fs::create_dir_all(source.join("rocksdb/include/rocksdb"))?;
        fs::write(script.join("out/librocksdb.a"), "archive")?;
        fs::write(script.join("out/a.o"), "object")?;
        fs::write(source.join("rocksdb/include/rocksdb/c.h"), "header")?;
        let told = format!(
            "cargo:cargo_manifest_dir={}\ncargo:out_dir={}\n",
            source.display(),
            script.join("out").display()
        );
        fs::write(script.join("output"), told)?;
        assert_eq!(count_objects(&target_dir), 1);

        publish(&place, &target_dir, &Key { version: "1".into(), inputs: "inputs".into() })?;
        assert!(place.is_finished());
        assert_eq!(fs::read_to_string(place.folder.join("key.txt"))?, "inputs");
        Ok(())
    }

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }
}
