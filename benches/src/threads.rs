//! Threads on a CPU of their own, and how busy they are.

use std::io;
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, gettid, sched_setaffinity};

/// The kernel's number of a thread.
pub type ThreadId = i32;

/// Runs `body` on a thread that stays on `cpu`.
///
/// # Errors
///
/// If no thread can be started. A CPU that does not exist ends the thread with the kernel's error.
pub fn pinned<T: Send + 'static>(
    name: &str,
    cpu: usize,
    body: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> io::Result<JoinHandle<anyhow::Result<T>>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus)
            .map_err(|error| anyhow::anyhow!("pinning a thread to CPU {cpu}: {error}"))?;
        body()
    })
}

/// Of the calling thread, for [`cpu_nanos`].
#[must_use]
pub fn own_id() -> ThreadId {
    gettid().as_raw_nonzero().get()
}

/// CPU time that a thread of this process has used, in nanoseconds; 0 if the kernel does not tell.
#[must_use]
pub fn cpu_nanos(thread: ThreadId) -> u64 {
    std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))
        .ok()
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
