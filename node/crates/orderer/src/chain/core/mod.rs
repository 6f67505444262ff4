//! Deciding: one channel as a value. It opens no file or socket, reads no clock, draws nothing at
//! random and starts no task; whoever runs it gives it [`Input`]s with the time, and carries out
//! the [`Effect`]s that it returns:
//!
//! ```text
//!            Input (+ Now)                  Vec<Effect>
//! inbox ───────────────▶ Core::take ─▶ Core::drain ──▶ store, links, readers, other orderers
//! ```
//!
//! What the runner owes:
//!
//! 1. **Order.** Effects are carried out in their order, each begun when the one before is done. A
//!    store that fails ends the channel: nothing behind the failed effect is carried out.
//! 2. **Answers.** What an effect asks for comes back as the input that it names.
//! 3. **Time.** [`Core::wakeup`] says when [`Input::Time`] is due at the latest.
//!
//! The core keeps the end of the chain as it is once all effects are carried out, so it never
//! reads the store. The same inputs at the same times give the same effects.
//!
//! | Module | Owns |
//! | --- | --- |
//! | `part` | what this node is to the channel: engine, follower; standing, suspicion, leaving |
//! | `order` | envelopes: into batches, to the engine, or on to the leader |
//! | `apply` | what the engine decided, and other orderers' blocks |
//! | `batch` | envelopes on their way from the queue to a proposal |
//! | `custody` | accepted envelopes that wait for a leader, or for an answer |

mod apply;
mod batch;
mod custody;
mod order;
mod part;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;
use weft_config::Bundle;
use weft_config::block as config_block;
use weft_consensus::{
    EngineError, Event, Membership, MessageError, Millis, NodeId, Persist, Role, Severity,
};
use weft_ledger::block_store::Tip;
use weft_ledger::kv::Durability;
use weft_protos::common::Block;
use weft_protos::etcdraft::BlockMetadata;
use weft_settings::OrdererSettings;
use weft_types::{BlockNumber, ChannelId, Timestamp};

use super::start::Running;
use super::{ChainError, ChannelStatus, Relation};
use crate::answer::Outcome;
use crate::blockwriter::{self, Unsigned};
use crate::membership::{self, ClusterView};
use crate::replication::{Ahead, ChainEnd, Pulled, Source};
use crate::store::ChainStore;
use batch::Batcher;
use custody::Custody;
pub(crate) use custody::{Answer, Loss};
use part::{Asking, Stand};

/// Time to hand leadership over at a stop, milliseconds.
const HAND_OVER: u64 = 1000;

/// Names a question, so that an answer finds it.
pub(crate) type Ticket = u64;

/// The time of an input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// The monotonic clock, by which the channel decides.
    pub at: Millis,
    /// The wall clock, by which certificates of clients are checked; nothing else.
    pub wall: Timestamp,
}

/// An envelope in the leader's queue.
pub(crate) struct Submit {
    /// The encoded envelope.
    pub envelope: Bytes,
    /// Whether it is a CONFIG envelope.
    pub config: bool,
    /// The sequence of the configuration that it was checked against.
    pub sequence: u64,
    /// Where [`Effect::Reply`] goes; for configurations, whose last checks are the core's. The
    /// others were answered with SUCCESS when they got their place in the queue.
    pub reply: Option<Ticket>,
    /// Its share of the queue's bytes.
    pub _share: Option<OwnedSemaphorePermit>,
}

/// What is stored of a node's part in consensus, and what else its part depends on.
pub(crate) struct Loaded {
    /// The id under which a log was last kept.
    pub node: Option<NodeId>,
    /// The engine's records.
    pub records: Vec<(Bytes, Bytes)>,
    /// The key of the node's TLS certificate.
    pub tls_key: Vec<u8>,
    /// For the random part of election timeouts.
    pub seed: u64,
}

/// What happens to a channel.
pub(crate) enum Input {
    /// Time has passed.
    Time,
    /// A message of another consenter.
    Message { from: NodeId, message: Bytes },
    /// Another consenter cannot be reached.
    Unreachable(NodeId),
    /// An envelope out of the queue; see [`Core::takes_submits`].
    Submit(Submit),
    /// To end; see [`Core::is_done`].
    Stop,
    /// Answers [`Effect::Load`].
    Loaded(Loaded),
    /// Answers [`Effect::Probe`]: whether any of those asked has more than a genesis block.
    Probed { ahead: bool },
    /// A block of [`Effect::Pull`], verified.
    Pulled(Ticket, Pulled),
    /// [`Effect::Pull`] has come to its end.
    PullEnded(Ticket),
    /// Answers [`Effect::Scout`].
    Scouted(Option<Ahead>),
    /// Answers [`Effect::Forward`].
    Answered(Ticket, Answer),
    /// Answers [`Effect::Remake`]: the envelope made anew and the sequence that it is for, or
    /// why it is refused.
    Remade(Submit, Result<(Bytes, u64), Outcome>),
}

/// What has to be done.
pub(crate) enum Effect {
    /// Write to the engine's log; with the id, where that is not stored yet.
    Persist { persist: Persist, node: Option<NodeId> },
    /// Sign this block and append it.
    Append { block: Unsigned, envelopes: usize, durability: Durability },
    /// Append another orderer's block.
    Copy(Block),
    /// Delete the engine's log.
    ForgetLog,
    /// Keep the block that the chain has to lead to; without one, it is reached.
    JoinBlock(Option<Block>),
    /// This is the configuration from here on.
    Adopt(Arc<Bundle>),
    /// Send to another consenter; [`Input::Unreachable`] where that cannot be.
    Send { to: NodeId, message: Bytes },
    /// Hand an accepted envelope to the leader.
    Forward { ticket: Ticket, to: NodeId, envelope: Bytes, sequence: u64 },
    /// Answer the sender of an envelope.
    Reply(Ticket, Outcome),
    /// Accepted envelopes are given up.
    Dropped(Loss, usize),
    /// Carry the config update in this envelope out again, under the present configuration.
    Remake(Submit),
    /// The consenters to talk with, and this node's id; none while it is not one of them.
    Link(Option<(NodeId, Box<ClusterView>)>),
    /// The leader is another one than before.
    LeaderChanged,
    /// Read what is stored of consensus.
    Load,
    /// Ask these how many blocks they have.
    Probe(Vec<Source>),
    /// Fetch blocks behind `from`, up to a height of `until` or for ever, in place of any earlier
    /// such effect. `trusted` names the sources before there is a genesis block.
    Pull { ticket: Ticket, from: ChainEnd, until: Option<BlockNumber>, trusted: Arc<Bundle> },
    /// Fetch no blocks.
    StopPulling,
    /// Look for the newest block of others behind `from`.
    Scout { from: ChainEnd, trusted: Arc<Bundle> },
}

/// What is stored of a channel, as far as decisions depend on it.
pub(crate) struct Stored {
    /// The configuration after the newest block; `None` before the genesis block.
    pub bundle: Option<Bundle>,
    /// The block that the channel was joined with, until the chain has reached it.
    pub join_block: Option<Block>,
    /// The configuration in it.
    joined: Option<Bundle>,
    tip: Tip,
    said: Option<BlockMetadata>,
}

impl Stored {
    /// Reads it.
    ///
    /// # Errors
    /// [`ChainError`] when what is stored cannot be used.
    pub fn read(store: &ChainStore) -> Result<Self, ChainError> {
        let bundle_of =
            |block: &Block| config_block::bundle_from_block(block).map_err(ChainError::Config);
        let join_block = store.join_block().map_err(ChainError::Store)?;
        let newest = store.newest().map_err(ChainError::Store)?;
        let said = newest.as_ref().map(blockwriter::read_engine_metadata).transpose();
        let said = said.map_err(membership::ConsentersError::Metadata);
        let config = store.last_config_block().map_err(ChainError::Store)?;
        let bundle = config.as_ref().map(bundle_of).transpose()?;
        let joined = match (&bundle, &join_block) {
            (None, Some(join)) => Some(bundle_of(join)?),
            // A chain that there is leads on by itself. What it leads to was found at others, and
            // is any block.
            (Some(_), Some(join)) => bundle_of(join).ok(),
            (_, None) => None,
        };
        let said = said.map_err(ChainError::Consenters)?.flatten();
        let stored = Self { bundle, join_block, joined, tip: store.tip(), said };
        if let (true, Some(bundle)) = (stored.tip.height > 0, &stored.bundle) {
            membership::keys(bundle).map_err(ChainError::Consenters)?;
        }
        Ok(stored)
    }

    /// The configuration to begin with: the chain's, or before there is one the join block's.
    ///
    /// # Errors
    /// [`ChainError::NotJoined`] where there is neither.
    pub fn first_bundle(&self) -> Result<&Bundle, ChainError> {
        self.bundle.as_ref().or(self.joined.as_ref()).ok_or(ChainError::NotJoined)
    }
}

/// What others see of a channel.
pub(crate) struct View {
    /// The state; without a failure, which is the runner's to add.
    pub status: ChannelStatus,
    /// The engine's state.
    pub engine: Option<weft_consensus::Status>,
    /// Whether consensus is in touch with its cluster.
    pub available: bool,
}

/// One channel.
pub(crate) struct Core {
    channel: ChannelId,
    settings: OrdererSettings,
    now: Now,
    /// Milliseconds by which the engine's clock is ahead.
    leap: u64,
    /// The end of the chain, and what its newest block says of consensus.
    tip: Tip,
    said: Option<BlockMetadata>,
    /// The configuration after it; `None` before the genesis block.
    bundle: Option<Arc<Bundle>>,
    /// The same; before the genesis block, that of the join block.
    published: Arc<Bundle>,
    join_block: Option<Block>,
    /// What the join block makes of this node.
    onboards_as: Relation,
    engine: Option<Running>,
    pulling: Option<(Ticket, Option<BlockNumber>)>,
    batcher: Batcher,
    custody: Custody,
    leading: bool,
    leader: Option<NodeId>,
    config_in_flight: bool,
    /// Whether the configuration may have made this node a consenter.
    reconsider: bool,
    asking: Option<Asking>,
    next_look: Millis,
    /// Whether it is looked for whether this node was removed without having heard of it.
    scouting: bool,
    next_scout: Millis,
    /// The configuration of others' newest block, with its sequence, while this node is behind
    /// and the consenters it knows may have other certificates by now.
    ahead: Option<(u64, ClusterView)>,
    /// The members that the links were made for.
    linked: Option<Arc<Membership>>,
    stand: Option<Stand>,
    stopping: Option<Millis>,
    tickets: Ticket,
    effects: Vec<Effect>,
}

/// Whole milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Core {
    /// A channel as it is stored, on a node whose TLS certificate has the key `tls_key`.
    ///
    /// # Errors
    /// [`ChainError::NotJoined`].
    pub fn new(
        channel: ChannelId,
        settings: &OrdererSettings,
        stored: Stored,
        tls_key: &[u8],
        now: Now,
    ) -> Result<Self, ChainError> {
        let published = Arc::new(stored.first_bundle()?.clone());
        let mut batcher = Batcher::new(settings.batching.cut_when_idle);
        if let Some(orderer) = stored.bundle.as_ref().and_then(Bundle::orderer) {
            batcher.configure(orderer);
        }
        let joined = stored.joined.as_ref();
        Ok(Self {
            onboards_as: joined.map_or(Relation::Follower, |joined| Relation::of(joined, tls_key)),
            channel,
            settings: settings.clone(),
            now,
            leap: 0,
            tip: stored.tip,
            said: stored.said,
            bundle: stored.bundle.map(Arc::new),
            published,
            join_block: stored.join_block,
            engine: None,
            pulling: None,
            batcher,
            custody: Custody::new(now.at),
            leading: false,
            leader: None,
            config_in_flight: false,
            reconsider: true,
            asking: None,
            next_look: now.at,
            scouting: false,
            next_scout: now.at,
            ahead: None,
            linked: None,
            stand: None,
            stopping: None,
            tickets: 0,
            effects: Vec::new(),
        })
    }

    /// Takes in what happened. What follows from it is in the next [`Self::drain`].
    ///
    /// # Errors
    /// [`ChainError`] ends the channel.
    pub fn take(&mut self, now: Now, input: Input) -> Result<(), ChainError> {
        self.now = now;
        match input {
            Input::Time => self.look_at_time(),
            Input::Message { from, message } => self.receive(Event::Message { from, message }),
            Input::Unreachable(node) => self.receive(Event::Unreachable { node }),
            Input::Submit(submit) => {
                self.submit(submit);
                Ok(())
            }
            Input::Stop => {
                self.stopping = Some(now.at.plus(HAND_OVER));
                self.receive(Event::TransferLeadership { to: None })
            }
            Input::Loaded(loaded) => self.loaded(loaded),
            Input::Probed { ahead } => self.probed(ahead),
            Input::Pulled(ticket, pulled) => self.pulled(ticket, pulled),
            Input::PullEnded(ticket) => self.pull_ended(ticket),
            Input::Scouted(newest) => self.weigh_evidence(newest),
            Input::Answered(ticket, answer) => {
                self.answered(ticket, answer);
                Ok(())
            }
            Input::Remade(submit, made) => {
                self.remade(submit, made);
                Ok(())
            }
        }
    }

    /// Takes out what has to be done, in its order. Empty when nothing is left to do before the
    /// next input.
    ///
    /// # Errors
    /// [`ChainError`] ends the channel.
    pub fn drain(&mut self, now: Now) -> Result<Vec<Effect>, ChainError> {
        self.now = now;
        self.take_part();
        self.release();
        self.cut_and_propose()?;
        let actions = match &mut self.engine {
            Some(running) => running.engine.drain(),
            None => Vec::new(),
        };
        for action in actions {
            self.act(action)?;
        }
        self.find_superseded();
        self.follow_members();
        Ok(std::mem::take(&mut self.effects))
    }

    /// When [`Input::Time`] is due at the latest.
    pub fn wakeup(&self) -> Option<Millis> {
        let engine = self.engine.as_ref().and_then(|running| running.engine.wakeup());
        let engine = engine.map(|at| Millis(at.0.saturating_sub(self.leap)));
        let batch = self.batcher.deadline().filter(|_| self.leading);
        let look = self.engine.is_none().then_some(self.next_look);
        let stand = self.stand.as_ref().map(|stand| stand.next);
        let custody = self.custody.wakeup(self.now.at, self.leads_or_follows());
        [engine, batch, self.stopping, stand, look, custody].into_iter().flatten().min()
    }

    /// Envelopes stay in the queue, where they count, unless they can be ordered or passed on, or
    /// nobody is to be expected any more who could.
    pub fn takes_submits(&self) -> bool {
        if self.leading {
            self.has_room()
        } else if self.leader.is_some() {
            self.custody.may_send(self.now.at)
        } else {
            self.custody.gave_up(self.now.at)
        }
    }

    /// Whether the channel has ended after [`Input::Stop`]. `queued`: whether envelopes wait in
    /// the queue that were accepted.
    pub fn is_done(&self, queued: bool) -> bool {
        let Some(deadline) = self.stopping else { return false };
        let kept = queued || !self.batcher.is_empty() || !self.custody.is_empty();
        deadline <= self.now.at || (!kept && self.may_go())
    }

    fn may_go(&self) -> bool {
        self.engine.as_ref().is_none_or(|running| {
            let status = running.engine.status();
            let alone = status.membership.len() == 1;
            if alone { status.in_flight == 0 } else { status.role != Role::Leader }
        })
    }

    /// Gives up what was accepted and not ordered: the channel ends. Returns how much that was.
    pub fn abandon(&mut self) -> usize {
        self.batcher.take_all().envelopes.len() + self.custody.abandon()
    }

    /// Sets the engine's limit on the size of an entry.
    #[cfg(test)]
    pub fn limit_entries(&mut self, bytes: usize) {
        if let Some(running) = &mut self.engine {
            running.engine.limit_entries(bytes);
        }
    }

    /// Envelopes that were proposed, and may be ordered or not.
    #[cfg(test)]
    pub fn in_doubt(&self) -> std::collections::BTreeSet<Bytes> {
        self.custody.in_doubt().cloned().collect()
    }

    /// What others see.
    pub fn view(&self) -> View {
        let engine = self.engine.as_ref().map(|running| running.engine.status());
        let status = ChannelStatus {
            relation: self.relation(),
            node: engine.as_ref().map(|engine| engine.node),
            leader: self.leader,
            term: engine.as_ref().map_or(0, |engine| engine.term),
            leading: self.leading && self.stopping.is_none(),
            onboarding: self.join_block.is_some(),
            failure: None,
        };
        let election = self.engine.as_ref().map_or(0, |running| running.election_ms);
        let lost = engine.as_ref().and_then(|engine| engine.leaderless_since);
        let available = lost.is_none_or(|since| self.engine_now().since(since) < election);
        View { status, engine, available }
    }

    fn engine_now(&self) -> Millis {
        self.now.at.plus(self.leap)
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.tickets
    }

    /// Gives the engine an event. What it refuses for good is dropped; only an engine that cannot
    /// go on is an error.
    fn receive(&mut self, event: Event) -> Result<(), ChainError> {
        let now = self.engine_now();
        let Some(running) = &mut self.engine else { return Ok(()) };
        match running.engine.receive(now, event) {
            Ok(()) | Err(EngineError::Evicted { .. }) => Ok(()),
            Err(error) if error.severity() == Severity::Stop => Err(ChainError::Engine(error)),
            Err(EngineError::BadMessage { reason: MessageError::LogLost { .. }, .. }) => {
                self.lose_log();
                Ok(())
            }
            Err(error) => {
                debug!(channel = %self.channel, %error, "the engine refused an event");
                Ok(())
            }
        }
    }

    fn look_at_time(&mut self) -> Result<(), ChainError> {
        self.receive(Event::Tick)?;
        self.stand_if_due()?;
        self.scout_if_due();
        self.look_if_due();
        self.expire();
        Ok(())
    }
}
