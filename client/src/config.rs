//! What a client is made with.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use wire::DeviceId;

use crate::gateways::Gateways;
use crate::machine::{Keeping, Kind, Settings};
use crate::store::{InMemory, Store};

/// What a bot may have under way at once, and what a page of its inbox needs.
const REQUESTS_MAX: usize = 1024;
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
const ENTRIES_MAX: usize = 1024;
const ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;
// A page fits into the half that is free when it is asked for.
const _: () = assert!(ENTRIES_MAX / 2 >= wire::limits::PAGE_ENTRIES_MAX);
const _: () = assert!(ENTRY_BYTES_MAX / 2 >= wire::limits::SERVER_FRAME_BYTES_MAX);
const _: () = assert!(REQUEST_BYTES_MAX > wire::limits::BODY_BYTES_MAX);

/// What [`Tokens::token`] gives: a token, or why there is none.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// Whoever has access tokens: asked when a session begins, and again when its ticket is of no use
/// any more. A `String` is a token that never changes.
pub trait Tokens: Send + Sync {
    /// A token that is good now.
    fn token(&self) -> Fetching<'_>;
}

impl Tokens for String {
    fn token(&self) -> Fetching<'_> {
        let token = self.clone();
        Box::pin(async { Ok(token) })
    }
}

/// What a client is made with. [`Config::new`] fills in what nobody needs to choose.
pub struct Config {
    /// Where the gateways are.
    pub gateways: Arc<dyn Gateways>,
    /// Who we are.
    pub tokens: Arc<dyn Tokens>,
    /// What outlives the process.
    pub store: Box<dyn Store>,
    /// For operators' logs; at most 64 bytes, cut there.
    pub name: String,
    /// When an entry counts as kept.
    pub keeping: Keeping,
    /// Requests that may wait for an answer. Beyond: `QueueFull`.
    pub requests_max: usize,
    /// Bytes of them. Beyond: `QueueFull`.
    pub request_bytes_max: usize,
    /// Entries that may wait for the application. Beyond: they wait at the gateway.
    pub entries_max: usize,
    /// Bytes of them. Beyond: they wait at the gateway.
    pub entry_bytes_max: usize,
}

/// No client can be made of this.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no token.
    #[error("no token: {0}")]
    NoToken(String),
    /// The token is not one of a device.
    #[error("the token is not a JWT with the claim `did`; `mooring token` prints one")]
    Token,
    /// The store cannot be read.
    #[error("the store: {0}")]
    Store(#[from] std::io::Error),
}

impl Config {
    /// A client that finds its gateway there, says who it is with those tokens, and keeps nothing
    /// beyond the process.
    #[must_use]
    pub fn new(gateways: impl Gateways + 'static, tokens: impl Tokens + 'static) -> Self {
        Self {
            gateways: Arc::new(gateways),
            tokens: Arc::new(tokens),
            store: Box::new(InMemory),
            name: concat!("client/", env!("CARGO_PKG_VERSION")).to_owned(),
            keeping: Keeping::OnNext,
            requests_max: REQUESTS_MAX,
            request_bytes_max: REQUEST_BYTES_MAX,
            entries_max: ENTRIES_MAX,
            entry_bytes_max: ENTRY_BYTES_MAX,
        }
    }

    pub(crate) fn settings(&self, kind: Kind) -> Settings {
        Settings {
            kind,
            name: self.name.clone(),
            keeping: self.keeping,
            requests_max: self.requests_max,
            request_bytes_max: self.request_bytes_max,
            entries_max: self.entries_max.max(1),
            entry_bytes_max: self.entry_bytes_max.max(1),
        }
    }
}

impl std::fmt::Debug for Config {
    /// Without the tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The device that a token is for (the gateway checks the token; this only reads it).
pub(crate) fn device_of(token: &str) -> Result<DeviceId, ConfigError> {
    #[derive(Deserialize)]
    struct Claims {
        did: u32,
    }
    let payload = token.split('.').nth(1).ok_or(ConfigError::Token)?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| ConfigError::Token)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| ConfigError::Token)?;
    Ok(DeviceId(claims.did))
}
