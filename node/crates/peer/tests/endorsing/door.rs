//! System chaincodes read the ledger where it may block, never on a worker of tokio's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::runtime::Handle;
use weft_channels::memory::MemoryStores;
use weft_ledger::kv::memory::MemoryKv;
use weft_ledger::kv::{Batch, Column, Direction, Durability, KeyRange, Kv, KvError, KvRead};
use weft_peer::chaincode::package::Connection;
use weft_protos::lifecycle::{QueryChaincodeDefinitionsArgs, QueryInstalledChaincodesArgs};
use weft_types::ValidationCode;

use crate::support::CHANNEL;
use crate::world::{Draft, TestPeer, World, propose};

/// Longest wait of a read that holds the worker up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Has every read wait for a task on the runtime, whose only worker is free or is not.
struct Watch {
    runtime: Handle,
    on: AtomicBool,
    reads: AtomicUsize,
    held_up: AtomicBool,
}

impl Watch {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            runtime: Handle::current(),
            on: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            held_up: AtomicBool::new(false),
        })
    }

    fn read(&self) {
        if !self.on.load(Ordering::SeqCst) {
            return;
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        let (done, is_done) = mpsc::channel();
        self.runtime.spawn(async move { done.send(()) });
        if is_done.recv_timeout(PATIENCE).is_err() {
            // Once is enough.
            self.on.store(false, Ordering::SeqCst);
            self.held_up.store(true, Ordering::SeqCst);
        }
    }

    /// Runs a call on the worker: it reads, and the worker is free while it does.
    async fn check<T: Send + 'static>(
        &self,
        what: &str,
        call: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.reads.store(0, Ordering::SeqCst);
        self.on.store(true, Ordering::SeqCst);
        let answer = tokio::spawn(call).await.unwrap();
        self.on.store(false, Ordering::SeqCst);
        assert!(!self.held_up.load(Ordering::SeqCst), "{what} reads on a worker");
        assert!(self.reads.load(Ordering::SeqCst) > 0, "{what} reads nothing");
        answer
    }
}

/// A store, or a view of one, whose reads are watched.
struct Watched<T: ?Sized>(Arc<Watch>, Arc<T>);

impl<T: KvRead + ?Sized> KvRead for Watched<T> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.0.read();
        self.1.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.0.read();
        self.1.scan(column, range, direction, limit)
    }
}

impl Kv for Watched<MemoryKv> {
    fn snapshot(&self) -> Arc<dyn KvRead> {
        Arc::new(Watched(Arc::clone(&self.0), self.1.snapshot()))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        self.1.write(batch, durability)
    }
}

/// A peer with one transaction, of that id.
async fn peer(watch: &Arc<Watch>) -> (Arc<World>, Arc<TestPeer>, String) {
    let world = World::new().await;
    let watched = Arc::clone(watch);
    let stores = MemoryStores::new(move || {
        Arc::new(Watched(Arc::clone(&watched), Arc::new(MemoryKv::new())))
    });
    let peer = world.peer_on(1, stores).await;
    let approve = Draft::new("asset").approve(world.admin(1), "label:00");
    let code = world.transact(world.admin(1), &approve, &[&peer], &[&peer]).await;
    assert_eq!(code, ValidationCode::Valid);
    (Arc::new(world), Arc::new(peer), approve.tx_id.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_worker_goes_on_while_system_chaincodes_read() {
    let watch = Watch::new();
    let (world, peer, tx_id) = peer(&watch).await;
    let hash = peer.channel().block(1).unwrap().unwrap().header.clone().unwrap().previous_hash;
    let all = QueryInstalledChaincodesArgs::default().encode_to_vec();
    let defined = QueryChaincodeDefinitionsArgs::default().encode_to_vec();
    let id = CHANNEL.as_bytes();
    let calls: [(&'static str, &str, &[u8], &[u8]); 7] = [
        ("cscc", "GetConfigBlock", id, b""),
        ("cscc", "GetChannelConfig", id, b""),
        ("qscc", "GetBlockByNumber", id, b"1"),
        ("qscc", "GetBlockByHash", id, &hash),
        ("qscc", "GetBlockByTxID", id, tx_id.as_bytes()),
        ("qscc", "GetTransactionByID", id, tx_id.as_bytes()),
        ("_lifecycle", "QueryInstalledChaincodes", &all, b""),
    ];
    peer.install(world.admin(1), "asset", &Connection::plain("")).await;
    for (chaincode, function, first, second) in calls {
        let (world, peer) = (Arc::clone(&world), Arc::clone(&peer));
        let args = [function.as_bytes().to_vec(), first.to_vec(), second.to_vec()];
        let given = if second.is_empty() { 2 } else { 3 };
        let call = async move {
            let args: Vec<&[u8]> = args.iter().take(given).map(Vec::as_slice).collect();
            peer.call_local(world.admin(1), chaincode, &args).await
        };
        let answer = watch.check(function, call).await;
        assert_eq!(answer.status, 200, "{function}: {}", answer.message);
    }
    let call = async move {
        let args: [&[u8]; 2] = [b"QueryChaincodeDefinitions", &defined];
        peer.send(&propose(world.admin(1), "_lifecycle", &args)).await
    };
    let answer = watch.check("QueryChaincodeDefinitions", call).await;
    assert_eq!(answer.response.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_worker_goes_on_while_a_commit_status_is_looked_up() {
    let watch = Watch::new();
    let (_world, peer, tx_id) = peer(&watch).await;
    let call = async move { peer.channel().commit_status(&tx_id).await };
    let status = watch.check("CommitStatus", call).await.unwrap();
    assert_eq!((status.block, status.code), (1, ValidationCode::Valid));
}
