//! What the `weft` command, the operator and tests use to talk to nodes.
//!
//! - [`Connection`]: a TLS connection to one node.
//! - [`Gateway`]: transactions and queries through a peer's Gateway service.
//! - [`Peer`]: a peer's administration (channels, chaincode packages, ledger facts) by signed
//!   proposals.
//! - [`lifecycle`]: a chaincode definition from approval to commit.
//! - [`Orderer`]: broadcast, and blocks by Deliver; [`Participation`]: joining channels.
//! - [`Operations`]: a node's health and metrics.
//!
//! Every call is signed by a [`weft_types::Signer`] that the caller holds; nothing here keeps
//! keys. Errors name the node and the call, and carry what the node said.

mod connection;
mod error;
mod gateway;
pub mod lifecycle;
mod operations;
mod orderer;
mod participation;
mod peer;

pub use connection::{Connection, ConnectionSpec};
pub use error::{ClientError, EndorserError};
pub use gateway::{Call, Gateway, Submitted};
pub use operations::Operations;
pub use orderer::Orderer;
pub use participation::{ChannelInfo, Participation};
pub use peer::Peer;
