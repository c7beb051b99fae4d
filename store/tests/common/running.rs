//! A store on a real directory, and what a kill would leave of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use store::{Hooks, LogError, Options, Outcome, Service, Store, StoreError, Term};
use tempfile::TempDir;
use wire::{BatchNumber, CoreId};

use super::{direct, fingerprint, text};

const CORE: CoreId = CoreId(0);

pub fn small() -> Options {
    Options { shards: 4, memtable_bytes: 1 << 20, ..Options::default() }
}

/// A running store that puts one message into each batch.
pub struct Running {
    pub data: TempDir,
    pub service: Service,
    rung: Receiver<()>,
    pub posted: u64,
}

impl Running {
    pub fn start(options: &Options) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), options, 0)
    }

    pub fn start_on(data: TempDir, options: &Options, posted: u64) -> Self {
        let (ring, rung) = channel();
        let hooks = Hooks {
            // Nobody listens any more when the store stops.
            notify: Box::new(move |_| ring.send(()).unwrap_or_default()),
            fingerprint,
            on_fatal: Box::new(|_| {}),
            free_bytes: None,
        };
        let (store, _) = Store::open(data.path(), options).unwrap();
        let service = store.start(1, hooks).unwrap();
        Self { data, service, rung, posted }
    }

    /// Posts a message and waits until it is through.
    pub fn post(&mut self, body: &str) -> Outcome {
        self.posted += 1;
        let mut batch = self.service.new_batch(CORE);
        batch.begin(BatchNumber::new(self.posted), Term::FIRST);
        batch.append_entry(&text(direct(1, 2), self.posted, 1, body));
        self.service.try_submit(batch).unwrap();
        loop {
            if let Some(through) = self.service.poll_through(CORE) {
                return through.outcome;
            }
            self.rung.recv().unwrap();
        }
    }

    pub fn post_many(&mut self, count: u64, body: &str) {
        for _ in 0..count {
            assert_eq!(self.post(body), Outcome::Durable);
        }
    }

    /// What a kill would leave now.
    pub fn disk(&self) -> TempDir {
        copy(self.data.path())
    }
}

pub fn copy(data: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("db")).unwrap();
    for (name, bytes) in settled(data) {
        fs::write(to.path().join(name), bytes).unwrap();
    }
    to
}

/// Every file at one moment: RocksDB may still be writing tables.
fn settled(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = files(data);
    loop {
        let again = files(data);
        if again == found {
            return found;
        }
        found = again;
    }
}

/// Every file but the lock, by its name in the directory.
pub fn files(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in [data.to_owned(), data.join("db")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(data).unwrap();
            // A file can be gone, or renamed, between the list and the read.
            if path.is_file()
                && !name.ends_with("LOCK")
                && let Ok(bytes) = fs::read(&path)
            {
                found.insert(name.to_owned(), bytes);
            }
        }
    }
    found
}

/// The log files, ascending.
pub fn logs(data: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = fs::read_dir(data.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs
}

/// The last place of the channel after a start.
pub fn reopened(data: &Path, options: &Options) -> Result<u64, StoreError> {
    let (store, _) = Store::open(data, options)?;
    let found = store.check().unwrap();
    assert!(found.is_sound(), "{:?}", found.torn);
    assert_eq!((found.users, found.entries), (2, 2 * found.messages));
    Ok(found.messages)
}

/// That the start is refused with a loss, and has changed nothing.
pub fn refused(data: &Path, options: &Options) -> String {
    let before = files(data);
    let error = Store::open(data, options).unwrap_err();
    assert!(matches!(error, StoreError::Log(LogError::Lost { .. })), "{error}");
    let mut after = files(data);
    // RocksDB begins another of its own notes at each start.
    after.retain(|name, _| before.contains_key(name));
    for (name, bytes) in &before {
        let is_note = name.to_string_lossy().contains("LOG");
        assert!(is_note || after.get(name) == Some(bytes), "{} was changed", name.display());
    }
    error.to_string()
}
