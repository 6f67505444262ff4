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
    /// Two leaders.
    #[error("nodes {first} and {second} both lead in term {term}")]
    TwoLeaders {
        /// One.
        first: NodeId,
        /// The other.
        second: NodeId,
        /// The term.
        term: u64,
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
    leaders: BTreeMap<u64, NodeId>,
}

impl Record {
    pub fn new(genesis: Block) -> Self {
        Self { blocks: vec![genesis], delivered_at: vec![0], ..Self::default() }
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

    /// Checks a block that `node` is about to add to its ledger, which ends with `last`.
    pub fn deliver(
        &mut self,
        node: NodeId,
        block: &Block,
        last: Option<&Block>,
        now: u64,
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
        self.delivered_at.push(now);
        Ok(())
    }

    pub fn leads(&mut self, node: NodeId, term: u64) -> Result<(), Violation> {
        let first = *self.leaders.entry(term).or_insert(node);
        if first == node {
            Ok(())
        } else {
            Err(Violation::TwoLeaders { first, second: node, term })
        }
    }

    pub fn terms_led(&self) -> usize {
        self.leaders.len()
    }
}
