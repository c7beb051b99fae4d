//! Who a device is: access tokens and resume tickets.
//!
//! An access token is a JWT (RFC 7519) signed with EdDSA (RFC 8037) by whoever holds a key of the
//! ring; its `kid` names the key, `sub` the user, `did` the device, `iat` when it was issued. A
//! gateway verifies it alone. A service's has `role` "service", and 0 in place of user and device.
//!
//! A resume ticket is ours alone: user, device and expiry under a keyed BLAKE3 MAC, which costs a
//! hundredth of a signature check, so that a storm of returning sessions is cheap. The key never
//! leaves the data directory. A ticket carries the time of issue of the token that its chain of
//! sessions began with: so one comparison, on one clock, tells whether a login was ended since.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signature, SigningKey, Verifier, VerifyingKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use wire::client::Credential;
use wire::{DeviceId, Timestamp, UserId};

/// How long a resume ticket is good for.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Where keys are, inside the data directory.
pub const KEYS_DIR: &str = "keys";

/// What a verified credential says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Whose.
    pub user: UserId,
    /// Which of her devices.
    pub device: DeviceId,
}

/// Who a credential is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// A device of a person.
    Device {
        /// Whose, and which.
        identity: Identity,
        /// When the token was issued that this or the chain of its tickets began with; 0 if it
        /// does not say.
        issued_at: Timestamp,
    },
    /// A service.
    Service,
}

/// Why a credential is refused. The peer learns only that it is; operators see which.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// Not a JWT, or not the claims of one of ours.
    #[error("token: not a JWT with sub, did and exp, or with role = \"service\" and both 0")]
    Malformed,
    /// Its `kid` is not in the key ring.
    #[error("token: signed with a key that is not in the ring")]
    UnknownKey,
    /// The signature does not match.
    #[error("token: signature does not match")]
    BadSignature,
    /// Beyond `exp`, and the permitted clock skew.
    #[error("token or ticket: expired")]
    Expired,
    /// Before `nbf`, less the permitted clock skew.
    #[error("token: not valid yet; compare the clocks")]
    NotYetValid,
    /// The ticket was not made here, or was changed.
    #[error("ticket: not one of this gateway's")]
    BadTicket,
    /// `Hello.device` is not the credential's.
    #[error("device: not the one the token or ticket was made for")]
    OtherDevice,
}

/// The key ring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file could not be read or written.
    #[error("cannot use {path}: {source}; it must be readable and writable for this user")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {problem}")]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    did: u32,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    /// Seconds, with a fraction.
    #[serde(default)]
    iat: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
}

/// The `role` of a service's token.
const SERVICE: &str = "service";

/// The keys of a data directory.
pub struct KeyRing {
    keys: Vec<(String, EncodingKey, VerifyingKey)>,
    ticket_key: [u8; 32],
    clock_skew: Duration,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|(id, ..)| id.as_str()).collect();
        f.debug_struct("KeyRing").field("ids", &ids).finish_non_exhaustive()
    }
}

const TICKET_VERSION: u8 = 2;
const TICKET_BODY_BYTES: usize = 1 + 8 + 4 + 8 + 8;

/// Bytes of a ticket.
pub const TICKET_BYTES: usize = TICKET_BODY_BYTES + blake3::OUT_LEN;
const _: () = assert!(TICKET_BYTES <= wire::limits::TICKET_BYTES_MAX);

impl KeyRing {
    /// Reads `data/keys`: each `KID.pem` is a signing key (PKCS #8), `ticket.key` the ticket MAC's.
    /// Makes a first key of each kind where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, written or understood, by name.
    pub fn open(data: &Path, clock_skew: Duration) -> Result<Self, KeyError> {
        let dir = data.join(KEYS_DIR);
        fs::create_dir_all(&dir).map_err(|source| io(&dir, source))?;
        let mut keys = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|source| io(&dir, source))? {
            let path = entry.map_err(|source| io(&dir, source))?.path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                keys.push(read_key(&path)?);
            }
        }
        if keys.is_empty() {
            let path = dir.join("first.pem");
            create(&path, make_key()?.as_bytes())?;
            keys.push(read_key(&path)?);
        }
        keys.sort_by(|one, other| one.0.cmp(&other.0));
        let ticket_key = read_or_make_ticket_key(&dir.join("ticket.key"))?;
        Ok(Self { keys, ticket_key, clock_skew })
    }

    /// Who the credential of a `Hello` says the caller is.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(
        &self,
        credential: &Credential<'_>,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<Caller, AuthError> {
        let caller = match credential {
            Credential::Token(token) => self.verify_token(token, now)?,
            Credential::Ticket(ticket) => self.verify_ticket(ticket, now)?,
        };
        let of = match caller {
            Caller::Device { identity, .. } => identity.device,
            Caller::Service => DeviceId(0),
        };
        if of == device { Ok(caller) } else { Err(AuthError::OtherDevice) }
    }

    /// A token for a device, signed with the ring's last key (by id).
    ///
    /// # Panics
    /// Never for keys that [`Self::open`] accepted.
    #[must_use]
    pub fn sign(&self, identity: Identity, now: Timestamp, lifetime: Duration) -> String {
        self.sign_claims((identity.user.get(), identity.device.0, None), now, lifetime)
    }

    /// A token for a service, signed as [`Self::sign`] does.
    ///
    /// # Panics
    /// Never for keys that [`Self::open`] accepted.
    #[must_use]
    pub fn sign_service(&self, now: Timestamp, lifetime: Duration) -> String {
        self.sign_claims((0, 0, Some(SERVICE.to_owned())), now, lifetime)
    }

    fn sign_claims(
        &self,
        (user, did, role): (u64, u32, Option<String>),
        now: Timestamp,
        lifetime: Duration,
    ) -> String {
        let (id, key, _) = self.keys.last().expect("a ring has a key");
        let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::EdDSA) };
        let seconds = now.0 / 1000;
        let (exp, iat) = (seconds + lifetime.as_secs(), seconds_of(now));
        let claims = Claims { sub: user.to_string(), did, exp, nbf: seconds, iat, role };
        jsonwebtoken::encode(&header, &claims, key).expect("an Ed25519 key signs")
    }

    /// A ticket for a device whose login was at `issued_at`, with its expiry.
    #[must_use]
    pub fn ticket(
        &self,
        identity: Identity,
        issued_at: Timestamp,
        now: Timestamp,
    ) -> ([u8; TICKET_BYTES], Timestamp) {
        let lifetime = u64::try_from(TICKET_LIFETIME.as_millis()).expect("a day");
        let expires_at = Timestamp(now.0 + lifetime);
        let mut ticket = [0; TICKET_BYTES];
        ticket[0] = TICKET_VERSION;
        ticket[1..9].copy_from_slice(&identity.user.get().to_le_bytes());
        ticket[9..13].copy_from_slice(&identity.device.0.to_le_bytes());
        ticket[13..21].copy_from_slice(&expires_at.0.to_le_bytes());
        ticket[21..29].copy_from_slice(&issued_at.0.to_le_bytes());
        let mac = blake3::keyed_hash(&self.ticket_key, &ticket[..TICKET_BODY_BYTES]);
        ticket[TICKET_BODY_BYTES..].copy_from_slice(mac.as_bytes());
        (ticket, expires_at)
    }

    fn verify_token(&self, token: &str, now: Timestamp) -> Result<Caller, AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.alg != Algorithm::EdDSA {
            return Err(AuthError::Malformed);
        }
        let known = |(id, ..): &&(String, _, _)| header.kid.as_deref() == Some(id);
        let (.., key) = self.keys.iter().find(known).ok_or(AuthError::UnknownKey)?;
        verify_signature(token, key)?;
        let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token)
            .map_err(|_| AuthError::Malformed)?;
        let (seconds, skew) = (now.0 / 1000, self.clock_skew.as_secs());
        if seconds > claims.exp.saturating_add(skew) {
            return Err(AuthError::Expired);
        }
        if seconds.saturating_add(skew) < claims.nbf {
            return Err(AuthError::NotYetValid);
        }
        let user = claims.sub.parse().map_err(|_| AuthError::Malformed)?;
        let is_service = claims.role.as_deref() == Some(SERVICE);
        match (UserId::new(user), claims.did, is_service) {
            (None, 0, true) => Ok(Caller::Service),
            (Some(user), device @ 1.., false) => {
                let identity = Identity { user, device: DeviceId(device) };
                Ok(Caller::Device { identity, issued_at: time_of(claims.iat) })
            }
            _ => Err(AuthError::Malformed),
        }
    }

    fn verify_ticket(&self, ticket: &[u8], now: Timestamp) -> Result<Caller, AuthError> {
        let ticket: &[u8; TICKET_BYTES] = ticket.try_into().map_err(|_| AuthError::BadTicket)?;
        let (body, mac) = ticket.split_at(TICKET_BODY_BYTES);
        let mac = blake3::Hash::from_slice(mac).map_err(|_| AuthError::BadTicket)?;
        // `blake3::Hash` compares in constant time.
        if blake3::keyed_hash(&self.ticket_key, body) != mac || body[0] != TICKET_VERSION {
            return Err(AuthError::BadTicket);
        }
        let field = |range: std::ops::Range<usize>| {
            let mut bytes = [0; 8];
            bytes[..range.len()].copy_from_slice(&body[range]);
            u64::from_le_bytes(bytes)
        };
        if now.0 > field(13..21) {
            return Err(AuthError::Expired);
        }
        let user = UserId::new(field(1..9)).ok_or(AuthError::BadTicket)?;
        let device = u32::try_from(field(9..13)).map_err(|_| AuthError::BadTicket)?;
        let identity = Identity { user, device: DeviceId(device) };
        Ok(Caller::Device { identity, issued_at: Timestamp(field(21..29)) })
    }
}

/// A time as tokens say it (RFC 7519 section 2, NumericDate): seconds, the milliseconds behind the
/// point.
#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years of milliseconds")]
fn seconds_of(time: Timestamp) -> f64 {
    time.0 as f64 / 1000.0
}

/// A time that a token says; what is no time counts as before all.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
#[expect(clippy::cast_sign_loss, reason = "saturates")]
fn time_of(seconds: f64) -> Timestamp {
    Timestamp((seconds * 1000.0).round() as u64)
}

/// Of the header and the claims as they stand in the token (RFC 7515 section 5.2), with a key that
/// is a point of the curve already: the library reads it from its bytes for each token, which is an
/// eighth of the work.
fn verify_signature(token: &str, key: &VerifyingKey) -> Result<(), AuthError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed)?;
    let mut bytes = [0; Signature::BYTE_SIZE + 2]; // Decoding works in whole groups of three.
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes);
    let length = length.map_err(|_| AuthError::Malformed)?;
    let signature = Signature::from_slice(&bytes[..length]).map_err(|_| AuthError::BadSignature)?;
    key.verify(signed.as_bytes(), &signature).map_err(|_| AuthError::BadSignature)
}

fn io(path: &Path, source: std::io::Error) -> KeyError {
    KeyError::Io { path: path.to_owned(), source }
}

fn invalid(path: &Path, problem: &'static str) -> KeyError {
    KeyError::Invalid { path: path.to_owned(), problem }
}

fn random() -> [u8; 32] {
    rand::random()
}

fn make_key() -> Result<String, KeyError> {
    let pem = SigningKey::from_bytes(&random()).to_pkcs8_pem(LineEnding::LF);
    pem.map(|pem| pem.to_string()).map_err(|_| invalid(Path::new("first.pem"), "cannot be encoded"))
}

fn read_key(path: &Path) -> Result<(String, EncodingKey, VerifyingKey), KeyError> {
    use ed25519_dalek::pkcs8::DecodePrivateKey;
    let pem = fs::read_to_string(path).map_err(|source| io(path, source))?;
    let not_ed25519 = "not an Ed25519 private key in PKCS #8 PEM; remove it or replace it";
    let key = SigningKey::from_pkcs8_pem(&pem).map_err(|_| invalid(path, not_ed25519))?;
    let signing =
        EncodingKey::from_ed_pem(pem.as_bytes()).map_err(|_| invalid(path, not_ed25519))?;
    let id = path.file_stem().and_then(|stem| stem.to_str());
    let id = id.ok_or_else(|| invalid(path, "the name must be UTF-8: it is the key's id"))?;
    Ok((id.to_owned(), signing, key.verifying_key()))
}

fn read_or_make_ticket_key(path: &Path) -> Result<[u8; 32], KeyError> {
    match fs::read(path) {
        Ok(bytes) => bytes
            .try_into()
            .map_err(|_| invalid(path, "must be 32 bytes; remove it and devices log in anew")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = random();
            create(path, &key)?;
            Ok(key)
        }
        Err(source) => Err(io(path, source)),
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
    write().map_err(|source| io(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn ring() -> (tempfile::TempDir, KeyRing) {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path(), Duration::from_secs(30)).unwrap();
        (dir, ring)
    }

    fn identity() -> Identity {
        Identity { user: UserId::new(42).unwrap(), device: DeviceId(7) }
    }

    fn device(issued_at: Timestamp) -> Caller {
        Caller::Device { identity: identity(), issued_at }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(NOW.0.checked_add_signed(seconds * 1000).unwrap())
    }

    #[test]
    fn a_token_says_who_it_was_signed_for_while_it_is_valid() {
        let (_dir, ring) = ring();
        let token = ring.sign(identity(), NOW, Duration::from_secs(60));
        let rows = [
            (at(0), Ok(device(NOW))),
            (at(90), Ok(device(NOW))),
            (at(91), Err(AuthError::Expired)),
            (at(-30), Ok(device(NOW))),
            (at(-31), Err(AuthError::NotYetValid)),
        ];
        for (now, expected) in rows {
            let verified = ring.verify(&Credential::Token(&token), DeviceId(7), now);
            assert_eq!(verified, expected, "at {now}");
        }
        let other = ring.verify(&Credential::Token(&token), DeviceId(8), NOW);
        assert_eq!(other, Err(AuthError::OtherDevice));
    }

    #[test]
    fn a_services_token_is_of_nobody_and_of_no_device() {
        let (_dir, ring) = ring();
        let hour = Duration::from_secs(3600);
        let sign = |user, did, role: Option<&str>| {
            ring.sign_claims((user, did, role.map(str::to_owned)), NOW, hour)
        };
        let rows = [
            ("a service", sign(0, 0, Some("service")), 0, Ok(Caller::Service)),
            ("as a device", sign(0, 0, Some("service")), 7, Err(AuthError::OtherDevice)),
            ("of a person", sign(42, 0, Some("service")), 0, Err(AuthError::Malformed)),
            ("of a device", sign(0, 7, Some("service")), 7, Err(AuthError::Malformed)),
            ("nobody's", sign(0, 0, None), 0, Err(AuthError::Malformed)),
            ("of device 0", sign(42, 0, None), 0, Err(AuthError::Malformed)),
            ("another role", sign(42, 7, Some("admin")), 7, Ok(device(NOW))),
        ];
        for (name, token, device, expected) in rows {
            let verified = ring.verify(&Credential::Token(&token), DeviceId(device), NOW);
            assert_eq!(verified, expected, "{name}");
        }
    }

    #[test]
    fn a_time_of_issue_has_its_milliseconds_and_none_is_before_all() {
        for (iat, expected) in [
            (1_800_000_000.123, 1_800_000_000_123),
            (1_800_000_000.0, 1_800_000_000_000),
            (0.0, 0),
            (-5.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, u64::MAX),
        ] {
            assert_eq!(time_of(iat), Timestamp(expected), "{iat}");
        }
        let odd = Timestamp(1_799_999_999_999);
        assert_eq!(time_of(seconds_of(odd)), odd);
    }

    #[test]
    fn a_token_that_is_not_ours_is_refused_by_name() {
        let (_dir, ring) = ring();
        let (_other_dir, other) = self::ring();
        let token = ring.sign(identity(), NOW, Duration::from_secs(60));
        let (head, signature) = token.rsplit_once('.').unwrap();
        // The first character: the last one has bits that must be 0.
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let changed = format!("{head}.{first}{}", &signature[1..]);
        let foreign = other.sign(identity(), NOW, Duration::from_secs(60));
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiIsImRpZCI6NywiZXhwIjo5OTk5OTk5OTk5fQ.";
        let rows = [
            ("not a JWT", "hello".to_owned(), AuthError::Malformed),
            ("empty", String::new(), AuthError::Malformed),
            ("alg none", none.to_owned(), AuthError::Malformed),
            ("cut off", head.to_owned(), AuthError::Malformed),
            ("another ring's key", foreign, AuthError::BadSignature),
            ("changed", changed, AuthError::BadSignature),
        ];
        for (name, token, expected) in rows {
            let verified = ring.verify(&Credential::Token(&token), DeviceId(7), NOW);
            assert_eq!(verified, Err(expected), "{name}");
        }
    }

    #[test]
    fn a_ticket_resumes_its_device_and_any_changed_byte_is_found() {
        let (dir, ring) = ring();
        let login = at(-7200);
        let (ticket, expires_at) = ring.ticket(identity(), login, NOW);
        let verify = |ring: &KeyRing, ticket: &[u8], now| {
            ring.verify(&Credential::Ticket(ticket), DeviceId(7), now)
        };
        assert_eq!(verify(&ring, &ticket, expires_at), Ok(device(login)));
        let late = Timestamp(expires_at.0 + 1);
        assert_eq!(verify(&ring, &ticket, late), Err(AuthError::Expired));
        assert_eq!(verify(&ring, &ticket[1..], NOW), Err(AuthError::BadTicket));
        for index in 0..ticket.len() {
            let mut changed = ticket;
            changed[index] ^= 1;
            assert_eq!(verify(&ring, &changed, NOW), Err(AuthError::BadTicket), "byte {index}");
        }
        let reopened = KeyRing::open(dir.path(), Duration::ZERO).unwrap();
        assert_eq!(verify(&reopened, &ticket, NOW), Ok(device(login)), "after a restart");
    }

    #[test]
    fn keys_rotate_by_adding_a_file() {
        let (dir, ring) = ring();
        let token = ring.sign(identity(), NOW, Duration::from_secs(60));
        fs::write(dir.path().join("keys/second.pem"), make_key().unwrap()).unwrap();
        let ring = KeyRing::open(dir.path(), Duration::ZERO).unwrap();
        let newer = ring.sign(identity(), NOW, Duration::from_secs(60));
        for token in [&token, &newer] {
            let verified = ring.verify(&Credential::Token(token), DeviceId(7), NOW);
            assert_eq!(verified, Ok(device(NOW)));
        }
        fs::remove_file(dir.path().join("keys/first.pem")).unwrap();
        let ring = KeyRing::open(dir.path(), Duration::ZERO).unwrap();
        let retired = ring.verify(&Credential::Token(&token), DeviceId(7), NOW);
        assert_eq!(retired, Err(AuthError::UnknownKey));
    }

    #[test]
    fn a_broken_key_file_is_named() {
        for (name, contents) in [("first.pem", "hello"), ("ticket.key", "short")] {
            let (dir, _ring) = ring();
            let path = dir.path().join(KEYS_DIR).join(name);
            fs::write(&path, contents).unwrap();
            let error = KeyRing::open(dir.path(), Duration::ZERO).unwrap_err().to_string();
            assert!(error.starts_with(path.to_str().unwrap()), "{error}");
        }
    }
}
