//! What can go wrong between a client and a node.

use prost::Message;
use weft_protos::common::Status as BroadcastStatus;
use weft_protos::gateway::ErrorDetail;
use weft_rpc::connect::ConnectError;
use weft_types::transaction::AssembleError;
use weft_types::{SignError, TxId, ValidationCode};

/// A call that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection cannot be set up.
    #[error("failed to connect to {node}")]
    Connect {
        /// Its address.
        node: String,
        /// Why.
        #[source]
        source: Box<ConnectError>,
    },
    /// The node answered a call with an error, or not at all.
    #[error("{node}: {method}: {}", rpc_message(.status, .endorsers))]
    Rpc {
        /// The node's address.
        node: String,
        /// The call.
        method: &'static str,
        /// What the node said.
        status: Box<tonic::Status>,
        /// What each endorser said, when the Gateway asked several.
        endorsers: Vec<EndorserError>,
    },
    /// An endorser refused a proposal.
    #[error("{node}: {chaincode}: status {status}: {message}")]
    Proposal {
        /// The endorser's address.
        node: String,
        /// The chaincode, and the function for system chaincodes.
        chaincode: String,
        /// Its status; 500 for errors.
        status: i32,
        /// Its message.
        message: String,
    },
    /// An orderer did not take an envelope.
    #[error("{node}: broadcast: {}: {info}", status.as_str_name())]
    Broadcast {
        /// The orderer's address.
        node: String,
        /// Its status.
        status: BroadcastStatus,
        /// Its message.
        info: String,
    },
    /// A Deliver stream ended with a status instead of the block.
    #[error("{node}: deliver: {}", status.as_str_name())]
    Deliver {
        /// The node's address.
        node: String,
        /// The status.
        status: BroadcastStatus,
    },
    /// A transaction was committed as invalid.
    #[error("transaction {tx_id} is in block {block} and invalid: {}", code.as_str_name())]
    Invalid {
        /// The transaction.
        tx_id: TxId,
        /// The block.
        block: u64,
        /// Why.
        code: ValidationCode,
    },
    /// The participation API refused.
    #[error("{node}: participation: HTTP {status}: {message}")]
    Participation {
        /// The orderer's address.
        node: String,
        /// The HTTP status.
        status: u16,
        /// The API's message.
        message: String,
    },
    /// The participation API could not be reached.
    #[error("failed to reach the participation API of {node}")]
    Https {
        /// The orderer's address.
        node: String,
        /// Why.
        #[source]
        source: Box<weft_rpc::https::ClientError>,
    },
    /// A request could not be signed.
    #[error("failed to sign a request")]
    Sign(#[source] SignError),
    /// A nonce could not be drawn.
    #[error("failed to draw a nonce")]
    Nonce(#[source] weft_crypto::RandomError),
    /// Endorsements do not make a transaction.
    #[error("failed to make a transaction of the endorsements")]
    Assemble(#[source] AssembleError),
    /// The node sent something that cannot be decoded.
    #[error("failed to read the answer of {node}: {what}")]
    Answer {
        /// The node's address.
        node: String,
        /// What was wrong with it.
        what: String,
    },
    /// Too little time.
    #[error("{node}: {what} took longer than {seconds} s")]
    Timeout {
        /// The node's address.
        node: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
}

/// What one endorser said to the Gateway (Fabric: `gateway/gateway.proto`, `ErrorDetail`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndorserError {
    /// Its address.
    pub address: String,
    /// Its organization.
    pub msp_id: String,
    /// Its message.
    pub message: String,
}

/// `google.rpc.Status` (google/rpc/status.proto), which carries the details of a gRPC error.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

impl ClientError {
    pub(crate) fn rpc(node: &str, method: &'static str, status: tonic::Status) -> ClientError {
        let endorsers = endorser_errors(&status);
        ClientError::Rpc { node: node.to_owned(), method, status: Box::new(status), endorsers }
    }

    pub(crate) fn answer(node: &str, what: impl ToString) -> ClientError {
        ClientError::Answer { node: node.to_owned(), what: what.to_string() }
    }

    /// Whether the same call may do better a little later: the node is starting, electing a
    /// leader, or cannot be reached.
    pub fn can_retry(&self) -> bool {
        match self {
            ClientError::Connect { source, .. } => source.is_transient(),
            ClientError::Rpc { status, .. } => {
                matches!(status.code(), tonic::Code::Unavailable | tonic::Code::ResourceExhausted)
            }
            ClientError::Broadcast { status, .. } | ClientError::Deliver { status, .. } => {
                matches!(status, BroadcastStatus::ServiceUnavailable | BroadcastStatus::NotFound)
            }
            ClientError::Https { source, .. } => source.is_transient(),
            ClientError::Participation { status, .. } => *status == 503,
            ClientError::Timeout { .. } => true,
            _ => false,
        }
    }
}

fn endorser_errors(status: &tonic::Status) -> Vec<EndorserError> {
    let Ok(decoded) = RpcStatus::decode(status.details()) else { return Vec::new() };
    decoded
        .details
        .iter()
        .filter(|any| any.type_url.ends_with("gateway.ErrorDetail"))
        .filter_map(|any| ErrorDetail::decode(any.value.as_slice()).ok())
        .map(|detail| EndorserError {
            address: detail.address,
            msp_id: detail.msp_id,
            message: detail.message,
        })
        .collect()
}

/// What the node said, then what each endorser said on a line of its own, unless the node's own
/// words hold it already.
fn rpc_message(status: &tonic::Status, endorsers: &[EndorserError]) -> String {
    let mut text = match ConnectError::of_status(status) {
        Some(connect) => connect.to_string(),
        None => format!("{}: {}", status.code().description(), status.message()),
    };
    for EndorserError { address, msp_id, message } in endorsers {
        if !text.contains(message.as_str()) {
            text.push_str(&format!("\n  {address} ({msp_id}): {message}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: &str, endorsers: &[(&str, &str)]) -> String {
        let endorsers: Vec<_> = endorsers
            .iter()
            .map(|(address, message)| EndorserError {
                address: (*address).to_owned(),
                msp_id: "Org1MSP".to_owned(),
                message: (*message).to_owned(),
            })
            .collect();
        rpc_message(&tonic::Status::aborted(message), &endorsers)
    }

    #[test]
    fn each_endorser_is_told_once() {
        let several = failed("failed to endorse", &[("a:1", "no such asset"), ("b:1", "timeout")]);
        let lines: Vec<_> = several.lines().collect();
        assert_eq!(lines[1..], ["  a:1 (Org1MSP): no such asset", "  b:1 (Org1MSP): timeout"]);
        let one = failed("chaincode response 500, no such asset", &[("a:1", "no such asset")]);
        assert_eq!(one.lines().count(), 1);
    }

    #[test]
    fn details_are_read_from_the_status() {
        let detail = ErrorDetail {
            address: "a:1".to_owned(),
            msp_id: "Org1MSP".to_owned(),
            message: "no".to_owned(),
        };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/gateway.ErrorDetail".to_owned(),
            value: detail.encode_to_vec(),
        };
        let details = RpcStatus { code: 10, message: "m".to_owned(), details: vec![any] };
        let status =
            tonic::Status::with_details(tonic::Code::Aborted, "m", details.encode_to_vec().into());
        let ClientError::Rpc { endorsers, .. } = ClientError::rpc("n", "endorse", status) else {
            panic!("another error");
        };
        assert_eq!(endorsers[0].address, "a:1");
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let broadcast =
            |status| ClientError::Broadcast { node: String::new(), status, info: String::new() };
        assert!(broadcast(BroadcastStatus::ServiceUnavailable).can_retry());
        assert!(!broadcast(BroadcastStatus::Forbidden).can_retry());
        let rpc = |status| ClientError::rpc("n", "m", status);
        assert!(rpc(tonic::Status::unavailable("")).can_retry());
        assert!(!rpc(tonic::Status::aborted("")).can_retry());
    }
}
