//! What a test does to a world, and what it can see.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Trap, Violation, World, WorldOptions};
use crate::engine::{Event, NodeId, Role, Status};
use crate::entry::Entry;
use crate::membership::Membership;
use crate::raft::Start;

impl World {
    /// Kills a node's process; its disk loses part of what was not synced.
    pub fn crash(&mut self, id: NodeId) {
        self.counts.crashes += 1;
        self.stop(id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.disk.crash(&mut self.rng);
            // A node that got as far as persisting anything has run before.
            if !node.disk.records().is_empty() {
                node.start = Start::Restart;
            }
        }
    }

    /// Kills the next node that sends such a promise, right after it, and has it restarted.
    pub fn trap(&mut self, trap: Trap) {
        self.trap = Some(trap);
    }

    /// Kills a node and loses its log; it is started again as one that rejoins.
    pub fn wipe(&mut self, id: NodeId) {
        self.counts.wipes += 1;
        self.crash(id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.disk.wipe_log();
            node.start = Start::Rejoin;
        }
    }

    /// Stalls a node's process; what arrives waits.
    pub fn pause(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.paused = true;
        }
    }

    /// Lets a stalled process go on.
    pub fn resume(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| node.paused) {
            node.paused = false;
            self.work(id);
        }
    }

    /// Cuts the link from one node to another, in that direction.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.cut(from, to);
    }

    /// Cuts all links between a group and the others, in both directions.
    pub fn partition(&mut self, group: &BTreeSet<NodeId>) {
        let all: Vec<NodeId> = self.nodes.keys().copied().collect();
        self.cuts.partition(&all, group);
    }

    /// Restores all links.
    pub fn heal(&mut self) {
        self.cuts.heal();
    }

    /// Ends all faults: links, lost messages, stalled and crashed processes.
    pub fn heal_all(&mut self) {
        self.heal();
        self.trap = None;
        let WorldOptions { network, sync_ms, late, .. } = WorldOptions::default();
        self.options = WorldOptions { network, sync_ms, late, ..self.options };
        for id in self.ids() {
            self.resume(id);
            self.start(id);
        }
    }

    /// All nodes there ever were.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// The members after the last block that any node delivered.
    #[must_use]
    pub fn membership(&self) -> Option<Arc<Membership>> {
        self.record.blocks().last().map(|block| Arc::clone(&block.membership))
    }

    /// A running node's status.
    #[must_use]
    pub fn status(&self, id: NodeId) -> Option<Status> {
        self.nodes.get(&id)?.engine.as_ref().map(|engine| engine.status())
    }

    /// A line about every node, for failures.
    #[must_use]
    pub fn describe(&self) -> String {
        let line = |id: &NodeId| {
            let removed = if self.is_removed(*id) { "removed" } else { "down" };
            let Some(s) = self.status(*id) else { return format!("  node {id}: {removed}\n") };
            format!(
                "  node {id}: {:?} of term {} (leader {:?}), log {}..={}, committed {}, applied {}, \
                 height {}, catching up to {:?}, members {:?}, peers {:?}\n",
                s.role,
                s.term,
                s.leader,
                s.first_index,
                s.last_index,
                s.committed,
                s.applied,
                s.height,
                s.catching_up_to,
                s.membership.ids().collect::<Vec<_>>(),
                s.peers,
            )
        };
        self.nodes.keys().map(line).collect()
    }

    /// The height of a node's ledger.
    #[must_use]
    pub fn height_of(&self, id: NodeId) -> u64 {
        self.nodes.get(&id).map_or(0, |node| node.disk.height())
    }

    /// The entries in a node's ledger, without the genesis block's.
    #[must_use]
    pub fn entries_of(&self, id: NodeId) -> Vec<Entry> {
        let ledger = self.nodes.get(&id).map_or(&[][..], |node| node.disk.ledger());
        ledger.iter().skip(1).map(|block| block.entry.clone()).collect()
    }

    /// The nodes that wait for their disks.
    #[must_use]
    pub fn syncing(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.syncing).map(|(id, _)| *id).collect()
    }

    /// Whether a node was removed and knows it.
    #[must_use]
    pub fn is_removed(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.removed)
    }

    /// Whether any node was removed and does not know it.
    #[must_use]
    pub fn has_leaving(&self) -> bool {
        let members = self.membership();
        let is_member = |id: &NodeId| members.as_ref().is_some_and(|m| m.contains(*id));
        self.nodes.iter().any(|(id, node)| !node.removed && !is_member(id))
    }

    /// Whether any running node is in quarantine.
    #[must_use]
    pub fn has_quarantine(&self) -> bool {
        let mut roles = self.ids().into_iter().filter_map(|id| self.status(id)).map(|s| s.role);
        roles.any(|role| role == Role::Quarantined)
    }

    /// The node that takes proposals, of several the one with the highest term.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let leaders = self.nodes.iter().filter(|(_, node)| !node.paused);
        let leaders = leaders.filter_map(|(id, _)| self.status(*id));
        let leaders = leaders.filter(|status| status.accepts_proposals);
        leaders.max_by_key(|status| status.term).map(|status| status.node)
    }

    /// Hands an event to a node, as the orderer would.
    pub fn tell(&mut self, id: NodeId, event: Event) {
        self.give(id, event);
    }

    /// Checks that all members have everything that was ever delivered.
    ///
    /// # Errors
    /// [`Violation::Lost`].
    pub fn check_complete(&self) -> Result<(), Violation> {
        let expected = self.record.height();
        let members: Vec<NodeId> = self.membership().map_or(Vec::new(), |m| m.ids().collect());
        for node in members {
            let height = self.height_of(node);
            if height != expected {
                return Err(Violation::Lost { node, height, expected });
            }
        }
        self.check()
    }
}
