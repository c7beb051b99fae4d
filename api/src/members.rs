//! Members of a group: roles, coming, going, bans.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::clock::stored as stored_time;
use crate::extract::{Body, Caller, Place};
use crate::groups::{Locked, Role, add_row, group, require_addable, require_room_for_group};
use crate::outbox::Errand;
use crate::problem::{Problem, Result};
use crate::profiles::{Profile, ProfileRow, number, profile_columns};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(set_role, remove))
        .routes(routes!(leave))
        .routes(routes!(bans))
        .routes(routes!(ban, lift_ban))
}

/// A member of a group.
#[derive(Serialize, ToSchema)]
struct Member {
    user: Profile,
    role: Role,
    joined_at: i64,
}

#[derive(sqlx::FromRow)]
struct MemberRow {
    #[sqlx(flatten)]
    profile: ProfileRow,
    role: String,
    joined_at: i64,
}

#[derive(Serialize, ToSchema)]
struct Members {
    members: Vec<Member>,
}

/// The members of a group, who came first first.
#[utoipa::path(get, path = "/v1/groups/{id}/members", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, description = "All of them.", body = Members), Problem))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u64>,
) -> Result<Json<Members>> {
    let id = number(id, "group")?;
    group(&app, caller, id).await?;
    let query = concat!(
        "SELECT ",
        profile_columns!(),
        ", group_members.role, group_members.joined_at FROM group_members \
         JOIN users ON users.id = group_members.user_id WHERE group_id = $1 \
         ORDER BY group_members.place, users.id"
    );
    let rows = sqlx::query_as::<_, MemberRow>(query).bind(id).fetch_all(app.db.read()).await?;
    let member = |row: MemberRow| Member {
        user: row.profile.into(),
        role: Role::read(&row.role),
        joined_at: row.joined_at,
    };
    Ok(Json(Members { members: rows.into_iter().map(member).collect() }))
}

/// Who is to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMembers {
    /// Friends of the caller.
    #[schema(min_items = 1, max_items = 499)]
    members: Vec<u64>,
}

/// Add members. For admins, and their friends alone.
#[utoipa::path(post, path = "/v1/groups/{id}/members", tag = "groups", params(("id" = u64, Path)),
    request_body = NewMembers,
    responses((status = 204, description = "They are members."),
        (status = 202, description = "They are; the core is told later."), Problem))]
async fn add(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u64>,
    Body(form): Body<NewMembers>,
) -> Result<StatusCode> {
    let mut locked = Locked::open(&app, caller, id, Role::Admin).await?;
    let mut members = Vec::new();
    for other in form.members {
        let number = number(other, "user")?;
        if locked.role_of(number).await?.is_some() {
            continue;
        }
        require_addable(&mut locked.change, caller.id(), number).await?;
        locked.admit(&app, number).await?;
        members.push(other);
    }
    if members.is_empty() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let actor = locked.core_owner.unsigned_abs();
    let errand = Errand::Add { group: locked.group, actor, members };
    locked.tell(&app, &errand).await?;
    locked.settle(&app).await
}

impl Locked {
    /// A row for who comes: if she is not banned, and there is room for her.
    pub(crate) async fn admit(&mut self, app: &App, user: i64) -> Result<()> {
        let query = "SELECT 1 FROM group_bans WHERE group_id = $1 AND user_id = $2";
        let banned = sqlx::query(query).bind(self.group).bind(user);
        if banned.fetch_optional(self.change.on()).await?.is_some() {
            return Err(Problem::conflict("this user is banned from the group"));
        }
        let count = "SELECT COUNT(*) FROM group_members WHERE group_id = $1";
        let count: i64 =
            sqlx::query_scalar(count).bind(self.group).fetch_one(self.change.on()).await?;
        if count >= app.settings.group_members_max {
            return Err(Problem::limit(app.settings.group_members_max, "members of a group"));
        }
        require_room_for_group(app, &mut self.change, user).await?;
        add_row(app, &mut self.change, self.group, user, Role::Member, self.revision + 1).await
    }

    /// Removes a member's row, and tells the core. The owner's place goes to the first admin, or to
    /// who has been there longest.
    pub(crate) async fn dismiss(&mut self, app: &App, user: i64, role: Role) -> Result<()> {
        let delete = "DELETE FROM group_members WHERE group_id = $1 AND user_id = $2";
        sqlx::query(delete).bind(self.group).bind(user).execute(self.change.on()).await?;
        if role == Role::Owner {
            let heir = "UPDATE group_members SET role = 'owner' WHERE group_id = $1 AND user_id = \
                 (SELECT user_id FROM group_members WHERE group_id = $1 \
                  ORDER BY CASE role WHEN 'admin' THEN 0 ELSE 1 END, place, user_id LIMIT 1)";
            sqlx::query(heir).bind(self.group).execute(self.change.on()).await?;
        }
        let (group, number) = (self.group, user.unsigned_abs());
        if user != self.core_owner {
            let actor = self.core_owner.unsigned_abs();
            let errand = Errand::Remove { group, actor, members: vec![number] };
            return self.tell(app, &errand).await;
        }
        // Nobody can remove the core's owner. There her place goes to who came first, as here.
        let heir = "UPDATE groups SET core_owner = COALESCE((SELECT user_id FROM group_members \
             WHERE group_id = $1 ORDER BY place, user_id LIMIT 1), core_owner) \
             WHERE id = $1 RETURNING core_owner";
        let heir = sqlx::query_scalar(heir).bind(group);
        self.core_owner = heir.fetch_one(self.change.on()).await?;
        self.tell(app, &Errand::Leave { group, user: number }).await
    }
}

/// A role for a member.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    /// `owner` hands the group over: the caller becomes an admin.
    role: Role,
}

/// Give a member a role. For the owner.
#[utoipa::path(put, path = "/v1/groups/{id}/members/{user}", tag = "groups",
    params(("id" = u64, Path), ("user" = u64, Path)), request_body = NewRole,
    responses((status = 204, description = "She has it."), Problem))]
async fn set_role(
    State(app): State<App>,
    caller: Caller,
    Place((id, user)): Place<(u64, u64)>,
    Body(form): Body<NewRole>,
) -> Result<StatusCode> {
    let user = number(user, "member")?;
    let mut locked = Locked::open(&app, caller, id, Role::Owner).await?;
    if user == caller.id() {
        return Err(Problem::conflict("the owner stays owner until she hands the group over"));
    }
    if locked.role_of(user).await?.is_none() {
        return Err(Problem::not_found("member"));
    }
    let update = "UPDATE group_members SET role = $1 WHERE group_id = $2 AND user_id = $3";
    let mut roles = vec![(user, form.role)];
    if form.role == Role::Owner {
        roles.push((caller.id(), Role::Admin));
    }
    for (user, role) in roles {
        let update = sqlx::query(update).bind(role.name()).bind(locked.group).bind(user);
        update.execute(locked.change.on()).await?;
    }
    locked.change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a member who has a lower role. For admins.
#[utoipa::path(delete, path = "/v1/groups/{id}/members/{user}", tag = "groups",
    params(("id" = u64, Path), ("user" = u64, Path)),
    responses((status = 204, description = "She is no member."),
        (status = 202, description = "She is none; the core is told later."), Problem))]
async fn remove(
    State(app): State<App>,
    caller: Caller,
    Place((id, user)): Place<(u64, u64)>,
) -> Result<StatusCode> {
    let user = number(user, "member")?;
    let mut locked = Locked::open(&app, caller, id, Role::Admin).await?;
    let role = locked.role_of(user).await?.ok_or_else(|| Problem::not_found("member"))?;
    if role >= locked.role {
        return Err(Problem::forbidden("she has a role like yours"));
    }
    locked.dismiss(&app, user, role).await?;
    locked.settle(&app).await
}

/// Leave a group. The owner's place goes to the first admin, or to who has been there longest.
#[utoipa::path(post, path = "/v1/groups/{id}/leave", tag = "groups", params(("id" = u64, Path)),
    responses((status = 204, description = "The caller is no member."),
        (status = 202, description = "She is none; the core is told later."), Problem))]
async fn leave(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u64>,
) -> Result<StatusCode> {
    let mut locked = Locked::open(&app, caller, id, Role::Member).await?;
    let role = locked.role;
    locked.dismiss(&app, caller.id(), role).await?;
    locked.settle(&app).await
}

#[derive(Serialize, ToSchema)]
struct Banned {
    banned: Vec<Profile>,
}

/// Who is banned from a group, at most 500. For admins.
#[utoipa::path(get, path = "/v1/groups/{id}/bans", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, description = "The latest first.", body = Banned), Problem))]
async fn bans(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u64>,
) -> Result<Json<Banned>> {
    let mut locked = Locked::open(&app, caller, id, Role::Admin).await?;
    let query = concat!(
        "SELECT ",
        profile_columns!(),
        " FROM group_bans JOIN users ON users.id = group_bans.user_id WHERE group_id = $1 \
         ORDER BY at DESC LIMIT 500"
    );
    let rows = sqlx::query_as::<_, ProfileRow>(query).bind(locked.group);
    let rows = rows.fetch_all(locked.change.on()).await?;
    Ok(Json(Banned { banned: rows.into_iter().map(Profile::from).collect() }))
}

/// Ban somebody, who is removed if she is a member. For admins.
#[utoipa::path(put, path = "/v1/groups/{id}/bans/{user}", tag = "groups",
    params(("id" = u64, Path), ("user" = u64, Path)),
    responses((status = 204, description = "She is banned."),
        (status = 202, description = "She is; the core is told later."), Problem))]
async fn ban(
    State(app): State<App>,
    caller: Caller,
    Place((id, user)): Place<(u64, u64)>,
) -> Result<StatusCode> {
    let user = number(user, "user")?;
    let mut locked = Locked::open(&app, caller, id, Role::Admin).await?;
    let known = sqlx::query("SELECT 1 FROM users WHERE id = $1 AND deleted_at = 0").bind(user);
    if known.fetch_optional(locked.change.on()).await?.is_none() {
        return Err(Problem::not_found("user"));
    }
    let role = locked.role_of(user).await?;
    if role.is_some_and(|role| role >= locked.role) {
        return Err(Problem::forbidden("she has a role like yours"));
    }
    let insert = "INSERT INTO group_bans (group_id, user_id, by_id, at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING";
    let insert = sqlx::query(insert).bind(locked.group).bind(user).bind(caller.id());
    insert.bind(stored_time(app.clock.now())).execute(locked.change.on()).await?;
    if let Some(role) = role {
        locked.dismiss(&app, user, role).await?;
    }
    locked.settle(&app).await
}

/// Lift a ban. For admins.
#[utoipa::path(delete, path = "/v1/groups/{id}/bans/{user}", tag = "groups",
    params(("id" = u64, Path), ("user" = u64, Path)),
    responses((status = 204, description = "She is not banned."), Problem))]
async fn lift_ban(
    State(app): State<App>,
    caller: Caller,
    Place((id, user)): Place<(u64, u64)>,
) -> Result<StatusCode> {
    let user = number(user, "user")?;
    let mut locked = Locked::open(&app, caller, id, Role::Admin).await?;
    let delete = "DELETE FROM group_bans WHERE group_id = $1 AND user_id = $2";
    let delete = sqlx::query(delete).bind(locked.group).bind(user);
    if delete.execute(locked.change.on()).await?.rows_affected() == 0 {
        return Err(Problem::not_found("ban"));
    }
    locked.change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
