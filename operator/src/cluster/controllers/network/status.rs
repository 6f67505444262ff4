//! What a network's status says: its ordering service, and everything that is in it.

use std::sync::Arc;

use kube::ResourceExt;

use super::{Done, QUIET, SOON, channels_of, notes, removal, status_of};
use crate::api::{Channel, LedgerNetwork, LedgerNetworkStatus};
use crate::cluster::conditions::{self, Finding, kind};
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::holder::HolderPlan;
use crate::cluster::controllers::report::{self, Managed, Report};
use crate::cluster::controllers::scene::Scene;
use crate::cluster::controllers::stores::select;
use crate::cluster::topology::NodeKind;
use crate::words::counted;

/// Everything that is known, in the status's words.
pub(super) fn report(
    context: &Context,
    object: &LedgerNetwork,
    scene: &Scene,
    plan: &HolderPlan,
    done: Done,
) -> Report<LedgerNetworkStatus> {
    let namespace = &scene.namespace;
    let organizations = select(&context.stores.organizations, namespace, |one| {
        one.spec.network_ref == plan.network
    });
    let channels = channels_of(context, scene, &plan.network);
    let is_here = |name: &str| channels.iter().any(|channel| channel.name_any() == name);
    let chaincodes =
        select(&context.stores.chaincodes, namespace, |one| is_here(&one.spec.channel_ref));
    let mut parts = vec![
        report::certificates(&done.identities),
        report::nodes(NodeKind::Orderer, &done.nodes, plan.hibernated),
        members(kind::PEERS, "organizations", &organizations),
        members(kind::CHANNELS, "channels", &channels),
        config(&channels),
        members(kind::CHAINCODES, "chaincodes", &chaincodes),
    ];
    parts.extend(progress(context, object, &done));
    let all_well = parts.iter().all(|part| part.status == Some(true));
    let again = report::until(context.now(), done.identities.renew_at);
    // One that sleeps wakes by its annotation, which is watched.
    let calm = if all_well || plan.hibernated { QUIET } else { SOON };
    let ready = format!(
        "{}, {}, {} and {} are ready",
        counted(done.nodes.wanted as usize, "orderer"),
        counted(organizations.len(), "organization"),
        counted(channels.len(), "channel"),
        counted(chaincodes.len(), "chaincode")
    );
    let (leader, term) = leader(&channels);
    Report {
        status: LedgerNetworkStatus {
            orderers: Some(format!("{}/{}", done.nodes.ready, done.nodes.wanted)),
            organizations: u32::try_from(organizations.len()).ok(),
            channels: u32::try_from(channels.len()).ok(),
            leader,
            term,
            endpoints: plan.nodes.iter().map(|node| (node.name.clone(), node.address())).collect(),
            soonest_expiry: done.identities.soonest.map(report::rfc3339),
            ca_fingerprint: done.ready.recorded.identity.clone(),
            tls_ca_fingerprint: done.ready.recorded.tls.clone(),
            ..status_of(object)
        },
        parts,
        ready,
        notes: notes(&done),
        again: again.map_or(calm, |renewal| renewal.min(calm)),
    }
}

/// Whether all objects of a kind in the network are ready; the first that is not says why.
fn members<K: Managed>(kind: &'static str, word: &str, objects: &[Arc<K>]) -> Finding {
    let ready = |one: &Arc<K>| {
        let status = one.status().cloned().unwrap_or_default();
        conditions::is_true(K::conditions(&status), kind::READY)
    };
    let total = objects.len();
    let count = objects.iter().filter(|one| ready(one)).count();
    let text = format!("{count} of {total} {word} are ready");
    let Some(first) = objects.iter().find(|one| !ready(one)) else {
        return Finding::yes(kind, "Ready", text);
    };
    let status = first.status().cloned().unwrap_or_default();
    let conditions = K::conditions(&status);
    let why = conditions.iter().find(|one| one.type_ == kind::READY);
    let why = why.map_or("is new", |one| one.message.as_str());
    Finding::no(kind, "NotReady", format!("{text}; {}: {why}", first.name_any()))
}

/// Whether every channel's config is what its spec says.
fn config(channels: &[Arc<Channel>]) -> Finding {
    let in_sync = |one: &&Arc<Channel>| {
        one.status
            .as_ref()
            .is_some_and(|status| conditions::is_true(&status.conditions, kind::CONFIG))
    };
    match channels.iter().find(|one| !in_sync(one)) {
        None => {
            Finding::yes(kind::CONFIG, "InSync", "every channel's config is what its spec says")
        }
        Some(channel) => Finding::no(
            kind::CONFIG,
            "OutOfSync",
            format!("the config of channel {} is not what its spec says", channel.name_any()),
        ),
    }
}

fn progress(context: &Context, object: &LedgerNetwork, done: &Done) -> Option<Finding> {
    if let Some(text) = removal::held_by(context, object) {
        return Some(Finding::no(kind::PROGRESSING, "HoldsChannels", text));
    }
    let waits = |text: &String| Finding {
        kind: kind::PROGRESSING,
        status: None,
        reason: "ScalingDown",
        message: text.clone(),
    };
    done.removal.waiting.as_ref().map(waits).or_else(|| report::progress(&done.nodes))
}

/// Of the first channel that has one: the channels of a network mostly share it.
fn leader(channels: &[Arc<Channel>]) -> (Option<String>, Option<u64>) {
    let status = |channel: &Arc<Channel>| {
        let status = channel.status.as_ref()?;
        Some((status.leader.clone()?, status.term))
    };
    match channels.iter().find_map(status) {
        Some((leader, term)) => (Some(leader), term),
        None => (None, None),
    }
}
