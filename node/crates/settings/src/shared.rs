//! The parts that orderers and peers have in common.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The node's own identity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Msp {
    /// MSP id of the organization, such as `Org1MSP`. Required.
    pub id: String,
    /// The MSP folder in Fabric's layout (`signcerts`, `keystore`, `cacerts`, …). Required. A
    /// renewed certificate and changed revocation lists are taken over while the node runs; see
    /// `tls.reloadInterval`.
    pub dir: PathBuf,
}

/// Whether a server asks its clients for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Asked for but not needed. One that is presented must still be valid.
    #[default]
    Optional,
    /// A handshake without a valid client certificate fails.
    Required,
}

/// TLS of the node's main listener and of the connections it makes. Always on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file: this node's TLS certificate, followed by intermediates if any. It is used
    /// as server and as client certificate. Required.
    pub cert: PathBuf,
    /// PEM file: the PKCS#8 private key of `cert`. Required.
    pub key: PathBuf,
    /// PEM files with the CA certificates that servers are checked against, beside those
    /// that the channels' configurations name. At least one.
    pub root_cas: Vec<PathBuf>,
    /// Whether clients must present a certificate. Default `optional`: client applications
    /// of Fabric networks usually have none; services between nodes ask for one themselves.
    pub client_auth: ClientAuth,
    /// PEM files with the CA certificates that clients are checked against, beside those
    /// that the channels' configurations name. Default: the same as `rootCas`.
    pub client_root_cas: Vec<PathBuf>,
    /// PEM or DER files with certificate revocation lists for TLS certificates. Default none.
    pub crls: Vec<PathBuf>,
    /// How often the files above and the MSP folder (`msp.dir`) are looked at for changes, which
    /// are taken over without a restart. Default 10 s; `0s` never.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub reload_interval: Duration,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            cert: PathBuf::new(),
            key: PathBuf::new(),
            root_cas: Vec::new(),
            client_auth: ClientAuth::Optional,
            client_root_cas: Vec::new(),
            crls: Vec::new(),
            reload_interval: Duration::from_secs(10),
        }
    }
}

impl Tls {
    /// The files whose certificates client certificates are checked against.
    pub fn effective_client_root_cas(&self) -> &[PathBuf] {
        if self.client_root_cas.is_empty() { &self.root_cas } else { &self.client_root_cas }
    }
}

/// The operations port: `/healthz`, `/metrics`, `/logspec`, `/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Operations {
    /// `host:port` to listen at; empty turns the port off. Default `127.0.0.1:9443`, for an
    /// orderer `127.0.0.1:8443`.
    pub listen: String,
    /// TLS of the port.
    pub tls: OperationsTls,
}

impl Default for Operations {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9443".to_owned(), tls: OperationsTls::default() }
    }
}

/// TLS of the operations port. It may be off, as monitoring often reaches the port over
/// loopback or a pod network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OperationsTls {
    /// Whether the port speaks TLS. Default false.
    pub enabled: bool,
    /// PEM file of the server certificate. Default: the node's `tls.cert`.
    pub cert: PathBuf,
    /// PEM file of the server key. Default: the node's `tls.key`.
    pub key: PathBuf,
    /// Whether clients must present a certificate. Default `optional`. When it is
    /// `optional`, `/metrics` and `/logspec` still ask for one (with TLS on).
    pub client_auth: ClientAuth,
    /// PEM files with the CA certificates that clients are checked against. Default: the
    /// node's `tls.rootCas`.
    pub client_root_cas: Vec<PathBuf>,
}

/// HTTP/2 keepalive, for servers and for connections that the node makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Keepalive {
    /// A ping is sent after this long without one. Default 60 s; `0s` sends none.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// The connection is closed when a ping is not answered in this time. Default 20 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), timeout: Duration::from_secs(20) }
    }
}

/// Limits that hold for every connection of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Largest gRPC message received or sent, bytes. Default 100 MiB, as Fabric.
    pub max_message_bytes: usize,
    /// Largest request that only asks (discovery, Deliver, CommitStatus, ChaincodeEvents) and
    /// largest first message between nodes, bytes. Default 256 KiB.
    pub max_query_bytes: usize,
    /// Connections of clients with a valid TLS certificate that are open at one time on a listener.
    /// More are closed at once. The clients of one CA get at most four fifths, and less the more
    /// others hold; so do all limits here that are shared by organizations. Default 4096.
    pub max_connections: usize,
    /// Connections of clients without a valid TLS certificate that are open at one time on a
    /// listener, shared by address in the same way; as many again may shake hands. Default 1024.
    pub stranger_connections: usize,
    /// Streams (calls) open at one time on one connection. Default 1024.
    pub max_concurrent_streams: u32,
    /// Calls open at one time on the node, shared by organizations: the CA of a client's TLS
    /// certificate, or the MSP of whoever signed the request. Default 16384.
    pub max_calls: usize,
    /// Calls open at one time of clients that have proved nothing yet, shared by address.
    /// Default 2048.
    pub stranger_calls: usize,
    /// Memory for messages that are received or handled, bytes, shared by organizations. The first
    /// 16 KiB of each call do not count. Default 512 MiB.
    pub receive_bytes: usize,
    /// The same for clients that have proved nothing, shared by address. Clients without a TLS
    /// certificate send their transactions within it. Default 128 MiB.
    pub stranger_receive_bytes: usize,
    /// Memory for answers that wait to be sent, bytes, shared by organizations; further answers
    /// wait. Default 512 MiB.
    pub send_bytes: usize,
    /// The same for clients that have proved nothing, shared by address. Default 32 MiB.
    pub stranger_send_bytes: usize,
    /// Deliver streams open at one time on the node, shared by organizations. Default 3125, of
    /// which one organization alone gets 2500, as Fabric.
    pub deliver_streams: usize,
    /// Blocks read ahead for one Deliver stream. Default 8.
    pub deliver_buffer: usize,
    /// Time for a TLS handshake and the HTTP preface; slower clients are dropped.
    /// Default 10 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub handshake_timeout: Duration,
    /// Time for the first message of a call to begin. Default 10 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub first_message_timeout: Duration,
    /// Time for a message to arrive once it has begun. Default 60 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub message_timeout: Duration,
    /// Time that open calls get to end when the node stops. Default 10 s.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub shutdown_timeout: Duration,
    /// Largest difference between a request's timestamp and the node's clock. Default 15 m,
    /// as Fabric.
    #[serde(with = "crate::duration")]
    #[schemars(with = "String")]
    pub time_window: Duration,
    /// Keepalive of HTTP/2 connections.
    pub keepalive: Keepalive,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 100 * 1024 * 1024,
            max_query_bytes: 256 * 1024,
            max_connections: 4096,
            stranger_connections: 1024,
            max_concurrent_streams: 1024,
            max_calls: 16384,
            stranger_calls: 2048,
            receive_bytes: 512 * 1024 * 1024,
            stranger_receive_bytes: 128 * 1024 * 1024,
            send_bytes: 512 * 1024 * 1024,
            stranger_send_bytes: 32 * 1024 * 1024,
            deliver_streams: 3125,
            deliver_buffer: 8,
            handshake_timeout: Duration::from_secs(10),
            first_message_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(10),
            time_window: Duration::from_secs(15 * 60),
            keepalive: Keepalive::default(),
        }
    }
}

/// Options of the store on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Storage {
    /// Cache of uncompressed blocks of the store, bytes, shared by all channels.
    /// Default 64 MiB.
    pub block_cache_bytes: usize,
    /// Memory that writes may take before they are flushed, bytes, for each channel.
    /// Default 16 MiB.
    pub write_buffer_bytes: usize,
    /// Files that the store keeps open, for each channel; 0 is no limit. Default 512.
    pub max_open_files: u32,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            block_cache_bytes: 64 * 1024 * 1024,
            write_buffer_bytes: 16 * 1024 * 1024,
            max_open_files: 512,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// A log file that the node writes and rotates itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogFile {
    /// The file; empty logs to standard error. Default empty; `weft up` sets it. What the process
    /// prints otherwise, such as a panic, goes there as well.
    pub path: PathBuf,
    /// A file is followed by a new one before it exceeds this many bytes. Default 16 MiB.
    pub max_bytes: u64,
    /// How many files are kept, the present one counted: `node.log`, then `node.log.1` to the
    /// oldest. Default 4.
    pub max_files: usize,
}

impl Default for LogFile {
    fn default() -> Self {
        Self { path: PathBuf::new(), max_bytes: 16 * 1024 * 1024, max_files: 4 }
    }
}

/// Logging, to standard error or to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Logging {
    /// What is logged: Fabric's form (`info:weft_peer,weft_rpc=debug`) or that of
    /// `tracing` (`info,weft_peer=debug`). Default `info`.
    pub spec: String,
    /// Form of the lines. Default `text`.
    pub format: LogFormat,
    /// A file instead of standard error.
    pub file: LogFile,
}

impl Default for Logging {
    fn default() -> Self {
        Self { spec: "info".to_owned(), format: LogFormat::Text, file: LogFile::default() }
    }
}
