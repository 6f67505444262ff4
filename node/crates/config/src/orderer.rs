//! The orderer group: when blocks are cut, who orders, and by which protocol.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use weft_protos::{common, orderer};
use weft_types::MspId;

use crate::{
    bundle::ConfigError,
    capabilities::{Capabilities, Scope},
    consensus::{BftConsenter, Consensus, ConsensusError},
    duration,
    endpoint::Endpoint,
    keys,
    org::{MspCollector, Organization},
    value::GroupReader,
};

/// The orderer group. Fabric: `common/channelconfig/orderer.go`.
#[derive(Debug, Clone)]
pub struct OrdererConfig {
    /// When a block is full.
    pub batch_size: BatchSize,
    /// Longest time an envelope waits for a block to fill; above zero.
    pub batch_timeout: Duration,
    /// The protocol with its settings.
    pub consensus: Consensus,
    /// The protocol's settings as bytes of the configuration.
    pub consensus_metadata: Bytes,
    /// Whether the channel takes transactions.
    pub state: ConsensusState,
    /// Members of a BFT channel; may be listed before the change to BFT.
    pub consenters: Vec<BftConsenter>,
    /// Most channels of an older network, 0 for no limit; of no effect without a system channel.
    pub max_channels: u64,
    /// Organizations by the name of their group.
    pub orgs: BTreeMap<String, OrdererOrg>,
    /// What orderers must support.
    pub capabilities: Capabilities,
}

/// When a block is full. All limits are above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// Most envelopes in a block.
    pub max_message_count: u32,
    /// Largest envelope accepted, in bytes of payload and signature.
    pub absolute_max_bytes: u32,
    /// Size at which a block is cut, in bytes; one larger envelope stands alone.
    pub preferred_max_bytes: u32,
}

impl Default for BatchSize {
    /// Fabric's defaults (`sampleconfig/configtx.yaml`): 500 envelopes, 10 MB, 2 MB.
    fn default() -> Self {
        Self {
            max_message_count: 500,
            absolute_max_bytes: 10 * 1024 * 1024,
            preferred_max_bytes: 2 * 1024 * 1024,
        }
    }
}

/// Whether a channel takes transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsensusState {
    /// It does.
    #[default]
    Normal,
    /// Only configuration changes by the ordering service's administrators.
    Maintenance,
}

/// An organization that runs orderers.
#[derive(Debug, Clone)]
pub struct OrdererOrg {
    /// Its name and MSP.
    pub org: Organization,
    /// Where its orderers serve clients and peers.
    pub endpoints: Vec<Endpoint>,
}

/// Settings of the orderer group that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrdererError {
    /// A limit of the batch size is zero.
    #[error("failed to accept the batch size: {field} must be above zero")]
    BatchLimit {
        /// The limit, as the wire protocol names it.
        field: &'static str,
    },
    /// A block would be cut later than the hard limit allows.
    #[error(
        "failed to accept the batch size: preferred_max_bytes {preferred} is above \
         absolute_max_bytes {absolute}"
    )]
    BatchBytes {
        /// The preferred limit in bytes.
        preferred: u32,
        /// The hard limit in bytes.
        absolute: u32,
    },
    /// The batch timeout cannot be read.
    #[error("failed to read the batch timeout")]
    BatchTimeout {
        /// What is wrong.
        source: duration::DurationError,
    },
    /// The batch timeout is zero.
    #[error("failed to accept the batch timeout: it must be above zero")]
    BatchTimeoutZero,
    /// The state of the channel is a number without a meaning.
    #[error(
        "failed to read the consensus state: {state} is neither normal (0) nor maintenance (1)"
    )]
    State {
        /// The number.
        state: i32,
    },
}

impl OrdererConfig {
    /// The organization with the MSP id `id`.
    #[must_use]
    pub fn org_of(&self, id: &MspId) -> Option<&OrdererOrg> {
        self.orgs.values().find(|org| org.org.msp_id == *id)
    }

    pub(crate) fn read(
        group: &GroupReader<'_>,
        msps: &mut MspCollector,
        channel: &Capabilities,
    ) -> Result<Self, ConfigError> {
        group.only_values(&[
            keys::CONSENSUS_TYPE,
            keys::BATCH_SIZE,
            keys::BATCH_TIMEOUT,
            keys::KAFKA_BROKERS,
            keys::CHANNEL_RESTRICTIONS,
            keys::ORDERERS,
            keys::CAPABILITIES,
        ])?;
        let invalid = |key| {
            let path = group.path_of(key);
            move |source| ConfigError::Orderer { path, source }
        };
        let consensus_error = |key| {
            let path = group.path_of(key);
            move |source: ConsensusError| ConfigError::Consensus { path, source: Box::new(source) }
        };
        let size = group.value_or_default::<orderer::BatchSize>(keys::BATCH_SIZE)?;
        let batch_size = BatchSize::read(&size).map_err(invalid(keys::BATCH_SIZE))?;
        let timeout = group.value_or_default::<orderer::BatchTimeout>(keys::BATCH_TIMEOUT)?;
        let batch_timeout = read_timeout(&timeout.timeout).map_err(invalid(keys::BATCH_TIMEOUT))?;

        let kind = group.value_or_default::<orderer::ConsensusType>(keys::CONSENSUS_TYPE)?;
        let state = ConsensusState::read(kind.state).map_err(invalid(keys::CONSENSUS_TYPE))?;
        let consensus = Consensus::read(&kind.r#type, &kind.metadata)
            .map_err(consensus_error(keys::CONSENSUS_TYPE))?;
        let orderers = group.value_or_default::<common::Orderers>(keys::ORDERERS)?;
        let consenters =
            BftConsenter::read_all(&orderers).map_err(consensus_error(keys::ORDERERS))?;
        if matches!(consensus, Consensus::Bft(_)) && consenters.is_empty() {
            return Err(consensus_error(keys::ORDERERS)(ConsensusError::NoConsenters));
        }

        let restrictions =
            group.value_or_default::<orderer::ChannelRestrictions>(keys::CHANNEL_RESTRICTIONS)?;
        let capabilities = group.value_or_default::<common::Capabilities>(keys::CAPABILITIES)?;
        let capabilities = Capabilities::new(Scope::Orderer, &capabilities)
            .map_err(|source| ConfigError::Capability { source })?;
        Ok(Self {
            batch_size,
            batch_timeout,
            consensus,
            consensus_metadata: kind.metadata,
            state,
            consenters,
            max_channels: restrictions.max_count,
            orgs: read_orgs(group, msps, channel)?,
            capabilities,
        })
    }
}

fn read_orgs(
    group: &GroupReader<'_>,
    msps: &mut MspCollector,
    channel: &Capabilities,
) -> Result<BTreeMap<String, OrdererOrg>, ConfigError> {
    let mut orgs = BTreeMap::new();
    for (name, org) in &group.group.groups {
        let reader = group.child(name, org);
        reader.only_values(&[keys::MSP, keys::ENDPOINTS])?;
        let path = reader.path_of(keys::ENDPOINTS);
        let value = reader.value::<common::OrdererAddresses>(keys::ENDPOINTS)?;
        if value.is_some() && !channel.org_endpoints() {
            return Err(ConfigError::EndpointsWithoutCapability { path });
        }
        let endpoints = read_endpoints(&path, &value.unwrap_or_default())?;
        if channel.bft() && endpoints.is_empty() {
            return Err(ConfigError::NoEndpoints { path });
        }
        orgs.insert(name.clone(), OrdererOrg { org: msps.organization(name, &reader)?, endpoints });
    }
    Ok(orgs)
}

pub(crate) fn read_endpoints(
    path: &str,
    value: &common::OrdererAddresses,
) -> Result<Vec<Endpoint>, ConfigError> {
    let read = |text: &String| {
        text.parse().map_err(|source| ConfigError::Endpoint { path: path.to_owned(), source })
    };
    value.addresses.iter().map(read).collect()
}

fn read_timeout(text: &str) -> Result<Duration, OrdererError> {
    let timeout = duration::parse(text).map_err(|source| OrdererError::BatchTimeout { source })?;
    if timeout.is_zero() { Err(OrdererError::BatchTimeoutZero) } else { Ok(timeout) }
}

impl BatchSize {
    fn read(size: &orderer::BatchSize) -> Result<Self, OrdererError> {
        for (field, value) in [
            ("max_message_count", size.max_message_count),
            ("absolute_max_bytes", size.absolute_max_bytes),
            ("preferred_max_bytes", size.preferred_max_bytes),
        ] {
            if value == 0 {
                return Err(OrdererError::BatchLimit { field });
            }
        }
        let (preferred, absolute) = (size.preferred_max_bytes, size.absolute_max_bytes);
        if preferred > absolute {
            return Err(OrdererError::BatchBytes { preferred, absolute });
        }
        Ok(Self {
            max_message_count: size.max_message_count,
            absolute_max_bytes: absolute,
            preferred_max_bytes: preferred,
        })
    }

    /// The limits as the message they are written with.
    #[must_use]
    pub fn to_message(&self) -> orderer::BatchSize {
        orderer::BatchSize {
            max_message_count: self.max_message_count,
            absolute_max_bytes: self.absolute_max_bytes,
            preferred_max_bytes: self.preferred_max_bytes,
        }
    }
}

impl ConsensusState {
    fn read(state: i32) -> Result<Self, OrdererError> {
        match orderer::consensus_type::State::try_from(state) {
            Ok(orderer::consensus_type::State::Normal) => Ok(Self::Normal),
            Ok(orderer::consensus_type::State::Maintenance) => Ok(Self::Maintenance),
            Err(_) => Err(OrdererError::State { state }),
        }
    }

    /// The number it is written with.
    #[must_use]
    pub fn to_number(self) -> i32 {
        match self {
            Self::Normal => orderer::consensus_type::State::Normal.into(),
            Self::Maintenance => orderer::consensus_type::State::Maintenance.into(),
        }
    }
}
