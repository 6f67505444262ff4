//! The daily changes of a configuration, on a copy of its tree.
//!
//! Take a clone of [`crate::Bundle::config`], edit it, and hand both to
//! [`crate::update::compute`]. Versions are left as they are; the update works them out. An edit only
//! changes what its name says; whether the result is a valid configuration is decided by
//! [`crate::Bundle::new`], and whether it may follow the present one by [`crate::transition`].

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use prost::Message;
use weft_protos::{
    common::{self, Config, ConfigGroup},
    etcdraft,
    ext::{DecodeError, decode},
    msp, orderer, peer,
};
use weft_types::MspId;

use crate::{
    application::AnchorPeer,
    capabilities::Scope,
    consensus::{self, BftConsenter, Consensus, RaftConsenter, RaftOptions, bft_block_validation},
    duration,
    endpoint::Endpoint,
    genesis::{
        self, GenesisError, OrgProfile, PolicyRule,
        values::{self, put_policy, put_value},
    },
    keys,
    orderer::{BatchSize, ConsensusState},
};

/// An edit that does not fit the configuration.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A group is not there.
    #[error("failed to edit the configuration: there is no group {path}")]
    NoGroup {
        /// Its path.
        path: String,
    },
    /// An organization is there already.
    #[error("failed to add {path}: it is there already")]
    OrgExists {
        /// Its path.
        path: String,
    },
    /// An organization's group cannot be made.
    #[error("failed to add an organization")]
    Org {
        /// What is wrong.
        #[source]
        source: Box<GenesisError>,
    },
    /// A value is not the message it should be.
    #[error("failed to read {path}")]
    Decode {
        /// The value.
        path: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// The edit is for another consensus type.
    #[error("failed to edit the consenters: the channel is ordered by {found:?}, not {expected}")]
    OtherConsensus {
        /// The channel's type.
        found: String,
        /// The type the edit is for.
        expected: &'static str,
    },
    /// A consenter is listed already.
    #[error("failed to add consenter {endpoint}: it is listed already")]
    ConsenterExists {
        /// Its address.
        endpoint: Endpoint,
    },
    /// A consenter is not listed.
    #[error("failed to find consenter {endpoint}")]
    NoConsenter {
        /// Its address.
        endpoint: Endpoint,
    },
    /// A policy is not there.
    #[error("failed to remove {path}: there is no such policy")]
    NoPolicy {
        /// Its path.
        path: String,
    },
    /// A path is not one of a group in the tree.
    #[error("failed to read {path:?} as the path of a group: it must begin with /Channel")]
    Path {
        /// The path.
        path: String,
    },
}

// ---- Organizations ----

/// Adds an organization that transacts.
///
/// # Errors
/// Fails where the channel has no application group or a group of this name.
pub fn add_application_org(config: &mut Config, org: &OrgProfile) -> Result<(), EditError> {
    let group = genesis::application_org_group(org);
    add_org(config, keys::APPLICATION, org, group)
}

/// Adds an organization that runs orderers.
///
/// # Errors
/// Fails where the channel has no orderer group or a group of this name.
pub fn add_orderer_org(config: &mut Config, org: &OrgProfile) -> Result<(), EditError> {
    let group = genesis::orderer_org_group(org);
    add_org(config, keys::ORDERER, org, group)
}

fn add_org(
    config: &mut Config,
    parent: &str,
    org: &OrgProfile,
    group: Result<ConfigGroup, GenesisError>,
) -> Result<(), EditError> {
    let group = group.map_err(|source| EditError::Org { source: Box::new(source) })?;
    let siblings = &mut section(config, parent)?.groups;
    if siblings.contains_key(&org.name) {
        return Err(EditError::OrgExists { path: org_path(parent, &org.name) });
    }
    siblings.insert(org.name.clone(), group);
    Ok(())
}

/// Removes an organization that transacts, by the name of its group.
///
/// # Errors
/// Fails where it is not there.
pub fn remove_application_org(config: &mut Config, name: &str) -> Result<(), EditError> {
    remove_org(config, keys::APPLICATION, name)
}

/// Removes an organization that runs orderers, by the name of its group. Its consenters stay.
///
/// # Errors
/// Fails where it is not there.
pub fn remove_orderer_org(config: &mut Config, name: &str) -> Result<(), EditError> {
    remove_org(config, keys::ORDERER, name)
}

fn remove_org(config: &mut Config, parent: &str, name: &str) -> Result<(), EditError> {
    match section(config, parent)?.groups.remove(name) {
        Some(_) => Ok(()),
        None => Err(EditError::NoGroup { path: org_path(parent, name) }),
    }
}

/// Replaces the definition of an MSP in every group that has it, as all of them must agree. Returns
/// how many there were.
///
/// # Errors
/// Fails where a definition cannot be read.
pub fn set_msp(
    config: &mut Config,
    msp_id: &MspId,
    definition: &msp::FabricMspConfig,
) -> Result<usize, EditError> {
    let value = values::msp_value(definition);
    let mut replaced = 0;
    let root = config.channel_group.get_or_insert_default();
    for (parent, section) in &mut root.groups {
        for (name, org) in &mut section.groups {
            let Some(existing) = org.values.get(keys::MSP) else { continue };
            let path = format!("{}/{}", org_path(parent, name), keys::MSP);
            if msp_id_of(&existing.value).map_err(|source| EditError::Decode { path, source })?
                == msp_id.as_str()
            {
                put_value(org, keys::MSP, &value);
                replaced += 1;
            }
        }
    }
    Ok(replaced)
}

fn msp_id_of(value: &Bytes) -> Result<String, DecodeError> {
    let config: msp::MspConfig = decode("MSP value", value.clone())?;
    let definition: msp::FabricMspConfig = decode("MSP definition", config.config)?;
    Ok(definition.name)
}

/// Sets the anchor peers of an organization; none removes the value.
///
/// # Errors
/// Fails where the organization is not in the application group.
pub fn set_anchor_peers(
    config: &mut Config,
    org: &str,
    peers: &[AnchorPeer],
) -> Result<(), EditError> {
    let group = org_group(config, keys::APPLICATION, org)?;
    match peers.is_empty() {
        true => _ = group.values.remove(keys::ANCHOR_PEERS),
        false => put_value(group, keys::ANCHOR_PEERS, &values::anchor_peers(peers)),
    }
    Ok(())
}

/// Sets where the orderers of an organization serve.
///
/// # Errors
/// Fails where the organization is not in the orderer group.
pub fn set_endpoints(
    config: &mut Config,
    org: &str,
    endpoints: &[Endpoint],
) -> Result<(), EditError> {
    let group = org_group(config, keys::ORDERER, org)?;
    put_value(group, keys::ENDPOINTS, &values::endpoints(endpoints));
    Ok(())
}

// ---- Policies, access, capabilities ----

/// Sets a policy of the group at an absolute path such as `/Channel/Application/Org1MSP`.
///
/// # Errors
/// Fails where there is no such group.
pub fn set_policy(
    config: &mut Config,
    group: &str,
    name: &str,
    rule: &PolicyRule,
) -> Result<(), EditError> {
    put_policy(group_at(config, group)?, name, rule.to_policy());
    Ok(())
}

/// Removes a policy of the group at an absolute path.
///
/// # Errors
/// Fails where there is no such group or policy.
pub fn remove_policy(config: &mut Config, group: &str, name: &str) -> Result<(), EditError> {
    match group_at(config, group)?.policies.remove(name) {
        Some(_) => Ok(()),
        None => Err(EditError::NoPolicy { path: format!("{group}/{name}") }),
    }
}

/// Sets the policy of a peer's resource, or restores the default one.
///
/// # Errors
/// Fails where the channel has no application group or the present value cannot be read.
pub fn set_acl(config: &mut Config, resource: &str, policy: Option<&str>) -> Result<(), EditError> {
    let group = section(config, keys::APPLICATION)?;
    let mut acls: peer::AcLs = read_value(group, keys::APPLICATION, keys::ACLS)?;
    match policy {
        Some(policy) => {
            let policy = peer::ApiResource { policy_ref: policy.to_owned() };
            acls.acls.insert(resource.to_owned(), policy);
        }
        None => _ = acls.acls.remove(resource),
    }
    match acls.acls.is_empty() {
        true => _ = group.values.remove(keys::ACLS),
        false => put_value(group, keys::ACLS, &acls),
    }
    Ok(())
}

/// Sets the capabilities of a group.
///
/// # Errors
/// Fails where the group is not there.
pub fn set_capabilities(
    config: &mut Config,
    scope: Scope,
    names: &BTreeSet<String>,
) -> Result<(), EditError> {
    let group = match scope {
        Scope::Channel => root(config)?,
        Scope::Orderer => section(config, keys::ORDERER)?,
        Scope::Application => section(config, keys::APPLICATION)?,
    };
    put_value(group, keys::CAPABILITIES, &values::capabilities(names));
    Ok(())
}

// ---- The ordering service ----

/// Sets when a block is full.
///
/// # Errors
/// Fails where the channel has no orderer group.
pub fn set_batch_size(config: &mut Config, size: BatchSize) -> Result<(), EditError> {
    put_value(section(config, keys::ORDERER)?, keys::BATCH_SIZE, &size.to_message());
    Ok(())
}

/// Sets how long an envelope may wait for a block to fill.
///
/// # Errors
/// Fails where the channel has no orderer group.
pub fn set_batch_timeout(config: &mut Config, timeout: Duration) -> Result<(), EditError> {
    let timeout = orderer::BatchTimeout { timeout: duration::format(timeout) };
    put_value(section(config, keys::ORDERER)?, keys::BATCH_TIMEOUT, &timeout);
    Ok(())
}

/// Sets whether the channel takes transactions.
///
/// # Errors
/// Fails where the channel has no orderer group or its consensus type cannot be read.
pub fn set_consensus_state(config: &mut Config, state: ConsensusState) -> Result<(), EditError> {
    let group = section(config, keys::ORDERER)?;
    let mut kind: orderer::ConsensusType = read_value(group, keys::ORDERER, keys::CONSENSUS_TYPE)?;
    kind.state = state.to_number();
    put_value(group, keys::CONSENSUS_TYPE, &kind);
    Ok(())
}

/// Sets the consensus type with its settings and, for BFT, its members; the state stays.
///
/// # Errors
/// Fails where the channel has no orderer group or its consensus type cannot be read.
pub fn set_consensus(
    config: &mut Config,
    consensus: &Consensus,
    consenters: &[BftConsenter],
) -> Result<(), EditError> {
    let group = section(config, keys::ORDERER)?;
    let present: orderer::ConsensusType = read_value(group, keys::ORDERER, keys::CONSENSUS_TYPE)?;
    let kind = values::consensus_type(consensus, ConsensusState::Normal);
    let kind = orderer::ConsensusType { state: present.state, ..kind };
    put_value(group, keys::CONSENSUS_TYPE, &kind);
    if matches!(consensus, Consensus::Bft(_)) {
        put_bft_consenters(group, consenters);
    }
    Ok(())
}

/// Sets the members of a BFT channel, and with them the policy for blocks: a quorum of the members.
///
/// # Errors
/// Fails where the channel has no orderer group.
pub fn set_bft_consenters(
    config: &mut Config,
    consenters: &[BftConsenter],
) -> Result<(), EditError> {
    put_bft_consenters(section(config, keys::ORDERER)?, consenters);
    Ok(())
}

fn put_bft_consenters(group: &mut ConfigGroup, consenters: &[BftConsenter]) {
    let mapping = consenters.iter().map(BftConsenter::to_message).collect();
    put_value(group, keys::ORDERERS, &common::Orderers { consenter_mapping: mapping });
    put_policy(group, keys::BLOCK_VALIDATION, bft_block_validation(consenters));
}

/// Adds a member to a Raft channel, at the end of the list.
///
/// # Errors
/// Fails where the channel is not ordered by Raft or a member has this address already.
pub fn add_consenter(config: &mut Config, consenter: &RaftConsenter) -> Result<(), EditError> {
    edit_raft(config, |metadata| match place_of(metadata, &consenter.endpoint) {
        Some(_) => Err(EditError::ConsenterExists { endpoint: consenter.endpoint.clone() }),
        None => {
            metadata.consenters.push(consenter.to_message());
            Ok(())
        }
    })
}

/// Removes the member at an address from a Raft channel.
///
/// # Errors
/// Fails where the channel is not ordered by Raft or no member has this address.
pub fn remove_consenter(config: &mut Config, endpoint: &Endpoint) -> Result<(), EditError> {
    edit_raft(config, |metadata| {
        let place = find(metadata, endpoint)?;
        metadata.consenters.remove(place);
        Ok(())
    })
}

/// Puts another member in the place of the one at an address: with the same address this renews its
/// certificates, and it keeps its number either way.
///
/// # Errors
/// Fails where the channel is not ordered by Raft or no member has this address.
pub fn replace_consenter(
    config: &mut Config,
    endpoint: &Endpoint,
    by: &RaftConsenter,
) -> Result<(), EditError> {
    edit_raft(config, |metadata| {
        let place = find(metadata, endpoint)?;
        if let Some(consenter) = metadata.consenters.get_mut(place) {
            *consenter = by.to_message();
        }
        Ok(())
    })
}

/// Sets timing and limits of a Raft channel.
///
/// # Errors
/// Fails where the channel is not ordered by Raft.
pub fn set_raft_options(config: &mut Config, options: &RaftOptions) -> Result<(), EditError> {
    edit_raft(config, |metadata| {
        metadata.options = Some(options.to_message());
        Ok(())
    })
}

fn place_of(metadata: &etcdraft::ConfigMetadata, at: &Endpoint) -> Option<usize> {
    let is = |c: &etcdraft::Consenter| c.host == at.host && c.port == u32::from(at.port);
    metadata.consenters.iter().position(is)
}

fn find(metadata: &etcdraft::ConfigMetadata, at: &Endpoint) -> Result<usize, EditError> {
    place_of(metadata, at).ok_or_else(|| EditError::NoConsenter { endpoint: at.clone() })
}

fn edit_raft(
    config: &mut Config,
    edit: impl FnOnce(&mut etcdraft::ConfigMetadata) -> Result<(), EditError>,
) -> Result<(), EditError> {
    let group = section(config, keys::ORDERER)?;
    let mut kind: orderer::ConsensusType = read_value(group, keys::ORDERER, keys::CONSENSUS_TYPE)?;
    if kind.r#type != consensus::RAFT {
        let (found, expected) = (kind.r#type, consensus::RAFT);
        return Err(EditError::OtherConsensus { found, expected });
    }
    let path = || format!("/{}/{}/{}", keys::CHANNEL, keys::ORDERER, keys::CONSENSUS_TYPE);
    let mut metadata = decode("etcdraft metadata", kind.metadata.clone())
        .map_err(|source| EditError::Decode { path: path(), source })?;
    edit(&mut metadata)?;
    kind.metadata = metadata.encode_to_vec().into();
    put_value(group, keys::CONSENSUS_TYPE, &kind);
    Ok(())
}

// ---- Finding groups ----

fn root(config: &mut Config) -> Result<&mut ConfigGroup, EditError> {
    let missing = || EditError::NoGroup { path: format!("/{}", keys::CHANNEL) };
    config.channel_group.as_mut().ok_or_else(missing)
}

fn section<'a>(config: &'a mut Config, name: &str) -> Result<&'a mut ConfigGroup, EditError> {
    let missing = || EditError::NoGroup { path: format!("/{}/{name}", keys::CHANNEL) };
    root(config)?.groups.get_mut(name).ok_or_else(missing)
}

fn org_group<'a>(
    config: &'a mut Config,
    parent: &str,
    name: &str,
) -> Result<&'a mut ConfigGroup, EditError> {
    let missing = || EditError::NoGroup { path: org_path(parent, name) };
    section(config, parent)?.groups.get_mut(name).ok_or_else(missing)
}

fn group_at<'a>(config: &'a mut Config, path: &str) -> Result<&'a mut ConfigGroup, EditError> {
    let mut names = path.split('/');
    if (names.next(), names.next()) != (Some(""), Some(keys::CHANNEL)) {
        return Err(EditError::Path { path: path.to_owned() });
    }
    let missing = || EditError::NoGroup { path: path.to_owned() };
    names.try_fold(root(config)?, |group, name| group.groups.get_mut(name).ok_or_else(missing))
}

fn org_path(parent: &str, name: &str) -> String {
    format!("/{}/{parent}/{name}", keys::CHANNEL)
}

fn read_value<M: Message + Default>(
    group: &ConfigGroup,
    parent: &str,
    key: &'static str,
) -> Result<M, EditError> {
    let Some(value) = group.values.get(key) else { return Ok(M::default()) };
    decode(key, value.value.clone()).map_err(|source| EditError::Decode {
        path: format!("/{}/{parent}/{key}", keys::CHANNEL),
        source,
    })
}
