//! The operations port (Fabric: `core/operations/system.go` and its `healthz`, `httpadmin`
//! and `version` parts).
//!
//! | Path | Method | Answer |
//! | --- | --- | --- |
//! | `/healthz` | GET | 200 `{"status":"OK","time":…}`, or 503 with `failed_checks`; with `degraded` where parts do not serve |
//! | `/metrics` | GET | Prometheus's text format |
//! | `/logspec` | GET | `{"spec":"info"}` |
//! | `/logspec` | PUT `{"spec":"info:weft_peer=debug"}` | 204, or 400 `{"error":…}` |
//! | `/version` | GET | `{"CommitSHA":…,"Version":…}` |
//!
//! With TLS, everything but `/healthz` and `/version` needs a client certificate, as in
//! Fabric.

use std::net::SocketAddr;
use std::time::SystemTime;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::Registry;
use serde_json::json;
use tracing::info;
use weft_rpc::https::{HttpsOptions, HttpsServer};
use weft_rpc::listen::{ListenError, PeerInfo, Security};
use weft_types::Timestamp;

use crate::health::Health;
use crate::logging::LogHandle;
use crate::metrics::{BuildInfo, encode};

/// Largest body of a request, bytes.
const MAX_BODY: usize = 64 * 1024;

/// What the operations port shows.
#[derive(Debug, Clone)]
pub struct Operations {
    /// Health checks.
    pub health: Health,
    /// Metrics.
    pub registry: Registry,
    /// The log specification.
    pub logging: LogHandle,
    /// What is running.
    pub build: BuildInfo,
}

impl Operations {
    /// The routes of the port.
    pub fn router(self) -> Router {
        let guarded = Router::new()
            .route("/metrics", get(metrics))
            .route("/logspec", get(logspec).put(set_logspec))
            .layer(from_fn(require_certificate));
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(healthz))
            .route("/version", get(version))
            .merge(guarded)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self)
    }

    /// Binds the port. Serve it with [`OperationsServer::serve`].
    ///
    /// # Errors
    /// [`ListenError`] when the address cannot be bound or TLS not be set up.
    pub async fn bind(
        self,
        address: &str,
        options: HttpsOptions,
        security: Security,
    ) -> Result<OperationsServer, ListenError> {
        let server = HttpsServer::bind(address, options, security).await?;
        Ok(OperationsServer { server, router: self.router() })
    }
}

/// The operations port, bound and not served yet.
#[derive(Debug)]
pub struct OperationsServer {
    server: HttpsServer,
    router: Router,
}

impl OperationsServer {
    /// The address bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Serves until `shutdown` is done.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        self.server.serve(self.router, shutdown).await;
    }
}

async fn require_certificate(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerInfo>();
    let anonymous = peer.is_some_and(|peer| peer.secure && peer.certificates.leaf().is_none());
    if anonymous {
        let error = json!({ "error": "a client certificate is required" });
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    next.run(request).await
}

async fn healthz(State(operations): State<Operations>) -> Response {
    let failed = operations.health.run().await;
    let time = Timestamp::from_system_time(SystemTime::now()).to_string();
    let (code, mut body) = match failed.is_empty() {
        true => (StatusCode::OK, json!({ "status": "OK", "time": time })),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "status": "Service Unavailable", "time": time, "failed_checks": failed }),
        ),
    };
    let degraded = operations.health.degraded();
    if !degraded.is_empty() {
        body["degraded"] = json!(degraded);
    }
    (code, Json(body)).into_response()
}

async fn metrics(State(operations): State<Operations>) -> Response {
    match encode(&operations.registry) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

async fn logspec(State(operations): State<Operations>) -> Response {
    Json(json!({ "spec": operations.logging.spec() })).into_response()
}

#[derive(serde::Deserialize)]
struct LogSpec {
    spec: String,
}

/// The body is read as JSON whatever its content type, as Fabric does.
async fn set_logspec(State(operations): State<Operations>, body: String) -> Response {
    let wanted: LogSpec = match serde_json::from_str(&body) {
        Ok(wanted) => wanted,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error),
    };
    match operations.logging.set(&wanted.spec) {
        Ok(()) => {
            info!(spec = wanted.spec, "changed the logging specification");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => failure(StatusCode::BAD_REQUEST, &error),
    }
}

async fn version(State(operations): State<Operations>) -> Response {
    let build = operations.build;
    Json(json!({ "CommitSHA": build.commit, "Version": build.version })).into_response()
}

fn failure(status: StatusCode, error: &dyn std::error::Error) -> Response {
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}
