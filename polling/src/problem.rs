//! Errors as clients see them: `application/problem+json` (RFC 9457), or a frame to those who sent
//! one.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use client::{End, RequestError};
use serde::Serialize;
use wire::RejectCode;

use crate::pool::PollError;

/// How long a device that finds no place is told to wait.
const RETRY_AFTER_SECONDS: u32 = 5;

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// The stable part of `type`.
    name: &'static str,
    title: &'static str,
    detail: String,
    /// The field that was wrong.
    field: Option<&'static str>,
    /// `Retry-After` in seconds.
    retry_after: Option<u32>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    urn: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    fields: Vec<Field<'a>>,
}

#[derive(Serialize)]
struct Field<'a> {
    name: &'a str,
    problem: &'a str,
}

impl Problem {
    fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        Self { status, name, title, detail, field: None, retry_after: None }
    }

    /// A field of the request is wrong.
    pub(crate) fn field(field: &'static str, problem: impl Into<String>) -> Self {
        let title = "The request is not valid";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self { field: Some(field), ..Self::new(status, "invalid", title, problem) }
    }

    pub(crate) fn unauthorised(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorised", "Log in first", detail)
    }

    pub(crate) fn unsupported_media(detail: impl Into<String>) -> Self {
        let title = "This content type is not taken";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media", title, detail)
    }

    /// A body that could not be read: too long, or cut off.
    pub(crate) fn body(status: StatusCode, detail: String) -> Self {
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::new(status, "too-large", "The body is too large", detail);
        }
        Self::field("body", detail)
    }

    fn later(detail: impl Into<String>) -> Self {
        let title = "The core does not answer just now";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let problem = Self::new(status, "core-unavailable", title, detail);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..problem }
    }

    fn ended(end: &End) -> Self {
        let detail = end.to_string();
        let code = match end {
            End::Unauthorised(_) => return Self::unauthorised(detail),
            End::Left => return Self::later("this session was given up; come again"),
            End::Refused { code, .. } => *code,
        };
        if code == wire::CloseCode::Displaced.number() {
            let title = "The same device has a newer session";
            return Self::new(StatusCode::CONFLICT, "displaced", title, detail);
        }
        Self::new(StatusCode::FORBIDDEN, "forbidden", "You may not do this", detail)
    }
}

impl From<PollError> for Problem {
    fn from(error: PollError) -> Self {
        match error {
            PollError::Ended(end) => Self::ended(&end),
            PollError::Unavailable | PollError::Full(_) => Self::later(error.to_string()),
        }
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let detail = error.to_string();
        match error {
            RequestError::Rejected { code, text } => rejected(code, text),
            RequestError::TooLarge { .. } => {
                let title = "The body is too large";
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title, detail)
            }
            RequestError::NoNonce => Self::field("nonce", detail),
            RequestError::Ended(end) => Self::ended(&end),
            RequestError::QueueFull { .. } => {
                let title = "Too many requests";
                let status = StatusCode::TOO_MANY_REQUESTS;
                let problem = Self::new(status, "too-many-requests", title, detail);
                Self { retry_after: Some(1), ..problem }
            }
            RequestError::TimedOut => Self::later(detail),
            RequestError::Store(_) | RequestError::OtherAnswer => {
                let title = "Something broke in here";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", title, detail)
            }
        }
    }
}

fn rejected(code: RejectCode, text: String) -> Problem {
    let (status, name, title) = match code {
        RejectCode::NotMember => {
            (StatusCode::NOT_FOUND, "not-found", "There is no such thing for you")
        }
        RejectCode::NotPermitted => (StatusCode::FORBIDDEN, "forbidden", "You may not do this"),
        RejectCode::TooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large")
        }
        RejectCode::NonceReused => {
            (StatusCode::CONFLICT, "nonce-reused", "This nonce belongs to another send")
        }
        RejectCode::RetryTooOld => {
            (StatusCode::CONFLICT, "retry-too-old", "Whether this was kept cannot be known")
        }
        RejectCode::ChannelFull => {
            (StatusCode::CONFLICT, "limit-reached", "There may be no more of these")
        }
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request is not valid"),
    };
    Problem::new(status, name, title, text)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let fields = self.field.map(|name| Field { name, problem: &self.detail });
        let body = Body {
            urn: format!("urn:mooring:problem:{}", self.name),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            fields: fields.into_iter().collect(),
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, media_type);
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
