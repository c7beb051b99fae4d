//! Recovery: from what a crash left to folded inboxes and an empty journal.
//!
//! The journal says which messages got a place and which inbox entries did, since it was last
//! trimmed. Three phases, each of bounded synced writes:
//!
//! 1. *Fold.* Every inbox entry of the journal goes into chunks and conversations.
//! 2. *Complete.* Every message of the journal goes into the inbox of each recipient that does not
//!    have it: the fan-outs that were cut off.
//! 3. *Empty.* One range deletion removes the journal.
//!
//! # Why a crash during recovery does no harm
//!
//! The journal is not touched before the last write of all, so the next recovery sees the same one
//! and begins again. What it finds done, it skips:
//!
//! * Phase 1 skips entries at or below the inbox's head. The head is the last entry of the last
//!   chunk; a user's chunks and conversations are changed by one write, so what is below the head
//!   is in both.
//! * Phase 2 begins when all of phase 1 is on the disk. It skips messages at or below the
//!   conversation's `last_seq`. A channel's messages enter an inbox in the order of its log (at run
//!   time because commits are dense and lanes are in order, here because this loop is), so a
//!   message at or below `last_seq` is in the inbox, and one above it is not.
//! * Entries that an earlier attempt's phase 2 appended lie above all that the journal names, and
//!   move the head: phase 1 of the next attempt skips the whole journal of that user, which was
//!   folded before they were appended.
//! * Phase 3 is one write.
//!
//! # What it relies on
//!
//! In one run, a user's entries are in one core's stream, ascending, and so are a channel's
//! messages. A shard that moves to another core must be folded and trimmed first.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use variants::Variant;
use wire::{
    ChannelId, ChannelKind, Content, CoreId, InboxEntry, Member, MembershipOp, Seq, UserId,
};

use crate::answer::{kind, members, scan};
use crate::engine::{Direction, Engine, Ops, Table};
use crate::error::{DataError, Torn};
use crate::fold::Folder;
use crate::journal;
use crate::keys::{JournalKey, Key, KeyRange};
use crate::record;

/// What a recovery found and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Cores whose journals it read.
    pub streams: u64,
    /// Journal records: batches since the last trim.
    pub batches: u64,
    /// Messages that the journal names.
    pub messages: u64,
    /// Channels they belong to.
    pub channels: u64,
    /// Inbox entries that the journal names.
    pub entries: u64,
    /// Of those, not yet folded.
    pub folded: u64,
    /// Inbox entries it added because a fan-out was cut off.
    pub completed: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Recovers; `duration` is left to who has a clock.
///
/// # Errors
/// The engine failed, a record is damaged, or records contradict each other. Nothing is lost then:
/// the journal is still there.
pub fn recover<E: Engine>(engine: &E) -> Result<RecoveryReport, DataError> {
    let mut report = RecoveryReport::default();
    let mut folder = Folder::new(engine);
    let channels = fold_journal(engine, &mut folder, &mut report)?;
    if report.batches == 0 {
        return Ok(report);
    }
    folder.flush()?;
    if variants::is(Variant::JournalEmptiedEarly) {
        empty_journal(engine)?;
    }
    report.folded = folder.folded;
    report.channels = channels.len() as u64;
    for (channel, places) in channels {
        report.messages += places.count;
        report.completed += complete_channel(engine, &mut folder, channel, places)?;
    }
    folder.flush()?;
    empty_journal(engine)?;
    Ok(report)
}

/// Phase 3.
fn empty_journal<E: Engine>(engine: &E) -> Result<(), DataError> {
    let mut ops = Ops::with_capacity(0);
    ops.delete_range(Table::Journal, &KeyRange::ALL);
    Ok(engine.write(&mut std::iter::once(&ops), true)?)
}

/// The places of a channel that the journal names.
#[derive(Clone, Copy)]
struct Places {
    first: Seq,
    last: Seq,
    count: u64,
}

/// Phase 1; also gathers what phase 2 has to look at.
fn fold_journal<E: Engine>(
    engine: &E,
    folder: &mut Folder<'_, E>,
    report: &mut RecoveryReport,
) -> Result<BTreeMap<ChannelId, Places>, DataError> {
    let mut channels: BTreeMap<ChannelId, Places> = BTreeMap::new();
    let mut stream: Option<CoreId> = None;
    let mut appended: Vec<(UserId, InboxEntry)> = Vec::new();
    scan(engine, Table::Journal, KeyRange::ALL, Direction::Forward, |key, record| {
        let JournalKey { core, .. } = JournalKey::parse(key)?;
        report.streams += u64::from(stream.replace(core) != Some(core));
        report.batches += 1;
        let sequenced = |channel, seq| {
            let fresh = Places { first: seq, last: seq, count: 0 };
            let places = channels.entry(channel).or_insert(fresh);
            places.first = places.first.min(seq);
            places.last = places.last.max(seq);
            places.count += 1;
        };
        journal::read(key, record, sequenced, |user, entry| appended.push((user, entry)))?;
        report.entries += appended.len() as u64;
        for (user, entry) in appended.drain(..) {
            folder.fold(user, &entry)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for (channel, Places { first, last, count }) in &channels {
        if last.since(*first) + 1 != *count {
            let expected = Seq::new(first.get() + count);
            return Err(Torn::LogGap { channel: *channel, expected, found: *last }.into());
        }
    }
    Ok(channels)
}

/// Phase 2 of one channel; how many inbox entries it added.
fn complete_channel<E: Engine>(
    engine: &E,
    folder: &mut Folder<'_, E>,
    channel: ChannelId,
    places: Places,
) -> Result<u64, DataError> {
    let (end, changes) = read_log(engine, channel, places)?;
    let mut completed = 0;
    if let Some((one, other)) = channel.pair() {
        completed += folder.complete(one, channel, places.first, end)?;
        if other != one {
            completed += folder.complete(other, channel, places.first, end)?;
        }
        return Ok(completed);
    }
    match kind(engine, channel)?.ok_or(Torn::NoCreation { channel })? {
        // Fan-out on read: no inbox entries.
        ChannelKind::Broadcast => return Ok(0),
        ChannelKind::Direct | ChannelKind::Group => {}
    }
    for member in members(engine, channel)? {
        let of_member = changes.get(&member.user).map_or(&[][..], Vec::as_slice);
        for (from, to) in presence(&member, of_member, places.first, end) {
            completed += folder.complete(member.user, channel, from, to)?;
        }
    }
    Ok(completed)
}

/// Coming (true) and going of members, by user, ascending.
type Changes = BTreeMap<UserId, Vec<(Seq, bool)>>;

/// Reads the log from the first place in question to its end: it must have no hole. Its end, and
/// who came and went.
fn read_log<E: Engine>(
    engine: &E,
    channel: ChannelId,
    places: Places,
) -> Result<(Seq, Changes), DataError> {
    let mut changes = Changes::new();
    let mut expected = places.first;
    let range = KeyRange::messages(channel, places.first, Seq::new(u64::MAX));
    scan(engine, Table::Messages, range, Direction::Forward, |key, record| {
        let entry = record::entry(key, record)?;
        if entry.seq != expected {
            return Err(Torn::LogGap { channel, expected, found: entry.seq }.into());
        }
        expected = expected.next();
        let (users, came) = match &entry.content {
            Content::Message { .. } => return Ok(ControlFlow::Continue(())),
            Content::Created { members, .. } => (members, true),
            Content::Membership { op, members, .. } => (members, *op == MembershipOp::Add),
        };
        for user in users.iter() {
            changes.entry(*user).or_default().push((entry.seq, came));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let end = Seq::new(expected.get() - 1);
    if end < places.last {
        return Err(Torn::LogGap { channel, expected, found: Seq::ZERO }.into());
    }
    Ok((end, changes))
}

/// The parts of `first..=end` in which somebody was a member. Both her coming and her going belong
/// to them: she is told of either.
///
/// Her record knows only the last coming and going. Where she came and went within the range, the
/// log knows more: going first means that she was there before. Coming first means that she was
/// not, unless her record has not moved since then: adding a member again changes her role only.
fn presence(member: &Member, changes: &[(Seq, bool)], first: Seq, end: Seq) -> Vec<(Seq, Seq)> {
    if variants::is(Variant::FormerMembersCompleted) {
        return vec![(first, end)];
    }
    let before = match changes.first() {
        None => member.joined < first && member.left.is_none_or(|left| left >= first),
        Some((came_at, true)) => member.joined < *came_at,
        Some((_, false)) => true,
    };
    let mut parts = Vec::new();
    let mut since = before.then_some(first);
    for (seq, came) in changes {
        match (came, since) {
            (true, None) => since = Some(*seq),
            (false, Some(from)) => {
                parts.push((from, *seq));
                since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    parts.extend(since.map(|from| (from, end)));
    parts
}
