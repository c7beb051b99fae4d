//! What a gateway says, to bytes. Pages take iterators, so that a gateway needs no list of their
//! entries beside the one it reads them from.

use flatbuffers::WIPOffset;

use crate::encode::{Builder, Encoder, Union, channel, empty_table, text, users};
use crate::event::{ChannelCreated, Deliver, Event, MembershipChange, Message};
use crate::generated::mooring::wire as fb;
use crate::server::{
    ConversationEntry, Limits, Posted, Reconnect, Rejected, ServerBody, ServiceWelcome, Welcome,
};
use crate::{ChannelId, InboxSeq};

impl Encoder {
    /// One frame from a gateway; `body` is a struct of [`crate::server`], a [`Deliver`], or a
    /// [`ServerBody`]. `request` is the device's number of what it answers, or 0.
    pub fn server<'a>(&mut self, request: u32, body: impl Into<ServerBody<'a>>) -> &[u8] {
        let body = body.into();
        match body {
            ServerBody::SyncPage(page) => {
                return self.sync_page(request, page.entries.iter(), page.next, page.end);
            }
            ServerBody::HistoryPage(page) => {
                return self.history_page(request, page.channel, page.entries.iter(), page.more);
            }
            ServerBody::ChannelPage(page) => {
                return self.channel_page(request, page.conversations.iter(), page.more);
            }
            _ => {}
        }
        self.builder.reset();
        let (body_type, body) = server_body(&mut self.builder, &body);
        self.finish_server(request, body_type, body)
    }

    /// A page of the inbox: [`crate::server::SyncPage`], its entries in ascending order of their
    /// place.
    pub fn sync_page<'a>(
        &mut self,
        request: u32,
        entries: impl IntoIterator<Item = Deliver<'a>>,
        next: InboxSeq,
        end: bool,
    ) -> &[u8] {
        let Self { builder, deliveries, .. } = self;
        builder.reset();
        deliveries.clear();
        deliveries.extend(entries.into_iter().map(|entry| deliver(builder, &entry).table));
        let entries = Some(builder.create_vector(deliveries));
        let page =
            fb::SyncPage::create(builder, &fb::SyncPageArgs { entries, next: next.get(), end });
        self.finish_server(request, fb::ServerBody::SyncPage, page.as_union_value())
    }

    /// Messages of a channel: [`crate::server::HistoryPage`], in ascending order of their place.
    pub fn history_page<'a>(
        &mut self,
        request: u32,
        of: ChannelId,
        entries: impl IntoIterator<Item = Event<'a>>,
        more: bool,
    ) -> &[u8] {
        let Self { builder, events, .. } = self;
        builder.reset();
        events.clear();
        events.extend(entries.into_iter().map(|entry| history_entry(builder, &entry)));
        let entries = Some(builder.create_vector(events));
        let of = channel(of);
        let page = fb::HistoryPage::create(
            builder,
            &fb::HistoryPageArgs { channel: Some(&of), entries, more },
        );
        self.finish_server(request, fb::ServerBody::HistoryPage, page.as_union_value())
    }

    /// Conversations: [`crate::server::ChannelPage`], most recent first.
    pub fn channel_page<'a>(
        &mut self,
        request: u32,
        entries: impl IntoIterator<Item = ConversationEntry<'a>>,
        more: bool,
    ) -> &[u8] {
        let Self { builder, conversations, .. } = self;
        builder.reset();
        conversations.clear();
        conversations.extend(entries.into_iter().map(|entry| {
            let last = entry.last.map(|event| history_entry(builder, &event));
            let of = channel(entry.channel);
            let args = fb::ConversationArgs {
                channel: Some(&of),
                last_seq: entry.conversation.last_seq.get(),
                read_seq: entry.conversation.read_seq.get(),
                inbox_seq: entry.conversation.inbox_seq.get(),
                last,
            };
            fb::Conversation::create(builder, &args)
        }));
        let conversations = Some(builder.create_vector(conversations));
        let page = fb::ChannelPage::create(builder, &fb::ChannelPageArgs { conversations, more });
        self.finish_server(request, fb::ServerBody::ChannelPage, page.as_union_value())
    }
}

macro_rules! table {
    ($builder:expr, $name:ident, $args:ident { $($fields:tt)* }) => {
        (
            fb::ServerBody::$name,
            fb::$name::create($builder, &fb::$args { $($fields)* }).as_union_value(),
        )
    };
}

fn server_body(builder: &mut Builder, body: &ServerBody<'_>) -> (fb::ServerBody, Union) {
    match body {
        ServerBody::Posted(posted) => server_posted(builder, posted),
        ServerBody::Deliver(entry) => {
            (fb::ServerBody::Deliver, deliver(builder, entry).table.as_union_value())
        }
        ServerBody::Welcome(welcome) => server_welcome(builder, welcome),
        ServerBody::Rejected(rejected) => server_rejected(builder, rejected),
        ServerBody::ChannelReady(ready) => {
            let of = channel(ready.channel);
            table!(
                builder,
                ChannelReady,
                ChannelReadyArgs {
                    channel: Some(&of),
                    nonce: ready.nonce.0,
                    created_at: ready.created_at.0,
                    durability: fb::Durability(ready.durability.number()),
                }
            )
        }
        ServerBody::TypingFrom(typing) => {
            let of = channel(typing.channel);
            let user = typing.user.get();
            table!(builder, TypingFrom, TypingFromArgs { channel: Some(&of), user })
        }
        ServerBody::Pong(pong) => {
            let (opaque, server_time) = (pong.opaque, pong.server_time.0);
            table!(builder, Pong, PongArgs { opaque, server_time })
        }
        ServerBody::Reconnect(reconnect) => server_reconnect(builder, reconnect),
        ServerBody::ServiceWelcome(welcome) => service_welcome(builder, welcome),
        ServerBody::ServiceDone(done) => {
            let durability = fb::Durability(done.durability.number());
            table!(builder, ServiceDone, ServiceDoneArgs { durability })
        }
        ServerBody::Unknown(number) => (fb::ServerBody(*number), empty_table(builder)),
        ServerBody::SyncPage(_) | ServerBody::HistoryPage(_) | ServerBody::ChannelPage(_) => {
            unreachable!("Encoder::server sends pages to their own methods")
        }
    }
}

fn server_posted(builder: &mut Builder, posted: &Posted) -> (fb::ServerBody, Union) {
    let of = channel(posted.channel);
    table!(
        builder,
        Posted,
        PostedArgs {
            channel: Some(&of),
            nonce: posted.nonce.0,
            seq: posted.seq.get(),
            created_at: posted.created_at.0,
            durability: fb::Durability(posted.durability.number()),
        }
    )
}

fn server_rejected(builder: &mut Builder, rejected: &Rejected<'_>) -> (fb::ServerBody, Union) {
    let text = text(builder, rejected.text);
    let of = rejected.channel.map(channel);
    table!(
        builder,
        Rejected,
        RejectedArgs {
            code: fb::RejectCode(rejected.code.number()),
            nonce: rejected.nonce.0,
            channel: of.as_ref(),
            text,
            retry_after_ms: rejected.retry_after_ms,
        }
    )
}

fn server_reconnect(builder: &mut Builder, reconnect: &Reconnect<'_>) -> (fb::ServerBody, Union) {
    let url = reconnect.url.map(|url| builder.create_string(url));
    table!(builder, Reconnect, ReconnectArgs { after_ms: reconnect.after_ms, url })
}

fn server_welcome(builder: &mut Builder, welcome: &Welcome<'_>) -> (fb::ServerBody, Union) {
    let ticket = Some(builder.create_vector(welcome.ticket));
    let limits = limits(builder, &welcome.limits);
    table!(
        builder,
        Welcome,
        WelcomeArgs {
            session: welcome.session.0,
            user: welcome.user.get(),
            device: welcome.device.0,
            server_time: welcome.server_time.0,
            heartbeat_interval_ms: welcome.heartbeat_interval_ms,
            epoch: welcome.epoch.0,
            inbox_head: welcome.inbox_head.get(),
            resume: fb::Resume(welcome.resume.number()),
            ticket,
            ticket_expires_at: welcome.ticket_expires_at.0,
            limits: Some(limits),
        }
    )
}

fn service_welcome(builder: &mut Builder, welcome: &ServiceWelcome) -> (fb::ServerBody, Union) {
    let limits = limits(builder, &welcome.limits);
    table!(
        builder,
        ServiceWelcome,
        ServiceWelcomeArgs {
            session: welcome.session.0,
            server_time: welcome.server_time.0,
            heartbeat_interval_ms: welcome.heartbeat_interval_ms,
            epoch: welcome.epoch.0,
            limits: Some(limits),
        }
    )
}

fn limits(builder: &mut Builder, limits: &Limits) -> WIPOffset<fb::Limits<'static>> {
    fb::Limits::create(
        builder,
        &fb::LimitsArgs {
            frame_bytes_max: limits.frame_bytes_max,
            body_bytes_max: limits.body_bytes_max,
            group_members_max: limits.group_members_max,
            sync_page_max: limits.sync_page_max,
            history_page_max: limits.history_page_max,
            channel_page_max: limits.channel_page_max,
            posts_in_flight_max: limits.posts_in_flight_max,
            frames_per_second_max: limits.frames_per_second_max,
        },
    )
}

/// A `Deliver` in the buffer, and where its parts stand, counted from the frame's end: its front
/// is not built yet.
pub(crate) struct Delivered {
    pub(crate) table: WIPOffset<fb::Deliver<'static>>,
    pub(crate) inbox_seq_from_end: usize,
    /// Of the first byte behind all tables but the list or body itself.
    pub(crate) tail_from_end: usize,
}

pub(crate) fn deliver(builder: &mut Builder, entry: &Deliver<'_>) -> Delivered {
    let (event_type, event, tail_from_end) = event_table(builder, &entry.event);
    // By hand, since the generated builder leaves out a zero and does not tell where a field
    // stands. Fields from the widest to the narrowest, as it does.
    let start = builder.start_table();
    builder.push_slot_always(fb::Deliver::VT_INBOX_SEQ, entry.inbox_seq.get());
    let inbox_seq_from_end = builder.unfinished_data().len();
    builder.push_slot_always(fb::Deliver::VT_EVENT, event);
    builder.push_slot_always(fb::Deliver::VT_EVENT_TYPE, event_type);
    let table = WIPOffset::new(builder.end_table(start).value());
    Delivered { table, inbox_seq_from_end, tail_from_end }
}

fn history_entry(builder: &mut Builder, event: &Event<'_>) -> WIPOffset<fb::HistoryEntry<'static>> {
    let (event_type, event, _) = event_table(builder, event);
    fb::HistoryEntry::create(builder, &fb::HistoryEntryArgs { event_type, event: Some(event) })
}

/// An event's table, and where what all tables precede begins, counted from the end: the body,
/// list or title.
fn event_table(builder: &mut Builder, event: &Event<'_>) -> (fb::Event, Union, usize) {
    match event {
        Event::Message(message) => event_message(builder, message),
        Event::ReadMarker(marker) => {
            let of = channel(marker.channel);
            let (user, seq) = (marker.user.get(), marker.seq.get());
            let args = fb::ReadMarkerArgs { channel: Some(&of), user, seq };
            let tail = builder.unfinished_data().len();
            let table = fb::ReadMarker::create(builder, &args).as_union_value();
            (fb::Event::ReadMarker, table, tail)
        }
        Event::MembershipChange(change) => event_change(builder, change),
        Event::ChannelCreated(created) => event_created(builder, created),
        Event::Unknown(number) => {
            let tail = builder.unfinished_data().len();
            (fb::Event(*number), empty_table(builder), tail)
        }
    }
}

fn event_message(builder: &mut Builder, message: &Message<'_>) -> (fb::Event, Union, usize) {
    let body = message.body.map(|body| builder.create_vector(body));
    let tail = builder.unfinished_data().len();
    let of = channel(message.channel);
    let args = fb::MessageArgs {
        channel: Some(&of),
        seq: message.seq.get(),
        sender: message.sender.get(),
        device: message.device.0,
        created_at: message.created_at.0,
        nonce: message.nonce.0,
        kind: message.kind,
        body,
    };
    (fb::Event::Message, fb::Message::create(builder, &args).as_union_value(), tail)
}

fn event_change(builder: &mut Builder, change: &MembershipChange<'_>) -> (fb::Event, Union, usize) {
    let members = Some(users(builder, change.members));
    let tail = builder.unfinished_data().len();
    let of = channel(change.channel);
    let args = fb::MembershipChangeArgs {
        channel: Some(&of),
        seq: change.seq.get(),
        created_at: change.created_at.0,
        actor: change.actor.get(),
        device: change.device.0,
        nonce: change.nonce.0,
        op: fb::MembershipOp(change.op.number()),
        role: fb::Role(change.role.number()),
        members,
    };
    let table = fb::MembershipChange::create(builder, &args).as_union_value();
    (fb::Event::MembershipChange, table, tail)
}

fn event_created(builder: &mut Builder, created: &ChannelCreated<'_>) -> (fb::Event, Union, usize) {
    let members = Some(users(builder, created.members));
    let title = text(builder, created.title);
    let tail = builder.unfinished_data().len();
    let of = channel(created.channel);
    let args = fb::ChannelCreatedArgs {
        channel: Some(&of),
        seq: created.seq.get(),
        created_at: created.created_at.0,
        creator: created.creator.get(),
        device: created.device.0,
        nonce: created.nonce.0,
        kind: fb::ChannelKind(created.kind.number()),
        title,
        members,
    };
    (fb::Event::ChannelCreated, fb::ChannelCreated::create(builder, &args).as_union_value(), tail)
}
