//! Listening sockets. They stay ordinary descriptors; what they accept goes into the ring's table.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`. At the
    /// bound it drops the handshake and the client tries again.
    pub backlog: u16,
    /// Whether other sockets (one a core) listen on the same address, with the kernel spreading
    /// connections over them. All of them must ask for it.
    pub reuse_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, reuse_port: true }
    }
}

/// A TCP socket that listens.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Where it listens: with the port the kernel chose, if 0 was asked for.
    ///
    /// # Errors
    ///
    /// What `getsockname` says.
    pub fn local_address(&self) -> Result<SocketAddr, Errno> {
        SocketAddr::try_from(rustix::net::getsockname(&self.0)?)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        listener.0
    }
}

/// Opens a listening socket on `address` (port 0: the kernel chooses).
///
/// # Errors
///
/// What the kernel says: EADDRINUSE (another socket listens there without `reuse_port`),
/// EADDRNOTAVAIL (no such address on this host), EACCES (a port below 1024), EMFILE.
pub fn listen(address: SocketAddr, options: ListenOptions) -> Result<Listener, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A restart must not wait for the last run's connections in TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, options.reuse_port)?;
    // On Linux accepted sockets inherit it, which saves a call for each of them. Frames are written
    // whole, so there is nothing Nagle's algorithm could join.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, i32::from(options.backlog))?;
    Ok(Listener(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn accepted_sockets_inherit_no_delay_on_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(address.parse().unwrap(), ListenOptions::default()).unwrap();
            let target = listener.local_address().unwrap();
            assert_ne!(target.port(), 0);
            let _client = TcpStream::connect(target).unwrap();
            let (accepted, _) = TcpListener::from(OwnedFd::from(listener)).accept().unwrap();
            assert!(accepted.nodelay().unwrap(), "{address}");
        }
    }

    #[test]
    fn two_sockets_share_an_address_only_if_both_ask_for_it() {
        let shared = ListenOptions::default();
        let alone = ListenOptions { reuse_port: false, ..shared };
        for (first, second, expected) in
            [(shared, shared, None), (shared, alone, Some(Errno::ADDRINUSE))]
        {
            let one = listen("127.0.0.1:0".parse().unwrap(), first).unwrap();
            let other = listen(one.local_address().unwrap(), second);
            assert_eq!(other.err(), expected);
        }
    }
}
