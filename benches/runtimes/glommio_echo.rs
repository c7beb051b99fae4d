//! The echo on glommio: one thread, a task a connection, poll and read on its io_uring.

#![forbid(unsafe_code)]

use anyhow::{Context, anyhow};
use benches::echo::{EchoOptions, measure};
use benches::sides::Announce;
use clap::Parser;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::LocalExecutor;
use glommio::net::{TcpListener, TcpStream};

fn main() -> anyhow::Result<()> {
    let driver = "glommio on io_uring".to_owned();
    measure("glommio-echo", driver, EchoOptions::parse(), serve)
}

fn serve(announce: Announce) -> anyhow::Result<()> {
    // The thread is pinned already.
    let executor = LocalExecutor::default();
    executor.run(async {
        let bound = TcpListener::bind("127.0.0.1:0").map_err(|error| anyhow!("bind: {error}"));
        let listener = bound?;
        announce.listening_at(listener.local_addr().map_err(|error| anyhow!("{error}"))?);
        loop {
            let accepted = listener.accept().await.map_err(|error| anyhow!("{error}"));
            let stream = accepted.context("accept")?;
            stream.set_nodelay(true).map_err(|error| anyhow!("{error}"))?;
            glommio::spawn_local(echo(stream)).detach();
        }
    })
}

/// Until either direction ends; the client tells what it missed.
async fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 2048];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
