//! What nodes promise each other, as an observer of the network sees it, and which rules are broken.
//!
//! A promise is checked by what was sent, not by what the sender's engine says of itself: a node
//! that forgets does not know that it did. Of an engine's own [`Status`] only the end of its log
//! and its term are used, right after a restart and when it begins to lead, since what is missing
//! has to show there before it does harm.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::record::Violation;
use crate::engine::{Index, NodeId, Role, Status};

/// What a message promises of its sender: it holds from then on, across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It supports one candidate (itself, if it stands) in a term or view, and no other.
    Vote {
        /// The term.
        term: u64,
        /// Whom it supports.
        candidate: NodeId,
    },
    /// It leads in a term, and its log has all that was decided before.
    Lead {
        /// The term.
        term: u64,
    },
    /// Its log is that of the term's leader as far as an index, and is durable.
    Hold {
        /// The term.
        term: u64,
        /// The index.
        index: Index,
    },
}

impl Promise {
    /// The term in which it was given.
    #[must_use]
    pub fn term(&self) -> u64 {
        match *self {
            Self::Vote { term, .. } | Self::Lead { term } | Self::Hold { term, .. } => term,
        }
    }
}

/// Reads the promise in a message of the simulated engine, if it makes one. Its arguments are the
/// sender, the receiver and the bytes.
pub type Reader = fn(NodeId, NodeId, &Bytes) -> Option<Promise>;

/// The reader for engines that send no promises.
pub fn no_promises(_: NodeId, _: NodeId, _: &Bytes) -> Option<Promise> {
    None
}

/// Everything that was promised by anyone.
#[derive(Debug, Default)]
pub struct Witness {
    /// Whom a node supports in a term.
    votes: BTreeMap<(u64, NodeId), NodeId>,
    leaders: BTreeMap<u64, NodeId>,
    /// The latest term in which a node promised something, and how much of the log it holds there.
    latest: BTreeMap<NodeId, (u64, Index)>,
}

impl Witness {
    /// Takes in a promise of `node`. Gives the term if that is the first word of its leader.
    pub fn see(&mut self, node: NodeId, promise: Promise) -> Result<Option<u64>, Violation> {
        let (after, held) = *self.latest.entry(node).or_default();
        let term = promise.term();
        if term < after {
            return Err(Violation::WentBack { node, term, after });
        }
        let held = if term > after { 0 } else { held };
        let held = match promise {
            Promise::Hold { index, .. } => held.max(index),
            Promise::Vote { .. } | Promise::Lead { .. } => held,
        };
        self.latest.insert(node, (term, held));
        match promise {
            Promise::Vote { term, candidate } => self.votes(node, term, candidate).map(|()| None),
            Promise::Lead { term } => self.leads(node, term).map(|new| new.then_some(term)),
            Promise::Hold { .. } => Ok(None),
        }
    }

    fn votes(&mut self, node: NodeId, term: u64, candidate: NodeId) -> Result<(), Violation> {
        let first = *self.votes.entry((term, node)).or_insert(candidate);
        if first == candidate {
            Ok(())
        } else {
            Err(Violation::TwoVotes { node, term, first, second: candidate })
        }
    }

    /// A node leads, as it says by a message or to its caller. Whether that is news.
    pub fn leads(&mut self, node: NodeId, term: u64) -> Result<bool, Violation> {
        match self.leaders.insert(term, node) {
            None => Ok(true),
            Some(first) if first == node => Ok(false),
            Some(first) => Err(Violation::TwoLeaders { first, second: node, term }),
        }
    }

    /// Checks a node that just restarted. One that is known to have lost its log is in quarantine.
    pub fn restarted(&self, status: &Status) -> Result<(), Violation> {
        let Status { node, role, term, last_index, .. } = *status;
        let (promised, held) = self.latest.get(&node).copied().unwrap_or_default();
        if role == Role::Quarantined || term > promised {
            return Ok(());
        }
        if term < promised {
            return Err(Violation::ForgotTerm { node, term, promised });
        }
        if last_index < held {
            Err(Violation::ForgotLog { node, last_index, held })
        } else {
            Ok(())
        }
    }

    /// The terms in which a node led.
    pub fn terms_led(&self) -> usize {
        self.leaders.len()
    }

    /// The latest of them.
    pub fn last_term_led(&self) -> Option<u64> {
        self.leaders.last_key_value().map(|(term, _)| *term)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::membership::Membership;

    fn vote(term: u64, candidate: NodeId) -> Promise {
        Promise::Vote { term, candidate }
    }

    /// Node 1 as it restarts.
    fn status(role: Role, term: u64, last_index: Index) -> Status {
        Status {
            node: 1,
            role,
            term,
            leader: None,
            accepts_proposals: false,
            committed: 0,
            applied: 0,
            height: 1,
            last_index,
            first_index: 1,
            in_flight: 0,
            catching_up_to: None,
            leaderless_since: None,
            peers: BTreeMap::new(),
            membership: Arc::new(Membership::genesis(&[Bytes::from("a")]).expect("a membership")),
        }
    }

    #[test]
    fn a_node_votes_once_a_term() {
        let mut witness = Witness::default();
        assert_eq!(witness.see(1, vote(2, 3)), Ok(None));
        assert_eq!(witness.see(1, vote(2, 3)), Ok(None));
        assert_eq!(witness.see(2, vote(2, 2)), Ok(None));
        let twice = Violation::TwoVotes { node: 1, term: 2, first: 3, second: 2 };
        assert_eq!(witness.see(1, vote(2, 2)), Err(twice));
        assert_eq!(witness.see(1, vote(3, 2)), Ok(None));
    }

    #[test]
    fn a_term_has_one_leader() {
        let mut witness = Witness::default();
        assert_eq!(witness.see(1, Promise::Lead { term: 2 }), Ok(Some(2)));
        assert_eq!(witness.see(1, Promise::Lead { term: 2 }), Ok(None));
        let two = Violation::TwoLeaders { first: 1, second: 2, term: 2 };
        assert_eq!(witness.leads(2, 2), Err(two));
        assert_eq!((witness.terms_led(), witness.last_term_led()), (1, Some(2)));
    }

    #[test]
    fn terms_of_promises_do_not_go_back() {
        let mut witness = Witness::default();
        assert_eq!(witness.see(1, Promise::Hold { term: 5, index: 1 }), Ok(None));
        let back = Violation::WentBack { node: 1, term: 4, after: 5 };
        assert_eq!(witness.see(1, vote(4, 1)), Err(back));
    }

    #[test]
    fn a_restart_keeps_term_and_log() {
        let mut witness = Witness::default();
        for index in [9, 7] {
            assert_eq!(witness.see(1, Promise::Hold { term: 5, index }), Ok(None));
        }
        let restarted = |term, last| witness.restarted(&status(Role::Follower, term, last));
        assert_eq!(restarted(5, 9), Ok(()));
        // A leader of a later term may have overwritten what was not decided.
        assert_eq!(restarted(6, 3), Ok(()));
        let forgot = Violation::ForgotTerm { node: 1, term: 4, promised: 5 };
        assert_eq!(restarted(4, 9), Err(forgot));
        let forgot = Violation::ForgotLog { node: 1, last_index: 8, held: 9 };
        assert_eq!(restarted(5, 8), Err(forgot));
        assert_eq!(witness.restarted(&status(Role::Quarantined, 0, 0)), Ok(()));
    }
}
