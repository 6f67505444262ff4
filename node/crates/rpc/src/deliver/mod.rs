//! The Deliver service: blocks of a chain, as a client seeks them. Orderers and peers share
//! this logic and differ in where blocks come from ([`DeliverSource`], [`DeliverChannel`]),
//! who may read them, and how they are wrapped ([`Reply`]).
//!
//! A client sends signed envelopes with a `SeekInfo`, one after the other; each is answered
//! with blocks and then one status. Any status but SUCCESS ends the stream. The checks are
//! made in this order (Fabric: `common/deliver/deliver.go`):
//!
//! | Check | Status on failure |
//! | --- | --- |
//! | headers can be read; timestamp within the window; TLS certificate hash fits | BAD_REQUEST |
//! | the channel exists | NOT_FOUND |
//! | the payload is a `SeekInfo` | BAD_REQUEST |
//! | consensus is in touch (unless BEST_EFFORT) | SERVICE_UNAVAILABLE |
//! | the creator may read: checked first, again after a change of configuration, and refused once its certificate expired | FORBIDDEN |
//! | start and stop are given, and the stop's number is not before the start | BAD_REQUEST |
//! | the start is not past the next block; with FAIL_IF_NOT_READY, each block is there | NOT_FOUND |
//!
//! Deviations from Fabric: `oldest` on a chain whose first blocks were never stored (a ledger
//! made from a snapshot) starts at the first stored block; a stop of `next_commit` is the
//! block after the newest at the time of the request; a reader that waits is cut as soon as
//! it loses its right to read, not at the next block; a certificate hash that is sent is
//! compared even where client certificates are optional.

mod reply;
mod request;
mod service;
mod session;
mod stream;

use std::error::Error;

use tokio::sync::watch;
use weft_protos::common::Block;
use weft_types::{BlockNumber, ChannelId, Timestamp};

pub use reply::{BlockReply, FilteredReply, OrdererReply, Reply, filtered_block};
pub use request::{RequestError, SeekRequest, TlsBinding};
pub use service::{Clock, DeliverMetrics, DeliverOptions, DeliverService, system_clock};
pub use stream::DeliverStream;

/// Any error, boxed.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a stream sends, which also says what right its reader needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// Whole blocks (Fabric's resource `event/Block` on peers).
    Block,
    /// Filtered blocks (Fabric's resource `event/FilteredBlock`).
    FilteredBlock,
    /// Whole blocks with private data (Fabric's resource `event/Block`).
    BlockAndPrivateData,
}

impl DataType {
    /// As metrics' labels name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::FilteredBlock => "filtered_block",
            Self::BlockAndPrivateData => "block_and_pvtdata",
        }
    }
}

/// The channels of a node.
pub trait DeliverSource: Send + Sync + 'static {
    /// A channel.
    type Channel: DeliverChannel;

    /// The channel of this id; `None` when the node does not have it.
    fn channel(&self, id: &ChannelId) -> Option<Self::Channel>;
}

/// A chain of blocks and the right to read it. Usually a handle that is cheap to clone.
///
/// The receivers are taken once a request. When a sender is dropped, because the node leaves
/// the channel, open requests end with SERVICE_UNAVAILABLE.
pub trait DeliverChannel: Send + Sync + 'static {
    /// Number of the first block that is stored.
    fn first_block(&self) -> BlockNumber {
        0
    }

    /// Number of blocks: the number of the next one. It grows after the block can be read.
    fn height(&self) -> watch::Receiver<BlockNumber>;

    /// Sequence of the channel's configuration.
    fn config_sequence(&self) -> watch::Receiver<u64>;

    /// Whether consensus is in touch with its cluster; always true on peers.
    fn available(&self) -> watch::Receiver<bool>;

    /// A block below the height; `None` when it is not stored.
    fn block(
        &self,
        number: BlockNumber,
    ) -> impl Future<Output = Result<Option<Block>, BoxError>> + Send;

    /// Whether the creator of a request may read, its signature included. Returns when the
    /// creator's certificate expires.
    ///
    /// # Errors
    /// Why it may not.
    fn authorize(
        &self,
        request: &SeekRequest,
        data: DataType,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, BoxError>;
}
