//! Contracts that dial the peer.

use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use weft_peer::chaincode::package::Connection;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::chaincode_support_client::ChaincodeSupportClient;
use weft_protos::peer::{ChaincodeId, ChaincodeMessage};

use crate::contract::contract;
use crate::state::MemoryState;
use crate::support::{Peer, config, eventually, register};

/// A package without an address: its contract dials.
fn dials() -> Connection {
    Connection::plain("")
}

#[tokio::test]
async fn a_contract_that_dials() {
    let mut peer = Peer::new(config());
    let id = peer.install("cc", &dials());
    let address = peer.listen().await;
    let contract = register(&id, address, contract());
    let mut state = MemoryState::with(&[("cc", "a", "1")]);
    assert_eq!(peer.ask(&mut state, &["Get", "a"]).await.unwrap(), "1");
    peer.ask(&mut state, &["Put", "b", "2"]).await.unwrap();
    assert_eq!(state.writes.len(), 1);
    contract.abort();
    eventually("the peer notices", || !peer.runtime.is_connected(&id)).await;
}

#[tokio::test]
async fn it_dials_again_after_the_peer_was_away() {
    let mut first = Peer::new(config());
    let id = first.install("cc", &dials());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let _contract = register(&id, address, contract());
    for _ in 0..2 {
        let mut peer = Peer::new(config());
        peer.install("cc", &dials());
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let service = weft_peer::chaincode::ChaincodeSupport::new(&peer.runtime).into_server();
        let server = tonic::transport::Server::builder().add_service(service);
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tokio::spawn(server.serve_with_incoming(incoming));
        assert_eq!(peer.ask(&mut MemoryState::default(), &["Get", "a"]).await.unwrap(), "none");
        peer.runtime.shutdown();
        server.abort();
        let _ = server.await;
    }
}

#[tokio::test]
async fn a_contract_that_never_dials() {
    let mut config = config();
    config.startup_timeout = Duration::from_millis(200);
    let mut peer = Peer::new(config);
    peer.install("cc", &dials());
    let text = peer.ask(&mut MemoryState::default(), &["Get", "a"]).await.unwrap_err();
    assert!(
        text.ends_with("the chaincode has not registered with this peer within 200ms"),
        "{text}"
    );
}

#[tokio::test]
async fn development_takes_name_and_version() {
    let mut config = config();
    config.development = true;
    let mut peer = Peer::new(config);
    peer.host.chaincodes.insert("cc".into(), "cc:1.0".into());
    let address = peer.listen().await;
    let _contract = register("cc:1.0", address, contract());
    assert_eq!(peer.ask(&mut MemoryState::default(), &["Get", "a"]).await.unwrap(), "none");
}

/// A stream to the peer, at the level of messages.
struct Raw {
    out: mpsc::Sender<ChaincodeMessage>,
    inbound: Streaming<ChaincodeMessage>,
}

impl Raw {
    async fn open(address: std::net::SocketAddr) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.unwrap().connect().await.unwrap();
        let (out, outbox) = mpsc::channel(16);
        let mut client = ChaincodeSupportClient::new(channel);
        let inbound = client.register(ReceiverStream::new(outbox)).await.unwrap().into_inner();
        Self { out, inbound }
    }

    async fn send(&self, kind: Type, payload: Vec<u8>) {
        let message =
            ChaincodeMessage { r#type: kind.into(), payload: payload.into(), ..Default::default() };
        self.out.send(message).await.unwrap();
    }

    async fn announce(&self, id: &str) {
        let id = ChaincodeId { name: id.into(), ..Default::default() };
        self.send(Type::Register, id.encode_to_vec()).await;
    }

    async fn next(&mut self) -> Result<Type, Status> {
        self.inbound.next().await.unwrap().map(|message| message.r#type())
    }
}

#[tokio::test]
async fn the_opening() {
    let mut peer = Peer::new(config());
    let id = peer.install("cc", &dials());
    let mut raw = Raw::open(peer.listen().await).await;
    raw.send(Type::Keepalive, Vec::new()).await;
    raw.announce(&id).await;
    assert_eq!(raw.next().await.unwrap(), Type::Registered);
    assert_eq!(raw.next().await.unwrap(), Type::Ready);
    assert!(peer.runtime.is_connected(&id));
}

#[tokio::test]
async fn a_second_registration_is_refused_and_the_first_stays() {
    let mut peer = Peer::new(config());
    let id = peer.install("cc", &dials());
    let address = peer.listen().await;
    let _contract = register(&id, address, contract());
    peer.ask(&mut MemoryState::default(), &["Get", "a"]).await.unwrap();
    let mut second = Raw::open(address).await;
    second.announce(&id).await;
    let status = second.next().await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(status.message(), format!("duplicate chaincodeID: {id}"));
    assert_eq!(peer.ask(&mut MemoryState::default(), &["Get", "a"]).await.unwrap(), "none");
}

#[tokio::test]
async fn streams_that_begin_wrongly() {
    let mut config = config();
    config.startup_timeout = Duration::from_millis(200);
    let peer = Peer::new(config);
    let address = peer.listen().await;
    let unknown = format!("cc:{}", "0".repeat(64));

    let mut raw = Raw::open(address).await;
    raw.announce(&unknown).await;
    assert_eq!(raw.next().await.unwrap_err().code(), Code::PermissionDenied);

    let mut raw = Raw::open(address).await;
    raw.announce("").await;
    assert_eq!(raw.next().await.unwrap_err().code(), Code::InvalidArgument);

    let mut raw = Raw::open(address).await;
    raw.send(Type::Register, vec![0xff]).await;
    assert_eq!(raw.next().await.unwrap_err().code(), Code::InvalidArgument);

    let mut raw = Raw::open(address).await;
    raw.send(Type::GetState, Vec::new()).await;
    assert_eq!(raw.next().await.unwrap_err().code(), Code::FailedPrecondition);

    let mut silent = Raw::open(address).await;
    assert_eq!(silent.next().await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn streams_are_bounded() {
    let mut config = config();
    config.max_registrations = 1;
    let peer = Peer::new(config);
    let address = peer.listen().await;
    let first = Raw::open(address).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
    let mut client = ChaincodeSupportClient::new(endpoint.unwrap().connect().await.unwrap());
    let second = client.register(futures::stream::pending()).await;
    assert_eq!(second.unwrap_err().code(), Code::ResourceExhausted);
    drop(first);
}
