//! What was proposed and delivered anywhere, and whether that may be.

use std::collections::BTreeMap;

use super::disk::Block;
use crate::engine::{Index, NodeId};
use crate::entry::Entry;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// I2.
    #[error("node {node} delivered another entry as block {number} than was delivered before")]
    Fork {
        /// The node.
        node: NodeId,
        /// The block.
        number: u64,
    },
    /// I2.
    #[error("node {node} delivered block {number} with a membership that is not the one after it")]
    Membership {
        /// The node.
        node: NodeId,
        /// The block.
        number: u64,
    },
    /// I2.
    #[error("node {node} delivered block {number} at index {index}, which is not after {after}")]
    Index {
        /// The node.
        node: NodeId,
        /// The block.
        number: u64,
        /// Its index.
        index: Index,
        /// The index of the block before.
        after: Index,
    },
    /// I2, I3.
    #[error("node {node} delivered block {number} with a ledger of height {height}")]
    Number {
        /// The node.
        node: NodeId,
        /// The block.
        number: u64,
        /// The ledger's height.
        height: u64,
    },
    /// I2.
    #[error("node {node} delivered as block {number} what was never proposed, or was before")]
    Foreign {
        /// The node.
        node: NodeId,
        /// The block.
        number: u64,
    },
    /// I1.
    #[error("node {node} ends with {height} of {expected} blocks")]
    Lost {
        /// The node.
        node: NodeId,
        /// Its ledger's height.
        height: u64,
        /// The height of the longest ledger there ever was.
        expected: u64,
    },
    /// I4.
    #[error("node {node} refused an honest message, or stopped: {error}")]
    Refused {
        /// The node.
        node: NodeId,
        /// Its words.
        error: String,
    },
    /// I4.
    #[error("node {node} did not restart: {error}")]
    Restart {
        /// The node.
        node: NodeId,
        /// Its words.
        error: String,
    },
    /// I4.
    #[error("an engine panicked: {0}")]
    Panic(String),
    /// I5.
    #[error("nothing was delivered for {waited} ms after healing")]
    Stuck {
        /// How long was waited.
        waited: u64,
    },
    /// I6.
    #[error("node {node} votes in term {term} for {first} and for {second}")]
    TwoVotes {
        /// The voter.
        node: NodeId,
        /// The term.
        term: u64,
        /// One candidate.
        first: NodeId,
        /// The other.
        second: NodeId,
    },
    /// I7.
    #[error("nodes {first} and {second} both lead in term {term}")]
    TwoLeaders {
        /// One.
        first: NodeId,
        /// The other.
        second: NodeId,
        /// The term.
        term: u64,
    },
    /// I8.
    #[error("node {node} promises something in term {term} after it did in term {after}")]
    WentBack {
        /// The node.
        node: NodeId,
        /// The term.
        term: u64,
        /// The later term in which it promised something before.
        after: u64,
    },
    /// I8.
    #[error("node {node} restarted in term {term} after it promised something in term {promised}")]
    ForgotTerm {
        /// The node.
        node: NodeId,
        /// The term that it knows.
        term: u64,
        /// The term of its last promise.
        promised: u64,
    },
    /// I8.
    #[error("node {node} restarted with a log up to {last_index}, it acknowledged {held}")]
    ForgotLog {
        /// The node.
        node: NodeId,
        /// The end of its log.
        last_index: Index,
        /// The index that it acknowledged in the same term.
        held: Index,
    },
    /// I9.
    #[error("node {node} leads in term {term} with what was decided up to {last} of {decided}")]
    Incomplete {
        /// The leader.
        node: NodeId,
        /// Its term.
        term: u64,
        /// The end of its log, or of its ledger once it takes proposals.
        last: Index,
        /// The index of the last block that was decided before that term.
        decided: Index,
    },
    /// A step of a scripted test did not come about.
    #[error("expected {0}")]
    Expected(String),
}

/// The history of a simulation, over all nodes.
#[derive(Debug, Default)]
pub struct Record {
    proposed: Vec<(Entry, u64)>,
    positions: BTreeMap<Vec<u8>, Option<u64>>,
    blocks: Vec<Block>,
    delivered_at: Vec<u64>,
    /// For each block a term in which, or before which, it was decided.
    decided_by: Vec<u64>,
}

impl Record {
    pub fn new(genesis: Block) -> Self {
        Self {
            blocks: vec![genesis],
            delivered_at: vec![0],
            decided_by: vec![0],
            ..Self::default()
        }
    }

    pub fn proposed(&mut self, entry: &Entry, now: u64) {
        self.positions.insert(entry.encode(), None);
        self.proposed.push((entry.clone(), now));
    }

    /// Every block that any node ever delivered.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// When the first entry that was proposed at or after `since` was delivered somewhere.
    pub fn first_delivery_of_proposals_since(&self, since: u64) -> Option<u64> {
        let late: Vec<&Entry> =
            self.proposed.iter().filter(|(_, at)| *at >= since).map(|(entry, _)| entry).collect();
        let blocks = self.blocks.iter().zip(&self.delivered_at);
        blocks.filter(|(block, _)| late.contains(&&block.entry)).map(|(_, at)| *at).min()
    }

    /// Checks a block that `node` is about to add to its ledger, which ends with `last`. `moment`
    /// is the time, and the latest term in which anyone led by then.
    pub fn deliver(
        &mut self,
        node: NodeId,
        block: &Block,
        last: Option<&Block>,
        moment: (u64, u64),
    ) -> Result<(), Violation> {
        let Block { number, index, .. } = *block;
        let height = last.map_or(0, |last| last.number + 1);
        if number != height {
            return Err(Violation::Number { node, number, height });
        }
        let after = last.map_or(0, |last| last.index);
        if index <= after {
            return Err(Violation::Index { node, number, index, after });
        }
        let next = last.map(|last| last.membership.after(block.entry.change()));
        if next.is_some_and(|next| next != *block.membership) {
            return Err(Violation::Membership { node, number });
        }
        match self.blocks.get(number as usize) {
            Some(known) if known == block => return Ok(()),
            Some(_) => return Err(Violation::Fork { node, number }),
            None => {}
        }
        match self.positions.get_mut(&block.entry.encode()) {
            Some(position) if position.is_none() => *position = Some(number),
            _ => return Err(Violation::Foreign { node, number }),
        }
        self.blocks.push(block.clone());
        self.delivered_at.push(moment.0);
        self.decided_by.push(moment.1);
        Ok(())
    }

    /// Checks that a leader whose log, or ledger, ends at `last` has all that was decided before
    /// its term.
    pub fn leads(&self, node: NodeId, term: u64, last: Index) -> Result<(), Violation> {
        let blocks = self.blocks.iter().zip(&self.decided_by);
        let decided = blocks.take_while(|(_, by)| **by < term).last().map_or(0, |(b, _)| b.index);
        if last >= decided {
            Ok(())
        } else {
            Err(Violation::Incomplete { node, term, last, decided })
        }
    }
}
