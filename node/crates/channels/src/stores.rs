//! Where ledgers are kept, and who may delete one.

use std::sync::Arc;

use weft_ledger::kv::{Kv, KvError};
use weft_types::ChannelId;

/// The stores of a node's channels. A node keeps one RocksDB a channel; tests keep them in
/// memory ([`crate::memory::MemoryStores`]).
///
/// A store is unfinished from its creation until [`Stores::keep`], also across a crash: what a
/// join did not bring to its end is [`Opened::Created`] when it is opened again.
pub trait Stores: Send + Sync {
    /// Opens a channel's store, created where there is none. A creation that fails leaves
    /// nothing.
    ///
    /// # Errors
    /// As the store below fails.
    fn open(&self, channel: &ChannelId) -> Result<Opened, KvError>;

    /// From now on the store is found, not created: the join has written what it is opened with.
    ///
    /// # Errors
    /// As the store below fails; the store is still unfinished then.
    fn keep(&self, created: &Created) -> Result<(), KvError>;

    /// The channels that have a store.
    ///
    /// # Errors
    /// As the store below fails.
    fn list(&self) -> Result<Vec<ChannelId>, KvError>;

    /// Deletes a channel's store, which nobody has open any more.
    ///
    /// # Errors
    /// As the store below fails.
    fn remove(&self, removal: &Removal) -> Result<(), KvError>;
}

/// A store that was opened.
pub enum Opened {
    /// It was there before.
    Found(Arc<dyn Kv>),
    /// It was created now, or by a join that was cut short; the token lets a failed join take
    /// it back.
    Created(Arc<dyn Kv>, Created),
}

impl Opened {
    /// The store, and the token of one that was created.
    #[must_use]
    pub fn into_parts(self) -> (Arc<dyn Kv>, Option<Created>) {
        match self {
            Self::Found(kv) => (kv, None),
            Self::Created(kv, created) => (kv, Some(created)),
        }
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found(_) => f.write_str("Found"),
            Self::Created(_, created) => write!(f, "{created:?}"),
        }
    }
}

/// Proof that the ledger of a channel was created by the attempt that holds it.
#[derive(Debug, PartialEq, Eq)]
pub struct Created {
    channel: ChannelId,
}

impl Created {
    /// For a [`Stores`] that has just created the store of this channel, or found one that was
    /// never [kept](Stores::keep); for nobody else.
    #[must_use]
    pub fn new(channel: ChannelId) -> Self {
        Self { channel }
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }
}

/// The right to delete the ledger of a channel. Only [`crate::Channels`] gives it.
#[derive(Debug, PartialEq, Eq)]
pub struct Removal {
    channel: ChannelId,
}

impl Removal {
    pub(crate) fn new(channel: ChannelId) -> Self {
        Self { channel }
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }
}
