//! The configuration as it is written: TOML, unknown keys refused, every key optional.
//!
//! It is raw: [`crate::limits::Limits::new`] checks it and the rest of the code sees only that.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Everything that can be configured.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses and the data directory.
    pub server: ServerConfig,
    /// What one session, channel or user may take.
    pub limits: LimitsConfig,
    /// Timeouts.
    pub timeouts: TimeoutsConfig,
    /// The disk.
    pub store: StoreConfig,
    /// Tokens.
    pub auth: AuthConfig,
    /// Who decides what.
    pub gateway: GatewayConfig,
    /// How clients find it.
    pub discovery: DiscoveryConfig,
    /// The rings.
    pub io: IoConfig,
    /// Logs.
    pub log: LogConfig,
}

/// `[server]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// WebSocket addresses, `HOST:PORT`.
    pub listen: Vec<String>,
    /// Metrics and health, `HOST:PORT`.
    pub admin: String,
    /// The data directory.
    pub data: PathBuf,
    /// Reactor threads; 0 for one a processor. More than processors are permitted: each ring's
    /// table of connections is bounded by the limit of open files.
    pub cores: u16,
    /// Pages that may open a WebSocket (`Origin`); empty for any.
    pub origins: Vec<String>,
    /// Where `Reconnect` sends clients on a drain; empty for "come back here".
    pub reconnect_url: String,
    /// Over how many seconds a drain spreads its clients.
    pub drain_seconds: u32,
}

/// `[gateway]`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Who makes groups and changes their members.
    pub membership: Membership,
}

/// `gateway.membership`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// Members, by the roles that the gateway keeps; a service with the rights of whom it asks for.
    #[default]
    Members,
    /// Services alone, which keep the roles themselves.
    Service,
}

/// `[discovery]`: what this gateway says of itself, and to whom.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoveryConfig {
    /// `HOST:PORT,...` of ZooKeeper; empty: only this process knows its gateway.
    pub zookeeper: String,
    /// Whether it makes itself known, or only knows the others.
    pub announce: bool,
    /// The node below which all of this system's stand.
    pub root: String,
    /// How long a gateway may be silent before it is gone.
    pub session_timeout_seconds: u32,
    /// Its name among the gateways; empty for one made of its address.
    pub id: String,
    /// Where clients connect; empty for `ws://` and its first address.
    pub url: String,
    /// Where it stands.
    pub region: String,
    /// What it runs, as a number that grows with each release.
    pub release: u64,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            zookeeper: String::new(),
            announce: true,
            root: "/mooring".into(),
            session_timeout_seconds: 10,
            id: String::new(),
            url: String::new(),
            region: "default".into(),
            release: 0,
        }
    }
}

/// `[limits]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Connections a core holds.
    pub connections_per_core_max: u32,
    /// Bytes of a message's body.
    pub body_bytes_max: u32,
    /// Members of a group, 2 to 500.
    pub group_members_max: u32,
    /// Posts of a connection that wait for their answer; then it is not read.
    pub posts_in_flight_max: u16,
    /// Frames a second from one connection, sustained.
    pub frames_per_second_max: u32,
    /// Connections that the whole gateway begins in a second while there is talk; others wait.
    /// 0: by the number of processors.
    pub admissions_per_second_max: u32,
    /// Bytes that may wait to be sent to one connection; beyond it the connection is closed and
    /// resumes.
    pub send_queue_bytes_max: usize,
    /// Bytes of memory that one session may hold; beyond it the connection is closed and resumes.
    pub session_bytes_max: usize,
    /// Bytes of memory that the process is to have: near it the sessions get less, in the order of
    /// [`crate::budget::Shed`]. 0: half of what the machine or its control group permits.
    pub memory_bytes_max: usize,
    /// Entries of a page of the inbox.
    pub sync_page_max: u16,
    /// Entries of a page of history.
    pub history_page_max: u16,
    /// Entries of a page of conversations.
    pub channel_page_max: u16,
    /// Channels a core keeps in memory.
    pub channels_per_core_max: usize,
    /// Conversations a core keeps in memory.
    pub conversations_per_core_max: usize,
    /// Recent sends a channel remembers.
    pub nonce_window: usize,
    /// Entries of a log searched for an old retry.
    pub retry_scan_max: u32,
}

/// `[timeouts]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsConfig {
    /// From the connection's start to a valid `Hello`.
    pub hello_seconds: u32,
    /// Told to clients in `Welcome`; three intervals of silence end a session.
    pub heartbeat_seconds: u32,
    /// From our close frame to the peer's.
    pub close_seconds: u32,
}

/// `[store]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `always`, or `interval`: what an acknowledgement means.
    pub sync: SyncConfig,
    /// For `sync = "interval"`: how much a power loss may take, in milliseconds.
    pub sync_interval_ms: u64,
    /// Shards of a data directory that is being made; an existing one keeps its own number.
    pub shards: u16,
    /// Bytes of a memtable.
    pub memtable_bytes: usize,
    /// Bytes of the block cache.
    pub block_cache_bytes: usize,
    /// Threads that read.
    pub readers: usize,
    /// Free bytes of the disk below which posts are refused.
    pub disk_free_bytes_min: u64,
}

/// `store.sync`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncConfig {
    /// Acknowledged means on the disk.
    Always,
    /// Acknowledged means in the log; on the disk within the interval.
    Interval,
}

/// `[auth]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// How far the clocks of token makers may be off.
    pub clock_skew_seconds: u32,
}

/// `[io]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IoConfig {
    /// What the cores run on: `auto`, `uring` or `portable`.
    pub shell: ShellConfig,
    /// Receive buffers of each core, a power of two; 0: as many as [`crate::limits`] shares out.
    pub receive_buffers: u16,
    /// Bytes of each.
    pub receive_buffer_bytes: u32,
    /// Blocks for sending, of each core, made as they are needed: what all slow readers of a core
    /// may hold together. Beyond it the next one to need a block is closed, and resumes.
    pub send_blocks: usize,
    /// Bytes of each.
    pub send_block_bytes: usize,
}

/// `io.shell`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShellConfig {
    /// io_uring where this host has it, else the portable shell, with a warning.
    #[default]
    Auto,
    /// io_uring, or no start.
    Uring,
    /// The portable shell.
    Portable,
}

/// `[log]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives by module.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// `log.format`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:7700".into()],
            admin: "127.0.0.1:7701".into(),
            data: "data".into(),
            cores: 0,
            origins: Vec::new(),
            reconnect_url: String::new(),
            drain_seconds: 10,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections_per_core_max: 18_000,
            body_bytes_max: 16 * 1024,
            group_members_max: 100,
            posts_in_flight_max: 64,
            frames_per_second_max: 1000,
            admissions_per_second_max: 0,
            send_queue_bytes_max: 1024 * 1024,
            session_bytes_max: 4 * 1024 * 1024,
            memory_bytes_max: 0,
            sync_page_max: 100,
            history_page_max: 100,
            channel_page_max: 100,
            channels_per_core_max: 100_000,
            conversations_per_core_max: 200_000,
            nonce_window: router::nonces::NONCE_WINDOW_DEFAULT,
            retry_scan_max: 100_000,
        }
    }
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        Self { hello_seconds: 10, heartbeat_seconds: 10, close_seconds: 5 }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            sync: SyncConfig::Always,
            sync_interval_ms: 100,
            shards: 4096,
            memtable_bytes: 32 << 20,
            block_cache_bytes: 64 << 20,
            readers: 2,
            disk_free_bytes_min: 256 << 20,
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self { clock_skew_seconds: 30 }
    }
}

impl Default for IoConfig {
    fn default() -> Self {
        Self {
            shell: ShellConfig::Auto,
            receive_buffers: 0,
            receive_buffer_bytes: 2048,
            send_blocks: 32 * 1024,
            send_block_bytes: 2048,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}; the configuration is a readable file of UTF-8 text")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or a key or value is not known; the text points to the place.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("{key} = {value}: {problem}")]
    Range {
        /// The key, with its table.
        key: &'static str,
        /// What it says.
        value: String,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a key, a type or a value in it is not known.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}
