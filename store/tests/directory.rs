//! The data directory: made once, opened by one, and never mistaken for something else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{direct, fingerprint, last_of, log_of, text};
use std::fs;
use std::path::Path;
use store::{DirectoryError, Hooks, Options, Outcome, Rocks, Store, StoreError, Term};
use wire::{BatchNumber, CoreId, Seq};

fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(path, &small()).map(|(store, _)| store)
}

fn small() -> Options {
    Options { shards: 8, memtable_bytes: 1 << 20, ..Options::default() }
}

fn error(path: &Path) -> DirectoryError {
    match open(path).unwrap_err() {
        StoreError::Directory(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn a_directory_is_made_once_and_keeps_its_identity() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("absent/data");
    let made = open(&path).unwrap().identity();
    assert_eq!(made.shards, 8);
    assert!(made.epoch != 0 && made.created_at.0 > 0);
    let options = Options { shards: 99, ..small() };
    let (store, report) = Store::open(&path, &options).unwrap();
    assert_eq!(store.identity(), made, "shards are fixed when it is made");
    assert_eq!(report.batches, 0);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(other.path()).unwrap().identity().epoch, made.epoch);
}

#[test]
fn a_second_opener_is_told_who_has_it() {
    let data = tempfile::tempdir().unwrap();
    let first = open(data.path()).unwrap();
    let told = error(data.path());
    let own = std::process::id();
    assert!(matches!(told, DirectoryError::Locked { pid: Some(pid), .. } if pid == own), "{told}");
    assert!(told.to_string().contains(&format!("in use by process {own}; stop that process")));
    drop(first);
    open(data.path()).unwrap();
}

#[test]
fn a_started_store_holds_its_directory_until_it_is_stopped() {
    let data = tempfile::tempdir().unwrap();
    let hooks = || Hooks {
        notify: Box::new(|_| {}),
        fingerprint,
        on_fatal: Box::new(|_| {}),
        free_bytes: None,
    };
    let service = open(data.path()).unwrap().start(1, hooks()).unwrap();
    let mut batch = service.new_batch(CoreId(0));
    batch.begin(BatchNumber::new(1), Term::FIRST);
    batch.append_entry(&text(direct(1, 2), 1, 1, "kept"));
    service.try_submit(batch).unwrap();
    assert!(matches!(error(data.path()), DirectoryError::Locked { .. }));
    service.stop();
    assert_eq!(service.poll_through(CoreId(0)).unwrap().outcome, Outcome::Durable);
    drop(service);
    let (store, report) = Store::open(data.path(), &small()).unwrap();
    assert_eq!((report.batches, report.messages, report.completed), (1, 1, 2));
    let found = store.check().unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!((found.messages, found.users, found.entries), (1, 2, 2));
    drop(store);
    let engine = Rocks::open(&data.path().join("db"), true, &small()).unwrap();
    assert_eq!(last_of(&engine, direct(1, 2)), Seq::new(1));
    assert_eq!(log_of(&engine, direct(1, 2)), [text(direct(1, 2), 1, 1, "kept")]);
}

#[test]
fn what_is_not_ours_or_not_whole_is_named() {
    let format = |data: &Path, change: &dyn Fn(String) -> String| {
        let path = data.join("FORMAT");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, change(text)).unwrap();
    };
    type Damage<'a> = Box<dyn Fn(&Path) + 'a>;
    let rows: [(&str, bool, Damage<'_>, &str); 9] = [
        (
            "foreign files",
            false,
            Box::new(|data| fs::write(data.join("notes.txt"), "x").unwrap()),
            "holds \"notes.txt\": not a data directory",
        ),
        (
            "FORMAT lost",
            true,
            Box::new(|data| fs::remove_file(data.join("FORMAT")).unwrap()),
            "has no FORMAT file but holds",
        ),
        (
            "FORMAT cut",
            true,
            Box::new(|data| format(data, &|text| text[..text.len() - 9].to_owned())),
            "is damaged",
        ),
        (
            "FORMAT cut at a line",
            true,
            Box::new(|data| format(data, &|text| text.replace("end = \"of FORMAT\"\n", ""))),
            "is damaged (missing field `end`)",
        ),
        (
            "FORMAT empty",
            true,
            Box::new(|data| format(data, &|_| String::new())),
            "is damaged (missing field `version`)",
        ),
        (
            "FORMAT binary",
            true,
            Box::new(|data| fs::write(data.join("FORMAT"), [0xff, 0xfe]).unwrap()),
            "it is not text",
        ),
        (
            "a later version",
            true,
            Box::new(|data| format(data, &|_| "version = 7\nnew = 1".to_owned())),
            "says format 7, this release knows 2",
        ),
        (
            "no shards",
            true,
            Box::new(|data| format(data, &|text| text.replace("shards = 8", "shards = 0"))),
            "a value is out of its range",
        ),
        (
            "db lost",
            true,
            Box::new(|data| fs::remove_dir_all(data.join("db")).unwrap()),
            "db is missing though FORMAT says that it was made",
        ),
    ];
    for (name, made, damage, expected) in rows {
        let data = tempfile::tempdir().unwrap();
        if made {
            drop(open(data.path()).unwrap());
        }
        damage(data.path());
        let told = error(data.path()).to_string();
        assert!(told.contains(expected), "{name}: {told}");
        assert!(told.contains(&*data.path().to_string_lossy()), "{name}: {told}");
    }
}

#[test]
fn an_unfinished_making_is_finished_and_neighbours_are_left_alone() {
    let data = tempfile::tempdir().unwrap();
    for folder in ["keys", "lost+found"] {
        fs::create_dir(data.path().join(folder)).unwrap();
    }
    fs::write(data.path().join("keys/secret"), "k").unwrap();
    let made = open(data.path()).unwrap().identity();
    let path = data.path().join("FORMAT");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("ready = true"));
    // As if it had stopped between FORMAT and the database.
    fs::write(&path, text.replace("ready = true", "ready = false")).unwrap();
    fs::remove_dir_all(data.path().join("db")).unwrap();
    assert_eq!(open(data.path()).unwrap().identity(), made);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(fs::read_to_string(data.path().join("keys/secret")).unwrap(), "k");
}

#[test]
fn a_path_that_cannot_be_a_directory_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let told = error(&file);
    assert!(matches!(told, DirectoryError::Access { action: "make", .. }), "{told}");
    assert!(told.to_string().contains("give the directory to the user that runs mooring"));
}
