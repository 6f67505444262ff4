//! What the runtime asks of the peer around it.

use async_trait::async_trait;
use weft_protos::peer;

use super::state::{BlockingState, StateAccess};

/// A refusal by the peer. Its text reaches the contract and the client.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// What was refused and why.
    pub message: String,
}

impl HostError {
    /// A refusal with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// What stands behind a chaincode's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A system chaincode, which the peer runs itself.
    System,
    /// A contract.
    Contract {
        /// Id of its package, `label:sha256`; in development mode also `name:version`.
        package_id: String,
        /// Whether this call is the initialization that its definition requires.
        init: bool,
    },
}

/// What a transaction may do with a collection of private data on this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectionAccess {
    /// Whether the proposal's creator may read values.
    pub may_read: bool,
    /// Whether the proposal's creator may write.
    pub may_write: bool,
    /// Whether this peer holds the values, as peers of members do.
    pub held: bool,
}

/// The peer around the runtime. What is not `async` may read the store, so async code calls it through
/// [`crate::blocking`].
#[async_trait]
pub trait Host: Send + Sync {
    /// Finds what stands behind `chaincode` on `channel`. It adds the read dependencies of the
    /// definition to `state`, and enforces initialization: a required one comes first and once
    /// (Fabric: core/chaincode/chaincode_support.go CheckInvocation).
    ///
    /// # Errors
    /// Fails for an unknown chaincode and against the rules of initialization.
    fn resolve(
        &self,
        channel: &str,
        chaincode: &str,
        is_init: bool,
        state: &mut dyn StateAccess,
    ) -> Result<Target, HostError>;

    /// Whether the proposal's creator may have one contract call `chaincode` on `channel`
    /// (the access rule `peer/ChaincodeToChaincode`). System chaincodes are not asked about.
    ///
    /// # Errors
    /// Fails where the call is not allowed.
    fn check_call(
        &self,
        channel: &str,
        chaincode: &str,
        proposal: Option<&peer::SignedProposal>,
    ) -> Result<(), HostError>;

    /// Whether the peer runs `chaincode` itself.
    fn is_system(&self, chaincode: &str) -> bool;

    /// State of another channel for a call across channels. What is written to it is dropped.
    ///
    /// # Errors
    /// Fails for a channel that this peer has not joined.
    fn open_state(&self, channel: &str, tx_id: &str) -> Result<Box<BlockingState>, HostError>;

    /// Runs a system chaincode for a contract.
    ///
    /// # Errors
    /// Fails where it cannot be called from a contract.
    async fn invoke_system(
        &self,
        channel: &str,
        tx_id: &str,
        chaincode: &str,
        input: &peer::ChaincodeInput,
        proposal: Option<&peer::SignedProposal>,
        state: &mut BlockingState,
    ) -> Result<peer::Response, HostError>;

    /// Whether the channel's capabilities allow endorsement policies of keys (V1_3 and later).
    fn key_level_endorsement(&self, channel: &str) -> bool;

    /// Whether the channel's capabilities allow private data to be purged (V2_5 and later).
    fn purges_private_data(&self, channel: &str) -> bool;

    /// What this transaction may do with a collection of `chaincode`; `None` where there is no
    /// such collection (Fabric: core/common/privdata/store.go, RetrieveReadWritePermission).
    ///
    /// # Errors
    /// Fails where the definition cannot be read.
    fn collection(
        &self,
        channel: &str,
        chaincode: &str,
        collection: &str,
    ) -> Result<Option<CollectionAccess>, HostError>;
}
