//! `[api]` of the configuration file, as it is written; [`Settings`] is what the code goes by.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[api]`. Every key is optional, one that is not known is an error.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Where it listens, `HOST:PORT`.
    pub listen: String,
    /// `postgres://…`, or the path of a SQLite file; empty for `api.sqlite` in the data directory.
    pub database: String,
    /// Connections to the database.
    pub database_connections_max: u32,
    /// Addresses that clients are told to connect to; empty for the gateway of this process.
    pub gateways: Vec<String>,
    /// Pages of other origins that may ask; empty for none.
    pub origins: Vec<String>,
    /// Proxies in front of it that add to `X-Forwarded-For`; 0: the peer's address is the client's.
    pub proxies: u8,
    /// Threads that hash passwords; 0 for half the processors.
    pub hash_threads: u16,
    /// Passwords that may wait for one of them; beyond it: 503.
    pub hash_queue_max: u16,
    /// How long an access token is good.
    pub access_seconds: u32,
    /// How long a refresh token is good that is not used.
    pub refresh_days: u32,
    /// Devices of one account.
    pub devices_max: u32,
    /// Friends and open requests of one account.
    pub friends_max: u32,
    /// Groups that one account is in.
    pub groups_max: u32,
    /// Bytes of an avatar.
    pub avatar_bytes_max: u32,
    /// Requests a second of one account, sustained; a burst of ten times as many.
    pub requests_per_second_max: u32,
    /// Requests a second of one address, likewise.
    pub address_requests_per_second_max: u32,
    /// Passwords tried an hour for one account, and ten times as many from one address.
    pub logins_per_hour_max: u32,
    /// Accounts made an hour from one address.
    pub sign_ups_per_hour_max: u32,
    /// How long security events are kept.
    pub audit_days: u32,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7702".into(),
            database: String::new(),
            database_connections_max: 16,
            gateways: Vec::new(),
            origins: Vec::new(),
            proxies: 0,
            hash_threads: 0,
            hash_queue_max: 64,
            access_seconds: 600,
            refresh_days: 60,
            devices_max: 32,
            friends_max: 2000,
            groups_max: 1000,
            avatar_bytes_max: 256 * 1024,
            requests_per_second_max: 20,
            address_requests_per_second_max: 200,
            logins_per_hour_max: 60,
            sign_ups_per_hour_max: 60,
            audit_days: 180,
        }
    }
}

/// A value of `[api]` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("api.{key} = {value}: {problem}")]
pub struct SettingError {
    key: &'static str,
    value: String,
    problem: &'static str,
}

/// What the rest of the process tells the API.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The data directory.
    pub data: PathBuf,
    /// Members of a group: `limits.group_members_max`.
    pub group_members_max: u32,
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The URL of the database, as sqlx has it.
    pub database: String,
    pub(crate) database_connections_max: u32,
    pub(crate) keys: PathBuf,
    pub(crate) gateways: Vec<String>,
    pub(crate) origins: Vec<axum::http::HeaderValue>,
    pub(crate) proxies: usize,
    pub(crate) hash_threads: usize,
    pub(crate) hash_queue_max: usize,
    pub(crate) access: Duration,
    pub(crate) refresh: Duration,
    pub(crate) devices_max: i64,
    pub(crate) friends_max: i64,
    pub(crate) groups_max: i64,
    pub(crate) group_members_max: i64,
    pub(crate) avatar_bytes_max: usize,
    pub(crate) rates: Rates,
    pub(crate) audit: Duration,
}

/// How often somebody may do something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) requests_per_second: u32,
    pub(crate) address_requests_per_second: u32,
    pub(crate) logins_per_hour: u32,
    pub(crate) sign_ups_per_hour: u32,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Settings {
    /// Checks a configuration.
    ///
    /// # Errors
    /// The key that cannot be used, why, and what it may be.
    pub fn new(config: &ApiConfig, surroundings: &Surroundings) -> Result<Self, SettingError> {
        for (key, value, least, most) in ranges(config) {
            if !(least..=most).contains(&value) {
                return Err(SettingError { key, value: value.to_string(), problem: OUT_OF_RANGE });
            }
        }
        let address = config.listen.to_socket_addrs().ok().and_then(|mut found| found.next());
        let listen = address.ok_or_else(|| SettingError {
            key: "listen",
            value: format!("{:?}", config.listen),
            problem: "must be HOST:PORT, such as \"127.0.0.1:7702\"",
        })?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            listen,
            database: database_url(&config.database, &surroundings.data)?,
            database_connections_max: config.database_connections_max,
            keys: surroundings.data.join("keys"),
            gateways: config.gateways.clone(),
            origins: origins(&config.origins)?,
            proxies: config.proxies.into(),
            hash_threads: match config.hash_threads {
                0 => (processors / 2).max(1),
                threads => threads.into(),
            },
            hash_queue_max: config.hash_queue_max.into(),
            access: Duration::from_secs(config.access_seconds.into()),
            refresh: DAY * config.refresh_days,
            devices_max: config.devices_max.into(),
            friends_max: config.friends_max.into(),
            groups_max: config.groups_max.into(),
            group_members_max: surroundings.group_members_max.into(),
            avatar_bytes_max: usize::try_from(config.avatar_bytes_max).unwrap_or(usize::MAX),
            rates: Rates {
                requests_per_second: config.requests_per_second_max,
                address_requests_per_second: config.address_requests_per_second_max,
                logins_per_hour: config.logins_per_hour_max,
                sign_ups_per_hour: config.sign_ups_per_hour_max,
            },
            audit: DAY * config.audit_days,
        })
    }

    /// Tells clients these addresses where the configuration names none.
    #[must_use]
    pub fn with_gateways(mut self, urls: Vec<String>) -> Self {
        if self.gateways.is_empty() {
            self.gateways = urls;
        }
        self
    }
}

const OUT_OF_RANGE: &str = "out of its range; docs/operations.md has the table";

/// Every number with its least and greatest value.
fn ranges(config: &ApiConfig) -> [(&'static str, u32, u32, u32); 13] {
    [
        ("database_connections_max", config.database_connections_max, 1, 1024),
        ("hash_threads", config.hash_threads.into(), 0, 256),
        ("hash_queue_max", config.hash_queue_max.into(), 1, 4096),
        ("access_seconds", config.access_seconds, 10, 86_400),
        ("refresh_days", config.refresh_days, 1, 3650),
        ("devices_max", config.devices_max, 1, 1000),
        ("friends_max", config.friends_max, 1, 10_000),
        ("groups_max", config.groups_max, 1, 10_000),
        ("avatar_bytes_max", config.avatar_bytes_max, 1024, 4 * 1024 * 1024),
        ("requests_per_second_max", config.requests_per_second_max, 1, 1_000_000),
        ("address_requests_per_second_max", config.address_requests_per_second_max, 1, 1_000_000),
        ("logins_per_hour_max", config.logins_per_hour_max, 1, 100_000_000),
        ("audit_days", config.audit_days, 1, 3650),
    ]
}

fn database_url(database: &str, data: &Path) -> Result<String, SettingError> {
    let is_url = database.starts_with("postgres://") || database.starts_with("postgresql://");
    if is_url {
        return Ok(database.to_owned());
    }
    if database.contains("://") {
        return Err(SettingError {
            key: "database",
            value: format!("{database:?}"),
            problem: "must be a postgres:// URL or the path of a SQLite file",
        });
    }
    let path = if database.is_empty() { data.join("api.sqlite") } else { database.into() };
    Ok(format!("sqlite://{}?mode=rwc", path.display()))
}

fn origins(listed: &[String]) -> Result<Vec<axum::http::HeaderValue>, SettingError> {
    let parse = |origin: &String| {
        origin.parse().map_err(|_| SettingError {
            key: "origins",
            value: format!("{origin:?}"),
            problem: "must be origins such as \"https://chat.example.org\"",
        })
    };
    listed.iter().map(parse).collect()
}

/// A file whose `[api]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key or a value is not known; the text points to the place.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

impl ApiConfig {
    /// `[api]` of a file whose other tables belong to others.
    ///
    /// # Errors
    /// The file cannot be read, or a key, a type or a value of the table is not known.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            api: ApiConfig,
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let file: File = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        Ok(file.api)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut ApiConfig)) -> Result<Settings, String> {
        let mut config = ApiConfig::default();
        change(&mut config);
        let surroundings = Surroundings { data: "data".into(), group_members_max: 100 };
        Settings::new(&config, &surroundings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_database_is_a_file_of_the_data_directory_unless_it_is_named() {
        let url = |database: &str| settings(|config| config.database = database.into());
        assert_eq!(url("").unwrap().database, "sqlite://data/api.sqlite?mode=rwc");
        assert_eq!(url("/x/y.db").unwrap().database, "sqlite:///x/y.db?mode=rwc");
        assert_eq!(url("postgres://h/db").unwrap().database, "postgres://h/db");
        assert!(url("mysql://h/db").unwrap_err().contains("api.database"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        type Change = fn(&mut ApiConfig);
        let rows: [(Change, &str); 4] = [
            (|config| config.listen = "here".into(), "api.listen = \"here\""),
            (|config| config.access_seconds = 1, "api.access_seconds = 1"),
            (|config| config.devices_max = 0, "api.devices_max = 0"),
            (|config| config.origins = vec!["\n".into()], "api.origins"),
        ];
        for (change, expected) in rows {
            let error = settings(change).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
