//! Orderers that are to go, and the end of a network.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::{channels_of, deletes, holder_removal};
use crate::api::LedgerNetwork;
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::error::ReconcileError;
use crate::cluster::controllers::holder::{HolderError, HolderPlan};
use crate::cluster::controllers::reach;
use crate::cluster::controllers::report;
use crate::cluster::controllers::scene::Scene;
use crate::cluster::controllers::stores::{find, is_set, select};
use crate::cluster::events::Note;
use crate::cluster::ledger::{Access, NodeRef};
use crate::cluster::names::{FINALIZER, Holder, annotation};
use crate::cluster::topology::Node;
use crate::model::Network;

/// How far the removal of surplus orderers is.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    /// What was done.
    pub notes: Vec<Note>,
    /// The orderers that are gone.
    pub removed: BTreeSet<String>,
    /// Orderers that are still needed, and why; for people.
    pub waiting: Option<String>,
}

/// Removes surplus orderers that no channel needs any more: first they leave their channels,
/// then their objects go. The channels' controller takes them off the consenters.
///
/// # Errors
/// [`HolderError::Apply`].
pub async fn surplus(
    context: &Context,
    scene: &Scene,
    network: &Network,
    plan: &HolderPlan,
    surplus: &[Node],
) -> Result<Removal, HolderError> {
    let mut removal = Removal::default();
    if surplus.is_empty() {
        return Ok(removal);
    }
    let access = reach::access(context, scene, network);
    for node in surplus.iter().rev() {
        if let Some(why) = needed(context, scene, network, node) {
            removal.waiting = Some(why);
            continue;
        }
        // One without a StatefulSet has left before: its removal was interrupted.
        let runs = find(&context.stores.stateful_sets, &node.namespace, &node.name).is_some();
        let left = match runs {
            true => leave(&access, &reach::node_ref(context, node)).await,
            false => Ok(()),
        };
        match left {
            Ok(()) => {
                holder_removal::remove_node(context, plan, &node.name).await?;
                let note = Note::normal("OrdererRemoved", format!("removed {}", node.name));
                removal.notes.push(note);
                removal.removed.insert(node.name.clone());
            }
            Err(why) => removal.waiting = Some(why),
        }
    }
    Ok(removal)
}

/// A channel that has the orderer as a consenter, or whose consenters are not known.
fn needed(context: &Context, scene: &Scene, network: &Network, node: &Node) -> Option<String> {
    channels_of(context, scene, &network.name).iter().find_map(|channel| {
        let status = channel.status.clone().unwrap_or_default();
        let unknown = status.consenters.is_empty() && status.genesis_hash.is_some();
        let is_consenter = status.consenters.contains_key(&node.name);
        (unknown || is_consenter).then(|| {
            format!("{} is still a consenter of channel {}", node.name, channel.name_any())
        })
    })
}

/// The orderer leaves its channels itself, which deletes its ledgers; where it says that it is a
/// consenter of one (of a channel whose object is gone, say), it stays.
async fn leave(access: &Access, node: &NodeRef) -> Result<(), String> {
    let told = |error| format!("{} cannot be asked to leave its channels: {error}", node.name);
    let participation = access.participation(node).map_err(|error| told(error.to_string()))?;
    let channels = participation.channels().await.map_err(|error| told(error.to_string()))?;
    for name in channels {
        let Ok(id) = weft_types::ChannelId::new(&name) else { continue };
        let info = participation.channel(&id).await.map_err(|error| told(error.to_string()))?;
        if info.is_some_and(|info| info.consensus_relation == "consenter") {
            return Err(format!("{} is still a consenter of channel {name}", node.name));
        }
        participation.remove(&id).await.map_err(|error| told(error.to_string()))?;
    }
    Ok(())
}

/// The end of a network. `false` while it is held back and goes on as before: it has channels,
/// and nobody said that it is to go nevertheless.
///
/// # Errors
/// [`ReconcileError`].
pub async fn end(context: &Context, object: &LedgerNetwork) -> Result<bool, ReconcileError> {
    if !object.finalizers().iter().any(|one| one == FINALIZER) {
        return Ok(true);
    }
    if held_by(context, object).is_some() {
        return Ok(false);
    }
    let namespace = object.namespace().unwrap_or_default();
    if deletes(object) {
        let name = object.name_any();
        let holder = Holder::Ordering(name.clone());
        holder_removal::delete_retained(context, &namespace, &name, &holder)
            .await
            .map_err(report::apply_error)?;
    }
    context.applier.set_finalizer(object, FINALIZER, false).await?;
    Ok(true)
}

/// What keeps a network that is being deleted.
pub fn held_by(context: &Context, object: &LedgerNetwork) -> Option<String> {
    let is_ending = object.metadata.deletion_timestamp.is_some();
    if !is_ending || is_set(object, annotation::FORCE_DELETE) {
        return None;
    }
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let channels = select(&context.stores.channels, &namespace, |one: &crate::api::Channel| {
        one.spec.network_ref == name && one.metadata.deletion_timestamp.is_none()
    });
    let names: Vec<String> = channels.iter().map(|one| one.name_any()).collect();
    let force = annotation::FORCE_DELETE;
    (!names.is_empty()).then(|| {
        format!(
            "is to be deleted and still has channels ({}): delete them, or annotate it with \
             {force}=true",
            names.join(", ")
        )
    })
}
