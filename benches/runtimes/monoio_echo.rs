//! The echo on monoio: one thread, a task a connection, a receive and a send on its io_uring at a
//! time (it has neither multishot receives nor provided buffers).

#![forbid(unsafe_code)]

use anyhow::Context;
use benches::echo::{EchoOptions, measure};
use benches::sides::Announce;
use clap::Parser;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};

/// Of the ring, as the bare echo's.
const ENTRIES: u32 = 4096;

fn main() -> anyhow::Result<()> {
    let driver = "monoio on io_uring".to_owned();
    measure("monoio-echo", driver, EchoOptions::parse(), serve)
}

fn serve(announce: Announce) -> anyhow::Result<()> {
    let mut runtime =
        monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(ENTRIES).build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        announce.listening_at(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await.context("accept")?;
            stream.set_nodelay(true)?;
            monoio::spawn(echo(stream));
        }
    })
}

/// Until either direction ends; the client tells what it missed.
async fn echo(mut stream: TcpStream) {
    let mut buffer = Vec::with_capacity(2048);
    loop {
        let (received, filled) = stream.read(buffer).await;
        let Ok(1..) = received else { return };
        let (sent, filled) = stream.write_all(filled).await;
        if sent.is_err() {
            return;
        }
        buffer = filled;
        buffer.clear();
    }
}
