//! Rules for the collections of a definition
//! (Fabric: core/chaincode/lifecycle/scc.go, validateCollectionConfigs).

use std::collections::BTreeSet;

use weft_msp::policy::CompileError;
use weft_msp::{MspManager, Policy, Principal, PrincipalError};
use weft_protos::common::{SignaturePolicy, SignaturePolicyEnvelope, signature_policy};
use weft_protos::peer::collection_config::Payload;
use weft_protos::peer::collection_policy_config::Payload as Members;
use weft_protos::peer::{CollectionConfigPackage, StaticCollectionConfig};

/// Collections that a definition may not have. The texts reach clients, who know Fabric's.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// An entry is of no kind, or of one that is not known.
    #[error("collection config contains unexpected payload type")]
    Kind,
    /// A name has characters that it may not have.
    #[error(
        "invalid collection name '{0}'. Names can only consist of alphanumerics, '_', and '-' and cannot begin with '_'"
    )]
    Name(String),
    /// Two have the same name.
    #[error("collection-name: {0} -- found duplicate in collection configuration")]
    Duplicate(String),
    /// Fewer peers may get the data than must.
    #[error(
        "collection-name: {name} -- maximum peer count ({maximum}) cannot be less than the required peer count ({required})"
    )]
    PeerCount {
        /// The collection.
        name: String,
        /// Peers that may get the data.
        maximum: i32,
        /// Peers that must.
        required: i32,
    },
    /// A negative number of peers.
    #[error("collection-name: {name} -- requiredPeerCount ({required}) cannot be less than zero")]
    NegativeCount {
        /// The collection.
        name: String,
        /// The number.
        required: i32,
    },
    /// Nobody is a member.
    #[error("collection member policy is not set for collection '{0}'")]
    NoMembers(String),
    /// The members' policy cannot be set up.
    #[error("invalid member org policy for collection '{name}': {source}")]
    Members {
        /// The collection.
        name: String,
        /// Why not.
        source: CompileError,
    },
    /// The members' policy is not just a list.
    #[error(
        "collection-name: {name} -- error in member org policy: signature policy is not an OR concatenation, NOutOf {n}"
    )]
    NotOr {
        /// The collection.
        name: String,
        /// How many it asks for.
        n: i32,
    },
    /// A member cannot be read.
    #[error("collection-name: {name} -- cannot read a member: {source}")]
    Principal {
        /// The collection.
        name: String,
        /// Why not.
        source: PrincipalError,
    },
    /// A member is not of the channel.
    #[error("collection-name: {name} -- collection member '{member}' is not part of the channel")]
    NotInChannel {
        /// The collection.
        name: String,
        /// The member.
        member: String,
    },
    /// A member is named in a way that collections do not know.
    #[error("collection-name: {0} -- principal type is not supported")]
    PrincipalKind(String),
    /// All earlier collections are gone.
    #[error("the proposed collection config does not contain previously defined collections")]
    NoneKept,
    /// An earlier collection is gone.
    #[error("existing collection [{0}] missing in the proposed collection configuration")]
    Missing(String),
    /// Data would live shorter or longer than was agreed.
    #[error(
        "the BlockToLive in an existing collection [{name}] modified. Existing value [{existing}]"
    )]
    BlockToLive {
        /// The collection.
        name: String,
        /// What it was.
        existing: u64,
    },
}

/// The collections of a package.
pub fn static_collections(
    package: &CollectionConfigPackage,
) -> impl Iterator<Item = &StaticCollectionConfig> {
    let payloads = package.config.iter().filter_map(|config| config.payload.as_ref());
    payloads.map(|Payload::StaticCollectionConfig(collection)| collection)
}

/// Checks the collections of a new definition, by themselves and against the `current` ones.
///
/// # Errors
/// [`CollectionError`] names the first rule that is broken.
pub fn check(
    proposed: &CollectionConfigPackage,
    current: Option<&CollectionConfigPackage>,
    msps: &std::sync::Arc<MspManager>,
) -> Result<(), CollectionError> {
    if proposed.config.iter().any(|config| config.payload.is_none()) {
        return Err(CollectionError::Kind);
    }
    let mut names = BTreeSet::new();
    for collection in static_collections(proposed) {
        check_one(collection, msps)?;
        if !names.insert(&collection.name) {
            return Err(CollectionError::Duplicate(collection.name.clone()));
        }
    }
    current.map_or(Ok(()), |current| check_kept(proposed, current))
}

fn check_one(
    collection: &StaticCollectionConfig,
    msps: &std::sync::Arc<MspManager>,
) -> Result<(), CollectionError> {
    let name = || collection.name.clone();
    if !is_name(&collection.name) {
        return Err(CollectionError::Name(name()));
    }
    let (maximum, required) = (collection.maximum_peer_count, collection.required_peer_count);
    if maximum < required {
        return Err(CollectionError::PeerCount { name: name(), maximum, required });
    }
    if required < 0 {
        return Err(CollectionError::NegativeCount { name: name(), required });
    }
    let members = collection.member_orgs_policy.as_ref().and_then(|policy| policy.payload.as_ref());
    let Some(Members::SignaturePolicy(members)) = members else {
        return Err(CollectionError::NoMembers(name()));
    };
    Policy::signature("collection members", members, std::sync::Arc::clone(msps))
        .map_err(|source| CollectionError::Members { name: name(), source })?;
    if let Some(n) = members.rule.as_ref().and_then(not_or) {
        return Err(CollectionError::NotOr { name: name(), n });
    }
    check_members(&collection.name, members, msps)
}

/// Letters, digits, `-` and `_`; the first is not `_` (Fabric: collectionNameRegExp).
fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !name.is_empty() && !name.starts_with('_') && name.bytes().all(allowed)
}

/// The first threshold that is not 1. Depth is bounded: the policy was set up before.
fn not_or(rule: &SignaturePolicy) -> Option<i32> {
    match &rule.r#type {
        Some(signature_policy::Type::NOutOf(n)) if n.n != 1 => Some(n.n),
        Some(signature_policy::Type::NOutOf(n)) => n.rules.iter().find_map(not_or),
        _ => None,
    }
}

fn check_members(
    name: &str,
    members: &SignaturePolicyEnvelope,
    msps: &MspManager,
) -> Result<(), CollectionError> {
    for principal in &members.identities {
        let principal = Principal::decode(principal)
            .map_err(|source| CollectionError::Principal { name: name.to_owned(), source })?;
        let msp_id = match &principal {
            Principal::Role { msp_id, .. }
            | Principal::OrganizationUnit { msp_id, .. }
            | Principal::Identity { msp_id, .. } => msp_id,
            _ => return Err(CollectionError::PrincipalKind(name.to_owned())),
        };
        if msps.get(msp_id).is_none() {
            let (name, member) = (name.to_owned(), msp_id.clone());
            return Err(CollectionError::NotInChannel { name, member });
        }
    }
    Ok(())
}

fn check_kept(
    proposed: &CollectionConfigPackage,
    current: &CollectionConfigPackage,
) -> Result<(), CollectionError> {
    if !current.config.is_empty() && proposed.config.is_empty() {
        return Err(CollectionError::NoneKept);
    }
    for before in static_collections(current) {
        let after = static_collections(proposed).find(|after| after.name == before.name);
        let after = after.ok_or_else(|| CollectionError::Missing(before.name.clone()))?;
        if after.block_to_live != before.block_to_live {
            let (name, existing) = (before.name.clone(), before.block_to_live);
            return Err(CollectionError::BlockToLive { name, existing });
        }
    }
    Ok(())
}
