//! All channels of the peer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_config::Bundle;
use weft_config::block as config_block;
use weft_ledger::kv::{Batch, Kv, KvError};
use weft_ledger::simulator::QueryLimits;
use weft_ledger::{BlockStoreError, CommitInput, Ledger, LedgerError, UpdateBatch};
use weft_msp::CurrentIdentity;
use weft_protos::common::Block;
use weft_rpc::connect::Connector;
use weft_rpc::tls::{ReloadingTls, certificates_from_pem};
use weft_types::block::{self, BlockError};
use weft_types::{ChannelId, ParsedEnvelope, TxFilter, ValidationCode};

use super::Channel;
use crate::commit::endorsement::{Definitions, RuleBook};
use crate::commit::members::Members;
use crate::commit::metrics::{CommitMetrics, field};
use crate::commit::pipeline::{ConfigListener, Pipeline, PipelineParts};
use crate::commit::pool::Pool;
use crate::deliver_client::{DeliverClient, DeliverClientConfig, Parts, Progress};
use crate::private::Later;

/// Opens the store of a channel, making it where there is none.
pub type StoreFactory = Arc<dyn Fn(&ChannelId) -> Result<Arc<dyn Kv>, KvError> + Send + Sync>;

/// What channels are put together from.
#[derive(Clone)]
pub struct ChannelDeps {
    /// Opens stores.
    pub stores: StoreFactory,
    /// Verifies signatures.
    pub pool: Pool,
    /// Where chaincode definitions are looked up.
    pub definitions: Arc<dyn Definitions>,
    /// The peer's identity, for requests to orderers.
    pub identity: CurrentIdentity,
    /// The peer's TLS; the channels' authorities are added to its root sets.
    pub tls: ReloadingTls,
    /// Connections to orderers.
    pub connector: Connector,
    /// How blocks are taken from orderers.
    pub deliver_client: DeliverClientConfig,
    /// Limits of simulations' queries.
    pub query_limits: QueryLimits,
    /// Whether the history of keys is kept.
    pub history: bool,
    /// Calls that may wait for commits, for each channel.
    pub max_waiters: usize,
    /// Metrics, if wanted.
    pub metrics: Option<CommitMetrics>,
    /// Other members of collections; forgotten again by [`Channels::shutdown`].
    pub exchange: Later,
    /// How long a block waits for private data from other peers; zero does not wait.
    pub pull_timeout: Duration,
}

/// The channels of a peer.
pub struct Channels {
    deps: ChannelDeps,
    channels: RwLock<BTreeMap<ChannelId, Arc<Channel>>>,
    joining: Mutex<BTreeSet<ChannelId>>,
    tasks: Mutex<JoinSet<()>>,
    joined: Notify,
    missing: Arc<Notify>,
    shutdown: CancellationToken,
}

/// A channel of an earlier run cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be opened.
    #[error("failed to open the store of channel {channel}")]
    Store {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        source: KvError,
    },
    /// The ledger cannot be opened.
    #[error("failed to open the ledger of channel {channel}")]
    Ledger {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// The newest config block cannot be read.
    #[error("failed to read the newest config block of channel {channel}")]
    ConfigBlock {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        #[source]
        source: BlockStoreError,
    },
    /// The ledger has blocks but no configuration.
    #[error("failed to find the configuration of channel {channel}")]
    NoConfig {
        /// The channel.
        channel: ChannelId,
    },
    /// The configuration cannot be used.
    #[error("failed to read the configuration of channel {channel}")]
    Config {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        #[source]
        source: Box<weft_config::block::BlockError>,
    },
    /// A thread could not be started.
    #[error("failed to start the commit pipeline of channel {channel}")]
    Thread {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        source: std::io::Error,
    },
    /// The work broke off.
    #[error("failed to open channel {channel}: the work broke off")]
    Broken {
        /// The channel.
        channel: ChannelId,
    },
}

/// A channel cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The block is not a channel's first one.
    #[error("failed to join a channel: block {number} is not a genesis block")]
    NotGenesis {
        /// The block's number.
        number: u64,
    },
    /// The block's parts do not fit together.
    #[error("failed to join a channel")]
    Block(#[source] BlockError),
    /// The configuration cannot be read or used.
    #[error("failed to join a channel")]
    Config(#[source] Box<weft_config::block::BlockError>),
    /// The channel has no application group: it has no use for peers.
    #[error("failed to join channel {channel}: its configuration has no application group")]
    NoApplication {
        /// The channel.
        channel: ChannelId,
    },
    /// The peer has joined the channel, or is about to.
    #[error("failed to join channel {channel}: the peer has joined it already")]
    AlreadyJoined {
        /// The channel.
        channel: ChannelId,
    },
    /// The peer is stopping.
    #[error("failed to join channel {channel}: the peer is shutting down")]
    ShuttingDown {
        /// The channel.
        channel: ChannelId,
    },
    /// The genesis block could not be stored.
    #[error("failed to store the genesis block of channel {channel}")]
    Store {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// The channel could not be opened.
    #[error("failed to join a channel")]
    Open(#[source] OpenError),
}

impl Channels {
    /// No channels yet. Must be used within a tokio runtime.
    #[must_use]
    pub fn new(deps: ChannelDeps) -> Arc<Self> {
        Arc::new(Self {
            deps,
            channels: RwLock::default(),
            joining: Mutex::default(),
            tasks: Mutex::new(JoinSet::new()),
            joined: Notify::new(),
            missing: Arc::new(Notify::new()),
            shutdown: CancellationToken::new(),
        })
    }

    /// A channel, when the peer has joined it.
    #[must_use]
    pub fn get(&self, id: &ChannelId) -> Option<Arc<Channel>> {
        self.get_str(id.as_str())
    }

    /// A channel by its name, which need not be a valid one.
    #[must_use]
    pub fn get_str(&self, id: &str) -> Option<Arc<Channel>> {
        self.channels.read().get(id).cloned()
    }

    /// All channels, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Channel>> {
        self.channels.read().values().cloned().collect()
    }

    /// Joins the channel that `genesis` begins. When this returns the channel is stored for good
    /// and takes blocks from its orderers. A crash before that leaves nothing to be cleaned up.
    ///
    /// # Errors
    /// [`JoinError`]; the peer is as before then.
    pub async fn join(self: &Arc<Self>, genesis: Block) -> Result<Arc<Channel>, JoinError> {
        let bundle = check_genesis(&genesis)?;
        let channel = bundle.channel_id().clone();
        let reservation = self.reserve(&channel)?;
        let channels = Arc::clone(self);
        let name = channel.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let _reservation = reservation;
            let ledger = channels.open_ledger(&name).map_err(JoinError::Open)?;
            if ledger.height() > 0 {
                return Err(JoinError::AlreadyJoined { channel: name });
            }
            store_genesis(&ledger, genesis)?;
            channels.start(ledger, bundle).map_err(JoinError::Open)
        });
        opened.await.unwrap_or(Err(JoinError::Open(OpenError::Broken { channel })))
    }

    /// Opens channels of earlier runs, at once. One without a block, as a crash can leave it, is
    /// passed over: it was never joined.
    ///
    /// # Errors
    /// [`OpenError`] of the first one that cannot be opened.
    pub async fn open_existing(self: &Arc<Self>, ids: Vec<ChannelId>) -> Result<(), OpenError> {
        let mut opening = Vec::new();
        for id in ids {
            let channels = Arc::clone(self);
            let name = id.clone();
            opening.push((name, tokio::task::spawn_blocking(move || channels.open(&id))));
        }
        for (channel, opened) in opening {
            opened.await.unwrap_or(Err(OpenError::Broken { channel }))?;
        }
        Ok(())
    }

    /// Resolves when a channel is joined after the call.
    pub fn joined(&self) -> impl Future<Output = ()> + '_ {
        self.joined.notified()
    }

    /// Resolves when a block was committed without private data that this peer should have, since
    /// the last call.
    pub(crate) fn went_missing(&self) -> impl Future<Output = ()> + '_ {
        self.missing.notified()
    }

    pub(crate) fn metrics(&self) -> Option<&CommitMetrics> {
        self.deps.metrics.as_ref()
    }

    /// Stops taking blocks, lets every channel finish what it holds, and waits for that.
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
        self.deps.exchange.clear();
    }

    fn open(&self, id: &ChannelId) -> Result<(), OpenError> {
        let ledger = self.open_ledger(id)?;
        if ledger.height() == 0 {
            tracing::warn!({ field::CHANNEL } = %id, "passed over a channel that was not joined to the end");
            return Ok(());
        }
        let newest = ledger.blocks().last_config_block();
        let newest =
            newest.map_err(|source| OpenError::ConfigBlock { channel: id.clone(), source })?;
        let newest = newest.ok_or_else(|| OpenError::NoConfig { channel: id.clone() })?;
        let bundle = config_block::bundle_from_block(&newest).map_err(|source| {
            OpenError::Config { channel: id.clone(), source: Box::new(source) }
        })?;
        self.start(ledger, bundle)?;
        Ok(())
    }

    fn open_ledger(&self, id: &ChannelId) -> Result<Ledger, OpenError> {
        let store = (self.deps.stores)(id)
            .map_err(|source| OpenError::Store { channel: id.clone(), source })?;
        let ledger = Ledger::open(store, id.clone())
            .map_err(|source| OpenError::Ledger { channel: id.clone(), source })?;
        Ok(ledger.with_query_limits(self.deps.query_limits))
    }

    /// Starts a channel's pipeline and client.
    fn start(&self, ledger: Ledger, bundle: Bundle) -> Result<Arc<Channel>, OpenError> {
        let deps = &self.deps;
        let id = ledger.channel_id().clone();
        let tip = ledger.blocks().tip();
        let progress = Progress::new(tip.height, tip.last_hash, bundle.clone());
        let roots = Arc::new(ChannelRoots(deps.tls.clone()));
        roots.configured(&bundle);
        let channel = Channel::new(id.clone(), Arc::new(ledger), bundle, deps.max_waiters);
        let channel = Arc::new(channel);
        if let Some(metrics) = &deps.metrics {
            metrics.height(&id, tip.height);
        }
        let (queue, blocks) = mpsc::channel(deps.deliver_client.settings.buffer_blocks.max(1));
        let parts = PipelineParts {
            channel: Arc::clone(&channel),
            pool: deps.pool.clone(),
            book: RuleBook::new(Arc::clone(&deps.definitions)),
            metrics: deps.metrics.clone(),
            history: deps.history,
            listener: roots,
            members: Members {
                identity: deps.identity.clone(),
                exchange: deps.exchange.clone(),
                pull_timeout: deps.pull_timeout,
                runtime: Handle::current(),
                shutdown: self.shutdown.clone(),
                missing: Arc::clone(&self.missing),
            },
        };
        let pipeline = Pipeline::start(parts, blocks)
            .map_err(|source| OpenError::Thread { channel: id.clone(), source })?;
        let client = DeliverClient::new(Parts {
            channel: Arc::clone(&channel),
            config: deps.deliver_client.clone(),
            connector: deps.connector.clone(),
            tls: deps.tls.clone(),
            identity: deps.identity.clone(),
            metrics: deps.metrics.clone(),
            queue,
            progress,
        });
        self.channels.write().insert(id, Arc::clone(&channel));
        self.joined.notify_waiters();
        let shutdown = self.shutdown.clone();
        self.tasks.lock().spawn(async move {
            client.run(shutdown).await;
            pipeline.done().await;
        });
        Ok(channel)
    }

    fn reserve(self: &Arc<Self>, id: &ChannelId) -> Result<Reservation, JoinError> {
        if self.shutdown.is_cancelled() {
            return Err(JoinError::ShuttingDown { channel: id.clone() });
        }
        let mut joining = self.joining.lock();
        if self.get(id).is_some() || !joining.insert(id.clone()) {
            return Err(JoinError::AlreadyJoined { channel: id.clone() });
        }
        Ok(Reservation { channels: Arc::clone(self), id: id.clone() })
    }
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

/// A channel that is being joined; nobody else can meanwhile.
struct Reservation {
    channels: Arc<Channels>,
    id: ChannelId,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.channels.joining.lock().remove(&self.id);
    }
}

/// Puts the TLS authorities of a channel's organizations into the peer's root sets.
struct ChannelRoots(ReloadingTls);

impl ConfigListener for ChannelRoots {
    fn configured(&self, bundle: &Bundle) {
        let source = format!("channel/{}", bundle.channel_id());
        let roots = bundle.tls_root_certs().into_iter();
        let roots: Vec<_> = roots
            .flat_map(|pem| certificates_from_pem(&pem, &source).unwrap_or_default())
            .collect();
        for set in [self.0.server_roots(), self.0.client_roots()] {
            for refused in set.set(&source, roots.clone()) {
                tracing::warn!(
                    { field::CHANNEL } = %bundle.channel_id(), index = refused.index,
                    reason = refused.reason, "a TLS authority of the channel cannot be used"
                );
            }
        }
    }
}

fn check_genesis(genesis: &Block) -> Result<Bundle, JoinError> {
    block::check(genesis).map_err(JoinError::Block)?;
    let header = block::header(genesis).map_err(JoinError::Block)?;
    if header.number != 0 || !header.previous_hash.is_empty() {
        return Err(JoinError::NotGenesis { number: header.number });
    }
    let bundle = config_block::bundle_from_block(genesis)
        .map_err(|source| JoinError::Config(Box::new(source)))?;
    if bundle.application().is_none() {
        return Err(JoinError::NoApplication { channel: bundle.channel_id().clone() });
    }
    Ok(bundle)
}

fn store_genesis(ledger: &Ledger, genesis: Block) -> Result<(), JoinError> {
    let transactions = block::transactions(&genesis);
    let ids: Vec<String> = transactions
        .iter()
        .map(|raw| {
            let envelope = ParsedEnvelope::parse(raw.clone());
            envelope.map_or_else(|_| String::new(), |envelope| envelope.header().tx_id_text())
        })
        .collect();
    let codes = TxFilter::from_codes(&vec![ValidationCode::Valid; transactions.len()]);
    let input = CommitInput {
        block: genesis,
        codes,
        tx_ids: &ids,
        updates: &UpdateBatch::new(),
        history: &[],
        extra: Batch::new(),
    };
    let stored = ledger.commit(input);
    let channel = ledger.channel_id().clone();
    stored.map(drop).map_err(|source| JoinError::Store { channel, source })
}
