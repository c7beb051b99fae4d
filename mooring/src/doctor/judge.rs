//! What a machine means for a target. Pure: values in, findings out.
//!
//! One function for each finding; the constants carry where they come from.

use gateway::host::{KERNEL_MINIMUM, ListenOptions, RingError, Support};

use super::disk::SyncTimes;
use super::machine::{
    CONNTRACK, Conntrack, FILE_MAX, IO_URING_DISABLED, Machine, NR_OPEN, PORT_RANGE, SOMAXCONN,
    SYN_BACKLOG, SysctlPath, TCP_MEM,
};
use super::plan::{CORES_MAX, Plan};
use super::report::{Finding, Report, Verdict};

/// Kernel memory of our end of an idle session: socket, inode, file, dentry, its direct descriptor
/// and the armed receive. Half of the growth of `Slab` for pairs on loopback: tuning/README.md.
pub(crate) const KERNEL_BYTES: u64 = 4_900;

/// Resident memory of an idle session in the server: tuning/README.md.
pub(crate) const RESIDENT_BYTES: u64 = 1_500;

/// What the server needs without any session: memtables (two large tables of up to four of 32 MiB)
/// and the block cache (64 MiB) at their defaults, and as much again for what RocksDB reads.
const STORE_BYTES: u64 = 640 << 20;

/// Receive buffers (1,024 of 2 KiB), queues and tables of one ring.
const RING_BYTES: u64 = 4 << 20;

/// Of one ring with the default `io.receive_buffers`: its queues and the ring of its buffers, in
/// whole pages. From Linux 6.14 on they count as locked memory of the user.
const RING_LOCKED_BYTES: u64 = 55 * 4096;
const LOCKED_SINCE: (u32, u32) = (6, 14);

/// Sessions with bytes in a socket buffer at one time: one in so many. A steady chat has fewer than
/// one in a hundred; a drain or a storm has more. Each is charged at least a page.
const SESSIONS_PER_BUSY: u64 = 10;

/// Files that other processes and the store have open.
const FILES_SPARE: u64 = 4096;

/// Ports that the load generator takes of one address.
const PORTS_OF_AN_ADDRESS: u64 = 16_000;

/// From here on a disk is what clients wait for: a post waits for one to two syncs.
const SYNC_MILLIS_MAX: f64 = 10.0;

/// What was looked at.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) machine: Machine,
    /// A ring was made, or was not.
    pub(crate) ring: Result<Support, RingError>,
    pub(crate) disk: Disk,
}

/// The disk of the data directory.
#[derive(Debug)]
pub(crate) enum Disk {
    NotAsked,
    Failed(String),
    Measured(SyncTimes),
}

/// Judges a machine for `sessions`.
pub(crate) fn judge(looked: &Looked, sessions: u64) -> Report {
    let machine = &looked.machine;
    let plan = Plan::new(sessions, machine.process.nofile_hard, machine.process.processors);
    let findings = vec![
        io_uring(machine, &looked.ring, sessions),
        kernel(machine, &looked.ring),
        processors(machine, plan),
        nofile(machine, sessions, plan),
        nr_open(machine, sessions),
        memlock(machine, plan),
        file_max(machine, sessions),
        memory(machine, sessions, plan),
        huge_pages(machine),
        tcp_mem(machine, sessions),
        conntrack(machine, sessions),
        somaxconn(machine),
        syn_backlog(machine),
        port_range(machine, sessions),
        disk_sync(&looked.disk),
    ];
    Report::new(sessions, plan, findings)
}

fn io_uring(machine: &Machine, ring: &Result<Support, RingError>, sessions: u64) -> Finding {
    let error = match ring {
        Ok(support) => {
            return Finding::new("io_uring", Verdict::Fits, "a ring was made: the server uses it")
                .needs(support.to_string())
                .decides();
        }
        Err(error) => error,
    };
    if !error.is_unavailable() {
        return Finding::unknown("io_uring", error.to_string()).decides();
    }
    let mend = match machine.io_uring_disabled {
        Some(1..) => set(IO_URING_DISABLED, "0"),
        _ if machine.has_seccomp => "permit io_uring_setup, io_uring_enter and io_uring_register \
                                     in the seccomp profile of this container or service"
            .to_owned(),
        _ => format!("run Linux {KERNEL_MINIMUM} or later, with CONFIG_IO_URING"),
    };
    // There each session takes a descriptor of the process, whatever the number of its cores.
    let files = machine.process.nofile_hard.unwrap_or(u64::MAX);
    let capacity = files.saturating_sub(FILES_SPARE);
    let verdict = if capacity < sessions { Verdict::Blocks } else { Verdict::Hinders };
    Finding::new("io_uring", verdict, error.to_string())
        .needs("without it the server runs on the portable shell (epoll): dearer messages")
        .permits(capacity)
        .mend(mend)
        .decides()
}

fn kernel(machine: &Machine, ring: &Result<Support, RingError>) -> Finding {
    let Some(release) = &machine.kernel else {
        return Finding::unknown("kernel", unread("/proc/sys/kernel/osrelease"));
    };
    let found = |verdict| Finding::new("kernel", verdict, format!("Linux {release}"));
    match (version(release), version(KERNEL_MINIMUM)) {
        (Some(version), Some(minimum)) if version < minimum => found(Verdict::Hinders)
            .needs(format!("Linux {KERNEL_MINIMUM}, for rings"))
            .mend(format!("install Linux {KERNEL_MINIMUM} or later")),
        (Some(_), Some(_)) => {
            let idle_looks_busy = ring.as_ref().is_ok_and(|support| !support.no_iowait);
            let advice = "from 6.15 on idle rings do not show as iowait";
            found(Verdict::Fits).needs(if idle_looks_busy { advice } else { "" })
        }
        _ => found(Verdict::Unknown),
    }
}

fn processors(machine: &Machine, plan: Plan) -> Finding {
    let (processors, rings) = (machine.process.processors, plan.cores);
    let found = format!("{} for {}", count(processors, "processor"), count(rings, "ring"));
    Finding::new("processors", Verdict::Fits, found)
}

fn nofile(machine: &Machine, sessions: u64, plan: Plan) -> Finding {
    let process = &machine.process;
    let hard = process.nofile_hard;
    let capacity = Plan::capacity(hard);
    let wanted = Plan::nofile_for(sessions, process.processors);
    let verdict = if capacity < sessions {
        Verdict::Blocks
    } else if plan.cores > process.processors {
        Verdict::Hinders
    } else {
        Verdict::Fits
    };
    let told = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), grouped);
    let found = format!("hard {}, soft {}", told(hard), told(process.nofile_soft));
    let needed = format!("{} for one ring a processor", grouped(wanted));
    Finding::new("nofile", verdict, found)
        .needs(needed)
        .permits(capacity)
        .mend(format!(
            "LimitNOFILE={wanted} in the unit, or `* hard nofile {wanted}` in \
             /etc/security/limits.d"
        ))
        .decides()
}

fn nr_open(machine: &Machine, sessions: u64) -> Finding {
    let Some(nr_open) = machine.nr_open else { return unreadable("nr_open", NR_OPEN) };
    let wanted = Plan::nofile_for(sessions, machine.process.processors);
    let verdict = if nr_open < wanted { Verdict::Hinders } else { Verdict::Fits };
    Finding::new("nr_open", verdict, grouped(nr_open))
        .needs(format!("{}: nofile goes no higher than nr_open", grouped(wanted)))
        .mend(set(NR_OPEN, wanted))
}

fn memlock(machine: &Machine, plan: Plan) -> Finding {
    let counts = machine.kernel.as_deref().and_then(version).is_none_or(|it| it >= LOCKED_SINCE);
    if machine.locks_freely || !counts {
        let why = if counts { "CAP_IPC_LOCK" } else { "does not count rings on this kernel" };
        return Finding::new("memlock", Verdict::Fits, why);
    }
    let Some(limit) = machine.process.memlock_bytes else {
        return Finding::new("memlock", Verdict::Fits, "unlimited");
    };
    let wanted = plan.cores * RING_LOCKED_BYTES;
    let verdict = bounds(limit, wanted);
    // What so many rings hold, as far as the limit of open files fills them.
    let rings = (limit / RING_LOCKED_BYTES).min(CORES_MAX);
    let capacity = Plan::capacity(machine.process.nofile_hard) / CORES_MAX * rings;
    Finding::new("memlock", verdict, format!("{} bytes", grouped(limit)))
        .needs(format!("{} for {}", grouped(wanted), count(plan.cores, "ring")))
        .permits(capacity)
        .mend(
            "LimitMEMLOCK=infinity in the unit, or `* - memlock unlimited` in \
             /etc/security/limits.d",
        )
}

fn file_max(machine: &Machine, sessions: u64) -> Finding {
    let (Some(max), Some(open)) = (machine.file_max, machine.files_open) else {
        return unreadable("file_max", FILE_MAX).decides();
    };
    let capacity = max.saturating_sub(open.saturating_add(FILES_SPARE));
    let wanted = sessions + open + FILES_SPARE;
    Finding::new("file_max", bounds(capacity, sessions), format!("{}, {open} open", grouped(max)))
        .needs(format!("{}: each socket is a file", grouped(wanted)))
        .permits(capacity)
        .mend(set(FILE_MAX, wanted))
        .decides()
}

fn memory(machine: &Machine, sessions: u64, plan: Plan) -> Finding {
    let Some(available) = machine.memory_available_bytes else {
        return Finding::unknown("memory", unread("/proc/meminfo")).decides();
    };
    let limit = machine.memory_limit_bytes.filter(|limit| *limit < available);
    let bytes = limit.unwrap_or(available);
    let base = STORE_BYTES + plan.cores * RING_BYTES;
    let each = KERNEL_BYTES + RESIDENT_BYTES;
    let capacity = bytes.saturating_sub(base) / each;
    let (source, mend) = match limit {
        Some(_) => ("of its control group", "raise MemoryMax= of the unit, or the container's"),
        None => ("available", "add memory, or stop what else uses it"),
    };
    Finding::new("memory", bounds(capacity, sessions), format!("{} {source}", mebibytes(bytes)))
        .needs(format!(
            "{}: {} a session ({} in the kernel) and {}",
            mebibytes(base + sessions.saturating_mul(each)),
            grouped(each),
            grouped(KERNEL_BYTES),
            mebibytes(base),
        ))
        .permits(capacity)
        .mend(mend)
        .decides()
}

fn huge_pages(machine: &Machine) -> Finding {
    let Some(chosen) = &machine.huge_pages else {
        // A kernel without them.
        return Finding::new("huge_pages", Verdict::Fits, "none");
    };
    let verdict = if chosen == "always" { Verdict::Hinders } else { Verdict::Fits };
    Finding::new("huge_pages", verdict, chosen.clone())
        .needs("not `always`: small allocations that are far apart then cost 2 MiB each")
        .mend("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
}

fn tcp_mem(machine: &Machine, sessions: u64) -> Finding {
    let Some([pressure, max]) = machine.tcp_mem_pages else {
        // Shown in the first network namespace alone, though it bounds all of them.
        return unreadable("tcp_mem", TCP_MEM);
    };
    let capacity = max.saturating_mul(SESSIONS_PER_BUSY);
    let verdict = if capacity < sessions {
        Verdict::Blocks
    } else if pressure < sessions {
        Verdict::Hinders
    } else {
        Verdict::Fits
    };
    let found = format!("pressure at {}, most {} pages", grouped(pressure), grouped(max));
    let wanted = format!("\"{} {} {}\"", sessions / 2, sessions, sessions.saturating_mul(2));
    Finding::new("tcp_mem", verdict, found)
        .needs(format!("{}: a page a session, when all are sent to", grouped(sessions)))
        .permits(capacity)
        .mend(set(TCP_MEM, wanted))
}

fn conntrack(machine: &Machine, sessions: u64) -> Finding {
    let Some(Conntrack { count, max }) = machine.conntrack else {
        return Finding::new("conntrack", Verdict::Fits, "not loaded");
    };
    let capacity = max.saturating_sub(count);
    let needed = format!("{}: beyond it new connections are dropped", grouped(count + sessions));
    if count == 0 {
        let verdict = if capacity < sessions { Verdict::Hinders } else { Verdict::Fits };
        let found = format!("tracks nothing now, at most {}", grouped(max));
        let of_rules = format!("{needed}, once a firewall rule asks for it");
        return Finding::new("conntrack", verdict, found)
            .needs(of_rules)
            .mend(set(CONNTRACK[1], sessions));
    }
    let found = format!("{} of {} tracked", grouped(count), grouped(max));
    Finding::new("conntrack", bounds(capacity, sessions), found)
        .needs(needed)
        .permits(capacity)
        .mend(format!(
            "{}; or do not track the gateway's port (`notrack`)",
            set(CONNTRACK[1], count + sessions)
        ))
}

fn somaxconn(machine: &Machine) -> Finding {
    let Some(most) = machine.somaxconn else { return unreadable("somaxconn", SOMAXCONN) };
    let backlog = u64::from(ListenOptions::default().backlog);
    let verdict = if most < backlog { Verdict::Hinders } else { Verdict::Fits };
    Finding::new("somaxconn", verdict, grouped(most))
        .needs(format!("{}: a burst beyond it waits a second and more", grouped(backlog)))
        .mend(set(SOMAXCONN, backlog))
}

fn syn_backlog(machine: &Machine) -> Finding {
    let (Some(most), Some(cookies)) = (machine.syn_backlog, machine.syncookies) else {
        return unreadable("syn_backlog", SYN_BACKLOG);
    };
    let backlog = u64::from(ListenOptions::default().backlog);
    let is_short = cookies == 0 && most < backlog;
    let verdict = if is_short { Verdict::Hinders } else { Verdict::Fits };
    let cookies = if cookies == 0 { "off" } else { "on" };
    Finding::new("syn_backlog", verdict, format!("{}, SYN cookies {cookies}", grouped(most)))
        .needs(format!("{}, or SYN cookies", grouped(backlog)))
        .mend(set(SYN_BACKLOG, backlog))
}

fn port_range(machine: &Machine, sessions: u64) -> Finding {
    let Some([first, last]) = machine.port_range else {
        return unreadable("port_range", PORT_RANGE);
    };
    let ports = (last + 1).saturating_sub(first).max(1);
    let verdict = if ports < PORTS_OF_AN_ADDRESS { Verdict::Hinders } else { Verdict::Fits };
    let addresses = count(sessions.div_ceil(ports), "source address");
    Finding::new("port_range", verdict, format!("{} ports from {first}", grouped(ports)))
        .needs(format!("matters to a proxy or load generator: {addresses} for the target"))
        .mend(set(PORT_RANGE, "\"1024 65535\""))
}

fn disk_sync(disk: &Disk) -> Finding {
    let times = match disk {
        Disk::NotAsked => {
            return Finding::unknown("disk_sync", "not measured")
                .mend("mooring doctor --data DIR, with the data directory");
        }
        Disk::Failed(why) => return Finding::unknown("disk_sync", why.clone()).decides(),
        Disk::Measured(times) => times,
    };
    let found = format!(
        "median {:.2} ms, p99 {:.2} ms, most {:.2} ms of {} syncs in {}",
        times.median_ms, times.p99_ms, times.max_ms, times.count, times.directory
    );
    let needed = format!("a post waits for one to two of them; {SYNC_MILLIS_MAX} ms is much");
    let finding = |verdict| Finding::new("disk_sync", verdict, found.clone()).needs(needed.clone());
    if times.is_memory {
        finding(Verdict::Hinders).mend("choose a directory on a disk: this one is in memory")
    } else if times.median_ms > SYNC_MILLIS_MAX {
        finding(Verdict::Hinders).mend(
            "a disk with a cache that survives a loss of power, or store.sync = \"interval\" with \
             what it may lose",
        )
    } else {
        finding(Verdict::Fits)
    }
}

/// Whether `capacity` is enough.
const fn bounds(capacity: u64, sessions: u64) -> Verdict {
    if capacity < sessions { Verdict::Blocks } else { Verdict::Fits }
}

fn set(path: SysctlPath, value: impl std::fmt::Display) -> String {
    format!("sysctl -w {}={value}", path.key())
}

fn unreadable(name: &'static str, path: SysctlPath) -> Finding {
    Finding::unknown(name, unread(&format!("/{}", path.path())))
}

fn unread(path: &str) -> String {
    format!("{path} cannot be read here")
}

/// The first two numbers of a release: `6.18.44-fc` is `(6, 18)`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn count(number: u64, what: &str) -> String {
    let plural = match what {
        _ if number == 1 => "",
        "source address" => "es",
        _ => "s",
    };
    format!("{} {what}{plural}", grouped(number))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", grouped(bytes >> 20))
}

/// In groups of three: `1,000,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
