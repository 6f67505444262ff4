//! Processes: how they start, stop and crash, and the blocks that they fetch meanwhile.

use super::{Node, What, World};
use crate::engine::{Event, Millis, NodeId};
use crate::raft::Start;
use crate::sim::Spec;
use crate::sim::disk::{Block, Disk};
use crate::sim::record::Violation;

impl World {
    pub(super) fn begin_fetch(&mut self, id: NodeId, from: Vec<NodeId>, height: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.fetch = Some((from, height));
            let life = node.life;
            self.at(10, What::Fetch { node: id, life });
        }
    }

    /// Fetches a few blocks at a time, so that a crash can fall between.
    pub(super) fn fetch(&mut self, id: NodeId) {
        const AT_ONCE: usize = 4;
        let Some(node) = self.nodes.get(&id) else { return };
        let (life, height) = (node.life, node.disk.height());
        let Some((from, target)) = node.fetch.clone() else { return };
        let source = from.iter().find(|source| {
            let up = self.nodes.get(source).is_some_and(|n| n.engine.is_some());
            up && self.cuts.are_linked(**source, id) && self.height_of(**source) > height
        });
        let blocks: Vec<Block> = match source.and_then(|source| self.nodes.get(source)) {
            Some(source) => source.disk.ledger().iter().skip(height as usize).cloned().collect(),
            None => Vec::new(),
        };
        for block in blocks.into_iter().take(AT_ONCE).take_while(|b| b.number < target) {
            self.add_block(id, block);
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.disk.sync();
        if node.disk.height() < target {
            return self.at(20, What::Fetch { node: id, life });
        }
        node.fetch = None;
        self.give(id, Event::CaughtUp { height: target });
    }

    /// Starts the nodes that a config block adds, with the blocks up to there.
    pub(super) fn start_newcomer(&mut self, block: &Block) {
        for id in block.membership.ids() {
            if !self.nodes.contains_key(&id) {
                let delay = self.rng.range(1, 500);
                self.at(delay, What::Found { node: id, height: block.number + 1 });
            }
        }
    }

    pub(super) fn found(&mut self, id: NodeId, height: u64) {
        if self.nodes.contains_key(&id) {
            return;
        }
        self.counts.joins += 1;
        let blocks = self.record.blocks().iter().take(height as usize).cloned().collect();
        self.nodes.insert(id, Node::new(Disk::with_ledger(blocks), Start::Join));
        self.start(id);
    }

    /// Starts a node's process if it is down.
    pub fn start(&mut self, id: NodeId) {
        let seed = self.rng.draw();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(applied) = node.disk.applied() else { return };
        if node.engine.is_some() || node.removed {
            return;
        }
        let records = node.disk.records();
        let spec = Spec {
            node: id,
            applied,
            records,
            start: node.start,
            seed,
            now: Millis(self.calendar.now()),
        };
        match (self.make)(spec) {
            Ok(engine) => {
                let kept = self.witness.restarted(&engine.status());
                node.engine = Some(engine);
                node.paused = false;
                match kept {
                    Ok(()) => self.work(id),
                    Err(violation) => self.fail(violation),
                }
            }
            Err(error) => self.fail(Violation::Restart { node: id, error }),
        }
    }

    pub(super) fn stop(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.engine = None;
            node.life += 1;
            node.inbox.clear();
            node.queue.clear();
            (node.syncing, node.paused) = (false, false);
            (node.timer, node.fetch, node.writing) = (None, None, None);
        }
    }

    /// Kills a node that just sent a promise, before it does anything else, and has it restarted:
    /// mostly at once, so that what arrives then is of the same term.
    pub(super) fn spring(&mut self, id: NodeId) {
        self.counts.trapped += 1;
        self.crash(id);
        let longest = [5, 50, 500][self.rng.range(0, 3) as usize];
        let delay = self.rng.range(1, longest);
        self.at(delay, What::Restart { node: id });
    }
}
