//! Where a gateway is: `ws://host:port/path`.

/// What is asked for if the address has no path.
const PATH_DEFAULT: &str = "/v1/ws";

/// The port of `ws` (RFC 6455 section 3).
const PORT_DEFAULT: u16 = 80;

/// A checked address of a gateway.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// Where to connect to: a name or an address of IP, without brackets.
    pub name: String,
    /// Not 0.
    pub port: u16,
    /// For `Host`: name and port as they stood in the address.
    pub host: String,
    /// Path and query; begins with `/`.
    pub path: String,
}

/// Why a text is not an address of a gateway.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Not `ws://`.
    #[error("{0}: an address of a gateway begins with ws://, as in ws://host:port/path")]
    Scheme(String),
    /// TLS.
    #[error("{0}: wss is not spoken by this client yet; name the plain port, or a local proxy's")]
    Tls(String),
    /// No host.
    #[error("{0}: has no host; write ws://host:port/path")]
    Host(String),
    /// Not a port.
    #[error("{0}: the port must be a number from 1 to 65535")]
    Port(String),
    /// Characters that a request line cannot hold.
    #[error("{0}: may hold printable ASCII only, and no # and no space")]
    Characters(String),
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let whole = || text.to_owned();
        if text.starts_with("wss://") {
            return Err(AddressError::Tls(whole()));
        }
        let rest = text.strip_prefix("ws://").ok_or_else(|| AddressError::Scheme(whole()))?;
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
            return Err(AddressError::Characters(whole()));
        }
        let (host, path) = match rest.find(['/', '?']) {
            Some(end) => rest.split_at(end),
            None => (rest, PATH_DEFAULT),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (name, port) = split_port(host).ok_or_else(|| AddressError::Port(whole()))?;
        if name.is_empty() {
            return Err(AddressError::Host(whole()));
        }
        Ok(Self { name: name.to_owned(), port, host: host.to_owned(), path })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_or_refused_with_what_is_wrong() {
        let rows = [
            ("ws://a", Ok(("a", 80, "a", "/v1/ws"))),
            ("ws://a:7700", Ok(("a", 7700, "a:7700", "/v1/ws"))),
            ("ws://127.0.0.1:1/x?y", Ok(("127.0.0.1", 1, "127.0.0.1:1", "/x?y"))),
            ("ws://[::1]:7/", Ok(("::1", 7, "[::1]:7", "/"))),
            ("ws://a?b", Ok(("a", 80, "a", "/?b"))),
            ("http://a", Err("begins with ws://")),
            ("wss://a", Err("not spoken")),
            ("ws://", Err("no host")),
            ("ws://:80", Err("no host")),
            ("ws://a:0", Err("from 1 to 65535")),
            ("ws://a:x", Err("from 1 to 65535")),
            ("ws://a b", Err("printable")),
            ("ws://a/#b", Err("printable")),
        ];
        for (text, expected) in rows {
            match (Address::parse(text), expected) {
                (Ok(read), Ok((name, port, host, path))) => {
                    let read = (&*read.name, read.port, &*read.host, &*read.path);
                    assert_eq!(read, (name, port, host, path), "{text}");
                }
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
    }
}
