//! The opening handshake from both sides: heads of requests and responses and the exact answers.
//! Every head is read at every length, and must be incomplete until it is not.

use crate::common::cuts;
use ws::handshake::{
    ClientRequest, HandshakePolicy, Origins, Progress, Refusal, Request, RequestError, Response,
    ResponseRefusal, read_request, read_response,
};

const KEY: [u8; 16] = *b"the sample nonce";

/// The request of a browser, one field a line.
const GOOD: &str = "GET /ws HTTP/1.1\n\
    Host: chat.example.org\n\
    Upgrade: websocket\n\
    Connection: Upgrade\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\
    Sec-WebSocket-Version: 13\n\
    Sec-WebSocket-Protocol: mooring.v1\n\
    Origin: https://chat.example.org\n";

fn policy() -> HandshakePolicy {
    HandshakePolicy {
        origins: Origins::Only(vec!["https://chat.example.org".to_owned()]),
        ..HandshakePolicy::default()
    }
}

/// Lines to a head: CR LF at each end and an empty line.
fn head(lines: &str) -> Vec<u8> {
    (lines.replace('\n', "\r\n") + "\r\n").into_bytes()
}

/// [`GOOD`] with the first occurrence of `from` replaced.
fn good_but(from: &str, to: &str) -> Vec<u8> {
    assert!(GOOD.contains(from), "{from:?} is not in the request");
    head(&GOOD.replacen(from, to, 1))
}

/// The verdict on a whole head with a frame behind it, which must be the one at every length.
fn verdict<'a>(
    bytes: &'a [u8],
    policy: &'a HandshakePolicy,
    name: &str,
) -> Result<Request<'a>, Refusal> {
    let mut first = None;
    for length in cuts(bytes.len()) {
        match read_request(&bytes[..length], policy) {
            Ok(Progress::Incomplete) => assert_eq!(first, None, "{name}: {length} bytes"),
            Ok(Progress::Complete(request)) => {
                assert_eq!(*first.get_or_insert(Ok(request)), Ok(request), "{name}: {length}");
            }
            Err(refusal) => {
                assert_eq!(*first.get_or_insert(Err(refusal)), Err(refusal), "{name}: {length}");
            }
        }
    }
    first.unwrap_or_else(|| panic!("{name}: still incomplete at its end"))
}

#[test]
fn a_browser_s_request_is_answered_as_rfc_6455_section_1_3_says() {
    let policy = policy();
    let mut bytes = good_but("/ws", "/ws?token=1");
    let head_bytes = bytes.len();
    bytes.extend(b"\x82\x80\0\0\0\0");
    let request = verdict(&bytes, &policy, "good").unwrap();
    assert_eq!(request.head_bytes, head_bytes);
    assert_eq!((request.path, request.query), ("/ws", Some("token=1")));
    assert_eq!(request.host, "chat.example.org");
    assert_eq!(request.origin, Some("https://chat.example.org"));
    assert_eq!(request.subprotocol, Some("mooring.v1"));
    let mut out = Vec::new();
    request.append_response(&mut out);
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
        Sec-WebSocket-Protocol: mooring.v1\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn requests_that_differ_but_are_right() {
    let policy = policy();
    let rows = [
        ("names and tokens in any case", GOOD.replace("Upgrade", "uPGRADE")),
        ("websocket in capitals", GOOD.replace("websocket", "WebSocket")),
        ("a list in Connection", GOOD.replace("n: Upgrade", "n: keep-alive,\tupgrade")),
        ("Connection on two lines", format!("{GOOD}Connection: keep-alive\n")),
        ("a list of upgrades", GOOD.replace("websocket", "h2c, websocket")),
        ("a list of subprotocols", GOOD.replace("mooring.v1", "chat , mooring.v1,")),
        ("subprotocols on two lines", format!("{GOOD}sec-websocket-protocol: mooring.v2\n")),
        ("extensions", format!("{GOOD}Sec-WebSocket-Extensions: permessage-deflate\n")),
        ("no page", GOOD.replace("Origin: https://chat.example.org\n", "")),
        ("origin in capitals", GOOD.replace("https://chat", "HTTPS://CHAT")),
        ("no body, said so", format!("{GOOD}Content-Length: 0\n")),
        ("spaces around a value", GOOD.replace(": 13", ":   13  ")),
        ("a whole URL", GOOD.replace("/ws", "http://chat.example.org/ws")),
    ];
    for (name, lines) in rows {
        let bytes = head(&lines);
        let request =
            verdict(&bytes, &policy, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((request.path, request.subprotocol), ("/ws", Some("mooring.v1")), "{name}");
    }
}

#[test]
fn a_missing_offer_is_the_policy_s_affair() {
    let required = HandshakePolicy::default();
    let optional = HandshakePolicy { subprotocol_required: false, ..HandshakePolicy::default() };
    let none = good_but("Sec-WebSocket-Protocol: mooring.v1\n", "");
    let other = good_but("mooring.v1", "chat");
    let rows = [
        ("none, required", &none, &required, Err(Refusal::SubprotocolMissing)),
        ("none, optional", &none, &optional, Ok(None)),
        ("other, required", &other, &required, Err(Refusal::SubprotocolOther)),
        ("other, optional", &other, &optional, Err(Refusal::SubprotocolOther)),
    ];
    for (name, bytes, policy, expected) in rows {
        let found = verdict(bytes, policy, name);
        assert_eq!(found.map(|request| request.subprotocol), expected, "{name}");
    }
    // What was not offered is not answered (RFC 6455 4.2.2).
    let mut out = Vec::new();
    verdict(&none, &optional, "none").unwrap().append_response(&mut out);
    assert!(!String::from_utf8(out).unwrap().contains("Protocol:"));
}

/// Name, request, refusal, status line, further fields of the answer, and its text.
type RefusedRow = (&'static str, Vec<u8>, Refusal, &'static str, &'static str, String);

const UPGRADE: &str = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
const UPGRADE_TEXT: &str = "Send `Upgrade: websocket` and `Connection: Upgrade` (RFC 6455, section \
    4.1); a WebSocket client does so by itself.";
const SYNTAX_TEXT: &str = "Send a request head as RFC 9112 says. If the URL begins with wss: or \
    https:, it may be that this port speaks no TLS.";
const KEY_TEXT: &str = "Send `Sec-WebSocket-Key` once, with 16 random bytes in base64.";
const VERSION_TEXT: &str = "Send `Sec-WebSocket-Version: 13` once.";
const HOST_TEXT: &str = "Send `Host` once, with the server's name.";
const BODY_TEXT: &str = "Send no `Transfer-Encoding` and no `Content-Length` but 0.";

#[rustfmt::skip]
fn requests_that_are_wrong() -> Vec<RefusedRow> {
    use ws::handshake::Refusal as R;
    use ws::handshake::Unparsable as At;
    let with = |line: &str| head(&format!("{GOOD}{line}\n"));
    let text = |wrong: &str, remedy: &str| format!("{wrong}\n{remedy}\n");
    let bad = "400 Bad Request";
    let upgrade = "426 Upgrade Required";
    let large = "431 Request Header Fields Too Large";
    vec![
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
            R::Unparsable(At::RequestLine), bad, "",
            text("The request line is not HTTP/1.1.", SYNTAX_TEXT)),
        ("a field without a colon", with("nonsense"), R::Unparsable(At::FieldName), bad, "",
            text("The name of a header field is malformed.", SYNTAX_TEXT)),
        ("a folded line", with(" folded"), R::Unparsable(At::FieldName), bad, "",
            text("The name of a header field is malformed.", SYNTAX_TEXT)),
        ("NUL in a value", with("A: \0"), R::Unparsable(At::FieldValue), bad, "",
            text("The value of a header field is malformed.", SYNTAX_TEXT)),
        ("oversized", with(&format!("Cookie: {}", "x".repeat(8192))), R::HeadTooLarge, large, "",
            text("The request head is too large.",
                "Send fewer or shorter header fields, such as cookies.")),
        ("endless", vec![b'G'; 8193], R::HeadTooLarge, large, "",
            text("The request head is too large.",
                "Send fewer or shorter header fields, such as cookies.")),
        ("65 fields", head(&format!("{GOOD}{}", "A: b\n".repeat(58))), R::TooManyFields, large, "",
            text("The request has too many header fields.", "Send at most 64.")),
        ("HTTP/1.0", good_but("HTTP/1.1", "HTTP/1.0"), R::HttpVersion,
            "505 HTTP Version Not Supported", "",
            text("The request is not HTTP/1.1.", "Send the WebSocket handshake as HTTP/1.1.")),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), R::HttpVersion,
            "505 HTTP Version Not Supported", "",
            text("The request is not HTTP/1.1.", "Send the WebSocket handshake as HTTP/1.1.")),
        ("POST", good_but("GET", "POST"), R::Method, "405 Method Not Allowed", "Allow: GET\r\n",
            text("The method is not GET.", "Open the WebSocket with a GET request.")),
        ("asterisk", good_but("/ws", "*"), R::Target, bad, "",
            text("The request target is not a path.",
                "Request a path that begins with `/` and has no fragment (`#`).")),
        ("a body", with("Content-Length: 5"), R::Body, bad, "",
            text("The request announces a body.", BODY_TEXT)),
        ("a chunked body", with("Transfer-Encoding: chunked"), R::Body, bad, "",
            text("The request announces a body.", BODY_TEXT)),
        ("no host", good_but("Host: chat.example.org\n", ""), R::HostMissing, bad, "",
            text("`Host` is missing or empty.", HOST_TEXT)),
        ("two hosts", with("host: other"), R::HostRepeated, bad, "",
            text("`Host` stands more than once.", HOST_TEXT)),
        ("a page's request", head("GET / HTTP/1.1\nHost: chat.example.org\nAccept: */*\n"),
            R::UpgradeMissing, upgrade, UPGRADE,
            text("This is a WebSocket endpoint, and the request does not ask for an upgrade.",
                UPGRADE_TEXT)),
        ("two upgrades", with("Upgrade: websocket"), R::UpgradeRepeated, bad, "",
            text("`Upgrade` stands more than once.", UPGRADE_TEXT)),
        ("another upgrade", good_but("websocket", "h2c"), R::UpgradeOther, upgrade, UPGRADE,
            text("`Upgrade` does not name `websocket`.", UPGRADE_TEXT)),
        ("no connection", good_but("Connection: Upgrade\n", ""), R::ConnectionWithoutUpgrade,
            bad, "",
            text("`Connection` does not name `Upgrade`; a proxy on the way may have removed it.",
                UPGRADE_TEXT)),
        ("another connection", good_but("n: Upgrade", "n: keep-alive, upgrades"),
            R::ConnectionWithoutUpgrade, bad, "",
            text("`Connection` does not name `Upgrade`; a proxy on the way may have removed it.",
                UPGRADE_TEXT)),
        ("no version", good_but("Sec-WebSocket-Version: 13\n", ""), R::VersionMissing,
            upgrade, UPGRADE, text("`Sec-WebSocket-Version` is missing.", VERSION_TEXT)),
        ("an old version", good_but(": 13", ": 8"), R::VersionOther, upgrade, UPGRADE,
            text("`Sec-WebSocket-Version` is not 13.", VERSION_TEXT)),
        ("two versions", with("Sec-WebSocket-Version: 8"), R::VersionRepeated, bad, "",
            text("`Sec-WebSocket-Version` stands more than once.", VERSION_TEXT)),
        ("no key", good_but("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n", ""), R::KeyMissing,
            bad, "", text("`Sec-WebSocket-Key` is missing.", KEY_TEXT)),
        ("two keys", with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), R::KeyRepeated,
            bad, "", text("`Sec-WebSocket-Key` stands more than once.", KEY_TEXT)),
        ("a short key", good_but("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), R::KeyInvalid,
            bad, "", text("`Sec-WebSocket-Key` is not 16 bytes in base64.", KEY_TEXT)),
        ("two origins", with("Origin: https://chat.example.org"), R::OriginRepeated, bad, "",
            text("`Origin` stands more than once.", "Send `Origin` once or not at all.")),
        ("a stranger's page", good_but("https://chat", "https://evil"), R::OriginNotAllowed,
            "403 Forbidden", "",
            text("Pages of this origin may not connect here.",
                "Add the origin to the server's list of allowed origins.")),
        ("a page without a name", good_but("https://chat.example.org", "null"),
            R::OriginNotAllowed, "403 Forbidden", "",
            text("Pages of this origin may not connect here.",
                "Add the origin to the server's list of allowed origins.")),
        ("no subprotocol", good_but("Sec-WebSocket-Protocol: mooring.v1\n", ""),
            R::SubprotocolMissing, bad, "",
            text("No subprotocol is offered.", "Send `Sec-WebSocket-Protocol: mooring.v1`.")),
        ("another subprotocol", good_but("mooring.v1", "chat, Mooring.v1"),
            R::SubprotocolOther, bad, "",
            text("None of the offered subprotocols is spoken here.",
                "Send `Sec-WebSocket-Protocol: mooring.v1`.")),
    ]
}

#[test]
fn requests_that_are_wrong_are_told_what_and_what_to_do() {
    let policy = policy();
    for (name, bytes, refusal, status, fields, text) in requests_that_are_wrong() {
        assert_eq!(verdict(&bytes, &policy, name), Err(refusal), "{name}");
        assert_eq!(refusal.status(), status[..3].parse::<u16>().unwrap(), "{name}");
        let mut out = Vec::new();
        refusal.append_response(&policy.subprotocol, &mut out);
        let connection = if refusal.status() == 426 { "close, Upgrade" } else { "close" };
        let expected = format!(
            "HTTP/1.1 {status}\r\nConnection: {connection}\r\n{fields}\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{name}");
    }
}

#[test]
fn the_bound_on_a_head_is_exact() {
    let bytes = head(GOOD);
    for (head_bytes_max, admitted) in [(bytes.len() - 1, false), (bytes.len(), true)] {
        let policy = HandshakePolicy { head_bytes_max, ..policy() };
        let found = verdict(&bytes, &policy, "bound");
        let expected = if admitted { None } else { Some(Refusal::HeadTooLarge) };
        assert_eq!(found.err(), expected, "{head_bytes_max}");
    }
}

fn request() -> ClientRequest<'static> {
    ClientRequest {
        host: "chat.example.org",
        target: "/ws?x=1",
        key: KEY,
        subprotocol: Some("mooring.v1"),
        fields: &[("Origin", "https://chat.example.org"), ("X-Note", "a b")],
    }
}

#[test]
fn the_client_s_request_is_exact_and_its_own_server_accepts_it() {
    let mut out = Vec::new();
    request().append(&mut out).unwrap();
    let expected = "GET /ws?x=1 HTTP/1.1\r\nHost: chat.example.org\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mooring.v1\r\n\
        Origin: https://chat.example.org\r\nX-Note: a b\r\n\r\n";
    assert_eq!(std::str::from_utf8(&out), Ok(expected));

    let policy = policy();
    let mut answer = Vec::new();
    verdict(&out, &policy, "own").unwrap().append_response(&mut answer);
    let head_bytes = answer.len();
    answer.extend(b"\x82\0");
    let found = read_response(&answer, &request());
    assert_eq!(found, Ok(Progress::Complete(Response { head_bytes })));
}

#[test]
fn a_request_that_would_break_its_lines_is_not_written() {
    let good = request();
    let rows = [
        ("no host", ClientRequest { host: "", ..good }, RequestError::Host),
        ("line in host", ClientRequest { host: "a\r\nb", ..good }, RequestError::Host),
        ("no slash", ClientRequest { target: "ws", ..good }, RequestError::Target),
        ("space", ClientRequest { target: "/a b", ..good }, RequestError::Target),
        ("fragment", ClientRequest { target: "/a#b", ..good }, RequestError::Target),
        (
            "list of subprotocols",
            ClientRequest { subprotocol: Some("a, b"), ..good },
            RequestError::Subprotocol,
        ),
        (
            "name with a colon",
            ClientRequest { fields: &[("A:", "b")], ..good },
            RequestError::FieldName { index: 0 },
        ),
        (
            "line in a value",
            ClientRequest { fields: &[("A", "b"), ("C", "d\r\nE: f")], ..good },
            RequestError::FieldValue { index: 1 },
        ),
    ];
    for (name, request, expected) in rows {
        let mut out = Vec::new();
        assert_eq!(request.append(&mut out), Err(expected), "{name}");
        assert!(out.is_empty(), "{name}");
    }
}

const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\n\
    Upgrade: websocket\n\
    Connection: Upgrade\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n\
    Sec-WebSocket-Protocol: mooring.v1\n";

#[test]
fn answers_that_are_not_the_websocket_that_was_asked_for() {
    use ResponseRefusal as R;
    let but = |from: &str, to: &str| {
        assert!(ANSWER.contains(from), "{from:?} is not in the answer");
        head(&ANSWER.replacen(from, to, 1))
    };
    let with = |line: &str| head(&format!("{ANSWER}{line}\n"));
    let unauthorized = head("HTTP/1.1 401 Unauthorized\nContent-Length: 4\n");
    let status = R::Status { status: 401, head_bytes: unauthorized.len() };
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let rows = [
        ("not HTTP", b"SSH-2.0-x\r\n".to_vec(), R::Unparsable(httparse::Error::Version)),
        ("HTTP/1.0", but("HTTP/1.1", "HTTP/1.0"), R::HttpVersion),
        ("endless", with(&format!("A: {}", "x".repeat(8192))), R::HeadTooLarge),
        ("another status", [&unauthorized[..], b"why\n"].concat(), status),
        ("no upgrade", but("Upgrade: websocket\n", ""), R::Upgrade),
        ("another upgrade", but("websocket", "h2c"), R::Upgrade),
        ("no connection", but("Connection: Upgrade\n", ""), R::Connection),
        ("another connection", but("n: Upgrade", "n: close"), R::Connection),
        ("no accept", but(&format!("{accept}\n"), ""), R::AcceptMissing),
        ("two accepts", with(accept), R::AcceptMissing),
        ("another's accept", but("s3pP", "S3pP"), R::AcceptMismatch),
        ("an extension", with("Sec-WebSocket-Extensions: x"), R::ExtensionNotAsked),
        ("another subprotocol", but("mooring.v1", "chat"), R::SubprotocolNotAsked),
        ("two subprotocols", with("Sec-WebSocket-Protocol: chat"), R::SubprotocolNotAsked),
        ("no subprotocol", but("Sec-WebSocket-Protocol: mooring.v1\n", ""), R::SubprotocolMissing),
    ];
    for (name, bytes, expected) in rows {
        let mut first = None;
        for length in cuts(bytes.len()) {
            match read_response(&bytes[..length], &request()) {
                Ok(Progress::Incomplete) => assert_eq!(first, None, "{name}: {length} bytes"),
                Ok(Progress::Complete(_)) => panic!("{name}: accepted"),
                Err(found) => assert_eq!(*first.get_or_insert(found), found, "{name}: {length}"),
            }
        }
        assert_eq!(first, Some(expected), "{name}");
    }
    let unasked = ClientRequest { subprotocol: None, ..request() };
    let found = read_response(&head(ANSWER), &unasked);
    assert_eq!(found, Err(R::SubprotocolNotAsked));
}
