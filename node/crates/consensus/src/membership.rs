//! Which consenter of the channel's config has which id, and how that may change.
//!
//! Fabric keeps the consenters in the config and their ids in every block's metadata
//! (`etcdraft.BlockMetadata`: `consenter_ids` in the order of the config's consenters, and
//! `next_consenter_id`). [`Membership`] is both together. The rules are Fabric's
//! (`orderer/consensus/etcdraft/membership.go`):
//!
//! * The genesis block's consenters have the ids 1, 2, … in their order.
//! * A config update adds one consenter (it gets `next_consenter_id`, which grows by one), or
//!   removes one, or replaces one (one added and one removed: the newcomer keeps the id; this is
//!   how a certificate is rotated), or leaves them alone.
//! * It is refused if it would leave fewer live consenters than a quorum though more could be
//!   started first.
//!
//! Deviations: a replaced consenter counts as alive (it is the same node with another
//! certificate; Fabric refuses a rotation in a set of three with one node down). The last
//! consenter cannot be removed. A consenter has a voting weight, 1 in Fabric's own protocols.
//!
//! A replacement keeps the id, so the newcomer has to bring the old node's log along. A node that
//! starts over with an empty disk under an old id has to say so, see [`crate::raft::Start`].

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::engine::NodeId;
use crate::wire::{self, WireError};

const VERSION: u8 = 1;

/// One consenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its voting weight; 1 where votes are counted by heads.
    pub weight: u64,
    /// What tells it from others, opaque here: Fabric goes by the client TLS certificate.
    pub consenter: Bytes,
}

/// The consenters of a channel, in the order of its config, with their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    members: Vec<Member>,
    next_id: NodeId,
}

/// What a config entry does to the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing. (The order of the consenters may still differ.)
    None,
    /// The entry's membership replaces the present one, from which it differs by one consenter.
    To(Membership),
}

/// How one membership differs from another, by ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Same consenters.
    None,
    /// This node joins.
    Added(NodeId),
    /// This node leaves.
    Removed(NodeId),
    /// This node has another identity.
    Replaced(NodeId),
}

/// Why a membership, or a change of it, is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// There has to be someone left.
    #[error("failed to form a membership: no consenters")]
    Empty,
    /// Metadata and config do not belong together.
    #[error("failed to form a membership: {ids} ids for {consenters} consenters")]
    Count {
        /// Number of ids.
        ids: usize,
        /// Number of consenters.
        consenters: usize,
    },
    /// An id is 0, or not below the next id to be assigned.
    #[error("failed to form a membership: id {id} is not in 1..{next_id}")]
    Id {
        /// The id.
        id: NodeId,
        /// The next id.
        next_id: NodeId,
    },
    /// Two consenters have one id.
    #[error("failed to form a membership: id {0} occurs twice")]
    DuplicateId(NodeId),
    /// One consenter is listed twice.
    #[error("failed to form a membership: consenter of id {0} is listed twice")]
    DuplicateConsenter(NodeId),
    /// A weight of 0, or weights whose sum does not fit.
    #[error("failed to form a membership: weight {weight} of id {id} is out of range")]
    Weight {
        /// The id.
        id: NodeId,
        /// Its weight.
        weight: u64,
    },
    /// More than one consenter changes.
    #[error("failed to change the membership: {added} added and {removed} removed at once")]
    TooManyChanges {
        /// How many join.
        added: usize,
        /// How many leave.
        removed: usize,
    },
    /// Ids were not assigned by the rules.
    #[error("failed to change the membership: id {id} is not assigned by the rules")]
    Assignment {
        /// The offending id.
        id: NodeId,
    },
    /// Too few consenters are alive; start more first.
    #[error(
        "failed to change the membership: {active} of {members} consenters would be active, \
         {quorum} are needed"
    )]
    QuorumLoss {
        /// How many of the new set are alive.
        active: usize,
        /// The size of the new set.
        members: usize,
        /// The quorum of the new set.
        quorum: usize,
    },
    /// The engine counts votes by heads.
    #[error("failed to change the membership: id {id} has weight {weight}, the engine needs 1")]
    Unweighted {
        /// The id.
        id: NodeId,
        /// Its weight.
        weight: u64,
    },
    /// The engine has one node, always.
    #[error("failed to change the membership: the engine is of one node")]
    Fixed,
    /// The bytes do not decode.
    #[error("failed to decode a membership: {0}")]
    Undecodable(String),
}

impl Membership {
    /// The membership of a genesis block: ids 1, 2, … in the order of the config.
    ///
    /// # Errors
    /// [`MembershipError`] if there is no consenter, or one is listed twice.
    pub fn genesis(consenters: &[Bytes]) -> Result<Self, MembershipError> {
        let ids: Vec<NodeId> = (1..=consenters.len() as u64).collect();
        Self::from_metadata(&ids, consenters.len() as u64 + 1, consenters)
    }

    /// Joins a block's metadata with the consenters of the config in force, both in the order of
    /// the config.
    ///
    /// # Errors
    /// [`MembershipError`] if they do not belong together.
    pub fn from_metadata(
        ids: &[NodeId],
        next_id: NodeId,
        consenters: &[Bytes],
    ) -> Result<Self, MembershipError> {
        if ids.len() != consenters.len() {
            return Err(MembershipError::Count { ids: ids.len(), consenters: consenters.len() });
        }
        let members = ids
            .iter()
            .zip(consenters)
            .map(|(&id, consenter)| Member { id, weight: 1, consenter: consenter.clone() })
            .collect();
        Self::new(members, next_id)
    }

    /// A membership of these members.
    ///
    /// # Errors
    /// [`MembershipError`] naming the rule that is broken.
    pub fn new(members: Vec<Member>, next_id: NodeId) -> Result<Self, MembershipError> {
        if members.is_empty() {
            return Err(MembershipError::Empty);
        }
        let (mut ids, mut consenters) = (BTreeSet::new(), BTreeSet::new());
        let mut total = 0u64;
        for member in &members {
            let Member { id, weight, ref consenter } = *member;
            if id == 0 || id >= next_id {
                return Err(MembershipError::Id { id, next_id });
            }
            if !ids.insert(id) {
                return Err(MembershipError::DuplicateId(id));
            }
            if !consenters.insert(consenter) {
                return Err(MembershipError::DuplicateConsenter(id));
            }
            total = match total.checked_add(weight) {
                Some(total) if weight > 0 => total,
                _ => return Err(MembershipError::Weight { id, weight }),
            };
        }
        Ok(Self { members, next_id })
    }

    /// The members, in the order of the config.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Their ids, in the order of the config: Fabric's `consenter_ids`.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().map(|member| member.id)
    }

    /// The id that the next newcomer gets: Fabric's `next_consenter_id`.
    #[must_use]
    pub fn next_id(&self) -> NodeId {
        self.next_id
    }

    /// Number of members; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the node is a member.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.member(id).is_some()
    }

    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The id of this consenter.
    #[must_use]
    pub fn id_of(&self, consenter: &[u8]) -> Option<NodeId> {
        self.members.iter().find(|m| m.consenter.as_ref() == consenter).map(|m| m.id)
    }

    /// The number of members that a decision takes when votes are counted by heads.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// The membership under a config with these consenters.
    ///
    /// # Errors
    /// [`MembershipError::TooManyChanges`] if more than one is added, removed or replaced; and
    /// what [`Membership::new`] refuses.
    pub fn updated(&self, consenters: &[Bytes]) -> Result<Self, MembershipError> {
        let wanted: BTreeSet<&Bytes> = consenters.iter().collect();
        let removed: Vec<NodeId> = self
            .members
            .iter()
            .filter(|member| !wanted.contains(&member.consenter))
            .map(|member| member.id)
            .collect();
        let added = wanted.iter().filter(|c| self.id_of(c).is_none()).count();
        if added > 1 || removed.len() > 1 {
            return Err(MembershipError::TooManyChanges { added, removed: removed.len() });
        }
        // One out and one in is one node with a new identity.
        let newcomer = removed.first().copied().unwrap_or(self.next_id);
        let next_id =
            if added == 1 && removed.is_empty() { id_after(self.next_id) } else { self.next_id };
        let members = consenters
            .iter()
            .map(|consenter| match self.members.iter().find(|m| m.consenter == *consenter) {
                Some(member) => member.clone(),
                None => Member { id: newcomer, weight: 1, consenter: consenter.clone() },
            })
            .collect();
        Self::new(members, next_id)
    }

    /// The config entry's change that leads from here to `next`.
    #[must_use]
    pub fn change_to(&self, next: &Membership) -> Change {
        if self == next { Change::None } else { Change::To(next.clone()) }
    }

    /// The membership after `change`.
    #[must_use]
    pub fn after(&self, change: &Change) -> Membership {
        match change {
            Change::None => self.clone(),
            Change::To(next) => next.clone(),
        }
    }

    /// How `next` differs, having checked that it may follow.
    ///
    /// # Errors
    /// [`MembershipError::TooManyChanges`], [`MembershipError::Assignment`].
    pub fn difference(&self, next: &Membership) -> Result<Difference, MembershipError> {
        let added: Vec<NodeId> = next.ids().filter(|id| !self.contains(*id)).collect();
        let removed: Vec<NodeId> = self.ids().filter(|id| !next.contains(*id)).collect();
        let replaced: Vec<NodeId> =
            next.members.iter().filter(|m| self.is_replaced_by(m)).map(|m| m.id).collect();
        if added.len() + removed.len() + replaced.len() > 1 {
            return Err(MembershipError::TooManyChanges {
                added: added.len() + replaced.len(),
                removed: removed.len() + replaced.len(),
            });
        }
        self.check_assignment(next, added.first().copied())?;
        Ok(match (added.first(), removed.first(), replaced.first()) {
            (Some(&id), _, _) => Difference::Added(id),
            (_, Some(&id), _) => Difference::Removed(id),
            (_, _, Some(&id)) => Difference::Replaced(id),
            _ => Difference::None,
        })
    }

    fn is_replaced_by(&self, member: &Member) -> bool {
        self.member(member.id).is_some_and(|mine| mine != member)
    }

    fn check_assignment(
        &self,
        next: &Membership,
        added: Option<NodeId>,
    ) -> Result<(), MembershipError> {
        let next_id = match added {
            Some(id) if id != self.next_id => return Err(MembershipError::Assignment { id }),
            Some(id) => id_after(id),
            None => self.next_id,
        };
        if next.next_id == next_id {
            Ok(())
        } else {
            Err(MembershipError::Assignment { id: next.next_id })
        }
    }

    /// Checks that `next` may follow while just the nodes in `active` are alive.
    ///
    /// # Errors
    /// As [`Membership::difference`], and [`MembershipError::QuorumLoss`]. Growing to two members
    /// is let through whoever is alive, since both have to be in any case.
    pub fn check_change(
        &self,
        next: &Membership,
        active: &BTreeSet<NodeId>,
    ) -> Result<Difference, MembershipError> {
        let difference = self.difference(next)?;
        let alive = next.ids().filter(|id| active.contains(id)).count();
        let inevitable = matches!(difference, Difference::Added(_)) && next.len() <= 2;
        let unchanged = difference == Difference::None;
        if alive < next.quorum() && !inevitable && !unchanged {
            return Err(MembershipError::QuorumLoss {
                active: alive,
                members: next.len(),
                quorum: next.quorum(),
            });
        }
        Ok(difference)
    }

    /// Appends the encoding: version, next id, number of members, each as id, weight, consenter.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        wire::put_number(out, self.next_id);
        wire::put_number(out, self.members.len() as u64);
        for member in &self.members {
            wire::put_number(out, member.id);
            wire::put_number(out, member.weight);
            wire::put_bytes(out, &member.consenter);
        }
    }

    /// Takes an encoded membership off the front of `input`.
    ///
    /// # Errors
    /// [`MembershipError::Undecodable`], and what [`Membership::new`] refuses.
    pub fn decode(input: &mut Bytes) -> Result<Self, MembershipError> {
        let version = wire::take_byte(input, "the version").map_err(undecodable)?;
        if version != VERSION {
            return Err(MembershipError::Undecodable(format!("its version {version} is unknown")));
        }
        let next_id = wire::take_number(input, "the next id").map_err(undecodable)?;
        let count = wire::take_number(input, "the count").map_err(undecodable)?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(Self::decode_member(input).map_err(undecodable)?);
        }
        Self::new(members, next_id)
    }

    fn decode_member(input: &mut Bytes) -> Result<Member, WireError> {
        let id = wire::take_number(input, "an id")?;
        let weight = wire::take_number(input, "a weight")?;
        let consenter = wire::take_bytes(input, "a consenter")?;
        Ok(Member { id, weight, consenter })
    }
}

/// The next id once this one is assigned. There is none after the last, which is never assigned:
/// a member's id is below the next one.
fn id_after(id: NodeId) -> NodeId {
    id.saturating_add(1)
}

fn undecodable(error: WireError) -> MembershipError {
    MembershipError::Undecodable(error.to_string())
}

impl Change {
    /// Appends the encoding: 0 for no change, 1 and the membership otherwise.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.push(0),
            Self::To(next) => {
                out.push(1);
                next.encode(out);
            }
        }
    }

    /// Takes an encoded change off the front of `input`.
    ///
    /// # Errors
    /// [`MembershipError`] as from [`Membership::decode`].
    pub fn decode(input: &mut Bytes) -> Result<Self, MembershipError> {
        match wire::take_byte(input, "the change").map_err(undecodable)? {
            0 => Ok(Self::None),
            1 => Membership::decode(input).map(Self::To),
            other => Err(MembershipError::Undecodable(format!("change {other} is unknown"))),
        }
    }
}
