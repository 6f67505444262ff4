//! What the operator has seen of the cluster: one watch and one cache for each kind, which all
//! controllers share.
//!
//! Of Kubernetes' own kinds only objects with our label are watched. A cache lags behind the API
//! server; whoever is about to make something that must not be made twice asks the server.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

use crate::api::{Chaincode, Channel, LedgerNetwork, Organization};
use crate::cluster::names::label;

/// The caches.
#[derive(Clone)]
pub struct Stores {
    /// Networks.
    pub networks: Store<LedgerNetwork>,
    /// Organizations.
    pub organizations: Store<Organization>,
    /// Channels.
    pub channels: Store<Channel>,
    /// Chaincodes.
    pub chaincodes: Store<Chaincode>,
    /// One for each node.
    pub stateful_sets: Store<StatefulSet>,
    /// One for each contract's program.
    pub deployments: Store<Deployment>,
    /// Of nodes and contracts.
    pub pods: Store<Pod>,
    /// Of nodes, groups and contracts.
    pub services: Store<Service>,
    /// Settings, MSPs, genesis blocks.
    pub config_maps: Store<ConfigMap>,
    /// Authorities and identities.
    pub secrets: Store<Secret>,
    /// Of nodes.
    pub volumes: Store<PersistentVolumeClaim>,
    /// Of groups and contracts.
    pub policies: Store<NetworkPolicy>,
}

impl Stores {
    /// Waits until every cache has seen the whole of its kind.
    ///
    /// # Errors
    /// When a watch ended before it had.
    pub async fn wait_until_ready(&self) -> Result<(), WatchEnded> {
        self.networks.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.organizations.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.channels.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.chaincodes.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.stateful_sets.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.deployments.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.pods.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.services.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.config_maps.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.secrets.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.volumes.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.policies.wait_until_ready().await.map_err(|_| WatchEnded)?;
        Ok(())
    }
}

/// A watch ended before it had shown everything.
#[derive(Debug, thiserror::Error)]
#[error("a watch of the API server ended before it had shown everything")]
pub struct WatchEnded;

/// The object of that name, as last seen.
pub fn find<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

/// The objects of a namespace that match, by name.
pub fn select<K>(store: &Store<K>, namespace: &str, matches: impl Fn(&K) -> bool) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone + Debug,
{
    let mut found = store.state_filter(|object| {
        object.meta().namespace.as_deref() == Some(namespace) && matches(object)
    });
    found.sort_by_key(|object| object.name_any());
    found
}

/// The value of a label.
pub fn label_of<'a, K: Resource>(object: &'a K, name: &str) -> Option<&'a str> {
    object.meta().labels.as_ref()?.get(name).map(String::as_str)
}

/// Whether an annotation of that name says `true`.
pub fn is_set<K: Resource>(object: &K, annotation: &str) -> bool {
    let annotations = object.meta().annotations.as_ref();
    annotations.and_then(|all| all.get(annotation)).is_some_and(|value| value == "true")
}

/// Whether an object belongs to the nodes of a group.
pub fn in_group<K: Resource>(
    object: &K,
    network: &str,
    organization: Option<&str>,
    component: &str,
) -> bool {
    label_of(object, label::NETWORK) == Some(network)
        && label_of(object, label::ORGANIZATION) == organization
        && label_of(object, label::COMPONENT) == Some(component)
}
