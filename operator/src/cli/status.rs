//! `weft status`: what runs, how far it is, and when the first certificate ends.

use std::path::Path;

use serde::Serialize;
use weft_client::Peer;
use weft_types::{ChannelId, Timestamp};

use super::cluster::{self, status::StatusArgs};
use super::target::Target;
use super::{CommandError, Output, put, report};
use crate::local::access::Access;
use crate::local::layout::{Layout, ORDERING};
use crate::local::nodes::{self, HOST, Kind, Node};
use crate::local::process::{ProcessId, Usage};
use crate::local::state::State;
use crate::local::{LocalError, material, read_manifest};
use crate::model::Network;

/// What a network is doing.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// Its name.
    pub network: String,
    /// Each node.
    pub nodes: Vec<NodeStatus>,
    /// Each contract.
    pub chaincodes: Vec<ChaincodeState>,
    /// When the first certificate ends, RFC 3339.
    pub soonest_expiry: Option<String>,
    /// Whose certificate that is.
    pub soonest_expiry_of: Option<String>,
}

/// What a node is doing.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `running` or `stopped`.
    pub state: &'static str,
    /// `host:port` of its services.
    pub address: String,
    /// URL of its metrics.
    pub metrics: String,
    /// Where a peer's contracts register that dial it (`CORE_PEER_ADDRESS`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chaincode_address: Option<String>,
    /// Resident memory in bytes, when it runs.
    pub resident_bytes: Option<u64>,
    /// Ledger height by channel.
    pub heights: Vec<(String, u64)>,
    /// What it said when it was asked and did not answer well.
    pub problem: Option<String>,
}

/// A contract of a channel.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChaincodeState {
    /// `CHANNEL.NAME`.
    pub name: String,
    /// `running` or `stopped`; `external` when it runs elsewhere.
    pub state: &'static str,
    /// What the contract calls itself when it registers.
    pub package_id: String,
}

/// Prints the status of the network on this machine, or of those of a namespace.
pub(super) async fn run(
    target: &Target,
    args: StatusArgs,
    output: Output,
) -> Result<(), CommandError> {
    let dir = match target {
        Target::Local(dir) if args.network.is_none() && !args.all_namespaces => dir,
        // A network's name or all namespaces mean a cluster; the error says how to choose one.
        _ => return cluster::status::status(target.cluster("status").await?, args, output).await,
    };
    status(dir, output).await
}

/// Prints the status.
async fn status(dir: &Path, output: Output) -> Result<(), CommandError> {
    let status = gather(dir).await?;
    match output.structured(&status)? {
        Some(text) => put(&text)?,
        None => print(&status),
    }
    Ok(())
}

async fn gather(dir: &Path) -> Result<NetworkStatus, CommandError> {
    let folder = std::path::absolute(dir)?;
    let layout = Layout::new(folder.clone());
    let mut state = State::load(&layout)?.ok_or(LocalError::NoNetwork { folder })?;
    let (network, _) = read_manifest(&layout.manifest())?;
    let all = nodes::nodes(&network, &layout, &mut state)?;
    let access = Access::open(&layout, &network)?;
    let asked = all.iter().map(|node| node_status(node, &network, &state, &access));
    let nodes = futures::future::join_all(asked).await;
    let expiry = soonest_expiry(&layout, &network, &all)?;
    let chaincodes = state.packages.iter().map(|(name, id)| chaincode(&state, name, id)).collect();
    Ok(NetworkStatus {
        network: network.name,
        nodes,
        chaincodes,
        soonest_expiry: expiry.as_ref().map(|(_, end)| end.to_string()),
        soonest_expiry_of: expiry.map(|(holder, _)| holder),
    })
}

fn chaincode(state: &State, name: &str, package_id: &str) -> ChaincodeState {
    let process = state.processes.get(&format!("chaincode/{name}"));
    ChaincodeState {
        name: name.to_owned(),
        state: process.map_or("external", |process| word(process.is_running())),
        package_id: package_id.to_owned(),
    }
}

async fn node_status(node: &Node, network: &Network, state: &State, access: &Access) -> NodeStatus {
    let process = state.processes.get(&node.name).copied().filter(|process| process.is_running());
    let mut status = NodeStatus {
        name: node.name.clone(),
        state: word(process.is_some()),
        address: node.address(),
        metrics: format!("http://127.0.0.1:{}/metrics", node.operations),
        chaincode_address: (node.kind == Kind::Peer).then(|| format!("{HOST}:{}", node.extra)),
        resident_bytes: process.and_then(ProcessId::usage).map(|usage: Usage| usage.resident_bytes),
        heights: Vec::new(),
        problem: None,
    };
    if process.is_none() {
        return status;
    }
    for channel in &network.channels {
        if node.kind == Kind::Peer && !channel.organizations.contains(&node.organization) {
            continue;
        }
        match height(node, &channel.id, access).await {
            Ok(height) => status.heights.push((channel.id.to_string(), height)),
            Err(error) => status.problem = Some(report(&error)),
        }
    }
    status
}

async fn height(
    node: &Node,
    channel: &ChannelId,
    access: &Access,
) -> Result<u64, weft_client::ClientError> {
    match node.kind {
        Kind::Orderer => {
            let info = access.participation(node)?.channel(channel).await?;
            Ok(info.map_or(0, |info| info.height))
        }
        Kind::Peer => {
            let peer: Peer = access.peer(node)?;
            Ok(peer.chain_info(channel).await?.height)
        }
    }
}

fn soonest_expiry(
    layout: &Layout,
    network: &Network,
    nodes: &[Node],
) -> Result<Option<(String, Timestamp)>, CommandError> {
    let mut folders: Vec<(String, std::path::PathBuf)> =
        nodes.iter().map(|node| (node.name.clone(), node.folder.clone())).collect();
    folders.push((format!("admin of {ORDERING}"), layout.user(ORDERING, "admin")));
    for organization in &network.organizations {
        for user in &organization.users {
            let holder = format!("{} of {}", user.name, organization.name);
            folders.push((holder, layout.user(&organization.name, &user.name)));
        }
    }
    let mut soonest: Option<(String, Timestamp)> = None;
    for (holder, folder) in folders {
        for certificate in material::certificates(&folder)? {
            let end = certificate.not_after();
            if soonest.as_ref().is_none_or(|(_, earlier)| end < *earlier) {
                soonest = Some((holder.clone(), end));
            }
        }
    }
    Ok(soonest)
}

fn word(running: bool) -> &'static str {
    if running { "running" } else { "stopped" }
}

fn print(status: &NetworkStatus) {
    println!("network {}\n", status.network);
    println!("{:<18}{:<9}{:>9}  {:<18}HEIGHT", "NODE", "STATE", "RSS MiB", "ADDRESS");
    for node in &status.nodes {
        let memory = node
            .resident_bytes
            .map(|bytes| format!("{:.1}", bytes as f64 / (1024.0 * 1024.0)))
            .unwrap_or_default();
        let heights: Vec<String> =
            node.heights.iter().map(|(channel, height)| format!("{channel} {height}")).collect();
        let (name, state, address) = (&node.name, node.state, &node.address);
        println!("{name:<18}{state:<9}{memory:>9}  {address:<18}{}", heights.join(", "));
        if let Some(problem) = &node.problem {
            println!("{:<18}{problem}", "");
        }
    }
    for chaincode in &status.chaincodes {
        println!("{:<18}{:<9}{:>9}  {}", chaincode.name, chaincode.state, "", chaincode.package_id);
    }
    if let (Some(end), Some(holder)) = (&status.soonest_expiry, &status.soonest_expiry_of) {
        println!("\nfirst certificate to end: {holder}, {end}");
    }
    if let Some(node) = status.nodes.first() {
        println!("metrics: {} (and one port for each node: -o json)", node.metrics);
    }
}
