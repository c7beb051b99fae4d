//! Tokens and resume tickets: no credential panics; what was changed anywhere is refused; what was
//! not says who it was made for, and only within its time.

use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use gateway::auth::{Caller, Identity, KEYS_DIR, KeyRing, TICKET_LIFETIME};
use wire::client::Credential;
use wire::{DeviceId, Timestamp, UserId};

/// The skew that the ring permits.
const SKEW: Duration = Duration::from_secs(30);

/// The same keys at every run, so that an input means the same.
static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let data = tempfile::tempdir().expect("a folder for the keys");
    let folder = data.path().join(KEYS_DIR);
    std::fs::create_dir(&folder).expect("a folder in it");
    let pem = SigningKey::from_bytes(&[7; 32]).to_pkcs8_pem(LineEnding::LF).expect("a key");
    std::fs::write(folder.join("fuzz.pem"), pem.as_bytes()).expect("room for a key");
    std::fs::write(folder.join("ticket.key"), [9; 32]).expect("room for a key");
    KeyRing::open(data.path(), SKEW).expect("keys that were just made")
});

/// What is tried.
#[derive(Arbitrary, Debug)]
enum Attempt<'a> {
    /// A credential that nobody made.
    Token(&'a str),
    Ticket(&'a [u8]),
    /// One of ours, changed or not, at some time after it was made.
    Own {
        user: u64,
        device: u32,
        made: u32,
        lifetime: u16,
        later: i32,
        change: Change,
    },
}

/// What happens to the bytes of a credential.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Change {
    Nothing,
    Flip { at: u16, bits: u8 },
    Cut { at: u16 },
    Insert { at: u16, byte: u8 },
}

/// Verifies what `data` stands for.
///
/// # Panics
/// If something is accepted that should not be, or the other way round.
pub fn run(data: &[u8]) {
    let Ok(attempt) = Attempt::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let now = Timestamp(1_700_000_000_000);
    let nobody = DeviceId(0);
    match attempt {
        Attempt::Token(token) => {
            // One can hold the key's own signature only by being in the corpus.
            let _ = RING.verify(&Credential::Token(token), nobody, now);
        }
        Attempt::Ticket(ticket) => {
            let _ = RING.verify(&Credential::Ticket(ticket), nobody, now);
        }
        Attempt::Own { user, device, made, lifetime, later, change } => {
            let Some(user) = UserId::new(user) else { return };
            let identity = Identity { user, device: DeviceId(device) };
            let made = Timestamp(now.0 + u64::from(made));
            let at = Timestamp(made.0.saturating_add_signed(i64::from(later)));
            check_token(identity, made, Duration::from_secs(lifetime.into()), at, change);
            check_ticket(identity, made, at, change);
        }
    }
}

fn check_token(
    identity: Identity,
    made: Timestamp,
    lifetime: Duration,
    at: Timestamp,
    change: Change,
) {
    let token = RING.sign(identity, made, lifetime);
    let changed = change.apply(token.as_bytes());
    let Ok(text) = std::str::from_utf8(&changed) else { return };
    let verdict = RING.verify(&Credential::Token(text), identity.device, at);
    let (issued_at, seconds, made) = (made, at.0 / 1000, made.0 / 1000);
    let in_time =
        seconds <= made + lifetime.as_secs() + SKEW.as_secs() && seconds + SKEW.as_secs() >= made;
    let is_device = identity.device != DeviceId(0);
    assert_eq!(verdict.is_ok(), text == token && in_time && is_device, "{verdict:?}: {text}");
    let expected = Caller::Device { identity, issued_at };
    assert!(verdict.is_err() || verdict == Ok(expected));
}

fn check_ticket(identity: Identity, made: Timestamp, at: Timestamp, change: Change) {
    let issued_at = Timestamp(made.0 - u64::from(identity.device.0));
    let (ticket, expires_at) = RING.ticket(identity, issued_at, made);
    assert_eq!(u128::from(expires_at.0 - made.0), TICKET_LIFETIME.as_millis());
    let changed = change.apply(&ticket);
    let verdict = RING.verify(&Credential::Ticket(&changed), identity.device, at);
    let in_time = at <= expires_at;
    assert_eq!(verdict.is_ok(), changed == ticket && in_time, "{verdict:?}");
    let expected = Caller::Device { identity, issued_at };
    assert!(verdict.is_err() || verdict == Ok(expected));
}

impl Change {
    fn apply(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let place = |at: u16| usize::from(at) % bytes.len();
        match self {
            Self::Nothing => {}
            Self::Flip { at, bits } => {
                let at = place(at);
                bytes[at] ^= bits;
            }
            Self::Cut { at } => {
                let at = place(at);
                bytes.truncate(at);
            }
            Self::Insert { at, byte } => {
                let at = place(at);
                bytes.insert(at, byte);
            }
        }
        bytes
    }
}
