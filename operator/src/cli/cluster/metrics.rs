//! The metrics of nodes, read through port-forwards.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use weft_client::Operations;

use super::context::Context;
use super::forward::Forward;
use super::pods;
use crate::cli::CommandError;
use crate::cluster::topology::NodeKind;

/// How long a node may take to tell its metrics.
const LIMIT: Duration = Duration::from_secs(10);

/// A node whose operations port is in reach.
pub(super) struct Scraped {
    /// Its name.
    pub node: String,
    operations: Operations,
    _forward: Forward,
}

impl Scraped {
    /// Opens the way to a node's operations port; `None` for a pod of something else.
    ///
    /// # Errors
    /// Why there is no way.
    pub(super) async fn open(
        context: &Context,
        pod: &Pod,
    ) -> Result<Option<Scraped>, CommandError> {
        let Some((node, kind)) = pods::node(pod).zip(kind(pod)) else { return Ok(None) };
        let forward = Forward::open(context, &pod.name_any(), kind.operations_port()).await?;
        let operations = Operations::new(forward.address(), LIMIT);
        Ok(Some(Scraped { node: node.to_owned(), operations, _forward: forward }))
    }

    /// The metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// Why the node did not tell.
    pub(super) async fn read(&self) -> Result<String, CommandError> {
        Ok(self.operations.metrics().await?)
    }
}

fn kind(pod: &Pod) -> Option<NodeKind> {
    if pods::is_peer(pod) {
        Some(NodeKind::Peer)
    } else {
        pods::is_orderer(pod).then_some(NodeKind::Orderer)
    }
}
