//! `Evaluate`: one peer's answer (Fabric: internal/pkg/gateway/evaluate.go).

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Code, Status};
use weft_protos::ext::{DecodeError, decode};
use weft_protos::gateway::{EvaluateRequest, EvaluateResponse};
use weft_protos::peer::{ChaincodeAction, ProposalResponse, ProposalResponsePayload};

use super::Inner;
use super::endorser::detail;
use super::error::with_details;
use super::request::Call;
use super::selection::Candidates;
use crate::membership::Member;

impl Inner {
    pub(super) async fn evaluate(
        &self,
        request: EvaluateRequest,
    ) -> Result<EvaluateResponse, Status> {
        let proposal = request.proposed_transaction.unwrap_or_default();
        let call = Call::read(&proposal).map_err(|error| {
            Status::invalid_argument(format!("failed to unpack transaction proposal: {error}"))
        })?;
        let channel = self.channel(&call.channel).map_err(Status::unavailable)?;
        // Transient data stays in the organization unless the client says otherwise.
        let protect = call.has_transient && request.target_organizations.is_empty();
        let own = [self.deps.acl.msp_id().to_string()];
        let targets = if protect { &own[..] } else { &request.target_organizations[..] };
        let candidates = self.candidates(&channel, &call.chaincode);
        let peers = self.evaluators(candidates, targets).ok_or_else(|| {
            let none = format!(
                "no peers available to evaluate chaincode {} in channel {}",
                call.chaincode, call.channel
            );
            Status::failed_precondition(match protect {
                true => format!(
                    "no endorsers found in the gateway's organization; retry specifying target organization(s) to protect transient data: {none}"
                ),
                false => none,
            })
        })?;
        let failures = match self
            .propose_to_any(&channel, &peers, &proposal, |failure| !failure.retry)
            .await
        {
            Ok((_, response)) => return Ok(evaluated(response)),
            Err(failures) => failures,
        };
        let last = failures.last().map(|(_, failure)| failure);
        let message = match last.filter(|failure| !failure.retry) {
            Some(failure) => {
                format!("evaluate call to endorser returned error: {}", failure.message)
            }
            None => "failed to evaluate transaction, see attached details for more info".to_owned(),
        };
        let code = last.map_or(Code::Unavailable, |failure| failure.code);
        let details: Vec<_> =
            failures.iter().map(|(peer, failure)| detail(peer, failure.message.clone())).collect();
        Err(with_details(code, message, &details))
    }

    /// The peers to ask, the own organization's first, by height.
    fn evaluators(&self, candidates: Candidates, targets: &[String]) -> Option<Vec<Arc<Member>>> {
        let own = self.deps.acl.msp_id().as_str();
        let allowed = |org: &str| targets.is_empty() || targets.iter().any(|target| target == org);
        let (near, far): (Vec<_>, Vec<_>) = self
            .healthy_first(candidates.into_sorted(self.turn()))
            .into_iter()
            .filter(|peer| allowed(peer.identity.claimed_msp_id().as_str()))
            .partition(|peer| peer.identity.claimed_msp_id().as_str() == own);
        let peers: Vec<_> = near.into_iter().chain(far).collect();
        (!peers.is_empty()).then_some(peers)
    }
}

/// The result as the transaction would hold it, else as the response does.
fn evaluated(response: ProposalResponse) -> EvaluateResponse {
    let payload = response.payload;
    let mut result = response.response.unwrap_or_default();
    if let Ok(Some(transaction_result)) = transaction_result(payload) {
        result.payload = transaction_result;
    }
    EvaluateResponse { result: Some(result) }
}

fn transaction_result(payload: Bytes) -> Result<Option<Bytes>, DecodeError> {
    let payload: ProposalResponsePayload = decode("proposal response payload", payload)?;
    let action: ChaincodeAction = decode("chaincode action", payload.extension)?;
    Ok(action.response.map(|response| response.payload))
}
