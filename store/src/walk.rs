//! A walk over RocksDB's log files before RocksDB opens them.
//!
//! RocksDB recovers up to the first record that it cannot read and drops what is behind it: right
//! for the torn end that a loss of power leaves, and silent when the disk has damaged what was
//! long acknowledged. It also takes for its own whatever parses as a record where its log ends;
//! with log files that are written over old ones, that place holds old bodies of messages. So the
//! walk reads the same records by the same rules, changes nothing, and says:
//!
//! * through which change the log can be read (`last`),
//! * through which change it must be readable: the highest number that any blob of ours says,
//!   readable or behind a hole, in whichever file (`durable`),
//! * where records begin that nobody here wrote (`foreign`),
//! * from which change on nothing is missing up to `last` (`since`): what is before it must be in
//!   tables, and what the tables hold only the manifest says.
//!
//! # A log file
//!
//! Blocks of 32 KiB; a record is one fragment or several, none of which crosses a block.
//!
//! ```text
//! fragment  CRC-32C, masked (4) | length (2) | type (1) | log number (4) | payload
//! record    first change (8) | count of changes (4) | blob | changes ...
//! ```
//!
//! Types 5 to 8 are whole, first, middle and last; without recycling 1 to 4, and no log number.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;

use crate::mark::{BLOB_BYTES, Mark};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 32 << 10;

/// Bytes of a fragment's head, without and with the number of the log.
const HEAD_BYTES: usize = 7;
const HEAD_BYTES_RECYCLED: usize = 11;

/// Bytes of a record that tell whose it is: its head, the tag and length of the blob, the blob.
const OPENING_BYTES: usize = 12 + LOG_DATA.len() + BLOB_BYTES;

/// What RocksDB puts before a blob that is in the log only: its tag, and the blob's length.
const LOG_DATA: [u8; 2] = [3, 28];
const _: () = assert!(LOG_DATA[1] as usize == BLOB_BYTES);

/// A place in a log file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
}

impl Place {
    /// Cuts the file off here.
    pub(crate) fn cut(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.file)?;
        file.set_len(self.offset)?;
        file.sync_all()
    }
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The last change that can be read; 0 if there is none in the log.
    pub(crate) last: u64,
    /// The first change of those that can be read without a gap up to `last`; 0 if there is none.
    pub(crate) since: u64,
    /// The highest change that a blob says was on the disk.
    pub(crate) durable: u64,
    /// Changes are missing between two files: either the first of them was no longer needed, or
    /// its end is damaged.
    pub(crate) has_gap: bool,
    /// Where reading ended: of the file before the gap, or of the last one with a record.
    pub(crate) end: Option<Place>,
    /// The first record that can be read and is not ours.
    pub(crate) foreign: Option<Place>,
}

impl Walk {
    /// Walks over all log files in `db`, in the order of their numbers.
    pub(crate) fn over(db: &Path, mark: &Mark) -> io::Result<Self> {
        let mut walk = Self::default();
        let finder = Finder::new(mark.bytes());
        for (number, path) in log_files(db)? {
            LogFile::new(&mut walk, mark, number, &path).read(&finder)?;
        }
        Ok(walk)
    }
}

/// Number and path of each log file, ascending.
fn log_files(db: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(db)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| is_log) {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The record that is being put together.
struct Record {
    at: u64,
    /// Its first bytes, enough to tell whose it is.
    opening: Vec<u8>,
}

/// One file on the walk.
struct LogFile<'a> {
    walk: &'a mut Walk,
    mark: &'a Mark,
    /// RocksDB keeps the lower half.
    number: u32,
    path: &'a Path,
    /// A whole record was read from it.
    has_record: bool,
    record: Option<Record>,
}

/// Reading of a file ends here.
pub(crate) struct End;

/// A fragment of a record.
pub(crate) struct Fragment<'a> {
    /// Whole 0, first 1, middle 2, last 3.
    pub(crate) part: u8,
    pub(crate) payload: &'a [u8],
    /// Its bytes with its head.
    pub(crate) bytes: usize,
}

impl<'a> Fragment<'a> {
    /// The one at the beginning of `rest`, the rest of a block of the log file `number`; `None`
    /// where the block ends.
    pub(crate) fn first(rest: &'a [u8], number: u32) -> Result<Option<Self>, End> {
        // What is too short for a head is filled up with zeros.
        let Some(head) = rest.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let kind = head[6];
        let head_bytes = match kind {
            1..=4 => HEAD_BYTES,
            5..=8 if rest.len() < HEAD_BYTES_RECYCLED => return Ok(None),
            5..=8 => HEAD_BYTES_RECYCLED,
            _ => return Err(End),
        };
        let bytes = head_bytes + usize::from(u16::from_le_bytes([head[4], head[5]]));
        let fragment = rest.get(..bytes).ok_or(End)?;
        let (head, payload) = fragment.split_at(head_bytes);
        let is_of_this_log = kind < 5 || head[7..] == number.to_le_bytes();
        let expected = unmasked(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
        if !is_of_this_log || crc32c::crc32c(&fragment[6..]) != expected {
            return Err(End);
        }
        Ok(Some(Self { part: (kind - 1) % 4, payload, bytes }))
    }
}

impl<'a> LogFile<'a> {
    fn new(walk: &'a mut Walk, mark: &'a Mark, number: u64, path: &'a Path) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "as RocksDB does")]
        let number = number as u32;
        Self { walk, mark, number, path, has_record: false, record: None }
    }

    fn read(mut self, finder: &Finder<'_>) -> io::Result<()> {
        self.walk.end.get_or_insert_with(|| Place { file: self.path.to_owned(), offset: 0 });
        let mut file = File::open(self.path)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let mut offset = 0;
        let mut readable = true;
        loop {
            block.clear();
            (&mut file).take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
            if block.is_empty() {
                return Ok(());
            }
            // Also behind the end: what a blob says is true wherever it stands.
            for at in finder.find_iter(&block) {
                let said = self.mark.read_blob(&block[at..]).unwrap_or(0);
                self.walk.durable = self.walk.durable.max(said);
            }
            readable = readable && self.read_block(&block, offset).is_ok();
            offset += block.len() as u64;
        }
    }

    /// The fragments of a block.
    fn read_block(&mut self, block: &[u8], offset: u64) -> Result<(), End> {
        let mut rest = block;
        loop {
            let at = offset + (block.len() - rest.len()) as u64;
            let Some(Fragment { part, payload, bytes }) = Fragment::first(rest, self.number)?
            else {
                return Ok(());
            };
            self.take_fragment(part, payload, at)?;
            rest = &rest[bytes..];
            if self.record.is_none() {
                self.stand_at(at + bytes as u64);
            }
        }
    }

    fn take_fragment(&mut self, part: u8, payload: &[u8], at: u64) -> Result<(), End> {
        let is_first = part < 2;
        if is_first != self.record.is_none() {
            return Err(End);
        }
        let record = self
            .record
            .get_or_insert_with(|| Record { at, opening: Vec::with_capacity(OPENING_BYTES) });
        let wanted = OPENING_BYTES.saturating_sub(record.opening.len()).min(payload.len());
        record.opening.extend_from_slice(&payload[..wanted]);
        match self.record.take_if(|_| part == 0 || part == 3) {
            Some(record) => self.take_record(&record),
            None => Ok(()),
        }
    }

    fn take_record(&mut self, Record { at, opening }: &Record) -> Result<(), End> {
        let Some((first, rest)) = opening.split_first_chunk() else { return Err(End) };
        let Some((count, rest)) = rest.split_first_chunk() else { return Err(End) };
        let (first, count) = (u64::from_le_bytes(*first), u32::from_le_bytes(*count));
        // RocksDB itself writes one without changes after it has stopped at a hole.
        if count > 0 && !self.is_ours(rest) {
            let foreign = Place { file: self.path.to_owned(), offset: *at };
            self.walk.foreign.get_or_insert(foreign);
            return Err(End);
        }
        let last = first.saturating_add(count.into()).saturating_sub(1);
        if first > self.walk.last + 1 {
            self.walk.has_gap |= self.walk.last > 0;
            self.walk.since = first;
        } else if self.walk.since == 0 {
            self.walk.since = first;
        }
        self.has_record = true;
        self.walk.last = self.walk.last.max(last);
        Ok(())
    }

    fn is_ours(&self, changes: &[u8]) -> bool {
        changes.strip_prefix(&LOG_DATA).is_some_and(|blob| self.mark.read_blob(blob).is_some())
    }

    /// Reading has come to `offset`, between two records.
    fn stand_at(&mut self, offset: u64) {
        if self.has_record && !self.walk.has_gap {
            self.walk.end = Some(Place { file: self.path.to_owned(), offset });
        }
    }
}

/// The log keeps its checksums masked, as they would otherwise be checksums of checksums.
const fn unmasked(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}
