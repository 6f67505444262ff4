//! `Submit`: hands a transaction to the ordering service (Fabric: internal/pkg/gateway/submit.go).
//!
//! One orderer is asked, the one that took the last transaction. When it fails, or does not answer
//! for the delay of [`super::health`], the next one is asked as well, and the first answer counts. So
//! two orderers may order one transaction: the second copy is invalid (DUPLICATE_TXID), and clients
//! are told of the first. That is rare: an orderer that answers others, only slowly, costs a second
//! copy for one transaction in [`super::health::Budget::ONE_IN`] at most.
//!
//! While no orderer of a channel has a leader, one call at a time asks again ([`Gate`]); the others
//! wait for it, as every refusal ends the stream on which their transactions are.

use std::collections::{BTreeMap, HashMap};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Code, Status};
use weft_config::Bundle;
use weft_config::consensus::Consensus;
use weft_protos::common::{self, Envelope};
use weft_protos::gateway::{ErrorDetail, SubmitRequest, SubmitResponse};
use weft_protos::orderer::BroadcastResponse;
use weft_types::ChannelId;

use super::Inner;
use super::broadcast::until;
use super::error::with_details;
use super::hedge::{Race, Step};
use crate::channel::Channel;
use crate::deliver_client::OrdererEndpoint;

/// How long an ordering service without a leader is given to elect one: this, or so many election
/// timeouts where that is more.
const PATIENCE: Duration = Duration::from_secs(5);
const ELECTIONS: u32 = 3;
/// How often it is asked meanwhile.
const RETRY: Duration = Duration::from_millis(50);

/// What a BFT orderer answers that has the transaction already.
const ALREADY_THERE: &str = "failed to submit request: request already exists";

/// The orderers of a channel.
pub(super) struct Orderers {
    config: u64,
    list: Vec<Target>,
    /// The one that took the last transaction.
    good: AtomicUsize,
    gate: Gate,
}

/// Lets one call at a time try while no orderer can take transactions.
struct Gate {
    shut: watch::Sender<bool>,
    turn: Semaphore,
}

/// The orderers that a transaction is brought to, and what came of it.
struct Round<'a> {
    orderers: &'a Orderers,
    race: Race,
    attempts: FuturesUnordered<Trying<'a>>,
    failed: BTreeMap<usize, ErrorDetail>,
}

type Trying<'a> = Pin<Box<dyn Future<Output = (usize, Attempt)> + Send + 'a>>;

/// How a round ended.
enum Ended {
    Accepted,
    Refused(Status),
    /// Nobody could.
    Failed,
}

#[derive(Clone)]
struct Target {
    endpoint: OrdererEndpoint,
    msp_id: String,
}

/// The orderers of all channels.
pub(super) type OrdererCache = Mutex<HashMap<ChannelId, Arc<Orderers>>>;

/// What came of one attempt.
enum Attempt {
    Accepted,
    /// The transaction is at fault.
    Refused(Status),
    /// The orderer is. It may be different soon.
    Failed {
        detail: ErrorDetail,
        soon: bool,
    },
}

impl Inner {
    pub(super) async fn submit(&self, request: SubmitRequest) -> Result<SubmitResponse, Status> {
        let Some(envelope) = request.prepared_transaction else {
            return Err(Status::invalid_argument("a prepared transaction is required"));
        };
        if envelope.signature.is_empty() {
            return Err(Status::invalid_argument("prepared transaction must be signed"));
        }
        let channel = self.channel(&request.channel_id).map_err(Status::failed_precondition)?;
        let bundle = channel.bundle();
        let Some(orderer) = bundle.orderer() else {
            return Err(Status::not_found(format!(
                "failed to create block deliverer for channel `{}`, missing OrdererConfig",
                channel.id()
            )));
        };
        let orderers = self.orderers(&channel, &bundle);
        if orderers.list.is_empty() {
            return Err(Status::unavailable("no orderer nodes available"));
        }
        let submitted = match &orderer.consensus {
            Consensus::Bft(_) => self.submit_to_all(&orderers, &envelope).await,
            consensus => self.submit_to_one(&orderers, &envelope, patience(consensus)).await,
        };
        submitted.map(|()| SubmitResponse {})
    }

    fn orderers(&self, channel: &Channel, bundle: &Bundle) -> Arc<Orderers> {
        let mut cache = self.orderers.lock();
        if let Some(known) = cache.get(channel.id())
            && known.config == bundle.sequence()
        {
            return Arc::clone(known);
        }
        let owner = |address: &str| {
            let all = bundle.orderer_endpoints();
            let found = all.into_iter().find(|(_, endpoint)| endpoint.to_string() == address);
            found.and_then(|(owner, _)| owner).map(ToString::to_string).unwrap_or_default()
        };
        let list: Vec<_> = OrdererEndpoint::of(bundle)
            .into_iter()
            .map(|endpoint| Target { msp_id: owner(&endpoint.address), endpoint })
            .collect();
        // Where nothing is known yet, peers spread over the orderers.
        let own = self.deps.endorsers.membership().own().id.0;
        let start = own.iter().fold(0_usize, |sum, byte| sum.wrapping_add(usize::from(*byte)));
        let good = AtomicUsize::new(start % list.len().max(1));
        let orderers =
            Arc::new(Orderers { config: bundle.sequence(), list, good, gate: Gate::new() });
        cache.insert(channel.id().clone(), Arc::clone(&orderers));
        orderers
    }

    /// One orderer is enough: the last good one, else the next.
    async fn submit_to_one(
        &self,
        orderers: &Orderers,
        envelope: &Envelope,
        patience: Duration,
    ) -> Result<(), Status> {
        self.orderer_health.earn();
        let deadline = Instant::now() + patience.min(self.options.broadcast_timeout);
        let mut round = Round {
            orderers,
            race: Race::new(self.order(orderers)),
            attempts: FuturesUnordered::new(),
            failed: BTreeMap::new(),
        };
        loop {
            // A turn is held until the round is over.
            let (ended, _turn) = match self.enter(&mut round, deadline).await {
                Ok(turn) => (self.round(&mut round, envelope).await, turn),
                Err(ended) => (ended, None),
            };
            match ended {
                Ended::Accepted => {
                    orderers.gate.open();
                    return Ok(());
                }
                Ended::Refused(status) => return Err(status),
                Ended::Failed if Instant::now() < deadline && round.race.again() => {
                    orderers.gate.shut();
                }
                Ended::Failed => {
                    let message = "no orderers could successfully process transaction";
                    let details: Vec<_> = round.failed.into_values().collect();
                    return Err(with_details(Code::Unavailable, message, &details));
                }
            }
        }
    }

    /// Waits for leave to ask, and meanwhile for those who were asked before.
    async fn enter<'a>(
        &self,
        round: &mut Round<'a>,
        deadline: Instant,
    ) -> Result<Option<SemaphorePermit<'a>>, Ended> {
        let gate = &round.orderers.gate;
        let mut pass = pin!(timeout_at(deadline, gate.pass()));
        loop {
            tokio::select! {
                biased;
                Some((index, attempt)) = round.attempts.next() => {
                    if let Some(ended) = self.note(round, index, attempt) {
                        return Err(ended);
                    }
                }
                pass = &mut pass => return pass.map_err(|_| Ended::Failed),
            }
        }
    }

    /// The orderers, those in good health first, from the last good one on.
    fn order(&self, orderers: &Orderers) -> Vec<usize> {
        let now = Instant::now();
        let good = orderers.good.load(Ordering::Relaxed);
        let standing = |index: &usize| {
            let target = orderers.list.get(*index);
            target.map(|target| self.orderer_health.standing(&target.endpoint.address, now))
        };
        let mut order: Vec<_> = (0..orderers.list.len()).collect();
        let first = good % order.len().max(1);
        order.rotate_left(first);
        order.sort_by_key(standing);
        order
    }

    /// Asks orderers until one takes the transaction or none is left to ask.
    async fn round<'a>(&'a self, round: &mut Round<'a>, envelope: &'a Envelope) -> Ended {
        loop {
            let now = Instant::now();
            let wait = match round.race.step(now) {
                Step::Over => return Ended::Failed,
                Step::Ask(next) => {
                    self.ask(round, next, envelope);
                    continue;
                }
                Step::Hedge { late, next } => {
                    match self.orderer_health.may_hedge(round.address(late), now) {
                        true => self.ask(round, next, envelope),
                        false => round.race.postponed(now),
                    }
                    continue;
                }
                Step::Wait(until) => until,
            };
            tokio::select! {
                Some((index, attempt)) = round.attempts.next() => {
                    if let Some(ended) = self.note(round, index, attempt) {
                        return ended;
                    }
                }
                () = until(wait) => {}
            }
        }
    }

    fn ask<'a>(&'a self, round: &mut Round<'a>, index: usize, envelope: &'a Envelope) {
        let Some(target) = round.orderers.list.get(index) else {
            return round.race.failed(index, false);
        };
        let now = Instant::now();
        let delay = self.orderer_health.delay(&target.endpoint.address, now);
        round.race.asked(index, now, delay);
        let attempt = async move { (index, self.attempt(target, envelope).await) };
        round.attempts.push(Box::pin(attempt));
    }

    /// Notes what came of an attempt; the end, if it is.
    fn note(&self, round: &mut Round<'_>, index: usize, attempt: Attempt) -> Option<Ended> {
        match attempt {
            Attempt::Accepted => {
                for slower in round.race.overtaken_by(index) {
                    self.orderer_health.overtaken(round.address(slower));
                }
                round.orderers.good.store(index, Ordering::Relaxed);
                Some(Ended::Accepted)
            }
            Attempt::Refused(status) => Some(Ended::Refused(status)),
            Attempt::Failed { detail, soon } => {
                round.race.failed(index, soon);
                round.failed.insert(index, detail);
                None
            }
        }
    }

    /// Any of the orderers may be faulty, so a quorum has to accept.
    async fn submit_to_all(&self, orderers: &Orderers, envelope: &Envelope) -> Result<(), Status> {
        let count = orderers.list.len();
        let quorum = bft_quorum(count);
        let mut attempts: FuturesUnordered<_> =
            orderers.list.iter().map(|target| self.attempt_bft(target, envelope)).collect();
        let mut accepted = 0;
        let mut details = Vec::new();
        let answers = async {
            while let Some(answer) = attempts.next().await {
                match answer {
                    Ok(()) => accepted += 1,
                    Err(detail) => details.push(detail),
                }
                if accepted >= quorum || details.len() > count - quorum {
                    break;
                }
            }
        };
        let _ = timeout(self.options.broadcast_timeout, answers).await;
        if accepted >= quorum {
            // What is queued for the others goes out all the same.
            return Ok(());
        }
        let message = "insufficient number of orderers could successfully process transaction to satisfy quorum requirement";
        Err(with_details(Code::Unavailable, message, &details))
    }

    async fn attempt_bft(&self, target: &Target, envelope: &Envelope) -> Result<(), ErrorDetail> {
        match self.broadcasters.send(&target.endpoint, envelope.clone()).await {
            Ok(answer) if is_success(&answer) || answer.info == ALREADY_THERE => Ok(()),
            Ok(answer) => Err(target.detail(unsuccessful(&answer))),
            Err(error) => Err(target.detail(error.to_string())),
        }
    }

    async fn attempt(&self, target: &Target, envelope: &Envelope) -> Attempt {
        let answer = match self.broadcasters.send(&target.endpoint, envelope.clone()).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(orderer = %target.endpoint.address, %error, "an orderer did not answer");
                return Attempt::Failed { detail: target.detail(error.to_string()), soon: false };
            }
        };
        if is_success(&answer) {
            return Attempt::Accepted;
        }
        let text = unsuccessful(&answer);
        tracing::debug!(orderer = %target.endpoint.address, reason = %text, "an orderer refused");
        // An orderer of the channel that does not have it now says nothing about the transaction.
        let missing = answer.status == i32::from(common::Status::NotFound);
        if (400..500).contains(&answer.status) && !missing {
            return Attempt::Refused(Status::aborted(text));
        }
        let soon = answer.status == i32::from(common::Status::ServiceUnavailable);
        Attempt::Failed { detail: target.detail(text), soon }
    }
}

impl Gate {
    fn new() -> Self {
        Self { shut: watch::Sender::new(false), turn: Semaphore::new(1) }
    }

    /// Waits until the gate is open, or it is this call's turn to try.
    async fn pass(&self) -> Option<SemaphorePermit<'_>> {
        let mut shut = self.shut.subscribe();
        let opened = async { shut.wait_for(|shut| !shut).await.is_ok() };
        let turn = tokio::select! {
            biased;
            _ = opened => return None,
            turn = self.turn.acquire() => turn.ok(),
        };
        sleep(RETRY).await;
        turn
    }

    fn shut(&self) {
        self.shut.send_if_modified(|shut| !std::mem::replace(shut, true));
    }

    fn open(&self) {
        self.shut.send_if_modified(|shut| std::mem::replace(shut, false));
    }
}

impl Round<'_> {
    fn address(&self, index: usize) -> &str {
        self.orderers.list.get(index).map_or("", |target| &target.endpoint.address)
    }
}

impl Target {
    fn detail(&self, message: String) -> ErrorDetail {
        ErrorDetail { address: self.endpoint.address.clone(), msp_id: self.msp_id.clone(), message }
    }
}

fn patience(consensus: &Consensus) -> Duration {
    match consensus {
        Consensus::Raft(raft) => {
            let election = raft.options.tick_interval.saturating_mul(raft.options.election_tick);
            PATIENCE.max(election.saturating_mul(ELECTIONS))
        }
        _ => PATIENCE,
    }
}

fn is_success(answer: &BroadcastResponse) -> bool {
    answer.status == i32::from(common::Status::Success)
}

fn unsuccessful(answer: &BroadcastResponse) -> String {
    let status = common::Status::try_from(answer.status);
    let status = status.map_or_else(|_| answer.status.to_string(), |s| s.as_str_name().to_owned());
    format!("received unsuccessful response from orderer: status={status}, info={}", answer.info)
}

/// The least number of `count` orderers of which any two such sets have a correct one in common.
fn bft_quorum(count: usize) -> usize {
    let faulty = count.saturating_sub(1) / 3;
    (count + faulty + 1).div_ceil(2)
}
