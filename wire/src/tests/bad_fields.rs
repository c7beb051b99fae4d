//! The third door: valid FlatBuffers whose fields break a rule, each refused with the rule, the
//! request and what is known of it, so that the session goes on.

use super::sample::plain;
use crate::encode::{Builder, Union};
use crate::generated::mooring::wire as fb;
use crate::limits::*;
use crate::server::{Posted, Rejected};
use crate::*;

const REQUEST: u32 = 77;
const GOOD: fb::ChannelId = fb::ChannelId([0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);

type Build = Box<dyn Fn(&mut Builder) -> (fb::ClientBody, Union)>;

macro_rules! table {
    ($name:ident, $args:ident, |$builder:ident| { $($field:ident : $value:expr),* $(,)? }) => {
        Box::new(|$builder: &mut Builder| {
            #[allow(clippy::needless_update, reason = "some rows set every field")]
            let args = fb::$args { $($field: $value,)* ..Default::default() };
            (fb::ClientBody::$name, fb::$name::create($builder, &args).as_union_value())
        }) as Build
    };
}

fn refused(build: &Build) -> WireError {
    let mut builder = Builder::new();
    let (body_type, body) = build(&mut builder);
    let args = fb::ClientFrameArgs { request: REQUEST, body_type, body: Some(body), as_user: 0 };
    let root = fb::ClientFrame::create(&mut builder, &args);
    builder.finish(root, Some(CLIENT_IDENTIFIER));
    decode_client(builder.finished_data()).unwrap_err()
}

#[test]
fn a_hello_that_breaks_a_rule_is_refused_with_the_rule() {
    for (build, rule) in [
        (table!(Hello, HelloArgs, |b| { device: 1 }), Rule::CredentialCount),
        (
            table!(Hello, HelloArgs, |b| {
                device: 1,
                token: Some(b.create_string("t")),
                ticket: Some(b.create_vector(b"t")),
            }),
            Rule::CredentialCount,
        ),
        (
            table!(Hello, HelloArgs, |b| { device: 1, token: Some(b.create_string("")) }),
            Rule::TokenLength,
        ),
        (
            table!(Hello, HelloArgs, |b| {
                device: 1, token: Some(b.create_string(&"t".repeat(TOKEN_BYTES_MAX + 1)))
            }),
            Rule::TokenLength,
        ),
        (
            table!(Hello, HelloArgs, |b| {
                device: 1, ticket: Some(b.create_vector(&[7u8; TICKET_BYTES_MAX + 1]))
            }),
            Rule::TicketLength,
        ),
        (
            table!(Hello, HelloArgs, |b| {
                device: 1,
                token: Some(b.create_string("t")),
                client: Some(b.create_string(&"c".repeat(CLIENT_NAME_BYTES_MAX + 1))),
            }),
            Rule::ClientLength,
        ),
        (table!(Hello, HelloArgs, |b| { ticket: Some(b.create_vector(b"t")) }), Rule::DeviceZero),
    ] {
        let expected = FieldError { request: REQUEST, nonce: None, channel: None, rule };
        assert_eq!(refused(&build), WireError::Field(expected));
        assert_eq!(refused(&build).close_code(), CloseCode::BadFrame);
    }
}

/// A row: the frame, the rule it breaks, and which of nonce 9 and channel 5 the error repeats.
type Row = (Build, Rule, bool, bool);

fn rows_of_posts() -> Vec<Row> {
    let post = |high, low, nonce| -> Build {
        Box::new(move |b: &mut Builder| {
            let body = Some(b.create_vector(b"tea"));
            let of = fb::ChannelId::new(high, low);
            let args = fb::PostArgs { channel: Some(&of), nonce, body, ..Default::default() };
            (fb::ClientBody::Post, fb::Post::create(b, &args).as_union_value())
        })
    };
    vec![
        (post(0, 0, 9), Rule::ChannelForm, true, false),
        (post(5, 0, 9), Rule::ChannelForm, true, false),
        (post(5, 4, 9), Rule::ChannelForm, true, false),
        (post(0, 5, 0), Rule::NonceZero, false, true),
        (
            table!(ChannelLeave, ChannelLeaveArgs, |b| { channel: Some(&GOOD), nonce: 0 }),
            Rule::NonceZero,
            false,
            true,
        ),
        (
            table!(History, HistoryArgs, |b| {
                channel: Some(&GOOD), direction: fb::Direction(9)
            }),
            Rule::DirectionUnknown,
            false,
            true,
        ),
    ]
}

fn rows_of_creations() -> Vec<Row> {
    let create = |kind: u8, title_bytes: usize, members: Vec<u64>| -> Build {
        Box::new(move |b: &mut Builder| {
            let title = Some(b.create_string(&"t".repeat(title_bytes)));
            let members = Some(b.create_vector(&members));
            let kind = fb::ChannelKind(kind);
            let args = fb::ChannelCreateArgs { nonce: 9, kind, title, members };
            (fb::ClientBody::ChannelCreate, fb::ChannelCreate::create(b, &args).as_union_value())
        })
    };
    let many: Vec<u64> = (1..=501).collect();
    vec![
        (create(0, 3, vec![1]), Rule::KindDirect, true, false),
        (create(9, 3, vec![1]), Rule::KindUnknown, true, false),
        (create(1, TITLE_BYTES_MAX + 1, vec![1]), Rule::TitleLength, true, false),
        (create(1, 3, many), Rule::MembersTooMany, true, false),
        (create(1, 3, vec![1, 0, 2]), Rule::MemberZero, true, false),
    ]
}

fn rows_of_memberships() -> Vec<Row> {
    let add = |role: u8, members: Vec<u64>| -> Build {
        Box::new(move |b: &mut Builder| {
            let members = Some(b.create_vector(&members));
            let (channel, role) = (Some(&GOOD), fb::Role(role));
            let args = fb::ChannelAddMembersArgs { channel, nonce: 9, members, role };
            let table = fb::ChannelAddMembers::create(b, &args);
            (fb::ClientBody::ChannelAddMembers, table.as_union_value())
        })
    };
    let remove = |members: Vec<u64>| -> Build {
        Box::new(move |b: &mut Builder| {
            let members = Some(b.create_vector(&members));
            let args = fb::ChannelRemoveMembersArgs { channel: Some(&GOOD), nonce: 9, members };
            let table = fb::ChannelRemoveMembers::create(b, &args);
            (fb::ClientBody::ChannelRemoveMembers, table.as_union_value())
        })
    };
    vec![
        (add(9, vec![1]), Rule::RoleUnknown, true, true),
        (add(0, vec![]), Rule::MembersEmpty, true, true),
        (add(0, vec![0]), Rule::MemberZero, true, true),
        (add(0, (1..=501).collect()), Rule::MembersTooMany, true, true),
        (remove(vec![]), Rule::MembersEmpty, true, true),
        (remove((1..=501).collect()), Rule::MembersTooMany, true, true),
    ]
}

#[test]
fn a_request_that_breaks_a_rule_is_refused_with_its_nonce_and_channel() {
    let rows = [rows_of_posts(), rows_of_creations(), rows_of_memberships()];
    for (build, rule, has_nonce, has_channel) in rows.into_iter().flatten() {
        // A nonce of 0 is told as it stands in the frame.
        let nonce = match (has_nonce, rule) {
            (true, _) => Some(Nonce(9)),
            (false, Rule::NonceZero) => Some(Nonce(0)),
            (false, _) => None,
        };
        let channel = has_channel.then(|| ChannelId::numbered(5).unwrap());
        let expected = FieldError { request: REQUEST, nonce, channel, rule };
        let error = refused(&build);
        assert_eq!(error, WireError::Field(expected));
        let (code, text) = (rule.code(), rule.problem());
        let nonce = nonce.unwrap_or(Nonce(0));
        let answer = Rejected { code, nonce, channel, text, retry_after_ms: 0 };
        assert_eq!(error.rejected(), Some((REQUEST, answer)));
    }
}

#[test]
fn a_server_frame_that_breaks_a_rule_is_refused_with_the_rule() {
    let rule = |bytes: &[u8]| match decode_server(bytes) {
        Err(WireError::Field(FieldError { rule, .. })) => rule,
        other => panic!("{other:?}"),
    };
    let mut encoder = Encoder::new(0);
    let seed = plain();
    let event = seed.event(0);
    let Event::Message(message) = event else { panic!("sample 0 is a message") };
    let entry = Deliver { inbox_seq: InboxSeq::ZERO, event };
    assert_eq!(rule(encoder.server(0, entry)), Rule::InboxSeqZero);
    let unnumbered = Event::Message(Message { seq: Seq::ZERO, ..message });
    let good = Deliver { inbox_seq: InboxSeq::new(1), event };
    let bad = Deliver { event: unnumbered, ..good };
    assert_eq!(rule(encoder.server(0, bad)), Rule::SeqZero);
    // In a page, wherever it stands.
    assert_eq!(rule(encoder.sync_page(0, [good, bad], InboxSeq::ZERO, true)), Rule::SeqZero);
    let page = encoder.history_page(0, message.channel, [event, unnumbered], true);
    assert_eq!(rule(page), Rule::SeqZero);
    let posted = Posted {
        channel: message.channel,
        nonce: Nonce(1),
        seq: Seq::ZERO,
        created_at: Timestamp(0),
        durability: server::Durability::Durable,
    };
    assert_eq!(rule(encoder.server(0, posted)), Rule::SeqZero);
}

#[test]
fn values_of_a_later_version_are_read_as_what_promises_least() {
    let mut builder = Builder::new();
    let durability = fb::Durability(200);
    let args = fb::PostedArgs { channel: Some(&GOOD), nonce: 1, seq: 1, created_at: 0, durability };
    let body = Some(fb::Posted::create(&mut builder, &args).as_union_value());
    let args = fb::ServerFrameArgs { request: 0, body_type: fb::ServerBody::Posted, body };
    let root = fb::ServerFrame::create(&mut builder, &args);
    builder.finish(root, Some(SERVER_IDENTIFIER));
    let Ok(ServerFrame { body: ServerBody::Posted(posted), .. }) =
        decode_server(builder.finished_data())
    else {
        panic!("a posted frame")
    };
    assert_eq!(posted.durability, server::Durability::Accepted);
}

#[test]
fn rules_name_their_field_and_the_limits_in_force() {
    for rule in Rule::ALL {
        assert!(rule.problem().starts_with(rule.field()), "{rule:?}");
    }
    for (rule, limit) in [
        (Rule::TokenLength, TOKEN_BYTES_MAX),
        (Rule::TicketLength, TICKET_BYTES_MAX),
        (Rule::ClientLength, CLIENT_NAME_BYTES_MAX),
        (Rule::MembersTooMany, MEMBERS_PER_REQUEST_MAX),
        (Rule::TitleLength, TITLE_BYTES_MAX),
    ] {
        assert!(rule.problem().contains(&format!(" {limit} ")), "{rule:?} says {limit}");
    }
}
