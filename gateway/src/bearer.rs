//! Whose an access token is, for what stands beside a gateway and serves its devices over HTTP.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use wire::client::Credential;
use wire::{DeviceId, Timestamp};

use crate::auth::{AuthError, Caller, Identity, KeyRing};

/// Whose this access token is: as [`KeyRing::verify`], for a token that comes without the device's
/// own word of who it is.
///
/// # Errors
/// Why it is refused.
pub fn identity_of(keys: &KeyRing, token: &str, now: Timestamp) -> Result<Identity, AuthError> {
    let device = device_in(token).ok_or(AuthError::Malformed)?;
    match keys.verify(&Credential::Token(token), device, now)? {
        Caller::Device { identity, .. } => Ok(identity),
        Caller::Service => Err(AuthError::Malformed), // It is nobody's.
    }
}

/// The device that a token names; nothing of it is checked yet.
fn device_in(token: &str) -> Option<DeviceId> {
    #[derive(Deserialize)]
    struct Claims {
        did: u32,
    }
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Some(DeviceId(claims.did))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::UserId;

    use super::*;

    #[test]
    fn a_token_is_its_devices_until_it_expires_or_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyRing::open(folder.path(), Duration::ZERO).unwrap();
        let identity = Identity { user: UserId::new(7).unwrap(), device: DeviceId(3) };
        let token = keys.sign(identity, Timestamp(1_000_000), Duration::from_secs(60));
        assert_eq!(identity_of(&keys, &token, Timestamp(1_001_000)), Ok(identity));
        let late = identity_of(&keys, &token, Timestamp(1_100_000));
        assert_eq!(late, Err(AuthError::Expired));
        let (head, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let other = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"8","did":3,"exp":2000,"nbf":0}"#);
        let forged = format!("{head}.{other}.{signature}");
        let now = Timestamp(1_001_000);
        assert_eq!(identity_of(&keys, &forged, now), Err(AuthError::BadSignature));
        assert_eq!(identity_of(&keys, "no", now), Err(AuthError::Malformed));
    }
}
