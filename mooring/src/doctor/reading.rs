//! What is read of the machine: small files of `/proc` and `/sys`, beneath a root that tests
//! choose.
//!
//! Nearly all of them hold one line of numbers, for which no crate is needed; those that parse
//! `/proc` know few of these files, and only at `/`.

use std::path::{Path, PathBuf};

use gateway::host_memory;

use super::machine::{
    CONNTRACK, Conntrack, FILE_MAX, FILE_NR, HUGE_PAGES, IO_URING_DISABLED, Machine, NR_OPEN,
    OSRELEASE, PORT_RANGE, Process, SOMAXCONN, SYN_BACKLOG, SYNCOOKIES, SysctlPath, TCP_MEM,
};

/// Its number in `capabilities(7)`.
const CAP_IPC_LOCK: u32 = 14;

/// Reads beneath a root.
pub(crate) struct Reader {
    root: PathBuf,
}

impl Reader {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Everything that stands in files. `process` is what only system calls tell.
    pub(crate) fn machine(&self, process: Process) -> Machine {
        Machine {
            process,
            kernel: self.text(OSRELEASE.path()),
            nr_open: self.number(NR_OPEN),
            file_max: self.number(FILE_MAX),
            files_open: self.number(FILE_NR),
            somaxconn: self.number(SOMAXCONN),
            syn_backlog: self.number(SYN_BACKLOG),
            syncookies: self.number(SYNCOOKIES),
            tcp_mem_pages: self.numbers(TCP_MEM).map(|[_, pressure, max]| [pressure, max]),
            port_range: self.numbers(PORT_RANGE),
            conntrack: self.conntrack(),
            io_uring_disabled: self.number(IO_URING_DISABLED),
            has_seccomp: self.field("proc/self/status", "Seccomp").is_some_and(|mode| mode != "0"),
            locks_freely: self.has_capability(CAP_IPC_LOCK),
            memory_available_bytes: self.memory_available_bytes(),
            memory_limit_bytes: host_memory::limit_bytes(&self.root),
            huge_pages: self.text(HUGE_PAGES).as_deref().and_then(chosen),
        }
    }

    /// Whether the capability of this number is in effect.
    fn has_capability(&self, number: u32) -> bool {
        let effective = self.field("proc/self/status", "CapEff");
        let bits = effective.and_then(|digits| u64::from_str_radix(&digits, 16).ok());
        bits.is_some_and(|bits| bits >> number & 1 == 1)
    }

    /// None if nothing tracks connections here.
    fn conntrack(&self) -> Option<Conntrack> {
        let [count, max] = CONNTRACK.map(|path| self.number(path));
        Some(Conntrack { count: count?, max: max? })
    }

    fn memory_available_bytes(&self) -> Option<u64> {
        let value = self.field("proc/meminfo", "MemAvailable")?;
        let kibibytes: u64 = value.strip_suffix("kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    }

    /// The value of a line `name: value`.
    fn field(&self, path: &str, name: &str) -> Option<String> {
        self.text(path)?.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim().to_owned())
        })
    }

    /// The first number of a file.
    fn number(&self, path: SysctlPath) -> Option<u64> {
        self.numbers(path).map(|[number]| number)
    }

    /// The first numbers of a file, if it has so many.
    fn numbers<const COUNT: usize>(&self, path: SysctlPath) -> Option<[u64; COUNT]> {
        let text = self.text(path.path())?;
        let numbers: Option<Vec<u64>> =
            text.split_whitespace().take(COUNT).map(|word| word.parse().ok()).collect();
        numbers?.try_into().ok()
    }

    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim_end().to_owned())
    }
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files as a kernel shows them.
    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Reader) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let reader = Reader::new(folder.path());
        (folder, reader)
    }

    #[test]
    fn every_file_is_read() {
        let (_folder, reader) = tree(&[
            ("proc/sys/kernel/osrelease", "6.12.3-amd64\n"),
            ("proc/sys/kernel/io_uring_disabled", "2\n"),
            ("proc/sys/fs/nr_open", "1048576\n"),
            ("proc/sys/fs/file-max", "9223372036854775807\n"),
            ("proc/sys/fs/file-nr", "634\t0\t9223372036854775807\n"),
            ("proc/sys/net/core/somaxconn", "128\n"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512\n"),
            ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
            ("proc/sys/net/ipv4/tcp_mem", "287898\t383866\t575796\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "7\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
            ("proc/meminfo", "MemTotal:       24684032 kB\nMemAvailable:   20480 kB\n"),
            ("proc/self/status", "Seccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t0000000000004000\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
        ]);
        let process = Process { nofile_soft: Some(1024), processors: 3, ..Process::default() };
        let expected = Machine {
            process: process.clone(),
            kernel: Some("6.12.3-amd64".into()),
            nr_open: Some(1_048_576),
            file_max: Some(i64::MAX.unsigned_abs()),
            files_open: Some(634),
            somaxconn: Some(128),
            syn_backlog: Some(512),
            syncookies: Some(1),
            tcp_mem_pages: Some([383_866, 575_796]),
            port_range: Some([32_768, 60_999]),
            conntrack: Some(Conntrack { count: 7, max: 262_144 }),
            io_uring_disabled: Some(2),
            has_seccomp: true,
            locks_freely: true,
            memory_available_bytes: Some(20 << 20),
            memory_limit_bytes: None,
            huge_pages: Some("always".into()),
        };
        assert_eq!(reader.machine(process), expected);
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_none() {
        let (_folder, reader) = tree(&[
            ("proc/sys/fs/nr_open", "many\n"),
            ("proc/sys/net/ipv4/tcp_mem", "1 2\n"),
            ("proc/meminfo", "MemAvailable: 12 pages\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always\n"),
        ]);
        let expected = Machine { process: Process::default(), ..Machine::default() };
        assert_eq!(reader.machine(Process::default()), expected);
    }
}
