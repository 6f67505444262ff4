//! Names of everything that the operator makes: objects, labels, ports, files, hosts. Pure.
//!
//! A name follows from the name of the object that it is made for, so that an operator that
//! starts anew, and a person with `kubectl`, finds everything without a record of it:
//!
//! | for | object | name |
//! | --- | --- | --- |
//! | holder | CA Secrets | `HOLDER-ca`, `HOLDER-tlsca` |
//! | holder | MSP without keys (ConfigMap) | `HOLDER-msp` |
//! | holder | identity of a user (Secret) | `HOLDER-user-USER` |
//! | holder | certificate of a contract that registers (Secret) | `HOLDER-contract-CHAINCODE` |
//! | node | Service, StatefulSet, settings (ConfigMap), volume (claim) | `NODE` |
//! | node | identity (Secret) | `NODE-identity` |
//! | holder | Service for clients, headless Service | `GROUP`, `GROUP-nodes` |
//! | channel | genesis block (ConfigMap) | `CHANNEL-genesis` |
//! | chaincode | Deployment and Service of a program | `CHAINCODE-HASH` |
//!
//! A *holder* owns certificate authorities: an `Organization` (`org1`), or the ordering
//! service of a `LedgerNetwork` (`NETWORK-orderer`). Its *group* is its nodes together:
//! `org1-peer`, `NETWORK-orderer`. Nodes are `GROUP-INDEX`: `org1-peer-0`.

use crate::pki::RootUse;

/// Field manager of every write, and value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "weft-operator";

/// Labels.
pub mod label {
    /// The program: `weft-node`, or `chaincode`.
    pub const NAME: &str = "app.kubernetes.io/name";
    /// The object that it was made for.
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    /// `orderer`, `peer`, `chaincode`, `authority`, `user`, `contract`, `msp`, `genesis`.
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// The network.
    pub const PART_OF: &str = "app.kubernetes.io/part-of";
    /// Always [`super::MANAGER`].
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// Name of the `LedgerNetwork`.
    pub const NETWORK: &str = "weft.dev/network";
    /// Name of the `Organization`; absent on what belongs to the ordering service.
    pub const ORGANIZATION: &str = "weft.dev/organization";
    /// Name of the `Channel`.
    pub const CHANNEL: &str = "weft.dev/channel";
    /// Name of the `Chaincode` object.
    pub const CHAINCODE: &str = "weft.dev/chaincode";
    /// Name of the node.
    pub const NODE: &str = "weft.dev/node";
    /// On Secrets of users: the channel for whose pending update they hold signatures.
    pub const CHANNEL_SIGNATURE: &str = "weft.dev/channel-signature";
    /// Name of the user whose identity a Secret holds.
    pub const USER: &str = "weft.dev/user";
    /// Name of the Deployment and Service of one program of a `Chaincode`.
    pub const PROGRAM: &str = "weft.dev/program";
    /// Given by users: `"true"` on a pod of any namespace lets it call the orderers.
    pub const CLIENT: &str = "weft.dev/client";
    /// Given by users: `"true"` on a namespace lets its pods read the nodes' metrics.
    pub const SCRAPE: &str = "weft.dev/scrape";
}

/// Annotations.
pub mod annotation {
    /// On any of our kinds: `"true"` stops reconciling.
    pub const PAUSED: &str = "weft.dev/paused";
    /// On a `LedgerNetwork`: `"true"` stops pods and keeps volumes.
    pub const HIBERNATE: &str = "weft.dev/hibernate";
    /// On a `LedgerNetwork` that is being deleted: `"true"` lets it go although it has channels.
    pub const FORCE_DELETE: &str = "weft.dev/force-delete";
    /// On pod templates: hash of the settings, so that a change of them restarts the node.
    pub const SETTINGS_HASH: &str = "weft.dev/settings-hash";
    /// On a StatefulSet: hash of its pod template, by which a node of an old one is known.
    pub const TEMPLATE_HASH: &str = "weft.dev/template-hash";
    /// On node pods: hash of the identity Secret. Changing it makes the kubelet look at the
    /// Secret at once, not at its next round.
    pub const IDENTITY_HASH: &str = "weft.dev/identity-hash";
    /// On a ConfigMap with an MSP: fingerprint of the authority for identities.
    pub const CA_FINGERPRINT: &str = "weft.dev/ca-fingerprint";
    /// On a ConfigMap with an MSP: fingerprint of the authority for TLS.
    pub const TLS_CA_FINGERPRINT: &str = "weft.dev/tls-ca-fingerprint";
    /// On a node's pod template: any value; a new one restarts the node.
    pub const RESTARTED_AT: &str = "weft.dev/restarted-at";
}

/// Finalizer of our kinds.
pub const FINALIZER: &str = "weft.dev/cleanup";

/// Values of [`label::COMPONENT`].
pub mod component {
    /// An orderer and what belongs to it.
    pub const ORDERER: &str = "orderer";
    /// A peer and what belongs to it.
    pub const PEER: &str = "peer";
    /// A contract's program.
    pub const CHAINCODE: &str = "chaincode";
    /// A certificate authority.
    pub const AUTHORITY: &str = "authority";
    /// A user's identity.
    pub const USER: &str = "user";
    /// The certificate with which a contract registers.
    pub const CONTRACT: &str = "contract";
    /// An MSP without keys.
    pub const MSP: &str = "msp";
    /// A genesis block.
    pub const GENESIS: &str = "genesis";
    /// A config update that waits for signatures.
    pub const UPDATE: &str = "update";
}

/// Ports. They are the customary ones of Fabric.
pub mod port {
    /// An orderer's gRPC services.
    pub const ORDERER: u16 = 7050;
    /// An orderer's participation API.
    pub const PARTICIPATION: u16 = 7053;
    /// An orderer's operations.
    pub const ORDERER_OPERATIONS: u16 = 8443;
    /// A peer's gRPC services.
    pub const PEER: u16 = 7051;
    /// A peer's listener for contracts that dial it.
    pub const PEER_CHAINCODE: u16 = 7052;
    /// A peer's operations.
    pub const PEER_OPERATIONS: u16 = 9443;
    /// Where a contract's program listens.
    pub const CHAINCODE: u16 = 9999;
    /// The operator's own metrics and health.
    pub const OPERATOR_OPERATIONS: u16 = 8080;
}

/// Keys of the data of Secrets and ConfigMaps.
pub mod key {
    /// CA Secret: the authority's certificate, followed by those above it, if any.
    pub const CA_CERT: &str = "tls.crt";
    /// CA Secret: the authority's private key, PKCS#8 PEM.
    pub const CA_KEY: &str = "tls.key";
    /// Identity Secret: the signing certificate.
    pub const SIGN_CERT: &str = "cert.pem";
    /// Identity Secret: the signing key, PKCS#8 PEM.
    pub const SIGN_KEY: &str = "key.pem";
    /// Identity Secret: the TLS certificate, followed by intermediates, if any.
    pub const TLS_CERT: &str = "tls.crt";
    /// Identity Secret: the TLS key, PKCS#8 PEM.
    pub const TLS_KEY: &str = "tls.key";
    /// Contract Secret: roots of the TLS certificates of the peers with which it registers. Beside
    /// it stand [`TLS_CERT`] and [`TLS_KEY`].
    pub const CONTRACT_ROOTS: &str = "ca.crt";
    /// Contract Secret: [`TLS_CERT`] in base64, as some contract libraries want it.
    pub const TLS_CERT_BASE64: &str = "tls.crt.base64";
    /// Contract Secret: [`TLS_KEY`] in base64.
    pub const TLS_KEY_BASE64: &str = "tls.key.base64";
    /// Contract Secret: the id of the package that the certificate is for.
    pub const PACKAGE_ID: &str = "packageId";
    /// Identity Secret and MSP ConfigMap: roots of identities.
    pub const CA_CERTS: &str = "cacerts.pem";
    /// Identity Secret and MSP ConfigMap: intermediates of identities; absent without one.
    pub const INTERMEDIATE_CERTS: &str = "intermediatecerts.pem";
    /// Identity Secret and MSP ConfigMap: roots of TLS certificates.
    pub const TLS_CA_CERTS: &str = "tlscacerts.pem";
    /// Identity Secret and MSP ConfigMap: intermediates of TLS certificates; absent without one.
    pub const TLS_INTERMEDIATE_CERTS: &str = "tlsintermediatecerts.pem";
    /// Identity Secret and MSP ConfigMap: the MSP's `config.yaml` (NodeOUs).
    pub const CONFIG: &str = "config.yaml";
    /// MSP ConfigMap: the MSP id.
    pub const MSP_ID: &str = "mspId";
    /// Settings ConfigMap: the node's settings.
    pub const SETTINGS: &str = "node.yaml";
    /// Update ConfigMap, binary: the encoded `ConfigUpdate` to sign.
    pub const UPDATE: &str = "update.pb";
    /// Update ConfigMap: MSP ids of those whose signature is missing, one a line.
    pub const NEEDED: &str = "needed";
    /// Secret with signatures: an encoded `ConfigUpdateEnvelope`.
    pub const SIGNATURE: &str = "signature.pb";
    /// Genesis ConfigMap, binary: the block.
    pub const GENESIS: &str = "genesis.block";
}

/// Paths in a node's container.
pub mod path {
    /// The settings ConfigMap.
    pub const SETTINGS: &str = "/etc/weft/settings";
    /// The identity Secret: `msp` and `tls` below it.
    pub const IDENTITY: &str = "/etc/weft/identity";
    /// The volume.
    pub const DATA: &str = "/var/lib/weft";
}

/// An `Organization`, or the ordering service of a `LedgerNetwork`: whoever has authorities.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// The ordering service of the network of that name.
    Ordering(String),
    /// The organization of that name.
    Organization(String),
}

impl Holder {
    /// The stem of its objects' names.
    pub fn name(&self) -> String {
        match self {
            Holder::Ordering(network) => format!("{network}-orderer"),
            Holder::Organization(name) => name.clone(),
        }
    }

    /// Its nodes together; the Service for clients has this name.
    pub fn group(&self) -> String {
        match self {
            Holder::Ordering(network) => format!("{network}-orderer"),
            Holder::Organization(name) => format!("{name}-peer"),
        }
    }

    /// The headless Service of its nodes.
    pub fn headless(&self) -> String {
        format!("{}-nodes", self.group())
    }

    /// The node of that index.
    pub fn node(&self, index: u32) -> String {
        format!("{}-{index}", self.group())
    }

    /// The Secret of a CA.
    pub fn authority(&self, root: RootUse) -> String {
        format!("{}-{}", self.name(), root.label())
    }

    /// The ConfigMap with the MSP, without keys.
    pub fn msp(&self) -> String {
        format!("{}-msp", self.name())
    }

    /// The Secret of a user.
    pub fn user(&self, user: &str) -> String {
        format!("{}-user-{user}", self.name())
    }

    /// The Secret with which the contract of a `Chaincode` registers.
    pub fn contract(&self, chaincode: &str) -> String {
        format!("{}-contract-{chaincode}", self.name())
    }
}

/// The Secret with a node's identity.
pub fn node_identity(node: &str) -> String {
    format!("{node}-identity")
}

/// The ConfigMap with a channel's genesis block.
pub fn genesis(channel: &str) -> String {
    format!("{channel}-genesis")
}

/// The ConfigMap with a channel's update that waits for signatures.
pub fn pending_update(channel: &str) -> String {
    format!("{channel}-update")
}

/// The host by which a Service is reached from every namespace of the cluster.
pub fn service_host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

/// Every host by which a Service may be called from within the cluster, shortest first.
pub fn service_hosts(service: &str, namespace: &str) -> [String; 4] {
    [
        service.to_owned(),
        format!("{service}.{namespace}"),
        service_host(service, namespace),
        format!("{service}.{namespace}.svc.cluster.local"),
    ]
}
