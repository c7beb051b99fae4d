//! A store in one file: a log of records, made short again now and then.
//!
//! ```text
//!  "mooring client 1\n"  record  record  ...
//!  record: bytes of the rest (u32)  CRC-32C of the rest (u32)  kind (u8)  id or epoch (u64)  value
//!    kind 1, a request:  value = its frame (a `ClientFrame` of the schema)
//!    kind 2, it is over: no value
//!    kind 3, the cursor: value = the place (u64)
//! ```
//!
//! Numbers are little-endian. A record that the file's end cuts short was being written when the
//! power went, and nobody was told that it is there: it is cut off. Damage anywhere else is an
//! error, since what follows it may be a message that nobody else has.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use wire::{Encoder, Epoch, InboxSeq, decode_client};

use crate::machine::{RequestId, Saved};
use crate::request::Request;
use crate::store::Store;

const MAGIC: &[u8] = b"mooring client 1\n";
const HEAD_BYTES: usize = 8;
const KIND_REQUEST: u8 = 1;
const KIND_OVER: u8 = 2;
const KIND_CURSOR: u8 = 3;

/// Bytes of records that say nothing any more, before the file is written anew.
const WASTE_BYTES_MAX: u64 = 1024 * 1024;

/// The longest rest: kind, id and the longest frame.
const REST_BYTES_MAX: usize = 1 + 8 + wire::limits::CLIENT_FRAME_BYTES_MAX;

/// See the module's documentation. The file is locked: one process at a time has it.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    file: File,
    encoder: Encoder,
    /// Frames of the requests that are not over.
    requests: BTreeMap<u64, Vec<u8>>,
    cursor: (Epoch, InboxSeq),
    bytes: u64,
    /// A write failed: what is in the file is not known.
    is_broken: bool,
}

impl FileStore {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// It cannot be opened, or another process has it.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = open_locked(&path)?;
        Ok(Self {
            path,
            file,
            encoder: Encoder::new(4096),
            requests: BTreeMap::new(),
            cursor: (Epoch::NONE, InboxSeq::ZERO),
            bytes: 0,
            is_broken: false,
        })
    }

    fn append(&mut self, kind: u8, id: u64, value: &[u8], sync: bool) -> io::Result<()> {
        if self.is_broken {
            let text = "an earlier write failed; restart the client once the disk is well";
            return Err(io::Error::other(format!("{}: {text}", self.path.display())));
        }
        let record = record(kind, id, value);
        let mut written = self.file.write_all(&record);
        if sync {
            written = written.and_then(|()| self.file.sync_data());
        }
        self.is_broken = written.is_err();
        self.bytes += record.len() as u64;
        written.map_err(|error| named(&self.path, &error))
    }

    /// Writes what still holds into a new file, which takes the place of the old one.
    fn shorten(&mut self) -> io::Result<()> {
        let path = self.path.with_extension("new");
        let mut bytes = MAGIC.to_vec();
        let (epoch, cursor) = self.cursor;
        bytes.extend(record(KIND_CURSOR, epoch.0, &cursor.get().to_le_bytes()));
        for (id, frame) in &self.requests {
            bytes.extend(record(KIND_REQUEST, *id, frame));
        }
        let mut file = open_locked(&path)?;
        file.set_len(0)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&path, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        self.file = file;
        self.bytes = bytes.len() as u64;
        Ok(())
    }

    fn shorten_if_long(&mut self) -> io::Result<()> {
        let held: usize = self.requests.values().map(Vec::len).sum();
        if self.bytes < WASTE_BYTES_MAX + 2 * held as u64 {
            return Ok(());
        }
        self.shorten().map_err(|error| named(&self.path, &error))
    }

    /// Takes one record; `None` where the file's end cuts it short.
    fn take(&mut self, rest: &[u8], at: usize) -> io::Result<Option<usize>> {
        let Some((head, body)) = rest.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [length, sum] = [0, 4]
            .map(|from| u32::from_le_bytes(head[from..from + 4].try_into().expect("four bytes")));
        let length = length as usize;
        let damaged = |what: &str| {
            let path = self.path.display();
            let text = format!("{path}: {what} at byte {at}; move the file away to begin anew");
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        if !(9..=REST_BYTES_MAX).contains(&length) {
            return Err(damaged("no record"));
        }
        let Some(body) = body.get(..length) else { return Ok(None) };
        if crc32c::crc32c(body) != sum {
            // The last record may be there in length and not in content.
            let is_last = rest.len() == HEAD_BYTES + length;
            return if is_last { Ok(None) } else { Err(damaged("a damaged record")) };
        }
        let (kind, body) = body.split_first().expect("at least nine bytes");
        let (id, value) = body.split_first_chunk::<8>().expect("at least eight bytes");
        let id = u64::from_le_bytes(*id);
        match *kind {
            KIND_REQUEST => drop(self.requests.insert(id, value.to_vec())),
            KIND_OVER => drop(self.requests.remove(&id)),
            KIND_CURSOR => {
                let place = value.try_into().map_err(|_| damaged("no cursor"))?;
                self.cursor = (Epoch(id), InboxSeq::new(u64::from_le_bytes(place)));
            }
            _ => return Err(damaged("a record of a later version")),
        }
        Ok(Some(HEAD_BYTES + length))
    }

    fn saved(&self) -> io::Result<Saved> {
        let (epoch, cursor) = self.cursor;
        let request = |(id, frame): (&u64, &Vec<u8>)| {
            let frame = decode_client(frame).ok();
            let request = frame.and_then(|frame| Request::from_body(&frame.body));
            let text = || format!("{}: request {id} is no request", self.path.display());
            let request =
                request.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text()))?;
            Ok((RequestId(*id), request))
        };
        let requests = self.requests.iter().map(request).collect::<io::Result<_>>()?;
        Ok(Saved { epoch, cursor, requests })
    }
}

impl Store for FileStore {
    fn load(&mut self) -> io::Result<Saved> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut bytes)?;
        let is_cut_short = MAGIC.starts_with(&bytes);
        if !is_cut_short {
            if !bytes.starts_with(MAGIC) {
                let text = format!("{}: not a store of this client", self.path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            let mut at = MAGIC.len();
            while let Some(taken) = self.take(&bytes[at..], at)? {
                at += taken;
            }
        }
        let saved = self.saved()?;
        self.shorten().map_err(|error| named(&self.path, &error))?;
        Ok(saved)
    }

    fn add(&mut self, id: RequestId, request: &Request) -> io::Result<()> {
        let frame = self.encoder.client(0, request.as_body(false)).to_vec();
        self.append(KIND_REQUEST, id.0, &frame, true)?;
        self.requests.insert(id.0, frame);
        Ok(())
    }

    fn remove(&mut self, id: RequestId) -> io::Result<()> {
        if self.requests.remove(&id.0).is_none() {
            return Ok(());
        }
        self.append(KIND_OVER, id.0, &[], false)?;
        self.shorten_if_long()
    }

    fn keep(&mut self, epoch: Epoch, cursor: InboxSeq) -> io::Result<()> {
        self.cursor = (epoch, cursor);
        self.append(KIND_CURSOR, epoch.0, &cursor.get().to_le_bytes(), false)?;
        self.shorten_if_long()
    }
}

fn open_locked(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| named(path, &error))?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => {
            let text = format!("{}: another process has it; give each its own", path.display());
            io::Error::new(io::ErrorKind::WouldBlock, text)
        }
        std::fs::TryLockError::Error(error) => named(path, &error),
    })?;
    Ok(file)
}

fn record(kind: u8, id: u64, value: &[u8]) -> Vec<u8> {
    let mut rest = vec![kind];
    rest.extend(id.to_le_bytes());
    rest.extend(value);
    let length = u32::try_from(rest.len()).expect("a frame is short");
    let mut record = length.to_le_bytes().to_vec();
    record.extend(crc32c::crc32c(&rest).to_le_bytes());
    record.extend(rest);
    record
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use wire::{ChannelId, Nonce};

    use super::*;

    fn post(nonce: u64) -> Request {
        let channel = ChannelId::numbered(7).unwrap();
        Request::Post { channel, nonce: Nonce(nonce), kind: 0, body: "hello".into() }
    }

    fn filled(path: &Path) {
        let mut store = FileStore::open(path).unwrap();
        assert_eq!(store.load().unwrap(), Saved::default());
        for id in 1..=3 {
            store.add(RequestId(id), &post(id * 10)).unwrap();
        }
        store.keep(Epoch(5), InboxSeq::new(77)).unwrap();
        store.remove(RequestId(2)).unwrap();
    }

    fn load(path: &Path) -> io::Result<Saved> {
        FileStore::open(path)?.load()
    }

    #[test]
    fn what_was_stored_is_loaded_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        filled(&path);
        let requests = [1, 3].map(|id| (RequestId(id), post(id * 10))).to_vec();
        let expected = Saved { epoch: Epoch(5), cursor: InboxSeq::new(77), requests };
        assert_eq!(load(&path).unwrap(), expected);
        assert_eq!(load(&path).unwrap(), expected);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_loads_what_was_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        filled(&path);
        let whole = std::fs::read(&path).unwrap();
        let mut counts = Vec::new();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            counts.push(load(&path).unwrap().requests.len());
        }
        counts.dedup();
        assert_eq!(counts, [0, 1, 2, 3], "each request is there from its last byte on");
    }

    #[test]
    fn damage_before_the_end_is_an_error_that_names_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        filled(&path);
        let whole = std::fs::read(&path).unwrap();
        let first = MAGIC.len() + HEAD_BYTES + 17; // The cursor's record, after the magic.
        let rows = [(0, "not a store"), (first + HEAD_BYTES + 30, "a damaged record at byte 42")];
        for (at, words) in rows {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let error = load(&path).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn the_file_stays_short_and_belongs_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let mut store = FileStore::open(&path).unwrap();
        store.load().unwrap();
        let error = FileStore::open(&path).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        for place in 0..100_000 {
            store.keep(Epoch(1), InboxSeq::new(place)).unwrap();
        }
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes <= WASTE_BYTES_MAX + 100, "{bytes}");
        store.add(RequestId(9), &post(1)).unwrap();
        drop(store);
        let saved = load(&path).unwrap();
        assert_eq!((saved.cursor, saved.requests.len()), (InboxSeq::new(99_999), 1));
    }
}
