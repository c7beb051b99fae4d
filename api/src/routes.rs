//! All routes, what stands around every one of them, and their description.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, RequestExt};
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::extract::Address;
use crate::keys::Jwk;
use crate::problem::{Kind, Problem};
use crate::{
    App, accounts, conversations, devices, farewell, friends, gateways, groups, invites, members,
    profiles,
};

/// Bytes of a request's body, but for avatars.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a preflight's answer is good.
const CORS_AGE: Duration = Duration::from_secs(60 * 60);

/// The description's own part; paths come from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mooring",
        version = "1",
        description = "Accounts, friends, groups, devices and conversations of a Mooring server. \
            Times are milliseconds since 1970; errors are application/problem+json."
    ),
    modifiers(&Bearer),
    components(schemas(crate::problem::ProblemBody)),
    security(("bearer" = []))
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(token));
    }
}

pub(crate) fn router(app: &App) -> Router {
    let described = OpenApiRouter::with_openapi(Description::openapi())
        .merge(accounts::routes())
        .merge(devices::routes())
        .merge(profiles::routes(app.settings.avatar_bytes_max))
        .merge(friends::routes())
        .merge(groups::routes())
        .merge(members::routes())
        .merge(invites::routes())
        .merge(conversations::routes())
        .merge(farewell::routes())
        .merge(gateways::routes())
        .routes(utoipa_axum::routes!(jwks));
    let (routes, description) = described.split_for_parts();
    let page = SwaggerUi::new("/v1/docs")
        .config(Config::new(["/v1/openapi.json"]).validator_url("none"))
        .url("/v1/openapi.json", description);
    routes
        .merge(page)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(nothing_there)
        .method_not_allowed_fallback(no_such_method)
        .with_state(App::clone(app))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(App::clone(app), limit))
        .layer(cors(app))
        .layer(from_fn(secure))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Problem::internal(&"a handler panicked").into_response()
        }))
}

/// The public keys.
#[derive(Serialize, ToSchema)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// The keys that sign access tokens (RFC 7517).
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "discovery", security(()),
    responses((status = 200, description = "The public keys.", body = Jwks)))]
async fn jwks(State(app): State<App>) -> Json<Jwks> {
    Json(Jwks { keys: app.keys.public() })
}

/// Whether requests should be sent here.
async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    if !app.db.is_well().await {
        (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
    } else if !app.core.is_well().await {
        (StatusCode::SERVICE_UNAVAILABLE, "the core does not answer\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn nothing_there(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no {}; see /v1/docs", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; see /v1/docs", uri.path());
    Problem::new(Kind::MethodNotAllowed, detail)
}

/// Bounds the requests from one address.
async fn limit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let address = request.extract_parts_with_state::<Address, App>(&app).await;
    match address.and_then(|address| app.rates.request_from(address)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn cors(app: &App) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(app.settings.origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([header::RETRY_AFTER, header::ETAG])
        .max_age(CORS_AGE)
}

/// What the page of the description may load: its own files. Its styles stand in the page.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; \
     form-action 'none'",
);

/// Everything else is data: nothing in it is run or shown.
const DATA_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");

/// Headers that keep a browser from making more of an answer than it is.
async fn secure(request: Request, next: Next) -> Response {
    let is_page = request.uri().path().starts_with("/v1/docs");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = if is_page { PAGE_POLICY } else { DATA_POLICY };
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let no_store = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(no_store);
    response
}
