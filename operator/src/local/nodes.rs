//! The nodes of a local network: their names, addresses, settings and programs. Pure but for
//! the ports, which [`State`] hands out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weft_settings::{OrdererSettings, PeerSettings};
use weft_types::MspId;

use super::layout::{Layout, ORDERING};
use super::state::{State, StateError};
use crate::model::{Network, Organization};
use crate::node_settings::{NodeSettingsError, with_overrides};
use crate::pki::{Leaf, Role, RootUse};

/// Host by which everything on this machine is reached; each TLS certificate names it.
pub const HOST: &str = "localhost";

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Orders transactions.
    Orderer,
    /// Endorses and keeps ledgers.
    Peer,
}

impl Kind {
    /// The word that `weft-node` takes.
    pub fn command(self) -> &'static str {
        match self {
            Kind::Orderer => "orderer",
            Kind::Peer => "peer",
        }
    }

    fn role(self) -> Role {
        match self {
            Kind::Orderer => Role::Orderer,
            Kind::Peer => Role::Peer,
        }
    }
}

/// A node of a local network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, which no other node of the network has: `orderer0`, `peer0.org1`.
    pub name: String,
    /// Orderer or peer.
    pub kind: Kind,
    /// Folder name of its organization.
    pub organization: String,
    /// Its organization's MSP.
    pub msp_id: MspId,
    /// Port of its gRPC services.
    pub grpc: u16,
    /// Port of `/metrics` and the other operations.
    pub operations: u16,
    /// An orderer's participation API, or a peer's listener for contracts that dial it.
    pub extra: u16,
    /// Its folder.
    pub folder: PathBuf,
    /// Log filter, when the manifest names one.
    pub log_level: Option<String>,
    /// Settings that the manifest overrides, by dotted path.
    pub overrides: BTreeMap<String, String>,
}

impl Node {
    /// `host:port` of its gRPC services.
    pub fn address(&self) -> String {
        format!("{HOST}:{}", self.grpc)
    }

    /// `host:port` of an orderer's participation API.
    pub fn participation(&self) -> String {
        format!("{HOST}:{}", self.extra)
    }

    /// The two certificates that it needs.
    pub fn leaves(&self) -> [Leaf; 2] {
        let leaf = |root, hosts: &[&str]| Leaf {
            common_name: self.name.clone(),
            role: self.kind.role(),
            root,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            uris: Vec::new(),
        };
        [leaf(RootUse::Identity, &[]), leaf(RootUse::Tls, &[HOST, &self.name, "127.0.0.1"])]
    }

    /// The node's settings file.
    pub fn settings_file(&self) -> PathBuf {
        self.folder.join("node.yaml")
    }

    /// The node's log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    /// The certificate that it signs with.
    pub fn sign_cert(&self) -> PathBuf {
        self.folder.join("msp/signcerts/cert.pem")
    }

    /// Its TLS certificate.
    pub fn tls_cert(&self) -> PathBuf {
        self.folder.join("tls/server.crt")
    }

    /// Its TLS key.
    pub fn tls_key(&self) -> PathBuf {
        self.folder.join("tls/server.key")
    }

    /// The root of its organization's TLS certificates.
    pub fn tls_root(&self) -> PathBuf {
        self.folder.join("tls/ca.crt")
    }

    /// The text of its settings file. Peers find each other through the channels' anchor peers, so
    /// that a node's settings do not depend on which others there are.
    ///
    /// # Errors
    /// [`NodeSettingsError`] names the field or the override at fault.
    pub fn settings(&self) -> Result<String, NodeSettingsError> {
        match self.kind {
            Kind::Orderer => {
                with_overrides(&self.orderer_settings(), &self.overrides, |yaml, variables| {
                    OrdererSettings::load(yaml, variables.into_iter())
                })
            }
            Kind::Peer => {
                with_overrides(&self.peer_settings(), &self.overrides, |yaml, variables| {
                    PeerSettings::load(yaml, variables.into_iter())
                })
            }
        }
    }

    fn orderer_settings(&self) -> OrdererSettings {
        let mut settings = OrdererSettings {
            listen: listen(self.grpc),
            external_address: self.address(),
            data_dir: self.folder.join("data"),
            ..OrdererSettings::default()
        };
        settings.msp.id = self.msp_id.to_string();
        settings.msp.dir = self.folder.join("msp");
        settings.tls.cert = self.tls_cert();
        settings.tls.key = self.tls_key();
        settings.tls.root_cas = vec![self.tls_root()];
        settings.operations.listen = listen(self.operations);
        settings.participation.listen = listen(self.extra);
        settings.logging.file.path = self.log();
        if let Some(level) = &self.log_level {
            settings.logging.spec.clone_from(level);
        }
        settings
    }

    fn peer_settings(&self) -> PeerSettings {
        let mut settings = PeerSettings {
            listen: listen(self.grpc),
            external_address: self.address(),
            data_dir: self.folder.join("data"),
            ..PeerSettings::default()
        };
        settings.msp.id = self.msp_id.to_string();
        settings.msp.dir = self.folder.join("msp");
        settings.tls.cert = self.tls_cert();
        settings.tls.key = self.tls_key();
        settings.tls.root_cas = vec![self.tls_root()];
        settings.operations.listen = listen(self.operations);
        settings.chaincode.listen = listen(self.extra);
        // Whomever else the node's clients may come from: contracts are the organization's own.
        settings.chaincode.client_root_cas = vec![self.tls_root()];
        settings.logging.file.path = self.log();
        if let Some(level) = &self.log_level {
            settings.logging.spec.clone_from(level);
        }
        settings
    }
}

/// Every node of the network: orderers first, then each organization's peers.
///
/// # Errors
/// [`StateError`] when no port is left for a new node.
pub fn nodes(
    network: &Network,
    layout: &Layout,
    state: &mut State,
) -> Result<Vec<Node>, StateError> {
    let mut nodes = Vec::new();
    for index in 0..network.ordering.replicas {
        nodes.push(orderer(network, index, layout, state)?);
    }
    for organization in &network.organizations {
        for index in 0..organization.peers {
            nodes.push(peer(organization, index, layout, state)?);
        }
    }
    Ok(nodes)
}

/// Orderers that run and that the network no longer has: they stay consenters until the others
/// have removed them.
///
/// # Errors
/// As [`nodes`].
pub fn leaving_orderers(
    network: &Network,
    layout: &Layout,
    state: &mut State,
) -> Result<Vec<Node>, StateError> {
    let running = state.processes.iter().filter(|(_, process)| process.is_running());
    let indices: Vec<u32> = running
        .filter_map(|(name, _)| name.strip_prefix("orderer")?.parse().ok())
        .filter(|index| *index >= network.ordering.replicas)
        .collect();
    indices.into_iter().map(|index| orderer(network, index, layout, state)).collect()
}

fn orderer(
    network: &Network,
    index: u32,
    layout: &Layout,
    state: &mut State,
) -> Result<Node, StateError> {
    let name = format!("orderer{index}");
    Ok(Node {
        kind: Kind::Orderer,
        organization: ORDERING.to_owned(),
        msp_id: network.ordering.msp_id.clone(),
        grpc: state.port(&format!("{name}/grpc"))?,
        operations: state.port(&format!("{name}/operations"))?,
        extra: state.port(&format!("{name}/participation"))?,
        folder: layout.node(ORDERING, &name),
        log_level: network.ordering.node.log_level.clone(),
        overrides: network.ordering.node.config.clone(),
        name,
    })
}

fn peer(
    organization: &Organization,
    index: u32,
    layout: &Layout,
    state: &mut State,
) -> Result<Node, StateError> {
    let name = format!("peer{index}.{}", organization.name);
    Ok(Node {
        kind: Kind::Peer,
        organization: organization.name.clone(),
        msp_id: organization.msp_id.clone(),
        grpc: state.port(&format!("{name}/grpc"))?,
        operations: state.port(&format!("{name}/operations"))?,
        extra: state.port(&format!("{name}/chaincode"))?,
        folder: layout.node(&organization.name, &name),
        log_level: organization.node.log_level.clone(),
        overrides: organization.node.config.clone(),
        name,
    })
}

fn listen(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The program that runs nodes: beside `weft` itself, or on the path.
pub fn node_program(weft: &Path) -> PathBuf {
    beside(weft, "weft-node")
}

/// A program of that name beside `weft`, or the bare name for the path to find.
pub fn beside(weft: &Path, name: &str) -> PathBuf {
    let candidate = weft.with_file_name(name);
    if candidate.is_file() { candidate } else { PathBuf::from(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::model;

    fn example() -> (Vec<Node>, Layout) {
        let manifest = Manifest::parse(include_str!("../../../examples/basic.yaml")).unwrap();
        let network = model::validate(&manifest).unwrap().remove(0);
        let layout = Layout::new(PathBuf::from("/net"));
        let nodes = nodes(&network, &layout, &mut State::default()).unwrap();
        (nodes, layout)
    }

    #[test]
    fn the_example_has_three_orderers_and_two_peers() {
        let (nodes, _) = example();
        let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["orderer0", "orderer1", "orderer2", "peer0.org1", "peer0.org2"]);
        assert_eq!(nodes[3].leaves()[1].hosts, ["localhost", "peer0.org1", "127.0.0.1"]);
    }

    #[test]
    fn settings_are_what_the_node_reads() {
        let (nodes, _) = example();
        let orderer = nodes[0].settings().unwrap();
        let orderer = OrdererSettings::load(&orderer, std::iter::empty()).unwrap();
        assert_eq!(orderer.external_address, nodes[0].address());
        let peer = nodes[3].settings().unwrap();
        let peer = PeerSettings::load(&peer, std::iter::empty()).unwrap();
        assert_eq!(peer.external_address, nodes[3].address());
        assert_eq!(peer.msp.id, "Org1MSP");
    }

    #[test]
    fn an_override_reaches_the_settings_and_a_bad_one_is_named() {
        let (mut nodes, _) = example();
        nodes[3].overrides.insert("limits.maxConnections".to_owned(), "7".to_owned());
        let yaml = nodes[3].settings().unwrap();
        assert_eq!(
            PeerSettings::load(&yaml, std::iter::empty()).unwrap().limits.max_connections,
            7
        );
        nodes[3].overrides.insert("limits.maxConnections".to_owned(), "many".to_owned());
        let error = nodes[3].settings().unwrap_err().to_string();
        assert!(error.contains("limits.maxConnections"), "{error}");
        nodes[3].overrides.clear();
        nodes[3].overrides.insert("limits.connections".to_owned(), "7".to_owned());
        let error = nodes[3].settings().unwrap_err().to_string();
        assert!(error.contains("no setting \"limits.connections\""), "{error}");
    }
}
