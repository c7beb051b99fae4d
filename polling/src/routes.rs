//! The routes: one handler each.
//!
//! | route | does |
//! | --- | --- |
//! | `POST /v1/session/send` | sends a message (JSON), or any request (a frame) |
//! | `GET /v1/session/inbox` | polls: `epoch`, `after`, `wait` (seconds, at most 60), `limit` |
//! | `GET /v1/session/events` | server-sent events: `epoch`, `after`, or `Last-Event-ID` |
//! | `POST /v1/session/kept` | acknowledges up to a place, beside server-sent events |
//! | `DELETE /v1/session` | ends the session |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use client::{Answer, Entry, Request, RequestError};
use futures_lite::stream::{Stream, unfold};
use serde::Deserialize;
use wire::server::{Rejected, Resume, SyncPage};
use wire::{Deliver, Encoder, Epoch, InboxSeq, Nonce, RejectCode, decode_client};

use crate::json::{self, InboxPage, Kept, Message};
use crate::pool::{Identity, Pool, Session, WAIT_SECONDS_MAX};
use crate::problem::Problem;
use crate::window::Page;

/// The media type of a body that is one frame of `wire/schema/frame.fbs`.
pub const FRAME_MEDIA_TYPE: &str = "application/vnd.mooring.v1";

/// The longest body: the longest text as JSON, every byte of it escaped as six.
const BODY_BYTES_MAX: usize = 6 * wire::limits::CLIENT_FRAME_BYTES_MAX;

/// How often a stream says that it is there while nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Entries of a stream that are looked for at a time.
const STREAM_ENTRIES: usize = 64;

type Result<T, E = Problem> = std::result::Result<T, E>;

/// All routes.
pub fn router(pool: Pool) -> Router {
    Router::new()
        .route("/v1/session/send", post(send))
        .route("/v1/session/inbox", get(inbox))
        .route("/v1/session/events", get(events))
        .route("/v1/session/kept", post(kept))
        .route("/v1/session", delete(end))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(pool)
}

/// The bearer of a good access token.
struct Caller {
    who: Identity,
    token: String,
}

impl FromRequestParts<Pool> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pool: &Pool) -> Result<Self> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        let token = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token = token.ok_or_else(|| {
            Problem::unauthorised("send the header `Authorization: Bearer ACCESS_TOKEN`")
        })?;
        let who = pool.verify(token).await.ok_or_else(|| {
            Problem::unauthorised("the access token is not valid or has expired; refresh it")
        })?;
        Ok(Self { who, token: token.to_owned() })
    }
}

/// Where a device stands, and how it wants to wait.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    /// Of the last answer; absent at first.
    epoch: Option<String>,
    /// `next` of the last answer.
    #[serde(default)]
    after: u64,
    /// Seconds.
    #[serde(default)]
    wait: u64,
    #[serde(default = "all")]
    limit: usize,
}

const fn all() -> usize {
    wire::limits::PAGE_ENTRIES_MAX
}

impl From {
    fn read(query: std::result::Result<Query<Self>, QueryRejection>) -> Result<Self> {
        let Query(from) = query.map_err(|error| Problem::field("query", error.body_text()))?;
        if from.wait > WAIT_SECONDS_MAX {
            return Err(Problem::field("wait", "at most 60 seconds"));
        }
        Ok(from)
    }

    fn place(&self) -> Result<(Epoch, InboxSeq)> {
        let epoch = self.epoch.as_deref().map_or(Ok(0), |epoch| json::number("epoch", epoch))?;
        Ok((Epoch(epoch), InboxSeq::new(self.after)))
    }
}

/// Sends a message, or any request that stands in a frame.
async fn send(
    State(pool): State<Pool>,
    caller: Caller,
    headers: HeaderMap,
    body: std::result::Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let body = body.map_err(|error| Problem::body(error.status(), error.body_text()))?;
    match media_type(&headers, header::CONTENT_TYPE) {
        Some(FRAME_MEDIA_TYPE) => send_frame(&pool, &caller, &body).await,
        Some("application/json") => {
            let message: Message = serde_json::from_slice(&body)
                .map_err(|error| Problem::field("body", error.to_string()))?;
            let request = message.request()?;
            let session = pool.session(caller.who, &caller.token).await?;
            let answer = session.request(request, message.retry).await?;
            Ok(Json(json::answer(&answer)).into_response())
        }
        _ => {
            let text = format!("send application/json or {FRAME_MEDIA_TYPE}");
            Err(Problem::unsupported_media(text))
        }
    }
}

async fn send_frame(pool: &Pool, caller: &Caller, body: &[u8]) -> Result<Response> {
    let frame = decode_client(body).map_err(|error| Problem::field("body", error.to_string()))?;
    let (request, retry) = Request::from_frame(&frame.body).ok_or_else(|| {
        Problem::field("body", "this frame has no business here; the inbox is polled")
    })?;
    let session = pool.session(caller.who, &caller.token).await?;
    let nonce = request.nonce().unwrap_or(Nonce(0));
    let mut encoder = Encoder::new(1024);
    let bytes = match session.request(request, retry).await {
        Ok(Answer::Posted(posted)) => encoder.server(frame.request, posted),
        Ok(Answer::Ready(ready)) => encoder.server(frame.request, ready),
        Ok(Answer::History(page)) => {
            let events: Vec<_> = page.entries.iter().map(client::What::as_wire).collect();
            let (channel, more) = (page.channel, page.more);
            let entries = events[..].into();
            encoder.server(frame.request, wire::server::HistoryPage { channel, entries, more })
        }
        Ok(Answer::Channels(page)) => {
            let entries: Vec<_> =
                page.conversations.iter().map(client::Conversation::as_wire).collect();
            let (conversations, more) = (entries[..].into(), page.more);
            encoder.server(frame.request, wire::server::ChannelPage { conversations, more })
        }
        Ok(Answer::Done(_) | Answer::Sent) => return Ok(StatusCode::NO_CONTENT.into_response()),
        Err(RequestError::Rejected { code, text }) => {
            encoder.server(frame.request, rejected(code, nonce, &text))
        }
        Err(error) => return Err(error.into()),
    };
    Ok(frame_response(bytes))
}

fn rejected(code: RejectCode, nonce: Nonce, text: &str) -> Rejected<'_> {
    Rejected { code, nonce, channel: None, text, retry_after_ms: 0 }
}

fn frame_response(bytes: &[u8]) -> Response {
    ([(header::CONTENT_TYPE, FRAME_MEDIA_TYPE)], bytes.to_vec()).into_response()
}

/// Polls: what follows `after`, which the device has everything up to.
async fn inbox(
    State(pool): State<Pool>,
    caller: Caller,
    headers: HeaderMap,
    query: std::result::Result<Query<From>, QueryRejection>,
) -> Result<Response> {
    let from = From::read(query)?;
    let (epoch, after) = from.place()?;
    let session = pool.session_from(caller.who, &caller.token, epoch, after).await?;
    let wait = Duration::from_secs(from.wait);
    let page = session.poll(epoch, after, (from.limit, wait)).await?;
    Ok(match media_type(&headers, header::ACCEPT) {
        Some(FRAME_MEDIA_TYPE) => page_as_frame(&page),
        _ => Json(InboxPage::from(&page)).into_response(),
    })
}

/// A `SyncPage`. Its frame does not say the epoch: headers do.
fn page_as_frame(page: &Page) -> Response {
    let entries: Vec<Deliver<'_>> = page.entries.iter().map(Entry::as_wire).collect();
    let sync = SyncPage { entries: entries[..].into(), next: page.next, end: !page.more };
    let mut encoder = Encoder::new(4096);
    let mut response = frame_response(encoder.server(0, sync));
    let resume = match page.resume {
        Resume::Resumed => "resumed",
        Resume::Fresh => "fresh",
        Resume::Reset => "reset",
    };
    let headers = response.headers_mut();
    headers.insert("mooring-epoch", page.epoch.0.into());
    headers.insert("mooring-resume", header::HeaderValue::from_static(resume));
    response
}

/// Server-sent events: each entry as JSON, its id what `Last-Event-ID` says on the next connection.
async fn events(
    State(pool): State<Pool>,
    caller: Caller,
    headers: HeaderMap,
    query: std::result::Result<Query<From>, QueryRejection>,
) -> Result<Response> {
    let (epoch, after) = match headers.get("last-event-id") {
        Some(id) => last_event(id.to_str().unwrap_or_default())?,
        None => From::read(query)?.place()?,
    };
    let session = pool.session_from(caller.who, &caller.token, epoch, after).await?;
    session.await_online().await?;
    // What the device says when it comes back is what it has.
    session.keep(epoch, after);
    let state = Streaming { session, epoch, after, entries: Vec::new().into_iter(), begun: false };
    let stream = unfold(state, |mut state| async {
        let event = state.next().await?;
        Some((Ok::<_, Infallible>(event), state))
    });
    Ok(sse(stream))
}

fn sse(
    stream: impl Stream<Item = std::result::Result<SseEvent, Infallible>> + Send + 'static,
) -> Response {
    let mut response =
        Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies that gather a response before they pass it on would hold it back for ever.
    response.headers_mut().insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    response
}

fn last_event(id: &str) -> Result<(Epoch, InboxSeq)> {
    let parts = id.split_once(':').and_then(|(epoch, place)| {
        let part = |digits| json::number("last-event-id", digits).ok();
        Some((Epoch(part(epoch)?), InboxSeq::new(part(place)?)))
    });
    parts.ok_or_else(|| Problem::field("last-event-id", "must be an id of this stream"))
}

/// A stream of entries, from a session.
struct Streaming {
    session: Arc<Session>,
    epoch: Epoch,
    after: InboxSeq,
    entries: std::vec::IntoIter<Entry>,
    begun: bool,
}

impl Streaming {
    /// The next event; `None` ends the stream: the device comes again.
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(entry) = self.entries.next() {
                self.after = entry.inbox_seq;
                let id = format!("{}:{}", self.epoch.0, entry.inbox_seq.get());
                let event = SseEvent::default().id(id).event("entry");
                return Some(event.json_data(json::entry(&entry)).expect("it is JSON already"));
            }
            if !self.begun {
                self.begun = true;
                return Some(self.begin());
            }
            let taken_over = self.session.taken_over();
            let page = tokio::select! {
                page = self.session.follow(self.epoch, self.after, STREAM_ENTRIES) => page.ok()?,
                () = taken_over => return None,
            };
            if page.resume == Resume::Resumed {
                self.entries = page.entries.into_iter();
            } else {
                return Some(self.begin());
            }
        }
    }

    /// Where the stream begins, and begins anew.
    fn begin(&mut self) -> SseEvent {
        let page = self.session.begin(self.epoch, self.after);
        (self.epoch, self.after) = (page.epoch, page.next);
        let id = format!("{}:{}", self.epoch.0, self.after.get());
        let event = SseEvent::default().id(id).event("begin");
        event.json_data(InboxPage::from(&page)).expect("it is JSON")
    }
}

/// The device has everything up to there.
async fn kept(
    State(pool): State<Pool>,
    caller: Caller,
    body: std::result::Result<Json<Kept>, axum::extract::rejection::JsonRejection>,
) -> Result<StatusCode> {
    let Json(kept) = body.map_err(|error| Problem::body(error.status(), error.body_text()))?;
    let epoch = Epoch(json::number("epoch", &kept.epoch)?);
    pool.keep(caller.who, epoch, InboxSeq::new(kept.after));
    Ok(StatusCode::NO_CONTENT)
}

/// Ends the session, which its next request would make again.
async fn end(State(pool): State<Pool>, caller: Caller) -> StatusCode {
    pool.end(caller.who).await;
    StatusCode::NO_CONTENT
}

/// The media type in a header, without parameters.
fn media_type(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let value = headers.get(name)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}
