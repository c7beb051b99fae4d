//! Who belongs to a channel, from its log alone: written apart from the router's code, so that one
//! checks the other.

use std::collections::{BTreeMap, BTreeSet};

use wire::{ChannelId, Content, LogEntry, MembershipOp, Role, Seq, UserId};

#[derive(Clone, Copy, Debug)]
struct Standing {
    role: Role,
    joined: Seq,
}

/// The members of a channel at the end of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    of: BTreeMap<UserId, Standing>,
    /// All who ever were, and up to which place they may read.
    ever: BTreeMap<UserId, Option<Seq>>,
}

impl Members {
    pub(crate) fn new(channel: ChannelId) -> Self {
        let mut members = Self::default();
        for user in channel.pair().into_iter().flat_map(|(one, other)| [one, other]) {
            members.of.insert(user, Standing { role: Role::Member, joined: Seq::ZERO });
            members.ever.insert(user, None);
        }
        members
    }

    pub(crate) fn has(&self, user: UserId) -> bool {
        self.of.contains_key(&user)
    }

    /// Whether somebody may read this place.
    pub(crate) fn may_read(&self, user: UserId, seq: Seq) -> bool {
        self.ever.get(&user).is_some_and(|until| until.is_none_or(|until| seq <= until))
    }

    /// Takes the next entry of the log; who gets it.
    pub(crate) fn follow(&mut self, entry: &LogEntry) -> BTreeSet<UserId> {
        let before: BTreeSet<UserId> = self.of.keys().copied().collect();
        let LogEntry { channel, seq, sender, .. } = *entry;
        match &entry.content {
            Content::Message { .. } => {
                assert!(before.contains(&sender), "permitted: {sender} posted to {channel}{seq}");
            }
            Content::Created { members, .. } => {
                assert_eq!(seq, Seq::new(1), "permitted: {channel} is made once");
                for user in members.iter() {
                    let role = if *user == sender { Role::Owner } else { Role::Member };
                    self.joins(*user, role, seq);
                }
            }
            Content::Membership { op, role, members } => {
                let actor = self.of.get(&sender).copied();
                let actor =
                    actor.unwrap_or_else(|| panic!("permitted: {sender} changed {channel}{seq}"));
                self.check(entry, actor.role, *op, *role, members);
                for user in members.iter() {
                    match op {
                        MembershipOp::Add => self.joins(*user, *role, seq),
                        MembershipOp::Remove | MembershipOp::Leave => self.goes(*user, seq),
                    }
                }
                if actor.role == Role::Owner && !self.has(sender) {
                    self.inherit();
                }
            }
        }
        before.into_iter().chain(self.of.keys().copied()).collect()
    }

    fn joins(&mut self, user: UserId, role: Role, joined: Seq) {
        self.of.insert(user, Standing { role, joined });
        self.ever.insert(user, None);
    }

    fn goes(&mut self, user: UserId, left: Seq) {
        self.of.remove(&user);
        self.ever.insert(user, Some(left));
    }

    /// Rights, and that each named is one for whom something changes.
    fn check(
        &self,
        entry: &LogEntry,
        rights: Role,
        op: MembershipOp,
        role: Role,
        members: &[UserId],
    ) {
        let place = (entry.channel, entry.seq);
        for user in members {
            let has = self.has(*user);
            assert_eq!(has, op != MembershipOp::Add, "permitted: {op:?} {user} at {place:?}");
        }
        let is_permitted = match op {
            MembershipOp::Leave => members == [entry.sender],
            MembershipOp::Add => rights >= Role::Admin && role <= rights && role < Role::Owner,
            MembershipOp::Remove => {
                rights >= Role::Admin && members.iter().all(|user| self.of[user].role < rights)
            }
        };
        assert!(is_permitted, "permitted: {op:?} {members:?} by {rights:?} at {place:?}");
    }

    /// The owner has left: the highest role, then the longest membership, then the lowest number.
    fn inherit(&mut self) {
        let heir = self.of.iter().min_by_key(|(user, standing)| {
            (std::cmp::Reverse(standing.role), standing.joined, **user)
        });
        if let Some(heir) = heir.map(|(user, _)| *user) {
            self.of.get_mut(&heir).expect("just found").role = Role::Owner;
        }
    }
}
