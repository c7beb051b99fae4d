//! What a user takes with her, and how she goes.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use axum::http::{StatusCode, header};
use serde_json::{Value, json};

use crate::conversations::talk;
use crate::fake::Mood;
use crate::world::{PASSWORD, World, cases};

cases![
    an_export_has_all_that_there_is,
    an_account_goes_for_good_here_and_in_the_core,
    an_account_goes_while_the_core_is_away,
    security_events_are_told_to_their_user_alone,
];

async fn an_export_has_all_that_there_is(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    ada.put("/v1/me/settings", json!({"theme": "dark"})).await.done();
    ada.put(&format!("/v1/friend-requests/{}", bob.user), json!({})).await.done();
    ada.post("/v1/groups", json!({"title": "Engines"})).await.expect(StatusCode::CREATED);
    let channel = talk(&world, &ada, &bob, 250);
    let answer = ada.get("/v1/me/export").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/zip");
    let mut archive = zip::ZipArchive::new(Cursor::new(answer.bytes)).unwrap();
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let name = file.name().unwrap().into_owned();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        files.insert(name, text);
    }
    let json = |name: &str| serde_json::from_str::<Value>(&files[name]).unwrap();
    assert_eq!(json("profile.json")["handle"], "ada");
    assert_eq!(json("settings.json"), json!({"theme": "dark"}));
    assert_eq!(json("devices.json")[0]["id"], 1);
    assert_eq!(json("people.json")[0]["user"], bob.user);
    assert_eq!(json("groups.json")["groups"][0]["title"], "Engines");
    assert_eq!(json("events.json")[0]["event"], "signed-up");
    let lines: Vec<&str> = files[&format!("conversations/{channel}.jsonl")].lines().collect();
    assert_eq!(lines.len(), 250, "beyond one page");
    assert!(lines[249].contains("\"seq\":250"), "{}", lines[249]);
}

async fn an_account_goes_for_good_here_and_in_the_core(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    ada.put(&format!("/v1/friend-requests/{}", bob.user), json!({})).await.done();
    bob.put(&format!("/v1/friends/{}", ada.user), json!({})).await.done();
    let form = json!({"title": "Engines", "members": [bob.user]});
    let group = ada.post("/v1/groups", form).await.expect(StatusCode::CREATED);
    world.core.told();
    let delete = |password: &str| {
        let request = axum::http::Request::delete("/v1/me");
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let body = json!({"password": password}).to_string();
        ada.send(request.body(axum::body::Body::from(body)).unwrap())
    };
    delete("incorrect").await.is(403, "forbidden");
    delete(PASSWORD).await.done();
    let expected = [
        format!("{} leaves", ada.user),
        format!("ends 0 of {}", ada.user),
        format!("erases {}", ada.user),
    ];
    assert_eq!(world.core.told(), expected);
    ada.get("/v1/me").await.is(401, "unauthorised");
    let login = json!({"handle": "ada", "password": PASSWORD});
    world.stranger().post("/v1/sessions", login).await.is(401, "wrong-password");
    bob.get(&format!("/v1/users/{}", ada.user)).await.is(404, "not-found");
    assert_eq!(bob.get("/v1/friends").await.ok()["people"], json!([]));
    let group = bob.get(&format!("/v1/groups/{}", group["id"])).await.ok();
    assert_eq!((&group["role"], &group["members"]), (&json!("owner"), &json!(1)));
    let again = world.person("ada").await;
    assert_ne!(again.user, ada.user, "the handle is free, the number is not");
}

async fn an_account_goes_while_the_core_is_away(mut world: World) {
    let ada = world.person("ada").await;
    world.core.set(Mood::Deaf);
    let request = axum::http::Request::delete("/v1/me");
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let body = json!({"password": PASSWORD}).to_string();
    let answer = ada.send(request.body(axum::body::Body::from(body)).unwrap()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    ada.get("/v1/me").await.is(401, "unauthorised");
    world.core.set(Mood::Well);
    let told = crate::groups::told_by_another(&mut world, 2).await;
    assert_eq!(told, [format!("ends 0 of {}", ada.user), format!("erases {}", ada.user)]);
}

async fn security_events_are_told_to_their_user_alone(world: World) {
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    world.log_in("ada").await.delete("/v1/sessions/current").await.done();
    let events = ada.get("/v1/me/events").await.ok();
    let names: Vec<&str> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["event"].as_str().unwrap())
        .collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["logged-in", "logged-out", "signed-up"]);
    assert_eq!(events["events"][0]["address"], "127.0.0.1");
    let hers = bob.get("/v1/me/events").await.ok();
    assert_eq!(hers["events"].as_array().unwrap().len(), 1);
}
