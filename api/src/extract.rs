//! What handlers take from a request: bodies and parameters whose errors name the field, the
//! client's address, and who asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::rejection::PathRejection;
use axum::extract::{
    ConnectInfo, FromRequest, FromRequestParts, OptionalFromRequestParts, Path, Request,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use wire::{DeviceId, UserId};

use crate::App;
use crate::keys::Identity;
use crate::problem::{Kind, Problem, Result};

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let is_json = request.headers().get(header::CONTENT_TYPE).is_some_and(|value| {
            value.to_str().is_ok_and(|value| {
                let essence = value.split(';').next().unwrap_or_default().trim();
                essence.eq_ignore_ascii_case("application/json")
            })
        });
        if !is_json {
            let detail = "send the header `Content-Type: application/json`";
            return Err(Problem::new(Kind::UnsupportedMedia, detail));
        }
        let bytes = body_bytes(request, app).await?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let name = if path == "." { "body".to_owned() } else { path };
            Problem::field(name, error.inner().to_string())
        })?;
        json.end().map_err(|error| Problem::field("body", error.to_string()))?;
        Ok(Self(value))
    }
}

/// The whole body; the layer around all routes bounds it.
pub(crate) async fn body_bytes(request: Request, app: &App) -> Result<axum::body::Bytes> {
    axum::body::Bytes::from_request(request, app).await.map_err(|rejection| {
        let status = rejection.status();
        let kind = if status == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            Kind::TooLarge
        } else {
            Kind::Invalid
        };
        Problem::new(kind, rejection.body_text())
    })
}

/// Parameters of the path. What cannot be one names nothing.
pub(crate) struct Place<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Place<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        match <Path<T> as FromRequestParts<App>>::from_request_parts(parts, app).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(Problem::field("path", error.body_text()))
            }
            Err(error) => Err(Problem::field("path", error.body_text())),
        }
    }
}

/// Parameters of the query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        let axum::extract::Query(value) =
            query.map_err(|rejection| Problem::field("query", rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// The client's address: the peer's, or what the nearest trusted proxy says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Address(pub(crate) IpAddr);

impl Address {
    /// Of one customer: a whole /64 is handed to a home.
    pub(crate) fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let [one, two, three, four, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(one, two, three, four, 0, 0, 0, 0))
            }
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.to_canonical().fmt(f)
    }
}

impl FromRequestParts<App> for Address {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        // Requests that no socket brought are those of tests.
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(peer)| peer.ip());
        Ok(Self(told_by_proxies(&parts.headers, app.settings.proxies).unwrap_or(peer)))
    }
}

/// The address that the outermost of `proxies` trusted ones has seen: each adds one at the end, and
/// what stands before is the client's own invention.
fn told_by_proxies(headers: &HeaderMap, proxies: usize) -> Option<IpAddr> {
    let place = proxies.checked_sub(1)?;
    let lines = headers.get_all("x-forwarded-for").iter();
    let text: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    let addresses = text.iter().flat_map(|line| line.split(',')).map(str::trim);
    addresses.rev().nth(place)?.parse().ok()
}

/// Who asks: the bearer of an access token whose device has not been ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) address: Address,
}

impl Caller {
    /// Her id as the database has it.
    pub(crate) fn id(&self) -> i64 {
        stored(self.user)
    }
}

/// An id as the database has it. Those that it gave fit.
pub(crate) fn stored(user: UserId) -> i64 {
    i64::try_from(user.get()).unwrap_or(i64::MAX)
}

/// An id of the database.
pub(crate) fn user(id: i64) -> Option<UserId> {
    u64::try_from(id).ok().and_then(UserId::new)
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let address = Address::from_request_parts(parts, app).await?;
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        let token = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token = token.ok_or_else(|| {
            Problem::unauthorised("send the header `Authorization: Bearer ACCESS_TOKEN`")
        })?;
        let identity = app.keys.verify(token, app.clock.now());
        let Identity { user, device } = identity.ok_or_else(|| {
            Problem::unauthorised("the access token is not valid or has expired; refresh it")
        })?;
        app.rates.request_of(user)?;
        let live = "SELECT 1 FROM devices WHERE user_id = $1 AND id = $2 AND ended_at = 0";
        let live = sqlx::query(live).bind(stored(user)).bind(i64::from(device.0));
        if live.fetch_optional(app.db.read()).await?.is_none() {
            return Err(Problem::unauthorised("this device was logged out; log in again"));
        }
        Ok(Self { user, device, address })
    }
}

impl OptionalFromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Option<Self>> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Ok(None);
        }
        <Self as FromRequestParts<App>>::from_request_parts(parts, app).await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_add_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 1.1.1.1".parse().unwrap());
        headers.append("x-forwarded-for", "2.2.2.2".parse().unwrap());
        let rows = [(0, None), (1, Some([2, 2, 2, 2])), (2, Some([1, 1, 1, 1])), (9, None)];
        for (proxies, expected) in rows {
            assert_eq!(told_by_proxies(&headers, proxies), expected.map(IpAddr::from), "{proxies}");
        }
    }

    #[test]
    fn a_customer_is_an_address_or_a_64() {
        let rows = [
            ("1.2.3.4", "1.2.3.4"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ];
        for (address, expected) in rows {
            let network = Address(address.parse().unwrap()).network();
            assert_eq!(network.to_string(), expected);
        }
    }
}
