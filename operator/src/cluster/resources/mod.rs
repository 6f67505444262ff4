//! The Kubernetes objects of a network, built from validated input. Pure.
//!
//! This module owns what each object looks like: its labels, selectors, ports, pods, and who may
//! reach it. It neither reads nor writes the API server, and it decides nothing about when an
//! object is written: that is for [`super::controllers`]. Names are those of [`super::names`],
//! nodes those of [`super::topology`]. Secrets are made elsewhere ([`super::identity`]).
//!
//! Every object is complete (namespace, labels, owner) and holds only fields that are meant, so
//! that server-side apply owns these and leaves the defaults of the API server alone. Fields
//! that Kubernetes 1.20 does not know are not used: server-side apply refuses unknown ones.
//! Ports and environment variables always name what identifies them (`protocol`, `name`), and
//! none stands twice, because server-side apply merges lists by these.
//!
//! | Module | Objects |
//! | --- | --- |
//! | [`node`] | settings (ConfigMap), Service, volume (claim), StatefulSet of a node |
//! | [`group`] | headless Service, Service for clients, PodDisruptionBudget of a holder's nodes |
//! | [`network_policy`] | who may reach a holder's nodes |
//! | [`chaincode`] | Deployment, Service and NetworkPolicy of a contract's program |
//! | [`genesis`] | genesis block of a channel (ConfigMap) |
//!
//! [`security`] holds the security contexts of all pods, and [`restricted`] checks pods against
//! the Pod Security Standard of that name.

pub mod chaincode;
pub mod genesis;
pub mod group;
pub mod hash;
pub mod labels;
pub mod network_policy;
pub mod node;
mod pod;
pub mod restricted;
pub mod security;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use labels::Labels;

/// An object cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The pod template of a node or program cannot be written as JSON, and so has no hash.
    #[error("failed to hash the pod template of {name:?}")]
    TemplateHash {
        /// The StatefulSet or Deployment.
        name: String,
        /// What JSON cannot express.
        #[source]
        source: serde_json::Error,
    },
}

/// Protocol of every port: ports are told apart by number and protocol.
const TCP: &str = "TCP";

fn meta(name: &str, namespace: &str, labels: Labels, owner: Option<&OwnerReference>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        owner_references: owner.map(|owner| vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn selector(labels: Labels) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

/// A Service's port that leads to the container's port of the same name.
fn service_port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        protocol: Some(TCP.to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests;
