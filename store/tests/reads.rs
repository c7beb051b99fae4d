//! What is written is read back, the same from both engines.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use bytes::Bytes;
use common::{direct, fingerprint, group, logged, plenty, text, user};
use std::sync::Arc;
use store::{
    Batch, ChunkKey, Committer, ConversationKey, CursorKey, Direction, EndingKey, Engine,
    JournalKey, Key, MemberKey, Memory, MessageKey, Options, Read, ReadAnswer, Rocks, SyncMode,
    Table, Term, answer, recover,
};
use wire::{
    BatchNumber, ChannelId, ChannelKind, Content, Conversation, CoreId, DeviceId, InboxEntry,
    InboxItem, InboxSeq, LogEntry, Member, MembershipOp, Nonce, Role, Seq, Timestamp, UserId,
};

const HUGE: u64 = u64::MAX;

/// Runs the same rows on both engines.
fn on_both(rows: impl Fn(&dyn Fn(&Read) -> ReadAnswer, &dyn Fn(&mut dyn FnMut(&mut Batch)))) {
    fn run<E: Engine>(
        engine: E,
        rows: &impl Fn(&dyn Fn(&Read) -> ReadAnswer, &dyn Fn(&mut dyn FnMut(&mut Batch))),
    ) {
        let engine = Arc::new(engine);
        let ask = |read: &Read| answer(&*engine, read, fingerprint);
        let write = |fill: &mut dyn FnMut(&mut Batch)| {
            let mut batch = Batch::new(CoreId(0), 1 << 16);
            batch.begin(BatchNumber::new(1), Term::FIRST);
            fill(&mut batch);
            let mut committer = Committer::new(Arc::clone(&engine), SyncMode::Always, 1, plenty());
            let (mut group, mut out) = (vec![batch], Vec::new());
            committer.commit(std::time::Duration::ZERO, &mut group, &mut out).unwrap();
        };
        rows(&ask, &write);
        recover(&*engine).unwrap();
    }
    run(Memory::new(), &rows);
    let directory = tempfile::tempdir().unwrap();
    run(Rocks::open(directory.path(), false, &Options::default()).unwrap(), &rows);
}

fn entry(channel: ChannelId, seq: u64, content: Content) -> LogEntry {
    LogEntry { content, ..text(channel, seq, 1, "") }
}

fn users(numbers: &[u64]) -> Arc<[UserId]> {
    numbers.iter().map(|number| user(*number)).collect()
}

/// A group of users 1 to 3 with ten entries: created, user 3 removed at 4, texts.
fn a_group(channel: ChannelId) -> Vec<LogEntry> {
    let created = Content::Created {
        kind: ChannelKind::Group,
        title: "räume".into(),
        members: users(&[1, 2, 3]),
    };
    let removed =
        Content::Membership { op: MembershipOp::Remove, role: Role::Admin, members: users(&[3]) };
    let mut log = vec![entry(channel, 1, created)];
    log.extend((2..=10).map(|seq| text(channel, seq, 1, &format!("body {seq}"))));
    log[3] = entry(channel, 4, removed);
    log
}

fn put_group(batch: &mut Batch, channel: ChannelId) {
    a_group(channel).iter().for_each(|entry| batch.append_entry(entry));
    for (who, left) in [(1, None), (2, None), (3, Some(Seq::new(4)))] {
        let role = if who == 1 { Role::Owner } else { Role::Member };
        batch.put_member(channel, &Member { user: user(who), role, joined: Seq::new(1), left });
    }
}

#[test]
fn keys_round_trip_and_sort_as_their_numbers_do() {
    fn check<K: Key + std::fmt::Debug + PartialEq>(keys: &[K]) {
        for key in keys {
            assert_eq!(&K::parse(key.key().as_ref()).unwrap(), key);
        }
        let encoded: Vec<_> = keys.iter().map(Key::key).collect();
        assert!(encoded.windows(2).all(|pair| pair[0].as_ref() < pair[1].as_ref()), "{keys:?}");
    }
    let channels = [group(1), group(256), group(HUGE), direct(1, 2), direct(256, HUGE)];
    let seqs = [1, 255, 256, HUGE / 2].map(Seq::new);
    let places = channels.iter().flat_map(|&channel| seqs.map(|seq| MessageKey { channel, seq }));
    check(&places.collect::<Vec<_>>());
    let people = [1, 255, 256, HUGE].map(user);
    let chunks = people.iter().flat_map(|&user| {
        [1, 256, HUGE / 2].map(|first| ChunkKey { user, first: InboxSeq::new(first) })
    });
    check(&chunks.collect::<Vec<_>>());
    let conversations =
        people.iter().flat_map(|&user| channels.map(|channel| ConversationKey { user, channel }));
    check(&conversations.collect::<Vec<_>>());
    let members =
        channels.iter().flat_map(|&channel| people.map(|user| MemberKey { channel, user }));
    check(&members.collect::<Vec<_>>());
    let cursors = people.iter().flat_map(|&user| {
        [0, 256, u32::MAX].map(|device| CursorKey { user, device: DeviceId(device) })
    });
    check(&cursors.collect::<Vec<_>>());
    let endings = people.iter().flat_map(|&user| {
        [None, Some(DeviceId(1)), Some(DeviceId(256))].map(|device| EndingKey { user, device })
    });
    check(&endings.collect::<Vec<_>>());
    let journal = [0, 255, 256].into_iter().flat_map(|core| {
        [1, 256].map(|number| JournalKey { core: CoreId(core), number: BatchNumber::new(number) })
    });
    check(&journal.collect::<Vec<_>>());
}

#[test]
fn keys_that_no_store_writes_are_refused_by_name() {
    let rows: [(&str, Result<(), store::CorruptRecord>, &str); 5] = [
        ("short", MessageKey::parse(&[1; 23]).map(drop), "the key is too short"),
        ("zero channel", MessageKey::parse(&[0; 24]).map(drop), "no channel has this id"),
        ("long", JournalKey::parse(&[1; 11]).map(drop), "the key is too long"),
        ("kind", ChunkKey::parse(&[2; 17]).map(drop), "the key is of another kind"),
        ("zero user", ChunkKey::parse(&[1, 0, 0, 0, 0, 0, 0, 0, 0]).map(drop), "a user id is 0"),
    ];
    for (name, result, what) in rows {
        assert_eq!(result.unwrap_err().what, what, "{name}");
    }
}

#[test]
fn a_channel_never_seen_is_empty() {
    on_both(|ask, _| {
        for (channel, kind) in [(group(7), None), (direct(1, 2), Some(ChannelKind::Direct))] {
            let read = Read::Channel { channel, nonce_window: 5 };
            let (last, members, recent) = (Seq::ZERO, vec![], vec![]);
            assert_eq!(ask(&read), ReadAnswer::Channel { channel, last, kind, members, recent });
        }
        let read = history(group(7), 1, 0, Direction::Backward, 5);
        assert_eq!(ask(&read), ReadAnswer::NotMember { channel: group(7) });
    });
}

#[test]
fn a_channel_is_read_back_with_members_and_its_newest_entries() {
    on_both(|ask, write| {
        // Neighbours in key order must not leak in.
        write(&mut |batch| {
            put_group(batch, group(6));
            put_group(batch, group(7));
            put_group(batch, group(8));
        });
        let ReadAnswer::Channel { last, kind, members, recent, .. } =
            ask(&Read::Channel { channel: group(7), nonce_window: 3 })
        else {
            panic!()
        };
        assert_eq!((last, kind), (Seq::new(10), Some(ChannelKind::Group)));
        let left: Vec<_> = members.iter().map(|member| (member.user, member.left)).collect();
        assert_eq!(left, [(user(1), None), (user(2), None), (user(3), Some(Seq::new(4)))]);
        assert_eq!(members[0].role, Role::Owner);
        let log = a_group(group(7));
        for (recent, entry) in recent.iter().zip(&log[7..]) {
            assert_eq!((recent.seq, recent.nonce), (entry.seq, entry.nonce));
            assert_eq!(recent.fingerprint, fingerprint(&entry.content));
        }
        assert_eq!(recent.len(), 3);
    });
}

fn history(channel: ChannelId, who: u64, from: u64, direction: Direction, limit: u32) -> Read {
    let (reader, from) = (user(who), Seq::new(from));
    Read::History { channel, reader, from, direction, limit, bytes_max: 1 << 20 }
}

#[test]
fn history_is_ascending_bounded_and_ends_where_a_member_left() {
    use Direction::{Backward, Forward};
    on_both(|ask, write| {
        write(&mut |batch| put_group(batch, group(7)));
        let log = a_group(group(7));
        let rows = [
            ("the end", 1, 0, Backward, 3, 8..=10, true),
            ("before a place", 1, 4, Backward, 2, 2..=3, true),
            ("down to the start", 1, 4, Backward, 3, 1..=3, false),
            ("from a place on", 2, 9, Forward, 5, 9..=10, false),
            ("from the start", 2, 0, Forward, 2, 1..=2, true),
            ("a former member, from the end", 3, 0, Backward, 9, 1..=4, false),
            ("a former member, forward", 3, 3, Forward, 9, 3..=4, false),
            ("a former member, from beyond", 3, 9, Backward, 2, 3..=4, true),
        ];
        for (name, who, from, direction, limit, places, expect_more) in rows {
            let answer = ask(&history(group(7), who, from, direction, limit));
            let ReadAnswer::History { entries, more, .. } = answer else { panic!("{name}") };
            let (first, last) = (*places.start() - 1, *places.end());
            assert_eq!(entries, log[first..last], "{name}");
            assert_eq!(more, expect_more, "{name}");
        }
        let stranger = ask(&history(group(7), 9, 0, Backward, 3));
        assert_eq!(stranger, ReadAnswer::NotMember { channel: group(7) });
    });
}

#[test]
fn bytes_bound_a_page_but_never_below_one_entry() {
    on_both(|ask, write| {
        let channel = direct(1, 2);
        let body = |seq| text(channel, seq, 1, &"x".repeat(100));
        write(&mut |batch| {
            (1..=5).for_each(|seq| batch.append_entry(&body(seq)));
            batch.put_chunk(
                user(1),
                &(1..=5).map(|seq| logged(seq, channel, seq)).collect::<Vec<_>>(),
            );
        });
        for (bytes_max, expected) in [(0, 1), (100, 1), (250, 2), (500, 5)] {
            let read = Read::History {
                channel,
                reader: user(1),
                from: Seq::ZERO,
                direction: Direction::Forward,
                limit: 9,
                bytes_max,
            };
            let ReadAnswer::History { entries, more, .. } = ask(&read) else { panic!() };
            assert_eq!((entries.len(), more), (expected, expected < 5));
            let read = sync(0, 9, 5, vec![]);
            let Read::Sync { user, after, limit, tail, head, .. } = read else { panic!() };
            let answer = ask(&Read::Sync { user, after, limit, tail, head, bytes_max });
            let ReadAnswer::Sync { entries, end, .. } = answer else { panic!() };
            assert_eq!((entries.len(), end), (expected, expected == 5));
        }
    });
}

#[test]
fn sends_are_found_absent_or_beyond_the_scan_and_the_log_is_read_once_for_all() {
    on_both(|ask, write| {
        write(&mut |batch| put_group(batch, group(7)));
        /// Nonces of user 1's device 1 (77 is nobody's), below, how many places; what is found.
        type Row = (&'static str, &'static [u64], u64, u32, &'static [u64], bool);
        let rows: [Row; 9] = [
            ("the newest", &[1010], HUGE, 1, &[10], true),
            ("within", &[1005], HUGE, 9, &[5], true),
            ("at the edge", &[1005], HUGE, 6, &[5], true),
            ("one beyond", &[1005], HUGE, 5, &[], false),
            ("not below", &[1010], 10, 99, &[], true),
            ("all looked at", &[77], HUGE, 10, &[], true),
            ("several", &[1005, 77, 1009], HUGE, 99, &[9, 5], true),
            ("some beyond", &[1005, 1009], HUGE, 3, &[9], false),
            ("none asked for", &[], HUGE, 99, &[], true),
        ];
        for (name, nonces, below, scan_max, expected, is_whole) in rows {
            let send = |nonce: &u64| (user(1), DeviceId(1), Nonce(*nonce));
            let read = |sends| Read::FindSends {
                channel: group(7),
                sends,
                below: Seq::new(below),
                scan_max,
            };
            let answer = ask(&read(nonces.iter().map(send).collect()));
            let ReadAnswer::FindSends { found, whole } = answer else { panic!("{name}") };
            let places: Vec<u64> = found.iter().map(|recent| recent.seq.get()).collect();
            assert_eq!((&places[..], whole), (expected, is_whole), "{name}");
            for recent in found {
                let entry = &a_group(group(7))[usize::try_from(recent.seq.get()).unwrap() - 1];
                assert_eq!(recent.created_at, entry.created_at, "{name}");
                assert_eq!(recent.fingerprint, fingerprint(&entry.content), "{name}");
            }
            let another = |nonce: &u64| (user(1), DeviceId(2), Nonce(*nonce));
            let answer = ask(&read(nonces.iter().map(another).collect()));
            let ReadAnswer::FindSends { found, .. } = answer else { panic!("{name}") };
            assert_eq!(found, [], "{name}: another device's");
        }
    });
}

fn sync(after: u64, limit: u32, head: u64, tail: Vec<InboxEntry>) -> Read {
    let (after, head) = (InboxSeq::new(after), InboxSeq::new(head));
    Read::Sync { user: user(1), after, limit, bytes_max: 1 << 20, tail, head }
}

#[test]
fn sync_joins_chunks_and_tail_without_gap_or_repeat() {
    let channel = direct(1, 2);
    let at = move |seq| logged(seq, channel, seq);
    let tail = |from: u64, to: u64| (from..=to).map(at).collect::<Vec<_>>();
    on_both(|ask, write| {
        write(&mut |batch| {
            (1..=12).for_each(|seq| batch.append_entry(&text(channel, seq, 1, "m")));
            for (first, last) in [(1, 3), (4, 4), (5, 8)] {
                batch.put_chunk(user(1), &tail(first, last));
            }
            // Another user's, right behind in key order.
            batch.put_chunk(user(2), &tail(1, 9));
        });
        let rows = [
            ("all folded", sync(0, 99, 8, vec![]), Ok(((1, 8), true))),
            ("from within a chunk", sync(1, 3, 8, vec![]), Ok(((2, 4), false))),
            ("at the head", sync(8, 9, 8, vec![]), Ok(((9, 8), true))),
            ("beyond the head", sync(20, 9, 8, vec![]), Ok(((21, 20), true))),
            ("tail joins", sync(6, 99, 12, tail(9, 12)), Ok(((7, 12), true))),
            ("tail overlaps", sync(2, 99, 12, tail(4, 12)), Ok(((3, 12), true))),
            ("tail alone", sync(9, 2, 12, tail(9, 12)), Ok(((10, 11), false))),
            ("limit within the tail", sync(7, 3, 12, tail(9, 12)), Ok(((8, 10), false))),
            ("a hole before the tail", sync(0, 99, 12, tail(10, 12)), Err((9, 10))),
            ("a head that nobody has", sync(0, 99, 9, vec![]), Err((9, 0))),
        ];
        for (name, read, expected) in rows {
            match (ask(&read), expected) {
                (ReadAnswer::Sync { entries, next, end, .. }, Ok(((first, last), expect_end))) => {
                    let found: Vec<_> = entries.iter().map(|(e, _)| e.inbox_seq.get()).collect();
                    assert_eq!(found, (first..=last).collect::<Vec<u64>>(), "{name}");
                    assert_eq!((next.get(), end), (last, expect_end), "{name}");
                    assert!(entries.iter().all(|(_, log)| log.is_some()), "{name}");
                }
                (ReadAnswer::Failed(error), Err((expected, found))) => {
                    let (expected, found) = (InboxSeq::new(expected), InboxSeq::new(found));
                    let gap = store::Torn::InboxGap { user: user(1), expected, found };
                    assert_eq!(error, gap.into(), "{name}");
                }
                (other, expected) => panic!("{name}: {other:?} instead of {expected:?}"),
            }
        }
    });
}

#[test]
fn a_read_marker_has_no_message_and_a_lost_message_is_named() {
    on_both(|ask, write| {
        let channel = direct(1, 2);
        let marker = InboxItem::ReadMarker { channel, user: user(2), seq: Seq::new(1) };
        let marker = InboxEntry { inbox_seq: InboxSeq::new(2), item: marker };
        write(&mut |batch| {
            batch.append_entry(&text(channel, 1, 1, "m"));
            batch.put_chunk(user(1), &[logged(1, channel, 1), marker, logged(3, channel, 9)]);
        });
        let ReadAnswer::Sync { entries, .. } = ask(&sync(0, 2, 3, vec![])) else { panic!() };
        assert_eq!(entries[1], (marker, None));
        assert_eq!(entries[0].1.as_ref().unwrap(), &text(channel, 1, 1, "m"));
        let ReadAnswer::Failed(error) = ask(&sync(0, 3, 3, vec![])) else { panic!() };
        let text = error.to_string();
        assert!(text.contains("inbox of u1: entry @3 points to c1:2 #9"), "{text}");
    });
}

#[test]
fn an_inbox_is_read_back_with_cursors_and_conversations() {
    on_both(|ask, write| {
        let (one, other) = (direct(1, 2), direct(1, 3));
        let conversation = Conversation {
            last_seq: Seq::new(5),
            read_seq: Seq::new(2),
            inbox_seq: InboxSeq::new(4),
        };
        write(&mut |batch| {
            batch.put_chunk(user(1), &[logged(1, one, 1)]);
            batch.put_chunk(user(1), &[logged(2, one, 2), logged(3, one, 3)]);
            batch.put_conversation(user(1), one, &conversation);
            batch.put_cursor(user(1), DeviceId(3), InboxSeq::new(2));
            batch.put_cursor(user(1), DeviceId(9), InboxSeq::new(1));
            batch.put_cursor(user(2), DeviceId(1), InboxSeq::new(1));
            batch.put_ending(user(1), (Some(DeviceId(3)), Timestamp(60)));
            batch.put_ending(user(2), (None, Timestamp(50)));
            let endings = [(None, Timestamp(70)), (Some(DeviceId(9)), Timestamp(90))];
            batch.set_endings(user(1), &endings);
        });
        let read = Read::Inbox { user: user(1), channels: vec![other, one] };
        let expected = ReadAnswer::Inbox {
            user: user(1),
            head: InboxSeq::new(3),
            cursors: vec![(DeviceId(3), InboxSeq::new(2)), (DeviceId(9), InboxSeq::new(1))],
            endings: vec![(None, Timestamp(70)), (Some(DeviceId(9)), Timestamp(90))],
            conversations: vec![(other, Conversation::default()), (one, conversation)],
        };
        assert_eq!(ask(&read), expected);
    });
}

#[test]
fn who_is_erased_has_no_inbox_left_and_stays_refused() {
    on_both(|ask, write| {
        let conversation = Conversation { last_seq: Seq::new(1), ..Conversation::default() };
        write(&mut |batch| {
            for owner in [1, 2] {
                batch.put_chunk(user(owner), &[logged(1, direct(1, 2), 1)]);
                batch.put_conversation(user(owner), direct(1, 2), &conversation);
                batch.put_cursor(user(owner), DeviceId(3), InboxSeq::new(1));
                batch.put_ending(user(owner), (None, Timestamp::FOREVER));
            }
        });
        write(&mut |batch| batch.erase_inbox(user(1)));
        for (owner, left) in [(1, 0), (2, 1)] {
            let read = Read::Inbox { user: user(owner), channels: vec![direct(1, 2)] };
            let ReadAnswer::Inbox { head, cursors, endings, conversations, .. } = ask(&read) else {
                panic!()
            };
            assert_eq!((head.get(), cursors.len()), (left, usize::try_from(left).unwrap()));
            assert_eq!(conversations[0].1.last_seq.get(), left);
            assert_eq!(endings, [(None, Timestamp::FOREVER)]);
        }
    });
}

#[test]
fn conversations_bring_their_latest_entries_as_long_as_there_is_room() {
    on_both(|ask, write| {
        write(&mut |batch| {
            for (channel, inbox_seq) in [(1, 10), (2, 30), (3, 20)] {
                let seqs = 1..=channel;
                let channel_id = ChannelId::direct(user(1), user(channel + 1));
                seqs.for_each(|seq| batch.append_entry(&text(channel_id, seq, 1, "hello")));
                let (last_seq, read_seq) = (Seq::new(channel), Seq::ZERO);
                let inbox_seq = InboxSeq::new(inbox_seq);
                let conversation = Conversation { last_seq, read_seq, inbox_seq };
                batch.put_conversation(user(1), channel_id, &conversation);
            }
        });
        let ask_last = |last_bytes_max| {
            let (before, overlay) = (InboxSeq::ZERO, Vec::new());
            let read =
                Read::Conversations { user: user(1), before, limit: 9, overlay, last_bytes_max };
            let ReadAnswer::Conversations { last, .. } = ask(&read) else { panic!() };
            let seq = |entry: Option<LogEntry>| entry.map(|entry| entry.seq.get());
            last.into_iter().map(seq).collect::<Vec<_>>()
        };
        assert_eq!(ask_last(None), [None, None, None]);
        assert_eq!(ask_last(Some(1 << 20)), [Some(2), Some(3), Some(1)]);
        // A record is 31 bytes and the body.
        assert_eq!(ask_last(Some(80)), [Some(2), Some(3), None]);
    });
}

#[test]
fn conversations_come_most_recent_first_joined_with_what_memory_has() {
    on_both(|ask, write| {
        let at = |inbox_seq| Conversation {
            last_seq: Seq::new(1),
            read_seq: Seq::ZERO,
            inbox_seq: InboxSeq::new(inbox_seq),
        };
        write(&mut |batch| {
            for (channel, inbox_seq) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
                batch.put_conversation(user(1), group(channel), &at(inbox_seq));
            }
            batch.put_conversation(user(2), group(5), &at(50));
        });
        let rows = [
            ("all", 0, 9, vec![], vec![4, 1, 3, 2], false),
            ("a page", 0, 2, vec![], vec![4, 1], true),
            ("the next page", 30, 2, vec![], vec![3, 2], false),
            ("exactly all", 0, 4, vec![], vec![4, 1, 3, 2], false),
            ("one moved up, one new", 0, 3, vec![(2, 50), (6, 45)], vec![2, 6, 4], true),
            ("one moved out of the page", 30, 9, vec![(3, 60)], vec![2], false),
            ("one folded meanwhile", 0, 1, vec![(4, 15)], vec![4], true),
        ];
        for (name, before, limit, overlay, expected, expect_more) in rows {
            let overlay = overlay.into_iter().map(|(c, inbox_seq)| (group(c), at(inbox_seq)));
            let read = Read::Conversations {
                user: user(1),
                before: InboxSeq::new(before),
                limit,
                overlay: overlay.collect(),
                last_bytes_max: None,
            };
            let ReadAnswer::Conversations { conversations, more, .. } = ask(&read) else {
                panic!()
            };
            let found: Vec<_> = conversations.iter().map(|(channel, _)| *channel).collect();
            assert_eq!(found, expected.into_iter().map(group).collect::<Vec<_>>(), "{name}");
            assert_eq!(more, expect_more, "{name}");
        }
    });
}

#[test]
fn damaged_records_are_named_and_do_not_panic() {
    let channel = direct(1, 2);
    let message = MessageKey { channel, seq: Seq::new(1) }.key();
    let chunk = ChunkKey { user: user(1), first: InboxSeq::new(1) }.key();
    type Row<'a> = (&'a str, Table, &'a [u8], &'a [u8], Read, &'a str);
    let rows: [Row<'_>; 6] = [
        (
            "empty",
            Table::Messages,
            message.as_ref(),
            &[],
            history(channel, 1, 0, Direction::Backward, 1),
            "the record is empty",
        ),
        (
            "format",
            Table::Messages,
            message.as_ref(),
            &[2, 0],
            Read::Channel { channel, nonce_window: 1 },
            "unknown record format",
        ),
        (
            "user 0",
            Table::Messages,
            message.as_ref(),
            &[1, 0, 0, 0, 0, 0, 0, 0, 0],
            history(channel, 1, 0, Direction::Backward, 1),
            "a user id is 0",
        ),
        (
            "cut",
            Table::Inbox,
            chunk.as_ref(),
            &[1, 0, 9],
            sync(0, 1, 1, vec![]),
            "the record is cut short",
        ),
        (
            "no entries",
            Table::Inbox,
            chunk.as_ref(),
            &[1],
            sync(0, 1, 1, vec![]),
            "a chunk without entries",
        ),
        (
            "item",
            Table::Inbox,
            chunk.as_ref(),
            &[1; 26],
            sync(0, 1, 1, vec![]),
            "the record is cut short",
        ),
    ];
    for (name, table, key, value, read, what) in rows {
        let engine = Memory::new();
        engine.corrupt(table, key, value);
        let ReadAnswer::Failed(error) = answer(&engine, &read, fingerprint) else {
            panic!("{name}")
        };
        let text = error.to_string();
        assert!(text.contains(what) && text.contains(table.name()), "{name}: {text}");
    }
}

#[test]
fn every_content_survives_and_every_cut_of_it_is_an_error() {
    let channel = group(7);
    let body = Bytes::from_static(b"\x00\xffbody");
    let contents = [
        Content::Message { kind: 200, body },
        Content::Membership {
            op: MembershipOp::Add,
            role: Role::Admin,
            members: users(&[9, HUGE]),
        },
        Content::Created { kind: ChannelKind::Broadcast, title: "".into(), members: users(&[1]) },
    ];
    for content in contents {
        let engine = Arc::new(Memory::new());
        let mut batch = Batch::new(CoreId(0), 1 << 10);
        batch.begin(BatchNumber::new(1), Term::FIRST);
        let written = entry(channel, 1, content);
        batch.append_entry(&written);
        batch.put_member(
            channel,
            &Member { user: user(1), role: Role::Member, joined: Seq::new(1), left: None },
        );
        let mut committer = Committer::new(Arc::clone(&engine), SyncMode::Always, 1, plenty());
        committer.commit(std::time::Duration::ZERO, &mut vec![batch], &mut Vec::new()).unwrap();
        let ask = || answer(&*engine, &history(channel, 1, 0, Direction::Backward, 1), fingerprint);
        let ReadAnswer::History { entries, .. } = ask() else { panic!() };
        assert_eq!(entries, std::slice::from_ref(&written));
        let key = MessageKey { channel, seq: Seq::new(1) }.key();
        let record = engine.get(Table::Messages, key.as_ref()).unwrap().unwrap();
        let fixed =
            if matches!(written.content, Content::Message { .. }) { 31 } else { record.len() };
        for cut in 0..fixed {
            engine.corrupt(Table::Messages, key.as_ref(), &record[..cut]);
            assert!(matches!(ask(), ReadAnswer::Failed(_)), "cut at {cut}");
        }
    }
}
