//! The objects of one node. Each has its own StatefulSet, so that it is upgraded, restarted and
//! stopped by itself, and a volume claim that outlives it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, Service, ServicePort, ServiceSpec,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{ResourceError, hash, labels, meta, pod, selector, service_port};
use crate::cluster::names::{annotation, key, port};
use crate::cluster::topology::{Node, NodeKind};
use crate::node_settings::NodeSettingsError;

/// Size of a volume when none is given.
pub const DEFAULT_STORAGE: &str = "10Gi";

/// Names of ports, of containers and Services alike.
pub mod port_name {
    /// gRPC services.
    pub const GRPC: &str = "grpc";
    /// `/metrics`, `/healthz` and the other operations.
    pub const OPERATIONS: &str = "operations";
    /// An orderer's participation API.
    pub const PARTICIPATION: &str = "participation";
    /// A peer's listener for contracts that dial it; where a contract's program listens.
    pub const CHAINCODE: &str = "chaincode";
}

/// How a node runs now, besides what its spec says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// The image of a node whose spec names none.
    pub image: String,
    /// [`settings_hash`] of its settings: when they change, the node starts anew with them.
    pub settings_hash: String,
    /// Whether it has no pod for now.
    pub hibernated: bool,
    /// Whether its identity Secret holds intermediates of identities
    /// ([`key::INTERMEDIATE_CERTS`]).
    pub intermediates: bool,
    /// Whether its identity Secret holds intermediates of TLS certificates
    /// ([`key::TLS_INTERMEDIATE_CERTS`]).
    pub tls_intermediates: bool,
    /// Value of [`annotation::RESTARTED_AT`]: a new one restarts the node.
    pub restarted_at: Option<String>,
}

/// The node's settings.
///
/// # Errors
/// [`NodeSettingsError`] names the override of `node.config` at fault.
pub fn settings(node: &Node, owner: &OwnerReference) -> Result<ConfigMap, NodeSettingsError> {
    Ok(ConfigMap {
        metadata: meta(&node.name, &node.namespace, labels::for_node(node), Some(owner)),
        data: Some(BTreeMap::from([(key::SETTINGS.to_owned(), node.settings()?)])),
        ..ConfigMap::default()
    })
}

/// Hash of what a ConfigMap with settings holds, for [`RunOptions::settings_hash`].
pub fn settings_hash(settings: &ConfigMap) -> String {
    let data = settings.data.iter().flatten();
    hash::texts(data.flat_map(|(key, value)| [key.as_str(), value.as_str()]))
}

/// The node's address, which stays while pods come and go. It leads to the node before it is
/// ready as well: others connect as early as possible, and the operator asks it how it is.
pub fn service(node: &Node, owner: &OwnerReference) -> Service {
    Service {
        metadata: meta(&node.name, &node.namespace, labels::for_node(node), Some(owner)),
        spec: Some(ServiceSpec {
            ports: Some(ports(node.kind)),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::selector_for_node(node)),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Every port of a node, by which it is reached through a Service.
pub(super) fn ports(kind: NodeKind) -> Vec<ServicePort> {
    port_numbers(kind).into_iter().map(|(name, port)| service_port(name, port)).collect()
}

/// Name and number of every port of a node.
pub(super) fn port_numbers(kind: NodeKind) -> [(&'static str, u16); 3] {
    let other = match kind {
        NodeKind::Orderer => (port_name::PARTICIPATION, port::PARTICIPATION),
        NodeKind::Peer => (port_name::CHAINCODE, port::PEER_CHAINCODE),
    };
    [(port_name::GRPC, kind.grpc_port()), other, (port_name::OPERATIONS, kind.operations_port())]
}

/// The claim of the node's volume. It has no owner: whether it goes with its network or
/// organization is for the deletion policy to say, and by default it stays.
pub fn volume(node: &Node) -> PersistentVolumeClaim {
    let storage = node.spec.storage.clone().unwrap_or_default();
    let size = storage.size.unwrap_or_else(|| DEFAULT_STORAGE.to_owned());
    PersistentVolumeClaim {
        metadata: meta(&node.name, &node.namespace, labels::for_node(node), None),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size))])),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: storage.class_name,
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// What keeps the node's pod running. [`annotation::TEMPLATE_HASH`] is the hash of the pod
/// template: the API server adds defaults to a template, so that templates cannot be compared.
///
/// # Errors
/// [`ResourceError::TemplateHash`].
pub fn stateful_set(
    node: &Node,
    options: &RunOptions,
    owner: &OwnerReference,
) -> Result<StatefulSet, ResourceError> {
    let template = pod::template(node, options);
    let hash = hash::canonical(&template)
        .map_err(|source| ResourceError::TemplateHash { name: node.name.clone(), source })?;
    let mut metadata = meta(&node.name, &node.namespace, labels::for_node(node), Some(owner));
    metadata.annotations = Some(BTreeMap::from([(annotation::TEMPLATE_HASH.to_owned(), hash)]));
    Ok(StatefulSet {
        metadata,
        spec: StatefulSetSpec {
            // With `OrderedReady` a pod that never becomes ready is not replaced when its
            // template is mended.
            pod_management_policy: Some("Parallel".to_owned()),
            replicas: Some(if options.hibernated { 0 } else { 1 }),
            revision_history_limit: Some(2),
            selector: selector(labels::selector_for_node(node)),
            service_name: Some(node.holder.headless()),
            template,
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    })
}
