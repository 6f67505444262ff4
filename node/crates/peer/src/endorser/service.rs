//! The gRPC service `protos.Endorser` (Fabric: core/endorser/endorser.go).

use tonic::{Request, Response, Status};
use weft_protos::peer::endorser_server;
use weft_protos::peer::{ProposalResponse, SignedProposal};

use super::Endorser;

#[tonic::async_trait]
impl endorser_server::Endorser for Endorser {
    async fn process_proposal(
        &self,
        request: Request<SignedProposal>,
    ) -> Result<Response<ProposalResponse>, Status> {
        Ok(Response::new(self.process(request.into_inner()).await?))
    }
}
