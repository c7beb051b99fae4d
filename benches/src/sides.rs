//! The two threads of a baseline: the one under test, and the one that drives it.

use std::net::SocketAddr;
use std::sync::mpsc;

use anyhow::{Context, anyhow};

use crate::options::RunOptions;
use crate::rounds::Round;
use crate::threads::{ThreadId, own_id, pinned};

/// What the driving side knows of the other one.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// For its CPU time.
    pub thread: ThreadId,
}

/// How the side under test tells, from its own thread, that it is ready.
#[derive(Debug)]
pub struct Announce(mpsc::Sender<Server>);

impl Announce {
    /// It listens at `address`.
    pub fn listening_at(self, address: SocketAddr) {
        // The other side waits for this, unless the process is ending.
        let _ = self.0.send(Server { address, thread: own_id() });
    }
}

/// Runs both, each on its CPU, until the driving side is done. The server is never asked to stop:
/// the end of the process does that.
///
/// # Errors
///
/// What either side says; the server's word goes first, since it explains the client's.
pub fn run(
    options: &RunOptions,
    serve: impl FnOnce(Announce) -> anyhow::Result<()> + Send + 'static,
    drive: impl FnOnce(Server) -> anyhow::Result<Vec<Round>> + Send + 'static,
) -> anyhow::Result<Vec<Round>> {
    let (announce, ready) = mpsc::channel();
    let server = pinned("server", options.server_cpu, move || serve(Announce(announce)))?;
    let result = match ready.recv() {
        Ok(ready) => pinned("client", options.client_cpu, move || drive(ready))?
            .join()
            .map_err(|_| anyhow!("the client panicked"))?,
        Err(_) => Err(anyhow!("the server ended before it was ready")),
    };
    if result.is_err() && server.is_finished() {
        server.join().map_err(|_| anyhow!("the server panicked"))?.context("the server")?;
    }
    result
}
