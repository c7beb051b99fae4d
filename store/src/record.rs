//! Records: one format byte, then fields in little-endian order, then what varies in length.
//!
//! The format byte is per kind of record, so one kind can change without the others; a reader
//! refuses a format it does not know by name.

use std::sync::Arc;

use bytes::Bytes;
use wire::{
    ChannelId, ChannelKind, Content, Conversation, DeviceId, InboxEntry, InboxItem, InboxSeq,
    LogEntry, Member, MembershipOp, Nonce, Role, Seq, Timestamp, UserId,
};

use crate::engine::Table;
use crate::error::CorruptRecord;
use crate::keys::{ChunkKey, Key, MemberKey, MessageKey, PLACE_MAX};

const ENTRY: u8 = 1;
const MEMBER: u8 = 1;
const CHUNK: u8 = 1;
const CONVERSATION: u8 = 1;
const CURSOR: u8 = 1;
const ENDING: u8 = 1;

const MESSAGE: u8 = 0;
const MEMBERSHIP: u8 = 1;
const CREATED: u8 = 2;

const LOGGED: u8 = 0;
const READ_MARKER: u8 = 1;

/// What is wrong with a record, before its table and key are known.
pub(crate) type Wrong = &'static str;

/// Appends a log entry (without its channel and seq: they are the key).
pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) {
    out.push(ENTRY);
    out.extend_from_slice(&entry.sender.get().to_le_bytes());
    out.extend_from_slice(&entry.device.0.to_le_bytes());
    out.extend_from_slice(&entry.nonce.0.to_le_bytes());
    out.extend_from_slice(&entry.created_at.0.to_le_bytes());
    match &entry.content {
        Content::Message { kind, body } => {
            out.extend_from_slice(&[MESSAGE, *kind]);
            out.extend_from_slice(body);
        }
        Content::Membership { op, role, members } => {
            out.extend_from_slice(&[MEMBERSHIP, *op as u8, *role as u8]);
            put_users(out, members);
        }
        Content::Created { kind, title, members } => {
            out.extend_from_slice(&[CREATED, *kind as u8]);
            put_count(out, title.len());
            out.extend_from_slice(title.as_bytes());
            put_users(out, members);
        }
    }
}

/// The log entry at `key`.
pub(crate) fn entry(key: &[u8], record: &[u8]) -> Result<LogEntry, CorruptRecord> {
    let MessageKey { channel, seq } = MessageKey::parse(key)?;
    named(Table::Messages, key, || {
        let mut fields = Fields::new(record, ENTRY)?;
        Ok(LogEntry {
            channel,
            seq,
            sender: fields.user()?,
            device: DeviceId(fields.u32()?),
            nonce: Nonce(fields.u64()?),
            created_at: Timestamp(fields.u64()?),
            content: content(&mut fields)?,
        })
    })
}

fn content(fields: &mut Fields<'_>) -> Result<Content, Wrong> {
    let content = match fields.u8()? {
        MESSAGE => Content::Message {
            kind: fields.u8()?,
            body: Bytes::copy_from_slice(fields.take_rest()),
        },
        MEMBERSHIP => Content::Membership {
            op: match fields.u8()? {
                0 => MembershipOp::Add,
                1 => MembershipOp::Remove,
                2 => MembershipOp::Leave,
                _ => return Err("unknown membership change"),
            },
            role: fields.role()?,
            members: fields.users()?,
        },
        CREATED => Content::Created {
            kind: match fields.u8()? {
                1 => ChannelKind::Group,
                2 => ChannelKind::Broadcast,
                _ => return Err("unknown channel kind"),
            },
            title: {
                let bytes = fields.u32()? as usize;
                std::str::from_utf8(fields.take(bytes)?)
                    .map_err(|_| "the title is not UTF-8")?
                    .into()
            },
            members: fields.users()?,
        },
        _ => return Err("unknown content"),
    };
    fields.end()?;
    Ok(content)
}

/// Appends a member (without channel and user: they are the key).
pub(crate) fn put_member(out: &mut Vec<u8>, member: &Member) {
    out.extend_from_slice(&[MEMBER, member.role as u8]);
    out.extend_from_slice(&member.joined.get().to_le_bytes());
    out.extend_from_slice(&member.left.unwrap_or(Seq::ZERO).get().to_le_bytes());
}

/// The member at `key`.
pub(crate) fn member(key: &[u8], record: &[u8]) -> Result<Member, CorruptRecord> {
    let MemberKey { user, .. } = MemberKey::parse(key)?;
    named(Table::Meta, key, || {
        let mut fields = Fields::new(record, MEMBER)?;
        let (role, joined, left) = (fields.role()?, fields.number()?, fields.number()?);
        fields.end()?;
        let left = (left != 0).then(|| Seq::new(left));
        Ok(Member { user, role, joined: Seq::new(joined), left })
    })
}

/// Appends a chunk. Its first `inbox_seq` is in the key, and the entries follow without a gap.
pub(crate) fn put_chunk(out: &mut Vec<u8>, first: InboxSeq, entries: &[InboxEntry]) {
    out.push(CHUNK);
    let mut expected = first;
    for entry in entries {
        assert_eq!(entry.inbox_seq, expected, "the entries of a chunk have no gap");
        expected = expected.next();
        put_item(out, &entry.item);
    }
}

/// The entries of the chunk at `key`, ascending.
pub(crate) fn chunk(key: &[u8], record: &[u8]) -> Result<Vec<InboxEntry>, CorruptRecord> {
    let ChunkKey { first, .. } = ChunkKey::parse(key)?;
    named(Table::Inbox, key, || {
        let mut fields = Fields::new(record, CHUNK)?;
        let mut entries = Vec::with_capacity(fields.rest.len() / ITEM_BYTES_MIN);
        let mut inbox_seq = first;
        while !fields.rest.is_empty() {
            entries.push(InboxEntry { inbox_seq, item: fields.item()? });
            inbox_seq = inbox_seq.next();
        }
        if entries.is_empty() { Err("a chunk without entries") } else { Ok(entries) }
    })
}

/// Appends a conversation.
pub(crate) fn put_conversation(out: &mut Vec<u8>, conversation: &Conversation) {
    out.push(CONVERSATION);
    for number in
        [conversation.last_seq.get(), conversation.read_seq.get(), conversation.inbox_seq.get()]
    {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// The conversation at `key`.
pub(crate) fn conversation(key: &[u8], record: &[u8]) -> Result<Conversation, CorruptRecord> {
    named(Table::Inbox, key, || {
        let mut fields = Fields::new(record, CONVERSATION)?;
        let conversation = Conversation {
            last_seq: Seq::new(fields.number()?),
            read_seq: Seq::new(fields.number()?),
            inbox_seq: InboxSeq::new(fields.number()?),
        };
        fields.end()?;
        Ok(conversation)
    })
}

/// Appends a device's cursor.
pub(crate) fn put_cursor(out: &mut Vec<u8>, cursor: InboxSeq) {
    out.push(CURSOR);
    out.extend_from_slice(&cursor.get().to_le_bytes());
}

/// The cursor at `key`.
pub(crate) fn cursor(key: &[u8], record: &[u8]) -> Result<InboxSeq, CorruptRecord> {
    named(Table::Inbox, key, || {
        let mut fields = Fields::new(record, CURSOR)?;
        let cursor = InboxSeq::new(fields.number()?);
        fields.end()?;
        Ok(cursor)
    })
}

/// Appends up to when a device's credentials are refused.
pub(crate) fn put_ending(out: &mut Vec<u8>, before: Timestamp) {
    out.push(ENDING);
    out.extend_from_slice(&before.0.to_le_bytes());
}

/// The ending at `key`.
pub(crate) fn ending(key: &[u8], record: &[u8]) -> Result<Timestamp, CorruptRecord> {
    named(Table::Inbox, key, || {
        let mut fields = Fields::new(record, ENDING)?;
        let before = Timestamp(fields.u64()?);
        fields.end()?;
        Ok(before)
    })
}

/// Bytes of the smaller kind of item: kind, channel, seq.
pub(crate) const ITEM_BYTES_MIN: usize = 1 + 16 + 8;

/// Appends what an inbox entry points to.
pub(crate) fn put_item(out: &mut Vec<u8>, item: &InboxItem) {
    match *item {
        InboxItem::Logged { channel, seq } => {
            out.push(LOGGED);
            put_place(out, channel, seq);
        }
        InboxItem::ReadMarker { channel, user, seq } => {
            out.push(READ_MARKER);
            put_place(out, channel, seq);
            out.extend_from_slice(&user.get().to_le_bytes());
        }
    }
}

/// Appends a place of a channel's log.
pub(crate) fn put_place(out: &mut Vec<u8>, channel: ChannelId, seq: Seq) {
    let (high, low) = channel.halves();
    for number in [high, low, seq.get()] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_users(out: &mut Vec<u8>, users: &[UserId]) {
    put_count(out, users.len());
    for user in users {
        out.extend_from_slice(&user.get().to_le_bytes());
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("lists and titles are bounded far below 4 G");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Puts the table and key to what is wrong with a record.
pub(crate) fn named<T>(
    table: Table,
    key: &[u8],
    read: impl FnOnce() -> Result<T, Wrong>,
) -> Result<T, CorruptRecord> {
    read().map_err(|what| CorruptRecord::new(table, key, what))
}

/// The fields of a record that have not been read yet.
pub(crate) struct Fields<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields after the format byte, which must be the known one.
    pub(crate) fn new(record: &'a [u8], format: u8) -> Result<Self, Wrong> {
        match record.split_first() {
            None => Err("the record is empty"),
            Some((found, rest)) if *found == format => Ok(Self { rest }),
            Some(_) => Err("unknown record format"),
        }
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Wrong> {
        let (part, rest) = self.rest.split_at_checked(bytes).ok_or("the record is cut short")?;
        self.rest = rest;
        Ok(part)
    }

    fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (part, rest) = self.rest.split_first_chunk().ok_or("the record is cut short")?;
        self.rest = rest;
        Ok(*part)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Wrong> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Wrong> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Wrong> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn user(&mut self) -> Result<UserId, Wrong> {
        UserId::new(self.u64()?).ok_or("a user id is 0")
    }

    fn users(&mut self) -> Result<Arc<[UserId]>, Wrong> {
        let count = self.u32()? as usize;
        let bytes = self.take(count.checked_mul(8).ok_or("the record is cut short")?)?;
        let mut list = Fields { rest: bytes };
        (0..count).map(|_| list.user()).collect()
    }

    fn role(&mut self) -> Result<Role, Wrong> {
        match self.u8()? {
            0 => Ok(Role::Member),
            1 => Ok(Role::Admin),
            2 => Ok(Role::Owner),
            _ => Err("unknown role"),
        }
    }

    /// The number of a place, or 0 where there may be none.
    pub(crate) fn number(&mut self) -> Result<u64, Wrong> {
        match self.u64()? {
            number @ 0..=PLACE_MAX => Ok(number),
            _ => Err("a sequence number is beyond all that are reached"),
        }
    }

    /// A place of a channel's log that an entry stands at.
    pub(crate) fn logged(&mut self) -> Result<(ChannelId, Seq), Wrong> {
        match self.place()? {
            (_, Seq::ZERO) => Err("a sequence number is 0"),
            logged => Ok(logged),
        }
    }

    /// A place of a channel's log, or the one before its first.
    pub(crate) fn place(&mut self) -> Result<(ChannelId, Seq), Wrong> {
        let channel = ChannelId::from_halves(self.u64()?, self.u64()?);
        Ok((channel.ok_or("no channel has this id")?, Seq::new(self.number()?)))
    }

    /// What an inbox entry points to.
    pub(crate) fn item(&mut self) -> Result<InboxItem, Wrong> {
        match self.u8()? {
            LOGGED => {
                let (channel, seq) = self.logged()?;
                Ok(InboxItem::Logged { channel, seq })
            }
            READ_MARKER => {
                let (channel, seq) = self.place()?;
                Ok(InboxItem::ReadMarker { channel, seq, user: self.user()? })
            }
            _ => Err("unknown inbox item"),
        }
    }

    pub(crate) fn end(&self) -> Result<(), Wrong> {
        if self.rest.is_empty() { Ok(()) } else { Err("the record is too long") }
    }
}
