//! What the core has still to be told.
//!
//! A change that touches the database and the core is written to the database as a whole: the rows,
//! and an errand for the core beside them, in one transaction. Then the errand is done. A process
//! that ends in between leaves the errand, and the next one does it; a process that ends after the
//! core has done it and before the errand is struck off leaves it, too, and it is done again with
//! the same nonce, which changes nothing.
//!
//! ```text
//!   rows + errand ---commit---> errand told ---answer---> errand struck off
//!              |                     |                         (with what the core answered)
//!              +---- a crash here ---+---- or here: told again, same nonce
//! ```
//!
//! Errands of one subject (a user, a group) keep their order; subjects do not wait for each other.
//! Several processes may share a database: who works on an errand has taken it for a while.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use wire::{ChannelId, DeviceId, Nonce, RejectCode, Role, Timestamp, UserId};

use crate::App;
use crate::channel;
use crate::clock::{millis, stored as stored_time};
use crate::core::CoreError;
use crate::db::{Change, new_id};
use crate::problem::{Problem, Result};

/// How long who has taken an errand may work on it before another takes it. Longer than any
/// request of the core waits for its answer.
const TAKEN: Duration = Duration::from_secs(30);

/// For so long an errand is left to the request that wrote it.
const OWN_TURN: Duration = Duration::from_secs(3);

/// How long a request waits for its errands; then it answers that they will be done.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often what others left is looked for.
const ROUND: Duration = Duration::from_secs(1);

/// How soon a request looks again whether another has done its errand.
const GLANCE: Duration = Duration::from_millis(20);

/// Between tries: doubling from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Errands of one round.
const ROUND_MAX: i64 = 64;

/// What must keep its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    User(i64),
    Group(i64),
}

impl Subject {
    fn name(self) -> String {
        match self {
            Self::User(id) => format!("user {id}"),
            Self::Group(id) => format!("group {id}"),
        }
    }

    /// Counts the subject's errands, and locks its row until the change is committed.
    const fn count(self) -> (&'static str, i64) {
        match self {
            Self::User(id) => {
                ("UPDATE users SET revision = revision + 1 WHERE id = $1 RETURNING revision", id)
            }
            Self::Group(id) => {
                ("UPDATE groups SET revision = revision + 1 WHERE id = $1 RETURNING revision", id)
            }
        }
    }
}

/// Something that the core is to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Errand {
    /// The tokens of a device (of all for 0) are refused from now on.
    EndSessions { user: u64, device: u32, before: u64 },
    /// What the core has of the user goes.
    Erase { user: u64 },
    /// The group gets its channel.
    Create { group: i64, owner: u64, title: String, members: Vec<u64> },
    /// Somebody comes.
    Add { group: i64, actor: u64, members: Vec<u64> },
    /// Somebody is removed.
    Remove { group: i64, actor: u64, members: Vec<u64> },
    /// Somebody leaves.
    Leave { group: i64, user: u64 },
}

impl Errand {
    /// Whether a refusal with this code says that it is so already.
    const fn is_moot(&self, code: RejectCode) -> bool {
        matches!(self, Self::Remove { .. } | Self::Leave { .. })
            && matches!(code, RejectCode::NotMember | RejectCode::Malformed)
    }
}

/// Writes an errand, in the transaction that needs it.
pub(crate) async fn put(
    change: &mut Change,
    subject: Subject,
    now: Timestamp,
    errand: &Errand,
) -> Result<()> {
    let (count, id) = subject.count();
    let place: i64 = sqlx::query_scalar(count).bind(id).fetch_one(change.on()).await?;
    let insert = "INSERT INTO outbox (subject, place, nonce, errand, created_at, due_at) \
         VALUES ($1, $2, $3, $4, $5, $6)";
    let errand = serde_json::to_string(errand).map_err(|error| Problem::internal(&error))?;
    sqlx::query(insert)
        .bind(subject.name())
        .bind(place)
        .bind(new_id())
        .bind(errand)
        .bind(stored_time(now))
        .bind(stored_time(now).saturating_add(millis(OWN_TURN)))
        .execute(change.on())
        .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    subject: String,
    place: i64,
    nonce: i64,
    errand: String,
    attempts: i64,
}

/// Does a subject's errands now; whether all are done. They go on if the client goes.
pub(crate) async fn settle(app: &App, subject: Subject) -> bool {
    let app = Arc::clone(app);
    let all = async move { settle_all(&app, &subject.name()).await };
    match tokio::time::timeout(PATIENCE, tokio::spawn(all)).await {
        Ok(Ok(Ok(is_done))) => is_done,
        Ok(Ok(Err(_logged))) => false,
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn settle_all(app: &App, subject: &str) -> Result<bool> {
    let first = "SELECT subject, place, nonce, errand, attempts FROM outbox \
         WHERE subject = $1 ORDER BY place LIMIT 1";
    let mut glances = PATIENCE.as_millis() / GLANCE.as_millis();
    loop {
        let row = sqlx::query_as::<_, Row>(first).bind(subject);
        let Some(row) = row.fetch_optional(app.db.read()).await? else { return Ok(true) };
        match attempt(app, row).await? {
            Attempt::Done => {}
            Attempt::Failed => return Ok(false),
            Attempt::Taken if glances == 0 => return Ok(false),
            Attempt::Taken => {
                glances -= 1;
                tokio::time::sleep(GLANCE).await;
            }
        }
    }
}

/// Does what others have left behind, for as long as the process runs.
pub(crate) async fn run(app: App) {
    let mut rounds = tokio::time::interval(ROUND);
    loop {
        rounds.tick().await;
        if let Err(problem) = round(&app).await {
            tracing::warn!(?problem, "the outbox cannot be read");
        }
    }
}

/// One look at what is due.
pub(crate) async fn round(app: &App) -> Result<()> {
    // The first of each subject: the others wait for it.
    let due = "SELECT subject, place, nonce, errand, attempts FROM outbox AS one \
         WHERE due_at <= $1 AND taken_until <= $1 AND NOT EXISTS \
         (SELECT 1 FROM outbox AS earlier WHERE earlier.subject = one.subject \
          AND earlier.place < one.place) \
         ORDER BY due_at LIMIT $2";
    let now = stored_time(app.clock.now());
    let due = sqlx::query_as::<_, Row>(due).bind(now).bind(ROUND_MAX);
    for row in due.fetch_all(app.db.read()).await? {
        attempt(app, row).await?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attempt {
    Done,
    /// It is to be tried again later.
    Failed,
    /// Somebody else works on it.
    Taken,
}

async fn attempt(app: &App, row: Row) -> Result<Attempt> {
    let now = stored_time(app.clock.now());
    let take = "UPDATE outbox SET taken_until = $1, attempts = attempts + 1 \
         WHERE subject = $2 AND place = $3 AND taken_until <= $4";
    let until = now.saturating_add(millis(TAKEN));
    let mut change = app.db.change().await?;
    let take = sqlx::query(take).bind(until).bind(&row.subject).bind(row.place).bind(now);
    if take.execute(change.on()).await?.rows_affected() == 0 {
        return Ok(Attempt::Taken);
    }
    change.commit().await?;
    let errand: Errand =
        serde_json::from_str(&row.errand).map_err(|error| Problem::internal(&error))?;
    let nonce = Nonce(row.nonce.unsigned_abs());
    let mut made = None;
    match perform(app, &errand, nonce).await {
        Ok(answer) => made = answer,
        Err(CoreError::Unavailable(why)) => {
            tracing::warn!(subject = row.subject, row.place, why, "the core is told later");
            put_off(app, &row).await?;
            return Ok(Attempt::Failed);
        }
        // Who goes is gone: by her own doing on the socket, or with her account.
        Err(CoreError::Refused { code, .. }) if errand.is_moot(code) => {}
        // It would be refused for ever, and hold up what comes after it.
        Err(CoreError::Refused { code, text }) => {
            tracing::error!(subject = row.subject, ?errand, ?code, text, "the core refuses");
        }
    }
    strike_off(app, &row, made).await?;
    Ok(Attempt::Done)
}

/// Tells the core; the channel of a group that it has made.
async fn perform(
    app: &App,
    errand: &Errand,
    nonce: Nonce,
) -> Result<Option<(i64, ChannelId)>, CoreError> {
    let core = &app.core;
    match errand {
        Errand::EndSessions { user, device, before } => {
            core.end_sessions(id(*user)?, DeviceId(*device), Timestamp(*before)).await?;
        }
        Errand::Erase { user } => core.erase(id(*user)?).await?,
        Errand::Create { group, owner, title, members } => {
            let channel = core.create_group(id(*owner)?, nonce, title, &ids(members)?).await?;
            return Ok(Some((*group, channel)));
        }
        Errand::Add { group, actor, members } => {
            let (channel, role) = (channel_of(app, *group).await?, Role::Member);
            core.add_members(id(*actor)?, channel, nonce, &ids(members)?, role).await?;
        }
        Errand::Remove { group, actor, members } => {
            let channel = channel_of(app, *group).await?;
            core.remove_members(id(*actor)?, channel, nonce, &ids(members)?).await?;
        }
        Errand::Leave { group, user } => {
            core.leave(id(*user)?, channel_of(app, *group).await?, nonce).await?;
        }
    }
    Ok(None)
}

/// Errands are made of what the database has; one that is not is refused for ever.
fn refused(text: &str) -> CoreError {
    CoreError::Refused { code: RejectCode::Malformed, text: text.to_owned() }
}

fn id(number: u64) -> Result<UserId, CoreError> {
    UserId::new(number).ok_or_else(|| refused("there is no user 0"))
}

fn ids(numbers: &[u64]) -> Result<Vec<UserId>, CoreError> {
    numbers.iter().map(|&number| id(number)).collect()
}

async fn channel_of(app: &App, group: i64) -> Result<ChannelId, CoreError> {
    let query = sqlx::query_scalar("SELECT channel FROM groups WHERE id = $1").bind(group);
    let name: Option<String> = query
        .fetch_optional(app.db.read())
        .await
        .map_err(|error| CoreError::Unavailable(error.to_string()))?;
    name.as_deref().and_then(channel::read).ok_or_else(|| refused("the group has no channel"))
}

async fn strike_off(app: &App, row: &Row, made: Option<(i64, ChannelId)>) -> Result<()> {
    let mut change = app.db.change().await?;
    if let Some((group, made)) = made {
        let update = sqlx::query("UPDATE groups SET channel = $1 WHERE id = $2");
        update.bind(channel::name(made)).bind(group).execute(change.on()).await?;
    }
    let delete = "DELETE FROM outbox WHERE subject = $1 AND place = $2";
    sqlx::query(delete).bind(&row.subject).bind(row.place).execute(change.on()).await?;
    change.commit().await?;
    Ok(())
}

/// Full jitter: half of them come in the first half of the wait.
async fn put_off(app: &App, row: &Row) -> Result<()> {
    let doublings = u32::try_from(row.attempts.clamp(0, 6)).unwrap_or(0);
    let wait = (RETRY.0 * 2u32.pow(doublings)).min(RETRY.1);
    let wait = rand::rng().random_range(0..=millis(wait));
    let due = stored_time(app.clock.now()).saturating_add(wait);
    let put_off =
        "UPDATE outbox SET due_at = $1, taken_until = 0 WHERE subject = $2 AND place = $3";
    let mut change = app.db.change().await?;
    sqlx::query(put_off).bind(due).bind(&row.subject).bind(row.place).execute(change.on()).await?;
    change.commit().await?;
    Ok(())
}
