//! Access tokens, made with the server's own signing key: EdDSA JWTs whose `sub` is the user and
//! `did` the device.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use wire::{DeviceId, UserId};

/// How long a token is good for: longer than any run, shorter than a key's life.
const LIFETIME_SECONDS: u64 = 24 * 60 * 60;

/// The server's clock may be behind ours by this much.
const SKEW_SECONDS: u64 = 30;

/// Tokens that a worker makes between two words about it.
const STRIDE: usize = 1024;

/// The device of every session.
pub(crate) const DEVICE: DeviceId = DeviceId(1);

/// Why no token can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// A file or folder cannot be read.
    #[error("{path}: {why}; --data is the server's data directory, --key one of its keys/*.pem")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// The data directory has no key.
    #[error("{path} holds no *.pem: start the server once with this data directory, or use --key")]
    NoKey {
        /// The folder of keys.
        path: PathBuf,
    },
    /// Not a key.
    #[error("{path}: not an Ed25519 private key in PKCS #8 PEM")]
    Invalid {
        /// Which.
        path: PathBuf,
    },
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    did: u32,
    exp: u64,
    nbf: u64,
}

/// Makes tokens.
pub(crate) struct Minter {
    header: Header,
    key: EncodingKey,
    now_seconds: u64,
}

impl Minter {
    /// With the key a server of this data directory would use: the last one by name.
    ///
    /// # Errors
    /// There is none, or it is not one.
    pub(crate) fn of_data(data: &Path, now_seconds: u64) -> Result<Self, TokenError> {
        let path = data.join("keys");
        let io = |why| TokenError::Io { path: path.clone(), why };
        let mut last = None;
        for entry in fs::read_dir(&path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            if file.extension().is_some_and(|extension| extension == "pem") {
                last = last.max(Some(file));
            }
        }
        let file = last.ok_or(TokenError::NoKey { path })?;
        Self::of_key(&file, now_seconds)
    }

    /// With one key; its id is the file's name without `.pem`.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub(crate) fn of_key(file: &Path, now_seconds: u64) -> Result<Self, TokenError> {
        let pem = fs::read(file).map_err(|why| TokenError::Io { path: file.to_owned(), why })?;
        let invalid = || TokenError::Invalid { path: file.to_owned() };
        let id = file.file_stem().and_then(|stem| stem.to_str()).ok_or_else(invalid)?;
        let key = EncodingKey::from_ed_pem(&pem).map_err(|_| invalid())?;
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::EdDSA) };
        let minter = Self { header, key, now_seconds };
        // A key of another kind shows only when it signs.
        let user = UserId::new(1).expect("not 0");
        minter.try_mint(user, DEVICE).map_err(|_| invalid())?;
        Ok(minter)
    }

    fn try_mint(
        &self,
        user: UserId,
        device: DeviceId,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = Claims {
            sub: user.get().to_string(),
            did: device.0,
            exp: self.now_seconds + LIFETIME_SECONDS,
            nbf: self.now_seconds.saturating_sub(SKEW_SECONDS),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
    }

    /// A token for each user from `first` on, in their order, made by `workers` threads.
    /// `progress` is told how many there are.
    pub(crate) fn mint(
        &self,
        first: u64,
        count: usize,
        workers: usize,
        mut progress: impl FnMut(usize),
    ) -> Vec<Box<str>> {
        let share = count.div_ceil(workers.max(1)).max(1);
        let (done, dones) = mpsc::channel();
        thread::scope(|scope| {
            let parts: Vec<_> = (0..count)
                .step_by(share)
                .map(|start| {
                    let done = done.clone();
                    let range = start..count.min(start + share);
                    scope.spawn(move || self.mint_range(first, range, &done))
                })
                .collect();
            drop(done);
            let mut made = 0;
            for more in dones {
                made += more;
                progress(made);
            }
            let join = |part: thread::ScopedJoinHandle<'_, Vec<Box<str>>>| {
                part.join().expect("a panic aborts the process")
            };
            parts.into_iter().flat_map(join).collect()
        })
    }

    fn mint_range(
        &self,
        first: u64,
        range: Range<usize>,
        done: &mpsc::Sender<usize>,
    ) -> Vec<Box<str>> {
        let mut tokens = Vec::with_capacity(range.len());
        for index in range.clone() {
            let user = UserId::new(first + index as u64).expect("users are numbered from 1");
            let token = self.try_mint(user, DEVICE).expect("the key has signed before");
            tokens.push(token.into_boxed_str());
            if tokens.len().is_multiple_of(STRIDE) || tokens.len() == range.len() {
                let more = (tokens.len() - 1) % STRIDE + 1;
                done.send(more).expect("received until every worker has ended");
            }
        }
        tokens
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use ed25519_dalek::pkcs8::EncodePrivateKey;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    fn key(byte: u8) -> (String, DecodingKey) {
        let key = SigningKey::from_bytes(&[byte; 32]);
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        (pem, DecodingKey::from_ed_der(key.verifying_key().as_bytes()))
    }

    #[test]
    fn tokens_are_signed_with_the_last_key_and_name_user_device_and_key() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("keys")).unwrap();
        let (second, verify) = key(2);
        for (name, text) in [("a.pem", &*key(1).0), ("b.pem", &*second), ("z.key", "secret")] {
            fs::write(dir.path().join("keys").join(name), text).unwrap();
        }
        let minter = Minter::of_data(dir.path(), 1_000_000).unwrap();
        for (count, workers) in [(1, 4), (3, 2), (2 * STRIDE + 5, 2), (0, 2)] {
            let mut seen = 0;
            let tokens = minter.mint(77, count, workers, |made| seen = made);
            assert_eq!((tokens.len(), seen), (count, count));
            for (index, token) in tokens.iter().enumerate().step_by(STRIDE - 1) {
                let token = &**token;
                assert_eq!(jsonwebtoken::decode_header(token).unwrap().kid.unwrap(), "b");
                let mut validation = Validation::new(Algorithm::EdDSA);
                validation.validate_exp = false;
                let claims = jsonwebtoken::decode::<serde_json::Value>(token, &verify, &validation);
                let claims = claims.unwrap().claims;
                assert_eq!(claims["sub"], (77 + index).to_string());
                assert_eq!(claims["did"], 1);
                assert_eq!(claims["exp"], 1_000_000 + LIFETIME_SECONDS);
                assert_eq!(claims["nbf"], 1_000_000 - SKEW_SECONDS);
            }
        }
    }

    #[test]
    fn what_is_no_key_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = |result: Result<Minter, TokenError>| match result {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        };
        let missing = error(Minter::of_data(dir.path(), 0));
        assert!(missing.contains("--data is the server's data directory"), "{missing}");
        fs::create_dir(dir.path().join("keys")).unwrap();
        let empty = error(Minter::of_data(dir.path(), 0));
        assert!(empty.contains("start the server once"), "{empty}");
        let file = dir.path().join("keys/a.pem");
        for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
        {
            fs::write(&file, text).unwrap();
            let invalid = error(Minter::of_data(dir.path(), 0));
            assert!(invalid.contains("a.pem: not an Ed25519"), "{invalid}");
        }
    }
}
