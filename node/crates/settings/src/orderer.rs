//! Settings of an orderer.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::{ClientAuth, Limits, Logging, Msp, Operations, Storage, Tls};

/// Settings of an orderer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OrdererSettings {
    /// The node's identity.
    pub msp: Msp,
    /// `host:port` of the gRPC listener (AtomicBroadcast, Cluster). Default `0.0.0.0:7050`.
    pub listen: String,
    /// `host:port` at which clients and other orderers reach this node; the channels'
    /// configurations name it as endpoint and consenter. Required.
    pub external_address: String,
    /// TLS of the gRPC listener and of connections to other orderers.
    pub tls: Tls,
    /// The operations port.
    pub operations: Operations,
    /// The participation API (HTTPS, admin).
    pub participation: Participation,
    /// Directory of the ledgers and of the consensus logs. Required.
    pub data_dir: PathBuf,
    /// Traffic between orderers.
    pub cluster: Cluster,
    /// How blocks are cut.
    pub batching: Batching,
    /// Overrides of Raft options that the channels' configurations set.
    pub raft: RaftOverrides,
    /// Store on disk.
    pub storage: Storage,
    /// Limits of every connection.
    pub limits: Limits,
    /// Limits of an orderer's own services.
    pub orderer_limits: OrdererLimits,
    /// Logging.
    pub logging: Logging,
}

impl Default for OrdererSettings {
    fn default() -> Self {
        Self {
            msp: Msp::default(),
            listen: "0.0.0.0:7050".to_owned(),
            external_address: String::new(),
            tls: Tls::default(),
            operations: Operations { listen: "127.0.0.1:8443".to_owned(), ..Operations::default() },
            participation: Participation::default(),
            data_dir: PathBuf::new(),
            cluster: Cluster::default(),
            batching: Batching::default(),
            raft: RaftOverrides::default(),
            storage: Storage::default(),
            limits: Limits::default(),
            orderer_limits: OrdererLimits::default(),
            logging: Logging::default(),
        }
    }
}

/// The participation API: joining and leaving channels. Always TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Participation {
    /// `host:port` of the HTTPS listener; empty turns it off. Default `127.0.0.1:7053`.
    pub listen: String,
    /// Whether clients must present a certificate. Default `required`. `optional` is
    /// refused by validation: the API has no other authentication.
    pub client_auth: ClientAuth,
    /// PEM files with the CA certificates of the administrators' TLS certificates.
    /// Default: `tls.clientRootCas`.
    pub root_cas: Vec<PathBuf>,
    /// Largest request body, bytes. Default 1 MiB, as Fabric.
    pub max_request_body_bytes: usize,
}

impl Default for Participation {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7053".to_owned(),
            client_auth: ClientAuth::Required,
            root_cas: Vec::new(),
            max_request_body_bytes: 1024 * 1024,
        }
    }
}

/// Traffic between orderers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    /// Time for a connection to be made. Default 5 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub dial_timeout: Duration,
    /// Time for a call to be answered, and after which a stream that makes no progress is
    /// given up. Default 7 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub rpc_timeout: Duration,
    /// Messages that may wait for one other orderer of one channel; more are dropped (Raft
    /// repeats them). Default 100, as Fabric.
    pub send_buffer: usize,
    /// Catching up from other orderers' blocks.
    pub replication: Replication,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(5),
            rpc_timeout: Duration::from_secs(7),
            send_buffer: 100,
            replication: Replication::default(),
        }
    }
}

/// Catching up from other orderers' blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Replication {
    /// Time without a block after which another source is tried. Default 5 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub pull_timeout: Duration,
    /// Wait between rounds of attempts. Default 1 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub retry_interval: Duration,
    /// How often a node that does not belong to a channel asks whether it does.
    /// Default 10 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub refresh_interval: Duration,
    /// Memory for blocks that were pulled and not yet written, bytes. Default 20 MiB.
    pub buffer_bytes: usize,
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            pull_timeout: Duration::from_secs(5),
            retry_interval: Duration::from_secs(1),
            refresh_interval: Duration::from_secs(10),
            buffer_bytes: 20 * 1024 * 1024,
        }
    }
}

/// How blocks are cut. Their sizes and the timeout come from the channel's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Batching {
    /// Cut a batch as soon as nothing is in flight, so that BatchTimeout is a ceiling.
    /// `false` always waits for a full batch or BatchTimeout, as Fabric. Default true.
    pub cut_when_idle: bool,
    /// Batches proposed and not yet written, for each channel. Default 5 (Fabric's
    /// MaxInflightBlocks).
    pub max_in_flight: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self { cut_when_idle: true, max_in_flight: 5 }
    }
}

/// Raft options. What is absent is taken from the channel's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RaftOverrides {
    /// Length of a tick.
    #[serde(with = "crate::duration::option")]
    #[schemars(with = "Option<String>")]
    pub tick_interval: Option<Duration>,
    /// Bytes of log after which a snapshot is taken.
    pub snapshot_interval_bytes: Option<u64>,
    /// Entries kept in the log behind a snapshot for followers that lag. Default 20000.
    pub catch_up_entries: Option<u64>,
}

/// Limits of an orderer's own services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OrdererLimits {
    /// Broadcast streams open at one time, shared by organizations. Default 3125, of which one
    /// organization alone gets 2500.
    pub broadcast_streams: usize,
    /// Envelopes of one broadcast stream that are checked or ordered at one time; further
    /// ones wait on the wire. Default 256.
    pub broadcast_in_flight: usize,
    /// Envelopes that wait to be ordered, for each channel. When it is full, senders get
    /// SERVICE_UNAVAILABLE. Default 10000.
    pub queue_length: usize,
    /// Bytes of envelopes that wait to be ordered, for each channel. Default 256 MiB.
    pub queue_bytes: usize,
}

impl Default for OrdererLimits {
    fn default() -> Self {
        Self {
            broadcast_streams: 3125,
            broadcast_in_flight: 256,
            queue_length: 10_000,
            queue_bytes: 256 * 1024 * 1024,
        }
    }
}
