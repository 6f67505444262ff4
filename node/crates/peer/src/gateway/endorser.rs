//! Peers as the gateway calls them: this one in process, others over gRPC.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};
use tonic::Code;
use weft_protos::gateway::ErrorDetail;
use weft_protos::peer::endorser_client::EndorserClient;
use weft_protos::peer::{ProposalResponse, SignedProposal};

use super::Inner;
use super::broadcast::until;
use super::hedge::{Race, Step};
use crate::channel::Channel;
use crate::endorser::{Endorser, EndorserError};
use crate::membership::Member;

/// The endorser of this peer.
#[tonic::async_trait]
pub trait LocalEndorser: Send + Sync + 'static {
    /// Answers a proposal.
    ///
    /// # Errors
    /// [`LocalRefusal`] for a proposal that is not acceptable.
    async fn process(&self, proposal: SignedProposal) -> Result<ProposalResponse, LocalRefusal>;
}

/// This peer's endorser refuses a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRefusal {
    /// Why.
    pub message: String,
    /// Whether another peer may take it.
    pub retry: bool,
}

#[tonic::async_trait]
impl LocalEndorser for Endorser {
    async fn process(&self, proposal: SignedProposal) -> Result<ProposalResponse, LocalRefusal> {
        Endorser::process(self, proposal).await.map_err(|error| LocalRefusal {
            retry: matches!(error, EndorserError::Busy { .. } | EndorserError::Ledger(_)),
            message: error.to_string(),
        })
    }
}

/// An endorsement that did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code for the client.
    pub code: Code,
    /// What the peer said.
    pub message: String,
    /// Whether another peer may do better.
    pub retry: bool,
}

/// What in a peer's answer says that its chaincode went away while it worked.
pub(super) fn judge(response: ProposalResponse) -> Result<ProposalResponse, Failure> {
    let (status, message) = match &response.response {
        Some(answer) => (answer.status, answer.message.as_str()),
        None => (0, "the response is empty"),
    };
    if (200..400).contains(&status) {
        return Ok(response);
    }
    if response.payload.is_empty() && (status == 500 || response.response.is_none()) {
        // The peer's own error, not the chaincode's.
        return Err(Failure { code: Code::Aborted, message: message.to_owned(), retry: true });
    }
    let message = format!("chaincode response {status}, {message}");
    Err(Failure { code: Code::Unknown, message, retry: false })
}

impl Inner {
    /// The first answer of some peers, and whose it is. The next one is asked when one fails, or also
    /// when it takes longer than usual. A failure that `is_final` accepts ends it. Else the failures
    /// of all, in order.
    pub(super) async fn propose_to_any(
        &self,
        channel: &Channel,
        peers: &[Arc<Member>],
        proposal: &SignedProposal,
        is_final: impl Fn(&Failure) -> bool,
    ) -> Result<(Arc<Member>, ProposalResponse), Vec<(Arc<Member>, Failure)>> {
        self.endorser_health.earn();
        let mut race = Race::new((0..peers.len()).collect());
        let mut asked = FuturesUnordered::new();
        let mut failures = Vec::new();
        loop {
            let now = Instant::now();
            let (next, wait) = match race.step(now) {
                Step::Over => return Err(failures),
                Step::Ask(next) => (Some(next), None),
                Step::Hedge { late, next } => {
                    let late = peers.get(late).map_or("", |peer| &peer.endpoint);
                    let allowed = self.endorser_health.may_hedge(late, now);
                    if !allowed {
                        race.postponed(now);
                    }
                    (allowed.then_some(next), Some(now))
                }
                Step::Wait(until) => (None, until),
            };
            if let Some((index, peer)) = next.and_then(|next| Some((next, peers.get(next)?))) {
                race.asked(index, now, self.endorser_health.delay(&peer.endpoint, now));
                asked.push(
                    async move { (index, peer, self.propose(channel, peer, proposal).await) },
                );
                continue;
            }
            let answer = tokio::select! {
                Some(answer) = asked.next() => answer,
                () = until(wait) => continue,
            };
            match answer {
                (index, peer, Ok(response)) => {
                    self.note_overtaken(&race, index, peers);
                    return Ok((Arc::clone(peer), response));
                }
                (index, peer, Err(failure)) => {
                    tracing::debug!(
                        endpoint = %peer.endpoint, reason = %failure.message,
                        "a peer did not answer a proposal"
                    );
                    race.failed(index, false);
                    let ends = is_final(&failure);
                    failures.push((Arc::clone(peer), failure));
                    if ends {
                        return Err(failures);
                    }
                }
            }
        }
    }

    fn note_overtaken(&self, race: &Race, winner: usize, peers: &[Arc<Member>]) {
        for slower in race.overtaken_by(winner).filter_map(|index| peers.get(index)) {
            self.endorser_health.overtaken(&slower.endpoint);
        }
    }

    /// Has a peer answer a proposal.
    pub(super) async fn propose(
        &self,
        channel: &Channel,
        peer: &Member,
        proposal: &SignedProposal,
    ) -> Result<ProposalResponse, Failure> {
        let limit = self.options.endorsement_timeout;
        let asked = self.endorser_health.ask(&peer.endpoint);
        let answer = async {
            match peer.is_self {
                true => Ok(self.propose_here(proposal).await),
                false => self.propose_to(channel, peer, proposal).await,
            }
        };
        match timeout(limit, answer).await.unwrap_or_else(|_| Err(late(limit))) {
            Ok(answer) => {
                asked.answered();
                answer
            }
            Err(lost) => {
                asked.failed();
                Err(unavailable(lost))
            }
        }
    }

    async fn propose_here(&self, proposal: &SignedProposal) -> Result<ProposalResponse, Failure> {
        match self.deps.endorser.process(proposal.clone()).await {
            Ok(response) => judge(response),
            Err(LocalRefusal { message, retry: true }) => Err(unavailable(message)),
            Err(LocalRefusal { message, retry: false }) => {
                Err(Failure { code: Code::FailedPrecondition, message, retry: false })
            }
        }
    }

    /// What a peer answers, or that it did not.
    async fn propose_to(
        &self,
        channel: &Channel,
        peer: &Member,
        proposal: &SignedProposal,
    ) -> Result<Result<ProposalResponse, Failure>, String> {
        let endpoint = self.peer_endpoint(channel, peer);
        let transport = self.deps.pool.get(&endpoint).map_err(|error| error.to_string())?;
        let limit = self.options.max_message_bytes;
        let mut client = EndorserClient::new(transport)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        match client.process_proposal(proposal.clone()).await {
            Ok(response) => Ok(judge(response.into_inner())),
            // A status that comes from the other side has no cause here.
            Err(status) if status.source().is_none() => Ok(Err(unavailable(describe(&status)))),
            Err(status) => Err(describe(&status)),
        }
    }
}

fn late(limit: Duration) -> String {
    format!("rpc error: code = DeadlineExceeded desc = no answer in {} s", limit.as_secs())
}

fn unavailable(message: String) -> Failure {
    Failure { code: Code::Unavailable, message, retry: true }
}

/// A status in the words of Fabric's peers.
pub(super) fn describe(status: &tonic::Status) -> String {
    let cause = weft_rpc::connect::ConnectError::of_status(status);
    let text = cause.map_or_else(|| status.message().to_owned(), ToString::to_string);
    format!("rpc error: code = {:?} desc = {text}", status.code())
}

/// What a peer answered, for the client.
pub(super) fn detail(peer: &Arc<Member>, message: impl Into<String>) -> ErrorDetail {
    ErrorDetail {
        address: peer.endpoint.clone(),
        msp_id: peer.identity.claimed_msp_id().to_string(),
        message: message.into(),
    }
}
