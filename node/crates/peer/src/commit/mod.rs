//! From a received block to a committed one.
//!
//! # The order of checks
//!
//! Fabric: core/common/validation/msgvalidation.go, core/committer/txvalidator/v20 and below it,
//! core/ledger/kvledger/txmgmt/validation. The first check that fails gives the code.
//!
//! | Check | Code | Where |
//! | --- | --- | --- |
//! | the envelope can be decoded | INVALID_OTHER_REASON | [`transaction`] |
//! | it has a payload | BAD_PAYLOAD, BAD_COMMON_HEADER | |
//! | headers: type, epoch 0, nonce, creator | BAD_COMMON_HEADER | |
//! | creator known, valid, and its signature | BAD_CREATOR_SIGNATURE | |
//! | an endorsed transaction or a configuration | UNSUPPORTED_TX_PAYLOAD | |
//! | the id is of nonce and creator | BAD_PROPOSAL_TXID | |
//! | one action whose proposal hash matches | INVALID_ENDORSER_TRANSACTION | |
//! | the channel is this one | TARGET_CHAIN_NOT_FOUND | |
//! | the id is new to the chain | DUPLICATE_TXID | [`validate`] |
//! | header extension, response payload, read-write set | BAD_HEADER_EXTENSION, BAD_RESPONSE_PAYLOAD, BAD_RWSET | [`transaction`] |
//! | chaincode named, and the same in header and action, with a version | INVALID_OTHER_REASON, INVALID_CHAINCODE | |
//! | the event is the chaincode's | INVALID_OTHER_REASON | |
//! | no namespace twice | ILLEGAL_WRITESET | |
//! | what is written to is defined | INVALID_CHAINCODE | [`endorsement`] |
//! | endorsement policies | ENDORSEMENT_POLICY_FAILURE | |
//! | the id is new to the block | DUPLICATE_TXID | [`validate`] |
//! | reads are as they were | MVCC_READ_CONFLICT, PHANTOM_READ_CONFLICT | [`weft_ledger::mvcc`] |
//!
//! That the channel is checked at all is a difference: Fabric looks up the creator in the MSPs of
//! whatever channel the header names. A configuration beside other transactions is
//! INVALID_CONFIG_TRANSACTION here; orderers never make such blocks. Nothing depends on the time of
//! validation (see [`transaction::check`]), nor on anything but the chain before the block, so all
//! honest peers agree.
//!
//! # The pipeline
//!
//! Three threads a channel, so that the signatures of block n+2, the versions of block n+1 and the
//! write of block n go on at once ([`pipeline`]); signatures are spread over all cores by the
//! [`pool`] that all channels share. What a block writes to collections is looked for in the
//! transient store ([`private`]), then asked of other members, for which the writing stage waits a
//! while at most. A block, its state, history and indexes are one write, so that
//! there is always a whole number of blocks, wherever the process is killed.

pub mod endorsement;
pub(crate) mod members;
pub mod metrics;
pub mod pipeline;
mod plan;
pub mod pool;
mod preload;
pub mod private;
pub(crate) mod recent;
pub mod transaction;
pub mod validate;
mod values;

pub use metrics::CommitMetrics;
pub use pool::{Pool, PoolError};
