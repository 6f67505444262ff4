//! `connection.json`: what a client program needs to use the network.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{self, FileError};
use super::layout::{Layout, ORDERING};
use super::nodes::{HOST, Kind, Node};
use crate::model::{Channel, Network, Organization};

/// The file. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionFile {
    /// The network's first channel.
    pub channel: String,
    /// The first chaincode of that channel; empty without one.
    pub chaincode: String,
    /// One entry for every organization.
    pub orgs: Vec<OrgEntry>,
    /// One entry for every orderer.
    pub orderers: Vec<OrdererEntry>,
}

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrgEntry {
    /// Its MSP id.
    pub msp_id: String,
    /// `host:port` of its first peer.
    pub peer: String,
    /// `host:port` of each of its peers, the first included.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Root of its TLS certificates, a PEM file.
    pub tls_ca_cert: PathBuf,
    /// Name that the peer's certificate holds.
    pub tls_server_name: String,
    /// Someone who may send transactions.
    pub user: UserEntry,
    /// Its administrator.
    pub admin: UserEntry,
}

/// Someone's certificate and key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserEntry {
    /// Certificate.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// An orderer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrdererEntry {
    /// `host:port`.
    pub address: String,
    /// Root of its TLS certificate, a PEM file.
    pub tls_ca_cert: PathBuf,
}

impl ConnectionFile {
    /// What the network's clients need.
    pub fn new(network: &Network, nodes: &[Node], layout: &Layout) -> ConnectionFile {
        let channel = network.channels.first();
        let chaincode = channel.and_then(|channel| channel.chaincodes.first());
        ConnectionFile {
            channel: channel.map(|channel| channel.id.to_string()).unwrap_or_default(),
            chaincode: chaincode.map(|chaincode| chaincode.name.clone()).unwrap_or_default(),
            orgs: entries(network, channel, nodes, layout),
            orderers: nodes
                .iter()
                .filter(|node| node.kind == Kind::Orderer)
                .map(|node| OrdererEntry {
                    address: node.address(),
                    tls_ca_cert: tls_root(layout, ORDERING),
                })
                .collect(),
        }
    }

    /// Reads the file of a network.
    ///
    /// # Errors
    /// [`FileError`] when the file is there and cannot be read.
    pub fn load(layout: &Layout) -> Result<Option<ConnectionFile>, FileError> {
        let Some(text) = files::read(&layout.connection())? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| FileError {
            action: "read as a connection file",
            path: layout.connection(),
            source: error.into(),
        })
    }

    /// Writes the file of a network.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be written.
    pub fn save(&self, layout: &Layout) -> Result<(), FileError> {
        let path = layout.connection();
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| FileError {
            action: "write",
            path: path.clone(),
            source: error.into(),
        })?;
        text.push(b'\n');
        files::write(&path, &text)
    }
}

/// Members of the first channel come first: what a program does with the first organization
/// works.
fn entries(
    network: &Network,
    channel: Option<&Channel>,
    nodes: &[Node],
    layout: &Layout,
) -> Vec<OrgEntry> {
    let is_member = |org: &&Organization| {
        channel.is_some_and(|channel| channel.organizations.contains(&org.name))
    };
    let (members, others): (Vec<_>, Vec<_>) = network.organizations.iter().partition(is_member);
    members.into_iter().chain(others).filter_map(|org| entry(org, nodes, layout)).collect()
}

fn entry(organization: &Organization, nodes: &[Node], layout: &Layout) -> Option<OrgEntry> {
    let peers: Vec<String> = nodes
        .iter()
        .filter(|node| node.kind == Kind::Peer && node.organization == organization.name)
        .map(Node::address)
        .collect();
    let user = organization.users.get(1).or(organization.users.first())?;
    let keys = |user: &str| {
        let msp = layout.user(&organization.name, user).join("msp");
        UserEntry { cert: msp.join("signcerts/cert.pem"), key: msp.join("keystore/key.pem") }
    };
    Some(OrgEntry {
        msp_id: organization.msp_id.to_string(),
        peer: peers.first()?.clone(),
        peers,
        tls_ca_cert: tls_root(layout, &organization.name),
        tls_server_name: HOST.to_owned(),
        user: keys(&user.name),
        admin: keys(super::access::ADMIN),
    })
}

fn tls_root(layout: &Layout, organization: &str) -> PathBuf {
    layout.authority(organization, crate::pki::RootUse::Tls).join("ca.pem")
}
