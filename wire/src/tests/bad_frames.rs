//! The first two doors: bytes that are no frame, each refused with the error that says why.

use flatbuffers::{Vector, WIPOffset};

use super::sample::plain;
use crate::client::Ping;
use crate::decode::{Door, open};
use crate::encode::{Builder, Union, channel};
use crate::generated::mooring::wire as fb;
use crate::limits::*;
use crate::*;

/// A client frame with any body, whether it makes sense or not.
fn client(body: impl FnOnce(&mut Builder) -> (fb::ClientBody, Union)) -> Vec<u8> {
    let mut builder = Builder::new();
    let (body_type, body) = body(&mut builder);
    let start = builder.start_table();
    builder.push_slot_always(fb::ClientFrame::VT_BODY, body);
    builder.push_slot_always(fb::ClientFrame::VT_BODY_TYPE, body_type);
    let root = builder.end_table(start);
    builder.finish(root, Some(CLIENT_IDENTIFIER));
    builder.finished_data().to_vec()
}

/// A table with these offsets in it and nothing else.
fn table(builder: &mut Builder, fields: &[(u16, Union)]) -> Union {
    let start = builder.start_table();
    for (slot, value) in fields {
        builder.push_slot_always(*slot, *value);
    }
    WIPOffset::new(builder.end_table(start).value())
}

fn ping() -> Vec<u8> {
    Encoder::new(0).client(1, Ping { opaque: 1 }).to_vec()
}

/// `ping` with the four bytes at `at` replaced.
fn ping_with(at: usize, value: u32) -> Vec<u8> {
    let mut bytes = ping();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn root_of(bytes: &[u8]) -> usize {
    usize::try_from(u32::from_le_bytes(bytes[..4].try_into().unwrap())).unwrap()
}

fn without_body_field() -> Vec<u8> {
    client(|builder| {
        let start = builder.start_table();
        builder.push_slot_always(fb::Post::VT_CHANNEL, fb::ChannelId::new(0, 1));
        (fb::ClientBody::Post, WIPOffset::new(builder.end_table(start).value()))
    })
}

fn type_without_union() -> Vec<u8> {
    let mut builder = Builder::new();
    let start = builder.start_table();
    builder.push_slot_always(fb::ClientFrame::VT_BODY_TYPE, fb::ClientBody::Ping);
    let root = builder.end_table(start);
    builder.finish(root, Some(CLIENT_IDENTIFIER));
    builder.finished_data().to_vec()
}

fn nothing() -> Vec<u8> {
    let mut builder = Builder::new();
    let start = builder.start_table();
    let root = builder.end_table(start);
    builder.finish(root, Some(CLIENT_IDENTIFIER));
    builder.finished_data().to_vec()
}

/// A `Hello` whose `client` is these bytes, with whatever stands behind them.
fn hello_with_client(text: &[u8], terminated: bool) -> Vec<u8> {
    client(|builder| {
        let client = if terminated {
            WIPOffset::new(builder.create_byte_string(text).value())
        } else {
            WIPOffset::new(builder.create_vector(text).value())
        };
        (fb::ClientBody::Hello, table(builder, &[(fb::Hello::VT_CLIENT, client)]))
    })
}

/// A `Post` whose body says that it has this many bytes.
fn post_with_length(length: u32) -> Vec<u8> {
    client(|builder| {
        builder.start_vector::<u8>(0);
        let body = builder.push(length);
        builder.end_vector::<u8>(0);
        let start = builder.start_table();
        let body: WIPOffset<Vector<'_, u8>> = WIPOffset::new(body.value());
        builder.push_slot_always(fb::Post::VT_BODY, body);
        builder.push_slot_always(fb::Post::VT_CHANNEL, fb::ChannelId::new(0, 1));
        (fb::ClientBody::Post, WIPOffset::new(builder.end_table(start).value()))
    })
}

fn invalid(fault: Fault) -> WireError {
    WireError::Invalid { fault }
}

fn row_of(
    (name, bytes, expected, close): (&str, Vec<u8>, WireError, CloseCode),
    decode: impl Fn(&[u8]) -> Option<WireError>,
) {
    assert_eq!(decode(&bytes), Some(expected), "{name}");
    assert_eq!(expected.close_code(), close, "{name}");
    assert_eq!(expected.rejected(), None, "{name}");
}

#[test]
fn bytes_that_are_no_client_frame_are_refused_with_the_reason() {
    let not_a_frame = |found: &[u8; 4]| WireError::NotAFrame { found: *found, expected: *b"MRC1" };
    let too_large = |bytes| WireError::TooLarge { bytes, bytes_max: CLIENT_FRAME_BYTES_MAX };
    let server = plain().server(9, |body| Encoder::new(0).server(0, body).to_vec());
    let mut odd_vtable = ping();
    let root = root_of(&odd_vtable);
    let back = u32::from_le_bytes(odd_vtable[root..root + 4].try_into().unwrap());
    let vtable = root - usize::try_from(back).unwrap();
    odd_vtable[vtable] += 1;
    let odd_end = vtable + usize::from(odd_vtable[vtable]);
    let (bad, big) = (CloseCode::BadFrame, CloseCode::TooBig);
    let far = CLIENT_FRAME_BYTES_MAX + 1;

    for row in [
        ("empty", vec![], WireError::TooShort { bytes: 0 }, bad),
        ("cut in the identifier", ping()[..7].to_vec(), WireError::TooShort { bytes: 7 }, bad),
        ("zeroes", vec![0; 16], not_a_frame(&[0; 4]), bad),
        ("a server's frame", server, not_a_frame(b"MRS1"), bad),
        ("text", b"{\"hello\": true}".to_vec(), not_a_frame(b"llo\""), bad),
        ("one byte too long", vec![0; far], too_large(far), big),
        ("root beyond the end", ping_with(0, 4000), invalid(Fault::OutOfBounds { at: 4000 }), bad),
        ("root at an odd place", ping_with(0, 9), invalid(Fault::Unaligned { at: 9 }), bad),
        (
            "vtable beyond the end",
            ping_with(root, 0x7fff_ffff),
            invalid(Fault::OutOfBounds { at: root }),
            bad,
        ),
        ("vtable of odd length", odd_vtable, invalid(Fault::Unaligned { at: odd_end }), bad),
        ("an empty root", nothing(), invalid(Fault::FieldMissing("body")), bad),
        ("a post without body", without_body_field(), invalid(Fault::FieldMissing("body")), bad),
        (
            "a type without its union",
            type_without_union(),
            invalid(Fault::UnionInconsistent("body")),
            bad,
        ),
        (
            "a union of type NONE",
            client(|builder| (fb::ClientBody::NONE, table(builder, &[]))),
            invalid(Fault::UnionNone("body")),
            bad,
        ),
    ] {
        row_of(row, |bytes| decode_client(bytes).err());
    }
}

#[test]
fn strings_and_vectors_that_lie_are_refused() {
    let fault = |bytes: &[u8]| match decode_client(bytes) {
        Err(WireError::Invalid { fault }) => fault,
        other => panic!("{other:?}"),
    };
    let bytes = hello_with_client(b"\xff\xfe", true);
    assert!(matches!(fault(&bytes), Fault::NotUtf8 { at } if bytes[at..].starts_with(b"\xff\xfe")));
    let bytes = hello_with_client(b"tea!", false);
    assert!(matches!(fault(&bytes), Fault::NotTerminated { at } if bytes[at..] == *b"tea!"));
    for length in [1 << 16, 0x7fff_ffff, u32::MAX] {
        let bytes = post_with_length(length);
        assert!(matches!(fault(&bytes), Fault::OutOfBounds { .. }), "{length}");
    }
}

/// A page of the most tables an entry, whose every entry is the same one.
fn page_of_one(entries: usize, body: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new();
    let body = Some(builder.create_vector(body));
    let of = channel(ChannelId::numbered(1).unwrap());
    let args =
        fb::MessageArgs { channel: Some(&of), seq: 1, sender: 1, body, ..Default::default() };
    let event = Some(fb::Message::create(&mut builder, &args).as_union_value());
    let event_type = fb::Event::Message;
    let last = fb::HistoryEntry::create(&mut builder, &fb::HistoryEntryArgs { event_type, event });
    let args = fb::ConversationArgs { channel: Some(&of), last: Some(last), ..Default::default() };
    let entry = fb::Conversation::create(&mut builder, &args);
    let conversations = Some(builder.create_vector(&vec![entry; entries]));
    let page =
        fb::ChannelPage::create(&mut builder, &fb::ChannelPageArgs { conversations, more: false });
    let args = fb::ServerFrameArgs {
        request: 0,
        body_type: fb::ServerBody::ChannelPage,
        body: Some(page.as_union_value()),
    };
    let root = fb::ServerFrame::create(&mut builder, &args);
    builder.finish(root, Some(SERVER_IDENTIFIER));
    builder.finished_data().to_vec()
}

#[test]
#[cfg_attr(miri, ignore = "a page of the largest size takes minutes")]
fn a_page_holds_as_many_entries_as_it_may_and_not_one_more() {
    assert!(decode_server(&page_of_one(PAGE_ENTRIES_MAX, b"tea")).is_ok());
    let one_more = page_of_one(PAGE_ENTRIES_MAX + 1, b"tea");
    assert_eq!(decode_server(&one_more), Err(invalid(Fault::TooManyTables)));
}

#[test]
#[cfg_attr(miri, ignore = "a page of the largest size takes minutes")]
fn a_small_frame_cannot_stand_for_a_large_one() {
    let bytes = page_of_one(64, &[0xaa; BODY_BYTES_MAX]);
    assert!(bytes.len() < SERVER_FRAME_BYTES_MAX / 8);
    assert_eq!(decode_server(&bytes), Err(invalid(Fault::TooMuchSharing)));
}

#[test]
fn the_depth_limits_are_those_of_the_deepest_frames() {
    let deepest = page_of_one(1, b"tea");
    let door = |max_depth| Door {
        identifier: SERVER_IDENTIFIER,
        bytes_max: SERVER_FRAME_BYTES_MAX,
        verifier: flatbuffers::VerifierOptions { max_depth, ..SERVER_VERIFIER },
    };
    assert!(open::<fb::ServerFrame<'_>>(&door(SERVER_DEPTH_MAX), &deepest).is_ok());
    let refused = open::<fb::ServerFrame<'_>>(&door(SERVER_DEPTH_MAX - 1), &deepest);
    assert_eq!(refused.err(), Some(invalid(Fault::TooDeep)));

    let door = |max_depth| Door {
        identifier: CLIENT_IDENTIFIER,
        bytes_max: CLIENT_FRAME_BYTES_MAX,
        verifier: flatbuffers::VerifierOptions { max_depth, ..CLIENT_VERIFIER },
    };
    let deepest = ping();
    assert!(open::<fb::ClientFrame<'_>>(&door(CLIENT_DEPTH_MAX), &deepest).is_ok());
    let refused = open::<fb::ClientFrame<'_>>(&door(CLIENT_DEPTH_MAX - 1), &deepest);
    assert_eq!(refused.err(), Some(invalid(Fault::TooDeep)));
}

#[test]
#[cfg_attr(miri, ignore = "a page of the largest size takes minutes")]
fn the_longest_frames_pass_the_doors() {
    let users: Vec<_> = (1..=501).map(|id| UserId::new(id).unwrap()).collect();
    let (body, title) = (vec![0xaa; BODY_BYTES_MAX], "t".repeat(TITLE_BYTES_MAX));
    let of = ChannelId::numbered(1).unwrap();
    let mut encoder = Encoder::new(0);
    let post = client::Post { channel: of, nonce: Nonce(1), kind: 0, body: &body, retry: true };
    assert!(decode_client(encoder.client(u32::MAX, post)).is_ok());
    let create = client::ChannelCreate {
        nonce: Nonce(1),
        kind: ChannelKind::Group,
        title: &title,
        members: Users::from(&users[..MEMBERS_PER_REQUEST_MAX]),
    };
    assert!(decode_client(encoder.client(u32::MAX, create)).is_ok());

    // A page filled by `Event::bytes_max` with the longest of each passes the client's doors.
    let seed = plain();
    let Event::Message(message) = seed.event(0) else { panic!("sample 0 is a message") };
    let Event::ChannelCreated(created) = seed.event(3) else { panic!("sample 3 is a creation") };
    let long = Event::Message(Message { body: Some(&body), ..message });
    let wide = Event::ChannelCreated(ChannelCreated {
        title: &title,
        members: Users::from(&*users),
        ..created
    });
    for event in [long, wide, Event::Message(Message { body: None, ..message })] {
        let room = (SERVER_FRAME_BYTES_MAX - 256) / event.bytes_max();
        let entry = Deliver { inbox_seq: InboxSeq::new(1), event };
        let entries = std::iter::repeat_n(entry, room.min(PAGE_ENTRIES_MAX));
        let bytes = encoder.sync_page(1, entries, InboxSeq::ZERO, false);
        assert!(bytes.len() <= SERVER_FRAME_BYTES_MAX);
        assert!(decode_server(bytes).is_ok(), "{} bytes", bytes.len());
    }
}
