//! What the engine decided, and what other orderers' blocks lead to.

use std::sync::Arc;

use bytes::Bytes;
use tracing::info;
use weft_config::Bundle;
use weft_config::block as config_block;
use weft_consensus::{Action, Delivered, Event, NodeId};
use weft_ledger::block_store::Tip;
use weft_ledger::kv::Durability;
use weft_msp::ValidAt;
use weft_protos::common::Block;
use weft_protos::etcdraft::BlockMetadata;
use weft_types::{BlockNumber, block};

use super::{Core, Effect, Ticket};
use crate::blockwriter::{self, Place};
use crate::chain::ChainError;
use crate::membership::ConsentersError;
use crate::replication::{ChainEnd, Pulled};

pub(super) fn number_of(block: &Block) -> BlockNumber {
    block.header.as_ref().map_or(0, |header| header.number)
}

impl Core {
    pub(super) fn act(&mut self, action: Action) -> Result<(), ChainError> {
        match action {
            Action::Persist(persist) => {
                let unrecorded = self.engine.as_mut().filter(|running| !running.recorded);
                let node = unrecorded.map(|running| {
                    running.recorded = true;
                    running.node
                });
                self.effects.push(Effect::Persist { persist, node });
                Ok(())
            }
            Action::Send { to, message } => {
                self.effects.push(Effect::Send { to, message });
                Ok(())
            }
            Action::Deliver(delivered) => self.write(delivered),
            Action::CatchUp { height, .. } => self.catch_up(height),
            Action::LeaderChanged { leader, term } => {
                self.note_leader(leader, term);
                Ok(())
            }
            Action::Leading { term } => {
                info!(channel = %self.channel, term, "leads the channel");
                self.leading = true;
                // Whatever came before this term is written.
                self.config_in_flight = false;
                Ok(())
            }
            Action::Evicted => {
                info!(channel = %self.channel, "was removed from the consenters");
                self.leave_cluster();
                Ok(())
            }
            Action::Sign { .. } => Err(ChainError::Action { what: "sign" }),
            Action::Verify { .. } => Err(ChainError::Action { what: "verify" }),
        }
    }

    fn note_leader(&mut self, leader: Option<NodeId>, term: u64) {
        info!(channel = %self.channel, ?leader, term, "the leader changed");
        self.effects.push(Effect::LeaderChanged);
        let node = self.engine.as_ref().map(|running| running.node);
        self.set_leader(leader);
        if leader != node || leader.is_none() {
            self.lose_leadership();
        }
    }

    pub(super) fn set_leader(&mut self, leader: Option<NodeId>) {
        self.leader = leader;
        self.custody.led(self.now.at, leader.is_some());
    }

    /// The block of a decided entry.
    fn write(&mut self, delivered: Delivered) -> Result<(), ChainError> {
        let number = delivered.number;
        let broken = |what: String| ChainError::Block { number, what };
        if number != self.tip.height {
            return Err(broken(format!("the chain has {} blocks", self.tip.height)));
        }
        let place =
            Place { previous_hash: self.tip.last_hash.clone(), last_config: self.tip.last_config };
        let unsigned = blockwriter::block(&delivered, place);
        let next = match (delivered.entry.is_config(), &self.bundle) {
            (true, Some(bundle)) => {
                let next = config_block::next_bundle(bundle, &unsigned.block, ValidAt::Issuance);
                Some(next.map_err(|error| broken(error.to_string()))?)
            }
            _ => None,
        };
        let durable = self.engine.as_ref().is_some_and(|running| running.durable_log);
        let durability = if durable { Durability::Buffered } else { Durability::Synced };
        self.custody.ordered(delivered.index, &delivered.entry.envelopes, self.now.at);
        let said = blockwriter::engine_metadata(&delivered.membership, delivered.index);
        self.extend(&unsigned.block, Some(said), delivered.entry.is_config());
        let envelopes = delivered.entry.envelopes.len();
        self.effects.push(Effect::Append { block: unsigned, envelopes, durability });
        if let Some(next) = next {
            self.config_in_flight = false;
            self.adopt(next);
        }
        Ok(())
    }

    /// The chain ends with this block from here on.
    fn extend(&mut self, block: &Block, said: Option<BlockMetadata>, config: bool) {
        let (number, header) = (number_of(block), block.header.clone().unwrap_or_default());
        self.tip = Tip {
            height: number + 1,
            last_hash: Bytes::copy_from_slice(&block::header_hash(&header)),
            previous_hash: header.previous_hash,
            last_config: if config { number } else { self.tip.last_config },
        };
        self.said = said;
    }

    /// Takes over the configuration after the newest block.
    fn adopt(&mut self, next: Bundle) {
        info!(channel = %self.channel, sequence = next.sequence(), "took over a configuration");
        self.adopt_limits(&next);
        let next = Arc::new(next);
        self.bundle = Some(next.clone());
        self.published = next.clone();
        self.effects.push(Effect::Adopt(next));
        self.link_up();
        self.reconsider = true;
    }

    /// Fetches the blocks that the engine's log does not have any more.
    fn catch_up(&mut self, height: BlockNumber) -> Result<(), ChainError> {
        if self.tip.height >= height {
            return self.receive(Event::CaughtUp { height });
        }
        info!(channel = %self.channel, height, "catches up from other orderers' blocks");
        self.pull(Some(height));
        Ok(())
    }

    pub(super) fn chain_end(&self) -> ChainEnd {
        let bundle = self.bundle.as_deref().cloned();
        ChainEnd { height: self.tip.height, last_hash: self.tip.last_hash.clone(), bundle }
    }

    pub(super) fn pull(&mut self, until: Option<BlockNumber>) {
        let (ticket, from) = (self.ticket(), self.chain_end());
        self.pulling = Some((ticket, until));
        let trusted = self.published.clone();
        self.effects.push(Effect::Pull { ticket, from, until, trusted });
    }

    pub(super) fn stop_pulling(&mut self) {
        if self.pulling.take().is_some() {
            self.effects.push(Effect::StopPulling);
        }
    }

    fn pulls(&self, ticket: Ticket) -> bool {
        self.pulling.is_some_and(|(present, _)| present == ticket)
    }

    /// A block that another orderer gave.
    pub(super) fn pulled(&mut self, ticket: Ticket, pulled: Pulled) -> Result<(), ChainError> {
        let Pulled { block, next } = pulled;
        let number = number_of(&block);
        if !self.pulls(ticket) || number != self.tip.height {
            return Ok(());
        }
        self.check_join_block(&block)?;
        let said = blockwriter::read_engine_metadata(&block).map_err(ConsentersError::Metadata);
        let said = said.map_err(ChainError::Consenters)?;
        if let Some(said) = &said {
            self.custody.ordered(said.raft_index, block::transactions(&block), self.now.at);
        }
        self.extend(&block, said, next.is_some());
        self.effects.push(Effect::Copy(block));
        if let Some(next) = next {
            self.adopt(next);
        }
        if self.join_block.as_ref().is_some_and(|join| number_of(join) <= number) {
            self.join_block = None;
            self.effects.push(Effect::JoinBlock(None));
            self.reconsider = true;
        }
        let reached = self.pulling.is_some_and(|(_, until)| until == Some(number + 1));
        if reached && self.engine.is_some() { self.pull_ended(ticket) } else { Ok(()) }
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

    pub(super) fn pull_ended(&mut self, ticket: Ticket) -> Result<(), ChainError> {
        if !self.pulls(ticket) {
            return Ok(());
        }
        let until = self.pulling.and_then(|(_, until)| until);
        self.stop_pulling();
        let height = self.tip.height;
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
}
