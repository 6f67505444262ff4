//! How the running nodes of a network are reached, and in whose name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use weft_config::Endpoint;
use weft_crypto::Certificate;
use weft_types::MspId;

use super::context::Context;
use super::holder::removal;
use super::scene::Scene;
use super::stores::find;
use crate::cluster::identity::Actor;
use crate::cluster::ledger::{Access, NodeRef};
use crate::cluster::names::{Holder, key, port};
use crate::cluster::topology::{Node, NodeKind};
use crate::model::Network;

/// Name of the administrator that every holder has.
const ADMIN: &str = "admin";

/// The orderers that a network should have, and those that exist beyond them.
#[derive(Clone, Debug, Default)]
pub struct Orderers {
    /// Wanted.
    pub wanted: Vec<Node>,
    /// To be removed.
    pub surplus: Vec<Node>,
}

/// The orderers of a network.
pub fn orderers(context: &Context, scene: &Scene, network: &Network) -> Orderers {
    let node = |index| Node::orderer(network, &scene.namespace, index);
    let holder = Holder::Ordering(network.name.clone());
    let existing = removal::existing(context, &scene.namespace, &network.name, &holder);
    let surplus = existing.into_iter().filter(|index| *index >= network.ordering.replicas);
    Orderers {
        wanted: (0..network.ordering.replicas).map(node).collect(),
        surplus: surplus.map(node).collect(),
    }
}

/// The peers of the organizations of those names that run here.
pub fn peers(scene: &Scene, network: &Network, organizations: &[String]) -> Vec<Node> {
    network
        .organizations
        .iter()
        .filter(|one| organizations.contains(&one.name) && one.external.is_none())
        .flat_map(|one| {
            (0..one.peers).map(|index| Node::peer(&network.name, one, &scene.namespace, index))
        })
        .collect()
}

/// Where a node is dialled: at its Service's address, which needs no name service and stays
/// while pods come and go; by name, as long as the address is not known.
pub fn node_ref(context: &Context, node: &Node) -> NodeRef {
    let service = find(&context.stores.services, &node.namespace, &node.name);
    let address = service
        .and_then(|service| service.spec.as_ref()?.cluster_ip.clone())
        .filter(|address| !address.is_empty() && address != "None")
        .unwrap_or_else(|| node.host());
    // An IPv6 address is told from its port by brackets (RFC 3986, 3.2.2).
    let host = if address.contains(':') { format!("[{address}]") } else { address };
    let at = |port: u16| format!("{host}:{port}");
    NodeRef {
        name: node.name.clone(),
        kind: node.kind,
        holder: node.holder.name(),
        msp_id: node.msp_id.clone(),
        endpoint: Endpoint::new(node.host(), node.kind.grpc_port()),
        address: at(node.kind.grpc_port()),
        server_name: node.host(),
        participation: (node.kind == NodeKind::Orderer).then(|| at(port::PARTICIPATION)),
        operations: Some(at(node.kind.operations_port())),
    }
}

/// Connections in the names of the administrators whose keys are here.
pub fn access(context: &Context, scene: &Scene, network: &Network) -> Access {
    let ordering = (Holder::Ordering(network.name.clone()), network.ordering.msp_id.clone());
    let organizations = network.organizations.iter().filter(|one| one.external.is_none());
    let organizations =
        organizations.map(|one| (Holder::Organization(one.name.clone()), one.msp_id.clone()));
    std::iter::once(ordering).chain(organizations).fold(
        Access::new(context.connections.clone()),
        |access, (holder, msp_id)| {
            let roots = tls_roots(context, &scene.namespace, &holder);
            let admin = admin(context, &scene.namespace, &holder, &msp_id);
            access.with_holder(&holder.name(), msp_id, roots, admin)
        },
    )
}

/// Roots and intermediates of a holder's TLS certificates.
fn tls_roots(context: &Context, namespace: &str, holder: &Holder) -> Vec<Certificate> {
    let map = find(&context.stores.config_maps, namespace, &holder.msp());
    let data = map.as_deref().and_then(|map: &ConfigMap| map.data.as_ref());
    let texts = data.into_iter().flat_map(|data| {
        [key::TLS_CA_CERTS, key::TLS_INTERMEDIATE_CERTS].map(|name| data.get(name))
    });
    texts.flatten().filter_map(|pem| Certificate::all_from_pem(pem).ok()).flatten().collect()
}

fn admin(context: &Context, namespace: &str, holder: &Holder, msp_id: &MspId) -> Option<Actor> {
    let name = holder.user(ADMIN);
    let secret = find(&context.stores.secrets, namespace, &name)?;
    match Actor::read(&name, secret.data.as_ref()?, msp_id) {
        Ok(actor) => Some(actor),
        Err(error) => {
            let error = crate::cli::report(&error);
            tracing::warn!(%error, "an administrator's identity cannot be used");
            None
        }
    }
}

/// The TLS certificate of each node as its Secret holds it, PEM: the first one of the file.
pub fn tls_certificates(context: &Context, nodes: &[Node]) -> BTreeMap<String, Certificate> {
    let certificate = |secret: &Secret| {
        let pem = secret.data.as_ref()?.get(key::TLS_CERT)?;
        Certificate::from_pem(std::str::from_utf8(&pem.0).ok()?).ok()
    };
    let of_node = |node: &Node| {
        let secret = find(&context.stores.secrets, &node.namespace, &node.identity())?;
        Some((node.name.clone(), certificate(&secret)?))
    };
    nodes.iter().filter_map(of_node).collect()
}
