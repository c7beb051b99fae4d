//! The journal: one record a batch, so that an inbox entry costs bytes and not a put.
//!
//! A record names what its batch gave a place to, in two sections:
//!
//! ```text
//! format | count of sequenced (4) | sequenced ... | runs ...
//! sequenced   channel (16) | seq (8)                        fan-out may be unfinished
//! run         item | count (4) | count x (user (8) | inbox_seq (8))
//! ```
//!
//! A run is one item that reached several inboxes one after the other: a fan-out to 100 members on
//! this core names channel and seq once.

use wire::{ChannelId, InboxEntry, InboxItem, Seq, UserId};

use crate::engine::Table;
use crate::error::CorruptRecord;
use crate::record::{Fields, named, put_item, put_place};

const FORMAT: u8 = 1;

/// Bytes of one place in the sequenced section.
const SEQUENCED_BYTES: usize = 16 + 8;

/// The two sections of a batch that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    sequenced: Vec<u8>,
    runs: Vec<u8>,
    /// The last run: its item, where its count stands, the count.
    last_run: Option<(InboxItem, usize, u32)>,
}

impl Sections {
    pub(crate) fn push_sequenced(&mut self, channel: ChannelId, seq: Seq) {
        put_place(&mut self.sequenced, channel, seq);
    }

    pub(crate) fn push_inbox(&mut self, user: UserId, entry: &InboxEntry) {
        match &mut self.last_run {
            Some((item, count_at, count)) if *item == entry.item => {
                *count += 1;
                self.runs[*count_at..*count_at + 4].copy_from_slice(&count.to_le_bytes());
            }
            last => {
                put_item(&mut self.runs, &entry.item);
                *last = Some((entry.item, self.runs.len(), 1));
                self.runs.extend_from_slice(&1_u32.to_le_bytes());
            }
        }
        self.runs.extend_from_slice(&user.get().to_le_bytes());
        self.runs.extend_from_slice(&entry.inbox_seq.get().to_le_bytes());
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.sequenced.is_empty() && self.runs.is_empty()
    }

    pub(crate) const fn memory_bytes(&self) -> usize {
        self.sequenced.capacity() + self.runs.capacity()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.sequenced.len() + self.runs.len()
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.sequenced.len() / SEQUENCED_BYTES)
            .expect("a batch is bounded far below 4 G messages");
        out.push(FORMAT);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&self.sequenced);
        out.extend_from_slice(&self.runs);
    }

    pub(crate) fn clear(&mut self) {
        self.sequenced.clear();
        self.runs.clear();
        self.last_run = None;
    }
}

/// Reads the record at `key`: calls `sequenced` for each place and then `appended` for each inbox
/// entry, in the order in which the batch named them.
pub(crate) fn read(
    key: &[u8],
    record: &[u8],
    mut sequenced: impl FnMut(ChannelId, Seq),
    mut appended: impl FnMut(UserId, InboxEntry),
) -> Result<(), CorruptRecord> {
    named(Table::Journal, key, || {
        let mut fields = Fields::new(record, FORMAT)?;
        for _ in 0..fields.u32()? {
            let (channel, seq) = fields.logged()?;
            sequenced(channel, seq);
        }
        while !fields.rest.is_empty() {
            let item = fields.item()?;
            for _ in 0..fields.u32()? {
                let user = fields.user()?;
                let inbox_seq = wire::InboxSeq::new(fields.number()?);
                appended(user, InboxEntry { inbox_seq, item });
            }
        }
        Ok(())
    })
}
