//! The list of conversations, pages of messages, posting, reading, muting.

use std::time::Duration;

use api::core::{Content, Conversation, Entry};
use axum::http::StatusCode;
use serde_json::json;
use wire::{ChannelId, DeviceId, InboxSeq, Seq, UserId};

use crate::fake::Mood;
use crate::world::{Person, World, cases};

cases![
    the_list_has_names_last_messages_and_what_is_unread,
    history_is_read_in_both_directions,
    a_message_is_posted_once,
    a_conversation_is_muted_for_a_while,
    what_is_no_channel_and_what_is_not_hers_is_refused,
    without_the_core_the_rest_goes_on,
];

fn user(person: &Person) -> UserId {
    UserId::new(person.user).unwrap()
}

/// A conversation of the first with the second, of so many messages of the second.
pub(crate) fn talk(world: &World, one: &Person, other: &Person, messages: u64) -> String {
    let channel = ChannelId::direct(user(one), user(other));
    let content = Content::Message { kind: 0, body: b"hello".to_vec() };
    let (seq, device, created_at) = (Seq::new(messages), DeviceId(1), 7);
    let last = Entry { seq, user: user(other), device, created_at, content };
    let conversation = Conversation {
        channel,
        last_seq: seq,
        read_seq: Seq::new(1),
        inbox_seq: InboxSeq::new(messages),
        last: Some(last),
    };
    world.core.has(one.user, conversation);
    let (high, low) = channel.halves();
    format!("{high}-{low}")
}

async fn the_list_has_names_last_messages_and_what_is_unread(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let direct = talk(&world, &ada, &bob, 3);
    let group = ada.post("/v1/groups", json!({"title": "Engines"})).await;
    let group = group.expect(StatusCode::CREATED);
    let conversation = Conversation {
        channel: ChannelId::numbered(1).unwrap(),
        last_seq: Seq::new(9),
        read_seq: Seq::new(9),
        inbox_seq: InboxSeq::new(8),
        last: None,
    };
    world.core.has(ada.user, conversation);
    let list = ada.get("/v1/conversations").await.ok();
    let [first, second] = [&list["conversations"][0], &list["conversations"][1]];
    assert_eq!((&first["channel"], &first["group"]["id"]), (&json!("0-1"), &group["id"]));
    assert_eq!((&first["group"]["title"], &first["unread"]), (&json!("Engines"), &json!(0)));
    assert_eq!((&second["channel"], &second["user"]["handle"]), (&json!(direct), &json!("bob")));
    assert_eq!((&second["unread"], &second["last"]["text"]), (&json!(2), &json!("hello")));
    let page = ada.get("/v1/conversations?limit=1").await.ok();
    assert_eq!((page["conversations"].as_array().unwrap().len(), &page["more"]), (1, &json!(true)));
    let rest = ada.get("/v1/conversations?before=8").await.ok();
    assert_eq!(rest["conversations"], json!([second]));
    assert_eq!(bob.get("/v1/conversations").await.ok()["conversations"], json!([]));
}

async fn history_is_read_in_both_directions(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let path = format!("/v1/channels/{}/messages", talk(&world, &ada, &bob, 5));
    let rows = [
        ("", vec![1, 2, 3, 4, 5], false),
        ("?limit=2", vec![4, 5], true),
        ("?limit=2&before=4", vec![2, 3], true),
        ("?limit=2&from=2", vec![2, 3], true),
        ("?from=4", vec![4, 5], false),
    ];
    for (query, expected, more) in rows {
        let page = ada.get(&format!("{path}{query}")).await.ok();
        let seqs: Vec<u64> = page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["seq"].as_u64().unwrap())
            .collect();
        assert_eq!((seqs, &page["more"]), (expected, &json!(more)), "{query}");
    }
    for query in ["?limit=0", "?limit=101", "?from=1&before=2", "?from=-1", "?since=1"] {
        ada.get(&format!("{path}{query}")).await.is(422, "invalid");
    }
}

async fn a_message_is_posted_once(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let path = format!("/v1/channels/{}/messages", talk(&world, &ada, &bob, 1));
    for _ in 0..2 {
        let form = json!({"nonce": 7, "text": "hi"});
        assert_eq!(ada.post(&path, form).await.expect(StatusCode::CREATED)["seq"], 1);
    }
    assert_eq!(world.core.told(), [format!("{} posts \"hi\" of kind 0", ada.user)]);
    for wrong in [json!({"nonce": 0, "text": "x"}), json!({"nonce": 1, "text": ""})] {
        ada.post(&path, wrong).await.is(422, "invalid");
    }
}

async fn a_conversation_is_muted_for_a_while(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let path = format!("/v1/conversations/{}/mute", talk(&world, &ada, &bob, 1));
    let until = world.clock.now().0 + 60_000;
    let muted = async || {
        let list = ada.get("/v1/conversations").await.ok();
        list["conversations"][0]["muted_until"].as_u64().unwrap()
    };
    ada.put(&path, json!({"until": until})).await.done();
    assert_eq!(muted().await, until);
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(muted().await, 0);
    ada.put(&path, json!({})).await.done();
    assert!(muted().await > until);
    ada.delete(&path).await.done();
    assert_eq!(muted().await, 0);
}

async fn what_is_no_channel_and_what_is_not_hers_is_refused(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let channel = talk(&world, &ada, &bob, 1);
    ada.get("/v1/channels/x/messages").await.is(422, "invalid");
    ada.put("/v1/conversations/9-7/mute", json!({})).await.is(422, "invalid");
    bob.get(&format!("/v1/channels/{channel}/messages")).await.is(404, "not-found");
}

async fn without_the_core_the_rest_goes_on(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let path = format!("/v1/channels/{}/messages", talk(&world, &ada, &bob, 1));
    world.core.set(Mood::Deaf);
    let refused = ada.post(&path, json!({"nonce": 1, "text": "x"})).await;
    refused.is(503, "core-unavailable");
    assert!(refused.headers.contains_key("retry-after"));
    ada.get("/v1/me").await.ok();
    world.log_in("ada").await;
}
