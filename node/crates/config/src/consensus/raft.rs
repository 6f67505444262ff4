//! Settings and members of Raft channels.

use std::time::Duration;

use bytes::Bytes;
use weft_protos::etcdraft;

use super::{ConsensusError, above_zero, certificate, endpoint, no_shared_certificate, positive};
use crate::{duration, endpoint::Endpoint};

/// Log bytes between snapshots where the configuration says 0.
/// Fabric: `orderer/consensus/etcdraft/chain.go`.
pub const DEFAULT_SNAPSHOT_INTERVAL: u32 = 16 * 1024 * 1024;

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
