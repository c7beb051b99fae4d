//! The caller's devices: list, name, end, and where push notifications go.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::DeviceId;

use crate::App;
use crate::accounts::end_device;
use crate::audit::{self, Event};
use crate::extract::{Body, Caller, Place};
use crate::outbox::{self, Subject};
use crate::problem::{Problem, Result};
use crate::text;

/// Bytes of a push endpoint or token.
const ENDPOINT_BYTES: usize = 1024;

/// Bytes of a key of Web Push, in base64url.
const KEY_BYTES: usize = 128;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(rename, end))
        .routes(routes!(register_push, forget_push))
}

/// One of the caller's devices.
#[derive(Serialize, ToSchema)]
struct Device {
    id: u32,
    name: String,
    /// From where it last logged in or refreshed.
    address: String,
    /// Milliseconds since 1970, as all times are.
    created_at: i64,
    refreshed_at: i64,
    /// Whether it has somewhere to send notifications to.
    has_push: bool,
    /// Whether it is the one that asks.
    is_this: bool,
}

#[derive(Serialize, ToSchema)]
struct Devices {
    devices: Vec<Device>,
}

/// The devices that are logged in, the latest used first.
#[utoipa::path(get, path = "/v1/devices", tag = "devices",
    responses((status = 200, description = "All of them.", body = Devices), Problem))]
async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Devices>> {
    let query = "SELECT id, name, address, created_at, refreshed_at, push FROM devices \
         WHERE user_id = $1 AND ended_at = 0 ORDER BY refreshed_at DESC, id DESC";
    let query = sqlx::query_as::<_, (i64, String, String, i64, i64, String)>(query);
    let rows = query.bind(caller.id()).fetch_all(app.db.read()).await?;
    let device = |(id, name, address, created_at, refreshed_at, push): (_, _, _, _, _, String)| {
        let id = crate::accounts::device_id(id);
        let (has_push, is_this) = (!push.is_empty(), id == caller.device);
        Device { id: id.0, name, address, created_at, refreshed_at, has_push, is_this }
    };
    Ok(Json(Devices { devices: rows.into_iter().map(device).collect() }))
}

/// A name for a device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeviceName {
    #[schema(min_length = 1, max_length = 64)]
    name: String,
}

/// Give a device another name.
#[utoipa::path(patch, path = "/v1/devices/{id}", tag = "devices", params(("id" = u32, Path)),
    request_body = DeviceName, responses((status = 204, description = "Done."), Problem))]
async fn rename(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u32>,
    Body(form): Body<DeviceName>,
) -> Result<StatusCode> {
    let name = text::line("name", &form.name, text::NAME_BYTES)?;
    let update = "UPDATE devices SET name = $1 WHERE user_id = $2 AND id = $3 AND ended_at = 0";
    let update = sqlx::query(update).bind(name).bind(caller.id()).bind(i64::from(id));
    change_one(&app, update).await
}

/// Log a device out: its sessions end within a second, on whatever gateway they are.
#[utoipa::path(delete, path = "/v1/devices/{id}", tag = "devices", params(("id" = u32, Path)),
    responses((status = 204, description = "It is logged out."), Problem))]
async fn end(State(app): State<App>, caller: Caller, Place(id): Place<u32>) -> Result<StatusCode> {
    let mut change = app.db.change().await?;
    if !end_device(&app, &mut change, caller.user, DeviceId(id)).await? {
        return Err(Problem::not_found("device"));
    }
    let (now, detail) = (app.clock.now(), format!("device {id}"));
    audit::record(change.on(), caller.origin(), now, Event::DeviceEnded, &detail).await?;
    change.commit().await?;
    outbox::settle(&app, Subject::User(caller.id())).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a device is notified while it has no socket.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum PushTarget {
    /// A browser's subscription (RFC 8030, RFC 8291).
    WebPush {
        #[schema(format = "uri", max_length = 1024)]
        endpoint: String,
        /// The subscription's public key, in base64url.
        #[schema(max_length = 128)]
        p256dh: String,
        /// Its secret, in base64url.
        #[schema(max_length = 128)]
        auth: String,
    },
    /// A registration of Firebase Cloud Messaging.
    Fcm {
        #[schema(max_length = 1024)]
        token: String,
    },
    /// A device token of Apple's service.
    Apns {
        #[schema(max_length = 1024)]
        token: String,
    },
}

impl PushTarget {
    fn check(&self) -> Result<()> {
        match self {
            Self::WebPush { endpoint, p256dh, auth } => {
                text::line("endpoint", endpoint, ENDPOINT_BYTES)?;
                if !endpoint.starts_with("https://") {
                    return Err(Problem::field("endpoint", "must be an https:// URL"));
                }
                text::line("p256dh", p256dh, KEY_BYTES)?;
                text::line("auth", auth, KEY_BYTES)?;
            }
            Self::Fcm { token } | Self::Apns { token } => {
                text::line("token", token, ENDPOINT_BYTES)?;
            }
        }
        Ok(())
    }
}

/// Say where a device is notified.
#[utoipa::path(put, path = "/v1/devices/{id}/push", tag = "devices", params(("id" = u32, Path)),
    request_body = PushTarget, responses((status = 204, description = "Done."), Problem))]
async fn register_push(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u32>,
    Body(push): Body<PushTarget>,
) -> Result<StatusCode> {
    push.check()?;
    let push = serde_json::to_string(&push).map_err(|error| Problem::internal(&error))?;
    set_push(&app, caller, id, &push).await
}

/// Stop notifying a device.
#[utoipa::path(delete, path = "/v1/devices/{id}/push", tag = "devices",
    params(("id" = u32, Path)), responses((status = 204, description = "Done."), Problem))]
async fn forget_push(
    State(app): State<App>,
    caller: Caller,
    Place(id): Place<u32>,
) -> Result<StatusCode> {
    set_push(&app, caller, id, "").await
}

async fn set_push(app: &App, caller: Caller, id: u32, push: &str) -> Result<StatusCode> {
    let update = "UPDATE devices SET push = $1 WHERE user_id = $2 AND id = $3 AND ended_at = 0";
    let update = sqlx::query(update).bind(push).bind(caller.id()).bind(i64::from(id));
    change_one(app, update).await
}

type Query<'a> = sqlx::query::Query<'a, sqlx::Any, sqlx::any::AnyArguments>;

/// Of a device that must be there.
async fn change_one(app: &App, update: Query<'_>) -> Result<StatusCode> {
    let mut change = app.db.change().await?;
    if update.execute(change.on()).await?.rows_affected() == 0 {
        return Err(Problem::not_found("device"));
    }
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
