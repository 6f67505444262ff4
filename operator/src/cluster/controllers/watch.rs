//! The watches behind the caches, and what their events set in motion.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::api::Api;
use kube::runtime::reflector::{self, ObjectRef, store::Writer};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::stores::Stores;
use super::triggers::{self, Seen, Target};
use crate::api::{Chaincode, Channel, LedgerNetwork, Organization};
use crate::cluster::metrics::{Metrics, ObjectKey};
use crate::cluster::names::{MANAGER, label};

/// Objects that wait to be looked at, for each kind. Full ones hold the watch back.
const QUEUE: usize = 1024;

/// Drives the watches; it ends only when it is dropped.
pub type Drive = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Which objects are to be looked at, a stream for each controller.
pub struct Requests {
    /// Networks.
    pub networks: mpsc::Receiver<ObjectRef<LedgerNetwork>>,
    /// Organizations.
    pub organizations: mpsc::Receiver<ObjectRef<Organization>>,
    /// Channels.
    pub channels: mpsc::Receiver<ObjectRef<Channel>>,
    /// Chaincodes.
    pub chaincodes: mpsc::Receiver<ObjectRef<Chaincode>>,
}

#[derive(Clone)]
struct Senders {
    networks: mpsc::Sender<ObjectRef<LedgerNetwork>>,
    organizations: mpsc::Sender<ObjectRef<Organization>>,
    channels: mpsc::Sender<ObjectRef<Channel>>,
    chaincodes: mpsc::Sender<ObjectRef<Chaincode>>,
}

impl Senders {
    /// A receiver that is gone has ended with its controller: nothing is lost.
    async fn send(&self, namespace: &str, target: Target) {
        let _ = match target {
            Target::Network(name) => {
                self.networks.send(ObjectRef::new(&name).within(namespace)).await.is_ok()
            }
            Target::Organization(name) => {
                self.organizations.send(ObjectRef::new(&name).within(namespace)).await.is_ok()
            }
            Target::Channel(name) => {
                self.channels.send(ObjectRef::new(&name).within(namespace)).await.is_ok()
            }
            Target::Chaincode(name) => {
                self.chaincodes.send(ObjectRef::new(&name).within(namespace)).await.is_ok()
            }
        };
    }
}

/// Makes the caches, the watches that fill them, and the requests that come of their events.
pub fn start(
    client: &Client,
    namespace: Option<&str>,
    metrics: &Metrics,
) -> (Stores, Requests, Drive) {
    let (networks, networks_writer) = reflector::store();
    let (organizations, organizations_writer) = reflector::store();
    let (channels, channels_writer) = reflector::store();
    let (chaincodes, chaincodes_writer) = reflector::store();
    let (stateful_sets, stateful_sets_writer) = reflector::store();
    let (deployments, deployments_writer) = reflector::store();
    let (pods, pods_writer) = reflector::store();
    let (services, services_writer) = reflector::store();
    let (config_maps, config_maps_writer) = reflector::store();
    let (secrets, secrets_writer) = reflector::store();
    let (volumes, volumes_writer) = reflector::store();
    let (policies, policies_writer) = reflector::store();
    let stores = Stores {
        networks,
        organizations,
        channels,
        chaincodes,
        stateful_sets,
        deployments,
        pods,
        services,
        config_maps,
        secrets,
        volumes,
        policies,
    };
    let (senders, requests) = queues();
    let hub = Hub {
        client: client.clone(),
        namespace: namespace.map(str::to_owned),
        stores: stores.clone(),
        metrics: metrics.clone(),
        seen: Arc::default(),
        senders,
    };
    let drives = vec![
        hub.watch(networks_writer, Scope::All, triggers::of_network),
        hub.watch(organizations_writer, Scope::All, triggers::of_organization),
        hub.watch(channels_writer, Scope::All, triggers::of_channel),
        hub.watch(chaincodes_writer, Scope::All, triggers::of_chaincode),
        hub.watch(stateful_sets_writer, Scope::Ours, part),
        hub.watch(deployments_writer, Scope::Ours, part),
        hub.watch(pods_writer, Scope::Ours, part),
        hub.watch(services_writer, Scope::Ours, part),
        hub.watch(config_maps_writer, Scope::Ours, part),
        hub.watch(secrets_writer, Scope::Ours, part),
        hub.watch(volumes_writer, Scope::Ours, part),
        hub.watch(policies_writer, Scope::Ours, part),
    ];
    let drive = Box::pin(async move {
        futures::future::join_all(drives).await;
    });
    (stores, requests, drive)
}

fn queues() -> (Senders, Requests) {
    let (networks, networks_queue) = mpsc::channel(QUEUE);
    let (organizations, organizations_queue) = mpsc::channel(QUEUE);
    let (channels, channels_queue) = mpsc::channel(QUEUE);
    let (chaincodes, chaincodes_queue) = mpsc::channel(QUEUE);
    let senders = Senders { networks, organizations, channels, chaincodes };
    let requests = Requests {
        networks: networks_queue,
        organizations: organizations_queue,
        channels: channels_queue,
        chaincodes: chaincodes_queue,
    };
    (senders, requests)
}

fn part<K: Resource>(object: &K, stores: &Stores, _: &mut Seen) -> Vec<Target> {
    triggers::of_part(object, stores)
}

/// Which objects of a kind are watched.
#[derive(Clone, Copy)]
enum Scope {
    All,
    Ours,
}

struct Hub {
    client: Client,
    namespace: Option<String>,
    stores: Stores,
    metrics: Metrics,
    seen: Arc<Mutex<Seen>>,
    senders: Senders,
}

impl Hub {
    fn watch<K>(
        &self,
        writer: Writer<K>,
        scope: Scope,
        targets: fn(&K, &Stores, &mut Seen) -> Vec<Target>,
    ) -> Drive
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        K::DynamicType: Eq + Hash + Clone + Default,
    {
        let api: Api<K> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let config = match scope {
            Scope::All => watcher::Config::default(),
            Scope::Ours => {
                watcher::Config::default().labels(&format!("{}={MANAGER}", label::MANAGED_BY))
            }
        };
        let (stores, seen, senders) =
            (self.stores.clone(), self.seen.clone(), self.senders.clone());
        let metrics = self.metrics.clone();
        let events = watcher(api, config)
            .default_backoff()
            // Who wrote which field is long and of no use here.
            .modify(|object| object.managed_fields_mut().clear());
        let mut events = Box::pin(reflector::reflector(writer, events));
        let mut told = String::new();
        Box::pin(async move {
            while let Some(event) = events.next().await {
                let (object, is_gone) = match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => (object, false),
                    Ok(Event::Delete(object)) => (object, true),
                    Ok(Event::Init | Event::InitDone) => continue,
                    Err(error) => {
                        // Tried again and again: the same words are told once.
                        let why = interruption(&error);
                        if why != told {
                            let kind = K::kind(&());
                            tracing::warn!(%kind, %why, "a watch of the API server was interrupted");
                        }
                        told = why;
                        continue;
                    }
                };
                if is_gone {
                    let name = object.name_any();
                    let namespace = object.namespace().unwrap_or_default();
                    metrics.forget(&K::kind(&()), &ObjectKey { namespace, name });
                }
                let found = {
                    let mut seen = seen.lock();
                    if is_gone {
                        seen.forget(&object);
                    }
                    let found = targets(&object, &stores, &mut seen);
                    if is_gone {
                        seen.forget(&object);
                    }
                    found
                };
                let namespace = object.namespace().unwrap_or_default();
                for target in found {
                    senders.send(&namespace, target).await;
                }
            }
        })
    }
}

/// What interrupted a watch, for people.
fn interruption(error: &watcher::Error) -> String {
    use watcher::Error;
    let status = match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status)) => status,
        Error::WatchError(status) => status,
        other => return crate::cli::report(other),
    };
    match status.code {
        404 => "the API server does not serve this kind: install the CustomResourceDefinitions"
            .to_owned(),
        _ => status.message.clone(),
    }
}

/// A store of the kind, for tests of what reads it.
#[cfg(test)]
pub fn store_of<K>(objects: Vec<K>) -> reflector::Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (reader, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    reader
}
