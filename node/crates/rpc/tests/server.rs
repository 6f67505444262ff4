#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use prometheus::Registry;
use support::{Ca, Server, call, connector, envelope, eventually, grpc_options, open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::service::Routes;
use weft_protos::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use weft_rpc::connect::{ChannelPool, ConnectError, Endpoint};
use weft_rpc::listen::{ListenError, ListenOptions, Security};
use weft_rpc::metrics::GrpcMetrics;
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_rpc::tls::ClientAuth;

fn security(ca: &Ca) -> Security {
    Security::tls(&ca.tls(), ClientAuth::Optional)
}

/// Whether the server closes the connection, rather than going on to wait for bytes.
async fn is_closed(tcp: &mut TcpStream) -> bool {
    // What it says before (SETTINGS of HTTP/2) does not matter.
    let mut said = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), tcp.read_to_end(&mut said)).await.is_ok()
}

#[tokio::test]
async fn connections_over_the_cap_are_closed() {
    let ca = Ca::new("ca");
    let options = GrpcOptions {
        listen: ListenOptions { stranger_connections: 3, ..grpc_options().listen },
        ..grpc_options()
    };
    let server = Server::start_with("127.0.0.1:0", options, security(&ca), None).await;
    let anonymous = connector(ca.anonymous());
    let endpoint = Endpoint::tls(&server.address);
    let first = anonymous.connect(&endpoint).await.unwrap();
    let second = anonymous.connect(&endpoint).await.unwrap();
    call(first.clone()).await.unwrap();
    call(second.clone()).await.unwrap();
    // A client may believe that it is in before the server has let it in.
    if let Ok(third) = anonymous.connect(&endpoint).await {
        call(third).await.unwrap_err();
    }
    assert_eq!(server.connections.len(), 2);
    // Those that shake hands are bounded apart from them.
    let _silent = TcpStream::connect(&server.address).await.unwrap();
    let _dumb = TcpStream::connect(&server.address).await.unwrap();
    let mut over = TcpStream::connect(&server.address).await.unwrap();
    assert!(is_closed(&mut over).await);
    // Strangers do not keep out who has a certificate, once they let it shake hands.
    drop((_silent, _dumb));
    let member = loop {
        if let Ok(member) = connector(ca.client_of(&ca)).connect(&endpoint).await {
            break member;
        }
    };
    call(member).await.unwrap();
    drop(second);
    call(first).await.unwrap();
}

#[tokio::test]
async fn slow_clients_are_dropped() {
    let ca = Ca::new("ca");
    let listen =
        ListenOptions { handshake_timeout: Duration::from_millis(300), ..grpc_options().listen };
    let options = GrpcOptions { listen, ..grpc_options() };
    let server = Server::start_with("127.0.0.1:0", options, security(&ca), None).await;
    let honest = connector(ca.anonymous()).connect(&Endpoint::tls(&server.address)).await.unwrap();
    call(honest.clone()).await.unwrap();

    let mut silent = TcpStream::connect(&server.address).await.unwrap();
    let mut dripping = TcpStream::connect(&server.address).await.unwrap();
    dripping.write_all(&[0x16, 3, 1]).await.unwrap();
    assert!(is_closed(&mut silent).await, "no handshake");
    assert!(is_closed(&mut dripping).await, "half a handshake");

    // Without TLS the HTTP/2 preface is what has to come.
    let plain = Server::start_with("127.0.0.1:0", options, Security::Plain, None).await;
    let mut half = TcpStream::connect(&plain.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0").await.unwrap();
    assert!(is_closed(&mut half).await, "half a preface");
    eventually("an empty listener", || plain.connections.is_empty()).await;
    call(honest).await.expect("a connection that has begun may be silent");
}

#[tokio::test]
async fn shutdown_lets_open_calls_end() {
    let ca = Ca::new("ca");
    let mut server = Server::start(security(&ca)).await;
    let connector = connector(ca.anonymous());
    let endpoint = Endpoint::tls(&server.address);
    let channel = connector.connect(&endpoint).await.unwrap();
    let (requests, mut responses) = open(channel, "hold").await.unwrap();
    server.echo.held.notified().await;
    server.stop();
    // The socket closes at once; the call goes on.
    for _ in 0..500 {
        if connector.connect(&endpoint).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(connector.connect(&endpoint).await.is_err(), "the server still accepts");
    assert!(!server.task.is_finished());
    server.echo.release.notify_one();
    assert_eq!(responses.message().await.unwrap().unwrap().status, 200);
    drop(requests);
    assert!(responses.message().await.unwrap().is_none());
    tokio::time::timeout(Duration::from_secs(20), server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_closes_what_does_not_end() {
    let ca = Ca::new("ca");
    let options = GrpcOptions { shutdown_timeout: Duration::from_millis(200), ..grpc_options() };
    let mut server = Server::start_with("127.0.0.1:0", options, security(&ca), None).await;
    let channel = connector(ca.anonymous()).connect(&Endpoint::tls(&server.address)).await.unwrap();
    let (_requests, mut responses) = open(channel, "hold").await.unwrap();
    server.echo.held.notified().await;
    server.stop();
    assert!(responses.message().await.is_err());
    tokio::time::timeout(Duration::from_secs(20), server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let ca = Ca::new("ca");
    let registry = Registry::new();
    let metrics = GrpcMetrics::register(&registry).unwrap();
    let server =
        Server::start_with("127.0.0.1:0", grpc_options(), security(&ca), Some(metrics)).await;
    let channel = connector(ca.anonymous()).connect(&Endpoint::tls(&server.address)).await.unwrap();
    let (requests, mut responses) = open(channel.clone(), "x").await.unwrap();
    drop(requests);
    while responses.message().await.unwrap().is_some() {}
    let mut client = AtomicBroadcastClient::new(channel.clone());
    let status = client.deliver(support::stream_of(vec![envelope("x")])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let mut peer = weft_protos::peer::deliver_client::DeliverClient::new(channel.clone());
    let status = peer.deliver(support::stream_of(vec![envelope("x")])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let (cancelled, responses) = open(channel, "hold").await.unwrap();
    server.echo.held.notified().await;
    drop((cancelled, responses));

    let text = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    eventually("the end of all calls", || text().contains("grpc_server_calls_open 0")).await;
    let text = text();
    for (method, service, code) in [
        ("Broadcast", "orderer.AtomicBroadcast", "OK"),
        ("Broadcast", "orderer.AtomicBroadcast", "CANCELLED"),
        ("Deliver", "orderer.AtomicBroadcast", "NOT_FOUND"),
        ("unknown", "unknown", "UNIMPLEMENTED"),
    ] {
        let line = format!(
            "grpc_server_calls_completed{{code=\"{code}\",method=\"{method}\",service=\"{service}\"}} 1"
        );
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn messages_over_the_limit_are_refused() {
    let server = Server::start(Security::Plain).await;
    let channel =
        connector(Ca::new("ca").anonymous()).channel(&Endpoint::plain(&server.address)).unwrap();
    let big: &'static str = Box::leak("x".repeat(2 << 20).into_boxed_str());
    let (_requests, mut responses) = open(channel.clone(), big).await.unwrap();
    assert_eq!(responses.message().await.unwrap_err().code(), Code::OutOfRange);
    call(channel).await.expect("the connection lives on");
}

#[tokio::test]
async fn channels_connect_when_used_and_again_after_a_failure() {
    let ca = Ca::new("ca");
    let pool = ChannelPool::new(connector(ca.anonymous()), 2);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = Endpoint::tls(free.to_string());
    let status = call(pool.get(&endpoint).unwrap()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let cause = ConnectError::of_status(&status).expect("the cause is typed");
    assert!(matches!(cause, ConnectError::Dial { .. }) && cause.is_transient(), "{cause}");

    let address = endpoint.address.as_str();
    let mut server = Server::start_with(address, grpc_options(), security(&ca), None).await;
    call(pool.get(&endpoint).unwrap()).await.expect("the channel connects now");
    server.stop();
    server.task.await.unwrap();
    assert!(call(pool.get(&endpoint).unwrap()).await.is_err());
    let _server = Server::start_with(address, grpc_options(), security(&ca), None).await;
    let mut again = Err(tonic::Status::unknown("not called"));
    for _ in 0..50 {
        again = call(pool.get(&endpoint).unwrap()).await;
        if again.is_ok() {
            break;
        }
    }
    again.expect("the channel connects again");

    for other in ["localhost:1", "localhost:2", "localhost:3"] {
        pool.get(&Endpoint::tls(other)).unwrap();
    }
    assert_eq!(pool.len(), 2);
    for bad in ["localhost", "localhost:port", ":1", "a b:1", "localhost:99999"] {
        let refused = pool.get(&Endpoint::tls(bad));
        assert!(matches!(refused, Err(ConnectError::Address { .. })), "{bad:?}");
    }
}

#[tokio::test]
async fn a_taken_address_is_told() {
    let server = Server::start(Security::Plain).await;
    let again = GrpcServer::bind(&server.address, grpc_options(), Security::Plain, None).await;
    let Err(ListenError::Bind { address, .. }) = again else { panic!("bound twice") };
    assert_eq!(address, server.address);
}

/// What is stopped can be started again at the same address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_is_free_once_a_server_has_ended() {
    let mut address = "127.0.0.1:0".to_owned();
    for _ in 0..200 {
        let server = GrpcServer::bind(&address, grpc_options(), Security::Plain, None);
        let server = server.await.unwrap();
        address = server.local_addr().to_string();
        server.serve(Routes::default(), std::future::ready(())).await.unwrap();
    }
}
