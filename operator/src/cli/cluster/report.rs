//! `kubectl weft report`: what is needed to find a fault, in one file and without secrets.
//!
//! Of Secrets only names, types, keys and the ends of certificates are taken. Every file passes
//! [`redact`] before it goes into the archive. What cannot be had is noted and does not
//! stop the rest.

mod bundle;
mod secrets;

use std::path::PathBuf;

use clap::Args;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::bundle::Bundle;
use super::context::{Context, patiently};
use super::error::ClusterError;
use super::metrics::Scraped;
use super::objects::Objects;
use super::{logs, pods, redact, status};
use crate::api::{Chaincode, Channel, LedgerNetwork, Organization};
use crate::cli::{CommandError, Output, put, report as told};
use crate::cluster::names::{MANAGER, label};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The file; `weft-report-NAMESPACE-TIME.tar.gz` when absent.
    #[arg(long, value_name = "FILE.tar.gz")]
    pub out: Option<PathBuf>,
    /// The last lines taken of each log.
    #[arg(long, default_value_t = 2000, value_name = "LINES")]
    pub log_lines: i64,
}

/// Collects, and writes the file.
pub(in crate::cli) async fn report(
    context: &Context,
    args: ReportArgs,
    output: Output,
) -> Result<(), CommandError> {
    // Whoever may not even see our kinds, or names the wrong namespace, is told so.
    let objects = Objects::read(context).await?;
    if objects.networks.is_empty() && objects.organizations.is_empty() {
        let elsewhere = Objects::elsewhere(context).await;
        let namespace = context.namespace.clone();
        return Err(ClusterError::None { what: "network", namespace, elsewhere }.into());
    }
    let now = super::now();
    let mut bundle = Bundle::default();
    about(context, &mut bundle, &now.to_string()).await;
    eprintln!("objects");
    collect_objects(context, &objects, &mut bundle).await;
    let pods = pods::ours(context).await.unwrap_or_default();
    bundle.add("status.txt", &status::text(&objects, &pods));
    eprintln!("logs");
    collect_logs(context, &pods, args.log_lines, &mut bundle).await;
    collect_operator(context, args.log_lines, &mut bundle).await;
    eprintln!("metrics");
    patiently(
        "reading metrics through port-forwards",
        collect_metrics(context, &pods, &mut bundle),
    )
    .await;
    let name = || {
        let time = now.to_string().replace(':', "-");
        PathBuf::from(format!("weft-report-{}-{time}.tar.gz", context.namespace))
    };
    let path = args.out.unwrap_or_else(name);
    let problems = bundle.problems().to_vec();
    let (count, bytes) = (bundle.len(), bundle.archive(now)?);
    super::save(&path, &bytes, false)?;
    let answer = json!({
        "file": path, "files": count, "bytes": bytes.len(), "problems": problems,
    });
    match output.structured(&answer)? {
        Some(text) => put(&text)?,
        None => {
            put(&format!("{}\n", path.display()))?;
            eprintln!(
                "{count} files, {} KiB; look through it before you pass it on",
                bytes.len() / 1024
            );
            for problem in problems {
                eprintln!("not in it: {problem}");
            }
        }
    }
    Ok(())
}

async fn about(context: &Context, bundle: &mut Bundle, now: &str) {
    let server = match context.client.apiserver_version().await {
        Ok(version) => format!("Kubernetes {} ({})", version.git_version, version.platform),
        Err(error) => {
            bundle.problem(&ClusterError::at("ask for the API server's version")(error));
            String::new()
        }
    };
    let weft = env!("CARGO_PKG_VERSION");
    let namespace = &context.namespace;
    bundle.add(
        "about.txt",
        &format!("weft {weft}\n{server}\nnamespace {namespace}\nwritten {now}\n"),
    );
}

async fn collect_objects(context: &Context, objects: &Objects, bundle: &mut Bundle) {
    let ours = ListParams::default().labels(&format!("{}={MANAGER}", label::MANAGED_BY));
    let all = ListParams::default();
    add::<LedgerNetwork>(context, "ledgernetworks", &all, bundle).await;
    add::<Organization>(context, "organizations", &all, bundle).await;
    add::<Channel>(context, "channels", &all, bundle).await;
    add::<Chaincode>(context, "chaincodes", &all, bundle).await;
    add::<StatefulSet>(context, "statefulsets", &ours, bundle).await;
    add::<Deployment>(context, "deployments", &ours, bundle).await;
    add::<Pod>(context, "pods", &ours, bundle).await;
    add::<PersistentVolumeClaim>(context, "persistentvolumeclaims", &ours, bundle).await;
    add::<Service>(context, "services", &ours, bundle).await;
    add::<NetworkPolicy>(context, "networkpolicies", &ours, bundle).await;
    add::<ConfigMap>(context, "configmaps", &ours, bundle).await;
    add_events(context, bundle).await;
    match read::<Secret>(context, "secrets", &all).await {
        Ok(found) => {
            let chosen = secrets::summaries(&found, &objects.organizations);
            bundle.add_value("secrets.yaml", &json!(chosen));
        }
        Err(error) => bundle.problem(&error),
    }
}

async fn read<K>(
    context: &Context,
    plural: &str,
    params: &ListParams,
) -> Result<Vec<K>, ClusterError>
where
    K: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let step = format!("list {plural} in namespace {:?}", context.namespace);
    let listed = context.api::<K>().list(params).await.map_err(ClusterError::at(step))?;
    Ok(listed.items)
}

/// A file for each object of a kind.
async fn add<K>(context: &Context, plural: &str, params: &ListParams, bundle: &mut Bundle)
where
    K: kube::Resource<Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    match read::<K>(context, plural, params).await {
        Ok(found) => {
            for one in found {
                let path = format!("{plural}/{}.yaml", one.name_any());
                bundle.add_value(&path, &object(&one));
            }
        }
        Err(error) => bundle.problem(&error),
    }
}

/// The object as it may be shown; binary data (genesis blocks) by its size.
fn object<K: Serialize>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(Value::Object(binary)) = value.get_mut("binaryData") {
        for data in binary.values_mut() {
            let length = data.as_str().map_or(0, |text| text.len() / 4 * 3);
            *data = format!("about {length} bytes").into();
        }
    }
    redact::object(&mut value);
    value
}

/// Events as lines in the order of time: who, what, why.
async fn add_events(context: &Context, bundle: &mut Bundle) {
    match read::<Event>(context, "events", &ListParams::default()).await {
        Ok(mut events) => {
            events.sort_by_key(last_seen);
            let lines: String = events.iter().map(event).collect();
            bundle.add("events.txt", &lines);
        }
        Err(error) => bundle.problem(&error),
    }
}

fn last_seen(event: &Event) -> String {
    let last = event.last_timestamp.as_ref().map(|time| time.0.to_string());
    let at = || event.event_time.as_ref().map(|time| time.0.to_string());
    last.or_else(at).unwrap_or_default()
}

fn event(event: &Event) -> String {
    let object = &event.involved_object;
    let (kind, name) = (object.kind.as_deref(), object.name.as_deref());
    format!(
        "{} {} {} {}/{} x{}: {}\n",
        last_seen(event),
        event.type_.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        kind.unwrap_or_default(),
        name.unwrap_or_default(),
        event.count.unwrap_or(1),
        event.message.as_deref().unwrap_or_default(),
    )
}

async fn collect_logs(context: &Context, pods: &[Pod], lines: i64, bundle: &mut Bundle) {
    for pod in pods {
        let name = pod.name_any();
        for container in containers(pod) {
            let path = format!("logs/{name}.{container}.log");
            log(context, &name, &container, lines, false, &path, bundle).await;
            if pods::restarts(pod) > 0 {
                let path = format!("logs/{name}.{container}.previous.log");
                log(context, &name, &container, lines, true, &path, bundle).await;
            }
        }
    }
}

fn containers(pod: &Pod) -> Vec<String> {
    let spec = pod.spec.as_ref();
    spec.map(|spec| spec.containers.iter().map(|one| one.name.clone()).collect())
        .unwrap_or_default()
}

async fn log(
    context: &Context,
    pod: &str,
    container: &str,
    lines: i64,
    previous: bool,
    path: &str,
    bundle: &mut Bundle,
) {
    match logs::last_lines(context, pod, Some(container), lines, previous).await {
        Ok(text) => bundle.add(path, &text),
        Err(error) => bundle.problem(&error),
    }
}

/// The operator's own pods, wherever in the cluster they are.
async fn collect_operator(context: &Context, lines: i64, bundle: &mut Bundle) {
    let all: Api<Pod> = Api::all(context.client.clone());
    let selector = format!("{}={MANAGER}", label::NAME);
    let found = match all.list(&ListParams::default().labels(&selector)).await {
        Ok(found) => found.items,
        Err(error) => {
            bundle.problem(&ClusterError::at("look for the operator's pods")(error));
            return;
        }
    };
    for pod in &found {
        let namespace = pod.namespace().unwrap_or_default();
        let path = format!("operator/{}.yaml", pod.name_any());
        bundle.add_value(&path, &object(pod));
        let there = Context { client: context.client.clone(), namespace };
        for container in containers(pod) {
            let path = format!("operator/{}.{container}.log", pod.name_any());
            log(&there, &pod.name_any(), &container, lines, false, &path, bundle).await;
        }
    }
}

async fn collect_metrics(context: &Context, pods: &[Pod], bundle: &mut Bundle) {
    for pod in pods.iter().filter(|pod| pods::is_ready(pod)) {
        let text = match Scraped::open(context, pod).await {
            Ok(Some(node)) => node.read().await,
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        let name = pods::node(pod).unwrap_or_default();
        match text {
            Ok(text) => bundle.add(&format!("metrics/{name}.txt"), &text),
            Err(error) => bundle.note(format!("metrics of {name}: {}", told(error.as_ref()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_shown_without_bookkeeping_and_binary_data() {
        let map: ConfigMap = serde_yaml::from_str(
            "metadata: {name: supply-genesis, managedFields: [{manager: a}]}\n\
             binaryData: {genesis.block: AAAAAAAA}\n",
        )
        .unwrap();
        let found = object(&map);
        assert_eq!(found["metadata"], json!({"name": "supply-genesis"}));
        assert_eq!(found["binaryData"]["genesis.block"], "about 6 bytes");
    }

    #[test]
    fn an_event_is_a_line() {
        let one: Event = serde_yaml::from_str(
            "metadata: {name: a}\n\
             involvedObject: {kind: Channel, name: supply}\n\
             type: Warning\nreason: Waiting\nmessage: no orderer\ncount: 3\n\
             lastTimestamp: \"2025-11-21T12:00:00Z\"\n",
        )
        .unwrap();
        let expected = "2025-11-21T12:00:00Z Warning Waiting Channel/supply x3: no orderer\n";
        assert_eq!(event(&one), expected);
    }
}
