//! The part of the full check that asks whether every message reached every inbox that it was for.
//!
//! It needs no table of who was a member when. A channel's messages enter an inbox in the order of
//! the log, so each entry is compared with the one of the same channel before it: either the next
//! place of the log, or the user had gone with the one and came back with the other. What is behind
//! the last entry is compared with the end of the log. Who was erased is owed nothing.

use std::ops::ControlFlow;

use wire::{ChannelId, ChannelKind, Content, Conversation, MembershipOp, Seq, UserId};

use crate::answer::{conversation, is_erased, kind, scan};
use crate::engine::{Direction, Engine, Table};
use crate::error::{DataError, Torn};
use crate::keys::{Key, KeyRange, MessageKey};
use crate::record;

/// What is wrong with an entry for `seq` of a channel that follows the one for `before` in the same
/// inbox; `Seq::ZERO`: it is the first.
pub(crate) fn step<E: Engine>(
    engine: &E,
    (user, channel): (UserId, ChannelId),
    before: Seq,
    seq: Seq,
) -> Result<Option<Torn>, DataError> {
    let expected = before.next();
    if seq == expected {
        return Ok(None);
    }
    if seq <= before {
        return Ok(Some(Torn::RepeatedEntry { user, channel, seq }));
    }
    if is_erased(engine, user)? {
        return Ok(None);
    }
    let was_away = before == Seq::ZERO || moved(engine, user, channel, before)? == Some(false);
    let is_back = was_away && moved(engine, user, channel, seq)? == Some(true);
    Ok((!is_back).then_some(Torn::MissingEntry { user, channel, seq: expected }))
}

/// What is wrong behind the last entry of a channel in an inbox.
pub(crate) fn end<E: Engine>(
    engine: &E,
    (user, channel): (UserId, ChannelId),
    last: Seq,
) -> Result<Option<Torn>, DataError> {
    let is_whole = last == Seq::ZERO
        || last >= log_end(engine, channel)?
        || is_erased(engine, user)?
        || moved(engine, user, channel, last)? == Some(false);
    Ok((!is_whole).then_some(Torn::MissingEntry { user, channel, seq: last.next() }))
}

/// What is wrong if a user who must have heard of a channel, from `since` on, has no entry of it.
pub(crate) fn presence<E: Engine>(
    engine: &E,
    (user, channel): (UserId, ChannelId),
    since: Seq,
) -> Result<Option<Torn>, DataError> {
    let Conversation { last_seq, .. } = conversation(engine, user, channel)?;
    let is_missing =
        last_seq == Seq::ZERO && kind(engine, channel)? != Some(ChannelKind::Broadcast);
    let is_missing = is_missing && !is_erased(engine, user)?;
    Ok(is_missing.then_some(Torn::MissingEntry { user, channel, seq: since }))
}

/// Whether the log entry tells of the user's coming (true) or going.
fn moved<E: Engine>(
    engine: &E,
    user: UserId,
    channel: ChannelId,
    seq: Seq,
) -> Result<Option<bool>, DataError> {
    let key = MessageKey { channel, seq }.key();
    // A message that is missing is named where the inbox points to it.
    let Some(record) = engine.get(Table::Messages, key.as_ref())? else { return Ok(None) };
    Ok(match record::entry(key.as_ref(), &record)?.content {
        Content::Created { members, .. } => members.contains(&user).then_some(true),
        Content::Membership { op, members, .. } => {
            members.contains(&user).then_some(op == MembershipOp::Add)
        }
        Content::Message { .. } => None,
    })
}

fn log_end<E: Engine>(engine: &E, channel: ChannelId) -> Result<Seq, DataError> {
    let mut end = Seq::ZERO;
    let range = KeyRange::messages(channel, Seq::ZERO, Seq::new(u64::MAX));
    scan(engine, Table::Messages, range, Direction::Backward, |key, _| {
        end = MessageKey::parse(key)?.seq;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(end)
}
