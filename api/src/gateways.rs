//! `GET /v1/gateways`: where a client opens its socket.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{App, Services};

/// How long clients may go by an answer.
const TTL_SECONDS: u32 = 60;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Gateways, the best for this client first.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct GatewayList {
    gateways: Vec<GatewayPlace>,
    /// How long to go by this answer.
    ttl_seconds: u32,
}

/// A gateway.
#[derive(Clone, Serialize, ToSchema)]
struct GatewayPlace {
    /// Where to open a WebSocket (subprotocol `mooring.v1`).
    url: String,
    /// Where it stands; empty where that is not said.
    region: String,
}

impl Services {
    pub(crate) fn gateways(&self) -> GatewayList {
        let place = |url: &String| GatewayPlace { url: url.clone(), region: String::new() };
        let gateways = self.settings.gateways.iter().map(place).collect();
        GatewayList { gateways, ttl_seconds: TTL_SECONDS }
    }
}

/// Where to open a socket.
#[utoipa::path(get, path = "/v1/gateways", tag = "discovery", security(()),
    responses((status = 200, description = "The best first.", body = GatewayList)))]
async fn list(State(app): State<App>) -> Json<GatewayList> {
    Json(app.gateways())
}
