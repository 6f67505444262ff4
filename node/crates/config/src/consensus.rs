//! The consensus protocol of a channel with its settings and members.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use weft_crypto::{Certificate, CertificateError};
use weft_protos::{
    common, etcdraft,
    ext::{DecodeError, decode},
    smartbft,
};
use weft_types::MspId;

use crate::{
    duration::{self, DurationError},
    endpoint::Endpoint,
};

/// Type of a channel ordered by one node, for development; no fault is tolerated.
pub const SOLO: &str = "solo";
/// Type of a channel ordered by Raft.
pub const RAFT: &str = "etcdraft";
/// Type of a channel ordered by a BFT protocol.
pub const BFT: &str = "BFT";

/// Log bytes between snapshots where the configuration says 0.
/// Fabric: `orderer/consensus/etcdraft/chain.go`.
pub const DEFAULT_SNAPSHOT_INTERVAL: u32 = 16 * 1024 * 1024;

/// The consensus protocol of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consensus {
    /// One orderer without agreement; not a type that Fabric's orderers run.
    Solo,
    /// Raft.
    Raft(RaftConfig),
    /// A BFT protocol. Its members stand in [`crate::OrdererConfig::consenters`].
    Bft(BftOptions),
}

/// Settings and members of a Raft channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftConfig {
    /// The members, in the order of the configuration; block metadata numbers them in this order.
    pub consenters: Vec<RaftConsenter>,
    /// Timing and limits.
    pub options: RaftOptions,
}

/// A member of a Raft channel. Members are told apart by their client TLS certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftConsenter {
    /// Where it serves the others.
    pub endpoint: Endpoint,
    /// The TLS certificate it dials with, PEM as written in the configuration.
    pub client_tls_cert: Bytes,
    /// The TLS certificate it listens with, PEM as written in the configuration.
    pub server_tls_cert: Bytes,
}

/// Timing and limits of a Raft channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftOptions {
    /// Length of a tick; above zero.
    pub tick_interval: Duration,
    /// Ticks without a leader before an election; more than [`Self::heartbeat_tick`].
    pub election_tick: u32,
    /// Ticks between the leader's heartbeats; above zero.
    pub heartbeat_tick: u32,
    /// Most blocks proposed and not yet committed; above zero.
    pub max_inflight_blocks: u32,
    /// Bytes of log after which a snapshot is taken; above zero.
    pub snapshot_interval_size: u32,
}

/// A member of a BFT channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BftConsenter {
    /// Number of the node within the channel, above zero.
    pub id: u32,
    /// Where it serves the others.
    pub endpoint: Endpoint,
    /// The MSP of its identity.
    pub msp_id: MspId,
    /// Its enrolment certificate, PEM.
    pub identity: Bytes,
    /// The TLS certificate it dials with, PEM.
    pub client_tls_cert: Bytes,
    /// The TLS certificate it listens with, PEM.
    pub server_tls_cert: Bytes,
}

/// Timing and limits of a BFT channel. Fabric: `orderer/consensus/smartbft/util`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BftOptions {
    /// Most requests in a batch.
    pub request_batch_max_count: u64,
    /// Most bytes in a batch.
    pub request_batch_max_bytes: u64,
    /// Longest wait for a batch to fill.
    pub request_batch_max_interval: Duration,
    /// Messages held for each member before more are dropped.
    pub incoming_message_buffer_size: u64,
    /// Requests held before submitters must wait.
    pub request_pool_size: u64,
    /// Age at which a request is forwarded to the leader.
    pub request_forward_timeout: Duration,
    /// Further age at which the node complains about the leader.
    pub request_complain_timeout: Duration,
    /// Further age at which the request is dropped.
    pub request_auto_remove_timeout: Duration,
    /// Largest request in bytes.
    pub request_max_bytes: u64,
    /// Time after which a view change message is sent again.
    pub view_change_resend_interval: Duration,
    /// Time a view change may take.
    pub view_change_timeout: Duration,
    /// Silence of the leader that leads to a complaint.
    pub leader_heartbeat_timeout: Duration,
    /// Heartbeats the leader sends within that time.
    pub leader_heartbeat_count: u64,
    /// Time to collect the others' state while catching up.
    pub collect_timeout: Duration,
    /// Whether a node catches up when it starts.
    pub sync_on_start: bool,
    /// Whether a node joins a view change before a quorum asks for it.
    pub speed_up_view_change: bool,
    /// After how many decisions the lead passes on; `None` where it stays until a view change.
    pub decisions_per_leader: Option<u64>,
}

/// Consensus settings that cannot work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConsensusError {
    /// A protocol this node does not know.
    #[error("failed to read consensus type {name:?}: only etcdraft, BFT and solo are known")]
    UnknownType {
        /// The type.
        name: String,
    },
    /// The settings are not the message they should be.
    #[error("failed to read the settings of consensus type {name}")]
    Decode {
        /// The type.
        name: &'static str,
        /// What is wrong.
        source: DecodeError,
    },
    /// A required setting is absent or zero.
    #[error("failed to accept the consensus settings: {field} must be set and above zero")]
    Zero {
        /// The setting, as the wire protocol names it.
        field: &'static str,
    },
    /// A duration cannot be read.
    #[error("failed to read the consensus setting {field}")]
    Duration {
        /// The setting, as the wire protocol names it.
        field: &'static str,
        /// What is wrong.
        source: DurationError,
    },
    /// Two settings contradict each other.
    #[error("failed to accept the consensus settings: {smaller} must be {relation} {larger}")]
    Relation {
        /// The setting that must be the smaller one.
        smaller: &'static str,
        /// `below` or `at most`.
        relation: &'static str,
        /// The setting that must be the larger one.
        larger: &'static str,
    },
    /// No member is listed.
    #[error("failed to accept the consenters: the list is empty")]
    NoConsenters,
    /// A member's address cannot be used.
    #[error("failed to accept consenter {host}:{port}: it has no usable address")]
    Address {
        /// Its host.
        host: String,
        /// Its port.
        port: u32,
    },
    /// A member's certificate cannot be read.
    #[error("failed to read the {which} certificate of consenter {endpoint}")]
    Certificate {
        /// Which certificate: `client TLS`, `server TLS` or `identity`.
        which: &'static str,
        /// The member.
        endpoint: Endpoint,
        /// What is wrong.
        #[source]
        source: Box<CertificateError>,
    },
    /// Two members share a certificate.
    #[error("failed to accept the consenters: {second} has a certificate of {first}")]
    SharedCertificate {
        /// The member listed first.
        first: Endpoint,
        /// The other one.
        second: Endpoint,
    },
    /// Two BFT members share a number, or a number is zero.
    #[error("failed to accept the consenters: id {id} of {endpoint} is zero or taken")]
    Id {
        /// The number.
        id: u32,
        /// The member.
        endpoint: Endpoint,
    },
    /// A BFT member's MSP id is not valid.
    #[error("failed to accept consenter {endpoint}: its MSP id is not valid")]
    MspId {
        /// The member.
        endpoint: Endpoint,
        /// What is wrong.
        #[source]
        source: weft_types::MspIdError,
    },
}

impl Consensus {
    /// Reads a consensus type with its settings.
    ///
    /// # Errors
    /// Fails on an unknown type and on settings that cannot work.
    pub fn read(name: &str, metadata: &Bytes) -> Result<Self, ConsensusError> {
        match name {
            SOLO => Ok(Self::Solo),
            RAFT => {
                let metadata = decode("etcdraft metadata", metadata.clone())
                    .map_err(|source| ConsensusError::Decode { name: RAFT, source })?;
                RaftConfig::read(&metadata).map(Self::Raft)
            }
            BFT => {
                let options = decode("BFT options", metadata.clone())
                    .map_err(|source| ConsensusError::Decode { name: BFT, source })?;
                BftOptions::read(&options).map(Self::Bft)
            }
            _ => Err(ConsensusError::UnknownType { name: name.chars().take(64).collect() }),
        }
    }

    /// The name in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Solo => SOLO,
            Self::Raft(_) => RAFT,
            Self::Bft(_) => BFT,
        }
    }

    /// The Raft settings, where the channel is ordered by Raft.
    #[must_use]
    pub fn raft(&self) -> Option<&RaftConfig> {
        match self {
            Self::Raft(config) => Some(config),
            Self::Solo | Self::Bft(_) => None,
        }
    }
}

impl RaftConfig {
    /// Reads and checks Raft settings. Validity times and trust of the certificates are not looked
    /// at here: an expired certificate must not make a channel unreadable.
    /// Fabric: `VerifyConfigMetadata` in `orderer/consensus/etcdraft/util.go`.
    ///
    /// # Errors
    /// Fails on settings that cannot work.
    pub fn read(metadata: &etcdraft::ConfigMetadata) -> Result<Self, ConsensusError> {
        let options = metadata.options.as_ref().ok_or(ConsensusError::Zero { field: "Options" })?;
        let options = RaftOptions::read(options)?;
        if metadata.consenters.is_empty() {
            return Err(ConsensusError::NoConsenters);
        }
        let consenters: Vec<_> =
            metadata.consenters.iter().map(RaftConsenter::read).collect::<Result<_, _>>()?;
        no_shared_certificate(
            consenters.iter().map(|c| (&c.endpoint, [&c.client_tls_cert, &c.server_tls_cert])),
        )?;
        Ok(Self { consenters, options })
    }

    /// The settings as the message they are written with.
    #[must_use]
    pub fn to_metadata(&self) -> etcdraft::ConfigMetadata {
        etcdraft::ConfigMetadata {
            consenters: self.consenters.iter().map(RaftConsenter::to_message).collect(),
            options: Some(self.options.to_message()),
        }
    }
}

impl RaftConsenter {
    /// Reads a member.
    ///
    /// # Errors
    /// Fails where its address or a certificate cannot be read.
    pub fn read(consenter: &etcdraft::Consenter) -> Result<Self, ConsensusError> {
        let endpoint = endpoint(&consenter.host, consenter.port)?;
        certificate("client TLS", &endpoint, &consenter.client_tls_cert)?;
        certificate("server TLS", &endpoint, &consenter.server_tls_cert)?;
        Ok(Self {
            endpoint,
            client_tls_cert: consenter.client_tls_cert.clone(),
            server_tls_cert: consenter.server_tls_cert.clone(),
        })
    }

    /// The member as the message it is written with.
    #[must_use]
    pub fn to_message(&self) -> etcdraft::Consenter {
        etcdraft::Consenter {
            host: self.endpoint.host.clone(),
            port: u32::from(self.endpoint.port),
            client_tls_cert: self.client_tls_cert.clone(),
            server_tls_cert: self.server_tls_cert.clone(),
        }
    }
}

impl Default for RaftOptions {
    /// Fabric's defaults (`sampleconfig/configtx.yaml`): elections after 10 ticks of 500 ms.
    fn default() -> Self {
        Self {
            tick_interval: Duration::from_millis(500),
            election_tick: 10,
            heartbeat_tick: 1,
            max_inflight_blocks: 5,
            snapshot_interval_size: DEFAULT_SNAPSHOT_INTERVAL,
        }
    }
}

impl RaftOptions {
    fn read(options: &etcdraft::Options) -> Result<Self, ConsensusError> {
        let tick_interval = positive("TickInterval", &options.tick_interval)?;
        above_zero("ElectionTick", u64::from(options.election_tick))?;
        above_zero("HeartbeatTick", u64::from(options.heartbeat_tick))?;
        above_zero("MaxInflightBlocks", u64::from(options.max_inflight_blocks))?;
        if options.election_tick <= options.heartbeat_tick {
            return Err(ConsensusError::Relation {
                smaller: "HeartbeatTick",
                relation: "below",
                larger: "ElectionTick",
            });
        }
        let snapshot_interval_size = match options.snapshot_interval_size {
            0 => DEFAULT_SNAPSHOT_INTERVAL,
            size => size,
        };
        Ok(Self {
            tick_interval,
            election_tick: options.election_tick,
            heartbeat_tick: options.heartbeat_tick,
            max_inflight_blocks: options.max_inflight_blocks,
            snapshot_interval_size,
        })
    }

    /// The options as the message they are written with.
    #[must_use]
    pub fn to_message(&self) -> etcdraft::Options {
        etcdraft::Options {
            tick_interval: duration::format(self.tick_interval),
            election_tick: self.election_tick,
            heartbeat_tick: self.heartbeat_tick,
            max_inflight_blocks: self.max_inflight_blocks,
            snapshot_interval_size: self.snapshot_interval_size,
        }
    }
}

impl BftConsenter {
    /// Reads the value `Orderers`.
    ///
    /// # Errors
    /// Fails where an address, an MSP id or a certificate cannot be read, or two members share a
    /// number or a TLS certificate.
    pub fn read_all(orderers: &common::Orderers) -> Result<Vec<Self>, ConsensusError> {
        let mut taken = HashMap::new();
        let mut consenters = Vec::new();
        for consenter in &orderers.consenter_mapping {
            let consenter = Self::read(consenter)?;
            if consenter.id == 0 || taken.insert(consenter.id, ()).is_some() {
                return Err(ConsensusError::Id { id: consenter.id, endpoint: consenter.endpoint });
            }
            consenters.push(consenter);
        }
        no_shared_certificate(
            consenters.iter().map(|c| (&c.endpoint, [&c.client_tls_cert, &c.server_tls_cert])),
        )?;
        Ok(consenters)
    }

    fn read(consenter: &common::Consenter) -> Result<Self, ConsensusError> {
        let endpoint = endpoint(&consenter.host, consenter.port)?;
        certificate("identity", &endpoint, &consenter.identity)?;
        certificate("client TLS", &endpoint, &consenter.client_tls_cert)?;
        certificate("server TLS", &endpoint, &consenter.server_tls_cert)?;
        let msp_id = MspId::new(&consenter.msp_id)
            .map_err(|source| ConsensusError::MspId { endpoint: endpoint.clone(), source })?;
        Ok(Self {
            id: consenter.id,
            endpoint,
            msp_id,
            identity: consenter.identity.clone(),
            client_tls_cert: consenter.client_tls_cert.clone(),
            server_tls_cert: consenter.server_tls_cert.clone(),
        })
    }

    /// The member as the message it is written with.
    #[must_use]
    pub fn to_message(&self) -> common::Consenter {
        common::Consenter {
            id: self.id,
            host: self.endpoint.host.clone(),
            port: u32::from(self.endpoint.port),
            msp_id: self.msp_id.to_string(),
            identity: self.identity.clone(),
            client_tls_cert: self.client_tls_cert.clone(),
            server_tls_cert: self.server_tls_cert.clone(),
        }
    }
}

impl Default for BftOptions {
    /// The defaults of the library that Fabric uses, with the lead staying until a view change.
    fn default() -> Self {
        Self {
            request_batch_max_count: 100,
            request_batch_max_bytes: 10 * 1024 * 1024,
            request_batch_max_interval: Duration::from_millis(50),
            incoming_message_buffer_size: 200,
            request_pool_size: 400,
            request_forward_timeout: Duration::from_secs(2),
            request_complain_timeout: Duration::from_secs(20),
            request_auto_remove_timeout: Duration::from_secs(180),
            request_max_bytes: 10 * 1024 * 1024,
            view_change_resend_interval: Duration::from_secs(5),
            view_change_timeout: Duration::from_secs(20),
            leader_heartbeat_timeout: Duration::from_secs(60),
            leader_heartbeat_count: 10,
            collect_timeout: Duration::from_secs(1),
            sync_on_start: false,
            speed_up_view_change: false,
            decisions_per_leader: None,
        }
    }
}

impl BftOptions {
    /// Reads and checks BFT settings.
    ///
    /// # Errors
    /// Fails on settings that cannot work.
    pub fn read(options: &smartbft::Options) -> Result<Self, ConsensusError> {
        let o = options;
        above_zero("RequestBatchMaxCount", o.request_batch_max_count)?;
        above_zero("RequestBatchMaxBytes", o.request_batch_max_bytes)?;
        above_zero("IncomingMessageBufferSize", o.incoming_message_buffer_size)?;
        above_zero("RequestPoolSize", o.request_pool_size)?;
        above_zero("LeaderHeartbeatCount", o.leader_heartbeat_count)?;
        let rotates = o.leader_rotation == i32::from(smartbft::options::Rotation::On);
        if rotates {
            above_zero("DecisionsPerLeader", o.decisions_per_leader)?;
        }
        let request_max_bytes = match o.request_max_bytes {
            0 => o.request_batch_max_bytes,
            bytes => bytes,
        };
        let read = Self {
            request_batch_max_count: o.request_batch_max_count,
            request_batch_max_bytes: o.request_batch_max_bytes,
            request_batch_max_interval: positive(
                "RequestBatchMaxInterval",
                &o.request_batch_max_interval,
            )?,
            incoming_message_buffer_size: o.incoming_message_buffer_size,
            request_pool_size: o.request_pool_size,
            request_forward_timeout: positive("RequestForwardTimeout", &o.request_forward_timeout)?,
            request_complain_timeout: positive(
                "RequestComplainTimeout",
                &o.request_complain_timeout,
            )?,
            request_auto_remove_timeout: positive(
                "RequestAutoRemoveTimeout",
                &o.request_auto_remove_timeout,
            )?,
            request_max_bytes,
            view_change_resend_interval: positive(
                "ViewChangeResendInterval",
                &o.view_change_resend_interval,
            )?,
            view_change_timeout: positive("ViewChangeTimeout", &o.view_change_timeout)?,
            leader_heartbeat_timeout: positive(
                "LeaderHeartbeatTimeout",
                &o.leader_heartbeat_timeout,
            )?,
            leader_heartbeat_count: o.leader_heartbeat_count,
            collect_timeout: positive("CollectTimeout", &o.collect_timeout)?,
            sync_on_start: o.sync_on_start,
            speed_up_view_change: o.speed_up_view_change,
            decisions_per_leader: rotates.then_some(o.decisions_per_leader),
        };
        read.check_relations()?;
        Ok(read)
    }

    fn check_relations(&self) -> Result<(), ConsensusError> {
        let at_most = |holds: bool, smaller, larger| match holds {
            true => Ok(()),
            false => Err(ConsensusError::Relation { smaller, relation: "at most", larger }),
        };
        at_most(
            self.request_batch_max_count <= self.request_batch_max_bytes,
            "RequestBatchMaxCount",
            "RequestBatchMaxBytes",
        )?;
        at_most(
            self.request_max_bytes <= self.request_batch_max_bytes,
            "RequestMaxBytes",
            "RequestBatchMaxBytes",
        )?;
        at_most(
            self.request_forward_timeout <= self.request_complain_timeout,
            "RequestForwardTimeout",
            "RequestComplainTimeout",
        )?;
        at_most(
            self.request_complain_timeout <= self.request_auto_remove_timeout,
            "RequestComplainTimeout",
            "RequestAutoRemoveTimeout",
        )?;
        at_most(
            self.view_change_resend_interval <= self.view_change_timeout,
            "ViewChangeResendInterval",
            "ViewChangeTimeout",
        )
    }

    /// The options as the message they are written with.
    #[must_use]
    pub fn to_message(&self) -> smartbft::Options {
        use smartbft::options::Rotation;
        let rotation = match self.decisions_per_leader {
            Some(_) => Rotation::On,
            None => Rotation::Off,
        };
        smartbft::Options {
            request_batch_max_count: self.request_batch_max_count,
            request_batch_max_bytes: self.request_batch_max_bytes,
            request_batch_max_interval: duration::format(self.request_batch_max_interval),
            incoming_message_buffer_size: self.incoming_message_buffer_size,
            request_pool_size: self.request_pool_size,
            request_forward_timeout: duration::format(self.request_forward_timeout),
            request_complain_timeout: duration::format(self.request_complain_timeout),
            request_auto_remove_timeout: duration::format(self.request_auto_remove_timeout),
            request_max_bytes: self.request_max_bytes,
            view_change_resend_interval: duration::format(self.view_change_resend_interval),
            view_change_timeout: duration::format(self.view_change_timeout),
            leader_heartbeat_timeout: duration::format(self.leader_heartbeat_timeout),
            leader_heartbeat_count: self.leader_heartbeat_count,
            collect_timeout: duration::format(self.collect_timeout),
            sync_on_start: self.sync_on_start,
            speed_up_view_change: self.speed_up_view_change,
            leader_rotation: rotation.into(),
            decisions_per_leader: self.decisions_per_leader.unwrap_or_default(),
        }
    }
}

fn above_zero(field: &'static str, value: u64) -> Result<(), ConsensusError> {
    match value {
        0 => Err(ConsensusError::Zero { field }),
        _ => Ok(()),
    }
}

fn positive(field: &'static str, text: &str) -> Result<Duration, ConsensusError> {
    let read =
        duration::parse(text).map_err(|source| ConsensusError::Duration { field, source })?;
    if read.is_zero() { Err(ConsensusError::Zero { field }) } else { Ok(read) }
}

fn endpoint(host: &str, port: u32) -> Result<Endpoint, ConsensusError> {
    let fail = || ConsensusError::Address { host: host.chars().take(256).collect(), port };
    let number = u16::try_from(port).map_err(|_| fail())?;
    // Through the text form, so that what is accepted can be written and read back.
    Endpoint::new(host, number).to_string().parse().map_err(|_| fail())
}

fn certificate(
    which: &'static str,
    endpoint: &Endpoint,
    pem: &Bytes,
) -> Result<Certificate, ConsensusError> {
    // Bytes that are no text are no PEM either: what replaces them does not decode.
    Certificate::from_pem(&String::from_utf8_lossy(pem)).map_err(|source| {
        ConsensusError::Certificate { which, endpoint: endpoint.clone(), source: Box::new(source) }
    })
}

/// One node may use one certificate for both directions; two nodes may not share any.
fn no_shared_certificate<'a>(
    consenters: impl Iterator<Item = (&'a Endpoint, [&'a Bytes; 2])>,
) -> Result<(), ConsensusError> {
    let mut seen: HashMap<&[u8], &Endpoint> = HashMap::new();
    for (index_endpoint, certs) in consenters {
        if let Some(first) = certs.iter().find_map(|cert| seen.get(cert.as_ref())) {
            let (first, second) = ((*first).clone(), index_endpoint.clone());
            return Err(ConsensusError::SharedCertificate { first, second });
        }
        seen.extend(certs.map(|cert| (cert.as_ref(), index_endpoint)));
    }
    Ok(())
}
