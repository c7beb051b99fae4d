//! Profiles, settings, pictures; friends and blocks.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::world::{Person, World, cases};

cases![
    a_profile_is_changed_and_found,
    a_handle_that_is_taken_is_refused,
    settings_are_kept_as_they_are,
    a_picture_is_what_its_bytes_say,
    a_request_is_accepted_refused_or_taken_back,
    two_who_ask_each_other_are_friends,
    who_is_blocked_does_not_learn_it,
    friends_are_bounded,
    friends_come_in_pages,
];

async fn a_profile_is_changed_and_found(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let change = json!({"display_name": " Ada L. ", "about": "one\ntwo", "handle": "Lovelace"});
    let changed = ada.patch("/v1/me", change).await.ok();
    assert_eq!(changed, ada.get("/v1/me").await.ok());
    let found = bob.get("/v1/users?handle=LOVELACE").await.ok();
    assert_eq!(found, changed);
    assert_eq!(found["display_name"], "Ada L.");
    assert_eq!(bob.get(&format!("/v1/users/{}", ada.user)).await.ok(), found);
    bob.get("/v1/users?handle=ada").await.is(404, "not-found");
    bob.get("/v1/users/1").await.is(404, "not-found");
    bob.get("/v1/users").await.is(422, "invalid");
}

async fn a_handle_that_is_taken_is_refused(world: World) {
    let (ada, _) = (world.person("ada").await, world.person("bob").await);
    let answer = ada.patch("/v1/me", json!({"handle": "bob"})).await;
    assert_eq!(answer.problem(), (409, "handle-taken".into(), "handle".into()));
    assert_eq!(ada.get("/v1/me").await.ok()["handle"], "ada");
}

async fn settings_are_kept_as_they_are(world: World) {
    let ada = world.person("ada").await;
    assert_eq!(ada.get("/v1/me/settings").await.ok(), json!({}));
    let settings = json!({"theme": "dark", "sizes": [1, 2.5], "nested": {"ä": null}});
    ada.put("/v1/me/settings", settings.clone()).await.done();
    assert_eq!(ada.get("/v1/me/settings").await.ok(), settings);
    let rows = [json!([1]), json!({"a": "x".repeat(20_000)}), json!({"a": "\0"})];
    for wrong in rows {
        ada.put("/v1/me/settings", wrong).await.is(422, "invalid");
    }
    assert_eq!(ada.get("/v1/me/settings").await.ok(), settings);
}

async fn a_picture_is_what_its_bytes_say(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let put = |bytes: Vec<u8>| {
        let request = Request::put("/v1/me/avatar").header(header::CONTENT_TYPE, "image/svg+xml");
        ada.send(request.body(Body::from(bytes)).unwrap())
    };
    let png = [b"\x89PNG\r\n\x1a\n".as_slice(), &[7; 100_000]].concat();
    put(b"<svg onload='alert(1)'/>".to_vec()).await.is(415, "unsupported-media");
    put(vec![0; 300 * 1024]).await.is(413, "too-large");
    put(png.clone()).await.done();
    let path = format!("/v1/users/{}/avatar", ada.user);
    let picture = bob.get(&path).await;
    assert_eq!((picture.status, &picture.bytes), (StatusCode::OK, &png));
    assert_eq!(picture.headers[header::CONTENT_TYPE], "image/png");
    let tag = ada.get("/v1/me").await.ok()["avatar_tag"].as_str().unwrap().to_owned();
    assert_eq!(picture.headers[header::ETAG], format!("\"{tag}\""));
    let again = Request::get(&path).header(header::IF_NONE_MATCH, format!("\"{tag}\""));
    let again = bob.send(again.body(Body::empty()).unwrap()).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    ada.delete("/v1/me/avatar").await.done();
    bob.get(&path).await.is(404, "not-found");
}

/// The ids of a list of profiles.
fn ids(people: &Value) -> Vec<u64> {
    people.as_array().unwrap().iter().map(|person| person["id"].as_u64().unwrap()).collect()
}

async fn friends_of(person: &Person) -> Vec<u64> {
    ids(&person.get("/v1/friends").await.ok()["people"])
}

async fn requests_of(person: &Person) -> (Vec<u64>, Vec<u64>) {
    let requests = person.get("/v1/friend-requests").await.ok();
    (ids(&requests["incoming"]), ids(&requests["outgoing"]))
}

fn request(to: &Person) -> String {
    format!("/v1/friend-requests/{}", to.user)
}

fn friend(of: &Person) -> String {
    format!("/v1/friends/{}", of.user)
}

async fn a_request_is_accepted_refused_or_taken_back(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let none = (vec![], vec![]);
    ada.put(&friend(&bob), json!({})).await.is(404, "not-found");
    for (person, other) in [(&bob, &ada), (&ada, &bob)] {
        ada.put(&request(&bob), json!({})).await.done();
        assert_eq!(requests_of(&ada).await, (vec![], vec![bob.user]));
        assert_eq!(requests_of(&bob).await, (vec![ada.user], vec![]));
        person.delete(&request(other)).await.done();
        assert_eq!(
            (requests_of(&ada).await, requests_of(&bob).await),
            (none.clone(), none.clone())
        );
    }
    ada.put(&request(&bob), json!({})).await.done();
    bob.put(&friend(&ada), json!({})).await.done();
    assert_eq!((friends_of(&ada).await, friends_of(&bob).await), (vec![bob.user], vec![ada.user]));
    assert_eq!(requests_of(&bob).await, none);
    ada.delete(&friend(&bob)).await.done();
    assert_eq!((friends_of(&ada).await, friends_of(&bob).await), (vec![], vec![]));
    ada.put(&request(&ada), json!({})).await.is(422, "invalid");
}

async fn two_who_ask_each_other_are_friends(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (to_bob, to_ada) = (request(&bob), request(&ada));
    let (one, other) = tokio::join!(ada.put(&to_bob, json!({})), bob.put(&to_ada, json!({})));
    one.done();
    other.done();
    assert_eq!((friends_of(&ada).await, friends_of(&bob).await), (vec![bob.user], vec![ada.user]));
}

async fn who_is_blocked_does_not_learn_it(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    ada.put(&request(&bob), json!({})).await.done();
    bob.put(&friend(&ada), json!({})).await.done();
    let block = format!("/v1/blocks/{}", bob.user);
    ada.put(&block, json!({})).await.done();
    assert_eq!(ids(&ada.get("/v1/blocks").await.ok()["people"]), [bob.user]);
    assert_eq!((friends_of(&ada).await, friends_of(&bob).await), (vec![], vec![]));
    bob.put(&request(&ada), json!({})).await.done();
    assert_eq!(requests_of(&bob).await.1, [ada.user], "as ever");
    assert_eq!(requests_of(&ada).await.0, Vec::<u64>::new(), "not shown");
    bob.get(&format!("/v1/users/{}", ada.user)).await.ok();
    ada.put(&friend(&bob), json!({})).await.is(404, "not-found");
    ada.put(&request(&bob), json!({})).await.is(409, "conflict");
    ada.delete(&block).await.done();
    assert_eq!(requests_of(&ada).await.0, [bob.user]);
}

async fn friends_are_bounded(mut world: World) {
    world.again(|config| config.friends_max = 1).await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let eve = world.person("eve").await;
    ada.put(&request(&bob), json!({})).await.done();
    ada.put(&request(&eve), json!({})).await.is(409, "limit-reached");
    eve.put(&request(&bob), json!({})).await.is(409, "limit-reached");
}

async fn friends_come_in_pages(world: World) {
    let ada = world.person("ada").await;
    let mut expected = Vec::new();
    for handle in ["bob", "eve", "joe"] {
        let other = world.person(handle).await;
        other.put(&request(&ada), json!({})).await.done();
        ada.put(&friend(&other), json!({})).await.done();
        expected.push(other.user);
    }
    expected.sort_unstable();
    let first = ada.get("/v1/friends?limit=2").await.ok();
    assert_eq!((ids(&first["people"]), &first["more"]), (expected[..2].to_vec(), &json!(true)));
    let rest = ada.get(&format!("/v1/friends?limit=2&after={}", expected[1])).await.ok();
    assert_eq!((ids(&rest["people"]), &rest["more"]), (expected[2..].to_vec(), &json!(false)));
    ada.get("/v1/friends?limit=0").await.is(422, "invalid");
}
