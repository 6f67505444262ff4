//! The peer that streams and requests come to: the real services on a channel of two organizations,
//! with its store in memory and no sockets. The network is made when the process starts, so inputs
//! leave out what depends on its keys, and targets fill that in.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};
use weft_channels::memory::MemoryStores;
use weft_config::genesis;
use weft_ledger::kv::column::TRANSIENT;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Direction, Durability, KeyRange, Kv, KvRead};
use weft_ledger::simulator::QueryLimits;
use weft_ledger::updates::Update;
use weft_ledger::{CommitInput, Ledger, UpdateBatch, Version};
use weft_msp::policy::application::ApplicationPolicy;
use weft_msp::policy::dsl;
use weft_msp::{NodeMsp, NodeRole, SigningIdentity};
use weft_peer::acl::Acl;
use weft_peer::chaincode::package::PackageStore;
use weft_peer::channel::{Channel, ChannelDeps, Channels};
use weft_peer::commit::{Pool, private};
use weft_peer::deliver_client::DeliverClientConfig;
use weft_peer::lifecycle::layout::{Field, NAMESPACES, field_key, metadata_key};
use weft_peer::lifecycle::{Definition, LedgerDefinitions, NAMESPACE, Parameters};
use weft_peer::membership::{self, LocalChaincodes, Membership};
use weft_peer::private::Later;
use weft_protos::kvrwset::{KvWrite, KvrwSet};
use weft_protos::lifecycle::StateMetadata;
use weft_protos::peer::collection_config::Payload;
use weft_protos::peer::collection_policy_config::Payload as Members;
use weft_protos::peer::{
    CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig,
};
use weft_protos::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet};
use weft_rpc::connect::{ConnectOptions, Connector};
use weft_rpc::tls::{ReloadingTls, RootSet};
use weft_testkit::Network;
use weft_types::{ChannelId, TxFilter, ValidationCode};

/// The channel.
pub const CHANNEL: &str = "supply";
/// A chaincode that is defined there and runs here.
pub const CHAINCODE: &str = "asset";
/// Its collection of both organizations.
pub const BOTH: &str = "both";
/// Its collection of the peer's own organization.
pub const ONE: &str = "one";
/// A transaction whose private values the peer holds.
pub const TX_ID: &str = "abababababababababababababababababababababababababababababababab";

/// Bytes of the value of the key `L`.
const LARGE: usize = 256 * 1024;
/// A wait that never comes to its end.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The peer.
pub(crate) static PEER: LazyLock<Peer> = LazyLock::new(Peer::new);

pub(crate) struct Peer {
    /// One input at a time: what it starts runs on the thread that waits for it.
    runtime: Mutex<Runtime>,
    /// Where tasks are spawned.
    pub(crate) handle: Handle,
    pub(crate) network: Network,
    /// Another peer of the same organization.
    pub(crate) sibling: SigningIdentity,
    pub(crate) channels: Arc<Channels>,
    pub(crate) acl: Acl,
    pub(crate) packages: PackageStore,
    /// A value of the collection [`ONE`].
    pub(crate) secret: [u8; 32],
    msp: NodeMsp,
    store: Arc<MemoryKv>,
    _folder: TempDir,
}

struct Runnable;

impl LocalChaincodes for Runnable {
    fn chaincodes(&self, _: &Channel) -> Vec<(String, i64)> {
        vec![(CHAINCODE.to_owned(), 1)]
    }
}

impl Peer {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let network = Network::new(2, 1);
        let org = network.org(1);
        let msp = NodeMsp::new(org.msp_config(), org.peer.clone()).expect("a valid MSP");
        let secret = weft_crypto::random_bytes().expect("random bytes");
        let store = Arc::new(MemoryKv::new());
        fill(&network, store.clone(), &secret);
        let channels = open(&runtime, &msp, store.clone());
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            sibling: org.identity("peer1", NodeRole::Peer),
            acl: Acl::new(msp.msps().clone(), org.msp_id.clone()),
            packages: PackageStore::open(folder.path().join("packages")).expect("a folder"),
            handle: runtime.handle().clone(),
            runtime: Mutex::new(runtime),
            network,
            channels,
            secret,
            msp,
            store,
            _folder: folder,
        }
    }

    /// Runs what an input does.
    pub(crate) fn run<T>(&self, input: impl Future<Output = T>) -> T {
        self.runtime.lock().block_on(input)
    }

    pub(crate) fn channel(&self) -> Arc<Channel> {
        self.channels.get_str(CHANNEL).expect("the channel is open")
    }

    /// A membership of this peer alone, which asks nobody.
    pub(crate) fn membership(&self) -> Membership {
        let deps = membership::Deps {
            channels: Arc::clone(&self.channels),
            acl: self.acl.clone(),
            identity: self.msp.identity().clone(),
            chaincodes: Arc::new(Runnable),
            tls: None,
            connector: connector(),
        };
        let mut options = membership::Options::new("peer0.org1:7051");
        // Pushes that come before their block are not waited for.
        options.private_data.push_timeout = Duration::ZERO;
        Membership::new(deps, options).expect("the identity is good")
    }

    /// Forgets the private values that others have pushed.
    pub(crate) fn forget_pushed(&self) {
        let all = self.store.scan(TRANSIENT, &KeyRange::all(), Direction::Forward, usize::MAX);
        let mut batch = Batch::new();
        for (key, _) in all.expect("memory can be read") {
            // The peer's own are of no sender.
            if key.ends_with(b"MSP") {
                batch.delete(TRANSIENT, key);
            }
        }
        self.store.write(batch, Durability::Buffered).expect("memory can be written");
    }
}

/// A connector that nothing connects with.
pub(crate) fn connector() -> Connector {
    Connector::new(no_tls(), ConnectOptions::new(NEVER, &weft_settings::Limits::default()))
}

pub(crate) fn no_tls() -> ReloadingTls {
    ReloadingTls::from_parts(None, RootSet::new(), RootSet::new())
}

/// Opens the channel of a store. Its configuration names no orderer, so that none is connected to.
fn open(runtime: &Runtime, msp: &NodeMsp, store: Arc<dyn Kv>) -> Arc<Channels> {
    let id = ChannelId::new(CHANNEL).expect("a valid id");
    let stores = MemoryStores::default();
    stores.put(id.clone(), store);
    let settings = weft_settings::DeliverClient { max_backoff: NEVER, ..Default::default() };
    let deps = ChannelDeps {
        stores: Arc::new(stores),
        pool: Pool::new(1).expect("a thread"),
        definitions: Arc::new(LedgerDefinitions),
        identity: msp.identity().clone(),
        connector: connector(),
        tls: no_tls(),
        deliver_client: DeliverClientConfig { settings, max_message_bytes: 1 << 20 },
        query_limits: QueryLimits::default(),
        history: true,
        max_waiters: 100,
        metrics: None,
        exchange: Later::new(),
        pull_timeout: Duration::ZERO,
    };
    let _guard = runtime.enter();
    let channels = Channels::new(deps);
    runtime.block_on(channels.open_existing(vec![id]));
    channels
}

/// Writes a ledger with a chaincode, some keys, and private values of a transaction to come.
fn fill(network: &Network, store: Arc<dyn Kv>, secret: &[u8]) {
    let mut profile = network.profile(CHANNEL);
    // Later versions require that orderers have endpoints.
    profile.capabilities = BTreeSet::from(["V2_0".to_owned()]);
    profile.orderer.orgs.iter_mut().for_each(|org| org.endpoints.clear());
    let genesis = genesis::block(&profile).expect("a valid profile");
    let ledger = Ledger::open(store, profile.channel_id).expect("an empty ledger");
    let updates = updates();
    let input = CommitInput {
        block: genesis,
        codes: TxFilter::from_codes(&[ValidationCode::Valid]),
        tx_ids: &[String::new()],
        updates: &updates,
        history: &[],
        extra: Batch::new(),
    };
    ledger.commit(input).expect("the first block");
    private::keep(&ledger, TX_ID, &private_values(secret)).expect("memory can be written");
}

fn updates() -> UpdateBatch {
    let mut updates = UpdateBatch::new();
    let mut put = |namespace: &str, key: &str, value: Bytes| {
        let version = Version::new(0, 0);
        let update = Update { value: Some(value), metadata: Bytes::new(), version };
        updates.put(namespace, key, update);
    };
    let record = definition().record();
    for (field, value) in &record.fields {
        put(NAMESPACE, &field_key(NAMESPACES, CHAINCODE, field), Field::encode(value));
    }
    let metadata = StateMetadata {
        datatype: record.datatype.to_owned(),
        fields: record.fields.iter().map(|(name, _)| (*name).to_owned()).collect(),
    };
    put(NAMESPACE, &metadata_key(NAMESPACES, CHAINCODE), metadata.encode_to_vec().into());
    put(CHAINCODE, "L", Bytes::from(vec![b'l'; LARGE]));
    for number in 0..9 {
        put(CHAINCODE, &format!("key{number}"), Bytes::from_static(b"value"));
    }
    updates
}

fn definition() -> Definition {
    let policy = |text: &str| dsl::parse(text).expect("a policy");
    let both = "OR('Org1MSP.peer', 'Org2MSP.peer')";
    let collections =
        [(BOTH, "OR('Org1MSP.member', 'Org2MSP.member')"), (ONE, "OR('Org1MSP.member')")];
    let config = collections.map(|(name, members)| {
        let members = Members::SignaturePolicy(policy(members));
        let collection = StaticCollectionConfig {
            name: name.to_owned(),
            member_orgs_policy: Some(CollectionPolicyConfig { payload: Some(members) }),
            ..StaticCollectionConfig::default()
        };
        CollectionConfig { payload: Some(Payload::StaticCollectionConfig(collection)) }
    });
    let parameters = Parameters {
        version: "1.0".to_owned(),
        endorsement_plugin: "escc".to_owned(),
        validation_plugin: "vscc".to_owned(),
        validation_parameter: ApplicationPolicy::Signature(policy(both)).encode(),
        collections: CollectionConfigPackage { config: config.to_vec() },
        ..Parameters::default()
    };
    Definition { name: CHAINCODE.to_owned(), sequence: 1, parameters }
}

fn private_values(secret: &[u8]) -> TxPvtReadWriteSet {
    let collection = |name: &str, value: &[u8]| {
        let value = Bytes::copy_from_slice(value);
        let write = KvWrite { key: "key".to_owned(), value, is_delete: false };
        let set = KvrwSet { writes: vec![write], ..KvrwSet::default() };
        let (collection_name, rwset) = (name.to_owned(), set.encode_to_vec().into());
        CollectionPvtReadWriteSet { collection_name, rwset }
    };
    let collection_pvt_rwset = vec![collection(BOTH, b"shared"), collection(ONE, secret)];
    let namespace = NsPvtReadWriteSet { namespace: CHAINCODE.to_owned(), collection_pvt_rwset };
    TxPvtReadWriteSet { ns_pvt_rwset: vec![namespace], ..TxPvtReadWriteSet::default() }
}
