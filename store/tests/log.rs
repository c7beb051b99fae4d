//! The log of a killed store, damaged: what was acknowledged is there, or the start refuses and
//! says so. Never a silent loss.
//!
//! The disk of a killed process is a copy of its data directory while it has it open.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use common::running::{Running, copy, logs, refused, reopened, small};
use store::{Options, Outcome, Store, StoreError, SyncMode};

/// The last record of a log file that is not written over an old one.
fn last_record(log: &Path) -> Range<usize> {
    const BLOCK: usize = 32 << 10;
    const HEAD: usize = 11;
    let bytes = fs::read(log).unwrap();
    let (mut at, mut start, mut end) = (0, 0, 0);
    while let Some(head) = bytes.get(at..at + HEAD).filter(|head| head[6] != 0) {
        let is_first = matches!(head[6], 5 | 6);
        start = if is_first { at } else { start };
        end = at + HEAD + usize::from(u16::from_le_bytes([head[4], head[5]]));
        let left = BLOCK - end % BLOCK;
        at = if left < HEAD { end + left } else { end };
    }
    start..end
}

fn find(log: &Path, text: &str) -> usize {
    let bytes = fs::read(log).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

fn flip(path: &Path, at: usize, bit: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_killed_store_has_everything() {
    let mut running = Running::start(&small());
    running.post_many(20, "kept");
    assert_eq!(reopened(running.disk().path(), &small()).unwrap(), 20);
}

#[test]
fn a_byte_flipped_in_the_middle_of_the_log_does_not_lose_what_follows_silently() {
    let mut running = Running::start(&small());
    running.post_many(5, "kept");
    let early = running.disk();
    running.post_many(1, "damaged");
    running.post_many(10, "lost");
    let disk = running.disk();
    let log = logs(disk.path()).pop().unwrap();
    flip(&log, find(&log, "damaged"), 3);
    let told = refused(disk.path(), &small());
    let data = disk.path().display().to_string();
    let name = log.file_name().unwrap().to_str().unwrap();
    for part in ["were on the disk and cannot be read", &data, name, "--accept-loss"] {
        assert!(told.contains(part), "{told}");
    }
    // After a loss of power DURABLE may be old: the later records of the log tell it, too.
    fs::copy(early.path().join("DURABLE"), disk.path().join("DURABLE")).unwrap();
    let told_without = refused(disk.path(), &small());
    let lost_from = |told: &str| {
        told.split("changes ").nth(1).unwrap().split_once(" to ").unwrap().0.to_owned()
    };
    assert_eq!(lost_from(&told), lost_from(&told_without));
}

#[test]
fn a_byte_flipped_in_the_last_record_of_the_log_is_noticed() {
    let mut running = Running::start(&small());
    running.post_many(5, "kept");
    running.post_many(1, "last");
    let disk = running.disk();
    let log = logs(disk.path()).pop().unwrap();
    flip(&log, last_record(&log).end - 1, 0);
    refused(disk.path(), &small());
}

#[test]
fn a_log_that_is_cut_or_gone_is_noticed() {
    let mut running = Running::start(&small());
    running.post_many(6, "kept");
    let whole = running.disk();
    let log = logs(whole.path()).pop().unwrap();
    let end = last_record(&log).end;
    for bytes in [0, 1, 100, end / 2, end - 1] {
        let disk = copy(whole.path());
        let log = logs(disk.path()).pop().unwrap();
        fs::File::options().write(true).open(&log).unwrap().set_len(bytes as u64).unwrap();
        refused(disk.path(), &small());
    }
    fs::remove_file(&log).unwrap();
    refused(whole.path(), &small());
}

#[test]
fn the_torn_end_that_a_loss_of_power_leaves_is_recovered_from() {
    let mut running = Running::start(&small());
    running.post_many(5, "kept");
    let before = running.disk();
    // Long enough for several blocks of the log, any of which may have missed the disk.
    let long = "torn".repeat(40_000);
    running.post_many(1, &long);
    let after = running.disk();
    let log = logs(after.path()).pop().unwrap();
    let Range { start, end } = last_record(&log);
    assert_eq!(start, last_record(&logs(before.path())[0]).end);
    let bytes = fs::read(&log).unwrap();
    let mut torn = 0;
    for at in (start..end).step_by(7_001) {
        for hole in [false, true] {
            let disk = copy(before.path());
            let mut bytes = bytes.clone();
            if hole {
                // A page is not there, and what was written behind it is.
                let to = (at + 4096).min(end);
                bytes[at..to].fill(0);
            } else {
                bytes.truncate(at);
            }
            fs::write(logs(disk.path()).pop().unwrap(), bytes).unwrap();
            assert_eq!(reopened(disk.path(), &small()).unwrap(), 5, "torn at {at}, hole: {hole}");
            torn += 1;
        }
    }
    assert!(torn > 20);
}

#[test]
fn in_interval_mode_only_what_was_synced_must_be_there() {
    let options = Options { sync: SyncMode::Interval(Duration::from_secs(3600)), ..small() };
    let mut running = Running::start(&options);
    for _ in 0..5 {
        assert_eq!(running.post("accepted"), Outcome::Accepted);
    }
    let disk = running.disk();
    let log = logs(disk.path()).pop().unwrap();
    let at = last_record(&log).start;
    flip(&log, at, 0);
    assert_eq!(reopened(disk.path(), &options).unwrap(), 4);
    // A clean end syncs.
    running.service.stop();
    let disk = running.disk();
    flip(&logs(disk.path()).pop().unwrap(), at, 0);
    refused(disk.path(), &options);
}

#[test]
fn any_bit_of_any_log_is_there_or_missed_while_logs_are_written_over_old_ones() {
    let mut running = Running::start(&small());
    let body = "x".repeat(150_000);
    running.post_many(60, &body);
    let whole = running.disk();
    assert_eq!(reopened(copy(whole.path()).path(), &small()).unwrap(), 60);
    let files = logs(whole.path());
    assert!(files.len() > 2, "logs are kept to be written over: {files:?}");
    let (mut refusals, mut starts) = (0, 0);
    for (step, bit) in (0..60_usize).zip((0..8).cycle()) {
        let disk = copy(whole.path());
        let files = logs(disk.path());
        let log = &files[step % files.len()];
        let bytes = fs::read(log).unwrap().len();
        flip(log, (step * 7_919_993 + 12) % bytes, bit);
        match Store::open(disk.path(), &small()) {
            Ok((store, _)) => {
                starts += 1;
                assert_eq!(store.check().unwrap().messages, 60, "step {step}");
            }
            // RocksDB itself refuses where some tables are ahead of the hole.
            Err(StoreError::Log(_) | StoreError::Data(_)) => refusals += 1,
            Err(other) => panic!("step {step}: {other}"),
        }
    }
    assert!(refusals > 0 && starts > 0, "{refusals} refused, {starts} started");
}

#[test]
fn a_message_that_looks_like_a_log_record_is_not_replayed() {
    let mut running = Running::start(&small());
    running.post_many(3, "kept");
    let disk = running.disk();
    let log = logs(disk.path()).pop().unwrap();
    let last = last_record(&log);
    // What the next log leaves of an old one can begin with bytes that a user has chosen: here a
    // whole record that puts a message into her log.
    let mut bytes = fs::read(&log).unwrap();
    let forged = forged_record(&log, &bytes[last.clone()]);
    bytes.splice(last.end.., forged);
    fs::write(&log, &bytes).unwrap();
    assert_eq!(reopened(disk.path(), &small()).unwrap(), 3);
}

/// A valid record to stand behind `last` in `log`: the same again, with the next change's number,
/// another place in the channel, and no mark.
fn forged_record(log: &Path, last: &[u8]) -> Vec<u8> {
    let number: u32 = log.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let payload = &last[11..];
    let first = u64::from_le_bytes(payload[..8].try_into().unwrap());
    let count = u32::from_le_bytes(payload[8..12].try_into().unwrap());
    let next = first + u64::from(count);
    let mut forged = next.to_le_bytes().to_vec();
    forged.extend_from_slice(&count.to_le_bytes());
    // Behind the blob, which nobody else can write.
    forged.extend_from_slice(&payload[12 + 2 + 28..]);
    let seq = 3_u64.to_be_bytes();
    for at in 0..forged.len() - 8 {
        if forged[at..at + 8] == seq {
            forged[at + 7] = 4;
        }
    }
    let mut rest = vec![5];
    rest.extend_from_slice(&number.to_le_bytes());
    rest.extend_from_slice(&forged);
    let checksum = crc32c::crc32c(&rest).rotate_right(15).wrapping_add(0xa282_ead8);
    let length = u16::try_from(forged.len()).unwrap();
    let mut record = checksum.to_le_bytes().to_vec();
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&rest);
    record
}

#[test]
fn a_loss_is_accepted_once_and_under_a_new_epoch() {
    let mut running = Running::start(&small());
    running.post_many(5, "kept");
    running.post_many(1, "damaged");
    running.post_many(5, "lost");
    let disk = running.disk();
    let log = logs(disk.path()).pop().unwrap();
    flip(&log, find(&log, "damaged"), 1);
    refused(disk.path(), &small());
    let (store, _) = Store::open_accepting_loss(disk.path(), &small()).unwrap();
    let accepted = store.identity();
    drop(store);
    assert_eq!(reopened(disk.path(), &small()).unwrap(), 5);
    let mut running = Running::start_on(disk, &small(), 5);
    running.post_many(3, "after");
    let disk = running.disk();
    let (store, _) = Store::open(disk.path(), &small()).unwrap();
    assert_eq!(store.identity(), accepted);
    assert_ne!(accepted.epoch, 0);
    assert_eq!(store.check().unwrap().messages, 8);
}

#[test]
fn a_lost_note_of_what_is_durable_is_named() {
    let mut running = Running::start(&small());
    running.post_many(2, "kept");
    type Damage = fn(&Path);
    let rows: [(&str, Damage); 3] = [
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("flipped", |path| flip(path, 2, 4)),
    ];
    for (name, damage) in rows {
        let disk = running.disk();
        damage(&disk.path().join("DURABLE"));
        let told = Store::open(disk.path(), &small()).unwrap_err().to_string();
        assert!(told.contains("DURABLE is missing or damaged"), "{name}: {told}");
        assert!(told.contains("--accept-loss"), "{name}: {told}");
        let (store, _) = Store::open_accepting_loss(disk.path(), &small()).unwrap();
        assert_eq!(store.check().unwrap().messages, 2, "nothing was lost");
    }
}
