//! A machine as far as sessions depend on it: values that were read, none where that failed.

/// A file below `/proc/sys`, and so the name that `sysctl` knows it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SysctlPath(&'static str);

impl SysctlPath {
    /// Relative to the root.
    pub(crate) const fn path(self) -> &'static str {
        self.0
    }

    /// As `sysctl` writes it: `net.core.somaxconn`.
    pub(crate) fn key(self) -> String {
        self.0.trim_start_matches("proc/sys/").replace('/', ".")
    }
}

pub(crate) const OSRELEASE: SysctlPath = SysctlPath("proc/sys/kernel/osrelease");
pub(crate) const NR_OPEN: SysctlPath = SysctlPath("proc/sys/fs/nr_open");
pub(crate) const FILE_MAX: SysctlPath = SysctlPath("proc/sys/fs/file-max");
pub(crate) const FILE_NR: SysctlPath = SysctlPath("proc/sys/fs/file-nr");
pub(crate) const SOMAXCONN: SysctlPath = SysctlPath("proc/sys/net/core/somaxconn");
pub(crate) const SYN_BACKLOG: SysctlPath = SysctlPath("proc/sys/net/ipv4/tcp_max_syn_backlog");
pub(crate) const SYNCOOKIES: SysctlPath = SysctlPath("proc/sys/net/ipv4/tcp_syncookies");
pub(crate) const TCP_MEM: SysctlPath = SysctlPath("proc/sys/net/ipv4/tcp_mem");
pub(crate) const PORT_RANGE: SysctlPath = SysctlPath("proc/sys/net/ipv4/ip_local_port_range");
pub(crate) const IO_URING_DISABLED: SysctlPath = SysctlPath("proc/sys/kernel/io_uring_disabled");
/// Connections tracked, and how many may be.
pub(crate) const CONNTRACK: [SysctlPath; 2] = [
    SysctlPath("proc/sys/net/netfilter/nf_conntrack_count"),
    SysctlPath("proc/sys/net/netfilter/nf_conntrack_max"),
];
pub(crate) const HUGE_PAGES: &str = "sys/kernel/mm/transparent_hugepage/enabled";

/// What is read of it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Machine {
    pub(crate) process: Process,
    /// As `uname -r`.
    pub(crate) kernel: Option<String>,
    /// The most that the limit of open files can be set to.
    pub(crate) nr_open: Option<u64>,
    /// Open files of the whole machine, sockets among them.
    pub(crate) file_max: Option<u64>,
    pub(crate) files_open: Option<u64>,
    pub(crate) somaxconn: Option<u64>,
    pub(crate) syn_backlog: Option<u64>,
    pub(crate) syncookies: Option<u64>,
    /// Pages in socket buffers: from the first on the kernel saves, above the second it drops.
    pub(crate) tcp_mem_pages: Option<[u64; 2]>,
    /// First and last port of outgoing connections.
    pub(crate) port_range: Option<[u64; 2]>,
    pub(crate) conntrack: Option<Conntrack>,
    /// None before Linux 6.6 as well.
    pub(crate) io_uring_disabled: Option<u64>,
    pub(crate) has_seccomp: bool,
    /// `CAP_IPC_LOCK`: its rings do not count as locked memory.
    pub(crate) locks_freely: bool,
    pub(crate) memory_available_bytes: Option<u64>,
    /// What its control groups permit.
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Who gets transparent huge pages: `always`, `madvise` or `never`.
    pub(crate) huge_pages: Option<String>,
}

/// What only system calls tell. A limit that is none is unlimited.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Process {
    pub(crate) nofile_soft: Option<u64>,
    pub(crate) nofile_hard: Option<u64>,
    /// Soft: the server does not raise it.
    pub(crate) memlock_bytes: Option<u64>,
    /// Those that this process may use.
    pub(crate) processors: u64,
}

/// What the firewall tracks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Conntrack {
    pub(crate) count: u64,
    pub(crate) max: u64,
}
