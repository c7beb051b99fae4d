//! Passwords: argon2id, on threads of their own.
//!
//! A hash takes 19 MiB and tens of milliseconds of a processor, on purpose. So hashes have a fixed
//! number of threads, below the others in priority, and a bounded queue: beyond it a login is told
//! to come later, and no other request notices.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, PasswordHash};
use tokio::sync::oneshot;

use crate::problem::{Kind, Problem, Result};

/// Characters of a password, at least. (NIST SP 800-63B)
const PASSWORD_CHARACTERS_MIN: usize = 8;

/// Bytes of a password, at most: beyond it somebody wants us to hash.
const PASSWORD_BYTES_MAX: usize = 256;

/// By how much the hashing threads stand back.
const NICE: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

pub(crate) struct Passwords {
    queue: SyncSender<Work>,
    /// Verified where there is no account, so that the answer takes as long.
    nobody: Arc<str>,
}

impl Passwords {
    pub(crate) fn start(threads: NonZeroUsize, queue_max: usize) -> std::io::Result<Self> {
        let (queue, work) = sync_channel::<Work>(queue_max);
        let work = Arc::new(Mutex::new(work));
        for number in 0..threads.get() {
            let work = Arc::clone(&work);
            let name = format!("hash-{number}");
            std::thread::Builder::new().name(name).spawn(move || run(&work))?;
        }
        let nobody = hash("nobody has this password").map_err(std::io::Error::other)?;
        Ok(Self { queue, nobody: nobody.into() })
    }

    /// The PHC string of a new password.
    pub(crate) async fn hash(&self, password: String) -> Result<String> {
        let hashed = self.perform(move || hash(&password)).await?;
        hashed.map_err(|error| Problem::internal(&error))
    }

    /// Whether this is the password; `None` stands for an account that is not there, and takes as
    /// long.
    pub(crate) async fn verify(&self, password: String, known: Option<String>) -> Result<bool> {
        let nobody = Arc::clone(&self.nobody);
        self.perform(move || {
            let phc = PasswordHash::new(known.as_deref().unwrap_or(&nobody));
            let matches = phc.is_ok_and(|phc| {
                Argon2::default().verify_password(password.as_bytes(), &phc).is_ok()
            });
            matches && known.is_some()
        })
        .await
    }

    async fn perform<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (sender, answer) = oneshot::channel();
        let work = Box::new(move || {
            // Whoever asked may have gone; then nobody pays for the hash.
            if !sender.is_closed() {
                drop(sender.send(work()));
            }
        });
        match self.queue.try_send(work) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(Problem::later(Kind::Overloaded, "too many logins just now", 2));
            }
            Err(TrySendError::Disconnected(_)) => {
                return Err(Problem::internal(&"the hashing threads are gone"));
            }
        }
        answer.await.map_err(|_| Problem::internal(&"a hashing thread is gone"))
    }
}

fn run(work: &Mutex<Receiver<Work>>) {
    // On Linux the nice value is a thread's own.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "hashing threads keep the priority of others");
    }
    loop {
        // The lock is held by whoever waits for work: the others wait for the lock.
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(work) => work(),
            Err(_) => return,
        }
    }
}

/// With the parameters that the crate recommends (OWASP's: 19 MiB, 2 passes, 1 lane).
fn hash(password: &str) -> std::result::Result<String, String> {
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed.map(|phc| phc.to_string()).map_err(|error| error.to_string())
}

/// That it may be a password.
pub(crate) fn check(field: &str, password: &str) -> Result<()> {
    if password.chars().count() < PASSWORD_CHARACTERS_MIN {
        let problem = format!("must have at least {PASSWORD_CHARACTERS_MIN} characters");
        return Err(Problem::field(field, problem));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        let problem = format!("must have at most {PASSWORD_BYTES_MAX} bytes of UTF-8");
        return Err(Problem::field(field, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(queue_max: usize) -> Passwords {
        Passwords::start(NonZeroUsize::MIN, queue_max).unwrap()
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_alone() {
        let passwords = passwords(8);
        let phc = passwords.hash("correct horse".into()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        let verify = |password: &str, phc: Option<&str>| {
            passwords.verify(password.to_owned(), phc.map(str::to_owned))
        };
        assert!(verify("correct horse", Some(&phc)).await.unwrap());
        assert!(!verify("correct hors", Some(&phc)).await.unwrap());
        assert!(!verify("nobody has this password", None).await.unwrap());
    }

    #[tokio::test]
    async fn beyond_the_queue_a_login_is_told_to_come_later() {
        let passwords = passwords(1);
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let held = passwords.perform(move || started.send(()).is_ok() && gate.recv().is_ok());
        let waiting = passwords.perform(|| true);
        let rest = async {
            has_started.await.unwrap();
            // One runs; of two more one finds the place in the queue.
            let (one, other) = tokio::join!(waiting, async {
                let beyond = passwords.perform(|| true).await;
                release.send(()).unwrap();
                beyond
            });
            assert!(one.unwrap());
            assert_eq!(other.unwrap_err().kind(), Kind::Overloaded);
        };
        let (held, ()) = tokio::join!(held, rest);
        assert!(held.unwrap());
    }
}
