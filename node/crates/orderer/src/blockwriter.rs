//! The block of an ordered entry, and its signature (Fabric:
//! `orderer/common/multichannel/blockwriter.go`). Pure.

use bytes::Bytes;
use prost::Message as _;
use weft_consensus::{Delivered, Membership};
use weft_protos::common::Block;
use weft_protos::etcdraft::BlockMetadata;
use weft_protos::ext::decode;
use weft_types::block::metadata::{self, MetadataError, OrdererMetadata};
use weft_types::{BlockNumber, Nonce, Signer, block};

/// The place that a block takes in its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Hash of the header of the block before it.
    pub previous_hash: Bytes,
    /// The newest config block before it.
    pub last_config: BlockNumber,
}

/// A block to be signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsigned {
    /// Header and data are final, and so is the header's hash.
    pub block: Block,
    /// What is said of it under the signature.
    pub metadata: OrdererMetadata,
}

impl Unsigned {
    /// The block with `signer`'s signature.
    ///
    /// # Errors
    /// [`MetadataError::Sign`] when the key cannot be used.
    pub fn sign(self, signer: &dyn Signer, nonce: Nonce) -> Result<Block, MetadataError> {
        let Self { mut block, metadata } = self;
        metadata::sign(&mut block, &metadata, signer, nonce)?;
        Ok(block)
    }
}

/// The block that `delivered` becomes.
#[must_use]
pub fn block(delivered: &Delivered, place: Place) -> Unsigned {
    let config = delivered.entry.is_config();
    let last_config = if config { delivered.number } else { place.last_config };
    let envelopes = delivered.entry.envelopes.clone();
    let block = block::new(delivered.number, place.previous_hash, envelopes);
    let said = engine_metadata(&delivered.membership, delivered.index).encode_to_vec();
    Unsigned { block, metadata: OrdererMetadata::wrapping(last_config, said.into()) }
}

/// What a block says of the engine that ordered it.
#[must_use]
pub fn engine_metadata(membership: &Membership, raft_index: u64) -> BlockMetadata {
    BlockMetadata {
        consenter_ids: membership.ids().collect(),
        next_consenter_id: membership.next_id(),
        raft_index,
    }
}

/// What a block says of the engine; `None` for a genesis block, which says nothing.
///
/// # Errors
/// [`MetadataError`] when the metadata cannot be read.
pub fn read_engine_metadata(block: &Block) -> Result<Option<BlockMetadata>, MetadataError> {
    let said = metadata::orderer_metadata(block)?.wrapped()?;
    if said.is_empty() {
        return Ok(None);
    }
    let said = decode("consenter metadata", said)
        .map_err(|source| MetadataError::Decode { slot: "SIGNATURES", source })?;
    Ok(Some(said))
}
