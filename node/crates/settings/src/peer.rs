//! Settings of a peer.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::{Limits, Logging, Msp, Operations, Storage, Tls};

/// Settings of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PeerSettings {
    /// The node's identity.
    pub msp: Msp,
    /// `host:port` of the gRPC listener. Default `0.0.0.0:7051`.
    pub listen: String,
    /// `host:port` at which clients and other peers reach this node; discovery tells it.
    /// Required.
    pub external_address: String,
    /// TLS of the listeners and of connections to orderers and other peers.
    pub tls: Tls,
    /// The operations port.
    pub operations: Operations,
    /// Directory of the ledgers and of installed chaincode packages. Required.
    pub data_dir: PathBuf,
    /// Chaincode runtime.
    pub chaincode: Chaincode,
    /// Gateway service.
    pub gateway: Gateway,
    /// Discovery service.
    pub discovery: Discovery,
    /// Other peers, beside the anchor peers that the channels' configurations name.
    /// Default none.
    pub known_peers: Vec<KnownPeer>,
    /// Taking blocks from orderers.
    pub deliver_client: DeliverClient,
    /// Validation of blocks.
    pub validation: Validation,
    /// Private data collections.
    pub private_data: PrivateData,
    /// Ledger options.
    pub ledger: LedgerOptions,
    /// Store on disk.
    pub storage: Storage,
    /// Limits of every connection.
    pub limits: Limits,
    /// Limits of a peer's own services.
    pub peer_limits: PeerLimits,
    /// Logging.
    pub logging: Logging,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            msp: Msp::default(),
            listen: "0.0.0.0:7051".to_owned(),
            external_address: String::new(),
            tls: Tls::default(),
            operations: Operations::default(),
            data_dir: PathBuf::new(),
            chaincode: Chaincode::default(),
            gateway: Gateway::default(),
            discovery: Discovery::default(),
            known_peers: Vec::new(),
            deliver_client: DeliverClient::default(),
            validation: Validation::default(),
            private_data: PrivateData::default(),
            ledger: LedgerOptions::default(),
            storage: Storage::default(),
            limits: Limits::default(),
            peer_limits: PeerLimits::default(),
            logging: Logging::default(),
        }
    }
}

/// Chaincode runtime: chaincode is a service, either dialled by the peer (`Connect`) or
/// dialling it (`Register`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Chaincode {
    /// `host:port` of the listener for contracts that dial the peer; empty turns it off.
    /// Default `127.0.0.1:7052`.
    pub listen: String,
    /// PEM files: CAs of the certificates of contracts that register. Default:
    /// `tls.clientRootCas`. Such a contract must present a certificate that one of these signed and
    /// that names its package, as the URI `weft:chaincode:LABEL:HASH`. Who has the key of one of
    /// them can speak as any contract, so name the peer's own organization's alone.
    pub client_root_cas: Vec<PathBuf>,
    /// DANGEROUS, for developing contracts on one's own machine only: anybody who reaches
    /// `chaincode.listen` may register as any contract, under any id, without a certificate; what
    /// it answers is endorsed. Default false.
    pub development: bool,
    /// Time for a contract to answer one invocation. Default 30 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub execute_timeout: Duration,
    /// Time for a contract to be reached and registered when it is first needed.
    /// Default 10 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub startup_timeout: Duration,
    /// How often KEEPALIVE is sent to a contract. Default `0s`, which is never, as in Fabric:
    /// fabric-shim for Node ends its process on that message.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub keepalive: Duration,
    /// Largest chaincode package that can be installed, bytes. Default 100 MiB.
    pub max_package_bytes: usize,
    /// Depth of calls from contract to contract. Default 16.
    pub max_call_depth: usize,
}

impl Default for Chaincode {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7052".to_owned(),
            client_root_cas: Vec::new(),
            development: false,
            execute_timeout: Duration::from_secs(30),
            startup_timeout: Duration::from_secs(10),
            keepalive: Duration::ZERO,
            max_package_bytes: 100 * 1024 * 1024,
            max_call_depth: 16,
        }
    }
}

/// Gateway service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gateway {
    /// Whether the service is offered. Default true.
    pub enabled: bool,
    /// Time for one endorser to answer. Default 30 s, as Fabric.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub endorsement_timeout: Duration,
    /// Time for an orderer to accept a transaction. Default 30 s, as Fabric.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub broadcast_timeout: Duration,
    /// Time for a connection to another node to be made. Default 3 s; Fabric waits 2 m, and
    /// with it whoever waits for another node to take over.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub dial_timeout: Duration,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            enabled: true,
            endorsement_timeout: Duration::from_secs(30),
            broadcast_timeout: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(3),
        }
    }
}

/// Discovery service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Discovery {
    /// Whether the service is offered. Default true.
    pub enabled: bool,
    /// Whether every member of the peer's organization may ask questions that are not
    /// about a channel (default: its administrators only). Default false.
    pub org_members_allowed_access: bool,
    /// How often other peers are asked for their height and chaincodes. Default 5 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub refresh_interval: Duration,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            enabled: true,
            org_members_allowed_access: false,
            refresh_interval: Duration::from_secs(5),
        }
    }
}

/// Another peer that this one can send proposals to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KnownPeer {
    /// MSP id of its organization. Required.
    pub msp_id: String,
    /// `host:port`. Required.
    pub address: String,
}

/// Taking blocks from orderers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeliverClient {
    /// First wait after a failed connection; it doubles up to `maxBackoff`. Default 100 ms.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub min_backoff: Duration,
    /// Longest wait between attempts. Default 10 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub max_backoff: Duration,
    /// Time for a connection to be made. Default 3 s, as Fabric.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub dial_timeout: Duration,
    /// An orderer that sends nothing for this long although others have newer blocks is left
    /// for another. Default 300 ms; Fabric's block censorship timeout is 30 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub stall_timeout: Duration,
    /// Blocks received and not yet validated, for each channel. Default 16.
    pub buffer_blocks: usize,
    /// Bytes of blocks received and not yet validated, for each channel. Default 64 MiB.
    pub buffer_bytes: usize,
}

impl Default for DeliverClient {
    fn default() -> Self {
        Self {
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(3),
            stall_timeout: Duration::from_millis(300),
            buffer_blocks: 16,
            buffer_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Validation of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Validation {
    /// Threads that verify signatures; 0 is one a core. Default 0.
    pub workers: usize,
}

/// Private data collections: values that only the peers of a collection's members hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrivateData {
    /// How long a block waits for private values that other members have and this peer has not.
    /// What does not come in time is recorded as missing, and the block is committed; `0s` does
    /// not wait. Default 5 s; Fabric waits 60 s (`pvtData.pullRetryThreshold`).
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub pull_timeout: Duration,
    /// Time for other members to take the private values of an endorsement. Default 3 s, as
    /// Fabric.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub push_timeout: Duration,
    /// How often members are asked for private values that are missing. Default 60 s, as Fabric;
    /// `0s` never.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub reconcile_interval: Duration,
    /// Most that one transaction may write to one collection and still be passed to other peers,
    /// bytes. Default 16 MiB.
    pub max_bytes: usize,
}

impl Default for PrivateData {
    fn default() -> Self {
        Self {
            pull_timeout: Duration::from_secs(5),
            push_timeout: Duration::from_secs(3),
            reconcile_interval: Duration::from_secs(60),
            max_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Ledger options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LedgerOptions {
    /// Whether the history of keys is kept (GetHistoryForKey). Default true.
    pub history: bool,
    /// Most keys that one query of a contract returns. Default 100000, as Fabric.
    pub total_query_limit: usize,
    /// Results sent to a contract at one time. Default 1000.
    pub query_page_size: usize,
    /// Bytes of keys and values in one page that a contract asked for; the page ends there, and its
    /// bookmark says where the next one begins. Default 32 MiB.
    pub query_page_bytes: usize,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            history: true,
            total_query_limit: 100_000,
            query_page_size: 1000,
            query_page_bytes: 32 * 1024 * 1024,
        }
    }
}

/// Limits of a peer's own services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PeerLimits {
    /// Proposals endorsed at one time, shared by organizations; more get RESOURCE_EXHAUSTED.
    /// Default 3125, of which one organization alone gets 2500, as Fabric.
    pub concurrent_endorsements: usize,
    /// Gateway calls at one time, waiting CommitStatus calls counted, shared by organizations; more
    /// get RESOURCE_EXHAUSTED. Default 625, of which one organization alone gets 500, as Fabric.
    pub gateway_concurrency: usize,
    /// Discovery requests at one time, shared by organizations. Default 256.
    pub discovery_concurrency: usize,
    /// Largest answer to a discovery request, bytes. Default 16 MiB.
    pub discovery_answer_bytes: usize,
    /// Connections to other nodes kept open. Default 256.
    pub outgoing_connections: usize,
    /// Events (commit status, chaincode events) that wait for one slow client before its
    /// stream is ended. Default 256.
    pub event_buffer: usize,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            concurrent_endorsements: 3125,
            gateway_concurrency: 625,
            discovery_concurrency: 256,
            discovery_answer_bytes: 16 * 1024 * 1024,
            outgoing_connections: 256,
            event_buffer: 256,
        }
    }
}
