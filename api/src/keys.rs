//! The signing keys: access tokens, refresh tokens, and the public half for others.
//!
//! An access token is a JWT signed with EdDSA; every gateway with the same keys verifies it alone
//! (`gateway/src/auth.rs` has the other side, and reads the same files: `keys/KID.pem`). The key
//! with the last name signs, all of them verify: a key is changed by adding a file, and given up by
//! removing it once no token of it is good any more.
//!
//! A refresh token is ours alone: user, device and generation under a keyed BLAKE3 MAC. The
//! database has but the generation that is good, so what is stolen from it opens nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::{DeviceId, Timestamp, UserId};

/// How far the clocks of the hosts may be apart.
const CLOCK_SKEW_SECONDS: u64 = 30;

/// A person's device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    did: u32,
    /// With milliseconds: `SessionsEnd` asks what was issued before what.
    iat: f64,
    nbf: u64,
    exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
}

/// A public key as RFC 8037 writes it.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Jwk {
    /// `OKP`
    kty: &'static str,
    /// `Ed25519`
    crv: &'static str,
    /// The key, in base64url.
    x: String,
    /// The name by which a token's header names it.
    kid: String,
    /// `EdDSA`
    alg: &'static str,
    /// `sig`
    #[serde(rename = "use")]
    usage: &'static str,
}

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct KeyError {
    path: PathBuf,
    problem: String,
}

struct Key {
    id: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    public: [u8; 32],
}

pub(crate) struct Keys {
    keys: Vec<Key>,
    refresh: [u8; 32],
}

const REFRESH_VERSION: u8 = 1;
const REFRESH_BODY_BYTES: usize = 1 + 8 + 4 + 8;
const REFRESH_BYTES: usize = REFRESH_BODY_BYTES + blake3::OUT_LEN;

impl Keys {
    /// Reads the directory; makes a first key of each kind where there is none.
    pub(crate) fn open(directory: &Path) -> Result<Self, KeyError> {
        let failed = |error: std::io::Error| wrong(directory, &error);
        fs::create_dir_all(directory).map_err(failed)?;
        let mut keys = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                keys.push(read_key(&path)?);
            }
        }
        if keys.is_empty() {
            let path = directory.join("first.pem");
            let pem = SigningKey::from_bytes(&rand::random()).to_pkcs8_pem(LineEnding::LF);
            create(&path, pem.map_err(|error| wrong(&path, &error))?.as_bytes())?;
            keys.push(read_key(&path)?);
        }
        keys.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(Self { keys, refresh: read_or_make_secret(&directory.join("refresh.key"))? })
    }

    /// A token for a device, and when it ends.
    pub(crate) fn sign(&self, identity: Identity, now: Timestamp, lifetime: Duration) -> String {
        self.encode(Claims {
            sub: identity.user.get().to_string(),
            did: identity.device.0,
            iat: issued_at(now),
            nbf: now.0 / 1000,
            exp: now.0 / 1000 + lifetime.as_secs(),
            role: None,
        })
    }

    /// The claims of a service, which no person can have.
    #[cfg(test)]
    fn sign_service(&self, now: Timestamp, lifetime: Duration) -> String {
        let (seconds, role) = (now.0 / 1000, Some("service".to_owned()));
        let (sub, iat, exp) = ("0".to_owned(), issued_at(now), seconds + lifetime.as_secs());
        self.encode(Claims { sub, did: 0, iat, nbf: seconds, exp, role })
    }

    fn encode(&self, claims: Claims) -> String {
        let key = self.keys.last().expect("there is a key");
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &key.signing).expect("an Ed25519 key signs")
    }

    /// Whose access token this is; none if it is not good now.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Option<Identity> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let key = self.keys.iter().find(|key| header.kid.as_deref() == Some(key.id.as_str()))?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        // By our own clock, below.
        (rules.validate_exp, rules.validate_aud) = (false, false);
        let claims = jsonwebtoken::decode::<Claims>(token, &key.verifying, &rules).ok()?.claims;
        let seconds = now.0 / 1000;
        let is_good = seconds <= claims.exp.saturating_add(CLOCK_SKEW_SECONDS)
            && seconds.saturating_add(CLOCK_SKEW_SECONDS) >= claims.nbf
            && claims.role.is_none();
        let user = claims.sub.parse().ok().and_then(UserId::new)?;
        is_good.then_some(Identity { user, device: DeviceId(claims.did) })
    }

    /// The public keys.
    pub(crate) fn public(&self) -> Vec<Jwk> {
        let jwk = |key: &Key| Jwk {
            kty: "OKP",
            crv: "Ed25519",
            x: BASE64_URL_SAFE_NO_PAD.encode(key.public),
            kid: key.id.clone(),
            alg: "EdDSA",
            usage: "sig",
        };
        self.keys.iter().map(jwk).collect()
    }

    /// The refresh token of a generation: always the same one.
    pub(crate) fn refresh_token(&self, identity: Identity, generation: i64) -> String {
        let mut token = [0; REFRESH_BYTES];
        token[0] = REFRESH_VERSION;
        token[1..9].copy_from_slice(&identity.user.get().to_le_bytes());
        token[9..13].copy_from_slice(&identity.device.0.to_le_bytes());
        token[13..21].copy_from_slice(&generation.to_le_bytes());
        let mac = blake3::keyed_hash(&self.refresh, &token[..REFRESH_BODY_BYTES]);
        token[REFRESH_BODY_BYTES..].copy_from_slice(mac.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// Whose refresh token this is, and of which generation; none if it was not made here.
    pub(crate) fn read_refresh_token(&self, token: &str) -> Option<(Identity, i64)> {
        let token = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let token: [u8; REFRESH_BYTES] = token.try_into().ok()?;
        let (body, mac) = token.split_at(REFRESH_BODY_BYTES);
        // `blake3::Hash` compares in constant time.
        let mac = blake3::Hash::from_slice(mac).ok()?;
        if blake3::keyed_hash(&self.refresh, body) != mac || body[0] != REFRESH_VERSION {
            return None;
        }
        let user = UserId::new(u64::from_le_bytes(body[1..9].try_into().ok()?))?;
        let device = DeviceId(u32::from_le_bytes(body[9..13].try_into().ok()?));
        let generation = i64::from_le_bytes(body[13..21].try_into().ok()?);
        Some((Identity { user, device }, generation))
    }
}

/// Exact: a double has more digits than milliseconds since 1970.
#[expect(clippy::cast_precision_loss, reason = "53 bits of milliseconds last for 285,000 years")]
fn issued_at(now: Timestamp) -> f64 {
    now.0 as f64 / 1000.0
}

fn wrong(path: &Path, problem: &dyn std::fmt::Display) -> KeyError {
    KeyError { path: path.to_owned(), problem: problem.to_string() }
}

fn read_key(path: &Path) -> Result<Key, KeyError> {
    let pem = fs::read_to_string(path).map_err(|error| wrong(path, &error))?;
    let refused =
        || wrong(path, &"not an Ed25519 private key in PKCS #8 PEM; remove or replace it");
    let key = SigningKey::from_pkcs8_pem(&pem).map_err(|_| refused())?;
    let public = key.verifying_key().to_bytes();
    let id = path.file_stem().and_then(|stem| stem.to_str());
    Ok(Key {
        id: id.ok_or_else(|| wrong(path, &"its name is the key's id: UTF-8"))?.to_owned(),
        signing: EncodingKey::from_ed_pem(pem.as_bytes()).map_err(|_| refused())?,
        verifying: DecodingKey::from_ed_der(&public),
        public,
    })
}

fn read_or_make_secret(path: &Path) -> Result<[u8; 32], KeyError> {
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            wrong(path, &"must be 32 bytes; remove it, and every device logs in anew")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret: [u8; 32] = rand::random();
            create(path, &secret)?;
            Ok(secret)
        }
        Err(error) => Err(wrong(path, &error)),
    }
}

/// Writes a secret that nobody else may read, whole or not at all.
fn create(path: &Path, contents: &[u8]) -> Result<(), KeyError> {
    let write = || {
        let temporary = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error: std::io::Error| wrong(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn keys() -> (tempfile::TempDir, Keys) {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::open(directory.path()).unwrap();
        (directory, keys)
    }

    fn identity() -> Identity {
        Identity { user: UserId::new(7).unwrap(), device: DeviceId(3) }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(NOW.0.checked_add_signed(seconds * 1000).unwrap())
    }

    #[test]
    fn an_access_token_is_good_for_its_time_and_a_service_token_for_no_person() {
        let (_directory, keys) = keys();
        let token = keys.sign(identity(), NOW, Duration::from_secs(60));
        for (seconds, is_good) in [(0, true), (90, true), (91, false), (-30, true), (-31, false)] {
            assert_eq!(keys.verify(&token, at(seconds)).is_some(), is_good, "at {seconds}");
        }
        assert_eq!(keys.verify(&token, NOW), Some(identity()));
        let service = keys.sign_service(NOW, Duration::from_secs(60));
        assert_eq!(keys.verify(&service, NOW), None);
        let (_other_directory, other) = self::keys();
        assert_eq!(other.verify(&token, NOW), None);
    }

    #[test]
    fn a_refresh_token_says_what_it_was_made_for_and_any_changed_character_is_found() {
        let (directory, keys) = keys();
        let token = keys.refresh_token(identity(), 9);
        assert_eq!(keys.read_refresh_token(&token), Some((identity(), 9)));
        for index in 0..token.len() - 1 {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(keys.read_refresh_token(&changed), None, "character {index}");
        }
        let reopened = Keys::open(directory.path()).unwrap();
        assert_eq!(reopened.read_refresh_token(&token), Some((identity(), 9)), "after a restart");
    }

    #[test]
    fn a_newer_key_signs_and_the_older_still_verifies() {
        let (directory, keys) = keys();
        let token = keys.sign(identity(), NOW, Duration::from_secs(60));
        let pem = SigningKey::from_bytes(&[9; 32]).to_pkcs8_pem(LineEnding::LF).unwrap();
        fs::write(directory.path().join("second.pem"), pem.as_bytes()).unwrap();
        let keys = Keys::open(directory.path()).unwrap();
        let newer = keys.sign(identity(), NOW, Duration::from_secs(60));
        assert_eq!(keys.verify(&token, NOW), Some(identity()));
        assert_eq!(keys.verify(&newer, NOW), Some(identity()));
        let names: Vec<String> = keys.public().into_iter().map(|key| key.kid).collect();
        assert_eq!(names, ["first", "second"]);
        fs::remove_file(directory.path().join("first.pem")).unwrap();
        let keys = Keys::open(directory.path()).unwrap();
        assert_eq!(keys.verify(&token, NOW), None);
    }
}
