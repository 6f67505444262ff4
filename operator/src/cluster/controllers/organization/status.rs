//! What an organization's status says.

use std::time::Duration;

use super::{Done, QUIET, SOON};
use crate::api::{Organization, OrganizationStatus};
use crate::cluster::conditions::Finding;
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::holder::HolderPlan;
use crate::cluster::controllers::report::{self, Report};
use crate::cluster::names::service_host;
use crate::cluster::topology::NodeKind;

/// Everything that is known, in the status's words.
pub(super) fn report(
    context: &Context,
    organization: &Organization,
    plan: &HolderPlan,
    done: Done,
) -> Report<OrganizationStatus> {
    let nodes = &done.nodes;
    let parts: Vec<Finding> = [
        Some(report::certificates(&done.identities)),
        Some(report::nodes(NodeKind::Peer, nodes, plan.hibernated)),
        report::progress(nodes),
    ]
    .into_iter()
    .flatten()
    .collect();
    let all_well = parts.iter().all(|part| part.status == Some(true));
    // One that sleeps wakes by its annotation, which is watched.
    let calm = if all_well || plan.hibernated { QUIET } else { SOON };
    Report {
        status: OrganizationStatus {
            peers: Some(format!("{}/{}", nodes.ready, nodes.wanted)),
            soonest_expiry: done.identities.soonest.map(report::rfc3339),
            ca_fingerprint: done.ready.recorded.identity.clone(),
            tls_ca_fingerprint: done.ready.recorded.tls.clone(),
            endpoints: endpoints(plan),
            ..organization.status.clone().unwrap_or_default()
        },
        parts,
        ready: ready_sentence(nodes.wanted),
        notes: [done.ready.notes, done.identities.notes, done.notes].concat(),
        again: again(context, done.identities.renew_at, calm),
    }
}

fn ready_sentence(peers: u32) -> String {
    match peers {
        0 => "has no peers of its own".to_owned(),
        1 => "1 peer serves".to_owned(),
        more => format!("{more} peers serve"),
    }
}

fn endpoints(plan: &HolderPlan) -> std::collections::BTreeMap<String, String> {
    let mut endpoints: std::collections::BTreeMap<String, String> =
        plan.nodes.iter().map(|node| (node.name.clone(), node.address())).collect();
    if !plan.nodes.is_empty() {
        let host = service_host(&plan.holder.group(), &plan.namespace);
        let port = NodeKind::Peer.grpc_port();
        endpoints.insert("clients".to_owned(), format!("{host}:{port}"));
    }
    endpoints
}

/// No later than the next renewal.
fn again(context: &Context, renew_at: Option<weft_types::Timestamp>, calm: Duration) -> Duration {
    report::until(context.now(), renew_at).map_or(calm, |renewal| renewal.min(calm))
}
