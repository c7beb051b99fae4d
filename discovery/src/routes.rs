//! `GET /v1/gateways`, for whoever serves the API.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use crate::board::Board;
use crate::choose::Asker;

/// What a client may say of itself.
#[derive(Debug, Deserialize)]
struct Asked {
    /// Where it is.
    region: Option<String>,
    /// Her gateway has sent her away.
    #[serde(default)]
    moved: bool,
}

/// The route, to be merged into the API's: `GET /v1/gateways?region=eu&moved=true`.
pub fn routes(board: Arc<Board>) -> Router {
    Router::new().route("/v1/gateways", get(gateways)).with_state(board)
}

async fn gateways(State(board): State<Arc<Board>>, Query(asked): Query<Asked>) -> Response {
    // Each hasher of the standard library has random keys of its own.
    let seed = RandomState::new().hash_one(0);
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge of the pure part: the time is read here"
    )]
    let now = Instant::now();
    let asker = Asker { region: asked.region.as_deref(), is_moved: asked.moved };
    let answer = board.answer(asker, now, seed);
    let no_store = HeaderValue::from_static("no-store");
    ([(header::CACHE_CONTROL, no_store)], Json(answer)).into_response()
}
