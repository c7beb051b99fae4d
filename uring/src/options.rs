//! How large a ring is. Everything is taken when the ring is made; nothing grows later.

use rustix::process::{Resource, getrlimit};

use crate::buffers::{BUFFER_BYTES_MAX, BUFFERS_MAX};
use crate::error::RingError;
use crate::ops::CHAIN_MAX;
use crate::token::Token;

/// The sizes of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingOptions {
    /// Entries of the submission queue: a power of two, 8 to 32,768. When it is full it is
    /// submitted, which costs one system call and nothing else.
    pub sq_entries: u32,
    /// Entries of the completion queue: a power of two, more than `sq_entries`, up to 65,536. Each
    /// buffer and each flight may complete before the caller looks, so it should be no smaller than
    /// their sum. When it is full, completions wait in kernel memory and multishot operations end
    /// (to be armed again); [`crate::Stats::overflows`] counts it.
    pub cq_entries: u32,
    /// Entries of the table of direct descriptors, at most the limit of open files. When it is full
    /// the next connection accepted is lost: stop accepting before.
    pub descriptors_max: u32,
    /// Sends and connects in flight together. At the bound they are refused, with [`crate::Full`].
    /// A caller with one send in flight a connection asks for `descriptors_max`.
    pub flights_max: u32,
    /// Receive buffers: a power of two, 1 to 32,768. When none is free, receives end with
    /// [`crate::Completion::BuffersExhausted`].
    pub buffers: u16,
    /// Bytes of each receive buffer, 1 to 1 MiB. Longer data takes several.
    pub buffer_bytes: u32,
}

impl Default for RingOptions {
    /// For some thousands of connections with chat-sized frames; about 5 MiB, touched as used.
    fn default() -> Self {
        Self {
            sq_entries: 1024,
            cq_entries: 8192,
            descriptors_max: 4096,
            flights_max: 4096,
            buffers: 2048,
            buffer_bytes: 2048,
        }
    }
}

impl RingOptions {
    /// That the kernel will accept these sizes, told in words rather than by EINVAL.
    pub(crate) fn check(&self) -> Result<(), RingError> {
        let rows: [(&str, u32, bool, &str); 6] = [
            (
                "sq_entries",
                self.sq_entries,
                self.sq_entries.is_power_of_two() && (8..=1 << 15).contains(&self.sq_entries),
                "it must be a power of two from 8 to 32768",
            ),
            (
                "cq_entries",
                self.cq_entries,
                self.cq_entries.is_power_of_two()
                    && self.cq_entries > self.sq_entries
                    && self.cq_entries <= 1 << 16,
                "it must be a power of two above sq_entries, up to 65536",
            ),
            (
                "descriptors_max",
                self.descriptors_max,
                (1..=1 << 20).contains(&self.descriptors_max),
                "it must be from 1 to 1048576",
            ),
            (
                "flights_max",
                self.flights_max,
                (1..=Token::SLOT_MAX).contains(&self.flights_max),
                "it must be from 1 to 16777215",
            ),
            (
                "buffers",
                u32::from(self.buffers),
                self.buffers.is_power_of_two() && self.buffers <= BUFFERS_MAX,
                "it must be a power of two from 1 to 32768",
            ),
            (
                "buffer_bytes",
                self.buffer_bytes,
                (1..=BUFFER_BYTES_MAX).contains(&self.buffer_bytes),
                "it must be from 1 to 1048576",
            ),
        ];
        for (option, value, holds, rule) in rows {
            if !holds {
                return Err(RingError::Option { option, value: u64::from(value), rule });
            }
        }
        self.check_files(getrlimit(Resource::Nofile).current)
    }

    fn check_files(&self, limit: Option<u64>) -> Result<(), RingError> {
        match limit {
            Some(limit) if u64::from(self.descriptors_max) > limit => {
                Err(RingError::FilesLimit { asked: self.descriptors_max, limit })
            }
            _ => Ok(()),
        }
    }
}

// A chain of linked entries must go into one submission.
const _: () = assert!(CHAIN_MAX <= 8, "the smallest submission queue must hold a whole chain");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_the_kernel_would_refuse_are_refused_by_name() {
        let good = RingOptions::default();
        let rows = [
            ("sq_entries is 100", RingOptions { sq_entries: 100, ..good }),
            ("sq_entries is 4", RingOptions { sq_entries: 4, ..good }),
            ("cq_entries is 1024", RingOptions { cq_entries: 1024, ..good }),
            ("cq_entries is 131072", RingOptions { cq_entries: 1 << 17, ..good }),
            ("descriptors_max is 0", RingOptions { descriptors_max: 0, ..good }),
            ("flights_max is 0", RingOptions { flights_max: 0, ..good }),
            ("buffers is 100", RingOptions { buffers: 100, ..good }),
            ("buffers is 0", RingOptions { buffers: 0, ..good }),
            ("buffer_bytes is 0", RingOptions { buffer_bytes: 0, ..good }),
        ];
        for (expected, options) in rows {
            let error = options.check().unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.is_unavailable(), "{error}");
        }
        good.check().unwrap();
    }

    #[test]
    fn a_table_beyond_the_limit_of_open_files_is_refused_with_both_numbers() {
        let options = RingOptions { descriptors_max: 5000, ..RingOptions::default() };
        let error = options.check_files(Some(4999)).unwrap_err().to_string();
        assert!(error.contains("5000") && error.contains("4999"), "{error}");
        options.check_files(Some(5000)).unwrap();
        options.check_files(None).unwrap();
    }
}
