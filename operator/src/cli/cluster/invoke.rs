//! A peer of a cluster for a call: a ready pod of the organization behind a port-forward, and
//! the identity of one of its users.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use weft_client::{Connection, ConnectionSpec};
use weft_types::ChannelId;

use super::context::{Context, patiently};
use super::error::ClusterError;
use super::forward::Forward;
use super::objects::{Choice, Objects};
use super::pods;
use super::secret::Identity;
use crate::cli::CommandError;
use crate::cli::target::{Reached, Wanted};
use crate::cluster::names::{self, label, port};

/// Finds the peer and the identity of a call, and opens the way to the peer.
///
/// # Errors
/// What is missing or ambiguous, and what there is to choose from.
pub(in crate::cli) async fn reach(
    context: &Context,
    wanted: &Wanted,
) -> Result<Reached, CommandError> {
    let objects = Objects::read(context).await?;
    let choice = match objects.choose(wanted) {
        Err(ClusterError::None { what, namespace, .. }) if objects.networks.is_empty() => {
            let elsewhere = Objects::elsewhere(context).await;
            return Err(ClusterError::None { what, namespace, elsewhere }.into());
        }
        choice => choice?,
    };
    let identity = Identity::read(context, &choice.organization, &choice.user).await?;
    let pods = pods::ours(context).await?;
    let pod = ready_peer(&pods, &choice, &context.namespace)?;
    let name = pod.name_any();
    let forwarding = Forward::open(context, &name, port::PEER);
    let forward = patiently("opening a port-forward to the peer", forwarding).await?;
    let node = pods::node(pod).unwrap_or_default();
    let spec = ConnectionSpec {
        address: forward.address(),
        server_name: Some(names::service_host(node, &context.namespace)),
        roots: identity.tls_roots()?,
        client: Some(identity.tls()?),
    };
    Ok(Reached {
        connection: Connection::new(&spec)?,
        signer: Arc::new(identity.signer()?),
        channel: ChannelId::new(&choice.channel.name_any())?,
        chaincode: choice.chaincode,
        forward: Some(forward),
    })
}

/// The organization's ready peer that is furthest on the channel.
fn ready_peer<'a>(
    pods: &'a [Pod],
    choice: &Choice,
    namespace: &str,
) -> Result<&'a Pod, ClusterError> {
    let organization = choice.organization.name_any();
    let is_own = |pod: &&Pod| {
        pods::is_peer(pod)
            && pods::node(pod).is_some()
            && pod.labels().get(label::ORGANIZATION) == Some(&organization)
    };
    let own: Vec<&Pod> = pods.iter().filter(is_own).collect();
    let heights = choice.channel.status.as_ref().map(|status| &status.peer_heights);
    let height = |pod: &Pod| {
        let node = pods::node(pod)?;
        heights?.get(node).copied()
    };
    let ready = own.iter().copied().filter(|pod| pods::is_ready(pod)).rev();
    ready.max_by_key(|pod| height(pod)).ok_or_else(|| ClusterError::NoReadyPeer {
        organization,
        namespace: namespace.to_owned(),
        pods: own.iter().map(|pod| format!("{} {}", pod.name_any(), pods::state(pod))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::objects;
    use super::super::pods::tests::{pod, ready};
    use super::*;

    fn choice() -> Choice {
        let wanted = Wanted {
            org: Some("org1".into()),
            channel: Some("supply".into()),
            ..Wanted::default()
        };
        objects().choose(&wanted).unwrap()
    }

    #[test]
    fn the_furthest_ready_peer_of_the_organization_is_taken() {
        let pods = [
            ready("net-orderer-0", "orderer", "org1"),
            ready("org1-peer-0", "peer", "org1"),
            ready("org1-peer-1", "peer", "org1"),
            ready("org2-peer-0", "peer", "org2"),
        ];
        let mut choice = choice();
        let taken = |choice: &Choice| ready_peer(&pods, choice, "ledger").unwrap().name_any();
        choice.channel.status = None;
        assert_eq!(taken(&choice), "org1-peer-0-0");
        let heights = [("org1-peer-0".to_owned(), 4), ("org1-peer-1".to_owned(), 9)];
        choice.channel.status =
            Some(crate::api::ChannelStatus { peer_heights: heights.into(), ..Default::default() });
        assert_eq!(taken(&choice), "org1-peer-1-0");
    }

    #[test]
    fn without_a_ready_peer_its_pods_say_why() {
        let waiting =
            pod("metadata:\n  name: org1-peer-0-0\n  labels: {weft.dev/node: org1-peer-0, \
             weft.dev/organization: org1, app.kubernetes.io/component: peer}\n");
        let error = ready_peer(&[waiting], &choice(), "ledger").unwrap_err().to_string();
        assert!(error.ends_with("its pods: org1-peer-0-0 starting"), "{error}");
    }
}
