//! Receiving: what the actor waits for, and the order in which it is worked off.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};
use weft_config::Bundle;
use weft_config::block as config_block;
use weft_consensus::{EngineError, Event, MessageError, Millis, NodeId, Role, Severity};
use weft_protos::common::{Block, Status};
use weft_protos::orderer::SubmitRequest;

use super::batch::{Batcher, Proposal};
use super::start::Running;
use super::{ChainError, Channel, ChannelStatus, Context, Relation, Submit, parse};
use crate::broadcast::Outcome;
use crate::membership::{self, ClusterView};
use crate::msgprocessor::{Processor, Rejection};
use crate::replication::{self, Ahead, ChainEnd, Pulled, Puller};

/// Messages and envelopes taken in before the engine is asked what follows.
const MESSAGE_BURST: usize = 512;
const SUBMIT_BURST: usize = 2048;
/// Rounds of work before the actor looks at its other queues again.
const ROUNDS: usize = 32;
/// Between attempts of the first election of a new channel, and for how long they are made.
const STAND_EVERY: Duration = Duration::from_millis(100);
const STAND_FOR: Duration = Duration::from_secs(60);
/// Time to hand leadership over at a stop.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Election timeouts without a leader after which a node looks whether it was removed, and the
/// least time for it.
const SUSPICION: u64 = 3;
const MIN_SUSPICION_MS: u64 = 1000;

/// What the actor is asked for.
pub(super) enum Control {
    /// To end, and to say when it has.
    Stop(oneshot::Sender<()>),
}

/// What the actor waits for.
pub(super) struct Inbox {
    pub submits: mpsc::Receiver<Submit>,
    pub messages: mpsc::Receiver<(NodeId, Bytes)>,
    pub control: mpsc::Receiver<Control>,
    pub unreachable: mpsc::Receiver<NodeId>,
}

/// Attempts to be elected at once.
struct Stand {
    next: Instant,
    until: Instant,
}

/// The owner of a channel's engine and store.
pub(super) struct Actor {
    pub(super) channel: Arc<Channel>,
    pub(super) context: Arc<Context>,
    /// The configuration after the newest stored block; `None` before the genesis block.
    pub(super) bundle: Option<Bundle>,
    pub(super) join_block: Option<Block>,
    /// What the join block makes of this node.
    onboards_as: Relation,
    pub(super) inbox: Inbox,
    pub(super) unreachable: mpsc::Sender<NodeId>,
    pub(super) engine: Option<Running>,
    pub(super) puller: Option<Puller>,
    pub(super) batcher: Batcher,
    pub(super) leading: bool,
    pub(super) leader: Option<NodeId>,
    pub(super) config_in_flight: bool,
    pub(super) config_reply: Option<oneshot::Sender<Outcome>>,
    /// Whether the configuration may have made this node a consenter.
    pub(super) reconsider: bool,
    next_look: Instant,
    /// Looks whether this node was removed without having heard of it.
    scout: Option<JoinHandle<Option<Ahead>>>,
    next_scout: Instant,
    /// The configuration of others' newest block, with its sequence, while this node is behind
    /// and the consenters it knows may have other certificates by now.
    ahead: Option<(u64, ClusterView)>,
    stand: Option<Stand>,
    stopping: Option<(Instant, oneshot::Sender<()>)>,
    again: bool,
    origin: Instant,
    /// Milliseconds by which the engine's clock is ahead of the time since `origin`.
    leap: u64,
}

/// What woke the actor.
enum Woken {
    Control(Option<Control>),
    Message(Option<(NodeId, Bytes)>),
    Unreachable(Option<NodeId>),
    Pulled(Option<Pulled>),
    Submit(Option<Submit>),
    Scouted(Option<Ahead>),
    Time,
}

impl Actor {
    pub(super) fn new(
        channel: Arc<Channel>,
        bundle: Option<Bundle>,
        join_block: Option<Block>,
        inbox: Inbox,
        unreachable: mpsc::Sender<NodeId>,
    ) -> Self {
        let context = channel.context.clone();
        let mut batcher = Batcher::new(context.settings.batching.cut_when_idle);
        if let Some(orderer) = bundle.as_ref().and_then(Bundle::orderer) {
            batcher.configure(orderer);
        }
        let now = Instant::now();
        let joined =
            join_block.as_ref().and_then(|join| config_block::bundle_from_block(join).ok());
        let onboards_as = joined.map_or(Relation::Follower, |joined| context.relation_to(&joined));
        Self {
            onboards_as,
            channel,
            context,
            bundle,
            join_block,
            inbox,
            unreachable,
            engine: None,
            puller: None,
            batcher,
            leading: false,
            leader: None,
            config_in_flight: false,
            config_reply: None,
            reconsider: true,
            next_look: now,
            scout: None,
            next_scout: now,
            ahead: None,
            stand: None,
            stopping: None,
            again: false,
            origin: now,
            leap: 0,
        }
    }

    /// Runs until it is stopped or has failed.
    pub(super) async fn run(mut self) {
        let failure = self.serve().await.err();
        if let Some(ChainError::Store(error)) = &failure {
            self.channel.reopen.store(error.can_retry(), Ordering::Release);
        }
        if let Err(error) = self.channel.store.flush() {
            error!(channel = %self.channel.id, %error, "failed to bring the channel to disk");
        }
        self.channel.links.store(Arc::default());
        self.channel.view.store(Arc::default());
        let (leading, leader) = (false, None);
        self.channel.status.send_modify(|status| {
            *status = ChannelStatus { leading, leader, ..status.clone() };
            status.failure = failure.as_ref().map(ToString::to_string);
        });
        self.channel.close();
        match failure {
            Some(error) => error!(channel = %self.channel.id, %error, "stopped the channel"),
            None => debug!(channel = %self.channel.id, "stopped the channel"),
        }
        if let Some((_, done)) = self.stopping {
            let _ = done.send(());
        }
    }

    async fn serve(&mut self) -> Result<(), ChainError> {
        loop {
            if self.reconsider {
                self.reconsider = false;
                self.take_part().await?;
            }
            self.work()?;
            if self.is_done() {
                return Ok(());
            }
            match self.wait().await {
                Woken::Control(Some(Control::Stop(done))) => self.begin_stop(done)?,
                Woken::Control(None) => return Ok(()),
                Woken::Message(Some((from, message))) => {
                    self.receive(Event::Message { from, message })?;
                }
                Woken::Unreachable(Some(node)) => self.receive(Event::Unreachable { node })?,
                Woken::Pulled(Some(pulled)) => self.append_pulled(pulled)?,
                Woken::Pulled(None) => self.end_of_pull()?,
                Woken::Submit(Some(submit)) => self.take(submit),
                Woken::Message(None) | Woken::Unreachable(None) | Woken::Submit(None) => {}
                Woken::Scouted(newest) => self.weigh_evidence(newest)?,
                Woken::Time => self.look_at_time()?,
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let deadline = self.deadline();
        let takes = self.takes_submits();
        let inbox = &mut self.inbox;
        let (puller, scout) = (&mut self.puller, &mut self.scout);
        tokio::select! {
            biased;
            control = inbox.control.recv() => Woken::Control(control),
            message = inbox.messages.recv() => Woken::Message(message),
            Some(node) = inbox.unreachable.recv() => Woken::Unreachable(Some(node)),
            pulled = next(puller) => Woken::Pulled(pulled),
            newest = scouted(scout) => Woken::Scouted(newest),
            Some(submit) = inbox.submits.recv(), if takes => Woken::Submit(Some(submit)),
            () = until(deadline) => Woken::Time,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.again {
            return Some(Instant::now());
        }
        let engine = self.engine.as_ref().and_then(|running| running.engine.wakeup());
        let engine =
            engine.map(|at| self.origin + Duration::from_millis(at.0.saturating_sub(self.leap)));
        let stop = self.stopping.as_ref().map(|(at, _)| *at);
        let stand = self.stand.as_ref().map(|stand| stand.next);
        let look = self.engine.is_none().then_some(self.next_look);
        [engine, self.batcher.deadline(), stop, stand, look].into_iter().flatten().min()
    }

    /// Envelopes stay in the queue, where they count, unless they can be ordered or passed on.
    fn takes_submits(&self) -> bool {
        if self.leading {
            !self.config_in_flight && self.batcher.has_room()
        } else {
            self.leader.is_some()
        }
    }

    pub(super) fn now(&self) -> Millis {
        let elapsed = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Millis(elapsed.saturating_add(self.leap))
    }

    /// Gives the engine an event. What it refuses for good is dropped; only an engine that cannot
    /// go on is an error.
    pub(super) fn receive(&mut self, event: Event) -> Result<(), ChainError> {
        let now = self.now();
        let Some(running) = &mut self.engine else { return Ok(()) };
        match running.engine.receive(now, event) {
            Ok(()) => Ok(()),
            Err(EngineError::Evicted { .. }) => Ok(()),
            Err(error) if error.severity() == Severity::Stop => Err(ChainError::Engine(error)),
            Err(EngineError::BadMessage { reason: MessageError::LogLost { .. }, .. }) => {
                self.lose_log()
            }
            Err(error) => {
                debug!(channel = %self.channel.id, %error, "the engine refused an event");
                Ok(())
            }
        }
    }

    fn work(&mut self) -> Result<(), ChainError> {
        self.take_messages()?;
        self.take_pulled()?;
        self.again = true;
        for _ in 0..ROUNDS {
            self.take_submits();
            self.cut_and_propose()?;
            let actions = match &mut self.engine {
                Some(running) => running.engine.drain(),
                None => Vec::new(),
            };
            if actions.is_empty() {
                self.again = false;
                break;
            }
            self.carry_out(actions)?;
        }
        self.publish();
        Ok(())
    }

    fn take_messages(&mut self) -> Result<(), ChainError> {
        for _ in 0..MESSAGE_BURST {
            let Ok((from, message)) = self.inbox.messages.try_recv() else { break };
            self.receive(Event::Message { from, message })?;
        }
        Ok(())
    }

    fn take_pulled(&mut self) -> Result<(), ChainError> {
        while let Some(pulled) = self.puller.as_mut().and_then(Puller::try_next) {
            self.append_pulled(pulled)?;
        }
        Ok(())
    }

    fn take_submits(&mut self) {
        for _ in 0..SUBMIT_BURST {
            if !self.takes_submits() {
                return;
            }
            let Ok(submit) = self.inbox.submits.try_recv() else { return };
            self.take(submit);
        }
    }

    /// Takes an envelope out of the queue: into a batch, or on to the leader.
    fn take(&mut self, submit: Submit) {
        if !self.leading {
            self.pass_on(submit);
        } else if submit.config {
            self.take_config(submit);
        } else {
            self.take_normal(submit);
        }
    }

    fn take_normal(&mut self, submit: Submit) {
        let Some(bundle) = &self.bundle else { return };
        if submit.sequence < bundle.sequence() {
            let processor = Processor::new(bundle, super::now());
            let checked = parse(&submit.envelope).and_then(|parsed| processor.normal(&parsed));
            if let Err(rejection) = checked {
                let channel = &self.channel.id;
                warn!(%channel, %rejection, "dropped an envelope that the new configuration refuses");
                return;
            }
        }
        self.batcher.add(submit.envelope, Instant::now());
    }

    fn take_config(&mut self, submit: Submit) {
        match self.check_config(&submit) {
            Ok((envelope, change)) => {
                self.batcher.add_config(envelope, change);
                self.config_reply = submit.reply;
            }
            Err(outcome) => {
                info!(channel = %self.channel.id, reason = outcome.1, "refused a configuration");
                if let Some(reply) = submit.reply {
                    let _ = reply.send(outcome);
                }
            }
        }
    }

    fn check_config(&self, submit: &Submit) -> Result<(Bytes, weft_consensus::Change), Outcome> {
        let refused = |rejection: Rejection| (rejection.status(), rejection.to_string());
        let invalid = |error: &dyn std::error::Error| (Status::BadRequest, error.to_string());
        let missing = || (Status::ServiceUnavailable, "the channel is not ready".to_owned());
        let bundle = self.bundle.as_ref().ok_or_else(missing)?;
        let running = self.engine.as_ref().ok_or_else(missing)?;
        let parsed = parse(&submit.envelope).map_err(refused)?;
        let processor = Processor::new(bundle, super::now());
        let (envelope, next) = if submit.sequence < bundle.sequence() {
            let nonce = super::nonce().map_err(refused)?;
            let signer = self.context.identity.current();
            let again = processor.config_again(&parsed, &*signer, nonce).map_err(refused)?;
            (crate::msgprocessor::encode(&again.envelope), again.next)
        } else {
            (submit.envelope.clone(), processor.config(&parsed).map_err(refused)?)
        };
        let keys = membership::keys(&next).map_err(|error| invalid(&error))?;
        let present = running.engine.status().membership;
        let wanted = present.updated(&keys).map_err(|error| invalid(&error))?;
        running.engine.check_change(&wanted).map_err(|error| invalid(&error))?;
        Ok((envelope, present.change_to(&wanted)))
    }

    /// The envelope was accepted while this node led; whoever leads now gets it, if possible.
    fn pass_on(&mut self, submit: Submit) {
        if let Some(reply) = submit.reply {
            let _ = reply.send((Status::ServiceUnavailable, "leadership was lost".to_owned()));
            return;
        }
        self.forward(submit.envelope, submit.sequence);
    }

    fn forward(&self, envelope: Bytes, sequence: u64) {
        let payload = weft_protos::ext::decode("envelope", envelope).ok();
        let request = SubmitRequest {
            channel: self.channel.id.as_str().to_owned(),
            last_validation_seq: sequence,
            payload,
        };
        let links = self.channel.links.load();
        let queued = self.leader.and_then(|leader| links.submit(leader, request));
        if queued.is_none() {
            let channel = self.channel.id.as_str();
            self.context.metrics.dropped.with_label_values(&[channel]).inc();
        }
    }

    /// Leadership was lost: what was accepted and not proposed goes to the next leader.
    pub(super) fn lose_leadership(&mut self) {
        self.leading = false;
        self.config_in_flight = false;
        if let Some(reply) = self.config_reply.take() {
            let _ = reply.send((Status::ServiceUnavailable, "leadership was lost".to_owned()));
        }
        let sequence = self.bundle.as_ref().map_or(0, Bundle::sequence);
        for envelope in self.batcher.take_all() {
            self.forward(envelope, sequence);
        }
    }

    fn cut_and_propose(&mut self) -> Result<(), ChainError> {
        let Some(running) = &self.engine else { return Ok(()) };
        if !self.leading {
            return Ok(());
        }
        let in_flight = running.engine.status().in_flight;
        self.batcher.cut_if_due(Instant::now(), in_flight);
        while let Some(proposal) = self.batcher.next() {
            if !self.propose(proposal)? {
                break;
            }
        }
        Ok(())
    }

    /// Proposes; `false` when the engine takes nothing more for now.
    fn propose(&mut self, proposal: Proposal) -> Result<bool, ChainError> {
        use weft_consensus::Entry;
        let now = self.now();
        let Some(running) = &mut self.engine else { return Ok(false) };
        let config = matches!(proposal, Proposal::Config(..));
        let entry = match proposal.clone() {
            Proposal::Normal(envelopes) => Entry::normal(envelopes),
            Proposal::Config(envelope, change) => Entry::config(envelope, change),
        };
        match running.engine.receive(now, Event::Propose(entry)) {
            Ok(()) => {
                self.config_in_flight |= config;
                if let Some(reply) = self.config_reply.take_if(|_| config) {
                    let _ = reply.send((Status::Success, String::new()));
                }
                Ok(true)
            }
            Err(error) if error.severity() == Severity::Stop => Err(ChainError::Engine(error)),
            Err(error) if error.severity() == Severity::Retry => {
                self.batcher.put_back(proposal);
                Ok(false)
            }
            Err(error) => {
                warn!(channel = %self.channel.id, %error, "the engine refused a batch");
                if let Some(reply) = self.config_reply.take_if(|_| config) {
                    let _ = reply.send((Status::BadRequest, error.to_string()));
                }
                Ok(true)
            }
        }
    }

    fn look_at_time(&mut self) -> Result<(), ChainError> {
        self.receive(Event::Tick)?;
        self.stand_if_due()?;
        self.scout_if_due();
        if self.engine.is_none() && self.next_look <= Instant::now() {
            // The node's own certificate may have been exchanged for one that is a consenter's.
            let every = self.context.settings.cluster.replication.refresh_interval;
            self.next_look = Instant::now() + every.max(Duration::from_secs(1));
            self.reconsider = true;
        }
        Ok(())
    }

    /// A node that was removed while it was out of touch is not told: the others do not talk to
    /// it any more. Nor can it hear those whose certificates were exchanged meanwhile. The blocks
    /// tell (Fabric: `orderer/consensus/etcdraft/eviction.go`).
    fn scout_if_due(&mut self) {
        let now = self.now();
        let (Some(running), Some(bundle)) = (&self.engine, &self.bundle) else { return };
        let Some(since) = running.engine.status().leaderless_since else { return };
        let suspicious = running.election_ms.saturating_mul(SUSPICION).max(MIN_SUSPICION_MS);
        if now.since(since) < suspicious || self.scout.is_some() || Instant::now() < self.next_scout
        {
            return;
        }
        self.next_scout = Instant::now() + Duration::from_millis(suspicious);
        let tip = self.channel.store.tip();
        let from =
            ChainEnd { height: tip.height, last_hash: tip.last_hash, bundle: Some(bundle.clone()) };
        let (context, channel) = (self.context.clone(), self.channel.id.clone());
        let look = replication::look_ahead(context, channel, from, bundle.clone());
        self.scout = Some(self.context.runtime.spawn(look));
    }

    fn weigh_evidence(&mut self, ahead: Option<Ahead>) -> Result<(), ChainError> {
        self.scout = None;
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
        info!(channel = %self.channel.id, "was removed from the consenters while out of touch");
        // As after a join with this block: the chain up to it still has to be fetched.
        self.channel.store.set_join_block(&newest).map_err(ChainError::Store)?;
        self.join_block = Some(newest);
        self.onboards_as = Relation::Follower;
        self.leave_cluster()
    }

    /// Has the engine stand for election soon, and again until there is a leader: the first
    /// election of a channel need not wait for a leader that never was. Pre-vote sees to it that
    /// this disturbs nobody.
    pub(super) fn stand_soon(&mut self) {
        let now = Instant::now();
        self.stand = Some(Stand { next: now, until: now + STAND_FOR });
    }

    /// An engine without a leader stands when its clock has moved on by an election timeout,
    /// whose random part is at most as long again.
    fn stand_if_due(&mut self) -> Result<(), ChainError> {
        let now = Instant::now();
        let Some(stand) = &mut self.stand else { return Ok(()) };
        if self.leader.is_some() || stand.until <= now {
            self.stand = None;
            return Ok(());
        }
        if stand.next <= now {
            stand.next = now + STAND_EVERY;
            let step = self.engine.as_ref().map_or(0, |running| running.election_ms);
            for _ in 0..2 {
                self.leap = self.leap.saturating_add(step);
                self.receive(Event::Tick)?;
            }
        }
        Ok(())
    }

    fn begin_stop(&mut self, done: oneshot::Sender<()>) -> Result<(), ChainError> {
        self.stopping = Some((Instant::now() + HAND_OVER, done));
        self.receive(Event::TransferLeadership { to: None })
    }

    fn is_done(&self) -> bool {
        let Some((deadline, _)) = &self.stopping else { return false };
        let alone = self.engine.as_ref().is_none_or(|running| {
            let status = running.engine.status();
            status.membership.len() == 1 || status.role != Role::Leader
        });
        alone || *deadline <= Instant::now()
    }

    /// The engine of a node that is a consenter; blocks of others for one that is not.
    async fn take_part(&mut self) -> Result<(), ChainError> {
        if self.engine.is_some() {
            return Ok(());
        }
        match self.consenter_id()? {
            Some((node, applied)) => self.become_consenter(node, applied).await,
            None => self.become_follower(),
        }
    }

    /// Makes the state known to everybody else.
    fn publish(&mut self) {
        let relation = self.relation();
        let engine = self.engine.as_ref().map(|running| running.engine.status());
        let status = ChannelStatus {
            relation,
            node: engine.as_ref().map(|engine| engine.node),
            leader: self.leader,
            term: engine.as_ref().map_or(0, |engine| engine.term),
            leading: self.leading && self.stopping.is_none(),
            onboarding: self.join_block.is_some(),
            failure: None,
        };
        self.measure(engine.as_ref());
        let changed = *self.channel.status.borrow() != status;
        if changed {
            self.channel.status.send_replace(status);
        }
        let election = self.engine.as_ref().map_or(0, |running| running.election_ms);
        let lost = engine.and_then(|engine| engine.leaderless_since);
        self.channel.set_available(lost.is_none_or(|since| self.now().since(since) < election));
    }

    /// While blocks are fetched, what the join block makes of this node.
    fn relation(&self) -> Relation {
        let solo = |bundle: &Bundle| membership::is_solo(bundle);
        match (&self.engine, &self.join_block, &self.bundle) {
            (Some(_), _, Some(bundle)) if solo(bundle) => Relation::Other,
            (Some(_), _, _) => Relation::Consenter,
            (None, Some(_), _) => self.onboards_as,
            (None, None, _) => Relation::Follower,
        }
    }

    fn measure(&self, engine: Option<&weft_consensus::Status>) {
        let (metrics, labels) = (&self.context.metrics, [self.channel.id.as_str()]);
        let set = |gauge: &prometheus::IntGaugeVec, value: u64| {
            gauge.with_label_values(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&metrics.height, self.channel.store.height());
        let Some(engine) = engine else {
            set(&metrics.role, 0);
            set(&metrics.is_leader, 0);
            return;
        };
        let role = match engine.role {
            Role::Evicted => 0,
            Role::Follower => 1,
            Role::Candidate => 2,
            Role::Leader => 3,
            Role::Quarantined => 4,
        };
        set(&metrics.role, role);
        set(&metrics.is_leader, u64::from(engine.role == Role::Leader));
        set(&metrics.leader, engine.leader.unwrap_or(0));
        set(&metrics.term, engine.term);
        set(&metrics.committed, engine.committed);
        set(&metrics.applied, engine.applied);
        set(&metrics.in_flight, engine.in_flight as u64);
    }

    /// Takes over who the consenters are, for those who send to them and hear from them.
    pub(super) fn link_up(&mut self) {
        let (Some(running), Some(bundle)) = (&self.engine, &self.bundle) else {
            self.channel.view.store(Arc::default());
            self.channel.links.store(Arc::default());
            return;
        };
        let mut view = ClusterView::new(bundle, &running.engine.status().membership);
        self.ahead.take_if(|(sequence, _)| *sequence <= bundle.sequence());
        if let Some((_, later)) = &self.ahead {
            view.look_ahead(later.clone());
        }
        let settings = &self.context.settings;
        let options = crate::cluster::LinkOptions {
            pool: self.context.pool.clone(),
            send_buffer: settings.cluster.send_buffer,
            rpc_timeout: settings.cluster.rpc_timeout,
            max_message: settings.limits.max_message_bytes,
            unreachable: self.unreachable.clone(),
            runtime: self.context.runtime.clone(),
        };
        let before = self.channel.links.load_full();
        let links =
            crate::cluster::Links::new(&self.channel.id, running.node, &view, &before, &options);
        self.channel.links.store(Arc::new(links));
        self.channel.view.store(Arc::new(view));
    }
}

async fn next(puller: &mut Option<Puller>) -> Option<Pulled> {
    match puller {
        Some(puller) => puller.next().await,
        None => std::future::pending().await,
    }
}

async fn scouted(scout: &mut Option<JoinHandle<Option<Ahead>>>) -> Option<Ahead> {
    match scout {
        Some(scout) => scout.await.ok().flatten(),
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
