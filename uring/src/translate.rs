//! From the kernel's completions to the caller's: one arm a kind.

use io_uring::cqueue;
use rustix::io::Errno;

use crate::completion::{Completion, Descriptor};
use crate::flights::Work;
use crate::ops;
use crate::ring::Ring;
use crate::token::{Kind, Token, UserData};

impl Ring {
    /// The next thing that happened, without entering the kernel; `None` when the caller has seen
    /// everything and should [`Ring::submit_and_wait`].
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.uring_mut().completion().next()?;
            self.stats.completions += 1;
            let user_data = UserData(entry.user_data());
            let kind = user_data.kind();
            let kind = kind.expect("only this crate's rings post here, and they know the kinds");
            let more = cqueue::more(entry.flags());
            if kind.is_counted() && !more {
                self.in_flight -= 1;
            }
            let completion =
                self.translate(kind, user_data, outcome(entry.result()), entry.flags());
            if completion.is_some() {
                return completion;
            }
        }
    }

    /// Whether [`Ring::next_completion`] has something to look at.
    pub fn is_ready(&mut self) -> bool {
        !self.uring_mut().completion().is_empty()
    }

    fn translate(
        &mut self,
        kind: Kind,
        user_data: UserData,
        result: Result<u32, Errno>,
        flags: u32,
    ) -> Option<Completion> {
        let token = user_data.token();
        let armed = cqueue::more(flags);
        let completion = match kind {
            Kind::Accept => self.accepted(token, result, armed),
            Kind::Receive => self.received(token, result, flags),
            Kind::Poll => match result {
                Ok(events) => {
                    let hung_up = events & u32::from(HANG_UP.unsigned_abs()) != 0;
                    Completion::Ready { token, armed, hung_up }
                }
                Err(errno) => Completion::PollFailed { token, errno },
            },
            Kind::Send => {
                let flight = self.flights.find(user_data);
                let (token, work) = self.flights.remove(flight);
                let Work::Send(bytes) = work else { unreachable!("a send was submitted as one") };
                Completion::Sent { token, bytes, result }
            }
            Kind::Connect => return self.connected(user_data, result),
            Kind::Close => Completion::Closed { token, result: result.map(drop) },
            Kind::Shutdown => Completion::ShutDown { token, result: result.map(drop) },
            // ENOENT and EALREADY: nothing, or nothing any more, to cancel.
            Kind::Cancel => Completion::Cancelled { token, count: result.unwrap_or(0) },
            Kind::Pass => Completion::Passed { token, result: result.map(Descriptor) },
            Kind::PeerWake => Completion::Woken,
            Kind::Wake => {
                if !armed && !self.closing {
                    self.arm_waker();
                }
                Completion::Woken
            }
            Kind::WakeFailed | Kind::DiscardFailed => {
                self.stats.failures += 1;
                return None;
            }
            Kind::Teardown => return None,
        };
        Some(completion)
    }

    fn accepted(&mut self, token: Token, result: Result<u32, Errno>, armed: bool) -> Completion {
        match result {
            Ok(index) => Completion::Accepted { token, descriptor: Descriptor(index), armed },
            Err(errno) => {
                if errno == Errno::CANCELED {
                    self.listeners.retain(|(listener, _)| *listener != token);
                }
                Completion::AcceptFailed { token, errno }
            }
        }
    }

    fn received(&mut self, token: Token, result: Result<u32, Errno>, flags: u32) -> Completion {
        let index = cqueue::buffer_select(flags);
        match (result, index) {
            (Ok(length @ 1..), Some(index)) => Completion::Received {
                token,
                buffer: self.buffers_mut().lend(index, length),
                armed: cqueue::more(flags),
                more_waiting: cqueue::sock_nonempty(flags),
            },
            (result, index) => {
                // Some kernels take a buffer even for the end of a stream.
                if let Some(index) = index {
                    self.buffers_mut().return_unused(index);
                }
                match result {
                    Ok(length) => {
                        assert!(length == 0, "{length} bytes were received into no buffer");
                        Completion::EndOfStream { token }
                    }
                    Err(Errno::NOBUFS) => {
                        self.stats.buffers_exhausted += 1;
                        Completion::BuffersExhausted { token }
                    }
                    Err(errno) => Completion::ReceiveFailed { token, errno },
                }
            }
        }
    }

    /// A step of a connect: `None` if the next one was submitted.
    fn connected(&mut self, id: UserData, result: Result<u32, Errno>) -> Option<Completion> {
        let flight = self.flights.find(id);
        let (token, work) = (self.flights.token(flight), self.flights.work(flight));
        let (errno, opened) = match (work, result) {
            (Work::Send(_), _) => unreachable!("a connect was submitted as one"),
            (Work::Open(_), Ok(index)) => {
                let descriptor = Descriptor(index);
                if self.go_on_connecting(flight, descriptor) {
                    return None;
                }
                (Errno::AGAIN, Some(descriptor))
            }
            (Work::Open(_), Err(errno)) => (errno, None),
            (Work::Connect(descriptor, _), Ok(_)) => {
                let descriptor = *descriptor;
                self.flights.remove(flight);
                return Some(Completion::Connected { token, descriptor });
            }
            (Work::Connect(descriptor, _), Err(errno)) => (errno, Some(*descriptor)),
        };
        self.flights.remove(flight);
        if let Some(descriptor) = opened {
            self.push(Kind::DiscardFailed, ops::discard(descriptor));
        }
        Some(Completion::ConnectFailed { token, errno })
    }

    /// The socket is there: binds and connects it. `false` if the kernel takes no submissions.
    fn go_on_connecting(&mut self, flight: u32, descriptor: Descriptor) -> bool {
        if self.closing {
            return false;
        }
        let id = self.flights.user_data(Kind::Connect, flight);
        let Work::Open(route) = self.flights.work(flight) else { return false };
        let chain = ops::connect(descriptor, route, id);
        self.push_chain(&chain) && self.flights.connect(flight, descriptor)
    }
}

const HANG_UP: i16 = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;

/// The kernel's convention: what is negative is an errno.
const fn outcome(result: i32) -> Result<u32, Errno> {
    if result < 0 { Err(Errno::from_raw_os_error(-result)) } else { Ok(result.unsigned_abs()) }
}
