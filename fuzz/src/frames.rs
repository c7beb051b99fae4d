//! FlatBuffers frames: no bytes panic the decoders; an accepted frame comes back equal after it was
//! encoded and decoded again, and encoding it once more gives the same bytes.

use wire::{
    Encoder, MESSAGE_HEAD_BYTES_MAX, ServerBody, decode_client, decode_server, patch_inbox_seq,
};

/// Decodes `data` as a frame of either side.
///
/// # Panics
/// If an accepted frame does not come back as it was.
pub fn run(data: &[u8]) {
    let mut encoder = Encoder::new(MESSAGE_HEAD_BYTES_MAX);
    if let Ok(frame) = decode_client(data) {
        let bytes = encoder.client(frame.request, frame.body).to_vec();
        let again = decode_client(&bytes).expect("what was encoded can be decoded");
        assert_eq!(frame, again);
        assert_eq!(encoder.client(again.request, again.body), bytes);
    }
    if let Ok(frame) = decode_server(data) {
        let bytes = encoder.server(frame.request, frame.body).to_vec();
        let again = decode_server(&bytes).expect("what was encoded can be decoded");
        assert_eq!(frame, again);
        assert_eq!(encoder.server(again.request, again.body), bytes);
        if let ServerBody::Deliver(deliver) = frame.body {
            check_template(&mut encoder, &deliver);
        }
    }
}

/// A template with a number patched in is the frame with that number.
fn check_template(encoder: &mut Encoder, deliver: &wire::Deliver<'_>) {
    let template = encoder.deliver_template(&deliver.event);
    let (mut bytes, offset) = (template.bytes().to_vec(), template.inbox_seq_offset());
    patch_inbox_seq(&mut bytes, offset, deliver.inbox_seq);
    let frame = decode_server(&bytes).expect("a patched template can be decoded");
    assert_eq!(frame.body, ServerBody::Deliver(*deliver));
}
