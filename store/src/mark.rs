//! The mark: how the store knows its own log records, and how far the log was on the disk.
//!
//! RocksDB counts *changes*. Every write that the store makes begins with a blob in the log that is
//! in no table: 28 bytes, no put.
//!
//! ```text
//! blob      mark (16) | on the disk through change (8) | CRC-32C of both (4)
//! DURABLE   on the disk through change (8) | CRC-32C of mark and number (4)
//! ```
//!
//! The mark is drawn when the directory is made (`FORMAT`) and told to nobody. So whatever else the
//! log files hold, bodies of messages in an old log that is written over for instance, a blob of
//! this directory is from this store.
//!
//! The number says what was on the disk *when the blob was written*: it is true for ever, wherever
//! the blob is found. `DURABLE` says it once more for the newest write, after its sync and before
//! anything of it is acknowledged. It is written into the page cache and not synced, so it costs a
//! system call a group. A process that is killed leaves it exact; a loss of power may leave an
//! older number, which is as true.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes of the mark itself.
const MARK_BYTES: usize = 16;

/// Bytes of a blob.
pub(crate) const BLOB_BYTES: usize = MARK_BYTES + NUMBER_BYTES;

/// Bytes of a number with its checksum, which is all that `DURABLE` holds.
const NUMBER_BYTES: usize = 8 + 4;

/// The mark of a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark([u8; MARK_BYTES]);

/// Without its bytes: whoever reads a log could forge a record.
impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

impl Mark {
    pub(crate) const fn new(random: [u8; MARK_BYTES]) -> Self {
        Self(random)
    }

    /// As `FORMAT` has it.
    pub(crate) fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// `None` if it is not 32 hexadecimal digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 2 * MARK_BYTES {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }

    pub(crate) const fn bytes(&self) -> &[u8; MARK_BYTES] {
        &self.0
    }

    /// The blob that says "on the disk through `change`".
    pub(crate) fn blob(&self, change: u64) -> [u8; BLOB_BYTES] {
        let mut blob = [0; BLOB_BYTES];
        blob[..MARK_BYTES].copy_from_slice(&self.0);
        blob[MARK_BYTES..].copy_from_slice(&self.number(change));
        blob
    }

    /// What a blob says, if it is one of this directory.
    pub(crate) fn read_blob(&self, blob: &[u8]) -> Option<u64> {
        let number = blob.strip_prefix(&self.0)?.first_chunk()?;
        self.read_number(number)
    }

    fn number(&self, change: u64) -> [u8; NUMBER_BYTES] {
        let mut number = [0; NUMBER_BYTES];
        let change = change.to_le_bytes();
        number[..8].copy_from_slice(&change);
        number[8..].copy_from_slice(&self.checksum(&change).to_le_bytes());
        number
    }

    fn read_number(&self, number: &[u8; NUMBER_BYTES]) -> Option<u64> {
        let (change, checksum) = number.split_first_chunk()?;
        (*checksum == self.checksum(change).to_le_bytes()).then_some(u64::from_le_bytes(*change))
    }

    fn checksum(&self, change: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.0), change)
    }
}

/// The file `DURABLE`, open for writing.
#[derive(Debug)]
pub(crate) struct Durable {
    mark: Mark,
    file: File,
    through: AtomicU64,
    /// A write failed and was logged: once is enough.
    failed: AtomicBool,
}

impl Durable {
    /// Makes the file, saying `through`, and puts it on the disk. Its place is allocated and its
    /// size does not change any more.
    pub(crate) fn make(path: &Path, mark: Mark, through: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.write_all_at(&mark.number(through), 0)?;
        file.sync_all()?;
        Ok(Self { mark, file, through: AtomicU64::new(through), failed: AtomicBool::new(false) })
    }

    /// What the file says; `None` if it is missing or not what was written.
    pub(crate) fn read(path: &Path, mark: &Mark) -> io::Result<Option<u64>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(bytes.as_slice().try_into().ok().and_then(|it| mark.read_number(it))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The blob for the next write.
    pub(crate) fn blob(&self) -> [u8; BLOB_BYTES] {
        self.mark.blob(self.through.load(Ordering::Relaxed))
    }

    /// All changes through `change` are on the disk. A failure is logged and does no harm: the old
    /// number stays true.
    pub(crate) fn advance(&self, change: u64) {
        self.through.store(change, Ordering::Relaxed);
        if let Err(error) = self.file.write_all_at(&self.mark.number(change), 0)
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "cannot write DURABLE: a damaged log would be noticed later");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark::new([0x5a; 16]);

    #[test]
    fn a_blob_is_read_back_and_nobody_elses_is() {
        let blob = MARK.blob(7);
        assert_eq!(MARK.read_blob(&blob), Some(7));
        assert_eq!(Mark::new([0x5b; 16]).read_blob(&blob), None);
        for at in 0..BLOB_BYTES * 8 {
            let mut flipped = blob;
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(MARK.read_blob(&flipped), None, "bit {at}");
            assert_eq!(MARK.read_blob(&blob[..at / 8]), None, "{} bytes", at / 8);
        }
        assert_eq!(Mark::from_hex(&MARK.to_hex()), Some(MARK));
        assert_eq!(Mark::from_hex("+5a"), None);
    }

    #[test]
    fn the_file_says_the_last_number_or_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("DURABLE");
        assert_eq!(Durable::read(&path, &MARK).expect("it is missing"), None);
        let durable = Durable::make(&path, MARK, 3).expect("a writable folder");
        assert_eq!(Durable::read(&path, &MARK).expect("it is there"), Some(3));
        durable.advance(9);
        assert_eq!(Durable::read(&path, &MARK).expect("it is there"), Some(9));
        assert_eq!(MARK.read_blob(&durable.blob()), Some(9));
        std::fs::write(&path, [0; 12]).expect("a writable folder");
        assert_eq!(Durable::read(&path, &MARK).expect("it is there"), None);
    }
}
