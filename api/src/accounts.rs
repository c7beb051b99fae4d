//! Accounts: signing up, logging in and out, refreshing.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::{DeviceId, UserId};

use crate::App;
use crate::audit::{self, Event, Origin};
use crate::clock::{millis, stored as stored_time};
use crate::db::{Change, new_id};
use crate::extract::{self, Address, Body, Caller, stored};
use crate::gateways::GatewayList;
use crate::keys::Identity;
use crate::outbox::{self, Errand, Subject};
use crate::passwords;
use crate::problem::{Kind, Problem, Result};
use crate::text;

/// A client that lost the answer of a refresh may ask again for so long, and gets it again. What
/// comes later with a used token is a theft, of this one or of its successor.
const REFRESH_GRACE_SECONDS: i64 = 60;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sign_up))
        .routes(routes!(log_in, log_out_everywhere))
        .routes(routes!(log_out))
        .routes(routes!(refresh))
        .routes(routes!(change_password))
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignUp {
    /// By which others find her: 3 to 32 of a–z, 0–9 and _, a letter first. Upper case is folded.
    #[schema(min_length = 3, max_length = 32, pattern = "^[A-Za-z][A-Za-z0-9_]*$")]
    handle: String,
    #[schema(min_length = 8, max_length = 256)]
    password: String,
    /// As others see her; without it the handle.
    #[schema(max_length = 64)]
    display_name: Option<String>,
    /// What this device is called in her list.
    #[schema(max_length = 64)]
    device_name: Option<String>,
}

/// Somebody comes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogIn {
    #[schema(min_length = 1, max_length = 64)]
    handle: String,
    #[schema(min_length = 1, max_length = 256)]
    password: String,
    /// What this device is called in her list.
    #[schema(max_length = 64)]
    device_name: Option<String>,
}

/// What a device that is logged in has.
#[derive(Serialize, ToSchema)]
struct Session {
    user: u64,
    /// Number of the device among hers; `Hello.device` on the socket.
    device: u32,
    /// For the header `Authorization: Bearer …` here, and for `Hello.token` on the socket.
    access_token: String,
    /// How long that is good.
    access_seconds: u64,
    /// For `POST /v1/sessions/refresh`, once. Keep it as safe as a password.
    refresh_token: String,
    /// How long that is good if it is not used.
    refresh_seconds: u64,
    /// Where to open a socket, the best first.
    gateways: GatewayList,
}

/// Make an account, and log this device in.
#[utoipa::path(post, path = "/v1/accounts", tag = "accounts", security(()), request_body = SignUp,
    responses((status = 201, description = "It is made.", body = Session), Problem))]
async fn sign_up(
    State(app): State<App>,
    address: Address,
    Body(form): Body<SignUp>,
) -> Result<(StatusCode, Json<Session>)> {
    let handle = text::handle("handle", &form.handle)?;
    passwords::check("password", &form.password)?;
    let display_name = form.display_name.as_deref().unwrap_or(&handle);
    let display_name = text::line("display_name", display_name, text::NAME_BYTES)?;
    let device_name = device_name(form.device_name.as_deref())?;
    app.rates.sign_up(address)?;
    // Before the hash, which is dear; the insert below decides.
    if is_taken(&app, &handle).await? {
        return Err(taken());
    }
    let password = app.passwords.hash(form.password).await?;
    let now = app.clock.now();
    let mut change = app.db.change().await?;
    let insert = "INSERT INTO users (id, handle, password, display_name, created_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let id = new_id();
    let insert = sqlx::query(insert).bind(id).bind(&handle).bind(&password).bind(display_name);
    let insert = insert.bind(stored_time(now)).execute(change.on()).await?;
    if insert.rows_affected() == 0 {
        return Err(taken());
    }
    let user = extract::user(id).expect("a new id is positive");
    let device = add_device(&app, &mut change, user, &device_name, address).await?;
    let origin = Origin { user, device, address };
    audit::record(change.on(), origin, now, Event::SignedUp, "").await?;
    change.commit().await?;
    Ok((StatusCode::CREATED, Json(session(&app, Identity { user, device }, 0))))
}

async fn is_taken(app: &App, handle: &str) -> Result<bool> {
    let found = sqlx::query("SELECT 1 FROM users WHERE handle = $1").bind(handle);
    Ok(found.fetch_optional(app.db.read()).await?.is_some())
}

fn taken() -> Problem {
    Problem::of_field(Kind::HandleTaken, "handle", "somebody has it; choose another one")
}

fn device_name(given: Option<&str>) -> Result<String> {
    let name = text::line("device_name", given.unwrap_or("device"), text::NAME_BYTES)?;
    Ok(name.to_owned())
}

/// Log a device in.
///
/// The answer is the same, and takes as long, whether there is no such account or another password.
#[utoipa::path(post, path = "/v1/sessions", tag = "accounts", security(()), request_body = LogIn,
    responses((status = 201, description = "It is logged in.", body = Session), Problem))]
async fn log_in(
    State(app): State<App>,
    address: Address,
    Body(form): Body<LogIn>,
) -> Result<(StatusCode, Json<Session>)> {
    let device_name = device_name(form.device_name.as_deref())?;
    let handle = text::line("handle", &form.handle, text::NAME_BYTES)?.to_ascii_lowercase();
    app.rates.login(&handle, address)?;
    let known = "SELECT id, password FROM users WHERE handle = $1 AND deleted_at = 0";
    let known = sqlx::query_as::<_, (i64, String)>(known).bind(&handle);
    let known = known.fetch_optional(app.db.read()).await?;
    let (id, password) = known.map_or((None, None), |(id, phc)| (Some(id), Some(phc)));
    let matches = app.passwords.verify(form.password, password.clone()).await?;
    let user = id.and_then(extract::user);
    let (Some(user), true) = (user, matches) else {
        if let Some(user) = user {
            note_failure(&app, Origin { user, device: DeviceId(0), address });
        }
        return Err(Problem::new(Kind::WrongPassword, "handle and password do not match"));
    };
    let now = app.clock.now();
    let mut change = app.db.change().await?;
    // Locks the account; and the password must still be the one that matched.
    let still = "UPDATE users SET revision = revision WHERE id = $1 AND password = $2";
    let still = sqlx::query(still).bind(stored(user)).bind(password.unwrap_or_default());
    if still.execute(change.on()).await?.rows_affected() == 0 {
        return Err(Problem::new(Kind::WrongPassword, "handle and password do not match"));
    }
    let device = add_device(&app, &mut change, user, &device_name, address).await?;
    let origin = Origin { user, device, address };
    audit::record(change.on(), origin, now, Event::LoggedIn, &device_name).await?;
    change.commit().await?;
    Ok((StatusCode::CREATED, Json(session(&app, Identity { user, device }, 0))))
}

/// Not awaited: the time of the answer must not tell that there is such an account.
fn note_failure(app: &App, origin: Origin) {
    let app = App::clone(app);
    tokio::spawn(async move { note(&app, origin).await });
}

async fn note(app: &App, origin: Origin) -> Result<()> {
    let mut change = app.db.change().await?;
    audit::record(change.on(), origin, app.clock.now(), Event::LoginFailed, "").await?;
    change.commit().await?;
    Ok(())
}

/// A device more. Beyond the most that there may be, the one that was not used for longest ends.
async fn add_device(
    app: &App,
    change: &mut Change,
    user: UserId,
    name: &str,
    address: Address,
) -> Result<DeviceId> {
    let count = "UPDATE users SET devices_made = devices_made + 1 WHERE id = $1 \
         RETURNING devices_made";
    let number: i64 = sqlx::query_scalar(count).bind(stored(user)).fetch_one(change.on()).await?;
    let surplus = "SELECT id FROM devices WHERE user_id = $1 AND ended_at = 0 \
         ORDER BY refreshed_at DESC, id DESC LIMIT 1000 OFFSET $2";
    let surplus = sqlx::query_scalar(surplus).bind(stored(user)).bind(app.settings.devices_max - 1);
    for id in surplus.fetch_all(change.on()).await? {
        end_device(app, change, user, device_id(id)).await?;
    }
    let now = stored_time(app.clock.now());
    let insert = "INSERT INTO devices (user_id, id, name, address, refreshed_at, created_at) \
         VALUES ($1, $2, $3, $4, $5, $5)";
    let insert = sqlx::query(insert).bind(stored(user)).bind(number).bind(name);
    insert.bind(address.to_string()).bind(now).execute(change.on()).await?;
    Ok(device_id(number))
}

/// A device's number as the database has it. Those that it gave fit.
pub(crate) fn device_id(number: i64) -> DeviceId {
    DeviceId(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Ends a device; whether there was such a one. Its sessions end when the outbox is settled.
pub(crate) async fn end_device(
    app: &App,
    change: &mut Change,
    user: UserId,
    device: DeviceId,
) -> Result<bool> {
    let now = app.clock.now();
    let end = "UPDATE devices SET ended_at = $1, push = '' \
         WHERE user_id = $2 AND id = $3 AND ended_at = 0";
    let end = sqlx::query(end).bind(stored_time(now)).bind(stored(user)).bind(i64::from(device.0));
    if end.execute(change.on()).await?.rows_affected() == 0 {
        return Ok(false);
    }
    let errand = Errand::EndSessions { user: user.get(), device: device.0, before: now.0 };
    outbox::put(change, Subject::User(stored(user)), now, &errand).await?;
    Ok(true)
}

fn session(app: &App, identity: Identity, generation: i64) -> Session {
    let lifetime = app.settings.access;
    Session {
        user: identity.user.get(),
        device: identity.device.0,
        access_token: app.keys.sign(identity, app.clock.now(), lifetime),
        access_seconds: lifetime.as_secs(),
        refresh_token: app.keys.refresh_token(identity, generation),
        refresh_seconds: app.settings.refresh.as_secs(),
        gateways: app.gateways(),
    }
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    #[schema(min_length = 1, max_length = 128)]
    refresh_token: String,
}

/// Change a refresh token for new tokens.
///
/// Each is good once. A client that did not get the answer may send the same one again within a
/// minute, and gets the same refresh token. Sent later, or once its successor was used, it counts
/// as stolen: the device is logged out.
#[utoipa::path(post, path = "/v1/sessions/refresh", tag = "accounts", security(()),
    request_body = Refresh,
    responses((status = 200, description = "New tokens.", body = Session), Problem))]
async fn refresh(
    State(app): State<App>,
    address: Address,
    Body(form): Body<Refresh>,
) -> Result<Json<Session>> {
    let refused = || Problem::unauthorised("the refresh token is not valid any more; log in again");
    let (identity, generation) =
        app.keys.read_refresh_token(&form.refresh_token).ok_or_else(refused)?;
    app.rates.request_of(identity.user)?;
    let now = stored_time(app.clock.now());
    let (user, device) = (stored(identity.user), i64::from(identity.device.0));
    let mut change = app.db.change().await?;
    let advance = "UPDATE devices SET generation = generation + 1, refreshed_at = $1, \
         address = $2 WHERE user_id = $3 AND id = $4 AND ended_at = 0 AND generation = $5 \
         AND refreshed_at >= $6";
    let oldest = now.saturating_sub(millis(app.settings.refresh));
    let advance = sqlx::query(advance).bind(now).bind(address.to_string()).bind(user).bind(device);
    let advance = advance.bind(generation).bind(oldest).execute(change.on()).await?;
    if advance.rows_affected() == 1 {
        change.commit().await?;
        return Ok(Json(session(&app, identity, generation + 1)));
    }
    let found = "SELECT generation, refreshed_at FROM devices \
         WHERE user_id = $1 AND id = $2 AND ended_at = 0";
    let found = sqlx::query_as::<_, (i64, i64)>(found).bind(user).bind(device);
    let found = found.fetch_optional(change.on()).await?;
    let (good, refreshed_at) = found.ok_or_else(refused)?;
    if generation >= good {
        return Err(refused()); // It was not used for too long.
    }
    if generation + 1 == good && now <= refreshed_at.saturating_add(REFRESH_GRACE_SECONDS * 1000) {
        return Ok(Json(session(&app, identity, good)));
    }
    end_device(&app, &mut change, identity.user, identity.device).await?;
    let origin = Origin { user: identity.user, device: identity.device, address };
    let detail = "a refresh token was used twice: the device is logged out";
    audit::record(change.on(), origin, app.clock.now(), Event::RefreshReused, detail).await?;
    change.commit().await?;
    outbox::settle(&app, Subject::User(user)).await;
    Err(refused())
}

/// Log this device out.
#[utoipa::path(delete, path = "/v1/sessions/current", tag = "accounts",
    responses((status = 204, description = "It is logged out."), Problem))]
async fn log_out(State(app): State<App>, caller: Caller) -> Result<StatusCode> {
    let mut change = app.db.change().await?;
    end_device(&app, &mut change, caller.user, caller.device).await?;
    audit::record(change.on(), caller.origin(), app.clock.now(), Event::LoggedOut, "").await?;
    change.commit().await?;
    outbox::settle(&app, Subject::User(caller.id())).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Log all devices out, this one among them.
#[utoipa::path(delete, path = "/v1/sessions", tag = "accounts",
    responses((status = 204, description = "They are logged out."), Problem))]
async fn log_out_everywhere(State(app): State<App>, caller: Caller) -> Result<StatusCode> {
    let mut change = app.db.change().await?;
    end_all(&app, &mut change, caller.user, None).await?;
    let now = app.clock.now();
    audit::record(change.on(), caller.origin(), now, Event::LoggedOutEverywhere, "").await?;
    change.commit().await?;
    outbox::settle(&app, Subject::User(caller.id())).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all devices but one.
pub(crate) async fn end_all(
    app: &App,
    change: &mut Change,
    user: UserId,
    except: Option<DeviceId>,
) -> Result<()> {
    let now = app.clock.now();
    let Some(except) = except else {
        let end = "UPDATE devices SET ended_at = $1, push = '' WHERE user_id = $2 AND ended_at = 0";
        sqlx::query(end).bind(stored_time(now)).bind(stored(user)).execute(change.on()).await?;
        let errand = Errand::EndSessions { user: user.get(), device: 0, before: now.0 };
        return outbox::put(change, Subject::User(stored(user)), now, &errand).await;
    };
    // Locks the account, so that no device is added meanwhile.
    let lock = sqlx::query("UPDATE users SET revision = revision WHERE id = $1");
    lock.bind(stored(user)).execute(change.on()).await?;
    let others = "SELECT id FROM devices WHERE user_id = $1 AND ended_at = 0 AND id <> $2";
    let others = sqlx::query_scalar(others).bind(stored(user)).bind(i64::from(except.0));
    for id in others.fetch_all(change.on()).await? {
        end_device(app, change, user, device_id(id)).await?;
    }
    Ok(())
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordChange {
    #[schema(min_length = 1, max_length = 256)]
    current: String,
    #[schema(min_length = 8, max_length = 256)]
    new: String,
}

/// Change the password; all other devices are logged out.
#[utoipa::path(put, path = "/v1/me/password", tag = "accounts", request_body = PasswordChange,
    responses((status = 204, description = "It is changed."), Problem))]
async fn change_password(
    State(app): State<App>,
    caller: Caller,
    Body(form): Body<PasswordChange>,
) -> Result<StatusCode> {
    passwords::check("new", &form.new)?;
    let known = require_password(&app, caller, "current", form.current).await?;
    let password = app.passwords.hash(form.new).await?;
    let mut change = app.db.change().await?;
    let update = "UPDATE users SET password = $1 WHERE id = $2 AND password = $3";
    let update = sqlx::query(update).bind(password).bind(caller.id()).bind(known);
    if update.execute(change.on()).await?.rows_affected() == 0 {
        return Err(Problem::conflict("the password was changed meanwhile"));
    }
    end_all(&app, &mut change, caller.user, Some(caller.device)).await?;
    let now = app.clock.now();
    audit::record(change.on(), caller.origin(), now, Event::PasswordChanged, "").await?;
    change.commit().await?;
    outbox::settle(&app, Subject::User(caller.id())).await;
    Ok(StatusCode::NO_CONTENT)
}

/// That the caller knows her password: before what cannot be undone. Its PHC string.
pub(crate) async fn require_password(
    app: &App,
    caller: Caller,
    field: &str,
    password: String,
) -> Result<String> {
    app.rates.login(&format!("user {}", caller.user.get()), caller.address)?;
    let known = sqlx::query_scalar("SELECT password FROM users WHERE id = $1").bind(caller.id());
    let known: String = known.fetch_one(app.db.read()).await?;
    if app.passwords.verify(password, Some(known.clone())).await? {
        return Ok(known);
    }
    note_failure(app, caller.origin());
    Err(Problem::of_field(Kind::Forbidden, field, "this is not the password"))
}

impl Caller {
    pub(crate) const fn origin(&self) -> Origin {
        Origin { user: self.user, device: self.device, address: self.address }
    }
}
