//! An opened store: the directory is this process's, and everything in it is recovered.

use std::path::Path;
use std::sync::Arc;

use crate::check::{CheckReport, check};
use crate::clock;
use crate::directory::{Directory, Identity};
use crate::engine::Engine;
use crate::error::{DataError, StoreError};
use crate::options::Options;
use crate::recover::{RecoveryReport, recover};
use crate::rocks::Rocks;
use crate::service::{Hooks, Service};

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
        let mut directory = Directory::open(path, options.shards, clock::wall())?;
        let (db, must_exist) = directory.database()?;
        let engine = Rocks::open(&db, must_exist, options).map_err(DataError::from)?;
        directory.set_ready()?;
        Self::recovered(engine, directory.identity(), Some(directory), options)
    }
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
    /// messages exist, conversations that agree with the entries. Takes as long as reading the
    /// whole database does.
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
