//! A channel's configuration, parsed and validated once.

use std::sync::Arc;

use bytes::Bytes;
use weft_msp::{
    DuplicateMsp, MspError, MspManager,
    policy::{PolicyManager, PolicyTree, PolicyTreeError},
};
use weft_protos::{common, ext::DecodeError};
use weft_types::{ChannelId, MspId};

use crate::{
    application::ApplicationConfig,
    capabilities::{Capabilities, CapabilityError, Scope},
    consensus::ConsensusError,
    endpoint::{Endpoint, EndpointError},
    keys,
    orderer::{OrdererConfig, OrdererError, read_endpoints},
    org::{MspCollector, Organization},
    update::{PathError, element},
    value::GroupReader,
};

/// The one hash this node computes blocks with. Fabric also knows `SHA3_256`.
pub const SHA256: &str = "SHA256";
/// The width that stands for a flat hash over a block's data, the only shape there is.
pub const FLAT_WIDTH: u32 = u32::MAX;

/// A validated channel configuration. Immutable; a clone shares the content.
#[derive(Clone)]
pub struct Bundle(Arc<Inner>);

struct Inner {
    channel_id: ChannelId,
    config: common::Config,
    capabilities: Capabilities,
    orderer_addresses: Vec<Endpoint>,
    orderer: Option<OrdererConfig>,
    application: Option<ApplicationConfig>,
    msps: Arc<MspManager>,
    policies: Arc<PolicyManager>,
}

/// A configuration that cannot be used. Paths are as in policies: `/Channel/Orderer/BatchSize`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The tree has no root.
    #[error("failed to read the configuration: it has no channel group")]
    NoChannelGroup,
    /// A name in the tree is not allowed.
    #[error("failed to read the configuration: a name in it is not allowed")]
    Path {
        /// Which, and why.
        source: PathError,
    },
    /// A value is not the message it should be.
    #[error("failed to read {path}")]
    Decode {
        /// The value.
        path: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// A group has a value it should not have.
    #[error("failed to accept {path}: no such value is known there")]
    UnexpectedValue {
        /// The value.
        path: String,
    },
    /// A group has a subgroup it should not have.
    #[error("failed to accept {path}: no group is allowed there")]
    UnexpectedGroup {
        /// The group.
        path: String,
    },
    /// A value that must be there is not.
    #[error("failed to find {path}: the value is required")]
    MissingValue {
        /// The value.
        path: String,
    },
    /// A required feature is not supported here.
    #[error("failed to take part in the channel")]
    Capability {
        /// Which.
        source: CapabilityError,
    },
    /// Channel or application capabilities stand without orderer capabilities.
    #[error("failed to accept the {scope} capabilities: the orderer group has none")]
    CapabilityOrder {
        /// Where capabilities stand.
        scope: Scope,
    },
    /// Block headers would be hashed in a way that this node cannot.
    #[error("failed to accept /Channel/HashingAlgorithm: {name:?} is not SHA256")]
    HashingAlgorithm {
        /// The algorithm.
        name: String,
    },
    /// Block data would be hashed in a way that no node can.
    #[error(
        "failed to accept /Channel/BlockDataHashingStructure: width {width} is not {FLAT_WIDTH}"
    )]
    HashingWidth {
        /// The width.
        width: u32,
    },
    /// Global orderer addresses stand where endpoints must be with organizations.
    #[error(
        "failed to accept /Channel/OrdererAddresses: with channel capability V3_0 \
         endpoints stand with organizations only"
    )]
    GlobalAddresses,
    /// The capabilities call for global orderer addresses, and there are none.
    #[error("failed to find /Channel/OrdererAddresses: required below channel capability V1_4_2")]
    NoGlobalAddresses,
    /// An organization has endpoints before the channel allows it.
    #[error("failed to accept {path}: it needs channel capability V1_4_2 or later")]
    EndpointsWithoutCapability {
        /// The value.
        path: String,
    },
    /// An organization of the orderer group has no endpoint.
    #[error("failed to accept {path}: with channel capability V3_0 at least one is required")]
    NoEndpoints {
        /// The value.
        path: String,
    },
    /// An endpoint cannot be read.
    #[error("failed to read {path}")]
    Endpoint {
        /// The value.
        path: String,
        /// What is wrong.
        source: EndpointError,
    },
    /// Access control lists stand before the channel allows it.
    #[error(
        "failed to accept /Channel/Application/ACLs: they need application capability V1_2 or later"
    )]
    AclsWithoutCapability,
    /// A setting of the orderer group cannot work.
    #[error("failed to accept {path}")]
    Orderer {
        /// The value.
        path: String,
        /// What is wrong.
        source: OrdererError,
    },
    /// Consensus settings cannot work.
    #[error("failed to accept {path}")]
    Consensus {
        /// The value.
        path: String,
        /// What is wrong.
        #[source]
        source: Box<ConsensusError>,
    },
    /// An MSP is of a kind this node does not know.
    #[error("failed to accept {path}: MSP type {kind} is not X.509 (0)")]
    MspKind {
        /// The value.
        path: String,
        /// The kind.
        kind: i32,
    },
    /// An MSP id is not valid.
    #[error("failed to accept {path}")]
    MspId {
        /// The value.
        path: String,
        /// What is wrong.
        source: weft_types::MspIdError,
    },
    /// An MSP definition cannot be used.
    #[error("failed to accept {path}")]
    Msp {
        /// The value.
        path: String,
        /// What is wrong.
        #[source]
        source: Box<MspError>,
    },
    /// Two groups define the same MSP differently.
    #[error(
        "failed to accept {path}: MSP {msp_id} is defined differently elsewhere in the channel"
    )]
    MspConflict {
        /// The second definition.
        path: String,
        /// The MSP.
        msp_id: MspId,
    },
    /// The policies cannot be used.
    #[error("failed to read the channel's policies")]
    Policies {
        /// What is wrong.
        #[source]
        source: Box<PolicyTreeError>,
    },
    /// The MSPs cannot be used together.
    #[error("failed to read the channel's MSPs")]
    Msps {
        /// What is wrong.
        source: DuplicateMsp,
    },
}

impl Bundle {
    /// Parses and validates a configuration.
    ///
    /// Fabric: `common/channelconfig/bundle.go` and the files beside it. Stricter here: consensus
    /// settings are parsed, consenters' certificates must be readable, capabilities this node does
    /// not know are refused at once, and the `Consortiums` group of system channels is not known.
    ///
    /// # Errors
    /// Fails on any rule broken; the error names the path.
    pub fn new(channel_id: ChannelId, config: common::Config) -> Result<Self, ConfigError> {
        let group = config.channel_group.as_ref().ok_or(ConfigError::NoChannelGroup)?;
        element::check_names(group).map_err(|source| ConfigError::Path { source })?;
        check_capability_order(group)?;
        let root = GroupReader::root(keys::CHANNEL, group);
        let capabilities = read_channel_capabilities(&root)?;
        check_hashing(&root)?;
        let orderer_addresses = read_addresses(&root, &capabilities)?;

        let mut msps = MspCollector::default();
        let (mut orderer, mut application) = (None, None);
        for (name, child) in &group.groups {
            let reader = root.child(name, child);
            match name.as_str() {
                keys::ORDERER => {
                    orderer = Some(OrdererConfig::read(&reader, &mut msps, &capabilities)?);
                }
                keys::APPLICATION => {
                    application = Some(ApplicationConfig::read(&reader, &mut msps)?);
                }
                _ => return Err(ConfigError::UnexpectedGroup { path: reader.path }),
            }
        }
        let msps = MspManager::new(msps.into_msps());
        let msps = Arc::new(msps.map_err(|source| ConfigError::Msps { source })?);
        let tree = PolicyTree::from(group);
        let policies = PolicyManager::new(keys::CHANNEL, &tree, Arc::clone(&msps))
            .map_err(|source| ConfigError::Policies { source: Box::new(source) })?;
        Ok(Self(Arc::new(Inner {
            channel_id,
            capabilities,
            orderer_addresses,
            orderer,
            application,
            msps,
            policies: Arc::new(policies),
            config,
        })))
    }

    /// The channel.
    #[must_use]
    pub fn channel_id(&self) -> &ChannelId {
        &self.0.channel_id
    }

    /// Number of the configuration: 0 in the genesis block, one more with every update.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.0.config.sequence
    }

    /// The tree that was parsed.
    #[must_use]
    pub fn config(&self) -> &common::Config {
        &self.0.config
    }

    /// The MSPs of all organizations.
    #[must_use]
    pub fn msps(&self) -> &Arc<MspManager> {
        &self.0.msps
    }

    /// The policies, by absolute path.
    #[must_use]
    pub fn policies(&self) -> &Arc<PolicyManager> {
        &self.0.policies
    }

    /// What every node must support.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// The orderer group; absent only in configurations of older networks' tools.
    #[must_use]
    pub fn orderer(&self) -> Option<&OrdererConfig> {
        self.0.orderer.as_ref()
    }

    /// The application group; absent in channels that only order.
    #[must_use]
    pub fn application(&self) -> Option<&ApplicationConfig> {
        self.0.application.as_ref()
    }

    /// Orderers of the whole channel, as channels below capability V3_0 may list them.
    #[must_use]
    pub fn orderer_addresses(&self) -> &[Endpoint] {
        &self.0.orderer_addresses
    }

    /// Every endpoint of the ordering service with the organization it belongs to; `None` for
    /// endpoints of the whole channel, which count only where no organization has any.
    #[must_use]
    pub fn orderer_endpoints(&self) -> Vec<(Option<&MspId>, &Endpoint)> {
        let orgs = self.orderer().into_iter().flat_map(|orderer| orderer.orgs.values());
        let own: Vec<_> = orgs
            .flat_map(|org| org.endpoints.iter().map(|at| (Some(&org.org.msp_id), at)))
            .collect();
        match own.is_empty() {
            true => self.orderer_addresses().iter().map(|at| (None, at)).collect(),
            false => own,
        }
    }

    /// Every organization once, ordering ones first, whichever groups it stands in.
    #[must_use]
    pub fn organizations(&self) -> Vec<&Organization> {
        let orderer = self.orderer().into_iter().flat_map(|o| o.orgs.values().map(|org| &org.org));
        let application =
            self.application().into_iter().flat_map(|a| a.orgs.values().map(|org| &org.org));
        let mut seen = std::collections::BTreeSet::new();
        orderer.chain(application).filter(|org| seen.insert(&org.msp_id)).collect()
    }

    /// Certificates of the TLS authorities of all organizations, roots and intermediates, PEM.
    #[must_use]
    pub fn tls_root_certs(&self) -> Vec<Bytes> {
        let orgs = self.organizations().into_iter();
        let certs =
            orgs.flat_map(|org| org.tls_root_certs().iter().chain(org.tls_intermediate_certs()));
        certs.cloned().collect()
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle")
            .field("channel_id", self.channel_id())
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}

/// Fabric: `preValidate` in `common/channelconfig/bundle.go`.
fn check_capability_order(root: &common::ConfigGroup) -> Result<(), ConfigError> {
    let Some(orderer) = root.groups.get(keys::ORDERER) else { return Ok(()) };
    let has = |group: &common::ConfigGroup| group.values.contains_key(keys::CAPABILITIES);
    if has(orderer) {
        return Ok(());
    }
    if has(root) {
        return Err(ConfigError::CapabilityOrder { scope: Scope::Channel });
    }
    match root.groups.get(keys::APPLICATION) {
        Some(group) if has(group) => {
            Err(ConfigError::CapabilityOrder { scope: Scope::Application })
        }
        _ => Ok(()),
    }
}

fn read_channel_capabilities(root: &GroupReader<'_>) -> Result<Capabilities, ConfigError> {
    root.only_values(&[
        keys::CAPABILITIES,
        keys::HASHING_ALGORITHM,
        keys::BLOCK_DATA_HASHING_STRUCTURE,
        keys::ORDERER_ADDRESSES,
        keys::ORDERERS,
        keys::CONSORTIUM,
    ])?;
    let capabilities = root.value_or_default::<common::Capabilities>(keys::CAPABILITIES)?;
    Capabilities::new(Scope::Channel, &capabilities)
        .map_err(|source| ConfigError::Capability { source })
}

fn check_hashing(root: &GroupReader<'_>) -> Result<(), ConfigError> {
    let algorithm = root.value_or_default::<common::HashingAlgorithm>(keys::HASHING_ALGORITHM)?;
    if algorithm.name != SHA256 {
        let name = algorithm.name.chars().take(64).collect();
        return Err(ConfigError::HashingAlgorithm { name });
    }
    let structure = root.value_or_default::<common::BlockDataHashingStructure>(
        keys::BLOCK_DATA_HASHING_STRUCTURE,
    )?;
    match structure.width {
        FLAT_WIDTH => Ok(()),
        width => Err(ConfigError::HashingWidth { width }),
    }
}

fn read_addresses(
    root: &GroupReader<'_>,
    capabilities: &Capabilities,
) -> Result<Vec<Endpoint>, ConfigError> {
    let addresses = root.value_or_default::<common::OrdererAddresses>(keys::ORDERER_ADDRESSES)?;
    if capabilities.bft() && !addresses.addresses.is_empty() {
        return Err(ConfigError::GlobalAddresses);
    }
    if !capabilities.org_endpoints() && addresses.addresses.is_empty() {
        return Err(ConfigError::NoGlobalAddresses);
    }
    read_endpoints(&root.path_of(keys::ORDERER_ADDRESSES), &addresses)
}
