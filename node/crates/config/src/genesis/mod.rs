//! The first configuration of a channel, and the block that carries it.
//!
//! A [`ChannelProfile`] says what is particular to a channel; everything else is Fabric's default
//! (`sampleconfig/configtx.yaml`, `internal/configtxgen/encoder`). The same profile always gives the
//! same bytes: the block is made once, but everyone who holds the profile can check it.

mod policies;
pub(crate) mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use weft_crypto::sha256_parts;
use weft_protos::{
    common::{
        self, Block, ChannelHeader, Config, ConfigEnvelope, ConfigGroup, Envelope, Header,
        HeaderType, Payload, SignatureHeader,
    },
    msp, orderer,
};
use weft_types::{ChannelId, MspId, NONCE_LEN, Timestamp, TxId};

pub use policies::{
    Policies, PolicyRule, PolicyRuleError, ordering_policies, transacting_policies,
};

use self::{
    policies::group_policies,
    values::{
        acls, anchor_peers, capabilities, consensus_type, endpoints, msp_value, put_policy,
        put_value,
    },
};
use crate::{
    application::AnchorPeer,
    block,
    bundle::{Bundle, ConfigError, FLAT_WIDTH, SHA256},
    consensus::{BftConsenter, Consensus, bft_block_validation},
    duration,
    endpoint::Endpoint,
    keys,
    orderer::{BatchSize, ConsensusState},
};

/// Version in the channel header of a genesis block. Fabric: `common/genesis/genesis.go`.
const GENESIS_VERSION: i32 = 1;

/// What a channel begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelProfile {
    /// The channel.
    pub channel_id: ChannelId,
    /// When it was asked for; stands in the block.
    pub created: Timestamp,
    /// What every node must support; V3_0 by default.
    pub capabilities: BTreeSet<String>,
    /// Policies of the root group; Readers, Writers and Admins are required.
    pub policies: Policies,
    /// The ordering service.
    pub orderer: OrdererProfile,
    /// The organizations that transact; `None` for a channel that only orders.
    pub application: Option<ApplicationProfile>,
}

/// The ordering service of a new channel.
#[derive(Debug, Clone, PartialEq)]
pub struct OrdererProfile {
    /// The protocol with its settings.
    pub consensus: Consensus,
    /// Members of a BFT channel; empty otherwise.
    pub consenters: Vec<BftConsenter>,
    /// When a block is full.
    pub batch_size: BatchSize,
    /// Longest time an envelope waits for a block to fill.
    pub batch_timeout: Duration,
    /// What orderers must support; V2_0 by default.
    pub capabilities: BTreeSet<String>,
    /// Policies of the group; Readers, Writers, Admins and BlockValidation are required. With BFT
    /// the last one is replaced by the quorum of the members.
    pub policies: Policies,
    /// Organizations that run orderers.
    pub orgs: Vec<OrgProfile>,
}

/// The organizations that transact on a new channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplicationProfile {
    /// Policies of the peers' resources, where they are not the default ones.
    pub acls: BTreeMap<String, String>,
    /// What peers must support; V2_5 by default.
    pub capabilities: BTreeSet<String>,
    /// Policies of the group; Readers, Writers and Admins are required.
    pub policies: Policies,
    /// The organizations.
    pub orgs: Vec<OrgProfile>,
}

/// An organization of a new channel, or one to add to a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct OrgProfile {
    /// Name of its group; usually the MSP id.
    pub name: String,
    /// The definition of its MSP. A signing identity in it is left out of the channel.
    pub msp: msp::FabricMspConfig,
    /// Its policies.
    pub policies: Policies,
    /// Where its orderers serve; of use in the orderer group.
    pub endpoints: Vec<Endpoint>,
    /// Peers that others may meet first; of use in the application group.
    pub anchor_peers: Vec<AnchorPeer>,
}

/// A profile that does not make a channel.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// A required policy is not there.
    #[error("failed to make the genesis block: {group} needs a policy {name}")]
    MissingPolicy {
        /// The group.
        group: String,
        /// The policy.
        name: &'static str,
    },
    /// Two organizations of one group have one name.
    #[error("failed to make the genesis block: {group} lists organization {name} twice")]
    DuplicateOrg {
        /// The group.
        group: &'static str,
        /// The organization.
        name: String,
    },
    /// The configuration would not be accepted.
    #[error("failed to make the genesis block: the configuration is not valid")]
    Config {
        /// What is wrong.
        #[source]
        source: Box<ConfigError>,
    },
}

impl ChannelProfile {
    /// A channel with the default policies and capabilities.
    #[must_use]
    pub fn new(
        channel_id: ChannelId,
        created: Timestamp,
        orderer: OrdererProfile,
        application: Option<ApplicationProfile>,
    ) -> Self {
        Self {
            channel_id,
            created,
            capabilities: set(&["V3_0"]),
            policies: group_policies(),
            orderer,
            application,
        }
    }
}

impl OrdererProfile {
    /// An ordering service with the default batches, policies and capabilities.
    #[must_use]
    pub fn new(consensus: Consensus, orgs: Vec<OrgProfile>) -> Self {
        let mut policies = group_policies();
        policies.insert(keys::BLOCK_VALIDATION.into(), PolicyRule::any(keys::BLOCK_VALIDATION));
        Self {
            consensus,
            consenters: Vec::new(),
            batch_size: BatchSize::default(),
            batch_timeout: Duration::from_secs(2),
            capabilities: set(&["V2_0"]),
            policies,
            orgs,
        }
    }
}

impl ApplicationProfile {
    /// Organizations with the default policies and capabilities.
    #[must_use]
    pub fn new(orgs: Vec<OrgProfile>) -> Self {
        let mut policies = group_policies();
        for name in [keys::ENDORSEMENT, keys::LIFECYCLE_ENDORSEMENT] {
            policies.insert(name.into(), PolicyRule::majority(keys::ENDORSEMENT));
        }
        Self { acls: BTreeMap::new(), capabilities: set(&["V2_5"]), policies, orgs }
    }
}

impl OrgProfile {
    /// An organization that transacts, with [`transacting_policies`]; its group has the name of its
    /// MSP.
    #[must_use]
    pub fn transacting(msp_id: &MspId, msp: msp::FabricMspConfig) -> Self {
        let (name, policies) = (msp_id.to_string(), transacting_policies(msp_id));
        Self { name, msp, policies, endpoints: Vec::new(), anchor_peers: Vec::new() }
    }

    /// An organization that runs orderers, with [`ordering_policies`]; its group has the name of its
    /// MSP.
    #[must_use]
    pub fn ordering(msp_id: &MspId, msp: msp::FabricMspConfig, endpoints: Vec<Endpoint>) -> Self {
        let (name, policies) = (msp_id.to_string(), ordering_policies(msp_id));
        Self { name, msp, policies, endpoints, anchor_peers: Vec::new() }
    }

    /// With these anchor peers.
    #[must_use]
    pub fn with_anchor_peers(mut self, anchor_peers: Vec<AnchorPeer>) -> Self {
        self.anchor_peers = anchor_peers;
        self
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The first configuration of a channel.
///
/// # Errors
/// Fails where required policies are missing, names clash, or the result would not be accepted.
pub fn config(profile: &ChannelProfile) -> Result<Config, GenesisError> {
    let config = Config { sequence: 0, channel_group: Some(channel_group(profile)?) };
    Bundle::new(profile.channel_id.clone(), config.clone())
        .map_err(|source| GenesisError::Config { source: Box::new(source) })?;
    Ok(config)
}

/// Block 0 of a channel. Its nonce is drawn from the configuration, so that equal profiles give equal
/// bytes.
///
/// # Errors
/// Fails as [`config`].
pub fn block(profile: &ChannelProfile) -> Result<Block, GenesisError> {
    let config = ConfigEnvelope { config: Some(config(profile)?), last_update: None };
    let data: Bytes = config.encode_to_vec().into();
    let digest = sha256_parts([profile.channel_id.as_str().as_bytes(), &data]);
    let nonce = Bytes::copy_from_slice(digest.get(..NONCE_LEN).unwrap_or(&digest));
    let channel_header = ChannelHeader {
        r#type: HeaderType::Config.into(),
        version: GENESIS_VERSION,
        timestamp: Some(profile.created.into()),
        channel_id: profile.channel_id.to_string(),
        tx_id: TxId::compute(&nonce, &[]).to_string(),
        ..ChannelHeader::default()
    };
    let signature_header = SignatureHeader { creator: Bytes::new(), nonce };
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: signature_header.encode_to_vec().into(),
    };
    let payload = Payload { header: Some(header), data }.encode_to_vec();
    let envelope = Envelope { payload: payload.into(), signature: Bytes::new() };
    Ok(block::genesis(envelope.encode_to_vec().into()))
}

fn channel_group(profile: &ChannelProfile) -> Result<ConfigGroup, GenesisError> {
    let required = [keys::READERS, keys::WRITERS, keys::ADMINS];
    let mut group = new_group("/Channel", &profile.policies, &required)?;
    put_value(
        &mut group,
        keys::HASHING_ALGORITHM,
        &common::HashingAlgorithm { name: SHA256.into() },
    );
    put_value(
        &mut group,
        keys::BLOCK_DATA_HASHING_STRUCTURE,
        &common::BlockDataHashingStructure { width: FLAT_WIDTH },
    );
    put_capabilities(&mut group, &profile.capabilities);
    group.groups.insert(keys::ORDERER.into(), orderer_group(&profile.orderer)?);
    if let Some(application) = &profile.application {
        group.groups.insert(keys::APPLICATION.into(), application_group(application)?);
    }
    Ok(group)
}

fn orderer_group(profile: &OrdererProfile) -> Result<ConfigGroup, GenesisError> {
    let required = [keys::READERS, keys::WRITERS, keys::ADMINS, keys::BLOCK_VALIDATION];
    let mut group = new_group("/Channel/Orderer", &profile.policies, &required)?;
    put_value(&mut group, keys::BATCH_SIZE, &profile.batch_size.to_message());
    let timeout = orderer::BatchTimeout { timeout: duration::format(profile.batch_timeout) };
    put_value(&mut group, keys::BATCH_TIMEOUT, &timeout);
    put_value(&mut group, keys::CHANNEL_RESTRICTIONS, &orderer::ChannelRestrictions::default());
    put_capabilities(&mut group, &profile.capabilities);
    let kind = consensus_type(&profile.consensus, ConsensusState::Normal);
    put_value(&mut group, keys::CONSENSUS_TYPE, &kind);
    if !profile.consenters.is_empty() {
        let consenters = profile.consenters.iter().map(BftConsenter::to_message).collect();
        put_value(&mut group, keys::ORDERERS, &common::Orderers { consenter_mapping: consenters });
    }
    if matches!(profile.consensus, Consensus::Bft(_)) {
        let policy = bft_block_validation(&profile.consenters);
        put_policy(&mut group, keys::BLOCK_VALIDATION, policy);
    }
    for org in &profile.orgs {
        let child = orderer_org_group(org)?;
        if group.groups.insert(org.name.clone(), child).is_some() {
            return Err(GenesisError::DuplicateOrg {
                group: keys::ORDERER,
                name: org.name.clone(),
            });
        }
    }
    Ok(group)
}

fn application_group(profile: &ApplicationProfile) -> Result<ConfigGroup, GenesisError> {
    let required = [keys::READERS, keys::WRITERS, keys::ADMINS];
    let mut group = new_group("/Channel/Application", &profile.policies, &required)?;
    if !profile.acls.is_empty() {
        put_value(&mut group, keys::ACLS, &acls(&profile.acls));
    }
    put_capabilities(&mut group, &profile.capabilities);
    for org in &profile.orgs {
        let child = application_org_group(org)?;
        if group.groups.insert(org.name.clone(), child).is_some() {
            let name = org.name.clone();
            return Err(GenesisError::DuplicateOrg { group: keys::APPLICATION, name });
        }
    }
    Ok(group)
}

/// The group of an organization that runs orderers.
pub(crate) fn orderer_org_group(org: &OrgProfile) -> Result<ConfigGroup, GenesisError> {
    let mut group = org_group(keys::ORDERER, org)?;
    if !org.endpoints.is_empty() {
        put_value(&mut group, keys::ENDPOINTS, &endpoints(&org.endpoints));
    }
    Ok(group)
}

/// The group of an organization that transacts.
pub(crate) fn application_org_group(org: &OrgProfile) -> Result<ConfigGroup, GenesisError> {
    let mut group = org_group(keys::APPLICATION, org)?;
    if !org.anchor_peers.is_empty() {
        put_value(&mut group, keys::ANCHOR_PEERS, &anchor_peers(&org.anchor_peers));
    }
    Ok(group)
}

fn org_group(parent: &str, org: &OrgProfile) -> Result<ConfigGroup, GenesisError> {
    let required = [keys::READERS, keys::WRITERS, keys::ADMINS];
    let path = format!("/{}/{parent}/{}", keys::CHANNEL, org.name);
    let mut group = new_group(&path, &org.policies, &required)?;
    put_value(&mut group, keys::MSP, &msp_value(&org.msp));
    Ok(group)
}

fn new_group(
    path: &str,
    policies: &Policies,
    required: &[&'static str],
) -> Result<ConfigGroup, GenesisError> {
    if let Some(name) = required.iter().find(|name| !policies.contains_key(**name)) {
        return Err(GenesisError::MissingPolicy { group: path.to_owned(), name });
    }
    let mut group = ConfigGroup { mod_policy: keys::ADMINS.into(), ..ConfigGroup::default() };
    for (name, rule) in policies {
        put_policy(&mut group, name, rule.to_policy());
    }
    Ok(group)
}

fn put_capabilities(group: &mut ConfigGroup, names: &BTreeSet<String>) {
    if !names.is_empty() {
        put_value(group, keys::CAPABILITIES, &capabilities(names));
    }
}
