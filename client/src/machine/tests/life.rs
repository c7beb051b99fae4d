//! Connections come and go: what is said, when, and where it ends.

use super::*;

#[test]
fn a_session_says_hello_with_a_token_first_and_then_with_its_ticket_and_cursor() {
    let mut pair = Pair::new(settings(), Saved::default());
    assert_eq!(pair.connect(), (None, true));
    assert_eq!(pair.said(), ["hello token e0 @0"]);
    pair.welcome(Resume::Fresh, 7, 10);
    pair.deliver(11);
    assert_eq!(pair.events(), ["Fresh", "11"]);
    pair.machine.handle_disconnected(pair.now);
    assert_eq!(pair.connect(), (None, false));
    assert_eq!(pair.said(), ["hello ticket e7 @11"]);
}

#[test]
fn a_ticket_near_its_end_is_not_used() {
    let mut pair = Pair::live(Resume::Fresh);
    pair.now += Duration::from_secs(3600 - 29);
    pair.machine.handle_disconnected(pair.now);
    assert_eq!(pair.connect(), (None, true));
}

#[test]
fn what_a_close_code_asks_for_is_done() {
    // Code; whether there is a next connection, within how many seconds, and with a token.
    let rows = [
        (1001, Some((1, false))),
        (4408, Some((1, false))),
        (4413, Some((1, false))),
        (4429, Some((1, false))),
        (4500, Some((1, false))),
        (4999, Some((1, false))),
        (4401, Some((1, true))),
        (1002, None),
        (4400, None),
        (4403, None),
        (4406, None),
        (4409, None),
        (4410, None),
    ];
    for (code, next) in rows {
        let mut pair = Pair::live(Resume::Fresh);
        let id = pair.post(1);
        pair.say_close(code);
        match next {
            Some((seconds, needs_token)) => {
                let before = pair.now;
                assert_eq!(pair.connect(), (None, needs_token), "{code}");
                assert!(pair.now - before <= Duration::from_secs(seconds), "{code}");
                assert_eq!(pair.events(), [format!("closed with {code}: because")]);
            }
            None => {
                assert_eq!(pair.machine.step(pair.now), Step::Over, "{code}");
                let end = format!("the gateway ended the session with {code}: because");
                let failed = Err(format!("the session is over: {end}"));
                assert_eq!(pair.outcomes(), [(id.0, failed)]);
                assert_eq!(pair.events(), [end]);
                assert!(pair.machine.submit(post(2), None, None).is_err());
            }
        }
    }
}

#[test]
fn a_token_is_tried_twice_since_the_second_may_be_younger() {
    let mut pair = Pair::new(settings(), Saved::default());
    for _ in 0..2 {
        assert_eq!(pair.connect(), (None, true));
        pair.said();
        pair.say_close(4401);
    }
    assert_eq!(pair.machine.step(pair.now), Step::Over);
    assert_eq!(pair.machine.end(), Some(&End::Unauthorised("because".into())));
}

#[test]
fn reconnect_says_when_and_where_to() {
    let mut pair = Pair::live(Resume::Fresh);
    let url = Some("ws://b:2/");
    pair.say(0, wire::server::Reconnect { after_ms: 7_500, url });
    pair.say_close(1001);
    let before = pair.now;
    let to = Address::parse("ws://b:2/").unwrap();
    assert_eq!(pair.connect(), (Some(to), false));
    assert_eq!(pair.now - before, Duration::from_millis(7_500));
    // It is one's advice for one connection.
    pair.machine.handle_disconnected(pair.now);
    assert_eq!(pair.connect(), (None, false));
}

#[test]
fn failures_in_a_row_are_counted_and_try_other_gateways() {
    let mut pair = Pair::new(settings(), Saved::default());
    let mut attempts = Vec::new();
    let mut longest = Duration::ZERO;
    while attempts.len() < 200 {
        match pair.machine.step(pair.now) {
            Step::Rest(until) => {
                longest = longest.max(until - pair.now);
                pair.now = until;
            }
            Step::Connect { attempt, .. } => {
                attempts.push(attempt);
                let lost = Lost::Unreachable("no".into());
                pair.machine.handle_connect_failed(pair.now, lost);
            }
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(attempts, (0..200).collect::<Vec<_>>());
    assert!((50..=60).contains(&longest.as_secs()), "{longest:?}");
    assert_eq!(pair.events().len(), NEWS_MAX, "an application that asks for none has few");
}

#[test]
fn silence_on_either_side_is_noticed() {
    let mut pair = Pair::live(Resume::Fresh);
    pair.pass(Duration::from_secs(15));
    assert_eq!(pair.said(), ["ping"]);
    pair.pass(Duration::from_secs(15));
    assert_eq!(pair.said(), ["ping"]);
    pair.say(0, wire::server::Pong { opaque: 0, server_time: Timestamp(1) });
    pair.pass(Duration::from_secs(89));
    assert_eq!(pair.events(), Vec::<String>::new());
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.events(), ["nothing heard for 90s"]);

    let mut pair = Pair::new(settings(), Saved::default());
    pair.connect();
    pair.said();
    pair.pass(Duration::from_secs(10));
    assert_eq!(pair.events(), ["no Welcome within 10s"]);
}

#[test]
fn leaving_acknowledges_what_is_kept_and_closes() {
    let mut pair = Pair::live(Resume::Fresh);
    pair.deliver(11);
    assert_eq!(pair.events(), ["11"]);
    let id = pair.post(1);
    pair.said();
    pair.machine.leave(pair.now);
    assert_eq!(pair.said(), ["ack @11", "close 1000"]);
    assert_eq!(pair.machine.step(pair.now), Step::Talk);
    pair.machine.handle_disconnected(pair.now);
    assert_eq!(pair.machine.step(pair.now), Step::Over);
    assert_eq!(pair.events(), ["closed here"]);
    assert_eq!(pair.outcomes(), [(id.0, Err("the session is over: closed here".into()))]);
}

#[test]
fn a_gateway_that_breaks_the_protocol_is_left_and_tried_again() {
    type Break = fn(&mut Pair);
    let rows: [(&str, Break); 4] = [
        ("a second Welcome", |pair| pair.welcome(Resume::Resumed, 1, 10)),
        ("the inbox goes on at @13 after @10", |pair| pair.deliver(13)),
        ("not a frame: 3 bytes are no frame: at least 8 are needed", |pair| {
            let mut out = BytesMut::new();
            encoder::append_binary(&mut out, b"abc", None);
            pair.give(&mut out);
        }),
        ("not a WebSocket: ", |pair| pair.give(&mut [0xff; 8])),
    ];
    for (words, breaks) in rows {
        let mut pair = Pair::live(Resume::Fresh);
        breaks(&mut pair);
        let events = pair.events();
        assert!(events[0].starts_with(words), "{events:?}");
        assert!(matches!(pair.machine.step(pair.now), Step::Rest(_)), "{words}");
    }
}

#[test]
fn what_is_received_does_not_depend_on_how_it_is_split() {
    let run = |chunk| {
        let mut pair = Pair::new(settings(), Saved::default());
        pair.chunk = chunk;
        pair.connect();
        pair.welcome(Resume::Fresh, 1, 10);
        pair.deliver(11);
        pair.post(1);
        let mut said = pair.said();
        pair.posted(1, 1);
        pair.deliver(12);
        said.extend(pair.events());
        pair.say_close(1001);
        said.extend(pair.events());
        (said, pair.outcomes())
    };
    let whole = run(0);
    assert_eq!(whole.0, ["1: post n1", "Fresh", "11", "12", "closed with 1001: because"]);
    for chunk in 1..400 {
        assert_eq!(run(chunk), whole, "{chunk} bytes at a time");
    }
}
