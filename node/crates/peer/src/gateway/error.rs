//! Statuses as clients of Fabric's gateway know them: a code, a message, and a list of
//! `gateway.ErrorDetail` that says what each node answered (Fabric: internal/pkg/gateway/apiutils.go).

use prost::Message as _;
use tonic::{Code, Status};
use weft_protos::gateway::ErrorDetail;

/// `google.rpc.Status`, which travels in the trailer `grpc-status-details-bin`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

const DETAIL_TYPE: &str = "type.googleapis.com/gateway.ErrorDetail";

/// Bytes of all details at most: they travel in a header, and headers are limited.
const MAX_DETAIL_BYTES: usize = 8 * 1024;
/// Bytes of a detail's message at most.
const MAX_MESSAGE_BYTES: usize = 2 * 1024;

/// A status with details.
#[must_use]
pub fn with_details(code: Code, message: impl Into<String>, details: &[ErrorDetail]) -> Status {
    let message = message.into();
    if details.is_empty() {
        return Status::new(code, message);
    }
    let mut left = MAX_DETAIL_BYTES;
    let mut packed = Vec::with_capacity(details.len());
    for detail in details {
        let value = shortened(detail).encode_to_vec();
        let Some(rest) = left.checked_sub(value.len()) else { break };
        left = rest;
        packed.push(prost_types::Any { type_url: DETAIL_TYPE.to_owned(), value });
    }
    let status = RpcStatus { code: code.into(), message: message.clone(), details: packed };
    Status::with_details(code, message, status.encode_to_vec().into())
}

fn shortened(detail: &ErrorDetail) -> ErrorDetail {
    let mut detail = detail.clone();
    if detail.message.len() > MAX_MESSAGE_BYTES {
        let fits = |at: &usize| detail.message.is_char_boundary(*at);
        let cut = (0..=MAX_MESSAGE_BYTES).rev().find(fits).unwrap_or_default();
        detail.message.truncate(cut);
        detail.message.push('…');
    }
    detail
}

/// The details of a status that [`with_details`] made, or Fabric.
#[must_use]
pub fn details(status: &Status) -> Vec<ErrorDetail> {
    let Ok(status) = RpcStatus::decode(status.details()) else { return Vec::new() };
    let ours = status.details.iter().filter(|any| any.type_url == DETAIL_TYPE);
    ours.filter_map(|any| ErrorDetail::decode(&any.value[..]).ok()).collect()
}
