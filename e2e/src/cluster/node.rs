//! Pods of nodes: which ones run, and what their metrics say.

use std::collections::BTreeMap;

use anyhow::Context;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::DeleteParams;
use weft_operator::cluster::names::{label, port};

use super::Namespace;

/// A pod as far as a test cares: whether it is the same one, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// Its uid: another one is another pod.
    pub uid: String,
    /// How often its container has started again.
    pub restarts: i32,
    /// The image that it was told to run.
    pub image: String,
}

impl PodState {
    /// The node whose pod it is.
    pub fn node(&self) -> &str {
        self.name.strip_suffix("-0").unwrap_or(&self.name)
    }
}

/// What a pod is now.
pub fn state_of(pod: &Pod) -> PodState {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    PodState {
        name: pod.name_any(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        restarts: statuses.and_then(|all| all.first()).map_or(0, |one| one.restart_count),
        image: container.and_then(|one| one.image.clone()).unwrap_or_default(),
    }
}

impl Namespace {
    /// The pods of nodes, by name.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn nodes(&self) -> anyhow::Result<Vec<PodState>> {
        let pods = self.cluster().pods(self.name(), label::NODE).await?;
        let mut states: Vec<PodState> = pods.iter().map(state_of).collect();
        states.sort();
        Ok(states)
    }

    /// Deletes a node's pod and returns when another one is there.
    ///
    /// # Errors
    /// When none comes.
    pub async fn delete_pod(&self, node: &str) -> anyhow::Result<()> {
        let name = format!("{node}-0");
        let before = self.typed::<Pod>().get(&name).await?.metadata.uid;
        self.delete("Pod", &name).await?;
        self.until("another pod", async || {
            let now = self.typed::<Pod>().get_opt(&name).await?;
            Ok(now.filter(|pod| pod.metadata.uid != before).map(|_| ()))
        })
        .await
    }

    /// Deletes a node's volume and its pod, so that it starts with nothing.
    ///
    /// # Errors
    /// When the volume does not go.
    pub async fn delete_volume(&self, node: &str) -> anyhow::Result<()> {
        let claims = self.typed::<PersistentVolumeClaim>();
        let before = claims.get(node).await?.metadata.uid;
        self.delete("PersistentVolumeClaim", node).await?;
        // A claim goes when the last pod that uses it is gone.
        let at_once = DeleteParams::default().grace_period(1);
        self.typed::<Pod>().delete(&format!("{node}-0"), &at_once).await?;
        self.until("another volume", async || {
            let now = claims.get_opt(node).await?;
            Ok(now.filter(|claim| claim.metadata.uid != before).map(|_| ()))
        })
        .await
    }

    /// Waits until a node's pod is ready.
    ///
    /// # Errors
    /// When it does not become ready in time.
    pub async fn node_ready(&self, node: &str) -> anyhow::Result<()> {
        let name = format!("{node}-0");
        self.until(&format!("{name} to be ready"), async || {
            let pod = self.typed::<Pod>().get_opt(&name).await?;
            Ok(pod.filter(super::operator::is_ready).map(|_| ()))
        })
        .await
    }

    /// A node's metrics.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn node_metrics(&self, node: &str) -> anyhow::Result<String> {
        let port = operations_port(node);
        self.cluster().get(self.name(), &format!("{node}-0"), port, "/metrics").await
    }

    /// The orderer that leads a channel, as the orderers' own metrics say.
    ///
    /// # Errors
    /// When none says that it leads.
    pub async fn leader(&self, channel: &str) -> anyhow::Result<String> {
        let name = format!("consensus_etcdraft_is_leader{{channel=\"{channel}\"}}");
        for pod in self.nodes().await? {
            let node = pod.node().to_owned();
            if operations_port(&node) != port::ORDERER_OPERATIONS {
                continue;
            }
            let Ok(text) = self.node_metrics(&node).await else { continue };
            if Series::parse(&text).get(&name) == Some(1.0) {
                return Ok(node);
            }
        }
        None.with_context(|| format!("no orderer leads {channel}"))
    }
}

/// The operations port of the node of that name.
pub fn operations_port(node: &str) -> u16 {
    if node.contains("-peer-") { port::PEER_OPERATIONS } else { port::ORDERER_OPERATIONS }
}

/// Metrics by name with labels.
pub struct Series(BTreeMap<String, f64>);

impl Series {
    /// Reads Prometheus's text format; lines that are no samples are left out.
    pub fn parse(text: &str) -> Series {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let read = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Series(samples.filter_map(read).collect())
    }

    /// One sample.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All samples.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &f64)> {
        self.0.iter()
    }
}
