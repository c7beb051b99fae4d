//! Sessions without WebSocket, against a real server: what a device gets over plain HTTP is what it
//! would get over a socket.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{GatewayList, Gateways, Listing};
use common::STEP_TIMEOUT;
use common::client::direct;
use common::process::{Running, Server, mooring, token};
use polling::{FRAME_MEDIA_TYPE, Identity, Pool, Settings, Verify, Verifying};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use wire::client::Post;
use wire::{DeviceId, Encoder, Event, Nonce, ServerBody, UserId, decode_server};

const ALICE: u64 = 1;
const BOB: u64 = 2;

/// Tells where the server is now, which changes when it is started again.
struct Here(Arc<Mutex<String>>);

impl Gateways for Here {
    fn list(&self) -> Listing<'_> {
        let url = self.0.lock().unwrap().clone();
        Box::pin(std::future::ready(GatewayList::new([&*url], Duration::ZERO)))
    }
}

/// Knows the tokens that were made here.
struct Known(HashMap<String, Identity>);

impl Verify for Known {
    fn verify<'a>(&'a self, token: &'a str) -> Verifying<'a> {
        Box::pin(std::future::ready(self.0.get(token).copied()))
    }
}

/// A server, and beside it the HTTP side.
struct Site {
    /// In a lock, as several threads of a test use the site.
    server: Mutex<Option<Server>>,
    here: Arc<Mutex<String>>,
    http: SocketAddr,
    tokens: Vec<String>,
    pool: Pool,
    /// Its threads serve.
    _runtime: Runtime,
}

impl Site {
    /// With tokens of Alice and Bob.
    fn start(data: &Path, settings: Settings) -> Self {
        let server = Server::start(data);
        let here = Arc::new(Mutex::new(format!("ws://{}", server.gateway)));
        let tokens = [ALICE, BOB].map(|user| token(data, user, 1)).to_vec();
        let identity = |user| Identity { user: UserId::new(user).unwrap(), device: DeviceId(1) };
        let known = tokens.iter().cloned().zip([ALICE, BOB].map(identity)).collect();
        let runtime = Runtime::new().unwrap();
        let (verify, gateways) = (Arc::new(Known(known)), Arc::new(Here(Arc::clone(&here))));
        let (http, pool) = runtime.block_on(async {
            let pool = Pool::new(gateways, verify, settings);
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let http = listener.local_addr().unwrap();
            let routes = polling::router(pool.clone());
            tokio::spawn(async move { axum::serve(listener, routes).await });
            (http, pool)
        });
        Self { server: Mutex::new(Some(server)), here, http, tokens, pool, _runtime: runtime }
    }

    fn kill_and_start_again(&self, data: &Path) {
        let mut present = self.server.lock().unwrap();
        present.take().unwrap().kill();
        let server = Server::start(data);
        *self.here.lock().unwrap() = format!("ws://{}", server.gateway);
        *present = Some(server);
    }

    fn token(&self, user: u64) -> String {
        let index = usize::try_from(user - 1).unwrap();
        format!("Bearer {}", self.tokens[index])
    }

    fn agent() -> ureq::Agent {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        config.timeout_global(Some(STEP_TIMEOUT)).build().into()
    }

    fn get(&self, user: u64, path: &str) -> (u16, Value) {
        let request = Self::agent().get(format!("http://{}{path}", self.http));
        let mut response = request.header("authorization", self.token(user)).call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn post(&self, user: u64, path: &str, body: &Value) -> (u16, Value) {
        let request = Self::agent().post(format!("http://{}{path}", self.http));
        let request = request.header("authorization", self.token(user));
        let request = request.header("content-type", "application/json");
        let mut response = request.send(body.to_string()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn send(&self, user: u64, nonce: u64, text: &str) -> (u16, Value) {
        let body = json!({ "channel": "1-2", "nonce": nonce.to_string(), "text": text });
        self.post(user, "/v1/session/send", &body)
    }

    fn stream(&self, user: u64, last: Option<&str>) -> impl BufRead + use<> {
        let url = format!("http://{}/v1/session/events", self.http);
        let mut request = Self::agent().get(url).header("authorization", self.token(user));
        if let Some(id) = last {
            request = request.header("last-event-id", id);
        }
        BufReader::new(request.call().unwrap().into_body().into_reader())
    }

    /// The first poll of a device that has never been here: its place.
    fn begin(&self, user: u64) -> Place {
        let (status, page) = self.get(user, "/v1/session/inbox");
        assert_eq!((status, &page["resume"]), (200, &json!("fresh")), "{page}");
        Place::of(&page)
    }

    fn poll(&self, user: u64, place: &Place, wait: u64) -> Value {
        let Place { epoch, after } = place;
        let path = format!("/v1/session/inbox?epoch={epoch}&after={after}&wait={wait}");
        let (status, page) = self.get(user, &path);
        assert_eq!((status, &page["resume"]), (200, &json!("resumed")), "{page}");
        page
    }
}

/// Where a device stands.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    epoch: String,
    after: u64,
}

impl Place {
    fn of(page: &Value) -> Self {
        let epoch = page["epoch"].as_str().unwrap().to_owned();
        Self { epoch, after: page["next"].as_u64().unwrap() }
    }
}

fn texts(page: &Value) -> Vec<&str> {
    let entries = page["entries"].as_array().unwrap();
    entries.iter().filter_map(|entry| entry["text"].as_str()).collect()
}

#[test]
fn a_device_without_a_socket_sends_and_receives_each_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let site = Site::start(&data, Settings::default());
    let place = site.begin(BOB);
    for number in 1..=5 {
        let (status, posted) = site.send(ALICE, number, &number.to_string());
        assert_eq!((status, &posted["seq"]), (200, &json!(number)), "{posted}");
        assert_eq!(posted["durability"], "durable");
    }
    let (_, again) = site.send(ALICE, 3, "3");
    assert_eq!(again["seq"], 3, "the first answer again");
    let (status, reused) = site.send(ALICE, 3, "other");
    assert_eq!((status, &reused["type"]), (409, &json!("urn:mooring:problem:nonce-reused")));

    // A long poll is answered with the first that comes; others may come with it or after it.
    let mut heard = Vec::new();
    let mut here = place.clone();
    while heard.len() < 5 {
        let page = site.poll(BOB, &here, 60);
        heard.extend(texts(&page).iter().map(|text| (*text).to_owned()));
        here = Place::of(&page);
    }
    assert_eq!(heard, ["1", "2", "3", "4", "5"]);
    let page = site.poll(BOB, &here, 0);
    assert_eq!((texts(&page), Place::of(&page)), (vec![], here), "nothing more");
    // A device that goes back (its answer was lost, or its process) gets it all again.
    let page = site.poll(BOB, &place, 60);
    assert_eq!(page["entries"][0]["text"], "1");
}

#[test]
fn a_poll_that_waits_gets_what_comes_also_after_a_kill_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let site = Site::start(&data, Settings::default());
    let place = site.begin(BOB);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| site.poll(BOB, &place, 60));
        site.send(ALICE, 1, "while you wait");
        assert_eq!(texts(&waiting.join().unwrap()), ["while you wait"]);
    });
    site.kill_and_start_again(&data);
    let (status, posted) = site.send(ALICE, 2, "after a kill");
    assert_eq!((status, &posted["seq"]), (200, &json!(2)), "{posted}");
    let mut here = Place { after: place.after + 1, ..place };
    let mut heard = Vec::new();
    while heard.is_empty() {
        let page = site.poll(BOB, &here, 60);
        heard = texts(&page).iter().map(|text| (*text).to_owned()).collect();
        here = Place::of(&page);
    }
    assert_eq!(heard, ["after a kill"]);
}

#[test]
fn a_newer_poll_of_the_device_relieves_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let site = Site::start(&data, Settings::default());
    let place = site.begin(BOB);
    std::thread::scope(|scope| {
        let older = scope.spawn(|| site.poll(BOB, &place, 60));
        let mut relieved = None;
        while relieved.is_none() {
            assert_eq!(texts(&site.poll(BOB, &place, 0)), Vec::<&str>::new());
            if older.is_finished() {
                relieved = Some(());
            }
        }
        assert_eq!(texts(&older.join().unwrap()), Vec::<&str>::new());
    });
    assert_eq!(site.pool.len(), 1);
}

#[test]
fn a_stream_brings_entries_and_goes_on_where_the_last_id_says() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let site = Site::start(&data, Settings::default());
    let mut stream = site.stream(BOB, None);
    let (_, name, begin) = next_event(&mut stream);
    assert_eq!((&*name, &begin["resume"]), ("begin", &json!("fresh")));
    for number in 1..=3 {
        site.send(ALICE, number, &number.to_string());
    }
    let first = next_event(&mut stream);
    assert_eq!((&*first.1, &first.2["text"]), ("entry", &json!("1")));
    assert_eq!(next_event(&mut stream).2["text"], "2");
    drop(stream);

    let mut stream = site.stream(BOB, Some(&first.0));
    let (id, name, begin) = next_event(&mut stream);
    assert_eq!((id, &*name, &begin["resume"]), (first.0, "begin", &json!("resumed")));
    assert_eq!(next_event(&mut stream).2["text"], "2");
    let (id, _, third) = next_event(&mut stream);
    assert_eq!(third["text"], "3");
    let (epoch, place) = id.split_once(':').unwrap();
    let kept = json!({ "epoch": epoch, "after": place.parse::<u64>().unwrap() });
    assert_eq!(site.post(BOB, "/v1/session/kept", &kept).0, 204);
}

/// The next event of a stream: id, name, data.
fn next_event(stream: &mut impl BufRead) -> (String, String, Value) {
    let (mut id, mut name, mut data) = (String::new(), String::new(), Value::Null);
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the stream has ended");
        match line.trim_end().split_once(": ") {
            Some(("id", text)) => text.clone_into(&mut id),
            Some(("event", text)) => text.clone_into(&mut name),
            Some(("data", text)) => data = serde_json::from_str(text).unwrap(),
            _ if line == "\n" && !data.is_null() => return (id, name, data),
            _ => {} // A comment, or the end of one.
        }
    }
}

#[test]
fn frames_do_as_well_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let site = Site::start(&data, Settings::default());
    let place = site.begin(BOB);
    let channel = direct(ALICE, BOB);
    let post = Post { channel, nonce: Nonce(7), kind: 0, body: b"hello", retry: false };
    let frame = Encoder::new(1024).client(77, post).to_vec();
    let request = Site::agent().post(format!("http://{}/v1/session/send", site.http));
    let request = request.header("authorization", site.token(ALICE));
    let mut response = request.header("content-type", FRAME_MEDIA_TYPE).send(&frame).unwrap();
    let answer = response.body_mut().read_to_vec().unwrap();
    let answer = decode_server(&answer).unwrap();
    let ServerBody::Posted(posted) = answer.body else { panic!("{answer:?}") };
    assert_eq!((answer.request, posted.nonce, posted.seq.get()), (77, Nonce(7), 1));

    let Place { epoch, after } = &place;
    let url = format!("http://{}/v1/session/inbox?epoch={epoch}&after={after}&wait=60", site.http);
    let request = Site::agent().get(url).header("authorization", site.token(BOB));
    let response = request.header("accept", FRAME_MEDIA_TYPE).call().unwrap();
    assert_eq!(response.headers()["mooring-epoch"].to_str().unwrap(), epoch);
    let mut page = Vec::new();
    response.into_body().into_reader().read_to_end(&mut page).unwrap();
    let page = decode_server(&page).unwrap();
    let ServerBody::SyncPage(page) = page.body else { panic!("{page:?}") };
    let Event::Message(message) = page.entries.get(0).unwrap().event else { panic!("{page:?}") };
    assert_eq!((message.seq.get(), message.body), (1, Some(&b"hello"[..])));
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let site = Site::start(&data, Settings { sessions_max: 1, ..Settings::default() });
    let rows = [
        ("/v1/session/inbox?wait=61", 422, "at most 60 seconds"),
        ("/v1/session/inbox?epoch=x", 422, "epoch"),
        ("/v1/session/inbox?wat=1", 422, "wat"),
    ];
    for (path, status, words) in rows {
        let (found, problem) = site.get(ALICE, path);
        assert_eq!(found, status, "{path}: {problem}");
        assert!(problem.to_string().contains(words), "{path}: {problem}");
    }
    let unknown = Site::agent().get(format!("http://{}/v1/session/inbox", site.http));
    let response = unknown.header("authorization", "Bearer x").call().unwrap();
    assert_eq!(response.status().as_u16(), 401);
    let body = json!({ "channel": "0-99", "nonce": "1", "text": "hello" });
    assert_eq!(site.post(ALICE, "/v1/session/send", &body).0, 404);

    // One session is all there may be: a device that waits keeps it, an idle one does not.
    assert_eq!(site.get(BOB, "/v1/session/inbox").0, 200, "Alice's was idle");
    let mut stream = site.stream(BOB, None);
    next_event(&mut stream);
    let (status, problem) = site.get(ALICE, "/v1/session/inbox");
    assert_eq!((status, &problem["type"]), (503, &json!("urn:mooring:problem:core-unavailable")));
    let bobs = Site::agent().delete(format!("http://{}/v1/session", site.http));
    let ended = bobs.header("authorization", site.token(BOB)).call().unwrap();
    assert_eq!(ended.status().as_u16(), 204);
    assert_eq!(site.get(ALICE, "/v1/session/inbox").0, 200);
}

#[test]
fn the_command_serves_devices_beside_a_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let url = format!("ws://{}", server.gateway);
    let mut command = mooring(&["polling", "--listen", "127.0.0.1:0", "--gateway", &url]);
    let mut process = Running::start(command.arg("--data").arg(&data));
    let line = process.line().unwrap();
    let address = line.strip_prefix("ready polling=").unwrap();
    let get = |token: &str| {
        let request = Site::agent().get(format!("http://{address}/v1/session/inbox"));
        let mut response =
            request.header("authorization", format!("Bearer {token}")).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    };
    let (status, page) = get(&token(&data, ALICE, 1));
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("\"resume\":\"fresh\""), "{page}");
    assert_eq!(get("no token").0, 401);
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.end().status, 0);
    server.stop();
}
