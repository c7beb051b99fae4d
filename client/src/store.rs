//! What a device keeps between two runs: its cursor, and the requests that have no answer yet.

use std::io;

use wire::{Epoch, InboxSeq};

use crate::machine::{RequestId, Saved};
use crate::request::Request;

/// A place that outlives the process.
///
/// Its methods are called under the session's lock and on the runtime's threads, so they should
/// take no longer than the sync of a disk.
pub trait Store: Send {
    /// What an earlier run has left. Called once, first.
    ///
    /// # Errors
    /// It cannot be read; then there is no session.
    fn load(&mut self) -> io::Result<Saved>;

    /// Notes a request before it is sent for the first time. It must outlive a power loss from here
    /// on: it would be lost otherwise, or made again under another nonce.
    ///
    /// # Errors
    /// It is not noted; then it is not sent.
    fn add(&mut self, id: RequestId, request: &Request) -> io::Result<()>;

    /// A request is over. If that is forgotten, it is asked again and gets the first answer.
    ///
    /// # Errors
    /// The application is told.
    fn remove(&mut self, id: RequestId) -> io::Result<()>;

    /// Everything up to `cursor` is kept. If that is forgotten, entries come again.
    ///
    /// # Errors
    /// The application is told.
    fn keep(&mut self, epoch: Epoch, cursor: InboxSeq) -> io::Result<()>;
}

/// Keeps nothing beyond the process. What has no answer yet lives in the session itself, over as
/// many connections as it takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct InMemory;

impl Store for InMemory {
    fn load(&mut self) -> io::Result<Saved> {
        Ok(Saved::default())
    }

    fn add(&mut self, _: RequestId, _: &Request) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: RequestId) -> io::Result<()> {
        Ok(())
    }

    fn keep(&mut self, _: Epoch, _: InboxSeq) -> io::Result<()> {
        Ok(())
    }
}
