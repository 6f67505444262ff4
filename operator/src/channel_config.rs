//! What a channel's config should say, as its genesis block and as the next change of a
//! config that is already on the ledger. Pure: addresses, MSPs and certificates come in.
//!
//! [`next`] returns one step at a time. A consenter set changes by one member an update
//! (Fabric: `orderer/consensus/etcdraft/membership.go`), so a network that grows from three
//! orderers to five takes two updates; everything else goes into the first.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_config::edit::{self, EditError};
use weft_config::genesis::{
    ApplicationProfile, ChannelProfile, GenesisError, OrdererProfile, OrgProfile, PolicyRule,
    PolicyRuleError,
};
use weft_config::{
    AnchorPeer, BatchSize, Bundle, ConfigError, Consensus, Endpoint, RaftConfig, RaftConsenter,
    RaftOptions, keys,
};
use weft_protos::common::Config;
use weft_protos::msp::FabricMspConfig;
use weft_types::{ChannelId, MspId, Timestamp};

use crate::api::{ConsensusType, PolicyOverrides};
use crate::model::{Batch, Raft};

/// What a channel should be.
#[derive(Clone, Debug)]
pub struct DesiredChannel {
    /// The channel.
    pub id: ChannelId,
    /// How orderers agree.
    pub consensus: ConsensusType,
    /// Raft's timing.
    pub raft: Raft,
    /// The organization of the orderers.
    pub orderer_msp_id: MspId,
    /// Its MSP.
    pub orderer_msp: FabricMspConfig,
    /// The orderers.
    pub orderers: Vec<DesiredOrderer>,
    /// When blocks are cut.
    pub batch: Batch,
    /// Members, by MSP id.
    pub members: BTreeMap<MspId, DesiredMember>,
    /// Policies that differ from the defaults.
    pub policies: PolicyOverrides,
    /// ACLs that differ from the defaults.
    pub acls: BTreeMap<String, String>,
}

/// An orderer of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredOrderer {
    /// Where it serves.
    pub endpoint: Endpoint,
    /// Its TLS certificate, PEM; it both serves and dials with it.
    pub tls_cert: bytes::Bytes,
}

/// A member of a channel.
#[derive(Clone, Debug)]
pub struct DesiredMember {
    /// Its MSP.
    pub msp: FabricMspConfig,
    /// The peers that others meet first.
    pub anchor_peers: Vec<AnchorPeer>,
}

/// A channel's config that cannot be made or changed as wanted.
#[derive(Debug, thiserror::Error)]
pub enum ChannelConfigError {
    /// The genesis block.
    #[error("failed to make the genesis block of channel {channel}")]
    Genesis {
        /// The channel.
        channel: ChannelId,
        /// Why.
        #[source]
        source: GenesisError,
    },
    /// A policy's text.
    #[error("channel {channel}: policy {policy}")]
    Policy {
        /// The channel.
        channel: ChannelId,
        /// Name of the policy.
        policy: &'static str,
        /// Why.
        #[source]
        source: PolicyRuleError,
    },
    /// The config on the ledger cannot be read.
    #[error("failed to read the config of channel {channel}")]
    Current {
        /// The channel.
        channel: ChannelId,
        /// Why.
        #[source]
        source: Box<ConfigError>,
    },
    /// The change cannot be made.
    #[error("failed to change the config of channel {channel}")]
    Edit {
        /// The channel.
        channel: ChannelId,
        /// Why.
        #[source]
        source: EditError,
    },
    /// The consensus type of a channel cannot be changed here.
    #[error("channel {channel} is ordered by another protocol; its consensus type stays")]
    ConsensusType {
        /// The channel.
        channel: ChannelId,
    },
}

impl DesiredChannel {
    /// The profile of a new channel.
    ///
    /// # Errors
    /// [`ChannelConfigError::Policy`].
    pub fn profile(&self, created: Timestamp) -> Result<ChannelProfile, ChannelConfigError> {
        let endpoints = self.endpoints();
        let ordering =
            OrgProfile::ordering(&self.orderer_msp_id, self.orderer_msp.clone(), endpoints);
        let mut orderer = OrdererProfile::new(self.consensus(), vec![ordering]);
        orderer.batch_size = batch_size(&self.batch);
        orderer.batch_timeout = self.batch.timeout;
        let members = self.members.iter().map(|(msp_id, member)| member.profile(msp_id)).collect();
        let mut application = ApplicationProfile::new(members);
        application.acls.clone_from(&self.acls);
        for (name, rule) in self.policy_rules()? {
            application.policies.insert(name.to_owned(), rule);
        }
        Ok(ChannelProfile::new(self.id.clone(), created, orderer, Some(application)))
    }

    fn consensus(&self) -> Consensus {
        match self.consensus {
            ConsensusType::Solo => Consensus::Solo,
            ConsensusType::Raft => Consensus::Raft(RaftConfig {
                consenters: self.orderers.iter().map(DesiredOrderer::consenter).collect(),
                options: raft_options(&self.raft),
            }),
        }
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        self.orderers.iter().map(|orderer| orderer.endpoint.clone()).collect()
    }

    /// Policies that the spec sets, by name.
    fn policy_rules(&self) -> Result<Vec<(&'static str, PolicyRule)>, ChannelConfigError> {
        let policies = &self.policies;
        [
            (keys::ENDORSEMENT, &policies.endorsement),
            (keys::LIFECYCLE_ENDORSEMENT, &policies.lifecycle_endorsement),
            (keys::ADMINS, &policies.admins),
        ]
        .into_iter()
        .filter_map(|(name, text)| text.as_ref().map(|text| (name, text)))
        .map(|(policy, text)| match PolicyRule::parse(text) {
            Ok(rule) => Ok((policy, rule)),
            Err(source) => {
                Err(ChannelConfigError::Policy { channel: self.id.clone(), policy, source })
            }
        })
        .collect()
    }
}

impl DesiredOrderer {
    fn consenter(&self) -> RaftConsenter {
        RaftConsenter {
            endpoint: self.endpoint.clone(),
            client_tls_cert: self.tls_cert.clone(),
            server_tls_cert: self.tls_cert.clone(),
        }
    }
}

impl DesiredMember {
    fn profile(&self, msp_id: &MspId) -> OrgProfile {
        OrgProfile::transacting(msp_id, self.msp.clone())
            .with_anchor_peers(self.anchor_peers.clone())
    }
}

/// The next config on the way from what is on the ledger to what is wanted, or `None` when
/// there is nothing left to change.
///
/// # Errors
/// [`ChannelConfigError`] naming what cannot be changed.
pub fn next(
    current: &Config,
    desired: &DesiredChannel,
) -> Result<Option<Config>, ChannelConfigError> {
    let channel = desired.id.clone();
    let bundle = Bundle::new(channel.clone(), current.clone())
        .map_err(|source| ChannelConfigError::Current { channel, source: Box::new(source) })?;
    let mut config = current.clone();
    let edited = |source| ChannelConfigError::Edit { channel: desired.id.clone(), source };
    edit_members(&mut config, &bundle, desired).map_err(edited)?;
    for (name, rule) in desired.policy_rules()? {
        edit::set_policy(&mut config, "/Channel/Application", name, &rule).map_err(edited)?;
    }
    edit_acls(&mut config, &bundle, desired).map_err(edited)?;
    edit_ordering(&mut config, &bundle, desired)?;
    Ok((config.channel_group != current.channel_group).then_some(config))
}

fn edit_members(
    config: &mut Config,
    bundle: &Bundle,
    desired: &DesiredChannel,
) -> Result<(), EditError> {
    let Some(application) = bundle.application() else { return Ok(()) };
    for (msp_id, member) in &desired.members {
        match application.org_of(msp_id) {
            None => edit::add_application_org(config, &member.profile(msp_id))?,
            Some(org) => {
                if org.org.msp != member.msp {
                    edit::set_msp(config, msp_id, &member.msp)?;
                }
                if org.anchor_peers != member.anchor_peers {
                    edit::set_anchor_peers(config, &org.org.name, &member.anchor_peers)?;
                }
            }
        }
    }
    for org in application.orgs.values() {
        if !desired.members.contains_key(&org.org.msp_id) {
            edit::remove_application_org(config, &org.org.name)?;
        }
    }
    Ok(())
}

fn edit_acls(
    config: &mut Config,
    bundle: &Bundle,
    desired: &DesiredChannel,
) -> Result<(), EditError> {
    let Some(application) = bundle.application() else { return Ok(()) };
    for (resource, policy) in &desired.acls {
        if application.acls.get(resource) != Some(policy) {
            edit::set_acl(config, resource, Some(policy))?;
        }
    }
    for resource in application.acls.keys() {
        if !desired.acls.contains_key(resource) {
            edit::set_acl(config, resource, None)?;
        }
    }
    Ok(())
}

fn edit_ordering(
    config: &mut Config,
    bundle: &Bundle,
    desired: &DesiredChannel,
) -> Result<(), ChannelConfigError> {
    let Some(orderer) = bundle.orderer() else { return Ok(()) };
    let edited = |source| ChannelConfigError::Edit { channel: desired.id.clone(), source };
    if orderer.batch_size != batch_size(&desired.batch) {
        edit::set_batch_size(config, batch_size(&desired.batch)).map_err(edited)?;
    }
    if orderer.batch_timeout != desired.batch.timeout {
        edit::set_batch_timeout(config, desired.batch.timeout).map_err(edited)?;
    }
    match (&orderer.consensus, desired.consensus) {
        (Consensus::Solo, ConsensusType::Solo) => {}
        (Consensus::Raft(raft), ConsensusType::Raft) => {
            edit_raft(config, raft, desired).map_err(edited)?;
        }
        _ => return Err(ChannelConfigError::ConsensusType { channel: desired.id.clone() }),
    }
    // Clients are told of an orderer once it is a consenter and no longer than it is one.
    let bound = consenter_endpoints(config, bundle, desired);
    for org in orderer.orgs.values().filter(|org| org.org.msp_id == desired.orderer_msp_id) {
        if org.endpoints != bound {
            edit::set_endpoints(config, &org.org.name, &bound).map_err(edited)?;
        }
    }
    Ok(())
}

/// At most one consenter is added or removed, or its certificate replaced.
fn edit_raft(
    config: &mut Config,
    raft: &RaftConfig,
    desired: &DesiredChannel,
) -> Result<(), EditError> {
    if raft.options != raft_options(&desired.raft) {
        edit::set_raft_options(config, &raft_options(&desired.raft))?;
    }
    for orderer in &desired.orderers {
        match raft.consenters.iter().find(|one| one.endpoint == orderer.endpoint) {
            None => return edit::add_consenter(config, &orderer.consenter()),
            Some(one) if one.server_tls_cert != orderer.tls_cert => {
                return edit::replace_consenter(config, &orderer.endpoint, &orderer.consenter());
            }
            Some(_) => {}
        }
    }
    let extra = raft
        .consenters
        .iter()
        .find(|one| !desired.orderers.iter().any(|orderer| orderer.endpoint == one.endpoint));
    extra.map_or(Ok(()), |one| edit::remove_consenter(config, &one.endpoint))
}

fn consenter_endpoints(
    config: &Config,
    before: &Bundle,
    desired: &DesiredChannel,
) -> Vec<Endpoint> {
    let after = Bundle::new(before.channel_id().clone(), config.clone()).ok();
    let consensus = after.as_ref().and_then(Bundle::orderer).map(|orderer| &orderer.consensus);
    match consensus {
        Some(Consensus::Raft(raft)) => {
            raft.consenters.iter().map(|consenter| consenter.endpoint.clone()).collect()
        }
        _ => desired.endpoints(),
    }
}

fn batch_size(batch: &Batch) -> BatchSize {
    BatchSize {
        max_message_count: batch.max_message_count,
        absolute_max_bytes: batch.absolute_max_bytes,
        preferred_max_bytes: batch.preferred_max_bytes,
    }
}

fn raft_options(raft: &Raft) -> RaftOptions {
    RaftOptions {
        tick_interval: whole_millis(raft.tick_interval),
        election_tick: raft.election_ticks,
        heartbeat_tick: raft.heartbeat_ticks,
        max_inflight_blocks: raft.max_inflight_blocks,
        snapshot_interval_size: raft.snapshot_interval_bytes,
    }
}

/// The config writes durations to the millisecond; finer ones would differ for ever.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "channel_config_tests.rs"]
mod tests;
