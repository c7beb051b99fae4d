//! What this kernel can do, and a plain word about what it cannot.

use std::fmt;

use io_uring::{IoUring, Probe, opcode};

use crate::error::RingError;
use crate::ring::setup;

/// The oldest kernel with everything a gateway needs: deferred task work came last.
pub const KERNEL_MINIMUM: &str = "6.1";
/// The oldest kernel on which [`crate::Ring::connect`] works: bind on a ring came last.
pub const KERNEL_FOR_CONNECT: &str = "6.11";

/// Opcodes without which no ring is made. Multishot accept and receive, buffer rings and the
/// passing of descriptors have no bits of their own; all are older than deferred task work, without
/// which `io_uring_setup` fails.
const REQUIRED: [(u8, &str); 9] = [
    (opcode::AcceptMulti::CODE, "ACCEPT"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Shutdown::CODE, "SHUTDOWN"),
    (opcode::AsyncCancel2::CODE, "ASYNC_CANCEL"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::MsgRingData::CODE, "MSG_RING"),
    (opcode::Socket::CODE, "SOCKET"),
];

/// What the running kernel offers beyond [`KERNEL_MINIMUM`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// Whether [`crate::Ring::connect`] works ([`KERNEL_FOR_CONNECT`]).
    pub connect: bool,
    /// Whether a waiting ring can be kept out of the host's iowait figure (Linux 6.15). Without it
    /// an idle gateway looks to operators as if it waited for disks.
    pub no_iowait: bool,
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring on {}: single-issuer, deferred task work, ", self.kernel)?;
        f.write_str("direct descriptors, multishot accept and receive, buffer ring")?;
        f.write_str(if self.connect { ", connect" } else { ", NO connect (needs 6.11)" })?;
        f.write_str(if self.no_iowait { ", no-iowait" } else { ", NO no-iowait (needs 6.15)" })
    }
}

/// Makes a small ring as a gateway would, and asks what it can do.
///
/// # Errors
///
/// [`RingError::is_unavailable`] ones if this host cannot run rings, with what to do about it.
pub fn probe() -> Result<Support, RingError> {
    examine(&setup(8, 16)?)
}

/// What the kernel behind `ring` offers.
pub(crate) fn examine(ring: &IoUring) -> Result<Support, RingError> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| RingError::of("io_uring_register(PROBE)", &error))?;
    check(kernel_release(), |code| probe.is_supported(code))
        .map(|support| Support { no_iowait: ring.params().is_feature_no_iowait(), ..support })
}

fn check(kernel: String, knows: impl Fn(u8) -> bool) -> Result<Support, RingError> {
    let missing: Vec<&str> =
        REQUIRED.iter().filter(|(code, _)| !knows(*code)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(Support { kernel, connect: knows(opcode::Bind::CODE), no_iowait: false });
    }
    let missing = format!("the ring operations {}", missing.join(", "));
    Err(RingError::TooOld { kernel, missing, minimum: KERNEL_MINIMUM })
}

/// As `uname -r`.
pub(crate) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "(unknown)".to_owned(), |release| release.trim_end().to_owned())
}

/// Who forbade `io_uring_setup`, judged by the sysctl (absent before Linux 6.6).
pub(crate) fn forbidden(sysctl: Option<&str>) -> RingError {
    let advice = match sysctl.map(str::trim) {
        Some("2") => "kernel.io_uring_disabled is 2 (for everybody): set it to 0",
        Some("1") => {
            "kernel.io_uring_disabled is 1: set it to 0, or add this process's group to \
             kernel.io_uring_group"
        }
        _ => {
            "most likely a container's seccomp profile: permit io_uring_setup, io_uring_enter and \
             io_uring_register in it"
        }
    };
    RingError::Forbidden { advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_lacks_operations_is_told_by_name_with_the_minimum() {
        let lacks = [opcode::Socket::CODE, opcode::MsgRingData::CODE];
        let error = check("5.15.0".to_owned(), |code| !lacks.contains(&code)).unwrap_err();
        assert!(error.is_unavailable());
        assert_eq!(
            error.to_string(),
            "kernel 5.15.0 lacks the ring operations MSG_RING, SOCKET: Linux 6.1 or newer is needed"
        );
    }

    #[test]
    fn bind_alone_decides_whether_connect_works() {
        for bind in [true, false] {
            let support =
                check("6.1.0".to_owned(), |code| bind || code != opcode::Bind::CODE).unwrap();
            assert_eq!(support.connect, bind);
            assert_eq!(support.to_string().contains("NO connect (needs 6.11)"), !bind);
        }
    }

    #[test]
    fn the_advice_names_who_forbids_it() {
        for (sysctl, expected) in [
            (Some("2\n"), "io_uring_disabled is 2"),
            (Some("1\n"), "io_uring_group"),
            (Some("0\n"), "seccomp"),
            (None, "seccomp"),
        ] {
            let error = forbidden(sysctl);
            assert!(error.is_unavailable());
            assert!(error.to_string().contains(expected), "{sysctl:?}: {error}");
        }
    }
}
