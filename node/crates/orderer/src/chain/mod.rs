//! One channel: a core that decides, an actor on a thread of its own that runs it and is the only
//! writer of the store, and [`Channel`], by which everything else reaches it.
//!
//! | Module | Owns |
//! | --- | --- |
//! | `core` | deciding: pure; inputs and the time in, effects out |
//! | `actor` | receiving and doing: queues, clock, links, tasks |
//! | `carry` | doing: effects on the store |
//! | `forward` | a client's envelope on its way to the leader, whoever that is |
//! | `start` | making an engine from what is stored |
//!
//! The actor persists before it sends what depends on it. A block is written without waiting for
//! the disk where the engine's log still holds its entry durably; after a crash the entry is
//! delivered again.

mod actor;
pub(crate) mod carry;
pub(crate) mod core;
mod error;
mod forward;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, warn};
use weft_config::Bundle;
use weft_consensus::NodeId;
use weft_msp::CurrentIdentity;
use weft_protos::common::{Block, Envelope, HeaderType, Status};
use weft_protos::ext::decode;
use weft_rpc::connect::ChannelPool;
use weft_rpc::tls::ReloadingTls;
use weft_settings::OrdererSettings;
use weft_types::{BlockNumber, ChannelId, ParsedEnvelope, Timestamp};

use crate::answer::{Outcome, Pending};
use crate::cluster::Links;
use crate::membership::{self, ClusterView};
use crate::metrics::Metrics;
use crate::msgprocessor::{Class, Processor, Rejection};
use crate::store::{ChainStore, StoreError};

use self::core::{Core, Stored};
use actor::{Actor, Clock, Control, Inbox, Queued};
pub use error::ChainError;

/// Messages of other orderers that may wait for the actor; more are dropped, as a network would.
const MESSAGES: usize = 4096;
/// Requests to the actor that may wait.
const CONTROLS: usize = 64;
/// Time for the actor to end when it is asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What all channels of an orderer have in common.
pub struct Context {
    /// The orderer's settings.
    pub settings: OrdererSettings,
    /// What it signs with.
    pub identity: CurrentIdentity,
    /// Its TLS certificate and roots.
    pub tls: ReloadingTls,
    /// Connections to other orderers.
    pub pool: ChannelPool,
    /// What is counted.
    pub metrics: Metrics,
    /// Where tasks that use the network run. Channels have threads of their own.
    pub runtime: tokio::runtime::Handle,
}

impl Context {
    /// The key of the TLS certificate that the node uses now, SubjectPublicKeyInfo; empty
    /// without one.
    pub(crate) fn tls_key(&self) -> Vec<u8> {
        let identity = self.tls.identity();
        let leaf = identity.as_ref().and_then(|identity| identity.chain().first());
        let certificate = leaf.and_then(|leaf| weft_crypto::Certificate::from_der(leaf).ok());
        certificate.map(|c| c.public_key().spki_der().to_vec()).unwrap_or_default()
    }

    /// What the node is to a channel with this configuration.
    pub(crate) fn relation_to(&self, bundle: &Bundle) -> Relation {
        Relation::of(bundle, &self.tls_key())
    }
}

/// The system's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// What an orderer is to a channel (Fabric: `orderer/common/types`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// One of its consenters.
    Consenter,
    /// It replicates blocks.
    Follower,
    /// The channel has no cluster.
    Other,
}

impl Relation {
    /// What a node whose TLS certificate has the key `tls_key` is to a channel with this
    /// configuration.
    pub(crate) fn of(bundle: &Bundle, tls_key: &[u8]) -> Self {
        match (membership::is_solo(bundle), membership::is_consenter(bundle, tls_key)) {
            (true, _) => Self::Other,
            (false, true) => Self::Consenter,
            (false, false) => Self::Follower,
        }
    }

    /// As the participation API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consenter => "consenter",
            Self::Follower => "follower",
            Self::Other => "other",
        }
    }
}

/// The state of a channel, as the participation API, health and routing need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelStatus {
    /// What this orderer is to the channel.
    pub relation: Relation,
    /// This orderer's id in the cluster, if it is in it.
    pub node: Option<NodeId>,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The engine's term.
    pub term: u64,
    /// Whether this orderer leads and takes envelopes.
    pub leading: bool,
    /// Whether it still fetches blocks up to the one that it was joined with.
    pub onboarding: bool,
    /// Why the channel stopped.
    pub failure: Option<String>,
}

/// An envelope that passed the checks.
pub struct Checked {
    envelope: Envelope,
    class: Class,
    sequence: u64,
}

/// What readers of the chain wait for; gone once the channel is closed, which ends their waiting.
struct Watches {
    height: watch::Sender<BlockNumber>,
    sequence: watch::Sender<u64>,
    available: watch::Sender<bool>,
}

/// A channel of this orderer.
pub struct Channel {
    id: ChannelId,
    context: Arc<Context>,
    store: Arc<ChainStore>,
    bundle: ArcSwap<Bundle>,
    watches: RwLock<Option<Watches>>,
    status: watch::Sender<ChannelStatus>,
    view: ArcSwap<ClusterView>,
    links: ArcSwap<Links>,
    submits: mpsc::Sender<Queued>,
    budget: Arc<Semaphore>,
    messages: mpsc::Sender<(NodeId, Bytes)>,
    control: mpsc::Sender<Control>,
    closed: tokio_util::sync::CancellationToken,
    reopen: AtomicBool,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Bytes in one permit of the queue's budget.
const SHARE: usize = 1024;

impl Channel {
    /// Starts the channel that is in `store`.
    ///
    /// # Errors
    /// [`ChainError`] when what is stored cannot be used.
    pub(crate) fn start(
        id: ChannelId,
        store: ChainStore,
        context: Arc<Context>,
    ) -> Result<Arc<Self>, ChainError> {
        let store = Arc::new(store);
        let stored = Stored::read(&store)?;
        let (bundle, onboarding) = (stored.first_bundle()?.clone(), stored.join_block.is_some());
        let clock = Clock::start();
        let (key, settings) = (context.tls_key(), &context.settings);
        let core = Core::new(id.clone(), settings, stored, &key, clock.now())?;
        let limits = &context.settings.orderer_limits;
        let (submits, submit_queue) = mpsc::channel(limits.queue_length.max(1));
        let (messages, message_queue) = mpsc::channel(MESSAGES);
        let (control, controls) = mpsc::channel(CONTROLS);
        let (unreachable, unreachable_queue) = mpsc::channel(CONTROLS);
        let relation = context.relation_to(&bundle);
        let status = ChannelStatus {
            relation,
            node: None,
            leader: None,
            term: 0,
            leading: false,
            onboarding,
            failure: None,
        };
        let budget = (limits.queue_bytes / SHARE).clamp(1, Semaphore::MAX_PERMITS);
        let channel = Arc::new(Self {
            watches: RwLock::new(Some(Watches {
                height: watch::Sender::new(store.height()),
                sequence: watch::Sender::new(bundle.sequence()),
                available: watch::Sender::new(true),
            })),
            status: watch::Sender::new(status),
            view: ArcSwap::default(),
            links: ArcSwap::default(),
            bundle: ArcSwap::from_pointee(bundle),
            budget: Arc::new(Semaphore::new(budget)),
            id,
            context,
            store,
            submits,
            messages,
            control,
            closed: tokio_util::sync::CancellationToken::new(),
            reopen: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        channel.publish_roots();
        // A counter that appears with its first loss would hide that one from rates.
        for loss in core::Loss::ALL {
            let labels = [channel.id.as_str(), loss.as_str()];
            channel.context.metrics.dropped.with_label_values(&labels).inc_by(0);
        }
        let inbox = Inbox {
            submits: submit_queue,
            messages: message_queue,
            control: controls,
            unreachable: unreachable_queue,
        };
        let actor = Actor::new(channel.clone(), core, clock, inbox, unreachable);
        // Of its own, so that waiting for the disk holds nobody else up.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(ChainError::Thread)?;
        let thread = std::thread::Builder::new()
            .name(format!("chain-{}", channel.id))
            .spawn(move || runtime.block_on(actor.run()))
            .map_err(ChainError::Thread)?;
        *channel.thread.lock() = Some(thread);
        Ok(channel)
    }

    /// Its name.
    pub fn id(&self) -> &ChannelId {
        &self.id
    }

    /// The present configuration.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.bundle.load_full()
    }

    /// Its blocks.
    pub fn store(&self) -> &Arc<ChainStore> {
        &self.store
    }

    /// The state as it is now.
    pub fn status(&self) -> ChannelStatus {
        self.status.borrow().clone()
    }

    /// The state as it changes.
    pub fn watch_status(&self) -> watch::Receiver<ChannelStatus> {
        self.status.subscribe()
    }

    /// Number of blocks, as it grows.
    pub fn height(&self) -> watch::Receiver<BlockNumber> {
        let height = self.store.height();
        self.watch(|watches| watches.height.subscribe(), height)
    }

    /// Sequence of the configuration, as it grows.
    pub fn sequence(&self) -> watch::Receiver<u64> {
        let sequence = self.bundle.load().sequence();
        self.watch(|watches| watches.sequence.subscribe(), sequence)
    }

    /// Whether consensus is in touch with its cluster, as it changes.
    pub fn available(&self) -> watch::Receiver<bool> {
        self.watch(|watches| watches.available.subscribe(), false)
    }

    /// A receiver; of a sender that is gone, once the channel is closed.
    fn watch<T>(
        &self,
        subscribe: impl Fn(&Watches) -> watch::Receiver<T>,
        last: T,
    ) -> watch::Receiver<T> {
        match &*self.watches.read() {
            Some(watches) => subscribe(watches),
            None => watch::channel(last).1,
        }
    }

    fn set_height(&self, height: BlockNumber) {
        if let Some(watches) = &*self.watches.read() {
            let set = |present: &mut u64| std::mem::replace(present, height) != height;
            watches.height.send_if_modified(set);
        }
    }

    fn set_sequence(&self, sequence: u64) {
        if let Some(watches) = &*self.watches.read() {
            watches.sequence.send_replace(sequence);
        }
    }

    fn set_available(&self, available: bool) {
        if let Some(watches) = &*self.watches.read() {
            let set = |present: &mut bool| std::mem::replace(present, available) != available;
            watches.available.send_if_modified(set);
        }
    }

    fn close(&self) {
        self.closed.cancel();
        *self.watches.write() = None;
    }

    /// The consenters by TLS key.
    pub fn cluster_view(&self) -> Arc<ClusterView> {
        self.view.load_full()
    }

    /// Whether the channel was left or has failed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until the channel was left or has failed.
    pub(crate) async fn until_closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether it failed in a way that opening it again may cure, as on a full disk.
    pub fn may_reopen(&self) -> bool {
        self.reopen.load(Ordering::Acquire)
    }

    /// A message of another consenter; dropped when too many wait.
    pub(crate) fn message(&self, from: NodeId, message: Bytes) {
        if self.messages.try_send((from, message)).is_err() {
            self.context.metrics.messages_dropped.inc();
        }
    }

    /// Checks an envelope of a client under the present configuration.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn check(&self, envelope: ParsedEnvelope, class: Class) -> Result<Checked, Rejection> {
        let bundle = self.bundle.load();
        let processor = Processor::new(&bundle, now());
        let sequence = bundle.sequence();
        match class {
            Class::Normal => {
                processor.normal(&envelope)?;
                Ok(Checked { envelope: envelope.to_envelope(), class, sequence })
            }
            Class::ConfigUpdate => {
                let signer = self.context.identity.current();
                let configured = processor.config_update(&envelope, &*signer, nonce()?)?;
                Ok(Checked { envelope: configured.envelope, class, sequence })
            }
        }
    }

    /// Hands a checked envelope to the leader, here or elsewhere.
    pub fn submit(self: &Arc<Self>, checked: Checked) -> Pending<Outcome> {
        let Checked { envelope, class, sequence } = checked;
        let config = class == Class::ConfigUpdate;
        let (leading, leader) = {
            let status = self.status.borrow();
            (status.leading, status.leader.filter(|leader| Some(*leader) != status.node))
        };
        match (leading, leader) {
            (true, _) => self.enqueue(&envelope, config, sequence),
            (false, Some(leader)) => self.forward(envelope, sequence, config, leader),
            (false, None) => unavailable("no leader of the channel is known"),
        }
    }

    /// Takes an envelope that another consenter forwarded. It is not forwarded again. The other's
    /// word that it passed the filters is taken, but not that it is whole: peers never take a
    /// block with an envelope that has no payload or signature, and the channel would stand still.
    pub(crate) fn accept(&self, envelope: Envelope, sequence: u64) -> Pending<Outcome> {
        if !self.status.borrow().leading {
            return unavailable("this orderer does not lead the channel");
        }
        let refused = |reason: String| Pending::Ready((Status::BadRequest, reason));
        let parsed = match ParsedEnvelope::from_envelope(envelope) {
            Ok(parsed) => parsed,
            Err(error) => return refused(Rejection::Malformed(error).to_string()),
        };
        if parsed.signature.is_empty() {
            return refused("the forwarded envelope has no signature".to_owned());
        }
        let config = parsed.header().header_type() == Some(HeaderType::Config);
        self.enqueue(&parsed.to_envelope(), config, sequence)
    }

    fn enqueue(&self, envelope: &Envelope, config: bool, sequence: u64) -> Pending<Outcome> {
        let envelope: Bytes = envelope.encode_to_vec().into();
        let permits = u32::try_from(envelope.len() / SHARE + 1).unwrap_or(u32::MAX);
        let Ok(share) = self.budget.clone().try_acquire_many_owned(permits) else {
            return unavailable("too many bytes wait to be ordered");
        };
        let (reply, replied) = match config {
            true => Some(oneshot::channel()).unzip(),
            false => (None, None),
        };
        let submit = Queued { envelope, config, sequence, reply, share };
        if self.submits.try_send(submit).is_err() {
            return unavailable("too many envelopes wait to be ordered");
        }
        match replied {
            None => Pending::Ready((Status::Success, String::new())),
            Some(replied) => Pending::Later(Box::pin(async move {
                let lost = |_| (Status::ServiceUnavailable, "leadership was lost".to_owned());
                replied.await.unwrap_or_else(lost)
            })),
        }
    }

    /// The CONFIG envelope of the same update under the present configuration, and the sequence
    /// of that.
    fn remake(&self, envelope: &Bytes) -> Result<(Bytes, u64), Outcome> {
        let bundle = self.bundle.load();
        let signer = self.context.identity.current();
        let made = parse(envelope).and_then(|parsed| {
            Processor::new(&bundle, now()).config_again(&parsed, &*signer, nonce()?)
        });
        let refused = |rejection: Rejection| (rejection.status(), rejection.to_string());
        let made = made.map_err(refused)?;
        Ok((crate::msgprocessor::encode(&made.envelope), bundle.sequence()))
    }

    /// Takes over the configuration after a block that was just written.
    fn adopt(&self, bundle: Arc<Bundle>) {
        let sequence = bundle.sequence();
        self.bundle.store(bundle);
        self.publish_roots();
        self.set_sequence(sequence);
    }

    /// Makes the TLS authorities of all organizations known to the listeners and connectors.
    fn publish_roots(&self) {
        let mut roots = Vec::new();
        for pem in self.bundle.load().tls_root_certs() {
            match weft_rpc::tls::certificates_from_pem(&pem, "the channel's configuration") {
                Ok(certificates) => roots.extend(certificates),
                Err(error) => warn!(channel = %self.id, %error, "skipped a TLS authority"),
            }
        }
        let source = root_source(&self.id);
        for set in [self.context.tls.server_roots(), self.context.tls.client_roots()] {
            for refused in set.set(&source, roots.clone()) {
                debug!(channel = %self.id, reason = refused.reason, "skipped a TLS authority");
            }
        }
    }

    /// Ends the actor, with what is in flight written and leadership handed over if possible.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.control.send(Control::Stop(done)).await.is_ok() {
            let _ = timeout(STOP_TIMEOUT, stopped).await;
        }
        self.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            if timeout(STOP_TIMEOUT, joined).await.is_err() {
                warn!(channel = %self.id, "the channel's thread does not end");
            }
        }
    }

    /// Takes back what was published of a channel: it is being left.
    pub(crate) fn retract(context: &Context, id: &ChannelId) {
        let source = root_source(id);
        context.tls.server_roots().remove(&source);
        context.tls.client_roots().remove(&source);
        context.metrics.forget(id.as_str());
    }

    /// A block for those who read the chain; from the disk it is read on another thread.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn block(self: &Arc<Self>, number: BlockNumber) -> Result<Option<Block>, StoreError> {
        if let Some(block) = self.store.cached(number) {
            return Ok(Some(block));
        }
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.block(number)).await.unwrap_or(Ok(None))
    }
}

fn root_source(id: &ChannelId) -> String {
    format!("channel/{id}")
}

fn lost(info: &str) -> Outcome {
    (Status::ServiceUnavailable, info.to_owned())
}

fn unavailable(info: &str) -> Pending<Outcome> {
    Pending::Ready(lost(info))
}

fn nonce() -> Result<weft_types::Nonce, Rejection> {
    weft_crypto::random_bytes().map_err(|source| {
        Rejection::Sign(weft_types::SignError::new("a message: no random bytes", source))
    })
}

/// The envelope behind its encoding.
fn parse(envelope: &Bytes) -> Result<ParsedEnvelope, Rejection> {
    let envelope: Envelope = decode("envelope", envelope.clone())
        .map_err(|source| Rejection::Malformed(weft_types::EnvelopeError::Envelope(source)))?;
    ParsedEnvelope::from_envelope(envelope).map_err(Rejection::Malformed)
}
