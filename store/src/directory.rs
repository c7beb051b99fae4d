//! The data directory: who it is, and that one process has it.
//!
//! ```text
//! FORMAT   identity (TOML): version, shards, epoch, ...; replaced whole, never changed in place
//! LOCK     locked as long as a process has the directory; holds its number
//! DURABLE  through which change the database's log was on the disk (see `mark`)
//! db/      RocksDB
//! keys/    others' (not looked at)
//! ```
//!
//! Making one takes three steps, so that a crash between them is told from a loss afterwards:
//! `FORMAT` with `ready = false`, then `db/` and `DURABLE`, then `FORMAT` with `ready = true`. An
//! unready directory has acknowledged nothing and is simply made again; a ready one without `db/`
//! has lost it, and must not start empty under the same epoch.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, fsync, statvfs};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use wire::Timestamp;

use crate::error::DirectoryError;
use crate::mark::{Durable, Mark};

/// The version of the layout: 2 has the mark and `DURABLE`.
const VERSION: u32 = 2;

const FORMAT: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
const LOCK: &str = "LOCK";
const DURABLE: &str = "DURABLE";
const DB: &str = "db";

/// Names that may lie in a directory that is not made yet.
const HARMLESS: [&str; 4] = [LOCK, FORMAT_NEW, "keys", "lost+found"];

/// Who a data directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Partitions; fixed when it was made.
    pub shards: u16,
    /// Names this inbox history: another number means that cursors of clients are void.
    pub epoch: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// `FORMAT` as it is written. `end` is its last line: without it the file was cut short.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    version: u32,
    shards: u16,
    /// Hexadecimal: TOML's integers have 63 bits.
    epoch: String,
    /// Hexadecimal.
    mark: String,
    created_at: u64,
    ready: bool,
    end: String,
}

const END: &str = "of FORMAT";

/// Just enough of it to tell its version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A data directory that this process has locked.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    identity: Identity,
    mark: Mark,
    ready: bool,
    /// Locked until dropped.
    _lock: File,
}

impl Directory {
    /// Locks the directory at `path`; makes one of `shards` partitions if it is absent or empty.
    pub(crate) fn open(path: &Path, shards: u16, now: Timestamp) -> Result<Self, DirectoryError> {
        fs::create_dir_all(path).map_err(access("make", path))?;
        let found = first_foreign(path)?;
        let made = path.join(FORMAT).try_exists().map_err(access("look at", path))?;
        if !made && let Some(found) = found {
            return Err(DirectoryError::Foreign { path: path.to_owned(), found });
        }
        let lock = lock(path)?;
        if made {
            let (identity, mark, ready) = read_format(&path.join(FORMAT))?;
            return Ok(Self { path: path.to_owned(), identity, mark, ready, _lock: lock });
        }
        let identity = Identity { shards, epoch: new_epoch(path)?, created_at: now };
        let mark = Mark::new(random(path)?);
        let directory = Self { path: path.to_owned(), identity, mark, ready: false, _lock: lock };
        directory.write_format()?;
        Ok(directory)
    }

    /// The folder of the database, and whether it must exist already.
    pub(crate) fn database(&self) -> Result<(PathBuf, bool), DirectoryError> {
        let db = self.path.join(DB);
        let exists = db.join("CURRENT").try_exists().map_err(access("look at", &db))?;
        if self.ready && !exists {
            return Err(DirectoryError::DatabaseMissing { path: db });
        }
        Ok((db, self.ready))
    }

    /// The database is made, or opened, with all changes through `change`: from now on they must
    /// be there.
    pub(crate) fn set_ready(&mut self, change: u64) -> Result<Durable, DirectoryError> {
        let path = self.path.join(DURABLE);
        let durable = Durable::make(&path, self.mark, change).map_err(access("write", &path))?;
        if !self.ready {
            self.ready = true;
            self.write_format()?;
        }
        Ok(durable)
    }

    /// Through which change the database must be readable; `None` before it is made.
    pub(crate) fn durable(&self) -> Result<Option<u64>, DirectoryError> {
        if !self.ready {
            return Ok(None);
        }
        let path = self.path.join(DURABLE);
        match Durable::read(&path, &self.mark).map_err(access("read", &path))? {
            Some(change) => Ok(Some(change)),
            None => Err(DirectoryError::DurableUnreadable { path, data: self.path.clone() }),
        }
    }

    /// Begins another inbox history, after changes of the present one were lost: places will be
    /// given out again, so no device may go on by its cursor. Takes effect on the disk with the
    /// next `set_ready`.
    pub(crate) fn renew(&mut self) -> Result<(), DirectoryError> {
        self.identity.epoch = new_epoch(&self.path)?;
        self.mark = Mark::new(random(&self.path)?);
        self.ready = false;
        Ok(())
    }

    pub(crate) const fn mark(&self) -> &Mark {
        &self.mark
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Writes `FORMAT` beside the old one, syncs it and puts it in the old one's place.
    fn write_format(&self) -> Result<(), DirectoryError> {
        let format = Format {
            version: VERSION,
            shards: self.identity.shards,
            epoch: format!("{:016x}", self.identity.epoch),
            mark: self.mark.to_hex(),
            created_at: self.identity.created_at.0,
            ready: self.ready,
            end: END.to_owned(),
        };
        let text = toml::to_string(&format).expect("a flat table of numbers and strings");
        let (new, old) = (self.path.join(FORMAT_NEW), self.path.join(FORMAT));
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &old)?;
            Ok(fsync(File::open(&self.path)?)?)
        };
        write().map_err(access("write", &old))
    }
}

/// Free bytes for this user on the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The first name, in their order, that a directory not yet made may not hold.
fn first_foreign(path: &Path) -> Result<Option<String>, DirectoryError> {
    let mut first = None;
    for entry in fs::read_dir(path).map_err(access("list", path))? {
        let name = entry.map_err(access("list", path))?.file_name();
        let is_harmless = HARMLESS.iter().any(|harmless| name == *harmless);
        if !is_harmless && first.as_ref().is_none_or(|first| name < *first) {
            first = Some(name);
        }
    }
    Ok(first.map(|name| name.to_string_lossy().into_owned()))
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let lock_path = path.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(access("write", &lock_path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(DirectoryError::Locked { path: path.to_owned(), pid });
        }
        Err(errno) => return Err(access("lock", &lock_path)(errno.into())),
    }
    let write = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(access("write", &lock_path))?;
    Ok(file)
}

fn read_format(path: &Path) -> Result<(Identity, Mark, bool), DirectoryError> {
    let damaged = |what: String| DirectoryError::Damaged { path: path.to_owned(), what };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(damaged("it is not text".to_owned()));
        }
        Err(error) => return Err(access("read", path)(error)),
    };
    let Version { version } =
        toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    if version != VERSION {
        return Err(DirectoryError::Version {
            path: path.to_owned(),
            found: version,
            known: VERSION,
        });
    }
    let format: Format =
        toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    let epoch = u64::from_str_radix(&format.epoch, 16);
    let epoch = epoch.map_err(|error| damaged(format!("epoch: {error}")))?;
    let mark = Mark::from_hex(&format.mark).filter(|_| {
        let Format { ref end, shards, .. } = format;
        end == END && shards > 0 && epoch > 0
    });
    let mark = mark.ok_or_else(|| damaged("a value is out of its range".to_owned()))?;
    let created_at = Timestamp(format.created_at);
    Ok((Identity { shards: format.shards, epoch, created_at }, mark, format.ready))
}

/// A random number that is not 0: to a client, epoch 0 means "never connected".
fn new_epoch(path: &Path) -> Result<u64, DirectoryError> {
    Ok(u64::from_ne_bytes(random(path)?).max(1))
}

fn random<const N: usize>(path: &Path) -> Result<[u8; N], DirectoryError> {
    let mut bytes = [0; N];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|errno| access("draw random numbers for", path)(errno.into()))?;
    Ok(bytes)
}

fn access<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> DirectoryError + 'a {
    move |source| DirectoryError::Access { action, path: path.to_owned(), source }
}
