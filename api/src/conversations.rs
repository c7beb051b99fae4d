//! Conversations and their messages: what the core has, with the names that the database has.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::{ChannelId, InboxSeq, Nonce, RejectCode, Seq};

use crate::App;
use crate::channel;
use crate::clock::stored as stored_time;
use crate::core::{self, Content, CoreError, Window};
use crate::extract::{Body, Caller, Place, Query, stored};
use crate::problem::{Kind, Problem, Result};
use crate::profiles::{Profile, ProfileRow, profile_columns};

/// Entries of a page, whatever the core permits beyond.
const PAGE_MAX: u16 = 100;

/// Channels that one user has muted.
const MUTES_MAX: i64 = 10_000;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(messages, post))
        .routes(routes!(mark_read))
        .routes(routes!(mute, unmute))
}

/// Why the core did not do it, as a client sees it.
impl From<CoreError> for Problem {
    fn from(error: CoreError) -> Self {
        use RejectCode as R;
        let (code, text) = match error {
            CoreError::Unavailable(why) => {
                tracing::warn!(why, "the core does not answer");
                return Self::later(Kind::CoreUnavailable, "the core does not answer just now", 1);
            }
            CoreError::Refused { code, text } => (code, text),
        };
        match code {
            R::NotMember => Self::not_found("channel"),
            R::NotPermitted => Self::forbidden(&text),
            R::TooLarge => Self::new(Kind::TooLarge, text),
            R::NonceReused => Self::of_field(Kind::Conflict, "nonce", &text),
            R::RateLimited | R::Overloaded | R::StorageFull | R::Draining => {
                Self::later(Kind::CoreUnavailable, &text, 1)
            }
            _ => Self::new(Kind::Invalid, text),
        }
    }
}

/// One entry of a channel.
#[derive(Serialize, ToSchema)]
pub(crate) struct Entry {
    /// Its place in the channel, from 1 without gaps.
    seq: u64,
    /// Whose doing it is.
    user: u64,
    /// On which of her devices; 0 for one that came over HTTP.
    device: u32,
    created_at: u64,
    /// `message`, `created`, `added`, `removed` or `left`.
    #[serde(rename = "type")]
    what: &'static str,
    /// Of a message: 0 for text, from 16 on the application's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<u8>,
    /// Of a message of kind 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Of any other message, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Of `created`.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// Of `created`, `added` and `removed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<u64>>,
}

impl From<core::Entry> for Entry {
    fn from(entry: core::Entry) -> Self {
        let mut shown = Self {
            seq: entry.seq.get(),
            user: entry.user.get(),
            device: entry.device.0,
            created_at: entry.created_at,
            what: "message",
            kind: None,
            text: None,
            body: None,
            title: None,
            members: None,
        };
        let numbers = |users: Vec<wire::UserId>| Some(users.iter().map(|it| it.get()).collect());
        match entry.content {
            Content::Message { kind: 0, body } => {
                shown.kind = Some(0);
                shown.text = Some(String::from_utf8_lossy(&body).into_owned());
            }
            Content::Message { kind, body } => {
                shown.kind = Some(kind);
                shown.body = Some(BASE64_STANDARD.encode(body));
            }
            Content::Created { title, members } => {
                (shown.what, shown.title, shown.members) =
                    ("created", Some(title), numbers(members));
            }
            Content::Added(users) => (shown.what, shown.members) = ("added", numbers(users)),
            Content::Removed(users) => (shown.what, shown.members) = ("removed", numbers(users)),
            Content::Left => shown.what = "left",
        }
        shown
    }
}

/// One of the caller's conversations.
#[derive(Serialize, ToSchema)]
struct Conversation {
    channel: String,
    /// The place of its last entry, and up to where the caller has read.
    last_seq: u64,
    read_seq: u64,
    /// Their difference.
    unread: u64,
    /// Its place in the list: give that of the last one as `before` to go on.
    position: u64,
    /// Its last entry; null where the page had no room for it.
    last: Option<Entry>,
    /// Until when she wants no notifications; 0 if she wants them.
    muted_until: i64,
    /// Of a group.
    group: Option<GroupName>,
    /// Of a conversation of two: the other one; of one with herself: the caller.
    user: Option<Profile>,
}

#[derive(Clone, Serialize, ToSchema)]
struct GroupName {
    id: u64,
    title: String,
}

#[derive(Serialize, ToSchema)]
struct Conversations {
    conversations: Vec<Conversation>,
    /// Whether there are older ones.
    more: bool,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListPage {
    /// The `position` of the last one that is known; without it from the latest on.
    #[serde(default)]
    before: u64,
    /// How many at most; 100 without it.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u16>,
}

fn page_limit(limit: Option<u16>) -> Result<u16> {
    let limit = limit.unwrap_or(PAGE_MAX);
    if (1..=PAGE_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::field("limit", format!("must be 1 to {PAGE_MAX}")))
    }
}

/// The caller's conversations, the latest first, each with its last message and what is unread.
#[utoipa::path(get, path = "/v1/conversations", tag = "conversations", params(ListPage),
    responses((status = 200, description = "A page of them.", body = Conversations), Problem))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<ListPage>,
) -> Result<Json<Conversations>> {
    let limit = page_limit(page.limit)?;
    let found = app.core.conversations(caller.user, InboxSeq::new(page.before), limit).await?;
    let channels: Vec<ChannelId> = found.items.iter().map(|it| it.channel).collect();
    let mut names = Names::of(&app, caller, &channels).await?;
    let conversation = |it: core::Conversation| {
        let channel = channel::name(it.channel);
        Conversation {
            last_seq: it.last_seq.get(),
            read_seq: it.read_seq.get(),
            unread: it.last_seq.since(it.read_seq),
            position: it.inbox_seq.get(),
            last: it.last.map(Entry::from),
            muted_until: names.mutes.remove(&channel).unwrap_or(0),
            group: names.groups.get(&channel).cloned(),
            user: other_of(it.channel, caller).and_then(|id| names.users.get(&id).cloned()),
            channel,
        }
    };
    let conversations = found.items.into_iter().map(conversation).collect();
    Ok(Json(Conversations { conversations, more: found.more }))
}

/// The other one of a conversation of two.
fn other_of(channel: ChannelId, caller: Caller) -> Option<i64> {
    let (one, other) = channel.pair()?;
    Some(stored(if one == caller.user { other } else { one }))
}

/// What the database knows of the channels of one page: three questions, however long it is.
struct Names {
    groups: HashMap<String, GroupName>,
    users: HashMap<i64, Profile>,
    mutes: HashMap<String, i64>,
}

impl Names {
    async fn of(app: &App, caller: Caller, channels: &[ChannelId]) -> Result<Self> {
        let names: Vec<String> = channels.iter().copied().map(channel::name).collect();
        let others: Vec<i64> = channels.iter().filter_map(|it| other_of(*it, caller)).collect();
        let (mut groups, mut users, mut mutes) = (HashMap::new(), HashMap::new(), HashMap::new());
        if !names.is_empty() {
            let list = places(1, names.len());
            let query = format!("SELECT channel, id, title FROM groups WHERE channel IN ({list})");
            let mut rows = sqlx::query_as::<_, (String, i64, String)>(AssertSqlSafe(query));
            for name in &names {
                rows = rows.bind(name);
            }
            for (channel, id, title) in rows.fetch_all(app.db.read()).await? {
                groups.insert(channel, GroupName { id: id.unsigned_abs(), title });
            }
            let list = places(2, names.len());
            let query = "SELECT channel, until FROM mutes WHERE user_id = $1 AND channel IN";
            let query = format!("{query} ({list})");
            let mut rows = sqlx::query_as::<_, (String, i64)>(AssertSqlSafe(query));
            rows = rows.bind(caller.id());
            for name in &names {
                rows = rows.bind(name);
            }
            let now = stored_time(app.clock.now());
            let rows = rows.fetch_all(app.db.read()).await?;
            mutes.extend(rows.into_iter().filter(|&(_, until)| until > now));
        }
        if !others.is_empty() {
            let columns = profile_columns!();
            let list = places(1, others.len());
            let query = format!("SELECT {columns} FROM users WHERE id IN ({list})");
            let mut rows = sqlx::query_as::<_, ProfileRow>(AssertSqlSafe(query));
            for id in &others {
                rows = rows.bind(id);
            }
            let rows = rows.fetch_all(app.db.read()).await?;
            users.extend(rows.into_iter().map(|row| (row.id(), Profile::from(row))));
        }
        Ok(Self { groups, users, mutes })
    }
}

/// `$first, …`: so many placeholders.
fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|place| format!("${place}")).collect();
    places.join(", ")
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct HistoryPage {
    /// The newest before this place. Without it and without `from`: before the end.
    before: Option<u64>,
    /// The oldest from this place on.
    from: Option<u64>,
    /// How many at most; 100 without it.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u16>,
}

#[derive(Serialize, ToSchema)]
struct Entries {
    /// In ascending order.
    entries: Vec<Entry>,
    /// Whether the channel goes on in this direction.
    more: bool,
}

/// Entries of a channel, in either direction.
#[utoipa::path(get, path = "/v1/channels/{channel}/messages", tag = "conversations",
    params(("channel" = String, Path), HistoryPage),
    responses((status = 200, description = "A page of them.", body = Entries), Problem))]
async fn messages(
    State(app): State<App>,
    caller: Caller,
    Place(name): Place<String>,
    Query(page): Query<HistoryPage>,
) -> Result<Json<Entries>> {
    let channel = channel::required(&name)?;
    let window = match (page.before, page.from) {
        (Some(_), Some(_)) => return Err(Problem::field("from", "give `before` or `from`")),
        (before, None) => Window::Before(Seq::new(before.unwrap_or(0))),
        (None, Some(from)) => Window::From(Seq::new(from.max(1))),
    };
    let found = app.core.history(caller.user, channel, window, page_limit(page.limit)?).await?;
    let entries = found.items.into_iter().map(Entry::from).collect();
    Ok(Json(Entries { entries, more: found.more }))
}

/// A message.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    /// The client's own number for this message in this channel, the same when it is sent again:
    /// 64 random bits, or a counter that is kept. (53 bits where numbers are JavaScript's.)
    #[schema(minimum = 1)]
    nonce: u64,
    #[schema(min_length = 1)]
    text: String,
}

/// What became of a message.
#[derive(Serialize, ToSchema)]
struct Posted {
    /// Its place in the channel.
    seq: u64,
}

/// Post a message of text. It is on the disk when this is answered.
#[utoipa::path(post, path = "/v1/channels/{channel}/messages", tag = "conversations",
    params(("channel" = String, Path)), request_body = NewMessage,
    responses((status = 201, description = "It has its place.", body = Posted), Problem))]
async fn post(
    State(app): State<App>,
    caller: Caller,
    Place(name): Place<String>,
    Body(form): Body<NewMessage>,
) -> Result<(StatusCode, Json<Posted>)> {
    let channel = channel::required(&name)?;
    if form.nonce == 0 {
        return Err(Problem::field("nonce", "must not be 0"));
    }
    if form.text.is_empty() {
        return Err(Problem::field("text", "must not be empty"));
    }
    let body = form.text.into_bytes();
    let seq = app.core.post(caller.user, channel, Nonce(form.nonce), 0, body).await?;
    Ok((StatusCode::CREATED, Json(Posted { seq: seq.get() })))
}

/// Up to where the caller has read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReadUpTo {
    seq: u64,
}

/// Say up to where a channel is read. It never goes back.
#[utoipa::path(put, path = "/v1/channels/{channel}/read", tag = "conversations",
    params(("channel" = String, Path)), request_body = ReadUpTo,
    responses((status = 204, description = "It is."), Problem))]
async fn mark_read(
    State(app): State<App>,
    caller: Caller,
    Place(name): Place<String>,
    Body(form): Body<ReadUpTo>,
) -> Result<StatusCode> {
    let channel = channel::required(&name)?;
    app.core.mark_read(caller.user, channel, Seq::new(form.seq)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// For how long there are to be no notifications.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Mute {
    /// Milliseconds since 1970; without it for ever.
    #[schema(minimum = 1)]
    until: Option<i64>,
}

/// Mute a conversation.
#[utoipa::path(put, path = "/v1/conversations/{channel}/mute", tag = "conversations",
    params(("channel" = String, Path)), request_body = Mute,
    responses((status = 204, description = "It is muted."), Problem))]
async fn mute(
    State(app): State<App>,
    caller: Caller,
    Place(name): Place<String>,
    Body(form): Body<Mute>,
) -> Result<StatusCode> {
    channel::required(&name)?;
    let mut change = app.db.change().await?;
    crate::friends::lock_user(&mut change, caller.id()).await?;
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM mutes WHERE user_id = $1");
    let count: i64 = count.bind(caller.id()).fetch_one(change.on()).await?;
    if count >= MUTES_MAX {
        return Err(Problem::limit(MUTES_MAX, "muted conversations"));
    }
    let insert = "INSERT INTO mutes (user_id, channel, until) VALUES ($1, $2, $3) \
         ON CONFLICT (user_id, channel) DO UPDATE SET until = $3";
    let insert = sqlx::query(insert).bind(caller.id()).bind(&name);
    insert.bind(form.until.unwrap_or(i64::MAX)).execute(change.on()).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Unmute a conversation.
#[utoipa::path(delete, path = "/v1/conversations/{channel}/mute", tag = "conversations",
    params(("channel" = String, Path)),
    responses((status = 204, description = "It is not muted."), Problem))]
async fn unmute(
    State(app): State<App>,
    caller: Caller,
    Place(name): Place<String>,
) -> Result<StatusCode> {
    channel::required(&name)?;
    let delete = sqlx::query("DELETE FROM mutes WHERE user_id = $1 AND channel = $2");
    let mut change = app.db.change().await?;
    delete.bind(caller.id()).bind(&name).execute(change.on()).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
