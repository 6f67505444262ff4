//! The kinds of `weft.dev/v1alpha1`: what a user writes.
//!
//! One set of Rust types serves both ways to run a network: the Kubernetes controllers read
//! them from the API server, and `weft up` reads them from a YAML file. This module owns the
//! schema (fields, defaults, CEL rules, printer columns); [`crate::manifest`] owns reading a
//! file of several documents, and [`crate::model`] owns the rules that need more than one
//! object (references, quorums), which CEL cannot see.
//!
//! Field descriptions are written for `kubectl explain`.

mod chaincode;
mod channel;
mod network;
mod organization;
mod shared;

pub use chaincode::{Chaincode, ChaincodeSpec, ChaincodeStatus, CollectionSpec};
pub use channel::{Channel, ChannelSpec, ChannelStatus, PolicyOverrides};
pub use network::{
    ConsensusType, LedgerNetwork, LedgerNetworkSpec, LedgerNetworkStatus, OrderingSpec, RaftOptions,
};
pub use organization::{
    CaSpec, ExternalOrganization, Organization, OrganizationSpec, OrganizationStatus, PeersSpec,
    UserRole, UserSpec,
};
pub use shared::{
    BatchSpec, CertificateSpec, Condition, ConfigMapRef, CryptoSuite, DeletionPolicy, NodeSpec,
    SecretRef, StorageSpec,
};

/// API group of every kind.
pub const GROUP: &str = "weft.dev";
/// API version of every kind.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every document: `weft.dev/v1alpha1`.
pub const API_VERSION: &str = "weft.dev/v1alpha1";

/// The four CustomResourceDefinitions, in the order in which `crds/` holds them.
pub fn crds()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>
{
    use kube::CustomResourceExt;
    vec![Chaincode::crd(), Channel::crd(), LedgerNetwork::crd(), Organization::crd()]
}

#[cfg(test)]
mod tests;
