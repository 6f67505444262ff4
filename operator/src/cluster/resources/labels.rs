//! Labels and selectors.
//!
//! Selectors are made of labels that never change for an object's life, because the selector of
//! a StatefulSet or Deployment is immutable: the network, the organization, the node, the
//! program; no version, image or role that a spec could change.
//!
//! A label's value has at most 63 characters; the names of objects may have 253. [`value`] cuts
//! what is longer, in labels and selectors alike.

use std::collections::BTreeMap;

use super::hash;
use crate::cluster::names::{Holder, MANAGER, component, label};
use crate::cluster::topology::{Node, NodeKind};

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// Value of [`label::NAME`] on nodes and what belongs to them.
pub const NODE_PROGRAM: &str = "weft-node";
/// Value of [`label::NAME`] on the programs of contracts.
pub const CHAINCODE_PROGRAM: &str = "chaincode";
/// Longest value of a label, and longest name of a Service, in characters (RFC 1123 label).
pub const MAX_VALUE: usize = 63;

/// A name as the value of a label: itself when it fits, else its beginning and a hash of it.
pub fn value(name: &str) -> String {
    shortened(name, MAX_VALUE)
}

/// A name of at most `max` characters: itself when it fits, else its beginning, a dash and eight
/// hexadecimal digits of its SHA-256.
pub(super) fn shortened(name: &str, max: usize) -> String {
    if name.len() <= max {
        return name.to_owned();
    }
    let digest = hash::short(name.as_bytes());
    let room = max.saturating_sub(digest.len() + 1);
    let kept: String = name.chars().take(room).collect();
    format!("{}-{digest}", kept.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(key, name)| (key.to_owned(), value(name))).collect()
}

/// Of everything that belongs to one node.
pub fn for_node(node: &Node) -> Labels {
    let mut labels = for_holder(&node.holder, &node.network, node.kind.word());
    labels.insert(label::NODE.to_owned(), value(&node.name));
    labels
}

/// The pods of one node.
pub fn selector_for_node(node: &Node) -> Labels {
    let mut selector = selector_for_group(&node.holder, &node.network);
    selector.insert(label::NODE.to_owned(), value(&node.name));
    selector
}

/// Of what all nodes of a holder share.
pub fn for_group(holder: &Holder, network: &str) -> Labels {
    for_holder(holder, network, kind(holder).word())
}

/// The pods of a holder's nodes.
pub fn selector_for_group(holder: &Holder, network: &str) -> Labels {
    let mut selector = labels([
        (label::NAME, NODE_PROGRAM),
        (label::COMPONENT, kind(holder).word()),
        (label::NETWORK, network),
    ]);
    selector.extend(organization(holder));
    selector
}

/// The pods of all nodes of a network, orderers and peers.
pub fn selector_for_network(network: &str) -> Labels {
    labels([(label::NAME, NODE_PROGRAM), (label::NETWORK, network)])
}

/// Of what a holder has: authorities, MSP, users. `component` is one of
/// `names::component`.
pub fn for_holder(holder: &Holder, network: &str, component: &str) -> Labels {
    let instance = match holder {
        Holder::Ordering(network) => network,
        Holder::Organization(name) => name,
    };
    let mut labels = for_network(network, component);
    labels.insert(label::INSTANCE.to_owned(), value(instance));
    labels.extend(organization(holder));
    labels
}

/// Of a user's identity.
pub fn for_user(holder: &Holder, network: &str, user: &str) -> Labels {
    let mut labels = for_holder(holder, network, component::USER);
    labels.insert(label::USER.to_owned(), value(user));
    labels
}

/// Of the certificate with which a contract registers with an organization's peers.
pub fn for_contract(holder: &Holder, network: &str, channel: &str, chaincode: &str) -> Labels {
    let mut labels = for_holder(holder, network, component::CONTRACT);
    labels.extend(self::labels([(label::CHANNEL, channel), (label::CHAINCODE, chaincode)]));
    labels
}

/// Of what a channel has. `component` is one of
/// `names::component`.
pub fn for_channel(channel: &str, network: &str, component: &str) -> Labels {
    let mut labels = for_network(network, component);
    labels.insert(label::INSTANCE.to_owned(), value(channel));
    labels.insert(label::CHANNEL.to_owned(), value(channel));
    labels
}

/// Of what a `Chaincode` has, its programs of all versions.
pub fn for_chaincode(chaincode: &str, channel: &str, network: &str) -> Labels {
    let mut labels = for_channel(channel, network, component::CHAINCODE);
    labels.extend(self::labels([
        (label::NAME, CHAINCODE_PROGRAM),
        (label::INSTANCE, chaincode),
        (label::CHAINCODE, chaincode),
    ]));
    labels
}

/// The pods of one program of a `Chaincode`: those of the version before are another program's.
pub fn selector_for_program(chaincode: &str, program: &str) -> Labels {
    labels([
        (label::NAME, CHAINCODE_PROGRAM),
        (label::COMPONENT, component::CHAINCODE),
        (label::CHAINCODE, chaincode),
        (label::PROGRAM, program),
    ])
}

/// A list of labels as the text that the API server takes as a selector: `a=b,c=d`.
pub fn selector_text(labels: &Labels) -> String {
    let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

fn for_network(network: &str, component: &str) -> Labels {
    labels([
        (label::NAME, NODE_PROGRAM),
        (label::COMPONENT, component),
        (label::PART_OF, network),
        (label::MANAGED_BY, MANAGER),
        (label::NETWORK, network),
    ])
}

fn organization(holder: &Holder) -> Option<(String, String)> {
    match holder {
        Holder::Ordering(_) => None,
        Holder::Organization(name) => Some((label::ORGANIZATION.to_owned(), value(name))),
    }
}

/// What a holder's nodes do.
pub(super) fn kind(holder: &Holder) -> NodeKind {
    match holder {
        Holder::Ordering(_) => NodeKind::Orderer,
        Holder::Organization(_) => NodeKind::Peer,
    }
}
