//! What a channel's config should say, as its genesis block and as the next change of a
//! config that is already on the ledger. Pure: addresses, MSPs and certificates come in.
//!
//! [`differences`] and [`consenter_differences`] say what differs, [`apply`] makes the config
//! after some of it, and [`next`] takes the first step for those who do not choose. A consenter
//! set changes by one member an update (Fabric: `orderer/consensus/etcdraft/membership.go`), so
//! a network that grows from three orderers to five takes two updates; everything else fits into
//! one.

use std::collections::BTreeMap;
use std::fmt;
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
use weft_protos::common::{Config, Policy};
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

    /// Policies that a spec may set, by name: as it sets them, or the defaults.
    fn policy_rules(&self) -> Result<Vec<(&'static str, PolicyRule)>, ChannelConfigError> {
        let (policies, defaults) = (&self.policies, ApplicationProfile::new(Vec::new()).policies);
        let mut rules = Vec::new();
        for (name, text) in [
            (keys::ENDORSEMENT, &policies.endorsement),
            (keys::LIFECYCLE_ENDORSEMENT, &policies.lifecycle_endorsement),
            (keys::ADMINS, &policies.admins),
        ] {
            let rule = match text {
                Some(text) => Some(self.policy_rule(name, text)?),
                None => defaults.get(name).cloned(),
            };
            rules.extend(rule.map(|rule| (name, rule)));
        }
        Ok(rules)
    }

    fn policy_rule(
        &self,
        policy: &'static str,
        text: &str,
    ) -> Result<PolicyRule, ChannelConfigError> {
        let channel = self.id.clone();
        PolicyRule::parse(text).map_err(|source| ChannelConfigError::Policy {
            channel,
            policy,
            source,
        })
    }

    fn msp_of(&self, msp_id: &MspId) -> Option<&FabricMspConfig> {
        let member = self.members.get(msp_id).map(|member| &member.msp);
        member.or((*msp_id == self.orderer_msp_id).then_some(&self.orderer_msp))
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

/// One difference between a channel's config and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// An organization becomes a member.
    AddMember(MspId),
    /// An organization is no member any more.
    RemoveMember(MspId),
    /// An MSP is defined anew.
    Msp(MspId),
    /// A member names other anchor peers.
    AnchorPeers(MspId),
    /// A policy of the application group, by name.
    Policy(&'static str),
    /// The policy of a resource; without one, the default.
    Acl(String),
    /// The limits of a batch.
    BatchSize,
    /// The longest wait for a batch.
    BatchTimeout,
    /// Raft's timing.
    RaftOptions,
    /// Where clients find orderers: those that are consenters.
    Endpoints,
    /// An orderer becomes a consenter.
    AddConsenter(Endpoint),
    /// A consenter's certificate is exchanged.
    ReplaceConsenter(Endpoint),
    /// An orderer is no consenter any more.
    RemoveConsenter(Endpoint),
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edit::AddMember(id) => write!(f, "add member {id}"),
            Edit::RemoveMember(id) => write!(f, "remove member {id}"),
            Edit::Msp(id) => write!(f, "redefine the MSP of {id}"),
            Edit::AnchorPeers(id) => write!(f, "set the anchor peers of {id}"),
            Edit::Policy(name) => write!(f, "set policy {name}"),
            Edit::Acl(resource) => write!(f, "set the access to {resource}"),
            Edit::BatchSize => f.write_str("set the batch size"),
            Edit::BatchTimeout => f.write_str("set the batch timeout"),
            Edit::RaftOptions => f.write_str("set Raft's timing"),
            Edit::Endpoints => f.write_str("set the orderers' endpoints"),
            Edit::AddConsenter(at) => write!(f, "add consenter {at}"),
            Edit::ReplaceConsenter(at) => write!(f, "exchange the certificate of consenter {at}"),
            Edit::RemoveConsenter(at) => write!(f, "remove consenter {at}"),
        }
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
    let mut edits = differences(current, desired)?;
    edits.extend(consenter_differences(current, desired)?.into_iter().next());
    match edits.as_slice() {
        [] => Ok(None),
        edits => apply(current, desired, edits).map(Some),
    }
}

/// What differs, consenters apart. All of it can go into one update.
///
/// # Errors
/// [`ChannelConfigError`] when the config cannot be read or has another consensus type.
pub fn differences(
    current: &Config,
    desired: &DesiredChannel,
) -> Result<Vec<Edit>, ChannelConfigError> {
    let bundle = bundle(current, desired)?;
    let mut edits = member_edits(&bundle, desired);
    for (name, rule) in desired.policy_rules()? {
        if policy_of(current, name) != Some(&rule.to_policy()) {
            edits.push(Edit::Policy(name));
        }
    }
    edits.extend(acl_edits(&bundle, desired));
    edits.extend(ordering_edits(&bundle, desired)?);
    Ok(edits)
}

/// What differs of the consenters, in the order in which it is best changed. Each takes an
/// update of its own.
///
/// # Errors
/// [`ChannelConfigError::Current`].
pub fn consenter_differences(
    current: &Config,
    desired: &DesiredChannel,
) -> Result<Vec<Edit>, ChannelConfigError> {
    let bundle = bundle(current, desired)?;
    let Some(raft) = raft_of(&bundle) else { return Ok(Vec::new()) };
    let wanted = desired.orderers.iter().filter_map(|orderer| {
        let at = orderer.endpoint.clone();
        match raft.consenters.iter().find(|one| one.endpoint == at) {
            None => Some(Edit::AddConsenter(at)),
            Some(one) if *one != orderer.consenter() => Some(Edit::ReplaceConsenter(at)),
            Some(_) => None,
        }
    });
    let is_wanted = |at: &Endpoint| desired.orderers.iter().any(|one| one.endpoint == *at);
    let extra = raft.consenters.iter().map(|one| &one.endpoint).filter(|at| !is_wanted(at));
    Ok(wanted.chain(extra.cloned().map(Edit::RemoveConsenter)).collect())
}

/// The config after some edits. Clients are told of an orderer once it is a consenter and no
/// longer than it is one, so a change of consenters changes the endpoints, too.
///
/// # Errors
/// [`ChannelConfigError`] naming what cannot be changed.
pub fn apply(
    current: &Config,
    desired: &DesiredChannel,
    edits: &[Edit],
) -> Result<Config, ChannelConfigError> {
    let before = bundle(current, desired)?;
    let mut config = current.clone();
    for edit in edits {
        apply_one(&mut config, &before, desired, edit)?;
    }
    if edits.iter().any(Edit::moves_endpoints) {
        set_endpoints(&mut config, &before, desired)?;
    }
    Ok(config)
}

impl Edit {
    fn moves_endpoints(&self) -> bool {
        matches!(self, Edit::Endpoints | Edit::AddConsenter(_) | Edit::RemoveConsenter(_))
    }
}

fn bundle(config: &Config, desired: &DesiredChannel) -> Result<Bundle, ChannelConfigError> {
    let channel = desired.id.clone();
    Bundle::new(channel.clone(), config.clone())
        .map_err(|source| ChannelConfigError::Current { channel, source: Box::new(source) })
}

fn raft_of(bundle: &Bundle) -> Option<&RaftConfig> {
    match bundle.orderer().map(|orderer| &orderer.consensus) {
        Some(Consensus::Raft(raft)) => Some(raft),
        _ => None,
    }
}

fn member_edits(bundle: &Bundle, desired: &DesiredChannel) -> Vec<Edit> {
    let Some(application) = bundle.application() else { return Vec::new() };
    let mut edits = Vec::new();
    for (msp_id, member) in &desired.members {
        let Some(org) = application.org_of(msp_id) else {
            edits.push(Edit::AddMember(msp_id.clone()));
            continue;
        };
        if org.org.msp != member.msp {
            edits.push(Edit::Msp(msp_id.clone()));
        }
        if org.anchor_peers != member.anchor_peers {
            edits.push(Edit::AnchorPeers(msp_id.clone()));
        }
    }
    let gone = application.msp_ids().filter(|id| !desired.members.contains_key(*id));
    edits.extend(gone.cloned().map(Edit::RemoveMember));
    edits
}

fn acl_edits(bundle: &Bundle, desired: &DesiredChannel) -> Vec<Edit> {
    let Some(application) = bundle.application() else { return Vec::new() };
    let changed = desired
        .acls
        .iter()
        .filter(|(resource, policy)| application.acls.get(*resource) != Some(policy));
    let gone = application.acls.keys().filter(|resource| !desired.acls.contains_key(*resource));
    changed.map(|(resource, _)| resource).chain(gone).cloned().map(Edit::Acl).collect()
}

fn ordering_edits(
    bundle: &Bundle,
    desired: &DesiredChannel,
) -> Result<Vec<Edit>, ChannelConfigError> {
    let Some(orderer) = bundle.orderer() else { return Ok(Vec::new()) };
    let mut edits = Vec::new();
    if orderer.batch_size != batch_size(&desired.batch) {
        edits.push(Edit::BatchSize);
    }
    if orderer.batch_timeout != desired.batch.timeout {
        edits.push(Edit::BatchTimeout);
    }
    let bound = match (&orderer.consensus, desired.consensus) {
        (Consensus::Solo, ConsensusType::Solo) => desired.endpoints(),
        (Consensus::Raft(raft), ConsensusType::Raft) => {
            if raft.options != raft_options(&desired.raft) {
                edits.push(Edit::RaftOptions);
            }
            raft.consenters.iter().map(|one| one.endpoint.clone()).collect()
        }
        _ => return Err(ChannelConfigError::ConsensusType { channel: desired.id.clone() }),
    };
    if let Some(org) = orderer.org_of(&desired.orderer_msp_id) {
        if org.org.msp != desired.orderer_msp {
            edits.push(Edit::Msp(desired.orderer_msp_id.clone()));
        }
        if org.endpoints != bound {
            edits.push(Edit::Endpoints);
        }
    }
    Ok(edits)
}

fn apply_one(
    config: &mut Config,
    before: &Bundle,
    desired: &DesiredChannel,
    edit: &Edit,
) -> Result<(), ChannelConfigError> {
    let edited = |source| ChannelConfigError::Edit { channel: desired.id.clone(), source };
    let consenter = |at: &Endpoint| {
        desired.orderers.iter().find(|one| one.endpoint == *at).map(DesiredOrderer::consenter)
    };
    let done = match edit {
        Edit::AddMember(id) => match desired.members.get(id) {
            Some(member) => edit::add_application_org(config, &member.profile(id)),
            None => Ok(()),
        },
        Edit::RemoveMember(id) => match group_of(before, id) {
            Some(name) => edit::remove_application_org(config, name),
            None => Ok(()),
        },
        Edit::Msp(id) => match desired.msp_of(id) {
            Some(msp) => edit::set_msp(config, id, msp).map(drop),
            None => Ok(()),
        },
        Edit::AnchorPeers(id) => match (group_of(before, id), desired.members.get(id)) {
            (Some(name), Some(member)) => {
                edit::set_anchor_peers(config, name, &member.anchor_peers)
            }
            _ => Ok(()),
        },
        Edit::Policy(name) => return set_policy(config, desired, name),
        Edit::Acl(resource) => {
            let policy = desired.acls.get(resource).map(String::as_str);
            edit::set_acl(config, resource, policy)
        }
        Edit::BatchSize => edit::set_batch_size(config, batch_size(&desired.batch)),
        Edit::BatchTimeout => edit::set_batch_timeout(config, desired.batch.timeout),
        Edit::RaftOptions => edit::set_raft_options(config, &raft_options(&desired.raft)),
        // After all others: the endpoints follow from the consenters.
        Edit::Endpoints => Ok(()),
        Edit::AddConsenter(at) => match consenter(at) {
            Some(consenter) => edit::add_consenter(config, &consenter),
            None => Ok(()),
        },
        Edit::ReplaceConsenter(at) => match consenter(at) {
            Some(consenter) => edit::replace_consenter(config, at, &consenter),
            None => Ok(()),
        },
        Edit::RemoveConsenter(at) => edit::remove_consenter(config, at),
    };
    done.map_err(edited)
}

/// The name of a member's group, which need not be its MSP id.
fn group_of<'a>(bundle: &'a Bundle, msp_id: &MspId) -> Option<&'a str> {
    bundle.application()?.org_of(msp_id).map(|org| org.org.name.as_str())
}

fn policy_of<'a>(config: &'a Config, name: &str) -> Option<&'a Policy> {
    let root = config.channel_group.as_ref()?;
    root.groups.get(keys::APPLICATION)?.policies.get(name)?.policy.as_ref()
}

fn set_policy(
    config: &mut Config,
    desired: &DesiredChannel,
    name: &str,
) -> Result<(), ChannelConfigError> {
    let group = format!("/{}/{}", keys::CHANNEL, keys::APPLICATION);
    let rules = desired.policy_rules()?;
    let Some((_, rule)) = rules.into_iter().find(|(one, _)| *one == name) else { return Ok(()) };
    edit::set_policy(config, &group, name, &rule)
        .map_err(|source| ChannelConfigError::Edit { channel: desired.id.clone(), source })
}

fn set_endpoints(
    config: &mut Config,
    before: &Bundle,
    desired: &DesiredChannel,
) -> Result<(), ChannelConfigError> {
    let after = bundle(config, desired)?;
    let bound = match raft_of(&after) {
        Some(raft) => raft.consenters.iter().map(|one| one.endpoint.clone()).collect(),
        None => desired.endpoints(),
    };
    let org = before.orderer().and_then(|orderer| orderer.org_of(&desired.orderer_msp_id));
    match org {
        Some(org) => edit::set_endpoints(config, &org.org.name, &bound)
            .map_err(|source| ChannelConfigError::Edit { channel: desired.id.clone(), source }),
        None => Ok(()),
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
