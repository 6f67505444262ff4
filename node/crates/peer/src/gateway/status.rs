//! `CommitStatus` (Fabric: internal/pkg/gateway/commitstatus.go).

use std::time::SystemTime;

use tonic::{Code, Status};
use weft_msp::policy::SignedData;
use weft_protos::ext::decode_bounded;
use weft_protos::gateway::{CommitStatusRequest, CommitStatusResponse, SignedCommitStatusRequest};
use weft_types::Timestamp;

use super::Inner;
use super::admission::Door;
use crate::acl::GATEWAY_COMMIT_STATUS;
use crate::channel::{Channel, StatusError, report};

impl Inner {
    pub(super) async fn commit_status(
        &self,
        signed: SignedCommitStatusRequest,
        door: &Door<'_>,
    ) -> Result<CommitStatusResponse, Status> {
        if signed.request.is_empty() {
            return Err(Status::invalid_argument("a commit status request is required"));
        }
        let request: CommitStatusRequest =
            decode_bounded("commit status request", signed.request.clone()).map_err(|error| {
                Status::invalid_argument(format!("invalid status request: {}", error.source))
            })?;
        let missing = match () {
            () if request.identity.is_empty() => Some("no identity provided"),
            () if request.channel_id.is_empty() => Some("no channel ID provided"),
            () if request.transaction_id.is_empty() => Some("transaction ID should not be empty"),
            () => None,
        };
        if let Some(missing) = missing {
            return Err(Status::invalid_argument(missing));
        }
        // Who may not know of a channel is not told whether it exists.
        let channel = self.channel(&request.channel_id).map_err(Status::permission_denied)?;
        let signed = SignedData {
            data: signed.request,
            identity: request.identity,
            signature: signed.signature,
        };
        self.check(&channel, GATEWAY_COMMIT_STATUS, &signed)?;
        let _slot = door.enter(Some(&signed.identity))?;
        let status = tokio::select! {
            status = channel.commit_status(&request.transaction_id) => status,
            () = self.deps.shutdown.cancelled() => Err(StatusError::Closed),
        };
        let status = status.map_err(|error| {
            let code = match error {
                StatusError::Busy { .. } => Code::ResourceExhausted,
                StatusError::Closed => Code::Unavailable,
                StatusError::Stopped(_) | StatusError::Ledger(_) => Code::Aborted,
            };
            Status::new(code, report(&error))
        })?;
        Ok(CommitStatusResponse { result: status.code.into(), block_number: status.block })
    }

    /// Checks that whoever signed may use a resource of the channel.
    pub(super) fn check(
        &self,
        channel: &Channel,
        resource: &str,
        signed: &SignedData,
    ) -> Result<(), Status> {
        let now = Timestamp::from_system_time(SystemTime::now());
        let checked = self.deps.acl.check(&channel.bundle(), resource, signed, now);
        checked.map_err(|error| Status::permission_denied(error.to_string()))
    }
}
