//! Typed frames to bytes. One [`Encoder`] a core: it keeps its buffer, so that a frame costs no
//! allocation once the largest has been seen.
//!
//! A FlatBuffer is built from its end: what is made first stands last. Bodies and lists are made
//! first and so come last in the frame, behind all tables (see [`crate::Template`] for what that
//! is good for).

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, Vector, WIPOffset};

use crate::client::{
    ChannelAddMembers, ChannelCreate, ChannelRemoveMembers, ClientBody, Credential, Hello,
};
use crate::decode::{CLIENT_IDENTIFIER, SERVER_IDENTIFIER};
use crate::generated::mooring::wire as fb;
use crate::{ChannelId, UserId, Users};

pub(crate) type Builder = FlatBufferBuilder<'static>;
pub(crate) type Union = WIPOffset<UnionWIPOffset>;

/// Encodes frames into a buffer of its own.
///
/// All methods are verbs: each encodes one frame and hands out its bytes, which stay until the
/// next call.
pub struct Encoder {
    pub(crate) builder: Builder,
    pub(crate) deliveries: Vec<WIPOffset<fb::Deliver<'static>>>,
    pub(crate) events: Vec<WIPOffset<fb::HistoryEntry<'static>>>,
    pub(crate) conversations: Vec<WIPOffset<fb::Conversation<'static>>>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder whose buffer holds frames of `capacity_bytes`; it doubles when a frame is
    /// longer, and never does with [`crate::limits::SERVER_FRAME_BYTES_MAX`].
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        Self {
            builder: Builder::with_capacity(capacity_bytes),
            deliveries: Vec::new(),
            events: Vec::new(),
            conversations: Vec::new(),
        }
    }

    /// One frame from a device; `body` is a struct of [`crate::client`] or a [`ClientBody`].
    pub fn client<'a>(&mut self, request: u32, body: impl Into<ClientBody<'a>>) -> &[u8] {
        self.client_as(request, None, body)
    }

    /// One frame from a service, for the person `as_user`.
    pub fn client_as<'a>(
        &mut self,
        request: u32,
        as_user: Option<UserId>,
        body: impl Into<ClientBody<'a>>,
    ) -> &[u8] {
        self.builder.reset();
        let (body_type, body) = client_body(&mut self.builder, &body.into());
        let as_user = as_user.map_or(0, UserId::get);
        let root = fb::ClientFrame::create(
            &mut self.builder,
            &fb::ClientFrameArgs { request, body_type, body: Some(body), as_user },
        );
        self.builder.finish(root, Some(CLIENT_IDENTIFIER));
        self.builder.finished_data()
    }

    /// Ends a frame from a gateway.
    pub(crate) fn finish_server(
        &mut self,
        request: u32,
        body_type: fb::ServerBody,
        body: Union,
    ) -> &[u8] {
        let root = fb::ServerFrame::create(
            &mut self.builder,
            &fb::ServerFrameArgs { request, body_type, body: Some(body) },
        );
        self.builder.finish(root, Some(SERVER_IDENTIFIER));
        self.builder.finished_data()
    }
}

impl Default for Encoder {
    /// Room for every frame but a long page.
    fn default() -> Self {
        Self::new(2 * crate::limits::CLIENT_FRAME_BYTES_MAX)
    }
}

pub(crate) fn channel(id: ChannelId) -> fb::ChannelId {
    let (high, low) = id.halves();
    fb::ChannelId::new(high, low)
}

pub(crate) fn users(builder: &mut Builder, users: Users<'_>) -> WIPOffset<Vector<'static, u64>> {
    builder.create_vector_from_iter(users.iter().map(|user| user.get()))
}

/// A text field, absent if empty.
pub(crate) fn text(builder: &mut Builder, text: &str) -> Option<WIPOffset<&'static str>> {
    (!text.is_empty()).then(|| WIPOffset::new(builder.create_byte_string(text.as_bytes()).value()))
}

/// A table without fields: what stands for a frame or event of a later version.
pub(crate) fn empty_table(builder: &mut Builder) -> Union {
    let start = builder.start_table();
    WIPOffset::new(builder.end_table(start).value())
}

macro_rules! table {
    ($builder:expr, $name:ident, $args:ident { $($fields:tt)* }) => {
        (
            fb::ClientBody::$name,
            fb::$name::create($builder, &fb::$args { $($fields)* }).as_union_value(),
        )
    };
}

fn client_body(builder: &mut Builder, body: &ClientBody<'_>) -> (fb::ClientBody, Union) {
    match body {
        ClientBody::Hello(hello) => client_hello(builder, hello),
        ClientBody::Post(post) => {
            let body = Some(builder.create_vector(post.body));
            let channel = Some(&channel(post.channel));
            let (nonce, kind, retry) = (post.nonce.0, post.kind, post.retry);
            table!(builder, Post, PostArgs { channel, nonce, kind, body, retry })
        }
        ClientBody::CursorAck(ack) => {
            table!(builder, CursorAck, CursorAckArgs { inbox_seq: ack.inbox_seq.get() })
        }
        ClientBody::Sync(sync) => {
            table!(builder, Sync, SyncArgs { after: sync.after.get(), limit: sync.limit })
        }
        ClientBody::History(history) => {
            let channel = Some(&channel(history.channel));
            let direction = fb::Direction(history.direction.number());
            let (from, limit) = (history.from.get(), history.limit);
            table!(builder, History, HistoryArgs { channel, direction, from, limit })
        }
        ClientBody::ChannelList(list) => {
            let (before, limit, with_last) = (list.before.get(), list.limit, list.with_last);
            table!(builder, ChannelList, ChannelListArgs { before, limit, with_last })
        }
        ClientBody::MarkRead(read) => {
            let channel = Some(&channel(read.channel));
            table!(builder, MarkRead, MarkReadArgs { channel, seq: read.seq.get() })
        }
        ClientBody::Typing(typing) => {
            table!(builder, Typing, TypingArgs { channel: Some(&channel(typing.channel)) })
        }
        ClientBody::Ping(ping) => table!(builder, Ping, PingArgs { opaque: ping.opaque }),
        ClientBody::SessionsEnd(end) => {
            let user = end.user.get();
            let device = end.device.map_or(0, |device| device.0);
            let before = end.before.map_or(0, |before| before.0);
            table!(builder, SessionsEnd, SessionsEndArgs { user, device, before })
        }
        ClientBody::UserErase(erase) => {
            table!(builder, UserErase, UserEraseArgs { user: erase.user.get() })
        }
        ClientBody::Unknown(number) => (fb::ClientBody(*number), empty_table(builder)),
        ClientBody::ChannelCreate(create) => client_create(builder, create),
        ClientBody::ChannelAddMembers(add) => client_add(builder, add),
        ClientBody::ChannelRemoveMembers(remove) => client_remove(builder, remove),
        ClientBody::ChannelLeave(leave) => {
            let (channel, nonce) = (channel(leave.channel), leave.nonce.0);
            table!(builder, ChannelLeave, ChannelLeaveArgs { channel: Some(&channel), nonce })
        }
    }
}

fn client_hello(builder: &mut Builder, hello: &Hello<'_>) -> (fb::ClientBody, Union) {
    let (token, ticket) = match hello.credential {
        Credential::Token(token) => (Some(builder.create_string(token)), None),
        Credential::Ticket(ticket) => (None, Some(builder.create_vector(ticket))),
    };
    let client = text(builder, hello.client);
    table!(
        builder,
        Hello,
        HelloArgs {
            protocol_version: hello.protocol_version,
            token,
            ticket,
            device: hello.device.0,
            epoch: hello.epoch.0,
            cursor: hello.cursor.get(),
            client,
        }
    )
}

fn client_create(builder: &mut Builder, create: &ChannelCreate<'_>) -> (fb::ClientBody, Union) {
    let members = Some(users(builder, create.members));
    let title = text(builder, create.title);
    let (nonce, kind) = (create.nonce.0, fb::ChannelKind(create.kind.number()));
    table!(builder, ChannelCreate, ChannelCreateArgs { nonce, kind, title, members })
}

fn client_add(builder: &mut Builder, add: &ChannelAddMembers<'_>) -> (fb::ClientBody, Union) {
    let members = Some(users(builder, add.members));
    let channel = channel(add.channel);
    let (channel, nonce, role) = (Some(&channel), add.nonce.0, fb::Role(add.role.number()));
    table!(builder, ChannelAddMembers, ChannelAddMembersArgs { channel, nonce, members, role })
}

fn client_remove(
    builder: &mut Builder,
    remove: &ChannelRemoveMembers<'_>,
) -> (fb::ClientBody, Union) {
    let members = Some(users(builder, remove.members));
    let (channel, nonce) = (channel(remove.channel), remove.nonce.0);
    let channel = Some(&channel);
    table!(builder, ChannelRemoveMembers, ChannelRemoveMembersArgs { channel, nonce, members })
}
