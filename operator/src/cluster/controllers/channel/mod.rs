//! `Channel`: genesis block, joins, and the config on the ledger.

mod genesis;
mod signatures;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kube::{Resource, ResourceExt};
use weft_config::{AnchorPeer, Endpoint};

use super::context::Context;
use super::error::ReconcileError;
use super::msps::{self, MspUnusable};
use super::reach::{self, Orderers};
use super::report::{self, Report};
use super::scene::Scene;
use super::stores::is_set;
use crate::api::{Channel, ChannelStatus, DeletionPolicy};
use crate::channel_config::{DesiredChannel, DesiredMember, DesiredOrderer};
use crate::cluster::conditions::{Finding, kind};
use crate::cluster::events::Note;
use crate::cluster::ledger::channel::{self as ledger, ChannelInput, ChannelOutcome};
use crate::cluster::ledger::{Access, NodeRef};
use crate::cluster::names::{FINALIZER, Holder, annotation};
use crate::cluster::topology::Node;
use crate::model::{self, Network};

/// When a channel that is in order is looked at again: its nodes are asked for their heights.
const QUIET: Duration = Duration::from_secs(10);
/// When one is looked at again that waits for nodes.
const SOON: Duration = Duration::from_millis(500);
/// When one is looked at again whose spec has to change.
const LATE: Duration = Duration::from_secs(60);

/// Brings a channel to what its spec says.
///
/// # Errors
/// [`ReconcileError`] when the API server did not do its part.
pub async fn reconcile(
    context: &Context,
    object: &Arc<Channel>,
) -> Result<Duration, ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let scene = Scene::of_network(&context.stores, &namespace, &object.spec.network_ref);
    if is_set(object.as_ref(), annotation::PAUSED) || scene.is_paused() {
        return hold(context, object, report::paused(), LATE).await;
    }
    if object.meta().deletion_timestamp.is_some() {
        return end(context, object, &scene).await;
    }
    let wanted = object.spec.deletion_policy == DeletionPolicy::Delete;
    context.applier.set_finalizer(object.as_ref(), FINALIZER, wanted).await?;
    let name = object.name_any();
    if let Some(finding) = report::problem(&scene.problems_of("Channel", &name)) {
        return hold(context, object, finding, LATE).await;
    }
    let network = scene.network.as_ref();
    let model =
        network.and_then(|network| network.channels.iter().find(|one| *one.id.as_str() == name));
    let (Some(network), Some(model)) = (network, model) else {
        let text = format!("LedgerNetwork {:?} is not valid", object.spec.network_ref);
        return hold(context, object, report::waiting(text), LATE).await;
    };
    if scene.is_hibernated() {
        let finding = Finding::no(kind::PROGRESSING, "Hibernated", "the network hibernates");
        return hold(context, object, finding, LATE).await;
    }
    let report = match converge(context, object, &scene, network, model).await? {
        Ok(done) => status::report(context, object, done),
        Err(finding) => Report::held(status_of(object), finding, SOON),
    };
    Ok(report::conclude(context, object.as_ref(), report).await?)
}

fn status_of(object: &Channel) -> ChannelStatus {
    object.status.clone().unwrap_or_default()
}

async fn hold(
    context: &Context,
    object: &Channel,
    finding: Finding,
    again: Duration,
) -> Result<Duration, ReconcileError> {
    let report = Report::held(status_of(object), finding, again);
    Ok(report::conclude(context, object, report).await?)
}

/// What was found and done on the ledger.
struct Done {
    outcome: ChannelOutcome,
    genesis_hash: String,
    /// The TLS certificate of each wanted orderer: what the config pins once it is in sync.
    certificates: BTreeMap<String, String>,
    notes: Vec<Note>,
}

/// The finding says what is waited for.
async fn converge(
    context: &Context,
    object: &Channel,
    scene: &Scene,
    network: &Network,
    model: &model::Channel,
) -> Result<Result<Done, Finding>, ReconcileError> {
    let orderers = reach::orderers(context, scene, network);
    let desired = match desired(context, scene, network, model, &orderers).await? {
        Ok(desired) => desired,
        Err(finding) => return Ok(Err(finding)),
    };
    let nodes = Nodes::new(context, scene, network, model, &orderers);
    let access = reach::access(context, scene, network);
    let ordering = Holder::Ordering(network.name.clone()).name();
    let place =
        genesis::Place { object, network: &network.name, access: &access, ordering: &ordering };
    let made = match genesis::ensure(context, &place, &desired, &nodes.orderers).await? {
        Ok(made) => made,
        Err(finding) => return Ok(Err(finding)),
    };
    let signatures = signatures::supplied(context, object).await?;
    let signers = signers(&access, network, model, &ordering);
    let input = ChannelInput {
        desired: &desired,
        genesis: &made.block,
        orderers: &nodes.orderers,
        peers: &nodes.peers,
        ordering: &ordering,
        signers: &signers,
        signatures: &signatures,
        known_height: known_height(object),
        never_begun: never_begun(object, &made),
    };
    let outcome = match ledger::converge(&access, &input).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let text = crate::cli::report(&error);
            return Ok(Err(Finding::no(kind::CONFIG, "OrderersUnreachable", text)));
        }
    };
    signatures::publish(context, object, &outcome.config).await?;
    let certificates = reach::tls_certificates(context, &orderers.wanted);
    let fingerprints = certificates
        .iter()
        .map(|(name, certificate)| (name.clone(), crate::pki::fingerprint(certificate)));
    Ok(Ok(Done {
        outcome,
        genesis_hash: made.hash,
        certificates: fingerprints.collect(),
        notes: made.note.into_iter().collect(),
    }))
}

/// The running nodes of a channel.
struct Nodes {
    orderers: Vec<NodeRef>,
    peers: Vec<NodeRef>,
}

impl Nodes {
    fn new(
        context: &Context,
        scene: &Scene,
        network: &Network,
        model: &model::Channel,
        orderers: &Orderers,
    ) -> Nodes {
        let refs = |nodes: &[Node]| -> Vec<NodeRef> {
            nodes.iter().map(|node| reach::node_ref(context, node)).collect()
        };
        Nodes {
            orderers: [refs(&orderers.wanted), refs(&orderers.surplus)].concat(),
            peers: refs(&reach::peers(scene, network, &model.organizations)),
        }
    }
}

/// Holders whose administrators sign here.
fn signers(
    access: &Access,
    network: &Network,
    model: &model::Channel,
    ordering: &str,
) -> Vec<String> {
    let members =
        network.organizations.iter().filter(|one| model.organizations.contains(&one.name));
    let names = members.map(|one| Holder::Organization(one.name.clone()).name());
    let all = std::iter::once(ordering.to_owned()).chain(names);
    all.filter(|name| access.admin(name).is_some()).collect()
}

/// The greatest height that was ever reported: a channel that had blocks is never begun anew.
fn known_height(object: &Channel) -> u64 {
    let status = status_of(object);
    let heights = status.orderer_heights.into_values().chain(status.peer_heights.into_values());
    heights.chain(status.height).max().unwrap_or(0)
}

/// Whether the channel has its genesis block from us, and was never seen at a node since. A genesis
/// block that was there before this object, as in a namespace that was restored, says nothing.
fn never_begun(object: &Channel, genesis: &genesis::Genesis) -> bool {
    let recorded = status_of(object).genesis_hash.is_some();
    known_height(object) == 0 && (recorded || genesis.is_new)
}

/// The channel as it should be; the finding says what is not there yet.
async fn desired(
    context: &Context,
    scene: &Scene,
    network: &Network,
    model: &model::Channel,
    orderers: &Orderers,
) -> Result<Result<DesiredChannel, Finding>, ReconcileError> {
    let namespace = &scene.namespace;
    let waits = |error: &MspUnusable| report::waiting(error.to_string());
    let ordering = &network.ordering;
    let holder = Holder::Ordering(network.name.clone());
    let orderer_msp = match msps::of_holder(context, namespace, &holder, &ordering.msp_id) {
        Ok(msp) => msp,
        Err(error) => return Ok(Err(waits(&error))),
    };
    let certificates = reach::tls_certificates(context, &orderers.wanted);
    let mut consenters = Vec::new();
    for node in &orderers.wanted {
        let Some(certificate) = certificates.get(&node.name) else {
            let text = format!("{} has no certificate yet", node.name);
            return Ok(Err(report::waiting(text)));
        };
        consenters.push(DesiredOrderer {
            endpoint: Endpoint::new(node.host(), node.kind.grpc_port()),
            tls_cert: Bytes::from(certificate.pem().into_bytes()),
        });
    }
    let mut members = BTreeMap::new();
    for name in &model.organizations {
        let Some(organization) = network.organization(name) else { continue };
        match member(context, scene, network, organization).await? {
            Ok(member) => members.insert(organization.msp_id.clone(), member),
            Err(error) => return Ok(Err(waits(&error))),
        };
    }
    Ok(Ok(DesiredChannel {
        id: model.id.clone(),
        consensus: ordering.consensus,
        raft: ordering.raft,
        orderer_msp_id: ordering.msp_id.clone(),
        orderer_msp,
        orderers: consenters,
        batch: model.batch,
        members,
        policies: model.policies.clone(),
        acls: model.acls.clone(),
    }))
}

async fn member(
    context: &Context,
    scene: &Scene,
    network: &Network,
    organization: &model::Organization,
) -> Result<Result<DesiredMember, MspUnusable>, ReconcileError> {
    let namespace = &scene.namespace;
    let msp = match &organization.external {
        Some(_) => msps::of_external(context, namespace, organization).await?,
        None => {
            let holder = Holder::Organization(organization.name.clone());
            msps::of_holder(context, namespace, &holder, &organization.msp_id)
        }
    };
    let names = [organization.name.clone()];
    let own = reach::peers(scene, network, &names);
    let own = own
        .iter()
        .map(|node| AnchorPeer { host: node.host(), port: i32::from(node.kind.grpc_port()) });
    let external = organization.external.iter().flat_map(|one| &one.anchor_peers);
    let external = external.filter_map(|address| {
        let (host, port) = address.rsplit_once(':')?;
        Some(AnchorPeer { host: host.to_owned(), port: port.parse().ok()? })
    });
    let anchor_peers = own.chain(external).collect();
    Ok(msp.map(|msp| DesiredMember { msp, anchor_peers }))
}

/// With the policy `Delete` the orderers let the ledger go, and the genesis block is deleted.
/// Peers keep theirs until their volumes go: Fabric's peers cannot leave a channel. An orderer
/// that is not there has nothing that could be waited for.
async fn end(
    context: &Context,
    object: &Channel,
    scene: &Scene,
) -> Result<Duration, ReconcileError> {
    if !object.finalizers().iter().any(|one| one == FINALIZER) {
        return Ok(LATE);
    }
    if object.spec.deletion_policy == DeletionPolicy::Delete {
        if let (Some(network), false) = (&scene.network, scene.is_ending()) {
            leave(context, object, scene, network).await;
        }
        genesis::delete(context, object).await?;
    }
    context.applier.set_finalizer(object, FINALIZER, false).await?;
    Ok(LATE)
}

async fn leave(context: &Context, object: &Channel, scene: &Scene, network: &Network) {
    let Ok(id) = weft_types::ChannelId::new(&object.name_any()) else { return };
    let access = reach::access(context, scene, network);
    let orderers = reach::orderers(context, scene, network);
    let refs: Vec<NodeRef> =
        orderers.wanted.iter().map(|node| reach::node_ref(context, node)).collect();
    let leaving = refs.iter().map(|node| ledger::leave(&access, node, &id));
    for (node, left) in refs.iter().zip(futures::future::join_all(leaving).await) {
        if let Err(error) = left {
            let error = crate::cli::report(&error);
            tracing::warn!(node = node.name, channel = %id, %error, "failed to leave the channel");
        }
    }
}
