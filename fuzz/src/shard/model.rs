//! What a shard promises, kept the simple way: whole lists, searched from end to end.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use router::nonces::{Receipt, SendKey};
use router::sequencer::{Ask, Loaded, Offer, Origin};
use router::sessions::ConnId;
use wire::{
    ChannelId, ChannelKind, Content, CoreId, DeviceId, InboxItem, LogEntry, Member, MembershipOp,
    Nonce, Role, Seq, Timestamp, UserId,
};

use super::Asked;

/// Users of the world, from 1.
pub(super) const USERS: u8 = 4;

/// Channels of the world.
pub(super) const CHANNELS: u8 = 4;

/// Sends that a channel remembers.
pub(super) const NONCE_WINDOW: usize = 4;

pub(super) fn user(number: u8) -> UserId {
    UserId::new(u64::from(number % USERS) + 1).expect("at least 1")
}

pub(super) fn channel(number: u8) -> ChannelId {
    match number % CHANNELS {
        0 => ChannelId::direct(user(0), user(1)),
        1 => ChannelId::direct(user(0), user(0)),
        number => ChannelId::numbered(number.into()).expect("not 0"),
    }
}

/// One of the few sends that a device makes, so that some are repeated.
pub(super) fn offer(to: ChannelId, sender: UserId, nonce: u8, retry: bool, asked: Asked) -> Offer {
    let mask = |members: u8| -> Arc<[UserId]> {
        (0..USERS).filter(|bit| members & (1 << bit) != 0).map(user).collect()
    };
    let role = |number: u8| Role::from_number(number % 3).expect("one of three");
    let one = |member: u8| -> Arc<[UserId]> { [user(member)].into() };
    let (ask, fingerprint) = match asked {
        Asked::Post(body) => {
            let body = [body % 4];
            (Ask::Post { kind: 0, body: Bytes::copy_from_slice(&body) }, u64::from(body[0]))
        }
        // No client makes a channel of two: its id is its pair, and it needs no making.
        Asked::Create { members } if to.pair().is_none() => {
            let (kind, title) = (ChannelKind::Group, "tea".into());
            (Ask::Create { kind, title, members: mask(members) }, 1000 + u64::from(members % 16))
        }
        Asked::Add { role: number, member } => {
            let (op, role, members) = (MembershipOp::Add, role(number), one(member));
            let fingerprint = 2000 + 8 * role as u64 + u64::from(member % USERS);
            (Ask::Change { op, role, members, decided: false }, fingerprint)
        }
        Asked::Remove { member } => {
            let (op, role, members) = (MembershipOp::Remove, Role::Member, one(member));
            (Ask::Change { op, role, members, decided: false }, 3000 + u64::from(member % USERS))
        }
        Asked::Leave => {
            let (op, role) = (MembershipOp::Leave, Role::Member);
            (Ask::Change { op, role, members: [sender].into(), decided: false }, 4000)
        }
        Asked::Create { .. } => (Ask::Read { seq: Seq::ZERO, answered: false }, 0),
        Asked::Read { seq } => (Ask::Read { seq: Seq::new(seq.into()), answered: false }, 0),
    };
    Offer {
        origin: Origin { core: CoreId(0), conn: ConnId { slot: 0, generation: 1 }, request: 0 },
        channel: to,
        key: SendKey { sender, device: DeviceId(1), nonce: Nonce(u64::from(nonce % 8) + 1) },
        retry,
        fingerprint,
        ask,
    }
}

/// An entry with what it was sent as, and for whom.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) entry: LogEntry,
    pub(super) fingerprint: u64,
    pub(super) recipients: Vec<UserId>,
}

/// A channel: what was given a place, durable or not.
#[derive(Clone, Default, Debug)]
pub(super) struct Channel {
    pub(super) log: Vec<Logged>,
    /// So many of them are durable.
    pub(super) durable: usize,
    /// All who ever were members, as the last durable entry left them.
    pub(super) members: Vec<Member>,
}

impl Channel {
    /// Notes an entry that was given the next place.
    ///
    /// # Panics
    /// If it was not, or was let in when it should not have been.
    pub(super) fn place(&mut self, logged: Logged, retry: bool) {
        let entry = &logged.entry;
        assert_eq!(entry.seq.get(), self.log.len() as u64 + 1, "places are dense");
        let before = self.log.last().map_or(Timestamp(0), |last| last.entry.created_at);
        assert!(entry.created_at >= before, "times do not go back");
        let known = if retry { &self.log[..] } else { self.window() };
        let twice = known.iter().find(|other| other.key() == logged.key());
        assert!(twice.is_none(), "{:?} has two places: {twice:?}", logged.key());
        if let Content::Message { .. } = entry.content {
            let members = self.present(entry.channel);
            let recipients: BTreeSet<UserId> = logged.recipients.iter().copied().collect();
            assert_eq!(recipients.len(), logged.recipients.len(), "each once");
            assert_eq!(recipients, members, "a message goes to the members");
            assert!(members.contains(&entry.sender), "and is of one of them");
        }
        self.log.push(logged);
    }

    /// The sends that no repeat may pass by.
    fn window(&self) -> &[Logged] {
        &self.log[self.log.len().saturating_sub(NONCE_WINDOW)..]
    }

    /// The members as all entries of the log make them.
    fn present(&self, channel: ChannelId) -> BTreeSet<UserId> {
        if let Some((one, other)) = channel.pair() {
            return [one, other].into();
        }
        let mut present = BTreeSet::new();
        for logged in &self.log {
            match &logged.entry.content {
                Content::Message { .. } => {}
                Content::Created { members, .. }
                | Content::Membership { op: MembershipOp::Add, members, .. } => {
                    present.extend(members.iter().copied());
                }
                Content::Membership { members, .. } => {
                    present.retain(|user| !members.contains(user));
                }
            }
        }
        present
    }

    /// Checks the first answer that a repeat gets again.
    pub(super) fn check_repeat(&self, offer: &Offer, receipt: &Receipt) {
        let place = usize::try_from(receipt.seq.get() - 1).expect("few");
        let logged = self.log.get(place).expect("it has a place");
        assert_eq!(logged.key(), offer.key, "another send's answer");
        assert_eq!(logged.fingerprint, offer.fingerprint, "another content's answer");
        assert_eq!(logged.entry.created_at, receipt.created_at);
    }

    /// What the store says of the channel.
    pub(super) fn load(&self) -> Loaded {
        let durable = &self.log[..self.durable];
        let recent = &durable[durable.len().saturating_sub(NONCE_WINDOW)..];
        Loaded {
            last: Seq::new(self.durable as u64),
            last_created_at: durable.last().map_or(Timestamp(0), |last| last.entry.created_at),
            members: self.members.clone(),
            recent: recent.iter().map(|logged| (logged.key(), logged.receipt())).collect(),
        }
    }

    /// What a search of the durable log finds, the newest of each.
    pub(super) fn find(&self, keys: &[SendKey], below: Seq) -> Vec<(SendKey, Receipt)> {
        let old = self.log[..self.durable].iter().filter(|logged| logged.entry.seq < below);
        let wanted = old.filter(|logged| keys.contains(&logged.key()));
        wanted.map(|logged| (logged.key(), logged.receipt())).collect()
    }

    /// The next entry is durable, with the members that it changed.
    pub(super) fn commit(&mut self, seq: Seq, changed: &[Member]) {
        self.durable += 1;
        assert_eq!(seq.get(), self.durable as u64, "commits are dense");
        for member in changed {
            self.members.retain(|known| known.user != member.user);
            self.members.push(*member);
        }
    }
}

impl Logged {
    pub(super) const fn key(&self) -> SendKey {
        let entry = &self.entry;
        SendKey { sender: entry.sender, device: entry.device, nonce: entry.nonce }
    }

    /// What stands for it in an inbox.
    pub(super) const fn item(&self) -> InboxItem {
        InboxItem::Logged { channel: self.entry.channel, seq: self.entry.seq }
    }

    const fn receipt(&self) -> Receipt {
        let entry = &self.entry;
        let fingerprint = self.fingerprint;
        Receipt { seq: entry.seq, created_at: entry.created_at, fingerprint }
    }
}
