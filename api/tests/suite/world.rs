//! A world of one test: an API on a database of its own, a core that can fail, and people.

use std::pin::Pin;
use std::sync::Arc;

use api::config::{ApiConfig, Settings, Surroundings};
use api::{Api, Clock};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tower::ServiceExt;

use crate::fake::FakeCore;

/// A test, and its name.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(World) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// The cases of a module, by the names of their functions.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub(crate) fn cases() -> Vec<crate::world::Case> {
            let module = module_path!().rsplit("::").next().unwrap();
            vec![$(crate::world::Case {
                name: Box::leak(format!("{module}::{}", stringify!($name)).into_boxed_str()),
                run: |world| Box::pin($name(world)),
            }),+]
        }
    };
}
pub(crate) use cases;

/// Runs a statement on a database.
pub(crate) fn execute(url: &str, statement: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    sqlx::any::install_default_drivers();
    runtime.block_on(async {
        let mut connection = AnyConnection::connect(url).await.unwrap();
        connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    });
}

pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) struct World {
    pub(crate) core: Arc<FakeCore>,
    pub(crate) clock: Clock,
    pub(crate) api: Api,
    config: ApiConfig,
    data: tempfile::TempDir,
}

impl World {
    pub(crate) async fn open(database: String) -> Self {
        let config = ApiConfig { database, database_connections_max: 4, ..ApiConfig::default() };
        let (core, clock) = (Arc::new(FakeCore::default()), Clock::default());
        let data = tempfile::tempdir().unwrap();
        let api = open(&config, &data, &core, &clock).await;
        Self { core, clock, api, config, data }
    }

    /// Another process on the same database, with another configuration.
    pub(crate) async fn again(&mut self, change: impl FnOnce(&mut ApiConfig)) {
        change(&mut self.config);
        self.api = open(&self.config, &self.data, &self.core, &self.clock).await;
    }

    /// Somebody without a token.
    pub(crate) fn stranger(&self) -> Person {
        Person {
            router: self.api.router(),
            user: 0,
            device: 0,
            access_token: String::new(),
            refresh_token: String::new(),
        }
    }

    /// A new account with this handle, logged in.
    pub(crate) async fn person(&self, handle: &str) -> Person {
        let form = json!({"handle": handle, "password": PASSWORD});
        let answer = self.stranger().call(Method::POST, "/v1/accounts", Some(form)).await;
        self.of_session(&answer.expect(StatusCode::CREATED))
    }

    /// A further device of an account.
    pub(crate) async fn log_in(&self, handle: &str) -> Person {
        let form = json!({"handle": handle, "password": PASSWORD, "device_name": "another"});
        let answer = self.stranger().call(Method::POST, "/v1/sessions", Some(form)).await;
        self.of_session(&answer.expect(StatusCode::CREATED))
    }

    /// Whom the body of a login is for.
    pub(crate) fn of_session(&self, session: &Value) -> Person {
        let text = |name: &str| session[name].as_str().unwrap().to_owned();
        Person {
            user: session["user"].as_u64().unwrap(),
            device: session["device"].as_u64().unwrap(),
            access_token: text("access_token"),
            refresh_token: text("refresh_token"),
            ..self.stranger()
        }
    }
}

async fn open(
    config: &ApiConfig,
    data: &tempfile::TempDir,
    core: &Arc<FakeCore>,
    clock: &Clock,
) -> Api {
    let surroundings = Surroundings { data: data.path().to_owned(), group_members_max: 5 };
    let settings = Settings::new(config, &surroundings).unwrap();
    let core: Arc<dyn api::core::Core> = Arc::clone(core) as _;
    Api::open(settings, core, clock.clone()).await.unwrap()
}

/// Somebody who asks.
#[derive(Clone)]
pub(crate) struct Person {
    router: Router,
    pub(crate) user: u64,
    pub(crate) device: u64,
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
}

/// What somebody was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Person {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }

    /// With her token, if she has one.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        if !self.access_token.is_empty() {
            let value = format!("Bearer {}", self.access_token).parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes().to_vec();
        Answer { status, headers, bytes }
    }
}

impl Answer {
    /// The JSON of a success of this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }

    /// The JSON of a 200.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        self.expect(StatusCode::OK)
    }

    /// A success without a body.
    #[track_caller]
    pub(crate) fn done(&self) {
        self.expect(StatusCode::NO_CONTENT);
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// A problem: its status and kind, and the field it names (or "").
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String, String) {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{text}");
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        let kind = body["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        let field = body["fields"][0]["name"].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), kind, field)
    }

    #[track_caller]
    pub(crate) fn is(&self, status: u16, kind: &str) {
        let (found, found_kind, _) = self.problem();
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!((found, found_kind.as_str()), (status, kind), "{text}");
    }
}
