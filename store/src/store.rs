//! An opened store: the directory is this process's, and everything in it is recovered.

use std::path::Path;
use std::sync::Arc;

use crate::check::{CheckReport, check};
use crate::clock;
use crate::directory::{Directory, Identity};
use crate::engine::Engine;
use crate::error::{DataError, LogError, StoreError};
use crate::manifest;
use crate::options::Options;
use crate::recover::{RecoveryReport, recover};
use crate::rocks::Rocks;
use crate::service::{Hooks, Service};
use crate::walk::{Place, Walk};

/// A recovered store whose threads have not been started.
#[derive(Debug)]
pub struct Store<E = Rocks> {
    engine: Arc<E>,
    options: Options,
    identity: Identity,
    /// `None` in memory.
    directory: Option<Directory>,
}

impl Store<Rocks> {
    /// Opens the data directory at `path` and recovers it. Makes one if there is none, or an empty
    /// one.
    ///
    /// # Errors
    /// An option is out of its range; the directory is in use, foreign, damaged or not writable;
    /// the database is damaged or its records contradict each other.
    pub fn open(path: &Path, options: &Options) -> Result<(Self, RecoveryReport), StoreError> {
        options.check()?;
        let directory = Directory::open(path, options.shards, clock::wall())?;
        let durable = directory.durable()?;
        let (db, must_exist) = directory.database()?;
        if let Some(durable) = durable {
            judge(&directory, &db, durable, options)?;
        }
        Self::open_in(directory, &db, must_exist, options)
    }

    /// As `open`, but what the log has lost is given up: what can be read goes on under a new
    /// epoch, so every device loads anew. For when there is no backup.
    ///
    /// # Errors
    /// As for `open`, but for `LogError`.
    pub fn open_accepting_loss(
        path: &Path,
        options: &Options,
    ) -> Result<(Self, RecoveryReport), StoreError> {
        options.check()?;
        let mut directory = Directory::open(path, options.shards, clock::wall())?;
        let (db, must_exist) = directory.database()?;
        // Written when the database has been opened: a crash before it leaves the old identity, and
        // with it the old refusal.
        directory.renew()?;
        Self::open_in(directory, &db, must_exist, options)
    }

    fn open_in(
        mut directory: Directory,
        db: &Path,
        must_exist: bool,
        options: &Options,
    ) -> Result<(Self, RecoveryReport), StoreError> {
        let mut engine = Rocks::open(db, must_exist, options).map_err(DataError::from)?;
        engine.set_durable(directory.set_ready(engine.last_change())?);
        Self::recovered(engine, directory.identity(), Some(directory), options)
    }
}

/// Whether RocksDB will find everything that was on the disk: at least all through `durable`. It
/// must be known before RocksDB opens, since opening drops what is behind a hole, and deletes the
/// tables that the manifest does not name.
fn judge(
    directory: &Directory,
    db: &Path,
    durable: u64,
    options: &Options,
) -> Result<(), StoreError> {
    let data = directory.path();
    let unreadable = |source| LogError::Unreadable { data: data.to_owned(), source };
    let walk = Walk::over(db, directory.mark()).map_err(unreadable)?;
    let durable = durable.max(walk.durable);
    let lost = |last, place: Option<Place>| LogError::Lost {
        data: data.to_owned(),
        last,
        durable,
        place: place.map(|Place { file, offset }| (file, offset)),
    };
    if let Some(foreign) = walk.foreign {
        // RocksDB would take it for its own. All that was on the disk stands before it, or else it
        // hides a loss.
        if walk.last < durable {
            return Err(lost(walk.last, Some(foreign)).into());
        }
        foreign.cut().map_err(unreadable)?;
        tracing::warn!(?foreign, "cut off what was left of an older log");
    }
    if walk.has_gap || walk.last < durable {
        // Some of it may be in tables rather than in the log.
        let last = Rocks::last_change_on_disk(db, options).map_err(DataError::from)?;
        if last < durable {
            return Err(lost(last, walk.end).into());
        }
    }
    judge_tables(data, db, walk.since)
}

/// Whether the tables have what stands in no log any more. RocksDB takes the manifest up to the
/// first record that is cut short, and so, silently, for what it was at an earlier moment.
fn judge_tables(data: &Path, db: &Path, since: u64) -> Result<(), StoreError> {
    if since <= 1 {
        return Ok(());
    }
    // What cannot be read at all RocksDB refuses by its name.
    let Ok(manifest) = manifest::path(db) else { return Ok(()) };
    let Ok(last) = manifest::last_change(&manifest) else { return Ok(()) };
    if last + 1 < since {
        return Err(LogError::TablesLost { data: data.to_owned(), manifest, last, since }.into());
    }
    Ok(())
}

impl<E: Engine> Store<E> {
    /// Recovers what `engine` holds; for an engine that is not a directory's.
    ///
    /// # Errors
    /// An option is out of its range; a record is damaged, or records contradict each other.
    pub fn with_engine(
        engine: E,
        identity: Identity,
        options: &Options,
    ) -> Result<(Self, RecoveryReport), StoreError> {
        options.check()?;
        Self::recovered(engine, identity, None, options)
    }

    fn recovered(
        engine: E,
        identity: Identity,
        directory: Option<Directory>,
        options: &Options,
    ) -> Result<(Self, RecoveryReport), StoreError> {
        let started_at = clock::monotonic();
        let mut report = recover(&engine)?;
        report.duration = clock::monotonic() - started_at;
        let options = options.clone();
        Ok((Self { engine: Arc::new(engine), options, identity, directory }, report))
    }

    /// Who the data directory is.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Reads everything and compares it: logs and inboxes without gaps, inbox entries whose
    /// messages exist, messages that reached every inbox, conversations that agree with the
    /// entries. Takes as long as reading the whole database does.
    ///
    /// # Errors
    /// The engine failed or a record cannot be decoded; what contradicts is in the report.
    pub fn check(&self) -> Result<CheckReport, DataError> {
        check(&*self.engine)
    }

    /// Starts the writer and the readers for `cores` cores.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(self, cores: u16, hooks: Hooks) -> Result<Service, StoreError> {
        Service::start(&self.engine, self.directory, &self.options, cores, hooks)
    }
}
