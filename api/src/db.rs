//! The database: SQLite or PostgreSQL, asked in the words that both know.
//!
//! Rules that keep one code right on both:
//!
//! - Placeholders are `$1`, types BIGINT, TEXT and BLOB, `INSERT … ON CONFLICT`, `RETURNING`.
//! - A transaction that decides by what it reads first *writes* to the row that it is about (a
//!   user, a group): on PostgreSQL that locks the row, on SQLite the file. So two of them about the
//!   same thing come one after the other.
//! - SQLite has one writer at a time. Those of this process queue here, in order, instead of in its
//!   busy handler, which lets the lucky go first.

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{Any, AnyConnection, AnyPool, Executor, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Settings;

/// How long a request waits for a connection before it is told to come later.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);

/// WAL: readers do not wait for the writer. FULL: what was answered is on the disk.
const SQLITE_PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000";

/// PostgreSQL's name for bytes is another one. Two processes may start at once.
const POSTGRES_BLOB: &str = "DO $$ BEGIN CREATE DOMAIN blob AS bytea; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";

#[derive(Clone, Debug)]
pub(crate) struct Db {
    pool: AnyPool,
    /// Of SQLite: whose turn it is to write.
    turn: Option<Arc<Semaphore>>,
}

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It cannot be reached or opened.
    #[error("api.database: cannot open it: {0}")]
    Open(sqlx::Error),
    /// Its tables cannot be brought up to date.
    #[error("api.database: cannot bring its tables up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl Db {
    /// Opens it, and brings its tables up to date.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, DbError> {
        install_default_drivers();
        let is_sqlite = settings.database.starts_with("sqlite:");
        let mut options = AnyPoolOptions::new()
            .max_connections(settings.database_connections_max)
            .acquire_timeout(CONNECTION_WAIT);
        if is_sqlite {
            options = options.after_connect(|connection, _| {
                Box::pin(async move { connection.execute(SQLITE_PRAGMAS).await.map(drop) })
            });
        }
        let pool = options.connect(&settings.database).await.map_err(DbError::Open)?;
        if !is_sqlite {
            pool.execute(POSTGRES_BLOB).await.map_err(DbError::Open)?;
        }
        sqlx::migrate!().run(&pool).await?;
        Ok(Self { pool, turn: is_sqlite.then(|| Arc::new(Semaphore::new(1))) })
    }

    /// For a single read.
    pub(crate) const fn read(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a change, which nobody sees before [`Change::commit`].
    pub(crate) async fn change(&self) -> Result<Change, sqlx::Error> {
        let Some(turn) = &self.turn else {
            return Ok(Change { transaction: self.pool.begin().await?, _turn: None });
        };
        let turn = Arc::clone(turn).acquire_owned().await;
        let turn = turn.expect("it is never closed");
        // At once the writer: a reader that became one could find that it has read old things.
        let transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Change { transaction, _turn: Some(turn) })
    }

    /// Whether it answers.
    pub(crate) async fn is_well(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }
}

/// A transaction. Dropped, it has never been.
pub(crate) struct Change {
    // Before the turn: fields are dropped in this order.
    transaction: Transaction<'static, Any>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Change {
    /// For a statement within it.
    pub(crate) fn on(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }
}

/// A new id: positive, and exact as a number of JavaScript. Random, so that one tells nothing of
/// others; a second row with it is refused by its table.
pub(crate) fn new_id() -> i64 {
    const BITS: u32 = 53;
    let id = rand::random::<u64>() >> (u64::BITS - BITS);
    i64::try_from(id.max(1)).expect("it has 53 bits")
}
