//! `Chaincode`: the program, its package, and the definition on the channel.

mod program;
mod status;

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource, ResourceExt};

use super::context::Context;
use super::error::ReconcileError;
use super::reach;
use super::report::{self, Report};
use super::scene::Scene;
use super::stores::{find, is_set};
use crate::api::{Chaincode, ChaincodeStatus, Channel};
use crate::cluster::conditions::{self, Finding, kind};
use crate::cluster::ledger::chaincode::{self as ledger, ChaincodeInput, ChaincodeOutcome};
use crate::cluster::ledger::{LedgerError, NodeRef};
use crate::cluster::names::annotation;
use crate::cluster::topology::Node;
use crate::model::{self, Network};
use program::Program;

/// When a chaincode that is in order is looked at again.
const QUIET: Duration = Duration::from_secs(60);
/// When one is looked at again that waits for nodes.
const SOON: Duration = Duration::from_millis(500);
/// When one is looked at again whose spec has to change, or that waits for other objects.
const LATE: Duration = Duration::from_secs(60);

/// Brings a chaincode to what its spec says.
///
/// # Errors
/// [`ReconcileError`] when the API server did not do its part.
pub async fn reconcile(
    context: &Context,
    object: &Arc<Chaincode>,
) -> Result<Duration, ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    if object.meta().deletion_timestamp.is_some() {
        return Ok(LATE);
    }
    let name = object.name_any();
    let Some(channel) = find(&context.stores.channels, &namespace, &object.spec.channel_ref) else {
        let text = format!("there is no Channel {:?}", object.spec.channel_ref);
        return hold(context, object, report::waiting(text)).await;
    };
    let scene = Scene::of_network(&context.stores, &namespace, &channel.spec.network_ref);
    if is_set(object.as_ref(), annotation::PAUSED) || scene.is_paused() {
        return hold(context, object, report::paused()).await;
    }
    if let Some(finding) = report::problem(&scene.problems_of("Chaincode", &name)) {
        return hold(context, object, finding).await;
    }
    let Some((network, members, model)) = scene.chaincode(object) else {
        let text = format!("Channel {:?} is not valid", object.spec.channel_ref);
        return hold(context, object, report::waiting(text)).await;
    };
    let subject = Subject { object, channel: &channel, scene: &scene, network, members, model };
    let report = match carry_out(context, &subject).await? {
        Ok(done) => status::report(object, done),
        Err(finding) => Report::held(status_of(object), finding, LATE),
    };
    Ok(report::conclude(context, object.as_ref(), report).await?)
}

fn status_of(object: &Chaincode) -> ChaincodeStatus {
    object.status.clone().unwrap_or_default()
}

async fn hold(
    context: &Context,
    object: &Chaincode,
    finding: Finding,
) -> Result<Duration, ReconcileError> {
    let report = Report::held(status_of(object), finding, LATE);
    Ok(report::conclude(context, object, report).await?)
}

/// A chaincode with everything around it.
struct Subject<'a> {
    object: &'a Chaincode,
    channel: &'a Channel,
    scene: &'a Scene,
    network: &'a Network,
    members: &'a model::Channel,
    model: &'a model::Chaincode,
}

/// What was found and done.
struct Done {
    program: Option<Program>,
    package_id: String,
    ledger: Result<ChaincodeOutcome, Finding>,
}

/// The finding says what is waited for, or what cannot be done.
async fn carry_out(
    context: &Context,
    subject: &Subject<'_>,
) -> Result<Result<Done, Finding>, ReconcileError> {
    let address = match program::address(subject) {
        Ok(address) => address,
        Err(finding) => return Ok(Err(finding)),
    };
    let package = match ledger::package(subject.model, &address) {
        Ok(package) => package,
        Err(error) => return Ok(Err(report::invalid(crate::cli::report(&error)))),
    };
    let program = match program::ensure(context, subject, &package.id).await? {
        Ok(program) => program,
        Err(finding) => return Ok(Err(finding)),
    };
    let ledger = match hindrance(subject, program.as_ref()) {
        Some(finding) => Err(finding),
        None => converge(context, subject, &package).await,
    };
    let is_ready =
        |outcome: &ChaincodeOutcome| matches!(outcome.state, ledger::ChaincodeState::Ready);
    if ledger.as_ref().is_ok_and(is_ready) {
        program::remove_others(context, subject, program.as_ref()).await?;
    }
    Ok(Ok(Done { program, package_id: package.id, ledger }))
}

/// Why the ledger is not to be asked yet. The old program serves until the new one does.
fn hindrance(subject: &Subject<'_>, program: Option<&Program>) -> Option<Finding> {
    if subject.scene.is_hibernated() {
        return Some(Finding::no(kind::COMMITTED, "Hibernated", "the network hibernates"));
    }
    if program.is_some_and(|program| !program.serves) {
        return Some(Finding::no(kind::COMMITTED, "Waiting", "waits for the program to serve"));
    }
    let status = subject.channel.status.clone().unwrap_or_default();
    let ready = conditions::is_true(&status.conditions, kind::READY)
        || conditions::is_true(&status.conditions, kind::PEERS);
    (!ready).then(|| {
        let text = format!("waits for channel {}", subject.channel.name_any());
        Finding::no(kind::COMMITTED, "Waiting", text)
    })
}

async fn converge(
    context: &Context,
    subject: &Subject<'_>,
    package: &ledger::PackageFile,
) -> Result<ChaincodeOutcome, Finding> {
    let Subject { scene, network, members, model, .. } = *subject;
    let access = reach::access(context, scene, network);
    let refs = |nodes: &[Node]| -> Vec<NodeRef> {
        nodes.iter().map(|node| reach::node_ref(context, node)).collect()
    };
    let msp_ids: Vec<_> = network
        .organizations
        .iter()
        .filter(|one| members.organizations.contains(&one.name))
        .map(|one| one.msp_id.clone())
        .collect();
    let input = ChaincodeInput {
        channel: &members.id,
        chaincode: model,
        package,
        peers: &refs(&reach::peers(scene, network, &members.organizations)),
        members: &msp_ids,
        orderers: &refs(&reach::orderers(context, scene, network).wanted),
    };
    ledger::converge(&access, &input).await.map_err(|error| {
        let reason = match error {
            // What the spec asks for is not to be had; no node is at fault.
            LedgerError::Chaincode { .. } => "InvalidSpec",
            _ => "NodesUnreachable",
        };
        Finding::no(kind::COMMITTED, reason, crate::cli::report(&error))
    })
}
