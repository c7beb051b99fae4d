//! Profiles, avatars and settings; and finding people by their handle.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::extract::{Body, Caller, Place, Query, body_bytes};
use crate::problem::{Kind, Problem, Result};
use crate::text;

/// Bytes of what somebody says about herself.
const ABOUT_BYTES: usize = 1024;

/// Bytes of a client's settings.
const SETTINGS_BYTES: usize = 16 * 1024;

/// The pictures that are taken, and how each begins. Pictures that are programs (SVG) are not.
const PICTURES: [(&str, usize, &[u8]); 3] = [
    ("image/png", 0, b"\x89PNG\r\n"),
    ("image/jpeg", 0, b"\xff\xd8\xff"),
    ("image/webp", 8, b"WEBP"),
];

pub(crate) fn routes(avatar_bytes_max: usize) -> OpenApiRouter<App> {
    let pictures = OpenApiRouter::new()
        .routes(routes!(set_avatar, remove_avatar))
        .layer(DefaultBodyLimit::max(avatar_bytes_max));
    OpenApiRouter::new()
        .routes(routes!(me, change_me))
        .routes(routes!(settings, set_settings))
        .routes(routes!(find))
        .routes(routes!(profile))
        .routes(routes!(avatar))
        .merge(pictures)
}

/// Somebody, as everybody may see her.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Profile {
    pub(crate) id: u64,
    handle: String,
    display_name: String,
    about: String,
    /// Changes with the picture; empty without one.
    avatar_tag: String,
}

/// As the columns of [`PROFILE`] come.
#[derive(sqlx::FromRow)]
pub(crate) struct ProfileRow {
    id: i64,
    handle: Option<String>,
    display_name: String,
    about: String,
    avatar_tag: String,
}

impl ProfileRow {
    pub(crate) const fn id(&self) -> i64 {
        self.id
    }
}

/// The columns of a [`ProfileRow`], of a table `users`.
macro_rules! profile_columns {
    () => {
        "users.id, users.handle, users.display_name, users.about, users.avatar_tag"
    };
}
pub(crate) use profile_columns;

impl From<ProfileRow> for Profile {
    fn from(row: ProfileRow) -> Self {
        Self {
            id: row.id.unsigned_abs(),
            handle: row.handle.unwrap_or_default(),
            display_name: row.display_name,
            about: row.about,
            avatar_tag: row.avatar_tag,
        }
    }
}

async fn by_id(app: &App, id: i64) -> Result<Profile> {
    let query =
        concat!("SELECT ", profile_columns!(), " FROM users WHERE id = $1 AND deleted_at = 0");
    let row = sqlx::query_as::<_, ProfileRow>(query).bind(id);
    let row = row.fetch_optional(app.db.read()).await?;
    row.map(Profile::from).ok_or_else(|| Problem::not_found("user"))
}

/// The caller's own profile.
#[utoipa::path(get, path = "/v1/me", tag = "profiles",
    responses((status = 200, description = "Hers.", body = Profile), Problem))]
async fn me(State(app): State<App>, caller: Caller) -> Result<Json<Profile>> {
    Ok(Json(by_id(&app, caller.id()).await?))
}

/// What is to be changed; what is not named stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProfileChange {
    #[schema(min_length = 3, max_length = 32, pattern = "^[A-Za-z][A-Za-z0-9_]*$")]
    handle: Option<String>,
    #[schema(min_length = 1, max_length = 64)]
    display_name: Option<String>,
    #[schema(max_length = 1024)]
    about: Option<String>,
}

/// Change the caller's profile.
#[utoipa::path(patch, path = "/v1/me", tag = "profiles", request_body = ProfileChange,
    responses((status = 200, description = "As it is now.", body = Profile), Problem))]
async fn change_me(
    State(app): State<App>,
    caller: Caller,
    Body(form): Body<ProfileChange>,
) -> Result<Json<Profile>> {
    let handle = form.handle.as_deref().map(|it| text::handle("handle", it)).transpose()?;
    let name = form.display_name.as_deref();
    let name = name.map(|it| text::line("display_name", it, text::NAME_BYTES)).transpose()?;
    let about = form.about.as_deref();
    let about = about.map(|it| text::lines("about", it, ABOUT_BYTES)).transpose()?;
    let update = "UPDATE users SET handle = COALESCE($1, handle), \
         display_name = COALESCE($2, display_name), about = COALESCE($3, about) \
         WHERE id = $4 AND deleted_at = 0";
    let update = sqlx::query(update).bind(handle).bind(name).bind(about).bind(caller.id());
    let mut change = app.db.change().await?;
    match update.execute(change.on()).await {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            let problem = "somebody has it; choose another one";
            return Err(Problem::of_field(Kind::HandleTaken, "handle", problem));
        }
        other => other?,
    };
    change.commit().await?;
    Ok(Json(by_id(&app, caller.id()).await?))
}

/// A client's own settings: the server does not look into them.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
struct Settings(serde_json::Map<String, serde_json::Value>);

/// The caller's settings.
#[utoipa::path(get, path = "/v1/me/settings", tag = "profiles",
    responses((status = 200, description = "As they were last set.", body = Settings), Problem))]
async fn settings(State(app): State<App>, caller: Caller) -> Result<Json<Settings>> {
    let query = sqlx::query_scalar("SELECT settings FROM users WHERE id = $1").bind(caller.id());
    let text: String = query.fetch_one(app.db.read()).await?;
    Ok(Json(serde_json::from_str(&text).map_err(|error| Problem::internal(&error))?))
}

/// Replace the caller's settings.
#[utoipa::path(put, path = "/v1/me/settings", tag = "profiles", request_body = Settings,
    responses((status = 204, description = "Done."), Problem))]
async fn set_settings(
    State(app): State<App>,
    caller: Caller,
    Body(settings): Body<Settings>,
) -> Result<StatusCode> {
    let json = serde_json::to_string(&settings).map_err(|error| Problem::internal(&error))?;
    if json.len() > SETTINGS_BYTES {
        return Err(Problem::field("body", format!("must have at most {SETTINGS_BYTES} bytes")));
    }
    // PostgreSQL's text has no character 0.
    if json.contains("\\u0000") {
        return Err(Problem::field("body", "must not contain the character U+0000"));
    }
    let update = sqlx::query("UPDATE users SET settings = $1 WHERE id = $2 AND deleted_at = 0");
    let mut change = app.db.change().await?;
    update.bind(json).bind(caller.id()).execute(change.on()).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Find {
    /// The whole handle; upper case is folded.
    #[param(max_length = 64)]
    handle: String,
}

/// Find somebody by her handle.
#[utoipa::path(get, path = "/v1/users", tag = "profiles", params(Find),
    responses((status = 200, description = "Who has it.", body = Profile), Problem))]
async fn find(
    State(app): State<App>,
    _: Caller,
    Query(find): Query<Find>,
) -> Result<Json<Profile>> {
    // One that cannot be is nobody's.
    let handle = text::handle("handle", &find.handle).map_err(|_| Problem::not_found("user"))?;
    let query = concat!("SELECT ", profile_columns!(), " FROM users WHERE handle = $1");
    let row = sqlx::query_as::<_, ProfileRow>(query).bind(handle);
    let row = row.fetch_optional(app.db.read()).await?;
    row.map(|row| Json(row.into())).ok_or_else(|| Problem::not_found("user"))
}

/// Somebody's profile.
#[utoipa::path(get, path = "/v1/users/{id}", tag = "profiles", params(("id" = u64, Path)),
    responses((status = 200, description = "Hers.", body = Profile), Problem))]
async fn profile(
    State(app): State<App>,
    _: Caller,
    Place(id): Place<u64>,
) -> Result<Json<Profile>> {
    Ok(Json(by_id(&app, number(id, "user")?).await?))
}

/// An id as the database has it. One that does not fit names nothing.
pub(crate) fn number(id: u64, what: &str) -> Result<i64> {
    i64::try_from(id).map_err(|_| Problem::not_found(what))
}

/// Somebody's picture.
#[utoipa::path(get, path = "/v1/users/{id}/avatar", tag = "profiles", params(("id" = u64, Path)),
    responses(
        (status = 200, description = "The picture; `ETag` is its `avatar_tag`.",
            content((Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/webp"))),
        (status = 304, description = "It is the one of `If-None-Match`."), Problem))]
async fn avatar(
    State(app): State<App>,
    _: Caller,
    Place(id): Place<u64>,
    headers: HeaderMap,
) -> Result<Response> {
    let query = "SELECT users.avatar_tag, avatars.media_type, avatars.bytes FROM avatars \
         JOIN users ON users.id = avatars.user_id WHERE avatars.user_id = $1";
    let row = sqlx::query_as::<_, (String, String, Vec<u8>)>(query).bind(number(id, "picture")?);
    let row = row.fetch_optional(app.db.read()).await?;
    let (tag, media_type, bytes) = row.ok_or_else(|| Problem::not_found("picture"))?;
    let tag = format!("\"{tag}\"");
    let kept = [(header::CACHE_CONTROL, "private, max-age=300"), (header::ETAG, tag.as_str())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return Ok((StatusCode::NOT_MODIFIED, kept).into_response());
    }
    let media_type = HeaderValue::from_str(&media_type);
    let media_type = media_type.map_err(|error| Problem::internal(&error))?;
    Ok((kept, [(header::CONTENT_TYPE, media_type)], bytes).into_response())
}

/// Set the caller's picture.
#[utoipa::path(put, path = "/v1/me/avatar", tag = "profiles",
    request_body(content((Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"),
        (Vec<u8> = "image/webp"))),
    responses((status = 204, description = "Done."), Problem))]
async fn set_avatar(
    State(app): State<App>,
    caller: Caller,
    request: Request,
) -> Result<StatusCode> {
    let bytes = body_bytes(request, &app).await?;
    let media_type = media_type_of(&bytes).ok_or_else(|| {
        Problem::new(Kind::UnsupportedMedia, "send a PNG, a JPEG or a WebP picture")
    })?;
    let tag = blake3::hash(&bytes).to_hex()[..16].to_owned();
    let mut change = app.db.change().await?;
    let update = sqlx::query("UPDATE users SET avatar_tag = $1 WHERE id = $2 AND deleted_at = 0");
    update.bind(tag).bind(caller.id()).execute(change.on()).await?;
    let insert = "INSERT INTO avatars (user_id, media_type, bytes) VALUES ($1, $2, $3) \
         ON CONFLICT (user_id) DO UPDATE SET media_type = $2, bytes = $3";
    let insert = sqlx::query(insert).bind(caller.id()).bind(media_type).bind(bytes.to_vec());
    insert.execute(change.on()).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What it is by its own first bytes, whatever the request says.
fn media_type_of(bytes: &Bytes) -> Option<&'static str> {
    let begins = |&&(_, place, mark): &&(&str, usize, &[u8])| {
        bytes.get(place..).is_some_and(|rest| rest.starts_with(mark))
    };
    PICTURES.iter().find(begins).map(|(media_type, ..)| *media_type)
}

/// Remove the caller's picture.
#[utoipa::path(delete, path = "/v1/me/avatar", tag = "profiles",
    responses((status = 204, description = "There is none."), Problem))]
async fn remove_avatar(State(app): State<App>, caller: Caller) -> Result<StatusCode> {
    let mut change = app.db.change().await?;
    let update = sqlx::query("UPDATE users SET avatar_tag = '' WHERE id = $1");
    update.bind(caller.id()).execute(change.on()).await?;
    let delete = sqlx::query("DELETE FROM avatars WHERE user_id = $1");
    delete.bind(caller.id()).execute(change.on()).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
