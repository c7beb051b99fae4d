//! Requests and entries: nothing lost, nothing doubled, everything bounded.

use super::*;

#[test]
fn nothing_is_sent_before_the_welcome_and_what_had_no_answer_is_a_retry_after_the_next() {
    let mut pair = Pair::new(settings(), Saved::default());
    for nonce in 1..=3 {
        pair.post(nonce);
    }
    pair.connect();
    assert_eq!(pair.said(), ["hello token e0 @0"]);
    pair.welcome(Resume::Fresh, 1, 0);
    assert_eq!(pair.said(), ["1: post n1", "2: post n2"], "posts_in_flight_max is 2");
    pair.posted(1, 1);
    assert_eq!(pair.said(), ["3: post n3"]);
    pair.machine.handle_disconnected(pair.now);
    pair.connect();
    pair.welcome(Resume::Resumed, 1, 0);
    assert_eq!(pair.said(), ["2: post n2 retry", "3: post n3 retry"]);
    pair.posted(2, 2);
    pair.posted(2, 2);
    pair.posted(3, 3);
    assert_eq!(pair.outcomes(), [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);
}

#[test]
fn what_an_earlier_run_left_is_a_retry_and_its_outcome_an_event() {
    let saved = Saved {
        epoch: Epoch(7),
        cursor: InboxSeq::new(5),
        requests: vec![(RequestId(40), post(1)), (RequestId(42), post(2))],
    };
    let mut pair = Pair::new(settings(), saved);
    pair.connect();
    assert_eq!(pair.said(), ["hello token e7 @5"]);
    pair.welcome(Resume::Resumed, 7, 5);
    let new = pair.machine.submit(post(3), None, None).unwrap();
    assert_eq!(new, RequestId(43));
    assert_eq!(pair.said(), ["40: post n1 retry", "42: post n2 retry"]);
    pair.posted(40, 1);
    pair.reject(42, RejectCode::NotMember, 0);
    let events = pair.events();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events[1].contains("Settled { nonce: n1, outcome: Ok"), "{events:?}");
    assert!(events[2].contains("Settled { nonce: n2, outcome: Err"), "{events:?}");
}

#[test]
fn a_refusal_is_final_or_for_now() {
    // Code, `retry_after_ms`; what is said when the time is over.
    let rows = [
        (RejectCode::NotMember, 0, None),
        (RejectCode::RateLimited, 500, Some("1: post n1")),
        (RejectCode::Overloaded, 500, Some("1: post n1")),
        (RejectCode::StorageFull, 500, Some("1: post n1")),
        (RejectCode::Draining, 500, Some("1: post n1 retry")),
    ];
    for (code, retry_after_ms, again) in rows {
        let mut pair = Pair::live(Resume::Fresh);
        pair.post(1);
        pair.said();
        pair.reject(1, code, retry_after_ms);
        pair.post(2);
        let Some(again) = again else {
            assert_eq!(pair.outcomes(), [(1, Err(format!("refused ({code:?}): why")))]);
            assert_eq!(pair.said(), ["2: post n2"]);
            continue;
        };
        assert_eq!(pair.said(), Vec::<String>::new(), "{code:?}: nothing overtakes it");
        let due = pair.now + Duration::from_millis(500);
        assert_eq!(pair.machine.deadline(), Some(due), "{code:?}");
        pair.now = due;
        assert_eq!(pair.said(), [again, "2: post n2"], "{code:?}");
        assert_eq!(pair.outcomes(), []);
    }
}

#[test]
fn a_request_ends_at_its_deadline_and_a_late_answer_is_for_nobody() {
    let mut pair = Pair::live(Resume::Fresh);
    let deadline = pair.now + Duration::from_secs(5);
    let history = Request::History {
        channel: channel(),
        direction: Direction::Backward,
        from: Seq::ZERO,
        limit: 0,
    };
    pair.machine.submit(history, None, Some(deadline)).unwrap();
    assert_eq!(pair.said(), ["1: history"]);
    assert_eq!(pair.machine.deadline(), Some(deadline));
    pair.pass(Duration::from_secs(5));
    let words = "no answer in time; the same request with the same nonce tells what became of it";
    assert_eq!(pair.outcomes(), [(1, Err(words.into()))]);
    let page =
        wire::server::HistoryPage { channel: channel(), entries: (&[][..]).into(), more: false };
    pair.say(1, page);
    assert_eq!(pair.outcomes(), []);
}

#[test]
fn limits_are_kept_before_anything_is_sent() {
    let mut pair = Pair::live(Resume::Fresh);
    let long = |bytes: usize| Request::Post {
        channel: channel(),
        nonce: Nonce(1),
        kind: 0,
        body: vec![0; bytes].into(),
    };
    let members =
        Request::RemoveMembers { channel: channel(), nonce: Nonce(1), members: vec![user(1); 501] };
    let rows = [
        (long(65_537), "the body in bytes is over the limit: 65537, and at most 65536"),
        (members, "the number of members is over the limit: 501, and at most 500"),
        (post(0), "the nonce is 0"),
    ];
    for (request, words) in rows {
        let error = pair.machine.submit(request, None, None).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
    pair.machine.submit(long(1_001), None, None).unwrap();
    assert_eq!(pair.said(), Vec::<String>::new());
    let outcomes = pair.outcomes();
    let Err(error) = &outcomes[0].1 else { panic!("{outcomes:?}") };
    assert!(error.contains("at most 1000 are possible"), "this gateway's limit: {error}");
    while pair.machine.submit(post(2), None, None).is_ok() {}
    let error = pair.machine.submit(post(2), None, None).unwrap_err();
    assert!(error.to_string().starts_with("the queue is full (100 requests"), "{error}");
}

#[test]
fn frames_are_paced_below_the_gateways_limit() {
    let mut pair = Pair::live(Resume::Fresh);
    let mut sent = 0;
    for millisecond in 0..2_000 {
        pair.now = START + Duration::from_millis(millisecond);
        while pair.machine.submit(post(1), None, None).is_ok() {}
        while let [first, ..] = &pair.said()[..] {
            sent += 1;
            let request: u32 = first.split(':').next().unwrap().parse().unwrap();
            pair.posted(request, 1);
            pair.outcomes();
        }
    }
    assert!((1_250..=2_501).contains(&sent), "{sent} in two seconds at 1,000 a second");
}

#[test]
fn a_slow_application_is_served_from_where_it_is() {
    let mut pair = Pair::live(Resume::Fresh);
    for place in 11..=30 {
        pair.deliver(place);
    }
    assert_eq!(pair.said(), Vec::<String>::new(), "there is no room yet");
    assert_eq!(pair.events(), (11..=18).map(|it| it.to_string()).collect::<Vec<_>>());
    assert_eq!(pair.said(), ["sync @18"]);
    pair.page(19..=22, false);
    assert_eq!(pair.said(), ["sync @22"]);
    pair.page(23..=26, false);
    assert_eq!(pair.said(), Vec::<String>::new(), "all eight wait");
    assert_eq!(pair.events().len(), 8);
    assert_eq!(pair.said(), ["sync @26"]);
    pair.page(27..=30, true);
    pair.deliver(31);
    assert_eq!(pair.events(), ["27", "28", "29", "30", "31"]);
}

#[test]
fn an_answer_comes_while_the_queue_of_entries_is_full() {
    let mut pair = Pair::live(Resume::Fresh);
    for place in 11..=30 {
        pair.deliver(place);
    }
    pair.post(1);
    assert_eq!(pair.said(), ["1: post n1"]);
    pair.posted(1, 1);
    assert_eq!(pair.outcomes(), [(1, Ok(()))]);
}

#[test]
fn entries_come_once_over_all_connections_and_count_as_kept_when_the_next_is_asked_for() {
    let mut pair = Pair::live(Resume::Fresh);
    for place in 11..=13 {
        pair.deliver(place);
    }
    let Some(Event::Inbox(first)) = pair.machine.next_event(pair.now) else { panic!("no entry") };
    assert_eq!(first.inbox_seq.get(), 11);
    pair.machine.handle_disconnected(pair.now);
    pair.connect();
    assert_eq!(pair.said(), ["hello ticket e1 @10"], "11 is taken and not kept");
    pair.welcome(Resume::Resumed, 1, 15);
    pair.page(11..=15, true);
    let broken = "the connection broke".to_owned();
    let events = pair.events();
    assert_eq!(
        events,
        ["12".into(), "13".into(), broken, "Resumed".into(), "14".into(), "15".into()]
    );
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.said(), ["ack @15"]);
    assert_eq!(pair.machine.next_save(), Some((Epoch(1), InboxSeq::new(15))));
}

#[test]
fn a_reset_voids_what_waits_and_is_told_to_an_application_that_asks_for_nothing() {
    let mut pair = Pair::live(Resume::Fresh);
    pair.deliver(11);
    for _ in 0..2 * NEWS_MAX {
        pair.machine.handle_disconnected(pair.now);
        pair.connect();
        pair.welcome(Resume::Resumed, 1, 11);
        pair.page(11..=11, true);
    }
    pair.machine.handle_disconnected(pair.now);
    pair.connect();
    pair.welcome(Resume::Reset, 2, 50);
    pair.deliver(51);
    let events = pair.events();
    assert_eq!(events.len(), NEWS_MAX + 2);
    assert_eq!(events[NEWS_MAX..], ["Reset", "51"]);
    assert!(!events.contains(&"11".into()), "it is of a history that is void");
}
