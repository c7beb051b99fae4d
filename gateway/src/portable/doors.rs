//! The listening sockets of one core.

use std::future::Future;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::SocketFlags;

/// One listening socket.
pub(super) struct Door {
    listener: TcpListener,
    /// The same one, as monoio watches it.
    watch: monoio::net::TcpListener,
    waker: Waker,
    /// There was no room when it was opened last.
    pub(super) is_paused: bool,
    /// Accepted, but it could not be given a second descriptor yet.
    waiting: Option<TcpStream>,
}

/// Whether somebody is at the door.
pub(super) enum Came {
    /// The socket, and a second descriptor of it if one was asked for.
    In(TcpStream, Option<TcpStream>),
    /// Nobody: the door knocks when somebody does.
    Nobody,
    /// The process or the host has no descriptors or memory left. Who is at the door stays there.
    NoRoom(io::Error),
}

impl Door {
    /// `waker` knocks when somebody is there.
    ///
    /// # Errors
    /// There is no descriptor left, or the kernel cannot watch it.
    pub(super) fn new(listener: TcpListener, waker: Waker) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let watch = monoio::net::TcpListener::from_std(listener.try_clone()?)?;
        Ok(Self { listener, watch, waker, is_paused: false, waiting: None })
    }

    /// Lets one in.
    pub(super) fn accept(&mut self, with_second: bool) -> Came {
        loop {
            let stream = match self.waiting.take() {
                Some(stream) => stream,
                None => match self.accept_one() {
                    Ok(stream) => stream,
                    Err(Errno::AGAIN) if self.is_watched() => return Came::Nobody,
                    // Somebody came just now; or was there and has gone.
                    Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => continue,
                    Err(errno) => return Came::NoRoom(errno.into()),
                },
            };
            if !with_second {
                return Came::In(stream, None);
            }
            return match stream.try_clone() {
                Ok(second) => Came::In(stream, Some(second)),
                Err(error) => {
                    self.waiting = Some(stream);
                    Came::NoRoom(error)
                }
            };
        }
    }

    fn accept_one(&self) -> Result<TcpStream, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        rustix::net::accept_with(&self.listener, flags).map(TcpStream::from)
    }

    /// Whether the door will knock: it does not while somebody is there.
    fn is_watched(&self) -> bool {
        is_watched(self.watch.readable(false), &self.waker)
    }
}

/// Whether `readable` waits, and so has left `waker` behind.
pub(super) fn is_watched(readable: impl Future<Output = io::Result<()>>, waker: &Waker) -> bool {
    // Dropping it afterwards leaves the waker where it is.
    let mut context = Context::from_waker(waker);
    matches!(pin!(readable).as_mut().poll(&mut context), Poll::Pending)
}
