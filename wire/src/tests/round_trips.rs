//! What was encoded is decoded as the same value, for every type of frame and any content.

use proptest::prelude::*;

use super::sample::{CLIENT_TYPES, EVENT_TYPES, SERVER_TYPES, plain, seeds};
use crate::generated::mooring::wire as fb;
use crate::{ClientFrame, Deliver, Encoder, Event, InboxSeq, ServerFrame};
use crate::{decode_client, decode_server};

proptest! {
    #[test]
    fn a_client_frame_is_what_it_was(seed in seeds(), request: u32, which in 0..CLIENT_TYPES) {
        let body = seed.client(which);
        let as_user = seed.flag.then_some(seed.users[0]);
        let mut encoder = Encoder::new(0);
        let bytes = encoder.client_as(request, as_user, body);
        prop_assert_eq!(decode_client(bytes), Ok(ClientFrame { request, as_user, body }));
    }

    #[test]
    fn a_server_frame_is_what_it_was(seed in seeds(), request: u32, which in 0..SERVER_TYPES) {
        seed.server(which, |body| {
            let mut encoder = Encoder::new(0);
            let bytes = encoder.server(request, body);
            prop_assert_eq!(decode_server(bytes), Ok(ServerFrame { request, body }));
            Ok(())
        })?;
    }

    #[test]
    fn a_frame_read_at_any_alignment_is_the_same(seed in seeds(), which in 0..CLIENT_TYPES) {
        let body = seed.client(which);
        let mut encoder = Encoder::new(0);
        let bytes = encoder.client(0, body);
        for shift in 0..8 {
            let shifted: Vec<u8> = std::iter::repeat_n(0, shift).chain(bytes.to_vec()).collect();
            prop_assert_eq!(decode_client(&shifted[shift..]).map(|frame| frame.body), Ok(body));
        }
    }

    #[test]
    fn an_encoder_that_was_used_encodes_like_a_new_one(one in seeds(), other in seeds()) {
        let mut used = Encoder::new(0);
        for which in 0..CLIENT_TYPES {
            let _ = used.client(1, one.client(which));
            let mut new = Encoder::new(0);
            let body = other.client(which);
            prop_assert_eq!(used.client(2, body), new.client(2, body));
        }
        let used = std::cell::RefCell::new(used);
        for which in 0..SERVER_TYPES {
            one.server(which, |body| used.borrow_mut().server(1, body).len());
            let again = other.server(which, |body| used.borrow_mut().server(2, body).to_vec());
            let new = other.server(which, |body| Encoder::new(0).server(2, body).to_vec());
            prop_assert_eq!(again, new);
        }
    }

    #[test]
    fn an_event_takes_at_most_what_it_says(seed in seeds(), which in 0..EVENT_TYPES) {
        let event = seed.event(which);
        let entry = Deliver { inbox_seq: InboxSeq::new(u64::MAX), event };
        let mut encoder = Encoder::new(0);
        let bytes = encoder.server(1, entry).len();
        // What `ServerFrame` adds is the 256 that `bytes_max` tells callers to keep free.
        prop_assert!(bytes <= event.bytes_max() + 256, "{bytes} > {}", event.bytes_max());
        let page = encoder.sync_page(1, [entry; 8], InboxSeq::ZERO, true).len();
        prop_assert!(page <= 8 * event.bytes_max() + 256, "{page} > 8 * {}", event.bytes_max());
    }
}

#[test]
fn samples_cover_every_type_of_the_schema() {
    let mut encoder = Encoder::default();
    let seed = plain();
    for body in fb::ClientBody::ENUM_VALUES.iter().filter(|body| body.0 != 0) {
        let covered = (0..CLIENT_TYPES).any(|which| {
            let bytes = encoder.client(0, seed.client(which));
            flatbuffers::root::<fb::ClientFrame<'_>>(bytes).unwrap().body_type() == *body
        });
        assert!(covered, "{body:?}");
    }
    for body in fb::ServerBody::ENUM_VALUES.iter().filter(|body| body.0 != 0) {
        let covered = (0..SERVER_TYPES).any(|which| {
            let bytes = seed.server(which, |body| Encoder::default().server(0, body).to_vec());
            flatbuffers::root::<fb::ServerFrame<'_>>(&bytes).unwrap().body_type() == *body
        });
        assert!(covered, "{body:?}");
    }
    for event in fb::Event::ENUM_VALUES.iter().filter(|event| event.0 != 0) {
        let covered = (0..EVENT_TYPES).any(|which| {
            let entry = Deliver { inbox_seq: InboxSeq::new(1), event: seed.event(which) };
            let bytes = encoder.server(0, entry);
            let frame = flatbuffers::root::<fb::ServerFrame<'_>>(bytes).unwrap();
            frame.body_as_deliver().unwrap().event_type() == *event
        });
        assert!(covered, "{event:?}");
    }
}

#[test]
fn only_a_message_loses_its_body() {
    let seed = plain();
    for which in 0..EVENT_TYPES {
        let (with, without) = (seed.event(which), seed.event(which).without_body());
        match without {
            Event::Message(message) => assert_eq!(message.body, None),
            _ => assert_eq!(without, with),
        }
    }
}
