//! An engine of one node, for development: what is proposed is delivered at once.
//!
//! It has no log of its own. Its state is the last block's metadata, which the orderer writes
//! with the block, so a crash loses at most proposals that were not yet delivered. It takes part
//! in no protocol: messages are refused, and so is every change of the membership.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::{
    Action, Applied, Delivered, Engine, EngineError, Event, MessageError, Millis, NodeId, Role,
    Status,
};
use crate::entry::Entry;
use crate::membership::{Change, Difference, Membership, MembershipError};

/// The term that a lone node leads in.
const TERM: u64 = 1;

/// An engine of one node.
#[derive(Debug)]
pub struct SoloEngine {
    node: NodeId,
    applied: Applied,
    actions: Vec<Action>,
}

/// Why a [`SoloEngine`] cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SoloError {
    /// There is another consenter, or this node is not the one there is.
    #[error("failed to start solo: node {node} is not the only one of {members} consenters")]
    NotAlone {
        /// This node.
        node: NodeId,
        /// How many consenters the channel has.
        members: usize,
    },
}

impl SoloEngine {
    /// An engine that goes on from the blocks there are.
    ///
    /// # Errors
    /// [`SoloError::NotAlone`] unless `node` is the channel's only consenter.
    pub fn restore(node: NodeId, applied: Applied) -> Result<Self, SoloError> {
        let members = applied.membership.len();
        if members != 1 || !applied.membership.contains(node) {
            return Err(SoloError::NotAlone { node, members });
        }
        let actions = vec![
            Action::LeaderChanged { leader: Some(node), term: TERM },
            Action::Leading { term: TERM },
        ];
        Ok(Self { node, applied, actions })
    }

    fn propose(&mut self, entry: Entry) -> Result<(), EngineError> {
        entry.check().map_err(EngineError::Entry)?;
        let membership = match entry.change() {
            Change::None => Arc::clone(&self.applied.membership),
            Change::To(next) => {
                self.check_change(next).map_err(EngineError::Membership)?;
                Arc::new(next.clone())
            }
        };
        let (index, number) = (self.applied.index + 1, self.applied.height);
        self.applied = Applied { index, height: number + 1, membership: Arc::clone(&membership) };
        self.actions.push(Action::Deliver(Delivered {
            index,
            number,
            entry,
            membership,
            proof: None,
        }));
        Ok(())
    }
}

impl Engine for SoloEngine {
    fn receive(&mut self, _now: Millis, event: Event) -> Result<(), EngineError> {
        match event {
            Event::Tick | Event::Unreachable { .. } | Event::TransferLeadership { .. } => Ok(()),
            Event::Propose(entry) => self.propose(entry),
            Event::Message { from, .. } => {
                Err(EngineError::BadMessage { from, reason: MessageError::UnknownSender })
            }
            Event::CaughtUp { height } => {
                Err(EngineError::CatchUpMismatch { height, expected: None })
            }
            Event::Signed { .. } => Err(EngineError::Unsolicited { event: "signed" }),
            Event::Verified { .. } => Err(EngineError::Unsolicited { event: "verified" }),
        }
    }

    fn drain(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn wakeup(&self) -> Option<Millis> {
        None
    }

    fn status(&self) -> Status {
        Status {
            node: self.node,
            role: Role::Leader,
            term: TERM,
            leader: Some(self.node),
            accepts_proposals: true,
            committed: self.applied.index,
            applied: self.applied.index,
            height: self.applied.height,
            last_index: self.applied.index,
            first_index: self.applied.index + 1,
            in_flight: 0,
            catching_up_to: None,
            leaderless_since: None,
            peers: BTreeMap::new(),
            membership: Arc::clone(&self.applied.membership),
        }
    }

    fn check_change(&self, next: &Membership) -> Result<(), MembershipError> {
        let active = BTreeSet::from([self.node]);
        match self.applied.membership.check_change(next, &active)? {
            Difference::None | Difference::Replaced(_) => Ok(()),
            Difference::Added(_) | Difference::Removed(_) => Err(MembershipError::Fixed),
        }
    }
}
