#![allow(dead_code)]

//! Orderers of a test network on the loopback address, with stores in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use weft_channels::memory::MemoryStores;
use weft_channels::{Created, Opened, Removal, Stores};
use weft_client::{Connection, ConnectionSpec, Participation};
use weft_config::{Bundle, Endpoint, block as config_block};
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Column, Direction, Durability, Entry, KeyRange, Kv, KvError, KvRead};
use weft_msp::{NodeMsp, SigningIdentity};
use weft_orderer::{Orderer, OrdererHandle, OrdererParts};
use weft_protos::common::{Block, Config, Envelope, HeaderType, Status};
use weft_rpc::tls::{ReloadingTls, RootSet, TlsIdentity};
use weft_settings::OrdererSettings;
use weft_testkit::free_port;
use weft_testkit::network::{Network, OrdererNode};
use weft_testkit::tx;
use weft_types::envelope::EnvelopeSpec;
use weft_types::seek::Position;
use weft_types::{ChannelId, Signer, Timestamp, block};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Stores that outlive their orderer, on a disk that can be full, some of them damaged.
pub struct DiskStores {
    kept: MemoryStores,
    full: Arc<AtomicBool>,
    damaged: Mutex<BTreeSet<ChannelId>>,
    held: Mutex<Option<Held>>,
}

/// An opening that says that it has begun and waits for a word.
struct Held {
    reached: std_mpsc::Sender<()>,
    go: std_mpsc::Receiver<()>,
}

impl Default for DiskStores {
    fn default() -> Self {
        let full = Arc::<AtomicBool>::default();
        let disk = full.clone();
        let make =
            move || Arc::new(Disk { kept: Arc::default(), full: disk.clone() }) as Arc<dyn Kv>;
        let kept = MemoryStores::new(make);
        Self { kept, full, damaged: Mutex::default(), held: Mutex::default() }
    }
}

impl DiskStores {
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Puts another orderer's ledger in the place of this one's.
    pub fn put(&self, channel: &ChannelId, of: &DiskStores) {
        let (kv, _) = of.kept.open(channel).unwrap().into_parts();
        self.kept.put(channel.clone(), kv);
    }

    /// Holds the next opening back: what is received when it has begun, and what lets it go on.
    pub fn hold(&self) -> (std_mpsc::Receiver<()>, std_mpsc::Sender<()>) {
        let ((reached, begun), (open, go)) = (std_mpsc::channel(), std_mpsc::channel());
        *self.held.lock() = Some(Held { reached, go });
        (begun, open)
    }

    pub fn set_damaged(&self, channel: &str, damaged: bool) {
        let channel = ChannelId::new(channel).unwrap();
        let mut all = self.damaged.lock();
        if damaged {
            all.insert(channel)
        } else {
            all.remove(&channel)
        };
    }
}

impl Stores for DiskStores {
    fn open(&self, channel: &ChannelId) -> Result<Opened, KvError> {
        let held = self.held.lock().take();
        if let Some(held) = held {
            held.reached.send(()).unwrap();
            held.go.recv().unwrap();
        }
        if self.damaged.lock().contains(channel) {
            return Err(KvError::Corrupt { what: "a checksum of its manifest".to_owned() });
        }
        self.kept.open(channel)
    }

    fn keep(&self, created: &Created) -> Result<(), KvError> {
        self.kept.keep(created)
    }

    fn list(&self) -> Result<Vec<ChannelId>, KvError> {
        self.kept.list()
    }

    fn remove(&self, removal: &Removal) -> Result<(), KvError> {
        self.kept.remove(removal)
    }
}

struct Disk {
    kept: Arc<MemoryKv>,
    full: Arc<AtomicBool>,
}

impl KvRead for Disk {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.kept.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, KvError> {
        self.kept.scan(column, range, direction, limit)
    }
}

impl Kv for Disk {
    fn snapshot(&self) -> Arc<dyn KvRead> {
        self.kept.snapshot()
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(KvError::Full { source: Arc::new(std::io::Error::other("full")) });
        }
        self.kept.write(batch, durability)
    }
}

pub fn channel() -> ChannelId {
    ChannelId::new("supply").unwrap()
}

/// Lines of the nodes' logs, where `WEFT_LOG` names a level.
fn log() {
    if let Ok(spec) = std::env::var("WEFT_LOG") {
        let logging = weft_settings::Logging { spec, ..weft_settings::Logging::default() };
        let _ = weft_ops::logging::init(&logging);
    }
}

/// A network of two organizations and so many orderers, each with a port of its own.
pub fn network(orderers: u16) -> Network {
    log();
    let mut network = Network::new(2, orderers);
    for orderer in &mut network.orderers {
        orderer.endpoint = Endpoint::new("127.0.0.1", free_port());
    }
    network
}

pub fn one_more(network: &mut Network) -> OrdererNode {
    let number = u16::try_from(network.orderers.len()).unwrap();
    let mut node = OrdererNode::new(&network.orderer_org, number);
    node.endpoint = Endpoint::new("127.0.0.1", free_port());
    node
}

/// An orderer that may be running.
pub struct Node {
    pub node: OrdererNode,
    /// What it signs as; can be renewed while it runs.
    pub msp: NodeMsp,
    pub stores: Arc<DiskStores>,
    pub handle: Option<OrdererHandle>,
    pub participation: Option<String>,
    tls_root: weft_crypto::Certificate,
}

pub fn tls_identity(tls: &weft_testkit::org::TlsIdentity) -> TlsIdentity {
    TlsIdentity::from_pem(&tls.cert_pem(), tls.key_pem().as_bytes(), "a test").unwrap()
}

fn roots(network: &Network) -> RootSet {
    RootSet::fixed(vec![network.orderer_org.tls_ca.certificate().der().to_vec().into()]).unwrap()
}

impl Node {
    pub fn new(network: &Network, node: &OrdererNode) -> Self {
        Self {
            node: node.clone(),
            msp: NodeMsp::new(network.orderer_org.msp_config(), node.identity.clone()).unwrap(),
            stores: Arc::default(),
            handle: None,
            participation: None,
            tls_root: network.orderer_org.tls_ca.certificate().clone(),
        }
    }

    pub fn settings(&self) -> OrdererSettings {
        let mut settings = OrdererSettings {
            listen: self.node.endpoint.to_string(),
            external_address: self.node.endpoint.to_string(),
            ..OrdererSettings::default()
        };
        settings.participation.listen = "127.0.0.1:0".to_owned();
        settings.cluster.replication.retry_interval = Duration::from_millis(100);
        settings.cluster.replication.refresh_interval = Duration::from_secs(1);
        settings.limits.shutdown_timeout = Duration::from_millis(500);
        settings
    }

    pub async fn start(&mut self, network: &Network) {
        self.start_with(network, self.settings()).await;
    }

    pub async fn start_with(&mut self, network: &Network, settings: OrdererSettings) {
        let tls = ReloadingTls::from_parts(
            Some(tls_identity(&self.node.tls)),
            roots(network),
            roots(network),
        );
        let parts = OrdererParts {
            settings,
            identity: self.msp.identity().clone(),
            tls,
            admin_roots: roots(network),
            stores: self.stores.clone(),
            registry: prometheus::Registry::new(),
            health: weft_ops::health::Health::new(),
        };
        let handle = Orderer::start(parts).await.unwrap();
        self.participation = handle.participation_addr().map(|at| at.to_string());
        self.handle = Some(handle);
    }

    pub async fn stop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.shutdown().await;
        }
    }

    pub fn spec(&self, client: Option<TlsIdentity>) -> ConnectionSpec {
        ConnectionSpec {
            address: self.node.endpoint.to_string(),
            server_name: None,
            roots: vec![self.tls_root.clone()],
            client,
        }
    }

    /// A connection that presents this certificate, or none.
    pub fn transport(&self, client: Option<TlsIdentity>) -> tonic::transport::Channel {
        use weft_rpc::connect::{ClientIdentity, ConnectOptions, Connector, EndpointTls, Roots};
        let seconds = Duration::from_secs;
        let options = ConnectOptions {
            dial_timeout: seconds(5),
            keepalive_interval: seconds(0),
            keepalive_timeout: seconds(5),
        };
        let tls = ReloadingTls::from_parts(None, RootSet::new(), RootSet::new());
        let tls_options = EndpointTls {
            roots: Roots::Fixed(vec![self.tls_root.der().to_vec().into()]),
            client: client.map_or(ClientIdentity::Anonymous, ClientIdentity::Fixed),
            ..EndpointTls::default()
        };
        let address = self.node.endpoint.to_string();
        let endpoint = weft_rpc::connect::Endpoint { address, tls: Some(tls_options) };
        Connector::new(tls, options).channel(&endpoint).unwrap()
    }

    pub fn client(&self, signer: &SigningIdentity) -> weft_client::Orderer {
        let connection = Connection::new(&self.spec(None)).unwrap();
        weft_client::Orderer::new(connection, Arc::new(signer.clone()))
    }

    pub fn admin(&self, network: &Network) -> Participation {
        let tls = network.orderer_org.tls("admin", &[]);
        self.admin_with(Some(tls_identity(&tls)))
    }

    pub fn admin_with(&self, client: Option<TlsIdentity>) -> Participation {
        let address = self.participation.clone().unwrap();
        Participation::new(&ConnectionSpec { address, ..self.spec(client) }).unwrap()
    }

    pub fn channel(&self) -> Arc<weft_orderer::chain::Channel> {
        self.handle.as_ref().unwrap().registrar().find("supply").unwrap()
    }

    pub fn height(&self) -> u64 {
        self.channel().store().height()
    }

    pub fn leads(&self) -> bool {
        self.handle.is_some() && self.channel().status().leading
    }
}

/// Starts all orderers of the network and joins them to the channel of this genesis block.
pub async fn started(network: &Network, genesis: &Block) -> Vec<Node> {
    let mut nodes = Vec::new();
    for orderer in &network.orderers {
        let mut node = Node::new(network, orderer);
        node.start(network).await;
        node.admin(network).join(genesis).await.unwrap();
        nodes.push(node);
    }
    nodes
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came about that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn leader(nodes: &[Node]) -> usize {
    eventually("somebody leads", || nodes.iter().any(Node::leads)).await;
    nodes.iter().position(Node::leads).unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}

/// A transaction of some size, as the orderer sees one.
pub fn transaction(signer: &dyn Signer, content: &str) -> Envelope {
    envelope(HeaderType::EndorserTransaction, signer, content.to_owned().into())
}

/// A transaction on another channel.
pub fn transaction_of(channel: &ChannelId, signer: &dyn Signer, content: &str) -> Envelope {
    let kind = HeaderType::EndorserTransaction;
    envelope_of(channel, kind, signer, content.to_owned().into())
}

pub fn envelope(kind: HeaderType, signer: &dyn Signer, data: Bytes) -> Envelope {
    envelope_of(&channel(), kind, signer, data)
}

fn envelope_of(
    channel: &ChannelId,
    kind: HeaderType,
    signer: &dyn Signer,
    data: Bytes,
) -> Envelope {
    let spec = EnvelopeSpec {
        header_type: kind,
        channel_id: Some(channel.clone()),
        data,
        timestamp: now(),
        nonce: tx::nonce(),
        tls_cert_hash: Bytes::new(),
    };
    spec.sign(signer).unwrap()
}

/// Broadcasts until an orderer takes the envelope, as a client with patience does.
pub async fn broadcast(client: &weft_client::Orderer, envelope: &Envelope) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.broadcast(envelope.clone()).await {
            Ok(()) => return,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn status_of(result: Result<(), weft_client::ClientError>) -> Status {
    match result {
        Ok(()) => Status::Success,
        Err(weft_client::ClientError::Broadcast { status, .. }) => status,
        Err(other) => panic!("no status: {other}"),
    }
}

/// All transactions of a chain's blocks behind the genesis block, in order.
pub fn transactions(node: &Node) -> Vec<Bytes> {
    let channel = node.channel();
    let store = channel.store();
    (1..store.height())
        .flat_map(|number| block::transactions(&store.block(number).unwrap().unwrap()).to_vec())
        .collect()
}

pub fn header_hashes(node: &Node) -> Vec<[u8; 32]> {
    let channel = node.channel();
    let store = channel.store();
    (0..store.height())
        .map(|number| {
            let block = store.block(number).unwrap().unwrap();
            block::header_hash(block.header.as_ref().unwrap())
        })
        .collect()
}

/// Waits until all have the same chain of at least this height, and returns it.
pub async fn agreed(nodes: &[&Node], height: u64) {
    let reached = || nodes.iter().all(|node| node.height() >= height);
    eventually(&format!("all reach height {height}"), reached).await;
    let same = || {
        let first = header_hashes(nodes[0]);
        nodes.iter().all(|node| header_hashes(node) == first)
    };
    eventually("all have the same chain", same).await;
}

/// Sends a change of the configuration, signed by all administrators.
pub async fn reconfigure(
    node: &Node,
    network: &Network,
    change: impl FnOnce(&mut Config),
) -> Status {
    let client = node.client(&network.org(1).admin);
    let update = update(&node.channel().bundle(), network, change);
    status_of(client.broadcast(update).await)
}

pub fn update(bundle: &Bundle, network: &Network, change: impl FnOnce(&mut Config)) -> Envelope {
    let mut changed = bundle.config().clone();
    change(&mut changed);
    let admins = network.admins();
    let signers: Vec<&dyn Signer> = admins.iter().map(|admin| *admin as &dyn Signer).collect();
    tx::config_update(bundle, &changed, &signers)
}

/// The newest config block of a node.
pub fn config_block(node: &Node) -> Block {
    let block = node.channel().store().last_config_block().unwrap().unwrap();
    assert!(config_block::is_config_block(&block));
    block
}

pub async fn newest(client: &weft_client::Orderer) -> Block {
    client.block(&channel(), Position::Newest).await.unwrap()
}

pub fn encoded(envelope: &Envelope) -> Bytes {
    envelope.encode_to_vec().into()
}
