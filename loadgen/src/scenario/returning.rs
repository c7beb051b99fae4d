//! Sessions that hang up all at once and come back from an old cursor, with messages waiting for
//! them behind it.
//!
//! The messages are made before the clock starts: the sessions stand in pairs, and each posts some
//! to the other. A session then comes back with the cursor it had before them, as a device that has
//! kept nothing since, so that everything has to be read for it. What must come is known: every
//! place behind the cursor, once and in order, with the bodies that were posted.

use anyhow::{Result, bail};
use wire::client::Post;
use wire::{ChannelId, Deliver, Event, InboxSeq, Nonce, UserId};

use super::{Progress, Script, Traffic};
use crate::client::News;
use crate::clock::Nanos;
use crate::engine::Desk;
use crate::oracle::Findings;
use crate::stamp::{self, STAMP_BYTES, Stamp};

/// Posts that wait for their answer while the messages are made, of one thread.
const POSTS_IN_FLIGHT_MAX: u64 = 512;

/// What one thread is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReturningOptions {
    /// Sessions; even, if messages wait for them.
    pub(crate) sessions: u32,
    /// Messages from the other of its pair that wait for each.
    pub(crate) waiting: u32,
    /// The user of the first session.
    pub(crate) first_user: u64,
    /// Names the run in bodies and nonces.
    pub(crate) run: u32,
}

/// What is kept of a session.
#[derive(Clone, Copy, Debug, Default)]
struct Device {
    /// The cursor with which it comes back.
    base: InboxSeq,
    /// The last place that has come, in order.
    seen: InboxSeq,
    posted: u32,
    is_away: bool,
    is_gone: bool,
}

/// See the module's documentation.
pub(crate) struct Returning {
    options: ReturningOptions,
    devices: Vec<Device>,
    body: Vec<u8>,
    /// The next message to be posted: of session `next / waiting`.
    next: u64,
    answered: u64,
    /// Sessions that have received everything that was made for them.
    ready: u32,
    findings: Findings,
    failure: Option<String>,
    delivered: u64,
}

impl Returning {
    /// Nothing has happened yet.
    pub(crate) fn new(options: ReturningOptions) -> Self {
        Self {
            devices: vec![Device::default(); options.sessions as usize],
            body: stamp::blank(STAMP_BYTES),
            next: 0,
            answered: 0,
            ready: if options.waiting == 0 { options.sessions } else { 0 },
            findings: Findings::default(),
            failure: None,
            delivered: 0,
            options,
        }
    }

    /// Entries that wait for each: its own messages stand in its inbox, too.
    fn waiting(&self) -> u64 {
        2 * u64::from(self.options.waiting)
    }

    fn user(&self, session: u32) -> UserId {
        let number = self.options.first_user + u64::from(session);
        UserId::new(number).expect("users are numbered from 1")
    }

    /// Takes an entry. Tells whether it was the last of those behind the cursor of a session that
    /// was away.
    fn handle_delivered(&mut self, session: u32, deliver: &Deliver<'_>) -> bool {
        self.check_body(session, deliver);
        let waiting = self.waiting();
        let device = &mut self.devices[session as usize];
        let place = deliver.inbox_seq;
        if place <= device.seen {
            self.findings.duplicated += 1;
            return false;
        }
        self.findings.gaps += place.get() - device.seen.get() - 1;
        device.seen = place;
        self.delivered += 1;
        let is_whole = place.get() - device.base.get() >= waiting;
        if is_whole && !device.is_away && place.get() - device.base.get() == waiting {
            self.ready += 1;
        }
        is_whole && std::mem::take(&mut device.is_away)
    }

    /// A message must be one of the other's of the pair, or a copy of the session's own.
    fn check_body(&mut self, session: u32, deliver: &Deliver<'_>) {
        let Event::Message(message) = deliver.event else { return };
        let Some(body) = message.body else { return };
        let stamp = Stamp::read(body).filter(|_| stamp::is_intact(body, STAMP_BYTES));
        let (other, run) = (session ^ 1, self.options.run);
        let is_right = stamp.is_some_and(|stamp| {
            let is_of_pair = stamp.sender == other || stamp.sender == session;
            stamp.run == run && is_of_pair && self.user(stamp.sender) == message.sender
        });
        self.findings.altered += u64::from(!is_right);
    }

    fn post_next(&mut self, now: Nanos, desk: &mut Desk<'_>) -> Result<()> {
        let (session, number) = self.place_of(self.next);
        let channel = ChannelId::direct(self.user(session), self.user(session ^ 1));
        let run = self.options.run;
        Stamp { run, sender: session, number, intended: now, written: now }.write(&mut self.body);
        let nonce = Nonce(u64::from(run) << 32 | u64::from(number));
        let post = Post { channel, nonce, kind: 0, body: &self.body, retry: false };
        if !desk.send(session, now, post) {
            bail!("a session was lost before its messages were made");
        }
        self.devices[session as usize].posted += 1;
        self.next += 1;
        Ok(())
    }

    /// Which session posts the `index`th message, and which of its own that is.
    fn place_of(&self, index: u64) -> (u32, u32) {
        let waiting = u64::from(self.options.waiting);
        let part = |number: u64| u32::try_from(number).expect("fewer than sessions, or than a u32");
        (part(index / waiting), part(index % waiting))
    }
}

impl Script for Returning {
    fn needs_all(&self) -> bool {
        self.options.waiting > 0
    }

    fn hang_up(&mut self, session: u32) -> Option<InboxSeq> {
        let device = &mut self.devices[session as usize];
        (device.is_away, device.seen) = (true, device.base);
        Some(device.base)
    }

    fn is_away(&self, session: u32) -> bool {
        self.devices[session as usize].is_away
    }

    fn handle_news(&mut self, session: u32, news: &News<'_>, _now: Nanos) -> bool {
        let waiting = self.waiting();
        let device = &mut self.devices[session as usize];
        match news {
            News::Live(head, _) => (device.base, device.seen) = (*head, *head),
            // Everything behind the cursor follows; with nothing there it is where it was.
            News::Resumed => return waiting == 0 && std::mem::take(&mut device.is_away),
            News::Reset(_) => {
                self.findings.lost += waiting;
                device.is_gone = true;
                return std::mem::take(&mut device.is_away);
            }
            News::Posted(_) => self.answered += 1,
            News::Rejected(rejected) => {
                let (code, text) = (rejected.code.name(), rejected.text);
                self.failure = Some(format!("a message was refused: {code}: {text}"));
            }
            News::Delivered(deliver) => return self.handle_delivered(session, deliver),
            News::Ready(_) => {}
        }
        false
    }

    fn handle_ended(&mut self, session: u32) {
        self.devices[session as usize].is_gone = true;
    }

    fn prepare(&mut self, now: Nanos, desk: &mut Desk<'_>) -> Result<bool> {
        if let Some(failure) = &self.failure {
            bail!("{failure}");
        }
        let messages = u64::from(self.options.sessions) * u64::from(self.options.waiting);
        while self.next < messages && self.next - self.answered < POSTS_IN_FLIGHT_MAX {
            self.post_next(now, desk)?;
        }
        Ok(self.answered >= messages && self.ready >= self.options.sessions)
    }

    fn preparing(&self) -> String {
        let (ready, all) = (self.ready, self.options.sessions);
        format!("{} messages are answered, {ready} of {all} sessions have theirs", self.answered)
    }

    fn is_owed(&self) -> bool {
        self.devices.iter().any(|device| device.is_away && !device.is_gone)
    }

    fn progress(&mut self, _now: Nanos) -> Progress {
        Progress { delivered: std::mem::take(&mut self.delivered), ..Progress::default() }
    }

    fn finish(mut self) -> Option<Traffic> {
        let waiting = self.waiting();
        let live = self.devices.iter().filter(|device| !device.is_gone);
        self.findings.lost += live
            .map(|device| waiting.saturating_sub(device.seen.get() - device.base.get()))
            .sum::<u64>();
        (waiting > 0).then(|| Traffic { findings: self.findings, ..Traffic::default() })
    }
}
