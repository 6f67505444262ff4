//! Envelopes around configuration updates. What an update may change is for the `config` crate.

use bytes::Bytes;
use prost::Message as _;
use weft_protos::common::{
    ConfigEnvelope, ConfigSignature, ConfigUpdateEnvelope, Envelope, HeaderType,
};

use crate::{
    ChannelId, Timestamp,
    envelope::EnvelopeSpec,
    signer::{Nonce, SignError, Signer, signature_header},
};

/// The bytes that a signature of an update covers: the signer's encoded signature header, then the
/// encoded `ConfigUpdate` (Fabric: protoutil/signeddata.go).
#[must_use]
pub fn update_signed_bytes(signature_header: &[u8], update: &[u8]) -> Vec<u8> {
    [signature_header, update].concat()
}

/// Signs an encoded `ConfigUpdate` in `signer`'s name.
///
/// # Errors
/// [`SignError`].
pub fn sign_update(
    update: &[u8],
    signer: &dyn Signer,
    nonce: Nonce,
) -> Result<ConfigSignature, SignError> {
    let header: Bytes = signature_header(signer, nonce).encode_to_vec().into();
    let signature = signer.sign(&update_signed_bytes(&header, update))?;
    Ok(ConfigSignature { signature_header: header, signature })
}

/// The envelope that submits an update with its signatures to the channel's orderers.
///
/// # Errors
/// [`SignError`].
pub fn update_envelope(
    channel_id: &ChannelId,
    update: ConfigUpdateEnvelope,
    signer: &dyn Signer,
    timestamp: Timestamp,
    nonce: Nonce,
) -> Result<Envelope, SignError> {
    let data = update.encode_to_vec().into();
    spec(HeaderType::ConfigUpdate, channel_id, data, timestamp, nonce).sign(signer)
}

/// The envelope in which an orderer puts a new configuration into the chain.
///
/// # Errors
/// [`SignError`].
pub fn config_envelope(
    channel_id: &ChannelId,
    config: &ConfigEnvelope,
    signer: &dyn Signer,
    timestamp: Timestamp,
    nonce: Nonce,
) -> Result<Envelope, SignError> {
    let data = config.encode_to_vec().into();
    spec(HeaderType::Config, channel_id, data, timestamp, nonce).sign(signer)
}

fn spec(
    header_type: HeaderType,
    channel_id: &ChannelId,
    data: Bytes,
    timestamp: Timestamp,
    nonce: Nonce,
) -> EnvelopeSpec {
    EnvelopeSpec {
        header_type,
        channel_id: Some(channel_id.clone()),
        data,
        timestamp,
        nonce,
        tls_cert_hash: Bytes::new(),
    }
}
