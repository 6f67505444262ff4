//! All channels of the peer: joining, opening at start, opening again after a failure.
//!
//! [`weft_channels`] decides; here its decisions are carried out. A channel that fails leaves
//! the others alone: it is listed with the reason, what it has can be read, and it is opened
//! again by itself, as only that tells what is on its disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use weft_channels::{
    Aftermath, Backoff, Channels as States, Created, Cure, JoinRefused, Left, Run, State, Stores,
};
use weft_config::Bundle;
use weft_config::block as config_block;
use weft_ledger::kv::Batch;
use weft_ledger::simulator::QueryLimits;
use weft_ledger::{CommitInput, Ledger, LedgerError, UpdateBatch};
use weft_msp::CurrentIdentity;
use weft_protos::common::Block;
use weft_rpc::connect::Connector;
use weft_rpc::tls::{ReloadingTls, certificates_from_pem};
use weft_types::block;
use weft_types::{ChannelId, ParsedEnvelope, TxFilter, ValidationCode};

use super::{Channel, JoinError, OpenError, report};
use crate::commit::endorsement::{Definitions, RuleBook};
use crate::commit::members::Members;
use crate::commit::metrics::{CommitMetrics, field};
use crate::commit::pipeline::{ConfigListener, Pipeline, PipelineParts};
use crate::commit::pool::Pool;
use crate::deliver_client::{DeliverClient, DeliverClientConfig, Parts, Progress};
use crate::private::Later;

/// Time for those who read a channel to release it.
const RELEASE: Duration = Duration::from_secs(2);

/// What channels are put together from.
#[derive(Clone)]
pub struct ChannelDeps {
    /// Where channels are stored.
    pub stores: Arc<dyn Stores>,
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
    states: Mutex<States>,
    serving: RwLock<BTreeMap<ChannelId, Serving>>,
    missing: Arc<Notify>,
    shutdown: CancellationToken,
    /// Notified of each change of a state.
    changed: watch::Sender<()>,
    runtime: Handle,
    origin: Instant,
}

/// What serves a channel; also a failed one, until it is opened again.
struct Serving {
    channel: Arc<Channel>,
    /// Takes blocks from orderers until it is stopped, and ends when all of them are written.
    work: JoinHandle<()>,
    stop: CancellationToken,
}

/// A run that always reports: one that breaks off has failed.
struct Attempt {
    channels: Arc<Channels>,
    run: Run,
    reported: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.reported {
            let error = OpenError::Broken { channel: self.run.channel().clone() };
            self.channels.fail(&self.run, Left::Ledger, &error, Cure::Retry);
        }
    }
}

impl Channels {
    /// No channels yet. Must be used within a tokio runtime.
    #[must_use]
    pub fn new(deps: ChannelDeps) -> Arc<Self> {
        Arc::new(Self {
            deps,
            states: Mutex::new(States::new(Backoff::default())),
            serving: RwLock::default(),
            missing: Arc::new(Notify::new()),
            shutdown: CancellationToken::new(),
            changed: watch::Sender::new(()),
            runtime: Handle::current(),
            origin: Instant::now(),
        })
    }

    /// A channel, when the peer has opened it.
    #[must_use]
    pub fn get(&self, id: &ChannelId) -> Option<Arc<Channel>> {
        self.get_str(id.as_str())
    }

    /// A channel by its name, which need not be a valid one.
    #[must_use]
    pub fn get_str(&self, id: &str) -> Option<Arc<Channel>> {
        self.serving.read().get(id).map(|serving| Arc::clone(&serving.channel))
    }

    /// All channels that are open, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Channel>> {
        self.serving.read().values().map(|serving| Arc::clone(&serving.channel)).collect()
    }

    /// Names of all channels that the peer has joined, also of those that have failed.
    #[must_use]
    pub fn names(&self) -> Vec<ChannelId> {
        let states = self.states.lock();
        let joined = states.iter().filter(|(_, state)| **state != State::Joining);
        joined.map(|(channel, _)| channel.clone()).collect()
    }

    /// The channels that have failed, each with the reason.
    #[must_use]
    pub fn failures(&self) -> Vec<(String, String)> {
        let states = self.states.lock();
        let failures = states.failures();
        failures.map(|(channel, failure)| (channel.to_string(), failure.reason.clone())).collect()
    }

    /// Waits until a channel is in a state that `holds` accepts; `None` is that of a channel which
    /// the peer does not have.
    pub async fn reaches(&self, id: &ChannelId, holds: impl Fn(Option<&State>) -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds(self.states.lock().get(id.as_str())) {
            let _ = changed.changed().await;
        }
    }

    /// Joins the channel that `genesis` begins. When this returns the channel is stored for good
    /// and takes blocks from its orderers. A crash before that leaves nothing to be cleaned up. It
    /// goes on when the caller does not wait for it.
    ///
    /// # Errors
    /// [`JoinError`]; what there was before is as it was.
    pub async fn join(self: &Arc<Self>, genesis: Block) -> Result<Arc<Channel>, JoinError> {
        let channel = check_genesis(&genesis)?.channel_id().clone();
        let run = self.change(|states| states.join(&channel));
        let run = run.map_err(|refused| match refused {
            JoinRefused::Exists => JoinError::AlreadyJoined { channel },
            JoinRefused::Stopping => JoinError::ShuttingDown { channel },
        })?;
        self.work(run, Some(genesis)).await.map_err(JoinError::Open)
    }

    /// Opens channels of earlier runs, at once. One that cannot be opened is listed as failed, and
    /// holds up none of the others. What a join left that never came to its end is deleted.
    pub async fn open_existing(self: &Arc<Self>, ids: Vec<ChannelId>) {
        let runs = self.change(|states| {
            ids.iter().filter_map(|channel| states.found(channel)).collect::<Vec<_>>()
        });
        let opening = runs.into_iter().map(|run| self.work(run, None));
        futures::future::join_all(opening).await;
    }

    /// Resolves when a block was committed without private data that this peer should have, since
    /// the last call.
    pub(crate) fn went_missing(&self) -> impl Future<Output = ()> + '_ {
        self.missing.notified()
    }

    pub(crate) fn metrics(&self) -> Option<&CommitMetrics> {
        self.deps.metrics.as_ref()
    }

    /// Stops taking blocks, waits for joins that are under way, and lets every channel finish
    /// what it holds.
    pub async fn shutdown(&self) {
        let mut changed = self.changed.subscribe();
        self.change(States::stop);
        self.shutdown.cancel();
        while self.states.lock().is_busy() {
            let _ = changed.changed().await;
        }
        let all = std::mem::take(&mut *self.serving.write());
        let ends = all.into_values().map(|serving| async move {
            let _ = serving.work.await;
        });
        futures::future::join_all(ends).await;
        self.deps.exchange.clear();
    }

    /// Changes states and shows what they are then.
    fn change<T>(&self, change: impl FnOnce(&mut States) -> T) -> T {
        let mut states = self.states.lock();
        let changed = change(&mut states);
        if let Some(metrics) = &self.deps.metrics {
            metrics.states(states.iter().map(|(id, state)| (id.as_str(), state.word())));
        }
        drop(states);
        self.changed.send_replace(());
        changed
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Opens a channel on a thread that may wait for the disk.
    fn work(
        self: &Arc<Self>,
        run: Run,
        genesis: Option<Block>,
    ) -> impl Future<Output = Result<Arc<Channel>, OpenError>> + use<> {
        let channel = run.channel().clone();
        let attempt = Attempt { channels: Arc::clone(self), run, reported: false };
        let work = self.runtime.spawn_blocking(move || attempt.open(genesis));
        async move { work.await.unwrap_or(Err(OpenError::Broken { channel })) }
    }

    fn fail(
        self: &Arc<Self>,
        run: &Run,
        left: Left,
        error: &(dyn std::error::Error + 'static),
        cure: Cure,
    ) {
        let (channel, reason) = (run.channel(), report(error));
        let now = self.now();
        let told = reason.clone();
        match self.change(|states| states.failed(run, now, left, told, cure)) {
            Aftermath::Listed(at) => {
                tracing::error!(
                    { field::CHANNEL } = %channel, reason, again = at.is_some(),
                    "a channel has failed"
                );
                if let Some(at) = at {
                    self.reopen_at(at);
                }
            }
            Aftermath::Discard(removal) => {
                tracing::warn!(
                    { field::CHANNEL } = %channel, reason, "takes back what a join has created"
                );
                match self.deps.stores.remove(&removal) {
                    Ok(()) => self.change(|states| states.left(run)),
                    Err(error) => self.change(|states| states.not_left(run, report(&error))),
                }
            }
            Aftermath::Forgotten | Aftermath::Stale => {}
        }
    }

    fn reopen_at(self: &Arc<Self>, at: Duration) {
        let (channels, at) = (Arc::downgrade(self), self.origin + at);
        self.runtime.spawn(async move {
            sleep_until(at).await;
            let Some(channels) = channels.upgrade() else { return };
            let now = channels.now();
            for run in channels.change(|states| states.due(now)) {
                let channels = Arc::clone(&channels);
                tokio::spawn(async move { channels.reopen(run).await });
            }
        });
    }

    async fn reopen(self: &Arc<Self>, run: Run) {
        tracing::info!({ field::CHANNEL } = %run.channel(), "opens a failed channel again");
        let before = self.serving.write().remove(run.channel());
        if let Some(Serving { channel, work, stop }) = before {
            stop.cancel();
            let _ = work.await;
            let ledger = Arc::downgrade(channel.ledger());
            drop(channel);
            wait_for_last(&ledger).await;
        }
        let _ = self.work(run, None).await;
    }

    /// Opens a channel's ledger and starts what serves it; with what a failure leaves behind.
    fn open(&self, id: &ChannelId, genesis: Option<Block>) -> (Left, Result<Serving, OpenError>) {
        let (store, created) = match self.deps.stores.open(id) {
            Ok(opened) => opened.into_parts(),
            Err(source) => {
                let stored = self.deps.stores.list().map_or(true, |stored| stored.contains(id));
                let left = if stored { Left::Ledger } else { Left::Nothing };
                return (left, Err(OpenError::Store { channel: id.clone(), source }));
            }
        };
        let failed = |source| OpenError::Ledger { channel: id.clone(), source };
        let started = Ledger::open(store, id.clone()).map_err(failed).and_then(|ledger| {
            let ledger = ledger.with_query_limits(self.deps.query_limits);
            let bundle = self.prepare(&ledger, genesis, created.as_ref())?;
            self.start(ledger, bundle)
        });
        (created.into(), started)
    }

    /// Brings a ledger to have at least its first block, and returns the newest configuration.
    fn prepare(
        &self,
        ledger: &Ledger,
        genesis: Option<Block>,
        created: Option<&Created>,
    ) -> Result<Bundle, OpenError> {
        let channel = ledger.channel_id().clone();
        let read = |source| OpenError::ConfigBlock { channel: channel.clone(), source };
        match (ledger.height(), genesis) {
            (0, None) => return Err(OpenError::Empty { channel }),
            (0, Some(genesis)) => store_genesis(ledger, genesis)
                .map_err(|source| OpenError::Genesis { channel: channel.clone(), source })?,
            (_, None) => {}
            (_, Some(genesis)) => {
                let first = ledger.blocks().block(0).map_err(read)?;
                if first.is_none_or(|first| first.header != genesis.header) {
                    return Err(OpenError::OtherGenesis { channel });
                }
            }
        }
        if let Some(created) = created {
            let kept = self.deps.stores.keep(created);
            kept.map_err(|source| OpenError::Store { channel: channel.clone(), source })?;
        }
        let newest = ledger.blocks().last_config_block().map_err(read)?;
        let newest = newest.ok_or_else(|| OpenError::NoConfig { channel: channel.clone() })?;
        config_block::bundle_from_block(&newest)
            .map_err(|source| OpenError::Config { channel, source: Box::new(source) })
    }

    /// Starts a channel's pipeline and client.
    fn start(&self, ledger: Ledger, bundle: Bundle) -> Result<Serving, OpenError> {
        let deps = &self.deps;
        let id = ledger.channel_id().clone();
        let tip = ledger.blocks().tip();
        let progress = Progress::new(tip.height, tip.last_hash, bundle.clone());
        let stop = self.shutdown.child_token();
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
                runtime: self.runtime.clone(),
                shutdown: stop.clone(),
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
        let stopped = stop.clone();
        let work = self.runtime.spawn(async move {
            client.run(stopped).await;
            pipeline.done().await;
        });
        Ok(Serving { channel, work, stop })
    }

    /// Puts an opened channel into service, and watches it.
    fn serve(self: &Arc<Self>, run: &Run, serving: Serving) -> Option<Arc<Channel>> {
        let mut all = self.serving.write();
        let now = self.now();
        if !self.change(|states| states.opened(run, now)) {
            serving.stop.cancel();
            return None;
        }
        let channel = Arc::clone(&serving.channel);
        let (channels, run, stop) = (Arc::downgrade(self), run.clone(), serving.stop.clone());
        all.insert(run.channel().clone(), serving);
        let faulted = channel.faulted();
        self.runtime.spawn(async move {
            let Some(fault) = stop.run_until_cancelled(faulted).await else { return };
            stop.cancel();
            if let Some(channels) = channels.upgrade() {
                channels.fail(&run, Left::Ledger, &*fault, Cure::Retry);
            }
        });
        Some(channel)
    }
}

impl Attempt {
    fn open(mut self, genesis: Option<Block>) -> Result<Arc<Channel>, OpenError> {
        let (channels, run) = (Arc::clone(&self.channels), self.run.clone());
        let (mut left, opened) = channels.open(run.channel(), genesis);
        let served = opened.and_then(|serving| {
            let served = channels.serve(&run, serving);
            served.ok_or_else(|| {
                left = Left::Ledger;
                OpenError::Broken { channel: run.channel().clone() }
            })
        });
        self.reported = true;
        served.inspect_err(|error| channels.fail(&run, left, error, error.cure()))
    }
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

/// Readers release a ledger as soon as they see that its channel is closed.
async fn wait_for_last(ledger: &Weak<Ledger>) {
    let deadline = Instant::now() + RELEASE;
    while ledger.strong_count() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
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

fn store_genesis(ledger: &Ledger, genesis: Block) -> Result<(), LedgerError> {
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
    ledger.commit(input).map(drop)
}
