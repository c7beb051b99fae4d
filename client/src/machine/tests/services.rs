//! Sessions of services: no inbox, many people.

use super::*;

fn service() -> Pair {
    let mut pair = Pair::new(Settings { kind: Kind::Service, ..settings() }, Saved::default());
    pair.connect();
    assert_eq!(pair.said(), ["hello token e0 @0"]);
    greet(&mut pair);
    pair
}

fn greet(pair: &mut Pair) {
    pair.said();
    pair.say(
        0,
        ServiceWelcome {
            session: SessionId(9),
            server_time: Timestamp(1_000),
            heartbeat_interval_ms: 30_000,
            epoch: Epoch(1),
            limits: Limits { posts_in_flight_max: 100, ..limits() },
        },
    );
}

#[test]
fn a_service_asks_for_many_at_once_and_answers_find_who_asked() {
    let mut pair = service();
    for number in 1..=3 {
        pair.machine.submit(post(number), Some(user(number)), None).unwrap();
    }
    let read = Request::MarkRead { channel: channel(), seq: Seq::new(5) };
    pair.machine.submit(read, Some(user(2)), None).unwrap();
    let before = Timestamp(7);
    let end = Request::SessionsEnd { user: user(8), device: None, before };
    pair.machine.submit(end, None, None).unwrap();
    let expected =
        ["u1 1: post n1", "u2 2: post n2", "u3 3: post n3", "u2 4: read #5", "5: end u8"];
    assert_eq!(pair.said(), expected);
    pair.posted(3, 3);
    pair.say(5, ServiceDone { durability: Durability::Durable });
    pair.posted(1, 1);
    pair.say(4, ServiceDone { durability: Durability::Durable });
    assert_eq!(pair.outcomes(), [3, 5, 1, 4].map(|id| (id, Ok(()))));
}

#[test]
fn after_a_loss_a_service_logs_in_again_and_asks_again() {
    let mut pair = service();
    pair.machine.submit(post(1), Some(user(1)), None).unwrap();
    pair.said();
    pair.say_close(4503);
    assert_eq!(pair.connect(), (None, true), "a service has no ticket");
    greet(&mut pair);
    assert_eq!(pair.said(), ["u1 1: post n1 retry"]);
    pair.posted(1, 1);
    assert_eq!(pair.outcomes(), [(1, Ok(()))]);
    assert_eq!(pair.events(), ["Resumed", "closed with 4503: because", "Resumed"]);
}

#[test]
fn a_greeting_for_somebody_else_is_not_taken() {
    let mut pair = Pair::new(Settings { kind: Kind::Service, ..settings() }, Saved::default());
    pair.connect();
    pair.welcome(Resume::Fresh, 1, 0);
    assert_eq!(pair.events(), ["a Welcome for another device"]);
    let mut pair = Pair::new(settings(), Saved::default());
    pair.connect();
    greet(&mut pair);
    assert_eq!(pair.events(), ["a Welcome for a service"]);
}
