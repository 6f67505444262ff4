//! Peers of two organizations on one channel.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tempfile::TempDir;
use weft_channels::memory::MemoryStores;
use weft_config::Endpoint;
use weft_config::genesis::{self, ChannelProfile};
use weft_ledger::simulator::QueryLimits;
use weft_msp::{NodeMsp, SigningIdentity};
use weft_peer::acl::Acl;
use weft_peer::chaincode::package::{Connection, Label, Package, PackageStore};
use weft_peer::chaincode::{Runtime, RuntimeConfig};
use weft_peer::channel::{Channel, ChannelDeps, Channels};
use weft_peer::commit::Pool;
use weft_peer::deliver_client::DeliverClientConfig;
use weft_peer::endorser::{Endorser, EndorserError, EndorserParts, TIME_WINDOW};
use weft_peer::lifecycle::{LedgerDefinitions, Sources};
use weft_peer::private::Later;
use weft_peer::syscc::SystemChaincodes;
use weft_protos::common::{Block, Config, Envelope};
use weft_protos::lifecycle::chaincode_source::{Local, Type as SourceType};
use weft_protos::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, ChaincodeSource, CommitChaincodeDefinitionArgs,
    InstallChaincodeArgs, InstallChaincodeResult,
};
use weft_protos::peer::{CollectionConfigPackage, ProposalResponse, Response};
use weft_rpc::connect::{ConnectOptions, Connector};
use weft_rpc::tls::{ReloadingTls, RootSet, TlsIdentity};
use weft_testkit::clock::NOW;
use weft_testkit::{Network, tx};
use weft_types::block::metadata;
use weft_types::proposal::{BuiltSignedProposal, ProposalSpec};
use weft_types::{ChannelId, Signer, ValidationCode, transaction};

use crate::support::CHANNEL;
use crate::support::orderer::{FakeOrderer, bind};

const SOON: Duration = Duration::from_secs(20);

/// An orderer and the chain it makes.
pub struct World {
    pub network: Network,
    orderer: FakeOrderer,
    chain: Mutex<Vec<Block>>,
}

/// A peer without listeners.
pub struct TestPeer {
    pub org: usize,
    pub endorser: Endorser,
    pub msp: NodeMsp,
    pub parts: EndorserParts,
    pub channels: Arc<Channels>,
    pub sources: Arc<Sources>,
    /// Other peers, where a test has some.
    pub exchange: Later,
    _dir: TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A world whose channel is a little different.
    pub async fn with(change: impl FnOnce(&mut ChannelProfile)) -> Self {
        let mut network = Network::new(2, 1);
        let orgs = network.orgs.clone();
        let server = bind(&network.orderers[0].tls, &orgs).await;
        network.orderers[0].endpoint = Endpoint::new("127.0.0.1", server.address().port());
        let mut profile = network.profile(CHANNEL);
        change(&mut profile);
        let genesis = genesis::block(&profile).unwrap();
        let orderer = server.serve(vec![genesis.clone()]);
        Self { network, orderer, chain: Mutex::new(vec![genesis]) }
    }

    pub fn genesis(&self) -> Block {
        self.chain.lock()[0].clone()
    }

    pub fn client(&self, org: usize) -> &SigningIdentity {
        &self.network.org(org).client
    }

    pub fn admin(&self, org: usize) -> &SigningIdentity {
        &self.network.org(org).admin
    }

    /// A peer that has joined no channel.
    pub fn lone_peer(&self, org: usize) -> TestPeer {
        self.lone_peer_on(org, MemoryStores::default())
    }

    fn lone_peer_on(&self, org: usize, stores: MemoryStores) -> TestPeer {
        let dir = tempfile::tempdir().unwrap();
        let packages = PackageStore::open(dir.path().join("packages")).unwrap();
        let of = self.network.org(org);
        let msp = NodeMsp::new(of.msp_config(), of.peer.clone()).unwrap();
        let tls = of.tls("peer0", &["peer0"]);
        let identity =
            TlsIdentity::from_pem(&tls.cert_pem(), tls.key_pem().as_bytes(), "peer").unwrap();
        let tls = ReloadingTls::from_parts(Some(identity), RootSet::new(), RootSet::new());
        let limits = weft_settings::Limits::default();
        let settings = weft_settings::DeliverClient {
            min_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(200),
            ..Default::default()
        };
        let options = ConnectOptions::new(settings.dial_timeout, &limits);
        let exchange = Later::new();
        let channels = Channels::new(ChannelDeps {
            stores: Arc::new(stores),
            pool: Pool::new(1).unwrap(),
            definitions: Arc::new(LedgerDefinitions),
            identity: msp.identity().clone(),
            connector: Connector::new(tls.clone(), options),
            tls,
            deliver_client: DeliverClientConfig { settings, max_message_bytes: 64 << 20 },
            query_limits: QueryLimits::default(),
            history: true,
            max_waiters: 100,
            metrics: None,
            exchange: exchange.clone(),
            pull_timeout: Duration::from_secs(5),
        });
        let acl = Acl::new(msp.msps().clone(), of.msp_id.clone());
        let sources = Arc::new(Sources::new(packages.clone(), of.msp_id.clone()).unwrap());
        let runtime = RuntimeConfig {
            execute_timeout: Duration::from_secs(5),
            startup_timeout: Duration::from_secs(2),
            ..RuntimeConfig::default()
        };
        let system = SystemChaincodes::new(
            Arc::clone(&channels),
            acl.clone(),
            Arc::clone(&sources),
            1024 * 1024,
        );
        let parts = EndorserParts {
            channels: Arc::clone(&channels),
            acl,
            runtime: Runtime::new(runtime, packages, None),
            exchange: Some(Arc::new(exchange.clone())),
            system,
            sources: Arc::clone(&sources),
            identity: msp.identity().clone(),
            keeps_history: true,
            max_concurrent: 16,
            time_window: TIME_WINDOW,
        };
        let endorser = Endorser::new(parts.clone());
        TestPeer { org, endorser, msp, parts, channels, sources, exchange, _dir: dir }
    }

    pub async fn peer(&self, org: usize) -> TestPeer {
        self.peer_on(org, MemoryStores::default()).await
    }

    /// A peer that has joined the channel and keeps it in a store of these.
    pub async fn peer_on(&self, org: usize, stores: MemoryStores) -> TestPeer {
        let peer = self.lone_peer_on(org, stores);
        peer.channels.join(self.genesis()).await.unwrap();
        peer
    }

    /// Orders a block of these transactions, and waits until all `peers` have it. Gives the
    /// validation codes, which are the same at all of them.
    pub async fn order(&self, peers: &[&TestPeer], envelopes: &[Envelope]) -> Vec<ValidationCode> {
        let height = {
            let mut chain = self.chain.lock();
            let signer = &self.network.orderers[0].identity;
            let next = tx::next_block(chain.last().unwrap(), 0, envelopes, signer);
            self.orderer.push(next.clone());
            chain.push(next);
            chain.len() as u64
        };
        let mut codes: Vec<Vec<ValidationCode>> = Vec::new();
        for peer in peers {
            let channel = peer.channel();
            let mut watch = channel.height_watch();
            tokio::time::timeout(SOON, watch.wait_for(|at| *at >= height)).await.unwrap().unwrap();
            let block = channel.block(height - 1).unwrap().unwrap();
            codes.push(metadata::filter(&block).unwrap().iter().collect());
        }
        assert!(codes.windows(2).all(|pair| pair[0] == pair[1]), "{codes:?}");
        codes.remove(0)
    }

    /// Changes the channel's configuration, signed by all administrators.
    #[allow(dead_code, reason = "not every test that shares this file changes the configuration")]
    pub async fn configure(&self, peers: &[&TestPeer], config: &Config) {
        let admins = self.network.admins();
        let admins: Vec<_> = admins.into_iter().map(|admin| admin as &dyn Signer).collect();
        let bundle = peers[0].channel().bundle();
        let update = tx::config_update(&bundle, config, &admins);
        {
            let mut chain = self.chain.lock();
            let signer = &self.network.orderers[0].identity;
            let (next, _) = tx::config_block(&bundle, chain.last().unwrap(), &update, signer);
            self.orderer.push(next.clone());
            chain.push(next);
        }
        for peer in peers {
            let mut watch = peer.channel().config_watch();
            let changed = watch.wait_for(|sequence| *sequence > bundle.sequence());
            tokio::time::timeout(SOON, changed).await.unwrap().unwrap();
        }
    }

    /// Has a proposal endorsed by `endorsers` and ordered.
    pub async fn transact(
        &self,
        creator: &SigningIdentity,
        built: &BuiltSignedProposal,
        endorsers: &[&TestPeer],
        peers: &[&TestPeer],
    ) -> ValidationCode {
        let mut responses = Vec::new();
        for endorser in endorsers {
            let response = endorser.send(built).await;
            assert!(response.endorsement.is_some(), "{:?}", response.response);
            responses.push(response);
        }
        let envelope = transaction::assemble_signed(&built.proposal, &responses, creator).unwrap();
        self.order(peers, &[envelope]).await[0]
    }

    /// Installs, approves and commits a chaincode whose package is the same for everybody.
    pub async fn define(
        &self,
        peers: &[&TestPeer],
        definition: &Draft,
        connection: &Connection,
    ) -> String {
        let mut package_id = String::new();
        for peer in peers {
            package_id = peer.install(self.admin(peer.org), &definition.name, connection).await;
        }
        for org in [1, 2] {
            let own: Vec<_> = peers.iter().copied().filter(|peer| peer.org == org).collect();
            let built = definition.approve(self.admin(org), &package_id);
            let code = self.transact(self.admin(org), &built, &own, peers).await;
            assert_eq!(code, ValidationCode::Valid);
        }
        let built = definition.commit(self.admin(1));
        let code = self.transact(self.admin(1), &built, peers, peers).await;
        assert_eq!(code, ValidationCode::Valid);
        package_id
    }
}

impl TestPeer {
    pub fn channel(&self) -> Arc<Channel> {
        self.channels.get_str(CHANNEL).unwrap()
    }

    pub async fn send(&self, built: &BuiltSignedProposal) -> ProposalResponse {
        self.try_send(built).await.unwrap()
    }

    pub async fn try_send(
        &self,
        built: &BuiltSignedProposal,
    ) -> Result<ProposalResponse, EndorserError> {
        self.endorser.process_at(built.signed.clone(), NOW).await
    }

    /// Calls a chaincode on the channel and gives its response.
    pub async fn call(
        &self,
        creator: &SigningIdentity,
        chaincode: &str,
        args: &[&[u8]],
    ) -> Response {
        self.send(&propose(creator, chaincode, args)).await.response.unwrap()
    }

    /// Calls a function of `_lifecycle` on the channel.
    pub async fn lifecycle(
        &self,
        creator: &SigningIdentity,
        function: &str,
        args: &impl Message,
    ) -> Response {
        let args = args.encode_to_vec();
        self.call(creator, "_lifecycle", &[function.as_bytes(), &args]).await
    }

    /// Calls a chaincode without a channel.
    pub async fn call_local(
        &self,
        creator: &SigningIdentity,
        chaincode: &str,
        args: &[&[u8]],
    ) -> Response {
        let mut spec = spec(chaincode, args);
        spec.channel_id = None;
        self.send(&spec.sign(creator).unwrap()).await.response.unwrap()
    }

    pub async fn install(
        &self,
        creator: &SigningIdentity,
        label: &str,
        connection: &Connection,
    ) -> String {
        let package = Package::build(&Label::new(label).unwrap(), connection).unwrap();
        let args = InstallChaincodeArgs { chaincode_install_package: package };
        let args = args.encode_to_vec();
        let response = self.call_local(creator, "_lifecycle", &[b"InstallChaincode", &args]).await;
        assert_eq!(response.status, 200, "{}", response.message);
        InstallChaincodeResult::decode(response.payload).unwrap().package_id
    }
}

pub fn spec(chaincode: &str, args: &[&[u8]]) -> ProposalSpec {
    ProposalSpec {
        channel_id: Some(ChannelId::new(CHANNEL).unwrap()),
        chaincode: chaincode.to_owned(),
        args: args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect(),
        transient: Default::default(),
        is_init: false,
        timestamp: NOW,
        nonce: tx::nonce(),
    }
}

pub fn propose(creator: &SigningIdentity, chaincode: &str, args: &[&[u8]]) -> BuiltSignedProposal {
    spec(chaincode, args).sign(creator).unwrap()
}

/// A definition to be.
#[derive(Clone)]
pub struct Draft {
    pub name: String,
    pub version: String,
    pub sequence: i64,
    pub policy: Bytes,
    pub init_required: bool,
    pub collections: Option<CollectionConfigPackage>,
}

impl Draft {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            sequence: 1,
            policy: Bytes::new(),
            init_required: false,
            collections: None,
        }
    }

    pub fn approve_args(&self, package_id: &str) -> ApproveChaincodeDefinitionForMyOrgArgs {
        let local = SourceType::LocalPackage(Local { package_id: package_id.to_owned() });
        ApproveChaincodeDefinitionForMyOrgArgs {
            sequence: self.sequence,
            name: self.name.clone(),
            version: self.version.clone(),
            validation_parameter: self.policy.clone(),
            init_required: self.init_required,
            collections: self.collections.clone(),
            source: Some(ChaincodeSource { r#type: Some(local) }),
            ..Default::default()
        }
    }

    pub fn commit_args(&self) -> CommitChaincodeDefinitionArgs {
        CommitChaincodeDefinitionArgs {
            sequence: self.sequence,
            name: self.name.clone(),
            version: self.version.clone(),
            validation_parameter: self.policy.clone(),
            init_required: self.init_required,
            collections: self.collections.clone(),
            ..Default::default()
        }
    }

    pub fn approve(&self, creator: &SigningIdentity, package_id: &str) -> BuiltSignedProposal {
        let args = self.approve_args(package_id).encode_to_vec();
        propose(creator, "_lifecycle", &[b"ApproveChaincodeDefinitionForMyOrg", &args])
    }

    pub fn commit(&self, creator: &SigningIdentity) -> BuiltSignedProposal {
        let args = self.commit_args().encode_to_vec();
        propose(creator, "_lifecycle", &[b"CommitChaincodeDefinition", &args])
    }
}
