//! What must hold of the sequencer, as scripts: `send USER NONCE BODY [retry]`, `load LAST`,
//! `found SEQ BODY` (the first that is searched for) / `absent` / `too-old` (all), `commit SEQ`,
//! each followed by what it must answer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use router::nonces::{Receipt, SendKey};
use router::sequencer::{
    Ask, Loaded, Offer, Origin, Searched, Sequencer, SequencerLimits, Verdict, Wanted,
};
use router::sessions::ConnId;
use router::shard_map::ShardMap;
use wire::{
    ChannelId, CoreId, DeviceId, Member, MembershipOp, Nonce, RejectCode, Role, Seq, Timestamp,
    UserId,
};

const NOW: Timestamp = Timestamp(1_000);

struct Script {
    sequencer: Sequencer,
    channel: ChannelId,
    /// What the last search is for.
    wanted: Vec<SendKey>,
}

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

fn limits(channels_max: usize) -> SequencerLimits {
    SequencerLimits { group_members_max: 5, nonce_window: 4, channels_max }
}

fn send(channel: ChannelId, sender: u64, nonce: u64, body: &str, retry: bool) -> Offer {
    Offer {
        origin: Origin {
            core: CoreId(0),
            conn: ConnId { slot: 1, generation: 1 },
            request: u32::try_from(nonce).unwrap(),
        },
        channel,
        key: SendKey { sender: user(sender), device: DeviceId(1), nonce: Nonce(nonce) },
        retry,
        fingerprint: body.bytes().map(u64::from).sum(),
        ask: Ask::Post { kind: 0, body: Bytes::copy_from_slice(body.as_bytes()) },
    }
}

fn loaded(last: u64) -> Loaded {
    Loaded {
        last: Seq::new(last),
        last_created_at: Timestamp(0),
        members: Vec::new(),
        recent: Vec::new(),
    }
}

fn say(verdict: Verdict) -> String {
    match verdict {
        Verdict::Sequenced(sequenced) => format!("{}", sequenced.entry.seq),
        Verdict::Repeat(_, receipt) => format!("again {}", receipt.seq),
        Verdict::Refused(_, refusal, _) => format!("{:?}", refusal.code),
        Verdict::Read(_, seq, recipients) => format!("read {seq} to {}", recipients.len()),
        Verdict::Parked(None) => "waits".into(),
        Verdict::Parked(Some(Wanted::Channel(_))) => "load".into(),
        Verdict::Parked(Some(Wanted::Sends { keys, below, .. })) => {
            format!("search {} below {below}", keys.len())
        }
    }
}

impl Script {
    /// The Direct channel of users 1 and 2, window of 4 nonces.
    fn new() -> Self {
        let sequencer = Sequencer::new(ShardMap::new(16, 2), limits(8));
        let channel = ChannelId::direct(user(1), user(2));
        Self { sequencer, channel, wanted: Vec::new() }
    }

    fn step(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        match words[0] {
            "send" => {
                let retry = words.get(4) == Some(&"retry");
                let offer = send(self.channel, number(1), number(2), words[3], retry);
                let verdict = self.sequencer.offer(offer, NOW);
                return self.say(verdict);
            }
            "commit" => {
                self.sequencer.handle_committed(self.channel, Seq::new(number(1)));
                return String::new();
            }
            "load" => self.sequencer.handle_loaded(self.channel, loaded(number(1))),
            "found" => {
                let fingerprint = words[2].bytes().map(u64::from).sum();
                let created_at = Timestamp(5);
                let receipt = Receipt { seq: Seq::new(number(1)), created_at, fingerprint };
                self.searched(vec![(self.wanted[0], receipt)], true);
            }
            "absent" => self.searched(Vec::new(), true),
            "too-old" => self.searched(Vec::new(), false),
            other => panic!("{other}"),
        }
        let mut said = Vec::new();
        while let Some(verdict) = self.sequencer.next_parked(self.channel, NOW) {
            said.push(self.say(verdict));
        }
        said.join(", ")
    }

    fn searched(&mut self, found: Vec<(SendKey, Receipt)>, is_whole: bool) {
        self.sequencer.handle_searched(self.channel, Searched { found, is_whole });
    }

    fn say(&mut self, verdict: Verdict) -> String {
        if let Verdict::Parked(Some(Wanted::Sends { keys, .. })) = &verdict {
            self.wanted = keys.to_vec();
        }
        say(verdict)
    }
}

fn check(rows: &[(&str, &str)]) {
    let mut script = Script::new();
    for (line, expected) in rows {
        assert_eq!(script.step(line), *expected, "{line}");
    }
}

#[test]
fn places_are_dense_and_begin_after_what_the_store_has() {
    check(&[
        ("send 1 10 hi", "load"),
        ("send 2 10 ho", "waits"),
        ("load 7", "#8, #9"),
        ("send 1 11 hi", "#10"),
    ]);
}

#[test]
fn a_repeat_gets_the_first_answer_again_and_another_body_is_refused() {
    check(&[
        ("send 1 10 hi", "load"),
        ("load 0", "#1"),
        ("send 1 10 hi", "again #1"),
        ("send 1 10 xy", "NonceReused"),
        ("send 2 10 hi", "#2"),
    ]);
}

#[test]
fn who_is_not_of_the_pair_is_told_nothing() {
    check(&[("send 3 10 hi", "load"), ("load 4", "NotMember")]);
}

#[test]
fn a_retry_beyond_the_window_is_searched_and_those_behind_it_keep_their_order() {
    let rows: &[(&str, &str)] = &[
        ("found 3 hi", "again #3, #21"),
        ("found 3 xy", "NonceReused, #21"),
        ("absent", "#21, #22"),
        ("too-old", "RetryTooOld, #21"),
    ];
    for (answer, expected) in rows {
        check(&[
            ("send 1 1 go", "load"),
            ("load 19", "#20"),
            ("send 1 10 hi retry", "search 1 below #20"),
            ("send 1 11 ho", "waits"),
            (answer, expected),
        ]);
    }
}

#[test]
fn retries_that_wait_are_searched_for_together_and_each_gets_its_own_answer() {
    let rows: &[(&str, &str)] = &[
        ("found 3 ha", "again #3, #22, #23, #24, again #22"),
        ("absent", "#22, #23, #24, #25, again #23"),
        // Not a retry: it need not be looked for.
        ("too-old", "RetryTooOld, RetryTooOld, #22, RetryTooOld, RetryTooOld"),
    ];
    for (answer, expected) in rows {
        check(&[
            ("send 1 1 go", "load"),
            ("load 19", "#20"),
            ("send 1 9 hi retry", "search 1 below #20"),
            ("send 1 10 ha retry", "waits"),
            ("send 2 11 he retry", "waits"),
            ("send 1 12 ho", "waits"),
            ("send 2 13 hu retry", "waits"),
            ("send 2 11 he retry", "waits"),
            ("absent", "#21, search 4 below #20"),
            (answer, expected),
            // What one search has found out is not used for another.
            ("send 1 14 hi retry", "search 1 below #20"),
        ]);
    }
}

/// The window had forgotten it and the log that is searched did not have it yet, so it got a second
/// place: a disk that stalls while a busy channel goes on is enough.
#[test]
fn a_retry_of_a_send_that_waits_for_the_disk_gets_its_place_again_however_many_came_after_it() {
    check(&[
        ("send 1 10 hi", "load"),
        ("load 0", "#1"),
        ("send 1 11 hi", "#2"),
        ("send 1 12 hi", "#3"),
        ("send 1 13 hi", "#4"),
        ("send 1 14 hi", "#5"),
        ("send 1 15 hi", "#6"),
        ("send 1 10 hi retry", "again #1"),
        ("commit 1", ""),
        ("commit 2", ""),
        ("send 1 16 hi", "#7"),
        // What is durable is forgotten, and found in the log.
        ("send 1 10 hi retry", "search 1 below #3"),
    ]);
}

#[test]
fn a_retry_is_not_searched_for_when_the_window_covers_the_log() {
    check(&[("send 1 10 hi retry", "load"), ("load 0", "#1"), ("send 1 11 ho retry", "#2")]);
}

#[test]
#[should_panic(expected = "commits without a gap")]
fn a_gap_at_commit_is_a_bug() {
    check(&[("send 1 10 hi", "load"), ("load 0", "#1"), ("commit 2", "")]);
}

#[test]
fn offers_that_wait_for_a_channel_are_bounded() {
    let mut script = Script::new();
    for nonce in 0..256 {
        script.step(&format!("send 1 {nonce} hi"));
    }
    assert_eq!(script.step("send 1 999 hi"), "Overloaded");
}

#[test]
fn quiet_channels_are_forgotten_at_the_bound_and_busy_ones_are_not() {
    let mut sequencer = Sequencer::new(ShardMap::new(16, 2), limits(3));
    let channel = |other: u64| ChannelId::direct(user(1), user(other));
    for other in 2..=4 {
        let _ = sequencer.offer(send(channel(other), 1, 1, "hi", false), NOW);
        sequencer.handle_loaded(channel(other), loaded(0));
        while sequencer.next_parked(channel(other), NOW).is_some() {}
    }
    // 2 is not committed, so it stays; 3 and 4 are quiet.
    for other in [3, 4] {
        sequencer.handle_committed(channel(other), Seq::new(1));
    }
    for other in [5, 6] {
        let _ = sequencer.offer(send(channel(other), 1, 1, "hi", false), NOW);
    }
    let repeat = sequencer.offer(send(channel(2), 1, 1, "hi", false), NOW);
    assert_eq!(say(repeat), "again #1");
    assert!(sequencer.channels() <= 4, "{}", sequencer.channels());
}

#[test]
fn a_clock_that_steps_back_does_not_show_in_a_log() {
    let mut script = Script::new();
    script.step("send 1 1 hi");
    script.step("load 0");
    let offer = send(script.channel, 1, 2, "ho", false);
    match script.sequencer.offer(offer, Timestamp(10)) {
        Verdict::Sequenced(sequenced) => assert_eq!(sequenced.entry.created_at, NOW),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_channel_is_created_once() {
    let id = ChannelId::numbered(77).unwrap();
    let create = |nonce| Offer {
        ask: Ask::Create {
            kind: wire::ChannelKind::Group,
            title: "boats".into(),
            members: [user(2)].into(),
        },
        ..send(id, 1, nonce, "create", false)
    };
    let mut sequencer = Sequencer::new(ShardMap::new(16, 2), limits(3));
    assert_eq!(say(sequencer.offer(create(1), NOW)), "load");
    sequencer.handle_loaded(id, loaded(0));
    assert_eq!(sequencer.next_parked(id, NOW).map(say), Some("#1".into()));
    assert_eq!(say(sequencer.offer(create(1), NOW)), "again #1");
    assert_eq!(say(sequencer.offer(create(2), NOW)), "NonceReused");
    assert_eq!(say(sequencer.offer(send(id, 2, 5, "hi", false), NOW)), "#2");
    assert_eq!(say(sequencer.offer(send(id, 3, 5, "hi", false), NOW)), "NotMember");
    assert_eq!(RejectCode::NotMember as u16, 3);
}

#[test]
fn a_log_too_long_to_search_does_not_fix_its_members_for_ever() {
    let channel = ChannelId::numbered(9).unwrap();
    let mut sequencer = Sequencer::new(ShardMap::new(16, 1), limits(4));
    let member =
        |number, role| Member { user: user(number), role, joined: Seq::new(1), left: None };
    let leave = || {
        let members = [user(2)].into();
        let (op, role) = (MembershipOp::Leave, Role::Member);
        let ask = Ask::Change { op, role, members, decided: false };
        Offer { ask, ..send(channel, 2, 7, "leave", true) }
    };
    let mut verdicts = |offer, too_long| {
        let mut said = vec![say(sequencer.offer(offer, NOW))];
        if said[0] == "load" {
            let members = vec![member(1, Role::Owner), member(2, Role::Member)];
            sequencer.handle_loaded(channel, Loaded { members, ..loaded(500_000) });
            said.extend(sequencer.next_parked(channel, NOW).map(say));
        }
        if too_long {
            let searched = Searched { found: Vec::new(), is_whole: false };
            sequencer.handle_searched(channel, searched);
            said.extend(std::iter::from_fn(|| sequencer.next_parked(channel, NOW)).map(say));
        }
        said.pop().unwrap()
    };
    assert_eq!(verdicts(leave(), true), "#500001");
    assert_eq!(verdicts(leave(), false), "again #500001");
    let again = Offer { key: SendKey { nonce: Nonce(8), ..leave().key }, ..leave() };
    assert_eq!(verdicts(again, true), "NotMember", "it is so already");
}
