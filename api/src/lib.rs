//! Accounts, friends, groups and devices over HTTP: what surrounds the core.
//!
//! ```text
//!  HTTP ---> routes ---> database: people and their relations (SQLite or PostgreSQL)
//!               |            | outbox: what the core has still to be told
//!               +------------+--> core: channels, members, messages (a service session)
//! ```
//!
//! The API is stateless: what it must remember is in the database or in the core, so any number of
//! processes may stand behind a load balancer. One module a subject, one handler a route; the
//! description of the whole (`/v1/openapi.json`) is made from them.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(unused_qualifications, reason = "the macros of the description repeat types")]

mod accounts;
mod audit;
mod channel;
pub mod clock;
pub mod config;
mod conversations;
pub mod core;
mod db;
mod devices;
mod extract;
mod farewell;
mod friends;
mod gateways;
mod groups;
mod invites;
mod keys;
mod members;
mod outbox;
mod passwords;
mod problem;
mod profiles;
mod rates;
mod routes;
mod text;

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::Semaphore;

pub use crate::clock::Clock;
use crate::config::Settings;
use crate::core::Core;
use crate::db::Db;
pub use crate::db::DbError;
pub use crate::keys::KeyError;
use crate::keys::Keys;
use crate::passwords::Passwords;
use crate::rates::RateLimits;

/// How often what is too old is looked for.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The API could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The address, or a thread.
    #[error("api.listen = {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// What every handler works with.
pub(crate) struct Services {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) db: Db,
    pub(crate) keys: Keys,
    pub(crate) passwords: Passwords,
    pub(crate) rates: RateLimits,
    pub(crate) core: Arc<dyn Core>,
    /// Turns of those who export all their data.
    pub(crate) exports: Semaphore,
}

pub(crate) type App = Arc<Services>;

/// The API, with its database open.
#[derive(Clone)]
pub struct Api {
    app: App,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("database", &self.app.db).finish_non_exhaustive()
    }
}

impl Api {
    /// Opens the database, brings its tables up to date and reads the keys.
    ///
    /// # Errors
    /// What of these cannot be used, and why.
    pub async fn open(
        settings: Settings,
        core: Arc<dyn Core>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let listen = settings.listen;
        let db = Db::open(&settings).await?;
        let keys = Keys::open(&settings.keys)?;
        let threads = NonZeroUsize::new(settings.hash_threads).unwrap_or(NonZeroUsize::MIN);
        let passwords = Passwords::start(threads, settings.hash_queue_max);
        let passwords =
            passwords.map_err(|source| StartError::Listen { address: listen, source })?;
        let rates = RateLimits::new(settings.rates);
        let exports = Semaphore::new(farewell::EXPORTS_MAX);
        let app = Arc::new(Services { settings, clock, db, keys, passwords, rates, core, exports });
        Ok(Self { app })
    }

    /// All routes, for a server of one's own.
    pub fn router(&self) -> Router {
        routes::router(&self.app)
    }

    /// Does what the core has still to be told, and drops what is too old, for as long as it is
    /// polled.
    pub async fn attend(&self) {
        let prune = async {
            let mut rounds = tokio::time::interval(PRUNE_INTERVAL);
            loop {
                rounds.tick().await;
                let app = &self.app;
                if let Err(problem) =
                    audit::prune(&app.db, app.clock.now(), app.settings.audit).await
                {
                    tracing::warn!(?problem, "old security events stay for now");
                }
            }
        };
        tokio::join!(outbox::run(Arc::clone(&self.app)), prune);
    }

    /// Serves until `ending` resolves; then what is under way is answered.
    ///
    /// # Errors
    /// The listening socket failed.
    pub async fn serve(
        self,
        listener: TcpListener,
        ending: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let attending = self.clone();
        let attending = tokio::spawn(async move { attending.attend().await });
        let service = self.router().into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).with_graceful_shutdown(ending).await?;
        attending.abort();
        Ok(())
    }
}
