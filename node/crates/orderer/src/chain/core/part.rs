//! What this node is to the channel: a consenter with an engine, or a follower that fetches
//! blocks; the first election of a channel; the suspicion that it was removed.

use tracing::{info, warn};
use weft_consensus::raft::Start;
use weft_consensus::{Applied, Event, Millis, NodeId};

use super::{Core, Effect, Loaded, millis};
use crate::chain::{ChainError, Relation, start};
use crate::membership::{self, ClusterView};
use crate::replication::{Ahead, Source};

/// Between attempts of the first election of a new channel, and for how long they are made,
/// milliseconds.
const STAND_EVERY: u64 = 100;
const STAND_FOR: u64 = 60_000;
/// Election timeouts without a leader after which a node looks whether it was removed, and the
/// least time for it, milliseconds.
const SUSPICION: u64 = 3;
const MIN_SUSPICION: u64 = 1000;
/// Least time between two looks whether a follower has become a consenter, milliseconds.
const MIN_LOOK: u64 = 1000;

/// Attempts to be elected at once.
pub(super) struct Stand {
    pub next: Millis,
    until: Millis,
}

/// What has to be known before this node takes part.
pub(super) enum Asking {
    /// What is stored.
    Log,
    /// How far the other consenters of a new channel are.
    Others { node: NodeId, applied: Applied, seed: u64 },
}

impl Core {
    /// Begins to find out what this node is to the channel.
    pub(super) fn take_part(&mut self) {
        if !self.reconsider || self.asking.is_some() {
            return;
        }
        self.reconsider = false;
        if self.engine.is_none() {
            self.asking = Some(Asking::Log);
            self.effects.push(Effect::Load);
        }
    }

    pub(super) fn loaded(&mut self, loaded: Loaded) -> Result<(), ChainError> {
        self.asking = None;
        match self.consenter_id(&loaded)? {
            Some((node, applied)) => self.become_consenter(node, applied, loaded),
            None => {
                self.become_follower(&loaded);
                Ok(())
            }
        }
    }

    /// This node's id, if it is a consenter and its chain has come far enough to say so.
    fn consenter_id(&self, loaded: &Loaded) -> Result<Option<(NodeId, Applied)>, ChainError> {
        let Some(bundle) = &self.bundle else { return Ok(None) };
        if self.join_block.is_some() || self.tip.height == 0 {
            return Ok(None);
        }
        let applied = membership::applied_from(bundle, self.said.as_ref(), self.tip.height)
            .map_err(ChainError::Consenters)?;
        let own = start::own_id(bundle, &applied, &loaded.tls_key);
        let node = own.or_else(|| self.id_of_log(&applied, loaded));
        Ok(node.map(|node| (node, applied)))
    }

    /// The member whose log this is. Its certificate may have been renewed before the change of
    /// the configuration arrived here, which the log is needed for: an id, once given, is what
    /// tells a node, and the certificate only proves it to the others.
    fn id_of_log(&self, applied: &Applied, loaded: &Loaded) -> Option<NodeId> {
        let node = loaded.node.filter(|node| applied.membership.contains(*node))?;
        if loaded.records.is_empty() {
            return None;
        }
        let channel = &self.channel;
        warn!(%channel, node, "the TLS certificate is not the one that the configuration names");
        Some(node)
    }

    fn become_consenter(
        &mut self,
        node: NodeId,
        applied: Applied,
        loaded: Loaded,
    ) -> Result<(), ChainError> {
        let Loaded { node: known, mut records, seed, .. } = loaded;
        if known.is_some_and(|known| known != node) && !records.is_empty() {
            // Of another id, and of no use any more.
            self.effects.push(Effect::ForgetLog);
            records.clear();
        }
        self.stop_pulling();
        let start = match records.is_empty() {
            true => start::fresh(node, &applied, known == Some(node)),
            false => Some(Start::Restart),
        };
        match start {
            Some(start) => self.start_engine(start::From { node, applied, records, start, seed }),
            None => {
                self.effects.push(Effect::Probe(self.others(node, &applied)));
                self.asking = Some(Asking::Others { node, applied, seed });
                Ok(())
            }
        }
    }

    fn others(&self, node: NodeId, applied: &Applied) -> Vec<Source> {
        let view = ClusterView::new(&self.published, &applied.membership);
        let others = view.nodes().iter().filter(|(id, _)| **id != node);
        others.map(|(_, other)| Source { address: other.endpoint.to_string() }).collect()
    }

    pub(super) fn probed(&mut self, ahead: bool) -> Result<(), ChainError> {
        let Some(Asking::Others { node, applied, seed }) = self.asking.take() else {
            return Ok(());
        };
        let start = if ahead { Start::Rejoin } else { Start::Bootstrap };
        let records = Vec::new();
        self.start_engine(start::From { node, applied, records, start, seed })
    }

    fn start_engine(&mut self, from: start::From) -> Result<(), ChainError> {
        let Some(bundle) = self.bundle.clone() else { return Ok(()) };
        let running = start::engine(&self.settings, &bundle, from, self.engine_now())?;
        let stand = running.stand_at_once;
        self.engine = Some(running);
        self.link_up();
        if stand {
            // Whoever begins need not wait for a leader that never was. Pre-vote sees to it that
            // this disturbs nobody.
            self.stand = Some(Stand { next: self.now.at, until: self.now.at.plus(STAND_FOR) });
        }
        Ok(())
    }

    /// Replicates blocks without a vote.
    fn become_follower(&mut self, loaded: &Loaded) {
        if self.pulling.is_some() {
            return;
        }
        if !loaded.records.is_empty() {
            // Blocks will be written that this log knows nothing of.
            warn!(channel = %self.channel, "gives the consensus log up: not a consenter");
            self.effects.push(Effect::ForgetLog);
        }
        info!(channel = %self.channel, height = self.tip.height, "follows the channel");
        self.link_up();
        self.pull(None);
    }

    /// The others count on a part of this node's log that it does not have. What it promised with
    /// it is lost; it has to prove itself again.
    pub(super) fn lose_log(&mut self) {
        warn!(channel = %self.channel, "the consensus log has lost its end: starts over");
        self.leave_cluster();
    }

    /// This node is no member any more, or not in its present state.
    pub(super) fn leave_cluster(&mut self) {
        self.engine = None;
        self.lose_leadership();
        self.set_leader(None);
        self.stop_pulling();
        self.effects.push(Effect::ForgetLog);
        // Last words that are queued still go out: links end when they are replaced.
        self.reconsider = true;
    }

    /// An engine without a leader stands when its clock has moved on by an election timeout,
    /// whose random part is at most as long again.
    pub(super) fn stand_if_due(&mut self) -> Result<(), ChainError> {
        let now = self.now.at;
        let Some(stand) = &mut self.stand else { return Ok(()) };
        if self.leader.is_some() || stand.until <= now {
            self.stand = None;
            return Ok(());
        }
        if stand.next <= now {
            stand.next = now.plus(STAND_EVERY);
            let step = self.engine.as_ref().map_or(0, |running| running.election_ms);
            for _ in 0..2 {
                self.leap = self.leap.saturating_add(step);
                self.receive(Event::Tick)?;
            }
        }
        Ok(())
    }

    /// The node's own certificate may have been exchanged for one that is a consenter's.
    pub(super) fn look_if_due(&mut self) {
        if self.engine.is_none() && self.next_look <= self.now.at {
            let every = millis(self.settings.cluster.replication.refresh_interval);
            self.next_look = self.now.at.plus(every.max(MIN_LOOK));
            self.reconsider = true;
        }
    }

    /// A node that was removed while it was out of touch is not told: the others do not talk to
    /// it any more. Nor can it hear those whose certificates were exchanged meanwhile. The blocks
    /// tell (Fabric: `orderer/consensus/etcdraft/eviction.go`).
    pub(super) fn scout_if_due(&mut self) {
        let Some(running) = &self.engine else { return };
        let Some(since) = running.engine.status().leaderless_since else { return };
        let suspicious = running.election_ms.saturating_mul(SUSPICION).max(MIN_SUSPICION);
        let early = self.engine_now().since(since) < suspicious || self.now.at < self.next_scout;
        if early || self.scouting {
            return;
        }
        self.next_scout = self.now.at.plus(suspicious);
        self.scouting = true;
        let (from, trusted) = (self.chain_end(), self.published.clone());
        self.effects.push(Effect::Scout { from, trusted });
    }

    pub(super) fn weigh_evidence(&mut self, ahead: Option<Ahead>) -> Result<(), ChainError> {
        self.scouting = false;
        let (Some(running), Some(Ahead { newest, bundle })) = (&self.engine, ahead) else {
            return Ok(());
        };
        let Ok(applied) = membership::applied(&bundle, &newest, 0) else { return Ok(()) };
        if self.leader.is_some() {
            return Ok(());
        }
        if applied.membership.contains(running.node) {
            // Not removed; but those who lead by now may not be known by their certificates.
            let view = ClusterView::new(&bundle, &applied.membership);
            self.ahead = Some((bundle.sequence(), view));
            self.link_up();
            return Ok(());
        }
        info!(channel = %self.channel, "was removed from the consenters while out of touch");
        // As after a join with this block: the chain up to it still has to be fetched.
        self.effects.push(Effect::JoinBlock(Some(newest.clone())));
        self.join_block = Some(newest);
        self.onboards_as = Relation::Follower;
        self.leave_cluster();
        Ok(())
    }

    /// While blocks are fetched, what the join block makes of this node.
    pub(super) fn relation(&self) -> Relation {
        match (&self.engine, &self.join_block, &self.bundle) {
            (Some(_), _, Some(bundle)) if membership::is_solo(bundle) => Relation::Other,
            (Some(_), _, _) => Relation::Consenter,
            (None, Some(_), _) => self.onboards_as,
            (None, None, _) => Relation::Follower,
        }
    }

    /// Takes over who the consenters are, for those who send to them and hear from them.
    pub(super) fn link_up(&mut self) {
        let (Some(running), Some(bundle)) = (&self.engine, &self.bundle) else {
            self.linked = None;
            return self.effects.push(Effect::Link(None));
        };
        let members = running.engine.status().membership;
        let mut view = ClusterView::new(bundle, &members);
        self.linked = Some(members);
        self.ahead.take_if(|(sequence, _)| *sequence <= bundle.sequence());
        if let Some((_, later)) = &self.ahead {
            view.look_ahead(later.clone());
        }
        self.effects.push(Effect::Link(Some((running.node, Box::new(view)))));
    }

    /// Links follow the engine's members as well as the configuration: where blocks are fetched,
    /// a configuration is known before the engine is told whom it added.
    pub(super) fn follow_members(&mut self) {
        let Some(running) = &self.engine else { return };
        if self.linked.as_ref() != Some(&running.engine.status().membership) {
            self.link_up();
        }
    }
}
