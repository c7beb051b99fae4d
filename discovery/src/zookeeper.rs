//! Gateways in ZooKeeper: each is an ephemeral node, so one that dies is gone within the session
//! timeout, and whoever answers clients watches them.
//!
//! ```text
//! /mooring/gateways/ID   ephemeral, a Record as JSON, written anew when its load changes
//! /mooring/rollout       a Rollout as JSON while there is one
//! ```
//!
//! Neither side ends on a failure: what cannot be reached is tried again, and what was known last
//! stays known, and is said to be old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use zookeeper_client::{
    Acls, AddWatchMode, Client, CreateMode, CreateOptions, Error, EventType, PersistentWatcher,
    SessionState,
};

use crate::board::Board;
use crate::record::{Record, Rollout};

/// Between two looks at everything: what a watch has missed is seen then.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Between two attempts to connect.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Where ZooKeeper is, and what of it is ours.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HOST:PORT[,HOST:PORT...]`.
    pub cluster: String,
    /// The node that all others stand below, like `/mooring`.
    pub root: String,
    /// How long a gateway may be silent before it is gone.
    pub session_timeout: Duration,
}

impl Settings {
    fn gateways(&self) -> String {
        format!("{}/gateways", self.root)
    }

    fn rollout(&self) -> String {
        format!("{}/rollout", self.root)
    }

    fn node(&self, id: &str) -> String {
        format!("{}/{id}", self.gateways())
    }

    async fn connect(&self) -> Result<Client, Error> {
        let connector = Client::connector().with_session_timeout(self.session_timeout);
        let client = connector.connect(&self.cluster).await?;
        client.mkdir(&self.gateways(), &persistent()).await?;
        Ok(client)
    }
}

const fn persistent() -> CreateOptions<'static> {
    CreateMode::Persistent.with_acls(Acls::anyone_all())
}

const fn ephemeral() -> CreateOptions<'static> {
    CreateMode::Ephemeral.with_acls(Acls::anyone_all())
}

/// Makes a gateway known, and each change of its record, until the sender of the records is
/// dropped; then it is taken back.
pub async fn announce(settings: Settings, mut records: watch::Receiver<Record>) {
    loop {
        match announce_once(&settings, &mut records).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%error, cluster = settings.cluster, "not announced; trying again");
            }
        }
        if records.has_changed().is_err() {
            return; // Nobody is to be announced any more.
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn announce_once(
    settings: &Settings,
    records: &mut watch::Receiver<Record>,
) -> Result<(), Error> {
    let client = settings.connect().await?;
    let mut states = client.state_watcher();
    let mut record = records.borrow_and_update().clone();
    let node = settings.node(&record.id);
    put_node(&client, &node, &record).await?;
    tracing::info!(node, "announced");
    loop {
        tokio::select! {
            state = states.changed() => match state {
                state if state.is_terminated() => return Err(Error::SessionExpired),
                // What could not be written while nobody was there.
                SessionState::SyncConnected => write(&client, &node, &record).await?,
                _ => {}
            },
            changed = records.changed() => {
                if changed.is_err() {
                    let _ = client.delete(&node, None).await;
                    return Ok(());
                }
                record = records.borrow_and_update().clone();
                write(&client, &node, &record).await?;
            }
        }
    }
}

/// A connection that is lost comes back by itself, or the session ends.
async fn write(client: &Client, node: &str, record: &Record) -> Result<(), Error> {
    match client.set_data(node, &record.to_json(), None).await {
        Ok(_) | Err(Error::ConnectionLoss) => Ok(()),
        // Another session's end has taken it along, or somebody has removed it.
        Err(Error::NoNode) => put_node(client, node, record).await,
        Err(error) => Err(error),
    }
}

async fn put_node(client: &Client, node: &str, record: &Record) -> Result<(), Error> {
    let json = record.to_json();
    match client.create(node, &json, &ephemeral()).await {
        Ok(_) => Ok(()),
        Err(Error::NodeExists) => {
            // Of the session before this one, which would take it along when it ends.
            match client.delete(node, None).await {
                Ok(()) | Err(Error::NoNode) => {}
                Err(error) => return Err(error),
            }
            client.create(node, &json, &ephemeral()).await.map(drop)
        }
        Err(error) => Err(error),
    }
}

/// Keeps a board as ZooKeeper has it. Never ends; stop it by dropping it.
pub async fn follow(settings: Settings, board: Arc<Board>) {
    loop {
        let Err(error) = follow_once(&settings, &board).await;
        tracing::warn!(%error, cluster = settings.cluster, "gateways are not followed");
        board.set_stale(true, now());
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn follow_once(
    settings: &Settings,
    board: &Board,
) -> Result<std::convert::Infallible, Error> {
    let client = settings.connect().await?;
    Follower { client, settings, board }.run().await
}

struct Follower<'f> {
    client: Client,
    settings: &'f Settings,
    board: &'f Board,
}

impl Follower<'_> {
    async fn run(self) -> Result<std::convert::Infallible, Error> {
        let patience = self.settings.session_timeout;
        let mut root = self.watch().await?;
        read_all(&self.client, self.settings, self.board, patience).await?;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut is_connected = true;
        loop {
            let event = tokio::select! {
                event = root.changed() => event,
                _ = looks.tick(), if is_connected => {
                    match read_all(&self.client, self.settings, self.board, Duration::ZERO).await {
                        Ok(()) | Err(Error::ConnectionLoss) => continue,
                        Err(error) => return Err(error),
                    }
                }
            };
            match event.event_type {
                EventType::Session => match event.session_state {
                    // Some changes are told to nobody while the connection is lost.
                    SessionState::SyncConnected => {
                        root = self.watch().await?;
                        read_all(&self.client, self.settings, self.board, patience).await?;
                        is_connected = true;
                    }
                    state if state.is_terminated() => return Err(Error::SessionExpired),
                    _ => {
                        is_connected = false;
                        self.board.set_stale(true, now());
                    }
                },
                _ if event.path == self.settings.rollout() => {
                    read_rollout(&self.client, self.settings, self.board).await?;
                }
                _ => self.read_gateway(&event.path).await?,
            }
        }
    }

    async fn watch(&self) -> Result<PersistentWatcher, Error> {
        self.client.watch(&self.settings.root, AddWatchMode::PersistentRecursive).await
    }

    async fn read_gateway(&self, path: &str) -> Result<(), Error> {
        let gateways = self.settings.gateways();
        let id = path.strip_prefix(&gateways).and_then(|rest| rest.strip_prefix('/'));
        let Some(id) = id else { return Ok(()) };
        match self.client.get_data(path).await {
            Ok((json, _)) => put(self.board, &json),
            Err(Error::NoNode) => self.board.remove(id),
            Err(Error::ConnectionLoss) => {} // All is read when it is back.
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Reads everything anew. What is missing stays for `patience`.
async fn read_all(
    client: &Client,
    settings: &Settings,
    board: &Board,
    patience: Duration,
) -> Result<(), Error> {
    read_rollout(client, settings, board).await?;
    let mut records = Vec::new();
    for id in client.list_children(&settings.gateways()).await? {
        match client.get_data(&settings.node(&id)).await {
            Ok((json, _)) => records.extend(parsed(&json)),
            Err(Error::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
    let now = now();
    board.replace(records, now, patience);
    board.set_stale(false, now);
    Ok(())
}

async fn read_rollout(client: &Client, settings: &Settings, board: &Board) -> Result<(), Error> {
    let rollout = match client.get_data(&settings.rollout()).await {
        Ok((json, _)) => match serde_json::from_slice::<Rollout>(&json) {
            Ok(rollout) => Some(rollout),
            Err(error) => {
                tracing::error!(%error, node = settings.rollout(), "not a rollout: left out");
                None
            }
        },
        Err(Error::NoNode) => None,
        Err(error) => return Err(error),
    };
    board.set_rollout(rollout);
    Ok(())
}

fn put(board: &Board, json: &[u8]) {
    if let Some(record) = parsed(json) {
        board.put(record);
    }
}

fn parsed(json: &[u8]) -> Option<Record> {
    Record::from_json(json).map_err(|error| tracing::error!(%error, "left out")).ok()
}

#[expect(clippy::disallowed_methods, reason = "the edge of the pure part: the time is read here")]
fn now() -> Instant {
    Instant::now()
}
