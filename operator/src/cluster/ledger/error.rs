//! Why the ledger side of a network cannot be looked at or changed.

use weft_client::ClientError;
use weft_config::ConfigError;
use weft_config::block::BlockError;
use weft_package::PackageError;
use weft_types::{ChannelId, SignError};

use crate::channel_config::ChannelConfigError;

/// A step that failed for a reason that waiting does not mend. What passes by itself is a
/// [`super::Waiting`] instead.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A node refused a step.
    #[error("failed to {step}")]
    Node {
        /// What was tried, with the names it concerns.
        step: String,
        /// What the node said.
        #[source]
        source: Box<ClientError>,
    },
    /// The wanted config cannot be made.
    #[error(transparent)]
    Config(ChannelConfigError),
    /// The genesis block given is not that of the channel.
    #[error("channel {channel}: failed to read its genesis block")]
    Genesis {
        /// The channel.
        channel: ChannelId,
        /// What is wrong.
        #[source]
        source: Box<BlockError>,
    },
    /// The config on the ledger cannot be read.
    #[error("channel {channel}: failed to read its config")]
    Current {
        /// The channel.
        channel: ChannelId,
        /// What is wrong.
        #[source]
        source: Box<ConfigError>,
    },
    /// A config update cannot be computed or breaks rules that no signature mends.
    #[error("channel {channel}: failed to make a config update: {what}")]
    Update {
        /// The channel.
        channel: ChannelId,
        /// What is wrong.
        what: String,
    },
    /// A key cannot be used.
    #[error("failed to sign {what}")]
    Sign {
        /// What was to be signed.
        what: String,
        /// Why not.
        #[source]
        source: SignError,
    },
    /// The random generator of the machine.
    #[error("failed to draw a nonce")]
    Nonce(#[source] weft_crypto::RandomError),
    /// Someone who must act has no keys here.
    #[error("{holder} has no administrator here")]
    NoAdmin {
        /// Name of the organization or ordering service.
        holder: String,
    },
    /// A signed update that was given cannot be read.
    #[error("failed to read a signed config update: {what}")]
    Signatures {
        /// What is wrong.
        what: String,
    },
    /// A chaincode's package cannot be made.
    #[error("chaincode {chaincode}: failed to make its package")]
    Package {
        /// The chaincode.
        chaincode: String,
        /// Why.
        #[source]
        source: Box<PackageError>,
    },
    /// A chaincode cannot be used as declared.
    #[error("chaincode {chaincode}: {what}")]
    Chaincode {
        /// The chaincode.
        chaincode: String,
        /// Why.
        what: String,
    },
}

impl LedgerError {
    /// Wraps what a node said about a step.
    pub(crate) fn node(step: impl Into<String>) -> impl FnOnce(ClientError) -> LedgerError {
        let step = step.into();
        move |source| LedgerError::Node { step, source: Box::new(source) }
    }

    /// Whether the same step may do better a little later.
    pub fn can_retry(&self) -> bool {
        match self {
            LedgerError::Node { source, .. } => source.can_retry(),
            LedgerError::Nonce(_) => true,
            _ => false,
        }
    }
}

impl From<ChannelConfigError> for LedgerError {
    /// The source names its channel; the step needs no more context.
    fn from(source: ChannelConfigError) -> Self {
        LedgerError::Config(source)
    }
}
