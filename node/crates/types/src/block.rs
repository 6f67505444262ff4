//! Blocks: hashes, links, and the check that a block's bytes can be cut in one way only.
//!
//! The header's hash covers the DER encoding of SEQUENCE { INTEGER number, OCTET STRING previous
//! hash, OCTET STRING data hash }; the data hash covers the concatenated transactions
//! (Fabric: protoutil/blockutils.go). Metadata is outside of both: see [`metadata`].

pub mod filter;
pub mod metadata;

use bytes::Bytes;
use prost::Message as _;
use weft_crypto::{der, sha256, sha256_parts};
use weft_protos::{
    common::{Block, BlockData, BlockHeader, BlockMetadata, Envelope, HeaderType},
    ext::decode,
};

use crate::envelope::ParsedPayload;

pub use filter::{FilterError, TxFilter};

/// A block's place in its channel; the genesis block is 0.
pub type BlockNumber = u64;

/// How many metadata slots a block has.
pub const METADATA_SLOTS: usize = 5;

/// A block that is not sound in itself or does not continue its predecessor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A part is missing.
    #[error("failed to check a block: it has no {part}")]
    Missing {
        /// `header`, `data` or `metadata`.
        part: &'static str,
    },
    /// No transaction.
    #[error("failed to check block {number}: it has no transaction")]
    Empty {
        /// The block's number.
        number: BlockNumber,
    },
    /// The data is not what the header says.
    #[error("failed to check block {number}: the data's hash is not the header's")]
    DataHash {
        /// The block's number.
        number: BlockNumber,
    },
    /// A transaction's bytes are not those that its envelope encodes to.
    #[error("failed to check block {number}: transaction {index} {reason}")]
    Transaction {
        /// The block's number.
        number: BlockNumber,
        /// The transaction's place in the block.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The number is not the next one.
    #[error("failed to link block {number}: block {expected} is next")]
    Number {
        /// The block's number.
        number: BlockNumber,
        /// The number that was due.
        expected: BlockNumber,
    },
    /// The block names another predecessor.
    #[error("failed to link block {number}: it names another predecessor")]
    PreviousHash {
        /// The block's number.
        number: BlockNumber,
    },
}

/// A block of `data` (encoded envelopes in order) that follows the block whose header hash is
/// `previous_hash`, with empty metadata slots.
#[must_use]
pub fn new(number: BlockNumber, previous_hash: Bytes, data: Vec<Bytes>) -> Block {
    let data_hash = Bytes::copy_from_slice(&data_hash(&data));
    Block {
        header: Some(BlockHeader { number, previous_hash, data_hash }),
        data: Some(BlockData { data }),
        metadata: Some(BlockMetadata { metadata: vec![Bytes::new(); METADATA_SLOTS] }),
    }
}

/// The bytes of a header that are hashed and signed: DER, whatever the block's own encoding is.
#[must_use]
pub fn header_bytes(header: &BlockHeader) -> Vec<u8> {
    der::sequence([
        der::integer(header.number),
        der::octet_string(&header.previous_hash),
        der::octet_string(&header.data_hash),
    ])
}

/// The hash by which the next block names this one.
#[must_use]
pub fn header_hash(header: &BlockHeader) -> [u8; 32] {
    sha256(&header_bytes(header))
}

/// The hash of a block's transactions.
#[must_use]
pub fn data_hash(data: &[Bytes]) -> [u8; 32] {
    sha256_parts(data)
}

/// The block's header.
///
/// # Errors
/// [`BlockError::Missing`].
pub fn header(block: &Block) -> Result<&BlockHeader, BlockError> {
    block.header.as_ref().ok_or(BlockError::Missing { part: "header" })
}

/// The block's transactions; an absent list is empty.
#[must_use]
pub fn transactions(block: &Block) -> &[Bytes] {
    block.data.as_ref().map_or(&[], |data| &data.data)
}

/// Checks that a block is sound in itself: header and data are there, the data's hash is the
/// header's, and the transactions are well formed ([`check_transactions`]).
///
/// # Errors
/// [`BlockError`] naming the first check that failed.
pub fn check(block: &Block) -> Result<(), BlockError> {
    let header = header(block)?;
    let data = block.data.as_ref().ok_or(BlockError::Missing { part: "data" })?;
    if data_hash(&data.data) != *header.data_hash {
        return Err(BlockError::DataHash { number: header.number });
    }
    check_transactions(header.number, &data.data)
}

/// Checks that a block continues the one with header `previous`.
///
/// # Errors
/// [`BlockError::Number`] or [`BlockError::PreviousHash`].
pub fn check_link(previous: &BlockHeader, next: &BlockHeader) -> Result<(), BlockError> {
    let number = next.number;
    // No block follows the last number that there is.
    let expected = previous.number.checked_add(1).unwrap_or(previous.number);
    if previous.number == BlockNumber::MAX || number != expected {
        return Err(BlockError::Number { number, expected });
    }
    if header_hash(previous) != *next.previous_hash {
        return Err(BlockError::PreviousHash { number });
    }
    Ok(())
}

/// Checks that every transaction is exactly the bytes that its envelope encodes to, and carries a
/// payload and a signature (Fabric: protoutil/blockutils.go; CVE-2023-46132).
///
/// The data hash covers the concatenation of the transactions, so without this rule the same hash
/// would cover the same bytes cut elsewhere, and two peers could hold different transactions
/// under one hash. A block of a single configuration transaction is exempt, because it cannot be
/// cut otherwise; the genesis block's envelope has no signature.
///
/// # Errors
/// [`BlockError::Empty`] or [`BlockError::Transaction`].
pub fn check_transactions(number: BlockNumber, data: &[Bytes]) -> Result<(), BlockError> {
    if data.is_empty() {
        return Err(BlockError::Empty { number });
    }
    if is_config(data) {
        return Ok(());
    }
    for (index, raw) in data.iter().enumerate() {
        check_envelope(raw).map_err(|reason| BlockError::Transaction { number, index, reason })?;
    }
    Ok(())
}

fn check_envelope(raw: &Bytes) -> Result<(), &'static str> {
    let envelope: Envelope =
        decode("envelope", raw.clone()).map_err(|_| "is not an encoded envelope")?;
    if envelope.payload.is_empty() {
        return Err("has no payload");
    }
    if envelope.signature.is_empty() {
        return Err("has no signature");
    }
    if envelope.encoded_len() != raw.len() || envelope.encode_to_vec() != *raw {
        return Err("is not the bytes that its envelope encodes to");
    }
    Ok(())
}

/// Whether a block's transactions are one configuration transaction.
#[must_use]
pub fn is_config(data: &[Bytes]) -> bool {
    let [only] = data else {
        return false;
    };
    let payload = decode::<Envelope>("envelope", only.clone())
        .ok()
        .and_then(|envelope| ParsedPayload::parse(envelope.payload).ok());
    payload.is_some_and(|payload| payload.header.header_type() == Some(HeaderType::Config))
}

/// The hash that chains what blocks did to the state: over the filter's length as a varint, the
/// filter, the encoded updates and the previous commit hash (empty for the first block)
/// (Fabric: core/ledger/kvledger/kv_ledger.go).
#[must_use]
pub fn commit_hash(filter: &TxFilter, updates: &[u8], previous: &[u8]) -> [u8; 32] {
    let mut length = Vec::with_capacity(10);
    prost::encoding::encode_varint(filter.len() as u64, &mut length);
    sha256_parts([length.as_slice(), filter.as_bytes(), updates, previous])
}
