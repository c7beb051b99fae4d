//! Keys: big-endian, so that the engine's byte order is the order of the numbers.
//!
//! ```text
//! messages  channel high (8) | low (8) | seq (8)
//! inbox     1 | user (8) | first inbox_seq (8)        a chunk of entries
//!           2 | user (8) | channel (16)               a conversation
//!           3 | user (8) | device (4)                 a device's cursor
//!           4 | user (8) | device (4), 0 for all      up to when credentials are refused
//! meta      1 | channel (16) | user (8)               a member
//! journal   core (2) | batch number (8)
//! ```
//!
//! Checked on both roads: no key is made of a zero, and what is read back has the length, the
//! kind and ids that exist.

use wire::{BatchNumber, ChannelId, CoreId, DeviceId, InboxSeq, Seq, UserId};

use crate::engine::Table;
use crate::error::CorruptRecord;

/// One more than the longest key, a conversation: room for a bound beyond every key.
const KEY_BYTES_MAX: usize = 26;

/// An encoded key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyBuf {
    bytes: [u8; KEY_BYTES_MAX],
    len: u8,
}

impl AsRef<[u8]> for KeyBuf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl KeyBuf {
    const EMPTY: Self = Self { bytes: [0; KEY_BYTES_MAX], len: 0 };

    fn push(mut self, part: &[u8]) -> Self {
        let start = usize::from(self.len);
        self.bytes[start..start + part.len()].copy_from_slice(part);
        self.len += u8::try_from(part.len()).expect("a part of a key has at most 16 bytes");
        self
    }

    fn push_channel(self, channel: ChannelId) -> Self {
        let (high, low) = channel.halves();
        self.push(&high.to_be_bytes()).push(&low.to_be_bytes())
    }

    /// Beyond every key that starts with this one, and itself one of them: filled up with ones to
    /// a length that no key has. RocksDB finds the end of a range by its prefix too, so a bound in
    /// the next prefix would have it ask the filter for the wrong one.
    fn end_of_prefix(mut self) -> Self {
        self.bytes[usize::from(self.len)..].fill(0xff);
        self.len = KEY_LEN_MAX;
        self
    }
}

/// No log, inbox or journal gets so long: a million a second take 290,000 years. What stands beyond
/// it on the disk is damage, and is refused here, so that whoever reads on from a place need not
/// ask whether there is a next one.
pub(crate) const PLACE_MAX: u64 = u64::MAX / 2;

const KEY_LEN_MAX: u8 = 26;
const _: () = assert!(KEY_LEN_MAX as usize == KEY_BYTES_MAX);

/// The keys from `from` up to, not including, `to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The first key.
    pub from: KeyBuf,
    /// The first key beyond.
    pub to: KeyBuf,
}

impl KeyRange {
    fn prefix(prefix: KeyBuf) -> Self {
        Self { from: prefix, to: prefix.end_of_prefix() }
    }

    /// All keys of a table.
    pub(crate) const ALL: Self =
        Self { from: KeyBuf::EMPTY, to: KeyBuf { bytes: [0xff; KEY_BYTES_MAX], len: KEY_LEN_MAX } };

    /// The keys of the journal of one core below a batch.
    pub(crate) fn journal_below(core: CoreId, below: BatchNumber) -> Self {
        Self {
            from: JournalKey { core, number: BatchNumber::ZERO }.key(),
            to: JournalKey { core, number: below }.key(),
        }
    }

    /// The messages of a channel from `from` on, below `below`.
    pub(crate) fn messages(channel: ChannelId, from: Seq, below: Seq) -> Self {
        let prefix = KeyBuf::EMPTY.push_channel(channel);
        Self {
            from: prefix.push(&from.get().to_be_bytes()),
            to: prefix.push(&below.get().to_be_bytes()),
        }
    }

    /// The chunks of a user.
    pub(crate) fn chunks(user: UserId) -> Self {
        let prefix = KeyBuf::EMPTY.push(&[CHUNK]).push(&user.get().to_be_bytes());
        Self::prefix(prefix)
    }

    /// The chunks of a user that start at or before `last`, or after it.
    pub(crate) fn chunks_split(user: UserId, last: InboxSeq) -> (Self, Self) {
        let all = Self::chunks(user);
        let split = KeyBuf::EMPTY
            .push(&[CHUNK])
            .push(&user.get().to_be_bytes())
            .push(&last.get().saturating_add(1).to_be_bytes());
        (Self { from: all.from, to: split }, Self { from: split, to: all.to })
    }

    /// The chunks of all users.
    pub(crate) fn all_chunks() -> Self {
        let prefix = KeyBuf::EMPTY.push(&[CHUNK]);
        Self::prefix(prefix)
    }

    /// The conversations of a user.
    pub(crate) fn conversations(user: UserId) -> Self {
        let prefix = KeyBuf::EMPTY.push(&[CONVERSATION]).push(&user.get().to_be_bytes());
        Self::prefix(prefix)
    }

    /// The cursors of a user's devices.
    pub(crate) fn cursors(user: UserId) -> Self {
        let prefix = KeyBuf::EMPTY.push(&[CURSOR]).push(&user.get().to_be_bytes());
        Self::prefix(prefix)
    }

    /// Up to when the credentials of a user's devices are refused.
    pub(crate) fn endings(user: UserId) -> Self {
        let prefix = KeyBuf::EMPTY.push(&[ENDING]).push(&user.get().to_be_bytes());
        Self::prefix(prefix)
    }

    /// The conversations, cursors and endings of all users.
    pub(crate) fn all_but_chunks() -> Self {
        Self { from: KeyBuf::EMPTY.push(&[CONVERSATION]), to: KeyBuf::EMPTY.push(&[ENDING + 1]) }
    }

    /// The members of a channel.
    pub(crate) fn members(channel: ChannelId) -> Self {
        let prefix = KeyBuf::EMPTY.push(&[MEMBER]).push_channel(channel);
        Self::prefix(prefix)
    }
}

const CHUNK: u8 = 1;
const CONVERSATION: u8 = 2;
const CURSOR: u8 = 3;
const ENDING: u8 = 4;
const MEMBER: u8 = 1;

/// Bytes of the prefix that all keys of one channel (messages) share.
pub(crate) const MESSAGES_PREFIX_BYTES: usize = 16;
/// Bytes of the prefix that all keys of one kind and user (inbox) share.
pub(crate) const INBOX_PREFIX_BYTES: usize = 9;
/// Bytes of the prefix that all members of one channel share.
pub(crate) const META_PREFIX_BYTES: usize = 17;

/// A place of a channel's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageKey {
    /// The channel.
    pub channel: ChannelId,
    /// The place.
    pub seq: Seq,
}

/// A chunk of an inbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkKey {
    /// Whose.
    pub user: UserId,
    /// The place of its first entry.
    pub first: InboxSeq,
}

/// A conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConversationKey {
    /// Whose.
    pub user: UserId,
    /// Of which channel.
    pub channel: ChannelId,
}

/// A device's cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CursorKey {
    /// Whose.
    pub user: UserId,
    /// Of which device.
    pub device: DeviceId,
}

/// Up to when the credentials of one device are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndingKey {
    /// Whose.
    pub user: UserId,
    /// Of which device; `None` = of all.
    pub device: Option<DeviceId>,
}

/// A member of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberKey {
    /// The channel.
    pub channel: ChannelId,
    /// Who.
    pub user: UserId,
}

/// The journal record of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalKey {
    /// The core that wrote it.
    pub core: CoreId,
    /// Its number.
    pub number: BatchNumber,
}

/// A typed key.
pub trait Key: Sized {
    /// The table it lives in.
    const TABLE: Table;

    /// Encoded.
    fn key(&self) -> KeyBuf;

    /// Decoded and checked.
    ///
    /// # Errors
    /// Names the key and what is wrong with it.
    fn parse(bytes: &[u8]) -> Result<Self, CorruptRecord>;
}

impl Key for MessageKey {
    const TABLE: Table = Table::Messages;

    fn key(&self) -> KeyBuf {
        assert!(self.seq > Seq::ZERO, "a message has a place");
        KeyBuf::EMPTY.push_channel(self.channel).push(&self.seq.get().to_be_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self, CorruptRecord> {
        let mut parts = Parts::new(Self::TABLE, bytes);
        let key = Self { channel: parts.channel()?, seq: Seq::new(parts.place()?) };
        parts.end()?;
        Ok(key)
    }
}

impl Key for ChunkKey {
    const TABLE: Table = Table::Inbox;

    fn key(&self) -> KeyBuf {
        assert!(self.first > InboxSeq::ZERO, "an entry has a place");
        KeyBuf::EMPTY
            .push(&[CHUNK])
            .push(&self.user.get().to_be_bytes())
            .push(&self.first.get().to_be_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self, CorruptRecord> {
        let mut parts = Parts::new(Self::TABLE, bytes);
        parts.kind(CHUNK)?;
        let key = Self { user: parts.user()?, first: InboxSeq::new(parts.place()?) };
        parts.end()?;
        Ok(key)
    }
}

impl Key for ConversationKey {
    const TABLE: Table = Table::Inbox;

    fn key(&self) -> KeyBuf {
        KeyBuf::EMPTY
            .push(&[CONVERSATION])
            .push(&self.user.get().to_be_bytes())
            .push_channel(self.channel)
    }

    fn parse(bytes: &[u8]) -> Result<Self, CorruptRecord> {
        let mut parts = Parts::new(Self::TABLE, bytes);
        parts.kind(CONVERSATION)?;
        let key = Self { user: parts.user()?, channel: parts.channel()? };
        parts.end()?;
        Ok(key)
    }
}

impl Key for CursorKey {
    const TABLE: Table = Table::Inbox;

    fn key(&self) -> KeyBuf {
        KeyBuf::EMPTY
            .push(&[CURSOR])
            .push(&self.user.get().to_be_bytes())
            .push(&self.device.0.to_be_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self, CorruptRecord> {
        let mut parts = Parts::new(Self::TABLE, bytes);
        parts.kind(CURSOR)?;
        let key = Self { user: parts.user()?, device: DeviceId(parts.u32()?) };
        parts.end()?;
        Ok(key)
    }
}

impl Key for EndingKey {
    const TABLE: Table = Table::Inbox;

    fn key(&self) -> KeyBuf {
        assert!(self.device != Some(DeviceId(0)), "a device has a number");
        let device = self.device.map_or(0, |device| device.0);
        KeyBuf::EMPTY
            .push(&[ENDING])
            .push(&self.user.get().to_be_bytes())
            .push(&device.to_be_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self, CorruptRecord> {
        let mut parts = Parts::new(Self::TABLE, bytes);
        parts.kind(ENDING)?;
        let (user, device) = (parts.user()?, parts.u32()?);
        parts.end()?;
        Ok(Self { user, device: (device != 0).then_some(DeviceId(device)) })
    }
}

impl Key for MemberKey {
    const TABLE: Table = Table::Meta;

    fn key(&self) -> KeyBuf {
        KeyBuf::EMPTY
            .push(&[MEMBER])
            .push_channel(self.channel)
            .push(&self.user.get().to_be_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self, CorruptRecord> {
        let mut parts = Parts::new(Self::TABLE, bytes);
        parts.kind(MEMBER)?;
        let key = Self { channel: parts.channel()?, user: parts.user()? };
        parts.end()?;
        Ok(key)
    }
}

impl Key for JournalKey {
    const TABLE: Table = Table::Journal;

    fn key(&self) -> KeyBuf {
        KeyBuf::EMPTY.push(&self.core.0.to_be_bytes()).push(&self.number.get().to_be_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self, CorruptRecord> {
        let mut parts = Parts::new(Self::TABLE, bytes);
        let key = Self { core: CoreId(parts.u16()?), number: BatchNumber::new(parts.place()?) };
        parts.end()?;
        Ok(key)
    }
}

/// The parts of a key that is being read back.
struct Parts<'a> {
    table: Table,
    key: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    const fn new(table: Table, key: &'a [u8]) -> Self {
        Self { table, key, rest: key }
    }

    fn wrong(&self, what: &'static str) -> CorruptRecord {
        CorruptRecord::new(self.table, self.key, what)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], CorruptRecord> {
        let (part, rest) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| self.wrong("the key is too short"))?;
        self.rest = rest;
        Ok(*part)
    }

    fn kind(&mut self, expected: u8) -> Result<(), CorruptRecord> {
        if self.take::<1>()? == [expected] {
            Ok(())
        } else {
            Err(self.wrong("the key is of another kind"))
        }
    }

    fn u16(&mut self) -> Result<u16, CorruptRecord> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, CorruptRecord> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, CorruptRecord> {
        self.take().map(u64::from_be_bytes)
    }

    /// A place: not 0, and one that is reached.
    fn place(&mut self) -> Result<u64, CorruptRecord> {
        match self.u64()? {
            0 => Err(self.wrong("a sequence number is 0")),
            place @ 1..=PLACE_MAX => Ok(place),
            _ => Err(self.wrong("a sequence number is beyond all that are reached")),
        }
    }

    fn user(&mut self) -> Result<UserId, CorruptRecord> {
        let number = self.u64()?;
        UserId::new(number).ok_or_else(|| self.wrong("a user id is 0"))
    }

    fn channel(&mut self) -> Result<ChannelId, CorruptRecord> {
        let (high, low) = (self.u64()?, self.u64()?);
        ChannelId::from_halves(high, low).ok_or_else(|| self.wrong("no channel has this id"))
    }

    fn end(&self) -> Result<(), CorruptRecord> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong("the key is too long")) }
    }
}
