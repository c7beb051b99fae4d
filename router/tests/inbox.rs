//! What must hold of the inboxes of a core.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use router::inbox::{
    InboxLimits, InboxLoaded, InboxWanted, Inboxes, Notice, Parked, Placement, Resumed,
};
use wire::{
    BatchNumber, ChannelId, Content, Conversation, DeviceId, InboxSeq, LogEntry, Nonce, Seq,
    Timestamp, UserId,
};

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

fn channel(number: u64) -> ChannelId {
    ChannelId::numbered(number).unwrap()
}

fn entry(number: u64, seq: u64) -> Notice {
    Notice::Logged(LogEntry {
        channel: channel(number),
        seq: Seq::new(seq),
        sender: user(9),
        device: DeviceId(1),
        nonce: Nonce(seq),
        created_at: Timestamp(1),
        content: Content::Message { kind: 0, body: bytes::Bytes::from_static(b"hi") },
    })
}

fn read(number: u64, reader: u64, seq: u64) -> Notice {
    let (channel, user, seq) = (channel(number), user(reader), Seq::new(seq));
    Notice::Read { channel, user, seq, others: None }
}

fn batch(number: u64) -> BatchNumber {
    BatchNumber::new(number)
}

fn loaded(who: u64, head: u64, of: u64, last: u64) -> InboxLoaded {
    let conversation = Conversation { last_seq: Seq::new(last), ..Conversation::default() };
    InboxLoaded {
        user: user(who),
        head: InboxSeq::new(head),
        cursors: vec![(DeviceId(1), InboxSeq::new(head))],
        endings: Vec::new(),
        conversation: Some((channel(of), conversation)),
    }
}

/// User 1 with her conversation in channel 5, head and last as given.
fn known(head: u64, last: u64) -> Inboxes {
    known_within(InboxLimits::new(1024), head, last)
}

fn known_within(limits: InboxLimits, head: u64, last: u64) -> Inboxes {
    let mut inboxes = Inboxes::new(limits);
    assert!(inboxes.want_head(user(1)).is_some());
    inboxes.handle_loaded(loaded(1, head, 5, last));
    assert!(matches!(inboxes.place_next_parked(user(1), batch(1)), Resumed::Done));
    inboxes
}

fn placed(inbox_seq: u64) -> Placement {
    Placement::Placed(InboxSeq::new(inbox_seq))
}

#[test]
fn places_are_dense_and_a_replay_is_recognised() {
    let mut inboxes = known(40, 7);
    let rows = [
        (entry(5, 7), Placement::Known),
        (entry(5, 8), placed(41)),
        (entry(5, 8), Placement::Known),
        (entry(5, 10), placed(42)),
        (entry(6, 1), Placement::Missing),
    ];
    for (notice, expected) in rows {
        assert_eq!(inboxes.place(user(1), &notice, batch(1)), expected, "{notice:?}");
    }
}

#[test]
fn read_markers_are_monotone_for_oneself_and_pass_for_others() {
    let mut inboxes = known(0, 9);
    let rows = [
        (read(5, 1, 4), placed(1)),
        (read(5, 1, 3), Placement::Known),
        (read(5, 2, 3), placed(2)),
        (read(5, 1, 5), placed(3)),
    ];
    for (notice, expected) in rows {
        assert_eq!(inboxes.place(user(1), &notice, batch(1)), expected, "{notice:?}");
    }
    assert_eq!(inboxes.changed_conversations(user(1)), [], "nothing of it is durable");
    (1..=3).for_each(|place| inboxes.handle_committed(user(1), InboxSeq::new(place)));
    let (_, conversation) = inboxes.changed_conversations(user(1))[0];
    // That the last message is the ninth is stored.
    assert_eq!((conversation.last_seq, conversation.read_seq), (Seq::ZERO, Seq::new(5)));
}

#[test]
fn notices_that_wait_for_a_load_keep_their_order_over_several_conversations() {
    let mut inboxes = Inboxes::new(InboxLimits::new(1024));
    let mut wanted = Vec::new();
    for notice in [entry(5, 1), entry(6, 1), entry(5, 2)] {
        assert_eq!(inboxes.place(user(1), &notice, batch(1)), Placement::Missing);
        wanted.extend(inboxes.park(user(1), Parked { notice, piece: None }));
    }
    let want = |of| InboxWanted { user: user(1), channel: Some(channel(of)) };
    assert_eq!(wanted, [want(5)], "one load at a time");
    let mut places = Vec::new();
    for (of, then) in [(5, Some(want(6))), (6, None)] {
        inboxes.handle_loaded(loaded(1, 0, of, 0));
        let next = loop {
            match inboxes.place_next_parked(user(1), batch(1)) {
                Resumed::Placed(parked, inbox_seq) => {
                    places.push((parked.notice.item().channel(), inbox_seq.get()));
                }
                Resumed::Wanted(wanted) => break Some(wanted),
                Resumed::Done => break None,
                Resumed::Known(parked) => panic!("{parked:?}"),
            }
        };
        assert_eq!(next, then);
    }
    assert_eq!(places, [(channel(5), 1), (channel(6), 2), (channel(5), 3)]);
    assert_eq!(inboxes.place(user(1), &entry(5, 3), batch(1)), placed(4), "nothing waits now");
}

#[test]
fn what_is_folded_stays_readable_until_its_chunk_is_durable() {
    let mut inboxes = known(0, 0);
    for seq in 1..=3 {
        let _ = inboxes.place(user(1), &entry(5, seq), batch(seq));
        inboxes.handle_committed(user(1), InboxSeq::new(seq));
    }
    assert_eq!(inboxes.folded_below(batch(9)), batch(1));
    let fold = inboxes.fold_next(batch(9)).unwrap();
    assert_eq!((fold.user, fold.entries.len(), fold.conversations.len()), (user(1), 3, 1));
    assert_eq!(inboxes.folded_below(batch(9)), batch(9));
    assert_eq!(inboxes.tail(user(1), InboxSeq::new(1), 10).len(), 2, "in no durable chunk");
    let _ = inboxes.place(user(1), &entry(5, 4), batch(10));
    assert_eq!(inboxes.folded_below(batch(11)), batch(10), "what came since counts anew");
    inboxes.handle_folded(user(1), InboxSeq::new(3), true);
    assert_eq!(inboxes.tail(user(1), InboxSeq::ZERO, 10), [], "the fourth is not durable");
    inboxes.handle_committed(user(1), InboxSeq::new(4));
    assert_eq!(inboxes.tail(user(1), InboxSeq::ZERO, 10).len(), 1);
}

#[test]
fn an_offline_user_is_forgotten_when_all_of_her_is_stored() {
    let mut inboxes = known(0, 0);
    let _ = inboxes.place(user(1), &entry(5, 1), batch(1));
    inboxes.forget_if_idle(user(1));
    assert_eq!(inboxes.users(), 1, "an entry is not folded");
    inboxes.handle_committed(user(1), InboxSeq::new(1));
    assert!(inboxes.fold_next(batch(2)).is_some());
    inboxes.forget_if_idle(user(1));
    assert_eq!(inboxes.users(), 1, "its chunk is not durable");
    inboxes.handle_folded(user(1), InboxSeq::new(1), false);
    assert_eq!(inboxes.users(), 0);
}

#[test]
fn folding_is_due_when_many_entries_or_a_long_journal_wait() {
    let limits = InboxLimits { unfolded_max: 64, ..InboxLimits::new(1024) };
    let mut inboxes = known_within(limits, 0, 0);
    assert!(!inboxes.wants_fold(batch(1_000_000)), "nothing to fold");
    let _ = inboxes.place(user(1), &entry(5, 1), batch(1));
    assert!(!inboxes.wants_fold(batch(2)));
    assert!(inboxes.wants_fold(batch(5_000)), "the journal is long");
    for seq in 2..=(limits.unfolded_max as u64 / 2 + 1) {
        let _ = inboxes.place(user(1), &entry(5, seq), batch(2));
    }
    assert!(inboxes.wants_fold(batch(3)), "the entries are many");
}

#[test]
fn clean_conversations_are_forgotten_at_the_bound() {
    let mut inboxes = Inboxes::new(InboxLimits::new(4));
    let _ = inboxes.want_head(user(1));
    for of in 1..=12 {
        inboxes.handle_loaded(loaded(1, 0, of, 0));
    }
    let _ = inboxes.place_next_parked(user(1), batch(1));
    let known = (1..=12)
        .filter(|of| inboxes.place(user(1), &entry(*of, 1), batch(1)) != Placement::Missing);
    assert!(known.count() <= 5);
}

#[test]
fn cursors_advance_and_never_beyond_what_is_durable() {
    let mut inboxes = known(10, 0);
    let rows = [(9, None), (11, None), (10, None)];
    for (acked, moved) in rows {
        inboxes.ack(user(1), DeviceId(1), InboxSeq::new(acked));
        assert_eq!(inboxes.take_moved_cursor(user(1), DeviceId(1)), moved, "ack {acked}");
    }
    inboxes.ack(user(1), DeviceId(2), InboxSeq::new(4));
    assert_eq!(inboxes.take_moved_cursor(user(1), DeviceId(2)), Some(InboxSeq::new(4)));
    assert_eq!(inboxes.take_moved_cursor(user(1), DeviceId(2)), None, "taken once");
}
