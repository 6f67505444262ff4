//! The operator of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use weft_operator::cluster::names::port;

use super::node::Series;
use super::{Cluster, patience, tools};

/// Namespace of the release.
pub const NAMESPACE: &str = "weft-system";
/// Name of the release and of its Deployment.
pub const RELEASE: &str = "weft-operator";
/// Labels of the operator's pods.
pub const LABELS: &str = "app.kubernetes.io/name=weft-operator";

/// The operator that the chart installs, once for all tests.
pub struct Operator {
    cluster: Cluster,
}

impl Operator {
    /// The operator, installed when it is not yet there, one replica, ready.
    ///
    /// # Errors
    /// What Helm says, or that it does not become ready.
    pub async fn ensure(cluster: &Cluster) -> anyhow::Result<Operator> {
        let operator = Operator { cluster: cluster.clone() };
        if operator.deployments().get_opt(RELEASE).await?.is_none() {
            operator.install(&[])?;
        }
        operator.scale(1).await?;
        Ok(operator)
    }

    /// Whether the kinds are there and somebody else than Helm brought them: then Helm refuses to
    /// take them over.
    fn kinds_are_foreign(&self) -> anyhow::Result<bool> {
        let label = "-o=jsonpath={.items[?(@.spec.group==\"weft.dev\")].metadata.labels}";
        let all = tools::kubectl(&["get", "crds", "-o=name"])?;
        let labels = tools::kubectl(&["get", "crds", label])?;
        Ok(all.contains(".weft.dev") && !labels.contains("Helm"))
    }

    /// `helm install` of the chart with further `--set` values.
    ///
    /// # Errors
    /// What Helm says.
    pub fn install(&self, values: &[&str]) -> anyhow::Result<()> {
        self.helm("install", values)
    }

    /// `helm upgrade` of the chart with further `--set` values.
    ///
    /// # Errors
    /// What Helm says.
    pub fn upgrade(&self, values: &[&str]) -> anyhow::Result<()> {
        self.helm("upgrade", values)
    }

    fn helm(&self, verb: &str, values: &[&str]) -> anyhow::Result<()> {
        let chart = tools::checkout().join("charts/weft-operator");
        let chart = chart.to_str().context("the checkout's path is not text")?;
        let mut arguments = vec![verb, RELEASE, chart, "-n", NAMESPACE];
        if verb == "install" {
            arguments.push("--create-namespace");
        }
        if self.kinds_are_foreign()? {
            arguments.extend(["--set", "crds.enabled=false"]);
        }
        for value in values {
            arguments.extend(["--set", value]);
        }
        tools::helm(&arguments)?;
        Ok(())
    }

    /// `helm uninstall`.
    ///
    /// # Errors
    /// What Helm says.
    pub fn uninstall(&self) -> anyhow::Result<()> {
        tools::helm(&["uninstall", RELEASE, "-n", NAMESPACE])?;
        Ok(())
    }

    /// Sets the number of replicas and waits until as many are ready and no others are left.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn scale(&self, replicas: usize) -> anyhow::Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        let parameters = PatchParams::default();
        self.deployments().patch(RELEASE, &parameters, &Patch::Merge(patch)).await?;
        self.wait_replicas(replicas).await
    }

    /// Waits until that many replicas are ready and no others are left.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn wait_replicas(&self, replicas: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience();
        loop {
            let pods = self.pods().await?;
            if pods.len() == replicas && pods.iter().all(is_ready) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} pods of the operator, wanted {replicas} ready", pods.len());
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Names of its pods that run and are not being deleted.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn pod_names(&self) -> anyhow::Result<Vec<String>> {
        let pods = self.pods().await?;
        let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        Ok(pods.iter().filter(stays).map(ResourceExt::name_any).collect())
    }

    /// Kills every pod of it at once; others take their place.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.cluster.client(), NAMESPACE);
        for pod in self.pods().await? {
            let at_once = DeleteParams::default().grace_period(0);
            // One that is gone already is as good.
            let _ = api.delete(&pod.name_any(), &at_once).await;
        }
        Ok(())
    }

    /// Kills it again and again, at moments that nobody chose.
    pub fn restless(&self) -> Restless {
        let stop = Arc::new(AtomicBool::new(false));
        let kills = Arc::new(AtomicUsize::new(0));
        let (until, count) = (stop.clone(), kills.clone());
        let operator = Operator { cluster: self.cluster.clone() };
        let task = tokio::spawn(async move {
            sleep(Duration::from_millis(rand::random_range(0..3_000))).await;
            while !until.load(Ordering::Relaxed) {
                if operator.kill().await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                // Sometimes it has not led yet (the Lease of the one before must end first),
                // sometimes it has been at it for a while.
                sleep(Duration::from_millis(rand::random_range(2_000..40_000))).await;
            }
        });
        Restless { operator: Operator { cluster: self.cluster.clone() }, stop, kills, task }
    }

    /// The metrics of one of its pods.
    ///
    /// # Errors
    /// When the pod does not answer.
    pub async fn metrics_text(&self, pod: &str) -> anyhow::Result<String> {
        self.cluster.get(NAMESPACE, pod, port::OPERATOR_OPERATIONS, "/metrics").await
    }

    /// The metrics of its only pod.
    ///
    /// # Errors
    /// When there is none, or it does not answer.
    pub async fn metrics(&self) -> anyhow::Result<Series> {
        let pod = self.pod_names().await?.into_iter().next().context("no pod of the operator")?;
        Ok(Series::parse(&self.metrics_text(&pod).await?))
    }

    /// How often it has written to the API server, by kind and verb; the Lease does not count.
    ///
    /// # Errors
    /// As [`Operator::metrics`].
    pub async fn writes(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let metrics = self.metrics().await?;
        let of_interest = |(name, _): &(&String, &f64)| {
            name.starts_with("weft_operator_writes_total") && !name.contains("Lease")
        };
        Ok(metrics.iter().filter(of_interest).map(|(name, n)| (name.clone(), *n)).collect())
    }

    /// Its resident memory, MiB.
    ///
    /// # Errors
    /// As [`Operator::metrics`].
    pub async fn resident_mebibytes(&self) -> anyhow::Result<f64> {
        let bytes = self.metrics().await?.get("process_resident_memory_bytes");
        Ok(bytes.context("no process_resident_memory_bytes")? / f64::from(1 << 20))
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.cluster.client(), NAMESPACE)
    }

    async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        self.cluster.pods(NAMESPACE, LABELS).await
    }
}

/// An operator that is being killed again and again.
pub struct Restless {
    operator: Operator,
    stop: Arc<AtomicBool>,
    kills: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Restless {
    /// Leaves it in peace and waits until it is ready; how often it was killed.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn rest(self) -> anyhow::Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.abort();
        self.operator.wait_replicas(1).await?;
        let kills = self.kills.load(Ordering::Relaxed);
        println!("the operator was killed {kills} times");
        Ok(kills)
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Whether a pod is ready and not being deleted.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}
