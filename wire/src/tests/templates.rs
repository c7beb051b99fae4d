//! A patched template is the frame that would have been encoded.

use proptest::prelude::*;

use super::sample::{EVENT_TYPES, plain, seeds};
use crate::generated::mooring::wire as fb;
use crate::limits::BODY_BYTES_MAX;
use crate::*;

proptest! {
    #[test]
    fn patching_is_encoding(seed in seeds(), which in 0..EVENT_TYPES, place in 1..=u64::MAX) {
        let event = seed.event(which);
        let inbox_seq = InboxSeq::new(place);
        let (mut one, mut other) = (Encoder::new(0), Encoder::new(0));

        let template = one.deliver_template(&event);
        let mut copy = template.bytes().to_vec();
        patch_inbox_seq(&mut copy, template.inbox_seq_offset(), inbox_seq);
        prop_assert_eq!(&*copy, other.server(0, Deliver { inbox_seq, event }));

        // A patched head before the shared tail is the same frame.
        let (head, tail) = template.bytes().split_at(template.head_bytes());
        let mut head = head.to_vec();
        patch_inbox_seq(&mut head, template.inbox_seq_offset(), inbox_seq);
        head.extend_from_slice(tail);
        prop_assert_eq!(head, copy);
    }
}

#[test]
fn the_offset_is_where_the_table_has_its_field() {
    let seed = plain();
    for which in 0..EVENT_TYPES {
        let mut encoder = Encoder::new(0);
        let template = encoder.deliver_template(&seed.event(which));
        let frame = flatbuffers::root::<fb::ServerFrame<'_>>(template.bytes()).unwrap();
        let table = frame.body_as_deliver().unwrap()._tab;
        let field = usize::from(table.vtable().get(fb::Deliver::VT_INBOX_SEQ));
        assert_ne!(field, 0, "the field is present though it is 0");
        assert_eq!(template.inbox_seq_offset(), table.loc() + field);
    }
}

#[test]
fn a_placeholder_is_no_frame() {
    let mut encoder = Encoder::default();
    let template = encoder.deliver_template(&plain().event(0));
    let refused = decode_server(template.bytes()).unwrap_err();
    assert!(matches!(refused, WireError::Field(FieldError { rule: Rule::InboxSeqZero, .. })));
}

#[test]
fn the_head_of_a_message_does_not_grow_with_its_body() {
    let mut encoder = Encoder::default();
    let seed = plain();
    let Event::Message(message) = seed.event(0) else { panic!("sample 0 is a message") };
    let body = vec![0xaa; BODY_BYTES_MAX];
    for bytes in (0..64).chain([1000, BODY_BYTES_MAX]) {
        let event = Event::Message(Message { body: Some(&body[..bytes]), ..message });
        let template = encoder.deliver_template(&event);
        let head = template.head_bytes();
        assert!(head <= MESSAGE_HEAD_BYTES_MAX, "{head} with {bytes}");
        assert!(template.inbox_seq_offset() + 8 <= head);
        assert_eq!(template.bytes()[head + 4..][..bytes], body[..bytes]);
    }
}

#[test]
fn a_log_entry_is_told_as_the_event_it_is() {
    let user = UserId::new(7).unwrap();
    let entry = LogEntry {
        channel: ChannelId::numbered(4).unwrap(),
        seq: Seq::new(9),
        sender: user,
        device: DeviceId(2),
        nonce: Nonce(5),
        created_at: Timestamp(1000),
        content: Content::Created {
            kind: ChannelKind::Group,
            title: "tea".into(),
            members: [user].into(),
        },
    };
    let Event::ChannelCreated(created) = Event::from(&entry) else { panic!("{entry:?}") };
    assert_eq!((created.creator, created.seq, created.title), (user, Seq::new(9), "tea"));
    assert_eq!(created.members.iter().collect::<Vec<_>>(), [user]);

    let content = Content::Message { kind: 16, body: "hi".into() };
    let entry = LogEntry { content, ..entry };
    let Event::Message(message) = entry.as_event() else { panic!("{entry:?}") };
    assert_eq!((message.sender, message.kind, message.body), (user, 16, Some(&b"hi"[..])));

    let (op, role, members) = (MembershipOp::Leave, Role::Admin, [user].into());
    let entry = LogEntry { content: Content::Membership { op, role, members }, ..entry };
    let Event::MembershipChange(change) = entry.as_event() else { panic!("{entry:?}") };
    assert_eq!((change.actor, change.op, change.role), (user, op, role));
}
