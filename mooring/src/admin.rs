//! The admin port: `/metrics`, `/healthz`, `/readyz`. On a thread of its own, so that a scrape
//! never waits for a core, nor a core for a scrape.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use gateway::metrics::{Metrics, expose};
use gateway::server::{Drainer, StartError};
use rustix::io::Errno;

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
) -> Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let routes = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Admin { metrics, drainer });
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
    if admin.drainer.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if admin.metrics.store.is_full() {
        (StatusCode::SERVICE_UNAVAILABLE, "disk full\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}
