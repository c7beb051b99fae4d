//! The hard limits of the protocol. Each has one sentence of physics; the assertions tie it to
//! its neighbours. A gateway may be configured below them and tells its own in `Welcome`.

use flatbuffers::VerifierOptions;

/// The version that `Hello.protocol_version` must say.
pub const PROTOCOL_VERSION: u16 = 1;

/// The WebSocket subprotocol of this version.
pub const SUBPROTOCOL: &str = "mooring.v1";

/// Root offset and file identifier: nothing shorter can be looked at.
pub const FRAME_BYTES_MIN: usize = 8;

/// A body is copied once into memory that all recipients share and is written once to the log;
/// 64 KiB keeps one message below a socket's send buffer, so one send can carry it.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// What a gateway allows unless it is configured: text messages with links and mentions stay far
/// below it, and media travel elsewhere.
pub const BODY_BYTES_MAX_DEFAULT: usize = 16 * 1024;

/// Everything in a client frame besides the longest body or list: root, tables, vtables, padding,
/// and room for the fields of later versions.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 1024;

/// A longer client frame is not looked at: the longest body and the overhead. The effect is close
/// code 1009.
pub const CLIENT_FRAME_BYTES_MAX: usize = BODY_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX;

/// A longer server frame is not looked at by a client, so a gateway must not send one: a page is
/// cut by [`crate::Event::bytes_max`]. One mebibyte is a tenth of a second of a 100 Mbit/s link.
pub const SERVER_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Users named in one request. Each costs a membership record (3-4 µs of put), so one request
/// holds its shard for at most two milliseconds; a larger channel is filled by several requests.
pub const MEMBERS_PER_REQUEST_MAX: usize = 500;

/// Entries of one page of inbox, history or conversations: reading a full one takes a client about
/// 0.1 ms (`benches/benches/wire.rs`, full_page), and a screen shows a tenth of it.
pub const PAGE_ENTRIES_MAX: usize = 256;

/// A channel's title: one line on a phone in any script (four bytes a character).
pub const TITLE_BYTES_MAX: usize = 128;

/// `Hello.client`: it goes into every log line about the session.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;

/// An EdDSA JWT with a dozen claims is below 1 KiB; twice that leaves room for issuers' own.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// A resume ticket: user, device, session, epoch, expiry and a 32-byte MAC are about 80 bytes.
pub const TICKET_BYTES_MAX: usize = 256;

/// A user id in a list.
const USER_BYTES: usize = size_of::<u64>();

/// Tables below each other: `ClientFrame` → its body. No client frame nests deeper.
pub(crate) const CLIENT_DEPTH_MAX: usize = 2;

/// Tables in a client frame: the root and its body, which hold no others.
pub(crate) const CLIENT_TABLES_MAX: usize = 2;

/// Tables below each other: `ServerFrame` → page → `Conversation` → `HistoryEntry` → event.
pub(crate) const SERVER_DEPTH_MAX: usize = 5;

/// Tables in a server frame: root and page, and three an entry (a `Conversation`, its latest
/// `HistoryEntry` and the event of that).
pub(crate) const SERVER_TABLES_MAX: usize = 2 + 3 * PAGE_ENTRIES_MAX;

/// How the size of a frame is reckoned when what several offsets share is counted for each: twice
/// the frame. Honest frames share only vtables; more than that is an amplification attack.
const APPARENT_FACTOR: usize = 2;

/// What the verifier allows in a client frame.
pub(crate) const CLIENT_VERIFIER: VerifierOptions = VerifierOptions {
    max_depth: CLIENT_DEPTH_MAX,
    max_tables: CLIENT_TABLES_MAX,
    max_apparent_size: APPARENT_FACTOR * CLIENT_FRAME_BYTES_MAX,
    ignore_missing_null_terminator: false,
};

/// What the verifier allows in a server frame.
pub(crate) const SERVER_VERIFIER: VerifierOptions = VerifierOptions {
    max_depth: SERVER_DEPTH_MAX,
    max_tables: SERVER_TABLES_MAX,
    max_apparent_size: APPARENT_FACTOR * SERVER_FRAME_BYTES_MAX,
    ignore_missing_null_terminator: false,
};

const _: () = assert!(BODY_BYTES_MAX_DEFAULT <= BODY_BYTES_MAX);
// Every client frame but `Post` fits into what `Post` needs.
const _: () = assert!(
    USER_BYTES * MEMBERS_PER_REQUEST_MAX + TITLE_BYTES_MAX <= BODY_BYTES_MAX,
    "a full ChannelCreate fits into a client frame"
);
const _: () = assert!(
    TOKEN_BYTES_MAX + TICKET_BYTES_MAX + CLIENT_NAME_BYTES_MAX <= BODY_BYTES_MAX,
    "a full Hello fits into a client frame"
);
// Whatever a client may put, a server frame can bring: the longest body, and a creation with all
// members and the creator.
const _: () = assert!(CLIENT_FRAME_BYTES_MAX <= SERVER_FRAME_BYTES_MAX);
const _: () = assert!(USER_BYTES * (MEMBERS_PER_REQUEST_MAX + 1) <= BODY_BYTES_MAX);
// A page of the longest bodies still makes progress: many fit into one frame.
const _: () = assert!(SERVER_FRAME_BYTES_MAX / CLIENT_FRAME_BYTES_MAX >= 8);
// `Limits.*_page_max` and `*.limit` are ushort.
const _: () = assert!(PAGE_ENTRIES_MAX <= 0xffff);
const _: () = assert!(FRAME_BYTES_MIN < FRAME_OVERHEAD_BYTES_MAX);
// The log line with the client's name and the reason of a close stay on one screen line each.
const _: () = assert!(CLIENT_NAME_BYTES_MAX <= TITLE_BYTES_MAX);
