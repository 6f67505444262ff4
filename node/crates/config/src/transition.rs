//! Which configuration may follow which.
//!
//! [`check`] holds the rules that every node applies to a config block. [`check_consensus`] holds the
//! ones that orderers apply before they order an update: whether the cluster can carry it out.
//! [`Membership`] tells how the members of a Raft cluster change and whether the cluster would
//! keep a quorum.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weft_crypto::Certificate;
use weft_protos::{common, msp};
use weft_types::{MspId, Timestamp};

use crate::{
    bundle::Bundle,
    consensus::{BftConsenter, Consensus, RaftConfig, RaftConsenter},
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

/// Why a member's TLS certificate would not be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It cannot be read.
    #[error("cannot be read")]
    Malformed,
    /// No TLS authority of an ordering organization vouches for it.
    #[error("is not issued by a TLS authority of an ordering organization")]
    Untrusted,
    /// It is outside its validity period.
    #[error("is not valid at this time")]
    NotValidNow,
    /// Its extended key usage allows neither side of TLS.
    #[error("is not for TLS")]
    Usage,
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
            Membership::of(&bft_keys(&before.consenters), &bft_keys(&after.consenters))
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

/// Members that must sign a block of a BFT channel of `members`: with F = (N − 1) / 3 faulty ones,
/// ⌈(N + F + 1) / 2⌉.
#[must_use]
pub fn bft_quorum(members: usize) -> usize {
    let faulty = members.saturating_sub(1) / 3;
    (members + faulty + 1).div_ceil(2)
}

/// The block validation policy of a BFT channel: a quorum of its members, each by identity.
/// Fabric: `common/policies/bft.go`.
#[must_use]
pub fn bft_block_validation(consenters: &[BftConsenter]) -> common::Policy {
    use prost::Message;
    use weft_protos::common::{
        MspPrincipal, SignaturePolicy, SignaturePolicyEnvelope, msp_principal, policy,
        signature_policy,
    };

    let identity = |consenter: &BftConsenter| MspPrincipal {
        principal_classification: msp_principal::Classification::Identity.into(),
        principal: msp::SerializedIdentity {
            mspid: consenter.msp_id.to_string(),
            id_bytes: consenter.identity.clone(),
        }
        .encode_to_vec()
        .into(),
    };
    let signed_by =
        |index| SignaturePolicy { r#type: Some(signature_policy::Type::SignedBy(index)) };
    let rules = (0..).take(consenters.len()).map(signed_by).collect();
    let n = i32::try_from(bft_quorum(consenters.len())).unwrap_or(i32::MAX);
    let threshold = signature_policy::NOutOf { n, rules };
    let envelope = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(SignaturePolicy { r#type: Some(signature_policy::Type::NOutOf(threshold)) }),
        identities: consenters.iter().map(identity).collect(),
    };
    common::Policy {
        r#type: policy::PolicyType::Signature.into(),
        value: envelope.encode_to_vec().into(),
    }
}

fn check_raft(
    before: &OrdererConfig,
    after: &OrdererConfig,
    old: &RaftConfig,
    new: &RaftConfig,
    now: Timestamp,
) -> Result<Membership, TransitionError> {
    let membership = Membership::of(&raft_keys(old), &raft_keys(new))?;
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

/// The fault of a certificate that stays, where the update is what brings it about.
fn orphaned(
    before: &TlsAuthorities,
    after: &TlsAuthorities,
    pem: &Bytes,
) -> Option<CertificateFault> {
    let fault = after.fault(pem, None)?;
    before.fault(pem, None).is_none().then_some(fault)
}

/// The TLS authorities of all ordering organizations.
struct TlsAuthorities {
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
}

/// Most intermediate authorities between a certificate and its root.
const MAX_CHAIN: usize = 8;

impl TlsAuthorities {
    fn of(orderer: &OrdererConfig) -> Self {
        let read = |certs: &[Bytes]| -> Vec<Certificate> {
            let texts = certs.iter().filter_map(|pem| std::str::from_utf8(pem).ok());
            texts.filter_map(|pem| Certificate::from_pem(pem).ok()).collect()
        };
        let mut authorities = Self { roots: Vec::new(), intermediates: Vec::new() };
        for org in orderer.orgs.values() {
            authorities.roots.extend(read(org.org.tls_root_certs()));
            authorities.intermediates.extend(read(org.org.tls_intermediate_certs()));
        }
        authorities
    }

    /// What is wrong with a certificate; validity is looked at only where a time is given.
    fn fault(&self, pem: &Bytes, now: Option<Timestamp>) -> Option<CertificateFault> {
        let text = std::str::from_utf8(pem).ok();
        let Some(certificate) = text.and_then(|text| Certificate::from_pem(text).ok()) else {
            return Some(CertificateFault::Malformed);
        };
        if now.is_some_and(|now| !certificate.is_valid_at(now)) {
            return Some(CertificateFault::NotValidNow);
        }
        if certificate
            .extended_key_usage()
            .is_some_and(|usage| !(usage.any || usage.client_auth || usage.server_auth))
        {
            return Some(CertificateFault::Usage);
        }
        match self.vouches_for(&certificate, now, MAX_CHAIN) {
            true => None,
            false => Some(CertificateFault::Untrusted),
        }
    }

    fn vouches_for(&self, certificate: &Certificate, now: Option<Timestamp>, depth: usize) -> bool {
        let vouches = |authority: &&Certificate| {
            authority.is_ca()
                && now.is_none_or(|now| authority.is_valid_at(now))
                && certificate.issuer() == authority.subject()
                && certificate.verify_signed_by(authority).is_ok()
        };
        if self.roots.iter().any(|root| root.der() == certificate.der() || vouches(&root)) {
            return true;
        }
        let mut above = self.intermediates.iter().filter(vouches);
        depth > 0 && above.any(|authority| self.vouches_for(authority, now, depth - 1))
    }
}

fn raft_keys(config: &RaftConfig) -> Vec<&[u8]> {
    config.consenters.iter().map(|consenter| consenter.client_tls_cert.as_ref()).collect()
}

fn bft_keys(consenters: &[BftConsenter]) -> Vec<&[u8]> {
    consenters.iter().map(|consenter| consenter.client_tls_cert.as_ref()).collect()
}

/// What happens to the set of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipChange {
    /// Nothing.
    None,
    /// One joins.
    Added {
        /// Its place in the new list.
        new: usize,
    },
    /// One leaves.
    Removed {
        /// Its place in the old list.
        old: usize,
    },
    /// One gets another certificate, or gives its place to another node: it keeps its number.
    Replaced {
        /// Its place in the old list.
        old: usize,
        /// Its place in the new list.
        new: usize,
    },
}

/// How the members of a cluster go from one configuration to the next. Members are told apart by
/// their client TLS certificate. Fabric: `orderer/consensus/etcdraft/membership.go`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    change: MembershipChange,
    /// For each member of the new list its place in the old one, where its certificate stood there.
    kept: Vec<Option<usize>>,
}

impl Membership {
    fn unchanged(members: usize) -> Self {
        Self { change: MembershipChange::None, kept: (0..members).map(Some).collect() }
    }

    /// How Raft consenters go from one list to another.
    ///
    /// # Errors
    /// Fails where more than one joins or more than one leaves.
    pub fn of_raft(old: &RaftConfig, new: &RaftConfig) -> Result<Self, TransitionError> {
        Self::of(&raft_keys(old), &raft_keys(new))
    }

    fn of(old: &[&[u8]], new: &[&[u8]]) -> Result<Self, TransitionError> {
        let places: BTreeMap<&[u8], usize> =
            old.iter().enumerate().map(|(place, key)| (*key, place)).collect();
        let kept: Vec<_> = new.iter().map(|key| places.get(key).copied()).collect();
        let added: Vec<usize> = (0..new.len()).filter(|new| kept[*new].is_none()).collect();
        let stay: BTreeSet<usize> = kept.iter().flatten().copied().collect();
        let removed: Vec<usize> = (0..old.len()).filter(|old| !stay.contains(old)).collect();
        let change = match (added.as_slice(), removed.as_slice()) {
            ([], []) => MembershipChange::None,
            ([new], []) => MembershipChange::Added { new: *new },
            ([], [old]) => MembershipChange::Removed { old: *old },
            ([new], [old]) => MembershipChange::Replaced { old: *old, new: *new },
            _ => {
                let (added, removed) = (added.len(), removed.len());
                return Err(TransitionError::SeveralMembers { added, removed });
            }
        };
        Ok(Self { change, kept })
    }

    /// What happens to the set of members.
    #[must_use]
    pub fn change(&self) -> MembershipChange {
        self.change
    }

    /// Number of members after the change.
    #[must_use]
    pub fn members(&self) -> usize {
        self.kept.len()
    }

    /// The place in the old list of the member at `new` in the new list; `None` for one that joins.
    #[must_use]
    pub fn previous(&self, new: usize) -> Option<usize> {
        match self.change {
            MembershipChange::Replaced { old, new: replaced } if replaced == new => Some(old),
            _ => self.kept.get(new).copied().flatten(),
        }
    }

    /// The numbers of the members after the change, in the order of the new list, and the number
    /// that the next member to join will get. `ids` are the present numbers in the order of the old
    /// list. A number is never given twice, so a member removed and added again is a new one.
    #[must_use]
    pub fn assign_ids(&self, ids: &[u64], next_id: u64) -> (Vec<u64>, u64) {
        let mut next_id = next_id;
        let mut number = |new| match self.previous(new).and_then(|old| ids.get(old)) {
            Some(id) => *id,
            None => {
                next_id += 1;
                next_id - 1
            }
        };
        let numbers = (0..self.members()).map(&mut number).collect();
        (numbers, next_id)
    }

    /// Checks that enough members stay alive. `alive` holds the places in the old list of the
    /// members known to be alive, the one that asks included.
    ///
    /// A change that costs no live member is always allowed: replacing the certificate of a member
    /// that is down is how it comes back. Clusters of one or two members tolerate no fault, so for
    /// them additions and replacements are allowed too.
    ///
    /// # Errors
    /// Fails with [`TransitionError::QuorumLoss`].
    pub fn check_quorum(&self, alive: &BTreeSet<usize>) -> Result<(), TransitionError> {
        let members = self.members();
        let quorum = members / 2 + 1;
        let tolerates_faults = members > 2;
        let (alive, needed) = match self.change {
            MembershipChange::None => return Ok(()),
            MembershipChange::Added { .. } => (alive.len(), tolerates_faults),
            MembershipChange::Replaced { old, .. } => {
                (alive.len().saturating_sub(1), tolerates_faults && alive.contains(&old))
            }
            MembershipChange::Removed { old } => {
                (alive.len() - usize::from(alive.contains(&old)), true)
            }
        };
        match needed && alive < quorum {
            true => Err(TransitionError::QuorumLoss { alive, members, quorum }),
            false => Ok(()),
        }
    }
}
