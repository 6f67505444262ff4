//! Config blocks, and the orderers' signatures on any block.

use bytes::Bytes;
use weft_msp::{
    ValidAt,
    policy::{PolicyError, SignedData},
};
use weft_protos::{
    common::{Block, Config, ConfigEnvelope, HeaderType},
    ext::{DecodeError, decode},
    msp::SerializedIdentity,
};
use weft_types::{
    BlockNumber, ChannelId, ChannelIdError, EnvelopeError, ParsedEnvelope,
    block::{
        self, BlockError as StructureError,
        metadata::{self, BlockSigner, MetadataError, OrdererMetadata},
    },
};

use crate::{
    bundle::{Bundle, ConfigError},
    consensus::BftConsenter,
    keys,
    update::UpdateError,
};

/// A block that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The block should hold one CONFIG transaction, and nothing else.
    #[error("failed to read a config block: block {number} holds no configuration")]
    NotConfig {
        /// The block.
        number: BlockNumber,
    },
    /// The block's parts do not fit together.
    #[error("failed to check a block")]
    Structure {
        /// What is wrong.
        source: StructureError,
    },
    /// The envelope cannot be read.
    #[error("failed to read the envelope of config block {number}")]
    Envelope {
        /// The block.
        number: BlockNumber,
        /// What is wrong.
        source: EnvelopeError,
    },
    /// The configuration cannot be decoded.
    #[error("failed to read config block {number}")]
    Decode {
        /// The block.
        number: BlockNumber,
        /// What is wrong.
        source: DecodeError,
    },
    /// The config envelope has no configuration.
    #[error("failed to read config block {number}: its envelope has no configuration")]
    NoConfig {
        /// The block.
        number: BlockNumber,
    },
    /// The block names no valid channel.
    #[error("failed to read config block {number}")]
    ChannelId {
        /// The block.
        number: BlockNumber,
        /// What is wrong.
        source: ChannelIdError,
    },
    /// The configuration cannot be used.
    #[error("failed to accept the configuration of block {number}")]
    Config {
        /// The block.
        number: BlockNumber,
        /// What is wrong.
        #[source]
        source: Box<ConfigError>,
    },
    /// The configuration may not follow the present one.
    #[error("failed to accept the configuration of block {number}")]
    Update {
        /// The block.
        number: BlockNumber,
        /// What is wrong.
        #[source]
        source: Box<UpdateError>,
    },
    /// A config block for another channel.
    #[error("failed to accept config block {number}: it is of channel {found}, not {expected}")]
    OtherChannel {
        /// The block.
        number: BlockNumber,
        /// The channel it names.
        found: ChannelId,
        /// This channel.
        expected: ChannelId,
    },
    /// The orderers' metadata cannot be read.
    #[error("failed to read the orderers' metadata of block {number}")]
    Metadata {
        /// The block.
        number: BlockNumber,
        /// What is wrong.
        #[source]
        source: Box<MetadataError>,
    },
    /// The orderers' signatures do not satisfy the channel's policy.
    #[error(
        "failed to trust block {number}: its signatures do not satisfy {}",
        keys::BLOCK_VALIDATION_PATH
    )]
    Signatures {
        /// The block.
        number: BlockNumber,
        /// Why.
        #[source]
        source: Box<PolicyError>,
    },
}

fn number_of(block: &Block) -> BlockNumber {
    block.header.as_ref().map_or(0, |header| header.number)
}

/// Block 0 of a channel around an encoded, unsigned CONFIG envelope.
/// Fabric: `common/genesis/genesis.go`.
pub(crate) fn genesis(envelope: Bytes) -> Block {
    let mut genesis = block::new(0, Bytes::new(), vec![envelope]);
    metadata::set_unsigned(&mut genesis, &OrdererMetadata::default());
    genesis
}

/// Whether the block holds one CONFIG transaction and nothing else.
#[must_use]
pub fn is_config_block(block: &Block) -> bool {
    block::is_config(block::transactions(block))
}

/// The channel and the config envelope of a config block.
///
/// # Errors
/// Fails where the block is none, or its envelope is malformed.
pub fn config_envelope(block: &Block) -> Result<(ChannelId, ConfigEnvelope), BlockError> {
    let number = number_of(block);
    let [envelope] = block::transactions(block) else {
        return Err(BlockError::NotConfig { number });
    };
    let envelope = ParsedEnvelope::parse(envelope.clone())
        .map_err(|source| BlockError::Envelope { number, source })?;
    if envelope.header().header_type() != Some(HeaderType::Config) {
        return Err(BlockError::NotConfig { number });
    }
    let channel_id = ChannelId::new(envelope.header().channel_id())
        .map_err(|source| BlockError::ChannelId { number, source })?;
    let config = decode("config envelope", envelope.payload.data)
        .map_err(|source| BlockError::Decode { number, source })?;
    Ok((channel_id, config))
}

/// The channel and the configuration of a config block, not validated.
///
/// # Errors
/// Fails where the block is none, or its envelope is malformed.
pub fn config_from_block(block: &Block) -> Result<(ChannelId, Config), BlockError> {
    let (channel_id, envelope) = config_envelope(block)?;
    let config = envelope.config.ok_or(BlockError::NoConfig { number: number_of(block) })?;
    Ok((channel_id, config))
}

/// The validated configuration of a config block. For a block that is trusted by itself: a genesis
/// block that an administrator joins a node with, or one read back from the node's own store.
///
/// # Errors
/// Fails where the block is none, is malformed, or its configuration breaks a rule.
pub fn bundle_from_block(block: &Block) -> Result<Bundle, BlockError> {
    let (channel_id, config) = config_from_block(block)?;
    Bundle::new(channel_id, config)
        .map_err(|source| BlockError::Config { number: number_of(block), source: Box::new(source) })
}

/// The configuration after a config block of a channel, checked against the one before it; see
/// [`Bundle::validate_next`].
///
/// # Errors
/// Fails where the block is none, is of another channel, or its update was not allowed.
pub fn next_bundle(
    current: &Bundle,
    block: &Block,
    at: impl Into<ValidAt>,
) -> Result<Bundle, BlockError> {
    let number = number_of(block);
    let (found, envelope) = config_envelope(block)?;
    if found != *current.channel_id() {
        let expected = current.channel_id().clone();
        return Err(BlockError::OtherChannel { number, found, expected });
    }
    current
        .validate_next(&envelope, at)
        .map_err(|source| BlockError::Update { number, source: Box::new(source) })
}

/// Number of the newest config block at or before `block`, as its orderers say.
///
/// # Errors
/// Fails where the block's metadata is malformed or absent.
pub fn last_config_index(block: &Block) -> Result<BlockNumber, BlockError> {
    metadata::last_config(block).map_err(|source| BlockError::Metadata {
        number: number_of(block),
        source: Box::new(source),
    })
}

/// Checks that a block is whole (its data hash, and envelopes that can be cut in one way only) and
/// that the orderers of a channel signed it, by the configuration that is in force before it.
///
/// Certificates are judged by `at`: pass [`ValidAt::Issuance`] for blocks of a chain, old or new, as
/// whether a block is valid must not depend on when it is looked at.
///
/// # Errors
/// Fails where a part is missing or altered, or the signatures do not satisfy the policy
/// `/Channel/Orderer/BlockValidation`.
pub fn verify(bundle: &Bundle, block: &Block, at: impl Into<ValidAt>) -> Result<(), BlockError> {
    block::check(block).map_err(|source| BlockError::Structure { source })?;
    verify_signatures(bundle, block, at)
}

/// The second half of [`verify`]: the orderers' signatures, which cover the header but not the data.
/// Fabric: `BlockSignatureVerifier` in `protoutil/blockutils.go`.
///
/// # Errors
/// Fails where the metadata is malformed or the policy is not satisfied.
pub fn verify_signatures(
    bundle: &Bundle,
    block: &Block,
    at: impl Into<ValidAt>,
) -> Result<(), BlockError> {
    let number = number_of(block);
    let refused = |source| BlockError::Signatures { number, source: Box::new(source) };
    let read = metadata::signatures(block)
        .map_err(|source| BlockError::Metadata { number, source: Box::new(source) })?;
    let bft = bft_consenters(bundle);
    let signed = read.signatures.into_iter().filter_map(|signature| {
        let identity = match signature.signer {
            BlockSigner::Creator(header) => header.creator,
            // A number that is no member's signs for nobody.
            BlockSigner::Consenter(header) => identity_of(bft, header.identifier)?,
        };
        Some(SignedData { data: signature.signed, identity, signature: signature.signature })
    });
    let signed: Vec<_> = signed.collect();
    let policy = bundle.policies().get(keys::BLOCK_VALIDATION_PATH).map_err(refused)?;
    policy.evaluate(&signed, at).map_err(refused)
}

/// The members that may sign by number: with capability V3_0, those the configuration lists,
/// whichever protocol orders the channel at present.
fn bft_consenters(bundle: &Bundle) -> &[BftConsenter] {
    match bundle.orderer() {
        Some(orderer) if bundle.capabilities().bft() => &orderer.consenters,
        _ => &[],
    }
}

fn identity_of(consenters: &[BftConsenter], id: u32) -> Option<Bytes> {
    use prost::Message;
    let consenter = consenters.iter().find(|consenter| consenter.id == id)?;
    let identity = SerializedIdentity {
        mspid: consenter.msp_id.to_string(),
        id_bytes: consenter.identity.clone(),
    };
    Some(identity.encode_to_vec().into())
}
