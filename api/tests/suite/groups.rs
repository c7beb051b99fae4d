//! Groups: roles, coming and going, bans, invitations; and that the core hears of each change once.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::fake::Mood;
use crate::world::{Person, World, cases};

cases![
    a_group_is_made_with_friends_and_the_core_hears_of_it,
    only_friends_are_added,
    each_role_may_what_it_may,
    the_owner_hands_over_and_an_heir_is_found,
    a_ban_removes_and_keeps_out,
    an_invitation_lets_in_until_it_is_used_up_or_expires,
    groups_and_members_are_bounded,
    to_strangers_a_group_is_not_there,
    a_crash_before_the_core_has_heard_loses_nothing,
    a_crash_after_the_core_has_heard_repeats_nothing,
];

async fn befriend(one: &Person, other: &Person) {
    one.put(&format!("/v1/friend-requests/{}", other.user), json!({})).await.done();
    other.put(&format!("/v1/friends/{}", one.user), json!({})).await.done();
}

/// Ada and her friends.
async fn friends(world: &World) -> [Person; 4] {
    let people = [
        world.person("ada").await,
        world.person("bob").await,
        world.person("eve").await,
        world.person("joe").await,
    ];
    for other in &people[1..] {
        befriend(&people[0], other).await;
    }
    people
}

async fn make(owner: &Person, members: &[&Person]) -> String {
    let members: Vec<u64> = members.iter().map(|member| member.user).collect();
    let form = json!({"title": "Engines", "members": members});
    let group = owner.post("/v1/groups", form).await.expect(StatusCode::CREATED);
    format!("/v1/groups/{}", group["id"])
}

/// Members with their roles.
async fn members(person: &Person, group: &str) -> Vec<(u64, String)> {
    let list = person.get(&format!("{group}/members")).await.ok();
    let member = |member: &Value| {
        let role = member["role"].as_str().unwrap().to_owned();
        (member["user"]["id"].as_u64().unwrap(), role)
    };
    let mut members: Vec<_> = list["members"].as_array().unwrap().iter().map(member).collect();
    members.sort_unstable();
    members
}

fn of(mut members: Vec<(u64, &str)>) -> Vec<(u64, String)> {
    members.sort_unstable();
    members.into_iter().map(|(user, role)| (user, role.to_owned())).collect()
}

async fn set_role(owner: &Person, group: &str, member: &Person, role: &str) -> u16 {
    let path = format!("{group}/members/{}", member.user);
    owner.put(&path, json!({"role": role})).await.status.as_u16()
}

async fn a_group_is_made_with_friends_and_the_core_hears_of_it(world: World) {
    let [ada, bob, ..] = friends(&world).await;
    let group = make(&ada, &[&bob, &ada, &bob]).await;
    assert_eq!(world.core.told(), [format!("{} creates Engines with [{}]", ada.user, bob.user)]);
    let seen = bob.get(&group).await.ok();
    assert_eq!(
        (&seen["channel"], &seen["role"], &seen["members"]),
        (&json!("0-1"), &json!("member"), &json!(2))
    );
    assert_eq!(bob.get("/v1/groups").await.ok()["groups"], json!([seen]));
    assert_eq!(members(&bob, &group).await, of(vec![(ada.user, "owner"), (bob.user, "member")]));
    let renamed = ada.patch(&group, json!({"title": "Looms"})).await.ok();
    assert_eq!(renamed["title"], "Looms");
}

async fn only_friends_are_added(world: World) {
    let [ada, bob, eve, _] = friends(&world).await;
    let form = json!({"title": "x", "members": [eve.user]});
    bob.post("/v1/groups", form).await.is(422, "invalid");
    let group = make(&ada, &[&bob]).await;
    set_role(&ada, &group, &bob, "admin").await;
    let path = format!("{group}/members");
    bob.post(&path, json!({"members": [eve.user]})).await.is(422, "invalid");
    world.core.told();
    ada.post(&path, json!({"members": [eve.user, bob.user]})).await.done();
    assert_eq!(world.core.told(), [format!("{} adds [{}]", ada.user, eve.user)]);
    assert_eq!(members(&eve, &group).await.len(), 3);
}

async fn each_role_may_what_it_may(world: World) {
    let [ada, bob, eve, joe] = friends(&world).await;
    let group = make(&ada, &[&bob, &eve, &joe]).await;
    assert_eq!(set_role(&ada, &group, &bob, "admin").await, 204);
    let member = |person: &Person| format!("{group}/members/{}", person.user);
    // (who, is removed, answer)
    for (who, target, expected) in [(&eve, &joe, 403), (&bob, &ada, 403), (&bob, &bob, 403)] {
        let answer = who.delete(&member(target)).await;
        assert_eq!(answer.status.as_u16(), expected);
    }
    for (who, expected) in [(&eve, 403), (&bob, 200), (&ada, 200)] {
        let answer = who.patch(&group, json!({"title": "t"})).await;
        assert_eq!(answer.status.as_u16(), expected);
    }
    assert_eq!(set_role(&bob, &group, &eve, "admin").await, 403);
    world.core.told();
    bob.delete(&member(&joe)).await.done();
    assert_eq!(world.core.told(), [format!("{} removes [{}]", ada.user, joe.user)]);
    joe.get(&group).await.is(404, "not-found");
    bob.delete(&member(&joe)).await.is(404, "not-found");
}

async fn the_owner_hands_over_and_an_heir_is_found(world: World) {
    let [ada, bob, eve, joe] = friends(&world).await;
    let group = make(&ada, &[&bob, &eve, &joe]).await;
    assert_eq!(set_role(&ada, &group, &bob, "owner").await, 204);
    let expected =
        vec![(ada.user, "admin"), (bob.user, "owner"), (eve.user, "member"), (joe.user, "member")];
    assert_eq!(members(&ada, &group).await, of(expected));
    world.core.told();
    // The core's owner cannot be removed there: she leaves.
    bob.delete(&format!("{group}/members/{}", ada.user)).await.done();
    assert_eq!(world.core.told(), [format!("{} leaves", ada.user)]);
    assert_eq!(set_role(&bob, &group, &joe, "admin").await, 204);
    bob.post(&format!("{group}/leave"), json!({})).await.done();
    assert_eq!(members(&joe, &group).await, of(vec![(eve.user, "member"), (joe.user, "owner")]));
    joe.post(&format!("{group}/leave"), json!({})).await.done();
    eve.post(&format!("{group}/leave"), json!({})).await.done();
    eve.get(&group).await.is(404, "not-found");
    assert_eq!(world.core.told().len(), 3, "each leaves or is removed once");
}

async fn a_ban_removes_and_keeps_out(world: World) {
    let [ada, bob, eve, _] = friends(&world).await;
    let group = make(&ada, &[&bob]).await;
    let invite = ada.post(&format!("{group}/invites"), json!({})).await;
    let code = invite.expect(StatusCode::CREATED)["code"].as_str().unwrap().to_owned();
    for person in [&bob, &eve] {
        ada.put(&format!("{group}/bans/{}", person.user), json!({})).await.done();
    }
    bob.get(&group).await.is(404, "not-found");
    let banned = ada.get(&format!("{group}/bans")).await.ok();
    assert_eq!(banned["banned"].as_array().unwrap().len(), 2);
    bob.post(&format!("/v1/invites/{code}"), json!({})).await.is(404, "not-found");
    let add = json!({"members": [bob.user]});
    ada.post(&format!("{group}/members"), add.clone()).await.is(409, "conflict");
    ada.delete(&format!("{group}/bans/{}", bob.user)).await.done();
    ada.post(&format!("{group}/members"), add).await.done();
    bob.get(&group).await.ok();
}

async fn an_invitation_lets_in_until_it_is_used_up_or_expires(world: World) {
    let [ada, bob, eve, joe] = friends(&world).await;
    let group = make(&ada, &[]).await;
    let invite = ada.post(&format!("{group}/invites"), json!({"seconds": 60, "uses": 2})).await;
    let invite = invite.expect(StatusCode::CREATED);
    let path = format!("/v1/invites/{}", invite["code"].as_str().unwrap());
    assert_eq!(bob.get(&path).await.ok()["title"], "Engines");
    world.core.told();
    for _ in 0..2 {
        assert_eq!(bob.post(&path, json!({})).await.ok()["role"], "member");
    }
    assert_eq!(world.core.told(), [format!("{} adds [{}]", ada.user, bob.user)]);
    let list = ada.get(&format!("{group}/invites")).await.ok();
    assert_eq!(list["invites"][0]["uses_left"], 1);
    assert!(list["invites"][0]["code"].is_null(), "told once");
    world.clock.advance(Duration::from_secs(61));
    eve.post(&path, json!({})).await.is(404, "not-found");
    let once = ada.post(&format!("{group}/invites"), json!({"uses": 1})).await;
    let once = once.expect(StatusCode::CREATED);
    let path = format!("/v1/invites/{}", once["code"].as_str().unwrap());
    eve.post(&path, json!({})).await.ok();
    joe.post(&path, json!({})).await.is(404, "not-found");
    let third = ada.post(&format!("{group}/invites"), json!({})).await;
    let third = third.expect(StatusCode::CREATED);
    ada.delete(&format!("{group}/invites/{}", third["id"])).await.done();
    let path = format!("/v1/invites/{}", third["code"].as_str().unwrap());
    joe.get(&path).await.is(404, "not-found");
    ada.post(&format!("{group}/invites"), json!({"uses": 0})).await.is(422, "invalid");
}

async fn groups_and_members_are_bounded(mut world: World) {
    world.again(|config| config.groups_max = 2).await;
    let [ada, bob, eve, joe] = friends(&world).await;
    let zoe = world.person("zoe").await;
    befriend(&ada, &zoe).await;
    let group = make(&ada, &[&bob, &eve, &joe, &zoe]).await;
    let max = world.person("max").await;
    befriend(&ada, &max).await;
    let add = json!({"members": [max.user]});
    ada.post(&format!("{group}/members"), add).await.is(409, "limit-reached");
    make(&ada, &[]).await;
    ada.post("/v1/groups", json!({"title": "third"})).await.is(409, "limit-reached");
}

async fn to_strangers_a_group_is_not_there(world: World) {
    let [ada, bob, ..] = friends(&world).await;
    let group = make(&ada, &[]).await;
    for path in [group.clone(), format!("{group}/members"), format!("{group}/bans")] {
        let (hers, none) = (bob.get(&path).await, bob.get("/v1/groups/1").await);
        hers.is(404, "not-found");
        assert_eq!(hers.bytes, none.bytes, "{path}");
    }
    bob.post(&format!("{group}/leave"), json!({})).await.is(404, "not-found");
}

/// Waits until another process, which finds what this one has left, has told the core.
pub(crate) async fn told_by_another(world: &mut World, count: usize) -> Vec<String> {
    world.again(|_| ()).await;
    world.clock.advance(Duration::from_secs(120));
    let api = world.api.clone();
    let attending = tokio::spawn(async move { api.attend().await });
    let mut told = Vec::new();
    while told.len() < count {
        told.extend(world.core.told());
        tokio::task::yield_now().await;
    }
    attending.abort();
    told
}

async fn a_crash_before_the_core_has_heard_loses_nothing(mut world: World) {
    let [ada, bob, ..] = friends(&world).await;
    world.core.set(Mood::Deaf);
    let form = json!({"title": "Engines", "members": [bob.user]});
    let group = ada.post("/v1/groups", form).await.expect(StatusCode::ACCEPTED);
    assert!(group["channel"].is_null());
    let path = format!("/v1/groups/{}", group["id"]);
    let leave = bob.post(&format!("{path}/leave"), json!({})).await;
    assert_eq!(leave.status, StatusCode::ACCEPTED);
    world.core.set(Mood::Well);
    let told = told_by_another(&mut world, 2).await;
    let expected = [
        format!("{} creates Engines with [{}]", ada.user, bob.user),
        format!("{} removes [{}]", ada.user, bob.user),
    ];
    assert_eq!(told, expected, "in the order in which it was decided");
    assert_eq!(ada.get(&path).await.ok()["channel"], "0-1");
}

async fn a_crash_after_the_core_has_heard_repeats_nothing(mut world: World) {
    let [ada, ..] = friends(&world).await;
    world.core.set(Mood::Mute);
    let group = ada.post("/v1/groups", json!({"title": "x"})).await.expect(StatusCode::ACCEPTED);
    assert_eq!(world.core.told(), [format!("{} creates x with []", ada.user)]);
    world.core.set(Mood::Well);
    world.again(|_| ()).await;
    world.clock.advance(Duration::from_secs(120));
    let api = world.api.clone();
    let attending = tokio::spawn(async move { api.attend().await });
    let path = format!("/v1/groups/{}", group["id"]);
    let ada = world.log_in("ada").await;
    while ada.get(&path).await.ok()["channel"] != "0-1" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    attending.abort();
    assert_eq!(world.core.told(), [""; 0], "the second time changes nothing");
}
