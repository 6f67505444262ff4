//! A block's metadata slots: the orderers' signatures, the last configuration, the validation
//! codes and the commit hash.
//!
//! The SIGNATURES slot holds a `Metadata` whose value is an encoded `OrdererBlockMetadata`; an
//! orderer signs that value, then its own signature header (BFT: the identifier header), then the
//! block header's DER (Fabric: orderer/common/multichannel/blockwriter.go).

use bytes::Bytes;
use prost::Message as _;
use weft_protos::{
    common::{
        Block, BlockHeader, BlockMetadataIndex, IdentifierHeader, LastConfig, Metadata,
        MetadataSignature, OrdererBlockMetadata, SignatureHeader,
    },
    ext::{DecodeError, decode},
};

use super::{BlockNumber, METADATA_SLOTS, TxFilter, header_bytes};
use crate::signer::{Nonce, SignError, Signer, signature_header};

/// A block's metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The block has no header.
    #[error("failed to read a block's metadata: the block has no header")]
    Header,
    /// The slot is absent or empty.
    #[error("failed to read a block's metadata: slot {slot} is empty")]
    Empty {
        /// The slot's name.
        slot: &'static str,
    },
    /// The slot's bytes cannot be decoded.
    #[error("failed to read a block's metadata: slot {slot}")]
    Decode {
        /// The slot's name.
        slot: &'static str,
        /// What could not be decoded.
        #[source]
        source: DecodeError,
    },
    /// A signature names no signer.
    #[error("failed to read a block's metadata: signature {index} names no signer")]
    Signer {
        /// The signature's place.
        index: usize,
    },
    /// The signature could not be made.
    #[error("failed to sign a block")]
    Sign(#[source] SignError),
}

/// The bytes of a slot; empty when the block does not have it.
#[must_use]
pub fn slot(block: &Block, index: BlockMetadataIndex) -> Bytes {
    let slots = block.metadata.as_ref().map(|metadata| &metadata.metadata);
    slots.and_then(|slots| slots.get(index as usize)).cloned().unwrap_or_default()
}

/// Puts `bytes` into a slot, adding the slots that the block lacks.
pub fn set_slot(block: &mut Block, index: BlockMetadataIndex, bytes: Bytes) {
    let slots = &mut block.metadata.get_or_insert_default().metadata;
    if slots.len() < METADATA_SLOTS {
        slots.resize(METADATA_SLOTS, Bytes::new());
    }
    if let Some(place) = slots.get_mut(index as usize) {
        *place = bytes;
    }
}

/// A slot decoded as `Metadata`.
///
/// # Errors
/// [`MetadataError::Empty`] or [`MetadataError::Decode`].
pub fn get(block: &Block, index: BlockMetadataIndex) -> Result<Metadata, MetadataError> {
    let name = index.as_str_name();
    let bytes = slot(block, index);
    if bytes.is_empty() {
        return Err(MetadataError::Empty { slot: name });
    }
    decode("metadata", bytes).map_err(|source| MetadataError::Decode { slot: name, source })
}

/// The validation codes of a committed block; `None` when it has not as many as transactions.
#[must_use]
pub fn filter(block: &Block) -> Option<TxFilter> {
    let bytes = slot(block, BlockMetadataIndex::TransactionsFilter);
    (bytes.len() == super::transactions(block).len()).then(|| TxFilter::from_bytes(&bytes))
}

/// Puts the validation codes into their slot.
pub fn set_filter(block: &mut Block, filter: TxFilter) {
    set_slot(block, BlockMetadataIndex::TransactionsFilter, filter.into_bytes());
}

/// The commit hash of a committed block; empty when it has none.
///
/// # Errors
/// [`MetadataError::Decode`].
pub fn commit_hash(block: &Block) -> Result<Bytes, MetadataError> {
    match get(block, BlockMetadataIndex::CommitHash) {
        Ok(metadata) => Ok(metadata.value),
        Err(MetadataError::Empty { .. }) => Ok(Bytes::new()),
        Err(error) => Err(error),
    }
}

/// Puts the commit hash into its slot.
pub fn set_commit_hash(block: &mut Block, hash: &[u8]) {
    let metadata = Metadata { value: Bytes::copy_from_slice(hash), signatures: Vec::new() };
    set_slot(block, BlockMetadataIndex::CommitHash, metadata.encode_to_vec().into());
}

/// What orderers say about a block, under their signatures. The default is a genesis block's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrdererMetadata {
    /// The newest configuration block at or before this block.
    pub last_config: BlockNumber,
    /// The consensus engine's field as it stands in the block. Raft wraps what it stores in a
    /// `Metadata` ([`Self::wrapping`], [`Self::wrapped`]); BFT engines write theirs bare.
    pub consenter_metadata: Bytes,
}

impl OrdererMetadata {
    /// What is said with `engine`, the engine's own bytes, wrapped in a `Metadata`.
    #[must_use]
    pub fn wrapping(last_config: BlockNumber, engine: Bytes) -> Self {
        let wrapper = Metadata { value: engine, signatures: Vec::new() };
        Self { last_config, consenter_metadata: wrapper.encode_to_vec().into() }
    }

    /// The engine's own bytes out of their `Metadata`; empty when there are none.
    ///
    /// # Errors
    /// [`MetadataError::Decode`].
    pub fn wrapped(&self) -> Result<Bytes, MetadataError> {
        let wrapper: Metadata = decode("consenter metadata", self.consenter_metadata.clone())
            .map_err(|source| MetadataError::Decode { slot: "SIGNATURES", source })?;
        Ok(wrapper.value)
    }

    /// The bytes that are signed as the slot's value.
    #[must_use]
    pub fn to_value(&self) -> Bytes {
        let value = OrdererBlockMetadata {
            last_config: Some(LastConfig { index: self.last_config }),
            consenter_metadata: self.consenter_metadata.clone(),
        };
        value.encode_to_vec().into()
    }

    /// Reads the slot's value.
    ///
    /// # Errors
    /// [`MetadataError::Decode`].
    pub fn from_value(value: Bytes) -> Result<Self, MetadataError> {
        let value: OrdererBlockMetadata = decode("orderer block metadata", value)
            .map_err(|source| MetadataError::Decode { slot: "SIGNATURES", source })?;
        let last_config = value.last_config.unwrap_or_default().index;
        Ok(Self { last_config, consenter_metadata: value.consenter_metadata })
    }
}

/// Who made a block signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockSigner {
    /// An identity that the signature carries (Raft and others).
    Creator(SignatureHeader),
    /// The consenter with this number in the channel's configuration (BFT).
    Consenter(IdentifierHeader),
}

/// One orderer's signature over a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSignature {
    /// Who signed.
    pub signer: BlockSigner,
    /// Over which bytes: value, signer's header, DER of the block's header.
    pub signed: Bytes,
    /// The signature.
    pub signature: Bytes,
}

/// The SIGNATURES slot, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSignatures {
    /// What was signed beside the header.
    pub metadata: OrdererMetadata,
    /// The signatures.
    pub signatures: Vec<BlockSignature>,
}

/// The bytes that an orderer signs: the slot's value, the signer's encoded header, the block
/// header's DER.
#[must_use]
pub fn signed_bytes(value: &[u8], signer_header: &[u8], header: &BlockHeader) -> Vec<u8> {
    let mut out = value.to_vec();
    out.extend_from_slice(signer_header);
    out.extend_from_slice(&header_bytes(header));
    out
}

/// Signs a block and fills its SIGNATURES and LAST_CONFIG slots, replacing what was there.
///
/// # Errors
/// [`MetadataError::Header`] or [`MetadataError::Sign`].
pub fn sign(
    block: &mut Block,
    metadata: &OrdererMetadata,
    signer: &dyn Signer,
    nonce: Nonce,
) -> Result<(), MetadataError> {
    let value = metadata.to_value();
    let header = block.header.as_ref().ok_or(MetadataError::Header)?;
    let signature_header: Bytes = signature_header(signer, nonce).encode_to_vec().into();
    let signature = signer
        .sign(&signed_bytes(&value, &signature_header, header))
        .map_err(MetadataError::Sign)?;
    let signature = MetadataSignature { signature_header, signature, ..Default::default() };
    fill(block, metadata, value, vec![signature]);
    Ok(())
}

/// Fills the SIGNATURES and LAST_CONFIG slots without a signature, as in a genesis block.
pub fn set_unsigned(block: &mut Block, metadata: &OrdererMetadata) {
    fill(block, metadata, metadata.to_value(), Vec::new());
}

fn fill(
    block: &mut Block,
    metadata: &OrdererMetadata,
    value: Bytes,
    signatures: Vec<MetadataSignature>,
) {
    let last_config = LastConfig { index: metadata.last_config }.encode_to_vec();
    let last_config = Metadata { value: last_config.into(), signatures: Vec::new() };
    set_slot(block, BlockMetadataIndex::LastConfig, last_config.encode_to_vec().into());
    let slot = Metadata { value, signatures };
    set_slot(block, BlockMetadataIndex::Signatures, slot.encode_to_vec().into());
}

/// What the orderers say about a block, without its signatures.
///
/// # Errors
/// [`MetadataError`] when the slot is empty or cannot be decoded.
pub fn orderer_metadata(block: &Block) -> Result<OrdererMetadata, MetadataError> {
    OrdererMetadata::from_value(get(block, BlockMetadataIndex::Signatures)?.value)
}

/// The newest configuration block at or before `block`, as its orderers say.
///
/// # Errors
/// [`MetadataError`] when the slot is empty or cannot be decoded.
pub fn last_config(block: &Block) -> Result<BlockNumber, MetadataError> {
    orderer_metadata(block).map(|metadata| metadata.last_config)
}

/// Takes the SIGNATURES slot apart and works out what each signature covers.
///
/// # Errors
/// [`MetadataError`] when a part is missing or cannot be decoded.
pub fn signatures(block: &Block) -> Result<BlockSignatures, MetadataError> {
    let header = block.header.as_ref().ok_or(MetadataError::Header)?;
    let slot = get(block, BlockMetadataIndex::Signatures)?;
    let metadata = OrdererMetadata::from_value(slot.value.clone())?;
    let signatures = slot.signatures.into_iter().enumerate();
    let signatures = signatures
        .map(|(index, signature)| block_signature(index, signature, &slot.value, header))
        .collect::<Result<_, _>>()?;
    Ok(BlockSignatures { metadata, signatures })
}

fn block_signature(
    index: usize,
    signature: MetadataSignature,
    value: &[u8],
    header: &BlockHeader,
) -> Result<BlockSignature, MetadataError> {
    let failed = |source| MetadataError::Decode { slot: "SIGNATURES", source };
    let MetadataSignature { signature_header, signature, identifier_header } = signature;
    let (signer, signer_header) = if !signature_header.is_empty() {
        let decoded = decode("signature header", signature_header.clone()).map_err(failed)?;
        (BlockSigner::Creator(decoded), signature_header)
    } else if !identifier_header.is_empty() {
        let decoded = decode("identifier header", identifier_header.clone()).map_err(failed)?;
        (BlockSigner::Consenter(decoded), identifier_header)
    } else {
        return Err(MetadataError::Signer { index });
    };
    let signed = signed_bytes(value, &signer_header, header).into();
    Ok(BlockSignature { signer, signed, signature })
}
