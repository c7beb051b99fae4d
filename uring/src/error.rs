//! What can be wrong with the world when a ring is made or entered. What is wrong with one
//! operation stands in its completion instead.

use std::io;

use rustix::io::Errno;

/// Why a ring could not be made, or could not be entered any more.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// An option has a value no kernel accepts.
    #[error("ring option {option} is {value}: {rule}")]
    Option {
        /// Its name in [`crate::RingOptions`].
        option: &'static str,
        /// What was asked for.
        value: u64,
        /// What it must be.
        rule: &'static str,
    },
    /// The kernel has io_uring, but this process may not use it.
    #[error("io_uring is forbidden here (EPERM): {advice}")]
    Forbidden {
        /// Who forbids it, as far as can be told, and how to permit it.
        advice: &'static str,
    },
    /// The kernel was built without io_uring, or a sandbox hides the call.
    #[error(
        "the kernel has no io_uring (ENOSYS): use a kernel with CONFIG_IO_URING, or a container \
         runtime whose seccomp profile lets io_uring_setup through"
    )]
    Missing,
    /// The kernel is older than what is used here.
    #[error("kernel {kernel} lacks {missing}: Linux {minimum} or newer is needed")]
    TooOld {
        /// The running kernel's release.
        kernel: String,
        /// What it does not know.
        missing: String,
        /// The oldest kernel that has everything.
        minimum: &'static str,
    },
    /// The descriptor table may not be larger than the limit of open files.
    #[error(
        "a table of {asked} descriptors exceeds the limit of {limit} open files: raise it \
         (ulimit -n, LimitNOFILE=), or use more cores with a smaller table each"
    )]
    FilesLimit {
        /// `descriptors_max`.
        asked: u32,
        /// The soft RLIMIT_NOFILE.
        limit: u64,
    },
    /// The kernel would not give or pin the memory.
    #[error(
        "{call}: out of memory (ENOMEM): raise the limit of locked memory (ulimit -l, \
         LimitMEMLOCK=), or ask for fewer buffers and entries"
    )]
    Memory {
        /// The call that failed.
        call: &'static str,
    },
    /// Anything else.
    #[error("{call} failed: {source}")]
    Kernel {
        /// The call that failed.
        call: &'static str,
        /// What the kernel said.
        source: Errno,
    },
}

impl RingError {
    /// Whether this host cannot run rings at all, so that another driver should be tried: as
    /// opposed to a ring that was asked for wrongly or ran out of something.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Forbidden { .. } | Self::Missing | Self::TooOld { .. })
    }

    /// `call` failed with `error`.
    pub(crate) fn of(call: &'static str, error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOMEM) => Self::Memory { call },
            // Every error of the io-uring crate carries an errno; EIO stands for the impossible.
            errno => Self::Kernel { call, source: errno.unwrap_or(Errno::IO) },
        }
    }
}

/// The ring keeps as many operations with memory of their own (sends and connects) as
/// [`crate::RingOptions::flights_max`]. Handle completions, then try again; what was refused is
/// handed back.
#[derive(Debug, thiserror::Error)]
#[error("the ring's table of sends and connects is full")]
pub struct Full<T>(pub T);
