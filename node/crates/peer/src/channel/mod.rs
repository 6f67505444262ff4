//! A channel that this peer has joined: its ledger, its configuration, and the news about both.
//!
//! [`Channel`] is what the peer's services see. What moves it on is elsewhere: blocks come through
//! [`crate::deliver_client`] and are validated and written by [`crate::commit`]. [`Channels`] is the
//! set of all channels; it joins new ones, opens those of earlier runs, and opens again what has
//! failed.

mod error;
mod registry;
mod waiters;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;
use weft_config::Bundle;
use weft_ledger::{BlockStoreError, Ledger};
use weft_protos::common::Block;
use weft_types::{BlockNumber, ChannelId};

pub use error::{JoinError, OpenError};
pub use registry::{ChannelDeps, Channels};
pub use waiters::CommitStatus;

use crate::blocking::blocking;
use crate::commit::recent::RecentBlocks;
use waiters::Waiters;

/// A channel of this peer. All methods can be called from many threads.
pub struct Channel {
    id: ChannelId,
    ledger: Arc<Ledger>,
    bundle: ArcSwap<Bundle>,
    height: AtomicU64,
    watches: RwLock<Option<Watches>>,
    waiters: Waiters,
    recent: RecentBlocks,
    source: watch::Sender<SourceStatus>,
    fault: watch::Sender<Option<Arc<Fault>>>,
    writes_private: Mutex<()>,
}

/// What readers wait for; gone once the channel has stopped, which ends their waiting and lets
/// them release the ledger.
struct Watches {
    config: watch::Sender<u64>,
    height: watch::Sender<u64>,
}

/// Where a channel's blocks come from at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceStatus {
    /// `host:port` of the orderer that sends blocks; `None` while there is none.
    pub orderer: Option<String>,
    /// Attempts that failed since the last block that came.
    pub failures: u32,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
}

/// Why a channel commits nothing any more until it is opened again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to commit block {block} of channel {channel}: {reason}")]
pub struct Fault {
    /// The channel.
    pub channel: ChannelId,
    /// The block that could not be committed.
    pub block: BlockNumber,
    /// What went wrong, with its causes.
    pub reason: String,
}

/// The commit of a transaction cannot be waited for.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Too many calls wait already. Trying later can help.
    #[error("failed to wait for a transaction: {limit} calls wait already")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The channel has stopped.
    #[error("failed to wait for a transaction")]
    Stopped(#[source] Arc<Fault>),
    /// The peer is shutting down.
    #[error("failed to wait for a transaction: the peer is shutting down")]
    Closed,
    /// The ledger cannot be read.
    #[error("failed to look up a transaction")]
    Ledger(#[source] BlockStoreError),
}

impl Channel {
    pub(crate) fn new(id: ChannelId, ledger: Arc<Ledger>, bundle: Bundle, waiters: usize) -> Self {
        let height = ledger.height();
        Self {
            id,
            watches: RwLock::new(Some(Watches {
                config: watch::Sender::new(bundle.sequence()),
                height: watch::Sender::new(height),
            })),
            bundle: ArcSwap::from_pointee(bundle),
            height: AtomicU64::new(height),
            ledger,
            waiters: Waiters::new(waiters),
            recent: RecentBlocks::default(),
            source: watch::Sender::new(SourceStatus::default()),
            fault: watch::Sender::new(None),
            writes_private: Mutex::new(()),
        }
    }

    /// The channel's name.
    #[must_use]
    pub fn id(&self) -> &ChannelId {
        &self.id
    }

    /// The configuration as of the last committed block.
    #[must_use]
    pub fn bundle(&self) -> Arc<Bundle> {
        self.bundle.load_full()
    }

    /// The sequence of the current configuration, and its changes.
    #[must_use]
    pub fn config_watch(&self) -> watch::Receiver<u64> {
        let last = || self.bundle.load().sequence();
        self.watch(|watches| watches.config.subscribe(), last)
    }

    /// The ledger: state, blocks and indexes.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// How many blocks are committed; the next block has this number.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.height.load(Ordering::Acquire)
    }

    /// The height, and its changes until the channel stops. When it is seen here, the block can
    /// be read.
    #[must_use]
    pub fn height_watch(&self) -> watch::Receiver<u64> {
        self.watch(|watches| watches.height.subscribe(), || self.height())
    }

    /// A receiver; of a sender that is gone, once the channel has stopped.
    fn watch(
        &self,
        subscribe: impl Fn(&Watches) -> watch::Receiver<u64>,
        last: impl Fn() -> u64,
    ) -> watch::Receiver<u64> {
        match &*self.watches.read() {
            Some(watches) => subscribe(watches),
            None => watch::channel(last()).1,
        }
    }

    /// A committed block with its validation codes; `None` past the height. The newest blocks come
    /// from memory.
    ///
    /// # Errors
    /// Fails when the ledger cannot be read.
    pub fn block(&self, number: BlockNumber) -> Result<Option<Arc<Block>>, BlockStoreError> {
        if let Some(block) = self.recent.get(number) {
            return Ok(Some(block));
        }
        if number >= self.height() {
            return Ok(None);
        }
        Ok(self.ledger.blocks().block(number)?.map(Arc::new))
    }

    /// As [`block`](Self::block), for async code: what is not in memory is read where that may block.
    ///
    /// # Errors
    /// Fails when the ledger cannot be read.
    pub async fn read_block(
        &self,
        number: BlockNumber,
    ) -> Result<Option<Arc<Block>>, BlockStoreError> {
        match self.recent.get(number) {
            Some(block) => Ok(Some(block)),
            None => blocking(|| self.block(number)).await,
        }
    }

    /// What became of a transaction, if it is committed. Reads where it is called, which may block.
    ///
    /// # Errors
    /// Fails when the ledger cannot be read.
    pub fn tx_status(&self, tx_id: &str) -> Result<Option<CommitStatus>, BlockStoreError> {
        let found = self.ledger.blocks().transaction(tx_id)?;
        // The ledger can be ahead by blocks that are not on disk yet.
        let found = found.filter(|at| at.block < self.height());
        Ok(found.map(|at| CommitStatus { block: at.block, code: at.code }))
    }

    /// What becomes of a transaction: at once when it is committed, else as soon as it is. The wait
    /// has no time limit of its own; dropping the future ends it.
    ///
    /// # Errors
    /// [`StatusError`] when too many calls wait, the ledger cannot be read, or the channel stops.
    pub async fn commit_status(&self, tx_id: &str) -> Result<CommitStatus, StatusError> {
        // First the place, then the look-up, so that nothing falls in between.
        let place = self.waiters.wait(tx_id);
        let found = blocking(|| self.tx_status(tx_id)).await;
        if let Some(status) = found.map_err(StatusError::Ledger)? {
            return Ok(status);
        }
        let mut place = place.map_err(|full| StatusError::Busy { limit: full.limit })?;
        if let Some(fault) = self.fault() {
            return Err(StatusError::Stopped(fault));
        }
        match place.told().await {
            Some(status) => Ok(status),
            None => Err(self.fault().map_or(StatusError::Closed, StatusError::Stopped)),
        }
    }

    /// Calls that wait in [`commit_status`](Self::commit_status).
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Where blocks come from, and its changes.
    #[must_use]
    pub fn source_watch(&self) -> watch::Receiver<SourceStatus> {
        self.source.subscribe()
    }

    /// Why the channel has stopped, if it has.
    #[must_use]
    pub fn fault(&self) -> Option<Arc<Fault>> {
        self.fault.borrow().clone()
    }

    /// Resolves when the channel stops. It does not keep the channel.
    pub fn faulted(&self) -> impl Future<Output = Arc<Fault>> + Send + use<> {
        let mut fault = self.fault.subscribe();
        async move {
            match fault.wait_for(Option::is_some).await.ok().and_then(|fault| fault.clone()) {
                Some(fault) => fault,
                None => std::future::pending().await,
            }
        }
    }

    pub(crate) fn source(&self) -> &watch::Sender<SourceStatus> {
        &self.source
    }

    pub(crate) fn recent(&self) -> &RecentBlocks {
        &self.recent
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Held by whoever writes private data, from when it looks at what is stored until its write is
    /// done. Blocks do, and what is found after its block.
    pub(crate) fn writes_private(&self) -> MutexGuard<'_, ()> {
        self.writes_private.lock()
    }

    /// Makes a configuration the current one.
    pub(crate) fn set_bundle(&self, bundle: Bundle) {
        let sequence = bundle.sequence();
        self.bundle.store(Arc::new(bundle));
        if let Some(watches) = &*self.watches.read() {
            watches.config.send_replace(sequence);
        }
    }

    pub(crate) fn set_height(&self, height: u64) {
        self.height.store(height, Ordering::Release);
        if let Some(watches) = &*self.watches.read() {
            watches.height.send_replace(height);
        }
    }

    /// Stops the channel, until it is opened again. The first reason counts.
    pub(crate) fn stop(&self, block: BlockNumber, reason: String) {
        let fault = Fault { channel: self.id.clone(), block, reason };
        tracing::error!(channel = %self.id, block, reason = %fault.reason, "channel stopped");
        self.fault.send_if_modified(|first| {
            let new = first.is_none();
            first.get_or_insert_with(|| Arc::new(fault));
            new
        });
        self.waiters.close();
        *self.watches.write() = None;
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id)
            .field("height", &self.height())
            .field("config", &self.bundle.load().sequence())
            .finish_non_exhaustive()
    }
}

/// An error with all its causes, on one line.
pub(crate) fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
