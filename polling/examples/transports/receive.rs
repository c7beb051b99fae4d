//! Receivers, one for each way, that count what they say and hear.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, Config, Event, StaticGateways};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::server::Site;

/// A way of receiving.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    WebSocket,
    Stream,
    LongPoll,
    Poll(Duration),
}

impl Way {
    pub(crate) const ALL: [Self; 5] = [
        Self::WebSocket,
        Self::Stream,
        Self::LongPoll,
        Self::Poll(Duration::from_secs(1)),
        Self::Poll(Duration::from_secs(5)),
    ];

    pub(crate) fn name(self) -> String {
        match self {
            Self::WebSocket => "WebSocket".to_owned(),
            Self::Stream => "server-sent events".to_owned(),
            Self::LongPoll => "long polling".to_owned(),
            Self::Poll(interval) => format!("polling every {} s", interval.as_secs()),
        }
    }
}

/// What all receivers of a run count together.
#[derive(Default)]
pub(crate) struct Tally {
    begun: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    delays: Mutex<Vec<Duration>>,
}

impl Tally {
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Requests, and bytes in both directions.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn delays(&self) -> Vec<Duration> {
        self.delays.lock().unwrap().clone()
    }

    fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    fn request(&self, bytes: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.count(bytes);
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A message has come that was due at this time after the start.
    fn delivered(&self, text: &str, start: Instant) {
        let due = Duration::from_nanos(text.parse().unwrap());
        self.delays.lock().unwrap().push(start.elapsed() - due);
    }
}

pub(crate) async fn receive(
    way: Way,
    user: u64,
    site: Arc<Site>,
    tally: Arc<Tally>,
    start: Instant,
) {
    match way {
        Way::WebSocket => by_socket(user, &site, &tally, start).await,
        Way::Stream => by_stream(user, &site, &tally, start).await,
        Way::LongPoll => by_polls(user, &site, &tally, (60, Duration::ZERO), start).await,
        Way::Poll(interval) => by_polls(user, &site, &tally, (0, interval), start).await,
    }
}

/// Through a relay that counts bytes.
async fn by_socket(user: u64, site: &Site, tally: &Arc<Tally>, start: Instant) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let gateway = site.gateway.strip_prefix("ws://").unwrap().to_owned();
    let counted = Arc::clone(tally);
    let relay = tokio::spawn(async move {
        let (mut device, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(gateway).await.unwrap();
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        loop {
            tokio::select! {
                count = device.read(&mut up) => match count {
                    Ok(count @ 1..) => {
                        counted.count(count);
                        server.write_all(&up[..count]).await.unwrap();
                    }
                    _ => return,
                },
                count = server.read(&mut down) => match count {
                    Ok(count @ 1..) => {
                        counted.count(count);
                        device.write_all(&down[..count]).await.unwrap();
                    }
                    _ => return,
                },
            }
        }
    });
    let gateways = StaticGateways::new([&*url]).unwrap();
    let client = Client::connect(Config::new(gateways, site.token(user))).await.unwrap();
    let mut events = client.events();
    while let Some(event) = events.next().await {
        match event {
            Event::Online(_) => tally.begin(),
            Event::Inbox(entry) => {
                tally.delivered(entry.message().unwrap().text().unwrap(), start);
            }
            other => panic!("{other:?}"),
        }
    }
    relay.abort();
}

/// One connection that is kept alive.
struct Http<'a> {
    stream: TcpStream,
    head: String,
    tally: &'a Tally,
    buffer: Vec<u8>,
}

impl<'a> Http<'a> {
    async fn connect(site: &Site, user: u64, tally: &'a Tally) -> Self {
        let stream = TcpStream::connect(&site.http).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let head =
            format!("host: {}\r\nauthorization: Bearer {}\r\n\r\n", site.http, site.token(user));
        Self { stream, head, tally, buffer: Vec::new() }
    }

    async fn ask(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\n{}", self.head);
        self.tally.request(request.len());
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    async fn read(&mut self) {
        let count = self.stream.read_buf(&mut self.buffer).await.unwrap();
        assert_ne!(count, 0, "the server hung up");
        self.tally.count(count);
    }

    /// The body of an answer that says its length.
    async fn answer(&mut self) -> Value {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                assert!(head.starts_with("HTTP/1.1 200"), "{text}");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.expect("a length").parse().unwrap();
                if body.len() >= length {
                    self.buffer.clear();
                    return serde_json::from_str(body).unwrap();
                }
            }
            self.read().await;
        }
    }

    /// The next line of a stream.
    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.drain(..=end).collect();
                return String::from_utf8(line).unwrap();
            }
            self.read().await;
        }
    }
}

async fn by_stream(user: u64, site: &Site, tally: &Tally, start: Instant) {
    let mut http = Http::connect(site, user, tally).await;
    http.ask("/v1/session/events").await;
    loop {
        let line = http.line().await;
        if line.starts_with("event: begin") {
            tally.begin();
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let entry: Value = serde_json::from_str(data).unwrap();
        if let Some(text) = entry["text"].as_str() {
            tally.delivered(text, start);
        }
    }
}

async fn by_polls(
    user: u64,
    site: &Site,
    tally: &Tally,
    (wait, interval): (u64, Duration),
    start: Instant,
) {
    let mut http = Http::connect(site, user, tally).await;
    http.ask("/v1/session/inbox").await;
    let mut page = http.answer().await;
    tally.begin();
    // Polls of many devices are spread over the interval.
    sleep(interval.mul_f64(user as f64 / 40.0)).await;
    loop {
        let (epoch, after) = (page["epoch"].as_str().unwrap(), &page["next"]);
        let path = format!("/v1/session/inbox?epoch={epoch}&after={after}&wait={wait}");
        http.ask(&path).await;
        page = http.answer().await;
        for entry in page["entries"].as_array().unwrap() {
            tally.delivered(entry["text"].as_str().unwrap(), start);
        }
        sleep(interval).await;
    }
}
