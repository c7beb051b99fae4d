//! What stands around every route: headers, bounds, the description and its page.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::json;

use crate::fake::Mood;
use crate::world::{World, cases};

cases![
    errors_are_problems_everywhere,
    every_answer_has_the_headers_of_security,
    pages_of_other_origins_are_let_in_by_name,
    bodies_are_bounded_and_typed,
    requests_of_an_account_are_bounded,
    the_description_names_every_route_and_its_page_needs_nobody,
    the_keys_are_public,
    readiness_is_that_of_database_and_core,
];

async fn errors_are_problems_everywhere(world: World) {
    let stranger = world.stranger();
    stranger.get("/v1/nothing").await.is(404, "not-found");
    stranger.put("/v1/accounts", json!({})).await.is(405, "method-not-allowed");
    let request = Request::post("/v1/accounts").header(header::CONTENT_TYPE, "application/json");
    let broken = stranger.send(request.body(Body::from("{\"handle\":")).unwrap()).await;
    assert_eq!(broken.problem(), (422, "invalid".into(), "handle".into()));
    assert_eq!(stranger.get("/v1/devices").await.headers[header::WWW_AUTHENTICATE], "Bearer");
}

async fn every_answer_has_the_headers_of_security(world: World) {
    for path in ["/v1/gateways", "/v1/nothing", "/v1/openapi.json", "/v1/docs/", "/healthz"] {
        let answer = world.stranger().get(path).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert!(!header("cache-control").is_empty(), "{path}");
    }
}

async fn pages_of_other_origins_are_let_in_by_name(mut world: World) {
    world.again(|config| config.origins = vec!["https://chat.example.org".into()]).await;
    for (origin, is_let_in) in [("https://chat.example.org", true), ("https://evil.org", false)] {
        let request = Request::builder().method(Method::OPTIONS).uri("/v1/accounts");
        let request = request.header(header::ORIGIN, origin);
        let request = request.header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
        let answer = world.stranger().send(request.body(Body::empty()).unwrap()).await;
        let allowed = answer.headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        assert_eq!(allowed.is_some_and(|allowed| allowed == origin), is_let_in, "{origin}");
    }
}

async fn bodies_are_bounded_and_typed(world: World) {
    let stranger = world.stranger();
    let large = json!({"handle": "x".repeat(70_000), "password": ""});
    stranger.post("/v1/accounts", large).await.is(413, "too-large");
    let request = Request::post("/v1/accounts").header(header::CONTENT_TYPE, "text/plain");
    let answer = stranger.send(request.body(Body::from("{}")).unwrap()).await;
    answer.is(415, "unsupported-media");
}

async fn requests_of_an_account_are_bounded(mut world: World) {
    world.again(|config| config.requests_per_second_max = 1).await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(ada.get("/v1/devices").await.status.as_u16());
    }
    assert!(answers.starts_with(&[200; 10]), "a burst is fine: {answers:?}");
    assert!(answers.contains(&429), "{answers:?}");
    bob.get("/v1/devices").await.ok();
}

async fn the_description_names_every_route_and_its_page_needs_nobody(world: World) {
    let description = world.stranger().get("/v1/openapi.json").await.ok();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, method) in [("/v1/accounts", "post"), ("/v1/devices/{id}/push", "put")] {
        let operation = &description["paths"][path][method];
        assert!(operation["responses"]["default"].is_object(), "{path}: {operation}");
    }
    let page = world.stranger().get("/v1/docs/").await;
    let text = String::from_utf8(page.bytes).unwrap();
    assert!(text.contains("swagger-ui"), "{text}");
    assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
    assert!(!text.contains("<script>"), "what stands in the page is not run: {text}");
    let file = world.stranger().get("/v1/docs/swagger-ui-bundle.js").await;
    assert!(file.bytes.len() > 100_000, "it is in the binary");
}

async fn the_keys_are_public(world: World) {
    let keys = world.stranger().get("/.well-known/jwks.json").await.ok();
    assert_eq!(
        (&keys["keys"][0]["kty"], &keys["keys"][0]["crv"]),
        (&json!("OKP"), &json!("Ed25519"))
    );
    assert_eq!(keys["keys"][0]["x"].as_str().unwrap().len(), 43);
    assert_eq!(keys["keys"][0].as_object().unwrap().len(), 6, "nothing private");
}

async fn readiness_is_that_of_database_and_core(world: World) {
    assert_eq!(world.stranger().get("/readyz").await.status, 200);
    world.core.set(Mood::Deaf);
    assert_eq!(world.stranger().get("/readyz").await.status, 503);
    assert_eq!(world.stranger().get("/healthz").await.status, 200);
}
