//! Reading and checking a seek request, and the range of blocks it asks for. Pure.

use std::time::Duration;

use bytes::Bytes;
use weft_protos::common::{Envelope, Status};
use weft_protos::ext::{DecodeError, decode};
use weft_protos::orderer::seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse};
use weft_protos::orderer::seek_position::Type as At;
use weft_protos::orderer::{SeekInfo, SeekPosition};
use weft_types::{BlockNumber, EnvelopeError, ParsedEnvelope, Timestamp, TimestampError};

use crate::listen::PeerInfo;

/// Whether a request is bound to the client's TLS certificate, so that nobody else can use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsBinding {
    /// A certificate hash in the request must be that of the client's certificate; none is
    /// needed. For servers with optional client certificates.
    #[default]
    WhenSent,
    /// Every request needs the hash. For servers that require client certificates (Fabric:
    /// `common/deliver/binding.go`).
    Required,
}

/// Why a request is refused before its channel is looked up.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The envelope or a header cannot be read.
    #[error("failed to read a seek request: {0}")]
    Envelope(#[source] EnvelopeError),
    /// The channel header has no timestamp.
    #[error("failed to check a seek request: it has no timestamp")]
    NoTimestamp,
    /// The timestamp is not one.
    #[error("failed to check a seek request: {0}")]
    Timestamp(#[source] TimestampError),
    /// The timestamp is too far from the node's time.
    #[error("failed to check a seek request: its time {at} is not within {} s of {now}", window.as_secs())]
    Window {
        /// The request's time.
        at: Timestamp,
        /// The node's time.
        now: Timestamp,
        /// The window.
        window: Duration,
    },
    /// The request must hold the hash of the client's TLS certificate.
    #[error("failed to check a seek request: it has no TLS certificate hash")]
    NoCertificateHash,
    /// The hash is not that of the client's TLS certificate.
    #[error("failed to check a seek request: its TLS certificate hash is not the client's")]
    CertificateHash,
    /// The content is not a `SeekInfo`.
    #[error("failed to read a seek request: {0}")]
    Seek(#[source] DecodeError),
}

/// A seek request that was read; who may make it is for [`super::DeliverChannel::authorize`].
#[derive(Debug, Clone)]
pub struct SeekRequest {
    /// The signed envelope: its payload's bytes are what the creator signed.
    pub envelope: ParsedEnvelope,
    /// What is known of the connection; `None` for calls within the process.
    pub peer: Option<PeerInfo>,
}

impl SeekRequest {
    /// Reads an envelope and checks its time and its binding to the TLS certificate.
    ///
    /// # Errors
    /// [`RequestError`], always a BAD_REQUEST.
    pub fn parse(
        envelope: Envelope,
        peer: Option<PeerInfo>,
        now: Timestamp,
        window: Duration,
        binding: TlsBinding,
    ) -> Result<Self, RequestError> {
        let envelope = ParsedEnvelope::from_envelope(envelope).map_err(RequestError::Envelope)?;
        let header = &envelope.header().channel_header;
        let at = header.timestamp.ok_or(RequestError::NoTimestamp)?;
        let at = Timestamp::try_from(at).map_err(RequestError::Timestamp)?;
        if at.unix_nanos().abs_diff(now.unix_nanos()) > window.as_nanos() {
            return Err(RequestError::Window { at, now, window });
        }
        check_binding(&header.tls_cert_hash, peer.as_ref(), binding)?;
        Ok(Self { envelope, peer })
    }

    /// The name of the channel, unchecked.
    pub fn channel(&self) -> &str {
        self.envelope.header().channel_id()
    }

    /// The creator: an encoded `msp.SerializedIdentity`.
    pub fn creator(&self) -> &Bytes {
        self.envelope.header().creator()
    }

    pub(super) fn seek(&self) -> Result<SeekInfo, RequestError> {
        decode("seek info", self.envelope.payload.data.clone()).map_err(RequestError::Seek)
    }
}

fn check_binding(
    claimed: &[u8],
    peer: Option<&PeerInfo>,
    binding: TlsBinding,
) -> Result<(), RequestError> {
    if claimed.is_empty() {
        return match binding {
            TlsBinding::WhenSent => Ok(()),
            TlsBinding::Required => Err(RequestError::NoCertificateHash),
        };
    }
    match peer.and_then(|peer| peer.certificates.leaf_sha256()) {
        Some(actual) if actual == claimed => Ok(()),
        _ => Err(RequestError::CertificateHash),
    }
}

/// What a seek asks for, with positions as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub start: BlockNumber,
    pub stop: BlockNumber,
    pub wait: bool,
    pub headers_only: bool,
}

/// Whether the seek wants blocks even while consensus is out of touch.
pub(super) fn best_effort(seek: &SeekInfo) -> bool {
    seek.error_response() == SeekErrorResponse::BestEffort
}

/// Resolves positions at a moment when the chain has blocks `first..height`.
pub(super) fn resolve(
    seek: &SeekInfo,
    first: BlockNumber,
    height: BlockNumber,
) -> Result<Range, Status> {
    let (Some(start_at), Some(stop_at)) = (&seek.start, &seek.stop) else {
        return Err(Status::BadRequest);
    };
    let newest = height.saturating_sub(1).max(first);
    let start = match kind(start_at)? {
        At::Oldest(_) => first,
        At::Newest(_) => newest,
        At::NextCommit(_) => height.max(first),
        At::Specified(at) if at.number > height => return Err(Status::NotFound),
        At::Specified(at) => at.number,
    };
    let stop = match kind(stop_at)? {
        At::Oldest(_) => start,
        // Not the newest of a later moment: one block was asked for.
        At::Newest(_) if start_at == stop_at => start,
        At::Newest(_) => newest,
        At::NextCommit(_) => height.max(first),
        At::Specified(at) if at.number < start => return Err(Status::BadRequest),
        At::Specified(at) => at.number,
    };
    Ok(Range {
        start,
        stop,
        wait: seek.behavior() == SeekBehavior::BlockUntilReady,
        headers_only: seek.content_type() == SeekContentType::HeaderWithSig,
    })
}

fn kind(position: &SeekPosition) -> Result<&At, Status> {
    position.r#type.as_ref().ok_or(Status::NotFound)
}
