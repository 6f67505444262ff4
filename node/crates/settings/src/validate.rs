//! Checks of fields and of the relations between them. All problems are told at once, each
//! with the path of its field.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::shared::{ClientAuth, Limits, Logging, Msp, Operations, Storage, Tls};
use crate::{OrdererSettings, PeerSettings, SettingsError};

/// A field with a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, such as `tls.cert`.
    pub path: String,
    /// What is wrong, such as `must be set`.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// Problems in one line.
pub(crate) struct Problems<'a>(pub &'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl OrdererSettings {
    /// Checks every field.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`] with every problem found.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.msp(&self.msp);
        check.address("listen", &self.listen);
        check.address("externalAddress", &self.external_address);
        check.external("externalAddress", &self.external_address);
        check.tls(&self.tls);
        check.operations(&self.operations);
        check.set("dataDir", &self.data_dir);
        check.limits(&self.limits);
        check.storage(&self.storage);
        check.logging(&self.logging);
        check.participation(self);
        check.cluster(self);
        check.positive("batching.maxInFlight", self.batching.max_in_flight);
        let raft = &self.raft;
        if let Some(interval) = raft.tick_interval {
            check.duration("raft.tickInterval", interval);
        }
        if raft.snapshot_interval_bytes == Some(0) {
            check.problem("raft.snapshotIntervalBytes", "must be greater than 0");
        }
        let limits = &self.orderer_limits;
        check.positive("ordererLimits.broadcastStreams", limits.broadcast_streams);
        check.positive("ordererLimits.broadcastInFlight", limits.broadcast_in_flight);
        check.positive("ordererLimits.queueLength", limits.queue_length);
        check.positive("ordererLimits.queueBytes", limits.queue_bytes);
        check.distinct(&[
            ("listen", &self.listen),
            ("operations.listen", &self.operations.listen),
            ("participation.listen", &self.participation.listen),
        ]);
        check.finish()
    }

    /// Makes relative paths absolute, seen from the directory `base` (that of the settings
    /// file).
    pub fn resolve_paths(&mut self, base: &Path) {
        resolve(base, [&mut self.msp.dir, &mut self.data_dir, &mut self.logging.file.path]);
        resolve_tls(base, &mut self.tls, &mut self.operations);
        resolve(base, self.participation.root_cas.iter_mut());
    }
}

impl PeerSettings {
    /// Checks every field.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`] with every problem found.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.msp(&self.msp);
        check.address("listen", &self.listen);
        check.address("externalAddress", &self.external_address);
        check.external("externalAddress", &self.external_address);
        check.tls(&self.tls);
        check.operations(&self.operations);
        check.set("dataDir", &self.data_dir);
        check.limits(&self.limits);
        check.storage(&self.storage);
        check.logging(&self.logging);
        check.chaincode(self);
        check.duration("gateway.endorsementTimeout", self.gateway.endorsement_timeout);
        check.duration("gateway.broadcastTimeout", self.gateway.broadcast_timeout);
        check.duration("gateway.dialTimeout", self.gateway.dial_timeout);
        check.duration("discovery.refreshInterval", self.discovery.refresh_interval);
        for (index, peer) in self.known_peers.iter().enumerate() {
            check.text(&format!("knownPeers[{index}].mspId"), &peer.msp_id);
            check.address(&format!("knownPeers[{index}].address"), &peer.address);
        }
        check.deliver_client(self);
        check.private_data(self);
        check.positive("ledger.totalQueryLimit", self.ledger.total_query_limit);
        check.positive("ledger.queryPageSize", self.ledger.query_page_size);
        let limits = &self.peer_limits;
        check.positive("peerLimits.concurrentEndorsements", limits.concurrent_endorsements);
        check.positive("peerLimits.gatewayConcurrency", limits.gateway_concurrency);
        check.positive("peerLimits.discoveryConcurrency", limits.discovery_concurrency);
        check.positive("peerLimits.discoveryAnswerBytes", limits.discovery_answer_bytes);
        check.positive("peerLimits.outgoingConnections", limits.outgoing_connections);
        check.positive("peerLimits.eventBuffer", limits.event_buffer);
        check.distinct(&[
            ("listen", &self.listen),
            ("operations.listen", &self.operations.listen),
            ("chaincode.listen", &self.chaincode.listen),
        ]);
        check.finish()
    }

    /// Makes relative paths absolute, seen from the directory `base` (that of the settings
    /// file).
    pub fn resolve_paths(&mut self, base: &Path) {
        resolve(base, [&mut self.msp.dir, &mut self.data_dir, &mut self.logging.file.path]);
        resolve(base, &mut self.chaincode.client_root_cas);
        resolve_tls(base, &mut self.tls, &mut self.operations);
    }
}

fn resolve<'a>(base: &Path, paths: impl IntoIterator<Item = &'a mut PathBuf>) {
    for path in paths {
        if !path.as_os_str().is_empty() {
            *path = base.join(&path);
        }
    }
}

fn resolve_tls(base: &Path, tls: &mut Tls, operations: &mut Operations) {
    resolve(base, [&mut tls.cert, &mut tls.key]);
    resolve(base, tls.root_cas.iter_mut().chain(&mut tls.client_root_cas).chain(&mut tls.crls));
    resolve(base, [&mut operations.tls.cert, &mut operations.tls.key]);
    resolve(base, operations.tls.client_root_cas.iter_mut());
}

#[derive(Default)]
struct Check(Vec<Problem>);

impl Check {
    fn problem(&mut self, path: &str, reason: impl Into<String>) {
        self.0.push(Problem { path: path.to_owned(), reason: reason.into() });
    }

    fn finish(self) -> Result<(), SettingsError> {
        if self.0.is_empty() { Ok(()) } else { Err(SettingsError::Invalid(self.0)) }
    }

    fn text(&mut self, path: &str, value: &str) {
        if value.is_empty() {
            self.problem(path, "must be set");
        }
    }

    fn set(&mut self, path: &str, value: &Path) {
        if value.as_os_str().is_empty() {
            self.problem(path, "must be set");
        }
    }

    fn positive(&mut self, path: &str, value: usize) {
        if value == 0 {
            self.problem(path, "must be greater than 0");
        }
    }

    fn duration(&mut self, path: &str, value: Duration) {
        if value.is_zero() {
            self.problem(path, "must be longer than 0s");
        }
    }

    /// `host:port`, the host a name, an IPv4 address or an IPv6 address in brackets.
    fn address(&mut self, path: &str, value: &str) {
        if value.is_empty() {
            return self.problem(path, "must be set");
        }
        let parts = value.rsplit_once(':').filter(|(host, _)| valid_host(host));
        if parts.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            self.problem(path, format!("{value:?} is not host:port"));
        }
    }

    fn optional_address(&mut self, path: &str, value: &str) {
        if !value.is_empty() {
            self.address(path, value);
        }
    }

    /// An address that others dial: neither the unspecified address nor port 0.
    fn external(&mut self, path: &str, value: &str) {
        let Some((host, port)) = value.rsplit_once(':') else { return };
        if port.parse() == Ok(0u16) || matches!(host, "0.0.0.0" | "[::]") {
            self.problem(path, format!("{value:?} cannot be dialled by others"));
        }
    }

    fn distinct(&mut self, listeners: &[(&str, &String)]) {
        for (index, (path, address)) in listeners.iter().enumerate() {
            let clash = listeners.iter().take(index).find(|(_, other)| {
                !address.is_empty() && other == address && !address.ends_with(":0")
            });
            if let Some((other, _)) = clash {
                self.problem(path, format!("{address:?} is also the address of {other}"));
            }
        }
    }

    fn msp(&mut self, msp: &Msp) {
        self.text("msp.id", &msp.id);
        self.set("msp.dir", &msp.dir);
    }

    fn tls(&mut self, tls: &Tls) {
        self.set("tls.cert", &tls.cert);
        self.set("tls.key", &tls.key);
        if tls.root_cas.is_empty() {
            self.problem("tls.rootCas", "must name at least one file");
        }
        self.paths("tls.rootCas", &tls.root_cas);
        self.paths("tls.clientRootCas", &tls.client_root_cas);
        self.paths("tls.crls", &tls.crls);
    }

    fn paths(&mut self, path: &str, values: &[PathBuf]) {
        for (index, value) in values.iter().enumerate() {
            self.set(&format!("{path}[{index}]"), value);
        }
    }

    fn operations(&mut self, operations: &Operations) {
        self.optional_address("operations.listen", &operations.listen);
        let tls = &operations.tls;
        if tls.cert.as_os_str().is_empty() != tls.key.as_os_str().is_empty() {
            self.problem("operations.tls.key", "must be set together with operations.tls.cert");
        }
        if !tls.enabled && tls.client_auth == ClientAuth::Required {
            self.problem("operations.tls.clientAuth", "needs operations.tls.enabled");
        }
    }

    fn limits(&mut self, limits: &Limits) {
        if limits.max_message_bytes < 64 * 1024 {
            self.problem("limits.maxMessageBytes", "must be at least 65536 (64 KiB)");
        }
        if u32::try_from(limits.max_message_bytes).is_err() {
            self.problem("limits.maxMessageBytes", "must be less than 4 GiB");
        }
        if limits.max_query_bytes < 16 * 1024 {
            self.problem("limits.maxQueryBytes", "must be at least 16384 (16 KiB)");
        }
        self.positive("limits.maxConnections", limits.max_connections);
        self.positive("limits.strangerConnections", limits.stranger_connections);
        self.positive("limits.maxCalls", limits.max_calls);
        self.positive("limits.strangerCalls", limits.stranger_calls);
        self.positive("limits.strangerSendBytes", limits.stranger_send_bytes);
        self.share(
            limits,
            &[
                ("limits.receiveBytes", limits.receive_bytes),
                ("limits.strangerReceiveBytes", limits.stranger_receive_bytes),
                ("limits.sendBytes", limits.send_bytes),
            ],
        );
        if limits.max_concurrent_streams == 0 {
            self.problem("limits.maxConcurrentStreams", "must be greater than 0");
        }
        self.positive("limits.deliverStreams", limits.deliver_streams);
        self.positive("limits.deliverBuffer", limits.deliver_buffer);
        self.duration("limits.handshakeTimeout", limits.handshake_timeout);
        self.duration("limits.firstMessageTimeout", limits.first_message_timeout);
        self.duration("limits.messageTimeout", limits.message_timeout);
        self.duration("limits.timeWindow", limits.time_window);
        if !limits.keepalive.interval.is_zero() {
            self.duration("limits.keepalive.timeout", limits.keepalive.timeout);
        }
    }

    /// A lone caller gets four fifths of a memory limit, which has to hold the largest message.
    fn share(&mut self, limits: &Limits, memory: &[(&str, usize)]) {
        for (path, bytes) in memory {
            if bytes / 5 * 4 < limits.max_message_bytes {
                self.problem(path, "must be at least five fourths of limits.maxMessageBytes");
            }
        }
    }

    fn storage(&mut self, storage: &Storage) {
        self.positive("storage.blockCacheBytes", storage.block_cache_bytes);
        if storage.write_buffer_bytes < 64 * 1024 {
            self.problem("storage.writeBufferBytes", "must be at least 65536 (64 KiB)");
        }
    }

    fn logging(&mut self, logging: &Logging) {
        if logging.file.max_bytes < 64 * 1024 {
            self.problem("logging.file.maxBytes", "must be at least 65536 (64 KiB)");
        }
        self.positive("logging.file.maxFiles", logging.file.max_files);
    }

    fn participation(&mut self, settings: &OrdererSettings) {
        let participation = &settings.participation;
        self.optional_address("participation.listen", &participation.listen);
        if participation.client_auth == ClientAuth::Optional {
            self.problem(
                "participation.clientAuth",
                "must be required: the API has no other authentication",
            );
        }
        self.paths("participation.rootCas", &participation.root_cas);
        self.positive("participation.maxRequestBodyBytes", participation.max_request_body_bytes);
    }

    fn cluster(&mut self, settings: &OrdererSettings) {
        let cluster = &settings.cluster;
        self.duration("cluster.dialTimeout", cluster.dial_timeout);
        self.duration("cluster.rpcTimeout", cluster.rpc_timeout);
        self.positive("cluster.sendBuffer", cluster.send_buffer);
        let replication = &cluster.replication;
        self.duration("cluster.replication.pullTimeout", replication.pull_timeout);
        self.duration("cluster.replication.retryInterval", replication.retry_interval);
        self.duration("cluster.replication.refreshInterval", replication.refresh_interval);
        self.positive("cluster.replication.bufferBytes", replication.buffer_bytes);
    }

    fn chaincode(&mut self, settings: &PeerSettings) {
        let chaincode = &settings.chaincode;
        self.optional_address("chaincode.listen", &chaincode.listen);
        self.paths("chaincode.clientRootCas", &chaincode.client_root_cas);
        self.duration("chaincode.executeTimeout", chaincode.execute_timeout);
        self.duration("chaincode.startupTimeout", chaincode.startup_timeout);
        self.positive("chaincode.maxPackageBytes", chaincode.max_package_bytes);
        self.positive("chaincode.maxCallDepth", chaincode.max_call_depth);
        if chaincode.max_package_bytes > settings.limits.max_message_bytes {
            self.problem("chaincode.maxPackageBytes", "must not exceed limits.maxMessageBytes");
        }
    }

    fn private_data(&mut self, settings: &PeerSettings) {
        let private = &settings.private_data;
        self.duration("privateData.pushTimeout", private.push_timeout);
        self.positive("privateData.maxBytes", private.max_bytes);
        // A message holds one collection's writes and what says to what they belong.
        if private.max_bytes > settings.limits.max_message_bytes / 2 {
            self.problem("privateData.maxBytes", "must not exceed half of limits.maxMessageBytes");
        }
    }

    fn deliver_client(&mut self, settings: &PeerSettings) {
        let client = &settings.deliver_client;
        self.duration("deliverClient.minBackoff", client.min_backoff);
        if client.max_backoff < client.min_backoff {
            self.problem("deliverClient.maxBackoff", "must not be shorter than minBackoff");
        }
        self.duration("deliverClient.dialTimeout", client.dial_timeout);
        self.duration("deliverClient.stallTimeout", client.stall_timeout);
        self.positive("deliverClient.bufferBlocks", client.buffer_blocks);
        self.positive("deliverClient.bufferBytes", client.buffer_bytes);
    }
}

fn valid_host(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    }
}
