//! What every controller works with.

use kube::{Client, Resource, ResourceExt};
use weft_types::Timestamp;

use super::stores::Stores;
use crate::cluster::apply::Applier;
use crate::cluster::events::Events;
use crate::cluster::ledger::Connections;
use crate::cluster::metrics::{Metrics, ObjectKey};
use crate::cluster::resources::group::BudgetApi;

/// What the operator was started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Image of nodes whose spec names none.
    pub node_image: String,
    /// The only namespace that is looked at; all when absent.
    pub namespace: Option<String>,
}

/// What every controller works with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What was seen of the cluster.
    pub stores: Stores,
    /// Writes.
    pub applier: Applier,
    /// Tells.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
    /// Connections to nodes.
    pub connections: Connections,
    /// How the API server serves PodDisruptionBudgets; absent when it does not.
    pub budgets: Option<BudgetApi>,
    /// What the operator was started with.
    pub options: Options,
}

impl Context {
    /// The time.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_system_time(std::time::SystemTime::now())
    }

    /// An object, as metrics name it.
    pub fn key<K: Resource>(&self, object: &K) -> ObjectKey {
        ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}
