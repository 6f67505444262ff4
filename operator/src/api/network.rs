//! `LedgerNetwork`: the ordering service, and the defaults of everything in the network.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{BatchSpec, CertificateSpec, Condition, CryptoSuite, DeletionPolicy, NodeSpec};

/// A network of organizations that share ledgers: its ordering service, and the defaults for
/// the organizations, channels and chaincodes that name it in `networkRef`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "LedgerNetwork",
    plural = "ledgernetworks",
    shortname = "ln",
    category = "weft",
    namespaced,
    status = "LedgerNetworkStatus",
    printcolumn = r#"{"name":"Orderers","type":"string","jsonPath":".status.orderers","description":"Orderers ready / wanted"}"#,
    printcolumn = r#"{"name":"Organizations","type":"integer","jsonPath":".status.organizations"}"#,
    printcolumn = r#"{"name":"Channels","type":"integer","jsonPath":".status.channels"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Leader","type":"string","jsonPath":".status.leader","priority":1}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.soonestExpiry","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LedgerNetworkSpec {
    /// The ordering service.
    #[serde(default)]
    pub ordering: OrderingSpec,
    /// When blocks are cut, unless a channel says otherwise.
    #[serde(default)]
    pub batch: BatchSpec,
    /// The cryptography of the whole network.
    #[serde(default)]
    #[x_kube(validation = ("self == oldSelf", "the crypto suite of a network cannot change"))]
    pub crypto: CryptoSuite,
    /// Lifetimes of certificates, unless an organization says otherwise.
    #[serde(default)]
    pub certificates: CertificateSpec,
    /// How nodes run, unless `ordering` or an organization says otherwise.
    #[serde(default)]
    pub node: NodeSpec,
    /// What happens to volumes, CA keys and genesis blocks when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// How the orderers agree on the order of transactions.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsensusType {
    /// One orderer, no fault tolerance: for development.
    Solo,
    /// Crash fault tolerant: n orderers survive the loss of (n − 1) / 2.
    #[default]
    Raft,
}

/// The ordering service of a network.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("self.consensus != 'Solo' || self.replicas == 1", "Solo runs with exactly one orderer: set replicas to 1 or consensus to Raft"))]
pub struct OrderingSpec {
    /// How the orderers agree.
    #[serde(default)]
    #[x_kube(validation = ("self == oldSelf", "the consensus type cannot be changed here"))]
    pub consensus: ConsensusType,
    /// Number of orderers. Three survive the loss of one, five of two.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 25))]
    pub replicas: u32,
    /// MSP id of the organization that runs the orderers.
    #[serde(default = "default_orderer_msp")]
    #[x_kube(validation = ("self == oldSelf", "an MSP id cannot change"))]
    pub msp_id: String,
    /// Timing of Raft; written into each channel's config.
    #[serde(default)]
    pub raft: RaftOptions,
    /// How the orderers run; what is absent comes from the network's `node`.
    #[serde(default)]
    pub node: NodeSpec,
}

impl Default for OrderingSpec {
    fn default() -> Self {
        OrderingSpec {
            consensus: ConsensusType::default(),
            replicas: default_replicas(),
            msp_id: default_orderer_msp(),
            raft: RaftOptions::default(),
            node: NodeSpec::default(),
        }
    }
}

fn default_replicas() -> u32 {
    3
}

fn default_orderer_msp() -> String {
    "OrdererMSP".to_owned()
}

/// Timing of Raft (Fabric: `orderer/etcdraft/configuration.proto`, `Options`).
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("self.electionTicks > self.heartbeatTicks", "electionTicks must be larger than heartbeatTicks"))]
pub struct RaftOptions {
    /// Length of a tick, such as `100ms`.
    #[serde(default = "default_tick_interval")]
    pub tick_interval: String,
    /// Ticks without a heartbeat after which a follower asks for an election.
    #[serde(default = "default_election_ticks")]
    #[schemars(range(min = 2))]
    pub election_ticks: u32,
    /// Ticks between a leader's heartbeats.
    #[serde(default = "default_heartbeat_ticks")]
    #[schemars(range(min = 1))]
    pub heartbeat_ticks: u32,
    /// Blocks that a leader proposes before the first of them is settled.
    #[serde(default = "default_max_inflight_blocks")]
    #[schemars(range(min = 1))]
    pub max_inflight_blocks: u32,
    /// Bytes of log after which a snapshot is taken and the log is cut.
    #[serde(default = "default_snapshot_interval")]
    #[schemars(range(min = 1))]
    pub snapshot_interval_bytes: u32,
}

impl Default for RaftOptions {
    fn default() -> Self {
        RaftOptions {
            tick_interval: default_tick_interval(),
            election_ticks: default_election_ticks(),
            heartbeat_ticks: default_heartbeat_ticks(),
            max_inflight_blocks: default_max_inflight_blocks(),
            snapshot_interval_bytes: default_snapshot_interval(),
        }
    }
}

fn default_tick_interval() -> String {
    "100ms".to_owned()
}

fn default_election_ticks() -> u32 {
    10
}

fn default_heartbeat_ticks() -> u32 {
    1
}

fn default_max_inflight_blocks() -> u32 {
    5
}

fn default_snapshot_interval() -> u32 {
    16 * 1024 * 1024
}

/// What the controller last saw of a network.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LedgerNetworkStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Orderers ready and wanted, as `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orderers: Option<String>,
    /// Number of organizations that name this network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizations: Option<u32>,
    /// Number of channels that name this network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
    /// Node that leads the ordering service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Raft term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// `host:port` of each orderer, by name.
    #[serde(default)]
    pub endpoints: BTreeMap<String, String>,
    /// SHA-256 of the ordering service's identity CA, hexadecimal: fixed once the CA is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_fingerprint: Option<String>,
    /// SHA-256 of the ordering service's TLS CA, hexadecimal: fixed once the CA is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca_fingerprint: Option<String>,
    /// When the first certificate of the ordering service ends, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soonest_expiry: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Ready` and its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
