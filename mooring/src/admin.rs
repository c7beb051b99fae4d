//! The admin port: `/metrics`, `/healthz`, `/readyz`, `/drain`, `/undrain`, and
//! `/v1/gateways` as clients are told it. On a thread of its
//! own, so that a scrape never waits for a core, nor a core for a scrape.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use discovery::Board;
use gateway::evacuation::Order;
use gateway::metrics::{Metrics, expose};
use gateway::server::{Drainer, StartError};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The longest drain and the longest wait that may be ordered: a day.
const ORDER_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// The longest URL: each session is sent a copy.
const URL_BYTES_MAX: usize = 2048;

/// What `POST /drain` takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainOrder {
    /// Milliseconds over which all sessions are sent away.
    pub(crate) over_ms: u64,
    /// Milliseconds that each is told to wait before it connects again.
    #[serde(default)]
    pub(crate) after_ms: u64,
    /// Where each is told to connect; without it `server.reconnect_url`.
    #[serde(default)]
    pub(crate) url: Option<String>,
}

/// What `GET /drain` answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct DrainState {
    /// Whether sessions are sent away.
    pub(crate) draining: bool,
    /// Sessions that are still here.
    pub(crate) sessions: u64,
    /// Sessions sent away since the start of the process.
    pub(crate) sent_away: u64,
}

#[derive(Clone)]
struct Admin {
    metrics: Arc<Metrics>,
    drainer: Drainer,
}

/// Listens: before the gateway starts, so that a busy port is found before anybody connects.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener> {
    let failed = |error: io::Error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        StartError::Listen { address, errno }
    };
    TcpListener::bind(address).map_err(failed).context("server.admin")
}

/// Starts to serve; tells where.
pub(crate) fn start(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    drainer: Drainer,
    board: Arc<Board>,
) -> Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let routes = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/drain", get(drain_state).post(drain))
        .route("/undrain", post(undrain))
        .with_state(Admin { metrics, drainer })
        .merge(discovery::routes(board));
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, routes).await
    };
    let run = move || {
        if let Err(error) = runtime.block_on(serve) {
            tracing::error!(%error, "the admin port ended");
        }
    };
    std::thread::Builder::new().name("admin".into()).spawn(run)?;
    Ok(bound)
}

async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = expose(&admin.metrics).unwrap_or_default();
    ([(header::CONTENT_TYPE, content_type)], text)
}

/// Whether new clients should be sent here.
async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.drainer.is_draining() || admin.drainer.evacuation().is_some() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if admin.metrics.store.is_full() {
        (StatusCode::SERVICE_UNAVAILABLE, "disk full\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn drain_state(State(admin): State<Admin>) -> impl IntoResponse {
    let Admin { metrics, drainer } = admin;
    let state = DrainState {
        draining: drainer.is_draining() || drainer.evacuation().is_some(),
        sessions: metrics.sessions(),
        sent_away: metrics.evacuated(),
    };
    let text = serde_json::to_string(&state).unwrap_or_default() + "\n";
    ([(header::CONTENT_TYPE, "application/json")], text)
}

/// Sends all sessions away at an even rate. A second order replaces the first.
async fn drain(State(admin): State<Admin>, body: String) -> (StatusCode, String) {
    let order = match read_order(&body) {
        Ok(order) => order,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem + "\n"),
    };
    if admin.drainer.is_draining() {
        let text = "the process is ending, and sends everybody away already\n";
        return (StatusCode::CONFLICT, text.to_owned());
    }
    tracing::info!(?order, "sending sessions away");
    admin.drainer.evacuate(order);
    (StatusCode::OK, "draining\n".to_owned())
}

async fn undrain(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.drainer.is_draining() {
        return (StatusCode::CONFLICT, "the process is ending: it cannot be stopped any more\n");
    }
    admin.drainer.stay();
    (StatusCode::OK, "ready\n")
}

fn read_order(body: &str) -> Result<Order, String> {
    let DrainOrder { over_ms, after_ms, url } = serde_json::from_str(body).map_err(|error| {
        format!(r#"{error}; send {{"over_ms": 60000}}, and "after_ms" and "url" if wanted"#)
    })?;
    for (name, ms, least) in [("over_ms", over_ms, 1), ("after_ms", after_ms, 0)] {
        if !(least..=ORDER_MS_MAX).contains(&ms) {
            return Err(format!("{name} is {ms}: it must be {least} to {ORDER_MS_MAX}"));
        }
    }
    if url.as_ref().is_some_and(|url| url.is_empty() || url.len() > URL_BYTES_MAX) {
        return Err(format!("url: it must have 1 to {URL_BYTES_MAX} bytes"));
    }
    let (over, after) = (Duration::from_millis(over_ms), Duration::from_millis(after_ms));
    Ok(Order { over, after, url: url.map(Into::into) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_cannot_be_carried_out_is_refused_with_what_to_send() {
        let rows = [
            ("", "send {\"over_ms\": 60000}"),
            ("{}", "missing field `over_ms`"),
            (r#"{"over_ms": 0}"#, "over_ms is 0: it must be 1 to 86400000"),
            (r#"{"over_ms": 1, "after_ms": 86400001}"#, "after_ms is 86400001"),
            (r#"{"over_ms": 1, "url": ""}"#, "url: it must have 1 to"),
            (r#"{"over_ms": 1, "ulr": "x"}"#, "unknown field `ulr`"),
        ];
        for (body, expected) in rows {
            let problem = read_order(body).expect_err(body);
            assert!(problem.contains(expected), "{body}: {problem}");
        }
        let order = read_order(r#"{"over_ms": 1500, "url": "ws://b/"}"#).expect("all it needs");
        assert_eq!((order.over.as_millis(), order.after.as_millis()), (1500, 0));
        assert_eq!(order.url.as_deref(), Some("ws://b/"));
    }
}
