//! What a connection hears, compared with what is true and with what it asked.

use wire::server::{Durability, Resume};
use wire::{ChannelId, InboxSeq, Nonce, RejectCode, Seq, Timestamp};

use store::SyncMode;

use crate::device::{Fate, Request, Session, Welcomed};
use crate::model::Asked;
use crate::sim::heard::{Entry, Heard, Listed, Names, What, line};
use crate::sim::host::Host;
use crate::world::World;

/// The second for which a refusal for its rate asks a client to wait.
const QUIET_TICKS: u32 = 20;

impl World {
    /// Takes what a client has heard.
    pub(crate) fn hear(&mut self, client: usize) {
        let Some(transcript) = &mut self.host.clients[client].transcript else { return };
        let heard = std::mem::take(transcript);
        let Some(mut session) = self.sessions.remove(&client) else { return };
        let mut goes_on = true;
        let was_welcomed = session.welcomed.is_some();
        for (request, heard) in heard {
            let device = &self.devices[session.device];
            let (user, id) = (device.user, device.id);
            let text = || format!("  {user}.{id} ({client}) < {}", line(&heard, &Names::new()));
            self.trace.note(text);
            goes_on &= !matches!(heard, Heard::Lost);
            self.hear_one(client, &mut session, request, heard);
        }
        if goes_on {
            let (device, is_welcomed) = (session.device, session.welcomed.is_some());
            self.sessions.insert(client, session);
            self.asks_for_more(client);
            if self.devices[device].client == Some(client) {
                self.reacts(device, is_welcomed && !was_welcomed);
            }
        } else {
            let was_newest = self.devices[session.device].client == Some(client);
            self.devices[session.device].loses(client);
            if was_newest && self.rng.below(4) > 0 {
                self.comes_back(session.device);
            }
        }
    }

    /// What a device does about what it has heard.
    fn reacts(&mut self, device: usize, is_welcomed: bool) {
        if is_welcomed && self.rng.below(2) == 0 {
            self.sends_again(device);
        }
        if self.is_calm {
            return;
        }
        match self.rng.below(40) {
            0..2 => self.acknowledge(device),
            2..6 => {
                let channel = u8::try_from(self.rng.below(256)).expect("small");
                self.mark_read(device, channel);
            }
            6 => self.list_all(device),
            _ => {}
        }
    }

    fn hear_one(&mut self, client: usize, session: &mut Session, request: u32, heard: Heard) {
        match heard {
            Heard::Welcome { head, resume, epoch, ticket } => {
                assert_eq!(epoch, Host::epoch(), "altered: the epoch");
                self.welcomed(client, session, head, resume);
                self.devices[session.device].ticket = Some(ticket);
            }
            Heard::Posted { channel, nonce, seq, created_at, durability } => {
                self.check_durability(durability);
                self.kept(session, request, (channel, nonce), (seq, created_at));
            }
            Heard::Ready { channel, nonce, created_at, durability } => {
                self.check_durability(durability);
                self.kept(session, request, (channel, nonce), (Seq::new(1), created_at));
            }
            Heard::Rejected { nonce, code, .. } => self.rejected(session, request, nonce, code),
            Heard::Entry(entry) => self.live(client, session, &entry),
            Heard::Page { entries, next, end } => self.page(session, request, &entries, next, end),
            Heard::History { channel, entries, .. } => {
                self.history(session, request, channel, &entries);
            }
            Heard::List { conversations, .. } => self.list(session, request, &conversations),
            Heard::Typing { channel, user } => {
                let hearer = self.devices[session.device].user;
                let members = self.model.logs.get(&channel).map(|log| &log.members);
                let pair = channel.pair().is_some_and(|(one, other)| {
                    [one, other].contains(&user) && [one, other].contains(&hearer)
                });
                let group = members.is_some_and(|members| members.may_read(user, Seq::new(1)));
                assert!(pair || group, "permitted: {hearer} is told that {user} types");
            }
            Heard::Pong(_) => {
                let asked = session.requests.remove(&request);
                assert!(matches!(asked, Some(Request::Ping)), "unique: pong to {asked:?}");
            }
            Heard::WsPong(_) => panic!("unique: nobody sent a ping of the WebSocket"),
            Heard::Service | Heard::Done(_) => panic!("unique: no service is here"),
            Heard::Reconnect { .. } => assert!(self.faults.drained, "nobody has asked to drain"),
            Heard::Refused { status, text } => panic!("a handshake was refused: {status} {text}"),
            Heard::Closed { code, reason } => self.closed(session, code, &reason),
            Heard::Lost => {}
        }
    }

    fn check_durability(&self, durability: Durability) {
        let expected = match self.host.disk.sync_mode() {
            SyncMode::Always => Durability::Durable,
            SyncMode::Interval(_) => Durability::Accepted,
        };
        assert_eq!(durability, expected, "durable: what an answer promises");
    }

    fn welcomed(&mut self, client: usize, session: &mut Session, head: InboxSeq, resume: Resume) {
        assert!(session.welcomed.is_none(), "unique: a second welcome");
        let device = &mut self.devices[session.device];
        let (epoch, cursor) = session.said;
        let expected = match epoch {
            wire::Epoch::NONE => Resume::Fresh,
            epoch if epoch != Host::epoch() || cursor > head => Resume::Reset,
            _ => Resume::Resumed,
        };
        assert_eq!(resume, expected, "resume: at {head} of a cursor at {cursor}");
        let told = session.told_before;
        assert!(head >= told, "durable: {}'s inbox ends at {head}, was at {told}", device.user);
        let start = if resume == Resume::Resumed { cursor } else { head };
        let (next, is_caught_up, live) = (start.next(), start == head, InboxSeq::ZERO);
        session.welcomed = Some(Welcomed { head, next, is_caught_up, live });
        if !is_caught_up {
            session.requests.insert(0, Request::Sync(start)); // Its first page comes by itself.
        }
        if device.client == Some(client) && resume != Resume::Resumed {
            // As the protocol says: what was kept is dropped, and it begins at the head.
            (device.epoch, device.cursor) = (Host::epoch(), head);
        }
        self.check_displaced(client, session);
    }

    /// Of two sessions of a device, the one that began at a lower head hears nothing beyond the
    /// other's.
    fn check_displaced(&self, client: usize, session: &Session) {
        let Some(mine) = session.welcomed else { return };
        for (other_client, other) in &self.sessions {
            let Some(theirs) = other.welcomed.filter(|_| other.device == session.device) else {
                continue;
            };
            let (older, newer) =
                if mine.head < theirs.head { (mine, theirs) } else { (theirs, mine) };
            let is_heard = match older.head < newer.head {
                true => older.live > newer.head,
                false => older.live > newer.head && newer.live > newer.head,
            };
            assert!(
                !is_heard,
                "displaced: {client} and {other_client} hear both: {mine:?} {theirs:?}"
            );
        }
    }

    /// A place that a session is told of, in the order of the inbox. The device keeps it.
    fn arrives(&mut self, session: &mut Session, entry: &Entry) {
        let device = &mut self.devices[session.device];
        self.trace.count(|stats| stats.told += 1);
        self.model.told(device.user, entry.place, &entry.what);
        let welcomed = session.welcomed.as_mut().expect("checked by the caller");
        let (place, next) = (entry.place, welcomed.next);
        assert!(place <= next, "gapless: {}.{} heard {place} for {next}", device.user, device.id);
        if place < next {
            return; // Asked for once more.
        }
        welcomed.next = place.next();
        if place == device.cursor.next() {
            device.cursor = place;
        }
    }

    fn live(&mut self, client: usize, session: &mut Session, entry: &Entry) {
        let welcomed = session.welcomed.as_mut().expect("a welcome comes first");
        assert!(welcomed.is_caught_up, "gapless: {} came live before its pages", entry.place);
        assert_eq!(entry.place, welcomed.next, "gapless: live");
        welcomed.live = entry.place;
        self.arrives(session, entry);
        self.check_displaced(client, session);
    }

    fn page(
        &mut self,
        session: &mut Session,
        request: u32,
        entries: &[Entry],
        next: InboxSeq,
        end: bool,
    ) {
        assert!(session.welcomed.is_some(), "a welcome comes first");
        let after = match session.requests.remove(&request) {
            Some(Request::Sync(after)) => after,
            other => panic!("unique: a page for {other:?}"),
        };
        let places = entries.iter().map(|entry| entry.place.get());
        let first = after.get() + 1;
        assert!(places.eq(first..first + entries.len() as u64), "gapless: a page behind {after}");
        let last = entries.last().map_or(next, |last| last.place);
        assert_eq!(next, last, "a page ends where it says");
        for entry in entries {
            self.arrives(session, entry);
        }
        let user = self.devices[session.device].user;
        let welcomed = session.welcomed.as_mut().expect("just looked at");
        if end {
            assert_eq!(next.next(), welcomed.next, "gapless: {user} is at the end of her pages");
            welcomed.is_caught_up = true;
        }
    }

    fn kept(
        &mut self,
        session: &mut Session,
        request: u32,
        (channel, nonce): (ChannelId, Nonce),
        (seq, created_at): (Seq, Timestamp),
    ) {
        let asked = session.requests.remove(&request);
        let Some(Request::Mail { index, is_first, is_altered }) = asked else {
            panic!("unique: an answer to {asked:?}");
        };
        let device = &mut self.devices[session.device];
        let mail = &mut device.outbox[index];
        assert_eq!(mail.nonce, nonce, "altered: the answer's nonce");
        assert!(mail.channel.is_none_or(|known| known == channel), "altered: the answer's channel");
        let key = (device.user, device.id, channel, nonce);
        if is_first {
            session.keeps(channel, request, seq);
        }
        if is_altered {
            // Good only if the first content never got through.
            let entry = self.model.entry(channel, seq).expect("durable: answered");
            assert!(
                !is_content(&mail.asked, &entry.content),
                "altered: {key:?} answered for another"
            );
        }
        if let Fate::Kept(before) = mail.fate {
            let is_known_twice = self.model.sends[&key].places.len() > 1;
            assert!(before == seq || is_known_twice, "unique: {key:?} at {before} and {seq}");
        }
        (mail.fate, mail.channel) = (Fate::Kept(seq), Some(channel));
        mail.waits_on = mail.waits_on.filter(|_| is_altered);
        if let Asked::Create { .. } = mail.asked {
            self.check_creation(session.device, index, channel);
        }
        self.model.acknowledged(key, seq, created_at);
    }

    fn check_creation(&mut self, device: usize, index: usize, channel: ChannelId) {
        let mail = &self.devices[device].outbox[index];
        let entry = self.model.entry(channel, Seq::new(1)).expect("durable: answered");
        assert!(is_content(&mail.asked, &entry.content), "altered: {channel} as it was made");
        if !self.groups.contains(&channel) {
            self.groups.push(channel);
        }
    }

    fn rejected(&mut self, session: &mut Session, request: u32, nonce: Nonce, code: RejectCode) {
        let limits = &self.host.setup.limits;
        let asked = session.requests.remove(&request);
        let is_rated = limits.told.frames_per_second_max < 1000;
        let device = &mut self.devices[session.device];
        let Some(Request::Mail { index, is_altered, .. }) = asked else {
            let is_history = matches!(asked, Some(Request::History { .. }));
            let is_fair = match code {
                RejectCode::NotMember => is_history,
                RejectCode::RateLimited => is_rated,
                _ => false,
            };
            return assert!(is_fair, "permitted: {asked:?} was refused with {code:?}");
        };
        let mail = &mut device.outbox[index];
        assert_eq!(mail.nonce, nonce, "altered: the refusal's nonce");
        if !is_altered {
            mail.waits_on = None;
        }
        let is_direct = mail.channel.is_some_and(|channel| channel.pair().is_some());
        let is_post = matches!(mail.asked, Asked::Post { .. });
        let sent = mail.channel.map(|channel| (device.user, device.id, channel, nonce));
        let sent = sent.and_then(|key| self.model.sends.get(&key));
        let is_for_good = match code {
            RejectCode::RateLimited => {
                device.quiet_ticks = QUIET_TICKS;
                assert_fair(is_rated, code)
            }
            RejectCode::StorageFull => assert_fair(self.faults.full, code),
            RejectCode::Draining => assert_fair(self.faults.drained, code),
            RejectCode::Overloaded => false,
            RejectCode::NotMember => !assert_fair(!is_direct, code),
            RejectCode::NonceReused => {
                let other = sent.is_none_or(|sent| sent.contents.len() > 1);
                !assert_fair(other || !is_post, code)
            }
            RejectCode::RetryTooOld => !assert_fair(limits.retry_scan_max < 1000, code),
            RejectCode::ChannelFull => {
                !assert_fair(!is_post && limits.told.group_members_max < 50, code)
            }
            RejectCode::NotPermitted | RejectCode::Malformed => !assert_fair(!is_post, code),
            RejectCode::Unknown | RejectCode::Unsupported | RejectCode::TooLarge => {
                panic!("permitted: {:?} was refused with {code:?}", mail.asked)
            }
        };
        if is_altered {
            return; // It was to be refused; what became of the mail itself is still open.
        }
        if is_for_good && mail.fate == Fate::Open {
            mail.fate = Fate::Refused;
        }
        let is_kept = matches!(mail.fate, Fate::Kept(_));
        let stays = !is_kept || !matches!(code, RejectCode::NotMember | RejectCode::NotPermitted);
        let beyond = sent.is_some_and(|sent| sent.is_unmarked);
        assert!(stays || beyond, "unique: what was kept is now refused with {code:?}");
    }

    fn history(
        &mut self,
        session: &mut Session,
        request: u32,
        channel: ChannelId,
        entries: &[What],
    ) {
        let asked = session.requests.remove(&request);
        let Some(Request::History { channel: of, from, forward }) = asked else {
            panic!("unique: a history for {asked:?}");
        };
        assert_eq!(of, channel, "altered: the history's channel");
        let user = self.devices[session.device].user;
        let mut before: Option<Seq> = None;
        for what in entries {
            let (_, seq) = what.logged().expect("a log's entry");
            self.model.shown(what);
            let members = &self.model.logs[&channel].members;
            assert!(members.may_read(user, seq), "permitted: {user} reads {channel}{seq}");
            assert!(before.is_none_or(|before| before.next() == seq), "gapless: a history");
            before = Some(seq);
        }
        let first = entries.first().and_then(What::logged).map(|(_, seq)| seq);
        let is_in_range = match (forward, first, before) {
            (true, Some(first), _) => first == from.max(Seq::new(1)),
            (false, _, Some(last)) => from == Seq::ZERO || last < from,
            _ => true,
        };
        assert!(is_in_range, "gapless: a history from {from} that begins at {first:?}");
    }

    fn list(&mut self, session: &mut Session, request: u32, list: &[Listed]) {
        let asked = session.requests.remove(&request);
        let Some(Request::List(known)) = asked else { panic!("unique: a list for {asked:?}") };
        let user = self.devices[session.device].user;
        for (channel, conversation, _) in list {
            let (read, last) = (conversation.read_seq, conversation.last_seq);
            let known = known.get(channel).copied().unwrap_or(Seq::ZERO);
            self.model.listed(user, (*channel, known), (read, last));
        }
    }

    fn closed(&mut self, session: &mut Session, code: u16, reason: &str) {
        assert!(session.closed.is_none(), "unique: a second close frame");
        if code == 4401 {
            self.devices[session.device].ticket = None; // It has to log in.
        }
        session.closed = Some(code);
        let limits = &self.host.setup.limits;
        let faults = self.faults;
        let is_fair = match code {
            1000 => session.said_bye,
            1001 => faults.drained,
            // Also who waited for her turn until the clock made a leap, or until a later connection
            // of her device had a session; or for whom there was no memory.
            4503 => {
                let is_short = limits.bounds.room_bytes_max < usize::MAX;
                let may_be = faults.late || session.has_rival || is_short;
                faults.drained || session.welcomed.is_none() && may_be
            }
            4401 => faults.wall_clock,
            4408 => limits.silence_ticks < u32::MAX || faults.late,
            4409 => true,
            4410 => session.welcomed.is_none() && faults.late,
            4413 => true,
            4429 => limits.told.frames_per_second_max < 1000,
            4500 => faults.reads_failed || faults.late,
            _ => false,
        };
        assert!(is_fair, "permitted: a session is closed with {code} {reason}");
    }
}

/// Fails unless a refusal is fair; it may be sent again.
fn assert_fair(is_fair: bool, code: RejectCode) -> bool {
    assert!(is_fair, "permitted: refused with {code:?}");
    false
}

/// Whether an entry is what was asked for.
pub(crate) fn is_content(asked: &Asked, content: &wire::Content) -> bool {
    match (asked, content) {
        (Asked::Post { body }, wire::Content::Message { body: kept, .. }) => kept[..] == body[..],
        (
            Asked::Create { title, members },
            wire::Content::Created { title: kept, members: all, .. },
        ) => **kept == **title && all.iter().all(|user| members.contains(user)),
        (
            Asked::Change { op, members, .. },
            wire::Content::Membership { op: kept, members: all, .. },
        ) => kept == op && all.iter().all(|user| members.contains(user)),
        _ => false,
    }
}
