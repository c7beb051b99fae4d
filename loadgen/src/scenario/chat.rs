//! Pairs and groups that talk at a given rate, with the oracle looking on.

mod again;

use std::time::Duration;

use anyhow::{Result, bail};
use wire::client::{ChannelCreate, Post};
use wire::server::{ChannelReady, Durability, Limits, Posted, Rejected};
use wire::{ChannelKind, Deliver, Event, Message, Nonce, Users};

use super::members::{Channel, Link, Member, Pending, assign};
use super::{LATE_AFTER, Progress, SLOT, Script, Traffic, Window};
use crate::client::News;
use crate::clock::Nanos;
use crate::engine::Desk;
use crate::histogram::Latencies;
use crate::oracle::{Named, Oracle, Verdict};
use crate::schedule::{Arrivals, Schedule};
use crate::stamp::{self, Stamp};
use again::Again;

/// Messages written in one turn of the loop, so that answers do not wait for a long backlog.
const BURST_MAX: u32 = 1024;

/// Groups that are asked for and not there yet.
const CREATES_IN_FLIGHT_MAX: usize = 128;

/// What one thread is to do.
#[derive(Clone, Debug)]
pub(crate) struct ChatOptions {
    /// Pairs on this thread; their sessions come first.
    pub(crate) pairs: u32,
    /// Groups on this thread.
    pub(crate) groups: u32,
    /// Sessions of each.
    pub(crate) group_size: u32,
    /// The user of this thread's first session.
    pub(crate) first_user: u64,
    /// Messages a second of this thread.
    pub(crate) rate: f64,
    /// How they are spread.
    pub(crate) arrivals: Arrivals,
    /// Of a body.
    pub(crate) bytes: usize,
    /// Beyond so many unanswered messages a session's next is dropped.
    pub(crate) unanswered_max: usize,
    /// Names the run in bodies and nonces.
    pub(crate) run: u32,
    /// For the schedule.
    pub(crate) seed: u64,
    /// Sessions that end come back.
    pub(crate) reconnects: bool,
    /// Not one of the sessions may be missing.
    pub(crate) needs_all: bool,
    /// Latencies over time are wanted.
    pub(crate) has_timeline: bool,
}

/// The script of `chat`.
pub(crate) struct Chat {
    options: ChatOptions,
    channels: Vec<Channel>,
    members: Vec<Member>,
    /// The next channel that may have to be made.
    creating: usize,
    ready: usize,
    failure: Option<String>,
    oracle: Oracle,
    schedule: Option<Schedule>,
    window: Window,
    body: Vec<u8>,
    /// Deliveries that answers have promised, less those that came.
    owed: i64,
    in_flight: u64,
    total: Traffic,
    second: Progress,
    second_deliver: Latencies,
    again: Again,
}

impl Chat {
    /// Nothing has happened yet.
    pub(crate) fn new(options: ChatOptions) -> Self {
        let ChatOptions { pairs, groups, group_size, first_user, .. } = options;
        let (channels, members) = assign(pairs, groups, group_size, first_user);
        let sizes = sizes(&channels);
        Self {
            oracle: Oracle::new(&sizes, options.reconnects),
            body: stamp::blank(options.bytes),
            creating: pairs as usize,
            ready: pairs as usize,
            failure: None,
            schedule: None,
            window: Window::default(),
            owed: 0,
            in_flight: 0,
            total: Traffic::default(),
            second: Progress::default(),
            second_deliver: Latencies::default(),
            again: Again::default(),
            channels,
            members,
            options,
        }
    }

    fn check_limits(&mut self, limits: &Limits) {
        let bytes = self.options.bytes;
        if bytes > limits.body_bytes_max as usize {
            let max = limits.body_bytes_max;
            self.failure = Some(format!("--size {bytes} is above this server's limit of {max}"));
        }
        let (size, max) = (self.options.group_size, limits.group_members_max);
        if self.options.groups > 0 && size > max {
            self.failure =
                Some(format!("--group-size {size} is above this server's limit of {max}"));
        }
    }

    fn handle_posted(&mut self, session: u32, posted: &Posted, now: Nanos) {
        let member = &mut self.members[session as usize];
        let Some(pending) = member.answered(posted.nonce) else {
            self.oracle.handle_answered_twice();
            return;
        };
        let channel = &self.channels[member.channel as usize];
        if channel.id != Some(posted.channel) {
            self.oracle.handle_altered();
        }
        let named = Named { seq: posted.seq, sender: member.user, nonce: posted.nonce };
        self.oracle.handle_posted(session, named, pending.transmissions == 1);
        self.in_flight -= 1;
        self.owed += i64::try_from(channel.members.len()).expect("members are few");
        self.second.posted += 1;
        *self.total.durability.entry(promise(posted.durability)).or_default() += 1;
        if self.window.holds(pending.intended) {
            self.total.posted += 1;
            self.total.ack.record(now.since(pending.intended));
            self.total.ack_service.record(now.since(pending.written));
        }
        self.total.posted_within += u64::from(self.window.holds(now));
    }

    fn handle_rejected(&mut self, session: u32, rejected: &Rejected<'_>, now: Nanos) {
        if self.is_put_off(session, rejected, now) {
            *self.total.rejected.entry(rejected.code.name()).or_default() += 1;
            return;
        }
        let member = &mut self.members[session as usize];
        if member.answered(rejected.nonce).is_some() {
            self.in_flight -= 1;
            *self.total.rejected.entry(rejected.code.name()).or_default() += 1;
        } else {
            let code = rejected.code.name();
            self.failure = Some(format!("the server refused a request: {code}: {}", rejected.text));
        }
    }

    fn handle_ready(&mut self, session: u32, ready: &ChannelReady) {
        let channel = &mut self.channels[self.members[session as usize].channel as usize];
        if channel.id.is_some_and(|id| id != ready.channel) {
            self.oracle.handle_altered();
        }
        channel.id = Some(ready.channel);
        self.count_ready(session);
    }

    /// A group is ready when its owner has the answer and every member has learnt of it.
    fn count_ready(&mut self, session: u32) {
        let channel = &self.channels[self.members[session as usize].channel as usize];
        let is_told = channel.told as usize == channel.members.len();
        self.ready += usize::from(is_told && channel.id.is_some());
    }

    fn handle_delivered(&mut self, session: u32, deliver: &Deliver<'_>, now: Nanos) {
        let member = &self.members[session as usize];
        let channel = &mut self.channels[member.channel as usize];
        match deliver.event {
            Event::Message(message) if channel.id == Some(message.channel) => {
                self.handle_message(session, deliver, &message, now);
            }
            Event::ChannelCreated(created)
                if created.nonce == create_nonce(self.options.run, member.channel)
                    && created.creator == self.members[channel.members.start as usize].user =>
            {
                channel.told += 1;
                self.oracle.handle_created(session, deliver.inbox_seq, created.seq);
                // The answer to the owner may come after it.
                let id = channel.id;
                if id.is_some_and(|id| id != created.channel) {
                    self.oracle.handle_altered();
                }
                if id.is_some() {
                    self.count_ready(session);
                }
            }
            _ => self.oracle.handle_entry(session, deliver.inbox_seq),
        }
    }

    fn handle_message(
        &mut self,
        session: u32,
        deliver: &Deliver<'_>,
        message: &Message<'_>,
        now: Nanos,
    ) {
        let &Message { seq, sender, nonce, .. } = message;
        let is_ours = nonce.0 >> 32 == u64::from(self.options.run);
        let named = Named { seq, sender, nonce };
        let verdict = self.oracle.handle_message(session, deliver.inbox_seq, named, is_ours);
        if !is_ours {
            self.total.foreign += 1;
            return;
        }
        if verdict.is_none_or(|verdict| verdict == Verdict::Duplicate) {
            return;
        }
        self.owed -= 1;
        let Some(body) = message.body else {
            // Without a body it can only be the sender's own copy.
            if sender != self.members[session as usize].user {
                self.oracle.handle_altered();
            }
            return;
        };
        let Some(stamp) = self.read(body, message, session) else {
            self.oracle.handle_altered();
            return;
        };
        self.second.delivered += 1;
        self.second_deliver.record(now.since(stamp.intended));
        if self.window.holds(stamp.intended) {
            self.total.delivered += 1;
            self.total.deliver.record(now.since(stamp.intended));
            self.total.deliver_service.record(now.since(stamp.written));
            if self.options.has_timeline {
                self.record_slot(stamp.intended, now);
            }
        }
        self.total.delivered_within += u64::from(self.window.holds(now));
    }

    fn record_slot(&mut self, intended: Nanos, now: Nanos) {
        let slot = intended.since(self.window.begin).as_nanos() / SLOT.as_nanos();
        let slot = usize::try_from(slot).expect("a run is not that long");
        if slot >= self.total.timeline.len() {
            self.total.timeline.resize_with(slot + 1, Latencies::default);
        }
        self.total.timeline[slot].record(now.since(intended));
    }

    /// The stamp of a body, if it is the one that was posted.
    fn read(&self, body: &[u8], message: &Message<'_>, session: u32) -> Option<Stamp> {
        let stamp = Stamp::read(body).filter(|_| stamp::is_intact(body, self.options.bytes))?;
        let members = &self.channels[self.members[session as usize].channel as usize].members;
        let sender = members.start + stamp.sender;
        let is_right = members.contains(&sender)
            && self.members[sender as usize].user == message.sender
            && post_nonce(stamp.run, stamp.number) == message.nonce;
        is_right.then_some(stamp)
    }

    fn post(&mut self, session: u32, intended: Nanos, now: Nanos, desk: &mut Desk<'_>) {
        let member = &self.members[session as usize];
        let link = member.link;
        let mut pending = Pending {
            nonce: post_nonce(self.options.run, member.number),
            number: member.number,
            intended,
            written: now,
            transmissions: 0,
            is_refused: false,
        };
        let is_full = member.pending.len() >= self.options.unanswered_max;
        // Of a session that is to come back it waits in the outbox.
        if link == Link::Gone
            || is_full
            || link == Link::Up && !self.transmit(session, &mut pending, now, desk)
        {
            self.total.dropped += u64::from(self.window.holds(intended));
            return;
        }
        let member = &mut self.members[session as usize];
        member.number += 1;
        member.pending.push_back(pending);
        self.in_flight += 1;
    }

    /// Hands a message to its session's connection; `false` if that is gone.
    fn transmit(
        &mut self,
        session: u32,
        pending: &mut Pending,
        now: Nanos,
        desk: &mut Desk<'_>,
    ) -> bool {
        let channel = &self.channels[self.members[session as usize].channel as usize];
        let is_first = pending.transmissions == 0;
        if is_first {
            pending.written = now;
        }
        let &mut Pending { nonce, number, intended, written, .. } = pending;
        let (run, sender) = (self.options.run, session - channel.members.start);
        Stamp { run, sender, number, intended, written }.write(&mut self.body);
        let channel = channel.id.expect("nobody sends before all channels are made");
        let post = Post { channel, nonce, kind: 0, body: &self.body, retry: !is_first };
        if !desk.send(session, now, post) {
            return false;
        }
        pending.transmissions += 1;
        pending.is_refused = false;
        if is_first {
            self.count_sent(intended, now);
        } else {
            self.total.retried += 1;
        }
        true
    }

    fn count_sent(&mut self, intended: Nanos, now: Nanos) {
        let lag = now.since(intended);
        self.second.sent += 1;
        self.total.sent_within += u64::from(self.window.holds(now));
        if self.window.holds(intended) {
            self.total.sent += 1;
            self.total.late += u64::from(lag > LATE_AFTER);
            self.total.lag.record(lag);
        }
    }
}

impl Script for Chat {
    fn needs_all(&self) -> bool {
        self.options.needs_all
    }

    fn lively(&self) -> u32 {
        u32::try_from(self.members.len()).expect("sessions of a thread")
    }

    fn is_lively(&self, session: u32) -> bool {
        (session as usize) < self.members.len()
    }

    fn handle_news(&mut self, session: u32, news: &News<'_>, now: Nanos) -> bool {
        if !self.is_lively(session) {
            return false;
        }
        match news {
            News::Live(head, limits) => {
                self.check_limits(limits);
                self.oracle.handle_live(session, *head);
            }
            News::Resumed => self.handle_back(session),
            News::Reset(head) => {
                self.oracle.handle_reset(session, *head);
                self.handle_back(session);
            }
            News::Posted(posted) => self.handle_posted(session, posted, now),
            News::Ready(ready) => self.handle_ready(session, ready),
            News::Rejected(rejected) => self.handle_rejected(session, rejected, now),
            News::Delivered(deliver) => self.handle_delivered(session, deliver, now),
        }
        false
    }

    fn handle_ended(&mut self, session: u32) {
        if !self.is_lively(session) {
            return;
        }
        let member = &mut self.members[session as usize];
        member.link = Link::Gone;
        self.in_flight -= member.pending.len() as u64;
        self.oracle.handle_ended(session);
    }

    fn handle_broken(&mut self, session: u32) {
        if !self.is_lively(session) {
            return;
        }
        self.members[session as usize].link = Link::Down;
    }

    fn prepare(&mut self, now: Nanos, desk: &mut Desk<'_>) -> Result<bool> {
        if let Some(failure) = &self.failure {
            bail!("{failure}");
        }
        while self.creating < self.channels.len()
            && self.creating - self.ready < CREATES_IN_FLIGHT_MAX
        {
            let members = self.channels[self.creating].members.clone();
            let users: Vec<_> = self.members[members.start as usize + 1..members.end as usize]
                .iter()
                .map(|member| member.user)
                .collect();
            let index = u32::try_from(self.creating).expect("fewer channels than sessions");
            let create = ChannelCreate {
                nonce: create_nonce(self.options.run, index),
                kind: ChannelKind::Group,
                title: "loadgen",
                members: Users::from(&*users),
            };
            if !desk.send(members.start, now, create) {
                bail!("the owner of a group lost its session before the run");
            }
            self.creating += 1;
        }
        Ok(self.ready == self.channels.len())
    }

    fn preparing(&self) -> String {
        format!("{} of {} groups are made and known to all", self.ready, self.channels.len())
    }

    fn begin(&mut self, window: Window) {
        self.window = window;
        let ChatOptions { arrivals, rate, seed, .. } = self.options;
        let sizes = sizes(&self.channels);
        self.schedule = Some(Schedule::new(arrivals, &sizes, rate, window.start, window.end, seed));
    }

    fn send_due(&mut self, now: Nanos, desk: &mut Desk<'_>) -> Nanos {
        for _ in 0..BURST_MAX {
            let next = self.schedule.as_ref().and_then(Schedule::peek);
            let Some(due) = next else { return Nanos::NEVER };
            if due.at > now {
                return due.at;
            }
            self.schedule.as_mut().expect("it was just looked at").advance();
            self.post(due.session, due.at, now, desk);
        }
        now
    }

    fn send_again(&mut self, now: Nanos, desk: &mut Desk<'_>) -> Nanos {
        self.go_on(now, desk)
    }

    fn cut(&mut self, end: Nanos) {
        self.window.end = self.window.end.min(end);
        if let Some(schedule) = &mut self.schedule {
            schedule.cut(end);
        }
    }

    fn is_owed(&self) -> bool {
        self.in_flight > 0 || self.owed > 0
    }

    fn progress(&mut self, now: Nanos) -> Progress {
        let next = self.schedule.as_ref().and_then(Schedule::peek);
        let lag = next.map_or(Duration::ZERO, |due| now.since(due.at));
        let deliver = Some(self.second_deliver.clone());
        let progress = Progress { in_flight: self.in_flight, lag, deliver, ..self.second.clone() };
        self.second = Progress::default();
        self.second_deliver.clear();
        progress
    }

    fn finish(mut self) -> Option<Traffic> {
        for member in &self.members {
            self.oracle.handle_unanswered(member.channel, member.pending.len() as u64);
            let is_counted = |pending: &&Pending| self.window.holds(pending.intended);
            self.total.unanswered += member.pending.iter().filter(is_counted).count() as u64;
        }
        // What the generator did not come to: as good as dropped.
        while let Some(due) = self.schedule.as_ref().and_then(Schedule::peek) {
            self.total.dropped += u64::from(self.window.holds(due.at));
            self.schedule.as_mut().expect("it was just looked at").advance();
        }
        self.total.findings = self.oracle.finish();
        Some(self.total)
    }
}

fn sizes(channels: &[Channel]) -> Vec<u32> {
    channels.iter().map(|channel| channel.members.end - channel.members.start).collect()
}

/// Of a message: the run above, so that runs with the same users do not repeat each other.
fn post_nonce(run: u32, number: u32) -> Nonce {
    Nonce(u64::from(run) << 32 | u64::from(number))
}

/// Of a group's creation; in a space of its own, as nonces are unique within a channel and a
/// creation belongs to none.
fn create_nonce(run: u32, channel: u32) -> Nonce {
    Nonce(u64::from(run) << 32 | u64::from(channel) | 1 << 31)
}

const fn promise(durability: Durability) -> &'static str {
    match durability {
        Durability::Accepted => "accepted",
        Durability::Durable => "durable",
        Durability::Replicated => "replicated",
    }
}
