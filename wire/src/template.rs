//! One event for many inboxes: encoded once, then only `inbox_seq` differs.
//!
//! ```text
//! 0      4      8                                       head_bytes                 end
//! | root | MRS1 | ServerFrame | Deliver | event's table | body, list or title, pad |
//!                                 ^ inbox_seq_offset: eight bytes, little-endian
//! |<--- differs between recipients: copy, patch ------->|<--- the same for all --->|
//! ```
//!
//! The head of a message is [`MESSAGE_HEAD_BYTES_MAX`] bytes at most, whatever the body. So a
//! gateway either copies the whole frame for each recipient (one copy, one send) or, for long
//! bodies, copies the head alone and sends it before a tail that all recipients share.

use crate::InboxSeq;
use crate::encode::Encoder;
use crate::encode_server::deliver;
use crate::event::{Deliver, Event};
use crate::generated::mooring::wire as fb;

/// The bytes of a message's `Deliver` frame before its body's length: root offset, identifier,
/// three tables with their vtables, and padding.
pub const MESSAGE_HEAD_BYTES_MAX: usize = 156;

/// A finished `ServerFrame { Deliver }` with `request` 0 and a placeholder as its `inbox_seq`:
/// patch a copy for each recipient.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    bytes: &'a [u8],
    inbox_seq_offset: usize,
    head_bytes: usize,
}

impl<'a> Template<'a> {
    /// The whole frame, its `inbox_seq` the placeholder.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the eight bytes of `inbox_seq` begin: for [`patch_inbox_seq`].
    #[must_use]
    pub const fn inbox_seq_offset(&self) -> usize {
        self.inbox_seq_offset
    }

    /// How many bytes precede the body, list or title: all tables stand in them. The rest is the
    /// same for every recipient.
    #[must_use]
    pub const fn head_bytes(&self) -> usize {
        self.head_bytes
    }
}

/// Writes one recipient's place into her copy of a template (or of its head).
///
/// # Panics
///
/// If `offset` is not from [`Template::inbox_seq_offset`] of what was copied, so that it reaches
/// beyond the copy.
pub fn patch_inbox_seq(copy: &mut [u8], offset: usize, inbox_seq: InboxSeq) {
    copy[offset..offset + size_of::<u64>()].copy_from_slice(&inbox_seq.get().to_le_bytes());
}

impl Encoder {
    /// Encodes an event for many recipients.
    pub fn deliver_template(&mut self, event: &Event<'_>) -> Template<'_> {
        self.builder.reset();
        let entry = Deliver { inbox_seq: InboxSeq::ZERO, event: *event };
        let delivered = deliver(&mut self.builder, &entry);
        let table = delivered.table.as_union_value();
        let bytes = self.finish_server(0, fb::ServerBody::Deliver, table);
        Template {
            inbox_seq_offset: bytes.len() - delivered.inbox_seq_from_end,
            head_bytes: bytes.len() - delivered.tail_from_end,
            bytes,
        }
    }
}
