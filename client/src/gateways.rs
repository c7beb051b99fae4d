//! Which gateways there are: a list that is asked for before each connection.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Deserialize;

use crate::address::{Address, AddressError};

/// Gateways that a list may name: a client tries a few, and a service that names more is mistaken.
pub const GATEWAYS_MAX: usize = 64;

/// How long a list is good for unless it says so.
const TTL_DEFAULT: Duration = Duration::from_secs(60);

/// The gateways that are recommended to this client, the best first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayList {
    gateways: Vec<Gateway>,
    ttl: Duration,
}

/// One gateway of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// Where it is.
    pub address: Address,
    /// Where that is in the world; empty if nobody said.
    pub region: String,
}

/// No list of gateways could be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Not the JSON of a list.
    #[error("the list of gateways is not {{\"gateways\":[{{\"url\":..}}],\"ttl_seconds\":n}}: {0}")]
    Json(String),
    /// One of the addresses is none.
    #[error("the list of gateways: {0}")]
    Address(#[from] AddressError),
    /// The list is empty.
    #[error("the list of gateways is empty: there is nowhere to connect to just now")]
    Empty,
    /// The list is too long.
    #[error("the list names {0} gateways; {GATEWAYS_MAX} are the limit")]
    TooMany(usize),
    /// Whoever should tell could not be asked.
    #[error("cannot ask for the gateways: {0}")]
    Unreachable(String),
}

/// What [`Gateways::list`] gives.
pub type Listing<'a> =
    Pin<Box<dyn Future<Output = Result<GatewayList, DiscoveryError>> + Send + 'a>>;

/// Whoever knows the gateways. [`StaticGateways`] is a list that never changes.
pub trait Gateways: Send + Sync {
    /// The gateways that are recommended now. Asked for before a connection, unless the last answer
    /// is good still.
    fn list(&self) -> Listing<'_>;
}

/// A list that was made once.
#[derive(Clone, Debug)]
pub struct StaticGateways(GatewayList);

impl GatewayList {
    /// The list of these addresses, good for `ttl`.
    ///
    /// # Errors
    /// No address, too many, or one that is none.
    pub fn new<'a>(
        addresses: impl IntoIterator<Item = &'a str>,
        ttl: Duration,
    ) -> Result<Self, DiscoveryError> {
        let gateway =
            |text: &str| Ok(Gateway { address: Address::parse(text)?, region: String::new() });
        let gateways = addresses.into_iter().map(gateway).collect::<Result<Vec<_>, _>>();
        Self::checked(gateways.map_err(DiscoveryError::Address)?, ttl)
    }

    /// Reads the JSON that `GET /v1/gateways` answers with. Keys that are not known are ignored.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, DiscoveryError> {
        #[derive(Deserialize)]
        struct List {
            gateways: Vec<Entry>,
            ttl_seconds: Option<u32>,
        }
        #[derive(Deserialize)]
        struct Entry {
            url: String,
            #[serde(default)]
            region: String,
        }
        let list: List = serde_json::from_slice(json)
            .map_err(|error| DiscoveryError::Json(error.to_string()))?;
        let gateway =
            |Entry { url, region }| Ok(Gateway { address: Address::parse(&url)?, region });
        let gateways = list.gateways.into_iter().map(gateway).collect::<Result<Vec<_>, _>>();
        let ttl = list.ttl_seconds.map_or(TTL_DEFAULT, |ttl| Duration::from_secs(ttl.into()));
        Self::checked(gateways.map_err(DiscoveryError::Address)?, ttl)
    }

    fn checked(gateways: Vec<Gateway>, ttl: Duration) -> Result<Self, DiscoveryError> {
        match gateways.len() {
            0 => Err(DiscoveryError::Empty),
            1..=GATEWAYS_MAX => Ok(Self { gateways, ttl }),
            count => Err(DiscoveryError::TooMany(count)),
        }
    }

    /// The gateway for this attempt, counted from 0 since the last one that succeeded: those that
    /// failed are not tried again before the others.
    #[must_use]
    pub fn choose(&self, attempt: u32) -> &Gateway {
        &self.gateways[attempt as usize % self.gateways.len()]
    }

    /// How long it is good for.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }
}

impl StaticGateways {
    /// A list of these addresses, the best first.
    ///
    /// # Errors
    /// No address, too many, or one that is none.
    pub fn new<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Result<Self, DiscoveryError> {
        GatewayList::new(addresses, Duration::MAX).map(Self)
    }
}

impl Gateways for StaticGateways {
    fn list(&self) -> Listing<'_> {
        let list = self.0.clone();
        Box::pin(async { Ok(list) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_from_json_or_refused_with_what_is_wrong() {
        let many: Vec<_> = (0..=GATEWAYS_MAX).map(|_| r#"{"url":"ws://a"}"#).collect();
        let many = format!(r#"{{"gateways":[{}]}}"#, many.join(","));
        let rows = [
            (r#"{"gateways":[{"url":"ws://a:1","region":"eu"}],"ttl_seconds":9,"x":1}"#, ""),
            (r#"{"gateways":[]}"#, "empty"),
            (r#"{"gateways":[{"url":"http://a"}]}"#, "begins with ws://"),
            (r#"{"gateways":[{"region":"eu"}]}"#, "missing field `url`"),
            ("no", "not {\"gateways\""),
            (&many, "65 gateways"),
        ];
        for (json, words) in rows {
            match GatewayList::from_json(json.as_bytes()) {
                Ok(list) => {
                    assert_eq!(words, "", "{json}");
                    assert_eq!(list.ttl(), Duration::from_secs(9));
                    assert_eq!(list.choose(0).region, "eu");
                }
                Err(error) => {
                    assert!(!words.is_empty() && error.to_string().contains(words), "{error}");
                }
            }
        }
    }

    #[test]
    fn attempts_go_round_the_list() {
        let list = GatewayList::new(["ws://a", "ws://b"], Duration::ZERO).unwrap();
        let hosts = [0, 1, 2].map(|attempt| &*list.choose(attempt).address.host);
        assert_eq!(hosts, ["a", "b", "a"]);
    }
}
