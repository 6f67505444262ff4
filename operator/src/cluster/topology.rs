//! The nodes of a network in a cluster: names, hosts, ports, certificates, settings. Pure.

use weft_settings::{OrdererSettings, PeerSettings};
use weft_types::MspId;

use super::names::{self, Holder, component, path, port};
use crate::api::NodeSpec;
use crate::model::{Network, Organization};
use crate::node_settings::{self, NodeSettingsError};
use crate::pki::{Leaf, Role, RootUse};

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// Orders transactions.
    Orderer,
    /// Endorses and keeps ledgers.
    Peer,
}

impl NodeKind {
    /// The word that `weft-node` takes; the value of the component label.
    pub fn word(self) -> &'static str {
        match self {
            NodeKind::Orderer => component::ORDERER,
            NodeKind::Peer => component::PEER,
        }
    }

    /// Port of the gRPC services.
    pub fn grpc_port(self) -> u16 {
        match self {
            NodeKind::Orderer => port::ORDERER,
            NodeKind::Peer => port::PEER,
        }
    }

    /// Port of `/metrics`, `/healthz` and the other operations.
    pub fn operations_port(self) -> u16 {
        match self {
            NodeKind::Orderer => port::ORDERER_OPERATIONS,
            NodeKind::Peer => port::PEER_OPERATIONS,
        }
    }

    fn role(self) -> Role {
        match self {
            NodeKind::Orderer => Role::Orderer,
            NodeKind::Peer => Role::Peer,
        }
    }
}

/// A node that a network should have.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name: that of its Service, StatefulSet, settings and volume.
    pub name: String,
    /// Orderer or peer.
    pub kind: NodeKind,
    /// Its place among the nodes of its holder.
    pub index: u32,
    /// Namespace of the network.
    pub namespace: String,
    /// Name of the `LedgerNetwork`.
    pub network: String,
    /// Who runs it.
    pub holder: Holder,
    /// Its MSP.
    pub msp_id: MspId,
    /// How it runs: the network's `node` under the orderers' or organization's own.
    pub spec: NodeSpec,
}

impl Node {
    /// An orderer of a network.
    pub fn orderer(network: &Network, namespace: &str, index: u32) -> Node {
        let holder = Holder::Ordering(network.name.clone());
        Node {
            name: holder.node(index),
            kind: NodeKind::Orderer,
            index,
            namespace: namespace.to_owned(),
            network: network.name.clone(),
            holder,
            msp_id: network.ordering.msp_id.clone(),
            spec: network.ordering.node.clone(),
        }
    }

    /// A peer of an organization.
    pub fn peer(network: &str, organization: &Organization, namespace: &str, index: u32) -> Node {
        let holder = Holder::Organization(organization.name.clone());
        Node {
            name: holder.node(index),
            kind: NodeKind::Peer,
            index,
            namespace: namespace.to_owned(),
            network: network.to_owned(),
            holder,
            msp_id: organization.msp_id.clone(),
            spec: organization.node.clone(),
        }
    }

    /// The host by which everything in the cluster reaches it; its certificate names it, and
    /// channel configs and discovery tell it.
    pub fn host(&self) -> String {
        names::service_host(&self.name, &self.namespace)
    }

    /// `host:port` of its gRPC services.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host(), self.kind.grpc_port())
    }

    /// The Secret with its identity.
    pub fn identity(&self) -> String {
        names::node_identity(&self.name)
    }

    /// The two certificates that it needs.
    pub fn leaves(&self) -> [Leaf; 2] {
        let leaf = |root, hosts| Leaf {
            common_name: self.name.clone(),
            role: self.kind.role(),
            root,
            hosts,
            uris: Vec::new(),
        };
        [leaf(RootUse::Identity, Vec::new()), leaf(RootUse::Tls, self.tls_hosts())]
    }

    /// Its own Service, the Service of its group, its pod behind the headless Service, and
    /// this machine: a port-forward ends there.
    fn tls_hosts(&self) -> Vec<String> {
        let own = names::service_hosts(&self.name, &self.namespace);
        let group = self.holder.group();
        let shared = names::service_hosts(&group, &self.namespace);
        let pod = format!(
            "{}-0.{}",
            self.name,
            names::service_host(&self.holder.headless(), &self.namespace)
        );
        let here = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let outside = self.spec.hosts.iter().cloned();
        own.into_iter().chain(shared).chain([pod]).chain(here).chain(outside).collect()
    }

    /// The text of its settings file. It does not depend on which other nodes there are: peers
    /// find each other through the channels' anchor peers, orderers through the channels'
    /// configs.
    ///
    /// # Errors
    /// [`NodeSettingsError`] names the override at fault.
    pub fn settings(&self) -> Result<String, NodeSettingsError> {
        match self.kind {
            NodeKind::Orderer => node_settings::with_overrides(
                &self.orderer_settings(),
                &self.spec.config,
                |yaml, variables| OrdererSettings::load(yaml, variables.into_iter()),
            ),
            NodeKind::Peer => node_settings::with_overrides(
                &self.peer_settings(),
                &self.spec.config,
                |yaml, variables| PeerSettings::load(yaml, variables.into_iter()),
            ),
        }
    }

    fn orderer_settings(&self) -> OrdererSettings {
        let mut settings = OrdererSettings {
            listen: everywhere(port::ORDERER),
            external_address: self.address(),
            data_dir: path::DATA.into(),
            ..OrdererSettings::default()
        };
        self.set_msp(&mut settings.msp);
        set_tls(&mut settings.tls);
        settings.operations.listen = everywhere(port::ORDERER_OPERATIONS);
        settings.participation.listen = everywhere(port::PARTICIPATION);
        self.set_logging(&mut settings.logging);
        settings
    }

    fn peer_settings(&self) -> PeerSettings {
        let mut settings = PeerSettings {
            listen: everywhere(port::PEER),
            external_address: self.address(),
            data_dir: path::DATA.into(),
            ..PeerSettings::default()
        };
        self.set_msp(&mut settings.msp);
        set_tls(&mut settings.tls);
        settings.operations.listen = everywhere(port::PEER_OPERATIONS);
        settings.chaincode.listen = everywhere(port::PEER_CHAINCODE);
        // Whomever else the node's clients may come from: contracts are the organization's own.
        settings.chaincode.client_root_cas.clone_from(&settings.tls.root_cas);
        self.set_logging(&mut settings.logging);
        settings
    }

    fn set_msp(&self, msp: &mut weft_settings::Msp) {
        msp.id = self.msp_id.to_string();
        msp.dir = format!("{}/msp", path::IDENTITY).into();
    }

    fn set_logging(&self, logging: &mut weft_settings::Logging) {
        logging.format = weft_settings::LogFormat::Json;
        if let Some(level) = &self.spec.log_level {
            logging.spec.clone_from(level);
        }
    }
}

fn set_tls(tls: &mut weft_settings::Tls) {
    tls.cert = format!("{}/tls/server.crt", path::IDENTITY).into();
    tls.key = format!("{}/tls/server.key", path::IDENTITY).into();
    tls.root_cas = vec![format!("{}/tls/ca.crt", path::IDENTITY).into()];
}

fn everywhere(port: u16) -> String {
    format!("0.0.0.0:{port}")
}
