//! The file that says which tables there are, damaged: everything is there, or the start refuses
//! and says so. Never a silent loss, and nothing is deleted.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::running::{Running, files, small};
use store::{LogError, Store, StoreError};

/// Long, so that memtables fill up and tables are written.
const BODY_BYTES: usize = 150_000;

/// Messages in tables from an earlier run, and more in tables and in the log.
const MESSAGES: u64 = 60;

/// Bytes between two cuts; all of them were tried as well, which takes two minutes.
const CUT_STEP: usize = 37;

/// A directory of two runs, in which tables were written and logs were written over.
fn two_runs() -> Running {
    let mut running = Running::start(&small());
    running.post_many(MESSAGES / 2, &"x".repeat(BODY_BYTES));
    running.service.stop();
    let Running { data, service, posted, .. } = running;
    drop(service);
    let mut running = Running::start_on(data, &small(), posted);
    running.post_many(MESSAGES / 2, &"y".repeat(BODY_BYTES));
    running.service.stop();
    running
}

fn manifest(data: &Path) -> PathBuf {
    let name = fs::read_to_string(data.join("db/CURRENT")).unwrap();
    data.join("db").join(name.trim_end())
}

/// The error that a start ends with, which has changed nothing but RocksDB's own notes.
fn refusal(data: &Path) -> Option<StoreError> {
    let before = files(data);
    let error = match Store::open(data, &small()) {
        Ok((store, _)) => {
            let found = store.check().unwrap();
            assert!(found.is_sound(), "{:?}", found.torn);
            assert_eq!(found.messages, MESSAGES);
            return None;
        }
        Err(error) => error,
    };
    let after = files(data);
    for (name, bytes) in before {
        let is_note = name.to_string_lossy().contains("LOG");
        assert!(is_note || after.get(&name) == Some(&bytes), "{} was changed", name.display());
    }
    Some(error)
}

#[test]
fn a_manifest_that_is_cut_anywhere_loses_nothing_silently() {
    let running = two_runs();
    assert!(refusal(running.disk().path()).is_none(), "it is whole");
    let bytes = fs::metadata(manifest(running.data.path())).unwrap().len();
    let (mut starts, mut refusals, mut of_tables) = (0, 0, 0);
    for end in (0..bytes).step_by(CUT_STEP) {
        let disk = running.disk();
        let path = manifest(disk.path());
        fs::File::options().write(true).open(&path).unwrap().set_len(end).unwrap();
        let Some(error) = refusal(disk.path()) else {
            starts += 1;
            continue;
        };
        refusals += 1;
        let told = error.to_string();
        assert!(told.contains(&*disk.path().to_string_lossy()), "{told}");
        assert!(told.contains("backup"), "{told}");
        if matches!(error, StoreError::Log(LogError::TablesLost { .. })) {
            of_tables += 1;
            assert!(told.contains(&*path.to_string_lossy()), "{told}");
        }
    }
    assert!(starts > 0 && of_tables > 0 && refusals > of_tables, "{starts} {refusals} {of_tables}");
}
