//! Who signs.

use bytes::Bytes;
use weft_protos::common::SignatureHeader;

/// Length of the nonces that are made here, in bytes (Fabric: protoutil/commonutils.go). Others
/// may send any length but none.
pub const NONCE_LEN: usize = 24;

/// A number used once, from a cryptographic generator (`weft_crypto::random_bytes`).
pub type Nonce = [u8; NONCE_LEN];

/// An identity that can sign in its own name.
pub trait Signer: Send + Sync {
    /// The identity as it stands in headers: an encoded `msp.SerializedIdentity`.
    fn serialized_identity(&self) -> Bytes;

    /// A signature over `message` (hashed by the signer's suite).
    ///
    /// # Errors
    /// [`SignError`] when the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError>;
}

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to sign {what}")]
pub struct SignError {
    /// What was to be signed.
    pub what: &'static str,
    /// What the key, or whatever holds it, says.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl SignError {
    /// Wraps the error of the key.
    pub fn new(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what, source: source.into() }
    }
}

/// The signature header that names `signer`.
#[must_use]
pub fn signature_header(signer: &dyn Signer, nonce: Nonce) -> SignatureHeader {
    SignatureHeader { creator: signer.serialized_identity(), nonce: Bytes::copy_from_slice(&nonce) }
}
