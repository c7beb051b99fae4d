//! Faults under load: the oracle goes on across them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::host::{Host, Judged, Place, ending};
use super::mounts::{Mount, cannot_make_disk, cannot_mount};
use super::table::{Row, shown};
use crate::crash_test::{Load, Server};
use crate::prerequisites;

/// How long the load runs before a fault, and after it.
const PAUSE: Duration = Duration::from_millis(1500);

/// Three heartbeats of this many seconds without a word end a session.
const HEARTBEAT: &str = "[timeouts]\nheartbeat_seconds = 2\n";

/// The least that RocksDB needs to go on, and a server that is content with it.
const SPACE: &str = "[store]\nmemtable_bytes = 8388608\ndisk_free_bytes_min = 67108864\n";
const SPACE_MIN: u64 = 64 << 20;
const DISK_BYTES: u64 = 512 << 20;

/// What is done to a server under load.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// Quick, and without rights.
    pub(super) is_short: bool,
    run: fn(&Host<'_>, &str) -> Result<Row>,
}

pub(super) const FAULTS: &[Fault] = &[
    Fault { name: "SIGKILL, then a start", is_short: false, run: kill },
    Fault { name: "SIGSTOP for 2 s, below the heartbeat's 6 s", is_short: true, run: short_stop },
    Fault { name: "SIGSTOP for 9 s, beyond it", is_short: false, run: long_stop },
    Fault { name: "the disk fills up, and is emptied", is_short: false, run: full },
    Fault { name: "the disk is full at once, and is emptied", is_short: false, run: full_at_once },
    Fault { name: "SIGTERM on a full disk", is_short: false, run: drain_when_full },
    Fault { name: "writes fail (EIO)", is_short: false, run: write_errors },
    Fault { name: "the clock jumps an hour ahead", is_short: false, run: clock_ahead },
    Fault { name: "the clock jumps an hour back", is_short: false, run: clock_back },
];

pub(super) fn row(host: &Host<'_>, fault: &Fault) -> Result<Row> {
    (fault.run)(host, fault.name).with_context(|| format!("while trying: {}", fault.name))
}

/// A server and its load, some time on.
fn begun(place: &Place<'_>) -> Result<(Server, Load)> {
    let server = place.start_ready()?;
    let load = place.load()?;
    load.run_for(PAUSE)?;
    Ok((server, load))
}

fn told(name: &str, seen: &str, answer: String, judged: Judged, place: &Place<'_>) -> Row {
    Row {
        fault: vec![name.to_owned()],
        seen: if seen.is_empty() { "nothing".to_owned() } else { shown(seen, &place.data) },
        answer,
        verdict: judged.wrong.as_ref().map_or_else(|| judged.text.clone(), Clone::clone),
        wrong: judged.wrong,
    }
}

fn kill(host: &Host<'_>, name: &str) -> Result<Row> {
    let place = host.place(None, "")?;
    let (mut server, load) = begun(&place)?;
    server.kill()?;
    let mut server = place.start_ready()?;
    load.run_for(PAUSE)?;
    let seen = place.logged("recovered")?;
    let judged = place.judge(load, &mut server)?;
    Ok(told(name, &seen, "exit status 137; starts".to_owned(), judged, &place))
}

fn short_stop(host: &Host<'_>, name: &str) -> Result<Row> {
    let (mut row, back) = stop(host, name, Duration::from_secs(2))?;
    if back > 0 {
        row.wrong.get_or_insert_with(|| format!("{back} sessions ended in so short a time"));
    }
    Ok(row)
}

fn long_stop(host: &Host<'_>, name: &str) -> Result<Row> {
    stop(host, name, Duration::from_secs(9)).map(|(row, _)| row)
}

fn stop(host: &Host<'_>, name: &str, pause: Duration) -> Result<(Row, u64)> {
    let place = host.place(None, HEARTBEAT)?;
    let (mut server, load) = begun(&place)?;
    server.signal(Signal::STOP)?;
    load.run_for(pause)?;
    server.signal(Signal::CONT)?;
    load.run_for(PAUSE)?;
    place.await_readyz("200 ready")?;
    let judged = place.judge(load, &mut server)?;
    let back = judged.back;
    Ok((told(name, "", "goes on; `/readyz` 200 ready".to_owned(), judged, &place), back))
}

/// A place on a disk of its own.
fn small_disk<'a>(host: &'a Host<'_>) -> Result<(Mount, Place<'a>)> {
    let disk = Mount::memory(host.folder()?.join("disk"), DISK_BYTES)?;
    let place = host.place(Some(disk.path().join("data")), SPACE)?;
    Ok((disk, place))
}

fn full(host: &Host<'_>, name: &str) -> Result<Row> {
    full_to(host, name, SPACE_MIN - (1 << 20))
}

fn full_at_once(host: &Host<'_>, name: &str) -> Result<Row> {
    full_to(host, name, 0)
}

fn full_to(host: &Host<'_>, name: &str, left: u64) -> Result<Row> {
    if let Some(why) = cannot_mount() {
        return Ok(Row::skipped(name, why));
    }
    let (disk, place) = small_disk(host)?;
    let (mut server, load) = begun(&place)?;
    let filler = disk.fill(left)?;
    place.await_readyz("503 disk full")?;
    let seen = place.await_logged("disk is full")?;
    load.run_for(PAUSE)?;
    fs::remove_file(filler)?;
    place.await_readyz("200 ready")?;
    // Devices were told to try again after five seconds.
    load.run_for(4 * PAUSE)?;
    let judged = place.judge(load, &mut server)?;
    drop(server);
    let row = told(
        name,
        &seen,
        "`/readyz` 503 disk full, then 200 ready; posts StorageFull".to_owned(),
        judged,
        &place,
    );
    disk.end()?;
    Ok(row)
}

fn drain_when_full(host: &Host<'_>, name: &str) -> Result<Row> {
    if let Some(why) = cannot_mount() {
        return Ok(Row::skipped(name, why));
    }
    let (disk, place) = small_disk(host)?;
    let (mut server, load) = begun(&place)?;
    let filler = disk.fill(0)?;
    place.await_readyz("503 disk full")?;
    server.signal(Signal::TERM)?;
    let status = server.end()?;
    let seen = place.logged("disk is full")?;
    fs::remove_file(filler)?;
    let mut server = place.start_ready()?;
    load.run_for(4 * PAUSE)?;
    let judged = place.judge(load, &mut server)?;
    drop(server);
    let row = told(name, &seen, format!("{}; starts", ending(status)), judged, &place);
    disk.end()?;
    Ok(row)
}

/// ext4 in a file in memory, none of which is allocated until it is written. When the memory is
/// full, the loop device answers every write to a new block with an error, as a failing disk does.
fn write_errors(host: &Host<'_>, name: &str) -> Result<Row> {
    if let Some(why) = cannot_make_disk() {
        return Ok(Row::skipped(name, why));
    }
    let folder = host.folder()?;
    let memory = Mount::memory(folder.join("memory"), DISK_BYTES)?;
    let image = memory.path().join("image");
    let disk = Mount::image(folder.join("disk"), &image, 4 * DISK_BYTES)?;
    let place = host.place(Some(disk.path().join("data")), SPACE)?;
    let (mut server, load) = begun(&place)?;
    let filler = memory.fill(0)?;
    let status = server.end()?;
    let seen = place.logged("the store failed")?;
    drop(server);
    fs::remove_file(filler)?;
    // The disk is replaced: what it was told to keep, it has kept.
    let path = disk.path().to_owned();
    disk.end()?;
    let disk = Mount::loop_of(path, &image)?;
    let mut server = place.start_ready()?;
    load.run_for(2 * PAUSE)?;
    let judged = place.judge(load, &mut server)?;
    drop(server);
    let answer = format!("{}; starts when the disk works", ending(status));
    let row = told(name, &seen, answer, judged, &place);
    disk.end()?;
    memory.end()?;
    Ok(row)
}

fn clock_ahead(host: &Host<'_>, name: &str) -> Result<Row> {
    clock_by(host, name, "+3600")
}

fn clock_back(host: &Host<'_>, name: &str) -> Result<Row> {
    clock_by(host, name, "-3600")
}

/// The wall clock of the server alone, by libfaketime, which reads it from a file each time.
fn clock_by(host: &Host<'_>, name: &str, step: &str) -> Result<Row> {
    let Some(library) = prerequisites::libfaketime() else {
        return Ok(Row::skipped(
            name,
            "libfaketime is not installed (apt-get install libfaketime)",
        ));
    };
    let mut place = host.place(None, HEARTBEAT)?;
    let file = place.folder.join("clock");
    fs::write(&file, "+0\n")?;
    place.environment = vec![
        ("LD_PRELOAD", library.into()),
        ("FAKETIME_TIMESTAMP_FILE", file.clone().into()),
        ("FAKETIME_NO_CACHE", "1".into()),
        // A step of the wall clock moves no other.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ];
    let (mut server, load) = begun(&place)?;
    fs::write(&file, format!("{step}\n"))?;
    load.run_for(2 * PAUSE)?;
    place.await_readyz("200 ready")?;
    // And a start in another time.
    server.kill()?;
    let mut server = place.start_ready()?;
    load.run_for(2 * PAUSE)?;
    let judged = place.judge(load, &mut server)?;
    Ok(told(name, "", "goes on; starts".to_owned(), judged, &place))
}
