//! The channel participation API (Fabric: `orderer/common/channelparticipation/restapi.go`).
//!
//! | Path | Method | Answer |
//! | --- | --- | --- |
//! | `/participation/v1/channels` | GET | 200 `{"systemChannel":null,"channels":[{"name","url"}]}` |
//! | | POST (multipart, field `config-block`) | 201 with the channel; 400, 405 (joined already) |
//! | `/participation/v1/channels/{id}` | GET | 200 with the channel; 404 |
//! | | DELETE | 204, also for a failed channel; 404 |
//! | `/participation/v1/channels/{id}/blocks/{block}` | GET | 200, the block's bytes; `block` is a number, `newest` or `config`; 404; 503 while the channel is out of service |
//!
//! A channel is `{"name","url","consensusRelation","status","height"}`, with `genesisHash` (SHA-256
//! of the header of block 0, hexadecimal) once it has that block, and `failure` (why) when its
//! status is `failed`. Those two are not in Fabric, whose clients pass over them. A channel
//! that has failed, or is opened again, is listed as any other, and cannot be joined over.
//!
//! Errors are `{"error":"…"}`. Other methods get 405 with `Allow`. The listener asks for a client
//! certificate. Deviation: changes of the configuration (PUT) go through Broadcast only.

use std::sync::Arc;

use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use weft_channels::JoinRefused;
use weft_protos::common::Block;
use weft_protos::ext::decode;
use weft_types::ChannelId;

use crate::registrar::{ChannelInfo, JoinError, Registrar, RemoveError};

const BASE: &str = "/participation/v1";
const CHANNELS: &str = "/participation/v1/channels";
const FIELD: &str = "config-block";

/// The routes of the API.
pub fn router(registrar: Arc<Registrar>, max_body: usize) -> Router {
    Router::new()
        .route(BASE, get(|| async { Redirect::to(CHANNELS) }))
        .route(CHANNELS, get(list).post(join).fallback(|method| not_allowed(method, "GET, POST")))
        .route(
            "/participation/v1/channels/{id}",
            get(one).delete(remove).fallback(|method| not_allowed(method, "GET, DELETE")),
        )
        .route(
            "/participation/v1/channels/{id}/blocks/{block}",
            get(block).fallback(|method| not_allowed(method, "GET")),
        )
        .layer(from_fn(negotiate))
        .layer(DefaultBodyLimit::max(max_body))
        .with_state(registrar)
}

fn failure(status: StatusCode, error: impl std::fmt::Display) -> Response {
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}

async fn not_allowed(method: Method, allow: &'static str) -> Response {
    let mut response =
        failure(StatusCode::METHOD_NOT_ALLOWED, format_args!("invalid request method: {method}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// Answers are JSON, so that is what a client has to accept.
async fn negotiate(request: axum::extract::Request, next: Next) -> Response {
    if accepts_json(request.headers()) || request.uri().path().contains("/blocks/") {
        return next.run(request).await;
    }
    failure(StatusCode::NOT_ACCEPTABLE, "response Content-Type is application/json only")
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
        let kind = range.split(';').next().unwrap_or_default().trim();
        kind.is_empty() || ["application/json", "application/*", "*/*"].contains(&kind)
    })
}

fn url(name: &str) -> String {
    format!("{CHANNELS}/{name}")
}

fn describe(info: &ChannelInfo, genesis: Option<String>) -> Value {
    let mut told = json!({
        "name": info.name,
        "url": url(&info.name),
        "consensusRelation": info.relation,
        "status": info.status,
        "height": info.height,
    });
    if let Some(genesis) = genesis {
        told["genesisHash"] = genesis.into();
    }
    if let Some(failure) = &info.failure {
        told["failure"] = failure.as_str().into();
    }
    told
}

fn fresh(body: Value) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn list(State(registrar): State<Arc<Registrar>>) -> Response {
    let channels = registrar.names().into_iter().map(|channel| {
        let name = channel.as_str();
        json!({ "name": name, "url": url(name) })
    });
    let channels: Vec<Value> = channels.collect();
    fresh(json!({ "systemChannel": null, "channels": channels }))
}

async fn one(State(registrar): State<Arc<Registrar>>, Path(id): Path<String>) -> Response {
    if let Err(error) = ChannelId::new(&id) {
        return failure(StatusCode::BAD_REQUEST, format_args!("invalid channel ID: {error}"));
    }
    match registrar.info(&id) {
        Some(info) => fresh(describe(&info, registrar.genesis_hash(&id).await)),
        None => failure(StatusCode::NOT_FOUND, "channel does not exist"),
    }
}

async fn join(
    State(registrar): State<Arc<Registrar>>,
    form: Result<Multipart, MultipartRejection>,
) -> Response {
    let block = match form {
        Ok(form) => read_block(form).await,
        Err(error) => Err(format!("unsupported Content-Type: {error}")),
    };
    let block = match block {
        Ok(block) => block,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    match registrar.join(block).await {
        Ok(info) => {
            let location = [(LOCATION, url(&info.name))];
            let genesis = registrar.genesis_hash(&info.name).await;
            (StatusCode::CREATED, location, Json(describe(&info, genesis))).into_response()
        }
        Err(error @ JoinError::Refused(JoinRefused::Stopping)) => {
            failure(StatusCode::SERVICE_UNAVAILABLE, error)
        }
        Err(error @ JoinError::Refused(JoinRefused::Exists)) => {
            let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, error);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, DELETE"));
            response
        }
        Err(error @ JoinError::Open(_)) => failure(StatusCode::INTERNAL_SERVER_ERROR, error),
        Err(error) => failure(StatusCode::BAD_REQUEST, error),
    }
}

async fn read_block(mut form: Multipart) -> Result<Block, String> {
    let unreadable =
        |error: &dyn std::fmt::Display| format!("cannot read form from request body: {error}");
    let mut found: Option<Bytes> = None;
    while let Some(field) = form.next_field().await.map_err(|error| unreadable(&error))? {
        if field.name() != Some(FIELD) || found.is_some() {
            return Err(match found {
                Some(_) => "form contains too many parts".to_owned(),
                None => format!("form does not contains part key: {FIELD}"),
            });
        }
        found = Some(field.bytes().await.map_err(|error| unreadable(&error))?);
    }
    let bytes = found.ok_or_else(|| format!("form does not contains part key: {FIELD}"))?;
    decode("block", bytes)
        .map_err(|error| format!("cannot unmarshal file part {FIELD} into a block: {error}"))
}

async fn remove(State(registrar): State<Arc<Registrar>>, Path(id): Path<String>) -> Response {
    if let Err(error) = ChannelId::new(&id) {
        return failure(StatusCode::BAD_REQUEST, format_args!("invalid channel ID: {error}"));
    }
    match registrar.remove(&id).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error @ RemoveError::Unknown) => failure(StatusCode::NOT_FOUND, error),
        Err(error @ (RemoveError::Kv(_) | RemoveError::Broken)) => {
            failure(StatusCode::INTERNAL_SERVER_ERROR, error)
        }
    }
}

async fn block(
    State(registrar): State<Arc<Registrar>>,
    Path((id, which)): Path<(String, String)>,
) -> Response {
    let Some(channel) = registrar.find(&id) else {
        return match registrar.info(&id) {
            Some(_) => failure(StatusCode::SERVICE_UNAVAILABLE, "channel is out of service"),
            None => failure(StatusCode::NOT_FOUND, "channel does not exist"),
        };
    };
    let tip = channel.store().tip();
    let number = match which.as_str() {
        "newest" => Some(tip.height.saturating_sub(1)),
        "config" => Some(tip.last_config),
        other => other.parse().ok(),
    };
    let Some(number) = number else {
        return failure(StatusCode::BAD_REQUEST, format_args!("invalid block ID: {which:?}"));
    };
    match channel.block(number).await {
        Ok(Some(block)) => {
            let headers = [(CACHE_CONTROL, "no-store"), (CONTENT_TYPE, "application/octet-stream")];
            (headers, block.encode_to_vec()).into_response()
        }
        Ok(None) => failure(StatusCode::NOT_FOUND, "block does not exist"),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}
