//! A namespace with networks in it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Namespace as Object;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::forward::{Forward, Target};
use super::{Cluster, KINDS, resource, tools};

/// Longest wait for something that should happen: `E2E_PATIENCE` seconds, or five minutes: machines
/// may be slow, and programs unoptimised.
pub fn patience() -> Duration {
    let seconds = std::env::var("E2E_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(300))
}

/// Label of every namespace of these tests: `own` or `shared`.
const LABEL: &str = "weft.dev/e2e";
/// Field manager of what tests write.
const MANAGER: &str = "e2e";

/// A namespace. One that is a test's own is deleted when it is dropped, unless `KEEP=1`; a
/// shared one when the next is made.
pub struct Namespace {
    cluster: Cluster,
    name: String,
    own: bool,
    forwards: Mutex<BTreeMap<Target, Forward>>,
}

impl Namespace {
    /// A namespace of a test's own.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn new(cluster: &Cluster, name: &str) -> anyhow::Result<Namespace> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("e2e-{name}-{:x}{count}", std::process::id() % 0x1000);
        Namespace::create(cluster, name, true).await
    }

    /// A namespace for several tests in a row. Those of other tests are deleted.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn shared(cluster: &Cluster, name: &str) -> anyhow::Result<Namespace> {
        let name = format!("e2e-{name}");
        let api: Api<Object> = Api::all(cluster.client());
        let shared = ListParams::default().labels(&format!("{LABEL}=shared"));
        for other in api.list(&shared).await? {
            if other.name_any() != name && !keep() {
                let _ = api.delete(&other.name_any(), &DeleteParams::background()).await;
            }
        }
        Namespace::create(cluster, name, false).await
    }

    async fn create(cluster: &Cluster, name: String, own: bool) -> anyhow::Result<Namespace> {
        let api: Api<Object> = Api::all(cluster.client());
        let deadline = Instant::now() + patience();
        while let Some(found) = api.get_opt(&name).await? {
            if found.metadata.deletion_timestamp.is_none() {
                break;
            }
            if Instant::now() > deadline {
                bail!("namespace {name} is not deleted: {:?}", found.status);
            }
            sleep(Duration::from_millis(500)).await;
        }
        let labels = json!({
            LABEL: if own { "own" } else { "shared" },
            "pod-security.kubernetes.io/enforce": "restricted",
        });
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await?;
        let namespace =
            Namespace { cluster: cluster.clone(), name, own, forwards: Mutex::default() };
        namespace
            .until("the default service account", async || {
                let accounts = namespace.api("ServiceAccount").get_opt("default").await;
                Ok(accounts?.map(|_| ()))
            })
            .await?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Objects of a kind in this namespace.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.cluster.client(), &self.name, &resource(kind))
    }

    /// Objects of a typed kind in this namespace.
    pub fn typed<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client(), &self.name)
    }

    /// `kubectl apply -f`, as a user runs it.
    ///
    /// # Errors
    /// What `kubectl` says.
    pub fn kubectl_apply(&self, manifest: &str) -> anyhow::Result<()> {
        tools::kubectl_with(&["-n", &self.name, "apply", "-f", "-"], manifest)?;
        Ok(())
    }

    /// `kubectl delete -f`, without waiting.
    ///
    /// # Errors
    /// What `kubectl` says.
    pub fn kubectl_delete(&self, manifest: &str) -> anyhow::Result<()> {
        let arguments = ["-n", &self.name, "delete", "--wait=false", "-f", "-"];
        tools::kubectl_with(&arguments, manifest)?;
        Ok(())
    }

    /// Server-side apply of every document.
    ///
    /// # Errors
    /// What the API server says to the first that it refuses.
    pub async fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        for object in documents(manifest)? {
            self.apply_one(&object).await?;
        }
        Ok(())
    }

    /// Server-side apply of one object.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn apply_one(&self, object: &Value) -> anyhow::Result<()> {
        let kind = object["kind"].as_str().context("a document without kind")?;
        let name = object["metadata"]["name"].as_str().context("a document without name")?;
        let parameters = PatchParams::apply(MANAGER).force();
        self.api(kind).patch(name, &parameters, &Patch::Apply(object)).await?;
        Ok(())
    }

    /// A merge patch of one object.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn patch(&self, kind: &str, name: &str, patch: Value) -> anyhow::Result<()> {
        let parameters =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        self.api(kind).patch(name, &parameters, &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Sets annotations; `None` takes one away.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn annotate(
        &self,
        kind: &str,
        name: &str,
        annotation: &str,
        value: Option<&str>,
    ) -> anyhow::Result<()> {
        self.patch(kind, name, json!({"metadata": {"annotations": {annotation: value}}})).await
    }

    /// An object as it is now.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn get(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        let object = self.api(kind).get(name).await;
        Ok(serde_json::to_value(object.with_context(|| format!("failed to get {kind} {name}"))?)?)
    }

    /// Every object of a kind.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn list(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let list = self.api(kind).list(&ListParams::default()).await?;
        list.items.iter().map(|object| Ok(serde_json::to_value(object)?)).collect()
    }

    /// Asks for the deletion of an object.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn delete(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        self.api(kind).delete(name, &DeleteParams::background()).await?;
        Ok(())
    }

    /// Waits until an object is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn until_gone(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        self.until(&format!("{kind} {name} to be gone"), async || {
            let found = self.api(kind).get_opt(name).await?;
            Ok(found.is_none().then_some(()))
        })
        .await
    }

    /// Waits for the condition `Ready` of one object's newest generation.
    ///
    /// # Errors
    /// When it is not ready in time: what its condition says.
    pub async fn wait_ready(&self, kind: &str, name: &str, limit: Duration) -> anyhow::Result<()> {
        self.wait_condition(kind, name, "Ready", "True", limit).await?;
        Ok(())
    }

    /// Waits until an object's newest generation has a condition of that status, and gives the
    /// condition.
    ///
    /// # Errors
    /// When that does not happen in time: what the object's status says.
    pub async fn wait_condition(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        status: &str,
        limit: Duration,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            let object = self.get(kind, name).await?;
            if let Some(found) = condition_of(&object, condition)
                && found["status"] == status
            {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let said = &object["status"];
                bail!("{kind} {name} did not come to {condition}={status} in {limit:?}: {said}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until every object of our kinds in this namespace is ready.
    ///
    /// # Errors
    /// When that does not happen in time: the first that is not.
    pub async fn wait_all_ready(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let Some(late) = self.first_not_ready().await? else { return Ok(()) };
            if Instant::now() > deadline {
                bail!("not ready in {limit:?}: {late}");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn first_not_ready(&self) -> anyhow::Result<Option<String>> {
        for kind in KINDS {
            for object in self.list(kind).await? {
                let ready = condition_of(&object, "Ready");
                if ready.is_none_or(|found| found["status"] != "True") {
                    let name = &object["metadata"]["name"];
                    return Ok(Some(format!("{kind} {name}: {}", object["status"])));
                }
            }
        }
        Ok(None)
    }

    /// Asks again and again until there is an answer.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn until<T>(
        &self,
        what: &str,
        mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let limit = patience();
        let deadline = Instant::now() + limit;
        loop {
            let answer = ask().await;
            if let Ok(Some(found)) = answer {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let last = answer.err().map(|error| format!(": {error:#}")).unwrap_or_default();
                bail!("waited {limit:?} in {} for {what}{last}", self.name);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A local address for a port of this namespace; the same one each time.
    ///
    /// # Errors
    /// When this machine has no port left.
    pub async fn forward(&self, target: Target) -> anyhow::Result<String> {
        let mut forwards = self.forwards.lock().await;
        if let Some(open) = forwards.get(&target) {
            return Ok(open.address().to_owned());
        }
        let open = Forward::open(self.cluster.client(), &self.name, target.clone()).await?;
        let address = open.address().to_owned();
        forwards.insert(target, open);
        Ok(address)
    }

    /// Deletes the namespace and waits until it is gone, finalizers and all.
    ///
    /// # Errors
    /// When it stays.
    pub async fn delete_whole(self) -> anyhow::Result<()> {
        let api: Api<Object> = Api::all(self.cluster.client());
        api.delete(&self.name, &DeleteParams::background()).await?;
        self.until("the namespace to be gone", async || {
            Ok(api.get_opt(&self.name).await?.is_none().then_some(()))
        })
        .await
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            explain(&self.name);
        }
        if self.own && !keep() {
            let arguments =
                ["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"];
            let _ = tools::kubectl(&arguments);
        }
    }
}

fn keep() -> bool {
    std::env::var_os("KEEP").is_some_and(|value| value == "1")
}

/// The documents of a manifest.
///
/// # Errors
/// When one is not YAML.
pub fn documents(manifest: &str) -> anyhow::Result<Vec<Value>> {
    use serde::Deserialize;
    let read = |document| Ok(Value::deserialize(document)?);
    serde_yaml::Deserializer::from_str(manifest).map(read).collect()
}

/// A condition, when it speaks of the object's newest generation.
pub fn condition_of(object: &Value, condition: &str) -> Option<Value> {
    let generation = &object["metadata"]["generation"];
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|one| one["type"] == condition)?;
    (found["observedGeneration"] == *generation).then(|| found.clone())
}

/// Prints what a person would look at: conditions, events, pods, the ends of logs.
pub fn explain(namespace: &str) {
    let show = |arguments: &[&str]| match tools::kubectl(arguments) {
        Ok(text) => eprintln!("--- kubectl {}\n{text}", arguments.join(" ")),
        Err(error) => eprintln!("--- {error}"),
    };
    let conditions = "jsonpath={range .items[*]}{.kind} {.metadata.name}: {.status.message}\n\
        {range .status.conditions[*]}    {.type}={.status} {.reason}: {.message}\n{end}{end}";
    show(&["-n", namespace, "get", "ln,org,ch,cc", "-o", conditions]);
    show(&["-n", namespace, "get", "pods,statefulsets,deployments,pvc", "-o", "wide"]);
    show(&["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"]);
    let pods = tools::kubectl(&["-n", namespace, "get", "pods", "-o", "name"]).unwrap_or_default();
    for pod in pods.lines() {
        show(&["-n", namespace, "logs", pod, "--tail=12"]);
    }
    show(&["-n", super::operator::NAMESPACE, "logs", "-l", super::operator::LABELS, "--tail=60"]);
}
