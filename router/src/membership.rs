//! Who belongs to a channel, what each may do, and what a change makes of it.

use std::sync::Arc;

use variants::Variant;
use wire::{ChannelId, ChannelKind, Content, Member, MembershipOp, RejectCode, Role, Seq, UserId};

use crate::Map;
use crate::fan_out::Recipients;
use crate::shard_map::ShardMap;

/// Members of a channel.
#[derive(Debug)]
pub enum Membership {
    /// A `Direct` channel: its id says who; nothing is stored and nothing can change.
    Pair(UserId, UserId),
    /// A `Group`: everyone who is or was a member.
    Listed {
        /// By user; `left` is set for those who went.
        members: Map<UserId, Member>,
        /// Those who are members now, by core; rebuilt when that changes.
        recipients: Recipients,
    },
}

/// Why a request about members was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The code for the client.
    pub code: RejectCode,
    /// What was wrong and what to do, for humans.
    pub text: &'static str,
}

const fn refuse<T>(code: RejectCode, text: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code, text })
}

const NOT_MEMBER: Refusal =
    Refusal { code: RejectCode::NotMember, text: "no such channel, or you are not a member" };

/// What a membership change comes to, if it is permitted.
#[derive(Debug)]
pub struct Change {
    /// What is logged: only those for whom something changes are named.
    pub content: Content,
    /// Records to write, each with its new state once the place is known.
    pub records: Vec<Member>,
    /// Who gets the entry: all members before and after.
    pub recipients: Recipients,
}

impl Membership {
    /// The membership of `channel` as the store has it.
    #[must_use]
    pub fn new(channel: ChannelId, stored: &[Member], map: ShardMap) -> Self {
        match channel.pair() {
            Some((one, other)) => Self::Pair(one, other),
            None => {
                let members = stored.iter().map(|member| (member.user, *member)).collect();
                let recipients = active(&members, map);
                Self::Listed { members, recipients }
            }
        }
    }

    /// Bytes on the heap, without the shared lists of recipients.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Pair(..) => 0,
            Self::Listed { members, .. } => members.allocation_size(),
        }
    }

    /// Who gets an entry that changes no membership.
    #[must_use]
    pub fn recipients(&self) -> Recipients {
        match self {
            Self::Pair(one, other) => Recipients::Pair(*one, *other),
            Self::Listed { recipients, .. } => recipients.clone(),
        }
    }

    /// Whether `user` may post and read now.
    ///
    /// # Errors
    /// `NotMember`, in the same words whether the channel exists or not.
    pub fn require_member(&self, user: UserId) -> Result<(), Refusal> {
        let member = match self {
            Self::Pair(one, other) => user == *one || user == *other,
            Self::Listed { members, .. } => {
                members.get(&user).is_some_and(|member| member.left.is_none())
            }
        };
        if member { Ok(()) } else { Err(NOT_MEMBER) }
    }

    /// The first members of a channel: the creator as owner. Who is named twice is one member.
    ///
    /// # Errors
    /// `ChannelFull` beyond `members_max`; `Unsupported` for a kind that cannot be created.
    pub fn create(
        creator: UserId,
        kind: ChannelKind,
        title: Arc<str>,
        others: &[UserId],
        members_max: usize,
        map: ShardMap,
    ) -> Result<Change, Refusal> {
        if kind != ChannelKind::Group {
            return refuse(
                RejectCode::Unsupported,
                "only Group channels are created here; a Direct channel exists for every pair",
            );
        }
        let mut users: Vec<UserId> =
            others.iter().copied().filter(|user| *user != creator).collect();
        users.sort_unstable();
        users.dedup();
        users.insert(0, creator);
        if users.len() > members_max {
            return refuse(RejectCode::ChannelFull, "more members than a group may have");
        }
        let role = |user| if user == creator { Role::Owner } else { Role::Member };
        let records = users.iter().map(|&user| record(user, role(user))).collect();
        let recipients = Recipients::listed(users.iter().copied(), map);
        let content = Content::Created { kind, title, members: users.into() };
        Ok(Change { content, records, recipients })
    }

    /// What `op` by `actor` on `targets` comes to. Without an actor nobody's rights are looked at.
    ///
    /// # Errors
    /// `NotMember`, `NotPermitted`, `ChannelFull`, or `Malformed` if it would change nothing.
    pub fn change(
        &self,
        actor: Option<UserId>,
        op: MembershipOp,
        role: Role,
        targets: &[UserId],
        members_max: usize,
        map: ShardMap,
    ) -> Result<Change, Refusal> {
        if let Some(actor) = actor {
            self.require_member(actor)?;
        }
        let Self::Listed { members, recipients } = self else {
            return refuse(
                RejectCode::NotPermitted,
                "the members of a Direct channel are its pair; create a Group",
            );
        };
        let is_member = |user: &UserId| members.get(user).is_some_and(|m| m.left.is_none());
        let mut users: Vec<UserId> = targets.to_vec();
        users.sort_unstable();
        users.dedup();
        users.retain(|user| is_member(user) != (op == MembershipOp::Add));
        if let Some(actor) = actor {
            let targets = users.iter().filter_map(|user| members.get(user));
            check_rights(op, members[&actor].role, role, targets)?;
        }
        if users.is_empty() {
            return refuse(
                RejectCode::Malformed,
                "members: the change is already so for all named",
            );
        }
        let mut records: Vec<Member> = match op {
            MembershipOp::Add => users.iter().map(|&user| record(user, role)).collect(),
            MembershipOp::Remove | MembershipOp::Leave => {
                users.iter().map(|u| members[u]).collect()
            }
        };
        let mut everyone = recipients.clone();
        if op == MembershipOp::Add {
            let now = recipients.len() + users.len();
            if now > members_max {
                return refuse(RejectCode::ChannelFull, "more members than a group may have");
            }
            let stay = members.values().filter(|m| m.left.is_none()).map(|m| m.user);
            everyone = Recipients::listed(stay.chain(users.iter().copied()), map);
        } else if users.iter().any(|user| members[user].role == Role::Owner) {
            records.extend(heir(members, &users));
        }
        let content = Content::Membership { op, role, members: users.into() };
        Ok(Change { content, records, recipients: everyone })
    }

    /// The change took place at `seq`: returns the records as they are to be stored.
    #[must_use]
    pub fn apply(
        &mut self,
        mut change: Change,
        seq: Seq,
        map: ShardMap,
    ) -> (Content, Box<[Member]>) {
        let Self::Listed { members, recipients } = self else {
            unreachable!("a Direct channel permits no change");
        };
        let goes = match &change.content {
            Content::Membership {
                op: MembershipOp::Remove | MembershipOp::Leave, members, ..
            } => Some(Arc::clone(members)),
            _ => None,
        };
        for record in &mut change.records {
            match &goes {
                Some(users) if users.contains(&record.user) => record.left = Some(seq),
                Some(_) => {} // The heir: only her role changes.
                None => record.joined = seq,
            }
            members.insert(record.user, *record);
        }
        if !variants::is(Variant::RecipientsStale) {
            *recipients = active(members, map);
        }
        (change.content, change.records.into())
    }
}

/// A new member's record; the place where she joins is set when it is known.
const fn record(user: UserId, role: Role) -> Member {
    Member { user, role, joined: Seq::ZERO, left: None }
}

/// Adding wants an admin who gives no more than she has; removing wants more rights than the
/// removed have; leaving is everyone's right.
fn check_rights<'m>(
    op: MembershipOp,
    rights: Role,
    given: Role,
    mut targets: impl Iterator<Item = &'m Member>,
) -> Result<(), Refusal> {
    match op {
        MembershipOp::Leave => Ok(()),
        _ if rights < Role::Admin => {
            refuse(RejectCode::NotPermitted, "only an admin or the owner changes members")
        }
        MembershipOp::Add if given > rights || given == Role::Owner => {
            refuse(RejectCode::NotPermitted, "role: higher than the one you may give")
        }
        MembershipOp::Remove if targets.any(|target| target.role >= rights) => {
            refuse(RejectCode::NotPermitted, "members: one of them has rights like yours")
        }
        MembershipOp::Add | MembershipOp::Remove => Ok(()),
    }
}

/// Who owns a group whose owner leaves: the highest role among those who stay, then who has been
/// a member longest.
fn heir(members: &Map<UserId, Member>, leaving: &[UserId]) -> Option<Member> {
    let stay = members.values().filter(|m| m.left.is_none() && !leaving.contains(&m.user));
    let heir = stay.min_by_key(|m| (std::cmp::Reverse(m.role), m.joined, m.user))?;
    Some(Member { role: Role::Owner, ..*heir })
}

fn active(members: &Map<UserId, Member>, map: ShardMap) -> Recipients {
    Recipients::listed(members.values().filter(|m| m.left.is_none()).map(|m| m.user), map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u64) -> UserId {
        UserId::new(number).unwrap()
    }

    fn users(numbers: &[u64]) -> Vec<UserId> {
        numbers.iter().copied().map(user).collect()
    }

    fn map() -> ShardMap {
        ShardMap::new(16, 2)
    }

    /// A group that 1 owns, 2 helps to run and 3 and 4 belong to.
    fn group() -> Membership {
        let roles = [(1, Role::Owner), (2, Role::Admin), (3, Role::Member), (4, Role::Member)];
        let stored: Vec<Member> = roles
            .map(|(number, role)| Member {
                user: user(number),
                role,
                joined: Seq::new(1),
                left: None,
            })
            .into();
        Membership::new(ChannelId::numbered(9).unwrap(), &stored, map())
    }

    fn now(membership: &Membership) -> Vec<u64> {
        let mut found = Vec::new();
        membership
            .recipients()
            .for_each_core(map(), |_, users| found.extend(users.iter().map(UserId::get)));
        found.sort_unstable();
        found
    }

    #[test]
    fn rights_decide_who_may_change_what() {
        use MembershipOp::{Add, Leave, Remove};
        use RejectCode::{ChannelFull, Malformed, NotMember, NotPermitted};
        type Row = (
            &'static str,
            u64,
            MembershipOp,
            Role,
            &'static [u64],
            Result<&'static [u64], RejectCode>,
        );
        let rows: &[Row] = &[
            ("owner adds", 1, Add, Role::Admin, &[7], Ok(&[7])),
            ("admin adds", 2, Add, Role::Member, &[7, 8], Ok(&[7, 8])),
            ("named twice", 2, Add, Role::Member, &[7, 7, 3], Ok(&[7])),
            ("member adds", 3, Add, Role::Member, &[7], Err(NotPermitted)),
            ("outsider adds", 9, Add, Role::Member, &[7], Err(NotMember)),
            ("gives ownership", 1, Add, Role::Owner, &[7], Err(NotPermitted)),
            ("nobody new", 1, Add, Role::Member, &[3], Err(Malformed)),
            ("too many", 1, Add, Role::Member, &[7, 8, 9], Err(ChannelFull)),
            ("owner removes admin", 1, Remove, Role::Member, &[2], Ok(&[2])),
            ("admin removes owner", 2, Remove, Role::Member, &[1], Err(NotPermitted)),
            ("admin removes member", 2, Remove, Role::Member, &[3, 9], Ok(&[3])),
            ("member removes", 3, Remove, Role::Member, &[4], Err(NotPermitted)),
            ("removes outsider", 1, Remove, Role::Member, &[9], Err(Malformed)),
            ("leaves", 3, Leave, Role::Member, &[3], Ok(&[3])),
        ];
        for (name, actor, op, role, targets, expected) in rows {
            let change = group().change(Some(user(*actor)), *op, *role, &users(targets), 6, map());
            let named = change.map_err(|refusal| refusal.code).map(|change| match change.content {
                Content::Membership { members, .. } => members.to_vec(),
                other => panic!("{other:?}"),
            });
            assert_eq!(named, expected.map(users), "{name}");
        }
    }

    #[test]
    fn what_a_service_has_decided_needs_no_rights_of_an_actor() {
        use MembershipOp::{Add, Leave, Remove};
        let rows = [
            ("removes the owner", Remove, Role::Member, 1, Ok(1)),
            ("gives ownership", Add, Role::Owner, 7, Ok(7)),
            ("has one leave", Leave, Role::Member, 3, Ok(3)),
            ("already so", Leave, Role::Member, 9, Err(RejectCode::Malformed)),
        ];
        for (name, op, role, target, expected) in rows {
            let mut group = group();
            let change = group.change(None, op, role, &users(&[target]), 6, map());
            let records = change.map(|change| group.apply(change, Seq::new(8), map()).1);
            let named = records.as_ref().map(|records| records[0].user.get());
            assert_eq!(named.map_err(|refusal| refusal.code), expected, "{name}");
            let owners = match &group {
                Membership::Listed { members, .. } => members.values(),
                Membership::Pair(..) => unreachable!(),
            };
            let owners = owners.filter(|m| m.role == Role::Owner && m.left.is_none());
            assert!(owners.count() > 0, "{name}: somebody owns the group");
        }
    }

    #[test]
    fn those_who_go_get_the_entry_and_nothing_after_it() {
        let mut group = group();
        let targets = users(&[3]);
        let change =
            group.change(Some(user(1)), MembershipOp::Remove, Role::Member, &targets, 6, map());
        let change = change.unwrap();
        assert_eq!(change.recipients.len(), 4);
        let (_, records) = group.apply(change, Seq::new(8), map());
        assert_eq!((records[0].user, records[0].left), (user(3), Some(Seq::new(8))));
        assert_eq!(now(&group), [1, 2, 4]);
        assert_eq!(group.require_member(user(3)), Err(NOT_MEMBER));
    }

    #[test]
    fn an_owner_who_leaves_is_followed_by_an_admin() {
        let mut group = group();
        let change =
            group.change(Some(user(1)), MembershipOp::Leave, Role::Member, &users(&[1]), 6, map());
        let (_, records) = group.apply(change.unwrap(), Seq::new(5), map());
        let owner =
            records.iter().find(|record| record.role == Role::Owner && record.left.is_none());
        assert_eq!(owner.map(|record| (record.user, record.joined)), Some((user(2), Seq::new(1))));
    }

    #[test]
    fn a_pair_permits_itself_and_no_change() {
        let pair = Membership::new(ChannelId::direct(user(1), user(2)), &[], map());
        assert_eq!(pair.require_member(user(2)), Ok(()));
        assert_eq!(pair.require_member(user(3)), Err(NOT_MEMBER));
        let add =
            pair.change(Some(user(1)), MembershipOp::Add, Role::Member, &users(&[3]), 6, map());
        assert_eq!(add.unwrap_err().code, RejectCode::NotPermitted);
    }

    #[test]
    fn the_creator_is_a_member_once_and_the_owner() {
        let create = |kind, others: &[u64]| {
            Membership::create(user(5), kind, "".into(), &users(others), 3, map())
        };
        let change = create(ChannelKind::Group, &[6, 5, 6, 7]).unwrap();
        let roles: Vec<_> = change.records.iter().map(|m| (m.user.get(), m.role)).collect();
        assert_eq!(roles, [(5, Role::Owner), (6, Role::Member), (7, Role::Member)]);
        let full = create(ChannelKind::Group, &[6, 7, 8]).unwrap_err();
        assert_eq!(full.code, RejectCode::ChannelFull);
        let direct = create(ChannelKind::Direct, &[6]).unwrap_err();
        assert_eq!(direct.code, RejectCode::Unsupported);
    }
}
