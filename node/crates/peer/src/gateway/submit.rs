//! `Submit`: hands a transaction to the ordering service (Fabric: internal/pkg/gateway/submit.go).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};
use weft_config::Bundle;
use weft_config::consensus::Consensus;
use weft_protos::common::{self, Envelope};
use weft_protos::gateway::{ErrorDetail, SubmitRequest, SubmitResponse};
use weft_protos::orderer::BroadcastResponse;
use weft_types::ChannelId;

use super::Inner;
use super::error::with_details;
use crate::channel::Channel;
use crate::deliver_client::OrdererEndpoint;

/// How long an ordering service without a leader is given to elect one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Waits in between.
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(1);

/// What a BFT orderer answers that has the transaction already.
const ALREADY_THERE: &str = "failed to submit request: request already exists";

/// The orderers of a channel.
pub(super) struct Orderers {
    config: u64,
    list: Vec<Target>,
    /// The one that took the last transaction.
    good: AtomicUsize,
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
        let submitted = match orderer.consensus {
            Consensus::Bft(_) => self.submit_to_all(&orderers, &envelope).await,
            _ => self.submit_to_one(&orderers, &envelope).await,
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
        let orderers = Arc::new(Orderers { config: bundle.sequence(), list, good });
        cache.insert(channel.id().clone(), Arc::clone(&orderers));
        orderers
    }

    /// One orderer is enough: the last good one, else the next.
    async fn submit_to_one(&self, orderers: &Orderers, envelope: &Envelope) -> Result<(), Status> {
        let begun = Instant::now();
        let mut wait = MIN_WAIT;
        loop {
            let mut details = Vec::new();
            let mut patient = false;
            let good = orderers.good.load(Ordering::Relaxed);
            for turn in 0..orderers.list.len() {
                let index = (good + turn) % orderers.list.len();
                let Some(target) = orderers.list.get(index) else { continue };
                match self.attempt(target, envelope).await {
                    Attempt::Accepted => {
                        if turn > 0 {
                            orderers.good.store(index, Ordering::Relaxed);
                        }
                        return Ok(());
                    }
                    Attempt::Refused(status) => return Err(status),
                    Attempt::Failed { detail, soon } => {
                        details.push(detail);
                        patient |= soon;
                    }
                }
            }
            let left = PATIENCE.min(self.options.broadcast_timeout).checked_sub(begun.elapsed());
            if !patient || left.is_none_or(|left| left < wait) {
                let message = "no orderers could successfully process transaction";
                return Err(with_details(Code::Unavailable, message, &details));
            }
            sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
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
        if (400..500).contains(&answer.status) {
            return Attempt::Refused(Status::aborted(text));
        }
        let soon = answer.status == i32::from(common::Status::ServiceUnavailable);
        Attempt::Failed { detail: target.detail(text), soon }
    }
}

impl Target {
    fn detail(&self, message: String) -> ErrorDetail {
        ErrorDetail { address: self.endpoint.address.clone(), msp_id: self.msp_id.clone(), message }
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
