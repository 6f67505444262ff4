//! The ledger's basic types: identifiers, time, blocks, envelopes, proposals and transactions.
//!
//! This crate owns the rules by which bytes become hashes and signatures: what a block's header
//! hash covers, what an endorser signs, how a transaction's id comes about. It parses envelopes,
//! proposals and transactions into values that keep the original bytes beside the decoded form,
//! and builds signed ones. It does not decide whether a signer may do what it signed (the `msp`
//! and `config` crates) and reads neither clock nor random generator: times and nonces come in.

pub mod block;
pub mod channel;
pub mod config;
pub mod envelope;
pub mod msp_id;
pub mod proposal;
pub mod seek;
pub mod signer;
pub mod transaction;
pub mod tx_id;

pub use block::{BlockNumber, TxFilter};
pub use channel::{ChannelId, ChannelIdError};
pub use envelope::{EnvelopeError, ParsedEnvelope, ParsedHeader, ParsedPayload};
pub use msp_id::{MspId, MspIdError};
pub use signer::{NONCE_LEN, Nonce, SignError, Signer};
pub use tx_id::{TxId, TxIdError};
pub use weft_crypto::{Timestamp, TimestampError};
pub use weft_protos::peer::TxValidationCode as ValidationCode;
