//! The channels of an orderer: joining, opening at start, reopening, removing (Fabric:
//! `orderer/common/multichannel/registrar.go`).
//!
//! [`weft_channels`] decides; here its decisions are carried out. Whatever opens, stops or
//! deletes a store is one `Attempt` at a channel: it works on a thread of its own, goes on
//! when whoever asked has gone, and always reports what became of it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};
use weft_channels::{
    Aftermath, Backoff, Channels, Cure, JoinRefused, LeaveRefused, Left, Removal, Run, State,
    Stores,
};
use weft_config::Bundle;
use weft_config::block::{self as config_block, BlockError};
use weft_ledger::kv::{Durability, KvError};
use weft_ops::channel_states::ChannelStates;
use weft_protos::common::Block;
use weft_types::block::{self, BlockError as StructureError};
use weft_types::{BlockNumber, ChannelId};

use crate::chain::{ChainError, Channel, Context, Relation};
use crate::membership::{self, ConsentersError};
use crate::store::{ChainStore, StoreError};

/// Time for those who read a channel to release it.
const RELEASE: Duration = Duration::from_secs(2);

/// Why a channel's store does not become a running channel.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be opened.
    #[error("{0}")]
    Kv(#[source] KvError),
    /// The store cannot be read or written.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// The ledger has neither a block nor a block that it was joined with.
    #[error("failed to open the ledger: it has no block")]
    Empty,
    /// The ledger that is there does not begin with the block to join with.
    #[error("failed to open the ledger: it is of another channel of this name")]
    OtherGenesis,
    /// The channel does not start.
    #[error("{0}")]
    Start(#[source] ChainError),
    /// The work broke off.
    #[error("failed to open the channel: an internal error")]
    Broken,
}

impl OpenError {
    pub(crate) fn cure(&self) -> Cure {
        match self {
            Self::Empty
            | Self::OtherGenesis
            | Self::Start(ChainError::Config(_) | ChainError::NotJoined) => Cure::Repair,
            other => Cure::of(other),
        }
    }
}

/// Why a channel is not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The block is not sound.
    #[error("invalid join block: {0}")]
    Structure(#[source] StructureError),
    /// The block holds no usable configuration.
    #[error("invalid join block: {0}")]
    Config(#[source] BlockError),
    /// The configuration is not that of an application channel.
    #[error("invalid join block: invalid config: must contain {group} group")]
    Group {
        /// The group that is missing.
        group: &'static str,
    },
    /// This version does not run the consensus protocol.
    #[error("cannot join: {0}")]
    Consensus(#[source] ConsentersError),
    /// This orderer has the channel, or is shutting down.
    #[error("cannot join: {0}")]
    Refused(#[source] JoinRefused),
    /// The channel cannot be opened.
    #[error("cannot join: {0}")]
    Open(#[source] OpenError),
}

/// Why a channel is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// This orderer does not have the channel.
    #[error("cannot remove: channel does not exist")]
    Unknown,
    /// Its store cannot be deleted.
    #[error("cannot remove: {0}")]
    Kv(#[source] KvError),
    /// The work broke off.
    #[error("cannot remove: an internal error")]
    Broken,
}

/// A channel as the participation API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub name: String,
    /// What this orderer is to it.
    pub relation: &'static str,
    /// How far this orderer is: `active`, `onboarding`, `inactive` or `failed`.
    pub status: &'static str,
    /// Number of blocks.
    pub height: BlockNumber,
    /// Why it has failed.
    pub failure: Option<String>,
}

/// What is known of a channel beside its state.
#[derive(Clone)]
struct Slot {
    /// What serves it; also a failed one, until it is opened again.
    channel: Option<Arc<Channel>>,
    relation: Relation,
    height: BlockNumber,
    /// SHA-256 of the header of block 0, hexadecimal.
    genesis: Arc<OnceLock<String>>,
}

impl Default for Slot {
    fn default() -> Self {
        Self { channel: None, relation: Relation::Other, height: 0, genesis: Arc::default() }
    }
}

/// The channels of an orderer.
pub struct Registrar {
    context: Arc<Context>,
    stores: Arc<dyn Stores>,
    states: Mutex<Channels>,
    slots: RwLock<BTreeMap<ChannelId, Slot>>,
    /// Notified of each change of a state.
    changed: watch::Sender<()>,
    gauge: ChannelStates,
    origin: Instant,
}

/// A run that always reports: one that breaks off has failed.
struct Attempt {
    registrar: Arc<Registrar>,
    run: Option<Run>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.registrar.fail(&run, Left::Ledger, &OpenError::Broken, Cure::Retry);
        }
    }
}

impl Registrar {
    /// A registrar without channels.
    #[must_use]
    pub fn new(context: Arc<Context>, stores: Arc<dyn Stores>, gauge: ChannelStates) -> Self {
        Self {
            context,
            stores,
            states: Mutex::new(Channels::new(Backoff::default())),
            slots: RwLock::default(),
            changed: watch::Sender::new(()),
            gauge,
            origin: Instant::now(),
        }
    }

    /// Opens all channels that have a store, at once. One that cannot be opened is listed as
    /// failed and holds up none of the others. What a join left that never came to its end is
    /// deleted: whoever joined it got no answer.
    ///
    /// # Errors
    /// The stores cannot be listed.
    pub async fn open_all(self: &Arc<Self>) -> Result<(), KvError> {
        let stored = self.stores.list()?;
        let runs = self.change(|states| {
            stored.iter().filter_map(|channel| states.found(channel)).collect::<Vec<_>>()
        });
        let opening = runs.into_iter().map(|run| self.work(run, None));
        futures::future::join_all(opening).await;
        Ok(())
    }

    /// The channel of this name, if it serves or has served since it was opened last.
    pub fn find(&self, name: &str) -> Option<Arc<Channel>> {
        self.slots.read().get(name)?.channel.clone()
    }

    /// Names of all channels, whatever their state.
    pub fn names(&self) -> Vec<ChannelId> {
        self.states.lock().iter().map(|(channel, _)| channel.clone()).collect()
    }

    /// Joins the channel whose genesis block, or a later config block, this is.
    ///
    /// With a genesis block that names this orderer as consenter it takes part at once. In any
    /// other case it replicates blocks first. It goes on when the caller does not wait for it.
    ///
    /// # Errors
    /// [`JoinError`]; what there was before is as it was.
    pub async fn join(self: &Arc<Self>, join_block: Block) -> Result<ChannelInfo, JoinError> {
        let bundle = check(&join_block)?;
        let number = number_of(&join_block);
        let run = self.change(|states| states.join(bundle.channel_id()));
        let run = run.map_err(JoinError::Refused)?;
        self.work(run, Some(join_block)).await.map_err(JoinError::Open)?;
        info!(channel = %bundle.channel_id(), "joined a channel");
        // As it is before the first block is fetched or ordered.
        Ok(ChannelInfo {
            name: bundle.channel_id().as_str().to_owned(),
            relation: self.context.relation_to(&bundle).as_str(),
            status: if number == 0 { "active" } else { "onboarding" },
            height: BlockNumber::from(number == 0),
            failure: None,
        })
    }

    /// Leaves a channel, whether it serves or has failed, and deletes its store. It goes on when
    /// the caller does not wait for it.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<(), RemoveError> {
        let id = ChannelId::new(name).map_err(|_| RemoveError::Unknown)?;
        let registrar = self.clone();
        let work = self.context.runtime.spawn(async move {
            let (run, removal) = registrar.begin_to_leave(&id).await?;
            registrar.close(&id).await;
            Channel::retract(&registrar.context, &id);
            registrar.delete(run, removal).await.map_err(RemoveError::Kv)?;
            info!(channel = %id, "removed a channel");
            Ok(())
        });
        work.await.unwrap_or(Err(RemoveError::Broken))
    }

    /// Waits while the channel is being joined, opened or left.
    async fn begin_to_leave(&self, id: &ChannelId) -> Result<(Run, Removal), RemoveError> {
        let mut changed = self.changed.subscribe();
        loop {
            let tried = self.states.lock().leave(id);
            match tried {
                Ok(leaving) => {
                    self.change(|_| ());
                    return Ok(leaving);
                }
                Err(LeaveRefused::Unknown) => return Err(RemoveError::Unknown),
                Err(LeaveRefused::Busy) => {
                    let _ = changed.changed().await;
                }
            }
        }
    }

    /// Deletes a channel's store.
    async fn delete(self: &Arc<Self>, run: Run, removal: Removal) -> Result<(), KvError> {
        let registrar = self.clone();
        let work = self.context.runtime.spawn_blocking(move || registrar.discard(&run, &removal));
        let broken = |error| KvError::Write { source: Arc::new(error) };
        work.await.map_err(broken)?
    }

    fn discard(&self, run: &Run, removal: &Removal) -> Result<(), KvError> {
        let removed = self.stores.remove(removal);
        match &removed {
            Ok(()) => {
                self.slots.write().remove(removal.channel());
                self.change(|states| states.left(run));
            }
            Err(error) => {
                warn!(channel = %removal.channel(), %error, "failed to delete a ledger");
                self.change(|states| states.not_left(run, error.to_string()));
            }
        }
        removed
    }

    /// Opens a channel on a thread that may wait for the disk, and serves it from then on.
    fn work(
        self: &Arc<Self>,
        run: Run,
        join_block: Option<Block>,
    ) -> impl Future<Output = Result<(), OpenError>> + use<> {
        let attempt = Attempt { registrar: self.clone(), run: Some(run) };
        let work = self.context.runtime.spawn_blocking(move || attempt.open(join_block));
        async move { work.await.unwrap_or(Err(OpenError::Broken)) }
    }

    /// Changes states and shows what they are then.
    fn change<T>(&self, change: impl FnOnce(&mut Channels) -> T) -> T {
        let mut states = self.states.lock();
        let changed = change(&mut states);
        self.gauge.show(states.iter().map(|(id, state)| (id.as_str(), state.word())));
        drop(states);
        self.changed.send_replace(());
        changed
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Puts an opened channel into service, and watches it.
    fn serve(self: &Arc<Self>, run: &Run, channel: &Arc<Channel>) -> bool {
        let mut slots = self.slots.write();
        if !self.change(|states| states.opened(run, self.now())) {
            return false;
        }
        slots.entry(run.channel().clone()).or_default().channel = Some(channel.clone());
        let (registrar, watched, run) = (Arc::downgrade(self), channel.clone(), run.clone());
        self.context.runtime.spawn(async move {
            watched.until_closed().await;
            let failure = watched.status().failure;
            drop(watched);
            if let (Some(reason), Some(registrar)) = (failure, registrar.upgrade()) {
                // Only opening the store again tells what is on the disk.
                registrar.fail(&run, Left::Ledger, &reason, Cure::Retry);
            }
        });
        true
    }

    fn fail(self: &Arc<Self>, run: &Run, left: Left, reason: &dyn std::fmt::Display, cure: Cure) {
        let channel = run.channel();
        let (now, told) = (self.now(), reason.to_string());
        match self.change(|states| states.failed(run, now, left, told, cure)) {
            Aftermath::Listed(at) => {
                warn!(%channel, %reason, again = at.is_some(), "a channel has failed");
                if let Some(at) = at {
                    self.reopen_at(at);
                }
            }
            Aftermath::Discard(removal) => {
                warn!(%channel, %reason, "takes back what a join has created");
                let _ = self.discard(run, &removal);
            }
            Aftermath::Forgotten | Aftermath::Stale => {}
        }
    }

    fn reopen_at(self: &Arc<Self>, at: Duration) {
        let (registrar, at) = (Arc::downgrade(self), self.origin + at);
        self.context.runtime.spawn(async move {
            sleep_until(at).await;
            let Some(registrar) = registrar.upgrade() else { return };
            let now = registrar.now();
            for run in registrar.change(|states| states.due(now)) {
                let registrar = registrar.clone();
                tokio::spawn(async move { registrar.reopen(run).await });
            }
        });
    }

    async fn reopen(self: &Arc<Self>, run: Run) {
        info!(channel = %run.channel(), "opens a failed channel again");
        self.close(run.channel()).await;
        let _ = self.work(run, None).await;
    }

    /// Takes a channel out of service, and waits until nobody has its store open.
    async fn close(&self, id: &ChannelId) {
        let channel = self.slots.write().get_mut(id).and_then(|slot| {
            let channel = slot.channel.take()?;
            (slot.relation, slot.height) = (channel.status().relation, channel.store().height());
            Some(channel)
        });
        let Some(channel) = channel else { return };
        channel.stop().await;
        let store = Arc::downgrade(channel.store());
        drop(channel);
        wait_for_last(&store).await;
    }

    /// A channel as the participation API shows it.
    pub fn info(&self, name: &str) -> Option<ChannelInfo> {
        let state = self.states.lock().get(name)?.clone();
        let slot = self.slots.read().get(name).cloned().unwrap_or_default();
        let status = slot.channel.as_ref().map(|channel| channel.status());
        let failure = match &state {
            State::Failed(failure) => Some(failure.reason.clone()),
            _ => status.as_ref().and_then(|status| status.failure.clone()),
        };
        let onboarding = status.as_ref().is_some_and(|status| status.onboarding);
        let height = slot.channel.as_ref().map_or(slot.height, |one| one.store().height());
        Some(ChannelInfo {
            name: name.to_owned(),
            relation: status.map_or(slot.relation, |status| status.relation).as_str(),
            status: match state {
                _ if failure.is_some() => "failed",
                State::Leaving => "inactive",
                State::Running if !onboarding => "active",
                _ => "onboarding",
            },
            height,
            failure,
        })
    }

    /// SHA-256 of the header of the channel's block 0, hexadecimal; `None` while it is not there.
    pub async fn genesis_hash(&self, name: &str) -> Option<String> {
        let slot = self.slots.read().get(name)?.clone();
        if let Some(known) = slot.genesis.get() {
            return Some(known.clone());
        }
        let block = slot.channel?.block(0).await.ok()??;
        let hash = block::header_hash(block.header.as_ref()?);
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Some(slot.genesis.get_or_init(|| hash).clone())
    }

    /// Joins nothing more, waits for what is under way, and stops all channels.
    pub async fn stop(&self) {
        let mut changed = self.changed.subscribe();
        self.change(Channels::stop);
        while self.states.lock().is_busy() {
            let _ = changed.changed().await;
        }
        let slots: Vec<Slot> = self.slots.read().values().cloned().collect();
        let channels = slots.iter().filter_map(|slot| slot.channel.as_ref());
        futures::future::join_all(channels.map(|channel| channel.stop())).await;
    }

    /// The channels that have failed, each with the reason.
    pub fn failures(&self) -> Vec<(String, String)> {
        let states = self.states.lock();
        let failures = states.failures();
        failures.map(|(channel, failure)| (channel.to_string(), failure.reason.clone())).collect()
    }
}

impl Attempt {
    fn open(mut self, join_block: Option<Block>) -> Result<(), OpenError> {
        let Some(run) = self.run.clone() else { return Ok(()) };
        let registrar = self.registrar.clone();
        let (mut left, opened) = registrar.open_store(&run, join_block);
        let served = opened.and_then(|channel| match registrar.serve(&run, &channel) {
            true => {
                info!(channel = %run.channel(), height = channel.store().height(), "opened a channel");
                Ok(())
            }
            false => {
                left = Left::Ledger;
                Err(OpenError::Broken)
            }
        });
        self.run = None;
        if let Err(error) = &served {
            registrar.fail(&run, left, error, error.cure());
        }
        served
    }
}

impl Registrar {
    fn open_store(
        &self,
        run: &Run,
        join_block: Option<Block>,
    ) -> (Left, Result<Arc<Channel>, OpenError>) {
        let id = run.channel();
        open_store(&*self.stores, id, join_block, |store| {
            Channel::start(id.clone(), store, self.context.clone()).map_err(OpenError::Start)
        })
    }
}

/// Opens a channel's store and starts the channel; with what a failure leaves behind.
pub(crate) fn open_store<T>(
    stores: &dyn Stores,
    id: &ChannelId,
    join_block: Option<Block>,
    start: impl FnOnce(ChainStore) -> Result<T, OpenError>,
) -> (Left, Result<T, OpenError>) {
    let (kv, created) = match stores.open(id) {
        Ok(opened) => opened.into_parts(),
        Err(error) => {
            let stored = stores.list().map_or(true, |stored| stored.contains(id));
            let left = if stored { Left::Ledger } else { Left::Nothing };
            return (left, Err(OpenError::Kv(error)));
        }
    };
    let started = ChainStore::open(kv).map_err(OpenError::Store).and_then(|store| {
        keep(&store, join_block)?;
        if let Some(created) = &created {
            stores.keep(created).map_err(OpenError::Kv)?;
        }
        start(store)
    });
    (created.into(), started)
}

/// Readers release a store as soon as they see that its channel is closed.
async fn wait_for_last(store: &Weak<ChainStore>) {
    let deadline = Instant::now() + RELEASE;
    while store.strong_count() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
}

fn check(join_block: &Block) -> Result<Bundle, JoinError> {
    block::check(join_block).map_err(JoinError::Structure)?;
    let bundle = config_block::bundle_from_block(join_block).map_err(JoinError::Config)?;
    let missing = |group| JoinError::Group { group };
    bundle.orderer().ok_or(missing("orderer"))?;
    bundle.application().ok_or(missing("application"))?;
    membership::keys(&bundle).map_err(JoinError::Consensus)?;
    Ok(bundle)
}

fn number_of(block: &Block) -> BlockNumber {
    block.header.as_ref().map_or(0, |header| header.number)
}

/// Writes what a channel is joined with, so that a crash leaves a channel that can be opened, or
/// one that was never joined. A ledger that has something already is left as it is.
fn keep(store: &ChainStore, join_block: Option<Block>) -> Result<(), OpenError> {
    let begun = store.height() > 0 || store.join_block().map_err(OpenError::Store)?.is_some();
    if let Some(genesis) = join_block.as_ref().filter(|block| number_of(block) == 0) {
        let first = store.block(0).map_err(OpenError::Store)?;
        if first.is_some_and(|first| first.header != genesis.header) {
            return Err(OpenError::OtherGenesis);
        }
    }
    match join_block {
        _ if begun => Ok(()),
        None => Err(OpenError::Empty),
        Some(block) if number_of(&block) > 0 => {
            store.set_join_block(&block).map_err(OpenError::Store)
        }
        Some(block) => store.append(block, Durability::Synced).map(drop).map_err(OpenError::Store),
    }
}
