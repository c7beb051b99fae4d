//! The full check: everything is read and compared with everything it must agree with.
//!
//! For a recovered store that nobody writes to. It decodes every record, so a damaged one ends it;
//! what contradicts is counted, and the first few are named.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use wire::{ChannelId, Conversation, InboxItem, InboxSeq, Seq, UserId};

use crate::answer::{parsed_chunk, scan};
use crate::engine::{Direction, Engine, Table};
use crate::error::{DataError, Torn};
use crate::fold::observe;
use crate::keys::{
    ConversationKey, CursorKey, EndingKey, JournalKey, Key, KeyBuf, KeyRange, MemberKey, MessageKey,
};
use crate::{fanned, journal, record};

/// Contradictions that a report names; the others are only counted.
const NAMED_MAX: usize = 100;

/// Inbox entries whose messages are looked for by one engine call.
const LOOK_UP_COUNT: usize = 256;

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    /// Log entries.
    pub messages: u64,
    /// Channels that have any.
    pub channels: u64,
    /// Member records.
    pub members: u64,
    /// Users that have an inbox.
    pub users: u64,
    /// Inbox entries.
    pub entries: u64,
    /// Conversations.
    pub conversations: u64,
    /// Device cursors.
    pub cursors: u64,
    /// Times up to which the credentials of a device are refused.
    pub endings: u64,
    /// Journal records; 0 after a recovery.
    pub journal_batches: u64,
    /// How many contradictions.
    pub torn_count: u64,
    /// The first of them.
    pub torn: Vec<Torn>,
}

impl CheckReport {
    /// Nothing contradicts.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.torn_count == 0
    }

    fn name_any(&mut self, torn: Option<Torn>) {
        if let Some(torn) = torn {
            self.name(torn);
        }
    }

    fn name(&mut self, torn: Torn) {
        self.torn_count += 1;
        if self.torn.len() < NAMED_MAX {
            self.torn.push(torn);
        }
    }
}

/// Checks all that `engine` holds.
///
/// # Errors
/// The engine failed, or a record cannot be decoded.
pub fn check<E: Engine>(engine: &E) -> Result<CheckReport, DataError> {
    let mut report = CheckReport::default();
    check_logs(engine, &mut report)?;
    scan(engine, Table::Meta, KeyRange::ALL, Direction::Forward, |key, value| {
        let MemberKey { channel, user } = MemberKey::parse(key)?;
        let joined = record::member(key, value)?.joined;
        report.members += 1;
        report.name_any(fanned::presence(engine, (user, channel), joined)?);
        Ok(ControlFlow::Continue(()))
    })?;
    check_inboxes(engine, &mut report)?;
    scan(engine, Table::Journal, KeyRange::ALL, Direction::Forward, |key, value| {
        JournalKey::parse(key)?;
        journal::read(key, value, |_, _| {}, |_, _| {})?;
        report.journal_batches += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(report)
}

/// Every log is gapless from 1, and a pair has heard of its own.
fn check_logs<E: Engine>(engine: &E, report: &mut CheckReport) -> Result<(), DataError> {
    let mut last: Option<MessageKey> = None;
    scan(engine, Table::Messages, KeyRange::ALL, Direction::Forward, |key, value| {
        let entry = record::entry(key, value)?;
        let before = last.filter(|last| last.channel == entry.channel);
        report.messages += 1;
        if before.is_none() {
            report.channels += 1;
            for user in entry.channel.pair().into_iter().flat_map(|(one, other)| [one, other]) {
                let place = (user, entry.channel);
                report.name_any(fanned::presence(engine, place, entry.seq)?);
            }
        }
        let expected = before.map_or(Seq::ZERO, |before| before.seq).next();
        if entry.seq != expected {
            report.name(Torn::LogGap { channel: entry.channel, expected, found: entry.seq });
        }
        last = Some(MessageKey { channel: entry.channel, seq: entry.seq });
        Ok(ControlFlow::Continue(()))
    })
}

/// One user's inbox as her chunks tell it.
struct Told {
    user: UserId,
    head: InboxSeq,
    conversations: BTreeMap<ChannelId, Conversation>,
}

/// Every inbox is gapless from 1, its entries point to messages, it has all that was for it once,
/// and the conversations are what the entries make of them.
fn check_inboxes<E: Engine>(engine: &E, report: &mut CheckReport) -> Result<(), DataError> {
    let mut told: Option<Told> = None;
    scan(engine, Table::Inbox, KeyRange::all_chunks(), Direction::Forward, |key, value| {
        let (user, entries) = parsed_chunk(key, value)?;
        if told.as_ref().is_none_or(|told| told.user != user) {
            if let Some(told) = told.take() {
                check_conversations(engine, &told, report)?;
            }
            report.users += 1;
        }
        let told = told.get_or_insert_with(|| Told {
            user,
            head: InboxSeq::ZERO,
            conversations: BTreeMap::new(),
        });
        for entry in &entries {
            let expected = told.head.next();
            if entry.inbox_seq != expected {
                report.name(Torn::InboxGap { user, expected, found: entry.inbox_seq });
            }
            told.head = entry.inbox_seq;
            report.entries += 1;
            let conversation = told.conversations.entry(entry.item.channel()).or_default();
            if let InboxItem::Logged { channel, seq } = entry.item {
                let step = fanned::step(engine, (user, channel), conversation.last_seq, seq)?;
                report.name_any(step);
            }
            observe(conversation, user, entry);
        }
        for part in entries.chunks(LOOK_UP_COUNT) {
            look_up(engine, user, part, report)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some(told) = told {
        check_conversations(engine, &told, report)?;
    }
    check_rest(engine, report)
}

fn look_up<E: Engine>(
    engine: &E,
    user: UserId,
    entries: &[wire::InboxEntry],
    report: &mut CheckReport,
) -> Result<(), DataError> {
    let logged = entries.iter().filter_map(|entry| match entry.item {
        InboxItem::Logged { channel, seq } => Some((entry.inbox_seq, MessageKey { channel, seq })),
        InboxItem::ReadMarker { .. } => None,
    });
    let (places, keys): (Vec<_>, Vec<KeyBuf>) =
        logged.map(|(inbox_seq, message)| ((inbox_seq, message), message.key())).unzip();
    let records = engine.get_many(Table::Messages, &keys)?;
    for ((inbox_seq, MessageKey { channel, seq }), record) in places.into_iter().zip(records) {
        if record.is_none() {
            report.name(Torn::MissingMessage { user, inbox_seq, channel, seq });
        }
    }
    Ok(())
}

fn check_conversations<E: Engine>(
    engine: &E,
    told: &Told,
    report: &mut CheckReport,
) -> Result<(), DataError> {
    for (channel, conversation) in &told.conversations {
        report.name_any(fanned::end(engine, (told.user, *channel), conversation.last_seq)?);
    }
    let mut missing = told.conversations.clone();
    let range = KeyRange::conversations(told.user);
    scan(engine, Table::Inbox, range, Direction::Forward, |key, value| {
        let ConversationKey { user, channel } = ConversationKey::parse(key)?;
        let stored = record::conversation(key, value)?;
        if missing.remove(&channel) != Some(stored) {
            report.name(Torn::Conversation { user, channel });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for channel in missing.into_keys() {
        report.name(Torn::Conversation { user: told.user, channel });
    }
    Ok(())
}

/// Decodes and counts the conversations, cursors and endings; a conversation of a user without an
/// inbox has nothing that made it.
fn check_rest<E: Engine>(engine: &E, report: &mut CheckReport) -> Result<(), DataError> {
    let mut known: Option<(UserId, bool)> = None;
    scan(engine, Table::Inbox, KeyRange::all_but_chunks(), Direction::Forward, |key, value| {
        if let Ok(CursorKey { .. }) = CursorKey::parse(key) {
            record::cursor(key, value)?;
            report.cursors += 1;
            return Ok(ControlFlow::Continue(()));
        }
        if let Ok(EndingKey { .. }) = EndingKey::parse(key) {
            record::ending(key, value)?;
            report.endings += 1;
            return Ok(ControlFlow::Continue(()));
        }
        let ConversationKey { user, channel } = ConversationKey::parse(key)?;
        record::conversation(key, value)?;
        report.conversations += 1;
        let has_inbox = match known {
            Some((known, has_inbox)) if known == user => has_inbox,
            _ => !crate::answer::last_chunk(engine, user)?.is_empty(),
        };
        known = Some((user, has_inbox));
        if !has_inbox {
            report.name(Torn::Conversation { user, channel });
        }
        Ok(ControlFlow::Continue(()))
    })
}
