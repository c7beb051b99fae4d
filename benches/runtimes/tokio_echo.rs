//! The echo on tokio: one thread, a task a connection, readiness by epoll.

#![forbid(unsafe_code)]

use anyhow::Context;
use benches::echo::{EchoOptions, measure};
use benches::sides::Announce;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() -> anyhow::Result<()> {
    let driver = "tokio on epoll, current-thread".to_owned();
    measure("tokio-echo", driver, EchoOptions::parse(), serve)
}

fn serve(announce: Announce) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        announce.listening_at(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await.context("accept")?;
            stream.set_nodelay(true)?;
            tokio::spawn(echo(stream));
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
