//! Why a peer does not start.

use weft_rpc::listen::ListenError;
use weft_types::MspIdError;

use crate::chaincode::package::StoreError;
use crate::commit::PoolError;
use crate::membership::MembershipError;

/// A step of the start failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("failed to listen for {what}")]
    Listen {
        /// Whom the listener is for.
        what: &'static str,
        /// Why not.
        #[source]
        source: Box<ListenError>,
    },
    /// Metrics could not be made.
    #[error("failed to make the metrics")]
    Metrics(#[source] prometheus::Error),
    /// The threads for validation could not be started.
    #[error("failed to start validation")]
    Pool(#[source] PoolError),
    /// The directory of chaincode packages cannot be used.
    #[error("failed to open the chaincode packages")]
    Packages(#[source] StoreError),
    /// The peer cannot tell others of itself.
    #[error("failed to start the membership")]
    Membership(#[source] MembershipError),
    /// The organization of a known peer cannot be one.
    #[error("failed to read knownPeers")]
    KnownPeer(#[source] MspIdError),
}
