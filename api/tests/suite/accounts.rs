//! Signing up, logging in and out, refreshing.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use crate::fake::Mood;
use crate::world::{PASSWORD, Person, World, cases};

cases![
    an_account_is_made_and_its_token_is_hers,
    a_handle_belongs_to_one_and_case_is_folded,
    what_is_wrong_with_a_form_is_named,
    a_login_needs_the_password_and_says_no_more,
    a_refresh_token_is_good_once,
    a_lost_answer_of_a_refresh_is_given_again,
    a_stolen_refresh_token_ends_the_device,
    an_unused_refresh_token_expires,
    an_access_token_expires,
    logging_out_ends_one_device_and_everywhere_all,
    a_new_password_ends_the_other_devices,
    devices_beyond_the_most_end_the_oldest,
    logins_and_sign_ups_are_bounded,
    what_the_core_could_not_hear_is_told_later,
];

async fn refresh(world: &World, token: &str) -> Result<Person, (u16, String)> {
    let form = json!({ "refresh_token": token });
    let answer = world.stranger().post("/v1/sessions/refresh", form).await;
    if answer.status == StatusCode::OK {
        return Ok(world.of_session(&answer.json()));
    }
    let (status, kind, _) = answer.problem();
    Err((status, kind))
}

async fn is_logged_in(person: &Person) -> bool {
    let answer = person.get("/v1/devices").await;
    if answer.status != StatusCode::OK {
        answer.is(401, "unauthorised");
    }
    answer.status == StatusCode::OK
}

async fn an_account_is_made_and_its_token_is_hers(world: World) {
    let ada = world.person("ada").await;
    assert!(ada.user > 0 && ada.user < 1 << 53, "exact in JavaScript");
    let devices = ada.get("/v1/devices").await.ok();
    assert_eq!(devices["devices"][0]["id"], ada.device);
    assert_eq!(devices["devices"][0]["is_this"], true);
    world.stranger().get("/v1/devices").await.is(401, "unauthorised");
    let mut forged = ada.clone();
    forged.access_token.replace_range(..3, "xyz");
    assert!(!is_logged_in(&forged).await);
}

async fn a_handle_belongs_to_one_and_case_is_folded(world: World) {
    world.person("ada").await;
    let form = json!({"handle": "ADA", "password": PASSWORD});
    let answer = world.stranger().post("/v1/accounts", form).await;
    assert_eq!(answer.problem(), (409, "handle-taken".into(), "handle".into()));
    let form = json!({"handle": "Ada", "password": PASSWORD});
    world.stranger().post("/v1/sessions", form).await.expect(StatusCode::CREATED);
}

async fn what_is_wrong_with_a_form_is_named(world: World) {
    let long = "x".repeat(300);
    let rows = [
        (json!({"handle": "a", "password": PASSWORD}), "handle"),
        (json!({"handle": "ada", "password": "short"}), "password"),
        (json!({"handle": "ada", "password": long}), "password"),
        (json!({"handle": "ada"}), "body"),
        (json!({"handle": 1, "password": PASSWORD}), "handle"),
        (json!({"handle": "ada", "password": PASSWORD, "colour": 1}), "colour"),
        (json!({"handle": "ada", "password": PASSWORD, "display_name": ""}), "display_name"),
        (json!({"handle": "ada", "password": PASSWORD, "device_name": "a\nb"}), "device_name"),
    ];
    for (form, field) in rows {
        let text = form.to_string();
        let answer = world.stranger().post("/v1/accounts", form).await;
        assert_eq!(answer.problem(), (422, "invalid".into(), field.into()), "{text}");
    }
}

async fn a_login_needs_the_password_and_says_no_more(world: World) {
    world.person("ada").await;
    let log_in = |handle: &str, password: &str| {
        let (form, stranger) = (json!({"handle": handle, "password": password}), world.stranger());
        async move { stranger.post("/v1/sessions", form).await }
    };
    let wrong = log_in("ada", "incorrect horse").await;
    let nobody = log_in("bob", PASSWORD).await;
    wrong.is(401, "wrong-password");
    assert_eq!(wrong.bytes, nobody.bytes, "whether there is such an account is not told");
    log_in("ada", PASSWORD).await.expect(StatusCode::CREATED);
}

async fn a_refresh_token_is_good_once(world: World) {
    let ada = world.person("ada").await;
    let second = refresh(&world, &ada.refresh_token).await.unwrap();
    assert_eq!((second.user, second.device), (ada.user, ada.device));
    let third = refresh(&world, &second.refresh_token).await.unwrap();
    assert!(is_logged_in(&third).await);
    // Its successor was used.
    let refused = refresh(&world, &ada.refresh_token).await;
    assert_eq!(refused.err(), Some((401, "unauthorised".into())));
    assert!(!is_logged_in(&third).await, "nobody knows who of the two is the thief");
    assert!(refresh(&world, &third.refresh_token).await.is_err());
    assert!(refresh(&world, "AAAA").await.is_err());
}

async fn a_lost_answer_of_a_refresh_is_given_again(world: World) {
    let ada = world.person("ada").await;
    let lost = refresh(&world, &ada.refresh_token).await.unwrap();
    let again = refresh(&world, &ada.refresh_token).await.unwrap();
    assert_eq!(lost.refresh_token, again.refresh_token);
    assert!(is_logged_in(&again).await);
}

async fn a_stolen_refresh_token_ends_the_device(world: World) {
    let ada = world.person("ada").await;
    let hers = refresh(&world, &ada.refresh_token).await.unwrap();
    world.clock.advance(Duration::from_secs(61));
    assert!(refresh(&world, &ada.refresh_token).await.is_err());
    assert!(!is_logged_in(&hers).await);
    assert_eq!(world.core.told(), [format!("ends {} of {}", ada.device, ada.user)]);
}

async fn an_unused_refresh_token_expires(world: World) {
    let ada = world.person("ada").await;
    let day = Duration::from_secs(24 * 60 * 60);
    world.clock.advance(day * 59);
    let later = refresh(&world, &ada.refresh_token).await.unwrap();
    world.clock.advance(day * 61);
    assert!(refresh(&world, &later.refresh_token).await.is_err());
}

async fn an_access_token_expires(world: World) {
    let ada = world.person("ada").await;
    assert!(is_logged_in(&ada).await);
    world.clock.advance(Duration::from_secs(600 + 31));
    assert!(!is_logged_in(&ada).await);
}

async fn logging_out_ends_one_device_and_everywhere_all(world: World) {
    let one = world.person("ada").await;
    let (two, three) = (world.log_in("ada").await, world.log_in("ada").await);
    one.delete("/v1/sessions/current").await.done();
    assert_eq!(world.core.told(), [format!("ends {} of {}", one.device, one.user)]);
    assert!(!is_logged_in(&one).await);
    assert!(is_logged_in(&two).await);
    assert!(refresh(&world, &one.refresh_token).await.is_err());
    two.delete("/v1/sessions").await.done();
    assert_eq!(world.core.told(), [format!("ends 0 of {}", one.user)]);
    assert!(!is_logged_in(&two).await);
    assert!(!is_logged_in(&three).await);
}

async fn a_new_password_ends_the_other_devices(world: World) {
    let one = world.person("ada").await;
    let two = world.log_in("ada").await;
    let form = json!({"current": "incorrect", "new": "battery staple"});
    let refused = one.put("/v1/me/password", form).await;
    assert_eq!(refused.problem(), (403, "forbidden".into(), "current".into()));
    one.put("/v1/me/password", json!({"current": PASSWORD, "new": "battery staple"})).await.done();
    assert!(is_logged_in(&one).await);
    assert!(!is_logged_in(&two).await);
    assert_eq!(world.core.told(), [format!("ends {} of {}", two.device, two.user)]);
    let old = json!({"handle": "ada", "password": PASSWORD});
    world.stranger().post("/v1/sessions", old).await.is(401, "wrong-password");
    let new = json!({"handle": "ada", "password": "battery staple"});
    world.stranger().post("/v1/sessions", new).await.expect(StatusCode::CREATED);
}

async fn devices_beyond_the_most_end_the_oldest(mut world: World) {
    world.again(|config| config.devices_max = 2).await;
    let one = world.person("ada").await;
    world.clock.advance(Duration::from_secs(1));
    let two = world.log_in("ada").await;
    world.clock.advance(Duration::from_secs(1));
    let three = world.log_in("ada").await;
    assert!(!is_logged_in(&one).await);
    assert!(is_logged_in(&two).await && is_logged_in(&three).await);
}

async fn logins_and_sign_ups_are_bounded(mut world: World) {
    world.again(|config| (config.logins_per_hour_max, config.sign_ups_per_hour_max) = (2, 1)).await;
    world.person("ada").await;
    let another = json!({"handle": "bob", "password": PASSWORD});
    let refused = world.stranger().post("/v1/accounts", another).await;
    refused.is(429, "too-many-requests");
    assert!(refused.headers.contains_key("retry-after"));
    for handle in ["ada", "nobody"] {
        let form = json!({"handle": handle, "password": "incorrect horse"});
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(world.stranger().post("/v1/sessions", form.clone()).await.status.as_u16());
        }
        assert_eq!(answers, [401, 401, 429], "{handle}");
    }
}

async fn what_the_core_could_not_hear_is_told_later(mut world: World) {
    let ada = world.person("ada").await;
    world.core.set(Mood::Deaf);
    ada.delete("/v1/sessions/current").await.done();
    assert!(!is_logged_in(&ada).await, "here at once");
    assert!(world.core.told().is_empty());
    world.core.set(Mood::Well);
    // Another process finds what this one has left.
    world.again(|_| ()).await;
    world.clock.advance(Duration::from_secs(120));
    let api = world.api.clone();
    let attending = tokio::spawn(async move { api.attend().await });
    while world.core.told().is_empty() {
        tokio::task::yield_now().await;
    }
    attending.abort();
}
