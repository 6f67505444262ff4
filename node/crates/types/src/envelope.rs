//! Envelopes: the signed wrapping of everything that is broadcast, delivered or committed.
//!
//! Parsed values keep the bytes that arrived beside what they decode to, because those bytes are
//! what is signed and hashed.

use bytes::Bytes;
use prost::Message as _;
use weft_protos::{
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader},
    ext::{DecodeError, decode},
};

use crate::{
    ChannelId, Timestamp, TxId, TxIdError, ValidationCode,
    signer::{Nonce, SignError, Signer, signature_header},
};

/// An envelope cannot be read, or its headers break a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// No bytes at all.
    #[error("failed to read an envelope: it is empty")]
    Empty,
    /// The bytes are not an envelope.
    #[error("failed to read an envelope")]
    Envelope(#[source] DecodeError),
    /// The envelope has no payload.
    #[error("failed to read an envelope: it has no payload")]
    NoPayload,
    /// The payload cannot be decoded.
    #[error("failed to read a payload")]
    Payload(#[source] DecodeError),
    /// The payload has no header.
    #[error("failed to read a payload: it has no header")]
    NoHeader,
    /// A header cannot be decoded.
    #[error("failed to read a payload's header")]
    Header(#[source] DecodeError),
    /// The header's type is not one that is committed.
    #[error("failed to check a header: type {header_type} is not a transaction's")]
    Type {
        /// The number of the type.
        header_type: i32,
    },
    /// The epoch is not zero.
    #[error("failed to check a header: epoch {epoch} is not 0")]
    Epoch {
        /// The epoch.
        epoch: u64,
    },
    /// The signature header has no nonce.
    #[error("failed to check a header: there is no nonce")]
    Nonce,
    /// The signature header has no creator.
    #[error("failed to check a header: there is no creator")]
    Creator,
}

impl EnvelopeError {
    /// The code under which a transaction with this fault is committed
    /// (Fabric: core/common/validation/msgvalidation.go, core/committer/txvalidator/v20).
    #[must_use]
    pub fn validation_code(&self) -> ValidationCode {
        match self {
            Self::Empty => ValidationCode::NilEnvelope,
            Self::Envelope(_) => ValidationCode::InvalidOtherReason,
            Self::Payload(_) => ValidationCode::BadPayload,
            Self::NoPayload
            | Self::NoHeader
            | Self::Header(_)
            | Self::Type { .. }
            | Self::Epoch { .. }
            | Self::Nonce
            | Self::Creator => ValidationCode::BadCommonHeader,
        }
    }
}

/// An envelope with its payload and headers decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedEnvelope {
    /// The payload's bytes, which the signature covers.
    pub payload_bytes: Bytes,
    /// The creator's signature over the payload's bytes.
    pub signature: Bytes,
    /// The decoded payload.
    pub payload: ParsedPayload,
}

impl ParsedEnvelope {
    /// Parses an encoded envelope, sharing its buffer.
    ///
    /// # Errors
    /// [`EnvelopeError`] naming the layer that cannot be read.
    pub fn parse(raw: Bytes) -> Result<Self, EnvelopeError> {
        if raw.is_empty() {
            return Err(EnvelopeError::Empty);
        }
        Self::from_envelope(decode("envelope", raw).map_err(EnvelopeError::Envelope)?)
    }

    /// Parses a decoded envelope's payload.
    ///
    /// # Errors
    /// [`EnvelopeError`] naming the layer that cannot be read.
    pub fn from_envelope(envelope: Envelope) -> Result<Self, EnvelopeError> {
        let Envelope { payload: payload_bytes, signature } = envelope;
        let payload = ParsedPayload::parse(payload_bytes.clone())?;
        Ok(Self { payload_bytes, signature, payload })
    }

    /// The envelope as a message.
    #[must_use]
    pub fn to_envelope(&self) -> Envelope {
        Envelope { payload: self.payload_bytes.clone(), signature: self.signature.clone() }
    }

    /// Both headers.
    #[must_use]
    pub fn header(&self) -> &ParsedHeader {
        &self.payload.header
    }
}

/// A payload with its headers decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedPayload {
    /// Both headers.
    pub header: ParsedHeader,
    /// The content, in the encoding that the header's type names.
    pub data: Bytes,
}

impl ParsedPayload {
    /// Parses an encoded payload, sharing its buffer.
    ///
    /// # Errors
    /// [`EnvelopeError`] naming the layer that cannot be read.
    pub fn parse(raw: Bytes) -> Result<Self, EnvelopeError> {
        if raw.is_empty() {
            return Err(EnvelopeError::NoPayload);
        }
        let payload: Payload = decode("payload", raw).map_err(EnvelopeError::Payload)?;
        let header = payload.header.ok_or(EnvelopeError::NoHeader)?;
        Ok(Self { header: ParsedHeader::from_header(header)?, data: payload.data })
    }
}

/// The two headers, decoded, beside their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedHeader {
    /// The channel header's bytes.
    pub channel_header_bytes: Bytes,
    /// What the message is, and of which channel.
    pub channel_header: ChannelHeader,
    /// The signature header's bytes.
    pub signature_header_bytes: Bytes,
    /// Who made the message.
    pub signature_header: SignatureHeader,
}

impl ParsedHeader {
    /// Parses an encoded `Header`, as it stands in a proposal.
    ///
    /// # Errors
    /// [`EnvelopeError::Header`].
    pub fn parse(raw: Bytes) -> Result<Self, EnvelopeError> {
        Self::from_header(decode("header", raw).map_err(EnvelopeError::Header)?)
    }

    /// Decodes both headers, sharing their buffers.
    ///
    /// # Errors
    /// [`EnvelopeError::Header`].
    pub fn from_header(header: Header) -> Result<Self, EnvelopeError> {
        let Header { channel_header: channel_bytes, signature_header: signature_bytes } = header;
        let channel_header =
            decode("channel header", channel_bytes.clone()).map_err(EnvelopeError::Header)?;
        let signature_header =
            decode("signature header", signature_bytes.clone()).map_err(EnvelopeError::Header)?;
        Ok(Self {
            channel_header_bytes: channel_bytes,
            channel_header,
            signature_header_bytes: signature_bytes,
            signature_header,
        })
    }

    /// The headers as a message.
    #[must_use]
    pub fn to_header(&self) -> Header {
        Header {
            channel_header: self.channel_header_bytes.clone(),
            signature_header: self.signature_header_bytes.clone(),
        }
    }

    /// The type; `None` when the number is not a type.
    #[must_use]
    pub fn header_type(&self) -> Option<HeaderType> {
        HeaderType::try_from(self.channel_header.r#type).ok()
    }

    /// The channel's name, unchecked.
    #[must_use]
    pub fn channel_id(&self) -> &str {
        &self.channel_header.channel_id
    }

    /// When the message was made, by its maker's clock; `None` when absent or not a time.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.channel_header.timestamp.and_then(|at| at.try_into().ok())
    }

    /// The creator: an encoded `msp.SerializedIdentity`.
    #[must_use]
    pub fn creator(&self) -> &Bytes {
        &self.signature_header.creator
    }

    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> &Bytes {
        &self.signature_header.nonce
    }

    /// Checks what holds for every committed message: a type that is committed (or a configuration
    /// update), epoch 0, a nonce and a creator (Fabric: core/common/validation/msgvalidation.go).
    ///
    /// # Errors
    /// [`EnvelopeError`] naming the broken rule.
    pub fn check(&self) -> Result<HeaderType, EnvelopeError> {
        use HeaderType::{Config, ConfigUpdate, EndorserTransaction};
        let header_type = match self.header_type() {
            Some(known @ (EndorserTransaction | ConfigUpdate | Config)) => known,
            _ => return Err(EnvelopeError::Type { header_type: self.channel_header.r#type }),
        };
        if self.channel_header.epoch != 0 {
            return Err(EnvelopeError::Epoch { epoch: self.channel_header.epoch });
        }
        if self.nonce().is_empty() {
            return Err(EnvelopeError::Nonce);
        }
        if self.creator().is_empty() {
            return Err(EnvelopeError::Creator);
        }
        Ok(header_type)
    }

    /// Checks that the transaction id is of the nonce and the creator.
    ///
    /// # Errors
    /// [`TxIdError::Mismatch`].
    pub fn check_tx_id(&self) -> Result<TxId, TxIdError> {
        TxId::check(&self.channel_header.tx_id, self.nonce(), self.creator())
    }

    /// The id under which the ledger files a message: the channel header's, or the one computed
    /// from nonce and creator where it has none, as in configurations
    /// (Fabric: protoutil/txutils.go).
    #[must_use]
    pub fn tx_id_text(&self) -> String {
        if self.channel_header.tx_id.is_empty() {
            return TxId::compute(self.nonce(), self.creator()).to_string();
        }
        self.channel_header.tx_id.clone()
    }
}

/// What a signed envelope is made of.
#[derive(Debug, Clone)]
pub struct EnvelopeSpec {
    /// What `data` is.
    pub header_type: HeaderType,
    /// The channel; `None` for messages that belong to none.
    pub channel_id: Option<ChannelId>,
    /// The content.
    pub data: Bytes,
    /// When it is made.
    pub timestamp: Timestamp,
    /// The signer's nonce.
    pub nonce: Nonce,
    /// SHA-256 of the client's TLS certificate, for streams that bind to it; else empty.
    pub tls_cert_hash: Bytes,
}

impl EnvelopeSpec {
    /// Signs the envelope in `signer`'s name.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(self, signer: &dyn Signer) -> Result<Envelope, SignError> {
        let header = signature_header(signer, self.nonce);
        let payload = self.payload(&header);
        let signature = signer.sign(&payload)?;
        Ok(Envelope { payload, signature })
    }

    /// The envelope without a creator and a signature, as in a genesis block.
    #[must_use]
    pub fn unsigned(self) -> Envelope {
        let payload = self.payload(&SignatureHeader::default());
        Envelope { payload, signature: Bytes::new() }
    }

    fn payload(self, signature_header: &SignatureHeader) -> Bytes {
        let channel_header = ChannelHeader {
            r#type: self.header_type as i32,
            timestamp: Some(self.timestamp.into()),
            channel_id: self.channel_id.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            tls_cert_hash: self.tls_cert_hash,
            ..ChannelHeader::default()
        };
        let header = Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        };
        Payload { header: Some(header), data: self.data }.encode_to_vec().into()
    }
}
