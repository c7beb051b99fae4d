//! What is asked of the store, and its answers. No core waits for a disk: what needs an answer is
//! set aside with a ticket.

use std::sync::Arc;

use router::inbox::InboxLoaded;
use router::nonces::{Receipt, SendKey};
use router::sequencer::{Loaded, Searched};
use router::sessions::ConnId;
use store::{Answer, Read, ReadAnswer, Recent};
use variants::Variant;
use wire::client::{ChannelList, Direction, History};
use wire::server::{ChannelPage, ConversationEntry, HistoryPage, SyncPage};
use wire::{
    ChannelId, CloseCode, Deliver, Event, InboxEntry, InboxItem, InboxSeq, LogEntry, Nonce,
    ReadMarker, RejectCode, Seq, Timestamp, UserId,
};

use super::Shard;
use crate::connection::Connection;
use crate::event::{Effect, Effects};

/// What an answer is for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// A channel that is spoken of.
    Channel(ChannelId),
    /// Old sends.
    Sends {
        /// In which channel.
        channel: ChannelId,
        /// Which.
        keys: Arc<[SendKey]>,
        /// The window covers the log from here on.
        below: Seq,
    },
    /// A user's state.
    Inbox {
        /// Whose.
        user: UserId,
        /// And one conversation of hers.
        channel: Option<ChannelId>,
    },
    /// A user's head, for her connections that wait for it.
    Head(UserId),
    /// Conversations of a user who is being erased: what she is still to leave.
    Left(usize),
    /// A page for a session.
    Page {
        /// Whose.
        conn: ConnId,
        /// The request it answers; 0 for the first page after Hello.
        request: u32,
        /// It is one of the inbox, and counts among the catch-ups.
        is_sync: bool,
    },
}

impl Shard {
    /// Asks the store for something of this core's own.
    pub(super) fn ask(&mut self, asked: Asked, effects: &mut Effects) {
        let nonce_window = u32::try_from(self.common.limits.sequencer.nonce_window)
            .expect("the configuration bounds it");
        let read = match asked {
            Asked::Channel(channel) => Read::Channel { channel, nonce_window },
            Asked::Sends { channel, ref keys, below } => {
                let named = |key: &SendKey| (key.sender, key.device, key.nonce);
                let sends = keys.iter().map(named).collect();
                let scan_max = self.common.limits.retry_scan_max;
                Read::FindSends { channel, sends, below, scan_max }
            }
            Asked::Inbox { user, channel } => {
                Read::Inbox { user, channels: channel.into_iter().collect() }
            }
            Asked::Left(key) => self.conversations_of_erased(key),
            Asked::Head(user) => Read::Inbox { user, channels: Vec::new() },
            Asked::Page { .. } => unreachable!("asked by `ask_page`"),
        };
        self.push_read(asked, read, effects);
    }

    /// Asks once more what could not be answered.
    pub(super) fn ask_again(&mut self, effects: &mut Effects) {
        for asked in std::mem::take(&mut self.unanswered) {
            if matches!(asked, Asked::Head(_)) {
                self.note_catch_up();
            }
            self.ask(asked, effects);
        }
    }

    fn ask_page(&mut self, conn: ConnId, request: u32, read: Read, effects: &mut Effects) {
        if !self.outgoing.has_room_for_page(conn) {
            // It has not read what it was sent, and asks for more.
            return self.outgoing.give_up(conn);
        }
        let live = self.outgoing.connections.get(conn).and_then(Connection::live);
        live.expect("a session asks").reads_in_flight += 1;
        self.push_read(Asked::Page { conn, request, is_sync: false }, read, effects);
    }

    fn push_read(&mut self, asked: Asked, read: Read, effects: &mut Effects) {
        let ticket = self.asked.insert(asked) as u64;
        self.counts.reads += 1;
        effects.push(Effect::Read(ticket, read));
    }

    /// Asks for the page of a session's inbox after `after`, unless it has ended.
    pub(super) fn push_sync(
        &mut self,
        conn: ConnId,
        request: u32,
        after: InboxSeq,
        limit: u16,
        effects: &mut Effects,
    ) -> bool {
        let page_max = self.common.limits.told.sync_page_max;
        let Some(live) = self.outgoing.connections.get(conn).and_then(Connection::live) else {
            return false;
        };
        let user = live.user.expect("a service has no inbox");
        let head = self.inboxes.committed(user).expect("known while it has a session");
        let limit = page(limit, page_max);
        let after = after.min(head);
        // What only the journal holds, as far as a page can reach; the rest is not asked for.
        let tail = self.inboxes.tail(user, after, limit as usize);
        let reaches_head = tail.len() < limit as usize;
        let head = tail.last().filter(|_| !reaches_head).map_or(head, |last| last.inbox_seq);
        let bytes_max = self.common.limits.bounds.page_bytes_max;
        let read = Read::Sync { user, after, limit, bytes_max, tail, head };
        self.push_read(Asked::Page { conn, request, is_sync: true }, read, effects);
        true
    }

    pub(super) fn ask_history(
        &mut self,
        conn: ConnId,
        request: u32,
        user: UserId,
        history: &History,
        effects: &mut Effects,
    ) {
        let limit = page(history.limit, self.common.limits.told.history_page_max);
        let direction = match history.direction {
            Direction::Backward => store::Direction::Backward,
            Direction::Forward => store::Direction::Forward,
        };
        let read = Read::History {
            channel: history.channel,
            reader: user,
            from: history.from,
            direction,
            limit,
            bytes_max: self.common.limits.bounds.page_bytes_max,
        };
        self.ask_page(conn, request, read, effects);
    }

    pub(super) fn ask_conversations(
        &mut self,
        conn: ConnId,
        request: u32,
        user: UserId,
        list: &ChannelList,
        effects: &mut Effects,
    ) {
        let read = self.read_conversations(user, list);
        self.ask_page(conn, request, read, effects);
    }

    /// The question for the conversations of a user of this core.
    pub(super) fn read_conversations(&self, user: UserId, list: &ChannelList) -> Read {
        let limit = page(list.limit, self.common.limits.told.channel_page_max);
        let overlay = self.inboxes.changed_conversations(user);
        let last_bytes_max = list.with_last.then_some(self.common.limits.bounds.page_bytes_max);
        Read::Conversations { user, before: list.before, limit, overlay, last_bytes_max }
    }

    /// Asks what the core of a user has made of a service's question, which is counted already.
    pub(super) fn ask_for_service(
        &mut self,
        conn: ConnId,
        request: u32,
        read: Read,
        effects: &mut Effects,
    ) {
        if self.outgoing.connections.get(conn).and_then(Connection::live).is_some() {
            self.push_read(Asked::Page { conn, request, is_sync: false }, read, effects);
        }
    }

    pub(super) fn answered(&mut self, answer: Answer, effects: &mut Effects) {
        let ticket = usize::try_from(answer.ticket).expect("a ticket is an index");
        let asked = self.asked.remove(ticket);
        let is_catch_up = matches!(asked, Asked::Head(_) | Asked::Page { is_sync: true, .. });
        match (asked, answer.answer) {
            (asked, ReadAnswer::Failed(error)) => self.read_failed(asked, &error, effects),
            (Asked::Channel(id), ReadAnswer::Channel { last, members, recent, .. }) => {
                self.channel_read(id, last, members, &recent, effects);
            }
            (Asked::Sends { channel, .. }, ReadAnswer::FindSends { found, whole }) => {
                let found = found.iter().map(send_of).collect();
                let searched = Searched { found, is_whole: whole };
                self.sequencer.handle_searched(channel, searched);
                self.go_on_with(channel, effects);
            }
            (
                Asked::Inbox { user, channel },
                ReadAnswer::Inbox { head, cursors, endings, conversations, .. },
            ) => {
                debug_assert!(channel.is_some() != conversations.is_empty());
                let conversation = conversations.into_iter().next();
                self.inbox_read(
                    InboxLoaded { user, head, cursors, endings, conversation },
                    effects,
                );
            }
            (Asked::Head(user), ReadAnswer::Inbox { head, cursors, endings, .. }) => {
                let loaded = InboxLoaded { user, head, cursors, endings, conversation: None };
                self.inbox_read(loaded, effects);
            }
            (Asked::Left(key), ReadAnswer::Conversations { conversations, more, .. }) => {
                self.leave_groups(key, &conversations, more);
            }
            (Asked::Page { conn, request, .. }, answer) => self.show_page(conn, request, answer),
            (asked, answer) => unreachable!("{asked:?} was answered with {answer:?}"),
        }
        if is_catch_up {
            self.caught_up(effects);
        }
    }

    fn channel_read(
        &mut self,
        id: ChannelId,
        last: Seq,
        members: Vec<wire::Member>,
        recent: &[Recent],
        effects: &mut Effects,
    ) {
        let last_created_at = recent.last().map_or(Timestamp(0), |newest| newest.created_at);
        let recent = recent.iter().map(send_of).collect();
        self.sequencer.handle_loaded(id, Loaded { last, last_created_at, members, recent });
        self.go_on_with(id, effects);
    }

    /// The offers that waited in a channel are sequenced. They may exceed a batch's bound by as
    /// many as may wait in a channel.
    fn go_on_with(&mut self, channel: ChannelId, effects: &mut Effects) {
        while let Some(verdict) = self.sequencer.next_parked(channel, self.now.wall) {
            self.obey(verdict, effects);
        }
    }

    fn inbox_read(&mut self, loaded: InboxLoaded, effects: &mut Effects) {
        let user = loaded.user;
        self.inboxes.handle_loaded(loaded);
        self.welcome_joining(user, effects);
        self.obey_services(user, effects);
        self.place_parked(user, effects);
        if !self.sessions.is_online(user) {
            self.inboxes.forget_if_idle(user);
        }
    }

    fn show_page(&mut self, conn: ConnId, request: u32, answer: ReadAnswer) {
        let Some(live) = self.outgoing.connections.get(conn).and_then(Connection::live) else {
            return;
        };
        live.reads_in_flight -= 1;
        match answer {
            ReadAnswer::Sync { entries, next, .. } => {
                self.show_sync(conn, request, &entries, next);
            }
            ReadAnswer::History { channel, entries, more } => {
                let events: Vec<Event<'_>> = entries.iter().map(LogEntry::as_event).collect();
                let page = HistoryPage { channel, entries: events.as_slice().into(), more };
                self.outgoing.send(conn, request, page);
            }
            ReadAnswer::NotMember { channel } => {
                let text = "no such channel, or you are not a member";
                let about = (Some(channel), Nonce(0));
                self.outgoing.reject(conn, request, about, (RejectCode::NotMember, text, 0));
            }
            ReadAnswer::Conversations { conversations, last, more, .. } => {
                let entries: Vec<_> = conversations
                    .into_iter()
                    .zip(&last)
                    .map(|((channel, conversation), last)| {
                        let last = last.as_ref().map(LogEntry::as_event);
                        ConversationEntry { channel, conversation, last }
                    })
                    .collect();
                let page = ChannelPage { conversations: entries.as_slice().into(), more };
                self.outgoing.send(conn, request, page);
            }
            answer => unreachable!("a page was answered with {answer:?}"),
        }
    }

    /// A page of the inbox. One that reaches the head makes the session caught up, in the same
    /// step in which the head is looked at, so that no delivery falls between.
    fn show_sync(
        &mut self,
        conn: ConnId,
        request: u32,
        entries: &[(InboxEntry, Option<LogEntry>)],
        next: InboxSeq,
    ) {
        let live = self.outgoing.connections.get(conn).and_then(Connection::live);
        let live = live.expect("looked up by the caller");
        let user = live.user.expect("a service has no inbox");
        let head = self.inboxes.committed(user).expect("known while it has a session");
        let end = if live.caught_up {
            next >= live.delivered
        } else {
            live.delivered = next;
            live.caught_up = next == head || variants::is(Variant::PageEndEarly);
            live.caught_up
        };
        let deliveries: Vec<Deliver<'_>> =
            entries.iter().filter_map(|(entry, logged)| shown(entry, logged)).collect();
        let page = SyncPage { entries: deliveries.as_slice().into(), next, end };
        self.outgoing.send(conn, request, page);
    }

    /// The disk failed or holds damaged records: whoever asked is told, nothing else is disturbed.
    fn read_failed(&mut self, asked: Asked, error: &store::DataError, effects: &mut Effects) {
        self.counts.reads_failed += 1;
        tracing::error!(?asked, %error, "the store could not answer");
        match asked {
            Asked::Page { conn, .. } => self.close_session(conn, CloseCode::Internal, effects),
            // What waits for it waits on, in order and bounded: nothing else could go on without
            // knowing what the disk knows.
            Asked::Channel(_)
            | Asked::Sends { .. }
            | Asked::Inbox { .. }
            | Asked::Head(_)
            | Asked::Left(_) => {
                self.unanswered.push(asked);
            }
        }
    }
}

fn page(asked: u16, max: u16) -> u32 {
    if asked == 0 { max.into() } else { asked.min(max).into() }
}

const fn send_of(recent: &Recent) -> (SendKey, Receipt) {
    let Recent { seq, sender, device, nonce, created_at, fingerprint } = *recent;
    (SendKey { sender, device, nonce }, Receipt { seq, created_at, fingerprint })
}

/// An entry of a page. A device's own messages have their body here: it may have lost them.
fn shown<'e>(entry: &InboxEntry, logged: &'e Option<LogEntry>) -> Option<Deliver<'e>> {
    let event = match (entry.item, logged) {
        (InboxItem::Logged { .. }, Some(logged)) => logged.as_event(),
        (InboxItem::ReadMarker { channel, user, seq }, _) => {
            Event::ReadMarker(ReadMarker { channel, user, seq })
        }
        (InboxItem::Logged { .. }, None) => return None,
    };
    Some(Deliver { inbox_seq: entry.inbox_seq, event })
}
