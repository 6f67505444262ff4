//! Why a channel ends, or does not begin.

use weft_types::BlockNumber;

use crate::membership::ConsentersError;
use crate::store::StoreError;

/// Why a channel cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The store failed.
    #[error("failed to use the channel's store: {0}")]
    Store(#[source] StoreError),
    /// The stored configuration cannot be used.
    #[error("failed to read the channel's configuration: {0}")]
    Config(#[source] weft_config::block::BlockError),
    /// There is neither a block nor a join block.
    #[error("failed to open the channel: it was never joined")]
    NotJoined,
    /// The consenters cannot be worked out.
    #[error("failed to start consensus: {0}")]
    Consenters(#[source] ConsentersError),
    /// The thread cannot be started.
    #[error("failed to start the channel's thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The engine cannot be made from what is stored.
    #[error("failed to start consensus: {0}")]
    Restore(#[source] weft_consensus::raft::RestoreError),
    /// A solo channel with other consenters.
    #[error("failed to start consensus: {0}")]
    Solo(#[source] weft_consensus::solo::SoloError),
    /// The engine stopped itself.
    #[error("failed to go on with consensus: {0}")]
    Engine(#[source] weft_consensus::EngineError),
    /// The engine wants what this version does not do.
    #[error("failed to carry out an action of the engine: {what}")]
    Action {
        /// What it wants.
        what: &'static str,
    },
    /// A block that was ordered does not fit.
    #[error("failed to write block {number}: {what}")]
    Block {
        /// The block.
        number: BlockNumber,
        /// What is wrong.
        what: String,
    },
    /// The chain that other orderers gave does not lead to the join block.
    #[error("failed to onboard: block {number} is not the one that the channel was joined with")]
    JoinBlock {
        /// Its number.
        number: BlockNumber,
    },
}
