//! Requests to a Deliver service.

use bytes::Bytes;
use prost::Message as _;
use weft_protos::{
    common::{Envelope, HeaderType},
    orderer::{
        SeekInfo, SeekNewest, SeekNextCommit, SeekOldest, SeekPosition, SeekSpecified,
        seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse},
        seek_position,
    },
};

use crate::{
    BlockNumber, ChannelId, Timestamp,
    envelope::EnvelopeSpec,
    signer::{Nonce, SignError, Signer},
};

/// A place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The first block.
    Oldest,
    /// The newest block at the time of the request.
    Newest,
    /// The block with this number.
    Block(BlockNumber),
    /// The next block to be committed (peers only).
    NextCommit,
}

/// What a stream of blocks should hold, and how it should behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seek {
    /// The first block.
    pub start: Position,
    /// The last block; `Block(u64::MAX)` for a stream without an end.
    pub stop: Position,
    /// Whether to wait for blocks that are not there yet, or end with NOT_FOUND.
    pub behavior: SeekBehavior,
    /// Whether an orderer that has lost its consensus should still serve.
    pub error_response: SeekErrorResponse,
    /// Whole blocks, or headers and signatures only.
    pub content_type: SeekContentType,
}

impl Seek {
    /// All blocks from `start` on, waiting for those to come.
    #[must_use]
    pub const fn from(start: Position) -> Self {
        Self::range(start, Position::Block(BlockNumber::MAX), SeekBehavior::BlockUntilReady)
    }

    /// One block, which must be there.
    #[must_use]
    pub const fn one(at: Position) -> Self {
        Self::range(at, at, SeekBehavior::FailIfNotReady)
    }

    /// The blocks from `start` to `stop`, both included.
    #[must_use]
    pub const fn range(start: Position, stop: Position, behavior: SeekBehavior) -> Self {
        Self {
            start,
            stop,
            behavior,
            error_response: SeekErrorResponse::Strict,
            content_type: SeekContentType::Block,
        }
    }

    /// Headers and signatures from the newest block on, whether or not there is a consensus.
    #[must_use]
    pub const fn headers() -> Self {
        Self {
            error_response: SeekErrorResponse::BestEffort,
            content_type: SeekContentType::HeaderWithSig,
            ..Self::from(Position::Newest)
        }
    }

    /// The request as a message.
    #[must_use]
    pub fn to_info(self) -> SeekInfo {
        SeekInfo {
            start: Some(position(self.start)),
            stop: Some(position(self.stop)),
            behavior: self.behavior as i32,
            error_response: self.error_response as i32,
            content_type: self.content_type as i32,
        }
    }

    /// The signed request for a Deliver service. `tls_cert_hash` is the SHA-256 of the client's TLS
    /// certificate, or empty without one; services that bind streams to certificates compare it.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(
        self,
        channel_id: &ChannelId,
        signer: &dyn Signer,
        timestamp: Timestamp,
        nonce: Nonce,
        tls_cert_hash: Bytes,
    ) -> Result<Envelope, SignError> {
        let spec = EnvelopeSpec {
            header_type: HeaderType::DeliverSeekInfo,
            channel_id: Some(channel_id.clone()),
            data: self.to_info().encode_to_vec().into(),
            timestamp,
            nonce,
            tls_cert_hash,
        };
        spec.sign(signer)
    }
}

fn position(at: Position) -> SeekPosition {
    use seek_position::Type;
    let at = match at {
        Position::Oldest => Type::Oldest(SeekOldest {}),
        Position::Newest => Type::Newest(SeekNewest {}),
        Position::Block(number) => Type::Specified(SeekSpecified { number }),
        Position::NextCommit => Type::NextCommit(SeekNextCommit {}),
    };
    SeekPosition { r#type: Some(at) }
}
