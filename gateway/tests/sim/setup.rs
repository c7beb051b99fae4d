//! What a run is made of.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use gateway::auth::{Identity, KEYS_DIR, KeyRing};
use gateway::config::Config;
use gateway::limits::Limits;
use router::mesh::Lanes;
use store::SyncMode;
use wire::{DeviceId, Timestamp, UserId};

/// Shards of the virtual data directory.
pub(crate) const SHARDS: u16 = 64;

/// Names the virtual data directory's history.
pub(crate) const EPOCH: u64 = 0xe0c4;

/// When every run begins.
pub(crate) const BEGIN: Timestamp = Timestamp(1_800_000_000_000);

/// Number of cores, limits, and what a core has of descriptors, buffers and lanes.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) cores: u16,
    pub(crate) limits: Limits,
    pub(crate) places_max: usize,
    pub(crate) buffers: usize,
    /// What a socket takes while its client does not read.
    pub(crate) socket_bytes: usize,
    pub(crate) lanes: Lanes,
    pub(crate) sync: SyncMode,
    pub(crate) batch_bytes_max: usize,
}

impl Setup {
    /// The defaults, with so many cores.
    pub(crate) fn cores(cores: u16) -> Self {
        let mut limits = Limits::new(&Config::default()).expect("the defaults are valid");
        limits.cores = cores;
        limits.core_bytes_max = 1 << 30; // Whatever machine this is.
        Self {
            cores,
            limits,
            places_max: 10_000,
            buffers: 10_000,
            socket_bytes: 64 * 1024,
            lanes: Lanes::default(),
            sync: SyncMode::Always,
            batch_bytes_max: usize::MAX,
        }
    }

    /// With other limits.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }
}

/// The keys of all runs: always the same, so that a run is its seed. Made once for all runs.
pub(crate) fn keys() -> Arc<KeyRing> {
    static KEYS: OnceLock<Arc<KeyRing>> = OnceLock::new();
    Arc::clone(KEYS.get_or_init(|| {
        let data = tempfile::tempdir().expect("a directory for tests");
        let keys = data.path().join(KEYS_DIR);
        std::fs::create_dir(&keys).expect("an empty directory");
        let pem = SigningKey::from_bytes(&[7; 32]).to_pkcs8_pem(LineEnding::LF).expect("a key");
        std::fs::write(keys.join("test.pem"), pem.as_bytes()).expect("writable");
        std::fs::write(keys.join("ticket.key"), [9; 32]).expect("writable");
        Arc::new(KeyRing::open(data.path(), Duration::ZERO).expect("two valid keys"))
    }))
}

/// A token for a device, valid for every run.
pub(crate) fn token(user: UserId, device: DeviceId) -> String {
    token_of(user, device, BEGIN)
}

/// As [`token`], issued at some time.
pub(crate) fn token_of(user: UserId, device: DeviceId, issued_at: Timestamp) -> String {
    keys().sign(Identity { user, device }, issued_at, Duration::from_secs(1 << 30))
}

/// A token for a service, valid for every run.
pub(crate) fn service_token() -> String {
    keys().sign_service(BEGIN, Duration::from_secs(1 << 30))
}
