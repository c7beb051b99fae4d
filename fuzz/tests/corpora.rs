//! Replays what fuzzing has found worth keeping.

#![allow(clippy::print_stderr, reason = "what panics does not tell which file it was")]

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, canary};

/// Files of one target's corpus, and bytes of each: small enough to be read.
const FILES_MAX: usize = 50;
const BYTES_MAX: usize = 4096;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{target}: {error}"));
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files
}

#[test]
fn every_corpus_is_replayed_by_its_target_and_is_small() {
    for (name, run) in TARGETS {
        let files = corpus(name);
        assert!((5..=FILES_MAX).contains(&files.len()), "{name} has {} files", files.len());
        for file in files {
            let bytes = fs::read(&file).expect("a readable file");
            assert!(bytes.len() <= BYTES_MAX, "{} is too large", file.display());
            eprintln!("{}", file.display());
            run(&bytes);
        }
    }
}

#[test]
fn no_target_minds_an_empty_input() {
    for (_, run) in TARGETS {
        run(&[]);
    }
}

#[test]
#[should_panic(expected = "the canary is dead")]
fn the_canary_dies_of_its_word() {
    canary::run(b"MOORing");
}

#[test]
fn the_canary_lives_with_anything_else() {
    for word in ["", "MOO", "moor", " MOOR"] {
        canary::run(word.as_bytes());
    }
}
