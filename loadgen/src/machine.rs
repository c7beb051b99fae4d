//! What the figures were measured on, and this process's place in it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// The host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Machine {
    /// As `uname -r`.
    pub(crate) kernel: String,
    /// The processor's name.
    pub(crate) cpu: String,
    /// Processors that this process may use.
    pub(crate) processors: usize,
    /// Memory of the host.
    pub(crate) memory_bytes: u64,
}

impl Machine {
    /// This host; what cannot be read is "unknown" or 0.
    pub(crate) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let known = |text: &str| {
            let text = text.trim();
            if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
        };
        let cpuinfo = read("/proc/cpuinfo");
        Self {
            kernel: known(&read("/proc/sys/kernel/osrelease")),
            cpu: known(field(&cpuinfo, "model name").unwrap_or_default()),
            processors: processors(),
            memory_bytes: kibibytes(&read("/proc/meminfo"), "MemTotal"),
        }
    }
}

/// Processors that this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Resident memory of this process in bytes; 0 if it cannot be read.
pub(crate) fn resident_bytes() -> u64 {
    kibibytes(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS")
}

/// Raises the limit of open files to what this process may have, and tells it.
pub(crate) fn raise_files_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // If it may not be, the old one stays, and is told.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How much the calling thread steps back.
const NICE: i32 = 10;

/// Lets the others of the machine go before the calling thread, for clients that would be on other
/// machines. Where that is not permitted they stay equal.
pub(crate) fn lower_priority() {
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// The value of a line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn kibibytes(text: &str, name: &str) -> u64 {
    let number = field(text, name).and_then(|value| value.split_whitespace().next());
    number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t: 85\nmodel name\t: A processor @ 2 GHz\nVmRSS:\t   12 kB\n";
        assert_eq!(field(text, "model name"), Some("A processor @ 2 GHz"));
        assert_eq!(field(text, "name"), None);
        assert_eq!((kibibytes(text, "VmRSS"), kibibytes(text, "VmSize")), (12 * 1024, 0));
    }

    #[test]
    fn this_host_has_a_kernel_memory_and_room_for_files() {
        let machine = Machine::here();
        assert_ne!(machine.kernel, "unknown");
        assert!(machine.processors > 0 && machine.memory_bytes > resident_bytes());
        assert!(resident_bytes() > 0 && raise_files_limit() > 0);
    }
}
