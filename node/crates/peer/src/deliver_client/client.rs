//! The task that keeps a channel supplied with blocks.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use weft_msp::CurrentIdentity;
use weft_protos::common::Block;
use weft_rpc::connect::Connector;
use weft_rpc::tls::ReloadingTls;
use weft_types::ChannelId;
use weft_types::seek::{Position, Seek};

use super::sources::{Next, OrdererEndpoint, Severity, Sources};
use super::stream::{BlockStream, Dial, StreamError};
use super::verify::{BlockRefused, ConfigVerdict, Progress, VerifiedBlock};
use super::witness::Witness;
use crate::channel::{Channel, report};
use crate::commit::metrics::{CommitMetrics, field};

/// Failures in a row that are logged as warnings; later ones are only worth a look in debugging.
const LOUD_FAILURES: u32 = 3;
/// An orderer that sent something this short a time ago is not compared with others.
const IDLE: Duration = Duration::from_millis(100);
/// The longest that an orderer may be behind others, if the setting does not say longer.
const MAX_PATIENCE: Duration = Duration::from_secs(30);

/// Settings of the client.
#[derive(Debug, Clone)]
pub struct DeliverClientConfig {
    /// Waits, times and buffers.
    pub settings: weft_settings::DeliverClient,
    /// Largest message accepted from an orderer, bytes.
    pub max_message_bytes: usize,
}

/// Takes one channel's blocks from the ordering service and passes them to its pipeline.
pub struct DeliverClient {
    channel: Arc<Channel>,
    settings: weft_settings::DeliverClient,
    dialer: Dialer,
    metrics: Option<CommitMetrics>,
    queue: mpsc::Sender<VerifiedBlock>,
    budget: Arc<Semaphore>,
    budget_kib: u32,
    sources: Sources,
    witness: Witness,
    /// Orderers left in a row because they sent nothing.
    stalls: u32,
    progress: Progress,
}

/// Makes what streams are opened with.
struct Dialer {
    connector: Connector,
    channel: ChannelId,
    tls: ReloadingTls,
    identity: CurrentIdentity,
    max_message_bytes: usize,
}

/// What a client is put together from.
pub(crate) struct Parts {
    pub(crate) channel: Arc<Channel>,
    pub(crate) config: DeliverClientConfig,
    pub(crate) connector: Connector,
    pub(crate) tls: ReloadingTls,
    pub(crate) identity: CurrentIdentity,
    pub(crate) metrics: Option<CommitMetrics>,
    pub(crate) queue: mpsc::Sender<VerifiedBlock>,
    pub(crate) progress: Progress,
}

/// Why an orderer is left.
#[derive(Debug, thiserror::Error)]
enum Leave {
    #[error(transparent)]
    Stream(StreamError),
    #[error(transparent)]
    Refused(BlockRefused),
    #[error("failed to check a block: the check broke off")]
    Broken(#[source] tokio::task::JoinError),
    #[error("the orderer has sent nothing for {} ms and {ahead} is ahead", stalled.as_millis())]
    Stalled { stalled: Duration, ahead: String },
    #[error("the orderer is no longer in the channel's configuration")]
    Removed,
    /// Nobody takes blocks any more.
    #[error("the channel takes no more blocks")]
    Closed,
}

impl Leave {
    fn severity(&self) -> Severity {
        match self {
            Self::Refused(_) => Severity::Distrust,
            _ => Severity::Transient,
        }
    }

    /// As the metric's label names it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Stream(StreamError::Connect(_)) => "connect",
            Self::Stream(_) => "stream",
            Self::Refused(_) => "refused_block",
            Self::Broken(_) => "internal",
            Self::Stalled { .. } => "stalled",
            Self::Removed => "removed",
            Self::Closed => "closed",
        }
    }
}

impl DeliverClient {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { channel, config, connector, tls, identity, metrics, queue, progress } = parts;
        let DeliverClientConfig { settings, max_message_bytes } = config;
        let dialer =
            Dialer { connector, channel: channel.id().clone(), tls, identity, max_message_bytes };
        // Without randomness every peer begins with the same orderer, which works as well.
        let seed = weft_crypto::random_bytes().map_or(0, u64::from_le_bytes);
        let mut sources = Sources::new(settings.min_backoff, settings.max_backoff, seed);
        sources.update(OrdererEndpoint::of(progress.bundle()));
        let budget_kib = kib(settings.buffer_bytes);
        let budget = Arc::new(Semaphore::new(budget_kib as usize));
        Self {
            channel,
            settings,
            dialer,
            metrics,
            queue,
            budget,
            budget_kib,
            sources,
            witness: Witness::default(),
            stalls: 0,
            progress,
        }
    }

    /// Works until the token is cancelled or the channel takes no more blocks.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.work() => {}
            () = shutdown.cancelled() => {}
        }
        self.channel.source().send_modify(|status| status.orderer = None);
    }

    async fn work(&mut self) {
        loop {
            match self.sources.next(Instant::now()) {
                Next::Ask(orderer) => {
                    let leave = self.follow(&orderer).await;
                    if matches!(leave, Leave::Closed) {
                        return;
                    }
                    self.note_left(&orderer, &leave);
                }
                Next::Wait(time) => sleep(time).await,
                Next::None => {
                    tracing::warn!(
                        { field::CHANNEL } = %self.channel.id(),
                        "the channel's configuration names no orderer endpoint"
                    );
                    sleep(self.settings.max_backoff).await;
                }
            }
        }
    }

    fn note_left(&mut self, orderer: &OrdererEndpoint, leave: &Leave) {
        let error = report(leave);
        if matches!(leave, Leave::Stalled { .. }) {
            self.stalls = self.stalls.saturating_add(1);
        }
        let failures = self.channel.source().borrow().failures.saturating_add(1);
        let severity = leave.severity();
        if severity == Severity::Distrust {
            tracing::error!(
                { field::CHANNEL } = %self.channel.id(), { field::ORDERER } = orderer.address,
                { field::BLOCK } = self.progress.next(), error, "left an orderer"
            );
        } else if failures <= LOUD_FAILURES {
            tracing::warn!(
                { field::CHANNEL } = %self.channel.id(), { field::ORDERER } = orderer.address,
                { field::BLOCK } = self.progress.next(), error, "left an orderer"
            );
        } else {
            tracing::debug!(
                { field::CHANNEL } = %self.channel.id(), { field::ORDERER } = orderer.address,
                { field::BLOCK } = self.progress.next(), error, "left an orderer"
            );
        }
        if let Some(metrics) = &self.metrics {
            metrics.left(self.channel.id(), leave.reason());
        }
        self.channel.source().send_modify(|status| {
            status.orderer = None;
            status.failures = failures;
            status.last_error = Some(error);
        });
        self.sources.failed(&orderer.address, severity, Instant::now());
    }

    /// Takes blocks from one orderer for as long as that goes well.
    async fn follow(&mut self, orderer: &OrdererEndpoint) -> Leave {
        let start = Position::Block(self.progress.next());
        let opened = self.dialer.dial().open(orderer, Seek::from(start)).await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error) => return Leave::Stream(error),
        };
        self.channel.source().send_modify(|status| status.orderer = Some(orderer.address.clone()));
        tracing::info!(
            { field::CHANNEL } = %self.channel.id(), { field::ORDERER } = orderer.address,
            { field::BLOCK } = self.progress.next(), "taking blocks from an orderer"
        );
        loop {
            let block = match self.receive(&mut stream, orderer).await {
                Ok(block) => block,
                Err(leave) => return leave,
            };
            if let Err(leave) = self.take(block, orderer).await {
                return leave;
            }
        }
    }

    /// The next block, or that another orderer is ahead although this one sends nothing.
    async fn receive(
        &mut self,
        stream: &mut BlockStream,
        orderer: &OrdererEndpoint,
    ) -> Result<Block, Leave> {
        tokio::select! {
            biased;
            block = stream.next() => block.map_err(Leave::Stream),
            leave = self.watch_for_stall(orderer) => Err(leave),
        }
    }

    async fn watch_for_stall(&mut self, orderer: &OrdererEndpoint) -> Leave {
        let settings = &self.settings;
        if settings.stall_timeout.is_zero() {
            return pending().await;
        }
        let since = Instant::now();
        let (limit, pause) = (self.patience(), settings.min_backoff);
        sleep(IDLE.min(limit)).await;
        let dial = || self.dialer.dial();
        let (sources, progress) = (&self.sources, &self.progress);
        let ahead = self.witness.ahead(&orderer.address, sources, progress, dial, pause).await;
        sleep(limit.saturating_sub(IDLE)).await;
        Leave::Stalled { stalled: since.elapsed(), ahead }
    }

    /// How long an orderer may be behind others. A block that is large takes long from everybody, so
    /// that every orderer left for nothing gives the next one more time.
    fn patience(&self) -> Duration {
        let limit = self.settings.stall_timeout;
        let longest = MAX_PATIENCE.max(limit);
        limit.saturating_mul(1 << self.stalls.min(16)).min(longest)
    }

    /// Checks a block and passes it on.
    async fn take(&mut self, block: Block, orderer: &OrdererEndpoint) -> Result<(), Leave> {
        let share = kib(block.encoded_len()).min(self.budget_kib);
        let share = Arc::clone(&self.budget).acquire_many_owned(share).await;
        let share = share.map_err(|_| Leave::Closed)?;
        let mut progress = self.progress.clone();
        // Hashing and decoding a large block takes milliseconds.
        let checked = tokio::task::spawn_blocking(move || {
            let verified = progress.advance(block);
            (progress, verified)
        });
        let (progress, verified) = checked.await.map_err(Leave::Broken)?;
        let mut verified = verified.map_err(Leave::Refused)?;
        self.progress = progress;
        verified.share = Some(share);
        let changed = matches!(verified.config, Some(ConfigVerdict::Next(_)));
        self.queue.send(verified).await.map_err(|_| Leave::Closed)?;
        self.note_progress(&orderer.address);
        if changed {
            self.sources.update(OrdererEndpoint::of(self.progress.bundle()));
            if !self.sources.contains(orderer) {
                return Err(Leave::Removed);
            }
        }
        Ok(())
    }

    fn note_progress(&mut self, address: &str) {
        self.sources.succeeded(address);
        self.stalls = 0;
        if let Some(metrics) = &self.metrics {
            metrics.received(self.channel.id());
        }
        self.channel.source().send_if_modified(|status| {
            let failed = status.failures != 0;
            status.failures = 0;
            status.last_error = None;
            failed
        });
    }
}

impl Dialer {
    /// What a stream is opened with now: keys and certificates can be exchanged.
    fn dial(&self) -> Dial {
        let certificate = self.tls.identity();
        let hash =
            certificate.map(|certificate| Bytes::copy_from_slice(&certificate.leaf_sha256()));
        Dial {
            connector: self.connector.clone(),
            channel: self.channel.clone(),
            signer: self.identity.current(),
            tls_cert_hash: hash.unwrap_or_default(),
            max_message_bytes: self.max_message_bytes,
        }
    }
}

/// Size in KiB, at least one: the unit of the buffer's budget.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}
