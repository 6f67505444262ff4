//! `LedgerNetwork`: the ordering service, and what the whole network is like.

mod removal;
mod status;

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource, ResourceExt};

use super::context::Context;
use super::error::ReconcileError;
use super::holder::authorities::{self, Ready};
use super::holder::identities::{self, Identities, Turn};
use super::holder::nodes::{self, Ledger, Nodes};
use super::holder::{HolderError, HolderPlan, Recorded, removal as holder_removal};
use super::report::{self, Report};
use super::scene::Scene;
use super::stores::{is_set, select};
use super::{reach, reach::Orderers};
use crate::api::{Channel, DeletionPolicy, LedgerNetwork, UserRole, UserSpec};
use crate::cluster::conditions::Finding;
use crate::cluster::events::Note;
use crate::cluster::ledger::observe::{self, Observation};
use crate::cluster::names::{FINALIZER, Holder, annotation};
use crate::model::Network;
use crate::pki;

/// When a ready network is looked at again although nothing happened.
const QUIET: Duration = Duration::from_secs(60);
/// When one is looked at again that waits for something that no watch shows.
const SOON: Duration = Duration::from_secs(3);

/// Brings a network to what its spec says.
///
/// # Errors
/// [`ReconcileError`] when the API server did not do its part.
pub async fn reconcile(
    context: &Context,
    object: &Arc<LedgerNetwork>,
) -> Result<Duration, ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let scene = Scene::of_network(&context.stores, &namespace, &name);
    if is_set(object.as_ref(), annotation::PAUSED) {
        return hold(context, object, report::paused()).await;
    }
    if object.meta().deletion_timestamp.is_some() && removal::end(context, object).await? {
        return Ok(QUIET);
    }
    if object.meta().deletion_timestamp.is_none() {
        context.applier.set_finalizer(object.as_ref(), FINALIZER, true).await?;
    }
    if let Some(finding) = report::problem(&scene.problems_of("LedgerNetwork", &name)) {
        return hold(context, object, finding).await;
    }
    let Some(network) = scene.network.clone() else { return Ok(SOON) };
    let orderers = reach::orderers(context, &scene, &network);
    let mut plan = plan(object, &scene, &network, &orderers);
    let report = match carry_out(context, &scene, &network, &mut plan, &orderers).await {
        Ok(done) => status::report(context, object, &scene, &plan, done),
        Err(HolderError::Apply(error)) if error.can_retry() => return Err(error.into()),
        Err(error) => Report::held(status_of(object), report::of_holder(&error), SOON * 10),
    };
    Ok(report::conclude(context, object.as_ref(), report).await?)
}

fn status_of(object: &LedgerNetwork) -> crate::api::LedgerNetworkStatus {
    object.status.clone().unwrap_or_default()
}

async fn hold(
    context: &Context,
    object: &LedgerNetwork,
    finding: Finding,
) -> Result<Duration, ReconcileError> {
    let report = Report::held(status_of(object), finding, QUIET);
    Ok(report::conclude(context, object, report).await?)
}

/// What was done for a network.
#[derive(Debug)]
struct Done {
    ready: Ready,
    identities: Identities,
    nodes: Nodes,
    removal: removal::Removal,
}

/// Orderers that are to go stay until no channel needs them.
fn plan(
    object: &LedgerNetwork,
    scene: &Scene,
    network: &Network,
    orderers: &Orderers,
) -> HolderPlan {
    let status = status_of(object);
    HolderPlan {
        holder: Holder::Ordering(network.name.clone()),
        namespace: scene.namespace.clone(),
        network: network.name.clone(),
        msp_id: network.ordering.msp_id.clone(),
        certificates: network.ordering.certificates,
        ca: crate::api::CaSpec::default(),
        users: vec![UserSpec { name: "admin".to_owned(), role: UserRole::Admin }],
        contracts: Vec::new(),
        nodes: [orderers.wanted.clone(), orderers.surplus.clone()].concat(),
        owner: report::owner(object),
        recorded: Recorded { identity: status.ca_fingerprint, tls: status.tls_ca_fingerprint },
        hibernated: scene.is_hibernated(),
        deletion: object.spec.deletion_policy,
    }
}

/// Carries a plan out. Orderers that have gone on the way are taken out of it, so that what is
/// told afterwards is of those that stay.
async fn carry_out(
    context: &Context,
    scene: &Scene,
    network: &Network,
    plan: &mut HolderPlan,
    orderers: &Orderers,
) -> Result<Done, HolderError> {
    let ready = authorities::ensure(context, plan).await?;
    let removal = removal::surplus(context, scene, network, plan, &orderers.surplus).await?;
    plan.nodes.retain(|node| !removal.removed.contains(&node.name));
    let free = channels_know(context, scene, plan);
    let turn = Turn::OneAtATime { free };
    let identities = identities::ensure(context, plan, &ready.authorities, turn).await?;
    let facts = async || ledger(context, scene, network, plan).await;
    let nodes = nodes::ensure(context, plan, facts).await?;
    Ok(Done { ready, identities, nodes, removal })
}

fn channels_of(context: &Context, scene: &Scene, network: &str) -> Vec<Arc<Channel>> {
    select(&context.stores.channels, &scene.namespace, |one| one.spec.network_ref == network)
}

/// Whether every channel pins the TLS certificate that each of its consenters has now. Only
/// then may the next one be renewed.
fn channels_know(context: &Context, scene: &Scene, plan: &HolderPlan) -> bool {
    let certificates = reach::tls_certificates(context, &plan.nodes);
    let in_use = |node: &str, pinned: &str| {
        certificates.get(node).is_none_or(|certificate| pki::fingerprint(certificate) == pinned)
    };
    channels_of(context, scene, &plan.network).iter().all(|channel| {
        let status = channel.status.clone().unwrap_or_default();
        status.consenters.iter().all(|(node, pinned)| in_use(node, pinned))
    })
}

/// Who leads and who is behind, asked of the orderers themselves.
async fn ledger(context: &Context, scene: &Scene, network: &Network, plan: &HolderPlan) -> Ledger {
    let access = reach::access(context, scene, network);
    let refs: Vec<_> = plan.nodes.iter().map(|node| reach::node_ref(context, node)).collect();
    let seen = observe::observe(&access, &refs).await;
    let names = || plan.nodes.iter().map(|node| node.name.clone());
    let held = |name: String| {
        let refused = seen.may_stop(&name).err()?;
        Some((name, refused.message))
    };
    Ledger {
        leaders: names().filter(|name| seen.leads(name)).collect(),
        behind: names().filter(|name| is_behind(&seen, name)).collect(),
        held: names().filter_map(held).collect(),
    }
}

/// Whether an orderer does not answer, or lacks blocks that others have.
fn is_behind(seen: &Observation, name: &str) -> bool {
    let channels = seen.orderers.get(name).and_then(|facts| facts.channels.as_ref());
    channels.is_none_or(|channels| {
        channels.iter().any(|(channel, facts)| !facts.keeps_up(seen.height(channel)))
    })
}

/// Whether what the network leaves behind is to be deleted with it.
fn deletes(object: &LedgerNetwork) -> bool {
    object.spec.deletion_policy == DeletionPolicy::Delete
}

/// The notes of everything that was done.
fn notes(done: &Done) -> Vec<Note> {
    [done.ready.notes.clone(), done.identities.notes.clone(), done.removal.notes.clone()].concat()
}
