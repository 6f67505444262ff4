//! A whole peer over real connections: start, join, blocks, queries, events, restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use support::CHANNEL;
use support::orderer::{FakeOrderer, bind};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::Channel as Transport;
use weft_channels::memory::MemoryStores;
use weft_channels::{Created, Opened, Removal, State, Stores};
use weft_config::Endpoint;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Kv, KvError};
use weft_msp::{MspManager, SigningIdentity};
use weft_ops::health::Health;
use weft_peer::peer::{Peer, PeerOptions};
use weft_protos::common::{Block, BlockchainInfo, Status};
use weft_protos::peer::chaincode_support_client::ChaincodeSupportClient;
use weft_protos::peer::deliver_client::DeliverClient;
use weft_protos::peer::endorser_client::EndorserClient;
use weft_protos::peer::{
    ChaincodeId, ChaincodeMessage, ChannelQueryResponse, ProposalResponse, chaincode_message,
    deliver_response,
};
use weft_rpc::connect::{
    ClientIdentity, ConnectOptions, Connector, Endpoint as Address, EndpointTls, Roots,
};
use weft_rpc::tls::{ReloadingTls, RootSet, TlsIdentity, certificates_from_pem};
use weft_settings::PeerSettings;
use weft_testkit::{Network, tx};
use weft_types::proposal::ProposalSpec;
use weft_types::seek::{Position, Seek};
use weft_types::{ChannelId, Timestamp, ValidationCode};

const SOON: Duration = Duration::from_secs(20);

struct World {
    network: Network,
    orderer: FakeOrderer,
    chain: Mutex<Vec<Block>>,
    store: Arc<dyn Kv>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let mut network = Network::new(2, 1);
        let orgs = network.orgs.clone();
        let server = bind(&network.orderers[0].tls, &orgs).await;
        network.orderers[0].endpoint = Endpoint::new("127.0.0.1", server.address().port());
        let genesis = network.genesis(CHANNEL);
        let orderer = server.serve(vec![genesis.clone()]);
        Self {
            network,
            orderer,
            chain: Mutex::new(vec![genesis]),
            store: Arc::new(MemoryKv::new()),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    async fn peer(&self, existing: &[&str]) -> Peer {
        let store = Arc::clone(&self.store);
        let stores = Arc::new(MemoryStores::new(move || Arc::clone(&store)));
        self.peer_with(existing, stores, &Health::new()).await
    }

    async fn peer_with(&self, existing: &[&str], stores: Arc<dyn Stores>, health: &Health) -> Peer {
        let org = self.network.org(1);
        let tls = org.tls("peer0", &["peer0"]);
        let key = tls.key_pem();
        let identity = TlsIdentity::from_pem(&tls.cert_pem(), key.as_bytes(), "peer").unwrap();
        let mut settings = PeerSettings {
            listen: "127.0.0.1:0".into(),
            external_address: "127.0.0.1:7051".into(),
            data_dir: self.dir.path().to_owned(),
            ..PeerSettings::default()
        };
        settings.chaincode.listen = "127.0.0.1:0".into();
        settings.deliver_client.min_backoff = Duration::from_millis(10);
        let roots = certificates_from_pem(org.tls_ca.certificate().pem().as_bytes(), "test");
        let roots = RootSet::fixed(roots.unwrap()).unwrap();
        let contract_tls = ReloadingTls::from_parts(Some(identity.clone()), RootSet::new(), roots);
        Peer::start(PeerOptions {
            contract_tls,
            settings,
            identity: org.peer.clone().into(),
            local_msp: Arc::new(MspManager::of(org.msp())).into(),
            tls: ReloadingTls::from_parts(Some(identity), RootSet::new(), RootSet::new()),
            stores,
            existing: existing.iter().map(|name| ChannelId::new(name).unwrap()).collect(),
            registry: prometheus::Registry::new(),
            health: health.clone(),
        })
        .await
        .unwrap()
    }

    async fn connect(&self, peer: &Peer) -> Transport {
        let roots = self.network.org(1).tls_ca.certificate().pem();
        let tls = EndpointTls {
            roots: Roots::Fixed(certificates_from_pem(roots.as_bytes(), "test").unwrap()),
            client: ClientIdentity::Anonymous,
            ..EndpointTls::default()
        };
        let limits = weft_settings::Limits::default();
        let nobody = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
        let connector = Connector::new(nobody, ConnectOptions::new(SOON, &limits));
        let address = Address { address: peer.address().to_string(), tls: Some(tls) };
        connector.connect(&address).await.unwrap()
    }

    /// How the port of contracts answers a client with this certificate that announces itself.
    async fn register(&self, peer: &Peer, shown: Option<TlsIdentity>) -> Code {
        let roots = self.network.org(1).tls_ca.certificate().pem();
        let tls = EndpointTls {
            roots: Roots::Fixed(certificates_from_pem(roots.as_bytes(), "test").unwrap()),
            client: shown.map_or(ClientIdentity::Anonymous, ClientIdentity::Fixed),
            ..EndpointTls::default()
        };
        let limits = weft_settings::Limits::default();
        let nobody = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
        let connector = Connector::new(nobody, ConnectOptions::new(SOON, &limits));
        let address = peer.chaincode_address().unwrap().to_string();
        let Ok(transport) = connector.connect(&Address { address, tls: Some(tls) }).await else {
            return Code::Unavailable;
        };
        let id = ChaincodeId { name: format!("cc:{}", "0".repeat(64)), ..Default::default() };
        let register = ChaincodeMessage {
            r#type: chaincode_message::Type::Register.into(),
            payload: id.encode_to_vec().into(),
            ..Default::default()
        };
        let mut client = ChaincodeSupportClient::new(transport);
        // Open until the peer has answered.
        let stream = tokio_stream::iter([register]).chain(tokio_stream::pending());
        match client.register(stream).await {
            Ok(stream) => stream.into_inner().message().await.unwrap_err().code(),
            Err(status) => status.code(),
        }
    }

    fn order(&self) -> String {
        let mut draft = support::Draft::new(self.network.org(1).client.clone());
        draft.endorsers = vec![self.network.org(1).peer.clone()];
        let mut chain = self.chain.lock();
        let signer = &self.network.orderers[0].identity;
        let next = tx::next_block(chain.last().unwrap(), 0, &[draft.envelope()], signer);
        chain.push(next.clone());
        self.orderer.push(next);
        draft.id()
    }
}

async fn call(
    transport: &Transport,
    signer: &SigningIdentity,
    channel: Option<&str>,
    chaincode: &str,
    args: &[&[u8]],
) -> ProposalResponse {
    let spec = ProposalSpec {
        channel_id: channel.map(|name| ChannelId::new(name).unwrap()),
        chaincode: chaincode.to_owned(),
        args: args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect(),
        transient: Default::default(),
        is_init: false,
        timestamp: Timestamp::from_system_time(std::time::SystemTime::now()),
        nonce: tx::nonce(),
    };
    let proposal = spec.sign(signer).unwrap().signed;
    EndorserClient::new(transport.clone()).process_proposal(proposal).await.unwrap().into_inner()
}

async fn filtered(
    transport: &Transport,
    signer: &SigningIdentity,
    seek: Seek,
) -> Vec<deliver_response::Type> {
    let now = Timestamp::from_system_time(std::time::SystemTime::now());
    let channel = ChannelId::new(CHANNEL).unwrap();
    let request = seek.sign(&channel, signer, now, tx::nonce(), Bytes::new()).unwrap();
    let mut client = DeliverClient::new(transport.clone());
    let requests = tokio_stream::iter([request]);
    let mut stream = client.deliver_filtered(requests).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        let content = response.r#type.unwrap();
        let ended = matches!(content, deliver_response::Type::Status(_));
        found.push(content);
        if ended {
            break;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_contracts_is_for_the_peers_own_organization() {
    let world = World::new().await;
    let peer = world.peer(&[]).await;
    let transport = world.connect(&peer).await;
    let genesis = world.chain.lock()[0].encode_to_vec();
    let admin = &world.network.org(1).admin;
    call(&transport, admin, None, "cscc", &[b"JoinChain", &genesis]).await;
    let of = |org: usize| {
        let tls = world.network.org(org).tls("contract", &["contract"]);
        TlsIdentity::from_pem(&tls.cert_pem(), tls.key_pem().as_bytes(), "contract").unwrap()
    };
    // This one reaches the question which package it is for.
    assert_eq!(world.register(&peer, Some(of(1))).await, Code::PermissionDenied);
    assert_ne!(world.register(&peer, None).await, Code::PermissionDenied);
    // The channel's members are trusted on the peer's other port only.
    assert_ne!(world.register(&peer, Some(of(2))).await, Code::PermissionDenied);
    peer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_joins_commits_tells_and_goes_on_after_a_restart() {
    let world = World::new().await;
    let peer = world.peer(&[]).await;
    let transport = world.connect(&peer).await;
    let org = world.network.org(1);

    let genesis = world.chain.lock()[0].encode_to_vec();
    let refused = call(&transport, &org.client, None, "cscc", &[b"JoinChain", &genesis]).await;
    assert_eq!(refused.response.unwrap().status, 500, "clients may not join");
    let joined = call(&transport, &org.admin, None, "cscc", &[b"JoinChain", &genesis]).await;
    let answer = joined.response.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.message);
    let channels = call(&transport, &org.client, None, "cscc", &[b"GetChannels"]).await;
    let channels = ChannelQueryResponse::decode(channels.response.unwrap().payload).unwrap();
    assert_eq!(channels.channels[0].channel_id, CHANNEL);

    let id = world.order();
    let channel = peer.channels().get_str(CHANNEL).unwrap();
    let status = tokio::time::timeout(SOON, channel.commit_status(&id)).await.unwrap().unwrap();
    assert_eq!(status.code, ValidationCode::InvalidChaincode);

    let everything = Seek::range(
        Position::Oldest,
        Position::Newest,
        weft_protos::orderer::seek_info::SeekBehavior::FailIfNotReady,
    );
    let events = filtered(&transport, &org.client, everything).await;
    let deliver_response::Type::FilteredBlock(block) = &events[1] else { panic!("{events:?}") };
    assert_eq!((block.number, block.channel_id.as_str()), (1, CHANNEL));
    assert_eq!(block.filtered_transactions[0].txid, id);
    assert_eq!(
        block.filtered_transactions[0].tx_validation_code(),
        ValidationCode::InvalidChaincode
    );
    assert_eq!(events.last(), Some(&deliver_response::Type::Status(Status::Success.into())));
    let stranger = weft_testkit::Org::new("Org1MSP").client;
    let events = filtered(&transport, &stranger, everything).await;
    assert_eq!(events, [deliver_response::Type::Status(Status::Forbidden.into())]);

    drop(transport);
    tokio::time::timeout(SOON, peer.shutdown()).await.unwrap();

    let peer = world.peer(&[CHANNEL]).await;
    world.order();
    let channel = peer.channels().get_str(CHANNEL).unwrap();
    let mut height = channel.height_watch();
    tokio::time::timeout(SOON, height.wait_for(|height| *height == 3)).await.unwrap().unwrap();
    let transport = world.connect(&peer).await;
    let info = call(
        &transport,
        &org.client,
        Some(CHANNEL),
        "qscc",
        &[b"GetChainInfo", CHANNEL.as_bytes()],
    )
    .await;
    let info = BlockchainInfo::decode(info.response.unwrap().payload).unwrap();
    assert_eq!(info.height, 3);
    peer.shutdown().await;
}

/// Stores of which that of one channel is damaged.
struct Damaged {
    sound: MemoryStores,
    channel: ChannelId,
}

impl Stores for Damaged {
    fn open(&self, channel: &ChannelId) -> Result<Opened, KvError> {
        if *channel == self.channel {
            return Err(KvError::Corrupt { what: "a checksum of its manifest".to_owned() });
        }
        self.sound.open(channel)
    }

    fn keep(&self, created: &Created) -> Result<(), KvError> {
        self.sound.keep(created)
    }

    fn list(&self) -> Result<Vec<ChannelId>, KvError> {
        Ok(vec![self.channel.clone(), ChannelId::new(CHANNEL).unwrap()])
    }

    fn remove(&self, removal: &Removal) -> Result<(), KvError> {
        panic!("{removal:?}: nobody asked for that")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_channel_leaves_the_others_serving() {
    let world = World::new().await;
    let peer = world.peer(&[]).await;
    let genesis = world.chain.lock()[0].clone();
    peer.channels().join(genesis).await.unwrap();
    peer.shutdown().await;

    let store = Arc::clone(&world.store);
    let sound = MemoryStores::new(move || Arc::clone(&store));
    let other = ChannelId::new("other").unwrap();
    let stores = Arc::new(Damaged { sound, channel: other.clone() });
    let health = Health::new();
    let peer = world.peer_with(&[CHANNEL, "other"], stores, &health).await;

    let id = world.order();
    let channel = peer.channels().get_str(CHANNEL).unwrap();
    let status = tokio::time::timeout(SOON, channel.commit_status(&id)).await.unwrap().unwrap();
    assert_eq!(status.block, 1);

    // It is told, and no reason to restart the peer.
    assert_eq!(health.run().await, []);
    let degraded = health.degraded();
    assert_eq!(degraded[0].component, "channels/other");
    assert!(degraded[0].reason.contains("a checksum of its manifest"), "{degraded:?}");
    let transport = world.connect(&peer).await;
    let org = world.network.org(1);
    let channels = call(&transport, &org.client, None, "cscc", &[b"GetChannels"]).await;
    let channels = ChannelQueryResponse::decode(channels.response.unwrap().payload).unwrap();
    let names: Vec<_> = channels.channels.iter().map(|one| one.channel_id.as_str()).collect();
    assert_eq!(names, ["other", CHANNEL]);
    // It cannot be joined over.
    let joined = peer.channels().join(world.network.genesis("other")).await;
    assert!(joined.unwrap_err().to_string().contains("already"));
    peer.channels().reaches(&other, |state| matches!(state, Some(State::Failed(_)))).await;
    drop(transport);
    peer.shutdown().await;
}
