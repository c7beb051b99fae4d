//! Errors as clients see them: `application/problem+json` (RFC 9457).
//!
//! `type` is the stable part, a URN that ends in one of [`Kind`]'s names; `fields` names what of
//! the request was wrong. What went wrong in here is logged under a number that the client gets.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{self, RefOr};

/// The kinds of problem: the whole table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Invalid,
    Unauthorised,
    WrongPassword,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    HandleTaken,
    LimitReached,
    TooLarge,
    UnsupportedMedia,
    TooManyRequests,
    Internal,
    Overloaded,
    CoreUnavailable,
}

impl Kind {
    /// Status, name and title.
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Invalid => (S::UNPROCESSABLE_ENTITY, "invalid", "The request is not valid"),
            Self::Unauthorised => (S::UNAUTHORIZED, "unauthorised", "Log in first"),
            Self::WrongPassword => {
                (S::UNAUTHORIZED, "wrong-password", "Handle and password do not match")
            }
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "You may not do this"),
            Self::NotFound => (S::NOT_FOUND, "not-found", "There is no such thing for you"),
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "method-not-allowed", "This address has other methods")
            }
            Self::Conflict => (S::CONFLICT, "conflict", "It does not fit what is there"),
            Self::HandleTaken => (S::CONFLICT, "handle-taken", "Somebody has this handle"),
            Self::LimitReached => (S::CONFLICT, "limit-reached", "There may be no more of these"),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::UnsupportedMedia => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported-media", "This content type is not taken")
            }
            Self::TooManyRequests => {
                (S::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "Something broke in here"),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "overloaded", "Too much to do just now"),
            Self::CoreUnavailable => {
                (S::SERVICE_UNAVAILABLE, "core-unavailable", "The core does not answer just now")
            }
        }
    }
}

/// Why a request was refused.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    fields: Vec<Field>,
    retry_after: Option<u64>,
}

/// What of the request was wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Field {
    /// Its name, with a dot for each step inwards: `settings.theme`.
    name: String,
    /// What is wrong with it, and what would be right.
    problem: String,
}

/// The body of every answer that is not a success.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// `urn:mooring:problem:` and the kind: `handle-taken`, `too-many-requests`, …
    #[serde(rename = "type")]
    urn: String,
    /// The kind, for people.
    title: String,
    /// The status, again.
    status: u16,
    /// What went wrong this time, for people.
    detail: String,
    /// What of the request was wrong; empty where it is no field.
    fields: Vec<Field>,
}

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), fields: Vec::new(), retry_after: None }
    }

    /// One field of the request is wrong.
    pub(crate) fn field(name: impl Into<String>, problem: impl Into<String>) -> Self {
        let field = Field { name: name.into(), problem: problem.into() };
        let detail = format!("{}: {}", field.name, field.problem);
        Self { fields: vec![field], ..Self::new(Kind::Invalid, detail) }
    }

    /// As [`Self::new`], because of one field.
    pub(crate) fn of_field(kind: Kind, name: &str, problem: &str) -> Self {
        Self { kind, ..Self::field(name, problem) }
    }

    pub(crate) fn unauthorised(detail: &str) -> Self {
        Self::new(Kind::Unauthorised, detail)
    }

    /// The answer for what is not there, and for what this user may not know of.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no such {what}, or not for you"))
    }

    pub(crate) fn forbidden(detail: &str) -> Self {
        Self::new(Kind::Forbidden, detail)
    }

    pub(crate) fn conflict(detail: &str) -> Self {
        Self::new(Kind::Conflict, detail)
    }

    /// A bound is reached; `most` says which.
    pub(crate) fn limit(most: i64, of_what: &str) -> Self {
        Self::new(Kind::LimitReached, format!("at most {most} {of_what} are permitted"))
    }

    /// Come again in so many seconds.
    pub(crate) fn later(kind: Kind, detail: &str, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..Self::new(kind, detail) }
    }

    /// Something of ours failed: the client gets a number to name, the log the reason.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        let number: u32 = rand::random();
        tracing::error!(number, %error, "a request failed");
        Self::new(Kind::Internal, format!("it is in the log under number {number}"))
    }

    #[cfg(test)]
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            tracing::warn!("all connections to the database are in use");
            return Self::later(Kind::Overloaded, "the database has no connection free", 1);
        }
        Self::internal(&error)
    }
}

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind.row();
        let body = ProblemBody {
            urn: format!("urn:mooring:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            fields: self.fields,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            const CHALLENGE: (HeaderName, HeaderValue) =
                (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            headers.insert(CHALLENGE.0, CHALLENGE.1);
        }
        response
    }
}

/// In the description every handler's other answers are this.
impl utoipa::IntoResponses for Problem {
    fn responses() -> std::collections::BTreeMap<String, RefOr<openapi::Response>> {
        let body = openapi::Ref::from_schema_name("Problem");
        let content = openapi::ContentBuilder::new().schema(Some(body)).build();
        let response = openapi::ResponseBuilder::new()
            .description("What was wrong.")
            .content("application/problem+json", content)
            .build();
        [("default".to_owned(), RefOr::T(response))].into()
    }
}
