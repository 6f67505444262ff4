//! A channel with a contract that has collections, and members that answer by a script.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_channels::memory::MemoryStores;
use weft_config::Endpoint;
use weft_ledger::kv::column::{MISSING_PRIVATE, TRANSIENT};
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Column, Direction, Durability, KeyRange, Kv, KvError, KvRead};
use weft_ledger::private::WritesKey;
use weft_ledger::simulator::QueryLimits;
use weft_ledger::state::StateReader;
use weft_msp::CurrentIdentity;
use weft_peer::channel::{Channel, ChannelDeps, Channels};
use weft_peer::commit::private::keep;
use weft_peer::commit::{CommitMetrics, Pool};
use weft_peer::deliver_client::DeliverClientConfig;
use weft_peer::lifecycle::layout::{self, Field, NAMESPACES};
use weft_peer::lifecycle::{Definition, LedgerDefinitions, NAMESPACE, Parameters};
use weft_peer::private::exchange::Push;
use weft_peer::private::{Exchange, Found, Later, PushError, Wanted, reconcile};
use weft_protos::common::{Block, Envelope};
use weft_protos::kvrwset::{KvMetadataWrite, KvReadHash, KvWrite, KvWriteHash, KvrwSet};
use weft_protos::lifecycle::StateMetadata;
use weft_protos::peer::collection_config::Payload;
use weft_protos::peer::collection_policy_config::Payload as Members;
use weft_protos::peer::{
    CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig,
};
use weft_protos::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet};
use weft_rpc::connect::{ConnectOptions, Connector};
use weft_rpc::tls::{ReloadingTls, RootSet, TlsIdentity};
use weft_testkit::{Network, tx};
use weft_types::block::metadata;
use weft_types::{ChannelId, ValidationCode};

use crate::support::orderer::{FakeOrderer, bind};
use crate::support::{CHAINCODE, CHANNEL, Draft, application_policy};

pub const SOON: Duration = Duration::from_secs(20);
/// Both organizations are members.
pub const BOTH: &str = "both";
/// Only Org1 is a member.
pub const ONE: &str = "one";
/// Both are members, and data lives for one block.
pub const SHORT: &str = "short";

pub struct World {
    pub network: Network,
    pub orderer: FakeOrderer,
    pub chain: Vec<Block>,
    pub store: Arc<dyn Kv>,
    pub script: Arc<Script>,
    pub pull_timeout: Duration,
    registry: prometheus::Registry,
    metrics: CommitMetrics,
    sequence: i64,
}

/// What other members answer.
pub struct Script {
    /// Writes by transaction and collection.
    answers: Mutex<BTreeMap<(String, String), Bytes>>,
    pub asked: Mutex<Vec<Vec<Wanted>>>,
    /// Answers come only while this is open.
    pub open: watch::Sender<bool>,
}

#[async_trait]
impl Exchange for Script {
    async fn push(&self, _: &Channel, _: Push) -> Result<(), PushError> {
        Ok(())
    }

    async fn pull(&self, _: &Channel, wanted: Vec<Wanted>) -> Vec<Found> {
        self.asked.lock().push(wanted.clone());
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        let answers = self.answers.lock();
        let found = wanted.into_iter().filter_map(|Wanted { digest, .. }| {
            let writes = answers.get(&(digest.tx_id.clone(), digest.collection.clone()))?.clone();
            Some(Found { digest, writes })
        });
        found.collect()
    }
}

impl Script {
    fn new() -> Arc<Self> {
        let (answers, asked) = (Mutex::default(), Mutex::default());
        Arc::new(Self { answers, asked, open: watch::Sender::new(true) })
    }

    pub fn answer(&self, tx: &Tx, bytes: Bytes) {
        self.answers.lock().insert((tx.draft.id(), tx.collection.clone()), bytes);
    }

    /// How many collections of transactions were asked for.
    pub fn asked(&self) -> usize {
        self.asked.lock().iter().map(Vec::len).sum()
    }
}

/// A transaction that writes to one collection.
pub struct Tx {
    pub draft: Draft,
    pub collection: String,
    /// The encoded private writes.
    pub bytes: Bytes,
}

impl World {
    pub async fn new() -> Self {
        let mut network = Network::new(2, 1);
        let orgs = network.orgs.clone();
        let node = &mut network.orderers[0];
        let server = bind(&node.tls, &orgs).await;
        node.endpoint = Endpoint::new("127.0.0.1", server.address().port());
        let genesis = network.genesis(CHANNEL);
        let orderer = server.serve(vec![genesis.clone()]);
        let registry = prometheus::Registry::new();
        let mut world = Self {
            metrics: CommitMetrics::register(&registry).unwrap(),
            registry,
            network,
            orderer,
            chain: vec![genesis],
            store: Arc::new(MemoryKv::new()),
            script: Script::new(),
            pull_timeout: SOON,
            sequence: 0,
        };
        world.define(&[(BOTH, &[1, 2], 0), (ONE, &[1], 0), (SHORT, &[1, 2], 1)]);
        world
    }

    /// Orders a definition with these collections: name, members, block to live.
    pub fn define(&mut self, collections: &[(&str, &[usize], u64)]) {
        self.sequence += 1;
        let collection = |(name, members, lives): &(&str, &[usize], u64)| {
            let members: Vec<_> = members
                .iter()
                .map(|org| format!("'{}.member'", self.network.org(*org).msp_id))
                .collect();
            let policy = format!("OR({})", members.join(", "));
            let policy = weft_msp::policy::dsl::parse(&policy).unwrap();
            let policy = CollectionPolicyConfig { payload: Some(Members::SignaturePolicy(policy)) };
            let payload = Payload::StaticCollectionConfig(StaticCollectionConfig {
                name: (*name).to_owned(),
                member_orgs_policy: Some(policy),
                block_to_live: *lives,
                ..Default::default()
            });
            CollectionConfig { payload: Some(payload) }
        };
        let parameters = Parameters {
            version: "1.0".to_owned(),
            endorsement_plugin: "escc".to_owned(),
            validation_plugin: "vscc".to_owned(),
            validation_parameter: application_policy("OR('Org1MSP.peer')"),
            collections: CollectionConfigPackage {
                config: collections.iter().map(collection).collect(),
            },
            ..Default::default()
        };
        let definition =
            Definition { name: CHAINCODE.to_owned(), sequence: self.sequence, parameters };
        let record = definition.record();
        let mut draft = Draft::new(self.network.org(1).client.clone());
        draft.invoke(NAMESPACE);
        draft.endorsers = vec![self.network.org(1).peer.clone(), self.network.org(2).peer.clone()];
        let mut write = |key: String, value: Bytes| {
            let write = KvWrite { key, value, is_delete: false };
            draft.set.namespace(NAMESPACE).1.writes.push(write);
        };
        for (field, value) in &record.fields {
            write(layout::field_key(NAMESPACES, CHAINCODE, field), Field::encode(value));
        }
        let metadata = StateMetadata {
            datatype: record.datatype.to_owned(),
            fields: record.fields.iter().map(|(name, _)| (*name).to_owned()).collect(),
        };
        let metadata = metadata.encode_to_vec().into();
        write(layout::metadata_key(NAMESPACES, CHAINCODE), metadata);
        self.order(&[draft.envelope()]);
    }

    pub fn draft(&self) -> Draft {
        let mut draft = Draft::new(self.network.org(1).client.clone());
        draft.endorsers = vec![self.network.org(1).peer.clone()];
        draft
    }

    /// A transaction that writes keys of a collection; no value deletes.
    pub fn tx(&self, collection: &str, writes: &[(&str, Option<&str>)]) -> Tx {
        let mut tx =
            Tx { draft: self.draft(), collection: collection.to_owned(), bytes: Bytes::new() };
        tx.write(writes, false);
        tx
    }

    pub fn purge(&self, collection: &str, key: &str) -> Tx {
        let mut tx = self.tx(collection, &[]);
        tx.write(&[(key, None)], true);
        tx
    }

    pub fn order(&mut self, envelopes: &[Envelope]) {
        let signer = &self.network.orderers[0].identity;
        let next = tx::next_block(self.chain.last().unwrap(), 0, envelopes, signer);
        self.chain.push(next.clone());
        self.orderer.push(next);
    }

    /// Orders a block that has nothing to do with private data.
    pub fn order_other(&mut self) {
        let mut draft = self.draft();
        draft.set.write(CHAINCODE, "public", "value");
        self.order(&[draft.envelope()]);
    }

    pub fn channels(&self, org: usize) -> Arc<Channels> {
        let store = Arc::clone(&self.store);
        let org = self.network.org(org);
        let tls = org.tls("peer0", &["peer0"]);
        let identity =
            TlsIdentity::from_pem(&tls.cert_pem(), tls.key_pem().as_bytes(), "peer").unwrap();
        let tls = ReloadingTls::from_parts(Some(identity), RootSet::new(), RootSet::new());
        let limits = weft_settings::Limits::default();
        let settings = weft_settings::DeliverClient {
            min_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(200),
            ..Default::default()
        };
        let exchange = Later::new();
        exchange.set(self.script.clone());
        Channels::new(ChannelDeps {
            stores: Arc::new(MemoryStores::new(move || Arc::clone(&store))),
            pool: Pool::new(2).unwrap(),
            definitions: Arc::new(LedgerDefinitions),
            identity: org.peer.clone().into(),
            connector: Connector::new(
                tls.clone(),
                ConnectOptions::new(settings.dial_timeout, &limits),
            ),
            tls,
            deliver_client: DeliverClientConfig { settings, max_message_bytes: 64 << 20 },
            query_limits: QueryLimits::default(),
            history: true,
            max_waiters: 100,
            metrics: Some(self.metrics.clone()),
            exchange,
            pull_timeout: self.pull_timeout,
        })
    }

    /// A peer of an organization that has joined the channel and has all blocks so far.
    pub async fn peer(&self, org: usize) -> Peer {
        let channels = self.channels(org);
        let channel = channels.join(self.chain[0].clone()).await.unwrap();
        let peer = Peer { channels, channel, identity: self.network.org(org).peer.clone().into() };
        peer.reaches(self.chain.len()).await;
        peer
    }

    /// The peer of an earlier run on the same store.
    pub async fn peer_again(&self, org: usize) -> Peer {
        let channels = self.channels(org);
        channels.open_existing(vec![ChannelId::new(CHANNEL).unwrap()]).await;
        let channel = channels.get_str(CHANNEL).unwrap();
        Peer { channels, channel, identity: self.network.org(org).peer.clone().into() }
    }

    /// A counter of private data.
    pub fn counted(&self, name: &str) -> u64 {
        let name = format!("private_data_{name}");
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map_or(0, |family| family.get_metric()[0].get_counter().get_value() as u64)
    }

    /// Looks for what is missing until a condition holds.
    pub async fn reconcile_until(&self, peer: &Peer, done: impl Fn() -> bool) {
        let stop = CancellationToken::new();
        let (channels, script) = (Arc::clone(&peer.channels), self.script.clone());
        let identity = peer.identity.clone();
        let running = tokio::spawn(reconcile::run(
            channels,
            script,
            identity,
            Duration::from_millis(20),
            stop.clone(),
        ));
        let waited = tokio::time::timeout(SOON, async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("what is missing is found");
        stop.cancel();
        running.await.unwrap();
    }
}

impl Tx {
    fn write(&mut self, writes: &[(&str, Option<&str>)], is_purge: bool) {
        let mut private = KvrwSet::default();
        for (key, value) in writes {
            let value = Bytes::from(value.unwrap_or_default().to_owned());
            let is_delete = value.is_empty();
            let value_hash = if is_delete { Bytes::new() } else { hash(&value) };
            let key_hash = hash(key.as_bytes());
            let hashed = KvWriteHash { key_hash, is_delete, value_hash, is_purge };
            self.draft.set.collection(CHAINCODE, &self.collection).hashed_writes.push(hashed);
            private.writes.push(KvWrite { key: (*key).to_owned(), is_delete, value });
        }
        self.set_private(&private);
    }

    /// Sets the policy of a key.
    pub fn set_policy(&mut self, key: &str, policy: &str) {
        let collection = self.collection.clone();
        self.draft.set.write_hash_policy(CHAINCODE, &collection, key, policy);
        let renewed = KvMetadataWrite { key: key.to_owned(), entries: Vec::new() };
        self.set_private(&KvrwSet { metadata_writes: vec![renewed], ..Default::default() });
    }

    fn set_private(&mut self, private: &KvrwSet) {
        self.bytes = private.encode_to_vec().into();
        let private_hash = hash(&self.bytes);
        let parts = &mut self.draft.set.namespace(CHAINCODE).2;
        if let Some(part) = parts.iter_mut().find(|part| part.name == self.collection) {
            part.private_hash = private_hash;
        }
    }

    /// Reads the hash of a key as of a version.
    pub fn read(&mut self, key: &str, version: Option<(u64, u64)>) {
        let version =
            version.map(|(block, place)| weft_ledger::Version::new(block, place).to_proto());
        let read = KvReadHash { key_hash: hash(key.as_bytes()), version };
        self.draft.set.collection(CHAINCODE, &self.collection).hashed_reads.push(read);
    }

    pub fn envelope(&self) -> Envelope {
        self.draft.envelope()
    }

    /// Keeps the writes in a peer's transient store.
    pub fn keep(&self, peer: &Peer) {
        keep(peer.channel.ledger(), &self.draft.id(), &values(&self.collection, &self.bytes))
            .unwrap();
    }
}

pub fn values(collection: &str, bytes: &Bytes) -> TxPvtReadWriteSet {
    let part =
        CollectionPvtReadWriteSet { collection_name: collection.to_owned(), rwset: bytes.clone() };
    let part =
        NsPvtReadWriteSet { namespace: CHAINCODE.to_owned(), collection_pvt_rwset: vec![part] };
    TxPvtReadWriteSet { ns_pvt_rwset: vec![part], ..Default::default() }
}

pub fn hash(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&weft_crypto::sha256(bytes))
}

pub struct Peer {
    pub channels: Arc<Channels>,
    pub channel: Arc<Channel>,
    pub identity: CurrentIdentity,
}

impl Peer {
    pub async fn reaches(&self, height: usize) {
        let mut watch = self.channel.height_watch();
        let waited = tokio::time::timeout(SOON, watch.wait_for(|at| *at >= height as u64)).await;
        assert!(
            waited.is_ok(),
            "{} of {height}: {:?}",
            self.channel.height(),
            self.channel.fault()
        );
    }

    pub fn codes(&self, number: usize) -> Vec<ValidationCode> {
        let block = self.channel.block(number as u64).unwrap().unwrap();
        metadata::filter(&block).unwrap().iter().collect()
    }

    /// A key's value with the block that wrote it.
    pub fn value(&self, collection: &str, key: &str) -> Option<(String, u64)> {
        let state = self.channel.ledger().state();
        let found = state.get_private(CHAINCODE, collection, key).unwrap()?;
        Some((String::from_utf8(found.value.to_vec()).unwrap(), found.version.block))
    }

    /// The block that wrote the hash of a key.
    pub fn hash(&self, collection: &str, key: &str) -> Option<u64> {
        let state = self.channel.ledger().state();
        let found = state.get_hash(CHAINCODE, collection, &hash(key.as_bytes())).unwrap();
        found.map(|found| found.version.block)
    }

    /// The writes of a transaction that this peer has.
    pub fn writes(&self, collection: &str, block: usize, place: u32) -> Option<Bytes> {
        self.channel.ledger().private_writes(CHAINCODE, collection, block as u64, place).unwrap()
    }

    pub fn is_missing(&self, collection: &str, block: usize, place: u32) -> bool {
        let (namespace, block) = (CHAINCODE, block as u64);
        let key = WritesKey { namespace, collection, block, place }.encode();
        self.channel.ledger().kv().get(MISSING_PRIVATE, &key).unwrap().is_some()
    }

    pub fn count(&self, column: Column) -> usize {
        let kv = self.channel.ledger().kv();
        kv.scan(column, &KeyRange::all(), Direction::Forward, 1000).unwrap().len()
    }

    pub fn waits(&self) -> usize {
        self.count(TRANSIENT)
    }
}

/// A store whose writes take their time, so that blocks are validated before others are stored.
#[derive(Default)]
pub struct SlowKv(MemoryKv);

impl KvRead for SlowKv {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.0.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.0.scan(column, range, direction, limit)
    }
}

impl Kv for SlowKv {
    fn snapshot(&self) -> Arc<dyn KvRead> {
        self.0.snapshot()
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        std::thread::sleep(Duration::from_millis(5));
        self.0.write(batch, durability)
    }
}
