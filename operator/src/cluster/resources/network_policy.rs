//! Who may reach the nodes of a holder. Pods that a NetworkPolicy selects refuse what none
//! allows: one policy a holder both closes its nodes and says what stays open.
//!
//! | Port | Open to |
//! | --- | --- |
//! | orderer 7050 | nodes of the network; pods labelled `weft.dev/client: "true"` in any namespace; the operator |
//! | orderer 7053 | the operator |
//! | orderer 8443 | the operator; scrapers |
//! | peer 7051 | every pod of the cluster |
//! | peer 7052 | programs of contracts of the network |
//! | peer 9443 | the operator; scrapers |
//!
//! *Scrapers* are the pods of namespaces labelled `weft.dev/scrape: "true"`, and pods labelled
//! `app.kubernetes.io/name: prometheus` in any namespace.
//!
//! - Orderers talk to each other on the port that clients use, as in Fabric without a separate
//!   cluster listener. The cluster's part of it asks for a consenter's TLS certificate.
//! - A peer's port is open to the pods of other organizations and of clients: peers exchange
//!   blocks across organizations, and it is the signature of a request that says whose it is.
//!   Nothing else of an organization is open to another.
//! - A label on a pod proves nothing about who gave it. The policies keep others from ports;
//!   what a caller may do there is decided by mutual TLS and signatures.
//! - Probes come from the kubelet, which the policies of a pod on its machine do not stop.
//! - Calls out of the nodes and programs are left alone: what a node may dial (DNS, external
//!   organizations, webhooks of a contract) is not known here, and a policy for egress without
//!   DNS stops everything.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::group::Group;
use super::labels::{self, Labels};
use super::{TCP, meta, selector};
use crate::cluster::names::{MANAGER, component, label, port};
use crate::cluster::topology::NodeKind;

/// Value of `app.kubernetes.io/name` on the pods of a Prometheus.
const PROMETHEUS: &str = "prometheus";

/// The policy of the nodes of a group.
pub fn policy(group: &Group, owner: &OwnerReference) -> NetworkPolicy {
    let rules = match group.kind() {
        NodeKind::Orderer => orderer_rules(&group.network),
        NodeKind::Peer => peer_rules(&group.network),
    };
    NetworkPolicy {
        metadata: meta(&group.holder.group(), &group.namespace, group.labels(), Some(owner)),
        spec: Some(ingress(selector(group.selector()), rules)),
    }
}

fn orderer_rules(network: &str) -> Vec<NetworkPolicyIngressRule> {
    let nodes = here(selector(labels::selector_for_network(network)));
    let clients = anywhere(selector(one(label::CLIENT, "true")));
    vec![
        allow(port::ORDERER, vec![nodes, clients, operator()]),
        allow(port::PARTICIPATION, vec![operator()]),
        allow(port::ORDERER_OPERATIONS, operations()),
    ]
}

fn peer_rules(network: &str) -> Vec<NetworkPolicyIngressRule> {
    let programs = Labels::from([
        (label::COMPONENT.to_owned(), component::CHAINCODE.to_owned()),
        (label::NETWORK.to_owned(), labels::value(network)),
    ]);
    vec![
        allow(port::PEER, vec![namespaces(LabelSelector::default())]),
        allow(port::PEER_CHAINCODE, vec![here(selector(programs))]),
        allow(port::PEER_OPERATIONS, operations()),
    ]
}

/// Who may ask for metrics and health.
fn operations() -> Vec<NetworkPolicyPeer> {
    let scraped = namespaces(selector(one(label::SCRAPE, "true")));
    let prometheus = anywhere(selector(one(label::NAME, PROMETHEUS)));
    vec![operator(), scraped, prometheus]
}

/// The operator, in whichever namespace it runs.
fn operator() -> NetworkPolicyPeer {
    anywhere(selector(one(label::NAME, MANAGER)))
}

fn one(key: &str, value: &str) -> Labels {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

/// Pods of the policy's own namespace.
pub(super) fn here(pods: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(pods), ..NetworkPolicyPeer::default() }
}

/// Pods of any namespace: an empty selector selects all of them.
fn anywhere(pods: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(pods), ..namespaces(LabelSelector::default()) }
}

/// All pods of the namespaces.
fn namespaces(selector: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(selector), ..NetworkPolicyPeer::default() }
}

/// Opens a port to peers. There must be one: a rule without any is open to everyone.
pub(super) fn allow(port: u16, from: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(from),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(i32::from(port))),
            protocol: Some(TCP.to_owned()),
            ..NetworkPolicyPort::default()
        }]),
    }
}

/// A policy of who may reach `pods`, with no word on what these reach.
pub(super) fn ingress(
    pods: LabelSelector,
    rules: Vec<NetworkPolicyIngressRule>,
) -> NetworkPolicySpec {
    NetworkPolicySpec {
        ingress: Some(rules),
        pod_selector: Some(pods),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ..NetworkPolicySpec::default()
    }
}

#[cfg(test)]
#[path = "network_policy_tests.rs"]
mod tests;
