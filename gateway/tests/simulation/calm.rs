//! When faults stop, everything owed arrives: within so many ticks, each of so many steps.

use wire::InboxSeq;
use wire::client::{CursorAck, Ping};

use crate::device::{Fate, Request};
use crate::faults::TICK_STEPS_MAX;
use crate::sim::host::Host;
use crate::world::{Faults, World};

/// Ticks in which everything must have arrived: sessions that do not read are closed after 100.
const TICKS_MAX: usize = 4000;

/// Rounds in which every device is heard, whatever sessions end of their silence.
const ROUNDS_MAX: usize = 10;

/// Mails that a device transmits in one tick.
const MAILS_PER_TICK: usize = 4;

impl World {
    /// All faults stop; fails unless everything owed arrives.
    pub(crate) fn calm(&mut self) {
        self.heal();
        self.is_calm = true;
        self.come_to_rest();
        self.trace.note(|| "  calm".to_owned());
        self.trace.count(|stats| stats.calms += 1);
        self.check_views();
        let mut all_heard = self.acknowledge_all();
        for _ in 1..ROUNDS_MAX {
            if all_heard {
                break;
            }
            self.come_to_rest();
            all_heard = self.acknowledge_all();
        }
        assert!(all_heard, "liveness: in {ROUNDS_MAX} rounds some session always ended");
        self.check_cursors();
        self.is_calm = false;
        // A ticket that was given while the clock was wrong may be expired or not valid yet.
        self.faults = Faults { wall_clock: self.faults.wall_clock, ..Faults::default() };
    }

    /// Ticks until everything has arrived.
    fn come_to_rest(&mut self) {
        let mut owed = Vec::new();
        for _ in 0..TICKS_MAX {
            self.take_care();
            self.host.begin_tick();
            let taken = self.take_steps(TICK_STEPS_MAX);
            assert!(taken < TICK_STEPS_MAX, "liveness: no rest within a tick");
            owed = self.owed();
            if owed.is_empty() {
                return;
            }
        }
        panic!("liveness: after {TICKS_MAX} ticks {owed:?}");
    }

    /// Connects who is not connected, and sends what was not answered.
    fn take_care(&mut self) {
        for device in 0..self.devices.len() {
            let Some(client) = self.devices[device].client else {
                self.comes_back(device);
                continue;
            };
            let session = self.sessions.get(&client);
            if session.is_none_or(|session| session.welcomed.is_none()) {
                continue;
            }
            let quiet = &mut self.devices[device].quiet_ticks;
            *quiet = quiet.saturating_sub(1);
            if *quiet > 0 {
                continue;
            }
            let open = self.devices[device]
                .outbox
                .iter()
                .enumerate()
                .filter(|(_, mail)| mail.fate == Fate::Open && mail.waits_on.is_none());
            let open: Vec<(usize, bool)> =
                open.take(MAILS_PER_TICK).map(|(index, mail)| (index, mail.was_sent)).collect();
            for (index, was_sent) in open {
                self.transmit(device, index, was_sent);
            }
        }
    }

    /// What has not arrived.
    fn owed(&mut self) -> Vec<String> {
        let mut owed = Vec::new();
        for device in &self.devices {
            let name = format!("{}.{}", device.user, device.id);
            for mail in &device.outbox {
                if mail.fate == Fate::Open {
                    owed.push(format!("{name}: {:?} {} is open", mail.channel, mail.nonce));
                }
            }
            let session = device.client.and_then(|client| self.sessions.get(&client));
            match session.and_then(|session| session.welcomed) {
                None => owed.push(format!("{name} has no session")),
                Some(welcomed) if !welcomed.is_caught_up => {
                    owed.push(format!("{name} is at {}", welcomed.next));
                }
                Some(_) => {}
            }
            let requests = session.into_iter().flat_map(|session| session.requests.values());
            owed.extend(requests.map(|request| format!("{name}: {request:?} is not answered")));
        }
        for core in 0..self.host.cores() {
            let held = self.host.holdings(core);
            let counts = [
                held.window,
                held.open_bytes,
                held.batches_in_flight + held.batches_refused,
                usize::try_from(held.fans_outstanding).expect("bounded"),
                held.owed,
                held.queue_bytes.1,
                held.posts_in_flight.1,
                held.reads_in_flight.1,
                held.stalled.0,
                held.asked.0 + held.asked.1,
                held.catch_ups.0 + held.catch_ups.1,
                held.in_line,
                held.connections - held.sessions.0, // They are ending; their clients shall know.
                held.blocks_out,
            ];
            if counts.iter().any(|count| *count > 0) {
                owed.push(format!("core {core}: {held:?}"));
            }
        }
        owed
    }

    /// Every device has been told of its inbox to the end.
    fn check_views(&mut self) {
        self.check_what_is_left();
        for device in &self.devices {
            let session = device.client.and_then(|client| self.sessions.get(&client));
            let next = session.and_then(|session| session.welcomed).expect("looked at").next;
            let told = InboxSeq::new(next.get() - 1);
            let head = self.host.head_if_recovered(device.user);
            let name = format!("{}.{}", device.user, device.id);
            assert_eq!(told, head, "liveness: {name} heard to {told} of {head}");
        }
    }

    /// Every device acknowledges what it has. Tells whether all were heard: a session that ends of
    /// its silence meanwhile was not.
    fn acknowledge_all(&mut self) -> bool {
        let clients: Vec<Option<usize>> = self.devices.iter().map(|it| it.client).collect();
        for (device, client) in clients.iter().enumerate() {
            let client = client.expect("looked at");
            let inbox_seq = self.devices[device].cursor;
            let known = &mut self.devices[device].acknowledged;
            *known = (*known).max(inbox_seq);
            self.host.say(client, CursorAck { inbox_seq });
            self.ask(device, Ping { opaque: 2 }, Request::Ping);
        }
        self.settle();
        // A rate that is exceeded may end a session again and again.
        if self.has_rates() {
            return true;
        }
        if self.devices.iter().map(|it| it.client).ne(clients) {
            return false;
        }
        for (device, it) in self.devices.iter().enumerate() {
            let session = &self.sessions[&it.client.expect("as before")];
            let is_answered = session.requests.is_empty() || session.closed == Some(4408);
            assert!(is_answered, "liveness: a ping of {device} is not answered");
            if session.closed.is_some() {
                return false;
            }
        }
        true
    }

    /// Whether devices may send too much.
    const fn has_rates(&self) -> bool {
        self.host.setup.limits.told.frames_per_second_max < 1000
    }

    /// What devices acknowledged is stored when they go.
    fn check_cursors(&mut self) {
        let clients: Vec<usize> = self.sessions.keys().copied().collect();
        for client in clients {
            self.host.cut(client);
            if let Some(session) = self.sessions.remove(&client) {
                self.devices[session.device].loses(client);
            }
        }
        self.settle();
        for device in self.devices.iter().filter(|_| !self.has_rates()) {
            let (user, id) = (device.user, device.id);
            let stored = self.host.disk.inbox_state(user).1;
            let stored = stored.iter().find(|(of, _)| *of == id).map(|(_, cursor)| *cursor);
            let stored = stored.unwrap_or(InboxSeq::ZERO);
            assert_eq!(stored, device.acknowledged, "durable: the cursor of {user}.{id}");
        }
        for core in 0..self.host.cores() {
            let held = self.host.holdings(core);
            assert_eq!((held.connections, held.blocks_out), (0, 0), "bounds: core {core} {held:?}");
        }
    }

    /// A few ticks, in which everything that can happen does.
    fn settle(&mut self) {
        for _ in 0..5 {
            self.host.begin_tick();
            let taken = self.take_steps(TICK_STEPS_MAX);
            assert!(taken < TICK_STEPS_MAX, "liveness: no rest within a tick");
        }
    }
}

impl Host {
    /// The end of a user's inbox, as a restart would find it now.
    fn head_if_recovered(&self, user: wire::UserId) -> InboxSeq {
        crate::sim::disk::inbox_state(&self.disk.what_if(), user).0
    }
}
