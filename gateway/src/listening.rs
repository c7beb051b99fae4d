//! How the reactor listens to connections that are received from until further notice.
//!
//! An armed multishot receive keeps some 870 bytes of kernel memory for each connection, an armed
//! poll 260 (docs/decisions, 0010). So a quiet connection is polled, and received from once when
//! it has something to say; one that speaks again within a second is received from by multishot,
//! until it has been quiet for a while. A core knows nothing of this: it is handed what came.
//!
//! ```text
//!            begin                ready, quiet              received
//!  Nothing --------> Polled --------------------> Reading ------------> Polled
//!                      |  ready again within a second
//!                      +---------------------------> Streaming --quiet--> Calming --> Polled
//!  any --stop--> Stopping --> Nothing
//! ```

use router::sessions::ConnId;

use crate::wheel::Tick;

/// Who has spoken so many ticks ago or less is received from by multishot: a second.
const LIVELY_TICKS: u32 = 20;

/// Who has not spoken for so many ticks is polled: ten seconds.
const QUIET_TICKS: u32 = 200;

/// Ticks in which all connections are looked at, a share in each.
const SWEEP_TICKS: usize = 100;

/// What is to be submitted for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// A poll.
    Poll,
    /// A receive of what is there.
    ReceiveOnce,
    /// A multishot receive.
    ReceiveMany,
    /// The end of the poll.
    CancelPoll,
    /// The end of the receive.
    CancelReceive,
}

/// What a completion means for the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// Nothing: it is listened to in another way, if there is something to submit.
    Goes(Option<Ask>),
    /// It is not received from any more, as was wanted.
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Way {
    /// Nothing of ours: not received from, or once.
    #[default]
    Nothing,
    Polled,
    Reading,
    Streaming,
    /// The multishot receive is being cancelled, to be polled.
    Calming,
    Stopping,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ear {
    generation: u32,
    /// When it last spoke; `None` if it has not yet.
    heard: Option<Tick>,
    way: Way,
}

/// See the module's documentation: one entry for each slot of the table, 16 bytes.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    ears: Vec<Ear>,
    swept: usize,
}

impl Listening {
    /// A connection is to be received from until further notice.
    pub(crate) fn begin(&mut self, conn: ConnId) -> Ask {
        let index = conn.slot as usize;
        if index >= self.ears.len() {
            self.ears.resize(index + 1, Ear::default());
        }
        let ear = &mut self.ears[index];
        // The same connection goes on after it was stopped: it has not become quiet by that.
        let heard = ear.heard.filter(|_| ear.generation == conn.generation);
        *ear = Ear { generation: conn.generation, heard, way: Way::Polled };
        Ask::Poll
    }

    /// It is to be received from no more; what ends that.
    pub(crate) fn stop(&mut self, conn: ConnId) -> Ask {
        let Some(ear) = self.get(conn) else { return Ask::CancelReceive };
        let ask = if ear.way == Way::Polled { Ask::CancelPoll } else { Ask::CancelReceive };
        if ear.way != Way::Nothing {
            ear.way = Way::Stopping;
        }
        ask
    }

    /// Its connection ends; what ends the listening.
    pub(crate) fn end(&mut self, conn: ConnId) -> Ask {
        let ask = self.stop(conn);
        if let Some(ear) = self.get(conn) {
            ear.way = Way::Nothing;
        }
        ask
    }

    /// The poll says that there is something to receive.
    pub(crate) fn ready(&mut self, conn: ConnId, now: Tick) -> News {
        let Some(ear) = self.get(conn) else { return News::Goes(None) };
        match ear.way {
            Way::Polled => {
                let before = ear.heard.replace(now);
                let is_lively = before.is_some_and(|heard| now <= heard.plus(LIVELY_TICKS));
                let (way, ask) = if is_lively {
                    (Way::Streaming, Ask::ReceiveMany)
                } else {
                    (Way::Reading, Ask::ReceiveOnce)
                };
                ear.way = way;
                News::Goes(Some(ask))
            }
            Way::Stopping => {
                ear.way = Way::Nothing;
                News::Stopped
            }
            Way::Nothing | Way::Reading | Way::Streaming | Way::Calming => News::Goes(None),
        }
    }

    /// Something was received. Tells what to submit, and whether the core will be handed more.
    pub(crate) fn received(&mut self, conn: ConnId, armed: bool, now: Tick) -> (bool, Option<Ask>) {
        let Some(ear) = self.get(conn) else { return (armed, None) };
        ear.heard = Some(now);
        match ear.way {
            Way::Nothing => (armed, None),
            Way::Stopping => {
                if !armed {
                    ear.way = Way::Nothing;
                }
                (armed, None)
            }
            Way::Polled | Way::Reading | Way::Streaming | Way::Calming if armed => (true, None),
            Way::Polled | Way::Reading | Way::Streaming | Way::Calming => {
                ear.way = Way::Polled;
                (true, Some(Ask::Poll))
            }
        }
    }

    /// The poll or the receive was cancelled.
    pub(crate) fn cancelled(&mut self, conn: ConnId) -> News {
        let Some(ear) = self.get(conn) else { return News::Stopped };
        match ear.way {
            Way::Calming => {
                ear.way = Way::Polled;
                News::Goes(Some(Ask::Poll))
            }
            // Of a connection that has ended the core knows nothing any more.
            Way::Nothing | Way::Stopping => {
                ear.way = Way::Nothing;
                News::Stopped
            }
            Way::Polled | Way::Reading | Way::Streaming => News::Goes(None),
        }
    }

    /// Once a tick: a share of the connections is looked at, and those that have become quiet are
    /// told to `calm`, which cancels their receive.
    pub(crate) fn sweep(&mut self, now: Tick, mut calm: impl FnMut(ConnId)) {
        let count = self.ears.len().div_ceil(SWEEP_TICKS);
        for _ in 0..count {
            self.swept = (self.swept + 1) % self.ears.len();
            let ear = &mut self.ears[self.swept];
            let is_quiet = ear.heard.is_none_or(|heard| heard.plus(QUIET_TICKS) <= now);
            if ear.way == Way::Streaming && is_quiet {
                ear.way = Way::Calming;
                let slot = u32::try_from(self.swept).expect("slots are 24 bits");
                calm(ConnId { slot, generation: ear.generation });
            }
        }
    }

    /// Bytes of the table.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.ears.len() * size_of::<Ear>()
    }

    fn get(&mut self, conn: ConnId) -> Option<&mut Ear> {
        self.ears.get_mut(conn.slot as usize).filter(|ear| ear.generation == conn.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId { slot: 3, generation: 7 };

    fn polled() -> Listening {
        let mut listening = Listening::default();
        assert_eq!(listening.begin(CONN), Ask::Poll);
        listening
    }

    fn streaming() -> Listening {
        let mut listening = polled();
        assert_eq!(listening.ready(CONN, Tick(100)), News::Goes(Some(Ask::ReceiveOnce)));
        assert_eq!(listening.received(CONN, false, Tick(100)), (true, Some(Ask::Poll)));
        assert_eq!(listening.ready(CONN, Tick(120)), News::Goes(Some(Ask::ReceiveMany)));
        assert_eq!(listening.received(CONN, true, Tick(121)), (true, None));
        listening
    }

    fn swept(listening: &mut Listening, now: u32) -> Vec<ConnId> {
        let mut calmed = Vec::new();
        for _ in 0..SWEEP_TICKS {
            listening.sweep(Tick(now), |conn| calmed.push(conn));
        }
        calmed
    }

    #[test]
    fn who_speaks_now_and_then_is_polled() {
        let mut listening = polled();
        for now in [100, 121, 142] {
            let ready = listening.ready(CONN, Tick(now));
            assert_eq!(ready, News::Goes(Some(Ask::ReceiveOnce)), "{now}");
            assert_eq!(listening.received(CONN, false, Tick(now)), (true, Some(Ask::Poll)));
        }
        assert_eq!(swept(&mut listening, 10_000), [], "it is polled already");
    }

    #[test]
    fn who_speaks_twice_in_a_second_is_received_from_until_she_is_quiet() {
        let mut listening = streaming();
        assert_eq!(swept(&mut listening, 320), []);
        assert_eq!(swept(&mut listening, 321), [CONN]);
        assert_eq!(swept(&mut listening, 322), [], "once");
        assert_eq!(listening.received(CONN, true, Tick(322)), (true, None), "it crossed");
        assert_eq!(listening.cancelled(CONN), News::Goes(Some(Ask::Poll)));
        assert_eq!(listening.ready(CONN, Tick(323)), News::Goes(Some(Ask::ReceiveMany)));
    }

    #[test]
    fn a_multishot_receive_that_ends_by_itself_is_followed_by_a_poll() {
        let mut listening = streaming();
        assert_eq!(listening.received(CONN, false, Tick(130)), (true, Some(Ask::Poll)));
        let mut listening = streaming();
        assert_eq!(swept(&mut listening, 321), [CONN]);
        assert_eq!(listening.received(CONN, false, Tick(322)), (true, Some(Ask::Poll)));
    }

    #[test]
    fn what_is_stopped_is_told_once_whatever_was_faster() {
        // Polled, and the cancellation or the poll came first.
        let mut listening = polled();
        assert_eq!(listening.stop(CONN), Ask::CancelPoll);
        assert_eq!(listening.cancelled(CONN), News::Stopped);
        assert_eq!(listening.ready(CONN, Tick(5)), News::Goes(None));
        let mut listening = polled();
        assert_eq!(listening.stop(CONN), Ask::CancelPoll);
        assert_eq!(listening.ready(CONN, Tick(5)), News::Stopped);
        // Received from, and the cancellation or the last bytes came first.
        let mut listening = streaming();
        assert_eq!(listening.stop(CONN), Ask::CancelReceive);
        assert_eq!(listening.received(CONN, true, Tick(130)), (true, None));
        assert_eq!(listening.cancelled(CONN), News::Stopped);
        let mut listening = streaming();
        assert_eq!(listening.stop(CONN), Ask::CancelReceive);
        assert_eq!(listening.received(CONN, false, Tick(130)), (false, None));
        assert_eq!(listening.begin(CONN), Ask::Poll, "and it can begin again");
    }

    #[test]
    fn a_stale_completion_is_not_taken_for_who_has_the_place_now() {
        let mut listening = streaming();
        assert_eq!(listening.end(CONN), Ask::CancelReceive);
        let next = ConnId { generation: 8, ..CONN };
        assert_eq!(listening.received(next, false, Tick(9)), (false, None), "its handshake");
        assert_eq!(listening.begin(next), Ask::Poll);
        assert_eq!(listening.ready(CONN, Tick(10)), News::Goes(None));
        assert_eq!(listening.received(CONN, true, Tick(10)), (true, None));
        assert_eq!(listening.cancelled(CONN), News::Stopped);
        assert_eq!(listening.ready(next, Tick(11)), News::Goes(Some(Ask::ReceiveOnce)));
    }
}
