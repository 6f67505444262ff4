//! Why a proposal is not endorsed. The texts reach clients, who know Fabric's.

use std::time::Duration;

use tonic::Status;
use weft_ledger::kv::KvError;
use weft_types::proposal::ProposalError;
use weft_types::{SignError, Timestamp};

use super::distribution::DistributionError;
use super::host::ResolveError;
use super::interest::InterestError;
use crate::acl::AclError;
use crate::chaincode::ChaincodeError;
use crate::channel::report;

/// A proposal that is not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum EndorserError {
    /// Too many proposals are at work. Trying later, or elsewhere, helps.
    #[error("too many requests for /protos.Endorser, exceeding concurrency limit ({limit})")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// It cannot be read, or breaks a rule of its form.
    #[error("error validating proposal: {}", report(.0))]
    Proposal(#[source] ProposalError),
    /// Its time is too far from the peer's.
    #[error(
        "request unauthorized due to incorrect timestamp {proposal}, peer time {peer}, peer.authentication.timewindow {window:?}"
    )]
    Time {
        /// The proposal's time.
        proposal: String,
        /// The peer's time.
        peer: Timestamp,
        /// How far they may be apart.
        window: Duration,
    },
    /// This peer has not joined the channel.
    #[error("channel '{channel}' not found")]
    UnknownChannel {
        /// The channel.
        channel: String,
    },
    /// The creator is nobody whom the channel knows.
    #[error(
        "error validating proposal: access denied: channel [{channel}] creator org unknown, creator is malformed"
    )]
    UnknownCreator {
        /// The channel.
        channel: String,
    },
    /// The creator's certificate has expired.
    #[error("proposal client identity expired")]
    Expired,
    /// The creator is not valid, or did not sign. Which one is not told.
    #[error("error validating proposal: access denied: channel [{channel}] creator org [{msp_id}]")]
    Denied {
        /// The channel.
        channel: String,
        /// The creator's organization.
        msp_id: String,
    },
    /// The transaction is on the ledger.
    #[error("duplicate transaction found [{tx_id}]. Creator [{creator}]")]
    Duplicate {
        /// The transaction.
        tx_id: String,
        /// The creator, in hexadecimal.
        creator: String,
    },
    /// The creator may not propose.
    #[error("{0}")]
    Access(#[source] AclError),
    /// The ledger cannot be read.
    #[error("failed to look up the transaction: {0}")]
    Ledger(#[source] weft_ledger::BlockStoreError),
}

impl From<EndorserError> for Status {
    /// Fabric answers all but overload with UNKNOWN.
    fn from(error: EndorserError) -> Self {
        match error {
            EndorserError::Busy { .. } => Self::resource_exhausted(error.to_string()),
            error => Self::unknown(error.to_string()),
        }
    }
}

/// A proposal that was acceptable and could not be endorsed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The chaincode is not defined, or this peer cannot run it.
    #[error(
        "make sure the chaincode {chaincode} has been successfully defined on channel {channel} and try again: {source}"
    )]
    Undefined {
        /// The chaincode.
        chaincode: String,
        /// The channel.
        channel: String,
        /// Why.
        source: ResolveError,
    },
    /// The chaincode gave no response.
    #[error("error in simulation: {0}")]
    Simulation(#[source] ChaincodeError),
    /// Whose endorsements are needed cannot be told.
    #[error("failed to tell whose endorsements are needed: {0}")]
    Interest(#[source] InterestError),
    /// Private values could not be kept.
    #[error("failed to keep private values: {0}")]
    Keep(#[source] KvError),
    /// Private values could not be given to other members of their collections.
    #[error("error in simulation: {0}")]
    Distribution(#[source] DistributionError),
    /// The peer could not sign.
    #[error("endorsing with plugin failed: {0}")]
    Sign(#[source] SignError),
}
