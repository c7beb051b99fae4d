//! What a user may take with her, and how she goes: the export of all her data, her security events
//! and the deletion of her account.

use std::io::Write;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::{InboxSeq, Seq};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::App;
use crate::accounts::{end_all, require_password};
use crate::audit::{self, Event};
use crate::channel;
use crate::clock::stored as stored_time;
use crate::conversations::Entry;
use crate::core::Window;
use crate::extract::{Body, Caller, Query};
use crate::friends::lock_user;
use crate::groups::{self, Locked, Role};
use crate::outbox::{self, Errand, Subject};
use crate::problem::{Kind, Problem, Result};

/// Exports that are made at once: each reads all that a user has.
pub(crate) const EXPORTS_MAX: usize = 2;

/// Entries of a page that an export asks the core for.
const PAGE: u16 = 100;

/// Security events of a page.
const EVENTS_MAX: i64 = 200;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events)).routes(routes!(export)).routes(routes!(delete))
}

/// A security event.
#[derive(Serialize, ToSchema, sqlx::FromRow)]
struct SecurityEvent {
    at: i64,
    /// `logged-in`, `login-failed`, `refresh-reused`, …
    event: String,
    /// 0 where it was none of hers.
    #[serde(rename = "device")]
    device_id: i64,
    address: String,
    detail: String,
}

#[derive(Serialize, ToSchema)]
struct SecurityEvents {
    events: Vec<SecurityEvent>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventsPage {
    /// Only events before this time; without it from the latest on.
    before: Option<i64>,
}

/// The caller's security events, the latest first, at most 200.
#[utoipa::path(get, path = "/v1/me/events", tag = "accounts", params(EventsPage),
    responses((status = 200, description = "A page of them.", body = SecurityEvents), Problem))]
async fn events(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<EventsPage>,
) -> Result<Json<SecurityEvents>> {
    let events = events_of(&app, caller, page.before.unwrap_or(i64::MAX)).await?;
    Ok(Json(SecurityEvents { events }))
}

async fn events_of(app: &App, caller: Caller, before: i64) -> Result<Vec<SecurityEvent>> {
    let query = "SELECT at, event, device_id, address, detail FROM audit \
         WHERE user_id = $1 AND at < $2 ORDER BY at DESC, id LIMIT $3";
    let query = sqlx::query_as(query).bind(caller.id()).bind(before).bind(EVENTS_MAX);
    Ok(query.fetch_all(app.db.read()).await?)
}

/// All that there is of the caller, as a zip of JSON files.
#[utoipa::path(get, path = "/v1/me/export", tag = "accounts",
    responses((status = 200, description = "The archive.", body = Vec<u8>,
        content_type = "application/zip"), Problem))]
async fn export(State(app): State<App>, caller: Caller) -> Result<Response> {
    let busy = || Problem::later(Kind::Overloaded, "other exports are being made", 10);
    let _turn = app.exports.try_acquire().map_err(|_| busy())?;
    let mut archive = Archive::new()?;
    write_account(&app, caller, &mut archive).await?;
    write_conversations(&app, caller, &mut archive).await?;
    let mut change = app.db.change().await?;
    audit::record(change.on(), caller.origin(), app.clock.now(), Event::Exported, "").await?;
    change.commit().await?;
    let file = tokio::fs::File::from_std(archive.finish()?);
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"mooring.zip\""),
    ];
    Ok((headers, HttpBody::from_stream(ReaderStream::new(file))).into_response())
}

/// A zip that grows in a nameless file, so that its size is the disk's matter.
struct Archive {
    zip: ZipWriter<std::fs::File>,
}

impl Archive {
    fn new() -> Result<Self> {
        let file = tempfile::tempfile().map_err(|error| Problem::internal(&error))?;
        Ok(Self { zip: ZipWriter::new(file) })
    }

    fn begin(&mut self, name: &str) -> Result<()> {
        let begun = self.zip.start_file(name, SimpleFileOptions::default());
        begun.map_err(|error| Problem::internal(&error))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.zip.write_all(bytes).map_err(|error| Problem::internal(&error))
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        self.begin(name)?;
        let json = serde_json::to_vec_pretty(value).map_err(|error| Problem::internal(&error))?;
        self.write(&json)
    }

    /// The file, at its beginning.
    fn finish(self) -> Result<std::fs::File> {
        use std::io::Seek;
        let mut file = self.zip.finish().map_err(|error| Problem::internal(&error))?;
        file.rewind().map_err(|error| Problem::internal(&error))?;
        Ok(file)
    }
}

#[derive(sqlx::FromRow)]
struct Account {
    handle: Option<String>,
    display_name: String,
    about: String,
    settings: String,
    created_at: i64,
}

/// What the database has of her.
async fn write_account(app: &App, caller: Caller, archive: &mut Archive) -> Result<()> {
    let query = "SELECT handle, display_name, about, settings, created_at FROM users WHERE id = $1";
    let account = sqlx::query_as::<_, Account>(query).bind(caller.id());
    let account = account.fetch_one(app.db.read()).await?;
    let settings: Value = serde_json::from_str(&account.settings).unwrap_or(Value::Null);
    let profile = json!({
        "id": caller.user.get(),
        "handle": account.handle,
        "display_name": account.display_name,
        "about": account.about,
        "created_at": account.created_at,
    });
    archive.json("profile.json", &profile)?;
    archive.json("settings.json", &settings)?;
    let query = "SELECT id, name, address, created_at, refreshed_at, ended_at FROM devices \
         WHERE user_id = $1 ORDER BY id";
    let rows = sqlx::query_as::<_, (i64, String, String, i64, i64, i64)>(query).bind(caller.id());
    let device = |(id, name, address, created_at, refreshed_at, ended_at)| {
        json!({"id": id, "name": name, "address": address, "created_at": created_at,
            "refreshed_at": refreshed_at, "ended_at": ended_at})
    };
    let devices: Vec<Value> =
        rows.fetch_all(app.db.read()).await?.into_iter().map(device).collect();
    archive.json("devices.json", &devices)?;
    let query = "SELECT kind, other_id, at FROM relations WHERE user_id = $1 ORDER BY at";
    let rows = sqlx::query_as::<_, (String, i64, i64)>(query).bind(caller.id());
    let relation = |(kind, user, at)| json!({"kind": kind, "user": user, "at": at});
    let relations: Vec<Value> =
        rows.fetch_all(app.db.read()).await?.into_iter().map(relation).collect();
    archive.json("people.json", &relations)?;
    archive.json("groups.json", &groups::all_of(app, caller.id()).await?)?;
    archive.json("events.json", &events_of(app, caller, i64::MAX).await?)?;
    let query = "SELECT media_type, bytes FROM avatars WHERE user_id = $1";
    let picture = sqlx::query_as::<_, (String, Vec<u8>)>(query).bind(caller.id());
    if let Some((media_type, bytes)) = picture.fetch_optional(app.db.read()).await? {
        archive.begin(&format!("avatar.{}", media_type.trim_start_matches("image/")))?;
        archive.write(&bytes)?;
    }
    Ok(())
}

/// What the core has of her: each conversation, an entry a line.
async fn write_conversations(app: &App, caller: Caller, archive: &mut Archive) -> Result<()> {
    let mut before = InboxSeq::ZERO;
    loop {
        let page = app.core.conversations(caller.user, before, PAGE).await?;
        for conversation in &page.items {
            before = conversation.inbox_seq;
            archive
                .begin(&format!("conversations/{}.jsonl", channel::name(conversation.channel)))?;
            let mut from = Seq::new(1);
            loop {
                let window = Window::From(from);
                let entries =
                    app.core.history(caller.user, conversation.channel, window, PAGE).await?;
                let Some(last) = entries.items.last() else { break };
                from = last.seq.next();
                for entry in entries.items {
                    let line = serde_json::to_string(&Entry::from(entry));
                    let line = line.map_err(|error| Problem::internal(&error))?;
                    archive.write(format!("{line}\n").as_bytes())?;
                }
                if !entries.more {
                    break;
                }
            }
        }
        if !page.more || page.items.is_empty() {
            return Ok(());
        }
    }
}

/// That she means it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Deletion {
    #[schema(min_length = 1, max_length = 256)]
    password: String,
}

/// Delete the account, for good.
///
/// Profile, picture, settings, devices, friends and memberships go at once, here and in the core.
/// What she wrote stays in the conversations of others, without her name.
#[utoipa::path(delete, path = "/v1/me", tag = "accounts", request_body = Deletion,
    responses((status = 204, description = "It is deleted."),
        (status = 202, description = "It is; the core is told later."), Problem))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Body(form): Body<Deletion>,
) -> Result<StatusCode> {
    require_password(&app, caller, "password", form.password).await?;
    let (id, now) = (caller.id(), app.clock.now());
    let mut change = app.db.change().await?;
    lock_user(&mut change, id).await?;
    let query = "SELECT group_id, role FROM group_members WHERE user_id = $1 ORDER BY group_id";
    let query = sqlx::query_as::<_, (i64, String)>(query).bind(id);
    let groups = query.fetch_all(change.on()).await?;
    for (group, role) in &groups {
        let mut locked = Locked::of(change, *group).await?;
        locked.dismiss(&app, id, Role::read(role)).await?;
        change = locked.change;
    }
    end_all(&app, &mut change, caller.user, None).await?;
    for statement in [
        "DELETE FROM relations WHERE user_id = $1 OR other_id = $1",
        "DELETE FROM avatars WHERE user_id = $1",
        "DELETE FROM mutes WHERE user_id = $1",
        "UPDATE devices SET name = '', address = '' WHERE user_id = $1",
    ] {
        sqlx::query(statement).bind(id).execute(change.on()).await?;
    }
    let empty = "UPDATE users SET handle = NULL, password = '', display_name = '', about = '', \
         settings = '{}', avatar_tag = '', deleted_at = $1 WHERE id = $2";
    sqlx::query(empty).bind(stored_time(now)).bind(id).execute(change.on()).await?;
    let errand = Errand::Erase { user: caller.user.get() };
    outbox::put(&mut change, Subject::User(id), now, &errand).await?;
    audit::record(change.on(), caller.origin(), now, Event::Deleted, "").await?;
    change.commit().await?;
    let mut is_done = true;
    for subject in groups.iter().map(|&(group, _)| Subject::Group(group)).chain([Subject::User(id)])
    {
        is_done = is_done && outbox::settle(&app, subject).await;
    }
    Ok(if is_done { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}
