//! A peer's channel and orderers over real connections: blocks are taken, checked, committed and
//! told about, whatever single orderers do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use support::orderer::{FakeOrderer, Fault, bind};
use support::{CHAINCODE, CHANNEL, Draft, FixedDefinitions};
use weft_channels::memory::MemoryStores;
use weft_channels::{Created, Opened, Removal, State, Stores};
use weft_config::{Endpoint, edit};
use weft_ledger::kv::column::TRANSIENT;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Column, Direction, Durability, KeyRange, Kv, KvError, KvRead};
use weft_ledger::simulator::QueryLimits;
use weft_peer::channel::{Channel, ChannelDeps, Channels, CommitStatus, JoinError, StatusError};
use weft_peer::commit::private::keep;
use weft_peer::commit::{CommitMetrics, Pool};
use weft_peer::deliver_client::DeliverClientConfig;
use weft_protos::common::{Block, BlockMetadataIndex, Envelope};
use weft_protos::kvrwset::{KvWrite, KvrwSet};
use weft_protos::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet};
use weft_rpc::connect::{ConnectOptions, Connector};
use weft_rpc::tls::{ReloadingTls, RootSet, TlsIdentity};
use weft_testkit::{Network, tx};
use weft_types::block::{self, metadata};
use weft_types::{ChannelId, ValidationCode};

const SOON: Duration = Duration::from_secs(20);

struct World {
    network: Network,
    orderers: Vec<FakeOrderer>,
    chain: Vec<Block>,
    last_config: u64,
    bundle: weft_config::Bundle,
    store: Arc<dyn Kv>,
}

impl World {
    async fn new(orderers: u16) -> Self {
        let mut network = Network::new(2, orderers);
        let mut bound = Vec::new();
        let orgs = network.orgs.clone();
        for node in &mut network.orderers {
            let server = bind(&node.tls, &orgs).await;
            node.endpoint = Endpoint::new("127.0.0.1", server.address().port());
            bound.push(server);
        }
        let genesis = network.genesis(CHANNEL);
        let orderers =
            bound.into_iter().map(|server| server.serve(vec![genesis.clone()])).collect();
        let bundle = network.bundle(CHANNEL);
        let store: Arc<dyn Kv> = Arc::new(MemoryKv::new());
        Self { network, orderers, chain: vec![genesis], last_config: 0, bundle, store }
    }

    fn channels(&self) -> Arc<Channels> {
        let store = Arc::clone(&self.store);
        self.channels_in(Arc::new(MemoryStores::new(move || Arc::clone(&store))))
    }

    fn channels_in(&self, stores: Arc<dyn Stores>) -> Arc<Channels> {
        let org = self.network.org(1);
        let tls = org.tls("peer0", &["peer0"]);
        let identity =
            TlsIdentity::from_pem(&tls.cert_pem(), tls.key_pem().as_bytes(), "peer").unwrap();
        let tls = ReloadingTls::from_parts(Some(identity), RootSet::new(), RootSet::new());
        let limits = weft_settings::Limits::default();
        let definitions = FixedDefinitions::default().with(CHAINCODE, "OR('Org1MSP.peer')");
        let settings = weft_settings::DeliverClient {
            min_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(200),
            stall_timeout: Duration::from_millis(150),
            buffer_blocks: 2,
            buffer_bytes: 64 * 1024,
            ..Default::default()
        };
        Channels::new(ChannelDeps {
            stores,
            pool: Pool::new(2).unwrap(),
            definitions: Arc::new(definitions),
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
            metrics: Some(CommitMetrics::register(&prometheus::Registry::new()).unwrap()),
            exchange: weft_peer::private::Later::new(),
            pull_timeout: Duration::from_secs(5),
        })
    }

    async fn joined(&self) -> (Arc<Channels>, Arc<Channel>) {
        let channels = self.channels();
        let channel = channels.join(self.chain[0].clone()).await.unwrap();
        (channels, channel)
    }

    fn draft(&self, key: &str) -> Draft {
        let mut draft = Draft::new(self.network.org(1).client.clone());
        draft.endorsers = vec![self.network.org(1).peer.clone()];
        draft.set.write(CHAINCODE, key, "value");
        draft
    }

    /// The next block, which no orderer has yet.
    fn next(&mut self, envelopes: &[Envelope]) -> Block {
        let signer = &self.network.orderers[0].identity;
        let next = tx::next_block(self.chain.last().unwrap(), self.last_config, envelopes, signer);
        self.chain.push(next.clone());
        next
    }

    fn order(&mut self, envelopes: &[Envelope]) {
        let next = self.next(envelopes);
        self.send(&next);
    }

    fn send(&self, block: &Block) {
        self.orderers.iter().for_each(|orderer| orderer.push(block.clone()));
    }

    /// Blocks of some transactions each.
    fn order_many(&mut self, blocks: usize) {
        for number in 0..blocks {
            let transactions: Vec<_> =
                (0..3).map(|place| self.draft(&format!("{number}-{place}")).envelope()).collect();
            self.order(&transactions);
        }
    }

    fn configure(&mut self, change: impl FnOnce(&mut weft_protos::common::Config)) -> Block {
        let mut config = self.bundle.config().clone();
        change(&mut config);
        let admins = self.network.admins();
        let admins: Vec<_> = admins.iter().map(|admin| *admin as &dyn weft_types::Signer).collect();
        let update = tx::config_update(&self.bundle, &config, &admins);
        let signer = &self.network.orderers[0].identity;
        let (block, next) =
            tx::config_block(&self.bundle, self.chain.last().unwrap(), &update, signer);
        self.bundle = next;
        self.last_config = self.chain.len() as u64;
        self.chain.push(block.clone());
        block
    }
}

async fn reaches(channel: &Channel, height: u64) {
    let mut watch = channel.height_watch();
    let waited = tokio::time::timeout(SOON, watch.wait_for(|at| *at >= height)).await;
    assert!(
        waited.is_ok(),
        "height {} of {height}: {:?}",
        channel.height(),
        channel.source_watch().borrow()
    );
}

async fn source_error(channel: &Channel, text: &str) {
    let mut watch = channel.source_watch();
    let waited = tokio::time::timeout(
        SOON,
        watch.wait_for(|status| status.last_error.as_ref().is_some_and(|e| e.contains(text))),
    );
    assert!(waited.await.is_ok(), "{text}: {:?}", channel.source_watch().borrow());
}

fn codes(channel: &Channel, number: u64) -> Vec<ValidationCode> {
    let block = channel.block(number).unwrap().unwrap();
    metadata::filter(&block).unwrap().iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_committed_and_told_about() {
    let mut world = World::new(1).await;
    let (channels, channel) = world.joined().await;
    assert_eq!(channel.height(), 1);
    assert_eq!(codes(&channel, 0), [ValidationCode::Valid]);

    let (good, mut bad) = (world.draft("a"), world.draft("b"));
    bad.endorsers.clear();
    let waiting = {
        let channel = Arc::clone(&channel);
        let ids = [good.id(), bad.id()];
        tokio::spawn(async move {
            let both = (channel.commit_status(&ids[0]), channel.commit_status(&ids[1]));
            let (good, bad) = tokio::join!(both.0, both.1);
            [good.unwrap(), bad.unwrap()]
        })
    };
    world.order(&[good.envelope(), bad.envelope(), good.envelope()]);
    let told = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap();
    let valid = CommitStatus { block: 1, code: ValidationCode::Valid };
    let failed = CommitStatus { block: 1, code: ValidationCode::EndorsementPolicyFailure };
    assert_eq!(told, [valid, failed]);
    assert_eq!(
        codes(&channel, 1),
        [
            ValidationCode::Valid,
            ValidationCode::EndorsementPolicyFailure,
            ValidationCode::DuplicateTxid
        ]
    );
    assert_eq!(channel.commit_status(&good.id()).await.unwrap(), valid, "already committed");
    assert_eq!(channel.waiting(), 0);

    // The same envelope in a later block takes no effect again.
    world.order(&[good.envelope(), world.draft("c").envelope()]);
    reaches(&channel, 3).await;
    assert_eq!(codes(&channel, 2), [ValidationCode::DuplicateTxid, ValidationCode::Valid]);
    assert_eq!(channel.tx_status(&good.id()).unwrap(), Some(valid));
    channels.shutdown().await;
    assert!(channel.fault().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_chain_is_caught_up_with_in_order_and_equal_on_every_peer() {
    let mut world = World::new(2).await;
    world.order_many(60);
    let (channels, channel) = world.joined().await;
    reaches(&channel, 61).await;
    channels.shutdown().await;
    let hash = channel.ledger().commit_hash();

    let other = World { store: Arc::new(MemoryKv::new()), ..world };
    let (channels, channel) = other.joined().await;
    reaches(&channel, 61).await;
    assert_eq!(channel.ledger().commit_hash(), hash);
    channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_in_flight_see_each_other() {
    let mut world = World::new(1).await;
    // Writes that take their time, so that blocks are validated before others are stored.
    let delay = Duration::from_millis(5);
    let store = Arc::new(FailingKv { delay, ..FailingKv::default() });
    world.store = store.clone();
    let mut repeated = world.draft("repeated").envelope();
    for number in 1..=40 {
        let mut counts = world.draft("counter");
        let before = (number > 1).then_some((number - 1, 0));
        counts.set.read(CHAINCODE, "counter", before);
        let mut stale = world.draft("stale");
        stale.set.read(CHAINCODE, "counter", before);
        let mut owns = world.draft(&format!("own{number}"));
        owns.set.write_policy(CHAINCODE, &format!("own{number}"), "OR('Org2MSP.peer')");
        let intrudes = world.draft(&format!("own{}", number - 1));
        let next = world.draft("repeated").envelope();
        let block = [
            counts.envelope(),
            stale.envelope(),
            owns.envelope(),
            intrudes.envelope(),
            repeated,
            next.clone(),
        ];
        world.order(&block);
        repeated = next;
    }
    let (channels, channel) = world.joined().await;
    reaches(&channel, 41).await;
    assert!(!store.unsynced.load(Ordering::SeqCst), "what is told of is on disk");
    use ValidationCode::{DuplicateTxid, EndorsementPolicyFailure, MvccReadConflict, Valid};
    assert_eq!(codes(&channel, 1), [Valid, MvccReadConflict, Valid, Valid, Valid, Valid]);
    for number in 2..=40 {
        assert_eq!(
            codes(&channel, number),
            [Valid, MvccReadConflict, Valid, EndorsementPolicyFailure, DuplicateTxid, Valid],
            "block {number}"
        );
    }
    channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was() {
    let mut world = World::new(1).await;
    world.order_many(5);
    let (channels, channel) = world.joined().await;
    reaches(&channel, 6).await;
    channels.shutdown().await;
    drop(channel);

    let channels = world.channels();
    channels.open_existing(vec![ChannelId::new(CHANNEL).unwrap()]).await;
    let channel = channels.get_str(CHANNEL).unwrap();
    assert_eq!(channel.height(), 6);
    world.order_many(5);
    reaches(&channel, 11).await;
    channels.shutdown().await;
}

type Tampering = (&'static str, fn(Block) -> Block);

/// Ways to falsify block 1, which holds two transactions.
const TAMPERINGS: [Tampering; 7] = [
    ("other data", |mut block| {
        block.data.as_mut().unwrap().data.pop();
        block
    }),
    ("other data under its own hash", |mut block| {
        block.data.as_mut().unwrap().data.pop();
        let hash = block::data_hash(block::transactions(&block));
        block.header.as_mut().unwrap().data_hash = Bytes::copy_from_slice(&hash);
        block
    }),
    ("transactions cut elsewhere", |mut block| {
        let data = &mut block.data.as_mut().unwrap().data;
        *data = vec![data.concat().into()];
        block
    }),
    ("another number", |mut block| {
        block.header.as_mut().unwrap().number += 1;
        block
    }),
    ("another predecessor", |mut block| {
        block.header.as_mut().unwrap().previous_hash = vec![7; 32].into();
        block
    }),
    ("no signatures", |mut block| {
        metadata::set_slot(&mut block, BlockMetadataIndex::Signatures, Bytes::new());
        block
    }),
    ("a stranger's signature", |mut block| {
        let stranger = weft_testkit::Org::new("OrdererMSP").orderer;
        let metadata = metadata::orderer_metadata(&block).unwrap();
        metadata::sign(&mut block, &metadata, &stranger, tx::nonce()).unwrap();
        block
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_falsified_block_is_refused_and_another_orderer_asked() {
    for (name, tamper) in TAMPERINGS {
        let mut world = World::new(2).await;
        world.orderers[1].set_fault(Fault::Unavailable);
        world.orderers[0].set_fault(Fault::Tamper(Arc::new(tamper)));
        let (a, b) = (world.draft("a").envelope(), world.draft("b").envelope());
        world.order(&[a, b]);
        let (channels, channel) = world.joined().await;
        source_error(&channel, "failed to take").await;
        assert_eq!(channel.height(), 1, "{name}");
        world.orderers[1].set_fault(Fault::None);
        reaches(&channel, 2).await;
        let stored = channel.block(1).unwrap().unwrap();
        assert_eq!(stored.data, world.chain[1].data, "{name}");
        channels.shutdown().await;
        assert!(channel.fault().is_none(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_end_are_opened_again() {
    let mut world = World::new(1).await;
    world.orderers[0].set_fault(Fault::OneBlockAStream);
    world.order_many(4);
    let (channels, channel) = world.joined().await;
    reaches(&channel, 5).await;
    assert!(world.orderers[0].requests() >= 4);
    world.orderers[0].set_fault(Fault::Unavailable);
    source_error(&channel, "SERVICE_UNAVAILABLE").await;
    world.order_many(1);
    world.orderers[0].set_fault(Fault::None);
    reaches(&channel, 6).await;
    channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_that_falls_silent_is_left_when_another_is_ahead() {
    let mut world = World::new(2).await;
    world.order_many(1);
    world.orderers[1].set_fault(Fault::Unavailable);
    let (channels, channel) = world.joined().await;
    reaches(&channel, 2).await;
    // Nobody is ahead: a quiet channel is no reason to leave.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(channel.source_watch().borrow().orderer.is_some());
    world.orderers[0].set_fault(Fault::SilentFrom(2));
    world.orderers[1].set_fault(Fault::None);
    world.order_many(2);
    reaches(&channel, 4).await;
    channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_takes_effect_and_moves_the_client() {
    let mut world = World::new(2).await;
    let (channels, channel) = world.joined().await;
    let second = world.network.orderers[1].endpoint.clone();
    let block = world.configure(|config| {
        edit::set_endpoints(config, "OrdererMSP", &[second]).unwrap();
        let org = weft_testkit::Org::new("Org3MSP");
        edit::add_application_org(config, &Network::org_profile(&org)).unwrap();
    });
    let mut sequence = channel.config_watch();
    world.send(&block);
    reaches(&channel, 2).await;
    assert_eq!(codes(&channel, 1), [ValidationCode::Valid]);
    assert_eq!(*sequence.borrow_and_update(), 1);
    assert_eq!(channel.bundle().sequence(), 1);
    assert_eq!(channel.bundle().application().unwrap().orgs.len(), 3);
    // Only the second orderer has what follows.
    let draft = world.draft("after").envelope();
    let next = world.next(&[draft]);
    world.orderers[1].push(next);
    reaches(&channel, 3).await;
    channels.shutdown().await;

    let channels = world.channels();
    channels.open_existing(vec![ChannelId::new(CHANNEL).unwrap()]).await;
    assert_eq!(channels.get_str(CHANNEL).unwrap().bundle().sequence(), 1);
    channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_may_not_follow_is_refused() {
    let mut world = World::new(1).await;
    let (channels, channel) = world.joined().await;
    // Signed by an orderer, but the update in it is not allowed by anyone.
    let block = world.configure(|config| {
        edit::add_application_org(
            config,
            &Network::org_profile(&weft_testkit::Org::new("Org3MSP")),
        )
        .unwrap();
    });
    let raw = block::transactions(&block)[0].clone();
    let envelope = Envelope::decode(raw).unwrap();
    let mut parsed = weft_types::ParsedEnvelope::from_envelope(envelope).unwrap();
    let mut config =
        weft_protos::common::ConfigEnvelope::decode(parsed.payload.data.clone()).unwrap();
    config.config.as_mut().unwrap().sequence += 1;
    parsed.payload.data = config.encode_to_vec().into();
    let orderer = &world.network.orderers[0].identity;
    let forged = weft_config::update::config_envelope(
        &ChannelId::new(CHANNEL).unwrap(),
        &config,
        orderer,
        weft_testkit::clock::NOW,
        tx::nonce(),
    )
    .unwrap();
    let forged = tx::next_block(&world.chain[0], 1, &[forged], orderer);
    world.orderers[0].push(forged);
    source_error(&channel, "failed to take config block 1").await;
    assert_eq!(channel.height(), 1);
    assert_eq!(channel.bundle().sequence(), 0);
    assert!(channel.fault().is_none());
    channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_joined_once() {
    let world = World::new(1).await;
    let channels = world.channels();
    let genesis = world.chain[0].clone();
    let (first, second) =
        tokio::join!(channels.join(genesis.clone()), channels.join(genesis.clone()));
    let refused =
        |joined: &Result<_, JoinError>| matches!(joined, Err(JoinError::AlreadyJoined { .. }));
    assert!(first.is_ok() != second.is_ok());
    assert!(refused(&first) || refused(&second));
    assert!(refused(&channels.join(genesis.clone()).await));
    let mut later = genesis.clone();
    later.header.as_mut().unwrap().number = 3;
    assert!(matches!(channels.join(later).await, Err(JoinError::NotGenesis { number: 3 })));
    assert!(matches!(channels.join(Block::default()).await, Err(JoinError::Block(_))));
    channels.shutdown().await;
    assert!(matches!(
        channels.join(genesis).await,
        Err(JoinError::ShuttingDown { .. } | JoinError::AlreadyJoined { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_stops_the_channel_and_acknowledges_nothing() {
    let mut world = World::new(1).await;
    let store = Arc::new(FailingKv::default());
    world.store = store.clone();
    let (channels, channel) = world.joined().await;
    world.order_many(1);
    reaches(&channel, 2).await;
    store.fail.store(true, Ordering::SeqCst);
    let draft = world.draft("lost");
    let waiting = {
        let (channel, id) = (Arc::clone(&channel), draft.id());
        tokio::spawn(async move { channel.commit_status(&id).await })
    };
    world.order(&[draft.envelope()]);
    let ended = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap();
    assert!(matches!(ended, Err(StatusError::Stopped(_))), "{ended:?}");
    let fault = channel.faulted().await;
    assert_eq!(fault.block, 2);
    assert!(fault.reason.contains("the disk is on fire"), "{fault}");
    assert_eq!(channel.height(), 2);
    let again = channel.commit_status(&draft.id()).await;
    assert!(matches!(again, Err(StatusError::Stopped(_))), "{again:?}");
    channels.shutdown().await;

    // Once the store works again, a new start goes on.
    store.fail.store(false, Ordering::SeqCst);
    let channels = world.channels();
    channels.open_existing(vec![ChannelId::new(CHANNEL).unwrap()]).await;
    let channel = channels.get_str(CHANNEL).unwrap();
    let id = draft.id();
    let status = tokio::time::timeout(SOON, channel.commit_status(&id));
    assert_eq!(status.await.unwrap().unwrap().code, ValidationCode::Valid);
    channels.shutdown().await;
}

/// The disk was full for a while: the channel comes back without a restart of the peer.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_channel_is_opened_again_by_itself() {
    let mut world = World::new(1).await;
    let store = Arc::new(FailingKv::default());
    world.store = store.clone();
    let (channels, channel) = world.joined().await;
    let id = channel.id().clone();
    store.fail.store(true, Ordering::SeqCst);
    let draft = world.draft("late");
    let mut heights = channel.height_watch();
    world.order(&[draft.envelope()]);
    channels.reaches(&id, |state| matches!(state, Some(State::Failed(_)))).await;
    assert!(channels.failures()[0].1.contains("the disk is on fire"), "{:?}", channels.failures());
    assert_eq!(channels.names(), std::slice::from_ref(&id));
    assert_eq!(channels.get(&id).unwrap().height(), 1, "what it has can be read");
    let ended = tokio::time::timeout(SOON, async { while heights.changed().await.is_ok() {} });
    ended.await.expect("those who wait for blocks are told to go");
    let joined = channels.join(world.chain[0].clone()).await;
    assert!(matches!(joined, Err(JoinError::AlreadyJoined { .. })));
    drop((channel, heights));
    store.fail.store(false, Ordering::SeqCst);
    let running = channels.reaches(&id, |state| state == Some(&State::Running));
    tokio::time::timeout(SOON, running).await.unwrap();
    let channel = channels.get(&id).unwrap();
    let id = draft.id();
    let status = tokio::time::timeout(SOON, channel.commit_status(&id));
    assert_eq!(status.await.unwrap().unwrap().code, ValidationCode::Valid);
    assert_eq!(channels.failures(), []);
    channels.shutdown().await;
}

/// Stores whose opening waits for a word.
struct Gate {
    inner: MemoryStores,
    reached: std::sync::mpsc::SyncSender<()>,
    go: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Stores for Gate {
    fn open(&self, channel: &ChannelId) -> Result<Opened, KvError> {
        self.reached.send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        self.inner.open(channel)
    }

    fn keep(&self, created: &Created) -> Result<(), KvError> {
        self.inner.keep(created)
    }

    fn list(&self) -> Result<Vec<ChannelId>, KvError> {
        self.inner.list()
    }

    fn remove(&self, removal: &Removal) -> Result<(), KvError> {
        self.inner.remove(removal)
    }
}

/// A store that is still open when the process ends takes it down.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_waits_for_a_join_that_is_under_way() {
    let world = World::new(1).await;
    let (reached, here) = std::sync::mpsc::sync_channel(1);
    let (open, go) = std::sync::mpsc::channel();
    let store = Arc::new(MemoryKv::new());
    let kept = Arc::clone(&store);
    let inner = MemoryStores::new(move || Arc::clone(&kept) as Arc<dyn Kv>);
    let gate = Arc::new(Gate { inner, reached, go: std::sync::Mutex::new(go) });
    let channels = world.channels_in(gate);
    let (joining, genesis) = (Arc::clone(&channels), world.chain[0].clone());
    let joining = tokio::spawn(async move { joining.join(genesis).await });
    tokio::task::spawn_blocking(move || here.recv().unwrap()).await.unwrap();
    let ending = Arc::clone(&channels);
    let ending = tokio::spawn(async move { ending.shutdown().await });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!ending.is_finished(), "the join is under way");
    open.send(()).unwrap();
    tokio::time::timeout(SOON, ending).await.unwrap().unwrap();
    drop(joining.await.unwrap().unwrap());
    drop(channels);
    assert_eq!(Arc::strong_count(&store), 1, "nobody has the store open any more");
}

/// A store that can be made slow or to fail.
#[derive(Default)]
struct FailingKv {
    inner: MemoryKv,
    delay: Duration,
    fail: AtomicBool,
    unsynced: AtomicBool,
}

impl KvRead for FailingKv {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.inner.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.inner.scan(column, range, direction, limit)
    }
}

impl Kv for FailingKv {
    fn snapshot(&self) -> Arc<dyn KvRead> {
        self.inner.snapshot()
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        std::thread::sleep(self.delay);
        match self.fail.load(Ordering::SeqCst) {
            true => {
                let source = std::io::Error::other("the disk is on fire");
                Err(KvError::Write { source: Arc::new(source) })
            }
            false => {
                self.unsynced.store(durability == Durability::Buffered, Ordering::SeqCst);
                self.inner.write(batch, durability)
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_values_of_valid_transactions_enter_the_private_state() {
    let mut world = World::new(1).await;
    let (channels, channel) = world.joined().await;
    let collection = "_implicit_org_Org1MSP";
    let private = |value: &str| {
        let writes = KvrwSet {
            writes: vec![KvWrite {
                key: "key".into(),
                value: Bytes::copy_from_slice(value.as_bytes()),
                is_delete: false,
            }],
            ..Default::default()
        };
        let rwset: Bytes = writes.encode_to_vec().into();
        let hash = Bytes::copy_from_slice(&weft_crypto::sha256(&rwset));
        let part = CollectionPvtReadWriteSet { collection_name: collection.into(), rwset };
        let part =
            NsPvtReadWriteSet { namespace: CHAINCODE.into(), collection_pvt_rwset: vec![part] };
        (TxPvtReadWriteSet { ns_pvt_rwset: vec![part], ..Default::default() }, hash)
    };
    let mut draft = world.draft("public");
    let (values, hash) = private("private");
    draft.set.write_hash(CHAINCODE, collection, "key");
    draft.set.namespace(CHAINCODE).2[0].private_hash = hash;
    // An earlier simulation of the same proposal came to something else.
    let (others, _) = private("other");
    keep(channel.ledger(), &draft.id(), &others).unwrap();
    keep(channel.ledger(), &draft.id(), &values).unwrap();

    let mut failing = world.draft("failing");
    let (values, hash) = private("never");
    failing.set.write_hash(CHAINCODE, collection, "another");
    failing.set.namespace(CHAINCODE).2[0].private_hash = hash;
    failing.endorsers.clear();
    keep(channel.ledger(), &failing.id(), &values).unwrap();

    world.order(&[draft.envelope(), failing.envelope()]);
    reaches(&channel, 2).await;
    assert_eq!(
        codes(&channel, 1),
        [ValidationCode::Valid, ValidationCode::EndorsementPolicyFailure]
    );
    let state = channel.ledger().state();
    let found = state.get_private(CHAINCODE, collection, "key").unwrap().unwrap();
    assert_eq!(found.value, "private");
    let kept = channel.ledger().kv().scan(TRANSIENT, &KeyRange::all(), Direction::Forward, 9);
    assert!(kept.unwrap().is_empty(), "nothing waits any more");
    channels.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_end_when_the_peer_does() {
    let world = World::new(1).await;
    let (channels, channel) = world.joined().await;
    let waiting = {
        let channel = Arc::clone(&channel);
        tokio::spawn(async move { channel.commit_status(&"00".repeat(32)).await })
    };
    while channel.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    channels.shutdown().await;
    let ended = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap();
    assert!(ended.is_err());
}
