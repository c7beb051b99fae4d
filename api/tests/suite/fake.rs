//! A core that remembers what it was told, refuses a nonce twice as the real one does, and can fail
//! in the two ways that matter: before it has done a thing, and after.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use api::core::{Conversation, Core, CoreError, Entry, Page, Window};
use async_trait::async_trait;
use wire::{ChannelId, DeviceId, InboxSeq, Nonce, Role, Seq, Timestamp, UserId};

/// What becomes of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// It is not done.
    Deaf,
    /// It is done, and the answer is lost.
    Mute,
}

#[derive(Default)]
struct State {
    mood: Mood,
    /// What was done, in order, as text.
    told: Vec<String>,
    /// What nonces were answered with.
    nonces: HashMap<u64, ChannelId>,
    channels: u64,
    /// What a user is told that she has.
    conversations: HashMap<u64, Vec<Conversation>>,
}

#[derive(Default)]
pub(crate) struct FakeCore {
    state: Mutex<State>,
}

impl FakeCore {
    pub(crate) fn set(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// From now on `user` has this conversation.
    pub(crate) fn has(&self, user: u64, conversation: Conversation) {
        self.lock().conversations.entry(user).or_default().push(conversation);
    }

    /// What was done since the last question.
    pub(crate) fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().told)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Does something once for a nonce; `None` for what may be repeated anyway.
    fn change(
        &self,
        nonce: Option<Nonce>,
        what: String,
        channel: Option<ChannelId>,
    ) -> Result<ChannelId, CoreError> {
        let mut state = self.lock();
        if state.mood == Mood::Deaf {
            return Err(CoreError::Unavailable("deaf".into()));
        }
        let known = nonce.and_then(|nonce| state.nonces.get(&nonce.0).copied());
        let channel = known.or(channel).unwrap_or_else(|| {
            state.channels += 1;
            ChannelId::numbered(state.channels).unwrap()
        });
        if known.is_none() {
            state.told.push(what);
            if let Some(nonce) = nonce {
                state.nonces.insert(nonce.0, channel);
            }
        }
        match state.mood {
            Mood::Mute => Err(CoreError::Unavailable("mute".into())),
            Mood::Well | Mood::Deaf => Ok(channel),
        }
    }
}

fn numbers(users: &[UserId]) -> Vec<u64> {
    users.iter().map(|user| user.get()).collect()
}

#[async_trait]
impl Core for FakeCore {
    async fn create_group(
        &self,
        user: UserId,
        nonce: Nonce,
        title: &str,
        members: &[UserId],
    ) -> Result<ChannelId, CoreError> {
        let what = format!("{} creates {title} with {:?}", user.get(), numbers(members));
        self.change(Some(nonce), what, None)
    }

    async fn add_members(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
        members: &[UserId],
        _role: Role,
    ) -> Result<(), CoreError> {
        let what = format!("{} adds {:?}", user.get(), numbers(members));
        self.change(Some(nonce), what, Some(channel)).map(drop)
    }

    async fn remove_members(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
        members: &[UserId],
    ) -> Result<(), CoreError> {
        let what = format!("{} removes {:?}", user.get(), numbers(members));
        self.change(Some(nonce), what, Some(channel)).map(drop)
    }

    async fn leave(&self, user: UserId, channel: ChannelId, nonce: Nonce) -> Result<(), CoreError> {
        self.change(Some(nonce), format!("{} leaves", user.get()), Some(channel)).map(drop)
    }

    async fn conversations(
        &self,
        user: UserId,
        before: InboxSeq,
        limit: u16,
    ) -> Result<Page<Conversation>, CoreError> {
        let conversations = self.lock().conversations.get(&user.get()).cloned();
        let mut items = conversations.unwrap_or_default();
        items.retain(|it| before == InboxSeq::ZERO || it.inbox_seq < before);
        items.sort_by_key(|it| std::cmp::Reverse(it.inbox_seq));
        let more = items.len() > usize::from(limit);
        items.truncate(limit.into());
        Ok(Page { items, more })
    }

    async fn history(
        &self,
        user: UserId,
        channel: ChannelId,
        window: Window,
        limit: u16,
    ) -> Result<Page<Entry>, CoreError> {
        let conversations = self.lock().conversations.get(&user.get()).cloned();
        let found = conversations.unwrap_or_default().into_iter().find(|it| it.channel == channel);
        let Some(last) = found.and_then(|it| it.last) else {
            let text = "no such channel".to_owned();
            return Err(CoreError::Refused { code: wire::RejectCode::NotMember, text });
        };
        let all = (1..=last.seq.get()).map(|seq| Entry { seq: Seq::new(seq), ..last.clone() });
        let (mut items, from_end): (Vec<Entry>, bool) = match window {
            Window::From(from) => (all.filter(|it| it.seq >= from).collect(), false),
            Window::Before(Seq::ZERO) => (all.collect(), true),
            Window::Before(before) => (all.filter(|it| it.seq < before).collect(), true),
        };
        let surplus = items.len().saturating_sub(limit.into());
        if from_end {
            items.drain(..surplus);
        } else {
            items.truncate(limit.into());
        }
        Ok(Page { items, more: surplus > 0 })
    }

    async fn post(
        &self,
        user: UserId,
        channel: ChannelId,
        nonce: Nonce,
        kind: u8,
        body: Vec<u8>,
    ) -> Result<Seq, CoreError> {
        let text = String::from_utf8_lossy(&body);
        let what = format!("{} posts {text:?} of kind {kind}", user.get());
        self.change(Some(nonce), what, Some(channel)).map(|_| Seq::new(1))
    }

    async fn mark_read(
        &self,
        _user: UserId,
        _channel: ChannelId,
        _seq: Seq,
    ) -> Result<(), CoreError> {
        Ok(())
    }

    async fn end_sessions(
        &self,
        user: UserId,
        device: DeviceId,
        _before: Timestamp,
    ) -> Result<(), CoreError> {
        self.change(None, format!("ends {} of {}", device.0, user.get()), any()).map(drop)
    }

    async fn erase(&self, user: UserId) -> Result<(), CoreError> {
        self.change(None, format!("erases {}", user.get()), any()).map(drop)
    }

    async fn is_well(&self) -> bool {
        self.lock().mood != Mood::Deaf
    }
}

/// For what is about no channel.
fn any() -> Option<ChannelId> {
    ChannelId::numbered(u64::MAX)
}
