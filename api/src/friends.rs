//! Friends, requests to be one, and blocks.
//!
//! Who is blocked does not learn it: what she asks for is answered as ever, and is not shown.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::clock::stored as stored_time;
use crate::db::Change;
use crate::extract::{Caller, Place, Query};
use crate::problem::{Problem, Result};
use crate::profiles::{Profile, ProfileRow, number, profile_columns};

/// Entries of a page.
const PAGE_MAX: u16 = 500;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(friends))
        .routes(routes!(accept, unfriend))
        .routes(routes!(requests))
        .routes(routes!(ask, refuse))
        .routes(routes!(blocks))
        .routes(routes!(block, unblock))
}

const FRIEND: &str = "friend";
const REQUEST: &str = "request";
const BLOCK: &str = "block";

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PageOf {
    /// The id of the last one that is known; without it from the beginning.
    #[serde(default)]
    after: u64,
    /// How many at most; 500 without it.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u16>,
}

/// People, in the order of their ids.
#[derive(Serialize, ToSchema)]
struct People {
    people: Vec<Profile>,
    /// Whether there are more after the last of these.
    more: bool,
}

async fn page(
    app: &App,
    query: &'static str,
    caller: Caller,
    page: &PageOf,
) -> Result<Json<People>> {
    let limit = page.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::field("limit", format!("must be 1 to {PAGE_MAX}")));
    }
    // Nobody has an id beyond what the database can hold.
    let after = i64::try_from(page.after).unwrap_or(i64::MAX);
    let rows = sqlx::query_as::<_, ProfileRow>(query).bind(caller.id()).bind(after);
    let rows = rows.bind(i64::from(limit) + 1).fetch_all(app.db.read()).await?;
    let more = rows.len() > usize::from(limit);
    let people = rows.into_iter().take(limit.into()).map(Profile::from).collect();
    Ok(Json(People { people, more }))
}

/// The caller's friends.
#[utoipa::path(get, path = "/v1/friends", tag = "friends", params(PageOf),
    responses((status = 200, description = "A page of them.", body = People), Problem))]
async fn friends(
    State(app): State<App>,
    caller: Caller,
    Query(of): Query<PageOf>,
) -> Result<Json<People>> {
    let query = concat!(
        "SELECT ",
        profile_columns!(),
        " FROM relations JOIN users ON users.id = relations.other_id WHERE user_id = $1 \
         AND kind = 'friend' AND other_id > $2 ORDER BY other_id LIMIT $3"
    );
    page(&app, query, caller, &of).await
}

/// Those whom the caller has blocked.
#[utoipa::path(get, path = "/v1/blocks", tag = "friends", params(PageOf),
    responses((status = 200, description = "A page of them.", body = People), Problem))]
async fn blocks(
    State(app): State<App>,
    caller: Caller,
    Query(of): Query<PageOf>,
) -> Result<Json<People>> {
    let query = concat!(
        "SELECT ",
        profile_columns!(),
        " FROM relations JOIN users ON users.id = relations.other_id WHERE user_id = $1 \
         AND kind = 'block' AND other_id > $2 ORDER BY other_id LIMIT $3"
    );
    page(&app, query, caller, &of).await
}

/// Open requests, the newest first, at most 500 of each kind.
#[derive(Serialize, ToSchema)]
struct Requests {
    /// Of others to the caller.
    incoming: Vec<Profile>,
    /// Of the caller to others.
    outgoing: Vec<Profile>,
}

/// Open requests of and to the caller.
#[utoipa::path(get, path = "/v1/friend-requests", tag = "friends",
    responses((status = 200, description = "All of them.", body = Requests), Problem))]
async fn requests(State(app): State<App>, caller: Caller) -> Result<Json<Requests>> {
    let incoming = concat!(
        "SELECT ",
        profile_columns!(),
        " FROM relations JOIN users ON users.id = relations.user_id WHERE other_id = $1 \
         AND kind = 'request' AND NOT EXISTS (SELECT 1 FROM relations AS mine \
         WHERE mine.user_id = $1 AND mine.kind = 'block' AND mine.other_id = relations.user_id) \
         ORDER BY at DESC LIMIT $2"
    );
    let outgoing = concat!(
        "SELECT ",
        profile_columns!(),
        " FROM relations JOIN users ON users.id = relations.other_id WHERE user_id = $1 \
         AND kind = 'request' ORDER BY at DESC LIMIT $2"
    );
    let list = async |query: &'static str| {
        let rows = sqlx::query_as::<_, ProfileRow>(query).bind(caller.id());
        let rows = rows.bind(i64::from(PAGE_MAX)).fetch_all(app.db.read()).await?;
        Ok::<_, Problem>(rows.into_iter().map(Profile::from).collect())
    };
    Ok(Json(Requests { incoming: list(incoming).await?, outgoing: list(outgoing).await? }))
}

/// A change of what is between the caller and somebody else.
struct Pair {
    change: Change,
    caller: i64,
    other: i64,
    now: i64,
}

impl Pair {
    /// Locks both accounts, which must be there, in the order of their ids.
    async fn lock(app: &App, caller: Caller, other: u64) -> Result<Self> {
        let other = number(other, "user")?;
        if other == caller.id() {
            return Err(Problem::field("path", "must be somebody else"));
        }
        let mut change = app.db.change().await?;
        for id in [caller.id().min(other), caller.id().max(other)] {
            lock_user(&mut change, id).await?;
        }
        Ok(Self { change, caller: caller.id(), other, now: stored_time(app.clock.now()) })
    }

    async fn has(&mut self, user: i64, kind: &str, other: i64) -> Result<bool> {
        let query = "SELECT 1 FROM relations WHERE user_id = $1 AND kind = $2 AND other_id = $3";
        let query = sqlx::query(query).bind(user).bind(kind).bind(other);
        Ok(query.fetch_optional(self.change.on()).await?.is_some())
    }

    async fn add(&mut self, user: i64, kind: &str, other: i64) -> Result<()> {
        let insert = "INSERT INTO relations (user_id, kind, other_id, at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING";
        let insert = sqlx::query(insert).bind(user).bind(kind).bind(other).bind(self.now);
        insert.execute(self.change.on()).await?;
        Ok(())
    }

    /// Whether it was there.
    async fn remove(&mut self, user: i64, kind: &str, other: i64) -> Result<bool> {
        let delete = "DELETE FROM relations WHERE user_id = $1 AND kind = $2 AND other_id = $3";
        let delete = sqlx::query(delete).bind(user).bind(kind).bind(other);
        Ok(delete.execute(self.change.on()).await?.rows_affected() > 0)
    }

    async fn befriend(&mut self) -> Result<()> {
        let (caller, other) = (self.caller, self.other);
        for (user, friend) in [(caller, other), (other, caller)] {
            self.remove(user, REQUEST, friend).await?;
            self.add(user, FRIEND, friend).await?;
        }
        Ok(())
    }

    /// That there is room for one more, on both sides.
    async fn require_room(&mut self, most: i64) -> Result<()> {
        let count = "SELECT COUNT(*) FROM relations WHERE user_id = $1 AND kind <> 'block'";
        let hers: i64 =
            sqlx::query_scalar(count).bind(self.caller).fetch_one(self.change.on()).await?;
        let count = "SELECT COUNT(*) FROM relations WHERE other_id = $1 AND kind = 'request'";
        let open: i64 =
            sqlx::query_scalar(count).bind(self.other).fetch_one(self.change.on()).await?;
        if hers >= most || open >= most {
            return Err(Problem::limit(most, "friends and open requests"));
        }
        Ok(())
    }

    async fn done(self) -> Result<StatusCode> {
        self.change.commit().await?;
        Ok(StatusCode::NO_CONTENT)
    }
}

/// Locks an account, which must be there.
pub(crate) async fn lock_user(change: &mut Change, id: i64) -> Result<()> {
    let lock = "UPDATE users SET revision = revision WHERE id = $1 AND deleted_at = 0";
    let locked = sqlx::query(lock).bind(id).execute(change.on()).await?;
    if locked.rows_affected() == 0 {
        return Err(Problem::not_found("user"));
    }
    Ok(())
}

/// Ask somebody to be a friend. If she has asked already, they are friends now.
#[utoipa::path(put, path = "/v1/friend-requests/{user}", tag = "friends",
    params(("user" = u64, Path)), responses((status = 204, description = "Done."), Problem))]
async fn ask(
    State(app): State<App>,
    caller: Caller,
    Place(other): Place<u64>,
) -> Result<StatusCode> {
    let mut pair = Pair::lock(&app, caller, other).await?;
    let (me, other) = (pair.caller, pair.other);
    if pair.has(me, FRIEND, other).await? || pair.has(me, REQUEST, other).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    if pair.has(me, BLOCK, other).await? {
        return Err(Problem::conflict("you have blocked this user; unblock her first"));
    }
    pair.require_room(app.settings.friends_max).await?;
    if pair.has(other, REQUEST, me).await? && !pair.has(other, BLOCK, me).await? {
        pair.befriend().await?;
    } else {
        pair.add(me, REQUEST, other).await?;
    }
    pair.done().await
}

/// Refuse somebody's request, or take back one's own.
#[utoipa::path(delete, path = "/v1/friend-requests/{user}", tag = "friends",
    params(("user" = u64, Path)), responses((status = 204, description = "Done."), Problem))]
async fn refuse(
    State(app): State<App>,
    caller: Caller,
    Place(other): Place<u64>,
) -> Result<StatusCode> {
    let mut pair = Pair::lock(&app, caller, other).await?;
    let (me, other) = (pair.caller, pair.other);
    let (hers, mine) =
        (pair.remove(other, REQUEST, me).await?, pair.remove(me, REQUEST, other).await?);
    if !(hers || mine) {
        return Err(Problem::not_found("request"));
    }
    pair.done().await
}

/// Accept somebody's request.
#[utoipa::path(put, path = "/v1/friends/{user}", tag = "friends", params(("user" = u64, Path)),
    responses((status = 204, description = "They are friends."), Problem))]
async fn accept(
    State(app): State<App>,
    caller: Caller,
    Place(other): Place<u64>,
) -> Result<StatusCode> {
    let mut pair = Pair::lock(&app, caller, other).await?;
    let (me, other) = (pair.caller, pair.other);
    if pair.has(me, FRIEND, other).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    if !pair.has(other, REQUEST, me).await? || pair.has(me, BLOCK, other).await? {
        return Err(Problem::not_found("request"));
    }
    pair.require_room(app.settings.friends_max).await?;
    pair.befriend().await?;
    pair.done().await
}

/// Be friends no more.
#[utoipa::path(delete, path = "/v1/friends/{user}", tag = "friends", params(("user" = u64, Path)),
    responses((status = 204, description = "They are not friends."), Problem))]
async fn unfriend(
    State(app): State<App>,
    caller: Caller,
    Place(other): Place<u64>,
) -> Result<StatusCode> {
    let mut pair = Pair::lock(&app, caller, other).await?;
    let (me, other) = (pair.caller, pair.other);
    if !pair.remove(me, FRIEND, other).await? {
        return Err(Problem::not_found("friend"));
    }
    pair.remove(other, FRIEND, me).await?;
    pair.done().await
}

/// Block somebody: not friends any more, no requests, not to be added to groups. She is not told.
#[utoipa::path(put, path = "/v1/blocks/{user}", tag = "friends", params(("user" = u64, Path)),
    responses((status = 204, description = "She is blocked."), Problem))]
async fn block(
    State(app): State<App>,
    caller: Caller,
    Place(other): Place<u64>,
) -> Result<StatusCode> {
    let mut pair = Pair::lock(&app, caller, other).await?;
    let (me, other) = (pair.caller, pair.other);
    let count = "SELECT COUNT(*) FROM relations WHERE user_id = $1 AND kind = 'block'";
    let blocked: i64 = sqlx::query_scalar(count).bind(me).fetch_one(pair.change.on()).await?;
    if blocked >= app.settings.friends_max {
        return Err(Problem::limit(app.settings.friends_max, "blocks"));
    }
    pair.remove(me, FRIEND, other).await?;
    pair.remove(other, FRIEND, me).await?;
    pair.remove(me, REQUEST, other).await?;
    pair.add(me, BLOCK, other).await?;
    pair.done().await
}

/// Unblock somebody.
#[utoipa::path(delete, path = "/v1/blocks/{user}", tag = "friends", params(("user" = u64, Path)),
    responses((status = 204, description = "She is not blocked."), Problem))]
async fn unblock(
    State(app): State<App>,
    caller: Caller,
    Place(other): Place<u64>,
) -> Result<StatusCode> {
    let mut pair = Pair::lock(&app, caller, other).await?;
    let (me, other) = (pair.caller, pair.other);
    if !pair.remove(me, BLOCK, other).await? {
        return Err(Problem::not_found("block"));
    }
    pair.done().await
}
