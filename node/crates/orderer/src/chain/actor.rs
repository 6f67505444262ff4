//! Receiving and doing: the thread that runs a channel's core, with the node's clock, store and
//! links.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error};
use weft_consensus::{Millis, NodeId, Role};
use weft_protos::common::Status;
use weft_protos::orderer::SubmitRequest;

use super::core::{Answer, Core, Effect, Input, Loaded, Loss, Now, Submit, Ticket};
use super::{ChainError, Channel, ChannelStatus, Context, carry, start};
use crate::answer::Outcome;
use crate::cluster::{LinkOptions, Links};
use crate::membership::ClusterView;
use crate::replication::{self, Ahead, Pulled, Puller};

/// Messages and envelopes taken in before the engine is asked what follows.
const MESSAGE_BURST: usize = 512;
const SUBMIT_BURST: usize = 2048;
/// Rounds of work before the actor looks at its other queues again.
const ROUNDS: usize = 32;

/// What the actor is asked for.
pub(super) enum Control {
    /// To end, and to say when it has.
    Stop(oneshot::Sender<()>),
}

/// An envelope on its way to the actor.
pub(super) struct Queued {
    /// The encoded envelope.
    pub envelope: Bytes,
    /// Whether it is a CONFIG envelope.
    pub config: bool,
    /// The sequence of the configuration that it was checked against.
    pub sequence: u64,
    /// Who waits for what became of it.
    pub reply: Option<oneshot::Sender<Outcome>>,
    /// Its share of the queue's bytes.
    pub share: OwnedSemaphorePermit,
}

/// What the actor waits for.
pub(super) struct Inbox {
    pub submits: mpsc::Receiver<Queued>,
    pub messages: mpsc::Receiver<(NodeId, Bytes)>,
    pub control: mpsc::Receiver<Control>,
    pub unreachable: mpsc::Receiver<NodeId>,
}

/// The runner of a channel's core, and the only writer of its store.
pub(super) struct Actor {
    channel: Arc<Channel>,
    context: Arc<Context>,
    core: Core,
    inbox: Inbox,
    unreachable: mpsc::Sender<NodeId>,
    /// Answers to effects, given before anything else.
    answers: VecDeque<Input>,
    puller: Option<(Ticket, Puller)>,
    scout: Option<JoinHandle<Option<Ahead>>>,
    probe: Option<JoinHandle<bool>>,
    forwards: FuturesUnordered<BoxFuture<'static, (Ticket, Answer)>>,
    replies: BTreeMap<Ticket, oneshot::Sender<Outcome>>,
    replied: Ticket,
    stopping: Vec<oneshot::Sender<()>>,
    again: bool,
    clock: Clock,
}

/// The node's clocks.
#[derive(Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> Now {
        let at = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { at: Millis(at), wall: super::now() }
    }

    fn instant(self, at: Millis) -> Instant {
        self.0 + Duration::from_millis(at.0)
    }
}

/// What woke the actor.
enum Woken {
    Control(Option<Control>),
    Input(Input),
    Submit(Queued),
}

impl Actor {
    pub(super) fn new(
        channel: Arc<Channel>,
        core: Core,
        clock: Clock,
        inbox: Inbox,
        unreachable: mpsc::Sender<NodeId>,
    ) -> Self {
        Self {
            context: channel.context.clone(),
            channel,
            core,
            inbox,
            unreachable,
            answers: VecDeque::new(),
            puller: None,
            scout: None,
            probe: None,
            forwards: FuturesUnordered::new(),
            replies: BTreeMap::new(),
            replied: 0,
            stopping: Vec::new(),
            again: false,
            clock,
        }
    }

    /// Runs until it is stopped or has failed.
    pub(super) async fn run(mut self) {
        let failure = self.serve().await.err();
        if let Some(ChainError::Store(error)) = &failure {
            self.channel.reopen.store(error.can_retry(), Ordering::Release);
        }
        self.abandon();
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
        for done in self.stopping {
            let _ = done.send(());
        }
    }

    /// Counts what was accepted and is not ordered.
    fn abandon(&mut self) {
        self.inbox.submits.close();
        let mut gone = self.core.abandon();
        while let Ok(queued) = self.inbox.submits.try_recv() {
            gone += usize::from(queued.reply.is_none());
        }
        if gone > 0 {
            self.count_dropped(Loss::Stopped, gone);
        }
    }

    async fn serve(&mut self) -> Result<(), ChainError> {
        loop {
            self.work()?;
            if self.core.is_done(!self.inbox.submits.is_empty()) {
                return Ok(());
            }
            match self.wait().await {
                Woken::Control(Some(Control::Stop(done))) => {
                    self.stopping.push(done);
                    self.give(Input::Stop)?;
                }
                Woken::Control(None) => return Ok(()),
                Woken::Input(input) => self.give(input)?,
                Woken::Submit(queued) => self.give_submit(queued)?,
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let deadline = match self.again {
            true => Some(Instant::now()),
            false => self.core.wakeup().map(|at| self.clock.instant(at)),
        };
        let takes = self.core.takes_submits();
        let Self { inbox, puller, scout, probe, forwards, .. } = self;
        tokio::select! {
            biased;
            control = inbox.control.recv() => Woken::Control(control),
            Some((from, message)) = inbox.messages.recv() => {
                Woken::Input(Input::Message { from, message })
            }
            Some(node) = inbox.unreachable.recv() => Woken::Input(Input::Unreachable(node)),
            input = pulled(puller) => Woken::Input(input),
            newest = finished(scout) => Woken::Input(Input::Scouted(newest.flatten())),
            ahead = finished(probe) => {
                Woken::Input(Input::Probed { ahead: ahead.unwrap_or_default() })
            }
            Some((ticket, answer)) = forwards.next() => {
                Woken::Input(Input::Answered(ticket, answer))
            }
            Some(submit) = inbox.submits.recv(), if takes => Woken::Submit(submit),
            () = until(deadline) => Woken::Input(Input::Time),
        }
    }

    fn give(&mut self, input: Input) -> Result<(), ChainError> {
        self.core.take(self.clock.now(), input)
    }

    fn give_submit(&mut self, queued: Queued) -> Result<(), ChainError> {
        let Queued { envelope, config, sequence, reply, share } = queued;
        let reply = reply.map(|reply| {
            self.replied += 1;
            self.replies.insert(self.replied, reply);
            self.replied
        });
        let submit = Submit { envelope, config, sequence, reply, _share: Some(share) };
        self.give(Input::Submit(submit))
    }

    fn work(&mut self) -> Result<(), ChainError> {
        self.take_messages()?;
        self.take_pulled()?;
        self.again = true;
        for _ in 0..ROUNDS {
            while let Some(answer) = self.answers.pop_front() {
                self.give(answer)?;
            }
            self.take_submits()?;
            let effects = self.core.drain(self.clock.now())?;
            if effects.is_empty() {
                self.again = false;
                break;
            }
            self.carry_out(effects)?;
        }
        self.publish();
        Ok(())
    }

    fn take_messages(&mut self) -> Result<(), ChainError> {
        for _ in 0..MESSAGE_BURST {
            let Ok((from, message)) = self.inbox.messages.try_recv() else { break };
            self.give(Input::Message { from, message })?;
        }
        Ok(())
    }

    fn take_pulled(&mut self) -> Result<(), ChainError> {
        while let Some((ticket, puller)) = &mut self.puller {
            let Some(block) = puller.try_next() else { break };
            let input = Input::Pulled(*ticket, block);
            self.give(input)?;
        }
        Ok(())
    }

    fn take_submits(&mut self) -> Result<(), ChainError> {
        for _ in 0..SUBMIT_BURST {
            if !self.core.takes_submits() {
                break;
            }
            let Ok(queued) = self.inbox.submits.try_recv() else { break };
            self.give_submit(queued)?;
        }
        Ok(())
    }

    /// Carries effects out, strictly in their order. Readers learn of a block once its
    /// configuration is in force.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), ChainError> {
        for effect in effects {
            if !matches!(effect, Effect::Adopt(_)) {
                self.channel.set_height(self.channel.store.height());
            }
            self.carry(effect)?;
        }
        self.channel.set_height(self.channel.store.height());
        Ok(())
    }

    fn carry(&mut self, effect: Effect) -> Result<(), ChainError> {
        let (started, synced) = (std::time::Instant::now(), effect.syncs());
        let written = match &effect {
            Effect::Append { envelopes, .. } => Some(Some(*envelopes)),
            Effect::Persist { .. } if synced => Some(None),
            _ => None,
        };
        let signer = self.context.identity.current();
        let rest = carry::out(effect, &self.channel.store, &*signer, super::nonce)?;
        let (metrics, took) = (&self.context.metrics, started.elapsed().as_secs_f64());
        match written {
            Some(Some(envelopes)) => {
                let batch = metrics.batch.with_label_values(&[self.channel.id.as_str()]);
                batch.observe(envelopes as f64);
                metrics.block_write.observe(took);
            }
            Some(None) => metrics.log_write.observe(took),
            None => {}
        }
        match rest {
            Some(effect) => self.carry_elsewhere(effect),
            None => Ok(()),
        }
    }

    /// Effects that are not for the store.
    fn carry_elsewhere(&mut self, effect: Effect) -> Result<(), ChainError> {
        match effect {
            Effect::Send { to, message } => self.send(to, message),
            Effect::Forward { ticket, to, envelope, sequence } => {
                self.forward(ticket, to, envelope, sequence);
            }
            Effect::Reply(ticket, outcome) => {
                let waiter = self.replies.remove(&ticket);
                let _ = waiter.map(|waiter| waiter.send(outcome));
            }
            Effect::Dropped(loss, count) => self.count_dropped(loss, count),
            Effect::Remake(submit) => {
                let made = self.channel.remake(&submit.envelope);
                self.answers.push_back(Input::Remade(submit, made));
            }
            Effect::Adopt(bundle) => self.channel.adopt(bundle),
            Effect::Link(view) => self.link_up(view),
            Effect::LeaderChanged => {
                let labels = [self.channel.id.as_str()];
                self.context.metrics.leader_changes.with_label_values(&labels).inc();
            }
            Effect::Load => self.load()?,
            Effect::Probe(others) => {
                let probe = start::any_ahead(self.context.clone(), self.channel.id.clone(), others);
                self.probe = Some(self.context.runtime.spawn(probe));
            }
            Effect::Pull { ticket, from, until, trusted } => {
                let (context, id) = (self.context.clone(), self.channel.id.clone());
                let puller = Puller::start(context, id, from, until, (*trusted).clone());
                self.puller = Some((ticket, puller));
            }
            Effect::StopPulling => self.puller = None,
            Effect::Scout { from, trusted } => {
                let (context, id) = (self.context.clone(), self.channel.id.clone());
                let look = replication::look_ahead(context, id, from, (*trusted).clone());
                self.scout = Some(self.context.runtime.spawn(look));
            }
            // The store's, which are done.
            Effect::Persist { .. }
            | Effect::Append { .. }
            | Effect::Copy(_)
            | Effect::ForgetLog
            | Effect::JoinBlock(_) => {}
        }
        Ok(())
    }

    fn count_dropped(&self, loss: Loss, count: usize) {
        let labels = [self.channel.id.as_str(), loss.as_str()];
        self.context.metrics.dropped.with_label_values(&labels).inc_by(count as u64);
    }

    fn load(&mut self) -> Result<(), ChainError> {
        let store = &self.channel.store;
        let node = store.node().map_err(ChainError::Store)?;
        let records = store.engine_records().map_err(ChainError::Store)?;
        let tls_key = self.context.tls_key();
        let seed = weft_crypto::random_bytes::<8>().map(u64::from_le_bytes);
        let seed = seed.unwrap_or(node.unwrap_or_default());
        self.answers.push_back(Input::Loaded(Loaded { node, records, tls_key, seed }));
        Ok(())
    }

    fn send(&mut self, to: NodeId, message: Bytes) {
        if !self.channel.links.load().send(to, message) {
            self.context.metrics.messages_dropped.inc();
            self.answers.push_back(Input::Unreachable(to));
        }
    }

    fn forward(&mut self, ticket: Ticket, to: NodeId, envelope: Bytes, sequence: u64) {
        let request = SubmitRequest {
            channel: self.channel.id.as_str().to_owned(),
            last_validation_seq: sequence,
            payload: weft_protos::ext::decode("envelope", envelope).ok(),
        };
        let Some(answer) = self.channel.links.load().submit(to, request) else {
            return self.answers.push_back(Input::Answered(ticket, Answer::NotNow));
        };
        let limit = self.context.settings.cluster.rpc_timeout;
        self.forwards.push(Box::pin(async move {
            let answer = timeout(limit, answer).await.ok().and_then(Result::ok);
            (ticket, answer.map_or(Answer::Unknown, |answer| answer_of(answer.status)))
        }));
    }

    fn link_up(&self, view: Option<(NodeId, Box<ClusterView>)>) {
        let Some((node, view)) = view else {
            self.channel.view.store(Arc::default());
            self.channel.links.store(Arc::default());
            return;
        };
        let settings = &self.context.settings;
        let options = LinkOptions {
            pool: self.context.pool.clone(),
            send_buffer: settings.cluster.send_buffer,
            rpc_timeout: settings.cluster.rpc_timeout,
            max_message: settings.limits.max_message_bytes,
            unreachable: self.unreachable.clone(),
            runtime: self.context.runtime.clone(),
        };
        let before = self.channel.links.load_full();
        let links = Links::new(&self.channel.id, node, &view, &before, &options);
        self.channel.links.store(Arc::new(links));
        self.channel.view.store(Arc::from(view));
    }

    /// Makes the state known to everybody else.
    fn publish(&mut self) {
        let view = self.core.view();
        self.measure(view.engine.as_ref());
        let changed = *self.channel.status.borrow() != view.status;
        if changed {
            self.channel.status.send_replace(view.status);
        }
        self.channel.set_available(view.available);
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
}

/// What a leader's answer means to an envelope that was accepted already.
fn answer_of(status: i32) -> Answer {
    match Status::try_from(status) {
        Ok(Status::Success) => Answer::Taken,
        Ok(Status::ServiceUnavailable) => Answer::NotNow,
        Ok(_) => Answer::Refused,
        Err(_) => Answer::Unknown,
    }
}

async fn pulled(puller: &mut Option<(Ticket, Puller)>) -> Input {
    let Some((ticket, puller)) = puller else { return std::future::pending().await };
    let block: Option<Pulled> = puller.next().await;
    block.map_or(Input::PullEnded(*ticket), |block| Input::Pulled(*ticket, block))
}

/// What a task came to; forgets it.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    let Some(running) = task else { return std::future::pending().await };
    let value = running.await.ok();
    *task = None;
    value
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
