//! `Organization`: authorities, identities and peers.

mod contracts;
mod status;

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource, ResourceExt};

use super::context::Context;
use super::error::ReconcileError;
use super::holder::authorities::{self, Ready};
use super::holder::identities::{self, Turn};
use super::holder::nodes::{self, Ledger, Nodes};
use super::holder::{HolderError, HolderPlan, Recorded, removal};
use super::report::{self, Report};
use super::scene::Scene;
use super::stores::is_set;
use crate::api::{DeletionPolicy, Organization, OrganizationStatus};
use crate::cluster::conditions::{Finding, kind};
use crate::cluster::events::Note;
use crate::cluster::names::{FINALIZER, Holder, annotation};
use crate::cluster::topology::Node;
use crate::model;

/// When a ready organization is looked at again although nothing happened.
const QUIET: Duration = Duration::from_secs(300);
/// When one is looked at again that waits for something that no watch shows.
const SOON: Duration = Duration::from_secs(5);

/// Brings an organization to what its spec says.
///
/// # Errors
/// [`ReconcileError`] when the API server did not do its part.
pub async fn reconcile(
    context: &Context,
    organization: &Arc<Organization>,
) -> Result<Duration, ReconcileError> {
    let namespace = organization.namespace().unwrap_or_default();
    let scene = Scene::of_network(&context.stores, &namespace, &organization.spec.network_ref);
    if is_set(organization.as_ref(), annotation::PAUSED) || scene.is_paused() {
        return hold(context, organization, report::paused()).await;
    }
    if organization.meta().deletion_timestamp.is_some() {
        return end(context, organization).await;
    }
    ensure_finalizer(context, organization).await?;
    let name = organization.name_any();
    if let Some(finding) = report::problem(&scene.problems_of("Organization", &name)) {
        return hold(context, organization, finding).await;
    }
    let model = scene.network.as_ref().and_then(|network| network.organization(&name));
    let Some(model) = model else {
        let text = format!("LedgerNetwork {:?} is not valid", organization.spec.network_ref);
        return hold(context, organization, report::waiting(text)).await;
    };
    let report = if model.external.is_some() {
        external(context, organization, model).await?
    } else {
        managed(context, organization, model, &scene).await?
    };
    Ok(report::conclude(context, organization.as_ref(), report).await?)
}

async fn hold(
    context: &Context,
    organization: &Organization,
    finding: Finding,
) -> Result<Duration, ReconcileError> {
    let status = organization.status.clone().unwrap_or_default();
    let report = Report::held(status, finding, QUIET);
    Ok(report::conclude(context, organization, report).await?)
}

/// An organization that runs elsewhere: its bundle has to make sense.
async fn external(
    context: &Context,
    organization: &Organization,
    model: &model::Organization,
) -> Result<Report<OrganizationStatus>, ReconcileError> {
    let namespace = organization.namespace().unwrap_or_default();
    let found = super::msps::of_external(context, &namespace, model).await?;
    let part = match found {
        Ok(_) => Finding::yes(kind::CERTIFICATES, "BundleRead", "the public bundle was read"),
        Err(error) => Finding::no(kind::CERTIFICATES, "BundleUnusable", error.to_string()),
    };
    let mut status = organization.status.clone().unwrap_or_default();
    status.peers = Some("external".to_owned());
    Ok(Report {
        status,
        parts: vec![part],
        ready: "takes part from elsewhere".to_owned(),
        notes: Vec::new(),
        again: SOON * 12,
    })
}

async fn managed(
    context: &Context,
    organization: &Organization,
    model: &model::Organization,
    scene: &Scene,
) -> Result<Report<OrganizationStatus>, ReconcileError> {
    let plan = plan(context, organization, model, scene);
    match carry_out(context, &plan).await {
        Ok(done) => Ok(status::report(context, organization, &plan, done)),
        Err(HolderError::Apply(error)) if error.can_retry() => Err(error.into()),
        Err(error) => {
            let status = organization.status.clone().unwrap_or_default();
            Ok(Report::held(status, report::of_holder(&error), SOON * 6))
        }
    }
}

/// What was done for an organization.
#[derive(Debug)]
pub(super) struct Done {
    ready: Ready,
    identities: identities::Identities,
    nodes: Nodes,
    notes: Vec<Note>,
}

fn plan(
    context: &Context,
    organization: &Organization,
    model: &model::Organization,
    scene: &Scene,
) -> HolderPlan {
    let network = organization.spec.network_ref.clone();
    let namespace = scene.namespace.clone();
    let node = |index| Node::peer(&network, model, &namespace, index);
    let status = organization.status.clone().unwrap_or_default();
    HolderPlan {
        holder: Holder::Organization(model.name.clone()),
        msp_id: model.msp_id.clone(),
        certificates: model.certificates,
        ca: model.ca.clone(),
        users: model.users.clone(),
        contracts: contracts::of_member(&context.stores, scene, &model.name),
        nodes: (0..model.peers).map(node).collect(),
        owner: report::owner(organization),
        recorded: Recorded { identity: status.ca_fingerprint, tls: status.tls_ca_fingerprint },
        hibernated: scene.is_hibernated(),
        deletion: organization.spec.deletion_policy,
        namespace,
        network,
    }
}

/// Nothing is issued, and no node is touched, unless the authorities are the ones that they
/// were.
async fn carry_out(context: &Context, plan: &HolderPlan) -> Result<Done, HolderError> {
    let ready = authorities::ensure(context, plan).await?;
    let identities = identities::ensure(context, plan, &ready.authorities, Turn::Everybody).await?;
    removal::remove_users(context, plan).await?;
    removal::remove_contracts(context, plan).await?;
    let nodes = nodes::ensure(context, plan, async || Ledger::default()).await?;
    let mut notes = Vec::new();
    for index in removal::existing(context, &plan.namespace, &plan.network, &plan.holder) {
        let name = plan.holder.node(index);
        if !plan.nodes.iter().any(|node| node.name == name) {
            removal::remove_node(context, plan, &name).await?;
            notes.push(Note::normal("PeerRemoved", format!("removed {name}")));
        }
    }
    Ok(Done { ready, identities, nodes, notes })
}

/// Only the policy `Delete` has anything to do at the end: what has an owner goes with it.
async fn ensure_finalizer(
    context: &Context,
    organization: &Organization,
) -> Result<(), ReconcileError> {
    let wanted = organization.spec.deletion_policy == DeletionPolicy::Delete;
    context.applier.set_finalizer(organization, FINALIZER, wanted).await?;
    Ok(())
}

async fn end(context: &Context, organization: &Organization) -> Result<Duration, ReconcileError> {
    if organization.finalizers().iter().any(|one| one == FINALIZER) {
        if organization.spec.deletion_policy == DeletionPolicy::Delete {
            let namespace = organization.namespace().unwrap_or_default();
            let holder = Holder::Organization(organization.name_any());
            let network = &organization.spec.network_ref;
            let deleted = removal::delete_retained(context, &namespace, network, &holder).await;
            deleted.map_err(report::apply_error)?;
        }
        context.applier.set_finalizer(organization, FINALIZER, false).await?;
    }
    Ok(QUIET)
}
