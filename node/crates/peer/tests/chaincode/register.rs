//! Contracts that dial the peer.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, Streaming};
use weft_peer::chaincode::package::Connection;
use weft_protos::peer::chaincode_message::Type;
use weft_protos::peer::chaincode_support_client::ChaincodeSupportClient;
use weft_protos::peer::{ChaincodeId, ChaincodeMessage};
use weft_settings::ClientAuth;

use crate::contract::contract;
use crate::pki::{self, Shown, certificate};
use crate::state::MemoryState;
use crate::support::{Peer, config, eventually, register, register_showing};

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
        let (_, server) = peer.listen_at(&address.to_string(), ClientAuth::Required).await;
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
    let (address, _) = peer.listen_at("127.0.0.1:0", ClientAuth::Optional).await;
    let _contract = register_showing("cc:1.0", address, None, contract());
    assert_eq!(peer.ask(&mut MemoryState::default(), &["Get", "a"]).await.unwrap(), "none");
}

async fn connect(
    address: SocketAddr,
    shown: Option<Shown>,
) -> Result<Channel, tonic::transport::Error> {
    let roots = std::fs::read(pki::roots_file()).unwrap();
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
    if let Some((certificate, key)) = shown {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await
}

/// A stream to the peer, at the level of messages.
struct Raw {
    out: mpsc::Sender<ChaincodeMessage>,
    inbound: Streaming<ChaincodeMessage>,
}

impl Raw {
    async fn open(address: SocketAddr, shown: Shown) -> Self {
        let (out, outbox) = mpsc::channel(16);
        let mut client = ChaincodeSupportClient::new(connect(address, Some(shown)).await.unwrap());
        let inbound = client.register(ReceiverStream::new(outbox)).await.unwrap().into_inner();
        Self { out, inbound }
    }

    /// What becomes of a client that shows this certificate and announces `id`.
    async fn announced(address: SocketAddr, shown: Shown, id: &str) -> Result<Type, Status> {
        let mut raw = Self::open(address, shown).await;
        raw.announce(id).await;
        raw.next().await
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
    let address = peer.listen().await;
    let mut raw = Raw::open(address, certificate(&[&id])).await;
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
    let mut second = Raw::open(address, certificate(&[&id])).await;
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

    let refused = Raw::announced(address, certificate(&[&unknown]), &unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("no such package is installed"), "{refused:?}");

    let mut raw = Raw::open(address, pki::member()).await;
    raw.announce("").await;
    assert_eq!(raw.next().await.unwrap_err().code(), Code::InvalidArgument);

    let mut raw = Raw::open(address, pki::member()).await;
    raw.send(Type::Register, vec![0xff]).await;
    assert_eq!(raw.next().await.unwrap_err().code(), Code::InvalidArgument);

    let mut raw = Raw::open(address, pki::member()).await;
    raw.send(Type::GetState, Vec::new()).await;
    assert_eq!(raw.next().await.unwrap_err().code(), Code::FailedPrecondition);

    let mut silent = Raw::open(address, pki::member()).await;
    assert_eq!(silent.next().await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn streams_are_bounded() {
    let mut config = config();
    config.max_registrations = 1;
    let peer = Peer::new(config);
    let address = peer.listen().await;
    let first = Raw::open(address, pki::member()).await;
    let channel = connect(address, Some(pki::member())).await.unwrap();
    let mut client = ChaincodeSupportClient::new(channel);
    let second = client.register(futures::stream::pending()).await;
    assert_eq!(second.unwrap_err().code(), Code::ResourceExhausted);
    drop(first);
}

/// A service that the peer dials.
fn dialled() -> Connection {
    Connection::plain("127.0.0.1:9")
}

#[tokio::test]
async fn a_dialled_package_cannot_be_registered() {
    let mut peer = Peer::new(config());
    let id = peer.install("cc", &dialled());
    let address = peer.listen().await;
    let refused = Raw::announced(address, certificate(&[&id]), &id).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("which the peer dials"), "{refused:?}");
    assert!(!peer.runtime.is_connected(&id));
}

#[tokio::test]
async fn only_the_certificate_of_the_package_registers_it() {
    let mut peer = Peer::new(config());
    let other = peer.install("other", &dials());
    let id = peer.install("cc", &dials());
    let address = peer.listen().await;
    let refused = async |shown| {
        let refused = Raw::announced(address, shown, &id).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(!peer.runtime.is_connected(&id));
        refused.message().to_owned()
    };
    let text = refused(certificate(&[&other])).await;
    assert!(text.ends_with(&format!("is for {other}")), "{text}");
    let text = refused(certificate(&[&id, &other])).await;
    assert!(text.contains("is for several packages"), "{text}");
    let text = refused(pki::member()).await;
    assert!(text.contains(&format!("the URI weft:chaincode:{id} ")), "{text}");

    let admitted = Raw::announced(address, certificate(&[&id]), &id).await;
    assert_eq!(admitted.unwrap(), Type::Registered);
}

#[tokio::test]
async fn without_a_certificate_of_the_right_authority_there_is_no_connection() {
    let mut peer = Peer::new(config());
    let id = peer.install("cc", &dials());
    let address = peer.listen().await;
    for shown in [None, Some(pki::foreign(&id))] {
        // With TLS 1.3 the client may learn of it with the first call only.
        if let Ok(channel) = connect(address, shown).await {
            let mut client = ChaincodeSupportClient::new(channel);
            let stream = client.register(futures::stream::pending()).await;
            assert_eq!(stream.unwrap_err().code(), Code::Unknown);
        }
    }
    let admitted = Raw::announced(address, certificate(&[&id]), &id).await;
    assert_eq!(admitted.unwrap(), Type::Registered);
}

#[tokio::test]
async fn a_port_that_asks_for_no_certificate_still_needs_the_packages() {
    let mut peer = Peer::new(config());
    let id = peer.install("cc", &dials());
    let (address, _) = peer.listen_at("127.0.0.1:0", ClientAuth::Optional).await;
    let mut client = ChaincodeSupportClient::new(connect(address, None).await.unwrap());
    let (out, outbox) = mpsc::channel(16);
    let inbound = client.register(ReceiverStream::new(outbox)).await.unwrap().into_inner();
    let mut raw = Raw { out, inbound };
    raw.announce(&id).await;
    assert_eq!(raw.next().await.unwrap_err().code(), Code::PermissionDenied);
}
