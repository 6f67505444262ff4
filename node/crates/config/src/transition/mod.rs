//! Which configuration may follow which.
//!
//! [`check`] holds the rules that every node applies to a config block. [`check_consensus`] holds the
//! ones that orderers apply before they order an update: whether the cluster can carry it out.
//! [`Membership`] tells how the members of a Raft cluster change and whether the cluster would
//! keep a quorum.

mod membership;
mod tls;

use std::collections::{BTreeMap, BTreeSet};

use weft_types::{MspId, Timestamp};

pub use membership::{Membership, MembershipChange};
pub use tls::CertificateFault;

use self::tls::{TlsAuthorities, orphaned};
use crate::{
    bundle::Bundle,
    consensus::{BftConsenter, Consensus, RaftConfig, RaftConsenter, bft_block_validation},
    endpoint::Endpoint,
    keys,
    orderer::{ConsensusState, OrdererConfig},
    org::Organization,
    update::{ElementKind, ElementPath, PathError, element},
};

/// A configuration that may not follow the present one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// A group that was there is gone.
    #[error("failed to follow: the group /Channel/{group} may not be removed")]
    GroupRemoved {
        /// Its name.
        group: &'static str,
    },
    /// An organization's MSP id changed.
    #[error("failed to follow: {path} changes its MSP id from {from} to {to}")]
    MspId {
        /// The organization's group.
        path: String,
        /// The present id.
        from: MspId,
        /// The id it would have.
        to: MspId,
    },
    /// The channel's capabilities do not allow another consensus type or state.
    #[error(
        "failed to follow: changing the consensus type or state needs capability V1_4_2 or later"
    )]
    NoMigration,
    /// The state changes together with something else.
    #[error("failed to follow: the consensus state must change alone, but {path} changes too")]
    StateNotAlone {
        /// What else changes.
        path: ElementPath,
    },
    /// The state changes together with type or settings.
    #[error("failed to follow: the consensus state must change alone, but {field} changes too")]
    StateWith {
        /// `type` or `metadata`.
        field: &'static str,
    },
    /// The consensus type changes outside maintenance.
    #[error(
        "failed to follow: consensus type {from} may become {to} only in maintenance, before and after"
    )]
    TypeOutsideMaintenance {
        /// The present type.
        from: &'static str,
        /// The type it would have.
        to: &'static str,
    },
    /// There is no way from one consensus type to the other.
    #[error(
        "failed to follow: consensus type {from} cannot become {to}; only etcdraft can become BFT"
    )]
    TypeChange {
        /// The present type.
        from: &'static str,
        /// The type it would have.
        to: &'static str,
    },
    /// On the change to BFT the members differ from those of Raft.
    #[error(
        "failed to follow: consenter {endpoint} of the Raft cluster is not the same in the BFT cluster"
    )]
    MembersDiffer {
        /// The member.
        endpoint: Endpoint,
    },
    /// On the change to BFT the number of members differs.
    #[error("failed to follow: {raft} Raft consenters cannot become {bft} BFT consenters")]
    MemberCount {
        /// Members of the Raft cluster.
        raft: usize,
        /// Members of the BFT cluster.
        bft: usize,
    },
    /// More than one member is added, or more than one removed.
    #[error(
        "failed to follow: {added} consenters are added and {removed} removed; one of each at most"
    )]
    SeveralMembers {
        /// Members added.
        added: usize,
        /// Members removed.
        removed: usize,
    },
    /// A member's TLS certificate is not one that the others would accept.
    #[error("failed to follow: the {which} TLS certificate of consenter {endpoint} {reason}")]
    Certificate {
        /// `client` or `server`.
        which: &'static str,
        /// The member.
        endpoint: Endpoint,
        /// What is wrong with it.
        reason: CertificateFault,
    },
    /// The policy for blocks is not the quorum of the BFT members.
    #[error(
        "failed to follow: {} is not the quorum of the consenters",
        keys::BLOCK_VALIDATION_PATH
    )]
    BlockValidation,
    /// Rotation of the BFT lead is asked for.
    #[error("failed to follow: rotation of the lead is not supported")]
    LeaderRotation,
    /// A name in a tree is not allowed.
    #[error("failed to compare the configurations")]
    Path {
        /// What is wrong.
        source: PathError,
    },
    /// The change would leave too few members that are alive.
    #[error(
        "failed to follow: {alive} of {members} consenters would be alive, {quorum} are needed"
    )]
    QuorumLoss {
        /// Members alive after the change.
        alive: usize,
        /// Members after the change.
        members: usize,
        /// Members that must be alive.
        quorum: usize,
    },
}

/// The rules that every node applies. Fabric: `ValidateNew` in `common/channelconfig/bundle.go`.
///
/// # Errors
/// Fails where `next` may not follow `current`.
pub fn check(current: &Bundle, next: &Bundle) -> Result<(), TransitionError> {
    if let Some(orderer) = current.orderer() {
        let next_orderer =
            next.orderer().ok_or(TransitionError::GroupRemoved { group: keys::ORDERER })?;
        let type_changes = orderer.consensus.name() != next_orderer.consensus.name();
        if type_changes && !current.capabilities().org_endpoints() {
            return Err(TransitionError::NoMigration);
        }
        let org = |name: &String| orderer.orgs.get(name).map(|org| &org.org);
        let next_orgs = next_orderer.orgs.iter().map(|(name, next)| (name, &next.org));
        same_msp_ids(keys::ORDERER, next_orgs, org)?;
    }
    if let Some(application) = current.application() {
        let next =
            next.application().ok_or(TransitionError::GroupRemoved { group: keys::APPLICATION })?;
        let org = |name: &String| application.orgs.get(name).map(|org| &org.org);
        let next_orgs = next.orgs.iter().map(|(name, next)| (name, &next.org));
        same_msp_ids(keys::APPLICATION, next_orgs, org)?;
    }
    Ok(())
}

fn same_msp_ids<'a>(
    group: &str,
    next: impl Iterator<Item = (&'a String, &'a Organization)>,
    current: impl Fn(&String) -> Option<&'a Organization>,
) -> Result<(), TransitionError> {
    for (name, next) in next {
        match current(name) {
            Some(org) if org.msp_id != next.msp_id => {
                return Err(TransitionError::MspId {
                    path: format!("/{}/{group}/{name}", keys::CHANNEL),
                    from: org.msp_id.clone(),
                    to: next.msp_id.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The rules that orderers apply before they order an update. Fabric:
/// `orderer/common/msgprocessor/maintenancefilter.go`, `ValidateConsensusMetadata` in
/// `orderer/consensus/etcdraft/chain.go`, `orderer/consensus/smartbft/configverifier.go`.
///
/// `now` is the present: the certificates of members that join, or change theirs, must be valid.
/// Those of the other members are looked at only where the update touches what vouches for them, and
/// never for expiry, so that an expired certificate does not block unrelated updates, least of all the
/// one that replaces it.
///
/// # Errors
/// Fails where a rule is broken. Whether a quorum stays is asked of the [`Membership`] returned.
pub fn check_consensus(
    current: &Bundle,
    next: &Bundle,
    now: Timestamp,
) -> Result<Membership, TransitionError> {
    let removed = TransitionError::GroupRemoved { group: keys::ORDERER };
    let Some(before) = current.orderer() else { return Ok(Membership::unchanged(0)) };
    let after = next.orderer().ok_or(removed)?;
    let type_changes = before.consensus.name() != after.consensus.name();
    let state_changes = before.state != after.state;
    if (type_changes || state_changes) && !before.capabilities.consensus_migration() {
        return Err(TransitionError::NoMigration);
    }
    if state_changes {
        check_state_alone(current, next, before, after)?;
    }
    if type_changes {
        check_type_change(before, after)?;
    }
    if matches!(after.consensus, Consensus::Bft(_)) {
        check_bft(next, after)?;
    }
    match (&before.consensus, &after.consensus) {
        (Consensus::Raft(old), Consensus::Raft(new)) => check_raft(before, after, old, new, now),
        (_, Consensus::Raft(new)) => Ok(Membership::unchanged(new.consenters.len())),
        (Consensus::Bft(_), Consensus::Bft(_)) => {
            Membership::of_bft(&before.consenters, &after.consenters)
        }
        (_, Consensus::Bft(_)) => Ok(Membership::unchanged(after.consenters.len())),
        (_, Consensus::Solo) => Ok(Membership::unchanged(1)),
    }
}

fn check_state_alone(
    current: &Bundle,
    next: &Bundle,
    before: &OrdererConfig,
    after: &OrdererConfig,
) -> Result<(), TransitionError> {
    if before.consensus.name() != after.consensus.name() {
        return Err(TransitionError::StateWith { field: "type" });
    }
    if before.consensus_metadata != after.consensus_metadata {
        return Err(TransitionError::StateWith { field: "metadata" });
    }
    let path = format!("/{}/{}/{}", keys::CHANNEL, keys::ORDERER, keys::CONSENSUS_TYPE);
    let allowed = ElementPath { kind: ElementKind::Value, path };
    match changed_elements(current, next)?.into_iter().find(|path| *path != allowed) {
        Some(path) => Err(TransitionError::StateNotAlone { path }),
        None => Ok(()),
    }
}

/// Elements that are added, removed or at another version.
fn changed_elements(
    current: &Bundle,
    next: &Bundle,
) -> Result<BTreeSet<ElementPath>, TransitionError> {
    let versions = |bundle: &Bundle| -> Result<BTreeMap<ElementPath, u64>, TransitionError> {
        let elements = element::flatten(bundle.config().channel_group.as_ref())
            .map_err(|source| TransitionError::Path { source })?;
        Ok(elements.into_iter().map(|(path, element)| (path, element.version())).collect())
    };
    let (before, after) = (versions(current)?, versions(next)?);
    let paths = before.keys().chain(after.keys());
    Ok(paths.filter(|path| before.get(*path) != after.get(*path)).cloned().collect())
}

fn check_type_change(before: &OrdererConfig, after: &OrdererConfig) -> Result<(), TransitionError> {
    let (from, to) = (before.consensus.name(), after.consensus.name());
    let states = [before.state, after.state];
    if states.contains(&ConsensusState::Normal) {
        return Err(TransitionError::TypeOutsideMaintenance { from, to });
    }
    let (Consensus::Raft(raft), Consensus::Bft(_)) = (&before.consensus, &after.consensus) else {
        return Err(TransitionError::TypeChange { from, to });
    };
    let (raft, bft) = (&raft.consenters, &after.consenters);
    if raft.len() != bft.len() {
        return Err(TransitionError::MemberCount { raft: raft.len(), bft: bft.len() });
    }
    let same = |raft: &RaftConsenter, bft: &BftConsenter| {
        raft.endpoint == bft.endpoint
            && raft.server_tls_cert == bft.server_tls_cert
            && raft.client_tls_cert == bft.client_tls_cert
    };
    match raft.iter().find(|raft| !bft.iter().any(|bft| same(raft, bft))) {
        Some(missing) => Err(TransitionError::MembersDiffer { endpoint: missing.endpoint.clone() }),
        None => Ok(()),
    }
}

fn check_bft(next: &Bundle, after: &OrdererConfig) -> Result<(), TransitionError> {
    let Consensus::Bft(options) = &after.consensus else { return Ok(()) };
    if options.decisions_per_leader.is_some() {
        return Err(TransitionError::LeaderRotation);
    }
    let root = next.config().channel_group.as_ref();
    let orderer = root.and_then(|root| root.groups.get(keys::ORDERER));
    let policy = orderer
        .and_then(|group| group.policies.get(keys::BLOCK_VALIDATION))
        .and_then(|policy| policy.policy.as_ref());
    match policy == Some(&bft_block_validation(&after.consenters)) {
        true => Ok(()),
        false => Err(TransitionError::BlockValidation),
    }
}

fn check_raft(
    before: &OrdererConfig,
    after: &OrdererConfig,
    old: &RaftConfig,
    new: &RaftConfig,
    now: Timestamp,
) -> Result<Membership, TransitionError> {
    let membership = Membership::of_raft(old, new)?;
    let (trusted_before, trusted_after) = (TlsAuthorities::of(before), TlsAuthorities::of(after));
    for (index, consenter) in new.consenters.iter().enumerate() {
        let previous =
            membership.previous(index).and_then(|old_index| old.consenters.get(old_index));
        let certificates = [
            ("client", &consenter.client_tls_cert, previous.map(|old| &old.client_tls_cert)),
            ("server", &consenter.server_tls_cert, previous.map(|old| &old.server_tls_cert)),
        ];
        for (which, pem, old_pem) in certificates {
            let fault = if old_pem == Some(pem) {
                orphaned(&trusted_before, &trusted_after, pem)
            } else {
                trusted_after.fault(pem, Some(now))
            };
            if let Some(reason) = fault {
                let endpoint = consenter.endpoint.clone();
                return Err(TransitionError::Certificate { which, endpoint, reason });
            }
        }
    }
    Ok(membership)
}
