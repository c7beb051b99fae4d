//! The list of devices, their names and ends, and push registrations.

use serde_json::json;

use crate::world::{World, cases};

cases![
    devices_are_listed_named_and_ended,
    a_device_of_somebody_else_is_not_there,
    push_is_registered_and_forgotten,
];

async fn devices_are_listed_named_and_ended(world: World) {
    let one = world.person("ada").await;
    let two = world.log_in("ada").await;
    one.patch(&format!("/v1/devices/{}", two.device), json!({"name": " phone "})).await.done();
    let list = one.get("/v1/devices").await.ok();
    let devices = list["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2);
    let of = |id: u64| devices.iter().find(|device| device["id"] == id).unwrap();
    assert_eq!(
        (&of(two.device)["name"], &of(two.device)["is_this"]),
        (&json!("phone"), &json!(false))
    );
    assert_eq!(of(one.device)["is_this"], true);
    one.delete(&format!("/v1/devices/{}", two.device)).await.done();
    assert_eq!(world.core.told(), [format!("ends {} of {}", two.device, two.user)]);
    two.get("/v1/devices").await.is(401, "unauthorised");
    one.delete(&format!("/v1/devices/{}", two.device)).await.is(404, "not-found");
    assert_eq!(one.get("/v1/devices").await.ok()["devices"].as_array().unwrap().len(), 1);
}

async fn a_device_of_somebody_else_is_not_there(world: World) {
    let ada = world.person("ada").await;
    world.person("bob").await;
    let bob = world.log_in("bob").await;
    assert_eq!(bob.device, 2, "numbers are each user's own");
    let path = format!("/v1/devices/{}", bob.device);
    ada.delete(&path).await.is(404, "not-found");
    ada.patch(&path, json!({"name": "mine"})).await.is(404, "not-found");
    ada.put(&format!("{path}/push"), json!({"kind": "fcm", "token": "t"}))
        .await
        .is(404, "not-found");
    let wrong = ada.delete("/v1/devices/first").await;
    assert_eq!(wrong.problem(), (422, "invalid".into(), "path".into()));
    assert!(world.core.told().is_empty());
}

async fn push_is_registered_and_forgotten(world: World) {
    let ada = world.person("ada").await;
    let path = format!("/v1/devices/{}/push", ada.device);
    let has_push = async || ada.get("/v1/devices").await.ok()["devices"][0]["has_push"].clone();
    let rows = [
        (json!({"kind": "pigeon"}), "kind"),
        (json!({"kind": "fcm", "token": ""}), "token"),
        (
            json!({"kind": "web-push", "endpoint": "http://x", "p256dh": "a", "auth": "b"}),
            "endpoint",
        ),
    ];
    for (form, field) in rows {
        let (status, kind, found) = ada.put(&path, form.clone()).await.problem();
        assert_eq!((status, kind.as_str()), (422, "invalid"), "{form}");
        assert!(found == field || found == "body", "{form}: {found}");
    }
    assert_eq!(has_push().await, false);
    ada.put(&path, json!({"kind": "fcm", "token": "t"})).await.done();
    assert_eq!(has_push().await, true);
    ada.delete(&path).await.done();
    assert_eq!(has_push().await, false);
}
