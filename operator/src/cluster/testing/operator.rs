//! The operator at work on the server: its caches and reconcilers, driven without a clock until
//! nothing is left to do.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{ApiServer, Call};
use crate::cluster::apply::Applier;
use crate::cluster::controllers::context::{Context, Options};
use crate::cluster::controllers::error::ReconcileError;
use crate::cluster::controllers::watch::{self, Requests};
use crate::cluster::controllers::{chaincode, channel, network, organization};
use crate::cluster::events::Events;
use crate::cluster::ledger::Connections;
use crate::cluster::metrics::Metrics;
use crate::cluster::names::{MANAGER, label};
use crate::cluster::resources::group::BudgetApi;

/// The namespace of all objects.
pub const NAMESPACE: &str = "ledgers";
/// Passes after which something goes round in circles.
const MOST_PASSES: usize = 60;

/// One run of the operator's process.
pub struct Operator {
    pub context: Context,
    server: ApiServer,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What the operator works with, the requests that its watches make, and the watches.
pub fn context(server: &ApiServer) -> (Context, Requests, watch::Drive) {
    let client = server.client();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let (stores, requests, drive) = watch::start(&client, None, &metrics);
    let context = Context {
        stores,
        applier: Applier::new(client.clone(), metrics.clone()),
        events: Events::new(client.clone(), Some("operator-0".to_owned())),
        metrics,
        connections: Connections::default(),
        budgets: Some(BudgetApi::V1),
        options: Options { node_image: "weft-node:0.1.0".to_owned(), namespace: None },
        client,
    };
    (context, requests, drive)
}

impl Operator {
    /// A new process: nothing is remembered, the caches are read from the server.
    pub async fn start(server: &ApiServer) -> Operator {
        let (context, requests, drive) = context(server);
        let tasks = vec![tokio::spawn(drive), tokio::spawn(drain(requests))];
        let operator = Operator { context, server: server.clone(), tasks };
        operator.context.stores.wait_until_ready().await.unwrap();
        operator.catch_up().await;
        operator
    }

    /// Waits until the caches show what the server has.
    pub async fn catch_up(&self) {
        let mut rounds = 0;
        while !self.server.is_down() && !self.sees_all() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            rounds += 1;
            assert!(rounds < 20_000, "the caches never show what the server has");
        }
    }

    fn sees_all(&self) -> bool {
        let stores = &self.context.stores;
        self.sees(&stores.networks, false)
            && self.sees(&stores.organizations, false)
            && self.sees(&stores.channels, false)
            && self.sees(&stores.chaincodes, false)
            && self.sees(&stores.stateful_sets, true)
            && self.sees(&stores.deployments, true)
            && self.sees(&stores.pods, true)
            && self.sees(&stores.services, true)
            && self.sees(&stores.config_maps, true)
            && self.sees(&stores.secrets, true)
            && self.sees(&stores.volumes, true)
            && self.sees(&stores.policies, true)
    }

    fn sees<K>(&self, store: &Store<K>, ours: bool) -> bool
    where
        K: Resource<DynamicType = ()> + Clone + Debug + 'static,
    {
        let kind = K::kind(&());
        if self.server.is_held(&kind) {
            return true;
        }
        let seen: BTreeMap<String, String> = store
            .state()
            .iter()
            .map(|one| (one.name_any(), one.resource_version().unwrap_or_default()))
            .collect();
        let selector =
            if ours { format!("{}={MANAGER}", label::MANAGED_BY) } else { String::new() };
        seen == self.server.versions(&kind, &selector)
    }

    /// Looks at every object once, whatever the caches show.
    pub async fn pass(&self) -> Vec<ReconcileError> {
        let context = &self.context;
        let stores = &context.stores;
        let mut errors = Vec::new();
        for object in sorted(&stores.organizations) {
            errors.extend(organization::reconcile(context, &object).await.err());
        }
        for object in sorted(&stores.networks) {
            errors.extend(network::reconcile(context, &object).await.err());
        }
        for object in sorted(&stores.channels) {
            errors.extend(channel::reconcile(context, &object).await.err());
        }
        for object in sorted(&stores.chaincodes) {
            errors.extend(chaincode::reconcile(context, &object).await.err());
        }
        errors
    }

    /// Looks at everything until nothing is written and nothing fails, or the process died.
    pub async fn settle(&self) -> Result<(), Died> {
        for _ in 0..MOST_PASSES {
            self.catch_up().await;
            let before = self.server.writes().len();
            let errors = self.pass().await;
            if self.server.is_down() {
                return Err(Died);
            }
            if errors.is_empty() && self.server.writes().len() == before {
                return Ok(());
            }
        }
        let last: Vec<String> =
            self.server.writes().iter().rev().take(12).map(Call::to_string).collect();
        panic!("nothing settles; the last writes were {last:#?}");
    }
}

/// The process ended at a [`super::Fault::Crash`].
#[derive(Debug)]
pub struct Died;

fn sorted<K>(store: &Store<K>) -> Vec<std::sync::Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut all = store.state();
    all.sort_by_key(|one| one.name_any());
    all
}

/// Full queues hold the watches back: somebody has to take what is in them.
async fn drain(mut requests: Requests) {
    loop {
        tokio::select! {
            Some(_) = requests.networks.recv() => {}
            Some(_) = requests.organizations.recv() => {}
            Some(_) = requests.channels.recv() => {}
            Some(_) = requests.chaincodes.recv() => {}
            else => return,
        }
    }
}

/// Applies the documents of a manifest, as a person does.
pub fn apply_manifest(server: &ApiServer, text: &str) {
    for document in serde_yaml::Deserializer::from_str(text) {
        let object: Value = serde::Deserialize::deserialize(document).unwrap();
        server.put(&object, NAMESPACE);
    }
}

/// Starts the pods of all StatefulSets and Deployments, as the kubelets do; no node serves in
/// them.
pub fn start_pods(server: &ApiServer) {
    for ((kind, namespace, name), object) in server.objects() {
        let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
        let status = json!({
            "observedGeneration": object["metadata"]["generation"],
            "replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas,
            "availableReplicas": replicas,
        });
        match kind {
            "StatefulSet" => {
                server.set_status(kind, &namespace, &name, status);
                let template = &object["spec"]["template"];
                let pod = json!({
                    "apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
                    "metadata": {
                        "name": format!("{name}-0"),
                        "labels": template["metadata"]["labels"],
                    },
                });
                if server.object("Pod", &namespace, &format!("{name}-0")).is_none() {
                    server.put(&pod, &namespace);
                }
            }
            "Deployment" => server.set_status(kind, &namespace, &name, status),
            _ => {}
        }
    }
}
