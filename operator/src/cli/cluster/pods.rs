//! The pods of a network's nodes and contracts: found by label, judged by their status.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::ListParams;

use super::context::Context;
use super::error::ClusterError;
use crate::cluster::names::{MANAGER, component, label};

/// Pods that the operator made, by name.
///
/// # Errors
/// [`ClusterError`] when they cannot be listed.
pub(super) async fn ours(context: &Context) -> Result<Vec<Pod>, ClusterError> {
    let selector = format!("{}={MANAGER}", label::MANAGED_BY);
    let step = format!("list pods in namespace {:?}", context.namespace);
    let mut pods = context
        .api::<Pod>()
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(ClusterError::at(step))?
        .items;
    pods.sort_by_key(ResourceExt::name_any);
    Ok(pods)
}

/// Name of the node whose pod it is.
pub(super) fn node(pod: &Pod) -> Option<&str> {
    pod.labels().get(label::NODE).map(String::as_str)
}

/// Whether it is a peer's.
pub(super) fn is_peer(pod: &Pod) -> bool {
    is(pod, component::PEER)
}

/// Whether it is an orderer's.
pub(super) fn is_orderer(pod: &Pod) -> bool {
    is(pod, component::ORDERER)
}

fn is(pod: &Pod, component: &str) -> bool {
    pod.labels().get(label::COMPONENT).is_some_and(|value| value == component)
}

/// Whether it serves.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| {
        all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// How often its containers were started again.
pub(super) fn restarts(pod: &Pod) -> i32 {
    containers(pod).map(|container| container.restart_count).sum()
}

/// One word, or a few: what it does or waits for.
pub(super) fn state(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "stopping".to_owned();
    }
    if is_ready(pod) {
        return "ready".to_owned();
    }
    waiting(pod).or_else(|| unscheduled(pod)).unwrap_or_else(|| "starting".to_owned())
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    status.into_iter().flat_map(|status| status.container_statuses.iter().flatten())
}

fn waiting(pod: &Pod) -> Option<String> {
    containers(pod).find_map(|container| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        let ended = state.terminated.as_ref().map(|ended| {
            let reason = ended.reason.as_deref().unwrap_or("ended");
            format!("{reason} ({})", ended.exit_code)
        });
        waiting.filter(|reason| reason != "ContainerCreating").or(ended)
    })
}

fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False")
        .and_then(|one| one.reason.clone())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pod from its YAML.
    pub(in crate::cli::cluster) fn pod(yaml: &str) -> Pod {
        serde_yaml::from_str(yaml).unwrap()
    }

    /// A ready pod of a node.
    pub(in crate::cli::cluster) fn ready(node: &str, component: &str, organization: &str) -> Pod {
        pod(&format!(
            "metadata:\n  name: {node}-0\n  labels:\n    weft.dev/node: {node}\n    \
             weft.dev/organization: {organization}\n    app.kubernetes.io/component: {component}\n\
             status:\n  conditions: [{{type: Ready, status: 'True'}}]\n"
        ))
    }

    #[test]
    fn a_pod_says_what_it_waits_for() {
        let state_of =
            |status: &str| state(&pod(&format!("metadata: {{name: a}}\nstatus: {status}\n")));
        assert_eq!(state_of("{conditions: [{type: Ready, status: 'True'}]}"), "ready");
        assert_eq!(state_of("{}"), "starting");
        let container = "name: node, image: a, imageID: a, ready: false, restartCount: 3";
        let with = |state: &str| {
            state_of(&format!("{{containerStatuses: [{{{container}, state: {{{state}}}}}]}}"))
        };
        assert_eq!(with("waiting: {reason: ImagePullBackOff}"), "ImagePullBackOff");
        assert_eq!(with("waiting: {reason: ContainerCreating}"), "starting");
        assert_eq!(with("terminated: {reason: OOMKilled, exitCode: 137}"), "OOMKilled (137)");
        let unscheduled =
            "{conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable}]}";
        assert_eq!(state_of(unscheduled), "Unschedulable");
    }
}
