//! Frames of every size around every boundary that they can meet on their way: receive buffers,
//! send blocks, the forms of a frame's length, both directions, both roles, on real sockets.
//!
//! The peer at the other end is plain: blocking TCP, and frames that are written out here.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which the lint does not see as such")]
#![allow(clippy::print_stderr, reason = "a skipped test must be seen")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use conformance::client::{Answer, Client, Ended};
use conformance::echo::{self, Sizes};
use gateway::config::ShellConfig;
use gateway::server::Gateway;
use gateway::shell::Shell;
use ws::handshake::server::{HandshakePolicy, read_request};
use ws::handshake::{ClientRequest, Progress, read_response};
use ws::{MaskKey, encoder};

/// The smallest that there are: a message of 4 KiB crosses eight receive buffers.
const SMALL: Sizes =
    Sizes { receive_buffers: 16, receive_buffer_bytes: 512, send_block_bytes: 1024 };

/// Nothing is measured by it; only a lost frame reaches it.
const LOST: Duration = Duration::from_secs(30);

const KEY: MaskKey = MaskKey([0x11, 0x22, 0x33, 0x44]);

/// On which shells to test. Without rings the first one is what a server falls back to.
fn shells() -> [ShellConfig; 2] {
    [if may_lack_rings() { ShellConfig::Auto } else { ShellConfig::Uring }, ShellConfig::Portable]
}

fn may_lack_rings() -> bool {
    std::env::var_os("MOORING_ALLOW_NO_URING").is_some_and(|value| value == "1")
}

/// Runs `test` against an echo of its own.
fn with_echo(shell: ShellConfig, sizes: Sizes, test: impl FnOnce(&Gateway)) {
    let data = tempfile::tempdir().unwrap();
    let gateway = echo::start(data.path(), shell, 1, sizes).unwrap();
    test(&gateway);
    gateway.drainer().drain();
    gateway.wait().unwrap();
}

/// Payload lengths whose frame, head included, ends within three bytes of a boundary: of a length's
/// form, of so many buffers in a row, of a block.
fn lengths(boundary_bytes: usize, masked: bool) -> Vec<usize> {
    let mut lengths = BTreeSet::from([0, 1, 2, 3]);
    let forms = [125, 126, 65_535, 65_536];
    lengths.extend(forms.iter().flat_map(|form| form - 3..=form + 3));
    let few = [1, 2, 3, 8, 16, 17];
    for frame_bytes in few.iter().map(|count| count * boundary_bytes) {
        for near in frame_bytes - 3..=frame_bytes + 3 {
            // The head takes up to 14 bytes; which payload makes a frame of this size?
            let payload = (0..=14).map(|head| near.saturating_sub(head));
            lengths.extend(payload.filter(|&n| encoder::frame_bytes(n, masked) == near));
        }
    }
    lengths.into_iter().collect()
}

/// Bytes whose order shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

/// A binary frame with so much of the pattern, as a client sends it.
fn asked(length: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    encoder::append_binary(&mut frame, &pattern(length), Some(KEY));
    frame
}

/// Reads what the echo must answer to it.
fn expect_answer(stream: &mut TcpStream, length: usize, when: &str) {
    let mut expected = Vec::new();
    encoder::append_binary(&mut expected, &pattern(length), None);
    let mut received = vec![0; expected.len()];
    read_exact(stream, &mut received);
    assert!(received == expected, "a message of {length} bytes came back changed: {when}");
}

/// A WebSocket opened by hand.
fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LOST)).unwrap();
    let host = address.to_string();
    let request =
        ClientRequest { host: &host, target: "/", key: [5; 16], subprotocol: None, fields: &[] };
    let mut sent = Vec::new();
    request.append(&mut sent).unwrap();
    stream.write_all(&sent).unwrap();
    let mut head = Vec::new();
    while !matches!(read_response(&head, &request).unwrap(), Progress::Complete(_)) {
        let mut byte = [0];
        read_exact(&mut stream, &mut byte);
        head.push(byte[0]);
    }
    stream
}

/// The kernel's work for the rings of this process may end any wait of its threads.
fn read_exact(stream: &mut TcpStream, mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        match stream.read(bytes) {
            Ok(0) => panic!("the stream ended {} bytes early", bytes.len()),
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}; {} bytes are missing", bytes.len()),
        }
    }
}

/// Writes all lengths in one go from another thread, so that frames lie anywhere in the buffers,
/// and checks that they come back whole and in order.
fn echo_all(address: SocketAddr, lengths: &[usize]) {
    let mut stream = open(address);
    let mut writer = stream.try_clone().unwrap();
    let sent = lengths.to_vec();
    let writing = thread::spawn(move || {
        sent.into_iter().for_each(|length| writer.write_all(&asked(length)).unwrap());
    });
    for &length in lengths {
        expect_answer(&mut stream, length, "among others");
    }
    writing.join().unwrap();
}

#[test]
fn frames_of_every_size_around_every_boundary_come_back_from_the_server() {
    for (shell, sizes) in
        shells().into_iter().flat_map(|shell| [(shell, SMALL), (shell, Sizes::default())])
    {
        with_echo(shell, sizes, |gateway| {
            let address = gateway.addresses()[0];
            let mut all = lengths(sizes.receive_buffer_bytes as usize, true);
            all.extend(lengths(sizes.send_block_bytes, false));
            echo_all(address, &all);
            // One at a time: each begins at the start of a buffer.
            let mut stream = open(address);
            for length in all {
                stream.write_all(&asked(length)).unwrap();
                expect_answer(&mut stream, length, &format!("alone, {shell:?}, {sizes:?}"));
            }
        });
    }
}

#[test]
fn a_frame_cut_at_every_byte_of_its_head_comes_back() {
    for shell in shells() {
        with_echo(shell, SMALL, |gateway| {
            let mut stream = open(gateway.addresses()[0]);
            stream.set_nodelay(true).unwrap();
            for length in [0, 1, 125, 126, 600, 65_535, 65_536] {
                let frame = asked(length);
                for cut in 1..(frame.len() - length + 2).min(frame.len()) {
                    let (front, back) = frame.split_at(cut);
                    stream.write_all(front).unwrap();
                    stream.write_all(back).unwrap();
                    expect_answer(&mut stream, length, &format!("cut at {cut}, {shell:?}"));
                }
            }
        });
    }
}

#[test]
fn what_a_peer_does_not_read_for_a_while_comes_whole_and_in_order_when_it_does() {
    const MESSAGES: usize = 400;
    for shell in shells() {
        with_echo(shell, Sizes::default(), |gateway| {
            let mut stream = open(gateway.addresses()[0]);
            // Far more than sockets hold: most of it waits in the gateway.
            let length = |index: usize| 60_000 + 13 * index;
            for index in 0..MESSAGES {
                stream.write_all(&asked(length(index))).unwrap();
            }
            for index in 0..MESSAGES {
                expect_answer(&mut stream, length(index), &format!("message {index}, {shell:?}"));
            }
        });
    }
}

#[test]
fn many_connections_that_share_few_buffers_all_get_their_own_bytes_back() {
    for shell in shells() {
        with_echo(shell, SMALL, |gateway| {
            let address = gateway.addresses()[0];
            let peers: Vec<_> = (0..24_usize)
                .map(|peer| {
                    thread::spawn(move || {
                        let size = |n: usize| (peer * 389 + n * 1021) % 9000;
                        let sizes: Vec<usize> = (0..40).map(size).collect();
                        echo_all(address, &sizes);
                    })
                })
                .collect();
            peers.into_iter().for_each(|peer| peer.join().unwrap());
            let metrics = gateway.metrics();
            if metrics.shell == Shell::Portable {
                return; // It has one buffer, and is never without.
            }
            let exposed = gateway::metrics::expose(&metrics).unwrap();
            let mut lines = exposed.lines().filter(|line| !line.starts_with('#'));
            let was_short =
                lines.any(|line| line.contains("buffers_exhausted") && !line.ends_with(" 0"));
            assert!(was_short, "no buffer was ever missing: more peers are needed\n{exposed}");
        });
    }
}

/// Waits for a client, and opens the WebSocket for it.
fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LOST)).unwrap();
    let policy = HandshakePolicy { subprotocol_required: false, ..HandshakePolicy::default() };
    let mut head = Vec::new();
    loop {
        let mut byte = [0];
        read_exact(&mut stream, &mut byte);
        head.push(byte[0]);
        if let Progress::Complete(request) = read_request(&head, &policy).unwrap() {
            let mut answer = Vec::new();
            request.append_response(&mut answer);
            stream.write_all(&answer).unwrap();
            return stream;
        }
    }
}

#[test]
fn frames_of_every_size_around_every_boundary_come_back_from_the_client() {
    for buffer_bytes in [64, 2048] {
        let mut client = match Client::new(buffer_bytes.try_into().unwrap(), 7) {
            Ok(client) => client,
            // This role has no other shell.
            Err(error) if may_lack_rings() => return eprintln!("NOT TESTED: {error}"),
            Err(error) => panic!("{error}"),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let all = lengths(buffer_bytes, false);
        let expected_count = all.len();
        let peer = thread::spawn(move || {
            let mut stream = accept(&listener);
            let mut writer = stream.try_clone().unwrap();
            let sent = all.clone();
            let writing = thread::spawn(move || {
                for length in sent {
                    let mut frame = Vec::new();
                    encoder::append_binary(&mut frame, &pattern(length), None);
                    writer.write_all(&frame).unwrap();
                }
                // The close comes last, and is answered behind all that was sent back.
                let mut frame = Vec::new();
                encoder::append_close(&mut frame, Some(ws::CloseCode::NORMAL), "", None);
                writer.write_all(&frame).unwrap();
            });
            for length in all {
                read_masked(&mut stream, length);
            }
            read_masked(&mut stream, 2);
            writing.join().unwrap();
        });
        let mut count = 0;
        let ended = client.converse(address, "/", |_| {
            count += 1;
            Answer::Echo
        });
        assert_eq!(ended.unwrap(), Ended::Closed(Some(ws::CloseCode::NORMAL)));
        assert_eq!(count, expected_count);
        peer.join().unwrap();
    }
}

/// Reads one masked frame with a payload of this length; a binary one is to be the pattern.
fn read_masked(stream: &mut TcpStream, length: usize) {
    let mut frame = vec![0; encoder::frame_bytes(length, true)];
    read_exact(stream, &mut frame);
    let payload = frame.len() - length;
    let key = MaskKey(frame[payload - 4..payload].try_into().unwrap());
    key.apply(&mut frame[payload..]);
    if frame[0] == 0x82 {
        assert!(frame[payload..] == pattern(length), "{length} bytes came back changed");
    } else {
        assert_eq!((frame[0], length), (0x88, 2), "a close frame with its code");
    }
}
