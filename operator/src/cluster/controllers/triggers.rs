//! Who is reconciled when an object changes. Pure, but for what was seen before.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};

use super::stores::{Stores, find, label_of, select};
use crate::api::{Chaincode, Channel, LedgerNetwork, Organization};
use crate::cluster::names::{component, label};

/// An object of ours that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A `LedgerNetwork`.
    Network(String),
    /// An `Organization`.
    Organization(String),
    /// A `Channel`.
    Channel(String),
    /// A `Chaincode`.
    Chaincode(String),
}

/// What was last seen of the parts of each object that matter to others, so that what does not
/// matter (a height, a time) wakes nobody.
#[derive(Debug, Default)]
pub struct Seen {
    own: HashMap<String, u64>,
    others: HashMap<String, u64>,
}

impl Seen {
    /// Lets an object go: what is next seen of it is new.
    pub fn forget<K: Resource>(&mut self, object: &K) {
        let key = key_of(object);
        self.own.remove(&key);
        self.others.remove(&key);
    }

    /// Whether the object's own controller, and whether others, should look.
    fn changed<K: Resource>(&mut self, object: &K, status: impl Hash) -> (bool, bool) {
        let meta = object.meta();
        let mut hasher = DefaultHasher::new();
        meta.generation.hash(&mut hasher);
        meta.deletion_timestamp.is_some().hash(&mut hasher);
        meta.annotations.hash(&mut hasher);
        meta.finalizers.hash(&mut hasher);
        let own = hasher.finish();
        status.hash(&mut hasher);
        let others = hasher.finish();
        let key = key_of(object);
        let is_new =
            |map: &mut HashMap<String, u64>, value| map.insert(key.clone(), value) != Some(value);
        (is_new(&mut self.own, own), is_new(&mut self.others, others))
    }
}

fn key_of<K: Resource>(object: &K) -> String {
    object.uid().unwrap_or_else(|| object.name_any())
}

fn words(conditions: &[Condition]) -> Vec<(String, String, String)> {
    let word = |one: &Condition| (one.type_.clone(), one.status.clone(), one.reason.clone());
    conditions.iter().map(word).collect()
}

/// A network changed: everything in it may have to follow.
pub fn of_network(network: &LedgerNetwork, stores: &Stores, seen: &mut Seen) -> Vec<Target> {
    let status = network.status.clone().unwrap_or_default();
    let shared = (&status.ca_fingerprint, &status.tls_ca_fingerprint);
    let (own, others) = seen.changed(network, shared);
    let name = network.name_any();
    let namespace = network.namespace().unwrap_or_default();
    let mut targets = Vec::new();
    if own {
        targets.push(Target::Network(name.clone()));
    }
    if others {
        targets.extend(members(stores, &namespace, &name));
        let channels = select(&stores.channels, &namespace, |one| one.spec.network_ref == name);
        for channel in channels {
            let channel = channel.name_any();
            targets.extend(chaincodes_of(stores, &namespace, &channel));
            targets.push(Target::Channel(channel));
        }
    }
    targets
}

fn members(stores: &Stores, namespace: &str, network: &str) -> Vec<Target> {
    select(&stores.organizations, namespace, |one| one.spec.network_ref == network)
        .iter()
        .map(|one| Target::Organization(one.name_any()))
        .collect()
}

fn chaincodes_of(stores: &Stores, namespace: &str, channel: &str) -> Vec<Target> {
    select(&stores.chaincodes, namespace, |one| one.spec.channel_ref == channel)
        .iter()
        .map(|one| Target::Chaincode(one.name_any()))
        .collect()
}

/// An organization changed: its network's status, and its channels.
pub fn of_organization(
    organization: &Organization,
    stores: &Stores,
    seen: &mut Seen,
) -> Vec<Target> {
    let status = organization.status.clone().unwrap_or_default();
    let (own, others) = seen.changed(
        organization,
        (words(&status.conditions), status.ca_fingerprint, status.tls_ca_fingerprint),
    );
    let name = organization.name_any();
    let namespace = organization.namespace().unwrap_or_default();
    let mut targets = Vec::new();
    if own {
        targets.push(Target::Organization(name.clone()));
    }
    if others {
        targets.push(Target::Network(organization.spec.network_ref.clone()));
        targets.extend(channels_with(stores, &namespace, &name));
    }
    targets
}

fn channels_with(stores: &Stores, namespace: &str, organization: &str) -> Vec<Target> {
    let has = |channel: &Channel| channel.spec.organizations.iter().any(|one| one == organization);
    select(&stores.channels, namespace, has)
        .iter()
        .map(|one| Target::Channel(one.name_any()))
        .collect()
}

/// A channel changed: its network's status, and its chaincodes.
pub fn of_channel(channel: &Channel, stores: &Stores, seen: &mut Seen) -> Vec<Target> {
    let status = channel.status.clone().unwrap_or_default();
    let (own, others) = seen.changed(
        channel,
        (words(&status.conditions), status.consenters, status.leader, status.term),
    );
    let name = channel.name_any();
    let namespace = channel.namespace().unwrap_or_default();
    let mut targets = Vec::new();
    if own {
        targets.push(Target::Channel(name.clone()));
        // Members have certificates for its contracts that register.
        targets.extend(members(stores, &namespace, &channel.spec.network_ref));
    }
    if others {
        targets.push(Target::Network(channel.spec.network_ref.clone()));
        targets.extend(chaincodes_of(stores, &namespace, &name));
    }
    targets
}

/// A chaincode changed: its network's status, and the certificates that members have for it.
pub fn of_chaincode(chaincode: &Chaincode, stores: &Stores, seen: &mut Seen) -> Vec<Target> {
    let status = chaincode.status.clone().unwrap_or_default();
    let (own, others) = seen.changed(chaincode, words(&status.conditions));
    let namespace = chaincode.namespace().unwrap_or_default();
    let channel = find(&stores.channels, &namespace, &chaincode.spec.channel_ref);
    let network = channel.map(|one| one.spec.network_ref.clone());
    let mut targets = Vec::new();
    if own {
        targets.push(Target::Chaincode(chaincode.name_any()));
        let members = network.iter().flat_map(|name| members(stores, &namespace, name));
        targets.extend(members);
    }
    if others {
        targets.extend(network.map(Target::Network));
    }
    targets
}

/// Something that was made for one of ours changed: by its labels, whoever made it, and the
/// channels whose nodes it carries.
pub fn of_part<K: Resource>(part: &K, stores: &Stores) -> Vec<Target> {
    let namespace = part.meta().namespace.clone().unwrap_or_default();
    // It names its chaincode for people; whoever issued it is the one to look.
    if label_of(part, label::COMPONENT) == Some(component::CONTRACT) {
        let organization = label_of(part, label::ORGANIZATION);
        return organization.map(|one| Target::Organization(one.to_owned())).into_iter().collect();
    }
    if let Some(chaincode) = label_of(part, label::CHAINCODE) {
        return vec![Target::Chaincode(chaincode.to_owned())];
    }
    if let Some(channel) = label_of(part, label::CHANNEL) {
        return vec![Target::Channel(channel.to_owned())];
    }
    let is_node = matches!(
        label_of(part, label::COMPONENT),
        Some(component::ORDERER | component::PEER | component::MSP)
    );
    if let Some(organization) = label_of(part, label::ORGANIZATION) {
        let mut targets = vec![Target::Organization(organization.to_owned())];
        if is_node {
            targets.extend(channels_with(stores, &namespace, organization));
        }
        return targets;
    }
    let Some(network) = label_of(part, label::NETWORK) else { return Vec::new() };
    let mut targets = vec![Target::Network(network.to_owned())];
    if is_node {
        let channels = select(&stores.channels, &namespace, |one| one.spec.network_ref == network);
        targets.extend(channels.iter().map(|one| Target::Channel(one.name_any())));
    }
    targets
}
