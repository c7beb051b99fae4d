//! Where the server is: `ws://host:port/path`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use crate::scenario::Foreign;

/// What is asked for if the URL has no path.
const PATH_DEFAULT: &str = "/v1/ws";

/// The port of `ws` (RFC 6455 section 3).
const PORT_DEFAULT: u16 = 80;

/// Connections from one local address to one target. The kernel has some 28,000 ports for them by
/// default, of which those of an earlier run may still rest in TIME_WAIT. It tries every other one
/// first, one after the other: where more than half of those are taken it searches longer than it
/// connects (at 16,000 the search was two thirds of the generator's time).
pub(crate) const CONNECTIONS_PER_SOURCE: u32 = 8_000;

/// A checked URL with its address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    /// As it was given.
    pub(crate) url: String,
    /// For `Host`: as it stands in the URL.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// Where to connect to.
    pub(crate) address: SocketAddr,
    /// What is there, if it is not Mooring.
    pub(crate) foreign: Option<Arc<Foreign>>,
}

/// Why a URL is not one.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// Not `ws://`.
    #[error("{0}: begins with neither ws:// nor anything we speak; write ws://host:port/path")]
    Scheme(String),
    /// TLS.
    #[error("{0}: wss is not spoken here; point loadgen at the plain port behind the TLS proxy")]
    Tls(String),
    /// No host.
    #[error("{0}: has no host; write ws://host:port/path")]
    Host(String),
    /// Not a port.
    #[error("{0}: the port must be a number from 1 to 65535")]
    Port(String),
    /// Path or host with characters that a request line cannot hold.
    #[error("{0}: may hold printable ASCII only, and no # and no space")]
    Characters(String),
    /// The name has no address.
    #[error("{0}: the host name cannot be resolved")]
    Unknown(String),
}

impl Target {
    /// Reads a URL and resolves its host, an IPv4 address first.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub(crate) fn parse(url: &str) -> Result<Self, TargetError> {
        let whole = || url.to_owned();
        if url.starts_with("wss://") {
            return Err(TargetError::Tls(whole()));
        }
        let rest = url.strip_prefix("ws://").ok_or_else(|| TargetError::Scheme(whole()))?;
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
            return Err(TargetError::Characters(whole()));
        }
        let (host, path) = match rest.find(['/', '?']) {
            Some(end) => rest.split_at(end),
            None => (rest, PATH_DEFAULT),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (name, port) = split_port(host).ok_or_else(|| TargetError::Port(whole()))?;
        if name.is_empty() {
            return Err(TargetError::Host(whole()));
        }
        let address = resolve(name, port).ok_or_else(|| TargetError::Unknown(whole()))?;
        Ok(Self { url: whole(), host: host.to_owned(), path, address, foreign: None })
    }

    /// The local address of the `index`th connection to this target; `None`: the kernel's choice.
    /// On loopback every address of 127.0.0.0/8 is ours, so the number of connections is not
    /// bounded by the ports of one.
    pub(crate) fn source(&self, index: u32) -> Option<SocketAddr> {
        let is_loopback = matches!(self.address.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let number = index / CONNECTIONS_PER_SOURCE;
        if !is_loopback || number == 0 {
            return None;
        }
        // Not .0 and not .255, in any of the last two places that could look like a network.
        let [low, high] = [number % 254 + 1, number / 254 % 254 + 1];
        let [low, high] = [low, high].map(|part| u8::try_from(part).expect("from 1 to 254"));
        Some((Ipv4Addr::new(127, 0, high, low), 0).into())
    }
}

fn split_port(host: &str) -> Option<(&str, u16)> {
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (name, port) = match in_brackets {
        Some((name, "")) => (name, None),
        Some((name, rest)) => (name, Some(rest.strip_prefix(':')?)),
        None => match host.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    match port {
        None => Some((name, PORT_DEFAULT)),
        Some(port) => Some((name, port.parse().ok().filter(|port| *port > 0)?)),
    }
}

fn resolve(name: &str, port: u16) -> Option<SocketAddr> {
    let addresses: Vec<SocketAddr> = (name, port).to_socket_addrs().ok()?.collect();
    addresses.iter().find(|address| address.is_ipv4()).or_else(|| addresses.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let rows = [
            ("ws://127.0.0.1:4400/v1/ws", "127.0.0.1:4400", "/v1/ws", "127.0.0.1:4400"),
            ("ws://127.0.0.1:4400", "127.0.0.1:4400", "/v1/ws", "127.0.0.1:4400"),
            ("ws://127.0.0.1:4400/", "127.0.0.1:4400", "/", "127.0.0.1:4400"),
            ("ws://127.0.0.1/x?y=1", "127.0.0.1", "/x?y=1", "127.0.0.1:80"),
            ("ws://127.0.0.1?y=1", "127.0.0.1", "/?y=1", "127.0.0.1:80"),
            ("ws://[::1]:9/x", "[::1]:9", "/x", "[::1]:9"),
            ("ws://[::1]", "[::1]", "/v1/ws", "[::1]:80"),
        ];
        for (url, host, path, address) in rows {
            let target = Target::parse(url).unwrap();
            let found = (&*target.host, &*target.path, target.address.to_string());
            assert_eq!(found, (host, path, address.to_owned()), "{url}");
        }
    }

    #[test]
    fn what_is_not_a_url_is_refused_with_what_to_write() {
        let rows = [
            ("127.0.0.1:4400", "write ws://host:port/path"),
            ("http://127.0.0.1", "write ws://host:port/path"),
            ("wss://127.0.0.1", "wss is not spoken"),
            ("ws://", "has no host"),
            ("ws:///v1/ws", "has no host"),
            ("ws://127.0.0.1:0/", "from 1 to 65535"),
            ("ws://127.0.0.1:70000/", "from 1 to 65535"),
            ("ws://127.0.0.1:x", "from 1 to 65535"),
            ("ws://[::1]9", "from 1 to 65535"),
            ("ws://127.0.0.1/a b", "printable ASCII"),
            ("ws://127.0.0.1/#a", "printable ASCII"),
            ("ws://999.0.0.1.invalid:80/", "cannot be resolved"),
        ];
        for (url, expected) in rows {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.starts_with(url) && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn sources_change_before_the_ports_of_one_run_out_on_loopback_alone() {
        let source = |url: &str, index| {
            Target::parse(url).unwrap().source(index).map(|source| source.ip().to_string())
        };
        let here = "ws://127.0.0.1:1";
        let rows = [
            (here, 0, None),
            (here, CONNECTIONS_PER_SOURCE - 1, None),
            (here, CONNECTIONS_PER_SOURCE, Some("127.0.1.2")),
            (here, 253 * CONNECTIONS_PER_SOURCE, Some("127.0.1.254")),
            (here, 254 * CONNECTIONS_PER_SOURCE, Some("127.0.2.1")),
            ("ws://192.0.2.1:1", CONNECTIONS_PER_SOURCE, None),
            ("ws://[::1]:1", CONNECTIONS_PER_SOURCE, None),
        ];
        for (url, index, expected) in rows {
            assert_eq!(source(url, index).as_deref(), expected, "{url} {index}");
        }
    }
}
