//! `docs/protocol.md` says what the code does: its tables are compared row by row, its frames are
//! decoded.

use wire::client::Post;
use wire::{
    ChannelId, ClientBody, ClientFrame, CloseCode, Encoder, Nonce, RejectCode, decode_client,
    limits,
};

const PROTOCOL: &str = include_str!("../../docs/protocol.md");

/// The rows of the first table behind a heading, without head and rule.
fn rows_behind(heading: &str) -> Vec<String> {
    let (_, behind) = PROTOCOL.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}"));
    behind
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(str::to_owned)
        .collect()
}

fn check(heading: &str, expected: Vec<String>) {
    let found = rows_behind(heading);
    assert_eq!(found, expected, "the table should read:\n{}\n", expected.join("\n"));
}

#[test]
fn the_close_codes_are_those_of_the_code() {
    let row = |code: &CloseCode| {
        let (number, action) = (code.number(), code.action().name());
        format!("| {number} | {} | {} | {action} |", code.name(), code.reason())
    };
    check("## Close codes", CloseCode::ALL.iter().map(row).collect());
}

#[test]
fn the_reject_codes_are_those_of_the_code() {
    let row = |code: &RejectCode| {
        let (number, name) = (code.number(), code.name());
        format!("| {number} | {name} | {} | {} |", code.meaning(), code.advice())
    };
    check("## Reject codes", RejectCode::ALL.iter().map(row).collect());
}

#[test]
fn the_limits_are_those_of_the_code() {
    let rows = [
        ("client frame", limits::CLIENT_FRAME_BYTES_MAX, "bytes", "close 1009"),
        ("server frame", limits::SERVER_FRAME_BYTES_MAX, "bytes", "never sent"),
        ("body", limits::BODY_BYTES_MAX, "bytes", "Rejected TooLarge"),
        ("members in one request", limits::MEMBERS_PER_REQUEST_MAX, "users", "Rejected TooLarge"),
        ("entries of a page", limits::PAGE_ENTRIES_MAX, "entries", "the page ends earlier"),
        ("title", limits::TITLE_BYTES_MAX, "bytes", "Rejected TooLarge"),
        ("`Hello.client`", limits::CLIENT_NAME_BYTES_MAX, "bytes", "close 4400"),
        ("`Hello.token`", limits::TOKEN_BYTES_MAX, "bytes", "close 4400"),
        ("`Hello.ticket`", limits::TICKET_BYTES_MAX, "bytes", "close 4400"),
    ];
    let row = |(what, max, unit, effect)| format!("| {what} | {max} {unit} | {effect} |");
    check("## Limits", rows.map(row).to_vec());
}

/// The bytes of the hex dump behind a heading: rows of an offset, `:` and bytes, then `;` and what
/// they are.
fn bytes_behind(heading: &str) -> Vec<u8> {
    let (_, behind) = PROTOCOL.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}"));
    let (_, dump) = behind.split_once("```hex\n").expect("a dump");
    let (dump, _) = dump.split_once("```").expect("the dump's end");
    let bytes = dump.lines().flat_map(|line| {
        let (offset, bytes) = line.split_once(':').expect("an offset");
        let bytes = bytes.split_once(';').map_or(bytes, |(bytes, _)| bytes);
        assert!(u8::from_str_radix(offset.trim(), 16).is_ok(), "{line}");
        bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex"))
    });
    bytes.collect()
}

#[test]
fn the_frames_shown_are_frames() {
    let channel = ChannelId::numbered(42).unwrap();
    let post = Post { channel, nonce: Nonce(7), kind: 0, body: b"hello", retry: false };
    let mut encoder = Encoder::default();
    let bytes = bytes_behind("## A frame, byte by byte");
    let expected = ClientFrame { request: 1, as_user: None, body: ClientBody::Post(post) };
    assert_eq!(decode_client(&bytes), Ok(expected));
    // Another encoder may lay out the same frame otherwise; the one shown is ours.
    assert_eq!(bytes, encoder.client(1, post));
}
