//! Security events: for the user, who reads her own, and for those who run the server.

use sqlx::AnyConnection;
use wire::{DeviceId, Timestamp, UserId};

use crate::clock::{millis, stored as stored_time};
use crate::db::{Db, new_id};
use crate::extract::{Address, stored};
use crate::problem::Result;

/// What happened. The names are stable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    SignedUp,
    LoggedIn,
    LoginFailed,
    LoggedOut,
    LoggedOutEverywhere,
    RefreshReused,
    PasswordChanged,
    DeviceEnded,
    Exported,
    Deleted,
}

impl Event {
    const fn name(self) -> &'static str {
        match self {
            Self::SignedUp => "signed-up",
            Self::LoggedIn => "logged-in",
            Self::LoginFailed => "login-failed",
            Self::LoggedOut => "logged-out",
            Self::LoggedOutEverywhere => "logged-out-everywhere",
            Self::RefreshReused => "refresh-reused",
            Self::PasswordChanged => "password-changed",
            Self::DeviceEnded => "device-ended",
            Self::Exported => "exported",
            Self::Deleted => "deleted",
        }
    }
}

/// Whose event it is, on which of her devices, and from where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) address: Address,
}

/// Writes an event, in the transaction of what it tells of.
pub(crate) async fn record(
    connection: &mut AnyConnection,
    origin: Origin,
    now: Timestamp,
    event: Event,
    detail: &str,
) -> Result<()> {
    let Origin { user, device, address } = origin;
    let (user_number, device_number) = (user.get(), device.0);
    let name = event.name();
    tracing::info!(user = user_number, device = device_number, %address, detail, "audit: {name}");
    let insert = "INSERT INTO audit (user_id, at, id, event, device_id, address, detail) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(insert)
        .bind(stored(user))
        .bind(stored_time(now))
        .bind(new_id())
        .bind(name)
        .bind(i64::from(device.0))
        .bind(address.to_string())
        .bind(detail)
        .execute(connection)
        .await?;
    Ok(())
}

/// Drops what is older than is kept.
pub(crate) async fn prune(db: &Db, now: Timestamp, kept: std::time::Duration) -> Result<()> {
    let before = stored_time(now).saturating_sub(millis(kept));
    let mut change = db.change().await?;
    let prune = sqlx::query("DELETE FROM audit WHERE at < $1").bind(before);
    prune.execute(change.on()).await?;
    change.commit().await?;
    Ok(())
}
