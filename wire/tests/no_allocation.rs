//! The way of a message does not allocate: counted, not believed.

use allocation_counter::measure;
use wire::client::{CursorAck, Ping, Post};
use wire::limits::{BODY_BYTES_MAX, PAGE_ENTRIES_MAX};
use wire::server::{Durability, Pong, Posted};
use wire::{
    ChannelId, Deliver, DeviceId, Encoder, Event, InboxSeq, Message, Nonce, Seq, ServerBody,
    Timestamp, UserId, decode_client, decode_server, patch_inbox_seq,
};

fn channel() -> ChannelId {
    ChannelId::numbered(7).expect("not 0")
}

fn message(body: &[u8]) -> Event<'_> {
    Event::Message(Message {
        channel: channel(),
        seq: Seq::new(1),
        sender: UserId::new(2).expect("not 0"),
        device: DeviceId(3),
        created_at: Timestamp(4),
        nonce: Nonce(5),
        kind: 0,
        body: Some(body),
    })
}

fn posted() -> Posted {
    Posted {
        channel: channel(),
        nonce: Nonce(5),
        seq: Seq::new(6),
        created_at: Timestamp(4),
        durability: Durability::Durable,
    }
}

/// What one core does with its encoder.
fn work(encoder: &mut Encoder, body: &[u8], copy: &mut Vec<u8>) {
    let post = Post { channel: channel(), nonce: Nonce(5), kind: 0, body, retry: false };
    assert!(decode_client(encoder.client(1, post)).is_ok());
    assert!(decode_client(encoder.client(2, CursorAck { inbox_seq: InboxSeq::new(9) })).is_ok());
    assert!(decode_client(encoder.client(3, Ping { opaque: 9 })).is_ok());
    let pong = Pong { opaque: 9, server_time: Timestamp(4) };
    assert!(decode_server(encoder.server(3, pong)).is_ok());
    assert!(decode_server(encoder.server(1, posted())).is_ok());

    let entry = Deliver { inbox_seq: InboxSeq::new(8), event: message(body) };
    assert!(decode_server(encoder.server(0, entry)).is_ok());
    let template = encoder.deliver_template(&entry.event);
    copy.clear();
    copy.extend_from_slice(template.bytes());
    patch_inbox_seq(copy, template.inbox_seq_offset(), InboxSeq::new(8));
    assert!(decode_server(copy).is_ok());

    let entry = Deliver { event: message(b"tea"), ..entry };
    let page = std::iter::repeat_n(entry, PAGE_ENTRIES_MAX);
    let page = decode_server(encoder.sync_page(4, page, InboxSeq::new(8), true)).expect("a page");
    let ServerBody::SyncPage(page) = page.body else { panic!("a page") };
    assert!(page.entries.iter().all(|read| read == entry));
}

#[test]
fn a_warm_encoder_and_the_decoder_do_not_allocate() {
    let (mut encoder, mut copy) = (Encoder::new(0), Vec::new());
    let body = vec![0xaa; BODY_BYTES_MAX];
    work(&mut encoder, &body, &mut copy);
    for bytes in [0, 1, 64, 4096, BODY_BYTES_MAX] {
        let counted = measure(|| work(&mut encoder, &body[..bytes], &mut copy));
        assert_eq!(counted.count_total, 0, "with {bytes} bytes: {counted:?}");
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(vec![0u8; 100]))).count_total, 1);
}
