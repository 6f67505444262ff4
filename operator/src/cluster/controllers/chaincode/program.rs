//! The program of a contract: its objects, and those of the versions before.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;

use super::Subject;
use crate::cluster::conditions::{Finding, kind};
use crate::cluster::controllers::context::Context;
use crate::cluster::controllers::error::ReconcileError;
use crate::cluster::controllers::holder::HolderError;
use crate::cluster::controllers::report;
use crate::cluster::controllers::stores::{find, label_of, select};
use crate::cluster::names::label;
use crate::cluster::resources::chaincode as build;
use crate::model;

/// The program that runs here.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of its Deployment and Service.
    pub name: String,
    /// Whether a pod of it serves.
    pub serves: bool,
}

/// `host:port` at which peers reach the contract; empty for one that registers with them.
///
/// # Errors
/// A program of a machine has no place in a cluster.
pub fn address(subject: &Subject<'_>) -> Result<String, Finding> {
    match &subject.model.program {
        model::Program::Address(address) => Ok(address.clone()),
        model::Program::Registers => Ok(String::new()),
        model::Program::Image(image) => Ok(describe(subject, image, String::new()).address()),
        model::Program::Command(_) => Err(report::invalid(
            "spec.command: a cluster runs contracts from images: set spec.image, or spec.address \
             where the contract already listens",
        )),
    }
}

/// Makes the program's objects; nothing for one that runs elsewhere.
///
/// # Errors
/// [`ReconcileError`].
pub async fn ensure(
    context: &Context,
    subject: &Subject<'_>,
    package_id: &str,
) -> Result<Result<Option<Program>, Finding>, ReconcileError> {
    let model::Program::Image(image) = &subject.model.program else { return Ok(Ok(None)) };
    if let Some(finding) = keys_of_ours(context, subject).or_else(|| moved(context, subject)) {
        return Ok(Err(finding));
    }
    let program = describe(subject, image, package_id.to_owned());
    let owner = report::owner(subject.object);
    let stores = &context.stores;
    let (namespace, name) = (&program.namespace, program.name());
    let service = build::service(&program, &owner);
    let live = find(&stores.services, namespace, &name);
    context.applier.apply(&service, live.as_deref()).await?;
    let policy = build::policy(&program, &owner);
    let live = find(&stores.policies, namespace, &name);
    context.applier.apply(&policy, live.as_deref()).await?;
    let deployment = build::deployment(&program, &owner)
        .map_err(|error| ReconcileError::Holder(HolderError::Resource(error)))?;
    let live = find(&stores.deployments, namespace, &name);
    context.applier.apply(&deployment, live.as_deref()).await?;
    Ok(Ok(Some(Program { serves: live.as_deref().is_some_and(serves), name })))
}

/// A program that was made for another channel: an API server before 1.25 does not refuse the
/// change itself.
fn moved(context: &Context, subject: &Subject<'_>) -> Option<Finding> {
    let (chaincode, channel) = (subject.object.name_any(), &subject.object.spec.channel_ref);
    let made = select(&context.stores.deployments, &subject.scene.namespace, |one: &Deployment| {
        label_of(one, label::CHAINCODE) == Some(&chaincode)
            && label_of(one, label::CHANNEL) != Some(channel)
    });
    let was = label_of(made.first()?.as_ref(), label::CHANNEL).unwrap_or_default().to_owned();
    Some(report::invalid(format!(
        "spec.channelRef: a chaincode cannot move to another channel: it was made for {was}"
    )))
}

/// A contract's environment may hold the user's Secrets, and never the network's own: whoever may
/// write a `Chaincode` would have every key.
fn keys_of_ours(context: &Context, subject: &Subject<'_>) -> Option<Finding> {
    let secrets = subject.object.spec.env.iter().filter_map(|variable| {
        let reference = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
        Some((variable.name.as_str(), reference.name.as_str()))
    });
    secrets.into_iter().find_map(|(variable, secret)| {
        find(&context.stores.secrets, &subject.scene.namespace, secret)?;
        let text = format!(
            "spec.env: {variable} is taken from Secret {secret}, which holds keys of the network"
        );
        Some(report::invalid(text))
    })
}

fn describe(subject: &Subject<'_>, image: &str, package_id: String) -> build::Program {
    let spec = &subject.object.spec;
    build::Program {
        chaincode: subject.object.name_any(),
        contract: subject.model.name.clone(),
        version: subject.model.version.clone(),
        namespace: subject.scene.namespace.clone(),
        network: subject.network.name.clone(),
        channel: spec.channel_ref.clone(),
        image: image.to_owned(),
        env: spec.env.clone(),
        resources: spec.resources.clone(),
        package_id,
        replicas: if subject.scene.is_hibernated() { 0 } else { 1 },
        organizations: subject.members.organizations.clone(),
    }
}

fn serves(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    status.observed_generation == deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) > 0
        && status.available_replicas.unwrap_or(0) > 0
}

/// The finding on a program; `None` for one that runs elsewhere.
pub fn finding(program: Option<&Program>) -> Option<Finding> {
    let program = program?;
    Some(if program.serves {
        Finding::yes(kind::PROGRAM, "Serving", format!("{} serves", program.name))
    } else {
        Finding::no(kind::PROGRAM, "Starting", format!("{} does not serve yet", program.name))
    })
}

/// Removes the programs of versions before: no peer calls them any more.
///
/// # Errors
/// [`ReconcileError`].
pub async fn remove_others(
    context: &Context,
    subject: &Subject<'_>,
    current: Option<&Program>,
) -> Result<(), ReconcileError> {
    let namespace = &subject.scene.namespace;
    let chaincode = subject.object.name_any();
    let deployments = select(&context.stores.deployments, namespace, |one: &Deployment| {
        label_of(one, label::CHAINCODE) == Some(&chaincode)
    });
    for deployment in deployments {
        let name = deployment.name_any();
        if current.is_some_and(|current| current.name == name) {
            continue;
        }
        context.applier.delete::<Deployment>(namespace, &name).await?;
        context.applier.delete::<Service>(namespace, &name).await?;
        context.applier.delete::<NetworkPolicy>(namespace, &name).await?;
    }
    Ok(())
}
