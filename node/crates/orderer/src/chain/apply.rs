//! Doing: what the engine decided, and what other orderers' blocks lead to.

use std::time::Instant;

use bytes::Bytes;
use tracing::{info, warn};
use weft_config::Bundle;
use weft_config::block as config_block;
use weft_consensus::raft::Start;
use weft_consensus::{Action, Applied, Delivered, Event, NodeId};
use weft_ledger::kv::Durability;
use weft_msp::ValidAt;
use weft_protos::common::Block;
use weft_types::BlockNumber;
use weft_types::block;

use super::actor::Actor;
use super::{ChainError, start};
use crate::blockwriter::{self, Place};
use crate::membership;
use crate::replication::{ChainEnd, Pulled, Puller};

fn number_of(block: &Block) -> BlockNumber {
    block.header.as_ref().map_or(0, |header| header.number)
}

impl Actor {
    /// Carries actions out, strictly in their order.
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), ChainError> {
        for action in actions {
            match action {
                Action::Persist(persist) => {
                    let (started, sync) = (Instant::now(), persist.sync);
                    let running = self.engine.as_mut().filter(|running| !running.recorded);
                    let node = running.as_ref().map(|running| running.node);
                    self.channel.store.persist(persist, node).map_err(ChainError::Store)?;
                    if let Some(running) = running {
                        running.recorded = true;
                    }
                    if sync {
                        self.context.metrics.log_write.observe(started.elapsed().as_secs_f64());
                    }
                }
                Action::Send { to, message } => self.send(to, message)?,
                Action::Deliver(delivered) => self.write(delivered)?,
                Action::CatchUp { height, .. } => self.catch_up(height)?,
                Action::LeaderChanged { leader, term } => self.note_leader(leader, term),
                Action::Leading { term } => {
                    info!(channel = %self.channel.id, term, "leads the channel");
                    self.leading = true;
                    // Whatever came before this term is written.
                    self.config_in_flight = false;
                }
                Action::Evicted => {
                    info!(channel = %self.channel.id, "was removed from the consenters");
                    self.leave_cluster()?;
                }
                Action::Sign { .. } => return Err(ChainError::Action { what: "sign" }),
                Action::Verify { .. } => return Err(ChainError::Action { what: "verify" }),
            }
        }
        Ok(())
    }

    fn send(&mut self, to: NodeId, message: Bytes) -> Result<(), ChainError> {
        if self.channel.links.load().send(to, message) {
            return Ok(());
        }
        self.context.metrics.messages_dropped.inc();
        self.receive(Event::Unreachable { node: to })
    }

    fn note_leader(&mut self, leader: Option<NodeId>, term: u64) {
        let node = self.engine.as_ref().map(|running| running.node);
        let channel = &self.channel.id;
        info!(%channel, ?leader, term, "the leader changed");
        let labels = [channel.as_str()];
        self.context.metrics.leader_changes.with_label_values(&labels).inc();
        self.leader = leader;
        if leader != node || leader.is_none() {
            self.lose_leadership();
        }
    }

    /// Writes the block of a decided entry.
    fn write(&mut self, delivered: Delivered) -> Result<(), ChainError> {
        let started = Instant::now();
        let number = delivered.number;
        let broken = |what: String| ChainError::Block { number, what };
        let tip = self.channel.store.tip();
        if number != tip.height {
            return Err(broken(format!("the chain has {} blocks", tip.height)));
        }
        let nonce = super::nonce().map_err(|error| broken(error.to_string()))?;
        let place = Place { previous_hash: tip.last_hash, last_config: tip.last_config };
        let signer = self.context.identity.current();
        let block = blockwriter::block(&delivered, place, &*signer, nonce)
            .map_err(|error| broken(error.to_string()))?;
        let next = match (delivered.entry.is_config(), &self.bundle) {
            (true, Some(bundle)) => {
                let next = config_block::next_bundle(bundle, &block, ValidAt::Issuance);
                Some(next.map_err(|error| broken(error.to_string()))?)
            }
            _ => None,
        };
        let durable = self.engine.as_ref().is_some_and(|running| running.durable_log);
        let durability = if durable { Durability::Buffered } else { Durability::Synced };
        self.channel.store.append(block, durability).map_err(ChainError::Store)?;
        let metrics = &self.context.metrics;
        let batch = metrics.batch.with_label_values(&[self.channel.id.as_str()]);
        batch.observe(delivered.entry.envelopes.len() as f64);
        metrics.block_write.observe(started.elapsed().as_secs_f64());
        if let Some(next) = next {
            self.config_in_flight = false;
            self.adopt(next);
        }
        self.channel.set_height(number + 1);
        Ok(())
    }

    /// Takes over the configuration after a block that was just written.
    fn adopt(&mut self, next: Bundle) {
        info!(channel = %self.channel.id, sequence = next.sequence(), "took over a configuration");
        if let Some(orderer) = next.orderer() {
            self.batcher.configure(orderer);
        }
        let sequence = next.sequence();
        self.channel.bundle.store(std::sync::Arc::new(next.clone()));
        self.bundle = Some(next);
        self.channel.publish_roots();
        self.channel.set_sequence(sequence);
        self.link_up();
        self.reconsider = true;
    }

    /// Fetches the blocks that the engine's log does not have any more.
    fn catch_up(&mut self, height: BlockNumber) -> Result<(), ChainError> {
        if self.channel.store.height() >= height {
            return self.receive(Event::CaughtUp { height });
        }
        info!(channel = %self.channel.id, height, "catches up from other orderers' blocks");
        self.pull(Some(height));
        Ok(())
    }

    fn pull(&mut self, until: Option<BlockNumber>) {
        let tip = self.channel.store.tip();
        let from =
            ChainEnd { height: tip.height, last_hash: tip.last_hash, bundle: self.bundle.clone() };
        let trusted = self.channel.bundle.load_full();
        let (context, id) = (self.context.clone(), self.channel.id.clone());
        self.puller = Some(Puller::start(context, id, from, until, (*trusted).clone()));
    }

    /// Writes a block that another orderer gave.
    pub(super) fn append_pulled(&mut self, pulled: Pulled) -> Result<(), ChainError> {
        let Pulled { block, next } = pulled;
        let number = number_of(&block);
        if number != self.channel.store.height() {
            return Ok(());
        }
        self.check_join_block(&block)?;
        self.channel.store.append(block, Durability::Buffered).map_err(ChainError::Store)?;
        if let Some(next) = next {
            self.adopt(next);
        }
        self.channel.set_height(number + 1);
        if self.join_block.as_ref().is_some_and(|join| number_of(join) <= number) {
            self.channel.store.clear_join_block().map_err(ChainError::Store)?;
            self.join_block = None;
            self.reconsider = true;
        }
        let reached = self.puller.as_ref().and_then(|puller| puller.until) == Some(number + 1);
        if reached && self.engine.is_some() { self.end_of_pull() } else { Ok(()) }
    }

    /// The chain has to lead to the very block that an administrator trusted.
    fn check_join_block(&self, block: &Block) -> Result<(), ChainError> {
        let Some(join) = self.join_block.as_ref() else { return Ok(()) };
        let (number, expected) = (number_of(block), number_of(join));
        let hash = |block: &Block| block.header.as_ref().map(block::header_hash);
        if number == expected && hash(block) != hash(join) {
            return Err(ChainError::JoinBlock { number });
        }
        Ok(())
    }

    pub(super) fn end_of_pull(&mut self) -> Result<(), ChainError> {
        let until = self.puller.take().and_then(|puller| puller.until);
        let height = self.channel.store.height();
        match until {
            Some(until) if until == height && self.engine.is_some() => {
                self.receive(Event::CaughtUp { height })
            }
            Some(until) if self.engine.is_some() => {
                self.pull(Some(until));
                Ok(())
            }
            _ => {
                self.reconsider = true;
                Ok(())
            }
        }
    }

    /// This node's id, if it is a consenter and its chain has come far enough to say so.
    pub(super) fn consenter_id(&self) -> Result<Option<(NodeId, Applied)>, ChainError> {
        if self.join_block.is_some() {
            return Ok(None);
        }
        let store = &self.channel.store;
        let (Some(bundle), Some(newest)) =
            (&self.bundle, store.newest().map_err(ChainError::Store)?)
        else {
            return Ok(None);
        };
        let applied =
            membership::applied(bundle, &newest, store.height()).map_err(ChainError::Consenters)?;
        let node = match start::own_id(bundle, &applied, &self.context.tls_key()) {
            Some(node) => Some(node),
            None => self.id_of_log(&applied)?,
        };
        Ok(node.map(|node| (node, applied)))
    }

    /// The member whose log this is. Its certificate may have been renewed before the change of
    /// the configuration arrived here, which the log is needed for: an id, once given, is what
    /// tells a node, and the certificate only proves it to the others.
    fn id_of_log(&self, applied: &Applied) -> Result<Option<NodeId>, ChainError> {
        let store = &self.channel.store;
        let node = store.node().map_err(ChainError::Store)?;
        let Some(node) = node.filter(|node| applied.membership.contains(*node)) else {
            return Ok(None);
        };
        if store.engine_records().map_err(ChainError::Store)?.is_empty() {
            return Ok(None);
        }
        let channel = &self.channel.id;
        warn!(%channel, node, "the TLS certificate is not the one that the configuration names");
        Ok(Some(node))
    }

    /// The log that there is of this node; that of another id is of no use any more.
    fn log_of(&self, node: NodeId) -> Result<(Vec<(Bytes, Bytes)>, bool), ChainError> {
        let store = &self.channel.store;
        let known = store.node().map_err(ChainError::Store)?;
        let records = store.engine_records().map_err(ChainError::Store)?;
        if known.is_some_and(|known| known != node) && !records.is_empty() {
            store.forget_engine().map_err(ChainError::Store)?;
            return Ok((Vec::new(), false));
        }
        Ok((records, known == Some(node)))
    }

    /// The others count on a part of this node's log that it does not have. What it promised with
    /// it is lost; it has to prove itself again.
    pub(super) fn lose_log(&mut self) -> Result<(), ChainError> {
        warn!(channel = %self.channel.id, "the consensus log has lost its end: starts over");
        self.leave_cluster()
    }

    pub(super) async fn become_consenter(
        &mut self,
        node: NodeId,
        applied: Applied,
    ) -> Result<(), ChainError> {
        let Some(bundle) = self.bundle.clone() else { return Ok(()) };
        self.puller = None;
        let (records, acted) = self.log_of(node)?;
        let start = match records.is_empty() {
            true => start::fresh_start(&self.context, &bundle, node, &applied, acted).await,
            false => Start::Restart,
        };
        let (settings, now) = (&self.context.settings, self.now());
        let running = start::engine(settings, &bundle, node, applied, records, start, now)?;
        let stand = running.stand_at_once;
        self.engine = Some(running);
        self.link_up();
        if stand {
            self.stand_soon();
        }
        Ok(())
    }

    /// Replicates blocks without a vote.
    pub(super) fn become_follower(&mut self) -> Result<(), ChainError> {
        if self.puller.is_some() {
            return Ok(());
        }
        let store = &self.channel.store;
        if !store.engine_records().map_err(ChainError::Store)?.is_empty() {
            // Blocks will be written that this log knows nothing of.
            warn!(channel = %self.channel.id, "gives the consensus log up: not a consenter");
            store.forget_engine().map_err(ChainError::Store)?;
        }
        info!(channel = %self.channel.id, height = store.height(), "follows the channel");
        self.link_up();
        self.pull(None);
        Ok(())
    }

    /// This node is no member any more, or not in its present state.
    pub(super) fn leave_cluster(&mut self) -> Result<(), ChainError> {
        self.engine = None;
        self.lose_leadership();
        self.leader = None;
        self.puller = None;
        self.channel.store.forget_engine().map_err(ChainError::Store)?;
        // Last words that are queued still go out: links end when they are replaced.
        self.reconsider = true;
        Ok(())
    }
}
