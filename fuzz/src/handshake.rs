//! The two heads of the handshake: no bytes panic, the verdict does not depend on how the bytes
//! were split, and what one side writes the other accepts.

use arbitrary::{Arbitrary, Unstructured};
use ws::handshake::server::{HandshakePolicy, Origins, read_request};
use ws::handshake::{ClientRequest, Progress, read_response};

/// Prefixes that are looked at: all of a short head, some of a long one.
const PREFIXES_MAX: usize = 64;

fn policies() -> [HandshakePolicy; 2] {
    let own = HandshakePolicy {
        head_bytes_max: 512,
        origins: Origins::Only(vec!["https://chat.example.org".into(), "null".into()]),
        ..HandshakePolicy::default()
    };
    [own, HandshakePolicy { subprotocol_required: false, ..HandshakePolicy::default() }]
}

/// Reads `data` as a request, under two policies.
///
/// # Panics
/// If the verdict depends on the splitting, or an answer is not what it should be.
pub fn server(data: &[u8]) {
    for policy in &policies() {
        let verdict = read_request(data, policy);
        for length in prefixes(data.len()) {
            match read_request(&data[..length], policy) {
                Ok(Progress::Incomplete) => {}
                earlier => assert_eq!(earlier, verdict, "after {length} bytes"),
            }
        }
        let mut out = Vec::new();
        match verdict {
            // That it is too large is known from the first byte beyond the bound on.
            Ok(Progress::Incomplete) => assert!(data.len() <= policy.head_bytes_max),
            Ok(Progress::Complete(request)) => {
                assert!(request.head_bytes <= policy.head_bytes_max);
                // A line may end without CR (RFC 9112 2.2).
                let head = &data[..request.head_bytes];
                assert!(head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n"));
                assert!(request.path.starts_with('/'));
                request.append_response(&mut out);
                assert!(out.starts_with(b"HTTP/1.1 101 "));
            }
            Err(refusal) => {
                refusal.append_response(&policy.subprotocol, &mut out);
                assert!(out.starts_with(b"HTTP/1.1 4") || out.starts_with(b"HTTP/1.1 5"));
            }
        }
        assert!(out.len() <= 1024, "more than the gateway makes room for");
    }
}

/// What a client asks, and what comes back.
#[derive(Arbitrary, Debug)]
struct Exchange<'a> {
    key: [u8; 16],
    subprotocol: bool,
    /// Sent as they are: the rest of the request is good.
    host: &'a str,
    target: &'a str,
    field: Option<(&'a str, &'a str)>,
    /// Changes of the true answer: the byte at a place, modulo its length.
    changes: Vec<(u16, u8)>,
    /// What is read as an answer besides.
    answer: &'a [u8],
}

/// Asks, has the server's side answer, and reads that and anything else.
///
/// # Panics
/// If a server refuses what the client was allowed to send, or a changed key is accepted.
pub fn client(data: &[u8]) {
    let Ok(exchange) = Exchange::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let fields: Vec<(&str, &str)> = exchange.field.into_iter().collect();
    let request = ClientRequest {
        host: exchange.host,
        target: exchange.target,
        key: exchange.key,
        subprotocol: exchange.subprotocol.then_some("mooring.v1"),
        fields: &fields,
    };
    read_all_prefixes(exchange.answer, &request);
    let mut sent = Vec::new();
    if request.append(&mut sent).is_err() {
        assert!(sent.is_empty(), "nothing is appended of what is refused");
        return;
    }
    let [_, policy] = policies();
    // A further field may be anything that is no other field: a body, a second host.
    let mut answer = Vec::new();
    match read_request(&sent, &policy) {
        Ok(Progress::Complete(read)) => {
            assert_eq!(read.head_bytes, sent.len());
            read.append_response(&mut answer);
        }
        Ok(Progress::Incomplete) => panic!("a whole request is incomplete"),
        Err(refusal) => {
            let is_long = sent.len() > policy.head_bytes_max;
            assert!(is_long || !fields.is_empty(), "{refusal:?}: {request:?}");
            return;
        }
    }
    let verdict = read_response(&answer, &request);
    assert!(
        matches!(verdict, Ok(Progress::Complete(response)) if response.head_bytes == answer.len())
    );
    for (at, byte) in exchange.changes {
        let at = usize::from(at) % answer.len();
        answer[at] = byte;
    }
    read_all_prefixes(&answer, &request);
}

fn read_all_prefixes(answer: &[u8], request: &ClientRequest<'_>) {
    let verdict = read_response(answer, request);
    for length in prefixes(answer.len()) {
        match read_response(&answer[..length], request) {
            Ok(Progress::Incomplete) => {}
            earlier => assert_eq!(earlier, verdict, "after {length} bytes"),
        }
    }
}

fn prefixes(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(length / PREFIXES_MAX + 1)
}
