//! Step one and two of every controller: the objects that belong together, and what they mean.

use std::sync::Arc;

use kube::{Resource, ResourceExt};

use super::stores::{Stores, find, is_set, select};
use crate::api::{Chaincode, LedgerNetwork};
use crate::cluster::names::annotation;
use crate::manifest::Manifest;
use crate::model::{self, Network, Problem, Remedy};

/// A network with everything that names it, read from the caches and validated.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Where all of it is: references do not leave the namespace.
    pub namespace: String,
    /// The network's object; absent when others name it and it is not there.
    pub object: Option<Arc<LedgerNetwork>>,
    /// What is valid; absent when the network itself is not.
    pub network: Option<Network>,
    /// What is not.
    pub problems: Vec<Problem>,
}

impl Scene {
    /// Reads the network of that name.
    pub fn of_network(stores: &Stores, namespace: &str, name: &str) -> Scene {
        let object = find(&stores.networks, namespace, name);
        let channels = select(&stores.channels, namespace, |one| one.spec.network_ref == name);
        let is_on = |channel: &str| channels.iter().any(|one| one.name_any() == channel);
        let manifest = Manifest {
            networks: object.iter().map(|one| LedgerNetwork::clone(one)).collect(),
            organizations: oldest_first(select(&stores.organizations, namespace, |one| {
                one.spec.network_ref == name
            })),
            chaincodes: oldest_first(select(&stores.chaincodes, namespace, |one| {
                is_on(&one.spec.channel_ref)
            })),
            channels: oldest_first(channels),
        };
        let (mut networks, problems) = model::admissible(manifest);
        Scene { namespace: namespace.to_owned(), object, network: networks.pop(), problems }
    }

    /// What is wrong with an object, the rules that it breaks itself before those for which it
    /// waits.
    pub fn problems_of(&self, kind: &str, name: &str) -> Vec<&Problem> {
        let mut found: Vec<&Problem> = self
            .problems
            .iter()
            .filter(|problem| problem.object.kind == kind && problem.object.name == name)
            .collect();
        found.sort_by_key(|problem| problem.remedy == Remedy::Wait);
        found
    }

    /// What a chaincode means, with its network and channel; nothing when that is not valid.
    pub fn chaincode(
        &self,
        object: &Chaincode,
    ) -> Option<(&Network, &model::Channel, &model::Chaincode)> {
        let network = self.network.as_ref()?;
        let on_channel = |one: &&model::Channel| one.id.as_str() == object.spec.channel_ref;
        let channel = network.channels.iter().find(on_channel)?;
        let name = object.spec.name.clone().unwrap_or_else(|| object.name_any());
        let chaincode = channel.chaincodes.iter().find(|one| one.name == name)?;
        Some((network, channel, chaincode))
    }

    /// Whether the network, and everything in it, is not to be touched.
    pub fn is_paused(&self) -> bool {
        self.object.as_ref().is_some_and(|one| is_set(one.as_ref(), annotation::PAUSED))
    }

    /// Whether the network's pods are to be gone.
    pub fn is_hibernated(&self) -> bool {
        self.object.as_ref().is_some_and(|one| is_set(one.as_ref(), annotation::HIBERNATE))
    }

    /// Whether the network is being deleted.
    pub fn is_ending(&self) -> bool {
        self.object.as_ref().is_some_and(|one| one.meta().deletion_timestamp.is_some())
    }
}

/// Of two objects that claim the same thing the older one has it.
fn oldest_first<K: Resource + Clone>(found: Vec<Arc<K>>) -> Vec<K> {
    let mut objects: Vec<K> = found.iter().map(|one| K::clone(one)).collect();
    objects.sort_by_key(|one| {
        let created = one.meta().creation_timestamp.as_ref().map(|time| time.0);
        (created, one.meta().name.clone())
    });
    objects
}
