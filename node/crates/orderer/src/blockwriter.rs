//! The block of an ordered entry (Fabric: `orderer/common/multichannel/blockwriter.go`). Pure.

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

/// The block that `delivered` becomes, signed by `signer`.
///
/// # Errors
/// [`MetadataError::Sign`] when the key cannot be used.
pub fn block(
    delivered: &Delivered,
    place: Place,
    signer: &dyn Signer,
    nonce: Nonce,
) -> Result<Block, MetadataError> {
    let config = delivered.entry.is_config();
    let last_config = if config { delivered.number } else { place.last_config };
    let envelopes = delivered.entry.envelopes.clone();
    let mut block = block::new(delivered.number, place.previous_hash, envelopes);
    let said = engine_metadata(&delivered.membership, delivered.index);
    let said = OrdererMetadata::wrapping(last_config, said.encode_to_vec().into());
    metadata::sign(&mut block, &said, signer, nonce)?;
    Ok(block)
}

fn engine_metadata(membership: &Membership, raft_index: u64) -> BlockMetadata {
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
