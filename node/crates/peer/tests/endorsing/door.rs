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
use weft_peer::blocking::Blocking;
use weft_peer::chaincode::LedgerState;
use weft_peer::syscc::SystemCall;
use weft_protos::lifecycle::{QueryChaincodeDefinitionsArgs, QueryInstalledChaincodesArgs};
use weft_testkit::clock::NOW;
use weft_types::ValidationCode;

use crate::support::CHANNEL;
use crate::world::{Draft, TestPeer, World};

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
async fn peer(watch: &Arc<Watch>) -> (World, TestPeer, String) {
    let world = World::new().await;
    let watched = Arc::clone(watch);
    let stores = MemoryStores::new(move || {
        Arc::new(Watched(Arc::clone(&watched), Arc::new(MemoryKv::new())))
    });
    let peer = world.peer_on(1, stores).await;
    let approve = Draft::new("asset").approve(world.admin(1), "label:00");
    let code = world.transact(world.admin(1), &approve, &[&peer], &[&peer]).await;
    assert_eq!(code, ValidationCode::Valid);
    (world, peer, approve.tx_id.to_string())
}

/// Each call is the first thing that its task does: after a piece of work behind the door, the worker
/// may be another thread for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_worker_goes_on_while_system_chaincodes_read() {
    let watch = Watch::new();
    let (world, peer, tx_id) = peer(&watch).await;
    let channel = peer.channel();
    let hash = channel.block(1).unwrap().unwrap().header.clone().unwrap().previous_hash;
    let all = QueryInstalledChaincodesArgs::default().encode_to_vec();
    let defined = QueryChaincodeDefinitionsArgs::default().encode_to_vec();
    let id = CHANNEL.as_bytes();
    let calls: [(&'static str, &'static str, &[&[u8]]); 8] = [
        ("cscc", "GetConfigBlock", &[id]),
        ("cscc", "GetChannelConfig", &[id]),
        ("qscc", "GetBlockByNumber", &[id, b"1"]),
        ("qscc", "GetBlockByHash", &[id, &hash]),
        ("qscc", "GetBlockByTxID", &[id, tx_id.as_bytes()]),
        ("qscc", "GetTransactionByID", &[id, tx_id.as_bytes()]),
        ("_lifecycle", "QueryInstalledChaincodes", &[&all]),
        ("_lifecycle", "QueryChaincodeDefinitions", &[&defined]),
    ];
    for (chaincode, function, arguments) in calls {
        let args: Vec<Bytes> = std::iter::once(function.as_bytes())
            .chain(arguments.iter().copied())
            .map(Bytes::copy_from_slice)
            .collect();
        let (system, bundle) = (peer.parts.system.clone(), channel.bundle());
        let creator = world.admin(1).authenticated();
        let state = LedgerState::new(Arc::clone(channel.ledger()), "tx", true);
        let call = async move {
            let (args, creator) = (&args, &creator);
            let mut state = Blocking::new(state);
            let call = SystemCall { chaincode, args, channel: Some(&bundle), creator, now: NOW };
            system.invoke(call, Some(&mut state)).await
        };
        let answer = watch.check(function, call).await;
        assert_eq!(answer.status, 200, "{function}: {}", answer.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_worker_goes_on_while_a_commit_status_is_looked_up() {
    let watch = Watch::new();
    let (_world, peer, tx_id) = peer(&watch).await;
    let call = async move { peer.channel().commit_status(&tx_id).await };
    let status = watch.check("CommitStatus", call).await.unwrap();
    assert_eq!((status.block, status.code), (1, ValidationCode::Valid));
}
