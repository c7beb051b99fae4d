//! Invitations: a code that lets in whoever has it, for a while and for so many.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::clock::stored as stored_time;
use crate::db::new_id;
use crate::extract::{Body, Caller, Place};
use crate::groups::{Group, Locked, Role, group};
use crate::outbox::Errand;
use crate::problem::{Problem, Result};
use crate::profiles::number;

/// Invitations of one group that are good.
const INVITES_MAX: i64 = 100;

/// The longest that one is good: 30 days.
const SECONDS_MAX: u32 = 30 * 24 * 60 * 60;

/// The most that one lets in.
const USES_MAX: u32 = 10_000;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
        .routes(routes!(look, join))
}

/// A new invitation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewInvite {
    /// How long it is good; a week without it.
    #[serde(default = "a_week")]
    #[schema(minimum = 60, maximum = 2_592_000)]
    seconds: u32,
    /// How many it lets in; 100 without it.
    #[serde(default = "a_hundred")]
    #[schema(minimum = 1, maximum = 10_000)]
    uses: u32,
}

const fn a_week() -> u32 {
    7 * 24 * 60 * 60
}

const fn a_hundred() -> u32 {
    100
}

/// An invitation of a group.
#[derive(Serialize, ToSchema)]
struct Invite {
    id: u64,
    /// The code; told once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Who made it.
    by: u64,
    created_at: i64,
    expires_at: i64,
    uses_left: i64,
}

#[derive(Serialize, ToSchema)]
struct Invites {
    invites: Vec<Invite>,
}

/// What of a code is kept.
fn hash(code: &str) -> String {
    blake3::hash(code.as_bytes()).to_hex().to_string()
}

/// The invitations of a group that are good. For admins.
#[utoipa::path(get, path = "/v1/groups/{id}/invites", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, description = "All of them.", body = Invites), Problem))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u64>,
) -> Result<Json<Invites>> {
    let mut locked = Locked::open(&app, caller, id, Role::Admin).await?;
    let query = "SELECT id, by_id, created_at, expires_at, uses_left FROM invites \
         WHERE group_id = $1 AND expires_at > $2 AND uses_left > 0 ORDER BY expires_at, id";
    let rows = sqlx::query_as::<_, (i64, i64, i64, i64, i64)>(query).bind(locked.group);
    let rows = rows.bind(stored_time(app.clock.now())).fetch_all(locked.change.on()).await?;
    let invite = |(id, by, created_at, expires_at, uses_left): (i64, i64, _, _, _)| Invite {
        id: id.unsigned_abs(),
        code: None,
        by: by.unsigned_abs(),
        created_at,
        expires_at,
        uses_left,
    };
    Ok(Json(Invites { invites: rows.into_iter().map(invite).collect() }))
}

/// Make an invitation. For admins.
#[utoipa::path(post, path = "/v1/groups/{id}/invites", tag = "groups", params(("id" = u64, Path)),
    request_body = NewInvite,
    responses((status = 201, description = "It is good now.", body = Invite), Problem))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u64>,
    Body(form): Body<NewInvite>,
) -> Result<(StatusCode, Json<Invite>)> {
    if !(60..=SECONDS_MAX).contains(&form.seconds) {
        return Err(Problem::field("seconds", format!("must be 60 to {SECONDS_MAX}")));
    }
    if !(1..=USES_MAX).contains(&form.uses) {
        return Err(Problem::field("uses", format!("must be 1 to {USES_MAX}")));
    }
    let mut locked = Locked::open(&app, caller, id, Role::Admin).await?;
    let now = stored_time(app.clock.now());
    let used_up = "DELETE FROM invites WHERE group_id = $1 AND (expires_at <= $2 OR uses_left = 0)";
    sqlx::query(used_up).bind(locked.group).bind(now).execute(locked.change.on()).await?;
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM invites WHERE group_id = $1");
    let count: i64 = count.bind(locked.group).fetch_one(locked.change.on()).await?;
    if count >= INVITES_MAX {
        return Err(Problem::limit(INVITES_MAX, "invitations of a group"));
    }
    let code = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
    let (id, expires_at) = (new_id(), now.saturating_add(i64::from(form.seconds) * 1000));
    let insert = "INSERT INTO invites \
         (id, group_id, code_hash, by_id, created_at, expires_at, uses_left) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let insert = sqlx::query(insert).bind(id).bind(locked.group).bind(hash(&code));
    let insert = insert.bind(caller.id()).bind(now).bind(expires_at).bind(i64::from(form.uses));
    insert.execute(locked.change.on()).await?;
    locked.change.commit().await?;
    let invite = Invite {
        id: id.unsigned_abs(),
        code: Some(code),
        by: caller.user.get(),
        created_at: now,
        expires_at,
        uses_left: form.uses.into(),
    };
    Ok((StatusCode::CREATED, Json(invite)))
}

/// Revoke an invitation. For admins.
#[utoipa::path(delete, path = "/v1/groups/{id}/invites/{invite}", tag = "groups",
    params(("id" = u64, Path), ("invite" = u64, Path)),
    responses((status = 204, description = "It lets nobody in."), Problem))]
async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Place((id, invite)): Place<(u64, u64)>,
) -> Result<StatusCode> {
    let mut locked = Locked::open(&app, caller, id, Role::Admin).await?;
    let delete = sqlx::query("DELETE FROM invites WHERE id = $1 AND group_id = $2");
    let delete = delete.bind(number(invite, "invitation")?).bind(locked.group);
    if delete.execute(locked.change.on()).await?.rows_affected() == 0 {
        return Err(Problem::not_found("invitation"));
    }
    locked.change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A group as somebody with an invitation sees it.
#[derive(Serialize, ToSchema)]
struct Invitation {
    group: u64,
    title: String,
    members: i64,
}

/// See what a code lets into.
#[utoipa::path(get, path = "/v1/invites/{code}", tag = "groups", params(("code" = String, Path)),
    responses((status = 200, description = "The group.", body = Invitation), Problem))]
async fn look(
    State(app): State<App>,
    _: Caller,
    Place(code): Place<String>,
) -> Result<Json<Invitation>> {
    let query = "SELECT groups.id, groups.title, (SELECT COUNT(*) FROM group_members \
         WHERE group_members.group_id = groups.id) AS members FROM invites \
         JOIN groups ON groups.id = invites.group_id \
         WHERE code_hash = $1 AND expires_at > $2 AND uses_left > 0";
    let row = sqlx::query_as::<_, (i64, String, i64)>(query).bind(hash(&code));
    let row = row.bind(stored_time(app.clock.now())).fetch_optional(app.db.read()).await?;
    let (id, title, members) = row.ok_or_else(|| Problem::not_found("invitation"))?;
    Ok(Json(Invitation { group: id.unsigned_abs(), title, members }))
}

/// Join a group by an invitation. Who is banned finds no such invitation.
#[utoipa::path(post, path = "/v1/invites/{code}", tag = "groups", params(("code" = String, Path)),
    responses((status = 200, description = "The caller is a member.", body = Group),
        (status = 202, description = "She is; the core is told later.", body = Group), Problem))]
async fn join(
    State(app): State<App>,
    caller: Caller,
    Place(code): Place<String>,
) -> Result<(StatusCode, Json<Group>)> {
    let none = || Problem::not_found("invitation");
    let query = sqlx::query_scalar("SELECT group_id FROM invites WHERE code_hash = $1");
    let id: Option<i64> = query.bind(hash(&code)).fetch_optional(app.db.read()).await?;
    let id = id.ok_or_else(none)?;
    let mut locked = Locked::of(app.db.change().await?, id).await?;
    if locked.role_of(caller.id()).await?.is_some() {
        drop(locked);
        return Ok((StatusCode::OK, Json(group(&app, caller, id).await?)));
    }
    let banned = sqlx::query("SELECT 1 FROM group_bans WHERE group_id = $1 AND user_id = $2");
    let banned = banned.bind(id).bind(caller.id()).fetch_optional(locked.change.on()).await?;
    let take = "UPDATE invites SET uses_left = uses_left - 1 \
         WHERE code_hash = $1 AND expires_at > $2 AND uses_left > 0";
    let take = sqlx::query(take).bind(hash(&code)).bind(stored_time(app.clock.now()));
    let is_good = take.execute(locked.change.on()).await?.rows_affected() == 1;
    if banned.is_some() || !is_good {
        return Err(none());
    }
    locked.admit(&app, caller.id()).await?;
    let (actor, members) = (locked.core_owner.unsigned_abs(), vec![caller.user.get()]);
    locked.tell(&app, &Errand::Add { group: id, actor, members }).await?;
    let status = match locked.settle(&app).await? {
        StatusCode::NO_CONTENT => StatusCode::OK,
        later => later,
    };
    Ok((status, Json(group(&app, caller, id).await?)))
}
