//! What the nodes of one holder share: addresses, and how many of them may be away.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use super::labels::{self, Labels};
use super::node::{port_name, ports};
use super::{meta, service_port};
use crate::cluster::names::Holder;
use crate::cluster::topology::NodeKind;

/// The nodes of one holder together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Whose they are.
    pub holder: Holder,
    /// Name of the `LedgerNetwork`.
    pub network: String,
    /// Namespace of the network.
    pub namespace: String,
    /// How many nodes there should be.
    pub replicas: u32,
}

impl Group {
    /// What its nodes do.
    pub fn kind(&self) -> NodeKind {
        labels::kind(&self.holder)
    }

    /// Labels of what its nodes share.
    pub fn labels(&self) -> Labels {
        labels::for_group(&self.holder, &self.network)
    }

    /// Its pods.
    pub fn selector(&self) -> Labels {
        labels::selector_for_group(&self.holder, &self.network)
    }

    /// How many of its orderers have to be there so that the ordering service goes on: more than
    /// half of them.
    pub fn quorum(&self) -> u32 {
        self.replicas / 2 + 1
    }
}

/// The headless Service that gives the pods of the group their names, ready or not.
pub fn headless(group: &Group, owner: &OwnerReference) -> Service {
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        ports: Some(ports(group.kind())),
        publish_not_ready_addresses: Some(true),
        ..ServiceSpec::default()
    };
    service(group, &group.holder.headless(), spec, owner)
}

/// The Service for clients: any node of the group that is ready, gRPC only.
pub fn client_service(group: &Group, owner: &OwnerReference) -> Service {
    let spec = ServiceSpec {
        ports: Some(vec![service_port(port_name::GRPC, group.kind().grpc_port())]),
        ..ServiceSpec::default()
    };
    service(group, &group.holder.group(), spec, owner)
}

fn service(group: &Group, name: &str, spec: ServiceSpec, owner: &OwnerReference) -> Service {
    Service {
        metadata: meta(name, &group.namespace, group.labels(), Some(owner)),
        spec: Some(ServiceSpec {
            selector: Some(group.selector()),
            type_: Some("ClusterIP".to_owned()),
            ..spec
        }),
        ..Service::default()
    }
}

/// Which version of the API a server has for PodDisruptionBudgets: `policy/v1` came with
/// Kubernetes 1.21, and 1.25 no longer has `policy/v1beta1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BudgetApi {
    /// `policy/v1`.
    #[default]
    V1,
    /// `policy/v1beta1`.
    V1Beta1,
}

impl BudgetApi {
    /// The version in the group `policy`.
    pub fn version(self) -> &'static str {
        match self {
            BudgetApi::V1 => "v1",
            BudgetApi::V1Beta1 => "v1beta1",
        }
    }

    /// The kind at the API server.
    pub fn resource(self) -> ApiResource {
        let kind = GroupVersionKind::gvk("policy", self.version(), "PodDisruptionBudget");
        ApiResource::from_gvk_with_plural(&kind, "poddisruptionbudgets")
    }
}

/// How many nodes an administrator of the cluster may take away at a time. Orderers keep their
/// quorum; one peer after the other. An only orderer has no quorum to keep without it: it may be
/// moved, because a budget of none would stop every drain of its machine for good.
pub fn disruption_budget(group: &Group, api: BudgetApi, owner: &OwnerReference) -> DynamicObject {
    let (limit, nodes) = limit(group);
    let spec = json!({ limit: nodes, "selector": { "matchLabels": group.selector() } });
    let mut budget =
        DynamicObject::new(&group.holder.group(), &api.resource()).data(json!({ "spec": spec }));
    budget.metadata = meta(&group.holder.group(), &group.namespace, group.labels(), Some(owner));
    budget
}

fn limit(group: &Group) -> (&'static str, u32) {
    match group.kind() {
        NodeKind::Orderer if group.replicas > 1 => ("minAvailable", group.quorum()),
        NodeKind::Orderer | NodeKind::Peer => ("maxUnavailable", 1),
    }
}
