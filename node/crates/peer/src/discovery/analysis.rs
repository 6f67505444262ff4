//! Which peers can endorse a call: groups of peers, and layouts that say how many of each group
//! are enough (Fabric: discovery/endorsement).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_msp::policy::CompileError;
use weft_msp::{MspManager, Principal, ValidAt};
use weft_protos::common::{MspPrincipal, SignaturePolicyEnvelope};
use weft_protos::peer::{ChaincodeCall, ChaincodeInterest};

use super::principals::{self, PrincipalKey, PrincipalSet};
use crate::membership::{ChannelPeer, Member};

/// What has to be known of a chaincode.
#[derive(Debug, Clone, PartialEq)]
pub struct ChaincodeRules {
    /// Its definition's sequence.
    pub sequence: i64,
    /// Who must endorse.
    pub policy: SignaturePolicyEnvelope,
    /// Its collections, by name.
    pub collections: BTreeMap<String, CollectionRules>,
}

/// What has to be known of a collection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CollectionRules {
    /// Who holds the data: one of these.
    pub members: Vec<MspPrincipal>,
    /// Who must endorse writes; `None` where the chaincode's policy applies.
    pub policy: Option<SignaturePolicyEnvelope>,
}

/// No peers can be named for a call. The texts reach clients.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AnalysisError {
    /// The chaincode is not defined.
    #[error("No metadata was found for chaincode {chaincode} in channel {channel}")]
    NoChaincode {
        /// The chaincode.
        chaincode: String,
        /// The channel.
        channel: String,
    },
    /// The collection is not defined.
    #[error("collection {collection} doesn't exist in collection config for chaincode {chaincode}")]
    NoCollection {
        /// The chaincode.
        chaincode: String,
        /// The collection.
        collection: String,
    },
    /// The definition cannot be used.
    #[error("policy not found: {reason}")]
    Policy {
        /// What is wrong.
        reason: String,
    },
    /// A policy is malformed.
    #[error("{0}")]
    Compile(#[source] CompileError),
    /// Nobody can satisfy the policy.
    #[error("endorsement policy cannot be satisfied")]
    Unsatisfiable,
    /// The chaincode's policy is to be disregarded and there is no other.
    #[error(
        "requested to disregard chaincode {chaincode}'s policy but key and collection policies are missing, either disable DisregardNamespacePolicy or specify at least one key policy or at least one collection policy"
    )]
    NothingLeft {
        /// The chaincode.
        chaincode: String,
    },
    /// No policy applies at all.
    #[error("no principal sets remained after filtering")]
    NoPolicies,
    /// The peers that are alive do not satisfy the policy.
    #[error("no peer combination can satisfy the endorsement policy")]
    NoPeers,
    /// They would, but not all have the chaincodes.
    #[error("required chaincodes are not installed on sufficient peers")]
    NotInstalled,
}

/// Looks up what has to be known of a chaincode; the error is for one that is not defined.
pub type Lookup<'a> = &'a dyn Fn(&ChaincodeCall) -> Result<ChaincodeRules, AnalysisError>;

/// A group of peers that can stand for each other.
#[derive(Debug, Clone)]
pub struct Group {
    /// What they have in common.
    pub principal: PrincipalKey,
    /// The peers.
    pub peers: Vec<Arc<Member>>,
}

/// Who can endorse.
#[derive(Debug, Clone, Default)]
pub struct Descriptor {
    /// The first chaincode of the call.
    pub chaincode: String,
    /// Groups; those of no layout are empty.
    pub groups: Vec<Group>,
    /// Each layout is enough: how many of which groups, by index.
    pub layouts: Vec<BTreeMap<usize, usize>>,
}

/// The sets of principals whose endorsements are enough for a call.
///
/// # Errors
/// [`AnalysisError`].
pub fn principal_sets(
    interest: &ChaincodeInterest,
    lookup: Lookup<'_>,
) -> Result<Vec<PrincipalSet>, AnalysisError> {
    let mut policies = Vec::new();
    for call in &interest.chaincodes {
        let rules = lookup(call)?;
        policies.extend(namespace_policies(call, &rules)?);
        policies.extend(call.key_policies.iter().cloned());
    }
    let mut merged: Option<Vec<PrincipalSet>> = None;
    for policy in distinct(policies) {
        let sets = principals::sets(&policy).map_err(AnalysisError::Compile)?;
        if sets.is_empty() {
            return Err(AnalysisError::Unsatisfiable);
        }
        merged = Some(match merged {
            Some(before) => principals::merge(&before, &sets),
            None => sets,
        });
    }
    merged.ok_or(AnalysisError::NoPolicies)
}

fn distinct(policies: Vec<SignaturePolicyEnvelope>) -> Vec<SignaturePolicyEnvelope> {
    let mut distinct: Vec<SignaturePolicyEnvelope> = Vec::new();
    for policy in policies {
        if !distinct.contains(&policy) {
            distinct.push(policy);
        }
    }
    distinct
}

/// The policies of a chaincode and the collections called. A collection's own policy stands for the
/// chaincode's, as what is written to the collection falls under that alone.
fn namespace_policies(
    call: &ChaincodeCall,
    rules: &ChaincodeRules,
) -> Result<Vec<SignaturePolicyEnvelope>, AnalysisError> {
    let own = call
        .collection_names
        .iter()
        .map(|name| rules.collections.get(name).and_then(|collection| collection.policy.clone()));
    if call.disregard_namespace_policy {
        let own: Vec<_> = own.flatten().collect();
        if own.is_empty() && call.key_policies.is_empty() {
            return Err(AnalysisError::NothingLeft { chaincode: call.name.clone() });
        }
        return Ok(own);
    }
    let mut policies: Vec<_> = own.map(|own| own.unwrap_or_else(|| rules.policy.clone())).collect();
    if policies.is_empty() {
        policies.push(rules.policy.clone());
    }
    Ok(policies)
}

/// Whether a peer may hold what a call reads. `msps` are those of the channel.
///
/// # Errors
/// [`AnalysisError`].
pub fn authorized<'a>(
    peers: &'a [ChannelPeer],
    interest: &ChaincodeInterest,
    lookup: Lookup<'_>,
    (msps, at): (&MspManager, ValidAt),
) -> Result<Vec<&'a ChannelPeer>, AnalysisError> {
    let mut required: Vec<Vec<Principal>> = Vec::new();
    for call in &interest.chaincodes {
        let rules = lookup(call)?;
        if call.no_private_reads {
            continue;
        }
        for name in &call.collection_names {
            let missing = || AnalysisError::NoCollection {
                chaincode: call.name.clone(),
                collection: name.clone(),
            };
            let collection = rules.collections.get(name).ok_or_else(missing)?;
            let members = collection.members.iter();
            required.push(members.filter_map(|one| Principal::decode(one).ok()).collect());
        }
    }
    let may = |peer: &&ChannelPeer| {
        let Ok(identity) = msps.identity_of(&peer.member.identity) else { return false };
        required.iter().all(|any| any.iter().any(|one| one.check(&identity, at).is_ok()))
    };
    Ok(peers.iter().filter(may).collect())
}

/// Whether a peer has all chaincodes of a call as they are defined.
///
/// # Errors
/// [`AnalysisError`].
pub fn versions(
    interest: &ChaincodeInterest,
    lookup: Lookup<'_>,
) -> Result<Vec<(String, String)>, AnalysisError> {
    let version =
        |call: &ChaincodeCall| Ok((call.name.clone(), lookup(call)?.sequence.to_string()));
    interest.chaincodes.iter().map(version).collect()
}

/// Who can endorse a call, of these peers. `msps` are those of the channel.
///
/// # Errors
/// [`AnalysisError`].
pub fn describe(
    peers: &[ChannelPeer],
    interest: &ChaincodeInterest,
    lookup: Lookup<'_>,
    (msps, at): (&MspManager, ValidAt),
) -> Result<Descriptor, AnalysisError> {
    let candidates = authorized(peers, interest, lookup, (msps, at))?;
    let sets = principal_sets(interest, lookup)?;
    let versions = versions(interest, lookup)?;
    let keys: BTreeSet<_> = sets.iter().flat_map(|set| set.keys().cloned()).collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let matching = |key: &PrincipalKey| -> Vec<&ChannelPeer> {
        let Ok(principal) = Principal::decode(&principals::principal(key)) else {
            return Vec::new();
        };
        let matches = |peer: &&&ChannelPeer| {
            let identity = msps.identity_of(&peer.member.identity);
            identity.is_ok_and(|identity| principal.check(&identity, at).is_ok())
        };
        candidates.iter().filter(matches).copied().collect()
    };
    let matching: Vec<_> = keys.iter().map(matching).collect();
    let index = |key: &PrincipalKey| keys.binary_search(key).unwrap_or_default();
    let layouts = sets.iter().map(|set| -> BTreeMap<usize, usize> {
        set.iter().map(|(key, count)| (index(key), *count)).collect()
    });
    let enough = |layout: &BTreeMap<usize, usize>, groups: &dyn Fn(usize) -> usize| {
        layout.iter().all(|(group, count)| groups(*group) >= *count)
    };
    let size = |group: usize| matching.get(group).map_or(0, Vec::len);
    let layouts: Vec<_> = layouts.filter(|layout| enough(layout, &size)).collect();
    if layouts.is_empty() {
        return Err(AnalysisError::NoPeers);
    }
    let installed = |peer: &&ChannelPeer| {
        versions.iter().all(|(name, version)| peer.state.has_version(name, version))
    };
    let groups = keys.iter().zip(matching.iter()).map(|(key, peers)| Group {
        principal: key.clone(),
        peers: peers.iter().copied().filter(installed).map(|p| Arc::clone(&p.member)).collect(),
    });
    let groups: Vec<_> = groups.collect();
    let size = |group: usize| groups.get(group).map_or(0, |group| group.peers.len());
    let layouts: Vec<_> = layouts.into_iter().filter(|layout| enough(layout, &size)).collect();
    if layouts.is_empty() {
        return Err(AnalysisError::NotInstalled);
    }
    let chaincode = interest.chaincodes.first().map(|call| call.name.clone()).unwrap_or_default();
    Ok(Descriptor { chaincode, groups, layouts })
}
