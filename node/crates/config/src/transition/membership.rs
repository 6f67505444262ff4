//! How the members of a cluster change, and whether it would keep a quorum.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::TransitionError;
use crate::consensus::{BftConsenter, RaftConfig};

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
    pub(super) fn unchanged(members: usize) -> Self {
        Self { change: MembershipChange::None, kept: (0..members).map(Some).collect() }
    }

    /// How Raft consenters go from one list to another.
    ///
    /// # Errors
    /// Fails where more than one joins or more than one leaves.
    pub fn of_raft(old: &RaftConfig, new: &RaftConfig) -> Result<Self, TransitionError> {
        let keys = |config: &'_ RaftConfig| -> Vec<Bytes> {
            config.consenters.iter().map(|member| member.client_tls_cert.clone()).collect()
        };
        Self::of(&keys(old), &keys(new))
    }

    pub(super) fn of_bft(
        old: &[BftConsenter],
        new: &[BftConsenter],
    ) -> Result<Self, TransitionError> {
        let keys = |members: &[BftConsenter]| -> Vec<Bytes> {
            members.iter().map(|member| member.client_tls_cert.clone()).collect()
        };
        Self::of(&keys(old), &keys(new))
    }

    fn of(old: &[Bytes], new: &[Bytes]) -> Result<Self, TransitionError> {
        let places: BTreeMap<&Bytes, usize> =
            old.iter().enumerate().map(|(place, key)| (key, place)).collect();
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
