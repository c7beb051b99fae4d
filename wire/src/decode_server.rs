//! Frames from a gateway, for clients: the same three doors as [`crate::decode_client`].

use flatbuffers::Vector;

use crate::codes::RejectCode;
use crate::decode::{Door, SERVER_IDENTIFIER, channel, open, user, within};
use crate::error::{At, Fault, Rule, WireError};
use crate::event::{ChannelCreated, Deliver, Event, MembershipChange, Message, ReadMarker};
use crate::generated::mooring::wire as fb;
use crate::limits::{SERVER_FRAME_BYTES_MAX, SERVER_VERIFIER, TICKET_BYTES_MAX};
use crate::lists::{Conversations, Deliveries, Events};
use crate::log::{ChannelKind, Conversation, MembershipOp, Role};
use crate::server::{
    ChannelPage, ChannelReady, ConversationEntry, Durability, HistoryPage, Limits, Pong, Posted,
    Reconnect, Rejected, Resume, ServerBody, ServerFrame, ServiceDone, ServiceWelcome, SyncPage,
    TypingFrom, Welcome,
};
use crate::{DeviceId, Epoch, InboxSeq, Nonce, Seq, SessionId, Timestamp, Users};

static SERVER_DOOR: Door = Door {
    identifier: SERVER_IDENTIFIER,
    bytes_max: SERVER_FRAME_BYTES_MAX,
    verifier: SERVER_VERIFIER,
};

/// Reads a frame from a gateway.
///
/// # Errors
///
/// Whatever is wrong, the gateway is: a client closes the connection and resumes elsewhere.
pub fn decode_server(bytes: &[u8]) -> Result<ServerFrame<'_>, WireError> {
    let frame = open::<fb::ServerFrame<'_>>(&SERVER_DOOR, bytes)?;
    let request = frame.request();
    let body = read_server_body(&At::request(request), &frame)?;
    Ok(ServerFrame { request, body })
}

const HELD: &str = "the union holds what its verified type says";

fn read_server_body<'a>(at: &At, frame: &fb::ServerFrame<'a>) -> Result<ServerBody<'a>, WireError> {
    Ok(match frame.body_type() {
        fb::ServerBody::NONE => {
            return Err(WireError::Invalid { fault: Fault::UnionNone("body") });
        }
        fb::ServerBody::Deliver => read_deliver(at, frame.body_as_deliver().expect(HELD))?.into(),
        fb::ServerBody::Posted => read_posted(at, &frame.body_as_posted().expect(HELD))?.into(),
        fb::ServerBody::Welcome => read_welcome(at, &frame.body_as_welcome().expect(HELD))?.into(),
        fb::ServerBody::Rejected => {
            read_rejected(at, &frame.body_as_rejected().expect(HELD))?.into()
        }
        fb::ServerBody::SyncPage => {
            let table = frame.body_as_sync_page().expect(HELD);
            let entries = Deliveries::checked(at, table.entries())?;
            SyncPage { entries, next: InboxSeq::new(table.next()), end: table.end() }.into()
        }
        fb::ServerBody::HistoryPage => {
            let table = frame.body_as_history_page().expect(HELD);
            let entries = Events::checked(at, table.entries())?;
            let channel = channel(at, table.channel())?;
            HistoryPage { channel, entries, more: table.more() }.into()
        }
        fb::ServerBody::ChannelPage => {
            let table = frame.body_as_channel_page().expect(HELD);
            let conversations = Conversations::checked(at, table.conversations())?;
            ChannelPage { conversations, more: table.more() }.into()
        }
        fb::ServerBody::ChannelReady => {
            let table = frame.body_as_channel_ready().expect(HELD);
            ChannelReady {
                channel: channel(at, table.channel())?,
                nonce: Nonce(table.nonce()),
                created_at: Timestamp(table.created_at()),
                durability: durability(table.durability()),
            }
            .into()
        }
        fb::ServerBody::TypingFrom => {
            let table = frame.body_as_typing_from().expect(HELD);
            TypingFrom { channel: channel(at, table.channel())?, user: user(at, table.user())? }
                .into()
        }
        fb::ServerBody::Pong => {
            let table = frame.body_as_pong().expect(HELD);
            Pong { opaque: table.opaque(), server_time: Timestamp(table.server_time()) }.into()
        }
        fb::ServerBody::Reconnect => {
            let table = frame.body_as_reconnect().expect(HELD);
            Reconnect { after_ms: table.after_ms(), url: table.url() }.into()
        }
        fb::ServerBody::ServiceWelcome => {
            let table = frame.body_as_service_welcome().expect(HELD);
            ServiceWelcome {
                session: SessionId(table.session()),
                server_time: Timestamp(table.server_time()),
                heartbeat_interval_ms: table.heartbeat_interval_ms(),
                epoch: Epoch(table.epoch()),
                limits: read_limits(&table.limits()),
            }
            .into()
        }
        fb::ServerBody::ServiceDone => {
            let table = frame.body_as_service_done().expect(HELD);
            ServiceDone { durability: durability(table.durability()) }.into()
        }
        fb::ServerBody(later) => ServerBody::Unknown(later),
    })
}

fn read_welcome<'a>(at: &At, table: &fb::Welcome<'a>) -> Result<Welcome<'a>, WireError> {
    let ticket = table.ticket().bytes();
    within(at, ticket.len(), 1..=TICKET_BYTES_MAX, Rule::TicketLength)?;
    if table.device() == 0 {
        return Err(at.breaks(Rule::DeviceZero));
    }
    Ok(Welcome {
        session: SessionId(table.session()),
        user: user(at, table.user())?,
        device: DeviceId(table.device()),
        server_time: Timestamp(table.server_time()),
        heartbeat_interval_ms: table.heartbeat_interval_ms(),
        epoch: Epoch(table.epoch()),
        inbox_head: InboxSeq::new(table.inbox_head()),
        resume: Resume::from_number(table.resume().0).unwrap_or(Resume::Reset),
        ticket,
        ticket_expires_at: Timestamp(table.ticket_expires_at()),
        limits: read_limits(&table.limits()),
    })
}

fn read_limits(limits: &fb::Limits<'_>) -> Limits {
    Limits {
        frame_bytes_max: limits.frame_bytes_max(),
        body_bytes_max: limits.body_bytes_max(),
        group_members_max: limits.group_members_max(),
        sync_page_max: limits.sync_page_max(),
        history_page_max: limits.history_page_max(),
        channel_page_max: limits.channel_page_max(),
        posts_in_flight_max: limits.posts_in_flight_max(),
        frames_per_second_max: limits.frames_per_second_max(),
    }
}

fn read_posted(at: &At, table: &fb::Posted<'_>) -> Result<Posted, WireError> {
    let at = At { nonce: Some(Nonce(table.nonce())), ..*at };
    Ok(Posted {
        channel: channel(&at, table.channel())?,
        nonce: Nonce(table.nonce()),
        seq: seq(&at, table.seq())?,
        created_at: Timestamp(table.created_at()),
        durability: durability(table.durability()),
    })
}

fn read_rejected<'a>(at: &At, table: &fb::Rejected<'a>) -> Result<Rejected<'a>, WireError> {
    Ok(Rejected {
        code: RejectCode::from_number(table.code().0),
        nonce: Nonce(table.nonce()),
        channel: table.channel().map(|id| channel(at, id)).transpose()?,
        text: table.text().unwrap_or_default(),
        retry_after_ms: table.retry_after_ms(),
    })
}

pub(crate) fn read_deliver<'a>(at: &At, table: fb::Deliver<'a>) -> Result<Deliver<'a>, WireError> {
    if table.inbox_seq() == 0 {
        return Err(at.breaks(Rule::InboxSeqZero));
    }
    let event = match table.event_type() {
        fb::Event::NONE => return Err(WireError::Invalid { fault: Fault::UnionNone("event") }),
        fb::Event::Message => read_message(at, &table.event_as_message().expect(HELD))?,
        fb::Event::ReadMarker => read_marker(at, &table.event_as_read_marker().expect(HELD))?,
        fb::Event::MembershipChange => {
            read_change(at, &table.event_as_membership_change().expect(HELD))?
        }
        fb::Event::ChannelCreated => {
            read_created(at, &table.event_as_channel_created().expect(HELD))?
        }
        fb::Event(later) => Event::Unknown(later),
    };
    Ok(Deliver { inbox_seq: InboxSeq::new(table.inbox_seq()), event })
}

pub(crate) fn read_history_entry<'a>(
    at: &At,
    table: fb::HistoryEntry<'a>,
) -> Result<Event<'a>, WireError> {
    match table.event_type() {
        fb::Event::NONE => Err(WireError::Invalid { fault: Fault::UnionNone("event") }),
        fb::Event::Message => read_message(at, &table.event_as_message().expect(HELD)),
        fb::Event::ReadMarker => read_marker(at, &table.event_as_read_marker().expect(HELD)),
        fb::Event::MembershipChange => {
            read_change(at, &table.event_as_membership_change().expect(HELD))
        }
        fb::Event::ChannelCreated => {
            read_created(at, &table.event_as_channel_created().expect(HELD))
        }
        fb::Event(later) => Ok(Event::Unknown(later)),
    }
}

pub(crate) fn read_conversation<'a>(
    at: &At,
    table: fb::Conversation<'a>,
) -> Result<ConversationEntry<'a>, WireError> {
    Ok(ConversationEntry {
        channel: channel(at, table.channel())?,
        conversation: Conversation {
            last_seq: Seq::new(table.last_seq()),
            read_seq: Seq::new(table.read_seq()),
            inbox_seq: InboxSeq::new(table.inbox_seq()),
        },
        last: table.last().map(|last| read_history_entry(at, last)).transpose()?,
    })
}

fn read_message<'a>(at: &At, table: &fb::Message<'a>) -> Result<Event<'a>, WireError> {
    Ok(Event::Message(Message {
        channel: channel(at, table.channel())?,
        seq: seq(at, table.seq())?,
        sender: user(at, table.sender())?,
        device: DeviceId(table.device()),
        created_at: Timestamp(table.created_at()),
        nonce: Nonce(table.nonce()),
        kind: table.kind(),
        body: table.body().map(|body| body.bytes()),
    }))
}

fn read_marker<'a>(at: &At, table: &fb::ReadMarker<'_>) -> Result<Event<'a>, WireError> {
    Ok(Event::ReadMarker(ReadMarker {
        channel: channel(at, table.channel())?,
        user: user(at, table.user())?,
        seq: Seq::new(table.seq()),
    }))
}

fn read_change<'a>(at: &At, table: &fb::MembershipChange<'a>) -> Result<Event<'a>, WireError> {
    let Some(op) = MembershipOp::from_number(table.op().0) else {
        return Ok(Event::Unknown(Event::UNKNOWN));
    };
    Ok(Event::MembershipChange(MembershipChange {
        channel: channel(at, table.channel())?,
        seq: seq(at, table.seq())?,
        created_at: Timestamp(table.created_at()),
        actor: user(at, table.actor())?,
        device: DeviceId(table.device()),
        nonce: Nonce(table.nonce()),
        op,
        role: Role::from_number(table.role().0).unwrap_or(Role::Member),
        members: some_users(at, table.members())?,
    }))
}

fn read_created<'a>(at: &At, table: &fb::ChannelCreated<'a>) -> Result<Event<'a>, WireError> {
    let Some(kind) = ChannelKind::from_number(table.kind().0) else {
        return Ok(Event::Unknown(Event::UNKNOWN));
    };
    Ok(Event::ChannelCreated(ChannelCreated {
        channel: channel(at, table.channel())?,
        seq: seq(at, table.seq())?,
        created_at: Timestamp(table.created_at()),
        creator: user(at, table.creator())?,
        device: DeviceId(table.device()),
        nonce: Nonce(table.nonce()),
        kind,
        title: table.title().unwrap_or_default(),
        members: some_users(at, table.members())?,
    }))
}

/// However many users: their number is the gateway's business, the verifier's bound is enough.
fn some_users<'a>(at: &At, members: Vector<'a, u64>) -> Result<Users<'a>, WireError> {
    within(at, members.len(), 1..=usize::MAX, Rule::MembersEmpty)?;
    Users::checked(at, members)
}

fn seq(at: &At, number: u64) -> Result<Seq, WireError> {
    if number == 0 { Err(at.breaks(Rule::SeqZero)) } else { Ok(Seq::new(number)) }
}

fn durability(told: fb::Durability) -> Durability {
    Durability::from_number(told.0).unwrap_or(Durability::Accepted)
}
