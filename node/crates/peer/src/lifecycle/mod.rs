//! The life of chaincode: which packages are installed, which definitions organizations have
//! approved, and which one a channel goes by (Fabric: core/chaincode/lifecycle).
//!
//! Definitions are state of the namespace `_lifecycle`, in the keys and bytes that Fabric writes,
//! so that ledgers are the same whoever endorsed them ([`layout`]). [`definition()`] reads one; the
//! validator, the endorser, the gateway and discovery all ask here. The functions that clients
//! call are in [`functions`]; what turns a call into arguments is [`crate::syscc`].
//!
//! # Approvals
//!
//! An organization approves in its implicit collection `_implicit_org_<MSP id>`: the chain holds
//! hashes only, and any peer can tell from them whether an organization has approved exactly a
//! given definition. The plain values are kept by the peers that endorsed the approval
//! ([`crate::commit::private`]) and enter their private state when the transaction commits.
//!
//! # Where this differs from Fabric
//!
//! - Peers of an organization do not pass private values on to each other. A peer that did not
//!   endorse the approval knows its hashes, but not the package that its organization has chosen.
//!   A client therefore has the approval endorsed by every peer of its organization (the results
//!   are the same, so any one of the endorsements makes the transaction). A peer that was not
//!   asked tries the packages that it has installed against the hash of the approved package id,
//!   so it finds the package all the same, once it is installed.
//! - Chaincodes of the older lifecycle (`lscc`) do not exist.

mod approve;
mod args;
pub mod collections;
mod commit;
pub mod definition;
pub mod functions;
mod install;
pub mod layout;
mod query;
pub mod sources;
pub mod state;

pub use definition::{
    Definition, DefinitionError, LedgerDefinitions, Parameters, definition, definitions, sequence,
};

pub use functions::{ChannelCall, FunctionError};
pub use install::Installed;
pub use sources::{Endorsable, Sources, SourcesError};

/// The namespace of definitions, and the name of the system chaincode that keeps them.
pub const NAMESPACE: &str = "_lifecycle";
/// What the names of organizations' implicit collections begin with
/// (Fabric: core/chaincode/implicitcollection).
pub const IMPLICIT_COLLECTION: &str = "_implicit_org_";
/// The plugin that endorses where a definition names none.
pub const ENDORSEMENT_PLUGIN: &str = "escc";
/// The plugin that validates where a definition names none.
pub const VALIDATION_PLUGIN: &str = "vscc";

/// The name of an organization's implicit collection.
#[must_use]
pub fn implicit_collection(msp_id: &str) -> String {
    format!("{IMPLICIT_COLLECTION}{msp_id}")
}
