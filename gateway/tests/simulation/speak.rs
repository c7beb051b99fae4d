//! What devices do.

use std::collections::BTreeMap;

use wire::client::{
    ChannelAddMembers, ChannelCreate, ChannelLeave, ChannelList, ChannelRemoveMembers, ClientBody,
    CursorAck, Direction, History, MarkRead, Ping, Post, Sync, Typing,
};
use wire::{ChannelId, ChannelKind, Epoch, InboxSeq, MembershipOp, Nonce, Role, Seq, UserId};

use crate::act::{Start, What};
use crate::device::{Device, Fate, Mail, Request, Session};
use crate::model::Asked;
use crate::sim::client::From;
use crate::sim::host::Host;
use crate::world::World;

/// Posts of a device that loses its patience.
const IMPATIENT_POSTS: usize = 8;

/// Mails that a device sends again at once.
const RESENT_MAX: usize = 30;

/// A cursor further than any inbox of a run gets.
const FAR_BEYOND: u64 = 1 << 40;

impl World {
    /// Does the act if it is a device's.
    pub(crate) fn act_of_a_device(&mut self, what: What) -> bool {
        match what {
            What::Connect { device, core, from } => self.connect(self.pick(device), core, from),
            What::Cut { device, resets } => self.cut(self.pick(device), resets),
            What::Bye { device } => self.bye(self.pick(device)),
            What::Forget { device } => self.forget(self.pick(device)),
            What::Post { device, channel, bytes, count } => {
                (0..count).for_each(|_| self.post(self.pick(device), channel, bytes));
            }
            What::Repeat { device, pick, marked, altered } => {
                self.repeat(self.pick(device), pick, marked, altered);
            }
            What::GivesUp { device, channel } => self.lose_patience(self.pick(device), channel),
            What::Create { device, members } => self.create(self.pick(device), members),
            What::Change { device, channel, op, members, admins } => {
                self.change(self.pick(device), channel, op, members, admins);
            }
            What::MarkRead { device, channel } => self.mark_read(self.pick(device), channel),
            What::Ack { device } => self.acknowledge(self.pick(device)),
            What::Sync { device, back } => self.sync(self.pick(device), back),
            What::History { device, channel, forward } => {
                self.ask_history(self.pick(device), channel, forward);
            }
            What::List { device } => self.list_all(self.pick(device)),
            What::Typing { device, channel } => {
                let device = self.pick(device);
                let channel = self.channel(device, channel);
                self.say(device, Typing { channel });
            }
            What::Ping { device } => self.ask(self.pick(device), Ping { opaque: 1 }, Request::Ping),
            What::Reads { device, reads } => {
                if let Some(client) = self.devices[self.pick(device)].client {
                    self.host.clients[client].reads = reads;
                }
            }
            _ => return false,
        }
        true
    }

    fn pick(&self, device: u8) -> usize {
        usize::from(device) % self.devices.len()
    }

    /// One of the channels that a device could speak of: pairs, known groups, one that is not.
    fn channel(&self, device: usize, pick: u8) -> ChannelId {
        let users: Vec<UserId> = self.model.users().collect();
        let pick = usize::from(pick);
        let index = pick % (users.len() + 2 * self.groups.len() + 1);
        if let Some(other) = users.get(index) {
            return ChannelId::direct(self.devices[device].user, *other);
        }
        let unknown = ChannelId::numbered(77).expect("not 0");
        let group = self.groups.get((index - users.len()) / 2);
        group.copied().unwrap_or(unknown)
    }

    /// Connects a device; its older connection stays until somebody ends it.
    pub(crate) fn connect(&mut self, device: usize, core: u8, from: Start) {
        let state = &mut self.devices[device];
        let mut used_ticket = false;
        let (epoch, cursor) = match from {
            Start::Cursor { ticket } => {
                used_ticket = ticket && state.ticket.is_some();
                (state.epoch, state.cursor)
            }
            Start::Fresh => (Epoch::NONE, InboxSeq::ZERO),
            Start::OtherEpoch => (Epoch(99), state.cursor),
            Start::Beyond => (Host::epoch(), InboxSeq::new(FAR_BEYOND)),
        };
        let ticket = state.ticket.clone().filter(|_| used_ticket);
        let (user, id) = (state.user, state.id);
        let core = usize::from(core) % self.host.cores();
        let hello = From { epoch, cursor, ticket };
        let has_rival = self.host.has_connection(user, id);
        for other in self.sessions.values_mut().filter(|other| other.device == device) {
            other.has_rival = true;
        }
        let client = self.host.connect(core, user, id, &hello);
        self.host.clients[client].transcript = Some(Vec::new());
        self.trace.note(|| format!("  {user}.{id} ({client}) > hello at core {core} {cursor}"));
        let session = Session {
            device,
            said: (epoch, cursor),
            told_before: self.model.told_up_to(user),
            welcomed: None,
            has_rival,
            requests: BTreeMap::new(),
            kept: BTreeMap::new(),
            said_bye: false,
            closed: None,
        };
        self.sessions.insert(client, session);
        let before = self.devices[device].client.replace(client);
        if let Some(before) = before {
            // What it waited for there it will not look for any more.
            self.devices[device].gives_up(before);
        }
    }

    /// Connects after a connection has ended, to any core.
    pub(crate) fn comes_back(&mut self, device: usize) {
        let core = u8::try_from(self.rng.below(4)).expect("small");
        let ticket = self.rng.below(2) == 0;
        self.connect(device, core, Start::Cursor { ticket });
    }

    /// After a welcome: sends again what was not answered, as a client does.
    pub(crate) fn sends_again(&mut self, device: usize) {
        let outbox = self.devices[device].outbox.iter().enumerate();
        let open = outbox.filter(|(_, mail)| mail.fate == Fate::Open && mail.waits_on.is_none());
        let open: Vec<(usize, bool)> = open.map(|(at, mail)| (at, mail.was_sent)).collect();
        for (index, was_sent) in open.into_iter().take(RESENT_MAX) {
            self.transmit(device, index, was_sent);
        }
    }

    fn cut(&mut self, device: usize, resets: bool) {
        let Some(client) = self.devices[device].client else { return };
        if resets {
            self.host.reset(client);
        } else {
            self.host.cut(client);
        }
        self.sessions.remove(&client);
        self.devices[device].loses(client);
    }

    fn bye(&mut self, device: usize) {
        let Some(client) = self.devices[device].client else { return };
        let bytes = self.host.clients[client].goodbye();
        self.host.send(client, &bytes);
        if let Some(session) = self.sessions.get_mut(&client) {
            session.said_bye = true;
        }
        self.devices[device].loses(client);
    }

    /// Its storage is restored: the newest entries it kept are gone. It must connect anew.
    fn forget(&mut self, device: usize) {
        self.cut(device, false);
        let device = &mut self.devices[device];
        let back = self.rng.next() % 4;
        device.cursor = InboxSeq::new(device.cursor.get().saturating_sub(back));
    }

    /// Says something that is not answered, if the device is connected.
    pub(crate) fn say<'a>(&mut self, device: usize, body: impl Into<ClientBody<'a>>) {
        if let Some(client) = self.devices[device].client {
            self.host.say(client, body);
        }
    }

    /// Says something that is answered.
    pub(crate) fn ask<'a>(
        &mut self,
        device: usize,
        body: impl Into<ClientBody<'a>>,
        request: Request,
    ) {
        let Some(client) = self.devices[device].client else { return };
        self.host.say(client, body);
        let number = self.host.clients[client].last_request();
        if let Some(session) = self.sessions.get_mut(&client) {
            session.requests.insert(number, request);
        }
    }

    pub(crate) fn post(&mut self, device: usize, channel: u8, bytes: u16) {
        let channel = self.channel(device, channel);
        let body = self.body(bytes);
        self.mails(device, Some(channel), Asked::Post { body });
    }

    fn lose_patience(&mut self, device: usize, channel: u8) {
        let held = std::mem::replace(&mut self.host.holds_commits, true);
        (0..IMPATIENT_POSTS).for_each(|_| self.post(device, channel, 9));
        self.take_steps(60);
        self.cut(device, false);
        self.comes_back(device);
        self.take_steps(60);
        self.sends_again(device);
        self.take_steps(60);
        self.host.holds_commits = held;
    }

    /// A body that no other has.
    fn body(&mut self, bytes: u16) -> Vec<u8> {
        let mut body = self.rng.next().to_le_bytes().to_vec();
        body.resize(usize::from(bytes).max(8), b'.');
        body
    }

    fn create(&mut self, device: usize, members: u8) {
        let own = self.devices[device].user;
        let members = self.members(members).chain([own]).collect();
        let title = format!("{:x}", self.rng.next());
        self.mails(device, None, Asked::Create { title, members });
    }

    fn members(&self, mask: u8) -> impl Iterator<Item = UserId> + use<> {
        let users = self.model.users();
        users.filter(move |user| user.get() < 8 && mask & (1 << user.get()) != 0)
    }

    fn change(&mut self, device: usize, pick: u8, op: MembershipOp, members: u8, admins: bool) {
        let Some(channel) = self.groups.get(usize::from(pick) % self.groups.len().max(1)) else {
            return;
        };
        let channel = *channel;
        let members = match op {
            MembershipOp::Leave => [self.devices[device].user].into(),
            MembershipOp::Add | MembershipOp::Remove => self.members(members).collect(),
        };
        let role = if admins { Role::Admin } else { Role::Member };
        self.mails(device, Some(channel), Asked::Change { op, role, members });
    }

    /// Writes a mail into the outbox, and sends it if the device is connected.
    fn mails(&mut self, device: usize, channel: Option<ChannelId>, asked: Asked) {
        if let Asked::Change { members, .. } = &asked
            && members.is_empty()
        {
            return;
        }
        let state = &mut self.devices[device];
        state.nonces += 1;
        let nonce = Nonce(state.nonces);
        let (fate, waits_on) = (Fate::Open, None);
        state.outbox.push(Mail { channel, nonce, asked, waits_on, was_sent: false, fate });
        if state.client.is_some() {
            let index = self.devices[device].outbox.len() - 1;
            self.transmit(device, index, false);
        }
    }

    /// Transmits a mail; marked as a retry or not.
    pub(crate) fn transmit(&mut self, device: usize, index: usize, marked: bool) {
        let client = self.devices[device].client;
        // What is sent before Welcome may be served late, after what was repeated elsewhere.
        let session = client.and_then(|client| self.sessions.get(&client));
        let marked = marked || session.is_none_or(|session| session.welcomed.is_none());
        let mail = &mut self.devices[device].outbox[index];
        let is_first = !std::mem::replace(&mut mail.was_sent, true);
        mail.waits_on = client;
        let (channel, nonce, asked) = (mail.channel, mail.nonce, mail.asked.clone());
        let request = Request::Mail { index, is_first, is_altered: false };
        self.send(device, channel, nonce, (&asked, marked), request);
    }

    fn send(
        &mut self,
        device: usize,
        channel: Option<ChannelId>,
        nonce: Nonce,
        (asked, marked): (&Asked, bool),
        request: Request,
    ) {
        let Device { user, id, .. } = self.devices[device];
        self.trace.note(|| format!("  {user}.{id} > {channel:?} {nonce} {}", brief(asked, marked)));
        let Some(channel) = channel else {
            let Asked::Create { title, members } = asked else { unreachable!("only a creation") };
            let members: Vec<UserId> = members.iter().copied().collect();
            let (kind, members) = (ChannelKind::Group, members.as_slice().into());
            return self.ask(device, ChannelCreate { nonce, kind, title, members }, request);
        };
        self.model.sends((user, id, channel, nonce), asked.clone(), marked);
        match asked {
            Asked::Post { body } => {
                let post = Post { channel, nonce, kind: 0, body, retry: marked };
                self.ask(device, post, request);
            }
            Asked::Create { title, members } => {
                let members: Vec<UserId> = members.iter().copied().collect();
                let (kind, members) = (ChannelKind::Group, members.as_slice().into());
                self.ask(device, ChannelCreate { nonce, kind, title, members }, request);
            }
            Asked::Change { op, role, members } => {
                let members: Vec<UserId> = members.iter().copied().collect();
                let members = members.as_slice().into();
                match op {
                    MembershipOp::Add => {
                        let add = ChannelAddMembers { channel, nonce, members, role: *role };
                        self.ask(device, add, request);
                    }
                    MembershipOp::Remove => {
                        self.ask(device, ChannelRemoveMembers { channel, nonce, members }, request);
                    }
                    MembershipOp::Leave => {
                        self.ask(device, ChannelLeave { channel, nonce }, request);
                    }
                }
            }
        }
    }

    fn repeat(&mut self, device: usize, pick: u8, marked: bool, altered: bool) {
        let state = &self.devices[device];
        if state.client.is_none() || state.outbox.is_empty() {
            return;
        }
        // Mostly one of the newest: what is repeated late is repeated seldom.
        let among =
            if pick.is_multiple_of(4) { state.outbox.len() } else { state.outbox.len().min(12) };
        let index = state.outbox.len() - 1 - usize::from(pick) % among;
        let mail = &state.outbox[index];
        if !altered {
            if mail.fate != Fate::Refused {
                self.transmit(device, index, marked || !matches!(mail.asked, Asked::Post { .. }));
            }
            return;
        }
        let (channel, nonce) = (mail.channel, mail.nonce);
        if let Asked::Post { .. } = mail.asked {
            let asked = Asked::Post { body: self.body(9) };
            let request = Request::Mail { index, is_first: false, is_altered: true };
            self.send(device, channel, nonce, (&asked, true), request);
        }
    }

    pub(crate) fn mark_read(&mut self, device: usize, channel: u8) {
        let channel = self.channel(device, channel);
        let last = self.model.last(channel).get();
        let seq = Seq::new((last + 2).saturating_sub(self.rng.next() % 4));
        self.say(device, MarkRead { channel, seq });
    }

    pub(crate) fn acknowledge(&mut self, device: usize) {
        let state = &mut self.devices[device];
        // Where it began anew, its cursor belongs to an inbox that it has not been told.
        if state.client.is_none() || state.epoch != Host::epoch() {
            return;
        }
        let inbox_seq = state.cursor;
        state.acknowledged = state.acknowledged.max(inbox_seq);
        self.say(device, CursorAck { inbox_seq });
    }

    fn sync(&mut self, device: usize, back: u8) {
        let Some(next) = self.next_place(device) else { return };
        let after = InboxSeq::new((next.get() - 1).saturating_sub(back.into()));
        self.ask(device, Sync { after, limit: 0 }, Request::Sync(after));
    }

    fn next_place(&self, device: usize) -> Option<InboxSeq> {
        let session = self.sessions.get(&self.devices[device].client?)?;
        Some(session.welcomed?.next)
    }

    /// Goes on with the pages of a session that has not all.
    pub(crate) fn asks_for_more(&mut self, client: usize) {
        let Some(session) = self.sessions.get(&client) else { return };
        let Some(welcomed) = session.welcomed.filter(|welcomed| !welcomed.is_caught_up) else {
            return;
        };
        let device = session.device;
        let waits = session.requests.values().any(|asked| matches!(asked, Request::Sync(_)));
        if !waits && session.closed.is_none() && self.devices[device].client == Some(client) {
            let after = InboxSeq::new(welcomed.next.get() - 1);
            self.ask(device, Sync { after, limit: 0 }, Request::Sync(after));
        }
    }

    pub(crate) fn list_all(&mut self, device: usize) {
        let list = ChannelList { before: InboxSeq::ZERO, limit: 0, with_last: false };
        let known = self.model.known_read(self.devices[device].user);
        self.ask(device, list, Request::List(known));
    }

    fn ask_history(&mut self, device: usize, channel: u8, forward: bool) {
        let channel = self.channel(device, channel);
        let from = Seq::new(self.rng.next() % (self.model.last(channel).get() + 3));
        let direction = if forward { Direction::Forward } else { Direction::Backward };
        let history = History { channel, direction, from, limit: 0 };
        self.ask(device, history, Request::History { channel, from, forward });
    }
}

fn brief(asked: &Asked, marked: bool) -> String {
    let retry = if marked { " retry" } else { "" };
    match asked {
        Asked::Post { body } => format!("post of {} bytes{retry}", body.len()),
        Asked::Create { members, .. } => format!("create {members:?}"),
        Asked::Change { op, members, .. } => format!("{op:?} {members:?}"),
    }
}
