//! Why a channel is not joined or opened.

use weft_channels::Cure;
use weft_ledger::kv::KvError;
use weft_ledger::{BlockStoreError, LedgerError};
use weft_types::ChannelId;
use weft_types::block::BlockError;

/// A channel cannot be opened.
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
    /// The ledger has no block, not even the first.
    #[error("failed to open the ledger of channel {channel}: it has no block")]
    Empty {
        /// The channel.
        channel: ChannelId,
    },
    /// The ledger that is there does not begin with the block to join with.
    #[error(
        "failed to open the ledger of channel {channel}: it is of another channel of this name"
    )]
    OtherGenesis {
        /// The channel.
        channel: ChannelId,
    },
    /// The genesis block could not be stored.
    #[error("failed to store the genesis block of channel {channel}")]
    Genesis {
        /// The channel.
        channel: ChannelId,
        /// Why not.
        #[source]
        source: LedgerError,
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
    /// The channel could not be opened.
    #[error("failed to join a channel")]
    Open(#[source] OpenError),
}

impl OpenError {
    /// Whether opening the channel again can help.
    pub(crate) fn cure(&self) -> Cure {
        match self {
            Self::Empty { .. }
            | Self::OtherGenesis { .. }
            | Self::NoConfig { .. }
            | Self::Config { .. } => Cure::Repair,
            other => Cure::of(other),
        }
    }
}
