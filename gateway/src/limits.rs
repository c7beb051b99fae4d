//! The configuration once it is checked: what the code goes by.
//!
//! Pool sizes are sums of their holders; the const assertions tie each limit to its neighbours.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use router::sequencer::SequencerLimits;
use uring::RingOptions;
use wire::limits::{
    BODY_BYTES_MAX, CLIENT_FRAME_BYTES_MAX, MEMBERS_PER_REQUEST_MAX, PAGE_ENTRIES_MAX,
};

use crate::clock::TICK;
use crate::config::{Config, ConfigError, Membership, ShellConfig, SyncConfig};
use crate::host_memory;

/// Reads that one session may have in flight. Enough for an application that opens on its
/// conversation list and the newest page of a few of them.
pub const READS_IN_FLIGHT_MAX: u8 = 8;

/// Bytes of bodies in one page: what a session may be sent at once, well within its queue.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;

const _: () = assert!(PAGE_BYTES_MAX < wire::limits::SERVER_FRAME_BYTES_MAX);
const _: () = assert!(PAGE_BYTES_MAX >= BODY_BYTES_MAX, "a page holds any one message");

/// What an entry of a page takes beside its body, at most: itself, and its head in the frame.
const ENTRY_BYTES: usize = 256;

/// What a session may hold beside its send queue, at least: a page on its way, a message that is
/// being put together, and what one receive brings.
const SESSION_BYTES_SPARE: usize = 512 * 1024;

const _: () = assert!(
    PAGE_BYTES_MAX + PAGE_ENTRIES_MAX * ENTRY_BYTES + CLIENT_FRAME_BYTES_MAX + 65_536
        <= SESSION_BYTES_SPARE
);

/// The most that can be configured for one session: it is counted in 32 bits.
const SESSION_BYTES_MAX: usize = 1 << 30;

/// What a core needs of the memory, at least.
const CORE_BYTES_MIN: usize = 32 << 20;

/// Memtables that the store may have at once: two large tables of up to four each.
const MEMTABLES: usize = 8;

/// Completions beyond one for each buffer: sends and everything else that can complete in a turn.
const COMPLETIONS_SPARE: u32 = 4096;

/// Receive buffers of the process, shared out among its cores unless the configuration says how
/// many: the kernel goes through all that a core has, so all of them are resident.
const RECEIVE_BUFFERS: u16 = 4096;

/// The least and the most that a core gets of them. With few, a rush finds none free and waits for
/// a turn; from a thousand on nothing was faster.
const RECEIVE_BUFFERS_OF_CORE: (u16, u16) = (128, 1024);

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// The data directory.
    pub data: PathBuf,
    /// Reactor threads.
    pub cores: u16,
    /// Who may open a WebSocket.
    pub handshake: ws::handshake::server::HandshakePolicy,
    /// Where a drain sends clients; none for here.
    pub reconnect_url: Option<String>,
    /// Over how long a drain spreads them.
    pub drain: Duration,
    /// What clients are told.
    pub told: wire::server::Limits,
    /// The heartbeat interval that clients are told.
    pub heartbeat: Duration,
    /// Ticks of silence that end a session: three intervals.
    pub silence_ticks: u32,
    /// Ticks until a valid Hello.
    pub hello_ticks: u32,
    /// Ticks that an accepted connection may wait to be received from: half of what it has for its
    /// Hello. By then many a client has given up, and the others come again.
    pub waiting_ticks: u32,
    /// Connections that all cores together begin in a second while there is talk; a token counts
    /// once more.
    pub admissions_per_second_max: u32,
    /// Ticks from our close to the peer's.
    pub close_ticks: u32,
    /// Bytes that may wait for one connection.
    pub send_queue_bytes_max: usize,
    /// Bytes of memory that one session may hold, the pages on their way to it included.
    pub session_bytes_max: usize,
    /// Bytes of memory that the process is to have.
    pub memory_bytes_max: usize,
    /// What a core has of them.
    pub core_bytes_max: usize,
    /// Connections of one core.
    pub connections_max: u32,
    /// The sequencer's.
    pub sequencer: SequencerLimits,
    /// Conversations in memory, of one core.
    pub conversations_max: usize,
    /// Entries searched for an old retry.
    pub retry_scan_max: u32,
    /// Who changes the members of groups.
    pub membership: Membership,
    /// Clock skew of tokens.
    pub clock_skew: Duration,
    /// What the cores are to run on.
    pub shell: ShellConfig,
    /// The rings.
    pub ring: RingOptions,
    /// Blocks for sending, of one core, and their size.
    pub send_blocks: (usize, usize),
    /// The store's options.
    pub store: store::Options,
    /// How much may be under way in a core.
    pub bounds: Bounds,
}

/// Bounds of what is under way in a core: those of the modules that keep them, which no
/// configuration changes. A simulation makes them small, as it would never reach them otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// See [`router::commit_window::WINDOW_MAX`].
    pub window_max: usize,
    /// See [`router::fan_out::OUTSTANDING_MAX`].
    pub outstanding_max: u64,
    /// See [`router::inbox::UNFOLDED_MAX`].
    pub unfolded_max: usize,
    /// See [`router::inbox::JOURNAL_BATCHES_MAX`].
    pub journal_batches_max: u64,
    /// See [`crate::committing::TRIM_EVERY`].
    pub trim_every: u64,
    /// See [`crate::shard::CATCH_UPS_MAX`].
    pub catch_ups_max: usize,
    /// See [`crate::admission::CROWD_MAX`].
    pub crowd_max: usize,
    /// See [`PAGE_BYTES_MAX`].
    pub page_bytes_max: usize,
    /// What the sessions of a core may hold, however large its share is.
    pub room_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            window_max: router::commit_window::WINDOW_MAX,
            outstanding_max: router::fan_out::OUTSTANDING_MAX,
            unfolded_max: router::inbox::UNFOLDED_MAX,
            journal_batches_max: router::inbox::JOURNAL_BATCHES_MAX,
            trim_every: crate::committing::TRIM_EVERY,
            catch_ups_max: crate::shard::CATCH_UPS_MAX,
            crowd_max: crate::admission::CROWD_MAX,
            page_bytes_max: PAGE_BYTES_MAX,
            room_bytes_max: usize::MAX,
        }
    }
}

fn range<T: std::fmt::Display>(
    key: &'static str,
    value: T,
    holds: bool,
    problem: &'static str,
) -> Result<T, ConfigError> {
    if holds {
        Ok(value)
    } else {
        Err(ConfigError::Range { key, value: value.to_string(), problem })
    }
}

fn address(key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let problem = "must be HOST:PORT, and the host must have an address here";
    let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| ConfigError::Range { key, value: format!("{text:?}"), problem })
}

fn ticks(seconds: u32) -> u32 {
    let per_second = 1000 / u32::try_from(TICK.as_millis()).expect("a tick is short");
    seconds.saturating_mul(per_second)
}

impl Limits {
    /// Checks a configuration.
    ///
    /// # Errors
    /// The first value that is out of its range, by key.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let Config { server, limits, timeouts, auth, .. } = config;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = if server.cores == 0 {
            u16::try_from(processors.min(256)).expect("at most 256")
        } else {
            range("server.cores", server.cores, server.cores <= 256, "must be 0 to 256")?
        };
        let listen: Result<Vec<_>, _> =
            server.listen.iter().map(|text| address("server.listen", text)).collect();
        let listen = listen?;
        range("server.listen", "[]", !listen.is_empty(), "must name at least one address")?;
        let heartbeat = timeouts.heartbeat_seconds;
        range(
            "timeouts.heartbeat_seconds",
            heartbeat,
            (1..=3600).contains(&heartbeat),
            "must be 1 to 3600",
        )?;
        let hello = timeouts.hello_seconds;
        range("timeouts.hello_seconds", hello, (1..=300).contains(&hello), "must be 1 to 300")?;
        let close = timeouts.close_seconds;
        range("timeouts.close_seconds", close, (1..=60).contains(&close), "must be 1 to 60")?;
        let drain = server.drain_seconds;
        range("server.drain_seconds", drain, drain <= 3600, "must be 0 to 3600")?;
        let holds = !server.data.as_os_str().is_empty();
        range("server.data", "\"\"", holds, "must name a directory")?;
        let (queue, session) = of_session(config)?;
        let (memory, of_core) = memory(config, cores)?;
        let connections = limits.connections_per_core_max;
        let problem = "must be 1 to 1000000";
        range(
            "limits.connections_per_core_max",
            connections,
            (1..=1_000_000).contains(&connections),
            problem,
        )?;
        Ok(Self {
            admin: address("server.admin", &server.admin)?,
            listen,
            data: server.data.clone(),
            cores,
            handshake: handshake(&server.origins),
            membership: config.gateway.membership,
            reconnect_url: Some(server.reconnect_url.clone()).filter(|url| !url.is_empty()),
            drain: Duration::from_secs(server.drain_seconds.into()),
            told: told(config)?,
            heartbeat: Duration::from_secs(heartbeat.into()),
            silence_ticks: ticks(heartbeat.saturating_mul(3)),
            hello_ticks: ticks(hello),
            waiting_ticks: ticks(hello) / 2,
            admissions_per_second_max: admissions(limits.admissions_per_second_max, processors)?,
            close_ticks: ticks(close),
            send_queue_bytes_max: queue,
            session_bytes_max: session,
            memory_bytes_max: memory,
            core_bytes_max: of_core,
            connections_max: connections,
            sequencer: sequencer(config)?,
            conversations_max: limits.conversations_per_core_max.max(1024),
            retry_scan_max: limits.retry_scan_max,
            clock_skew: Duration::from_secs(auth.clock_skew_seconds.into()),
            shell: config.io.shell,
            ring: ring(config, cores)?,
            send_blocks: send_blocks(config)?,
            store: store(config, cores)?,
            bounds: Bounds::default(),
        })
    }

    /// What a page on its way to a session takes, at most.
    #[must_use]
    pub fn page_held_bytes_max(&self) -> usize {
        let told = &self.told;
        let entries = told.sync_page_max.max(told.history_page_max).max(told.channel_page_max);
        self.bounds.page_bytes_max + usize::from(entries) * ENTRY_BYTES
    }

    /// Those of the inboxes of a core.
    #[must_use]
    pub const fn inboxes(&self) -> router::inbox::InboxLimits {
        router::inbox::InboxLimits {
            conversations_max: self.conversations_max,
            unfolded_max: self.bounds.unfolded_max,
            journal_batches_max: self.bounds.journal_batches_max,
        }
    }
}

fn handshake(origins: &[String]) -> ws::handshake::server::HandshakePolicy {
    use ws::handshake::server::{HandshakePolicy, Origins};
    let origins = if origins.is_empty() { Origins::Any } else { Origins::Only(origins.to_vec()) };
    HandshakePolicy {
        origins,
        subprotocol: wire::limits::SUBPROTOCOL.into(),
        ..HandshakePolicy::default()
    }
}

fn told(config: &Config) -> Result<wire::server::Limits, ConfigError> {
    let limits = &config.limits;
    let page = |key, value: u16| {
        let holds = (1..=PAGE_ENTRIES_MAX).contains(&usize::from(value));
        range(key, value, holds, "must be 1 to 256")
    };
    let body = limits.body_bytes_max;
    let holds = (1..=BODY_BYTES_MAX).contains(&(body as usize));
    range("limits.body_bytes_max", body, holds, "must be 1 to 65536")?;
    let members = limits.group_members_max;
    let holds = (2..=MEMBERS_PER_REQUEST_MAX).contains(&(members as usize));
    range("limits.group_members_max", members, holds, "must be 2 to 500")?;
    let posts = limits.posts_in_flight_max;
    range("limits.posts_in_flight_max", posts, (1..=1024).contains(&posts), "must be 1 to 1024")?;
    let frames = limits.frames_per_second_max;
    range("limits.frames_per_second_max", frames, frames > 0, "must be at least 1")?;
    Ok(wire::server::Limits {
        frame_bytes_max: u32::try_from(CLIENT_FRAME_BYTES_MAX).expect("below 4 GiB"),
        body_bytes_max: body,
        group_members_max: members,
        sync_page_max: page("limits.sync_page_max", limits.sync_page_max)?,
        history_page_max: page("limits.history_page_max", limits.history_page_max)?,
        channel_page_max: page("limits.channel_page_max", limits.channel_page_max)?,
        posts_in_flight_max: posts,
        frames_per_second_max: frames,
    })
}

fn sequencer(config: &Config) -> Result<SequencerLimits, ConfigError> {
    let limits = &config.limits;
    let channels = limits.channels_per_core_max;
    range("limits.channels_per_core_max", channels, channels >= 1024, "must be at least 1024")?;
    let window = limits.nonce_window;
    let problem = "must be 64 to 65536: a client's unmarked repeats are found within it";
    range("limits.nonce_window", window, (64..=65_536).contains(&window), problem)?;
    Ok(SequencerLimits {
        group_members_max: limits.group_members_max as usize,
        nonce_window: window,
        channels_max: channels,
    })
}

/// What may wait for one session, and what it may hold in all.
fn of_session(config: &Config) -> Result<(usize, usize), ConfigError> {
    let limits = &config.limits;
    let queue = limits.send_queue_bytes_max;
    let problem = "must be at least 524288: a page and the frames after it must fit";
    range("limits.send_queue_bytes_max", queue, queue >= 2 * PAGE_BYTES_MAX, problem)?;
    let session = limits.session_bytes_max;
    let least = queue.saturating_add(SESSION_BYTES_SPARE);
    let holds = (least..=SESSION_BYTES_MAX).contains(&session);
    let problem = "must be at least limits.send_queue_bytes_max + 524288, and at most 1073741824";
    range("limits.session_bytes_max", session, holds, problem)?;
    Ok((queue, session))
}

/// Connections that a processor begins in a second while there is talk, if nothing else is
/// configured: some half of its time.
const ADMISSIONS_PER_PROCESSOR: u32 = 4000;

fn admissions(configured: u32, processors: usize) -> Result<u32, ConfigError> {
    let holds = configured <= 1_000_000;
    let key = "limits.admissions_per_second_max";
    range(key, configured, holds, "must be 0 (by the processors) to 1000000")?;
    let processors = u32::try_from(processors.min(256)).expect("at most 256");
    Ok(if configured == 0 { ADMISSIONS_PER_PROCESSOR * processors } else { configured })
}

/// The memory of the process, and of each of its cores: an even share of what is left when the
/// store has its own.
fn memory(config: &Config, cores: u16) -> Result<(usize, usize), ConfigError> {
    let (asked, store) = (config.limits.memory_bytes_max, &config.store);
    let of_store =
        store.memtable_bytes.saturating_mul(MEMTABLES).saturating_add(store.block_cache_bytes);
    let cores = usize::from(cores);
    let least = of_store.saturating_add(cores * CORE_BYTES_MIN);
    let problem = "must be 0 (half of what the machine or its control group permits), or have room \
                   for the store (8 of store.memtable_bytes, store.block_cache_bytes) and 33554432 \
                   for each core";
    range("limits.memory_bytes_max", asked, asked == 0 || asked >= least, problem)?;
    let half = || {
        let permitted = host_memory::permitted_bytes(Path::new("/")).unwrap_or(u64::MAX);
        usize::try_from(permitted / 2).unwrap_or(usize::MAX).max(least)
    };
    let all = if asked == 0 { half() } else { asked };
    Ok((all, all.saturating_sub(of_store) / cores))
}

/// The buffers of each of so many cores: a power of two.
fn share_of_buffers(cores: u16) -> u16 {
    let (least, most) = RECEIVE_BUFFERS_OF_CORE;
    let share = RECEIVE_BUFFERS / cores;
    let below = share.checked_ilog2().map_or(0, |log| 1 << log);
    below.clamp(least, most)
}

fn ring(config: &Config, cores: u16) -> Result<RingOptions, ConfigError> {
    let io = &config.io;
    let asked = io.receive_buffers;
    let holds = asked == 0 || asked.is_power_of_two() && (16..=16_384).contains(&asked);
    let problem = "must be 0, or a power of two from 16 to 16384";
    range("io.receive_buffers", asked, holds, problem)?;
    let buffers = if asked == 0 { share_of_buffers(cores) } else { asked };
    let bytes = io.receive_buffer_bytes;
    let holds = (512..=65_536).contains(&bytes);
    range("io.receive_buffer_bytes", bytes, holds, "must be 512 to 65536")?;
    Ok(RingOptions {
        sq_entries: 1024,
        cq_entries: (u32::from(buffers) + COMPLETIONS_SPARE).next_power_of_two(),
        // Connections, those being passed on, and the listening sockets' spare.
        descriptors_max: config.limits.connections_per_core_max + 256,
        flights_max: config.limits.connections_per_core_max + 256,
        buffers,
        buffer_bytes: bytes,
    })
}

fn send_blocks(config: &Config) -> Result<(usize, usize), ConfigError> {
    let io = &config.io;
    let holds = (64..=1 << 20).contains(&io.send_blocks);
    range("io.send_blocks", io.send_blocks, holds, "must be 64 to 1048576")?;
    let bytes = io.send_block_bytes;
    let holds = (1024..=65_536).contains(&bytes);
    range("io.send_block_bytes", bytes, holds, "must be 1024 to 65536")?;
    Ok((io.send_blocks, bytes))
}

fn store(config: &Config, cores: u16) -> Result<store::Options, ConfigError> {
    let store = &config.store;
    let shards = store.shards;
    range("store.shards", shards, shards >= cores, "must be at least server.cores")?;
    let interval = store.sync_interval_ms;
    let holds = (1..=60_000).contains(&interval);
    range("store.sync_interval_ms", interval, holds, "must be 1 to 60000")?;
    let memtable = store.memtable_bytes;
    let holds = (1 << 20..=1 << 30).contains(&memtable);
    range("store.memtable_bytes", memtable, holds, "must be 1048576 to 1073741824")?;
    let readers = store.readers;
    range("store.readers", readers, (1..=64).contains(&readers), "must be 1 to 64")?;
    let free = store.disk_free_bytes_min;
    let problem = "must be at least store.memtable_bytes: a full one is still to be written";
    range("store.disk_free_bytes_min", free, free >= memtable as u64, problem)?;
    Ok(store::Options {
        shards,
        sync: match store.sync {
            SyncConfig::Always => store::SyncMode::Always,
            SyncConfig::Interval => store::SyncMode::Interval(Duration::from_millis(interval)),
        },
        memtable_bytes: store.memtable_bytes,
        block_cache_bytes: store.block_cache_bytes,
        readers: store.readers,
        disk_free_bytes_min: store.disk_free_bytes_min,
        // Each core has a few batches: one open, others on their way.
        batches_in_flight_max: usize::from(cores) * BATCHES_PER_CORE,
        // So many batches, each closed at its own bound, are the bound of the bytes: a shard counts
        // its batches, and one that the store did not take would have nowhere to go.
        bytes_in_flight_max: usize::MAX,
        ..store::Options::default()
    })
}

/// Batches of one core that may be on their way: one being synced and one that gathers meanwhile
/// keep the writer busy; the rest is for cores that were just woken.
pub const BATCHES_PER_CORE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str) -> Result<Limits, String> {
        let config: Config = toml::from_str(toml).map_err(|error| error.to_string())?;
        Limits::new(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let limits = check("").unwrap();
        assert_eq!(limits.listen, ["127.0.0.1:7700".parse().unwrap()]);
        assert_eq!((limits.silence_ticks, limits.hello_ticks), (600, 200));
    }

    #[test]
    fn the_cores_share_the_receive_buffers() {
        let rows = [(1, 1024), (4, 1024), (6, 512), (16, 256), (32, 128), (56, 128), (256, 128)];
        for (cores, expected) in rows {
            let ring = check(&format!("[server]\ncores = {cores}")).unwrap().ring;
            assert_eq!(ring.buffers, expected, "{cores} cores");
        }
        assert_eq!(check("[io]\nreceive_buffers = 64").unwrap().ring.buffers, 64);
    }

    #[test]
    fn the_store_takes_every_batch_that_the_cores_have() {
        let store = check("[server]\ncores = 64").unwrap().store;
        assert_eq!(store.batches_in_flight_max, 64 * BATCHES_PER_CORE);
        let bytes = store.batches_in_flight_max * 2 * store.batch_bytes_max;
        assert!(store.bytes_in_flight_max >= bytes, "batches may be over their bound");
    }

    #[test]
    fn the_cores_share_what_the_store_leaves() {
        // The configuration, and the share of a core in MiB.
        let rows = [
            ("[server]\ncores = 4\n[limits]\nmemory_bytes_max = 1073741824", 176),
            ("[server]\ncores = 1\n[limits]\nmemory_bytes_max = 369098752", 32),
            (
                "[server]\ncores = 2\n[limits]\nmemory_bytes_max = 1073741824\n\
                 [store]\nmemtable_bytes = 1048576\nblock_cache_bytes = 0",
                508,
            ),
        ];
        for (toml, mebibytes) in rows {
            assert_eq!(check(toml).unwrap().core_bytes_max, mebibytes << 20, "{toml}");
        }
        let error = check("[server]\ncores = 2\n[limits]\nmemory_bytes_max = 369098752");
        assert!(error.unwrap_err().contains("33554432 for each core"), "one core too many");
        let limits = check("[server]\ncores = 2").unwrap();
        assert!(limits.core_bytes_max >= CORE_BYTES_MIN, "whatever machine this is");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        let rows = [
            ("[server]\nlisten = []", "server.listen"),
            ("[server]\nlisten = ['nowhere']", "server.listen"),
            ("[server]\nadmin = '1.2.3.4'", "server.admin"),
            ("[server]\ncores = 999", "server.cores"),
            ("[server]\nport = 1", "unknown field `port`"),
            ("[servers]", "unknown field `servers`"),
            ("[limits]\nbody_bytes_max = 0", "limits.body_bytes_max = 0"),
            ("[limits]\nbody_bytes_max = 70000", "must be 1 to 65536"),
            ("[limits]\nbody_bytes_max = 'x'", "invalid type"),
            ("[limits]\ngroup_members_max = 501", "limits.group_members_max"),
            ("[limits]\nsync_page_max = 0", "limits.sync_page_max"),
            ("[limits]\nsend_queue_bytes_max = 1000", "limits.send_queue_bytes_max"),
            ("[limits]\nsession_bytes_max = 1572863", "send_queue_bytes_max + 524288"),
            ("[limits]\nsession_bytes_max = 2147483648", "limits.session_bytes_max"),
            ("[limits]\nmemory_bytes_max = 1000", "limits.memory_bytes_max"),
            ("[limits]\nnonce_window = 1", "limits.nonce_window"),
            ("[limits]\nadmissions_per_second_max = 1000001", "limits.admissions_per_second_max"),
            ("[timeouts]\nheartbeat_seconds = 0", "timeouts.heartbeat_seconds"),
            ("[store]\nsync = 'never'", "unknown variant `never`"),
            ("[store]\nsync_interval_ms = 0", "store.sync_interval_ms"),
            ("[store]\nmemtable_bytes = 0", "store.memtable_bytes"),
            ("[store]\nreaders = 0", "store.readers"),
            ("[store]\ndisk_free_bytes_min = 0", "store.disk_free_bytes_min"),
            ("[server]\ndata = ''", "server.data"),
            ("[server]\ndrain_seconds = 3601", "server.drain_seconds"),
            ("[io]\nsend_blocks = 9223372036854775807", "io.send_blocks"),
            ("[io]\nreceive_buffers = 1000", "io.receive_buffers"),
            ("[log]\nformat = 'xml'", "unknown variant `xml`"),
            ("server = 3", "invalid type"),
        ];
        for (toml, expected) in rows {
            let error = check(toml).unwrap_err();
            assert!(error.contains(expected), "{toml}: {error}");
        }
    }
}
