//! Groups: making, listing, naming.
//!
//! The database says who is a member and in which role. The core has the same members, without
//! their roles: it is told of every change by the outbox, as done by the group's owner *there*,
//! `core_owner`: who made the group, and, if she leaves, who has been there longest.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::clock::stored as stored_time;
use crate::db::{Change, new_id};
use crate::extract::{Body, Caller, Place};
use crate::friends::lock_user;
use crate::outbox::{self, Errand, Subject};
use crate::problem::{Problem, Result};
use crate::profiles::number;
use crate::text;

/// Bytes of a title: the protocol's bound.
const TITLE_BYTES: usize = wire::limits::TITLE_BYTES_MAX;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, rename))
}

/// What a member may do. Each may do all that those before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Read and write.
    Member,
    /// Name the group, add people, remove and ban members, invite.
    Admin,
    /// All that, and give roles. There is one.
    Owner,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// As the database has it; what is not known may least.
    pub(crate) fn read(name: &str) -> Self {
        match name {
            "owner" => Self::Owner,
            "admin" => Self::Admin,
            _ => Self::Member,
        }
    }
}

/// A group that the caller is in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Group {
    id: u64,
    /// Its channel, as in `/v1/channels/{channel}`; null until the core has made it.
    channel: Option<String>,
    title: String,
    /// The caller's.
    role: Role,
    members: u64,
    created_at: i64,
}

#[derive(sqlx::FromRow)]
struct GroupRow {
    id: i64,
    channel: String,
    title: String,
    role: String,
    members: i64,
    created_at: i64,
}

/// The columns of a [`GroupRow`], of `groups` joined with the caller's row of `group_members`.
macro_rules! group_columns {
    () => {
        "SELECT groups.id, groups.channel, groups.title, mine.role, groups.created_at, \
         (SELECT COUNT(*) FROM group_members AS one WHERE one.group_id = groups.id) AS members \
         FROM groups JOIN group_members AS mine ON mine.group_id = groups.id "
    };
}

impl From<GroupRow> for Group {
    fn from(row: GroupRow) -> Self {
        Self {
            id: row.id.unsigned_abs(),
            channel: Some(row.channel).filter(|channel| !channel.is_empty()),
            title: row.title,
            role: Role::read(&row.role),
            members: row.members.unsigned_abs(),
            created_at: row.created_at,
        }
    }
}

/// A group as a member sees it.
pub(crate) async fn group(app: &App, caller: Caller, id: i64) -> Result<Group> {
    let query = concat!(group_columns!(), "WHERE groups.id = $1 AND mine.user_id = $2");
    let row = sqlx::query_as::<_, GroupRow>(query).bind(id).bind(caller.id());
    let row = row.fetch_optional(app.db.read()).await?;
    row.map(Group::from).ok_or_else(|| Problem::not_found("group"))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Groups {
    groups: Vec<Group>,
}

/// All groups of a user, the newest first.
pub(crate) async fn all_of(app: &App, user: i64) -> Result<Groups> {
    let query = concat!(
        group_columns!(),
        "WHERE mine.user_id = $1 ORDER BY groups.created_at DESC, groups.id LIMIT $2"
    );
    let rows = sqlx::query_as::<_, GroupRow>(query).bind(user).bind(app.settings.groups_max);
    let rows = rows.fetch_all(app.db.read()).await?;
    Ok(Groups { groups: rows.into_iter().map(Group::from).collect() })
}

/// The caller's groups, the newest first.
#[utoipa::path(get, path = "/v1/groups", tag = "groups",
    responses((status = 200, description = "All of them.", body = Groups), Problem))]
async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Groups>> {
    Ok(Json(all_of(&app, caller.id()).await?))
}

/// A new group.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    #[schema(min_length = 1, max_length = 128)]
    title: String,
    /// Friends of the caller, who is a member herself.
    #[serde(default)]
    #[schema(max_items = 499)]
    members: Vec<u64>,
}

/// Make a group.
#[utoipa::path(post, path = "/v1/groups", tag = "groups", request_body = NewGroup,
    responses(
        (status = 201, description = "It is made.", body = Group),
        (status = 202, description = "It will be: the core is told later.", body = Group),
        Problem))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(form): Body<NewGroup>,
) -> Result<(StatusCode, Json<Group>)> {
    let title = text::line("title", &form.title, TITLE_BYTES)?;
    let most = app.settings.group_members_max;
    let mut others = form.members;
    others.retain(|&other| other != caller.user.get());
    others.sort_unstable();
    others.dedup();
    if i64::try_from(others.len()).unwrap_or(i64::MAX) >= most {
        return Err(Problem::field("members", format!("a group has at most {most} members")));
    }
    let now = app.clock.now();
    let mut change = app.db.change().await?;
    lock_user(&mut change, caller.id()).await?;
    require_room_for_group(&app, &mut change, caller.id()).await?;
    let group = new_id();
    let insert = "INSERT INTO groups (id, title, core_owner, created_at) VALUES ($1, $2, $3, $4)";
    let insert = sqlx::query(insert).bind(group).bind(title).bind(caller.id());
    insert.bind(stored_time(now)).execute(change.on()).await?;
    add_row(&app, &mut change, group, caller.id(), Role::Owner, 0).await?;
    for &other in &others {
        let other = number(other, "user")?;
        require_addable(&mut change, caller.id(), other).await?;
        require_room_for_group(&app, &mut change, other).await?;
        add_row(&app, &mut change, group, other, Role::Member, 0).await?;
    }
    let owner = caller.user.get();
    let errand = Errand::Create { group, owner, title: title.to_owned(), members: others };
    outbox::put(&mut change, Subject::Group(group), now, &errand).await?;
    change.commit().await?;
    let is_made = outbox::settle(&app, Subject::Group(group)).await;
    let status = if is_made { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    Ok((status, Json(self::group(&app, caller, group).await?)))
}

/// A row of a member. `place` is the group's revision with which she comes.
pub(crate) async fn add_row(
    app: &App,
    change: &mut Change,
    group: i64,
    user: i64,
    role: Role,
    place: i64,
) -> Result<()> {
    let insert = "INSERT INTO group_members (group_id, user_id, role, place, joined_at) \
         VALUES ($1, $2, $3, $4, $5)";
    let insert = sqlx::query(insert).bind(group).bind(user).bind(role.name()).bind(place);
    insert.bind(stored_time(app.clock.now())).execute(change.on()).await?;
    Ok(())
}

/// Only friends may be added: everybody else comes by an invitation.
pub(crate) async fn require_addable(change: &mut Change, user: i64, other: i64) -> Result<()> {
    let query = "SELECT 1 FROM relations WHERE user_id = $1 AND kind = 'friend' AND other_id = $2";
    let found = sqlx::query(query).bind(user).bind(other).fetch_optional(change.on()).await?;
    if found.is_none() {
        let problem = format!("{other} is not a friend of yours; send her an invitation");
        return Err(Problem::field("members", problem));
    }
    Ok(())
}

/// That a user may be in one group more.
pub(crate) async fn require_room_for_group(
    app: &App,
    change: &mut Change,
    user: i64,
) -> Result<()> {
    let count = "SELECT COUNT(*) FROM group_members WHERE user_id = $1";
    let count: i64 = sqlx::query_scalar(count).bind(user).fetch_one(change.on()).await?;
    if count >= app.settings.groups_max {
        return Err(Problem::limit(app.settings.groups_max, "groups of one user"));
    }
    Ok(())
}

/// A group.
#[utoipa::path(get, path = "/v1/groups/{id}", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, description = "As a member sees it.", body = Group), Problem))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u64>,
) -> Result<Json<Group>> {
    Ok(Json(group(&app, caller, number(id, "group")?).await?))
}

/// Another title.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Title {
    #[schema(min_length = 1, max_length = 128)]
    title: String,
}

/// Give a group another title. For admins.
#[utoipa::path(patch, path = "/v1/groups/{id}", tag = "groups", params(("id" = u64, Path)),
    request_body = Title,
    responses((status = 200, description = "As it is now.", body = Group), Problem))]
async fn rename(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u64>,
    Body(form): Body<Title>,
) -> Result<Json<Group>> {
    let title = text::line("title", &form.title, TITLE_BYTES)?;
    let mut locked = Locked::open(&app, caller, id, Role::Admin).await?;
    let update = sqlx::query("UPDATE groups SET title = $1 WHERE id = $2");
    update.bind(title).bind(locked.group).execute(locked.change.on()).await?;
    let group = locked.group;
    locked.change.commit().await?;
    Ok(Json(self::group(&app, caller, group).await?))
}

/// A group of which the caller is a member, locked for a change.
pub(crate) struct Locked {
    pub(crate) change: Change,
    pub(crate) group: i64,
    /// The caller's.
    pub(crate) role: Role,
    pub(crate) core_owner: i64,
    pub(crate) revision: i64,
}

impl Locked {
    /// For a caller who has this role at least. To others than members it is not there.
    pub(crate) async fn open(app: &App, caller: Caller, id: u64, least: Role) -> Result<Self> {
        let group = number(id, "group")?;
        let mut locked = Self::of(app.db.change().await?, group).await?;
        let role = locked.role_of(caller.id()).await?;
        locked.role = role.ok_or_else(|| Problem::not_found("group"))?;
        if locked.role < least {
            let detail = format!("only the group's {} may do this", least.name());
            return Err(Problem::forbidden(&detail));
        }
        Ok(locked)
    }

    /// For whoever comes to it: nobody's rights are looked at.
    pub(crate) async fn of(mut change: Change, group: i64) -> Result<Self> {
        let lock = "UPDATE groups SET revision = revision WHERE id = $1 \
             RETURNING core_owner, revision";
        let row = sqlx::query_as::<_, (i64, i64)>(lock).bind(group);
        let row = row.fetch_optional(change.on()).await?;
        let (core_owner, revision) = row.ok_or_else(|| Problem::not_found("group"))?;
        Ok(Self { change, group, role: Role::Member, core_owner, revision })
    }

    /// A user's role; none for one who is no member.
    pub(crate) async fn role_of(&mut self, user: i64) -> Result<Option<Role>> {
        let query = "SELECT role FROM group_members WHERE group_id = $1 AND user_id = $2";
        let query = sqlx::query_scalar::<_, String>(query).bind(self.group).bind(user);
        Ok(query.fetch_optional(self.change.on()).await?.map(|name| Role::read(&name)))
    }

    /// Writes an errand for the core.
    pub(crate) async fn tell(&mut self, app: &App, errand: &Errand) -> Result<()> {
        outbox::put(&mut self.change, Subject::Group(self.group), app.clock.now(), errand).await
    }

    /// Commits, and tells the core.
    pub(crate) async fn settle(self, app: &App) -> Result<StatusCode> {
        let group = self.group;
        self.change.commit().await?;
        let is_done = outbox::settle(app, Subject::Group(group)).await;
        Ok(if is_done { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
    }
}
