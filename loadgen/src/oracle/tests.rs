//! Histories of one channel in a small language, and what must be found in them.
//!
//! `p0:5` member 0's message was placed at 5; `d1:5` it was delivered to member 1, `d1:5=7` in the
//! place of its inbox that 7 stands for (otherwise the next), `d1:5!` with another nonce; `p0:5~3`,
//! `d1:5~3` with that nonce (otherwise it is the place's number); `P0:5` an answer to a repeat;
//! `x1` member 1 is gone, `x1?` with a post unanswered; `a1` an answer twice; `c` the channel was
//! created (members expect places from 2 on); `f1:4` a message of another run; `r1:20` the server
//! did not know member 1's cursor and begins anew at 20.

use std::collections::HashMap;

use super::*;

const MEMBERS: u32 = 2;

fn run(history: &str) -> Findings {
    run_with(history, false)
}

fn run_with(history: &str, reconnects: bool) -> Findings {
    let mut oracle = Oracle::new(&[3, MEMBERS], reconnects);
    // The channel under test is not the first, so that numbers and indices differ.
    let session = |member: u32| 3 + member;
    let mut inbox = [10_u64; MEMBERS as usize];
    (0..MEMBERS).for_each(|member| oracle.handle_live(session(member), InboxSeq::new(10)));
    let posts = history.split_whitespace().filter_map(|step| step.strip_prefix(['p', 'P']));
    let senders: HashMap<Seq, u32> = posts
        .map(|post| {
            let place = post[2..].split('~').next().unwrap();
            (Seq::new(place.parse().unwrap()), post[..1].parse().unwrap())
        })
        .collect();
    for step in history.split_whitespace() {
        let (kind, rest) = step.split_at(1);
        if kind == "c" {
            for member in 0..MEMBERS {
                inbox[member as usize] += 1;
                let place = InboxSeq::new(inbox[member as usize]);
                oracle.handle_created(session(member), place, Seq::new(1));
            }
            continue;
        }
        let (rest, nonce) = match rest.split_once('~') {
            Some((rest, nonce)) => (rest, Some(nonce.parse().unwrap())),
            None => (rest, None),
        };
        let member: u32 = rest[..1].parse().unwrap();
        let (place, inbox_place) = match rest[1..].trim_matches([':', '!', '?']).split_once('=') {
            Some((place, inbox_place)) => (place, inbox_place.parse().ok()),
            None => (rest[1..].trim_matches([':', '!', '?']), None),
        };
        let seq = Seq::new(place.parse().unwrap_or(0));
        let of = |sender: u32, nonce: u64| Named {
            seq,
            sender: UserId::new(100 + u64::from(sender)).unwrap(),
            nonce: Nonce(nonce),
        };
        let mut next_inbox = || {
            inbox[member as usize] += 1;
            InboxSeq::new(inbox_place.unwrap_or(inbox[member as usize]))
        };
        match kind {
            "p" | "P" => {
                let named = of(member, nonce.unwrap_or_else(|| seq.get()));
                oracle.handle_posted(session(member), named, kind == "p");
            }
            "d" => {
                let sender = senders.get(&seq).copied().unwrap_or(0);
                let otherwise = if rest.ends_with('!') { 99 } else { seq.get() };
                let nonce = nonce.unwrap_or(otherwise);
                oracle.handle_message(session(member), next_inbox(), of(sender, nonce), true);
            }
            "f" => {
                let named = of(0, 1000);
                oracle.handle_message(session(member), next_inbox(), named, false);
            }
            "x" => {
                oracle.handle_ended(session(member));
                oracle.handle_unanswered(1, u64::from(rest.ends_with('?')));
            }
            "r" => {
                inbox[member as usize] = seq.get();
                oracle.handle_reset(session(member), InboxSeq::new(seq.get()));
            }
            "a" => oracle.handle_answered_twice(),
            other => panic!("{other}"),
        }
    }
    oracle.finish()
}

#[test]
fn what_is_in_order_is_found_in_order() {
    let histories = [
        "",
        "p0:5 d0:5 d1:5",
        "d1:5 p0:5 d0:5 d0:6 p1:6 d1:6",
        "p0:5 p1:6 p0:7 d0:5 d0:6 d0:7 d1:5 d1:6 d1:7",
        // Answers of two senders reach us in either order.
        "p1:6 p0:5 d0:5 d0:6 d1:5 d1:6",
        "c p0:2 d0:2 d1:2",
        // Who has left is owed nothing.
        "p0:5 d0:5 d1:5 x1 p0:6 d0:6",
        "x0 x1",
        // A post whose answer did not come may or may not have been placed.
        "p1:5 d1:5 d0:5 x0? d1:6",
        "p1:5 d1:5 d0:5 x0?",
        // What is left of an earlier run comes first, or in between.
        "f0:3 f1:3 p0:4 d0:4 d1:4",
        "p0:4 d0:4 d1:4 f0:5 f1:5 p0:6 d0:6 d1:6",
    ];
    for history in histories {
        assert_eq!(run(history), Findings::default(), "{history}");
    }
}

#[test]
fn every_injected_fault_is_found_as_what_it_is() {
    let none = Findings::default();
    let rows = [
        // Lost at the end, at the beginning, in the middle, for all, all of it.
        ("p0:5 p0:6 d0:5 d0:6 d1:5", Findings { lost: 1, ..none }),
        ("p0:5 p0:6 d0:5 d0:6 d1:6", Findings { lost: 1, ..none }),
        ("p0:5 p0:6 p0:7 d0:5 d0:6 d0:7 d1:5 d1:7", Findings { lost: 1, gaps: 1, ..none }),
        ("p0:5 p0:6 d0:5 d1:5", Findings { lost: 2, ..none }),
        ("p0:5 p0:6 d0:5 d0:6", Findings { lost: 2, ..none }),
        ("c p0:2 p0:3 d0:2 d0:3 d1:3", Findings { lost: 1, gaps: 1, ..none }),
        // Duplicated: with a new and with the same place in the inbox, answered, placed.
        ("p0:5 d0:5 d1:5 d1:5", Findings { duplicated: 1, ..none }),
        ("p0:5 d0:5 d1:5 d1:5=11", Findings { duplicated: 1, ..none }),
        ("p0:5 d0:5 d1:5 a0", Findings { duplicated: 1, ..none }),
        ("p0:5 p0:5 d0:5 d1:5", Findings { duplicated: 2, ..none }),
        ("p0:5 p1:5 d0:5 d1:5", Findings { duplicated: 1, ..none }),
        // Reordered.
        ("p0:5 p0:6 p0:7 d0:5 d0:6 d0:7 d1:5 d1:7 d1:6", Findings { reordered: 1, ..none }),
        ("p0:5 p0:6 d0:5 d0:6 d1:6 d1:5", Findings { reordered: 1, ..none }),
        ("p0:6 p0:5 d0:5 d0:6 d1:5 d1:6", Findings { reordered: 1, ..none }),
        // A place that is nobody's, and one passed over in an inbox.
        ("p0:5 p0:7 d0:5 d0:7 d1:5 d1:7", Findings { gaps: 3, ..none }),
        ("p0:5 d0:5 d1:5=12", Findings { gaps: 1, ..none }),
        // Altered: what was delivered in the place is another message.
        ("p0:5 d0:5 d1:5!", Findings { altered: 1, ..none }),
        // Two in one place and a place that is nobody's: the sums agree, the fingerprints do not.
        ("p0:5 p1:5 p0:7 d0:5 d0:6 d0:7 d1:5 d1:6 d1:7", Findings { altered: 2, ..none }),
    ];
    for (history, expected) in rows {
        assert_eq!(run(history), expected, "{history}");
        assert!(!run(history).is_clean(), "{history}");
    }
}

#[test]
fn what_is_sent_again_may_be_placed_late_and_what_comes_again_may_not_contradict() {
    let none = Findings::default();
    let rows = [
        // Answered after a break with the place that it has had, or with a new one.
        ("p0:5 d0:5 d1:5 P0:6 d0:6 d1:6 p0:7 d0:7 d1:7", none),
        ("d1:5 d0:5 P0:5", none),
        // It was refused for a while, and its successor was not.
        ("p0:5 d0:5 d1:5 p0:6~8 d0:6~8 d1:6~8 P0:7 d0:7 d1:7", none),
        // Its delivery may not come late.
        ("p0:7 d0:7 d1:7 P0:6 d0:6 d1:6", Findings { reordered: 2, ..none }),
        // Lost after a resume: for one session, in its inbox as well.
        ("p0:5 d0:5 d1:5 P0:6 d0:6 p0:7 d0:7 d1:7=13", Findings { lost: 1, gaps: 2, ..none }),
        // Resumed from an earlier cursor than the one told.
        ("p0:5 d0:5 d1:5 d1:5=11 P0:6 d0:6 d1:6=12", Findings { duplicated: 1, ..none }),
        // Placed before the crash, and once more after it.
        ("d0:5 d1:5 P0:6~5 d0:6~5 d1:6~5", Findings { duplicated: 1, gaps: 1, ..none }),
        ("d1:5 P0:6~5", Findings { duplicated: 1, lost: 1, gaps: 1, ..none }),
        // A place that was told before the crash is given to another message after it.
        ("p0:5 d0:5 d1:5 P0:5~9", Findings { reused: 1, duplicated: 2, ..none }),
        ("p0:5 d0:5 d1:5~9", Findings { reused: 1, altered: 1, ..none }),
        // The server has forgotten the inbox.
        ("p0:5 d0:5 d1:5 r1:0", Findings { lost: 1, ..none }),
    ];
    for (history, expected) in rows {
        assert_eq!(run_with(history, true), expected, "{history}");
    }
}

#[test]
fn findings_of_channels_add_up() {
    let mut oracle = Oracle::new(&[2, 2], false);
    let sender = UserId::new(1).unwrap();
    for channel in 0..2 {
        let named = Named { seq: Seq::new(3), sender, nonce: Nonce(7) };
        oracle.handle_posted(2 * channel, named, true);
    }
    assert_eq!(oracle.finish(), Findings { lost: 4, ..Findings::default() });
}
