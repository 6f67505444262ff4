//! The channels of an orderer: joining, opening at start, removing
//! (Fabric: `orderer/common/multichannel/registrar.go`).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use tokio::time::{Duration, Instant};
use tracing::{info, warn};
use weft_config::block::{self as config_block, BlockError};
use weft_ledger::kv::{Durability, KvError};
use weft_protos::common::Block;
use weft_types::block::{self, BlockError as StructureError};
use weft_types::{BlockNumber, ChannelId};

use crate::chain::{ChainError, Channel, Context};
use crate::membership::{self, ConsentersError};
use crate::store::{ChainStore, StoreError, Stores};

/// Time for those who read a channel to let go of it.
const LET_GO: Duration = Duration::from_secs(2);

/// Between attempts to open a channel again that failed, as on a full disk.
const REOPEN_EVERY: Duration = Duration::from_secs(5);

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
    /// This orderer has the channel.
    #[error("cannot join: channel already exists")]
    Exists,
    /// The store cannot be opened.
    #[error("cannot join: {0}")]
    Kv(#[source] KvError),
    /// The store failed.
    #[error("cannot join: {0}")]
    Store(#[source] StoreError),
    /// The channel does not start.
    #[error("cannot join: {0}")]
    Start(#[source] ChainError),
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
}

/// Why the channels cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The stores cannot be listed.
    #[error("failed to list the channels: {0}")]
    List(#[source] KvError),
    /// A channel's store cannot be opened.
    #[error("failed to open the store of channel {channel}: {source}")]
    Kv {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        #[source]
        source: KvError,
    },
    /// A channel's store cannot be read.
    #[error("failed to open channel {channel}: {source}")]
    Store {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// A channel cannot be started.
    #[error("failed to start channel {channel}: {source}")]
    Start {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        #[source]
        source: ChainError,
    },
}

/// A channel as the participation API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub name: String,
    /// What this orderer is to it.
    pub relation: &'static str,
    /// How far this orderer is: `active`, `onboarding` or `failed`.
    pub status: &'static str,
    /// Number of blocks.
    pub height: BlockNumber,
}

/// The channels of an orderer.
pub struct Registrar {
    context: Arc<Context>,
    stores: Arc<dyn Stores>,
    channels: RwLock<BTreeMap<ChannelId, Arc<Channel>>>,
    /// Held while a channel is joined or removed.
    changing: tokio::sync::Mutex<()>,
}

impl Registrar {
    /// A registrar without channels.
    #[must_use]
    pub fn new(context: Arc<Context>, stores: Arc<dyn Stores>) -> Self {
        let (channels, changing) = (RwLock::default(), tokio::sync::Mutex::default());
        Self { context, stores, channels, changing }
    }

    /// Opens all channels that have a store. One that was never joined completely is deleted:
    /// whoever joined it got no answer.
    ///
    /// # Errors
    /// [`OpenError`] names the channel.
    pub async fn open_all(self: &Arc<Self>) -> Result<(), OpenError> {
        let _changing = self.changing.lock().await;
        for channel in self.stores.list().map_err(OpenError::List)? {
            self.open(channel)?;
        }
        Ok(())
    }

    fn open(self: &Arc<Self>, id: ChannelId) -> Result<(), OpenError> {
        let kv = self.stores.open(&id);
        let kv = kv.map_err(|source| OpenError::Kv { channel: id.clone(), source })?;
        let failed = |source| OpenError::Store { channel: id.clone(), source };
        let store = ChainStore::open(kv).map_err(failed)?;
        if store.height() == 0 && store.join_block().map_err(failed)?.is_none() {
            warn!(channel = %id, "deletes a channel that was not joined completely");
            drop(store);
            let removed = self.stores.remove(&id);
            return removed.map_err(|source| OpenError::Kv { channel: id, source });
        }
        let channel = Channel::start(id.clone(), store, self.context.clone())
            .map_err(|source| OpenError::Start { channel: id.clone(), source })?;
        info!(channel = %id, height = channel.store().height(), "opened a channel");
        self.add(channel);
        Ok(())
    }

    fn add(self: &Arc<Self>, channel: Arc<Channel>) {
        let (registrar, watched) = (Arc::downgrade(self), channel.clone());
        self.context.runtime.spawn(async move {
            watched.until_closed().await;
            let id = watched.id().clone();
            if watched.may_reopen() {
                drop(watched);
                reopen(&registrar, id).await;
            }
        });
        self.channels.write().insert(channel.id().clone(), channel);
    }

    /// Opens a failed channel again; `false` when that is to be tried later.
    async fn revive(self: &Arc<Self>, id: &ChannelId) -> bool {
        let _changing = self.changing.lock().await;
        match self.find(id.as_str()) {
            Some(failed) if failed.may_reopen() => {
                // The store is opened by one at a time. Whoever asks meanwhile finds no channel.
                failed.stop().await;
                let store = Arc::downgrade(failed.store());
                self.channels.write().remove(id);
                drop(failed);
                wait_for_last(&store).await;
            }
            // Joined anew meanwhile.
            Some(_) => return true,
            None => {}
        }
        let left = self.stores.list().is_ok_and(|stored| !stored.contains(id));
        if left {
            return true;
        }
        match self.open(id.clone()) {
            Ok(()) => true,
            Err(error) => {
                warn!(channel = %id, %error, "failed to open a channel again");
                false
            }
        }
    }

    /// The channel of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Channel>> {
        self.channels.read().get(name).cloned()
    }

    /// All channels, by name.
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        self.channels.read().values().cloned().collect()
    }

    /// Joins the channel whose genesis block, or a later config block, this is.
    ///
    /// With a genesis block that names this orderer as consenter it takes part at once. In any
    /// other case it replicates blocks first.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(self: &Arc<Self>, join_block: Block) -> Result<ChannelInfo, JoinError> {
        block::check(&join_block).map_err(JoinError::Structure)?;
        let bundle = config_block::bundle_from_block(&join_block).map_err(JoinError::Config)?;
        let missing = |group| JoinError::Group { group };
        bundle.orderer().ok_or(missing("orderer"))?;
        bundle.application().ok_or(missing("application"))?;
        membership::keys(&bundle).map_err(JoinError::Consensus)?;
        let id = bundle.channel_id().clone();
        let join_number = join_block.header.as_ref().map_or(0, |header| header.number);
        let _changing = self.changing.lock().await;
        if self.channels.read().contains_key(&id) {
            return Err(JoinError::Exists);
        }
        let channel = join_store(&*self.stores, &id, join_block, |store| {
            Channel::start(id.clone(), store, self.context.clone()).map_err(JoinError::Start)
        })?;
        info!(channel = %id, "joined a channel");
        // As it is before the first block is fetched or ordered.
        let info = ChannelInfo {
            name: id.as_str().to_owned(),
            relation: self.context.relation_to(&bundle).as_str(),
            status: if join_number == 0 { "active" } else { "onboarding" },
            height: BlockNumber::from(join_number == 0),
        };
        self.add(channel);
        Ok(info)
    }

    /// Leaves a channel and deletes its store.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub async fn remove(&self, name: &str) -> Result<(), RemoveError> {
        let _changing = self.changing.lock().await;
        let channel = self.channels.write().remove(name).ok_or(RemoveError::Unknown)?;
        channel.stop().await;
        channel.retract();
        let id = channel.id().clone();
        let store = Arc::downgrade(channel.store());
        drop(channel);
        wait_for_last(&store).await;
        self.stores.remove(&id).map_err(RemoveError::Kv)?;
        info!(channel = %id, "removed a channel");
        Ok(())
    }

    /// A channel as the participation API shows it.
    pub fn info(&self, name: &str) -> Option<ChannelInfo> {
        self.find(name).map(|channel| info_of(&channel))
    }

    /// Stops all channels.
    pub async fn stop(&self) {
        let channels = self.channels();
        let stops = channels.iter().map(|channel| channel.stop());
        futures::future::join_all(stops).await;
    }

    /// Why the node is not healthy, if it is not: a channel has failed.
    ///
    /// # Errors
    /// The channel and its failure.
    pub fn check(&self) -> Result<(), String> {
        for channel in self.channels() {
            if let Some(failure) = channel.status().failure {
                return Err(format!("channel {}: {failure}", channel.id()));
            }
        }
        Ok(())
    }
}

/// Readers let go as soon as they see that the channel is closed.
async fn wait_for_last(store: &Weak<ChainStore>) {
    let deadline = Instant::now() + LET_GO;
    while store.strong_count() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Tries to open a channel again until it works or the channel is gone.
async fn reopen(registrar: &Weak<Registrar>, id: ChannelId) {
    loop {
        tokio::time::sleep(REOPEN_EVERY).await;
        let Some(registrar) = registrar.upgrade() else { return };
        info!(channel = %id, "opens a failed channel again");
        if registrar.revive(&id).await {
            return;
        }
    }
}

/// Joins a channel as far as its store goes: writes what it is joined with, and has `start` go on
/// from there. Where anything fails, a store that this join made is removed; one that was there
/// before stays as it is.
pub(crate) fn join_store<T>(
    stores: &dyn Stores,
    id: &ChannelId,
    join_block: Block,
    start: impl FnOnce(ChainStore) -> Result<T, JoinError>,
) -> Result<T, JoinError> {
    let before = stores.list().map_err(JoinError::Kv)?.contains(id);
    let opened = stores.open(id).map_err(JoinError::Kv);
    let opened = opened.and_then(|kv| ChainStore::open(kv).map_err(JoinError::Store));
    let joined = opened.and_then(|store| {
        if before && is_joined(&store)? {
            return Err(JoinError::Exists);
        }
        keep(&store, join_block)?;
        start(store)
    });
    if joined.is_err()
        && !before
        && let Err(error) = stores.remove(id)
    {
        warn!(channel = %id, %error, "failed to clean up after a failed join");
    }
    joined
}

fn is_joined(store: &ChainStore) -> Result<bool, JoinError> {
    Ok(store.height() > 0 || store.join_block().map_err(JoinError::Store)?.is_some())
}

/// Writes what a channel is joined with, so that a crash leaves a channel that can be opened, or
/// one that was never joined.
fn keep(store: &ChainStore, join_block: Block) -> Result<(), JoinError> {
    let number = join_block.header.as_ref().map_or(0, |header| header.number);
    if number > 0 {
        return store.set_join_block(&join_block).map_err(JoinError::Store);
    }
    store.append(join_block, Durability::Synced).map(|_| ()).map_err(JoinError::Store)
}

fn info_of(channel: &Channel) -> ChannelInfo {
    let status = channel.status();
    ChannelInfo {
        name: channel.id().as_str().to_owned(),
        relation: status.relation.as_str(),
        status: match (&status.failure, status.onboarding) {
            (Some(_), _) => "failed",
            (None, true) => "onboarding",
            (None, false) => "active",
        },
        height: channel.store().height(),
    }
}
