//! Damaged frames: cut at every byte, each byte changed to every value. Whatever comes of it is
//! an error or a frame that holds what its type promises, never a panic.

use super::sample::{CLIENT_TYPES, SERVER_TYPES, Seed, plain};
use crate::client::*;
use crate::limits::MEMBERS_PER_REQUEST_MAX;
use crate::*;

/// Of each frame's bytes, and of the values that a byte can get, every so many are tried. Under
/// Miri, where a frame takes milliseconds, not all.
const BYTES_STEP: usize = if cfg!(miri) { 97 } else { 1 };
const FLIPS_STEP: usize = if cfg!(miri) { 127 } else { 1 };

/// The places of a frame that are tried; from frame to frame they are others.
fn places(frame: usize, bytes: usize) -> impl Iterator<Item = usize> {
    (0..bytes).filter(move |at| (at + frame).is_multiple_of(BYTES_STEP))
}

fn check_client(bytes: &[u8]) {
    let frame = match decode_client(bytes) {
        Ok(frame) => frame,
        Err(error) => return check_error(&error),
    };
    let nonce = match frame.body {
        ClientBody::Post(Post { nonce, .. })
        | ClientBody::ChannelCreate(ChannelCreate { nonce, .. })
        | ClientBody::ChannelAddMembers(ChannelAddMembers { nonce, .. })
        | ClientBody::ChannelRemoveMembers(ChannelRemoveMembers { nonce, .. })
        | ClientBody::ChannelLeave(ChannelLeave { nonce, .. }) => nonce,
        _ => Nonce(1),
    };
    assert_ne!(nonce, Nonce(0));
    match frame.body {
        ClientBody::ChannelCreate(ChannelCreate { members, title, kind, .. }) => {
            assert!(members.len() <= MEMBERS_PER_REQUEST_MAX);
            assert!(title.len() <= limits::TITLE_BYTES_MAX);
            assert_ne!(kind, ChannelKind::Direct);
        }
        ClientBody::ChannelAddMembers(ChannelAddMembers { members, .. })
        | ClientBody::ChannelRemoveMembers(ChannelRemoveMembers { members, .. }) => {
            assert!((1..=MEMBERS_PER_REQUEST_MAX).contains(&members.len()));
        }
        ClientBody::Hello(hello) => {
            let is_service = matches!(hello.credential, Credential::Token(_));
            assert!(hello.device != DeviceId(0) || is_service);
            assert!(hello.client.len() <= limits::CLIENT_NAME_BYTES_MAX);
        }
        ClientBody::Unknown(number) => assert!(number > 15),
        _ => {}
    }
    // Encoding reads every field and every element of every list.
    let mut encoder = Encoder::new(0);
    let again = encoder.client_as(frame.request, frame.as_user, frame.body);
    assert_eq!(decode_client(again), Ok(frame));
}

fn check_server(bytes: &[u8]) {
    let frame = match decode_server(bytes) {
        Ok(frame) => frame,
        Err(error) => return check_error(&error),
    };
    if let ServerBody::Deliver(entry) = frame.body {
        assert_ne!(entry.inbox_seq, InboxSeq::ZERO);
    }
    let mut encoder = Encoder::new(0);
    assert_eq!(decode_server(encoder.server(frame.request, frame.body)), Ok(frame));
}

fn check_error(error: &WireError) {
    assert!((10..200).contains(&error.to_string().len()), "{error}");
    assert_eq!(error.rejected().is_some(), matches!(error, WireError::Field(_)));
}

/// A valid frame, and the question to ask of what becomes of it.
type Case = (Vec<u8>, fn(&[u8]));

/// Two seeds: every optional field set, and none.
fn frames() -> Vec<Case> {
    let bare = Seed { text: String::new(), bytes: Vec::new(), flag: false, ..plain() };
    let mut frames: Vec<Case> = Vec::new();
    for seed in [plain(), bare] {
        for which in 0..CLIENT_TYPES {
            let bytes = Encoder::new(0).client(9, seed.client(which)).to_vec();
            frames.push((bytes, check_client));
        }
        for which in 0..SERVER_TYPES {
            let bytes = seed.server(which, |body| Encoder::new(0).server(9, body).to_vec());
            frames.push((bytes, check_server));
        }
    }
    frames
}

#[test]
fn a_frame_cut_anywhere_is_an_error_or_whole() {
    for (frame, (bytes, check)) in frames().into_iter().enumerate() {
        for end in places(frame, bytes.len()) {
            check(&bytes[..end]);
        }
    }
}

#[test]
fn a_frame_with_any_byte_changed_is_an_error_or_holds() {
    for (frame, (mut bytes, check)) in frames().into_iter().enumerate() {
        for at in places(frame, bytes.len()) {
            let was = bytes[at];
            for flip in (1..=u8::MAX).step_by(FLIPS_STEP) {
                bytes[at] = was ^ flip;
                check(&bytes);
            }
            bytes[at] = was;
        }
    }
}
