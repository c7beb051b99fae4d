//! How all that is a user's own is removed, in an order that a crash may cut anywhere:
//!
//! 1. She is refused for ever, which also closes her inbox: nothing is placed in it any more. What
//!    is in it is folded in the same batch, since what the journal has of a closed inbox counts for
//!    nothing.
//! 2. When that is durable, she leaves her groups. Her conversations say which, so they stay.
//! 3. When she has left them all, her inbox, conversations and cursors go; then the service that
//!    asked is answered.
//!
//! A service that was not answered asks again; what was done already is found done.

use std::sync::Arc;

use router::nonces::SendKey;
use router::sequencer::{Ask, Offer, Origin};
use router::sessions::ConnId;
use store::Read;
use wire::{
    ChannelId, Conversation, DeviceId, InboxSeq, MembershipOp, Nonce, RejectCode, Role, Timestamp,
    UserId,
};

use super::Shard;
use super::channels::Refused;
use super::frames::ask_fingerprint;
use super::reads::Asked;
use crate::committing::Pending;
use crate::event::Effects;
use crate::messages::{Answered, Request, UserErase};

/// Groups that one user is leaving at the same time.
const LEAVES_MAX: usize = 16;

/// Conversations that are looked at together.
const LIST_LIMIT: u32 = 256;

/// Under which a user who is erased leaves a channel: no service counts so far.
const NONCE: Nonce = Nonce(u64::MAX);

/// A user who is being erased.
#[derive(Debug)]
pub(super) struct Erasure {
    origin: Origin,
    user: UserId,
    /// The conversations up to here have been looked at; `None`: all.
    listed: Option<InboxSeq>,
    /// A list of more of them has been asked for.
    is_asked: bool,
    /// Groups that she is to leave.
    groups: Vec<ChannelId>,
    /// Those that have not answered.
    leaving: usize,
    refused: Option<Refused>,
}

impl Shard {
    /// Closes the user's inbox, and lets the rest wait until that is durable.
    pub(super) fn begin_erasure(&mut self, erase: UserErase, effects: &mut Effects) {
        let UserErase { origin, user } = erase;
        self.fold_user(user);
        if let Err(refused) = self.end_for(user, None, Timestamp::FOREVER, effects) {
            return self.refuse_service(origin, refused);
        }
        let key = self.erasures.insert(Erasure {
            origin,
            user,
            listed: Some(InboxSeq::ZERO),
            is_asked: true,
            groups: Vec::new(),
            leaving: 0,
            refused: None,
        });
        self.committing.push(Pending::Erasing(key));
    }

    /// What to ask of the store for the next of the user's conversations.
    pub(super) fn conversations_of_erased(&self, key: usize) -> Read {
        let Erasure { user, listed, .. } = self.erasures[key];
        Read::Conversations {
            user,
            before: listed.expect("there are more to look at"),
            limit: LIST_LIMIT,
            overlay: self.inboxes.changed_conversations(user),
            last_bytes_max: None,
        }
    }

    /// Some of the user's conversations: she leaves those that are groups.
    pub(super) fn leave_groups(
        &mut self,
        key: usize,
        conversations: &[(ChannelId, Conversation)],
        more: bool,
    ) {
        let erasure = &mut self.erasures[key];
        erasure.is_asked = false;
        let oldest = conversations.last().filter(|_| more);
        erasure.listed = oldest.map(|(_, conversation)| conversation.inbox_seq);
        let groups = conversations.iter().map(|(channel, _)| *channel);
        erasure.groups.extend(groups.filter(|channel| channel.pair().is_none()));
    }

    /// A group has answered.
    pub(super) fn left_group(&mut self, request: u32, verdict: &Answered) {
        let erasure = &mut self.erasures[request as usize];
        erasure.leaving -= 1;
        match *verdict {
            // She was not in it any more: she had left it herself, or before a crash.
            Answered::Rejected { code: RejectCode::NotMember | RejectCode::Malformed, .. } => {}
            Answered::Rejected { code, text, retry_after_ms } => {
                erasure.refused = Some(Refused { code, text, retry_after_ms });
                erasure.groups.clear();
            }
            Answered::Posted { .. } | Answered::Ready { .. } | Answered::Done(_) => {}
        }
    }

    /// A tick: more groups are left, or more conversations asked for, or it is over.
    pub(super) fn go_on_erasing(&mut self, effects: &mut Effects) {
        let keys: Vec<usize> = self.erasures.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.push_leaves(key);
            let erasure = &mut self.erasures[key];
            if erasure.is_asked || erasure.leaving > 0 || !erasure.groups.is_empty() {
                continue;
            }
            let (origin, user) = (erasure.origin, erasure.user);
            if let Some(refused) = erasure.refused.take() {
                self.erasures.remove(key);
                self.refuse_service(origin, refused);
            } else if erasure.listed.is_some() {
                erasure.is_asked = true;
                self.ask(Asked::Left(key), effects);
            } else if self.committing.has_room() {
                self.erasures.remove(key);
                self.inboxes.erase(user);
                self.committing.batch().erase_inbox(user);
                self.committing.push(Pending::Service(origin));
            }
        }
    }

    /// What finds its core full goes at the next tick.
    fn push_leaves(&mut self, key: usize) {
        let request = u32::try_from(key).expect("bounded by what services have under way");
        let origin = Origin { core: self.core, conn: ConnId::NONE, request };
        let erasure = &mut self.erasures[key];
        while erasure.leaving < LEAVES_MAX
            && let Some(channel) = erasure.groups.pop()
        {
            let (user, members): (_, Arc<[UserId]>) = (erasure.user, [erasure.user].into());
            let (op, role) = (MembershipOp::Leave, Role::Member);
            let ask = Ask::Change { op, role, members, decided: true };
            let offer = Offer {
                origin,
                channel,
                key: SendKey { sender: user, device: DeviceId(0), nonce: NONCE },
                retry: false,
                fingerprint: ask_fingerprint(&ask),
                ask,
            };
            let target = self.common.map.core_of_channel(channel);
            if self.mesh.offer(target, Request::Offer(offer)).is_err() {
                return erasure.groups.push(channel);
            }
            erasure.leaving += 1;
        }
    }
}
