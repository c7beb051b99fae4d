//! What the peer keeps for sessions that come back: the entries of inboxes, and first answers.

use std::collections::HashMap;

use wire::client::Post;
use wire::server::{Posted, SyncPage};
use wire::{ChannelId, Deliver, Deliveries, Event, InboxSeq, Message, Nonce, UserId};

use super::message;

#[derive(Default)]
pub(super) struct Kept {
    entries: HashMap<UserId, Vec<Entry>>,
    answers: HashMap<(UserId, ChannelId, Nonce), Posted>,
}

/// A message in an inbox; nothing else is asked for by a cursor.
struct Entry {
    inbox_seq: u64,
    of: Posted,
    sender: UserId,
    body: Option<Vec<u8>>,
}

impl Kept {
    pub(super) fn entry(&mut self, user: UserId, inbox_seq: u64, event: &Event<'_>) {
        let Event::Message(Message { sender, nonce, channel, body, .. }) = *event else { return };
        let of = self.answers[&(sender, channel, nonce)];
        let body = body.map(<[u8]>::to_vec);
        self.entries.entry(user).or_default().push(Entry { inbox_seq, of, sender, body });
    }

    pub(super) fn answer(&mut self, user: UserId, posted: Posted) {
        self.answers.insert((user, posted.channel, posted.nonce), posted);
    }

    pub(super) fn first_answer(&self, user: UserId, post: &Post<'_>) -> Option<Posted> {
        self.answers.get(&(user, post.channel, post.nonce)).copied()
    }

    /// Sends everything behind `cursor` as one page; nothing if there is nothing, as a gateway
    /// does.
    pub(super) fn send_page(&self, user: UserId, cursor: u64, send: impl FnOnce(SyncPage<'_>)) {
        let entries: Vec<_> = self.entries.get(&user).into_iter().flatten().collect();
        let behind: Vec<_> = entries
            .into_iter()
            .filter(|entry| entry.inbox_seq > cursor)
            .map(|Entry { inbox_seq, of, sender, body }| Deliver {
                inbox_seq: InboxSeq::new(*inbox_seq),
                event: message(of.channel, of.seq, *sender, of.nonce, body.as_deref()),
            })
            .collect();
        if let Some(last) = behind.last() {
            let next = last.inbox_seq;
            send(SyncPage { entries: Deliveries::from(&*behind), next, end: true });
        }
    }
}
