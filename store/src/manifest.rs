//! What RocksDB's manifest says of the tables.
//!
//! The manifest is a log of *edits*: which tables come and go, and through which change they
//! reach. RocksDB reads it up to the first edit that is cut short, as a loss of power leaves it,
//! and deletes the tables that no edit before it names. If edits that were on the disk are cut
//! off, so that their log files were written over, what these held is gone without a word. So this
//! is read before RocksDB opens, by the same rules, and compared with the log: what stands in no
//! log any more must be in tables.
//!
//! ```text
//! edit      field ...            in the fragments of a log file (see `walk`)
//! field     tag (varint) | value
//! ```
//!
//! The fields before "the last change" are read, what follows it is not: RocksDB writes them in
//! one order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::walk::{BLOCK_BYTES, Fragment};

/// Tags of fields, by how they are read. Those with a number for a value:
const LOG_NUMBER: u64 = 2;
const NEXT_FILE_NUMBER: u64 = 3;
const LAST_CHANGE: u64 = 4;
const PREVIOUS_LOG_NUMBER: u64 = 9;
const MIN_LOG_NUMBER: u64 = 10;
const MAX_FAMILY: u64 = 203;
/// Those with a length and so many bytes.
const COMPARATOR: u64 = 1;
const DATABASE_ID: u64 = (1 << 13) + 1;

/// The manifest that `CURRENT` names.
pub(crate) fn path(db: &Path) -> io::Result<PathBuf> {
    Ok(db.join(fs::read_to_string(db.join("CURRENT"))?.trim_end()))
}

/// Through which change the tables reach, as far as `manifest` can be read.
pub(crate) fn last_change(manifest: &Path) -> io::Result<u64> {
    let bytes = fs::read(manifest)?;
    let mut last = 0;
    let mut edit = Vec::new();
    for block in bytes.chunks(BLOCK_BYTES) {
        let mut rest = block;
        loop {
            // A manifest is never written over an old one, so no fragment has a number.
            let Ok(found) = Fragment::first(rest, 0) else { return Ok(last) };
            let Some(Fragment { part, payload, bytes }) = found else { break };
            edit.extend_from_slice(payload);
            if part == 0 || part == 3 {
                last = last.max(last_change_of(&edit).unwrap_or(0));
                edit.clear();
            }
            rest = &rest[bytes..];
        }
    }
    Ok(last)
}

/// Through which change the tables reach after an edit; `None` if it does not say.
fn last_change_of(mut edit: &[u8]) -> Option<u64> {
    loop {
        let tag = varint(&mut edit)?;
        let value = varint(&mut edit)?;
        match tag {
            LAST_CHANGE => return Some(value),
            LOG_NUMBER | NEXT_FILE_NUMBER | PREVIOUS_LOG_NUMBER | MIN_LOG_NUMBER | MAX_FAMILY => {}
            COMPARATOR | DATABASE_ID => edit = edit.get(usize::try_from(value).ok()?..)?,
            _ => return None,
        }
    }
}

/// Takes a number of seven bits a byte, the least first; all bytes but the last have the high bit.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_change_of_an_edit_is_found_behind_what_may_stand_before_it() {
        // Name, edit, what it says.
        let rows: [(&str, &[u8], Option<u64>); 7] = [
            ("alone", &[4, 7], Some(7)),
            ("of two bytes", &[4, 0x80, 1], Some(128)),
            ("behind numbers", &[2, 9, 9, 0, 3, 0xff, 1, 0xcb, 1, 4, 10, 8, 4, 6], Some(6)),
            ("behind a comparator and an id", b"\x01\x02xx\x81\x40\x01y\x04\x05", Some(5)),
            ("not said", &[2, 9], None),
            ("behind a table", &[103, 0, 4, 7], None),
            ("cut off", &[4, 0x80], None),
        ];
        for (name, edit, said) in rows {
            assert_eq!(last_change_of(edit), said, "{name}");
        }
        let longest = [[0xff; 9].as_slice(), &[1]].concat();
        assert_eq!(varint(&mut longest.as_slice()), Some(u64::MAX));
        assert_eq!(varint(&mut [0xff; 11].as_slice()), None);
    }
}
