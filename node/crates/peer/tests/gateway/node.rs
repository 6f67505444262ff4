//! A peer whose endorser is scripted, with its services on a loopback port, mostly without TLS.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel as Transport;
use tonic::{Request, Response as Reply, Status};
use weft_msp::{NodeMsp, SigningIdentity};
use weft_peer::channel::Channel;
use weft_peer::discovery::endorsers::Endorsers;
use weft_peer::discovery::{self, Discovery};
use weft_peer::gateway::{self, Gateway, LocalEndorser, LocalRefusal};
use weft_peer::membership::{self, GossipService, LocalChaincodes, Membership, Place};
use weft_protos::discovery::discovery_client::DiscoveryClient;
use weft_protos::discovery::discovery_server::DiscoveryServer;
use weft_protos::gateway::gateway_client::GatewayClient;
use weft_protos::gateway::gateway_server::GatewayServer;
use weft_protos::gossip::gossip_server::GossipServer;
use weft_protos::peer::endorser_server::{Endorser, EndorserServer};
use weft_protos::peer::{
    ChaincodeEvent, ChaincodeId, ChaincodeInterest, ProposalResponse, Response, SignedProposal,
};
use weft_rpc::connect::{ChannelPool, ConnectOptions, Connector};
use weft_rpc::listen::Security;
use weft_rpc::server::{GrpcOptions, GrpcServer};
use weft_rpc::tls::{CertificateDer, ClientAuth, ReloadingTls, RootSet, TlsIdentity};
use weft_types::proposal::{self, ParsedProposal, Simulation};

use crate::world::{TestPeer, World};

/// What an endorser does with the next proposal.
#[derive(Clone, Debug)]
pub enum Script {
    /// Endorses this result.
    Endorse(&'static str),
    /// The chaincode answers with an error.
    Chaincode(i32, &'static str),
    /// The peer cannot run the chaincode.
    Peer(&'static str),
    /// The proposal is not acceptable.
    Refuse(&'static str),
    /// No answer.
    Hang,
}

pub struct FakeEndorser {
    identity: SigningIdentity,
    script: Mutex<VecDeque<Script>>,
    pub interest: Mutex<ChaincodeInterest>,
    pub asked: AtomicUsize,
}

impl FakeEndorser {
    /// The next answers; when they are used up, everything is endorsed as `ok`.
    pub fn script(&self, script: impl IntoIterator<Item = Script>) {
        *self.script.lock() = script.into_iter().collect();
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn answer(&self, signed: SignedProposal) -> Result<ProposalResponse, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let script = self.script.lock().pop_front().unwrap_or(Script::Endorse("ok"));
        let parsed = ParsedProposal::parse(signed).unwrap();
        let response = |status: i32, message: &str, payload: &str| Response {
            status,
            message: message.to_owned(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
        };
        let simulation = |response| Simulation {
            results: Bytes::new(),
            events: Bytes::new(),
            response,
            chaincode_id: ChaincodeId { name: parsed.chaincode.clone(), ..Default::default() },
        };
        match script {
            Script::Endorse(result) => {
                let simulation = simulation(response(200, "", result));
                let mut endorsed = proposal::endorse(&parsed, simulation, &self.identity).unwrap();
                endorsed.interest = Some(self.interest.lock().clone());
                Ok(endorsed)
            }
            Script::Chaincode(status, message) => Ok(ProposalResponse {
                response: Some(response(status, message, "")),
                payload: proposal::response_payload(
                    &parsed.proposal_hash,
                    simulation(response(status, message, "")),
                ),
                ..ProposalResponse::default()
            }),
            Script::Peer(message) => Ok(ProposalResponse {
                response: Some(response(500, message, "")),
                ..ProposalResponse::default()
            }),
            Script::Refuse(message) => Err(message.to_owned()),
            Script::Hang => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl LocalEndorser for FakeEndorser {
    async fn process(&self, proposal: SignedProposal) -> Result<ProposalResponse, LocalRefusal> {
        let answer = self.answer(proposal).await;
        answer.map_err(|message| LocalRefusal { message, retry: false })
    }
}

struct Served(Arc<FakeEndorser>);

#[tonic::async_trait]
impl Endorser for Served {
    async fn process_proposal(
        &self,
        request: Request<SignedProposal>,
    ) -> Result<Reply<ProposalResponse>, Status> {
        let answer = self.0.answer(request.into_inner()).await;
        answer.map(Reply::new).map_err(Status::unknown)
    }
}

/// The chaincodes that a node can run.
#[derive(Default)]
pub struct Chaincodes(pub Mutex<Vec<(String, i64)>>);

impl LocalChaincodes for Chaincodes {
    fn chaincodes(&self, _: &Channel) -> Vec<(String, i64)> {
        self.0.lock().clone()
    }
}

/// How a node is set up.
#[derive(Default)]
pub struct Setup {
    pub gateway: gateway::Options,
    pub private_data: weft_settings::PrivateData,
    pub tls: Option<ReloadingTls>,
    pub max_streams: Option<usize>,
    /// The address that it tells others, where that is not its own.
    pub told_address: Option<String>,
}

pub struct Node {
    pub peer: TestPeer,
    pub identity: SigningIdentity,
    /// What it speaks as; can be renewed while it runs.
    pub msp: NodeMsp,
    pub address: String,
    pub endorser: Arc<FakeEndorser>,
    pub chaincodes: Arc<Chaincodes>,
    pub membership: Membership,
    pub transport: Transport,
    tls: Option<ReloadingTls>,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    /// A node of an organization that knows of `known` and has the chaincode `asset`.
    pub async fn start(world: &World, org: usize, name: &str, known: &[&Node]) -> Self {
        Self::start_with(
            world,
            org,
            name,
            known,
            gateway::Options {
                endorsement_timeout: Duration::from_secs(2),
                broadcast_timeout: Duration::from_secs(2),
                ..gateway::Options::default()
            },
        )
        .await
    }

    pub async fn start_with(
        world: &World,
        org: usize,
        name: &str,
        known: &[&Node],
        options: gateway::Options,
    ) -> Self {
        let setup = Setup { gateway: options, ..Setup::default() };
        Self::start_on(world, org, name, known, setup).await
    }

    /// As [`Node::start`], with TLS: certificates are asked for and shown both ways.
    pub async fn start_secure(world: &World, org: usize, name: &str, known: &[&Node]) -> Self {
        let setup = Setup { tls: Some(tls_of(world, org, name)), ..Setup::default() };
        Self::start_on(world, org, name, known, setup).await
    }

    pub async fn start_on(
        world: &World,
        org: usize,
        name: &str,
        known: &[&Node],
        setup: Setup,
    ) -> Self {
        let Setup { gateway: options, private_data, tls, max_streams, told_address } = setup;
        let peer = world.peer(org).await;
        let identity = world.network.org(org).identity(name, weft_msp::NodeRole::Peer);
        let config = world.network.org(org).msp_config();
        let msp = NodeMsp::new(config, identity.clone()).unwrap();
        let limits = weft_settings::Limits::default();
        let security = match &tls {
            Some(tls) => Security::tls(tls, ClientAuth::Optional),
            None => Security::Plain,
        };
        let server = GrpcServer::bind("127.0.0.1:0", GrpcOptions::from(&limits), security, None);
        let server = server.await.unwrap();
        let address = server.local_addr().to_string();
        let endorser = Arc::new(FakeEndorser {
            identity: identity.clone(),
            script: Mutex::default(),
            interest: Mutex::default(),
            asked: AtomicUsize::new(0),
        });
        let chaincodes = Arc::new(Chaincodes(Mutex::new(vec![("asset".to_owned(), 1)])));
        let stop = CancellationToken::new();
        let pool = pool_of(tls.as_ref());
        let deps = membership::Deps {
            channels: Arc::clone(&peer.channels),
            acl: peer.parts.acl.clone(),
            identity: msp.identity().clone(),
            chaincodes: chaincodes.clone(),
            tls: tls.clone(),
            connector: pool.connector().clone(),
        };
        let told = told_address.as_ref().unwrap_or(&address);
        let mut settings = membership::Options::new(told);
        settings.known = known.iter().map(|node| node.place()).collect();
        settings.interval = Duration::from_millis(100);
        settings.expiry = Duration::from_secs(1);
        settings.private_data = private_data;
        settings.max_streams = max_streams.unwrap_or(settings.max_streams);
        let membership = Membership::new(deps, settings).unwrap();
        peer.exchange.set(Arc::new(membership.clone()));
        tokio::spawn(membership.clone().run(stop.clone()));
        let endorsers = Endorsers::new(membership.clone());
        let gateway = Gateway::new(
            gateway::Deps {
                channels: Arc::clone(&peer.channels),
                acl: peer.parts.acl.clone(),
                endorsers: endorsers.clone(),
                endorser: endorser.clone(),
                pool,
                tls: tls.is_some(),
                shutdown: stop.clone(),
            },
            options,
        );
        let discovery = Discovery::new(
            Arc::clone(&peer.channels),
            peer.parts.acl.clone(),
            endorsers,
            discovery::Options {
                org_members_allowed: false,
                concurrency: 8,
                answer_bytes: 1 << 18,
            },
        );
        let gossip = GossipService::new(membership.clone(), stop.clone());
        let gossip_limit = membership.message_limit();
        let routes = Routes::new(GatewayServer::new(gateway))
            .add_service(DiscoveryServer::new(discovery))
            .add_service(EndorserServer::new(Served(Arc::clone(&endorser))))
            .add_service(GossipServer::new(gossip).max_decoding_message_size(gossip_limit));
        tokio::spawn(server.serve(routes, stop.clone().cancelled_owned()));
        let transport = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let transport = transport.unwrap().connect_lazy();
        Self {
            peer,
            identity,
            msp,
            address,
            endorser,
            chaincodes,
            membership,
            transport,
            tls,
            stop,
        }
    }

    /// Puts new certificates in place, both of them, as a renewal does; returns the identity.
    pub fn renew(&self, world: &World, org: usize, name: &str) -> SigningIdentity {
        let of = world.network.org(org);
        if let Some(tls) = &self.tls {
            tls.set_identity(tls_identity(world, org, name));
        }
        let renewed = of.identity(name, weft_msp::NodeRole::Peer);
        self.msp.renew(of.msp_config(), renewed.clone(), weft_testkit::clock::NOW).unwrap();
        renewed
    }

    pub fn place(&self) -> Place {
        Place { org: self.identity.msp_id().clone(), address: self.address.clone() }
    }

    pub fn gateway(&self) -> GatewayClient<Transport> {
        GatewayClient::new(self.transport.clone())
    }

    pub fn discovery(&self) -> DiscoveryClient<Transport> {
        DiscoveryClient::new(self.transport.clone())
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until this node knows that many peers of the channel, itself included.
    pub async fn sees(&self, count: usize) {
        until(|| {
            let peers = self.membership.channel_peers(&self.peer.channel());
            peers.iter().filter(|peer| peer.state.has("asset")).count() == count
        })
        .await;
    }
}

/// The TLS of a peer, which trusts the authorities of everybody on the channel.
pub fn tls_of(world: &World, org: usize, name: &str) -> ReloadingTls {
    let network = &world.network;
    let orgs = [network.org(1), network.org(2), &network.orderer_org];
    let roots = orgs.map(|org| CertificateDer::from(org.tls_ca.certificate().der().to_vec()));
    let trusted = || RootSet::fixed(roots.to_vec()).unwrap();
    ReloadingTls::from_parts(Some(tls_identity(world, org, name)), trusted(), trusted())
}

fn tls_identity(world: &World, org: usize, name: &str) -> TlsIdentity {
    let issued = world.network.org(org).tls(name, &[]);
    TlsIdentity::from_pem(&issued.cert_pem(), issued.key_pem().as_bytes(), name).unwrap()
}

pub fn pool() -> ChannelPool {
    pool_of(None)
}

fn pool_of(tls: Option<&ReloadingTls>) -> ChannelPool {
    let limits = weft_settings::Limits::default();
    let none = || ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
    let tls = tls.cloned().unwrap_or_else(none);
    let options = ConnectOptions::new(Duration::from_secs(1), &limits);
    ChannelPool::new(Connector::new(tls, options), 16)
}

/// Waits until something holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it holds in time");
}

/// An event of a chaincode, encoded.
pub fn event(chaincode: &str, tx_id: &str, name: &str) -> Bytes {
    use prost::Message as _;
    let event = ChaincodeEvent {
        chaincode_id: chaincode.to_owned(),
        tx_id: tx_id.to_owned(),
        event_name: name.to_owned(),
        payload: Bytes::new(),
    };
    event.encode_to_vec().into()
}
