//! For benches that leave a part of their loop out of the measured time.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long `work` takes by the clock on the wall.
pub fn elapsed(work: impl FnOnce()) -> Duration {
    let started = now();
    work();
    started.elapsed()
}

/// How much processor time `work` takes on this thread: what others on the machine take does not
/// count. Reading this clock is a system call, so `work` should be some microseconds or more.
pub fn processor_time(work: impl FnOnce()) -> Duration {
    let started = thread_time();
    work();
    thread_time() - started
}

fn thread_time() -> Duration {
    let at = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(at).expect("it runs from 0 on")
}

#[expect(clippy::disallowed_methods, reason = "this crate measures time; nothing decides by it")]
fn now() -> Instant {
    Instant::now()
}
