//! The bare ring as a TCP echo: what one core can do when nothing but bytes has to be moved. No
//! WebSocket, no frames, no routing. The product's figures are ratios of this one.

#![forbid(unsafe_code)]

use anyhow::{Context, bail};
use benches::echo::{EchoOptions, measure, ring_options};
use benches::sides::Announce;
use bytes::BytesMut;
use clap::Parser;
use uring::{Completion, Descriptor, ListenOptions, Ring, Shots, Start, Token, listen};

const LISTENER: Token = Token::new(Token::SLOT_MAX, 0);

fn main() -> anyhow::Result<()> {
    let options = EchoOptions::parse();
    let driver = uring::probe()?.to_string();
    measure("bare-echo", driver, options, move |announce| serve(options.connections, announce))
}

fn serve(connections_max: u32, announce: Announce) -> anyhow::Result<()> {
    let options = ring_options(connections_max);
    let mut ring = Ring::new(&options)?;
    let listener = listen("127.0.0.1:0".parse()?, ListenOptions::default())?;
    let address = listener.local_address()?;
    ring.accept(listener, LISTENER);
    announce.listening_at(address);
    let mut connections: Vec<Option<Descriptor>> = vec![None; options.descriptors_max as usize];
    let mut pool: Vec<BytesMut> = Vec::new();
    loop {
        ring.submit_and_wait(1, None)?;
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Accepted { descriptor, .. } => {
                    connections[descriptor.index() as usize] = Some(descriptor);
                    let token = Token::new(descriptor.index(), 0);
                    ring.receive(descriptor, token, Shots::Many, Start::PollFirst);
                }
                Completion::Received { token, buffer, armed, .. } => {
                    let connection = connections[token.slot() as usize];
                    let descriptor = connection.context("data of no connection")?;
                    let mut bytes = pool.pop().unwrap_or_default();
                    bytes.extend_from_slice(ring.buffer(&buffer));
                    ring.recycle(buffer);
                    ring.send(descriptor, token, bytes.freeze())?;
                    if !armed {
                        ring.receive(descriptor, token, Shots::Many, Start::PollFirst);
                    }
                }
                Completion::Sent { bytes, .. } => {
                    if let Ok(mut bytes) = bytes.try_into_mut() {
                        bytes.clear();
                        pool.push(bytes);
                    }
                }
                Completion::EndOfStream { .. } | Completion::ReceiveFailed { .. } => {}
                other => bail!("the server did not expect {other:?}"),
            }
        }
    }
}
