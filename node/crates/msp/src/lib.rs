//! Who somebody is, and what that entitles them to.
//!
//! - [`Msp`] holds what one organization says about its members: authorities, revocation lists,
//!   administrators, organizational units. [`MspManager`] holds those of a channel.
//! - [`Identity`] is a certificate under an MSP, judged once when it is read: its chain, its roles,
//!   whether it is revoked. Only the question *when* is left to each use ([`ValidAt`]).
//! - [`Authenticated`] is somebody whose signature holds, whom no MSP has judged yet. Policies take
//!   nothing else, so that an identity counts only under the MSPs of the channel that is asked about.
//! - [`Principal`] describes a set of identities; [`policy`] combines principals into policies.
//! - [`NodeMsp`] is what a running node signs as and judges its own organization's members by; both
//!   can be renewed while it runs.
//! - [`folder`] reads and lays out the directory in which an MSP and a node's own key are kept. It
//!   is the one module of this crate that touches the file system.
//!
//! There is no clock here: time is passed in. What is replayed from a chain (blocks, transactions,
//! past configurations) is judged at [`ValidAt::Issuance`], so that every node comes to the same
//! result at any time; what arrives now (a broadcast, a proposal, a stream request) is judged at a
//! [`Timestamp`](weft_types::Timestamp).

mod authenticated;
mod cache;
mod canonical;
mod chain;
mod current;
pub mod folder;
mod identity;
mod manager;
mod msp;
pub mod policy;
mod principal;
mod realm;
mod revocation;
mod signing;
mod units;
mod vouched;

pub use authenticated::Authenticated;
pub use chain::ChainError;
pub use current::{CurrentIdentity, CurrentMsps, NodeMsp, Renewal, RenewalError};
pub use identity::{Identity, IdentityError, IdentityId, NodeRole, Roles, ValidAt, Window};
pub use manager::{DuplicateMsp, MspManager};
pub use msp::{DeserializeError, MAX_SERIALIZED_IDENTITY, Msp, MspError};
pub use policy::{Policy, PolicyError, PolicyManager, PolicyTree, SignedData};
pub use principal::{Principal, PrincipalError, PrincipalRole};
pub use signing::{SigningIdentity, SigningIdentityError};
