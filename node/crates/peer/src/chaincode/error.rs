//! Why a contract could not be run. The texts reach clients; those that Fabric's clients and
//! tests know keep Fabric's words (core/chaincode/chaincode_support.go, handler.go).

use std::sync::Arc;
use std::time::Duration;

use super::host::HostError;
use super::package::PackageError;

/// An invocation that gave no response.
#[derive(Debug, thiserror::Error)]
#[error("failed to execute transaction {tx_id}: {source}")]
pub struct ChaincodeError {
    /// The transaction.
    pub tx_id: String,
    /// Why.
    #[source]
    pub source: ExecuteError,
}

impl ChaincodeError {
    /// Whether the same proposal could succeed later or on another peer.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.source {
            ExecuteError::Launch { source, .. } => source.is_transient(),
            ExecuteError::Timeout | ExecuteError::StreamTerminated => true,
            _ => false,
        }
    }
}

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// There is no such chaincode, or it may not be called so.
    #[error("invalid invocation: {0}")]
    Invocation(#[source] HostError),
    /// A system chaincode refused.
    #[error("{0}")]
    System(#[source] HostError),
    /// The contract could not be reached.
    #[error("could not launch chaincode {package_id}: {source}")]
    Launch {
        /// Its package.
        package_id: String,
        /// Why.
        #[source]
        source: Arc<LaunchError>,
    },
    /// The contract is working on a transaction of this id, as when a chain of calls comes back
    /// to a contract that is part of it.
    #[error("error sending: txid: {tx_id}({channel}) exists")]
    DuplicateTransaction {
        /// The transaction.
        tx_id: String,
        /// Its channel.
        channel: String,
    },
    /// The contract did not answer in time.
    #[error("error sending: timeout expired while executing transaction")]
    Timeout,
    /// The connection to the contract ended.
    #[error("error sending: chaincode stream terminated")]
    StreamTerminated,
    /// The contract answered with a failure.
    #[error("transaction returned with failure: {0}")]
    Failure(String),
    /// The contract answered with something that is not a response.
    #[error("failed to unmarshal response: {0}")]
    Response(#[source] weft_protos::ext::DecodeError),
    /// The message to the contract is larger than the limit.
    #[error("message of {size} bytes to the chaincode is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Contracts call each other too deeply.
    #[error("chaincode calls are nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

/// Why a contract could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Its package is not on this peer.
    #[error("chaincode install package '{0}' not found")]
    NotInstalled(String),
    /// Its package cannot be read.
    #[error("failed to read the chaincode package: {0}")]
    Package(#[source] PackageError),
    /// Its TLS settings cannot be used.
    #[error("failed to use the TLS settings of connection.json: {0}")]
    Tls(#[source] tonic::transport::Error),
    /// The address in `connection.json` cannot be used.
    #[error("failed to use the address {address:?} of connection.json: {reason}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection.
    #[error("failed to connect to the chaincode server at {address}: {reason}")]
    Connect {
        /// Address of the server.
        address: String,
        /// Why not.
        reason: String,
    },
    /// It is connected and did not register, or not as it should.
    #[error("failed to register the chaincode at {address}: {reason}")]
    Handshake {
        /// Where it is.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// It should have dialled this peer, and did not in time.
    #[error("the chaincode has not registered with this peer within {0:?}")]
    NotRegistered(Duration),
    /// The runtime is shutting down.
    #[error("the peer is shutting down")]
    Shutdown,
}

impl LaunchError {
    /// Whether trying again later can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Handshake { .. } | Self::NotRegistered(_))
    }
}
