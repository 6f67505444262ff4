//! The objects of each node of a holder. Templates change one node at a time ([`rollout`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{HolderError, HolderPlan};
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::quantity;
use crate::cluster::controllers::rollout::{self, NodeState, Rollout, Template};
use crate::cluster::controllers::stores::{find, select};
use crate::cluster::identity::hash as identity_hash;
use crate::cluster::names::{annotation, key, label};
use crate::cluster::resources::node::{self as build, RunOptions};
use crate::cluster::resources::{group, labels, network_policy};
use crate::cluster::topology::Node;

/// Seconds after which a pod without a machine is worth telling.
const PATIENCE: i64 = 15;

/// What is known of a node besides its objects; pure input of the rollout.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Nodes that lead a channel.
    pub leaders: BTreeSet<String>,
    /// Nodes that are behind the others of their channels.
    pub behind: BTreeSet<String>,
    /// Nodes that must not stop now, and why; for people.
    pub held: BTreeMap<String, String>,
}

/// How the nodes of a holder are.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    /// How many serve.
    pub ready: u32,
    /// How many there should be.
    pub wanted: u32,
    /// Nodes that wait for their new template, and for whom.
    pub rollout: Rollout,
    /// What keeps pods from running, for people: the first one found.
    pub trouble: Option<String>,
    /// What cannot be done to a volume.
    pub refused: Option<String>,
}

/// Brings every node's objects to what they should be, as far as it is its turn. The ledger's
/// facts are asked for only when a node that runs has to change.
///
/// # Errors
/// [`HolderError`] naming the object.
pub async fn ensure(
    context: &Context,
    plan: &HolderPlan,
    facts: impl AsyncFnOnce() -> Ledger,
) -> Result<Nodes, HolderError> {
    ensure_group(context, plan).await?;
    let mut sets = Vec::new();
    for node in &plan.nodes {
        sets.push(prepare(context, plan, node).await?);
    }
    let is_outdated = |set: &Set<'_>| template_of(set, plan) == Template::Outdated;
    let ledger = if sets.iter().any(is_outdated) { facts().await } else { Ledger::default() };
    let states: Vec<NodeState> = sets.iter().map(|set| state_of(set, plan, &ledger)).collect();
    let rollout = rollout::decide(&states);
    let mut refused = None;
    for set in &sets {
        let refusal = ensure_volume(context, set.node).await?;
        refused = refused.or(refusal);
        if rollout.apply.contains(&set.node.name) {
            context.applier.apply(&set.desired, set.live.as_deref()).await?;
        }
        nudge(context, set.node).await?;
    }
    let wanted = if plan.hibernated { 0 } else { plan.nodes.len() };
    Ok(Nodes {
        ready: count(states.iter().filter(|state| state.ready).count()),
        wanted: count(wanted),
        trouble: plan.nodes.iter().find_map(|node| trouble_of(context, node)),
        rollout,
        refused,
    })
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

async fn ensure_group(context: &Context, plan: &HolderPlan) -> Result<(), HolderError> {
    let group = plan.group();
    let stores = &context.stores;
    let namespace = &plan.namespace;
    for service in
        [group::headless(&group, &plan.owner), group::client_service(&group, &plan.owner)]
    {
        let live = find(&stores.services, namespace, &service.name_any());
        context.applier.apply(&service, live.as_deref()).await?;
    }
    let policy = network_policy::policy(&group, &plan.owner);
    let live = find(&stores.policies, namespace, &policy.name_any());
    context.applier.apply(&policy, live.as_deref()).await?;
    if let Some(api) = context.budgets {
        let budget = group::disruption_budget(&group, api, &plan.owner);
        context.applier.apply_dynamic(&budget, &api.resource()).await?;
    }
    Ok(())
}

/// A node's StatefulSet as it is and as it should be.
struct Set<'a> {
    node: &'a Node,
    live: Option<Arc<StatefulSet>>,
    desired: StatefulSet,
}

/// What a node needs before it starts: its settings and its address.
async fn prepare<'a>(
    context: &Context,
    plan: &HolderPlan,
    node: &'a Node,
) -> Result<Set<'a>, HolderError> {
    let stores = &context.stores;
    let settings = build::settings(node, &plan.owner)
        .map_err(|source| HolderError::Settings { node: node.name.clone(), source })?;
    let live = find(&stores.config_maps, &node.namespace, &node.name);
    context.applier.apply(&settings, live.as_deref()).await?;
    let service = build::service(node, &plan.owner);
    let live = find(&stores.services, &node.namespace, &node.name);
    context.applier.apply(&service, live.as_deref()).await?;
    let live = find(&stores.stateful_sets, &node.namespace, &node.name);
    let identity = find(&stores.secrets, &node.namespace, &node.identity());
    let holds = |name: &str| {
        let data = identity.as_ref().and_then(|secret| secret.data.as_ref());
        data.is_some_and(|data| data.contains_key(name))
    };
    let options = RunOptions {
        image: context.options.node_image.clone(),
        settings_hash: build::settings_hash(&settings),
        hibernated: plan.hibernated,
        intermediates: holds(key::INTERMEDIATE_CERTS),
        tls_intermediates: holds(key::TLS_INTERMEDIATE_CERTS),
        restarted_at: live.as_deref().and_then(restarted_at),
    };
    let desired =
        build::stateful_set(node, &options, &plan.owner).map_err(HolderError::Resource)?;
    Ok(Set { node, live, desired })
}

/// What a person set to have the node restarted stays: it is not ours to take away.
fn restarted_at(set: &StatefulSet) -> Option<String> {
    set.annotations().get(annotation::RESTARTED_AT).cloned()
}

fn template_of(set: &Set<'_>, plan: &HolderPlan) -> Template {
    let hash = |set: &StatefulSet| set.annotations().get(annotation::TEMPLATE_HASH).cloned();
    match set.live.as_deref() {
        None => Template::Missing,
        Some(live) if plan.hibernated || replicas(live) == 0 => Template::Asleep,
        Some(live) if hash(live) == hash(&set.desired) => Template::Current,
        Some(_) => Template::Outdated,
    }
}

fn state_of(set: &Set<'_>, plan: &HolderPlan, ledger: &Ledger) -> NodeState {
    let name = set.node.name.clone();
    NodeState {
        template: template_of(set, plan),
        ready: set.live.as_deref().is_some_and(is_ready),
        caught_up: !ledger.behind.contains(&name),
        leads: ledger.leaders.contains(&name),
        held: ledger.held.get(&name).cloned(),
        name,
    }
}

fn replicas(set: &StatefulSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// Whether the node serves with the template that its StatefulSet has.
pub fn is_ready(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    let seen = status.observed_generation == set.metadata.generation;
    let current = status.update_revision.is_none()
        || status.current_revision == status.update_revision
        || status.updated_replicas == Some(1);
    seen && current && replicas(set) == 1 && status.ready_replicas == Some(1)
}

/// Volumes are made once; they grow, and never shrink.
async fn ensure_volume(context: &Context, node: &Node) -> Result<Option<String>, HolderError> {
    let desired = build::volume(node);
    let Some(live) = find(&context.stores.volumes, &node.namespace, &node.name) else {
        context.applier.apply(&desired, None).await?;
        return Ok(None);
    };
    let (wanted, has) = (size_of(&desired), size_of(&live));
    if live.metadata.deletion_timestamp.is_some() || wanted == has {
        return Ok(None);
    }
    match (
        wanted.and_then(|size| quantity::bytes(&size)),
        has.and_then(|size| quantity::bytes(&size)),
    ) {
        (Some(wanted), Some(has)) if wanted > has => {
            let mut grown = desired;
            // Fixed once the claim is made.
            if let (Some(spec), Some(old)) = (&mut grown.spec, &live.spec) {
                spec.storage_class_name.clone_from(&old.storage_class_name);
                spec.access_modes.clone_from(&old.access_modes);
            }
            context.applier.apply(&grown, Some(live.as_ref())).await?;
            Ok(None)
        }
        (Some(wanted), Some(has)) if wanted < has => {
            Ok(Some(format!("the volume of {} keeps its size: volumes never shrink", node.name)))
        }
        _ => Ok(None),
    }
}

fn size_of(claim: &PersistentVolumeClaim) -> Option<String> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|quantity| quantity.0.clone())
}

/// Tells the kubelet of a new identity: it looks at Secrets in rounds of a minute and more, and
/// at once when the pod changes.
async fn nudge(context: &Context, node: &Node) -> Result<(), HolderError> {
    let stores = &context.stores;
    let Some(secret) = find(&stores.secrets, &node.namespace, &node.identity()) else {
        return Ok(());
    };
    let wanted = hash_of(&secret);
    for pod in pods_of(context, node) {
        let running = pod.metadata.deletion_timestamp.is_none();
        if running && pod.annotations().get(annotation::IDENTITY_HASH) != Some(&wanted) {
            context.applier.annotate(pod.as_ref(), annotation::IDENTITY_HASH, &wanted).await?;
        }
    }
    Ok(())
}

fn hash_of(secret: &Secret) -> String {
    secret.data.as_ref().map(identity_hash).unwrap_or_default()
}

fn pods_of(context: &Context, node: &Node) -> Vec<Arc<Pod>> {
    let wanted = labels::value(&node.name);
    select(&context.stores.pods, &node.namespace, |pod: &Pod| {
        pod.labels().get(label::NODE) == Some(&wanted)
    })
}

fn is_older_than(since: Option<&Time>, context: &Context, seconds: i64) -> bool {
    since.is_none_or(|since| context.now().seconds() - since.0.as_second() >= seconds)
}

/// Why a node's pod does not run, in the words of the scheduler or the kubelet.
fn trouble_of(context: &Context, node: &Node) -> Option<String> {
    pods_of(context, node).iter().find_map(|pod| {
        let status = pod.status.as_ref()?;
        let unscheduled = status.conditions.iter().flatten().find(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                // A volume is bound a moment after its pod is made.
                && is_older_than(condition.last_transition_time.as_ref(), context, PATIENCE)
        });
        if let Some(condition) = unscheduled {
            let why = condition.message.clone().unwrap_or_default();
            return Some(format!("{} finds no machine: {why}", node.name));
        }
        let container = status.container_statuses.as_ref()?.first()?;
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        if matches!(reason, "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let message = waiting.message.as_deref().unwrap_or_default();
        Some(format!("{}: {reason} {message}", node.name).trim_end().to_owned())
    })
}
