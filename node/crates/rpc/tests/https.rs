#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use serde_json::json;
use support::{Ca, hex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use weft_rpc::connect::ConnectError;
use weft_rpc::https::{Client, ClientError, ClientOptions, HttpsOptions, HttpsServer, Part};
use weft_rpc::listen::{ListenOptions, PeerInfo, Security};
use weft_rpc::tls::ClientAuth;

async fn who(Extension(peer): Extension<PeerInfo>) -> String {
    peer.certificates.leaf_sha256().map_or_else(|| "nobody".to_owned(), hex)
}

fn router() -> Router {
    Router::new()
        .route("/who", get(who))
        .route("/echo", post(|body: String| async move { body }).put(|body: String| async { body }))
        .route("/big", get(|| async { "x".repeat(100_000) }))
        .route("/slow", get(|| async { tokio::time::sleep(Duration::from_secs(60)).await }))
        .route("/soon", get(|| async { tokio::time::sleep(Duration::from_millis(300)).await }))
        .route("/gone", delete(|| async { axum::http::StatusCode::NO_CONTENT }))
}

fn options() -> HttpsOptions {
    HttpsOptions {
        listen: ListenOptions {
            max_connections: 8,
            stranger_connections: 8,
            handshake_timeout: Duration::from_millis(500),
        },
        shutdown_timeout: Duration::from_secs(20),
    }
}

struct Server {
    url: String,
    address: String,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start(security: Security) -> Server {
    let scheme = if matches!(security, Security::Plain) { "http" } else { "https" };
    let server = HttpsServer::bind("127.0.0.1:0", options(), security).await.unwrap();
    let address = server.local_addr().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        server.serve(router(), shutdown).await;
    });
    Server { url: format!("{scheme}://{address}"), address, stop, task }
}

#[tokio::test]
async fn requests_carry_the_client_certificate() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let server = start(Security::tls(&ours.tls(), ClientAuth::Required)).await;
    let url = format!("{}/who", server.url);
    let member = ours.client_of(&ours);
    let leaf = hex(member.identity().unwrap().leaf_sha256());
    let client = Client::new(member, ClientOptions::default());
    assert_eq!(client.get(&url).await.unwrap().text(), leaf);
    for refused in [ours.anonymous(), ours.client_of(&theirs)] {
        let result = Client::new(refused, ClientOptions::default()).get(&url).await;
        assert!(matches!(result, Err(ClientError::Http { .. })), "{result:?}");
    }
    let distrusting = Client::new(theirs.anonymous(), ClientOptions::default()).get(&url).await;
    let Err(ClientError::Connect { source: ConnectError::Handshake { .. }, .. }) = distrusting
    else {
        panic!("{distrusting:?}")
    };
    let plain = start(Security::Plain).await;
    let client = Client::new(ours.anonymous(), ClientOptions::default());
    assert_eq!(client.get(&format!("{}/who", plain.url)).await.unwrap().text(), "nobody");
}

#[tokio::test]
async fn methods_and_bodies_arrive() {
    let server = start(Security::Plain).await;
    let client = Client::new(Ca::new("ca").anonymous(), ClientOptions::default());
    let url = |path: &str| format!("{}{path}", server.url);
    assert_eq!(client.delete(&url("/gone")).await.unwrap().status, 204);
    assert_eq!(client.get(&url("/nothing")).await.unwrap().status, 404);
    let body = json!({ "spec": "info" });
    assert_eq!(client.put_json(&url("/echo"), &body).await.unwrap().json().unwrap(), body);
    let part = Part {
        name: "config-block".to_owned(),
        file_name: "a\"b.block".to_owned(),
        content: "content\r\n--".into(),
    };
    let form = client.post_multipart(&url("/echo"), &[part]).await.unwrap().text();
    let (boundary, rest) = form.split_once("\r\n").unwrap();
    let expected = format!(
        "Content-Disposition: form-data; name=\"config-block\"; filename=\"a%22b.block\"\r\n\
         Content-Type: application/octet-stream\r\n\r\ncontent\r\n--\r\n{boundary}--\r\n"
    );
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn the_client_keeps_its_limits() {
    let server = start(Security::Plain).await;
    let url = |path: &str| format!("{}{path}", server.url);
    let options = ClientOptions {
        timeout: Duration::from_millis(500),
        max_response_bytes: 1000,
        ..ClientOptions::default()
    };
    let client = Client::new(Ca::new("ca").anonymous(), options);
    let big = client.get(&url("/big")).await;
    assert!(matches!(big, Err(ClientError::Body { .. })), "{big:?}");
    let slow = client.get(&url("/slow")).await;
    assert!(matches!(slow, Err(ClientError::Timeout { .. })), "{slow:?}");
    for bad in ["", "localhost:1", "ftp://localhost/", "http://user@localhost/", "http://"] {
        let refused = client.get(bad).await;
        assert!(matches!(refused, Err(ClientError::Url { .. })), "{bad:?} {refused:?}");
    }
}

#[tokio::test]
async fn slow_headers_are_cut() {
    let server = start(Security::Plain).await;
    let mut tcp = TcpStream::connect(&server.address).await.unwrap();
    tcp.write_all(b"GET /who HTTP/1.1\r\nHost: node.example\r\nX: ").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), tcp.read_to_end(&mut answer))
        .await
        .expect("the server closes the connection")
        .unwrap();
}

#[tokio::test]
async fn shutdown_lets_open_requests_end() {
    let server = start(Security::Plain).await;
    let client = Client::new(Ca::new("ca").anonymous(), ClientOptions::default());
    let url = format!("{}/soon", server.url);
    let call = tokio::spawn({
        let client = client.clone();
        let url = url.clone();
        async move { client.get(&url).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop.send(()).unwrap();
    assert_eq!(call.await.unwrap().unwrap().status, 200);
    server.task.await.unwrap();
    assert!(matches!(client.get(&url).await, Err(ClientError::Connect { .. })));
}
