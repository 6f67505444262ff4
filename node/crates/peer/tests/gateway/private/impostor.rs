//! Somebody between two peers, who passes on what they say of themselves as his own.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use weft_msp::{NodeRole, SigningIdentity};
use weft_peer::membership::message;
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::gossip_server::{Gossip, GossipServer};
use weft_protos::gossip::{Empty, Envelope};
use weft_rpc::connect::{ConnectOptions, Connector, Endpoint};
use weft_rpc::listen::Security;
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_rpc::tls::{CertificateDer, ClientAuth, ReloadingTls, RootSet, TlsIdentity};
use weft_testkit::Org;

use super::fake::{id_of, takes};
use super::hostile::Raw;
use super::{asking, implicit, push, quick};
use crate::node::{Node, Setup, tls_of, until};
use crate::world::World;

/// What happened to somebody in between.
#[derive(Default)]
struct Log {
    /// Streams that were opened to him.
    opened: usize,
    /// What he was sent after the first message.
    sent: Vec<Content>,
    /// What the true peer said to the first message of another.
    refused: Vec<Code>,
}

/// A gossip service at the address of another peer.
#[derive(Clone)]
struct Impostor {
    /// The true peer's address.
    victim: Arc<Mutex<String>>,
    signer: SigningIdentity,
    tls: ReloadingTls,
    log: Arc<Mutex<Log>>,
}

impl Impostor {
    /// One with a peer's identity of the orderers' organization and a TLS certificate of `authority`.
    async fn start(world: &World, authority: &Org) -> (Self, String, DropGuard) {
        let network = &world.network;
        let issued = authority.tls("impostor", &[]);
        let own =
            TlsIdentity::from_pem(&issued.cert_pem(), issued.key_pem().as_bytes(), "it").unwrap();
        let orgs = [network.org(1), network.org(2), &network.orderer_org];
        let roots = orgs.map(|org| CertificateDer::from(org.tls_ca.certificate().der().to_vec()));
        let trusted = || RootSet::fixed(roots.to_vec()).unwrap();
        let tls = ReloadingTls::from_parts(Some(own), trusted(), trusted());
        let grpc = GrpcOptions::from(&weft_settings::Limits::default());
        let security = Security::tls(&tls, ClientAuth::Optional);
        let server = GrpcServer::bind("127.0.0.1:0", grpc, security, None).await.unwrap();
        let address = server.local_addr().to_string();
        let signer = network.orderer_org.identity("impostor", NodeRole::Peer);
        let impostor = Self { victim: Arc::default(), signer, tls, log: Arc::default() };
        let stop = CancellationToken::new();
        let routes = Routes::new(GossipServer::new(impostor.clone()));
        tokio::spawn(server.serve(routes, stop.clone().cancelled_owned()));
        (impostor, address, stop.drop_guard())
    }

    /// A stream to the true peer that begins with `hello`.
    async fn call(&self, hello: Envelope) -> Result<Raw, Status> {
        let limits = weft_settings::Limits::default();
        let options = ConnectOptions::new(Duration::from_secs(5), &limits);
        let connector = Connector::new(self.tls.clone(), options);
        let victim = self.victim.lock().clone();
        let connection = connector.connection(&Endpoint::tls(victim)).await.unwrap();
        Raw::open_on(connection.channel(), hello).await
    }

    /// What the true peer says of itself to one who says truly who he is.
    async fn hello_of_victim(&self) -> Envelope {
        let hash = self.tls.identity().unwrap().leaf_sha256().to_vec();
        let own = message::connect(&self.signer, id_of(&self.signer), hash.into()).unwrap();
        self.call(own).await.expect("the true peer knows him").hello
    }
}

#[tonic::async_trait]
impl Gossip for Impostor {
    type GossipStreamStream = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

    async fn gossip_stream(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::GossipStreamStream>, Status> {
        let mut inbound = request.into_inner();
        self.log.lock().opened += 1;
        let (to, answers) = mpsc::channel(8);
        to.send(Ok(self.hello_of_victim().await)).await.unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            let Ok(Some(hello)) = inbound.message().await else { return };
            if let Err(status) = this.call(hello).await {
                this.log.lock().refused.push(status.code());
            }
            while let Ok(Some(envelope)) = inbound.message().await {
                let message = message::open(&envelope).unwrap();
                this.log.lock().sent.extend(message.content.clone());
                if let Some(answer) = takes(&message) {
                    let _ = to.send(Ok(answer)).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn ping(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}

/// Two peers, of which the first finds an impostor where the second says to be.
async fn between(world: &World, authority: &Org) -> (Node, Node, Impostor, DropGuard) {
    let (impostor, address, stop) = Impostor::start(world, authority).await;
    let secure = |org, name| Setup { tls: Some(tls_of(world, org, name)), ..quick() };
    let a = Node::start_on(world, 1, "peer0", &[], secure(1, "peer0")).await;
    let told = Setup { told_address: Some(address), ..secure(2, "peer0") };
    let b = Node::start_on(world, 2, "peer0", &[&a], told).await;
    *impostor.victim.lock() = b.address.clone();
    a.sees(2).await;
    (a, b, impostor, stop)
}

/// An organization with its own TLS authority at the address of another's peer.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_organization_is_not_taken_for_a_peer() {
    let world = World::new().await;
    let (a, b, impostor, _stop) = between(&world, &world.network.orderer_org).await;
    let secret = push(asking(implicit(2), 1, 1), "secret");
    assert_eq!(a.pushes(&secret).await, Err((0, 1)));
    assert_eq!(impostor.log.lock().opened, 0, "nothing was said to him");
    assert!(impostor.log.lock().sent.is_empty());
    assert!(b.held(&secret).is_empty());
}

/// Even with a certificate of the right authority nobody can pass on another's first message: not
/// the one of who is called to the caller, and not the one of the caller to who is called.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_says_of_itself_holds_on_its_own_connection_only() {
    let world = World::new().await;
    let (a, b, impostor, _stop) = between(&world, world.network.org(2)).await;
    let secret = push(asking(implicit(2), 1, 1), "secret");
    assert_eq!(a.pushes(&secret).await, Err((0, 1)));
    until(|| !impostor.log.lock().refused.is_empty()).await;
    let log = impostor.log.lock();
    assert!(log.opened > 0);
    assert!(log.refused.iter().all(|code| *code == Code::Unauthenticated), "{:?}", log.refused);
    assert!(log.sent.is_empty(), "{:?}", log.sent);
    assert!(b.held(&secret).is_empty());
}
