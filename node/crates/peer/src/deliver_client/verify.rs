//! Whether a received block continues the chain.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use weft_config::{Bundle, block as config_block};
use weft_msp::ValidAt;
use weft_protos::common::Block;
use weft_types::block::{self, BlockError};
use weft_types::{BlockNumber, ValidationCode};

use crate::commit::transaction;

/// A block that must not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BlockRefused {
    /// It has no header.
    #[error("failed to take a block")]
    Header(#[source] BlockError),
    /// It is not the next one, or names another predecessor.
    #[error("failed to take block {number}")]
    Link {
        /// The block's number.
        number: BlockNumber,
        /// What is wrong.
        #[source]
        source: BlockError,
    },
    /// Its content is not what its header covers, or too few orderers signed it.
    #[error("failed to take block {number}")]
    Unsound {
        /// The block's number.
        number: BlockNumber,
        /// What is wrong.
        #[source]
        source: Box<weft_config::block::BlockError>,
    },
    /// Its configuration may not follow the present one.
    #[error("failed to take config block {number}")]
    Config {
        /// The block's number.
        number: BlockNumber,
        /// What is wrong.
        #[source]
        source: Box<weft_config::block::BlockError>,
    },
}

/// What a block of one CONFIG transaction amounts to.
#[derive(Debug, Clone)]
pub enum ConfigVerdict {
    /// The configuration from the next block on.
    Next(Bundle),
    /// The transaction is not valid by its envelope; the configuration stays.
    Invalid(ValidationCode),
}

/// A block that continues the chain, with the configuration it is validated under.
#[derive(Debug)]
pub struct VerifiedBlock {
    /// The block as received.
    pub block: Block,
    /// Its number.
    pub number: BlockNumber,
    /// The configuration as of the block before.
    pub bundle: Bundle,
    /// For a config block, what becomes of the configuration.
    pub config: Option<ConfigVerdict>,
    /// The block's share of the buffer, given back when this is dropped.
    pub(crate) share: Option<OwnedSemaphorePermit>,
}

/// How far the chain has been received.
#[derive(Debug, Clone)]
pub struct Progress {
    next: BlockNumber,
    last_hash: Bytes,
    bundle: Bundle,
}

impl Progress {
    /// The next block is `next`; the one before has the header hash `last_hash` and leaves `bundle`
    /// in force.
    #[must_use]
    pub fn new(next: BlockNumber, last_hash: Bytes, bundle: Bundle) -> Self {
        Self { next, last_hash, bundle }
    }

    /// The number of the next block.
    #[must_use]
    pub fn next(&self) -> BlockNumber {
        self.next
    }

    /// The configuration as of the last block received.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Checks the next block and moves on past it. When it is refused, nothing changes.
    ///
    /// The cheap checks come first: place in the chain, then hashes and form, then signatures, then
    /// the configuration it may hold.
    ///
    /// # Errors
    /// [`BlockRefused`] naming the check that failed.
    pub fn advance(&mut self, block: Block) -> Result<VerifiedBlock, BlockRefused> {
        let header = block::header(&block).map_err(BlockRefused::Header)?;
        let number = header.number;
        let link = |source| BlockRefused::Link { number, source };
        if number != self.next {
            return Err(link(BlockError::Number { number, expected: self.next }));
        }
        if header.previous_hash != self.last_hash {
            return Err(link(BlockError::PreviousHash { number }));
        }
        let hash = Bytes::copy_from_slice(&block::header_hash(header));
        config_block::verify(&self.bundle, &block, ValidAt::Issuance)
            .map_err(|source| BlockRefused::Unsound { number, source: Box::new(source) })?;
        let config = config_verdict(&self.bundle, &block)
            .map_err(|source| BlockRefused::Config { number, source: Box::new(source) })?;
        let bundle = self.bundle.clone();
        if let Some(ConfigVerdict::Next(next)) = &config {
            self.bundle = next.clone();
        }
        self.next = number.saturating_add(1);
        self.last_hash = hash;
        Ok(VerifiedBlock { block, number, bundle, config, share: None })
    }
}

/// What becomes of the configuration by this block; `None` for any block but a config block.
///
/// As in Fabric, an envelope that is not valid leaves an invalid transaction in the chain, while a
/// valid one with a configuration that may not follow cannot be committed at all. Fabric's peer
/// halts there; this one refuses the block, so that one orderer's false block halts nobody.
fn config_verdict(
    bundle: &Bundle,
    block: &Block,
) -> Result<Option<ConfigVerdict>, config_block::BlockError> {
    if !config_block::is_config_block(block) {
        return Ok(None);
    }
    let raw = block::transactions(block).first().cloned().unwrap_or_default();
    if let Err(code) = transaction::check_envelope(bundle, raw) {
        return Ok(Some(ConfigVerdict::Invalid(code)));
    }
    config_block::next_bundle(bundle, block, ValidAt::Issuance)
        .map(|next| Some(ConfigVerdict::Next(next)))
}
