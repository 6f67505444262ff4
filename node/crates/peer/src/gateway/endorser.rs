//! Peers as the gateway calls them: this one in process, others over gRPC.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;
use weft_protos::gateway::ErrorDetail;
use weft_protos::peer::endorser_client::EndorserClient;
use weft_protos::peer::{ProposalResponse, SignedProposal};

use super::Inner;
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
    /// Has a peer answer a proposal.
    pub(super) async fn propose(
        &self,
        channel: &Channel,
        peer: &Member,
        proposal: &SignedProposal,
    ) -> Result<ProposalResponse, Failure> {
        let limit = self.options.endorsement_timeout;
        let answer = async {
            match peer.is_self {
                true => self.propose_here(proposal).await,
                false => self.propose_to(channel, peer, proposal).await,
            }
        };
        timeout(limit, answer).await.unwrap_or_else(|_| Err(unavailable(late(limit))))
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

    async fn propose_to(
        &self,
        channel: &Channel,
        peer: &Member,
        proposal: &SignedProposal,
    ) -> Result<ProposalResponse, Failure> {
        let endpoint = self.peer_endpoint(channel, peer);
        let transport = self.deps.pool.get(&endpoint);
        let transport = transport.map_err(|error| unavailable(error.to_string()))?;
        let limit = self.options.max_message_bytes;
        let mut client = EndorserClient::new(transport)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        match client.process_proposal(proposal.clone()).await {
            Ok(response) => judge(response.into_inner()),
            Err(status) => Err(unavailable(describe(&status))),
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
