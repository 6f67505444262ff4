//! The gRPC service `protos.Endorser` (Fabric: core/endorser/endorser.go).

use std::time::SystemTime;

use tonic::{Request, Response, Status};
use weft_protos::peer::endorser_server;
use weft_protos::peer::{ProposalResponse, SignedProposal};
use weft_rpc::budget;
use weft_types::Timestamp;

use super::Endorser;

#[tonic::async_trait]
impl endorser_server::Endorser for Endorser {
    async fn process_proposal(
        &self,
        request: Request<SignedProposal>,
    ) -> Result<Response<ProposalResponse>, Status> {
        let call = budget::Call::of(&request).cloned();
        let now = Timestamp::from_system_time(SystemTime::now());
        let answer = self.process_call(request.into_inner(), call.as_ref(), now).await?;
        Ok(Response::new(answer))
    }
}
