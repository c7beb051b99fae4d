//! Rows: a machine that carries a million, one thing about it changed, and what is said.

use gateway::host::{RingError, Support};

use super::disk::SyncTimes;
use super::judge::{Disk, KERNEL_BYTES, Looked, RESIDENT_BYTES, grouped, judge};
use super::machine::{Conntrack, Machine, Process};
use super::plan::Plan;
use super::report::{Answer, Finding, Report, Verdict};

const MILLION: u64 = 1_000_000;

/// With 8 MiB of locked memory 37 rings start, and 38 do not (Linux 6.18).
const RING_LOCKED: u64 = 225_280;
const _: () = assert!((8 << 20) / RING_LOCKED == 37);

fn support() -> Support {
    Support { kernel: "6.18.0".into(), connect: true, no_iowait: true }
}

fn times() -> SyncTimes {
    let directory = "/data".to_owned();
    SyncTimes { directory, count: 200, median_ms: 0.2, p99_ms: 1.2, max_ms: 2.0, is_memory: false }
}

/// A machine on which nothing is to be mended.
fn good() -> Looked {
    let process = Process {
        nofile_soft: Some(1024),
        nofile_hard: Some(1 << 20),
        memlock_bytes: Some(8 << 20),
        processors: 2,
    };
    let machine = Machine {
        process,
        kernel: Some("6.18.0-amd64".into()),
        nr_open: Some(1 << 20),
        file_max: Some(4_000_000),
        files_open: Some(1000),
        somaxconn: Some(4096),
        syn_backlog: Some(512),
        syncookies: Some(1),
        tcp_mem_pages: Some([MILLION, 2 * MILLION]),
        port_range: Some([32_768, 60_999]),
        conntrack: None,
        io_uring_disabled: Some(0),
        has_seccomp: false,
        locks_freely: false,
        memory_available_bytes: Some(16 << 30),
        memory_limit_bytes: None,
        huge_pages: Some("never".into()),
    };
    Looked { machine, ring: Ok(support()), disk: Disk::Measured(times()) }
}

fn finding<'report>(report: &'report Report, name: &str) -> &'report Finding {
    report.findings.iter().find(|it| it.name == name).expect("it is looked at")
}

/// Verdict, sessions that it permits, and a piece of how it is mended.
type Said = (Verdict, Option<u64>, &'static str);

/// A machine with one thing changed, and what one finding then says.
struct Row {
    what: &'static str,
    change: fn(&mut Looked),
    name: &'static str,
    expected: Said,
}

const fn row(
    what: &'static str,
    change: fn(&mut Looked),
    name: &'static str,
    expected: Said,
) -> Row {
    Row { what, change, name, expected }
}

/// Each row's finding is as expected, and no other finding is worse than on the good machine.
#[track_caller]
fn check(rows: &[Row]) {
    for Row { what, change, name, expected } in rows {
        let mut looked = good();
        change(&mut looked);
        let report = judge(&looked, MILLION);
        let found = finding(&report, name);
        let said = (found.verdict, found.capacity);
        assert_eq!(said, (expected.0, expected.1), "{what}: {found:?}");
        let mend = found.mend.as_deref().unwrap_or_default();
        assert!(mend.contains(expected.2), "{what}: {mend:?}");
        assert_eq!(mend.is_empty(), expected.2.is_empty(), "{what}: {mend:?}");
        let others = report.findings.iter().filter(|it| it.name != *name);
        let worse: Vec<_> = others.filter(|it| it.verdict != Verdict::Fits).collect();
        assert!(worse.is_empty(), "{what}: {worse:?}");
    }
}

#[test]
fn a_good_machine_fits_in_every_respect() {
    let report = judge(&good(), MILLION);
    assert!(report.findings.iter().all(|it| it.verdict == Verdict::Fits && it.mend.is_none()));
    assert_eq!(report.answer, Answer::Fit);
    assert_eq!(report.capacity.narrowest, Some("memory"));
    assert_eq!(report.serve, Plan::new(MILLION, Some(1 << 20), 2));
}

#[test]
fn files() {
    use Verdict::{Blocks, Fits, Hinders, Unknown};
    check(&[
        row(
            "fewer open files than a ring a processor needs",
            |it| {
                it.machine.process.nofile_hard = Some(20_000);
                it.machine.process.memlock_bytes = None;
            },
            "nofile",
            (Hinders, Some(Plan::capacity(Some(20_000))), "LimitNOFILE=504356"),
        ),
        row(
            "fewer than all the rings need",
            |it| {
                it.machine.process.nofile_hard = Some(4096);
                it.machine.locks_freely = true;
            },
            "nofile",
            (Blocks, Some(Plan::capacity(Some(4096))), "LimitNOFILE="),
        ),
        row(
            "no limit",
            |it| it.machine.process.nofile_hard = None,
            "nofile",
            (Fits, Some(Plan::capacity(None)), ""),
        ),
        row(
            "nofile cannot be raised so far",
            |it| it.machine.nr_open = Some(65_536),
            "nr_open",
            (Hinders, None, "sysctl -w fs.nr_open=504356"),
        ),
        row("nr_open hidden", |it| it.machine.nr_open = None, "nr_open", (Unknown, None, "")),
        row(
            "files of the whole machine",
            |it| it.machine.file_max = Some(800_000),
            "file_max",
            (Blocks, Some(800_000 - 1000 - 4096), "sysctl -w fs.file-max=1005096"),
        ),
        row("files hidden", |it| it.machine.files_open = None, "file_max", (Unknown, None, "")),
    ]);
}

#[test]
fn locked_memory() {
    use Verdict::{Blocks, Fits};
    check(&[
        row(
            "locked memory for one ring",
            |it| it.machine.process.memlock_bytes = Some(2 * RING_LOCKED - 1),
            "memlock",
            (Blocks, Some(Plan::capacity(Some(1 << 20)) / 256), "LimitMEMLOCK=infinity"),
        ),
        row(
            "locked memory for two",
            |it| it.machine.process.memlock_bytes = Some(2 * RING_LOCKED),
            "memlock",
            (Fits, Some(Plan::capacity(Some(1 << 20)) / 128), ""),
        ),
        row(
            "none, on a kernel that does not count it",
            |it| {
                it.machine.process.memlock_bytes = Some(0);
                it.machine.kernel = Some("6.12.3".into());
            },
            "memlock",
            (Fits, None, ""),
        ),
        row(
            "none, for one who may",
            |it| {
                it.machine.process.memlock_bytes = Some(0);
                it.machine.locks_freely = true;
            },
            "memlock",
            (Fits, None, ""),
        ),
    ]);
}

#[test]
fn memory() {
    use Verdict::{Blocks, Fits, Hinders, Unknown};
    let each = KERNEL_BYTES + RESIDENT_BYTES;
    let base = (640 + 2 * 4) << 20;
    let sessions = |bytes: u64| Some((bytes - base) / each);
    check(&[
        row(
            "little memory",
            |it| it.machine.memory_available_bytes = Some(4 << 30),
            "memory",
            (Blocks, sessions(4 << 30), "add memory"),
        ),
        row(
            "a group with less than the machine",
            |it| it.machine.memory_limit_bytes = Some(2 << 30),
            "memory",
            (Blocks, sessions(2 << 30), "MemoryMax="),
        ),
        row(
            "a group with more than the machine",
            |it| it.machine.memory_limit_bytes = Some(64 << 30),
            "memory",
            (Fits, sessions(16 << 30), ""),
        ),
        row(
            "less than the server alone",
            |it| it.machine.memory_available_bytes = Some(1 << 20),
            "memory",
            (Blocks, Some(0), "add memory"),
        ),
        row("hidden", |it| it.machine.memory_available_bytes = None, "memory", (Unknown, None, "")),
        row(
            "huge pages for all",
            |it| it.machine.huge_pages = Some("always".into()),
            "huge_pages",
            (Hinders, None, "transparent_hugepage/enabled"),
        ),
        row("no huge pages", |it| it.machine.huge_pages = None, "huge_pages", (Fits, None, "")),
        row(
            "few pages for buffers",
            |it| it.machine.tcp_mem_pages = Some([40_000, 50_000]),
            "tcp_mem",
            (Blocks, Some(500_000), "sysctl -w net.ipv4.tcp_mem=\"500000 1000000 2000000\""),
        ),
        row(
            "pressure when all are sent to",
            |it| it.machine.tcp_mem_pages = Some([383_866, 575_796]),
            "tcp_mem",
            (Hinders, Some(5_757_960), "sysctl -w net.ipv4.tcp_mem="),
        ),
        row(
            "another network namespace",
            |it| it.machine.tcp_mem_pages = None,
            "tcp_mem",
            (Unknown, None, ""),
        ),
    ]);
}

#[test]
fn network() {
    use Verdict::{Blocks, Fits, Hinders, Unknown};
    check(&[
        row(
            "a short queue",
            |it| it.machine.somaxconn = Some(128),
            "somaxconn",
            (Hinders, None, "sysctl -w net.core.somaxconn=4096"),
        ),
        row("queue hidden", |it| it.machine.somaxconn = None, "somaxconn", (Unknown, None, "")),
        row(
            "few SYNs and no cookies",
            |it| it.machine.syncookies = Some(0),
            "syn_backlog",
            (Hinders, None, "sysctl -w net.ipv4.tcp_max_syn_backlog=4096"),
        ),
        row(
            "many SYNs and no cookies",
            |it| {
                it.machine.syncookies = Some(0);
                it.machine.syn_backlog = Some(4096);
            },
            "syn_backlog",
            (Fits, None, ""),
        ),
        row("SYNs hidden", |it| it.machine.syn_backlog = None, "syn_backlog", (Unknown, None, "")),
        row(
            "few ports",
            |it| it.machine.port_range = Some([60_000, 60_099]),
            "port_range",
            (Hinders, None, "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""),
        ),
        row("ports hidden", |it| it.machine.port_range = None, "port_range", (Unknown, None, "")),
        row(
            "a firewall that tracks",
            |it| it.machine.conntrack = Some(Conntrack { count: 144, max: 262_144 }),
            "conntrack",
            (Blocks, Some(262_000), "sysctl -w net.netfilter.nf_conntrack_max=1000144"),
        ),
        row(
            "one that could",
            |it| it.machine.conntrack = Some(Conntrack { count: 0, max: 262_144 }),
            "conntrack",
            (Hinders, None, "sysctl -w net.netfilter.nf_conntrack_max=1000000"),
        ),
        row(
            "one with room",
            |it| it.machine.conntrack = Some(Conntrack { count: 5, max: 2_000_000 }),
            "conntrack",
            (Fits, Some(1_999_995), ""),
        ),
    ]);
}

#[test]
fn ring_and_kernel() {
    use Verdict::{Fits, Hinders, Unknown};
    // On the portable shell each session is a file of the process.
    let portable = Some((1 << 20) - 4096);
    check(&[
        row(
            "switched off",
            |it| {
                it.ring = Err(RingError::Forbidden { advice: "set it to 0" });
                it.machine.io_uring_disabled = Some(2);
            },
            "io_uring",
            (Hinders, portable, "sysctl -w kernel.io_uring_disabled=0"),
        ),
        row(
            "forbidden by seccomp",
            |it| {
                it.ring = Err(RingError::Forbidden { advice: "permit it" });
                it.machine.has_seccomp = true;
            },
            "io_uring",
            (Hinders, portable, "io_uring_setup, io_uring_enter and io_uring_register"),
        ),
        row(
            "not built in",
            |it| it.ring = Err(RingError::Missing),
            "io_uring",
            (Hinders, portable, "CONFIG_IO_URING"),
        ),
        row(
            "out of memory just now",
            |it| it.ring = Err(RingError::Memory { call: "io_uring_setup" }),
            "io_uring",
            (Unknown, None, ""),
        ),
        row(
            "an old kernel",
            |it| it.machine.kernel = Some("5.15.0-91-generic".into()),
            "kernel",
            (Hinders, None, "install Linux 6.1"),
        ),
        row(
            "the oldest that does",
            |it| it.machine.kernel = Some("6.1.0".into()),
            "kernel",
            (Fits, None, ""),
        ),
        row(
            "a kernel of the future",
            |it| it.machine.kernel = Some("10.0".into()),
            "kernel",
            (Fits, None, ""),
        ),
        row(
            "a strange release",
            |it| it.machine.kernel = Some("x".into()),
            "kernel",
            (Unknown, None, ""),
        ),
        row("no release", |it| it.machine.kernel = None, "kernel", (Unknown, None, "")),
    ]);
}

#[test]
fn disk() {
    use Verdict::{Hinders, Unknown};
    check(&[
        row(
            "slow",
            |it| it.disk = Disk::Measured(SyncTimes { median_ms: 12.0, ..times() }),
            "disk_sync",
            (Hinders, None, "store.sync = \"interval\""),
        ),
        row(
            "in memory",
            |it| it.disk = Disk::Measured(SyncTimes { is_memory: true, ..times() }),
            "disk_sync",
            (Hinders, None, "in memory"),
        ),
        row(
            "not asked for",
            |it| it.disk = Disk::NotAsked,
            "disk_sync",
            (Unknown, None, "mooring doctor --data DIR"),
        ),
        row(
            "not writable",
            |it| it.disk = Disk::Failed("/data: Permission denied".into()),
            "disk_sync",
            (Unknown, None, ""),
        ),
    ]);
}

#[test]
fn the_answer_goes_by_what_blocks_and_then_by_what_decides() {
    type Row = (&'static str, fn(&mut Looked), Answer);
    let rows: [Row; 7] = [
        ("good", |_| {}, Answer::Fit),
        ("hindered", |it| it.machine.somaxconn = Some(1), Answer::Fit),
        ("something hidden", |it| it.machine.tcp_mem_pages = None, Answer::Fit),
        ("no disk asked for", |it| it.disk = Disk::NotAsked, Answer::Fit),
        ("a disk that fails", |it| it.disk = Disk::Failed(String::new()), Answer::Unknown),
        ("memory hidden", |it| it.machine.memory_available_bytes = None, Answer::Unknown),
        (
            "memory hidden, and no files",
            |it| {
                it.machine.memory_available_bytes = None;
                it.machine.file_max = Some(10);
            },
            Answer::Unfit,
        ),
    ];
    for (what, change, expected) in rows {
        let mut looked = good();
        change(&mut looked);
        assert_eq!(judge(&looked, MILLION).answer, expected, "{what}");
    }
}

#[test]
fn the_narrowest_is_the_least_capacity() {
    let mut looked = good();
    looked.machine.conntrack = Some(Conntrack { count: 1, max: 500 });
    let capacity = judge(&looked, 100).capacity;
    assert_eq!((capacity.sessions, capacity.narrowest), (Some(499), Some("conntrack")));
    looked.ring = Err(RingError::Missing);
    looked.machine.process.nofile_hard = Some(4196);
    let capacity = judge(&looked, 100).capacity;
    assert_eq!((capacity.sessions, capacity.narrowest), (Some(100), Some("io_uring")));
}

/// Not to the session: the rings that a larger target takes need memory as well.
#[test]
fn what_fits_below_the_capacity_does_not_fit_above_it() {
    let looked = good();
    let capacity = judge(&looked, 1).capacity.sessions.expect("its memory is known");
    assert_eq!(judge(&looked, capacity / 100 * 99).answer, Answer::Fit);
    assert_eq!(judge(&looked, capacity + 1).answer, Answer::Unfit);
}

#[test]
fn numbers_are_grouped_in_threes() {
    let rows = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
    for (number, expected) in rows {
        assert_eq!(grouped(number), expected);
    }
}
