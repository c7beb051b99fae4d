//! Bytes from a peer to typed frames: the one place where FlatBuffers are verified.
//!
//! Three doors, each cheaper than the next: length and file identifier (the verifier takes sixteen
//! zero bytes for an empty table), the verifier with limits of our own, and the rules that the
//! schema cannot say. What comes out holds by its type and is not checked again. The bytes may
//! stand at any alignment. Nothing here allocates, but for a refusal by the verifier.

use flatbuffers::{Follow, Vector, Verifiable, VerifierOptions, root_with_opts};

use crate::client::{
    ChannelAddMembers, ChannelCreate, ChannelLeave, ChannelList, ChannelRemoveMembers, ClientBody,
    ClientFrame, Credential, CursorAck, Direction, Hello, History, MarkRead, Ping, Post,
    SessionsEnd, Sync, Typing, UserErase,
};
use crate::error::{At, Fault, Rule, WireError};
use crate::generated::mooring::wire as fb;
use crate::limits::{
    CLIENT_FRAME_BYTES_MAX, CLIENT_NAME_BYTES_MAX, CLIENT_VERIFIER, FRAME_BYTES_MIN,
    MEMBERS_PER_REQUEST_MAX, TICKET_BYTES_MAX, TITLE_BYTES_MAX, TOKEN_BYTES_MAX,
};
use crate::log::{ChannelKind, Role};
use crate::{ChannelId, DeviceId, Epoch, InboxSeq, Nonce, Seq, Timestamp, UserId, Users};

/// Bytes 4 to 7 of every frame from a device.
pub const CLIENT_IDENTIFIER: &str = "MRC1";

/// Bytes 4 to 7 of every frame from a gateway.
pub const SERVER_IDENTIFIER: &str = "MRS1";

/// What a frame of one side must pass before a field is read.
pub(crate) struct Door {
    pub(crate) identifier: &'static str,
    pub(crate) bytes_max: usize,
    pub(crate) verifier: VerifierOptions,
}

static CLIENT_DOOR: Door = Door {
    identifier: CLIENT_IDENTIFIER,
    bytes_max: CLIENT_FRAME_BYTES_MAX,
    verifier: CLIENT_VERIFIER,
};

/// Reads a frame from a device.
///
/// # Errors
///
/// [`WireError::Field`] if the request can be refused alone (see [`WireError::rejected`]); any
/// other if the connection must be closed (see [`WireError::close_code`]).
pub fn decode_client(bytes: &[u8]) -> Result<ClientFrame<'_>, WireError> {
    let frame = open::<fb::ClientFrame<'_>>(&CLIENT_DOOR, bytes)?;
    let request = frame.request();
    let body = read_client_body(&At::request(request), &frame)?;
    Ok(ClientFrame { request, as_user: UserId::new(frame.as_user()), body })
}

/// The root of a frame that has passed length, identifier and verifier.
pub(crate) fn open<'a, T>(door: &Door, bytes: &'a [u8]) -> Result<T::Inner, WireError>
where
    T: Follow<'a> + Verifiable + 'a,
{
    if bytes.len() > door.bytes_max {
        return Err(WireError::TooLarge { bytes: bytes.len(), bytes_max: door.bytes_max });
    }
    let Some((&[_, _, _, _, ref found @ ..], _)) = bytes.split_first_chunk::<FRAME_BYTES_MIN>()
    else {
        return Err(WireError::TooShort { bytes: bytes.len() });
    };
    if found != door.identifier.as_bytes() {
        let mut expected = [0; 4];
        expected.copy_from_slice(door.identifier.as_bytes());
        return Err(WireError::NotAFrame { found: *found, expected });
    }
    root_with_opts::<T>(&door.verifier, bytes)
        .map_err(|found| WireError::Invalid { fault: Fault::from(&found) })
}

/// What a verified union holds, which is there if the union's type says so.
const HELD: &str = "the union holds what its verified type says";

fn read_client_body<'a>(at: &At, frame: &fb::ClientFrame<'a>) -> Result<ClientBody<'a>, WireError> {
    Ok(match frame.body_type() {
        fb::ClientBody::NONE => {
            return Err(WireError::Invalid { fault: Fault::UnionNone("body") });
        }
        fb::ClientBody::Post => read_post(at, &frame.body_as_post().expect(HELD))?.into(),
        fb::ClientBody::CursorAck => {
            let table = frame.body_as_cursor_ack().expect(HELD);
            CursorAck { inbox_seq: InboxSeq::new(table.inbox_seq()) }.into()
        }
        fb::ClientBody::Ping => Ping { opaque: frame.body_as_ping().expect(HELD).opaque() }.into(),
        fb::ClientBody::MarkRead => {
            let table = frame.body_as_mark_read().expect(HELD);
            MarkRead { channel: channel(at, table.channel())?, seq: Seq::new(table.seq()) }.into()
        }
        fb::ClientBody::Typing => {
            let table = frame.body_as_typing().expect(HELD);
            Typing { channel: channel(at, table.channel())? }.into()
        }
        fb::ClientBody::Hello => read_hello(at, &frame.body_as_hello().expect(HELD))?.into(),
        fb::ClientBody::Sync => {
            let table = frame.body_as_sync().expect(HELD);
            Sync { after: InboxSeq::new(table.after()), limit: table.limit() }.into()
        }
        fb::ClientBody::History => read_history(at, &frame.body_as_history().expect(HELD))?.into(),
        fb::ClientBody::ChannelList => {
            let table = frame.body_as_channel_list().expect(HELD);
            let (limit, with_last) = (table.limit(), table.with_last());
            ChannelList { before: InboxSeq::new(table.before()), limit, with_last }.into()
        }
        fb::ClientBody::ChannelCreate => {
            read_create(at, &frame.body_as_channel_create().expect(HELD))?.into()
        }
        fb::ClientBody::ChannelAddMembers => {
            read_add(at, &frame.body_as_channel_add_members().expect(HELD))?.into()
        }
        fb::ClientBody::ChannelRemoveMembers => {
            read_remove(at, &frame.body_as_channel_remove_members().expect(HELD))?.into()
        }
        fb::ClientBody::ChannelLeave => {
            let table = frame.body_as_channel_leave().expect(HELD);
            let (_, nonce, channel) = addressed(at, table.nonce(), table.channel())?;
            ChannelLeave { channel, nonce }.into()
        }
        fb::ClientBody::SessionsEnd => {
            let table = frame.body_as_sessions_end().expect(HELD);
            let device = table.device();
            let before = table.before();
            SessionsEnd {
                user: user(at, table.user())?,
                device: (device != 0).then_some(DeviceId(device)),
                before: (before != 0).then_some(Timestamp(before)),
            }
            .into()
        }
        fb::ClientBody::UserErase => {
            UserErase { user: user(at, frame.body_as_user_erase().expect(HELD).user())? }.into()
        }
        fb::ClientBody(later) => ClientBody::Unknown(later),
    })
}

fn read_hello<'a>(at: &At, table: &fb::Hello<'a>) -> Result<Hello<'a>, WireError> {
    let credential = match (table.token(), table.ticket()) {
        (Some(token), None) => {
            within(at, token.len(), 1..=TOKEN_BYTES_MAX, Rule::TokenLength)?;
            Credential::Token(token)
        }
        (None, Some(ticket)) => {
            within(at, ticket.len(), 1..=TICKET_BYTES_MAX, Rule::TicketLength)?;
            Credential::Ticket(ticket.bytes())
        }
        (Some(_), Some(_)) | (None, None) => return Err(at.breaks(Rule::CredentialCount)),
    };
    let client = table.client().unwrap_or_default();
    within(at, client.len(), 0..=CLIENT_NAME_BYTES_MAX, Rule::ClientLength)?;
    if table.device() == 0 && matches!(credential, Credential::Ticket(_)) {
        return Err(at.breaks(Rule::DeviceZero));
    }
    Ok(Hello {
        protocol_version: table.protocol_version(),
        credential,
        device: DeviceId(table.device()),
        epoch: Epoch(table.epoch()),
        cursor: InboxSeq::new(table.cursor()),
        client,
    })
}

fn read_post<'a>(at: &At, table: &fb::Post<'a>) -> Result<Post<'a>, WireError> {
    let (_, nonce, channel) = addressed(at, table.nonce(), table.channel())?;
    let (kind, body, retry) = (table.kind(), table.body().bytes(), table.retry());
    Ok(Post { channel, nonce, kind, body, retry })
}

fn read_history(at: &At, table: &fb::History<'_>) -> Result<History, WireError> {
    let channel = channel(at, table.channel())?;
    let at = At { channel: Some(channel), ..*at };
    let direction = Direction::from_number(table.direction().0)
        .ok_or_else(|| at.breaks(Rule::DirectionUnknown))?;
    Ok(History { channel, direction, from: Seq::new(table.from()), limit: table.limit() })
}

fn read_create<'a>(at: &At, table: &fb::ChannelCreate<'a>) -> Result<ChannelCreate<'a>, WireError> {
    let at = At { nonce: Some(Nonce(table.nonce())), ..*at };
    let nonce = nonce(&at, table.nonce())?;
    let kind = match ChannelKind::from_number(table.kind().0) {
        Some(kind @ (ChannelKind::Group | ChannelKind::Broadcast)) => kind,
        Some(ChannelKind::Direct) => return Err(at.breaks(Rule::KindDirect)),
        None => return Err(at.breaks(Rule::KindUnknown)),
    };
    let title = table.title().unwrap_or_default();
    within(&at, title.len(), 0..=TITLE_BYTES_MAX, Rule::TitleLength)?;
    let members = match table.members() {
        Some(members) => users(&at, members)?,
        None => Users::from(&[][..]),
    };
    Ok(ChannelCreate { nonce, kind, title, members })
}

fn read_add<'a>(
    at: &At,
    table: &fb::ChannelAddMembers<'a>,
) -> Result<ChannelAddMembers<'a>, WireError> {
    let (at, nonce, channel) = addressed(at, table.nonce(), table.channel())?;
    let role = Role::from_number(table.role().0).ok_or_else(|| at.breaks(Rule::RoleUnknown))?;
    let members = some_users(&at, table.members())?;
    Ok(ChannelAddMembers { channel, nonce, members, role })
}

fn read_remove<'a>(
    at: &At,
    table: &fb::ChannelRemoveMembers<'a>,
) -> Result<ChannelRemoveMembers<'a>, WireError> {
    let (at, nonce, channel) = addressed(at, table.nonce(), table.channel())?;
    Ok(ChannelRemoveMembers { channel, nonce, members: some_users(&at, table.members())? })
}

/// Nonce and channel of a request that has both, and where it stands for its later errors.
fn addressed(
    at: &At,
    number: u64,
    id: &fb::ChannelId,
) -> Result<(At, Nonce, ChannelId), WireError> {
    let at = At { nonce: Some(Nonce(number)), ..*at };
    let channel = channel(&at, id)?;
    let at = At { channel: Some(channel), ..at };
    Ok((at, nonce(&at, number)?, channel))
}

pub(crate) fn channel(at: &At, id: &fb::ChannelId) -> Result<ChannelId, WireError> {
    ChannelId::from_halves(id.high(), id.low()).ok_or_else(|| at.breaks(Rule::ChannelForm))
}

pub(crate) fn user(at: &At, number: u64) -> Result<UserId, WireError> {
    UserId::new(number).ok_or_else(|| at.breaks(Rule::UserZero))
}

fn nonce(at: &At, number: u64) -> Result<Nonce, WireError> {
    if number == 0 { Err(at.breaks(Rule::NonceZero)) } else { Ok(Nonce(number)) }
}

/// At most as many users as one request may name.
fn users<'a>(at: &At, members: Vector<'a, u64>) -> Result<Users<'a>, WireError> {
    within(at, members.len(), 0..=MEMBERS_PER_REQUEST_MAX, Rule::MembersTooMany)?;
    Users::checked(at, members)
}

/// As [`users`], and at least one.
fn some_users<'a>(at: &At, members: Vector<'a, u64>) -> Result<Users<'a>, WireError> {
    within(at, members.len(), 1..=usize::MAX, Rule::MembersEmpty)?;
    users(at, members)
}

pub(crate) fn within(
    at: &At,
    count: usize,
    allowed: std::ops::RangeInclusive<usize>,
    rule: Rule,
) -> Result<(), WireError> {
    if allowed.contains(&count) { Ok(()) } else { Err(at.breaks(rule)) }
}
