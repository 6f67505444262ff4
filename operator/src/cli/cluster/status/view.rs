//! What `status` shows: made from objects and pods, and put into words. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;

use super::super::objects::{Objects, contract};
use super::super::pods;
use super::super::table::{Table, parse, span, when};
use crate::api::{Chaincode, Channel, ChannelStatus, Condition, LedgerNetwork, Organization};
use crate::cluster::conditions::kind;
use crate::cluster::names::{Holder, component};

/// A network and everything that names it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub network: String,
    /// `True`, `False` or `Unknown`.
    pub ready: String,
    /// One sentence for people.
    pub message: Option<String>,
    /// Orderers ready and wanted, as `3/3`.
    pub orderers: Option<String>,
    /// The node that leads.
    pub leader: Option<String>,
    /// Raft term.
    pub term: Option<u64>,
    /// Each node.
    pub nodes: Vec<NodeView>,
    /// Each member.
    pub organizations: Vec<OrganizationView>,
    /// Each channel.
    pub channels: Vec<ChannelView>,
    /// Each contract.
    pub chaincodes: Vec<ChaincodeView>,
    /// Conditions that are not `True`.
    pub problems: Vec<ProblemView>,
    /// When the first certificate ends, RFC 3339.
    pub soonest_expiry: Option<String>,
    /// Whose certificate that is.
    pub soonest_expiry_of: Option<String>,
}

/// A node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeView {
    /// Its name.
    pub name: String,
    /// `orderer` or `peer`.
    pub kind: &'static str,
    /// What its pod does or waits for; `no pod`, or `None` when pods could not be seen.
    pub state: Option<String>,
    /// How often it was started again.
    pub restarts: Option<i32>,
    /// Whether it leads the ordering service.
    pub leads: bool,
    /// Ledger by channel.
    pub ledgers: Vec<LedgerView>,
}

/// A ledger of a node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LedgerView {
    /// The channel.
    pub channel: String,
    /// Number of blocks; `None` when the node did not tell.
    pub height: Option<u64>,
    /// Blocks that the furthest node has and it has not.
    pub lag: Option<u64>,
}

/// A member.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrganizationView {
    /// Its name.
    pub name: String,
    /// Its MSP id.
    pub msp_id: String,
    /// Whether its nodes and keys are elsewhere.
    pub external: bool,
    /// Peers ready and wanted.
    pub peers: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub ready: String,
    /// When its first certificate ends, RFC 3339.
    pub soonest_expiry: Option<String>,
}

/// A channel.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChannelView {
    /// Its id.
    pub name: String,
    /// Names of its members.
    pub organizations: Vec<String>,
    /// Number of blocks of the furthest peer.
    pub height: Option<u64>,
    /// Sequence of its config.
    pub config_sequence: Option<u64>,
    /// Whether the config is what the spec says: `True`, `False` or `Unknown`.
    pub in_sync: String,
    /// `True`, `False` or `Unknown`.
    pub ready: String,
}

/// A contract on a channel.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChaincodeView {
    /// Its name on the channel.
    pub name: String,
    /// The channel.
    pub channel: String,
    /// Its version.
    pub version: String,
    /// Sequence of its committed definition.
    pub sequence: Option<i64>,
    /// MSP ids of the organizations that have approved.
    pub approved: Vec<String>,
    /// MSP ids of those that have not.
    pub unapproved: Vec<String>,
    /// `True`, `False` or `Unknown`.
    pub ready: String,
}

/// A condition that is not `True`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProblemView {
    /// Kind and name of the object.
    pub object: String,
    /// Type of the condition.
    pub condition: String,
    /// `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Since when, RFC 3339.
    pub since: Option<String>,
}

/// Each network of a namespace.
pub(super) fn networks(objects: &Objects, pods: &[Pod]) -> Vec<NetworkView> {
    objects.networks.iter().map(|network| view(network, objects, pods)).collect()
}

fn view(network: &LedgerNetwork, objects: &Objects, pods: &[Pod]) -> NetworkView {
    let name = network.name_any();
    let status = network.status.clone().unwrap_or_default();
    let parts = Parts::of(&name, objects);
    let soonest = soonest_expiry(&name, status.soonest_expiry.as_ref(), &parts.organizations);
    NetworkView {
        namespace: objects.namespace.clone(),
        ready: word(&status.conditions, kind::READY),
        nodes: nodes(network, &parts, status.leader.as_deref(), pods),
        organizations: parts.organizations.iter().map(|one| organization(one)).collect(),
        channels: parts.channels.iter().map(|one| channel(one)).collect(),
        chaincodes: parts.chaincodes.iter().map(|one| chaincode(one)).collect(),
        problems: problems(network, &parts, &status.conditions),
        message: status.message,
        orderers: status.orderers,
        leader: status.leader,
        term: status.term,
        soonest_expiry_of: soonest.as_ref().map(|(_, holder)| holder.clone()),
        soonest_expiry: soonest.map(|(end, _)| end),
        network: name,
    }
}

/// What names a network.
struct Parts<'a> {
    organizations: Vec<&'a Organization>,
    channels: Vec<&'a Channel>,
    chaincodes: Vec<&'a Chaincode>,
}

impl<'a> Parts<'a> {
    fn of(network: &str, objects: &'a Objects) -> Parts<'a> {
        let organizations = objects.organizations.iter();
        let channels = objects.channels.iter();
        let channels: Vec<&Channel> =
            channels.filter(|one| one.spec.network_ref == network).collect();
        let is_here = |one: &&Chaincode| {
            channels.iter().any(|channel| channel.name_any() == one.spec.channel_ref)
        };
        Parts {
            organizations: organizations.filter(|one| one.spec.network_ref == network).collect(),
            chaincodes: objects.chaincodes.iter().filter(is_here).collect(),
            channels,
        }
    }
}

fn nodes(
    network: &LedgerNetwork,
    parts: &Parts<'_>,
    leader: Option<&str>,
    pods: &[Pod],
) -> Vec<NodeView> {
    let ordering = Holder::Ordering(network.name_any());
    let orderers = (0..network.spec.ordering.replicas).map(|index| {
        let name = ordering.node(index);
        let leads = leader == Some(&name);
        let ledgers = orderer_ledgers(&name, &parts.channels);
        node(name, component::ORDERER, leads, ledgers, pods)
    });
    let peers = parts.organizations.iter().flat_map(|organization| {
        let holder = Holder::Organization(organization.name_any());
        (0..organization.spec.peers.replicas).map(move |index| {
            let name = holder.node(index);
            let ledgers = ledgers(&name, &organization.name_any(), &parts.channels);
            node(name, component::PEER, false, ledgers, pods)
        })
    });
    orderers.chain(peers).collect()
}

fn node(
    name: String,
    kind: &'static str,
    leads: bool,
    ledgers: Vec<LedgerView>,
    pods: &[Pod],
) -> NodeView {
    let pod = pods.iter().find(|pod| pods::node(pod) == Some(&name));
    let state = match pod {
        Some(pod) => Some(pods::state(pod)),
        None if pods.is_empty() => None,
        None => Some("no pod".to_owned()),
    };
    NodeView { name, kind, state, restarts: pod.map(pods::restarts), leads, ledgers }
}

/// The ledgers of a peer: a channel of its organization that it does not tell of is told, too.
fn ledgers(node: &str, organization: &str, channels: &[&Channel]) -> Vec<LedgerView> {
    let is_member = |channel: &&&Channel| {
        channel.spec.organizations.iter().any(|member| member == organization)
    };
    let own = |channel: &&Channel| {
        ledger(channel, heights(channel, |status| &status.peer_heights).get(node).copied())
    };
    channels.iter().filter(is_member).map(own).collect()
}

/// The ledgers of an orderer, of those channels whose orderers have told.
fn orderer_ledgers(node: &str, channels: &[&Channel]) -> Vec<LedgerView> {
    let own = |channel: &&Channel| {
        let heights = heights(channel, |status| &status.orderer_heights);
        (!heights.is_empty()).then(|| ledger(channel, heights.get(node).copied()))
    };
    channels.iter().filter_map(own).collect()
}

fn heights(
    channel: &Channel,
    of: impl Fn(&ChannelStatus) -> &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    channel.status.as_ref().map(|status| of(status).clone()).unwrap_or_default()
}

fn ledger(channel: &Channel, height: Option<u64>) -> LedgerView {
    let peers = heights(channel, |status| &status.peer_heights);
    let orderers = heights(channel, |status| &status.orderer_heights);
    let highest = peers.values().chain(orderers.values()).max().copied();
    LedgerView {
        channel: channel.name_any(),
        height,
        lag: height.zip(highest).map(|(height, highest)| highest - height),
    }
}

fn organization(organization: &Organization) -> OrganizationView {
    let status = organization.status.clone().unwrap_or_default();
    OrganizationView {
        name: organization.name_any(),
        msp_id: organization.spec.msp_id.clone(),
        external: organization.spec.external.is_some(),
        peers: status.peers,
        ready: word(&status.conditions, kind::READY),
        soonest_expiry: status.soonest_expiry,
    }
}

fn channel(channel: &Channel) -> ChannelView {
    let status = channel.status.clone().unwrap_or_default();
    ChannelView {
        name: channel.name_any(),
        organizations: channel.spec.organizations.clone(),
        height: status.height,
        config_sequence: status.config_sequence,
        in_sync: word(&status.conditions, kind::CONFIG),
        ready: word(&status.conditions, kind::READY),
    }
}

fn chaincode(chaincode: &Chaincode) -> ChaincodeView {
    let status = chaincode.status.clone().unwrap_or_default();
    let (approved, unapproved): (Vec<_>, Vec<_>) =
        status.approvals.into_iter().partition(|(_, approved)| *approved);
    let ids = |all: Vec<(String, bool)>| all.into_iter().map(|(msp_id, _)| msp_id).collect();
    ChaincodeView {
        name: contract(chaincode),
        channel: chaincode.spec.channel_ref.clone(),
        version: chaincode.spec.version.clone(),
        sequence: status.sequence,
        approved: ids(approved),
        unapproved: ids(unapproved),
        ready: word(&status.conditions, kind::READY),
    }
}

fn soonest_expiry(
    network: &str,
    ordering: Option<&String>,
    organizations: &[&Organization],
) -> Option<(String, String)> {
    let ordering = ordering.map(|end| (end.clone(), Holder::Ordering(network.to_owned()).name()));
    let members = organizations.iter().filter_map(|one| {
        let end = one.status.as_ref()?.soonest_expiry.clone()?;
        Some((end, one.name_any()))
    });
    let dated = members.chain(ordering).filter_map(|found| Some((parse(&found.0)?, found)));
    dated.min().map(|(_, found)| found)
}

/// The condition's status; `Unknown` when nobody has said anything yet.
fn word(conditions: &[Condition], kind: &str) -> String {
    let found = conditions.iter().find(|one| one.type_ == kind);
    found.map_or_else(|| "Unknown".to_owned(), |one| one.status.clone())
}

fn problems(network: &LedgerNetwork, parts: &Parts<'_>, own: &[Condition]) -> Vec<ProblemView> {
    let mut all = not_true(&format!("LedgerNetwork {}", network.name_any()), own);
    for one in &parts.organizations {
        let conditions = one.status.as_ref().map(|status| status.conditions.as_slice());
        all.extend(not_true(
            &format!("Organization {}", one.name_any()),
            conditions.unwrap_or(&[]),
        ));
    }
    for one in &parts.channels {
        let conditions = one.status.as_ref().map(|status| status.conditions.as_slice());
        all.extend(not_true(&format!("Channel {}", one.name_any()), conditions.unwrap_or(&[])));
    }
    for one in &parts.chaincodes {
        let conditions = one.status.as_ref().map(|status| status.conditions.as_slice());
        all.extend(not_true(&format!("Chaincode {}", one.name_any()), conditions.unwrap_or(&[])));
    }
    all
}

/// Conditions that are not `True`. `Ready` says again what one of the others says, and is
/// left out then.
fn not_true(object: &str, conditions: &[Condition]) -> Vec<ProblemView> {
    let bad = || conditions.iter().filter(|one| one.status != "True");
    let is_told = |ready: &Condition| {
        bad().any(|one| one.type_ != kind::READY && one.message == ready.message)
    };
    bad()
        .filter(|one| one.type_ != kind::READY || !is_told(one))
        .map(|one| ProblemView {
            object: object.to_owned(),
            condition: one.type_.clone(),
            status: one.status.clone(),
            reason: one.reason.clone(),
            message: one.message.clone(),
            since: Some(one.last_transition_time.0.to_string()),
        })
        .collect()
}

/// The networks as text. `now` in seconds since 1970.
pub(super) fn render(networks: &[NetworkView], now: i64) -> String {
    let texts: Vec<String> = networks.iter().map(|network| text(network, now)).collect();
    texts.join("\n")
}

fn text(view: &NetworkView, now: i64) -> String {
    let parts = [
        head(view),
        node_table(&view.nodes),
        organization_table(&view.organizations, now),
        channel_table(&view.channels),
        chaincode_table(&view.chaincodes),
        problem_list(&view.problems, now),
        expiry(view, now),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

fn head(view: &NetworkView) -> String {
    let ready = match view.ready.as_str() {
        "True" => "ready",
        "False" => "not ready",
        _ => "no status yet: is the operator running?",
    };
    let mut text = format!("network {} in {}: {ready}", view.network, view.namespace);
    if let Some(message) = &view.message {
        text.push_str(&format!(", {message}"));
    }
    text.push('\n');
    let leader = view.leader.as_ref().map(|leader| format!("leader {leader}"));
    let term = view.term.map(|term| format!("term {term}"));
    let orderers = view.orderers.as_ref().map(|orderers| format!("orderers {orderers}"));
    let facts: Vec<String> = [orderers, leader, term].into_iter().flatten().collect();
    if !facts.is_empty() {
        text.push_str(&format!("{}\n", facts.join(", ")));
    }
    text
}

fn node_table(nodes: &[NodeView]) -> String {
    let mut table = Table::new(&["NODE", "STATE", ">RESTARTS", "LEDGERS"]);
    for node in nodes {
        let ledgers: Vec<String> = node.ledgers.iter().map(ledger_text).collect();
        let state = node.state.clone().unwrap_or_else(|| "-".to_owned());
        let restarts = node.restarts.map(|count| count.to_string()).unwrap_or_default();
        let leads = node.leads.then(|| "leads".to_owned());
        let last: Vec<String> = ledgers.into_iter().chain(leads).collect();
        table.row(vec![node.name.clone(), state, restarts, last.join(", ")]);
    }
    table.render()
}

fn ledger_text(ledger: &LedgerView) -> String {
    let channel = &ledger.channel;
    match (ledger.height, ledger.lag) {
        (Some(height), None | Some(0)) => format!("{channel} {height}"),
        (Some(height), Some(lag)) => format!("{channel} {height} ({lag} behind)"),
        (None, _) => format!("{channel} ?"),
    }
}

fn organization_table(organizations: &[OrganizationView], now: i64) -> String {
    let mut table = Table::new(&["ORGANIZATION", "MSP", "PEERS", "READY", "CERTIFICATES END"]);
    for one in organizations {
        let peers = match (&one.peers, one.external) {
            (_, true) => "external".to_owned(),
            (peers, false) => peers.clone().unwrap_or_default(),
        };
        let end = one.soonest_expiry.as_deref().and_then(parse);
        let end = end.map(|end| when(end, now)).unwrap_or_default();
        table.row(vec![one.name.clone(), one.msp_id.clone(), peers, one.ready.clone(), end]);
    }
    table.render()
}

fn channel_table(channels: &[ChannelView]) -> String {
    let mut table = Table::new(&["CHANNEL", "MEMBERS", ">HEIGHT", ">CONFIG", "IN SYNC", "READY"]);
    for one in channels {
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        table.row(vec![
            one.name.clone(),
            one.organizations.join(","),
            number(one.height),
            number(one.config_sequence),
            one.in_sync.clone(),
            one.ready.clone(),
        ]);
    }
    table.render()
}

fn chaincode_table(chaincodes: &[ChaincodeView]) -> String {
    let mut table =
        Table::new(&["CHAINCODE", "CHANNEL", "VERSION", ">SEQUENCE", "APPROVED", "READY"]);
    for one in chaincodes {
        let all = one.approved.len() + one.unapproved.len();
        let approved = match all {
            0 => String::new(),
            all => format!("{}/{all}", one.approved.len()),
        };
        table.row(vec![
            one.name.clone(),
            one.channel.clone(),
            one.version.clone(),
            one.sequence.map(|sequence| sequence.to_string()).unwrap_or_default(),
            approved,
            one.ready.clone(),
        ]);
    }
    table.render()
}

fn problem_list(problems: &[ProblemView], now: i64) -> String {
    problems.iter().map(|problem| problem_text(problem, now)).collect()
}

fn problem_text(problem: &ProblemView, now: i64) -> String {
    let ProblemView { object, condition, status, reason, message, since } = problem;
    let since = since.as_deref().and_then(parse);
    let since = since.map(|since| format!(" for {}", span(now - since))).unwrap_or_default();
    format!("! {object}: {condition} is {status}{since} ({reason}): {message}\n")
}

fn expiry(view: &NetworkView, now: i64) -> String {
    match (&view.soonest_expiry, &view.soonest_expiry_of) {
        (Some(end), Some(holder)) => {
            let when = parse(end).map(|end| format!(" ({})", when(end, now))).unwrap_or_default();
            format!("first certificate to end: {holder}, {end}{when}\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
